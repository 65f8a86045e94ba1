package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// catalogue is every type of event with its schema, as the server says.
func catalogue(t testing.TB, s *keystiletest.Server) map[string]*jsonschema.Schema {
	t.Helper()
	list := want[keystile.List[struct {
		keystile.EventType
		Schema json.RawMessage `json:"schema"`
	}]](t, call(t, s, s.OperatorKey, "GET", "/v1/event-types", nil), 200)
	out := map[string]*jsonschema.Schema{}
	for _, e := range list.Data {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Schema))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource(e.Type+".json", document); err != nil {
			t.Fatal(err)
		}
		if out[e.Type], err = c.Compile(e.Type + ".json"); err != nil {
			t.Fatalf("%s: %v", e.Type, err)
		}
		if e.Description == "" || e.Permission == "" {
			t.Errorf("%+v", e.EventType)
		}
	}
	return out
}

// mailbox is a receiver that keeps what it gets.
type mailbox struct {
	*httptest.Server
	mu  sync.Mutex
	got [][]byte
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	b := &mailbox{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.got = append(b.got, body)
		b.mu.Unlock()
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *mailbox) all() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// types counts what came, by type.
func (b *mailbox) types(t testing.TB) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, body := range b.all() {
		var e keystile.Event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		n[e.Type]++
	}
	return n
}

func (h *house) subscribe(ws string, b *mailbox, types ...string) keystile.CreatedEndpoint {
	h.t.Helper()
	return want[keystile.CreatedEndpoint](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+ws+"/endpoints",
		keystile.CreateEndpoint{URL: b.URL, EventTypes: types, AllowRanges: []string{"127.0.0.1"}}), 201)
}

// elsewhere are types that no request to the API brings about: people at the
// pages, the clock and receivers do.
func elsewhere() []string {
	return []string{
		"key.expiring", "key.expired", "key.rotation_due", "key.idle", "key.still_used", "auth.failures_ended", "webhook_secret.expired", "webhook_secret.expiring", "webhook_secret.rotation_due", "member.joined", "member.recovered", "member.link_created", "endpoint.disabled", "endpoint.failing",
		"session.began", "session.ended", "session.refused", "passkey.added", "passkey.renamed", "passkey.removed", "passkey.refused", "link.created",
	}
}

// TestEvents drives every change of the API with an endpoint that gets
// everything: each brings its event, in the form that its schema says, without
// any secret.
func TestEvents(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	schemas := catalogue(t, h.Server)
	ws, box := h.workspace(), newMailbox(t)
	at := "/v1/workspaces/" + ws
	var secrets []string
	secret := func(s string) {
		if s == "" {
			t.Error("an answer lacks its secret")
		}
		secrets = append(secrets, s)
	}
	do := func(method, path string, body any) answer {
		t.Helper()
		a := h.do(method, path, body)
		if a.status >= 300 {
			t.Fatalf("%s %s: %s", method, path, a)
		}
		return a
	}
	secret(h.subscribe(ws, box, "*").Secret)
	key := want[keystile.CreatedKey](t, do("POST", at+"/keys", fields{"name": "K", "metadata": fields{"a": "b"}, "expires_at": time.Now().Add(time.Hour), "ip_allowlist": []string{"127.0.0.1"}}), 201)
	secret(key.Secret)
	path := "/v1/keys/" + key.Key.ID
	do("PATCH", path, fields{"name": "L"})
	do("POST", path+"/disable", fields{"reason": "r"})
	do("POST", path+"/enable", nil)
	do("POST", path+"/review", nil)
	fresh := want[keystile.CreatedKey](t, do("POST", path+"/rotate", fields{"overlap": "10m"}), 201)
	secret(fresh.Secret)
	do("POST", "/v1/keys/"+fresh.Key.ID+"/revoke", fields{"reason": "r", "rollback": true})
	do("DELETE", path, nil)

	leaked := want[keystile.CreatedKey](t, do("POST", at+"/keys", fields{"name": "Leaked"}), 201)
	secret(leaked.Secret)
	do("POST", "/v1/keys/"+leaked.Key.ID+"/revoke", fields{"reason": "exposure_suspected"})
	tries := make([]fields, 200)
	for i := range tries {
		tries[i] = fields{"key": leaked.Secret, "ip": fmt.Sprintf("2001:db8::%x:1", i%3), "user_agent": "old/1"}
	}
	do("POST", "/v1/verify/batch", fields{"requests": tries})

	hook := want[keystile.CreatedWebhookSecret](t, do("POST", at+"/webhook-secrets", fields{"label": "C", "environment": "production", "expires_at": time.Now().Add(time.Hour)}), 201)
	secret(hook.Secret)
	path = "/v1/webhook-secrets/" + hook.WebhookSecret.ID
	do("PATCH", path, fields{"label": "D"})
	next := want[keystile.CreatedWebhookSecret](t, do("POST", path+"/rotate", fields{"overlap": "10m"}), 201)
	secret(next.Secret)
	do("POST", "/v1/webhook-secrets/"+next.WebhookSecret.ID+"/revoke", fields{"rollback": true})
	do("POST", path+"/test", fields{"url": box.URL, "allow_ranges": []string{"127.0.0.1"}})
	do("DELETE", path, nil)

	spilt := want[keystile.CreatedWebhookSecret](t, do("POST", at+"/webhook-secrets", fields{"label": "S", "environment": "production"}), 201)
	secret(spilt.Secret)
	do("POST", "/v1/webhook-secrets/"+spilt.WebhookSecret.ID+"/revoke", fields{"reason": "exposure_suspected"})

	role := want[keystile.Role](t, do("POST", at+"/roles", fields{"name": "R", "permissions": []string{"read"}}), 201)
	do("PATCH", "/v1/roles/"+role.ID, fields{"description": "d"})
	do("DELETE", "/v1/roles/"+role.ID, nil)
	member := want[keystile.Member](t, do("POST", at+"/members", fields{"person": fields{"name": "Ada", "email": "ada@example.com"}, "role": "viewer"}), 201)
	do("PATCH", "/v1/members/"+member.ID, fields{"role": "developer"})
	do("DELETE", "/v1/members/"+member.ID, nil)
	portal := want[keystile.PortalSession](t, do("POST", at+"/portal-sessions", fields{"person": fields{"subject": "u", "name": "Eve"}, "role": "viewer"}), 201)
	secret(portal.URL[strings.LastIndex(portal.URL, "/")+1:])

	do("PATCH", at, fields{"name": "Renamed"})
	do("PATCH", at, fields{"suspended": true, "suspended_reason": "unpaid"})
	do("PATCH", at, fields{"suspended": false})

	second := h.subscribe(ws, box, "role.created")
	secret(second.Secret)
	path = "/v1/endpoints/" + second.Endpoint.ID
	do("PATCH", path, fields{"description": "d"})
	do("POST", path+"/pause", nil)
	do("POST", path+"/resume", nil)
	do("POST", path+"/test", nil)
	do("DELETE", path, nil)

	var wanted []string
	for name := range schemas {
		if !slices.Contains(elsewhere(), name) {
			wanted = append(wanted, name)
		}
	}
	slices.Sort(wanted)
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := box.types(t)
		missing := slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return got[name] > 0 })
		if len(missing) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("did not come: %v", missing)
		}
	}
	for _, body := range box.all() {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var e keystile.Event
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&e); err != nil {
			t.Errorf("%v in %s", err, body)
		}
		if schemas[e.Type] == nil {
			t.Errorf("%s is no type", e.Type)
		} else if err := schemas[e.Type].Validate(v); err != nil {
			t.Errorf("%s: %v in %s", e.Type, err, body)
		}
		if e.WorkspaceID != ws || e.ID == "" || e.Timestamp.IsZero() {
			t.Errorf("%s", body)
		}
		for _, s := range secrets {
			if strings.Contains(string(body), s) || strings.Contains(string(body), s[len(s)-12:]) {
				t.Errorf("a secret is in %s", e.Type)
			}
		}
	}
}

// TestEventTypesAreAll: every change that the rules record is a type of event,
// or is known here to be none, and there is no type that nothing brings about.
func TestEventTypesAreAll(t *testing.T) {
	t.Parallel()
	none := []string{
		"workspace.created", "workspace.deleted", // there is no endpoint then
		"profile.changed", "master_key.rotated", // of the operator's, who sees it in the log
		"alert.acknowledged",                                                                // it tells what somebody has read
		"delivery.retried", "endpoint.replayed", "endpoint.tested", "webhook_secret.tested", // deliveries tell by themselves
	}
	names := regexp.MustCompile(`"([a-z]+(?:_[a-z]+)?\.[a-z_]+)"`)
	files, err := filepath.Glob("../keyring/*.go")
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]string{}
	record := regexp.MustCompile(`(?:action\b.*|record\w*\(|save\w+\(|tell\(.*|changePasskey\(.*|stopEndpoint.*)"[a-z_]+\.[a-z_]+"`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			if !record.MatchString(line) {
				continue
			}
			for _, m := range names.FindAllStringSubmatch(line, -1) {
				if !strings.HasPrefix(m[1], "query.") && !strings.HasPrefix(m[1], "body.") { // fields of requests
					recorded[m[1]] = filepath.Base(file)
				}
			}
		}
	}
	if len(recorded) < 40 {
		t.Fatalf("only %d actions were found", len(recorded))
	}
	tests := []string{keystile.EventEndpointTest, keystile.EventWebhookSecretTest}
	// Alerts are told of by one call for all of their types.
	recorded[keystile.EventAuthFailuresEnded] = "failure.go"
	for _, a := range keystile.AlertTypes() {
		recorded[string(a)] = "watch.go"
	}
	for name, file := range recorded {
		if _, ok := keystile.EventTypeOf(name); ok == slices.Contains(none, name) {
			t.Errorf("%s in %s is a type of event: %t", name, file, ok)
		}
	}
	for _, name := range none {
		if recorded[name] == "" {
			t.Errorf("nothing records %s", name)
		}
	}
	for _, e := range keystile.EventTypes() {
		if recorded[e.Type] == "" && !slices.Contains(tests, e.Type) {
			t.Errorf("nothing brings %s about", e.Type)
		}
	}
}

// TestEventsDocument: docs/events.md lists the types that there are.
func TestEventsDocument(t *testing.T) {
	t.Parallel()
	const path = "../../docs/events.md"
	const begin, end = "<!-- types: written by go test ./internal/api -run TestEventsDocument -update -->\n", "<!-- end of types -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	listed, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatal("docs/events.md lacks the marks around the list of types")
	}
	var b strings.Builder
	b.WriteString("\n| type | when | `data` holds | takes |\n|---|---|---|---|\n")
	for _, e := range keystile.EventTypes() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | `%s` |\n", e.Type, e.Description, e.Object, e.Permission)
	}
	b.WriteString("\n")
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	if listed != b.String() {
		t.Error("docs/events.md does not list what there is; go test ./internal/api -run TestEventsDocument -update")
	}
}

// TestSubscribing is who may have what sent where: only what one may see
// oneself, and what somebody else set up is not turned to another address by
// who could not have set it up.
func TestSubscribing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	ws := h.workspace()
	at := "/v1/workspaces/" + ws + "/endpoints"
	body := func(types ...string) fields { return fields{"url": "https://example.com/", "event_types": types} }
	for _, c := range []struct {
		permissions string
		types       []string
		lacks       string
	}{
		{"api.endpoint.create api.key.view", []string{"key.created"}, ""},
		{"api.endpoint.create api.key.view", []string{"key.*", "key.*"}, ""},
		{"api.endpoint.create api.key.view", []string{"key.created", "member.updated"}, "api.member.view"},
		{"api.endpoint.create", []string{"key.created"}, "api.key.view"},
		{"api.endpoint.create api.member.view", []string{"member.*"}, ""},
		{"api.endpoint.create api.key.view", []string{"session.*"}, "api.audit.view"},
		{"api.endpoint.create api.key.view", []string{"webhook_secret.rotated"}, "api.webhook_secret.view"},
		{"api.endpoint.create api.key.view api.webhook_secret.view api.workspace.view api.role.view api.endpoint.view api.audit.view api.usage.view", []string{"*"}, "api.member.view"},
		{"api.*", []string{"*"}, ""},
	} {
		a := call(t, h.Server, h.actor(ws, strings.Fields("* "+c.permissions)...), "POST", at, body(c.types...))
		if c.lacks == "" {
			want[keystile.CreatedEndpoint](t, a, 201)
		} else if e := wantProblem(t, a, 403, keystile.CodeInsufficientPermission); e.Permission != c.lacks {
			t.Errorf("%s for %v names %s", c.permissions, c.types, e.Permission)
		}
	}
	for _, types := range [][]string{{}, {""}, {"key"}, {"key.*.*"}, {"k*"}, {"*.created"}, {"key.nothing"}, {"nothing.*"}, {"**"}, {"key.*", "nothing"}, {"KEY.CREATED"}} {
		wantProblem(t, call(t, h.Server, h.OperatorKey, "POST", at, body(types...)), 422, keystile.CodeInvalidField)
	}

	// Changing where it leads takes what it takes to make it; the description does not.
	made := want[keystile.CreatedEndpoint](t, call(t, h.Server, h.OperatorKey, "POST", at, body("member.*")), 201).Endpoint
	path := "/v1/endpoints/" + made.ID
	editor := h.actor(ws, "*", "api.endpoint.*", "api.key.view")
	want[keystile.Endpoint](t, call(t, h.Server, editor, "PATCH", path, fields{"description": "mine"}), 200)
	for _, patch := range []fields{
		{"url": "https://elsewhere.example.com/"}, {"event_types": []string{"member.*", "key.*"}}, {"event_types": []string{"member.joined"}},
		{"url": "https://elsewhere.example.com/", "description": "x"},
	} {
		if e := wantProblem(t, call(t, h.Server, editor, "PATCH", path, patch), 403, keystile.CodeInsufficientPermission); e.Permission != "api.member.view" {
			t.Errorf("%v: %+v", patch, e)
		}
	}
	// One may have it get what one can see oneself. That leads it nowhere else: what
	// it got before could be sent again.
	taken := want[keystile.Endpoint](t, call(t, h.Server, editor, "PATCH", path, fields{"event_types": []string{"key.*"}}), 200)
	same(t, "types", taken.EventTypes, []string{"key.*"})
	for _, patch := range []fields{{"url": "https://elsewhere.example.com/"}, {"url": "https://elsewhere.example.com/", "event_types": []string{"key.*"}}} {
		if e := wantProblem(t, call(t, h.Server, editor, "PATCH", path, patch), 403, keystile.CodeInsufficientPermission); e.Permission != "api.member.view" {
			t.Errorf("%v: %+v", patch, e)
		}
	}

	// What was sent is shown to who may see it.
	d := h.delivery(ws)
	viewer, blind := h.actor(ws, "*", "api.endpoint.view"), h.actor(ws, "*", "api.endpoint.view", "api.endpoint.update")
	if got := want[keystile.DeliveryDetails](t, call(t, h.Server, viewer, "GET", "/v1/deliveries/"+d.ID, nil), 200); len(got.Payload) == 0 {
		t.Error("who may see endpoints is not shown an event about one")
	}
	members := h.endpoint(ws, "member.*").Endpoint.ID
	h.member(ws, "viewer")
	var ds []keystile.Delivery
	for end := time.Now().Add(30 * time.Second); len(ds) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no delivery")
		}
		ds = want[keystile.List[keystile.Delivery]](t, call(t, h.Server, h.OperatorKey, "GET", "/v1/endpoints/"+members+"/deliveries", nil), 200).Data
	}
	for _, secret := range []string{viewer, blind} {
		if got := want[keystile.DeliveryDetails](t, call(t, h.Server, secret, "GET", "/v1/deliveries/"+ds[0].ID, nil), 200); got.Payload != nil {
			t.Errorf("who may not see members is shown %s", got.Payload)
		}
	}
}

// TestEndpointURLs: what is plainly no address of the internet is refused at
// once, and the operator alone lets an endpoint reach his own network.
func TestEndpointURLs(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	ws := h.workspace()
	at := "/v1/workspaces/" + ws + "/endpoints"
	admin := h.key(ws, "admin").Secret
	key := h.key(ws, "service").Secret
	for _, url := range []string{
		"", "x", "https://", "https:example.com", "//example.com/", "/path", "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)",
		"https://user:pass@example.com/", "https://user@example.com/", "https://example.com/#x", "https://example.com:0/", "https://example.com:99999/", "https://example.com:x/",
		"https://localhost/", "https://LOCALHOST./", "https://a.localhost/", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data",
		"https://[::ffff:127.0.0.1]/", "https://[fe80::1%25eth0]/", "https://[fd00:ec2::254]/", "https://0.0.0.0/", "https://192.168.1.1:8443/", "https://224.0.0.1/",
		"https://example.com/" + strings.Repeat("x", 500), "https://exa mple.com/", "https://example.com/\x00", "https://example.com/%zz", "https://example.com/?k=" + key,
	} {
		a := call(t, h.Server, admin, "POST", at, fields{"url": url, "event_types": []string{"key.*"}})
		if e := wantProblem(t, a, 422, keystile.CodeInvalidField); strings.Contains(e.Detail, key) {
			t.Errorf("%s: a key is repeated", url)
		}
	}
	for _, ranges := range [][]string{{"x"}, {"0.0.0.0/0"}, {"::/0"}, {"10.0.0.0/7"}, {"2000::/16"}, {"fe80::1%eth0"}, slices.Repeat([]string{"10.0.0.1"}, 21)} {
		wantProblem(t, call(t, h.Server, h.OperatorKey, "POST", at, fields{"url": "https://example.com/", "event_types": []string{"key.*"}, "allow_ranges": ranges}), 422, keystile.CodeInvalidField)
	}
	inside := fields{"url": "http://10.0.0.1:8080/x", "event_types": []string{"key.*"}, "allow_ranges": []string{"10.0.0.0/24"}}
	if e := wantProblem(t, call(t, h.Server, admin, "POST", at, inside), 403, keystile.CodeInsufficientPermission); e.Permission != "platform.endpoint.allow" {
		t.Errorf("%+v", e)
	}
	made := want[keystile.CreatedEndpoint](t, call(t, h.Server, h.OperatorKey, "POST", at, inside), 201).Endpoint
	path := "/v1/endpoints/" + made.ID
	// The tenant can't turn what was allowed to another address, nor widen it.
	wantProblem(t, call(t, h.Server, admin, "PATCH", path, fields{"url": "http://10.0.0.2/"}), 403, keystile.CodeExceedsAuthority)
	wantProblem(t, call(t, h.Server, admin, "PATCH", path, fields{"allow_ranges": []string{"10.0.0.0/8"}}), 403, keystile.CodeInsufficientPermission)
	want[keystile.Endpoint](t, call(t, h.Server, admin, "PATCH", path, fields{"description": "d", "event_types": []string{"key.created"}}), 200)
	wantProblem(t, call(t, h.Server, h.OperatorKey, "PATCH", path, fields{"allow_ranges": []string{}}), 422, keystile.CodeInvalidField) // http no more
	taken := want[keystile.Endpoint](t, call(t, h.Server, h.OperatorKey, "PATCH", path, fields{"allow_ranges": []string{}, "url": "https://example.com/"}), 200)
	if len(taken.AllowRanges) != 0 {
		t.Errorf("%+v", taken)
	}
	want[keystile.Endpoint](t, call(t, h.Server, admin, "PATCH", path, fields{"url": "https://example.com/other"}), 200)
	var changes []string
	for _, e := range h.audit(ws, made.ID) {
		changes = append(changes, fmt.Sprint(e.Action, " ", e.After["allow_ranges"]))
	}
	same(t, "audit", changes, []string{
		"endpoint.created [10.0.0.0/24]", "endpoint.updated <nil>", "endpoint.updated <nil>", "endpoint.updated <nil>",
	})
}

// TestEndpointPlan: the plan bounds how many endpoints there are.
func TestEndpointPlan(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t, keystiletest.ProfileText("product: P\nprefix: pp\nplans:\n  - name: small\n    limits: {endpoints: 2}\n")))
	ws := h.workspace()
	first := h.endpoint(ws, "key.*").Endpoint.ID
	h.endpoint(ws, "key.*")
	body := fields{"url": "https://example.com/", "event_types": []string{"key.*"}}
	wantProblem(t, h.do("POST", "/v1/workspaces/"+ws+"/endpoints", body), 403, keystile.CodePlanLimit)
	if a := h.do("DELETE", "/v1/endpoints/"+first, nil); a.status != 204 {
		t.Fatal(a)
	}
	want[keystile.CreatedEndpoint](t, h.do("POST", "/v1/workspaces/"+ws+"/endpoints", body), 201)
}

// TestManyEndpoints: where the plan has no limit there is one all the same,
// since each event goes to each endpoint; and an event for many is handed on
// whole, to each once.
func TestManyEndpoints(t *testing.T) {
	t.Parallel()
	const most = 100
	h := newHouse(t, keystiletest.New(t))
	ws, box := h.workspace(), newMailbox(t)
	for range most {
		h.subscribe(ws, box, "role.created")
	}
	a := h.do("POST", "/v1/workspaces/"+ws+"/endpoints", fields{"url": "https://example.com/", "event_types": []string{"role.created"}})
	wantProblem(t, a, 409, keystile.CodeConflict)
	const events = 12 // more deliveries than are made in one transaction
	for i := range events {
		if a := h.do("POST", "/v1/workspaces/"+ws+"/roles", fields{"name": fmt.Sprint("R", i), "permissions": []string{"read"}}); a.status != 201 {
			t.Fatal(a)
		}
	}
	for end := time.Now().Add(60 * time.Second); len(box.all()) < most*events; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d came", len(box.all()))
		}
	}
	if n := box.types(t)["role.created"]; n != most*events {
		t.Errorf("%d came", n)
	}
}

// TestEndpointIdempotency: a request that is repeated makes one endpoint, and
// shows its secret once.
func TestEndpointIdempotency(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	body := fields{"url": "https://example.com/", "event_types": []string{"key.*"}}
	at := "/v1/workspaces/" + h.Workspace + "/endpoints"
	first := want[keystile.CreatedEndpoint](t, call(t, h.Server, h.OperatorKey, "POST", at, body, "Idempotency-Key", "a"), 201)
	again := call(t, h.Server, h.OperatorKey, "POST", at, body, "Idempotency-Key", "a")
	second := want[keystile.CreatedEndpoint](t, again, 201)
	if first.Secret == "" || second.Secret != "" || second.Endpoint.ID != first.Endpoint.ID || second.WebhookSecret.ID != first.WebhookSecret.ID || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%+v, then %+v", first.Endpoint, second)
	}
}

// TestPastEventsOfAnEndpoint: deliveries wait, and can be sent again, so where
// they go is changed by nobody who may not see all that the endpoint ever got,
// whatever it is subscribed to by then.
func TestPastEventsOfAnEndpoint(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	holding := func(permissions ...string) string {
		return s.Key(s.Workspace, keystile.CreateKey{Name: "Integrator", Role: "admin", Permissions: permissions}).Secret
	}
	some := holding("api.endpoint.view", "api.endpoint.update", "api.key.view")
	all := holding("api.*")
	type m = map[string]any
	made := want[keystile.CreatedEndpoint](t, call(t, s, all, "POST", "/v1/workspaces/"+s.Workspace+"/endpoints",
		m{"url": "https://ours.invalid/", "event_types": []string{"key.*", "member.*"}}), 201)
	at := "/v1/endpoints/" + made.Endpoint.ID
	want[keystile.Endpoint](t, call(t, s, all, "POST", at+"/pause", nil), 200)
	want[keystile.Endpoint](t, call(t, s, some, "PATCH", at, m{"event_types": []string{"key.*"}}), 200)
	for _, patch := range []m{{"url": "https://theirs.invalid/"}, {"url": "https://theirs.invalid/", "event_types": []string{"key.created"}}} {
		if p := wantProblem(t, call(t, s, some, "PATCH", at, patch), 403, keystile.CodeInsufficientPermission); p.Permission != "api.member.view" {
			t.Errorf("%+v", p)
		}
	}
	if e := want[keystile.Endpoint](t, call(t, s, all, "PATCH", at, m{"url": "https://other.invalid/"}), 200); len(e.EventTypes) != 1 {
		t.Errorf("%+v", e)
	}
}

// TestEndpointGetsAnotherSecret: an endpoint whose last secret is gone is not
// lost: whoever may edit it makes it another.
func TestEndpointGetsAnotherSecret(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	ws, other := h.workspace(), h.workspace()
	made := h.endpoint(ws, "key.*")
	at := "/v1/workspaces/" + ws + "/webhook-secrets"
	body := fields{"label": "Second", "endpoint": made.Endpoint.ID}
	want[keystile.WebhookSecretRecord](t, h.do("POST", "/v1/webhook-secrets/"+made.WebhookSecret.ID+"/revoke", nil), 200)
	e := wantProblem(t, h.do("POST", "/v1/endpoints/"+made.Endpoint.ID+"/test", nil), 409, keystile.CodeConflict)
	if !strings.Contains(strings.Join(e.Fixes, " "), "endpoint") {
		t.Errorf("what to do is not said: %+v", e)
	}
	fresh := want[keystile.CreatedWebhookSecret](t, call(t, h.Server, h.actor(ws, "api.endpoint.update"), "POST", at, body), 201)
	if fresh.Secret == "" || fresh.WebhookSecret.EndpointID != made.Endpoint.ID || fresh.WebhookSecret.Environment != "" {
		t.Errorf("%+v", fresh)
	}
	want[keystile.TestResult](t, h.do("POST", "/v1/endpoints/"+made.Endpoint.ID+"/test", nil), 200)
	// It is not one of the workspace's own.
	for _, s := range want[keystile.List[keystile.WebhookSecretRecord]](t, h.do("GET", at, nil), 200).Data {
		if s.ID == fresh.WebhookSecret.ID {
			t.Error("the endpoint's secret is listed among the workspace's")
		}
	}
	if e := wantProblem(t, call(t, h.Server, h.actor(ws, "api.webhook_secret.create"), "POST", at, body), 403, keystile.CodeInsufficientPermission); e.Permission != "api.endpoint.update" {
		t.Errorf("%+v", e)
	}
	wantProblem(t, h.do("POST", "/v1/workspaces/"+other+"/webhook-secrets", body), 404, keystile.CodeNotFound)
	for _, b := range []fields{{"label": "x", "endpoint": "ep_none"}, {"label": "x", "endpoint": "ep_0000000000000000000000000a"}} {
		wantProblem(t, h.do("POST", at, b), 404, keystile.CodeNotFound)
	}
	wantProblem(t, h.do("POST", at, fields{"label": "x", "endpoint": made.Endpoint.ID, "environment": "staging"}), 422, keystile.CodeInvalidField)
}
