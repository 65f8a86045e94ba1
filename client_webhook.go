package keystile

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"unicode/utf8"
)

// ListWebhookSecrets says which webhook secrets to list. The zero value asks
// for the first page of the workspace's own.
type ListWebhookSecrets struct {
	Status      string // active, revoked, expired or all; empty: all
	Environment string // empty: all
	Endpoint    string // id of the endpoint whose secrets to list; empty: the workspace's own
	Cursor      string // NextCursor of the page before
	Limit       int    // secrets a page, at most 200; 0: 50
}

func (o ListWebhookSecrets) query() url.Values {
	q := url.Values{}
	set(q, "status", o.Status)
	set(q, "environment", o.Environment)
	set(q, "endpoint", o.Endpoint)
	setPage(q, o.Cursor, o.Limit)
	return q
}

// CreateWebhookSecret makes a webhook secret in the workspace. The answer alone
// carries it; what happens when that answer is lost is as with
// [Client.CreateKey].
func (c *Client) CreateWebhookSecret(ctx context.Context, workspaceID string, s CreateWebhookSecret) (CreatedWebhookSecret, error) {
	return c.issueWebhookSecret(ctx, object("/v1/workspaces/%s/webhook-secrets", workspaceID), s)
}

func (c *Client) issueWebhookSecret(ctx context.Context, path string, body any) (CreatedWebhookSecret, error) {
	var created CreatedWebhookSecret
	replayed, err := c.do(ctx, call{method: http.MethodPost, path: path, body: body, once: true}, &created)
	if err != nil {
		return CreatedWebhookSecret{}, err
	}
	if replayed && created.Secret == "" {
		return created, NewError(CodeUnknownOutcome, "The webhook secret "+created.WebhookSecret.ID+" was made, but the answer with it was lost on its way.",
			"Delete the webhook secret "+created.WebhookSecret.ID+" and make another: it is not shown again.")
	}
	return created, nil
}

// WebhookSecrets returns a page of the workspace's webhook secrets.
func (c *Client) WebhookSecrets(ctx context.Context, workspaceID string, o ListWebhookSecrets) (List[WebhookSecretRecord], error) {
	return fetch[List[WebhookSecretRecord]](ctx, c, get(object("/v1/workspaces/%s/webhook-secrets", workspaceID), o.query()))
}

// AllWebhookSecrets returns the workspace's webhook secrets, page by page as
// they are taken. It ends with the first error.
func (c *Client) AllWebhookSecrets(ctx context.Context, workspaceID string, o ListWebhookSecrets) iter.Seq2[WebhookSecretRecord, error] {
	return all(o.Cursor, "webhook secrets", func(cursor string) (List[WebhookSecretRecord], error) {
		o.Cursor = cursor
		return c.WebhookSecrets(ctx, workspaceID, o)
	})
}

// WebhookSecret returns all about one webhook secret but the secret.
func (c *Client) WebhookSecret(ctx context.Context, id string) (WebhookSecretRecord, error) {
	return fetch[WebhookSecretRecord](ctx, c, get(object("/v1/webhook-secrets/%s", id), nil))
}

// UpdateWebhookSecret changes a webhook secret and returns it as it is then.
func (c *Client) UpdateWebhookSecret(ctx context.Context, id string, p WebhookSecretPatch) (WebhookSecretRecord, error) {
	return fetch[WebhookSecretRecord](ctx, c, call{method: http.MethodPatch, path: object("/v1/webhook-secrets/%s", id), body: p})
}

// DeleteWebhookSecret removes a webhook secret for good. When it returns nil,
// no server signs with it any more.
func (c *Client) DeleteWebhookSecret(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: object("/v1/webhook-secrets/%s", id)}, nil)
	return err
}

// RevokeWebhookSecret ends a webhook secret for good and keeps its record. When
// it returns without an error, no server signs with it any more.
func (c *Client) RevokeWebhookSecret(ctx context.Context, id string, r RevokeWebhookSecret) (WebhookSecretRecord, error) {
	return fetch[WebhookSecretRecord](ctx, c, call{method: http.MethodPost, path: object("/v1/webhook-secrets/%s/revoke", id), body: r, repeatable: !r.Rollback})
}

// RotateWebhookSecret makes a replacement, and gives the old secret an end.
// Until then both sign. The answer alone carries the replacement's secret.
func (c *Client) RotateWebhookSecret(ctx context.Context, id string, r RotateWebhookSecret) (CreatedWebhookSecret, error) {
	return c.issueWebhookSecret(ctx, object("/v1/webhook-secrets/%s/rotate", id), r)
}

// SignWebhook has the server sign a payload with the workspace's webhook
// secrets. The payload must be UTF-8: JSON carries nothing else. A program that
// holds the secrets itself needs no server: see the function [SignWebhook].
func (c *Client) SignWebhook(ctx context.Context, workspaceID string, r SignRequest) (Signed, error) {
	if !utf8.ValidString(r.Payload) {
		return Signed{}, errors.New("keystile: the payload is not UTF-8, so other bytes would be signed than those that are sent")
	}
	return fetch[Signed](ctx, c, call{method: http.MethodPost, path: object("/v1/workspaces/%s/webhooks/sign", workspaceID), body: r, repeatable: true})
}

// VerifyWebhook asks the server whether a webhook, as it was received, is one
// of the workspace's, and why not if it is not. The payload must be UTF-8: JSON carries nothing else. A program that
// holds the secrets itself needs no server: see [WebhookVerifier].
func (c *Client) VerifyWebhook(ctx context.Context, workspaceID string, r VerifyWebhookRequest) (WebhookVerdict, error) {
	if !utf8.ValidString(r.Payload) {
		return WebhookVerdict{}, errors.New("keystile: the payload is not UTF-8, so other bytes would be verified than those that were received")
	}
	return fetch[WebhookVerdict](ctx, c, call{method: http.MethodPost, path: object("/v1/workspaces/%s/webhooks/verify", workspaceID), body: r, repeatable: true})
}
