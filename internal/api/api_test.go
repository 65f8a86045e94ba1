package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// masterKey is one like any other.
const masterKey = "sSKKNx30uSHPCrpWVb2eVbm3h7QQPqVSz4n0Uk0sR3Y="

// onBoth runs a test on both databases.
func onBoth(t *testing.T, test func(t *testing.T, s *keystiletest.Server)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, keystiletest.New(t)) })
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, keystiletest.New(t, keystiletest.Database(pgtest.New(t)), keystiletest.MasterKey(masterKey)))
	})
}

// answer is what the server said, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string {
	return http.StatusText(a.status) + " " + strings.TrimSpace(string(a.body))
}

// call sends a request with a key, "" for none. A body that is a string goes
// as it is, nil is none, and anything else goes as JSON. Headers are pairs; an
// empty value removes the header.
func call(t testing.TB, s *keystiletest.Server, key, method, path string, body any, headers ...string) answer {
	t.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		var err error
		if text, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	// The transport itself: a redirect would be an answer, not a way.
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	out, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{response.StatusCode, response.Header, out}
}

// want checks the status and reads the body.
func want[T any](t testing.TB, a answer, status int) T {
	t.Helper()
	var v T
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a)
	}
	if status == http.StatusNoContent {
		if len(a.body) != 0 {
			t.Fatalf("204 with a body: %s", a)
		}
		return v
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	return v
}

// wantProblem checks status and code of a refusal, and that it has all that
// every refusal has: the members of RFC 9457, ours, and the headers.
func wantProblem(t testing.TB, a answer, status int, code keystile.Code) keystile.Error {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d with %s: %s", a.status, status, code, a)
	}
	var e keystile.Error
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	if e.Code != code {
		t.Fatalf("code %s, want %s: %s", e.Code, code, a)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q of a problem: %s", got, a)
	}
	if e.Status != status || e.Type != "urn:keystile:problem:"+string(code) || e.Title == "" || e.Detail == "" || len(e.Fixes) == 0 {
		t.Errorf("the problem lacks a member: %s", a)
	}
	if e.RequestID == "" || e.RequestID != a.header.Get("X-Request-Id") {
		t.Errorf("request_id %q, X-Request-Id %q", e.RequestID, a.header.Get("X-Request-Id"))
	}
	challenge := a.header.Get("WWW-Authenticate")
	if status == http.StatusUnauthorized && !strings.HasPrefix(challenge, "Bearer") {
		t.Errorf("a 401 with WWW-Authenticate %q: %s", challenge, a)
	}
	if code == keystile.CodeInsufficientPermission {
		if e.Permission == "" || !strings.Contains(e.Detail+challenge, e.Permission) {
			t.Errorf("a refusal that does not name the permission: %s", a)
		}
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a problem that caches may keep: %v", a.header)
	}
	return e
}

// house makes tenants and keys for tests that need many.
type house struct {
	*keystiletest.Server
	t testing.TB
	n int
}

func (h *house) name(what string) string {
	h.n++
	return what + " " + strings.Repeat("i", h.n%7) + string(rune('a'+h.n%26)) + string(rune('a'+h.n/26%26)) + string(rune('a'+h.n/676%26))
}

// workspace makes a tenant.
func (h *house) workspace() string { return h.NewWorkspace(h.name("Tenant"), "").ID }

// role makes a role of a workspace's own.
func (h *house) role(ws string, permissions ...string) keystile.Role {
	h.t.Helper()
	return want[keystile.Role](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+ws+"/roles",
		keystile.CreateRole{Name: h.name("Role"), Permissions: permissions}), 201)
}

// key makes a key of a role.
func (h *house) key(ws, role string) keystile.CreatedKey {
	h.t.Helper()
	return h.Key(ws, keystile.CreateKey{Name: h.name("Key"), Role: role})
}

// actor makes a key with exactly these permissions and returns its secret.
func (h *house) actor(ws string, permissions ...string) string {
	h.t.Helper()
	return h.key(ws, h.role(ws, permissions...).ID).Secret
}

// bound makes an actor whose key may be used from this machine alone.
func (h *house) bound(ws string, permissions ...string) string {
	h.t.Helper()
	return h.Key(ws, keystile.CreateKey{
		Name: h.name("Bound"), Role: h.role(ws, permissions...).ID, IPAllowlist: []string{"127.0.0.0/8", "::1"},
	}).Secret
}

// webhookSecret makes a webhook secret.
func (h *house) webhookSecret(ws, environment string) keystile.CreatedWebhookSecret {
	h.t.Helper()
	return want[keystile.CreatedWebhookSecret](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+ws+"/webhook-secrets",
		keystile.CreateWebhookSecret{Label: h.name("Consumer"), Environment: environment}), 201)
}

// endpoint makes an endpoint that nobody listens at.
func (h *house) endpoint(ws string, types ...string) keystile.CreatedEndpoint {
	h.t.Helper()
	return want[keystile.CreatedEndpoint](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+ws+"/endpoints",
		keystile.CreateEndpoint{URL: "http://127.0.0.1:1/", EventTypes: types, AllowRanges: []string{"127.0.0.1"}}), 201)
}

// delivery is one that was tried, to an endpoint of its own.
func (h *house) delivery(ws string) (d keystile.Delivery) {
	h.t.Helper()
	at := "/v1/endpoints/" + h.endpoint(ws, "endpoint.created").Endpoint.ID + "/deliveries"
	for end := time.Now().Add(30 * time.Second); d.Attempts == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatal("nothing was tried")
		}
		for _, d = range want[keystile.List[keystile.Delivery]](h.t, call(h.t, h.Server, h.OperatorKey, "GET", at, nil), 200).Data {
		}
	}
	return d
}

// alert is of a key that was revoked for suspected exposure.
func (h *house) alert(ws string) keystile.Alert {
	h.t.Helper()
	want[keystile.Key](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/keys/"+h.key(ws, "service").Key.ID+"/revoke",
		keystile.RevokeKey{Reason: keystile.ReasonExposureSuspected}), 200)
	return want[keystile.List[keystile.Alert]](h.t, call(h.t, h.Server, h.OperatorKey, "GET", "/v1/workspaces/"+ws+"/alerts", nil), 200).Data[0]
}

// member invites someone.
func (h *house) member(ws, role string) keystile.Member {
	h.t.Helper()
	return want[keystile.Member](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/workspaces/"+ws+"/members",
		keystile.CreateMember{Person: keystile.Person{Name: h.name("Person")}, Role: role}), 201)
}

// code asks what the server thinks of a key, from this machine.
func (h *house) code(secret string) keystile.Code {
	h.t.Helper()
	return want[keystile.Decision](h.t, call(h.t, h.Server, h.OperatorKey, "POST", "/v1/verify",
		keystile.VerifyRequest{Key: secret, IP: "127.0.0.1"}), 200).Code
}

// expect fails unless a key has a code now.
func (h *house) expect(secret string, code keystile.Code) {
	h.t.Helper()
	if got := h.code(secret); got != code {
		h.t.Fatalf("the key is %s, want %s", got, code)
	}
}

func newHouse(t testing.TB, s *keystiletest.Server) *house { return &house{Server: s, t: t} }

// audit lists what a workspace's log says of an object, oldest first.
func (h *house) audit(ws, object string) []keystile.AuditEntry {
	h.t.Helper()
	l := want[keystile.AuditList](h.t, call(h.t, h.Server, h.OperatorKey, "GET",
		"/v1/workspaces/"+ws+"/audit?limit=200&object="+object, nil), 200)
	for i, j := 0, len(l.Data)-1; i < j; i, j = i+1, j-1 {
		l.Data[i], l.Data[j] = l.Data[j], l.Data[i]
	}
	return l.Data
}

// actions are those of an audit log.
func actions(log []keystile.AuditEntry) []string {
	var out []string
	for _, e := range log {
		out = append(out, e.Action)
	}
	return out
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// operatorWorkspace is where the roles with power over all workspaces are.
const operatorWorkspace = keyring.OperatorWorkspace

// newDatabase is a fresh PostgreSQL database.
func newDatabase(t testing.TB) string { t.Helper(); return pgtest.New(t) }
