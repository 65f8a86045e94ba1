package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// hooks drives the webhook secrets of one workspace.
type hooks struct {
	*house
	ws, admin string
}

func newHooks(t testing.TB, s *keystiletest.Server) *hooks {
	h := newHouse(t, s)
	ws := h.workspace()
	return &hooks{h, ws, h.key(ws, "admin").Secret}
}

func (h *hooks) do(method, path string, body any, headers ...string) answer {
	h.t.Helper()
	return call(h.t, h.Server, h.admin, method, path, body, headers...)
}

func (h *hooks) create(body any) keystile.CreatedWebhookSecret {
	h.t.Helper()
	made := want[keystile.CreatedWebhookSecret](h.t, h.do("POST", "/v1/workspaces/"+h.ws+"/webhook-secrets", body), 201)
	if _, err := keystile.ParseWebhookSecret(made.Secret); err != nil {
		h.t.Fatal(err)
	}
	return made
}

func (h *hooks) rotate(id string, body any) keystile.CreatedWebhookSecret {
	h.t.Helper()
	return want[keystile.CreatedWebhookSecret](h.t, h.do("POST", "/v1/webhook-secrets/"+id+"/rotate", body), 201)
}

func (h *hooks) show(id string) keystile.WebhookSecretRecord {
	h.t.Helper()
	return want[keystile.WebhookSecretRecord](h.t, h.do("GET", "/v1/webhook-secrets/"+id, nil), 200)
}

func (h *hooks) sign(body any) answer {
	h.t.Helper()
	return h.do("POST", "/v1/workspaces/"+h.ws+"/webhooks/sign", body)
}

const signedPayload = `{"order":"é<&>\u2028","n":1.0}`

// signers fails unless exactly these secrets sign for an environment, each with
// a signature that a receiver with that secret alone accepts.
func (h *hooks) signers(environment string, secrets ...keystile.CreatedWebhookSecret) {
	h.t.Helper()
	signed := want[keystile.Signed](h.t, h.sign(fields{"payload": signedPayload, "environment": environment}), 200)
	var ids []string
	for _, s := range secrets {
		ids = append(ids, s.WebhookSecret.ID)
		if err := verifyWith(s.Secret, signed.Headers, signedPayload); err != nil {
			h.t.Errorf("%s does not verify: %v", s.WebhookSecret.Label, err)
		}
	}
	same(h.t, "signers", signed.WebhookSecrets, ids)
	if n := strings.Count(signed.Headers.Signature, "v1,"); n != len(secrets) {
		h.t.Errorf("%d signatures, want %d", n, len(secrets))
	}
}

// silent fails unless nothing signs for an environment.
func (h *hooks) silent(environment string) {
	h.t.Helper()
	wantProblem(h.t, h.sign(fields{"payload": "x", "environment": environment}), 409, keystile.CodeConflict)
}

func verifyWith(text string, headers keystile.WebhookHeaders, payload string) error {
	secret, err := keystile.ParseWebhookSecret(text)
	if err != nil {
		return err
	}
	v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{secret}}
	h := http.Header{}
	h.Set("webhook-id", headers.ID)
	h.Set("webhook-timestamp", headers.Timestamp)
	h.Set("webhook-signature", headers.Signature)
	return v.Verify(h, []byte(payload))
}

// TestWebhookSecretLife is VQ3 and VQ4: created for an environment with a
// label, rotated with both signing, rolled back, revoked, ended and deleted.
func TestWebhookSecretLife(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHooks(t, s)
		old := h.create(fields{"label": "Shop", "environment": "production"})
		w := old.WebhookSecret
		if w.Label != "Shop" || w.Environment != "production" || w.Status != "active" || w.Algorithm != "hmac-sha256" || w.WorkspaceID != h.ws ||
			w.CreatedBy.Kind != "key" || w.EndpointID != "" {
			t.Errorf("created %+v", w)
		}
		if w.Preview != "whsec_••••••••"+old.Secret[len(old.Secret)-4:] {
			t.Errorf("preview %s", w.Preview)
		}
		same(t, "shown", h.show(w.ID), w)
		staging := h.create(fields{"label": "Shop", "environment": "staging"})
		h.signers("production", old)
		h.signers("staging", staging)
		h.silent("development")

		t.Log("rotate, roll back")
		fresh := h.rotate(w.ID, nil)
		if fresh.Replaces != w.ID || fresh.WebhookSecret.Replaces != w.ID || fresh.WebhookSecret.Label != "Shop" || fresh.WebhookSecret.Environment != "production" || fresh.Secret == old.Secret {
			t.Errorf("rotated to %+v", fresh.WebhookSecret)
		}
		if is := h.show(w.ID); is.ReplacedBy != fresh.WebhookSecret.ID || is.ExpiresAt != nil {
			t.Errorf("the rotated one is %+v", is)
		}
		h.signers("production", old, fresh)
		alone := want[keystile.Signed](t, h.sign(fields{"payload": "x", "webhook_secret": fresh.WebhookSecret.ID, "id": "msg-1_A"}), 200)
		same(t, "signed alone", alone.WebhookSecrets, []string{fresh.WebhookSecret.ID})
		if err := verifyWith(old.Secret, alone.Headers, "x"); err == nil || alone.Headers.ID != "msg-1_A" {
			t.Errorf("signed alone: %v, id %s", err, alone.Headers.ID)
		}
		wantProblem(t, h.do("POST", "/v1/webhook-secrets/"+w.ID+"/rotate", nil), 409, keystile.CodeConflict)
		wantProblem(t, h.do("POST", "/v1/webhook-secrets/"+fresh.WebhookSecret.ID+"/rotate", nil), 409, keystile.CodeConflict)
		back := want[keystile.WebhookSecretRecord](t, h.do("POST", "/v1/webhook-secrets/"+fresh.WebhookSecret.ID+"/revoke", fields{"rollback": true, "reason": "too soon"}), 200)
		if back.Status != "revoked" || back.RevokedReason != "too soon" || back.RevokedBy == nil || back.RevokedAt == nil {
			t.Errorf("revoked to %+v", back)
		}
		h.signers("production", old)
		same(t, "rolled back", h.show(w.ID).ReplacedBy, "")

		t.Log("rotate with an overlap, and at once")
		next := h.rotate(w.ID, fields{"overlap": "24h", "label": "Shop 2"})
		if until := h.show(w.ID).ExpiresAt; until == nil || time.Until(*until) > 24*time.Hour || time.Until(*until) < 23*time.Hour {
			t.Errorf("the old one ends %v", until)
		}
		h.signers("production", old, next)
		want[keystile.WebhookSecretRecord](t, h.do("POST", "/v1/webhook-secrets/"+w.ID+"/revoke", nil), 200)
		h.signers("production", next)
		want[keystile.WebhookSecretRecord](t, h.do("POST", "/v1/webhook-secrets/"+w.ID+"/revoke", nil), 200) // again is no change
		last := h.rotate(next.WebhookSecret.ID, fields{"overlap": "0s"})
		h.signers("production", last)

		t.Log("edit, delete")
		same(t, "label", want[keystile.WebhookSecretRecord](t, h.do("PATCH", "/v1/webhook-secrets/"+last.WebhookSecret.ID, fields{"label": "Renamed"}), 200).Label, "Renamed")
		want[struct{}](t, h.do("DELETE", "/v1/webhook-secrets/"+last.WebhookSecret.ID, nil), 204)
		h.silent("production")
		wantProblem(t, h.do("GET", "/v1/webhook-secrets/"+last.WebhookSecret.ID, nil), 404, keystile.CodeNotFound)

		same(t, "audit", actions(h.audit(h.ws, w.ID)), []string{
			"webhook_secret.created", "webhook_secret.rotated", "webhook_secret.rolled_back", "webhook_secret.rotated", "webhook_secret.revoked",
		})
		same(t, "audit of the last", actions(h.audit(h.ws, last.WebhookSecret.ID)), []string{"webhook_secret.created", "webhook_secret.updated", "webhook_secret.deleted"})

		var listed []string
		cursor := ""
		for {
			page := want[keystile.List[keystile.WebhookSecretRecord]](t, h.do("GET", "/v1/workspaces/"+h.ws+"/webhook-secrets?limit=2&cursor="+cursor, nil), 200)
			for _, s := range page.Data {
				listed = append(listed, s.ID)
			}
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
		same(t, "list", listed, []string{next.WebhookSecret.ID, fresh.WebhookSecret.ID, staging.WebhookSecret.ID, w.ID})
		for query, n := range map[string]int{"status=revoked": 3, "status=active": 1, "environment=staging": 1, "status=expired": 0} {
			if got := want[keystile.List[keystile.WebhookSecretRecord]](t, h.do("GET", "/v1/workspaces/"+h.ws+"/webhook-secrets?"+query, nil), 200); len(got.Data) != n {
				t.Errorf("%s: %d, want %d", query, len(got.Data), n)
			}
		}
	})
}

// TestWebhookSecretExpires: the end is decided when something is signed, and the
// record says so at once; the state and its event follow.
func TestWebhookSecretExpires(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHooks(t, s)
		end := time.Now().Add(1500 * time.Millisecond)
		made := h.create(fields{"label": "Short", "environment": "production", "expires_at": end})
		id := made.WebhookSecret.ID
		wantProblem(t, h.do("PATCH", "/v1/webhook-secrets/"+id, fields{"expires_at": end.Add(time.Hour)}), 422, keystile.CodeInvalidField)
		<-time.After(time.Until(end))
		h.silent("production")
		wantProblem(t, h.sign(fields{"payload": "x", "webhook_secret": id}), 409, keystile.CodeConflict)
		same(t, "status", h.show(id).Status, keystile.StatusExpired)
		wantProblem(t, h.do("POST", "/v1/webhook-secrets/"+id+"/rotate", nil), 409, keystile.CodeConflict)
		for deadline := time.Now().Add(time.Minute); !slices.Contains(actions(h.audit(h.ws, id)), "webhook_secret.expired"); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log never says that it has expired: %v", actions(h.audit(h.ws, id)))
			}
		}
		want[keystile.WebhookSecretRecord](t, h.do("POST", "/v1/webhook-secrets/"+id+"/revoke", nil), 200)
	})
}

// TestWebhookSecretUse: when a secret last signed is evidence for a rotation.
func TestWebhookSecretUse(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.FlushInterval(20*time.Millisecond))
	h := newHooks(t, s)
	old := h.create(fields{"label": "Shop", "environment": "production"})
	fresh := h.rotate(old.WebhookSecret.ID, nil)
	start := time.Now().Truncate(time.Millisecond)
	want[keystile.Signed](t, h.sign(fields{"payload": "x", "webhook_secret": fresh.WebhookSecret.ID}), 200)
	for deadline := time.Now().Add(time.Minute); h.show(fresh.WebhookSecret.ID).LastSignedAt == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never noted")
		}
	}
	if at := h.show(fresh.WebhookSecret.ID).LastSignedAt; at.Before(start) || at.After(time.Now()) {
		t.Errorf("signed at %v", at)
	}
	if at := h.show(old.WebhookSecret.ID).LastSignedAt; at != nil {
		t.Errorf("the old one signed at %v, which it did not", at)
	}
}

// TestWebhookSecretFields: what is refused, and with which field.
func TestWebhookSecretFields(t *testing.T) {
	t.Parallel()
	h := newHooks(t, keystiletest.New(t))
	made := h.create(fields{"label": "Consumer", "environment": "production"})
	create, sign, one := "/v1/workspaces/"+h.ws+"/webhook-secrets", "/v1/workspaces/"+h.ws+"/webhooks/sign", "/v1/webhook-secrets/"+made.WebhookSecret.ID
	past, far := time.Now().Add(-time.Minute), time.Now().AddDate(200, 0, 0)
	for _, c := range []struct {
		name, method, path string
		body               fields
		field              string
	}{
		{"no environment", "POST", create, fields{"label": "x"}, "body.environment"},
		{"unknown environment", "POST", create, fields{"label": "x", "environment": "mars"}, "body.environment"},
		{"no label", "POST", create, fields{"environment": "production"}, "body"},
		{"empty label", "POST", create, fields{"label": " ", "environment": "production"}, "body.label"},
		{"label with a line break", "POST", create, fields{"label": "a\nb", "environment": "production"}, "body.label"},
		{"label that holds a webhook secret", "POST", create, fields{"label": "was " + made.Secret, "environment": "production"}, "body.label"},
		{"label that holds a key", "POST", create, fields{"label": h.admin, "environment": "production"}, "body.label"},
		{"end in the past", "POST", create, fields{"label": "x", "environment": "production", "expires_at": past}, "body.expires_at"},
		{"end too far", "POST", create, fields{"label": "x", "environment": "production", "expires_at": far}, "body.expires_at"},
		{"a secret of one's own", "POST", create, fields{"label": "x", "environment": "production", "secret": made.Secret}, "body.secret"},
		{"change of environment", "PATCH", one, fields{"environment": "staging"}, "body.environment"},
		{"reason that holds the secret", "POST", one + "/revoke", fields{"reason": "leaked " + made.Secret}, "body.reason"},
		{"reason that holds most of it", "POST", one + "/revoke", fields{"reason": "leaked " + made.Secret[:30] + "…"}, "body.reason"},
		{"reason too long", "POST", one + "/revoke", fields{"reason": strings.Repeat("x", 201)}, "body.reason"},
		{"nothing to roll back", "POST", one + "/revoke", fields{"rollback": true}, "body.rollback"},
		{"overlap too long", "POST", one + "/rotate", fields{"overlap": "721h"}, "body.overlap"},
		{"overlap of no form", "POST", one + "/rotate", fields{"overlap": "soon"}, "body.overlap"},
		{"sign for no environment", "POST", sign, fields{"payload": "x"}, "body.environment"},
		{"sign for both", "POST", sign, fields{"payload": "x", "environment": "production", "webhook_secret": made.WebhookSecret.ID}, "body.webhook_secret"},
		{"sign no payload", "POST", sign, fields{"environment": "production"}, "body"},
		{"an id with a dot", "POST", sign, fields{"payload": "x", "environment": "production", "id": "a.b"}, "body.id"},
		{"status", "GET", create + "?status=disabled", nil, "query.status"},
		{"cursor", "GET", create + "?cursor=x", nil, "query.cursor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var body any
			if c.body != nil {
				body = c.body
			}
			a := call(t, h.Server, h.admin, c.method, c.path, body)
			e := wantProblem(t, a, 422, keystile.CodeInvalidField)
			if len(e.Fields) != 1 || e.Fields[0].Field != c.field {
				t.Errorf("%+v", e.Fields)
			}
			if strings.Contains(string(a.body), made.Secret[6:30]) {
				t.Error("the answer repeats the secret")
			}
		})
	}
	same(t, "status", h.show(made.WebhookSecret.ID).Status, keystile.StatusActive)
	wantProblem(t, h.sign(fields{"payload": "x", "webhook_secret": "whs_x"}), 404, keystile.CodeNotFound)
	foreign := newHooks(t, h.Server)
	other := foreign.create(fields{"label": "x", "environment": "production"})
	wantProblem(t, h.sign(fields{"payload": "x", "webhook_secret": other.WebhookSecret.ID}), 404, keystile.CodeNotFound)
	wantProblem(t, call(t, h.Server, h.OperatorKey, "POST", sign, fields{"payload": "x", "webhook_secret": other.WebhookSecret.ID}), 404, keystile.CodeNotFound)
}

// TestSignPayload: what is signed is what is sent, byte for byte, or nothing.
func TestSignPayload(t *testing.T) {
	t.Parallel()
	h := newHooks(t, keystiletest.New(t))
	made := h.create(fields{"label": "Consumer", "environment": "production"})
	for name, payload := range map[string]string{
		"empty": "", "text": "plain", "line breaks": "a\r\nb\n", "unicode": "é\u2028\U0001F600", "zero": "\x00", "the replacement character": "a\uFFFDb",
		"an escape inside": `\ud800`, "quotes": `"\"\\`, "most": strings.Repeat(`"`, keystile.MaxWebhookPayload),
	} {
		signed := want[keystile.Signed](t, h.sign(fields{"payload": payload, "environment": "production"}), 200)
		if err := verifyWith(made.Secret, signed.Headers, payload); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantProblem(t, h.sign(fields{"payload": strings.Repeat("x", keystile.MaxWebhookPayload+1), "environment": "production"}), 413, keystile.CodeBodyTooLarge)
	// A little more than the route reads: of much more the server would not see the end.
	wantProblem(t, h.sign(fields{"payload": strings.Repeat("x", 6<<20+200<<10), "environment": "production"}), 413, keystile.CodeBodyTooLarge)
	for name, raw := range map[string]string{
		"not UTF-8": "a\xffb", "half a pair": `a\ud800b`, "the other half": `a\uDC00`, "wrong order": `\udc00\ud800`, "half before an escape": `\ud800\n`,
		"half at the end": `\ud83d`, "half before another letter": `\ud83d\u0041`,
	} {
		e := wantProblem(t, h.sign(`{"environment": "production", "payload": "`+raw+`"}`), 422, keystile.CodeInvalidField)
		if len(e.Fields) != 1 || e.Fields[0].Field != "body.payload" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	signed := want[keystile.Signed](t, h.sign(`{"environment": "production", "payload": "\ufffd \ud83d\uDE00 \\ud800"}`), 200)
	if err := verifyWith(made.Secret, signed.Headers, "\uFFFD \U0001F600 \\ud800"); err != nil {
		t.Errorf("escapes: %v", err)
	}
}

// TestWebhookSecretShownOnce: an idempotent request that is repeated makes
// nothing, and its answer has no secret. See also TestSecretsNeverLeave.
func TestWebhookSecretShownOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHooks(t, s)
		body := fields{"label": "Once", "environment": "production"}
		at := "/v1/workspaces/" + h.ws + "/webhook-secrets"
		twice := func(path string, body any) keystile.CreatedWebhookSecret {
			first := want[keystile.CreatedWebhookSecret](t, h.do("POST", path, body, "Idempotency-Key", "k"), 201)
			a := h.do("POST", path, body, "Idempotency-Key", "k")
			again := want[keystile.CreatedWebhookSecret](t, a, 201)
			if again.Secret != "" || strings.Contains(string(a.body), "whsec_"+first.Secret[6:20]) || a.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("the replay: %s", a)
			}
			same(t, "replayed", again.WebhookSecret, first.WebhookSecret)
			wantProblem(t, h.do("POST", path, fields{"label": "Another", "environment": "production"}, "Idempotency-Key", "k"), 422, map[bool]keystile.Code{true: keystile.CodeIdempotencyMismatch, false: keystile.CodeInvalidField}[path == at])
			return first
		}
		first := twice(at, body)
		twice("/v1/webhook-secrets/"+first.WebhookSecret.ID+"/rotate", fields{"overlap": "1h"})
		if n := len(want[keystile.List[keystile.WebhookSecretRecord]](t, h.do("GET", at, nil), 200).Data); n != 2 {
			t.Errorf("%d webhook secrets, want 2", n)
		}
	})
}

// TestWebhookSecretLimit: an environment has no more active secrets than can
// sign one webhook.
func TestWebhookSecretLimit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHooks(t, s)
		at := "/v1/workspaces/" + h.ws + "/webhook-secrets"
		var first keystile.CreatedWebhookSecret
		for i := range 32 {
			made := h.create(fields{"label": fmt.Sprint(i), "environment": "production"})
			if i == 0 {
				first = made
			}
		}
		wantProblem(t, h.do("POST", at, fields{"label": "one more", "environment": "production"}), 409, keystile.CodeConflict)
		wantProblem(t, h.do("POST", "/v1/webhook-secrets/"+first.WebhookSecret.ID+"/rotate", nil), 409, keystile.CodeConflict)
		want[keystile.Signed](t, h.sign(fields{"payload": "x", "environment": "production"}), 200)
		h.create(fields{"label": "elsewhere", "environment": "staging"})
	})
}

// TestWebhookSecretOfProfiles: environments, preview, limits and recommended
// rotation are the profile's.
func TestWebhookSecretOfProfiles(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, _ *keystiletest.Server) {
		for name, environments := range map[string][]string{"none": nil, "one": {"live"}} {
			text := "product: X\nprefix: xx\npreview: first\nkeys:\n  rotate_every: 30d\nplans:\n  - name: small\n    limits:\n      webhook_secrets: 2\nenvironments:"
			if environments == nil {
				text += " []"
			}
			for _, e := range environments {
				text += "\n  - name: " + e
			}
			options := []keystiletest.Option{keystiletest.ProfileText(text + "\n")}
			if strings.Contains(t.Name(), "postgres") {
				options = append(options, keystiletest.Database(newDatabase(t)), keystiletest.MasterKey(masterKey))
			}
			t.Run(name, func(t *testing.T) {
				h := newHooks(t, keystiletest.New(t, options...))
				made := h.create(fields{"label": "a"})
				same(t, "environment", made.WebhookSecret.Environment, strings.Join(environments, ""))
				same(t, "preview", made.WebhookSecret.Preview, made.Secret[:10]+"••••••••")
				h.signers("", made)
				wantProblem(t, h.do("POST", "/v1/workspaces/"+h.ws+"/webhook-secrets", fields{"label": "b", "environment": "mars"}), 422, keystile.CodeInvalidField)
				if due := made.WebhookSecret.RotationDue; due == nil || !due.Equal(made.WebhookSecret.CreatedAt.Add(30*24*time.Hour)) {
					t.Errorf("rotation due %v", due)
				}

				second := h.create(fields{"label": "b"})
				over := func() { // VQ10
					t.Helper()
					e := wantProblem(t, h.do("POST", "/v1/workspaces/"+h.ws+"/webhook-secrets", fields{"label": "c"}), 403, keystile.CodePlanLimit)
					if !strings.Contains(e.Detail, "2 webhook secrets") {
						t.Error(e.Detail)
					}
				}
				over()
				fresh := h.rotate(second.WebhookSecret.ID, fields{"overlap": "1h"})
				if is := h.show(second.WebhookSecret.ID); is.RotationDue != nil {
					t.Errorf("a replaced one is due: %+v", is)
				}
				over() // the two of a rotation count as one
				want[struct{}](t, h.do("DELETE", "/v1/webhook-secrets/"+fresh.WebhookSecret.ID, nil), 204)
				over() // the old one counts again
				want[keystile.WebhookSecretRecord](t, h.do("POST", "/v1/webhook-secrets/"+second.WebhookSecret.ID+"/revoke", nil), 200)
				h.create(fields{"label": "c"})
				over()
			})
		}
	})
}
