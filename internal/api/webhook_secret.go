package api

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

// maxPayloadBody bounds what a route reads that takes a payload, in bytes: in
// JSON one byte may be written as six, \u0001.
const maxPayloadBody = 6*keystile.MaxWebhookPayload + maxBody

type listWebhookSecretsInput struct {
	ByID
	Paged
	Status      string `query:"status" enum:"active,revoked,expired,all" default:"all"`
	Environment string `query:"environment" maxLength:"32"`
	Endpoint    string `query:"endpoint" maxLength:"64" doc:"ID of the endpoint whose secrets to list; absent: the workspace's own"`
}

func (a *API) listWebhookSecrets(ctx context.Context, in *listWebhookSecretsInput) (*answer[keystile.List[keystile.WebhookSecretRecord]], error) {
	return answerWith(a.keyring.WebhookSecrets(ctx, entry.Actor(ctx), in.ID, keyring.WebhookSecretQuery{
		Endpoint: in.Endpoint, Environment: in.Environment, Status: in.Status, Cursor: in.Cursor, Limit: in.Limit,
	}))
}

type createWebhookSecretInput struct {
	ByID
	Idempotent
	Body keystile.CreateWebhookSecret
}

func (a *API) createWebhookSecret(ctx context.Context, in *createWebhookSecretInput) (*created[keystile.CreatedWebhookSecret], error) {
	return createdWith(a.keyring.CreateWebhookSecret(ctx, entry.Actor(ctx), in.ID, in.Body, in.of("POST /v1/workspaces/"+in.ID+"/webhook-secrets")))
}

func (a *API) showWebhookSecret(ctx context.Context, in *ByID) (*answer[keystile.WebhookSecretRecord], error) {
	return answerWith(a.keyring.WebhookSecret(ctx, entry.Actor(ctx), in.ID))
}

type updateWebhookSecretInput struct {
	ByID
	Body keystile.WebhookSecretPatch
}

func (a *API) updateWebhookSecret(ctx context.Context, in *updateWebhookSecretInput) (*answer[keystile.WebhookSecretRecord], error) {
	return answerWith(a.keyring.UpdateWebhookSecret(ctx, entry.Actor(ctx), in.ID, in.Body))
}

func (a *API) deleteWebhookSecret(ctx context.Context, in *ByID) (*nothing, error) {
	return nil, a.keyring.DeleteWebhookSecret(ctx, entry.Actor(ctx), in.ID)
}

type revokeWebhookSecretInput struct {
	ByID
	Body *keystile.RevokeWebhookSecret
}

func (a *API) revokeWebhookSecret(ctx context.Context, in *revokeWebhookSecretInput) (*answer[keystile.WebhookSecretRecord], error) {
	return answerWith(a.keyring.RevokeWebhookSecret(ctx, entry.Actor(ctx), in.ID, orZero(in.Body)))
}

type rotateWebhookSecretInput struct {
	ByID
	Idempotent
	Body *keystile.RotateWebhookSecret
}

func (a *API) rotateWebhookSecret(ctx context.Context, in *rotateWebhookSecretInput) (*created[keystile.CreatedWebhookSecret], error) {
	return createdWith(a.keyring.RotateWebhookSecret(ctx, entry.Actor(ctx), in.ID, orZero(in.Body), in.of("POST /v1/webhook-secrets/"+in.ID+"/rotate")))
}

type signWebhookInput struct {
	ByID
	RawBody []byte
	Body    keystile.SignRequest
}

func (a *API) signWebhook(ctx context.Context, in *signWebhookInput) (*answer[keystile.Signed], error) {
	if !faithful(in.RawBody, in.Body.Payload) {
		return nil, notText()
	}
	return answerWith(a.keyring.SignWebhook(ctx, entry.Actor(ctx), in.ID, in.Body))
}

type verifyWebhookInput struct {
	ByID
	RawBody []byte
	Body    keystile.VerifyWebhookRequest
}

func (a *API) verifyWebhook(ctx context.Context, in *verifyWebhookInput) (*answer[keystile.WebhookVerdict], error) {
	if !faithful(in.RawBody, in.Body.Payload) {
		return nil, notText()
	}
	return answerWith(a.keyring.VerifyWebhook(ctx, entry.Actor(ctx), in.ID, in.Body))
}

func notText() error {
	const detail = "It is not valid Unicode, so other bytes would be signed or verified than those that are sent."
	e := keystile.NewError(keystile.CodeInvalidField, detail, "Send a payload of valid UTF-8, without \\u escapes of half a surrogate pair.")
	e.Fields = []keystile.FieldError{{Field: "body.payload", Detail: detail}}
	return e
}

// faithful tells whether a payload that was decoded from the body is what the
// caller means. Go's decoder puts U+FFFD where bytes are no UTF-8 and where an
// escape is half a surrogate pair, and says nothing.
func faithful(body []byte, payload string) bool {
	if !strings.ContainsRune(payload, utf8.RuneError) {
		return true
	}
	return utf8.Valid(body) && !loneSurrogate(string(body))
}

// loneSurrogate tells whether there is an escape of half a surrogate pair in a
// JSON text (RFC 8259, section 7).
func loneSurrogate(text string) bool {
	for {
		i := strings.IndexByte(text, '\\')
		if i < 0 || i+1 >= len(text) {
			return false
		}
		text = text[i:]
		unit, ok := escapedUnit(text)
		switch {
		case !ok:
			text = text[2:]
		case unit < 0xD800 || unit > 0xDFFF:
			text = text[6:]
		default:
			low, ok := escapedUnit(text[6:])
			if unit > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
				return true
			}
			text = text[12:]
		}
	}
}

// escapedUnit reads the UTF-16 unit of an escape \uXXXX at the beginning of a text.
func escapedUnit(text string) (unit int, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(text[2:6]) {
		d := strings.IndexByte("0123456789abcdef", c|0x20)
		if d < 0 {
			return 0, false
		}
		unit = unit<<4 | d
	}
	return unit, true
}
