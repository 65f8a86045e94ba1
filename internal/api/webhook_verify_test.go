package api_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// consumer is a workspace with webhook secrets, and what it does with them.
type consumer struct {
	*house
	ws  string
	key string
}

func (c *consumer) secret(label, environment string) keystile.CreatedWebhookSecret {
	c.t.Helper()
	return want[keystile.CreatedWebhookSecret](c.t, call(c.t, c.Server, c.OperatorKey, "POST", "/v1/workspaces/"+c.ws+"/webhook-secrets",
		fields{"label": label, "environment": environment}), 201)
}

// sign has a webhook signed by an environment's secrets, or by one alone.
func (c *consumer) sign(payload, environment, only string) map[string]string {
	c.t.Helper()
	answer := want[map[string]any](c.t, call(c.t, c.Server, c.OperatorKey, "POST", "/v1/workspaces/"+c.ws+"/webhooks/sign",
		keystile.SignRequest{Payload: payload, Environment: environment, WebhookSecret: only}), 200)
	headers := map[string]string{}
	given, _ := answer["headers"].(map[string]any)
	for name, value := range given {
		headers[name], _ = value.(string)
	}
	return headers
}

func (c *consumer) verify(in keystile.VerifyWebhookRequest) keystile.WebhookVerdict {
	c.t.Helper()
	return want[keystile.WebhookVerdict](c.t, call(c.t, c.Server, c.key, "POST", "/v1/workspaces/"+c.ws+"/webhooks/verify", in), 200)
}

func (c *consumer) show(id string) keystile.WebhookSecretRecord {
	c.t.Helper()
	return want[keystile.WebhookSecretRecord](c.t, call(c.t, c.Server, c.key, "GET", "/v1/webhook-secrets/"+id, nil), 200)
}

// TestVQ7Verify: a signed webhook verifies, one that was tampered with is
// explained, and nobody learns anything who may not see the secrets.
func TestVQ7Verify(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir), keystiletest.Log(&log), keystiletest.FlushInterval(10*time.Millisecond),
		keystiletest.Profile(filepath.Join("..", "..", "examples", "voqo.yaml")))
	h := newHouse(t, s)
	c := &consumer{house: h, ws: s.NewWorkspace("Tenant", "").ID}
	c.key = h.actor(c.ws, "api.webhook_secret.view")
	environments := []string{"production", "staging"}
	live := c.secret("Orders", environments[0])
	other := c.secret("Orders, staging", environments[1])
	const payload = `{"type":"order.shipped","data":{"marker":"KqW8vTz5"}}`
	headers := c.sign(payload, environments[0], "")
	with := func(change func(*keystile.VerifyWebhookRequest)) keystile.VerifyWebhookRequest {
		in := keystile.VerifyWebhookRequest{Payload: payload, Headers: map[string]string{}}
		for name, value := range headers {
			in.Headers[name] = value
		}
		change(&in)
		return in
	}
	_, strangerText := keystile.NewWebhookSecret()
	for _, row := range []struct {
		name string
		in   keystile.VerifyWebhookRequest
		code keystile.WebhookCode
		hint keystile.WebhookHint
		id   string
	}{
		{"as it was signed", with(func(*keystile.VerifyWebhookRequest) {}), keystile.WebhookValid, "", live.WebhookSecret.ID},
		{"in its environment", with(func(in *keystile.VerifyWebhookRequest) { in.Environment = environments[0] }), keystile.WebhookValid, "", live.WebhookSecret.ID},
		{"with the receiver's secret", with(func(in *keystile.VerifyWebhookRequest) { in.Secret = live.Secret }), keystile.WebhookValid, "", live.WebhookSecret.ID},
		{"names in capitals", with(func(in *keystile.VerifyWebhookRequest) {
			for name, value := range headers {
				delete(in.Headers, name)
				in.Headers[strings.ToUpper(name)] = value
			}
		}), keystile.WebhookValid, "", live.WebhookSecret.ID},
		{"in another environment", with(func(in *keystile.VerifyWebhookRequest) { in.Environment = environments[1] }), keystile.WebhookWrongEnvironment, "", live.WebhookSecret.ID},
		{"with another environment's secret", with(func(in *keystile.VerifyWebhookRequest) { in.Secret = other.Secret }),
			keystile.WebhookWrongSecret, keystile.WebhookHintOtherEnvironment, live.WebhookSecret.ID},
		{"with nobody's secret", with(func(in *keystile.VerifyWebhookRequest) { in.Secret = strangerText }),
			keystile.WebhookWrongSecret, keystile.WebhookHintUnknown, live.WebhookSecret.ID},
		{"with a preview", with(func(in *keystile.VerifyWebhookRequest) { in.Secret = live.WebhookSecret.Preview }),
			keystile.WebhookMalformedSecret, keystile.WebhookHintMaskedPreview, ""},
		{"written anew", with(func(in *keystile.VerifyWebhookRequest) {
			var v any
			if err := json.Unmarshal([]byte(in.Payload), &v); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			in.Payload = string(b)
		}), keystile.WebhookNoMatch, "", ""}, // with its keys in order, and no telling in which one they were
		{"written in lines", with(func(in *keystile.VerifyWebhookRequest) {
			var b bytes.Buffer
			if err := json.Indent(&b, []byte(in.Payload), "", "  "); err != nil {
				t.Fatal(err)
			}
			in.Payload = b.String()
		}), keystile.WebhookBodyReserialized, keystile.WebhookHintSpacing, live.WebhookSecret.ID},
		{"a line break behind it", with(func(in *keystile.VerifyWebhookRequest) { in.Payload += "\n" }),
			keystile.WebhookBodyChanged, keystile.WebhookHintTrailingNewline, live.WebhookSecret.ID},
		{"forged", with(func(in *keystile.VerifyWebhookRequest) { in.Payload = `{"type":"order.refunded"}` }), keystile.WebhookNoMatch, "", ""},
		{"without its time", with(func(in *keystile.VerifyWebhookRequest) { delete(in.Headers, "webhook-timestamp") }),
			keystile.WebhookMissingHeader, keystile.WebhookHintTimestamp, ""},
	} {
		got := c.verify(row.in)
		if got.Code != row.code || got.Hint != row.hint || got.WebhookSecret != row.id || got.Valid != (row.code == keystile.WebhookValid) {
			t.Errorf("%s: %+v", row.name, got)
		}
	}

	// Whoever may not see the secrets learns nothing, nor does a stranger; and
	// what can't be read is refused.
	path := "/v1/workspaces/" + c.ws + "/webhooks/verify"
	good := with(func(*keystile.VerifyWebhookRequest) {})
	for _, row := range []struct {
		name, key, path string
		in              any
		status          int
		code            keystile.Code
	}{
		{"a key for something else", h.actor(c.ws, "api.webhook_secret.sign", "api.key.verify"), path, good, 403, keystile.CodeInsufficientPermission},
		{"a stranger", h.actor(h.workspace(), "api.webhook_secret.view"), path, good, 404, keystile.CodeNotFound},
		{"no workspace", c.key, "/v1/workspaces/ws_none/webhooks/verify", good, 404, keystile.CodeNotFound},
		{"no key", "", path, good, 401, keystile.CodeMissingCredential},
		{"no such environment", c.key, path, with(func(in *keystile.VerifyWebhookRequest) { in.Environment = "moon" }), 422, keystile.CodeInvalidField},
		{"half a surrogate", c.key, path, `{"payload":"\ud800","headers":{}}`, 422, keystile.CodeInvalidField},
		{"no headers at all", c.key, path, `{"payload":""}`, 422, keystile.CodeInvalidField},
		{"headers without end", c.key, path, with(func(in *keystile.VerifyWebhookRequest) { in.Headers["webhook-signature"] = strings.Repeat(" ", 64<<10) }), 422, keystile.CodeInvalidField},
		{"too large", c.key, path, with(func(in *keystile.VerifyWebhookRequest) {
			in.Payload = strings.Repeat("a", keystile.MaxWebhookPayload+1)
		}), 413, keystile.CodeBodyTooLarge},
		{"a secret that is a book", c.key, path, with(func(in *keystile.VerifyWebhookRequest) { in.Secret = strings.Repeat("a", 257) }), 422, keystile.CodeInvalidField},
	} {
		t.Run(row.name, func(t *testing.T) {
			wantProblem(t, call(t, s, row.key, "POST", row.path, row.in), row.status, row.code)
		})
	}
	full := c.verify(with(func(in *keystile.VerifyWebhookRequest) {
		in.Payload = strings.Repeat("\u00e9", keystile.MaxWebhookPayload/2)
	}))
	if full.Code != keystile.WebhookNoMatch {
		t.Errorf("the largest payload: %+v", full)
	}

	// The client asks the same.
	verdict, err := s.Client(c.key).VerifyWebhook(t.Context(), c.ws, good)
	if err != nil || !verdict.Valid {
		t.Errorf("the client: %+v, %v", verdict, err)
	}
	if _, err := s.Client(c.key).VerifyWebhook(t.Context(), c.ws, keystile.VerifyWebhookRequest{Payload: "\xff"}); err == nil {
		t.Error("the client sends what is no UTF-8")
	}

	// Nothing of it is kept: not in the log, not in the database, not in what
	// the database has beside it.
	keeps := func(where, text string) {
		for _, secret := range []string{"KqW8vTz5", strangerText, headers["webhook-signature"][3:], live.Secret, other.Secret} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %.12s…", where, secret)
			}
		}
	}
	keeps("the log", log.text())
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		keeps(path, string(b))
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestVQ4SecretEvidence: which secret a receiver has moved to is told by
// webhooks that only it accounts for, and the old one is safe to revoke then.
func TestVQ4SecretEvidence(t *testing.T) {
	t.Parallel()
	soon := keystiletest.FlushInterval(5 * time.Millisecond)
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); secretEvidence(t, keystiletest.New(t, soon)) })
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		secretEvidence(t, keystiletest.New(t, soon, keystiletest.Database(pgtest.New(t)), keystiletest.MasterKey(masterKey)))
	})
}

func secretEvidence(t *testing.T, s *keystiletest.Server) {
	h := newHouse(t, s)
	c := &consumer{house: h, ws: h.workspace()}
	c.key = h.actor(c.ws, "api.webhook_secret.view")
	old := c.secret("Orders", "production")
	fresh := want[keystile.CreatedWebhookSecret](t, call(t, s, s.OperatorKey, "POST", "/v1/webhook-secrets/"+old.WebhookSecret.ID+"/rotate", fields{}), 201)
	until := func(what string, ok func(old, fresh keystile.WebhookSecretRecord) bool) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			o, f := c.show(old.WebhookSecret.ID), c.show(fresh.WebhookSecret.ID)
			if ok(o, f) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: old %+v\nnew %+v", what, o, f)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	both := c.sign("{}", "production", "")
	alone := c.sign("{}", "", fresh.WebhookSecret.ID)
	ask := func(headers map[string]string, secret string) keystile.WebhookVerdict {
		return c.verify(keystile.VerifyWebhookRequest{Payload: "{}", Headers: headers, Secret: secret})
	}

	// Signed by both, a webhook says nothing about which one the receiver has.
	if got := ask(both, ""); !got.Valid || got.WebhookSecret != fresh.WebhookSecret.ID {
		t.Errorf("signed by both: %+v", got)
	}
	until("both have signed", func(o, f keystile.WebhookSecretRecord) bool {
		return o.LastSignedAt != nil && f.LastSignedAt != nil
	})
	until("nothing is proved", func(o, f keystile.WebhookSecretRecord) bool {
		return o.LastVerifiedAt == nil && f.LastVerifiedAt == nil && !o.SafeToRevoke
	})
	// What the new one alone signed does.
	if got := ask(alone, ""); !got.Valid || got.WebhookSecret != fresh.WebhookSecret.ID {
		t.Errorf("signed by the new one: %+v", got)
	}
	until("the new one is proved", func(o, f keystile.WebhookSecretRecord) bool {
		return o.LastVerifiedAt == nil && f.LastVerifiedAt != nil && o.SafeToRevoke && !f.SafeToRevoke
	})
	// A receiver that still has the old one takes that back.
	if got := ask(both, old.Secret); !got.Valid || got.WebhookSecret != old.WebhookSecret.ID {
		t.Errorf("the receiver has the old one: %+v", got)
	}
	until("the old one is in use", func(o, _ keystile.WebhookSecretRecord) bool {
		return o.LastVerifiedAt != nil && !o.SafeToRevoke
	})
	if got := ask(both, fresh.Secret); !got.Valid || got.WebhookSecret != fresh.WebhookSecret.ID {
		t.Errorf("the receiver has the new one: %+v", got)
	}

	// Revoked, the old one is known for what it is.
	want[keystile.WebhookSecretRecord](t, call(t, s, s.OperatorKey, "POST", "/v1/webhook-secrets/"+old.WebhookSecret.ID+"/revoke", fields{"reason": "rotated"}), 200)
	if got := ask(alone, old.Secret); got.Code != keystile.WebhookWrongSecret || got.Hint != keystile.WebhookHintRetired {
		t.Errorf("the receiver still has the revoked one: %+v", got)
	}
}
