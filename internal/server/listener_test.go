package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// certificate writes a certificate for this machine and its key, each in one
// step as programs that renew them do.
func certificate(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLS serves by files, and takes up renewed ones without a restart.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, "first", cert, key)
	p := serve(t, []string{"--data", t.TempDir()}, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(p.url, "https://127.0.0.1:") {
		t.Fatalf("listens on %s", p.url)
	}
	operator := p.admin("key")
	shown := func() string {
		c, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // looks at what is served
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	trusting := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	defer trusting.CloseIdleConnections()
	r, err := tryCall(trusting, "GET", p.url+"/v1/me", bearer(operator), nil)
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("%s, %v", r, err)
	}
	// Neither in the clear nor by what is broken.
	if r, err := tryCall(httpClient, "GET", "http"+strings.TrimPrefix(p.url, "https")+"/v1/me", bearer(operator), nil); err == nil && r.status != http.StatusBadRequest {
		t.Errorf("in the clear: %s", r)
	}
	if c, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil { //nolint:gosec // must be refused
		_ = c.Close()
		t.Error("TLS 1.1 was accepted")
	}
	// Files that are not whole leave the old certificate in use.
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if name := shown(); name != "first" {
		t.Errorf("half a file gave %q", name)
	}
	certificate(t, "second", cert, key)
	eventually(t, "the renewed certificate is served", func() bool { return shown() == "second" })
	// A connection that was open goes on.
	if r, err := tryCall(trusting, "GET", p.url+"/v1/me", bearer(operator), nil); err != nil || r.status != http.StatusOK {
		t.Errorf("an open connection: %s, %v", r, err)
	}
}

// TestStopsInOrder ends the program while a request is under way: it is
// answered, what was counted is written, and the program ends with 0.
func TestStopsInOrder(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	p := serve(t, []string{"--data", t.TempDir()}, "--flush-interval", "1h", "--verify-socket", socket)
	operator := p.admin("key")
	workspace := p.tenant(operator)
	path := "/v1/workspaces/" + workspace + "/keys"
	used := want[keystile.CreatedKey](t, call(t, "POST", p.url+path, bearer(operator), `{"name": "Used"}`), http.StatusCreated)
	for range 41 {
		if d := p.verify(operator, used.Secret); !d.Valid {
			t.Fatalf("%+v", d)
		}
	}
	address := strings.TrimPrefix(p.url, "http://")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const text = `{"name": "Made while it ends"}`
	half := "POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + operator + "\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 30\r\n\r\n"
	if len(text) != 30 {
		t.Fatal("the length is wrong")
	}
	if _, err := c.Write([]byte(half)); err != nil {
		t.Fatal(err)
	}
	// The server asks for the body: the request has reached its handler.
	answer := make([]byte, 12)
	if _, err := c.Read(answer); err != nil || string(answer) != "HTTP/1.1 100" {
		t.Fatalf("%q, %v", answer, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.stop() }()
	eventually(t, "nobody new is let in", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("it ended while a request was under way: %v", err)
	default:
	}
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, 64<<10)
	n, err := c.Read(rest)
	for err == nil && !strings.Contains(string(rest[:n]), `"secret"`) {
		var more int
		more, err = c.Read(rest[n:])
		n += more
	}
	secret := regexp.MustCompile(`"secret":"([^"]+)"`).FindStringSubmatch(string(rest[:n]))
	if secret == nil {
		t.Fatalf("the request under way was not answered: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("ended with %v\n%s", err, p.stderr)
	}
	if !strings.Contains(p.stderr.String(), "stopped") {
		t.Errorf("the log does not say that it stopped: %s", p.stderr)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket was left behind")
	}

	p = serve(t, p.store)
	if d := p.verify(operator, secret[1]); !d.Valid {
		t.Errorf("the key made meanwhile: %+v", d)
	}
	u := want[keystile.Usage](t, call(t, "GET", p.url+"/v1/workspaces/"+workspace+"/usage?key="+used.Key.ID, bearer(operator), nil), http.StatusOK)
	if len(u.Buckets) != 1 && len(u.Buckets) != 2 || u.Buckets[0].Total+u.Buckets[len(u.Buckets)-1].Total*int64(len(u.Buckets)-1) != 41 {
		t.Errorf("uses before the end: %+v", u.Buckets)
	}
}

// TestVerifySocket: verify needs no caller's key there, everything else does.
// A socket left behind by a killed server is taken over, one in use is not.
func TestVerifySocket(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "keystile.sock")
	flags := []string{"--verify-socket", socket}
	p := serve(t, []string{"--data", t.TempDir()}, flags...)
	operator := p.admin("key")
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	through := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer through.CloseIdleConnections()
	on := func(method, path string, h http.Header, body any) reply {
		t.Helper()
		r, err := tryCall(through, method, "http://keystile"+path, h, body)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	ask := keystile.VerifyRequest{Key: operator, Workspace: "ws_operator"}
	if d := want[keystile.Decision](t, on("POST", "/v1/verify", nil, ask), http.StatusOK); !d.Valid {
		t.Errorf("%+v", d)
	}
	if d := want[keystile.DecisionBatch](t, on("POST", "/v1/verify/batch", nil, keystile.VerifyBatch{Requests: []keystile.VerifyRequest{ask}}), http.StatusOK); !d.Decisions[0].Valid {
		t.Errorf("%+v", d)
	}
	wantProblem(t, call(t, "POST", p.url+"/v1/verify", nil, ask), http.StatusUnauthorized, keystile.CodeMissingCredential)
	for _, path := range []string{"/v1/workspaces", "/v1/me", "/v1/forward-auth", "/metrics", "/v1/plans"} {
		wantProblem(t, on("GET", path, nil, nil), http.StatusUnauthorized, keystile.CodeMissingCredential)
	}
	if r := on("GET", "/v1/me", bearer(operator), nil); r.status != http.StatusOK {
		t.Errorf("with a key: %s", r)
	}
	if r := on("GET", "/readyz", nil, nil); r.status != http.StatusOK {
		t.Errorf("readyz: %s", r)
	}
	p.kill()
	if _, err := os.Stat(socket); err != nil {
		t.Fatalf("a kill took the socket along: %v", err)
	}
	again := serve(t, p.store, flags...)
	through.CloseIdleConnections()
	if d := want[keystile.Decision](t, on("POST", "/v1/verify", nil, ask), http.StatusOK); !d.Valid {
		t.Errorf("after a restart: %+v", d)
	}
	if err := again.stop(); err != nil {
		t.Error(err)
	}
}

// A socket with somebody behind it is not taken away from them, even while they
// are too busy to answer.
func TestSocketOfAnotherIsLeft(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "busy.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for { // until no more fit
		c, err := net.DialTimeout("unix", path, time.Minute)
		if err != nil {
			break
		}
		defer c.Close()
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tryStart(t, exec.Command(program(t), "serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--verify-socket", path), nil)
	if err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("it ended with %v", err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket is another one: %v", err)
	}
}

// A peer on a socket may call itself anything, an address too. It is not believed.
func TestSocketPeerNamesItself(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "keystile.sock")
	p := serve(t, []string{"--data", t.TempDir()}, "--verify-socket", socket)
	operator := p.admin("key")
	made := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+p.tenant(operator)+"/keys", bearer(operator),
		`{"name": "Bound", "ip_allowlist": ["198.51.100.7"]}`), http.StatusCreated)
	t.Chdir(dir) // the name is a path
	through := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{LocalAddr: &net.UnixAddr{Name: "198.51.100.7:80", Net: "unix"}}).DialContext(ctx, "unix", socket)
	}}}
	defer through.CloseIdleConnections()
	for range 3 { // the first request of a connection takes another way than the rest
		r, err := tryCall(through, "GET", "http://keystile/v1/forward-auth", bearer(made.Secret), nil)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, r, http.StatusForbidden, keystile.CodeIPNotAllowed)
	}
}

// TestMetrics: the names that operations.md documents are those that are
// served, on a listener of their own or to a key that may.
func TestMetrics(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	p := serve(t, []string{"--data", t.TempDir()}, "--metrics-listen", address)
	operator := p.admin("key")
	workspace := p.tenant(operator)
	made := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+workspace+"/keys", bearer(operator), `{"name": "Any"}`), http.StatusCreated)
	for range 3 {
		p.verify(operator, made.Secret)
	}
	p.verify(operator, unissued(t))
	wantProblem(t, call(t, "GET", p.url+"/metrics", nil, nil), http.StatusUnauthorized, keystile.CodeMissingCredential)
	wantProblem(t, call(t, "GET", p.url+"/metrics", bearer(made.Secret), nil), http.StatusForbidden, keystile.CodeInsufficientPermission)
	if r := call(t, "GET", p.url+"/metrics", bearer(operator), nil); r.status != http.StatusOK {
		t.Fatalf("%s", r)
	}
	r := call(t, "GET", "http://"+address+"/metrics", nil, nil)
	if r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%s, %v", r, r.header)
	}
	for _, path := range []string{"/", "/v1/me", "/healthz", "/debug/pprof/"} {
		if r := call(t, "GET", "http://"+address+path, bearer(operator), nil); r.status != http.StatusNotFound {
			t.Errorf("the metrics listener answers %s with %d", path, r.status)
		}
	}
	text := string(r.body)
	for _, line := range []string{
		`keystile_decisions_total{code="unknown"} 1`, `keystile_node_usable 1`, `keystile_index_keys 2`,
		`keystile_http_requests_total{route="POST /v1/verify",status="200"} 4`, `keystile_usage_flush_errors_total 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(text, workspace) || strings.Contains(text, made.Key.ID) {
		t.Error("a label names a tenant or a key")
	}
	var served []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (keystile_\w+) `).FindAllStringSubmatch(text, -1) {
		served = append(served, m[1])
	}
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile(`\bkeystile_\w+`).FindAllString(string(docs), -1)
	slices.Sort(served)
	slices.Sort(documented)
	documented = slices.Compact(documented)
	if len(served) < 6 || !slices.Equal(served, documented) {
		t.Errorf("served     %v\ndocumented %v", served, documented)
	}
}

// TestSignInLink: it opens as often as one likes, works once, and lives for 15 minutes.
func TestSignInLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, []string{"--data", dir})
	var first string
	eventually(t, "the first start prints a link", func() bool {
		first = regexp.MustCompile(`http://\S+/link/\S+`).FindString(p.stdout.String())
		return first != ""
	})
	second := p.admin("link")
	// By name: browsers keep passkeys for names only.
	if !strings.HasPrefix(first, strings.Replace(p.url, "127.0.0.1", "localhost", 1)+"/link/") {
		t.Errorf("the link leads to %s", first)
	}
	token := first[strings.LastIndexByte(first, '/')+1:]
	first = p.url + "/link/" + token
	if r := call(t, "GET", first, http.Header{"Accept": {"text/html"}}, nil); r.status != http.StatusSeeOther ||
		!strings.HasPrefix(r.header.Get("Location"), "http://localhost:") || !strings.HasSuffix(r.header.Get("Location"), "/link/"+token) {
		t.Errorf("who comes by number is led to %q", r.header.Get("Location"))
	}
	second = p.url + second[strings.Index(second, "/link/"):]
	get := func(link string, want int) reply {
		t.Helper()
		r := call(t, "GET", link, nil, nil)
		if r.status != want || r.header.Get("Referrer-Policy") != "same-origin" || !strings.Contains(r.header.Get("Cache-Control"), "no-store") {
			t.Fatalf("%d with %v, want %d", r.status, r.header, want)
		}
		return r
	}
	for range 3 {
		get(first, http.StatusOK)
	}
	statuses := make(chan int, 8)
	for range cap(statuses) { // at once: one of them wins
		go func() {
			r, err := tryCall(httpClient, "POST", first, nil, nil)
			if err != nil {
				r.status = 0
			}
			statuses <- r.status
		}()
	}
	won := 0
	for range cap(statuses) {
		switch s := <-statuses; s {
		case http.StatusOK, http.StatusSeeOther:
			won++
		case http.StatusUnauthorized:
		default:
			t.Errorf("status %d", s)
		}
	}
	if won != 1 {
		t.Errorf("the link worked %d times", won)
	}
	get(first, http.StatusUnauthorized)
	get(first[:len(first)-1], http.StatusUnauthorized)
	get(second, http.StatusOK)

	n := &tenant{T: t, dir: dir}
	n.sql(`UPDATE links SET expires_at = expires_at WHERE expires_at - created_at = 900000 AND used_at = 0`) // fails unless it is so
	n.sql(`UPDATE links SET expires_at = expires_at - 900000 WHERE used_at = 0`)
	get(second, http.StatusUnauthorized)
	if r := call(t, "POST", second, nil, nil); r.status != http.StatusUnauthorized {
		t.Errorf("a link after its end: %d", r.status)
	}
	if strings.Contains(p.stderr.String(), token) {
		t.Error("the log holds the link's token")
	}
	inFiles(t, dir, token)
}

// TestStrictTransport: where people reach the server by TLS alone, browsers are
// told to come by it from then on (RFC 6797, section 6.1); where they don't,
// they are not (section 7.2).
func TestStrictTransport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ public, want string }{
		{"https://keys.example.test", "max-age=31536000"},
		{"http://keys.example.test", ""},
		{"", ""},
	} {
		t.Run(c.public, func(t *testing.T) {
			t.Parallel()
			s := keystiletest.New(t, keystiletest.PublicURL(c.public))
			for _, path := range []string{"/sign-in", "/healthz", "/v1/me", "/assets/none", "/nowhere"} {
				if got := call(t, "GET", s.URL+path, nil, nil).header.Get("Strict-Transport-Security"); got != c.want {
					t.Errorf("%s: %q, want %q", path, got, c.want)
				}
			}
		})
	}
}
