package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew") //nolint:gochecknoglobals // a flag

// golden is the description that clients outside this repository are made from.
const golden = "../../docs/openapi.json"

// TestOpenAPIGolden: the description changes only when somebody means it to.
func TestOpenAPIGolden(t *testing.T) {
	t.Parallel()
	got := call(t, keystiletest.New(t), "", "GET", "/openapi.json", nil)
	same(t, "Content-Type", got.header.Get("Content-Type"), "application/openapi+json")
	text := append(bytes.TrimSpace(got.body), '\n')
	if *update {
		if err := os.WriteFile(golden, text, 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(kept, text) {
		return
	}
	was, is := strings.Split(string(kept), "\n"), strings.Split(string(text), "\n")
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			t.Fatalf("docs/openapi.json is not what the server says, first in line %d:\n%s\n%s\nIf that is meant: go test ./internal/api -run TestOpenAPIGolden -update",
				i+1, was[i], is[i])
		}
	}
	t.Fatalf("docs/openapi.json has %d lines and the server says %d; run the test with -update if that is meant", len(was), len(is))
}

// document is the description as far as the checks look at it.
type document struct {
	OpenAPI string
	Info    struct{ Title, Version string }
	Paths   map[string]map[string]struct {
		OperationID string
		Summary     string
		Tags        []string
		Parameters  []struct {
			Name, In string
			Required bool
		}
		RequestBody *struct {
			Content map[string]json.RawMessage
		}
		Responses map[string]struct {
			Description string
			Content     map[string]struct{ Schema json.RawMessage }
		}
	}
	Components struct {
		Schemas         map[string]json.RawMessage
		SecuritySchemes map[string]json.RawMessage
	}
	Security []map[string][]string
}

// TestOpenAPIIsWhole: what OpenAPI 3.1 demands of a document, and what its
// readers need of this one.
func TestOpenAPIIsWhole(t *testing.T) {
	t.Parallel()
	text := call(t, keystiletest.New(t), "", "GET", "/openapi.json", nil).body
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Title == "" || d.Info.Version == "" || len(d.Security) == 0 {
		t.Errorf("openapi %q, info %+v, security %v", d.OpenAPI, d.Info, d.Security)
	}
	for _, one := range d.Security {
		for name := range one {
			if d.Components.SecuritySchemes[name] == nil {
				t.Errorf("there is no security scheme %s", name)
			}
		}
	}
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	refs := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				refs++
				if !resolves(whole, ref) {
					t.Errorf("nothing is at %s", ref)
				}
			}
			for _, each := range v {
				walk(each)
			}
		case []any:
			for _, each := range v {
				walk(each)
			}
		}
	}
	walk(whole)
	if refs < 20 {
		t.Errorf("only %d references were seen", refs)
	}
	ids := map[string]bool{}
	inPath := regexp.MustCompile(`\{(\w+)\}`)
	for path, methods := range d.Paths {
		for method, op := range methods {
			at := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || len(op.Tags) != 1 {
				t.Errorf("%s: %+v", at, op)
			}
			ids[op.OperationID] = true
			for _, m := range inPath.FindAllStringSubmatch(path, -1) {
				found := false
				for _, p := range op.Parameters {
					found = found || p.Name == m[1] && p.In == "path" && p.Required
				}
				if !found {
					t.Errorf("%s does not say what {%s} is", at, m[1])
				}
			}
			good := 0
			for status, r := range op.Responses {
				if r.Description == "" {
					t.Errorf("%s: %s has no description", at, status)
				}
				if status[0] == '2' {
					good++
					continue
				}
				if problem := r.Content["application/problem+json"]; len(problem.Schema) == 0 {
					t.Errorf("%s: %s is no problem of RFC 9457", at, status)
				}
			}
			if good != 1 || len(op.Responses) < 2 {
				t.Errorf("%s has %d answers for success and %d in all", at, good, len(op.Responses))
			}
		}
	}
	// One description of a problem, with all of its members.
	problems := 0
	for name, raw := range d.Components.Schemas {
		var s struct{ Properties map[string]json.RawMessage }
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Properties["fixes"]; !ok || name == "Decision" || name == "Self" || name == "WebhookVerdict" {
			continue
		}
		problems++
		for _, member := range []string{"type", "title", "status", "detail", "code", "fixes", "errors", "request_id", "permission", "hint"} {
			if s.Properties[member] == nil {
				t.Errorf("%s lacks %s", name, member)
			}
		}
	}
	if problems == 0 {
		t.Error("no description of problems")
	}
}

// resolves follows a JSON pointer inside a document.
func resolves(v any, ref string) bool {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return false
	}
	for _, name := range strings.Split(pointer, "/") {
		m, ok := v.(map[string]any)
		if !ok {
			return false
		}
		if v, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(name)]; !ok {
			return false
		}
	}
	return true
}

// described checks answers against the description that the server serves,
// with a validator that is not the one the description comes from.
type described struct {
	answers map[string]map[string]*jsonschema.Schema // by operation and status
	seen    map[string]bool
}

func describe(t testing.TB, s *keystiletest.Server) *described {
	t.Helper()
	text := call(t, s, "", "GET", "/openapi.json", nil).body
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("openapi.json", document); err != nil {
		t.Fatal(err)
	}
	var d struct {
		Paths map[string]map[string]struct {
			OperationID string
			Responses   map[string]struct {
				Content map[string]struct{ Schema json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	out := &described{answers: map[string]map[string]*jsonschema.Schema{}, seen: map[string]bool{}}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	for path, methods := range d.Paths {
		for method, op := range methods {
			if out.answers[op.OperationID] == nil {
				out.answers[op.OperationID] = map[string]*jsonschema.Schema{}
			}
			for status, r := range op.Responses {
				out.answers[op.OperationID][status] = nil
				for kind := range r.Content {
					at := fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%s/content/%s/schema", escape.Replace(path), method, status, escape.Replace(kind))
					if out.answers[op.OperationID][status], err = compiler.Compile(at); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	return out
}

// check fails unless the answer of an operation has the form that the
// description says.
func (d *described) check(t testing.TB, operation string, a answer) {
	t.Helper()
	byStatus, ok := d.answers[operation]
	if !ok {
		t.Fatalf("no operation %s", operation)
	}
	d.seen[operation] = d.seen[operation] || a.status < 300
	schema, ok := byStatus[fmt.Sprint(a.status)]
	if !ok {
		if schema, ok = byStatus["default"]; !ok || a.status < 400 {
			t.Errorf("%s answers %d, which is not described", operation, a.status)
			return
		}
	}
	if schema == nil {
		if len(a.body) > 0 {
			t.Errorf("%s answers %d with a body, which is not described", operation, a.status)
		}
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
	if err != nil {
		t.Errorf("%s: %v: %s", operation, err, a)
		return
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%s: %v in %s", operation, err, a)
	}
}

// TestAnswersAreAsDescribed drives every operation and holds its answers
// against the description.
func TestAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t, keystiletest.FlushInterval(20*time.Millisecond)))
	d := describe(t, h.Server)
	ws := h.workspace()
	at := "/v1/workspaces/" + ws
	do := func(operation, method, path string, body any) answer {
		t.Helper()
		a := h.do(method, path, body)
		if a.status >= 300 {
			t.Fatalf("%s: %s", operation, a)
		}
		d.check(t, operation, a)
		return a
	}
	do("createWorkspace", "POST", "/v1/workspaces", fields{"name": "x"})
	do("updateWorkspace", "PATCH", at, fields{"ip_allowlist": []string{"127.0.0.0/8", "::1"}, "suspended_reason": "x"})
	do("showWorkspace", "GET", at, nil)
	do("listWorkspaces", "GET", "/v1/workspaces?limit=1", nil)
	do("listPlans", "GET", "/v1/plans", nil)
	made := want[keystile.CreatedKey](t, do("createKey", "POST", at+"/keys", fields{
		"name": "Full", "description": "d", "role": "admin", "permissions": []string{"read"}, "environment": "staging", "owner": "o",
		"expires_at": time.Now().Add(time.Hour), "ip_allowlist": []string{"127.0.0.1"}, "metadata": fields{"a": "b"},
	}), 201)
	key := "/v1/keys/" + made.Key.ID
	do("verify", "POST", "/v1/verify", fields{"key": made.Secret, "ip": "127.0.0.1"})
	do("verify", "POST", "/v1/verify", fields{"key": "x"})
	do("verifyBatch", "POST", "/v1/verify/batch", fields{"requests": []fields{{"key": made.Secret}, {"key": "x"}}})
	d.check(t, "me", call(t, h.Server, made.Secret, "GET", "/v1/me", nil))
	d.check(t, "forwardAuth", call(t, h.Server, made.Secret, "GET", "/v1/forward-auth", nil))
	do("updateKey", "PATCH", key, fields{"name": "y"})
	do("reviewKey", "POST", key+"/review", nil)
	do("disableKey", "POST", key+"/disable", fields{"reason": "r"})
	do("showKey", "GET", key, nil)
	do("enableKey", "POST", key+"/enable", nil)
	fresh := want[keystile.CreatedKey](t, do("rotateKey", "POST", key+"/rotate", fields{"overlap": "1h"}), 201)
	do("revokeKey", "POST", "/v1/keys/"+fresh.Key.ID+"/revoke", fields{"reason": "r", "rollback": true})
	do("listKeys", "GET", at+"/keys", nil)
	role := want[keystile.Role](t, do("createRole", "POST", at+"/roles", fields{"name": "R", "permissions": []string{"read"}}), 201)
	do("showRole", "GET", "/v1/roles/"+role.ID, nil)
	do("updateRole", "PATCH", "/v1/roles/"+role.ID, fields{"description": "d"})
	do("listRoles", "GET", at+"/roles", nil)
	member := want[keystile.Member](t, do("createMember", "POST", at+"/members", fields{"person": fields{"name": "Ada", "issuer": "i", "subject": "s", "email": "a@example.com"}, "role": "R"}), 201)
	do("showMember", "GET", "/v1/members/"+member.ID, nil)
	do("updateMember", "PATCH", "/v1/members/"+member.ID, fields{"role": "viewer"})
	do("listMembers", "GET", at+"/members", nil)
	do("createPortalSession", "POST", at+"/portal-sessions", fields{"person": fields{"subject": "u", "name": "Eve"}, "role": "viewer", "return_url": "https://app.example.com/x", "expires_in": "30m"})
	do("deleteMember", "DELETE", "/v1/members/"+member.ID, nil)
	do("deleteRole", "DELETE", "/v1/roles/"+role.ID, nil)
	secret := want[keystile.CreatedWebhookSecret](t, do("createWebhookSecret", "POST", at+"/webhook-secrets", fields{
		"label": "Consumer", "environment": "production", "expires_at": time.Now().Add(time.Hour)}), 201).WebhookSecret.ID
	do("updateWebhookSecret", "PATCH", "/v1/webhook-secrets/"+secret, fields{"label": "Renamed"})
	replacement := want[keystile.CreatedWebhookSecret](t, do("rotateWebhookSecret", "POST", "/v1/webhook-secrets/"+secret+"/rotate", fields{"overlap": "10m"}), 201).WebhookSecret.ID
	do("signWebhook", "POST", at+"/webhooks/sign", fields{"payload": "{}", "environment": "production", "id": "msg_1"})
	do("verifyWebhook", "POST", at+"/webhooks/verify", fields{"payload": "{}", "environment": "production", "secret": "whsec_", "headers": fields{"webhook-id": "msg_1"}})
	do("showWebhookSecret", "GET", "/v1/webhook-secrets/"+secret, nil)
	do("revokeWebhookSecret", "POST", "/v1/webhook-secrets/"+replacement+"/revoke", fields{"reason": "unneeded", "rollback": true})
	do("listWebhookSecrets", "GET", at+"/webhook-secrets", nil)
	do("testWebhookSecret", "POST", "/v1/webhook-secrets/"+secret+"/test", fields{"url": "https://192.0.2.1/"})
	do("listEventTypes", "GET", "/v1/event-types", nil)
	target := want[keystile.CreatedEndpoint](t, do("createEndpoint", "POST", at+"/endpoints", fields{
		"url": "http://127.0.0.1:1/x", "event_types": []string{"*"}, "description": "d", "allow_ranges": []string{"127.0.0.1"}}), 201).Endpoint.ID
	delivery := h.delivery(ws)
	do("showDelivery", "GET", "/v1/deliveries/"+delivery.ID, nil)
	do("listDeliveries", "GET", "/v1/endpoints/"+delivery.EndpointID+"/deliveries?status=pending", nil)
	do("retryDelivery", "POST", "/v1/deliveries/"+delivery.ID+"/retry", nil)
	do("replayEvents", "POST", "/v1/endpoints/"+target+"/replay", fields{"since": time.Now()})
	do("testEndpoint", "POST", "/v1/endpoints/"+target+"/test", fields{})
	do("pauseEndpoint", "POST", "/v1/endpoints/"+target+"/pause", fields{"reason": "r"})
	do("showEndpoint", "GET", "/v1/endpoints/"+target, nil)
	do("resumeEndpoint", "POST", "/v1/endpoints/"+target+"/resume", nil)
	do("updateEndpoint", "PATCH", "/v1/endpoints/"+target, fields{"description": "e"})
	do("listEndpoints", "GET", at+"/endpoints", nil)
	do("deleteEndpoint", "DELETE", "/v1/endpoints/"+target, nil)
	do("deleteWebhookSecret", "DELETE", "/v1/webhook-secrets/"+secret, nil)
	for end := time.Now().Add(30 * time.Second); !strings.Contains(string(call(t, h.Server, h.OperatorKey, "GET", at+"/usage?key="+made.Key.ID, nil).body), `"total"`); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no use was written")
		}
	}
	do("listUsage", "GET", at+"/usage?key="+made.Key.ID, nil)
	do("listAudit", "GET", at+"/audit?limit=200", nil)
	do("listNodes", "GET", "/v1/nodes", nil)
	leaked := want[keystile.CreatedKey](t, do("createKey", "POST", at+"/keys", fields{"name": "Leaked"}), 201)
	do("revokeKey", "POST", "/v1/keys/"+leaked.Key.ID+"/revoke", fields{"reason": "exposure_suspected"})
	if l := want[keystile.List[keystile.Alert]](t, do("listAlerts", "GET", at+"/alerts?state=all", nil), 200); len(l.Data) == 0 {
		t.Error("no alert was described")
	} else if a := want[keystile.Alert](t, do("seeAlert", "POST", "/v1/alerts/"+l.Data[0].ID+"/seen", nil), 200); a.AcknowledgedBy == nil || a.State != "open" {
		t.Errorf("seen: %+v", a)
	}
	do("deleteKey", "DELETE", key, nil)
	do("deleteWorkspace", "DELETE", at, nil)
	for _, op := range operations(t, h.Server) {
		if !d.seen[op.id] {
			t.Errorf("%s was not driven", op.id)
		}
		d.check(t, op.id, call(t, h.Server, "", op.method, strings.Replace(op.path, "{id}", "x", 1), fields{"x": 1}))
		d.check(t, op.id, call(t, h.Server, h.OperatorKey, op.method, strings.Replace(op.path, "{id}", "x", 1)+"?zzz=1", fields{"x": 1}))
	}
}

// TestEveryRouteIsDescribed: the list of routes in the code and the document
// are one.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("route.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^\t\t\{(?:"([A-Z]+)"|anyMethod), "(/v1/[^"]+)", "(\w+)".*$`).FindAllStringSubmatch(string(source), -1) {
		if strings.Contains(m[0], "unlisted(") {
			continue // a protocol of our own
		}
		method := m[1]
		if method == "" {
			method = "GET"
		}
		listed = append(listed, method+" "+m[2]+" "+m[3])
	}
	var said []string
	for _, op := range operations(t, keystiletest.New(t)) {
		said = append(said, op.method+" "+op.path+" "+op.id)
	}
	slices.Sort(listed)
	slices.Sort(said)
	same(t, "routes", said, listed)
	if len(said) < 30 {
		t.Errorf("only %d routes", len(said))
	}
}
