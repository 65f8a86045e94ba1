package api_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// attempt is something that could hand out more than the actor holds, tried
// by an actor who lacks a part and by one who has it all.
type attempt struct {
	name string
	// lacks and holds are the permissions of the two actors. A last "@" binds
	// the actor's key to addresses.
	lacks, holds string
	// code and permission are the refusal of the first.
	code       keystile.Code
	permission string
	// act prepares the objects and returns the request to send.
	act func(h *house, ws string) (method, path string, body any)
}

// exceeds is the refusal of handing out more than one holds.
const exceeds = keystile.CodeExceedsAuthority

func attempts() []attempt {
	type m = map[string]any
	everything := "* api.*"
	grant := func(name, lacks string, act func(h *house, ws string) (string, string, any)) attempt {
		return attempt{name, lacks, everything, keystile.CodeInsufficientPermission, "api.key.grant", act}
	}
	create := func(body m) func(*house, string) (string, string, any) {
		return func(_ *house, ws string) (string, string, any) {
			body["name"] = "Made"
			return "POST", "/v1/workspaces/" + ws + "/keys", body
		}
	}
	// on prepares a key and sends something to its path.
	on := func(key keystile.CreateKey, method, verb string, body any) func(*house, string) (string, string, any) {
		return func(h *house, ws string) (string, string, any) {
			key.Name = "Target"
			return method, "/v1/keys/" + h.Key(ws, key).Key.ID + verb, body
		}
	}
	disabled := func(key keystile.CreateKey) func(*house, string) (string, string, any) {
		return func(h *house, ws string) (string, string, any) {
			key.Name = "Target"
			id := h.Key(ws, key).Key.ID
			want[keystile.Key](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/keys/"+id+"/disable", nil), 200)
			return "POST", "/v1/keys/" + id + "/enable", nil
		}
	}
	// rotated prepares a key with a replacement, and revokes that with rollback.
	rotated := func(key keystile.CreateKey) func(*house, string) (string, string, any) {
		return func(h *house, ws string) (string, string, any) {
			key.Name = "Target"
			id := h.Key(ws, key).Key.ID
			fresh := want[keystile.CreatedKey](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/keys/"+id+"/rotate", m{"overlap": "1h"}), 201)
			return "POST", "/v1/keys/" + fresh.Key.ID + "/revoke", m{"rollback": true}
		}
	}
	role := func(permissions []string, body m) func(*house, string) (string, string, any) {
		return func(h *house, ws string) (string, string, any) {
			return "PATCH", "/v1/roles/" + h.role(ws, permissions...).ID, body
		}
	}
	newRole := func(permissions ...string) func(*house, string) (string, string, any) {
		return func(h *house, ws string) (string, string, any) {
			return "POST", "/v1/workspaces/" + ws + "/roles", m{"name": h.name("Made"), "permissions": permissions}
		}
	}
	invite := func(role string) func(*house, string) (string, string, any) {
		return func(_ *house, ws string) (string, string, any) {
			return "POST", "/v1/workspaces/" + ws + "/members", m{"person": m{"name": "Ada"}, "role": role}
		}
	}
	member := func(held, given string) func(*house, string) (string, string, any) {
		return func(h *house, ws string) (string, string, any) {
			return "PATCH", "/v1/members/" + h.member(ws, held).ID, m{"role": given}
		}
	}
	remove := func(held string) func(*house, string) (string, string, any) {
		return func(h *house, ws string) (string, string, any) {
			return "DELETE", "/v1/members/" + h.member(ws, held).ID, nil
		}
	}
	here := []string{"127.0.0.1"}
	service, admin := keystile.CreateKey{}, keystile.CreateKey{Role: "admin"}
	narrowed := keystile.CreateKey{Permissions: keystile.Permissions{"read"}}
	narrowedAdmin := keystile.CreateKey{Role: "admin", Permissions: keystile.Permissions{"read"}}
	listed := keystile.CreateKey{IPAllowlist: here}
	const bothRotate = " api.key.create api.key.delete"

	return []attempt{
		{"create a key of the default role", "read api.key.create", "* api.key.create", exceeds, "", create(m{})},
		{"create a key with a wildcard", "read write api.key.create", "* api.key.create", exceeds, "", create(m{"permissions": []string{"*"}})},
		{"create an admin's key with a part of the grant", "* api.key.create api.key.grant", everything, exceeds, "", create(m{"role": "admin"})},
		{"create a viewer's key with other management permissions", "* api.key.create api.key.grant", everything, exceeds, "", create(m{"role": "viewer"})},
		{"create an admin's key as a developer", "* api.key.* api.webhook_secret.* api.endpoint.*", everything, exceeds, "", create(m{"role": "admin"})},
		grant("create an admin's key without the grant", "* api.key.create", create(m{"role": "admin"})),
		grant("create a narrowed key that manages without the grant", "* api.key.create api.key.view",
			create(m{"role": "admin", "permissions": []string{"api.key.view"}})),
		{"create a key without an allowlist from a key with one", everything + " @", everything, exceeds, "", create(m{})},
		{"create a key with a wider allowlist", everything + " @", everything, exceeds, "", create(m{"ip_allowlist": []string{"126.0.0.0/7"}})},
		{"create a key with one more address", everything + " @", everything, exceeds, "", create(m{"ip_allowlist": []string{"127.0.0.1", "10.0.0.1"}})},
		{"create a key for all of the other protocol", everything + " @", everything, exceeds, "", create(m{"ip_allowlist": []string{"::/0"}})},
		{"import a key", everything, "", keystile.CodeInsufficientPermission, "platform.key.import",
			create(m{"sha256": strings.Repeat("ab", 32)})},

		{"rotate a key", "read" + bothRotate, "*" + bothRotate, exceeds, "", on(service, "POST", "/rotate", nil)},
		{"rotate without creating", "* api.key.delete", "*" + bothRotate, keystile.CodeInsufficientPermission, "api.key.create", on(service, "POST", "/rotate", nil)},
		{"rotate without deleting", "* api.key.create", "*" + bothRotate, keystile.CodeInsufficientPermission, "api.key.delete", on(service, "POST", "/rotate", nil)},
		grant("rotate an admin's key", "*"+bothRotate, on(admin, "POST", "/rotate", nil)),
		{"rotate a key without an allowlist from a key with one", everything + " @", everything, exceeds, "", on(service, "POST", "/rotate", nil)},

		{"enable a key", "read api.key.update", "* api.key.update", exceeds, "", disabled(service)},
		grant("enable an admin's key", "* api.key.update", disabled(admin)),
		{"enable a key without an allowlist from a key with one", everything + " @", everything, exceeds, "", disabled(service)},

		{"give a key a role", "read api.key.update", "* api.key.update", exceeds, "", func(h *house, ws string) (string, string, any) {
			return "PATCH", "/v1/keys/" + h.key(ws, h.role(ws, "read").ID).Key.ID, m{"role": "service"}
		}},
		{"take a key out of a role", "read api.key.update", "* api.key.update", exceeds, "", func(h *house, ws string) (string, string, any) {
			return "PATCH", "/v1/keys/" + h.key(ws, "service").Key.ID, m{"role": h.role(ws, "read").Name}
		}},
		grant("make a key an admin's", "* api.key.update", on(service, "PATCH", "", m{"role": "admin"})),
		grant("make an admin's key a service's", "* api.key.update", on(admin, "PATCH", "", m{"role": "service"})),
		{"re-role without the allowlist of one's own", everything + " @", everything, exceeds, "", on(service, "PATCH", "", m{"role": "viewer"})},
		{"widen a key's permissions", "read api.key.update", "* api.key.update", exceeds, "", on(narrowed, "PATCH", "", m{"permissions": []string{"read", "write"}})},
		{"give a key its whole role", "read api.key.update", "* api.key.update", exceeds, "", on(narrowed, "PATCH", "", m{"whole_role": true})},
		grant("give a key all of admin's", "* api.key.update", on(narrowedAdmin, "PATCH", "", m{"whole_role": true})),
		{"re-role and narrow at once", "read api.key.update", "* api.key.update", exceeds, "",
			on(service, "PATCH", "", m{"role": "service", "permissions": []string{"write"}})},

		{"take a key's allowlist away", "read api.key.update", "* api.key.update", exceeds, "", on(listed, "PATCH", "", m{"ip_allowlist": []string{}})},
		{"widen a key's allowlist", "read api.key.update", "* api.key.update", exceeds, "", on(listed, "PATCH", "", m{"ip_allowlist": []string{"127.0.0.0/24"}})},
		{"add to a key's allowlist", "read api.key.update", "* api.key.update", exceeds, "", on(listed, "PATCH", "", m{"ip_allowlist": []string{"127.0.0.1", "127.0.0.2"}})},
		{"take an allowlist away that binds oneself too", everything + " @", everything, exceeds, "", on(listed, "PATCH", "", m{"ip_allowlist": []string{}})},
		{"widen a workspace's allowlist beyond one's own", everything + " @", everything, exceeds, "", func(h *house, ws string) (string, string, any) {
			want[keystile.Workspace](h.t, call(h.t, h.Server, h.OperatorKey, "PATCH", "/v1/workspaces/"+ws, m{"ip_allowlist": []string{"127.0.0.0/8"}}), 200)
			return "PATCH", "/v1/workspaces/" + ws, m{"ip_allowlist": []string{}}
		}},

		grant("rename an admin's key", "* api.key.update", on(admin, "PATCH", "", m{"name": "Mine"})),
		grant("disable an admin's key", "* api.key.update", on(admin, "POST", "/disable", nil)),
		grant("review an admin's key", "* api.key.update", on(admin, "POST", "/review", nil)),
		grant("revoke an admin's key", "* api.key.delete", on(admin, "POST", "/revoke", nil)),
		grant("delete an admin's key", "* api.key.delete", on(admin, "DELETE", "", nil)),

		{"roll a rotation back without creating", "* api.key.delete", "*" + bothRotate, keystile.CodeInsufficientPermission, "api.key.create", rotated(service)},
		{"roll a rotation back", "read" + bothRotate, "*" + bothRotate, exceeds, "", rotated(service)},
		{"roll a rotation back from fewer addresses", everything + " @", everything, exceeds, "", rotated(service)},

		{"create a role of more", "read api.role.create", "* api.role.create", exceeds, "", newRole("write")},
		{"create a role with a wildcard", "read write api.role.create", "* api.role.create", exceeds, "", newRole("*")},
		grant("create a role that manages", "* api.role.create", newRole("api.role.create")),
		{"create a role of all management", "* api.role.* api.key.*", everything, exceeds, "", newRole("api.*")},
		{"add to a role", "read api.role.update", "* api.role.update", exceeds, "", role([]string{"read"}, m{"permissions": []string{"read", "write"}})},
		{"take from a role of more", "read api.role.update", "* api.role.update", exceeds, "", role([]string{"read", "write"}, m{"permissions": []string{"read"}})},
		{"rename a role of more", "read api.role.update", "* api.role.update", exceeds, "", role([]string{"write"}, m{"name": "Mine"})},
		grant("let a role manage", "* api.role.update api.key.view", role([]string{"read"}, m{"permissions": []string{"read", "api.key.view"}})),
		{"delete a role of more", "read api.role.delete", "* api.role.delete", exceeds, "", func(h *house, ws string) (string, string, any) {
			return "DELETE", "/v1/roles/" + h.role(ws, "write").ID, nil
		}},
		{"add to a role, whose keys know no addresses, from a key that does", everything + " @", everything, exceeds, "",
			role([]string{"read"}, m{"permissions": []string{"read", "write"}})},

		{"invite someone with more", "read api.member.create", "* api.member.create", exceeds, "", invite("service")},
		grant("invite an admin", "* api.member.create", invite("admin")),
		{"invite an admin as a developer", "* api.key.* api.member.*", everything, exceeds, "", invite("admin")},
		{"invite someone, who signs in from anywhere, from a key with addresses", everything + " @", everything, exceeds, "", invite("viewer")},
		{"give a member more", "read api.member.update", "* api.member.update", exceeds, "", func(h *house, ws string) (string, string, any) {
			return "PATCH", "/v1/members/" + h.member(ws, h.role(ws, "read").ID).ID, m{"role": "service"}
		}},
		{"take from a member of more", "* api.member.update api.key.grant", everything, exceeds, "", member("admin", "service")},
		{"remove a member of more", "read api.member.delete", "* api.member.delete", exceeds, "", remove("service")},
		grant("remove an admin", "* api.member.delete", remove("admin")),
		{"remove an admin as a developer", "* api.key.* api.member.*", everything, exceeds, "", remove("admin")},
		grant("make a member an admin", "* api.member.update", member("service", "admin")),
		{"give a member more from a key with addresses", everything + " @", everything, exceeds, "", member("service", "admin")},

		{"change the plan", everything, "", keystile.CodeInsufficientPermission, "platform.workspace.update", func(_ *house, ws string) (string, string, any) {
			return "PATCH", "/v1/workspaces/" + ws, m{"plan": "standard"}
		}},
		{"suspend", everything, "", keystile.CodeInsufficientPermission, "platform.workspace.suspend", func(_ *house, ws string) (string, string, any) {
			return "PATCH", "/v1/workspaces/" + ws, m{"suspended": true}
		}},
		{"resume", everything, "", keystile.CodeInsufficientPermission, "platform.workspace.suspend", func(_ *house, ws string) (string, string, any) {
			return "PATCH", "/v1/workspaces/" + ws, m{"suspended": false}
		}},
	}
}

// actorOf makes an actor from the text of an attempt.
func actorOf(h *house, ws, held string) string {
	h.t.Helper()
	if held == "" {
		return h.OperatorKey
	}
	if held, ok := strings.CutSuffix(held, " @"); ok {
		return h.bound(ws, strings.Fields(held)...)
	}
	return h.actor(ws, strings.Fields(held)...)
}

// TestNobodyHandsOutMoreThanTheyHold is IP6: every verb that could, by an
// actor who lacks something, and by one who holds it all.
func TestNobodyHandsOutMoreThanTheyHold(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	for _, a := range attempts() {
		t.Run(a.name, func(t *testing.T) {
			h := newHouse(t, s)
			ws := h.workspace()
			method, path, body := a.act(h, ws)
			before := h.audit(ws, "")
			e := wantProblem(t, call(t, s, actorOf(h, ws, a.lacks), method, path, body), 403, a.code)
			if e.Permission != a.permission {
				t.Errorf("it names the permission %q, want %q", e.Permission, a.permission)
			}
			if after := h.audit(ws, ""); len(after) > len(before)+2 { // the actor's own role and key
				t.Errorf("what was refused left traces: %v", actions(after))
			}
			ws = h.workspace()
			method, path, body = a.act(h, ws)
			if got := call(t, s, actorOf(h, ws, a.holds), method, path, body); got.status >= 300 {
				t.Errorf("who holds it all got %d: %s", got.status, got)
			}
		})
	}
}

// TestRolesOfThePlatformStayWithTheOperator: nobody else has them, under any name.
func TestRolesOfThePlatformStayWithTheOperator(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	ws := h.workspace()
	admin := h.key(ws, "admin").Secret
	type m = map[string]any
	for _, secret := range []string{h.OperatorKey, admin} {
		for _, role := range []string{"operator", "verifier", "role_operator", "role_verifier", "OPERATOR", "platform.access"} {
			e := wantProblem(t, call(t, h.Server, secret, "POST", "/v1/workspaces/"+ws+"/keys", m{"name": "x", "role": role}), 422, keystile.CodeInvalidField)
			same(t, "field", e.Fields[0].Field, "body.role")
			wantProblem(t, call(t, h.Server, secret, "POST", "/v1/workspaces/"+ws+"/members", m{"person": m{"name": "x"}, "role": role}), 422, keystile.CodeInvalidField)
			key := h.key(ws, "service").Key.ID
			wantProblem(t, call(t, h.Server, secret, "PATCH", "/v1/keys/"+key, m{"role": role}), 422, keystile.CodeInvalidField)
		}
		for _, name := range []string{"operator", "verifier", "Operator", "admin", "ADMIN", " viewer ", "service"} {
			wantProblem(t, call(t, h.Server, secret, "POST", "/v1/workspaces/"+ws+"/roles", m{"name": name, "permissions": []string{"read"}}), 409, keystile.CodeNameTaken)
		}
		for _, name := range []string{"role_operator", "ROLE_x", "role_0gvs7sk6j8o4gnum1nop2rmd0", "../operator", "a\u202eb", "", " ", "a\tb", strings.Repeat("x", 65)} {
			wantProblem(t, call(t, h.Server, secret, "POST", "/v1/workspaces/"+ws+"/roles", m{"name": name, "permissions": []string{"read"}}), 422, keystile.CodeInvalidField)
		}
		for _, permission := range []string{
			"platform.access", "platform.*", "platform.verify", "platform.workspace.*", "", "api", "api.", "api.nothing", "api.key.*.*",
			"**", "*.*", "a*", "api*", "API.key.view", " read", "read ", "rea", "read.*", "platform", "platform.", "api.key.view\x00", "nothing",
		} {
			wantProblem(t, call(t, h.Server, secret, "POST", "/v1/workspaces/"+ws+"/roles", m{"name": h.name("R"), "permissions": []string{permission}}), 422, keystile.CodeInvalidField)
			wantProblem(t, call(t, h.Server, secret, "PATCH", "/v1/roles/"+h.role(ws, "read").ID, m{"permissions": []string{"read", permission}}), 422, keystile.CodeInvalidField)
			wantProblem(t, call(t, h.Server, secret, "POST", "/v1/workspaces/"+ws+"/keys", m{"name": "x", "role": "admin", "permissions": []string{permission}}), 422, keystile.CodeInvalidField)
		}
	}
	// The admin of the operator's workspace is not the operator.
	admin = h.key(operatorWorkspace, "admin").Secret
	wantProblem(t, call(t, h.Server, admin, "POST", "/v1/workspaces/"+operatorWorkspace+"/keys", m{"name": "x", "role": "operator"}), 403, exceeds)
	wantProblem(t, call(t, h.Server, admin, "POST", "/v1/workspaces/"+operatorWorkspace+"/keys", m{"name": "x", "role": "verifier"}), 403, exceeds)
	wantProblem(t, call(t, h.Server, admin, "POST", "/v1/workspaces/"+operatorWorkspace+"/roles", m{"name": "x", "permissions": []string{"platform.verify"}}), 422, keystile.CodeInvalidField)
	wantProblem(t, call(t, h.Server, admin, "GET", "/v1/workspaces/"+ws, nil), 404, keystile.CodeNotFound)
	operator := h.key(operatorWorkspace, "operator").Key.ID
	for _, verb := range []string{"/rotate", "/revoke", "/disable"} {
		if got := call(t, h.Server, h.key(operatorWorkspace, "developer").Secret, "POST", "/v1/keys/"+operator+verb, nil); verb == "/rotate" {
			wantProblem(t, got, 403, exceeds)
		}
	}
}

// TestManagementNeedsAccessToTheWorkspace: seeing all workspaces, or keeping
// their list, is not acting inside of them (platform.access).
func TestManagementNeedsAccessToTheWorkspace(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	ws := h.workspace()
	type m = map[string]any
	lister := h.Key(operatorWorkspace, keystile.CreateKey{
		Name: "Lister", Role: "operator", Permissions: keystile.Permissions{"*", "api.*", "platform.workspace.view"},
	}).Secret
	want[keystile.Workspace](t, call(t, h.Server, lister, "GET", "/v1/workspaces/"+ws, nil), 200)
	for _, r := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/keys", m{"name": "x"}},
		{"GET", "/keys", nil},
		{"POST", "/roles", m{"name": "x", "permissions": []string{"read"}}},
		{"GET", "/roles", nil},
		{"POST", "/members", m{"person": m{"name": "x"}, "role": "viewer"}},
		{"GET", "/members", nil},
		{"GET", "/usage", nil},
		{"GET", "/audit", nil},
	} {
		wantProblem(t, call(t, h.Server, lister, r.method, "/v1/workspaces/"+ws+r.path, r.body), 404, keystile.CodeNotFound)
	}
	// It sees the workspace, so it is told what it lacks.
	for _, body := range []m{{"name": "Mine"}, {"ip_allowlist": []string{}}, {}, {"plan": "standard"}} {
		e := wantProblem(t, call(t, h.Server, lister, "PATCH", "/v1/workspaces/"+ws, body), 403, keystile.CodeInsufficientPermission)
		same(t, "permission", e.Permission, "platform.workspace.update")
	}
	wantProblem(t, call(t, h.Server, lister, "DELETE", "/v1/workspaces/"+ws, nil), 403, keystile.CodeInsufficientPermission)
	want[keystile.Workspace](t, call(t, h.Server, lister, "PATCH", "/v1/workspaces/"+operatorWorkspace, m{"name": "Us"}), 200)
}

// TestNarrowKeyStaysNarrow: steps that are each harmless lead to nothing.
func TestNarrowKeyStaysNarrow(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	ws := h.workspace()
	type m = map[string]any
	narrow := h.Key(ws, keystile.CreateKey{Name: "Narrow", Role: "admin", Permissions: keystile.Permissions{
		"read", "api.key.*", "api.role.*", "api.member.*", "api.workspace.*",
	}})
	do := func(method, path string, body any) answer {
		return call(t, h.Server, narrow.Secret, method, path, body)
	}

	// A role within its own, a key of it, and then the role grows.
	r := want[keystile.Role](t, do("POST", "/v1/workspaces/"+ws+"/roles", m{"name": "Step", "permissions": []string{"read"}}), 201)
	k := want[keystile.CreatedKey](t, do("POST", "/v1/workspaces/"+ws+"/keys", m{"name": "x", "role": "Step"}), 201)
	wantProblem(t, do("PATCH", "/v1/roles/"+r.ID, m{"permissions": []string{"read", "write"}}), 403, exceeds)
	wantProblem(t, do("PATCH", "/v1/roles/"+r.ID, m{"permissions": []string{"*"}}), 403, exceeds)
	wantProblem(t, do("PATCH", "/v1/roles/"+r.ID, m{"permissions": []string{"read", "api.audit.view"}}), 403, exceeds)
	// A key narrowed to its own, in a role of more; then that whole role.
	big := want[keystile.CreatedKey](t, do("POST", "/v1/workspaces/"+ws+"/keys", m{"name": "x", "role": "admin", "permissions": []string{"read", "api.key.view"}}), 201)
	wantProblem(t, do("PATCH", "/v1/keys/"+big.Key.ID, m{"whole_role": true}), 403, exceeds)
	wantProblem(t, do("PATCH", "/v1/keys/"+big.Key.ID, m{"permissions": []string{"read", "write"}}), 403, exceeds)
	wantProblem(t, do("PATCH", "/v1/keys/"+big.Key.ID, m{"role": "service"}), 422, keystile.CodeInvalidField)
	// Itself.
	wantProblem(t, do("PATCH", "/v1/keys/"+narrow.Key.ID, m{"whole_role": true}), 403, exceeds)
	wantProblem(t, do("PATCH", "/v1/keys/"+narrow.Key.ID, m{"role": "admin", "whole_role": true}), 403, exceeds)
	// Through the role of someone else: the role of more, which it cannot touch.
	other := h.role(ws, "read", "write")
	wantProblem(t, do("PATCH", "/v1/roles/"+other.ID, m{"permissions": []string{"read"}}), 403, exceeds)
	// A replacement is as narrow as what it replaces.
	fresh := want[keystile.CreatedKey](t, do("POST", "/v1/keys/"+big.Key.ID+"/rotate", nil), 201)
	same(t, "permissions of the replacement", fresh.Key.Permissions, keystile.Permissions{"read", "api.key.view"})
	// Whoever really holds it widens the role, and the narrowed key stays.
	want[keystile.Role](t, call(t, h.Server, h.OperatorKey, "PATCH", "/v1/roles/"+r.ID, m{"permissions": []string{"read", "write"}}), 200)
	wantProblem(t, do("POST", "/v1/keys/"+k.Key.ID+"/rotate", nil), 403, exceeds)
	wantProblem(t, do("DELETE", "/v1/roles/"+r.ID, nil), 403, exceeds)
}

// TestKeyActsOnItself: it may end itself and may not free itself.
func TestKeyActsOnItself(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	type m = map[string]any
	ws := h.workspace()
	made := h.Key(ws, keystile.CreateKey{Name: "Me", Role: "admin", IPAllowlist: []string{"127.0.0.0/8"}})
	me := func(method, verb string, body any) answer {
		return call(t, h.Server, made.Secret, method, "/v1/keys/"+made.Key.ID+verb, body)
	}
	wantProblem(t, me("PATCH", "", m{"ip_allowlist": []string{}}), 403, exceeds)
	wantProblem(t, me("PATCH", "", m{"ip_allowlist": []string{"127.0.0.0/8", "10.0.0.0/8"}}), 403, exceeds)
	want[keystile.Key](t, me("PATCH", "", m{"ip_allowlist": []string{"127.0.0.1"}}), 200)
	end := time.Now().Add(time.Hour)
	want[keystile.Key](t, me("PATCH", "", m{"expires_at": end}), 200)
	e := wantProblem(t, me("PATCH", "", m{"expires_at": end.Add(time.Minute)}), 422, keystile.CodeInvalidField)
	same(t, "field", e.Fields[0].Field, "body.expires_at")
	fresh := want[keystile.CreatedKey](t, me("POST", "/rotate", m{"overlap": "0s"}), 201)
	same(t, "allowlist of the replacement", fresh.Key.IPAllowlist, []string{"127.0.0.1"})
	if fresh.Key.ExpiresAt == nil || fresh.Key.ExpiresAt.After(end) {
		t.Errorf("the replacement ends %v, its predecessor %v", fresh.Key.ExpiresAt, end)
	}
	wantProblem(t, me("GET", "", nil), 401, keystile.CodeRevoked)
	wantProblem(t, me("POST", "/enable", nil), 401, keystile.CodeRevoked)

	for _, verb := range []string{"revoke", "disable", "delete"} {
		made := h.key(ws, "admin")
		method, path := "POST", "/v1/keys/"+made.Key.ID+"/"+verb
		code := map[string]keystile.Code{"revoke": keystile.CodeRevoked, "disable": keystile.CodeDisabled, "delete": keystile.CodeUnknown}[verb]
		if verb == "delete" {
			method, path = "DELETE", "/v1/keys/"+made.Key.ID
		}
		if got := call(t, h.Server, made.Secret, method, path, nil); got.status >= 300 {
			t.Fatalf("%s itself: %s", verb, got)
		}
		wantProblem(t, call(t, h.Server, made.Secret, "GET", "/v1/me", nil), 401, code)
		wantProblem(t, call(t, h.Server, made.Secret, "POST", "/v1/keys/"+made.Key.ID+"/enable", nil), 401, code)
		log := h.audit(ws, made.Key.ID)
		last := log[len(log)-1]
		same(t, verb+" by", last.Actor, keystile.Party{Kind: "key", ID: made.Key.ID, Name: made.Key.Name})
	}
}

// TestImport: the operator brings keys from elsewhere by their hash.
func TestImport(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	ws := h.workspace()
	const secret = "sk_live_made_elsewhere_4711"
	sum := sha256.Sum256([]byte(secret))
	body := map[string]any{"name": "Old", "sha256": hex.EncodeToString(sum[:])}
	made := want[keystile.CreatedKey](t, call(t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+ws+"/keys", body), 201)
	if made.Secret != "" || !made.Key.Imported || strings.Contains(made.Key.Preview, "sk_") {
		t.Errorf("imported: %+v", made)
	}
	h.expect(secret, keystile.CodeValid)
	wantProblem(t, call(t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+h.workspace()+"/keys", body), 409, keystile.CodeConflict)
	for _, bad := range []string{"x", hex.EncodeToString(sum[:31]), strings.Repeat("g", 64), hex.EncodeToString(sum[:]) + "00"} {
		body["sha256"] = bad
		wantProblem(t, call(t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+ws+"/keys", body), 422, keystile.CodeInvalidField)
	}
	want[keystile.Key](t, call(t, h.Server, h.OperatorKey, "POST", "/v1/keys/"+made.Key.ID+"/revoke", nil), 200)
	h.expect(secret, keystile.CodeRevoked)
}

// TestRevokedWhileItsRequestArrives is P1 for management: a key that is taken
// away after the head of a request has come in, and before its body has, does
// nothing any more.
func TestRevokedWhileItsRequestArrives(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		type m = map[string]any
		for _, c := range []struct {
			name string
			take func(h *house, ws string, key keystile.CreatedKey) answer
			code keystile.Code
			want int
		}{
			{"revoked", func(h *house, _ string, k keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "POST", "/v1/keys/"+k.Key.ID+"/revoke", nil)
			}, keystile.CodeRevoked, 401},
			{"disabled", func(h *house, _ string, k keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "POST", "/v1/keys/"+k.Key.ID+"/disable", nil)
			}, keystile.CodeDisabled, 401},
			{"deleted", func(h *house, _ string, k keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "DELETE", "/v1/keys/"+k.Key.ID, nil)
			}, keystile.CodeUnknown, 401},
			{"suspended", func(h *house, ws string, _ keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "PATCH", "/v1/workspaces/"+ws, m{"suspended": true})
			}, keystile.CodeWorkspaceSuspended, 403},
			{"kept out", func(h *house, ws string, _ keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "PATCH", "/v1/workspaces/"+ws, m{"ip_allowlist": []string{"192.0.2.1"}})
			}, keystile.CodeIPNotAllowed, 403},
			{"bound elsewhere", func(h *house, _ string, k keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "PATCH", "/v1/keys/"+k.Key.ID, m{"ip_allowlist": []string{"192.0.2.1"}})
			}, keystile.CodeIPNotAllowed, 403},
			{"bound more", func(h *house, _ string, k keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "PATCH", "/v1/keys/"+k.Key.ID, m{"ip_allowlist": []string{"127.0.0.1", "::1"}})
			}, keystile.CodeConflict, 409},
			{"given a lesser role", func(h *house, _ string, k keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "PATCH", "/v1/keys/"+k.Key.ID, m{"role": "viewer"})
			}, keystile.CodeConflict, 409},
			{"narrowed", func(h *house, _ string, k keystile.CreatedKey) answer {
				return call(t, s, h.OperatorKey, "PATCH", "/v1/keys/"+k.Key.ID, m{"permissions": []string{"read"}})
			}, keystile.CodeConflict, 409},
		} {
			t.Run(c.name, func(t *testing.T) {
				h := newHouse(t, s)
				ws := h.workspace()
				made := h.key(ws, "admin")
				address := strings.TrimPrefix(s.URL, "http://")
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				body := `{"name":"Too late"}`
				fmt.Fprintf(conn, "POST /v1/workspaces/%s/keys HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
					"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", ws, address, made.Secret, len(body))
				// The server asks for the body: the key has been let in.
				in := bufio.NewReader(conn)
				if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
					t.Fatalf("%q, %v", line, err)
				}
				if _, err := in.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				if got := c.take(h, ws, made); got.status >= 300 {
					t.Fatal(got)
				}
				if _, err := io.WriteString(conn, body); err != nil {
					t.Fatal(err)
				}
				response, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				wantProblem(t, answer{response.StatusCode, response.Header, text}, c.want, c.code)
				keys := want[keystile.List[keystile.Key]](t, call(t, s, h.OperatorKey, "GET", "/v1/workspaces/"+ws+"/keys?q=Too+late", nil), 200)
				if len(keys.Data) != 0 {
					t.Errorf("the key that was taken away made %v", keys.Data[0])
				}
			})
		}
	})
}
