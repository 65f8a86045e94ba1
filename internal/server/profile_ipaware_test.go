package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

func ipawareRows() []row {
	return []row{
		{"IP1_key", ipawareKey},
		{"IP4_edit", ipawareEdit},
		{"IP5_revoke", ipawareRevoke},
		{"IP6_roles", ipawareRoles},
		{"IP7_management_permissions", ipawareManagement},
		{"IP8_ip_whitelist", ipawareAllowlist},
		{"IP9_plan_limit", ipawareLimit},
		{"IP10_rotation_due", ipawareDue},
		{"IP11_usage_and_log", ipawareUsage},
		{"IP12_invalid_api_key", ipawareInvalid},
		{"IP13_members", ipawareMembers},
		{"IP14_compromise", ipawareCompromise},
		{"IP15_review", ipawareReview},
	}
}

func ipawareKey(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Production Server", Description: "Checkout service in Frankfurt", Role: "server"})
	k := n.show(made.Key.ID)
	if !keyID.MatchString(k.ID) || k.Name != "Production Server" || k.Role != "server" || k.Status != keystile.StatusActive || k.Description != "Checkout service in Frankfurt" {
		t.Errorf("key %+v", k)
	}
	if bare := n.create(keystile.CreateKey{Name: "Mobile App"}); bare.Key.Description != "" || bare.Key.Role != "lookup" {
		t.Errorf("without description and role: %+v", bare.Key)
	}
	n.works(made.Secret)
	n.nowhere(made)
	// The Key ID opens nothing.
	if e := n.refused(k.ID, keystile.CodeMalformed); e.Hint != keystile.HintKeyID {
		t.Errorf("the Key ID as a key: %+v", e)
	}
}

func ipawareEdit(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Server", Role: "lookup"})
	path := "/v1/keys/" + made.Key.ID
	ask := keystile.VerifyRequest{Key: made.Secret, Permission: "reports.view"}
	if d := n.verify(ask); d.Code != keystile.CodeInsufficientPermission {
		t.Fatalf("before: %+v", d)
	}
	k := want[keystile.Key](t, n.call(n.admin, "PATCH", path, `{"name": "Reports", "role": "reporting"}`), http.StatusOK)
	if k.Name != "Reports" || k.Role != "reporting" || k.ID != made.Key.ID || k.Preview != made.Key.Preview {
		t.Errorf("edited: %+v", k)
	}
	// At once, in both directions.
	if d := n.verify(ask); !d.Valid || d.Role != "reporting" {
		t.Errorf("the new role: %+v", d)
	}
	if d := n.verify(keystile.VerifyRequest{Key: made.Secret, Permission: "ip.lookup"}); d.Code != keystile.CodeInsufficientPermission {
		t.Errorf("the old role: %+v", d)
	}
	// What cannot be changed is refused rather than ignored.
	for _, field := range []string{`{"id": "key_1"}`, `{"secret": "ipa_x"}`, `{"preview": "x"}`, `{"sha256": "00"}`, `{"status": "active"}`} {
		wantProblem(t, n.call(n.admin, "PATCH", path, field), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
	}
	e := n.audited(made.Key.ID, "key.updated")
	if e.Before["role"] != "lookup" || e.After["role"] != "reporting" || e.Before["name"] != "Server" || e.Actor.Name != "Admin" {
		t.Errorf("audit entry %+v", e)
	}
}

func ipawareRevoke(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Old server"})
	n.works(made.Secret)
	n.revoke(made.Key.ID, keystile.RevokeKey{Reason: keystile.ReasonUnneeded})
	n.refused(made.Secret, keystile.CodeRevoked)
	for _, k := range n.list("?status=active") {
		if k.ID == made.Key.ID {
			t.Error("the revoked key is still in the table of active ones")
		}
	}
	// It can't be undone.
	for _, verb := range []string{"enable", "rotate"} {
		wantProblem(t, n.call(n.admin, "POST", "/v1/keys/"+made.Key.ID+"/"+verb, nil), http.StatusConflict, keystile.CodeConflict)
	}
	wantProblem(t, n.call(n.admin, "PATCH", "/v1/keys/"+made.Key.ID, `{"role": "server"}`), http.StatusConflict, keystile.CodeConflict)
	// Revoking again changes nothing and says so by succeeding.
	if again := n.revoke(made.Key.ID, keystile.RevokeKey{Reason: "other"}); again.RevokedReason != keystile.ReasonUnneeded {
		t.Errorf("revoked twice: %+v", again)
	}
	// The audit log keeps it, even when the record goes.
	if r := n.call(n.admin, "DELETE", "/v1/keys/"+made.Key.ID, nil); r.status != http.StatusNoContent {
		t.Fatalf("delete: %s", r)
	}
	if e := n.audited(made.Key.ID, "key.revoked"); e.ObjectName != "Old server" || e.Reason != keystile.ReasonUnneeded {
		t.Errorf("audit entry %+v", e)
	}
	n.refused(made.Secret, keystile.CodeUnknown)
}

// role makes a custom role and a key that has it.
func (n *tenant) role(name string, permissions ...string) (keystile.Role, string) {
	n.Helper()
	r := want[keystile.Role](n, n.call(n.admin, "POST", "/v1/workspaces/"+n.id+"/roles",
		keystile.CreateRole{Name: name, Permissions: permissions}), http.StatusCreated)
	return r, n.server.Key(n.id, keystile.CreateKey{Name: name, Role: name}).Secret
}

func ipawareRoles(t *testing.T, n *tenant) {
	role, clerk := n.role("key clerk", "api.key.view", "api.key.create", "api.key.update", "api.role.*", "ip.lookup", "reports.view")
	if role.BuiltIn || role.WorkspaceID != n.id {
		t.Errorf("role %+v", role)
	}
	roles := want[keystile.List[keystile.Role]](t, n.call(n.admin, "GET", "/v1/workspaces/"+n.id+"/roles", nil), http.StatusOK).Data
	for _, name := range []string{"admin", "developer", "viewer", "lookup", "server", "reporting", "key clerk"} {
		if !slices.ContainsFunc(roles, func(r keystile.Role) bool { return r.Name == name }) {
			t.Errorf("the list lacks the role %s", name)
		}
	}
	// A role belongs to its workspace.
	other := n.server.NewWorkspace("Other", "")
	outside := n.server.Key(other.ID, keystile.CreateKey{Name: "Admin", Role: "admin"}).Secret
	wantProblem(t, n.call(outside, "GET", "/v1/roles/"+role.ID, nil), http.StatusNotFound, keystile.CodeNotFound)
	wantProblem(t, n.call(outside, "POST", "/v1/workspaces/"+other.ID+"/keys", keystile.CreateKey{Name: "x", Role: "key clerk"}),
		http.StatusUnprocessableEntity, keystile.CodeInvalidField)

	// Nobody hands out more than they hold.
	narrow, _ := n.role("narrow", "ip.lookup")
	_ = narrow
	want[keystile.CreatedKey](t, n.call(clerk, "POST", n.keys(), keystile.CreateKey{Name: "Within", Role: "narrow"}), http.StatusCreated)
	for what, r := range map[string]reply{
		"a key of a wider role":    n.call(clerk, "POST", n.keys(), keystile.CreateKey{Name: "More", Role: "server"}),
		"the default role":         n.call(clerk, "POST", n.keys(), keystile.CreateKey{Name: "More"}),
		"a role with more":         n.call(clerk, "POST", "/v1/workspaces/"+n.id+"/roles", keystile.CreateRole{Name: "more", Permissions: keystile.Permissions{"rules.update"}}),
		"a role with everything":   n.call(clerk, "POST", "/v1/workspaces/"+n.id+"/roles", keystile.CreateRole{Name: "all", Permissions: keystile.Permissions{"*"}}),
		"widening a role it holds": n.call(clerk, "PATCH", "/v1/roles/"+narrow.ID, keystile.RolePatch{Permissions: &keystile.Permissions{"ip.*"}}),
	} {
		e := wantProblem(t, r, http.StatusForbidden, keystile.CodeExceedsAuthority)
		if len(e.Fixes) == 0 || !strings.Contains(e.Detail, ".") {
			t.Errorf("%s: %+v", what, e)
		}
	}
	// Keys that manage keys need one permission more.
	for what, r := range map[string]reply{
		"an admin's key":         n.call(clerk, "POST", n.keys(), keystile.CreateKey{Name: "More", Role: "admin"}),
		"a key like its own":     n.call(clerk, "POST", n.keys(), keystile.CreateKey{Name: "Same", Role: "key clerk"}),
		"a role that may create": n.call(clerk, "POST", "/v1/workspaces/"+n.id+"/roles", keystile.CreateRole{Name: "same", Permissions: keystile.Permissions{"api.key.create"}}),
	} {
		if e := wantProblem(t, r, http.StatusForbidden, keystile.CodeInsufficientPermission); e.Permission != "api.key.grant" {
			t.Errorf("%s: %+v", what, e)
		}
	}
	// Nobody makes power over other workspaces, an admin neither.
	wantProblem(t, n.call(n.admin, "POST", "/v1/workspaces/"+n.id+"/roles", keystile.CreateRole{Name: "god", Permissions: keystile.Permissions{"platform.verify"}}),
		http.StatusUnprocessableEntity, keystile.CodeInvalidField)
	// What a role loses, its keys lose at once.
	key := n.create(keystile.CreateKey{Name: "Lookup", Role: "narrow"})
	n.call(n.admin, "PATCH", "/v1/roles/"+narrow.ID, keystile.RolePatch{Permissions: &keystile.Permissions{"reports.view"}})
	if d := n.verify(keystile.VerifyRequest{Key: key.Secret, Permission: "ip.lookup"}); d.Code != keystile.CodeInsufficientPermission {
		t.Errorf("after the role lost it: %+v", d)
	}
}

func ipawareManagement(t *testing.T, n *tenant) {
	target := n.create(keystile.CreateKey{Name: "Target", Role: "lookup"})
	path := "/v1/keys/" + target.Key.ID
	verbs := []struct{ permission, method, path, body string }{
		{"api.key.view", "GET", path, ""},
		{"api.key.view", "GET", n.keys(), ""},
		{"api.key.update", "PATCH", path, `{"name": "Renamed"}`},
		{"api.key.create", "POST", n.keys(), `{"name": "New"}`},
		{"api.key.delete", "POST", path + "/revoke", ""},
		{"api.key.delete", "DELETE", path, ""},
	}
	for _, holds := range []string{"api.key.view", "api.key.update", "api.key.create", "api.key.delete"} {
		_, key := n.role("only "+strings.TrimPrefix(holds, "api.key."), holds, "ip.*")
		for _, v := range verbs {
			if v.permission == holds {
				continue
			}
			var body any
			if v.body != "" {
				body = v.body
			}
			e := wantProblem(t, n.call(key, v.method, v.path, body), http.StatusForbidden, keystile.CodeInsufficientPermission)
			if e.Permission != v.permission {
				t.Errorf("%s %s with %s: the refusal names %q", v.method, v.path, holds, e.Permission)
			}
		}
	}
	if k := n.show(target.Key.ID); k.Name != "Target" || k.Status != keystile.StatusActive {
		t.Errorf("a refused request changed the key: %+v", k)
	}
	for _, v := range verbs { // last, since they end the key
		_, key := n.role("may "+v.method+strings.ReplaceAll(strings.TrimPrefix(v.path, "/v1/"), "/", " ")[:4]+strings.TrimPrefix(v.permission, "api.key."), v.permission, "ip.*")
		var body any
		if v.body != "" {
			body = v.body
		}
		if r := n.call(key, v.method, v.path, body); r.status >= 300 {
			t.Errorf("%s %s with %s: %s", v.method, v.path, v.permission, r)
		}
	}
}

func ipawareAllowlist(t *testing.T, n *tenant) {
	key := n.create(keystile.CreateKey{Name: "Office", IPAllowlist: []string{"203.0.113.0/24", "2001:db8:1::/48", "198.51.100.7"}})
	open := n.create(keystile.CreateKey{Name: "Open"})
	check := func(secret, address string, may bool) {
		t.Helper()
		r := n.me(secret, address)
		if may {
			want[keystile.Self](t, r, http.StatusOK)
		} else {
			wantProblem(t, r, http.StatusForbidden, keystile.CodeIPNotAllowed)
		}
		if d := n.verify(keystile.VerifyRequest{Key: secret, IP: address}); d.Valid != may {
			t.Errorf("verify from %s: %+v", address, d)
		}
	}
	for address, may := range map[string]bool{
		"203.0.113.1": true, "203.0.113.255": true, "203.0.114.1": false, "198.51.100.7": true, "198.51.100.8": false,
		"2001:db8:1::1": true, "2001:db8:1:ffff::1": true, "2001:db8:2::1": false, "::ffff:203.0.113.9": true, "::1": false,
	} {
		check(key.Secret, address, may)
		check(open.Secret, address, true)
	}
	// The check that is not told an address can't let it in.
	if d := n.verify(keystile.VerifyRequest{Key: key.Secret}); d.Code != keystile.CodeIPNotAllowed {
		t.Errorf("without an address: %+v", d)
	}
	// The workspace's own list holds for every key, beside the key's.
	want[keystile.Workspace](t, n.call(n.server.OperatorKey, "PATCH", "/v1/workspaces/"+n.id, `{"ip_allowlist": ["203.0.113.0/25", "127.0.0.1"]}`), http.StatusOK)
	for address, may := range map[string]bool{"203.0.113.1": true, "203.0.113.200": false, "198.51.100.7": false, "2001:db8:1::1": false} {
		check(key.Secret, address, may)
	}
	check(open.Secret, "203.0.113.1", true)
	check(open.Secret, "203.0.113.200", false)
	want[keystile.Workspace](t, n.call(n.admin, "PATCH", "/v1/workspaces/"+n.id, `{"ip_allowlist": []}`), http.StatusOK)
	check(open.Secret, "203.0.113.200", true)
	// Taking the key's list away works at once as well.
	want[keystile.Key](t, n.call(n.admin, "PATCH", "/v1/keys/"+key.Key.ID, `{"ip_allowlist": ["192.0.2.1"]}`), http.StatusOK)
	check(key.Secret, "203.0.113.1", false)
	check(key.Secret, "192.0.2.1", true)
	for _, bad := range []string{"203.0.113.0/33", "office", "203.0.113", "fe80::1%eth0", "2001:db8::/129", ""} {
		e := wantProblem(t, n.call(n.admin, "POST", n.keys(), keystile.CreateKey{Name: "x", IPAllowlist: []string{bad}}), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
		if e.Fields[0].Field != "body.ip_allowlist[0]" {
			t.Errorf("%q: %+v", bad, e.Fields)
		}
	}
}

func ipawareLimit(t *testing.T, n *tenant) {
	free := n.server.NewWorkspace("Small", "free")
	path := "/v1/workspaces/" + free.ID + "/keys"
	create := func() reply {
		return n.call(n.server.OperatorKey, "POST", path, keystile.CreateKey{Name: "Key"})
	}
	var first keystile.CreatedKey
	for range 5 {
		first = want[keystile.CreatedKey](t, create(), http.StatusCreated)
	}
	e := wantProblem(t, create(), http.StatusForbidden, keystile.CodePlanLimit)
	fixes := strings.ToLower(strings.Join(e.Fixes, " "))
	if !strings.Contains(e.Detail, "5") || !strings.Contains(fixes, "revoke") || !strings.Contains(fixes, "share") || !strings.Contains(fixes, "upgrade") {
		t.Errorf("the refusal does not say what to do: %+v", e)
	}
	// Rotating adds none while both live; the limit holds all the same.
	fresh := want[keystile.CreatedKey](t, n.call(n.server.OperatorKey, "POST", "/v1/keys/"+first.Key.ID+"/rotate", nil), http.StatusCreated)
	wantProblem(t, create(), http.StatusForbidden, keystile.CodePlanLimit)
	want[keystile.Key](t, n.call(n.server.OperatorKey, "POST", "/v1/keys/"+first.Key.ID+"/revoke", nil), http.StatusOK)
	wantProblem(t, create(), http.StatusForbidden, keystile.CodePlanLimit)
	want[keystile.Key](t, n.call(n.server.OperatorKey, "POST", "/v1/keys/"+fresh.Key.ID+"/revoke", nil), http.StatusOK)
	want[keystile.CreatedKey](t, create(), http.StatusCreated)
	wantProblem(t, create(), http.StatusForbidden, keystile.CodePlanLimit)
	// The way up.
	wantProblem(t, n.call(n.admin, "PATCH", "/v1/workspaces/"+n.id, `{"plan": "enterprise"}`), http.StatusForbidden, keystile.CodeInsufficientPermission)
	want[keystile.Workspace](t, n.call(n.server.OperatorKey, "PATCH", "/v1/workspaces/"+free.ID, `{"plan": "pro"}`), http.StatusOK)
	want[keystile.CreatedKey](t, create(), http.StatusCreated)
}

func ipawareDue(t *testing.T, n *tenant) {
	for environment, every := range map[string]time.Duration{"production": 90 * day, "development": 180 * day} {
		made := n.create(keystile.CreateKey{Name: environment, Environment: environment})
		if due := made.Key.RotationDue; due == nil || !due.Equal(made.Key.CreatedAt.Add(every)) {
			t.Errorf("%s: due %v", environment, due)
		}
		for age, overdue := range map[time.Duration]bool{every - day: false, every + day: true} {
			n.created(made.Key.ID, age)
			if due := n.show(made.Key.ID).RotationDue; due == nil || due.Before(time.Now()) != overdue {
				t.Errorf("%s after %v: due %v", environment, age, due)
			}
			n.alerted(made.Key.ID, keystile.AlertKeyRotationDue, map[bool]string{false: "due", true: "overdue"}[overdue], true)
		}
		fresh := want[keystile.CreatedKey](t, n.call(n.admin, "POST", "/v1/keys/"+made.Key.ID+"/rotate", nil), http.StatusCreated)
		if due := fresh.Key.RotationDue; due == nil || due.Before(time.Now().Add(every-time.Hour)) {
			t.Errorf("%s rotated: due %v", environment, due)
		}
		n.alerted(made.Key.ID, keystile.AlertKeyRotationDue, "overdue", false)
	}
}

func ipawareUsage(t *testing.T, n *tenant) {
	key := n.create(keystile.CreateKey{Name: "Scanner"})
	n.meWith(headers("Authorization", "Bearer "+key.Secret, "User-Agent", "scanner/2.1"), "203.0.113.7")
	n.meWith(headers("Authorization", "Bearer "+key.Secret, "User-Agent", "scanner/2.1"), "203.0.113.7")
	n.revoke(key.Key.ID, nil)
	n.meWith(headers("Authorization", "Bearer "+key.Secret, "User-Agent", "curl/8"), "198.51.100.9")
	var u keystile.Usage
	eventually(t, "three uses are counted", func() bool {
		u = n.usage("?key=" + key.Key.ID)
		return len(u.Buckets) == 1 && u.Buckets[0].Total == 3
	})
	// Failed attempts stand beside good ones, by the hour and by where from.
	if b := u.Buckets[0]; b.Codes[keystile.CodeValid] != 2 || b.Codes[keystile.CodeRevoked] != 1 || !b.Hour.Equal(b.Hour.Truncate(time.Hour)) {
		t.Errorf("bucket %+v", b)
	}
	for _, want := range []keystile.KeySource{
		{Address: "203.0.113.7", UserAgent: "scanner/2.1", Code: keystile.CodeValid, Count: 2},
		{Address: "198.51.100.9", UserAgent: "curl/8", Code: keystile.CodeRevoked, Count: 1},
	} {
		if !slices.ContainsFunc(u.Sources, func(s keystile.KeySource) bool {
			return s.Address == want.Address && s.UserAgent == want.UserAgent && s.Code == want.Code && s.Count == want.Count && !s.FirstAt.After(s.LastAt)
		}) {
			t.Errorf("no source like %+v in %+v", want, u.Sources)
		}
	}
	past := n.usage("?until=2020-01-01T00:00:00Z&since=2019-12-01T00:00:00Z")
	if len(past.Buckets) != 0 {
		t.Errorf("usage of long ago: %+v", past)
	}
	// Who changed what, from where.
	r := call(t, "PATCH", n.server.URL+"/v1/workspaces/"+n.id, headers("Authorization", "Bearer "+n.admin, "X-Forwarded-For", "192.0.2.44", "User-Agent", "ops/1"), `{"name": "Renamed"}`)
	want[keystile.Workspace](t, r, http.StatusOK)
	e := n.audited(n.id, "workspace.updated")
	if e.Actor.Kind != "key" || e.Actor.Name != "Admin" || e.Address != "192.0.2.44" || e.UserAgent != "ops/1" || e.RequestID != r.header.Get("X-Request-Id") || e.After["name"] != "Renamed" {
		t.Errorf("audit entry %+v", e)
	}
}

func ipawareInvalid(t *testing.T, n *tenant) {
	key := n.create(keystile.CreateKey{Name: "Key", IPAllowlist: []string{"203.0.113.7"}})
	gone := n.create(keystile.CreateKey{Name: "Gone"})
	n.revoke(gone.Key.ID, nil)
	good := func(h http.Header) http.Header { h.Set("X-Forwarded-For", "203.0.113.7"); return h }
	for _, c := range []struct {
		what   string
		header http.Header
		status int
		code   keystile.Code
		hint   keystile.Hint
	}{
		{"revoked", bearer(gone.Secret), 401, keystile.CodeRevoked, ""},
		{"truncated secret", bearer(key.Secret[:len(key.Secret)-3]), 401, keystile.CodeMalformed, keystile.HintTruncated},
		{"mistyped secret", bearer(swapped(key.Secret)), 401, keystile.CodeMalformed, keystile.HintChecksum},
		{"wrong secret", bearer(n.mint()), 401, keystile.CodeUnknown, ""},
		{"Key ID for the secret", bearer(key.Key.ID), 401, keystile.CodeMalformed, keystile.HintKeyID},
		{"address not on the list", headers("Authorization", "Bearer "+key.Secret, "X-Forwarded-For", "203.0.113.8"), 403, keystile.CodeIPNotAllowed, ""},
		{"no scheme", headers("Authorization", key.Secret), 401, keystile.CodeMalformed, keystile.HintScheme},
		{"scheme Basic", headers("Authorization", "Basic "+key.Secret), 401, keystile.CodeMalformed, keystile.HintScheme},
		{"two spaces", headers("Authorization", "Bearer  "+key.Secret), 401, keystile.CodeMalformed, keystile.HintWhitespace},
		{"scheme alone", headers("Authorization", "Bearer"), 401, keystile.CodeMissingCredential, ""},
		{"scheme twice", headers("Authorization", "Bearer Bearer "+key.Secret), 401, keystile.CodeMalformed, keystile.HintScheme},
		{"quotes", headers("Authorization", `Bearer "`+key.Secret+`"`), 401, keystile.CodeMalformed, keystile.HintChecksum},
		{"in two headers", headers("Authorization", "Bearer "+key.Secret, "X-API-Key", key.Secret), 400, keystile.CodeSeveralCredentials, ""},
	} {
		e := wantProblem(t, n.meWith(c.header), c.status, c.code)
		if e.Hint != c.hint {
			t.Errorf("%s: hint %q, want %q", c.what, e.Hint, c.hint)
		}
		if c.status == http.StatusUnauthorized && e.Title != "Invalid API Key" {
			t.Errorf("%s: title %q", c.what, e.Title)
		}
	}
	want[keystile.Self](t, n.meWith(good(bearer(key.Secret))), http.StatusOK)
	r := call(t, "GET", n.server.URL+"/v1/forward-auth?permission=rules.update", good(bearer(key.Secret)), nil)
	if e := wantProblem(t, r, http.StatusForbidden, keystile.CodeInsufficientPermission); e.Permission != "rules.update" {
		t.Errorf("no permission: %+v", e)
	}
	// What would tell an attacker something is told to holders alone: from
	// the wrong address, a key that was never issued looks like no key.
	wantProblem(t, n.meWith(bearer(n.mint()), "198.51.100.1"), http.StatusUnauthorized, keystile.CodeUnknown)
	r = call(t, "GET", n.server.URL+"/v1/me?api_key="+key.Secret, nil, nil)
	wantProblem(t, r, http.StatusBadRequest, keystile.CodeKeyInQuery)
}

func ipawareMembers(t *testing.T, n *tenant) {
	path := "/v1/workspaces/" + n.id + "/members"
	m := want[keystile.Member](t, n.call(n.admin, "POST", path, `{"person": {"name": "Ada", "email": "ada@example.com", "issuer": "https://id.example", "subject": "42"}, "role": "developer"}`), http.StatusCreated)
	if m.Status != "invited" || m.Role != "developer" || m.InvitedBy.Name != "Admin" || m.Person.Name != "Ada" {
		t.Errorf("member %+v", m)
	}
	wantProblem(t, n.call(n.admin, "POST", path, `{"person": {"issuer": "https://id.example", "subject": "42"}, "role": "viewer"}`), http.StatusConflict, keystile.CodeConflict)
	list := want[keystile.List[keystile.Member]](t, n.call(n.admin, "GET", path, nil), http.StatusOK).Data
	if len(list) != 1 || list[0].ID != m.ID {
		t.Errorf("list %+v", list)
	}
	if m = want[keystile.Member](t, n.call(n.admin, "PATCH", "/v1/members/"+m.ID, `{"role": "viewer"}`), http.StatusOK); m.Role != "viewer" {
		t.Errorf("member %+v", m)
	}
	// Who may invite and does not hold a role's permissions cannot give it.
	_, host := n.role("host", "api.member.*", "ip.lookup")
	wantProblem(t, n.call(host, "POST", path, `{"person": {"name": "Eve"}, "role": "server"}`), http.StatusForbidden, keystile.CodeExceedsAuthority)
	wantProblem(t, n.call(host, "POST", path, `{"person": {"name": "Eve"}, "role": "admin"}`), http.StatusForbidden, keystile.CodeInsufficientPermission)
	developer := n.server.Key(n.id, keystile.CreateKey{Name: "d", Role: "developer"}).Secret
	wantProblem(t, n.call(developer, "POST", path, `{"person": {"name": "Eve"}, "role": "viewer"}`), http.StatusForbidden, keystile.CodeInsufficientPermission)
	if r := n.call(n.admin, "DELETE", "/v1/members/"+m.ID, nil); r.status != http.StatusNoContent {
		t.Errorf("delete: %s", r)
	}
	wantProblem(t, n.call(n.admin, "GET", "/v1/members/"+m.ID, nil), http.StatusNotFound, keystile.CodeNotFound)
}

// Telling the members comes with events; the reason, who did it and the log
// of use are here.
func ipawareCompromise(t *testing.T, n *tenant) {
	key := n.create(keystile.CreateKey{Name: "Leaked"})
	n.me(key.Secret, "203.0.113.66")
	n.used(key.Key.ID)
	n.revoke(key.Key.ID, keystile.RevokeKey{Reason: keystile.ReasonExposureSuspected})
	n.refused(key.Secret, keystile.CodeRevoked)
	if k := n.show(key.Key.ID); k.RevokedReason != "exposure_suspected" || k.RevokedBy == nil || k.RevokedBy.Name != "Admin" {
		t.Errorf("key %+v", k)
	}
	if e := n.audited(key.Key.ID, "key.revoked"); e.Reason != "exposure_suspected" {
		t.Errorf("audit entry %+v", e)
	}
	if a := n.alerted(key.Key.ID, keystile.AlertKeyExposed, "", true); a.KeyName != "Leaked" || a.ClosedAt != nil {
		t.Errorf("alert %+v", a)
	}
	// Whoever goes on with it is told of, by address.
	n.meWith(n.present(key.Secret), "203.0.113.99")
	if a := n.alerted(key.Key.ID, keystile.AlertKeyStillTried, "", true); len(a.Sources) == 0 {
		t.Errorf("alert %+v", a)
	}
	u := n.usage("?key=" + key.Key.ID)
	if !slices.ContainsFunc(u.Sources, func(s keystile.KeySource) bool { return s.Address == "203.0.113.66" && s.Code == keystile.CodeValid }) {
		t.Errorf("the log of use: %+v", u)
	}
}

func ipawareReview(t *testing.T, n *tenant) {
	key := n.create(keystile.CreateKey{Name: "Quarterly"})
	if due := key.Key.ReviewDue; due == nil || !due.Equal(key.Key.CreatedAt.Add(90*day)) {
		t.Fatalf("a new key's review is due %v", due)
	}
	n.created(key.Key.ID, 100*day)
	if due := n.show(key.Key.ID).ReviewDue; due == nil || due.After(time.Now()) {
		t.Fatalf("an old key's review is due %v", due)
	}
	k := want[keystile.Key](t, n.call(n.admin, "POST", "/v1/keys/"+key.Key.ID+"/review", nil), http.StatusOK)
	if k.ReviewedAt == nil || time.Since(*k.ReviewedAt) > time.Minute || k.ReviewedBy == nil || k.ReviewedBy.Name != "Admin" ||
		k.ReviewDue == nil || !k.ReviewDue.Equal(k.ReviewedAt.Add(90*day)) {
		t.Errorf("reviewed: %+v", k)
	}
	if e := n.audited(key.Key.ID, "key.reviewed"); e.Actor.Name != "Admin" {
		t.Errorf("audit entry %+v", e)
	}
}
