package keystile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keystile/keystile"
)

// ring is a Verifier that knows a few keys by heart and keeps the questions.
type ring struct {
	format keystile.Format
	keys   map[string]keystile.Decision
	err    error

	mu    sync.Mutex
	asked []keystile.VerifyRequest
}

func (v *ring) Verify(_ context.Context, r keystile.VerifyRequest) (keystile.Decision, error) {
	v.mu.Lock()
	v.asked = append(v.asked, r)
	v.mu.Unlock()
	if v.err != nil {
		return keystile.Decision{}, v.err
	}
	if hint, ok := v.format.Check(r.Key); !ok {
		return keystile.Decision{Code: keystile.CodeMalformed, Hint: hint}, nil
	}
	d, ok := v.keys[r.Key]
	switch {
	case !ok:
		return keystile.Decision{Code: keystile.CodeUnknown}, nil
	case !d.Valid:
		return keystile.Decision{Code: d.Code}, nil
	case r.Workspace != "" && r.Workspace != d.WorkspaceID:
		return keystile.Decision{Code: keystile.CodeWrongWorkspace}, nil
	case r.Permission != "" && !d.Permissions.Allow(r.Permission):
		return keystile.Decision{Code: keystile.CodeInsufficientPermission}, nil
	}
	return d, nil
}

func newRing(t *testing.T) (v *ring, good, revoked string) {
	t.Helper()
	format, err := keystile.NewFormat("vx")
	if err != nil {
		t.Fatal(err)
	}
	good, revoked = mint(t, "vx", ""), mint(t, "vx", "")
	return &ring{format: format, keys: map[string]keystile.Decision{
		good: {
			Valid: true, Code: keystile.CodeValid, KeyID: "key_1", WorkspaceID: "ws_1",
			Permissions: keystile.Permissions{"inventory.*"},
		},
		revoked: {Code: keystile.CodeRevoked},
	}}, good, revoked
}

func TestMiddleware(t *testing.T) {
	verifier, good, revoked := newRing(t)
	header := []string{"X-API-Key"}
	tests := map[string]struct {
		options    keystile.MiddlewareOptions
		permission string
		target     string
		headers    map[string]string
		err        error

		status    int // 204 is the handler's
		code      keystile.Code
		hint      keystile.Hint
		title     string
		challenge string // part of it
	}{
		"good":                 {permission: "inventory.write", headers: map[string]string{"Authorization": "Bearer " + good}, status: 204},
		"good in X-API-Key":    {permission: "inventory.write", headers: map[string]string{"X-API-Key": good}, status: 204},
		"no permission needed": {headers: map[string]string{"X-API-Key": good}, status: 204},
		"right workspace": {options: keystile.MiddlewareOptions{Workspace: func(*http.Request) string { return "ws_1" }},
			headers: map[string]string{"X-API-Key": good}, status: 204},
		"other query": {target: "/?q=vx_1&key=key_1", headers: map[string]string{"X-API-Key": good}, status: 204},

		"missing": {status: 401, code: keystile.CodeMissingCredential, title: "Key missing", challenge: "Bearer"},
		"VX6 title": {options: keystile.MiddlewareOptions{Title: "Unauthorized"}, status: 401,
			code: keystile.CodeMissingCredential, title: "Unauthorized", challenge: "Bearer"},
		"VX6 revoked": {options: keystile.MiddlewareOptions{Title: "Unauthorized", Headers: header}, headers: map[string]string{"X-API-Key": revoked},
			status: 401, code: keystile.CodeRevoked, title: "Unauthorized", challenge: `error="invalid_token"`},
		"VX6 truncated": {options: keystile.MiddlewareOptions{Title: "Unauthorized", Headers: header}, headers: map[string]string{"X-API-Key": good[:30]},
			status: 401, code: keystile.CodeMalformed, hint: keystile.HintTruncated, title: "Unauthorized", challenge: `error="invalid_token"`},
		"VX6 inner space": {options: keystile.MiddlewareOptions{Title: "Unauthorized", Headers: header}, headers: map[string]string{"X-API-Key": good[:9] + " " + good[9:]},
			status: 401, code: keystile.CodeMalformed, hint: keystile.HintWhitespace, title: "Unauthorized", challenge: "Bearer"},
		"VX6 wrong header": {options: keystile.MiddlewareOptions{Title: "Unauthorized", Headers: header}, headers: map[string]string{"Authorization": "Bearer " + good},
			status: 401, code: keystile.CodeMalformed, hint: keystile.HintScheme, title: "Unauthorized", challenge: "Bearer"},
		"unknown": {headers: map[string]string{"X-API-Key": mint(t, "vx", "")}, status: 401, code: keystile.CodeUnknown, title: "Unknown key", challenge: "Bearer"},
		"IP12 Key ID": {headers: map[string]string{"X-API-Key": "key_0ktv3m2a8s0c5f9b1d7e6g4h2j"}, status: 401,
			code: keystile.CodeMalformed, hint: keystile.HintKeyID, title: "Malformed key", challenge: "Bearer"},
		"several": {headers: map[string]string{"Authorization": "Bearer " + good, "X-API-Key": good}, status: 400,
			code: keystile.CodeSeveralCredentials, title: "Several keys", challenge: `error="invalid_request"`},
		"in the query": {target: "/?api_key=" + good, headers: map[string]string{"X-API-Key": good}, status: 400,
			code: keystile.CodeKeyInQuery, title: "Key in the URL", challenge: `error="invalid_request"`},
		"permission": {permission: "orders.write", headers: map[string]string{"X-API-Key": good}, status: 403,
			code: keystile.CodeInsufficientPermission, title: "Permission missing", challenge: `error="insufficient_scope", error_description="This key lacks the permission orders.write.", scope="orders.write"`},
		"wrong workspace": {options: keystile.MiddlewareOptions{Workspace: func(*http.Request) string { return "ws_2" }},
			headers: map[string]string{"X-API-Key": good}, status: 403, code: keystile.CodeWrongWorkspace, title: "Wrong workspace"},
		"no decision": {headers: map[string]string{"X-API-Key": good}, err: errors.New("cut off"), status: 503,
			code: keystile.CodeUnavailable, title: "Not available"},
		// What the server says of our own key is none of the caller's business.
		"our own key is refused": {headers: map[string]string{"X-API-Key": good}, err: keystile.NewError(keystile.CodeExpired, ""), status: 503,
			code: keystile.CodeUnavailable, title: "Not available"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			verifier.err = test.err
			var log bytes.Buffer
			test.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
			var identity keystile.Decision
			handler := keystile.NewMiddleware(verifier, test.options).Require(test.permission, http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					identity, _ = keystile.FromContext(r.Context())
					w.WriteHeader(http.StatusNoContent)
				}))
			target := test.target
			if target == "" {
				target = "/"
			}
			r := httptest.NewRequest("POST", target, nil)
			for name, value := range test.headers {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)

			if w.Code != test.status {
				t.Fatalf("status %d, want %d: %s", w.Code, test.status, w.Body)
			}
			for _, key := range []string{good, revoked} {
				if strings.Contains(w.Body.String(), key) || strings.Contains(log.String(), key) {
					t.Error("the answer or the log shows a key")
				}
			}
			if logged := log.Len() > 0; logged != (test.err != nil) {
				t.Errorf("logged: %s", &log)
			}
			own := test.err != nil && errors.As(test.err, new(*keystile.Error))
			if told := strings.Contains(log.String(), "this program's own key"); told != own {
				t.Errorf("logged: %s", &log)
			}
			if test.status == http.StatusNoContent {
				if identity.KeyID != "key_1" || identity.WorkspaceID != "ws_1" {
					t.Errorf("the handler sees %+v", identity)
				}
				return
			}
			if identity.KeyID != "" {
				t.Error("the handler ran")
			}
			var problem keystile.Error
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
				t.Fatal(err)
			}
			if problem.Code != test.code || problem.Hint != test.hint || problem.Title != test.title || problem.Status != test.status {
				t.Errorf("got %+v", problem)
			}
			h := w.Header()
			if h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v", h)
			}
			if got := h.Get("WWW-Authenticate"); !strings.Contains(got, test.challenge) || (got == "") != (test.challenge == "") {
				t.Errorf("WWW-Authenticate %q, want %q in it", got, test.challenge)
			}
			if (h.Get("Retry-After") != "") != (test.status == 503) {
				t.Errorf("Retry-After %q", h.Get("Retry-After"))
			}
			if test.code == keystile.CodeInsufficientPermission && problem.Permission != test.permission {
				t.Errorf("the missing permission is %q", problem.Permission)
			}
		})
	}
}

func TestMiddlewareAsks(t *testing.T) {
	verifier, good, _ := newRing(t)
	var log bytes.Buffer
	m := keystile.NewMiddleware(verifier, keystile.MiddlewareOptions{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Workspace:      func(r *http.Request) string { return r.Header.Get("Tenant") },
		Logger:         slog.New(slog.NewTextHandler(&log, nil)),
	})
	handler := m.Require("inventory.write", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(peer, forwarded, agent string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-API-Key", good)
		r.Header.Set("Tenant", "ws_1")
		r.Header.Set("User-Agent", agent)
		if forwarded != "" {
			r.Header.Set("X-Forwarded-For", forwarded)
		}
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("10.0.0.1:1", "203.0.113.1, 198.51.100.1", "curl/8")
	ask("192.0.2.1:1", "198.51.100.1", strings.Repeat("ü", 300))
	ask("192.0.2.1:1", "198.51.100.1", "\xff")
	ask("@", "", "")

	want := []keystile.VerifyRequest{
		{IP: "198.51.100.1", UserAgent: "curl/8"},
		{IP: "192.0.2.1", UserAgent: strings.Repeat("ü", 256)},
		{IP: "192.0.2.1"},
		{},
	}
	for i := range want {
		want[i].Key, want[i].Permission, want[i].Workspace = good, "inventory.write", "ws_1"
	}
	if !slices.Equal(verifier.asked, want) {
		t.Errorf("asked\n%+v\nwant\n%+v", verifier.asked, want)
	}
	if n := strings.Count(log.String(), "TrustedProxies"); n != 1 {
		t.Errorf("warned %d times, want once: %s", n, &log)
	}
}

func TestMiddlewareCleansHeaders(t *testing.T) {
	verifier, good, _ := newRing(t)
	var seen http.Header
	handler := keystile.NewMiddleware(verifier, keystile.MiddlewareOptions{}).Require("", http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{
		"X-Api-Key":           {good},
		"X-Keystile-Key-Id":   {"key_forged"},
		"X-Keystile-Role":     {"admin", "admin"},
		"x-keystile-raw":      {"1"},
		"X_keystile_key_id":   {"key_forged"},
		"X-Keystile":          {"none of ours"},
		"X-Request-Id":        {"7"},
		"X-Keystiles-Counted": {"2"},
	}
	before := len(r.Header)
	handler.ServeHTTP(httptest.NewRecorder(), r)
	want := []string{"X-Api-Key", "X-Keystile", "X-Keystiles-Counted", "X-Request-Id"}
	var got []string
	for name := range seen {
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the handler sees %v, want %v", got, want)
	}
	if len(r.Header) != before {
		t.Error("the caller's own request was changed")
	}
}

func TestMiddlewareGoneClient(t *testing.T) {
	verifier, good, _ := newRing(t)
	verifier.err = context.Canceled
	var log bytes.Buffer
	m := keystile.NewMiddleware(verifier, keystile.MiddlewareOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-API-Key", good)
	w := httptest.NewRecorder()
	m.Require("", http.NotFoundHandler()).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || log.Len() > 0 {
		t.Errorf("status %d, logged %q", w.Code, &log)
	}
}

func TestNewMiddlewareNeedsAVerifier(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a middleware that can verify nothing was made")
		}
	}()
	keystile.NewMiddleware(nil, keystile.MiddlewareOptions{})
}

func TestFromContextOutside(t *testing.T) {
	if d, ok := keystile.FromContext(t.Context()); ok {
		t.Errorf("found %+v", d)
	}
}
