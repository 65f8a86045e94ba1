package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// TestSecretAsText refuses keys, and most of one, wherever people would read
// them, and masks them in user agents.
func TestSecretAsText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir), keystiletest.FlushInterval(20*time.Millisecond))
	operator := bearer(s.OperatorKey)
	secret := mixedSecret(t, s)
	subject := s.Key(s.Workspace, keystile.CreateKey{Name: "k"})
	role := want[keystile.Role](t, call(t, "POST", s.URL+"/v1/workspaces/"+s.Workspace+"/roles", operator, `{"name": "reader", "permissions": ["read"]}`), http.StatusCreated)
	workspace, key := "/v1/workspaces/"+s.Workspace, "/v1/keys/"+subject.Key.ID
	type object = map[string]any
	fields := []struct {
		method, path, field string
		body                func(text string) any
		whole               bool // texts that other systems make are refused for whole keys alone
	}{
		{"POST", workspace + "/keys", "body.name", func(x string) any { return object{"name": x} }, false},
		{"POST", workspace + "/keys", "body.description", func(x string) any { return object{"name": "n", "description": x} }, false},
		{"POST", workspace + "/keys", "body.owner", func(x string) any { return object{"name": "n", "owner": x} }, true},
		{"POST", workspace + "/keys", "body.metadata.note", func(x string) any { return object{"name": "n", "metadata": object{"note": x}} }, false},
		{"POST", workspace + "/keys", "body.metadata", func(x string) any { return object{"name": "n", "metadata": object{x: "v"}} }, false},
		{"PATCH", key, "body.name", func(x string) any { return object{"name": x} }, false},
		{"PATCH", key, "body.description", func(x string) any { return object{"description": x} }, false},
		{"PATCH", key, "body.owner", func(x string) any { return object{"owner": x} }, true},
		{"PATCH", key, "body.metadata.note", func(x string) any { return object{"metadata": object{"note": x}} }, false},
		{"POST", key + "/rotate", "body.name", func(x string) any { return object{"name": x} }, false},
		{"POST", key + "/disable", "body.reason", func(x string) any { return object{"reason": x} }, false},
		{"POST", key + "/revoke", "body.reason", func(x string) any { return object{"reason": x} }, false},
		{"POST", "/v1/workspaces", "body.name", func(x string) any { return object{"name": x} }, false},
		{"PATCH", workspace, "body.name", func(x string) any { return object{"name": x} }, false},
		{"PATCH", workspace, "body.suspended_reason", func(x string) any { return object{"suspended": true, "suspended_reason": x} }, false},
		{"POST", workspace + "/roles", "body.name", func(x string) any { return object{"name": x, "permissions": []string{"read"}} }, false},
		{"POST", workspace + "/roles", "body.description", func(x string) any { return object{"name": "r", "description": x, "permissions": []string{"read"}} }, false},
		{"PATCH", "/v1/roles/" + role.ID, "body.description", func(x string) any { return object{"description": x} }, false},
		{"POST", workspace + "/members", "body.person.name", func(x string) any { return object{"person": object{"name": x}, "role": "viewer"} }, false},
		{"POST", workspace + "/members", "body.person.subject", func(x string) any { return object{"person": object{"subject": x}, "role": "viewer"} }, true},
	}
	key33 := secret[:len(secret)-6]
	_, hook := keystile.NewWebhookSecret()
	texts := map[string]bool{ // the text, and whether the key in it is whole
		secret: true, "it is " + secret + ".": true, "key=" + secret: true, "(" + secret + ")": true, "é" + secret: true,
		"old_" + secret: true, "9" + secret: true, secret + "_v2": true, "“" + secret + "”": true,
		hook: true, "it is " + hook + ".": true, hook[:40] + "…": true, "whsec_whsec_" + hook[6:]: true,
		secret[:len(secret)-1]: false, key33: false, key33 + "-": false, "see " + key33 + "…": false,
	}
	l := &leak{}
	l.add("a secret in a text", secret)
	l.addHook("a webhook secret in a text", hook)
	for _, f := range fields {
		t.Run(f.method+" "+strings.NewReplacer(s.Workspace, "id", subject.Key.ID, "id", role.ID, "id").Replace(f.path)+" "+f.field, func(t *testing.T) {
			for _, text := range slices.Sorted(maps.Keys(texts)) {
				if f.whole && !texts[text] || f.field == "body.metadata" && len(text) > 64 {
					continue
				}
				r := call(t, f.method, s.URL+f.path, operator, f.body(text))
				e := wantProblem(t, r, http.StatusUnprocessableEntity, keystile.CodeInvalidField)
				if len(e.Fields) != 1 || e.Fields[0].Field != f.field || !strings.Contains(e.Detail, "looks like a secret") {
					t.Errorf("%+v", e.Fields)
				}
				l.in(t, "the refusal", string(r.body))
			}
		})
	}
	// What only resembles a key is a text like any other.
	for _, text := range []string{
		"ks_live", "key_06gvs8r6p80qku8qgqqsg7jvho", "snake_case_name", "commit_0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
		"SHA_0A1B2C3D4E5F60718293A4B5C6D7E8F901234567", "the_incomprehensibilitiesofantidisestablishmentarianism", strings.Repeat("9", 60), secret[:len(secret)-20],
	} {
		want[keystile.CreatedKey](t, call(t, "POST", s.URL+workspace+"/keys", operator, object{"name": text}), http.StatusCreated)
	}
	// An OpenID subject may be random.
	want[keystile.Member](t, call(t, "POST", s.URL+workspace+"/members", operator, object{"person": object{"subject": "a_Zs9fI0CZjlx1RzJ4f0Bq7Wm2Yx8Kd5Tn3Vc6Hg1Pz"}, "role": "viewer"}), http.StatusCreated)

	for _, agent := range []string{
		secret, "app/1 " + secret, secret[:len(secret)-1], body(secret), "ks%5F" + body(secret), "k-" + body(secret), secret + "x", key33,
		strings.Repeat("x", 190) + " " + secret, strings.Repeat("_", 10000) + secret,
	} {
		want[keystile.Self](t, call(t, "GET", s.URL+"/v1/me", headers("X-API-Key", subject.Secret, "User-Agent", agent), nil), http.StatusOK)
		want[keystile.Decision](t, call(t, "POST", s.URL+"/v1/verify", operator, keystile.VerifyRequest{Key: subject.Secret, UserAgent: agent[max(0, len(agent)-400):]}), http.StatusOK)
		want[keystile.Workspace](t, call(t, "PATCH", s.URL+workspace, headers("Authorization", "Bearer "+s.OperatorKey, "User-Agent", agent), object{"name": "N"}), http.StatusOK)
	}
	eventually(t, "the uses are written", func() bool {
		return want[keystile.Key](t, call(t, "GET", s.URL+key, operator, nil), http.StatusOK).LastUse != nil
	})
	time.Sleep(100 * time.Millisecond) // several flushes
	l.database(t, filepath.Join(dir, "keystile.db"))
	for _, what := range []string{"audit?limit=200", "usage", "keys?limit=200"} {
		l.in(t, what, fmt.Sprint(call(t, "GET", s.URL+workspace+"/"+what, operator, nil)))
	}
}

// mixedSecret is a key whose random part has letters of both cases and digits,
// as all but one in 300 have.
func mixedSecret(t testing.TB, s *keystiletest.Server) string {
	t.Helper()
	for {
		secret := s.Key(s.Workspace, keystile.CreateKey{Name: "mixed"}).Secret
		if strings.ContainsAny(body(secret)[:33], "0123456789") {
			return secret
		}
	}
}
