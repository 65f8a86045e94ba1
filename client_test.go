package keystile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

const clientKey = "gw_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabc"

// received is a request as a server saw it.
type received struct {
	line   string // method and target
	header http.Header
	body   string
}

// server answers every request with what answer writes, and keeps what came.
type server struct {
	*httptest.Server

	mu  sync.Mutex
	got []received
}

func serve(t *testing.T, answer func(w http.ResponseWriter, try int)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading a request: %v", err)
		}
		s.mu.Lock()
		s.got = append(s.got, received{line: r.Method + " " + r.URL.String(), header: r.Header.Clone(), body: string(body)})
		try := len(s.got)
		s.mu.Unlock()
		answer(w, try)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) requests() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *server) client(t *testing.T, options ...keystile.ClientOption) *keystile.Client {
	t.Helper()
	c, err := keystile.NewClient(s.URL+"/", clientKey, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writeJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// hangUp ends the connection without an answer.
func hangUp(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func checkNoSecret(t *testing.T, what string, text string) {
	t.Helper()
	if strings.Contains(text, clientKey) || strings.Contains(text, clientKey[3:]) {
		t.Errorf("%s shows the key", what)
	}
}

func TestClientRoutes(t *testing.T) {
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	name, role, yes := "n", "viewer", true
	discard := func(_ any, err error) error { return err }
	tests := []struct {
		call   func(context.Context, *keystile.Client) error
		line   string
		body   string
		answer string // {"id":"x"} when empty
		create bool
	}{
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.Verify(ctx, keystile.VerifyRequest{Key: "k", Permission: "p", Workspace: "ws_1", IP: "192.0.2.1", UserAgent: "a"}))
		}, line: "POST /v1/verify", body: `{"key":"k","permission":"p","workspace":"ws_1","ip":"192.0.2.1","user_agent":"a"}`},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.VerifyBatch(ctx, []keystile.VerifyRequest{{Key: "k"}}))
		}, line: "POST /v1/verify/batch", body: `{"requests":[{"key":"k"}]}`, answer: `{"data":[{"valid":true}]}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Me(ctx)) }, line: "GET /v1/me"},

		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.CreateKey(ctx, "ws_1", keystile.CreateKey{Name: "n"}))
		}, line: "POST /v1/workspaces/ws_1/keys", body: `{"name":"n"}`, answer: `{"key":{"id":"key_1"},"secret":"s"}`, create: true},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.Keys(ctx, "ws_1", keystile.ListKeys{Status: "all", Query: "a b", Creator: "per_1", Cursor: "c", Limit: 5}))
		}, line: "GET /v1/workspaces/ws_1/keys?created_by=per_1&cursor=c&limit=5&q=a+b&status=all", answer: `{"data":[]}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Key(ctx, "key_1")) }, line: "GET /v1/keys/key_1"},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.UpdateKey(ctx, "key_1", keystile.KeyPatch{Name: &name}))
		}, line: "PATCH /v1/keys/key_1", body: `{"name":"n"}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return c.DeleteKey(ctx, "key_1") }, line: "DELETE /v1/keys/key_1"},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.RevokeKey(ctx, "key_1", keystile.RevokeKey{Reason: keystile.ReasonUnneeded}))
		}, line: "POST /v1/keys/key_1/revoke", body: `{"reason":"unneeded"}`},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.DisableKey(ctx, "key_1", keystile.DisableKey{}))
		}, line: "POST /v1/keys/key_1/disable", body: `{}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.EnableKey(ctx, "key_1")) }, line: "POST /v1/keys/key_1/enable"},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.RotateKey(ctx, "key_1", keystile.RotateKey{Overlap: "24h"}))
		}, line: "POST /v1/keys/key_1/rotate", body: `{"overlap":"24h"}`, answer: `{"key":{"id":"key_2"},"secret":"s"}`, create: true},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.ReviewKey(ctx, "key_1")) }, line: "POST /v1/keys/key_1/review"},

		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.CreateWorkspace(ctx, keystile.CreateWorkspace{Name: "n"}))
		}, line: "POST /v1/workspaces", body: `{"name":"n"}`, create: true},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.Workspaces(ctx, keystile.ListWorkspaces{Query: "acme"}))
		}, line: "GET /v1/workspaces?q=acme", answer: `{"data":[]}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Workspace(ctx, "ws_1")) }, line: "GET /v1/workspaces/ws_1"},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.UpdateWorkspace(ctx, "ws_1", keystile.WorkspacePatch{Suspended: &yes}))
		}, line: "PATCH /v1/workspaces/ws_1", body: `{"suspended":true}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return c.DeleteWorkspace(ctx, "ws_1") }, line: "DELETE /v1/workspaces/ws_1"},

		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.Roles(ctx, "ws_1", keystile.Page{Cursor: "c"}))
		}, line: "GET /v1/workspaces/ws_1/roles?cursor=c", answer: `{"data":[]}`},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.CreateRole(ctx, "ws_1", keystile.CreateRole{Name: "n", Permissions: keystile.Permissions{"a.b"}}))
		}, line: "POST /v1/workspaces/ws_1/roles", body: `{"name":"n","permissions":["a.b"]}`, create: true},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Role(ctx, "role_1")) }, line: "GET /v1/roles/role_1"},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.UpdateRole(ctx, "role_1", keystile.RolePatch{Name: &name}))
		}, line: "PATCH /v1/roles/role_1", body: `{"name":"n"}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return c.DeleteRole(ctx, "role_1") }, line: "DELETE /v1/roles/role_1"},

		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.Members(ctx, "ws_1", keystile.Page{Limit: 7}))
		}, line: "GET /v1/workspaces/ws_1/members?limit=7", answer: `{"data":[]}`},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.CreateMember(ctx, "ws_1", keystile.CreateMember{Person: keystile.Person{Subject: "u1"}, Role: "viewer"}))
		}, line: "POST /v1/workspaces/ws_1/members", body: `{"person":{"subject":"u1"},"role":"viewer"}`, create: true},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Member(ctx, "mem_1")) }, line: "GET /v1/members/mem_1"},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.UpdateMember(ctx, "mem_1", keystile.MemberPatch{Role: &role}))
		}, line: "PATCH /v1/members/mem_1", body: `{"role":"viewer"}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return c.DeleteMember(ctx, "mem_1") }, line: "DELETE /v1/members/mem_1"},

		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.CreatePortalSession(ctx, "ws_1", keystile.CreatePortalSession{Person: keystile.Person{Subject: "u1"}, Role: "viewer", ExpiresIn: "30m"}))
		}, line: "POST /v1/workspaces/ws_1/portal-sessions", body: `{"person":{"subject":"u1"},"role":"viewer","expires_in":"30m"}`},

		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.Usage(ctx, "ws_1", keystile.ListUsage{Key: "key_1", Since: since, Until: since.Add(time.Hour), Limit: 3}))
		}, line: "GET /v1/workspaces/ws_1/usage?key=key_1&limit=3&since=2026-03-01T11%3A00%3A00Z&until=2026-03-01T12%3A00%3A00Z", answer: `{"data":[]}`},
		{call: func(ctx context.Context, c *keystile.Client) error {
			return discard(c.Audit(ctx, "ws_1", keystile.ListAudit{Action: "key.revoked", Object: "key_1", Actor: "per_1", Since: since, Cursor: "c"}))
		}, line: "GET /v1/workspaces/ws_1/audit?action=key.revoked&actor=per_1&cursor=c&object=key_1&since=2026-03-01T11%3A00%3A00Z", answer: `{"data":[]}`},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Plans(ctx)) }, line: "GET /v1/plans", answer: `{"data":[],"roles":[],"permissions":[]}`},

		// Ids that are paths of their own lead nowhere else.
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Key(ctx, "")) }, line: "GET /v1/keys/-"},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Key(ctx, "..")) }, line: "GET /v1/keys/-"},
		{call: func(ctx context.Context, c *keystile.Client) error { return discard(c.Key(ctx, "a/../b?c")) }, line: "GET /v1/keys/a%2F..%2Fb%3Fc"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ int) {
				switch {
				case strings.HasPrefix(test.line, "DELETE"):
					w.WriteHeader(http.StatusNoContent)
				case test.answer != "":
					writeJSON(w, http.StatusOK, test.answer)
				default:
					writeJSON(w, http.StatusOK, `{"id":"x"}`)
				}
			})
			if err := test.call(t.Context(), s.client(t)); err != nil {
				t.Fatal(err)
			}
			got := s.requests()
			if len(got) != 1 {
				t.Fatalf("%d requests, want 1", len(got))
			}
			if got[0].line != test.line || got[0].body != test.body {
				t.Errorf("sent %s %s\nwant %s %s", got[0].line, got[0].body, test.line, test.body)
			}
			if auth := got[0].header.Get("Authorization"); auth != "Bearer "+clientKey {
				t.Error("the client did not authenticate with its key")
			}
			if agent := got[0].header.Get("User-Agent"); agent != "keystile-go/"+keystile.Version {
				t.Errorf("User-Agent %q", agent)
			}
			if sent := got[0].header.Get("Idempotency-Key") != ""; sent != test.create {
				t.Errorf("Idempotency-Key sent: %t, want %t", sent, test.create)
			}
			if sent := got[0].header.Get("Content-Type") == "application/json"; sent != (test.body != "") {
				t.Errorf("Content-Type %q with body %q", got[0].header.Get("Content-Type"), got[0].body)
			}
		})
	}
}

func TestClientReadsAnswers(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ int) {
		writeJSON(w, http.StatusCreated, `{"key":{"id":"key_1","status":"active","added_by_a_newer_server":1},"secret":"gw_s"}`)
	})
	created, err := s.client(t).CreateKey(t.Context(), "ws_1", keystile.CreateKey{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	if created.Secret != "gw_s" || created.Key.ID != "key_1" || created.Key.Status != keystile.StatusActive {
		t.Errorf("got %+v", created)
	}
}

func TestClientAllGoesThroughThePages(t *testing.T) {
	pages := []string{
		`{"data":[{"id":"1"},{"id":"2"}],"next_cursor":"two"}`,
		`{"data":[],"next_cursor":"three"}`,
		`{"data":[{"id":"3"}]}`,
	}
	tests := map[string]struct {
		path string
		ids  func(ctx context.Context, c *keystile.Client) ([]string, error)
	}{
		"keys": {"/v1/workspaces/ws_1/keys?status=all", func(ctx context.Context, c *keystile.Client) ([]string, error) {
			return gather(c.AllKeys(ctx, "ws_1", keystile.ListKeys{Status: "all"}), func(k keystile.Key) string { return k.ID })
		}},
		"webhook secrets": {"/v1/workspaces/ws_1/webhook-secrets?status=all", func(ctx context.Context, c *keystile.Client) ([]string, error) {
			return gather(c.AllWebhookSecrets(ctx, "ws_1", keystile.ListWebhookSecrets{Status: "all"}), func(s keystile.WebhookSecretRecord) string { return s.ID })
		}},
		"endpoints": {"/v1/workspaces/ws_1/endpoints?limit=9", func(ctx context.Context, c *keystile.Client) ([]string, error) {
			return gather(c.AllEndpoints(ctx, "ws_1", keystile.ListEndpoints{Limit: 9}), func(e keystile.Endpoint) string { return e.ID })
		}},
		"deliveries": {"/v1/endpoints/ep_1/deliveries?status=failed", func(ctx context.Context, c *keystile.Client) ([]string, error) {
			return gather(c.AllDeliveries(ctx, "ep_1", keystile.ListDeliveries{Status: "failed"}), func(d keystile.Delivery) string { return d.ID })
		}},
		"alerts": {"/v1/workspaces/ws_1/alerts?state=all", func(ctx context.Context, c *keystile.Client) ([]string, error) {
			return gather(c.AllAlerts(ctx, "ws_1", keystile.ListAlerts{State: "all"}), func(a keystile.Alert) string { return a.ID })
		}},
		"workspaces": {"/v1/workspaces?q=acme", func(ctx context.Context, c *keystile.Client) ([]string, error) {
			return gather(c.AllWorkspaces(ctx, keystile.ListWorkspaces{Query: "acme"}), func(w keystile.Workspace) string { return w.ID })
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, try int) { writeJSON(w, http.StatusOK, pages[try-1]) })
			ids, err := test.ids(t.Context(), s.client(t))
			if want := []string{"1", "2", "3"}; err != nil || !slices.Equal(ids, want) {
				t.Errorf("got %v, %v, want %v", ids, err, want)
			}
			var want, sent []string
			for _, r := range s.requests() {
				sent = append(sent, r.line)
			}
			path, query, _ := strings.Cut(test.path, "?")
			for _, cursor := range []string{"", "two", "three"} {
				q, err := url.ParseQuery(query)
				if err != nil {
					t.Fatal(err)
				}
				if cursor != "" {
					q.Set("cursor", cursor)
				}
				want = append(want, "GET "+path+"?"+q.Encode())
			}
			if !slices.Equal(sent, want) {
				t.Errorf("sent %v, want %v", sent, want)
			}
		})
	}
}

func gather[T any](objects iter.Seq2[T, error], id func(T) string) (ids []string, err error) {
	for o, err := range objects {
		if err != nil {
			return ids, err
		}
		ids = append(ids, id(o))
	}
	return ids, nil
}

func TestClientAllKeysEnds(t *testing.T) {
	tests := map[string]struct {
		pages   []string
		take    int
		want    int
		wantErr bool
	}{
		"when the caller has enough":    {pages: []string{`{"data":[{"id":"a"},{"id":"b"}],"next_cursor":"x"}`}, take: 1, want: 1},
		"with the first error":          {pages: []string{`{"data":[{"id":"a"}],"next_cursor":"x"}`, `not JSON`}, take: 9, want: 1, wantErr: true},
		"when a page leads back itself": {pages: []string{`{"data":[{"id":"a"}],"next_cursor":"x"}`, `{"data":[{"id":"b"}],"next_cursor":"x"}`}, take: 9, want: 2, wantErr: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, try int) { writeJSON(w, http.StatusOK, test.pages[try-1]) })
			var keys, failures int
			for _, err := range s.client(t).AllKeys(t.Context(), "ws_1", keystile.ListKeys{}) {
				if err != nil {
					failures++
					continue
				}
				if keys++; keys == test.take {
					break
				}
			}
			if keys != test.want || failures > 0 != test.wantErr || failures > 1 {
				t.Errorf("%d keys and %d errors, want %d keys and an error: %t", keys, failures, test.want, test.wantErr)
			}
		})
	}
}

func TestClientVerifyBatchSplits(t *testing.T) {
	requests := make([]keystile.VerifyRequest, 2500)
	var sizes []int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch keystile.VerifyBatch
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
			t.Error(err)
		}
		sizes = append(sizes, len(batch.Requests))
		answer := keystile.DecisionBatch{Decisions: make([]keystile.Decision, len(batch.Requests))}
		for i, r := range batch.Requests {
			answer.Decisions[i].KeyID = "of " + r.Key
		}
		text, err := json.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		writeJSON(w, http.StatusOK, string(text))
	}))
	defer s.Close()
	for i := range requests {
		requests[i].Key = fmt.Sprint(i)
	}
	c, err := keystile.NewClient(s.URL, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := c.VerifyBatch(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(sizes, []int{1000, 1000, 500}) {
		t.Errorf("batches of %v", sizes)
	}
	for i, d := range decisions {
		if d.KeyID != fmt.Sprint("of ", i) {
			t.Fatalf("decision %d is %q", i, d.KeyID)
		}
	}
	if len(decisions) != len(requests) {
		t.Errorf("%d decisions", len(decisions))
	}
}

func TestClientVerifyBatchMiscounted(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ int) { writeJSON(w, http.StatusOK, `{"data":[{"valid":true}]}`) })
	_, err := s.client(t).VerifyBatch(t.Context(), make([]keystile.VerifyRequest, 2))
	if !errors.Is(err, keystile.CodeInternal) {
		t.Errorf("got %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	tests := map[string]struct {
		answer   func(http.ResponseWriter)
		code     keystile.Code
		status   int
		contains string
	}{
		"problem": {func(w http.ResponseWriter) {
			keystile.WriteError(w, keystile.NewError(keystile.CodePlanLimit, "The plan Starter allows 2 active keys.", "Revoke one."), "")
		}, keystile.CodePlanLimit, 403, "The plan Starter allows 2 active keys."},
		"problem of a code to come": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(418)
			_, _ = io.WriteString(w, `{"code":"teapot","title":"Teapot","status":500}`)
		}, "teapot", 418, "Teapot"},
		"proxy's page": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(502)
			_, _ = io.WriteString(w, "<html>Bad Gateway</html>")
		}, keystile.CodeUnavailable, 502, "answered 502 Bad Gateway"},
		"somebody else's JSON": {func(w http.ResponseWriter) { writeJSON(w, 403, `{"message":"no"}`) },
			keystile.CodeUnavailable, 403, "answered 403 Forbidden"},
		"nobody there": {func(w http.ResponseWriter) { http.Error(w, "404 page not found", 404) },
			keystile.CodeUnknownRoute, 404, "answered 404 Not Found"},
		"sign-in page": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>Sign in</html>")
		}, keystile.CodeUnavailable, 200, "without JSON"},
		"JSON of another shape": {func(w http.ResponseWriter) { writeJSON(w, 200, `{"id":7}`) },
			keystile.CodeUnavailable, 200, "another shape"},
		"redirect": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://elsewhere.example/v1?x=secret")
			w.WriteHeader(307)
		}, keystile.CodeUnavailable, 307, "a redirect to https://elsewhere.example, which"},
		"endless": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			block := []byte(strings.Repeat(" ", 1<<20))
			for range 9 {
				_, _ = w.Write(block)
			}
		}, keystile.CodeUnavailable, 200, "more than 8 MiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ int) { test.answer(w) })
			_, err := s.client(t).Key(t.Context(), "key_1")
			var e *keystile.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Code != test.code || e.Status != test.status || !errors.Is(err, test.code) {
				t.Errorf("code %q, status %d; want %q, %d", e.Code, e.Status, test.code, test.status)
			}
			if !strings.Contains(err.Error(), test.contains) {
				t.Errorf("%q does not say %q", err, test.contains)
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			checkNoSecret(t, "the error", fmt.Sprintf("%v %+v %#v", err, err, err))
		})
	}
}

func TestClientRepeats(t *testing.T) {
	busy := func(retryAfter string) func(*testing.T, http.ResponseWriter) {
		return func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("Retry-After", retryAfter)
			keystile.WriteError(w, keystile.NewError(keystile.CodeUnavailable, ""), "")
		}
	}
	lost := func(_ *testing.T, w http.ResponseWriter) {
		w.Header().Set("Retry-After", "0")
		keystile.WriteError(w, keystile.NewError(keystile.CodeUnknownOutcome, ""), "")
	}
	fromProxy := func(_ *testing.T, w http.ResponseWriter) {
		w.Header().Set("Retry-After", "0")
		http.Error(w, "busy", http.StatusServiceUnavailable)
	}
	calls := map[string]func(context.Context, *keystile.Client) error{
		"read": func(ctx context.Context, c *keystile.Client) error {
			_, err := c.Key(ctx, "key_1")
			return err
		},
		"verify": func(ctx context.Context, c *keystile.Client) error {
			_, err := c.Verify(ctx, keystile.VerifyRequest{Key: "k"})
			return err
		},
		"create": func(ctx context.Context, c *keystile.Client) error {
			_, err := c.CreateRole(ctx, "ws_1", keystile.CreateRole{Name: "n"})
			return err
		},
		"revoke": func(ctx context.Context, c *keystile.Client) error {
			_, err := c.RevokeKey(ctx, "key_1", keystile.RevokeKey{})
			return err
		},
		"roll back": func(ctx context.Context, c *keystile.Client) error {
			_, err := c.RevokeKey(ctx, "key_1", keystile.RevokeKey{Rollback: true})
			return err
		},
		"update": func(ctx context.Context, c *keystile.Client) error {
			_, err := c.UpdateKey(ctx, "key_1", keystile.KeyPatch{})
			return err
		},
		"rotate": func(ctx context.Context, c *keystile.Client) error {
			_, err := c.RotateKey(ctx, "key_1", keystile.RotateKey{})
			return err
		},
		"delete": func(ctx context.Context, c *keystile.Client) error { return c.DeleteKey(ctx, "key_1") },
	}
	harmless := []string{"read", "verify", "create", "rotate", "revoke"}
	all := []string{"read", "verify", "create", "revoke", "roll back", "update", "rotate", "delete"}
	tests := map[string]struct {
		fail     func(*testing.T, http.ResponseWriter)
		failures int
		repeated []string // calls that succeed in the end
	}{
		"the connection breaks":            {fail: hangUp, failures: 2, repeated: harmless},
		"the connection breaks for good":   {fail: hangUp, failures: 9},
		"busy, at once again":              {fail: busy("0"), failures: 2, repeated: all},
		"busy for good":                    {fail: busy("0"), failures: 9},
		"busy for long":                    {fail: busy("60"), failures: 1},
		"outcome unknown":                  {fail: lost, failures: 1, repeated: harmless},
		"a proxy is busy, and may have it": {fail: fromProxy, failures: 1, repeated: harmless},
	}
	for name, test := range tests {
		for kind, do := range calls {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				s := serve(t, func(w http.ResponseWriter, try int) {
					if try <= test.failures {
						test.fail(t, w)
						return
					}
					writeJSON(w, http.StatusOK, `{}`)
				})
				err := do(t.Context(), s.client(t))
				got := s.requests()
				if want := slices.Contains(test.repeated, kind); (err == nil) != want {
					t.Errorf("succeeded: %t, want %t (%v)", err == nil, want, err)
				}
				if len(got) > 3 {
					t.Errorf("%d tries", len(got))
				}
				for _, r := range got {
					if r.header.Get("Idempotency-Key") != got[0].header.Get("Idempotency-Key") || r.body != got[0].body {
						t.Error("a repetition is another request")
					}
				}
				if err != nil {
					checkNoSecret(t, "the error", fmt.Sprintf("%+v %#v", err, err))
				}
			})
		}
	}
}

func TestClientRepeatsWhatWasNeverSent(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusNoContent) })
	refused := 2
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if refused > 0 {
			refused--
			address = "127.0.0.1:1" // nobody listens there: a real refusal
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	if err := s.client(t, keystile.WithHTTPClient(&http.Client{Transport: transport})).DeleteKey(t.Context(), "key_1"); err != nil {
		t.Error(err)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}
}

func TestClientLostSecret(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, try int) {
		if try == 1 {
			hangUp(t, w) // after the key was made
			return
		}
		w.Header().Set("Idempotency-Replayed", "true")
		writeJSON(w, http.StatusCreated, `{"key":{"id":"key_1"}}`)
	})
	c := s.client(t)
	created, err := c.CreateKey(t.Context(), "ws_1", keystile.CreateKey{Name: "n"})
	if !errors.Is(err, keystile.CodeUnknownOutcome) || !strings.Contains(err.Error(), "key_1") || created.Key.ID != "key_1" {
		t.Errorf("got %+v, %v; want the key, and an error that names it", created.Key, err)
	}
	if _, err := c.RotateKey(t.Context(), "key_0", keystile.RotateKey{}); !errors.Is(err, keystile.CodeUnknownOutcome) {
		t.Errorf("a replacement's secret was lost, and the error is %v", err)
	}
	s = serve(t, func(w http.ResponseWriter, try int) {
		if try == 1 {
			hangUp(t, w)
			return
		}
		w.Header().Set("Idempotency-Replayed", "true")
		writeJSON(w, http.StatusCreated, `{"webhook_secret":{"id":"whs_1"}}`)
	})
	hook, err := s.client(t).CreateWebhookSecret(t.Context(), "ws_1", keystile.CreateWebhookSecret{Label: "l"})
	if !errors.Is(err, keystile.CodeUnknownOutcome) || !strings.Contains(err.Error(), "whs_1") || hook.WebhookSecret.ID != "whs_1" {
		t.Errorf("a webhook secret was lost: %+v, %v", hook.WebhookSecret, err)
	}
	if _, err := s.client(t).SignWebhook(t.Context(), "ws_1", keystile.SignRequest{Payload: "a\xff"}); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("a payload that JSON can't carry: %v", err)
	}
	imported, err := c.CreateKey(t.Context(), "ws_1", keystile.CreateKey{Name: "n", SHA256: strings.Repeat("0", 64)})
	if err != nil || imported.Key.ID != "key_1" {
		t.Errorf("an imported key has no secret to lose: %v", err)
	}
}

func TestClientStopsWithItsContext(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ int) {
		w.Header().Set("Retry-After", "5")
		keystile.WriteError(w, keystile.NewError(keystile.CodeUnavailable, ""), "")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := s.client(t).Key(ctx, "key_1")
	if !errors.Is(err, keystile.CodeUnavailable) {
		t.Errorf("got %v, want what the server said", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it went on for %s", took)
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.client(t).Key(cancelled, "key_1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestClientUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, sent := r.Header["Authorization"]; sent {
			t.Error("a client without a key sent one")
		}
		writeJSON(w, http.StatusOK, `{"valid":true,"code":"valid"}`)
	})}}
	s.Start()
	defer s.Close()
	c, err := keystile.NewClient("unix://"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Verify(t.Context(), keystile.VerifyRequest{Key: "k"})
	if err != nil || !d.Valid {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := keystile.NewClient("unix://"+path, "", keystile.WithHTTPClient(http.DefaultClient)); err == nil {
		t.Error("a client that cannot reach the socket was made")
	}
}

func TestNewClientRefuses(t *testing.T) {
	const good = "https://keys.example.com"
	tests := map[string][2]string{
		"empty URL":            {"", clientKey},
		"no scheme":            {"keys.example.com", clientKey},
		"another scheme":       {"ftp://keys.example.com", clientKey},
		"no host":              {"https:///v1", clientKey},
		"a password":           {"https://me:" + clientKey + "@keys.example.com", clientKey},
		"a broken password":    {"https://me:" + clientKey + "%zz@keys.example.com", clientKey},
		"a query":              {good + "?key=" + clientKey, clientKey},
		"a fragment":           {good + "#" + clientKey, clientKey},
		"socket as a host":     {"unix://run/keystile.sock", ""},
		"no key":               {good, ""},
		"a blank key":          {good, " \n"},
		"a key with a break":   {good, clientKey + "\n" + clientKey},
		"a key with a bullet":  {good, "gw_•••" + clientKey},
		"a key with its words": {good, "Bearer " + clientKey},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := keystile.NewClient(test[0], test[1])
			if err == nil {
				t.Fatalf("made %v", c)
			}
			checkNoSecret(t, "the error", err.Error())
		})
	}
	if _, err := keystile.NewClient(" "+good+"/\n", clientKey+"\n"); err != nil {
		t.Errorf("spaces and line breaks at the edges: %v", err)
	}
}

func TestClientFromEnv(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ int) {
		writeJSON(w, http.StatusOK, `{"valid":true,"key_id":"key_1","name":"CI"}`)
	})
	t.Setenv("KEYSTILE_URL", s.URL+"/behind/a/proxy/")
	t.Setenv("KEYSTILE_KEY", clientKey+"\n")
	c, err := keystile.ClientFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if self, err := c.Me(t.Context()); err != nil || self.KeyID != "key_1" || self.Name != "CI" {
		t.Errorf("got %+v, %v", self, err)
	}
	if line := s.requests()[0].line; line != "GET /behind/a/proxy/v1/me" {
		t.Errorf("sent %s", line)
	}

	t.Setenv("KEYSTILE_KEY", "")
	if _, err := keystile.ClientFromEnv(); err == nil || !strings.Contains(err.Error(), "KEYSTILE_KEY") {
		t.Errorf("without a key: %v", err)
	}
	t.Setenv("KEYSTILE_URL", "")
	if _, err := keystile.ClientFromEnv(); err == nil || !strings.Contains(err.Error(), "KEYSTILE_URL") {
		t.Errorf("without a URL: %v", err)
	}
}

func TestClientPrintsNoKey(t *testing.T) {
	c, err := keystile.NewClient("https://keys.example.com/base", clientKey)
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct {
		Client  *keystile.Client
		private *keystile.Client
		value   keystile.Client
	}{c, c, *c}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{c, *c, hidden, &hidden} {
			text := fmt.Sprintf(verb, value)
			checkNoSecret(t, verb, text)
			if strings.Contains(text, fmt.Sprintf("%x", clientKey)) {
				t.Errorf("%s shows the key in hexadecimal", verb)
			}
		}
	}
	if got := fmt.Sprintf("%+v", c); got != "keystile.Client(https://keys.example.com/base)" {
		t.Errorf("prints as %s", got)
	}
	if text, err := json.Marshal(c); err == nil { //nolint:staticcheck // that it shows nothing is what is tested
		checkNoSecret(t, "JSON", string(text))
	}
}
