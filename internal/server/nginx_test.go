package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keystile/keystile"
)

// service is what stands behind a gateway: it answers with the headers and the
// body's length that it got.
func service(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(served{Path: r.URL.Path, Method: r.Method, Header: r.Header, Body: n})
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

type served struct {
	Path, Method string
	Header       http.Header
	Body         int64
}

// nginx runs the example's configuration between clients and a service, and
// returns where it listens.
func nginx(t *testing.T, keystileAddress, serviceAddress string) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Fatalf("nginx is needed for this test: make tools installs it: %v", err)
		}
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "nginx", "keystile.conf"))
	if err != nil {
		t.Fatal(err)
	}
	listen := freeAddress(t)
	text := string(example)
	for from, to := range map[string]string{"127.0.0.1:8080": keystileAddress, "127.0.0.1:9000": serviceAddress, "127.0.0.1:8081": listen} {
		if strings.Count(text, from) != 1 {
			t.Fatalf("the example names %s %d times", from, strings.Count(text, from))
		}
		text = strings.Replace(text, from, to, 1)
	}
	dir := t.TempDir()
	main := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;\nevents {}\nhttp {\naccess_log off; ", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		main += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(main+text+"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr := &buffer{}
	cmd := exec.Command(path, "-p", dir, "-c", file, "-e", "stderr")
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("nginx: %s", stderr)
		}
	})
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", listen)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "http://" + listen
}

// freeAddress is an address of this machine that nothing listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestNginx sends requests through a real nginx with the configuration that
// the examples give, which asks forward-auth.
func TestNginx(t *testing.T) {
	t.Parallel()
	p := serve(t, []string{"--data", t.TempDir()}, "--trusted-proxy", "127.0.0.1", "--flush-interval", "100ms")
	operator := p.admin("key")
	keys := p.url + "/v1/workspaces/" + p.tenant(operator) + "/keys"
	create := func(k keystile.CreateKey) keystile.CreatedKey {
		return want[keystile.CreatedKey](t, call(t, "POST", keys, bearer(operator), k), http.StatusCreated)
	}
	reader := create(keystile.CreateKey{Name: "Reader", Permissions: keystile.Permissions{"read"}, Owner: "Zoë & Co, 日本"})
	writer := create(keystile.CreateKey{Name: "Writer", Permissions: keystile.Permissions{"read", "write"}})
	revoked := create(keystile.CreateKey{Name: "Revoked"})
	elsewhere := create(keystile.CreateKey{Name: "Elsewhere", IPAllowlist: []string{"203.0.113.9"}})
	want[keystile.Key](t, call(t, "POST", p.url+"/v1/keys/"+revoked.Key.ID+"/revoke", bearer(operator), nil), http.StatusOK)
	gateway := nginx(t, strings.TrimPrefix(p.url, "http://"), service(t))
	typo := reader.Secret[:len(reader.Secret)-1] + "!"

	for _, c := range []struct {
		name, method, path string
		header             http.Header
		code               keystile.Code // "" for let in
		status             int
	}{
		{"good key", "GET", "/orders", bearer(reader.Secret), "", 200},
		{"good key in the other header", "GET", "/orders", headers("X-API-Key", reader.Secret), "", 200},
		{"reading where changing takes more", "GET", "/inventory/1", bearer(reader.Secret), "", 200},
		{"changing without the permission", "POST", "/inventory/1", bearer(reader.Secret), keystile.CodeInsufficientPermission, 403},
		{"deleting without the permission", "DELETE", "/inventory/1", bearer(reader.Secret), keystile.CodeInsufficientPermission, 403},
		{"changing with the permission", "POST", "/inventory/1", bearer(writer.Secret), "", 200},
		{"no key", "GET", "/orders", nil, keystile.CodeMissingCredential, 401},
		{"wrong key", "GET", "/orders", bearer(typo), keystile.CodeMalformed, 401},
		{"no key at all", "GET", "/orders", bearer("nonsense"), keystile.CodeMalformed, 401},
		{"unknown key", "GET", "/orders", bearer(unissued(t)), keystile.CodeUnknown, 401},
		{"revoked key", "GET", "/orders", bearer(revoked.Secret), keystile.CodeRevoked, 401},
		{"two keys", "GET", "/orders", headers("Authorization", "Bearer "+reader.Secret, "X-API-Key", writer.Secret), keystile.CodeSeveralCredentials, 401},
		{"another scheme", "GET", "/orders", headers("Authorization", "Basic "+reader.Secret), keystile.CodeMalformed, 401},
		{"wrong address", "GET", "/orders", bearer(elsewhere.Secret), keystile.CodeIPNotAllowed, 403},
		{"address made up by the client", "GET", "/orders", headers("Authorization", "Bearer "+elsewhere.Secret, "X-Forwarded-For", "203.0.113.9", "X-Real-IP", "203.0.113.9", "Forwarded", "for=203.0.113.9"), keystile.CodeIPNotAllowed, 403},
		{"permission of the client's choice", "POST", "/inventory?permission=read", bearer(reader.Secret), keystile.CodeInsufficientPermission, 403},
		{"way in by the inner address", "GET", "/_keystile", bearer(writer.Secret), "", 404},
		{"open route", "GET", "/health", nil, "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.header.Clone()
			if h == nil {
				h = http.Header{}
			}
			for _, name := range []string{
				"X-Keystile-Key-Id", "X-Keystile-Workspace", "X-Keystile-Role", "X-Keystile-Environment", "X-Keystile-Permissions", "X-Keystile-Owner",
				"x-keystile-owner", "X_Keystile_Owner", "X-Keystile_Owner", "X-Keystile-Problem",
			} {
				h[name] = []string{"smuggled"}
			}
			r := call(t, c.method, gateway+c.path, h, nil)
			if c.code != "" {
				e := wantProblem(t, r, c.status, c.code)
				if e.RequestID == "" || r.header.Get("WWW-Authenticate") == "" && c.code != keystile.CodeIPNotAllowed || r.header.Get("Cache-Control") != "no-store" {
					t.Errorf("the refusal lacks something: %s, %v", r, r.header)
				}
				return
			}
			if c.status == 404 {
				if r.status != 404 {
					t.Errorf("%s", r)
				}
				return
			}
			got := want[served](t, r, c.status)
			for name, values := range got.Header {
				if strings.Contains(strings.Join(values, " "), "smuggled") && name != "X-Keystile-Problem" {
					t.Errorf("the client's %s came through", name)
				}
				if strings.Contains(strings.Join(values, " "), "ks_") {
					t.Errorf("the key came through in %s", name)
				}
			}
			if c.header == nil {
				return
			}
			id := reader.Key.ID
			if strings.Contains(fmt.Sprint(c.header), writer.Secret) {
				id = writer.Key.ID
			}
			if got.Header.Get("X-Keystile-Key-Id") != id || got.Header.Get("X-Keystile-Workspace") == "" || got.Header.Get("X-Keystile-Permissions") == "" || got.Header.Get("X-Forwarded-For") != "127.0.0.1" {
				t.Errorf("the service got %v", got.Header)
			}
		})
	}

	// The body goes to the service and not to Keystile.
	if got := want[served](t, call(t, "POST", gateway+"/inventory", bearer(writer.Secret), strings.Repeat("x", 500_000)), 200); got.Body != 500_000 {
		t.Errorf("the service got %d bytes", got.Body)
	}
	// A revoked key is out at the very next request.
	want[keystile.Key](t, call(t, "POST", p.url+"/v1/keys/"+writer.Key.ID+"/revoke", bearer(operator), nil), http.StatusOK)
	wantProblem(t, call(t, "GET", gateway+"/orders", bearer(writer.Secret), nil), 401, keystile.CodeRevoked)
	// Nobody gets in while nobody can be asked.
	p.kill()
	if e := wantProblem(t, call(t, "GET", gateway+"/orders", bearer(reader.Secret), nil), 503, keystile.CodeUnavailable); e.Detail == "" {
		t.Error("a 503 that says nothing")
	}
	want[served](t, call(t, "GET", gateway+"/health", nil, nil), 200)
}

// unissued is a key of the built-in profile's form that was never given out.
func unissued(t testing.TB) string {
	t.Helper()
	f, err := keystile.NewFormat("ks")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := f.Mint("")
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// TestForwardAuthProblem: the header says what the body says, in a line that
// any gateway can carry.
func TestForwardAuthProblem(t *testing.T) {
	t.Parallel()
	p := serve(t, []string{"--data", t.TempDir(), "--config", writeFile(t, "profile.yaml", "product: Ünïcode\nprefix: ks\nunauthorized: \"Schlüssel 🔑 \\\"ungültig\\\" \\\\ \"\n")})
	operator := p.admin("key")
	narrow := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+p.tenant(operator)+"/keys", bearer(operator),
		keystile.CreateKey{Name: "Writer", Permissions: keystile.Permissions{"write"}}), http.StatusCreated).Secret
	for name, c := range map[string]struct {
		query  string
		header http.Header
		status int
		whole  bool
	}{
		"no key":              {"", nil, 401, true},
		"wrong key":           {"", bearer("x"), 401, true},
		"other scheme":        {"", headers("Authorization", "Basic x"), 401, true},
		"permission":          {"?permission=read", bearer(narrow), 403, true},
		"wide permission":     {"?permission=" + strings.Repeat("%F0%9F%94%91", 32), bearer(narrow), 403, true},
		"long permission":     {"?permission=" + strings.Repeat("p", 5000), bearer(operator), 403, true},
		"line breaks":         {"?permission=a%0d%0aX-Evil:%201%7f%00", bearer(narrow), 403, true},
		"unreadable query":    {"?permission=%zz", bearer(narrow), 403, true},
		"parameter there not": {"?permision=read", bearer(narrow), 403, true},
		"key in the query":    {"?key=" + narrow, bearer(narrow), 401, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := call(t, "GET", p.url+"/v1/forward-auth"+c.query, c.header, nil)
			if r.status != c.status {
				t.Fatalf("status %d, want %d: %s", r.status, c.status, r)
			}
			told := r.problem(t)
			if r.header.Get("X-Evil") != "" {
				t.Error("a header was forged")
			}
			line := r.header.Get("X-Keystile-Problem")
			var said keystile.Error
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if len(line) > 1024 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Contains(line, body(narrow)) {
				t.Errorf("the header is %q", line)
			}
			if said.Code != told.Code || said.Title != told.Title || said.Status != told.Status || said.Type != told.Type || said.RequestID != told.RequestID {
				t.Errorf("the header says %+v, the body %+v", said, told)
			}
			if c.whole && fmt.Sprint(said) != fmt.Sprint(told) {
				t.Errorf("the header says %+v, the body %+v", said, told)
			}
		})
	}
	if r := call(t, "GET", p.url+"/v1/forward-auth", bearer(narrow), nil); r.status != 200 || r.header.Get("X-Keystile-Problem") != "" {
		t.Errorf("a good key: %s with %v", r, r.header)
	}
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
