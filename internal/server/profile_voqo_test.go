package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

func voqoRows() []row {
	return []row{
		{"VQ1_roles", voqoRoles},
		{"VQ2_shown_once", voqoShownOnce},
		{"VQ3_webhook_secrets", voqoWebhookSecrets},
		{"VQ4_rotate", voqoRotate},
		{"VQ4_rotate_webhook_secret", voqoRotateWebhookSecret},
		{"VQ5_reasons", voqoReasons},
		{"VQ6_refusals", voqoRefusals},
		{"VQ8_support_details", voqoSupport},
		{"VQ9_due_and_idle", voqoDue},
		{"VQ10_matrix", voqoMatrix},
	}
}

// Developer Tools are for the roles that carry them, each in its own workspace.
func voqoRoles(t *testing.T, n *tenant) {
	other := n.server.NewWorkspace("Other", "")
	for role, may := range map[string]bool{"admin": true, "developer": true, "viewer": false, "agent": false, "reporting": false} {
		key := n.server.Key(n.id, keystile.CreateKey{Name: role, Role: role}).Secret
		list := n.call(key, "GET", n.keys(), nil)
		create := n.call(key, "POST", n.keys(), keystile.CreateKey{Name: "By " + role})
		if may {
			want[keystile.List[keystile.Key]](t, list, http.StatusOK)
			want[keystile.CreatedKey](t, create, http.StatusCreated)
		} else {
			if e := wantProblem(t, list, http.StatusForbidden, keystile.CodeInsufficientPermission); e.Permission != "api.key.view" {
				t.Errorf("%s: listing names the permission %q", role, e.Permission)
			}
			if e := wantProblem(t, create, http.StatusForbidden, keystile.CodeInsufficientPermission); e.Permission != "api.key.create" {
				t.Errorf("%s: creating names the permission %q", role, e.Permission)
			}
		}
		wantProblem(t, n.call(key, "GET", "/v1/workspaces/"+other.ID+"/keys", nil), http.StatusNotFound, keystile.CodeNotFound)
	}
}

func voqoShownOnce(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Call sync"})
	if !strings.HasPrefix(made.Secret, "vq_") || made.Key.Name != "Call sync" {
		t.Fatalf("created %+v", made.Key)
	}
	n.works(made.Secret)
	n.nowhere(made)
}

// hook makes a webhook secret as the workspace's admin would.
func (n *tenant) hook(label, environment string) keystile.CreatedWebhookSecret {
	n.Helper()
	return want[keystile.CreatedWebhookSecret](n, n.call(n.admin, "POST", "/v1/workspaces/"+n.id+"/webhook-secrets",
		keystile.CreateWebhookSecret{Label: label, Environment: environment}), http.StatusCreated)
}

// sign signs a webhook for an environment, and returns the headers to send and
// who signed.
func (n *tenant) sign(environment string) (http.Header, []string) {
	n.Helper()
	signed := want[keystile.Signed](n, n.call(n.admin, "POST", "/v1/workspaces/"+n.id+"/webhooks/sign",
		keystile.SignRequest{Payload: `{"call": "ended"}`, Environment: environment}), http.StatusOK)
	h := http.Header{}
	h.Set(keystile.WebhookIDHeader, signed.Headers.ID)
	h.Set(keystile.WebhookTimestampHeader, signed.Headers.Timestamp)
	h.Set(keystile.WebhookSignatureHeader, signed.Headers.Signature)
	return h, signed.WebhookSecrets
}

// received is what a consumer who holds one secret says of a webhook.
func (n *tenant) received(h http.Header, secret string) error {
	n.Helper()
	s, err := keystile.ParseWebhookSecret(secret)
	if err != nil {
		n.Fatal(err)
	}
	v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{s}}
	return v.Verify(h, []byte(`{"call": "ended"}`))
}

// One secret for each consumer environment, with a label, shown once, revocable.
func voqoWebhookSecrets(t *testing.T, n *tenant) {
	secrets := map[string]keystile.CreatedWebhookSecret{}
	for _, e := range n.profile.Environments {
		secrets[e.Name] = n.hook("CRM, "+e.Name, e.Name)
	}
	for name, made := range secrets {
		h, by := n.sign(name)
		if len(by) != 1 || by[0] != made.WebhookSecret.ID {
			t.Fatalf("%s is signed by %v", name, by)
		}
		for other, s := range secrets {
			if err := n.received(h, s.Secret); (err == nil) != (other == name) {
				t.Errorf("signed for %s, received with the secret of %s: %v", name, other, err)
			}
		}
		path := "/v1/webhook-secrets/" + made.WebhookSecret.ID
		shown := n.call(n.admin, "GET", path, nil)
		if s := want[keystile.WebhookSecretRecord](t, shown, http.StatusOK); s.Label != "CRM, "+name || strings.Contains(string(shown.body), made.Secret[6:20]) {
			t.Errorf("shown again: %+v", s)
		}
		for _, reason := range []string{"exposure_suspected", ""} { // again is no change
			is := want[keystile.WebhookSecretRecord](t, n.call(n.admin, "POST", path+"/revoke", keystile.RevokeWebhookSecret{Reason: reason}), http.StatusOK)
			if is.Status != keystile.StatusRevoked || is.RevokedReason != "exposure_suspected" || is.RevokedBy == nil || is.RevokedBy.Name != "Admin" {
				t.Errorf("revoked: %+v", is)
			}
		}
		wantProblem(t, n.call(n.admin, "POST", "/v1/workspaces/"+n.id+"/webhooks/sign", keystile.SignRequest{Payload: "x", Environment: name}), http.StatusConflict, keystile.CodeConflict)
	}
	viewer := n.server.Key(n.id, keystile.CreateKey{Name: "Agent", Role: "agent"}).Secret
	wantProblem(t, n.call(viewer, "GET", "/v1/workspaces/"+n.id+"/webhook-secrets", nil), http.StatusForbidden, keystile.CodeInsufficientPermission)
}

// The replacement first, both sign, and then the old one is revoked.
func voqoRotateWebhookSecret(t *testing.T, n *tenant) {
	old := n.hook("CRM", "staging")
	fresh := want[keystile.CreatedWebhookSecret](t, n.call(n.admin, "POST", "/v1/webhook-secrets/"+old.WebhookSecret.ID+"/rotate", nil), http.StatusCreated)
	h, by := n.sign("staging")
	if len(by) != 2 || n.received(h, old.Secret) != nil || n.received(h, fresh.Secret) != nil || len(h.Values(keystile.WebhookSignatureHeader)) != 1 {
		t.Fatalf("signed by %v: %v", by, h)
	}
	want[keystile.WebhookSecretRecord](t, n.call(n.admin, "POST", "/v1/webhook-secrets/"+old.WebhookSecret.ID+"/revoke", `{"reason": "rotated"}`), http.StatusOK)
	h, by = n.sign("staging")
	if len(by) != 1 || n.received(h, old.Secret) == nil || n.received(h, fresh.Secret) != nil {
		t.Errorf("after the move signed by %v", by)
	}
}

func voqoRotate(t *testing.T, n *tenant) {
	old := n.create(keystile.CreateKey{Name: "CRM", Role: "reporting", Environment: "staging", IPAllowlist: []string{"127.0.0.1"}})
	// Verify asks from an address that is told.
	n.me(old.Secret)
	n.used(old.Key.ID)
	fresh := want[keystile.CreatedKey](t, n.call(n.admin, "POST", "/v1/keys/"+old.Key.ID+"/rotate", `{}`), http.StatusCreated)
	if fresh.Replaces != old.Key.ID || fresh.Key.Replaces != old.Key.ID || fresh.Key.Role != "reporting" || fresh.Key.Environment != "staging" ||
		len(fresh.Key.IPAllowlist) != 1 || fresh.Secret == old.Secret {
		t.Fatalf("the replacement is %+v", fresh.Key)
	}
	// Both are valid, and the list tells that nobody has moved yet.
	want[keystile.Self](t, n.me(old.Secret), http.StatusOK)
	before := n.show(old.Key.ID)
	if before.ReplacedBy != fresh.Key.ID || before.LastUse == nil || before.SafeToRevoke || n.show(fresh.Key.ID).LastUse != nil {
		t.Fatalf("before the move: old %+v", before)
	}
	want[keystile.Self](t, n.me(fresh.Secret), http.StatusOK)
	moved := n.used(fresh.Key.ID)
	if old := n.show(old.Key.ID); old.SafeToRevoke {
		t.Fatal("safe to revoke a moment after the old key's last use")
	}
	// Two quiet hours later.
	// A use that is written although it began after another was seen written: no
	// earlier one is on its way.
	want[keystile.Self](t, n.me(fresh.Secret), http.StatusOK)
	eventually(t, "all uses are written", func() bool {
		u := n.usage("?key=" + fresh.Key.ID)
		return len(u.Buckets) > 0 && u.Buckets[0].Total+u.Buckets[len(u.Buckets)-1].Total*int64(len(u.Buckets)-1) >= 2
	})
	n.sql(`UPDATE key_use SET at = ? WHERE key_id = ?`, time.Now().Add(-2*time.Hour).UnixMilli(), old.Key.ID)
	n.created(old.Key.ID, 3*time.Hour)
	if quiet := n.show(old.Key.ID); !quiet.SafeToRevoke || !moved.LastUse.At.After(quiet.LastUse.At) {
		t.Fatalf("after the move: %+v", quiet)
	}
	n.revoke(old.Key.ID, keystile.RevokeKey{Reason: keystile.ReasonRotated})
	wantProblem(t, n.me(old.Secret), http.StatusUnauthorized, keystile.CodeRevoked)
	want[keystile.Self](t, n.me(fresh.Secret), http.StatusOK)
}

func voqoReasons(t *testing.T, n *tenant) {
	for _, reason := range []string{"unneeded", "ownership_changed", "exposure_suspected", "The vendor's contract ended on Friday – “closed”."} {
		made := n.create(keystile.CreateKey{Name: "Key"})
		n.works(made.Secret)
		k := n.revoke(made.Key.ID, keystile.RevokeKey{Reason: reason})
		n.refused(made.Secret, keystile.CodeRevoked)
		for _, shown := range []keystile.Key{k, n.show(made.Key.ID)} {
			if shown.Status != keystile.StatusRevoked || shown.RevokedReason != reason || shown.RevokedAt == nil || shown.RevokedBy == nil || shown.RevokedBy.Name != "Admin" {
				t.Errorf("revoked with %q: %+v", reason, shown)
			}
		}
		if e := n.audited(made.Key.ID, "key.revoked"); e.Reason != reason {
			t.Errorf("the audit log has the reason %q, want %q", e.Reason, reason)
		}
	}
}

func voqoRefusals(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Live"})
	n.works(made.Secret)
	details := map[string]string{}
	told := func(what, detail string) {
		t.Helper()
		for other, d := range details {
			if d == detail {
				t.Errorf("%s and %s are told in the same words: %s", what, other, detail)
			}
		}
		details[what] = detail
	}
	told("malformed", n.refused(made.Secret[:20], keystile.CodeMalformed).Detail)
	told("unknown", n.refused(n.mint(), keystile.CodeUnknown).Detail)

	gone := n.create(keystile.CreateKey{Name: "Gone"})
	n.revoke(gone.Key.ID, nil)
	told("revoked", n.refused(gone.Secret, keystile.CodeRevoked).Detail)

	short := n.create(keystile.CreateKey{Name: "Short"})
	n.works(short.Secret)
	n.rotate(short.Key.ID, keystile.RotateKey{Overlap: "50ms"})
	eventually(t, "the key's end has come", func() bool { return n.me(short.Secret).status == http.StatusUnauthorized })
	told("expired", n.refused(short.Secret, keystile.CodeExpired).Detail)

	other := n.server.NewWorkspace("Other", "")
	r := call(t, "GET", n.server.URL+"/v1/forward-auth?workspace="+other.ID, bearer(made.Secret), nil)
	told("wrong workspace", wantProblem(t, r, http.StatusForbidden, keystile.CodeWrongWorkspace).Detail)
	if d := n.verify(keystile.VerifyRequest{Key: made.Secret, Workspace: other.ID}); d.Valid || d.Code != keystile.CodeWrongWorkspace {
		t.Errorf("verify in another workspace: %+v", d)
	}
	told("missing", wantProblem(t, n.meWith(http.Header{}), http.StatusUnauthorized, keystile.CodeMissingCredential).Detail)
}

// What support needs to know is on the key's own page, and its value is not.
func voqoSupport(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Nightly report"})
	n.works(made.Secret)
	k := n.used(made.Key.ID)
	if k.WorkspaceID != n.id || k.Name != "Nightly report" || !keyID.MatchString(k.ID) ||
		k.CreatedAt.IsZero() || k.UpdatedAt.IsZero() || time.Since(k.LastUse.At) > time.Minute {
		t.Errorf("details for support: %+v", k)
	}
	if text := string(n.call(n.admin, "GET", "/v1/keys/"+k.ID, nil).body); strings.Contains(text, body(made.Secret)) {
		t.Error("the details hold the key")
	}
}

func voqoDue(t *testing.T, n *tenant) {
	for environment, every := range map[string]time.Duration{"production": 90 * day, "staging": 180 * day, "development": 180 * day} {
		made := n.create(keystile.CreateKey{Name: environment, Environment: environment})
		if due := made.Key.RotationDue; due == nil || !due.Equal(made.Key.CreatedAt.Add(every)) || made.Key.Idle {
			t.Errorf("%s: due %v, created %v, idle %v", environment, due, made.Key.CreatedAt, made.Key.Idle)
		}
	}
	old := n.create(keystile.CreateKey{Name: "Old and unused"})
	n.created(old.Key.ID, 91*day)
	used := n.create(keystile.CreateKey{Name: "Old and used"})
	n.created(used.Key.ID, 91*day)
	n.works(used.Secret)
	n.used(used.Key.ID)
	for _, k := range n.list("") {
		overdue := k.RotationDue != nil && k.RotationDue.Before(time.Now())
		if want := k.ID == old.Key.ID || k.ID == used.Key.ID; overdue != want {
			t.Errorf("%s: overdue is %v", k.Name, overdue)
		}
		if want := k.ID == old.Key.ID; k.Idle != want {
			t.Errorf("%s: idle is %v", k.Name, k.Idle)
		}
	}
	n.alerted(old.Key.ID, keystile.AlertKeyIdle, "", true)
	n.alerted(used.Key.ID, keystile.AlertKeyRotationDue, "overdue", true)
	n.works(old.Secret)
	n.alerted(old.Key.ID, keystile.AlertKeyIdle, "", false)
}

func voqoMatrix(t *testing.T, n *tenant) {
	m := want[keystile.PlanMatrix](t, n.call(n.admin, "GET", "/v1/plans", nil), http.StatusOK)
	plans := map[string]keystile.Plan{}
	for _, p := range m.Plans {
		plans[p.Name] = p
	}
	if plans["starter"].Limits["active_keys"] != 25 || plans["growth"].Limits["active_keys"] != 250 || plans["enterprise"].Limits["active_keys"] != -1 ||
		!plans["starter"].Default || len(plans["growth"].Features) == 0 {
		t.Errorf("plans: %+v", m.Plans)
	}
	roles := map[string]keystile.Role{}
	for _, r := range m.Roles {
		roles[r.Name] = r
	}
	for role, may := range map[string]bool{"admin": true, "developer": true, "viewer": false, "agent": false, "integration": false, "reporting": false} {
		if r, ok := roles[role]; !ok || r.Permissions.Allow("api.key.create") != may {
			t.Errorf("role %s: %+v", role, r)
		}
	}
	names := map[string]bool{}
	for _, p := range m.Permissions {
		names[p.Name] = p.Description != ""
	}
	if !names["calls.read"] || !names["api.key.create"] {
		t.Errorf("permissions: %+v", m.Permissions)
	}
}
