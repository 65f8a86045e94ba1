package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/keystiletest"
)

// permit is one row of the table of who may do what.
type permit struct {
	needs []string // all of them, in the order in which they are asked for
	roles string   // the built-in roles that may, in their own workspace
	body  any
	// spends tells that a success uses the object up, so that each needs its own.
	spends bool
	// anyone with a valid key may, whatever its role.
	anyone bool
}

// permits says for every operation of the API who may do it. It is written
// down here a second time on purpose: a change of the rules must show.
func permits() map[string]permit {
	p := func(needs, roles string, body any) permit {
		return permit{needs: strings.Fields(needs), roles: roles, body: body}
	}
	spent := func(needs, roles string, body any) permit {
		row := p(needs, roles, body)
		row.spends = true
		return row
	}
	const (
		all       = "admin developer viewer"
		developer = "admin developer"
		admin     = "admin"
		none      = ""
	)
	unknown := map[string]string{"key": "ks_unknown"}
	return map[string]permit{
		"verify":      p("api.key.verify", developer, unknown),
		"verifyBatch": p("api.key.verify", developer, map[string]any{"requests": []any{unknown}}),
		"forwardAuth": {anyone: true},
		"me":          {anyone: true},
		"listPlans":   {anyone: true},

		"listKeys":   p("api.key.view", all, nil),
		"createKey":  p("api.key.create", developer, map[string]string{"name": "Made"}),
		"showKey":    p("api.key.view", all, nil),
		"updateKey":  p("api.key.update", developer, map[string]string{"name": "Renamed"}),
		"deleteKey":  spent("api.key.delete", developer, nil),
		"revokeKey":  spent("api.key.delete", developer, nil),
		"disableKey": p("api.key.update", developer, nil),
		"enableKey":  p("api.key.update", developer, nil),
		"rotateKey":  spent("api.key.create api.key.delete", developer, nil),
		"reviewKey":  p("api.key.update", developer, nil),

		"listWebhookSecrets":  p("api.webhook_secret.view", all, nil),
		"createWebhookSecret": p("api.webhook_secret.create", developer, map[string]string{"label": "Made", "environment": "staging"}),
		"showWebhookSecret":   p("api.webhook_secret.view", all, nil),
		"updateWebhookSecret": p("api.webhook_secret.update", developer, map[string]string{"label": "Renamed"}),
		"deleteWebhookSecret": spent("api.webhook_secret.delete", developer, nil),
		"revokeWebhookSecret": spent("api.webhook_secret.delete", developer, nil),
		"rotateWebhookSecret": spent("api.webhook_secret.create api.webhook_secret.delete", developer, map[string]string{"overlap": "0s"}),
		"signWebhook":         p("api.webhook_secret.sign", developer, map[string]string{"payload": "{}", "environment": "production"}),
		"verifyWebhook":       p("api.webhook_secret.view", all, map[string]any{"payload": "{}", "headers": map[string]string{}}),

		"listWorkspaces":  p("api.workspace.view", all, nil),
		"createWorkspace": p("platform.workspace.create", none, map[string]string{"name": "Made"}),
		"showWorkspace":   p("api.workspace.view", all, nil),
		"updateWorkspace": p("api.workspace.update", admin, map[string]string{"name": "Renamed"}),
		"deleteWorkspace": spent("platform.workspace.delete", none, nil),

		"listRoles":    p("api.role.view", all, nil),
		"createRole":   p("api.role.create", admin, nil), // with a name of its own each time
		"showRole":     p("api.role.view", all, nil),
		"updateRole":   p("api.role.update", admin, map[string]string{"description": "Changed"}),
		"deleteRole":   spent("api.role.delete", admin, nil),
		"listMembers":  p("api.member.view", all, nil),
		"createMember": p("api.member.create", admin, map[string]any{"person": map[string]string{"name": "Ada"}, "role": "service"}),
		"showMember":   p("api.member.view", all, nil),
		"updateMember": p("api.member.update", admin, map[string]string{"role": "service"}),
		"deleteMember": spent("api.member.delete", admin, nil),

		"listEndpoints":     p("api.endpoint.view", all, nil),
		"createEndpoint":    p("api.endpoint.create api.key.view", developer, map[string]any{"url": "https://example.com/x", "event_types": []string{"key.*"}}),
		"showEndpoint":      p("api.endpoint.view", all, nil),
		"updateEndpoint":    p("api.endpoint.update", developer, map[string]string{"description": "Changed"}),
		"deleteEndpoint":    spent("api.endpoint.delete", developer, nil),
		"pauseEndpoint":     p("api.endpoint.update", developer, nil),
		"resumeEndpoint":    p("api.endpoint.update", developer, nil),
		"testEndpoint":      p("api.endpoint.update", developer, nil),
		"replayEvents":      p("api.endpoint.update", developer, map[string]string{"since": "2026-01-02T03:04:05Z"}),
		"listDeliveries":    p("api.endpoint.view", all, nil),
		"showDelivery":      p("api.endpoint.view", all, nil),
		"retryDelivery":     p("api.endpoint.update", developer, nil),
		"testWebhookSecret": p("api.webhook_secret.sign", developer, map[string]string{"url": "https://192.0.2.1/"}), // nobody's address
		"listEventTypes":    {anyone: true},

		"createPortalSession": p("platform.portal", none, map[string]any{"person": map[string]string{"subject": "user-1"}, "role": "service"}),

		"listNodes": p("platform.nodes", none, nil),

		"listUsage":  p("api.usage.view", all, nil),
		"listAudit":  p("api.audit.view", all, nil),
		"listAlerts": p("api.usage.view", all, nil),
		"seeAlert":   p("api.key.update api.usage.view", developer, nil),
	}
}

// operation is one of the OpenAPI document.
type operation struct {
	id, method, path string
	success          int
}

// operations reads what the server itself says it can do.
func operations(t testing.TB, s *keystiletest.Server) []operation {
	t.Helper()
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string                     `json:"operationId"`
			Responses   map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
	}
	a := call(t, s, "", "GET", "/openapi.json", nil)
	if err := json.Unmarshal(a.body, &document); err != nil {
		t.Fatal(err)
	}
	var out []operation
	for path, methods := range document.Paths {
		for method, o := range methods {
			op := operation{id: o.OperationID, method: strings.ToUpper(method), path: path}
			for status := range o.Responses {
				if status != "default" {
					_, _ = fmt.Sscan(status, &op.success)
				}
			}
			out = append(out, op)
		}
	}
	slices.SortFunc(out, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return out
}

// TestEveryRouteAsksForItsPermission is the table of P4 and IP7: every
// operation, every role, and objects of one's own, of another tenant, absent
// ones and what is no ID at all.
func TestEveryRouteAsksForItsPermission(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	table := permits()
	ops := operations(t, h.Server)
	for _, op := range ops {
		if _, ok := table[op.id]; !ok {
			t.Fatalf("%s %s (%s) has no row in the table of who may do what", op.method, op.path, op.id)
		}
	}
	if len(ops) != len(table) {
		t.Fatalf("%d operations and %d rows", len(ops), len(table))
	}

	own, foreign := h.workspace(), h.workspace()
	for _, ws := range []string{own, foreign, operatorWorkspace} {
		h.webhookSecret(ws, "production") // to sign with
	}
	type who struct {
		name, secret string
		home         string // workspace that is its own
		role         string // built-in role
		permissions  []string
	}
	actors := []who{
		{name: "operator", secret: h.OperatorKey, home: own},
		{name: "verifier", secret: h.key(operatorWorkspace, "verifier").Secret, home: operatorWorkspace},
		{name: "admin of the operator's workspace", secret: h.key(operatorWorkspace, "admin").Secret, home: operatorWorkspace, role: "admin"},
		{name: "product permissions alone", secret: h.actor(own, "*"), home: own},
	}
	for _, role := range []string{"admin", "developer", "viewer", "service"} {
		actors = append(actors, who{name: role, secret: h.key(own, role).Secret, home: own, role: role})
	}
	for _, info := range profile.ManagementPermissions() {
		actors = append(actors, who{name: "only " + info.Name, secret: h.actor(own, "*", info.Name), home: own, permissions: []string{info.Name}})
	}

	// objects of each kind, made anew when they have been used up.
	objects := map[string]string{}
	object := func(ws, kind string, spent bool) string {
		id, ok := objects[ws+kind]
		if ok && !spent {
			return id
		}
		switch kind {
		case "workspaces":
			id = ws
			if spent {
				id = h.workspace()
			}
		case "keys":
			id = h.key(ws, "service").Key.ID
		case "roles":
			id = h.role(ws, "read").ID
		case "members":
			id = h.member(ws, "service").ID
		case "webhook-secrets":
			id = h.webhookSecret(ws, "development").WebhookSecret.ID
		case "endpoints":
			id = h.endpoint(ws, "key.created").Endpoint.ID
		case "deliveries":
			id = h.delivery(ws).ID
		case "alerts":
			id = h.alert(ws).ID
		}
		if !spent {
			objects[ws+kind] = id
		}
		return id
	}
	absent := map[string][]string{}
	for kind, prefix := range map[string]string{"workspaces": "ws_", "keys": "key_", "roles": "role_", "members": "mem_", "webhook-secrets": "whs_", "endpoints": "ep_", "deliveries": "dlv_", "alerts": "al_"} {
		valid := object(own, kind, false)
		gone := valid[:len(valid)-8] + "00000000" // well formed, and never given out
		absent[kind] = []string{
			gone, "x", "%00", "%2e%2e", "%ff%fe", "..%2f" + valid, valid + "x", strings.ToUpper(valid), prefix,
			strings.Repeat("a", 65), strings.Repeat("key_", 300), "%27%20OR%201=1--",
		}
	}
	absent["keys"] = append(absent["keys"], object(own, "roles", false), own)
	absent["roles"] = append(absent["roles"], "role_nobody", "role_", object(own, "keys", false))

	requestID := regexp.MustCompile(`,"request_id":"[0-9a-f]+"`)
	var notFound string
	checkNotFound := func(t *testing.T, a answer) {
		t.Helper()
		wantProblem(t, a, 404, keystile.CodeNotFound)
		header := a.header.Clone()
		header.Del("Date")
		header.Del("X-Request-Id")
		text := requestID.ReplaceAllString(string(a.body), "") + fmt.Sprint(header)
		if notFound == "" {
			notFound = text
		}
		if text != notFound {
			t.Errorf("this 404 can be told from others:\n%s\n%s", text, notFound)
		}
	}
	kinds := regexp.MustCompile(`^/v1/([a-z-]+)/\{id\}`)
	for _, op := range ops {
		row := table[op.id]
		kind := ""
		if m := kinds.FindStringSubmatch(op.path); m != nil {
			kind = m[1]
		}
		send := func(t *testing.T, a who, id string) answer {
			body := row.body
			if op.id == "createRole" {
				body = map[string]any{"name": h.name("Made"), "permissions": []string{"read"}}
			}
			path := strings.Replace(op.path, "{id}", id, 1)
			if op.id == "forwardAuth" {
				ws := a.home
				if a.name == "operator" {
					ws = "ws_operator"
				}
				path += "?workspace=" + ws // without it the operator's keys are refused
			}
			return call(t, h.Server, a.secret, op.method, path, body)
		}
		t.Run(op.id, func(t *testing.T) {
			h.t = t
			wantProblem(t, call(t, h.Server, "", op.method, strings.Replace(op.path, "{id}", "x", 1), row.body), 401, keystile.CodeMissingCredential)
			for _, a := range actors {
				missing := ""
				for _, p := range row.needs {
					if !slices.Contains(a.permissions, p) {
						missing = p
						break
					}
				}
				if a.role != "" && strings.Contains(" "+row.roles+" ", " "+a.role+" ") || row.anyone || a.name == "operator" {
					missing = ""
				}
				if a.name == "verifier" && kind == "" && strings.HasPrefix(op.id, "verify") {
					missing = ""
				}
				t.Run(a.name, func(t *testing.T) {
					h.t = t
					id := ""
					if kind != "" {
						id = object(a.home, kind, row.spends && missing == "")
					}
					got := send(t, a, id)
					if missing == "" {
						if got.status != op.success {
							t.Errorf("may, and got %d: %s", got.status, got)
						}
					} else if e := wantProblem(t, got, 403, keystile.CodeInsufficientPermission); e.Permission != missing {
						t.Errorf("names the permission %q, want %q", e.Permission, missing)
					}
					if kind == "" {
						return
					}
					id = object(foreign, kind, row.spends && a.name == "operator")
					if got := send(t, a, id); a.name != "operator" {
						checkNotFound(t, got)
					} else if got.status != op.success {
						t.Errorf("the operator got %d elsewhere: %s", got.status, got)
					}
					for _, id := range absent[kind] {
						checkNotFound(t, send(t, a, id))
					}
				})
			}
		})
	}
	if notFound == "" {
		t.Fatal("no 404 was seen")
	}
}

// TestBuiltInRoles: they can be seen and never changed, and the operator's are
// not there for anyone else.
func TestBuiltInRoles(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	admin := h.key(h.Workspace, "admin").Secret
	for _, id := range []string{"role_admin", "role_developer", "role_viewer", "role_service"} {
		want[keystile.Role](t, call(t, h.Server, admin, "GET", "/v1/roles/"+id, nil), 200)
		wantProblem(t, call(t, h.Server, admin, "PATCH", "/v1/roles/"+id, map[string]any{"permissions": []string{"read"}}), 409, keystile.CodeConflict)
		wantProblem(t, call(t, h.Server, admin, "DELETE", "/v1/roles/"+id, nil), 409, keystile.CodeConflict)
	}
	for _, id := range []string{"role_operator", "role_verifier"} {
		for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodDelete} {
			wantProblem(t, call(t, h.Server, admin, method, "/v1/roles/"+id, map[string]any{"description": "x"}), 404, keystile.CodeNotFound)
		}
	}
	for _, r := range want[keystile.List[keystile.Role]](t, call(t, h.Server, admin, "GET", "/v1/workspaces/"+h.Workspace+"/roles", nil), 200).Data {
		if len(r.Permissions) == 0 || strings.HasPrefix(strings.Join(r.Permissions, " "), "platform.") {
			t.Errorf("a tenant is shown %v", r)
		}
	}
}

// TestOperatorKeyIsNoCustomers: a key of the operator's workspace carries every
// permission of the product, and lets nobody into the product.
func TestOperatorKeyIsNoCustomers(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	key := s.OperatorKey
	d := want[keystile.Decision](t, call(t, s, key, "POST", "/v1/verify", keystile.VerifyRequest{Key: key}), 200)
	if d.Valid || d.Code != keystile.CodeWrongWorkspace {
		t.Errorf("verify: %+v", d)
	}
	batch := want[keystile.DecisionBatch](t, call(t, s, key, "POST", "/v1/verify/batch", keystile.VerifyBatch{Requests: []keystile.VerifyRequest{
		{Key: key}, {Key: key, Workspace: "ws_operator"},
	}}), 200).Decisions
	if len(batch) != 2 || batch[0].Code != keystile.CodeWrongWorkspace || !batch[1].Valid {
		t.Errorf("batch: %+v", batch)
	}
	wantProblem(t, call(t, s, key, "GET", "/v1/forward-auth", nil), 403, keystile.CodeWrongWorkspace)
	if a := call(t, s, key, "GET", "/v1/forward-auth?workspace=ws_operator", nil); a.status != 200 {
		t.Errorf("forward-auth that names the workspace: %s", a)
	}
	if self := want[keystile.Self](t, call(t, s, key, "GET", "/v1/me", nil), 200); !self.Valid {
		t.Errorf("me: %+v", self)
	}
}

// TestUnknownPermissionIsRefused: a misspelt permission is not one that every
// key with "*" carries.
func TestUnknownPermissionIsRefused(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	key := s.Key(s.Workspace, keystile.CreateKey{Name: "Wide", Role: "admin"}).Secret
	for _, c := range []struct{ permission, near string }{{"raed", "read"}, {"api.key.veiw", "api.key.view"}, {"no.such.thing", ""}, {"wrong.*", ""}} {
		q := keystile.VerifyRequest{Key: key, Permission: c.permission}
		good := keystile.VerifyRequest{Key: key, Permission: "read"}
		e := wantProblem(t, call(t, s, key, "POST", "/v1/verify", q), 422, keystile.CodeInvalidField)
		f := wantProblem(t, call(t, s, key, "POST", "/v1/verify/batch", keystile.VerifyBatch{Requests: []keystile.VerifyRequest{good, q}}), 422, keystile.CodeInvalidField)
		g := wantProblem(t, call(t, s, key, "GET", "/v1/forward-auth?permission="+c.permission, nil), 403, keystile.CodeInvalidField)
		for at, e := range map[string]keystile.Error{"body.permission": e, "body.requests[1].permission": f} {
			if len(e.Fields) != 1 || e.Fields[0].Field != at {
				t.Errorf("%s: %+v", c.permission, e)
			}
		}
		for _, e := range []keystile.Error{e, f, g} {
			if strings.HasSuffix(e.Detail, "?") != (c.near != "") || !strings.Contains(e.Detail, c.near) {
				t.Errorf("%s: %+v", c.permission, e)
			}
		}
	}
	for _, p := range []string{"", "read", "api.key.view", "api.*"} {
		if d := want[keystile.Decision](t, call(t, s, key, "POST", "/v1/verify", keystile.VerifyRequest{Key: key, Permission: p}), 200); !d.Valid {
			t.Errorf("%q: %+v", p, d)
		}
	}
}
