package server_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/server"
)

// attach starts an agent on servers and waits until it answers. Who asks it
// needs no key.
func attach(t testing.TB, key string, flags []string, servers ...*process) *process {
	t.Helper()
	return attachBy(t, program(t), key, flags, servers...)
}

// attachBy is attach with another build of the program.
func attachBy(t testing.TB, binary, key string, flags []string, servers ...*process) *process {
	t.Helper()
	words := append([]string{"agent", "--listen", "127.0.0.1:0", "--open"}, flags...)
	for _, s := range servers {
		words = append(words, "--url", s.url)
	}
	cmd := exec.Command(binary, words...)
	cmd.Env = append(environment(), "KEYSTILE_KEY="+key)
	return start(t, cmd, nil)
}

// outpost is a server, or two on one database, and an agent of theirs that is
// asked about all keys, all the time.
type outpost struct {
	servers          []*process
	agent            *process
	operator, tenant string

	mu      sync.Mutex
	probes  map[string]*atomic.Bool // secret, revoked
	asked   atomic.Int64
	refused atomic.Int64 // for want of a lease
	done    chan struct{}
	clients sync.WaitGroup
}

func newOutpost(t *testing.T, servers ...*process) *outpost {
	t.Helper()
	o := &outpost{servers: servers, probes: map[string]*atomic.Bool{}, done: make(chan struct{})}
	o.operator = servers[0].admin("key")
	o.tenant = servers[0].tenant(o.operator)
	o.agent = attach(t, servers[0].admin("key", "--role", "replica"), nil, servers...)
	for range 2 {
		o.clients.Go(func() { o.ask(t) })
	}
	t.Cleanup(o.end)
	return o
}

func (o *outpost) end() {
	select {
	case <-o.done:
	default:
		close(o.done)
		o.clients.Wait()
	}
}

// ask is a client that never stops asking.
func (o *outpost) ask(t *testing.T) {
	for {
		select {
		case <-o.done:
			return
		case <-time.After(time.Millisecond):
		}
		o.mu.Lock()
		probes := make(map[string]*atomic.Bool, len(o.probes))
		for secret, revoked := range o.probes {
			probes[secret] = revoked
		}
		o.mu.Unlock()
		for secret, revoked := range probes {
			was := revoked.Load()
			accepted, answered := o.accepts(t, secret)
			if accepted && was {
				t.Error("P1: an agent accepted a key after its revoke had returned")
			}
			if answered {
				o.asked.Add(1)
			} else {
				o.refused.Add(1)
			}
		}
	}
}

// accepts asks the agent about a key, as a gateway does.
func (o *outpost) accepts(t *testing.T, secret string) (accepted, answered bool) {
	t.Helper()
	r, err := tryCall(httpClient, "GET", o.agent.url+"/v1/forward-auth", bearer(secret), nil)
	switch {
	case err != nil:
		return false, false // it has ended
	case r.status == http.StatusOK:
		return true, true
	case r.status == http.StatusServiceUnavailable:
		return false, false
	case r.status != http.StatusUnauthorized:
		t.Errorf("forward-auth of an agent: %s", r)
	}
	return false, true
}

// create makes a key at a server that the agent accepts.
func (o *outpost) create(t *testing.T, at *process) keystile.CreatedKey {
	t.Helper()
	made := want[keystile.CreatedKey](t, call(t, "POST", at.url+"/v1/workspaces/"+o.tenant+"/keys", bearer(o.operator), `{"name": "Key"}`), http.StatusCreated)
	eventually(t, "the agent accepts a new key", func() bool { accepted, _ := o.accepts(t, made.Secret); return accepted })
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probes[made.Secret] = &atomic.Bool{}
	return made
}

// revoke ends a key at a server; from then on nobody may accept it.
func (o *outpost) revoke(t *testing.T, at *process, made keystile.CreatedKey) time.Duration {
	t.Helper()
	begin := time.Now()
	want[keystile.Key](t, call(t, "POST", at.url+"/v1/keys/"+made.Key.ID+"/revoke", bearer(o.operator), nil), http.StatusOK)
	took := time.Since(begin)
	o.mu.Lock()
	o.probes[made.Secret].Store(true)
	o.mu.Unlock()
	if accepted, _ := o.accepts(t, made.Secret); accepted {
		t.Error("P1: the agent accepts a key whose revoke has returned")
	}
	return took
}

// TestAgent: P1 on SQLite with an agent; what it counts comes home; it says no
// more than it should; it leaves in order.
func TestAgent(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"--data", t.TempDir()}, "--flush-interval", "200ms")
	o := newOutpost(t, s)
	var slow time.Duration
	for range 10 {
		made := o.create(t, s)
		slow = max(slow, o.revoke(t, s, made))
	}
	if slow > 10*time.Second {
		t.Errorf("a revoke took %s with a healthy agent", slow)
	}
	kept := o.create(t, s)
	eventually(t, "the agent's uses are counted at the server", func() bool {
		k := want[keystile.Key](t, call(t, "GET", s.url+"/v1/keys/"+kept.Key.ID, bearer(o.operator), nil), http.StatusOK)
		return k.LastUse != nil
	})
	wantProblem(t, call(t, "GET", o.agent.url+"/v1/workspaces", bearer(o.operator), nil), http.StatusNotFound, keystile.CodeUnknownRoute)
	want[map[string]any](t, call(t, "GET", o.agent.url+"/readyz", nil, nil), http.StatusOK)
	d := want[keystile.Decision](t, call(t, "POST", o.agent.url+"/v1/verify", nil, keystile.VerifyRequest{Key: kept.Secret}), http.StatusOK)
	if !d.Valid || d.KeyID != kept.Key.ID {
		t.Errorf("verify of an agent: %+v", d)
	}
	nodes := want[keystile.List[keystile.Node]](t, call(t, "GET", s.url+"/v1/nodes", bearer(o.operator), nil), http.StatusOK)
	if len(nodes.Data) != 1 || nodes.Data[0].Applied == 0 || nodes.Data[0].Version != keystile.Version {
		t.Errorf("nodes: %+v", nodes)
	}
	if err := o.agent.stop(); err != nil {
		t.Errorf("the agent ended with %v\n%s", err, o.agent.stderr)
	}
	if took := o.revoke(t, s, kept); took > 10*time.Second {
		t.Errorf("a revoke took %s after the agent had left", took)
	}
	o.end()
	if err := s.stop(); err != nil {
		t.Errorf("the server ended with %v\n%s", err, s.stderr)
	}
}

// TestAgentNeedsItsRole: no other key attaches, and who asks on a port needs a
// key of his own unless the operator has opened it.
func TestAgentNeedsItsRole(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"--data", t.TempDir()})
	for _, role := range []string{"verifier", "viewer"} {
		args := []string{"key", "--role", role}
		if role == "viewer" {
			args = append(args, "--workspace", s.tenant(s.admin("key")))
		}
		cmd := exec.Command(program(t), "agent", "--listen", "127.0.0.1:0", "--url", s.url)
		cmd.Env = append(environment(), "KEYSTILE_KEY="+s.admin(args...))
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "platform.replica") || cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("an agent with the role %s: %v\n%s", role, err, out)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	cmd := exec.Command(program(t), "agent", "--listen", "127.0.0.1:0", "--url", s.url, "--socket", socket)
	cmd.Env = append(environment(), "KEYSTILE_KEY="+s.admin("key", "--role", "replica"))
	agent := start(t, cmd, nil)
	asks := keystile.VerifyRequest{Key: "ks_nothing"}
	wantProblem(t, call(t, "POST", agent.url+"/v1/verify", nil, asks), http.StatusUnauthorized, keystile.CodeMissingCredential)
	want[keystile.Decision](t, call(t, "POST", agent.url+"/v1/verify", bearer(s.admin("key", "--role", "verifier")), asks), http.StatusOK)
	// Where a request comes from is what the connection says, as long as no proxy
	// is named that is believed.
	fenced := want[keystile.CreatedKey](t, call(t, "POST", s.url+"/v1/workspaces/"+s.tenant(s.admin("key"))+"/keys", bearer(s.admin("key")),
		keystile.CreateKey{Name: "Fenced", IPAllowlist: []string{"192.0.2.0/24"}}), http.StatusCreated)
	for _, header := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
		h := bearer(fenced.Secret)
		h.Set(header, map[bool]string{true: "for=192.0.2.7", false: "192.0.2.7"}[header == "Forwarded"])
		eventually(t, "the agent knows the key", func() bool {
			r, err := tryCall(httpClient, "GET", agent.url+"/v1/forward-auth", h, nil)
			return err == nil && r.status == http.StatusForbidden && strings.Contains(string(r.body), string(keystile.CodeIPNotAllowed))
		})
	}
	c, err := keystile.NewClient("unix://"+socket, "")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := c.Verify(t.Context(), asks); err != nil || d.Code != keystile.CodeMalformed {
		t.Errorf("on the socket: %+v, %v", d, err)
	}
}

// TestAgentLosesItsKey: whoever takes the agent's own key away, or its role, or
// the place it may be used from, does not wait for long, and the agent stops when
// its lease ends.
func TestAgentLosesItsKey(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"--data", t.TempDir()})
	for name, c := range map[string]struct{ method, path, body string }{
		"revoked":     {"POST", "/revoke", ""},
		"disabled":    {"POST", "/disable", ""},
		"deleted":     {"DELETE", "", ""},
		"less role":   {"PATCH", "", `{"role": "verifier"}`},
		"other place": {"PATCH", "", `{"ip_allowlist": ["192.0.2.0/24"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			operator := s.admin("key")
			key := want[keystile.CreatedKey](t, call(t, "POST", s.url+"/v1/workspaces/ws_operator/keys", bearer(operator), `{"name": "Agent", "role": "replica"}`), http.StatusCreated)
			agent := attach(t, key.Secret, nil, s)
			ready := func() bool { return call(t, "GET", agent.url+"/readyz", nil, nil).status == http.StatusOK }
			eventually(t, "the agent answers", ready)
			var body any
			if c.body != "" {
				body = c.body
			}
			if r := call(t, c.method, s.url+"/v1/keys/"+key.Key.ID+c.path, bearer(operator), body); r.status >= 300 {
				t.Fatalf("%s: %s", name, r)
			}
			eventually(t, "the agent stops answering", func() bool { return !ready() })
		})
	}
}

// TestAgentFrozenOrKilled: a revoke waits for an agent that does not answer,
// until its lease is over; one that goes on does not accept the key.
func TestAgentFrozenOrKilled(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sqlite", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := []string{"--data", t.TempDir()}
			if name == "postgres" {
				flags = []string{"--database", pgtest.New(t)}
			}
			s := serve(t, flags)
			o := newOutpost(t, s)
			frozen, killed := o.create(t, s), o.create(t, s)
			if err := o.agent.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			want[keystile.Key](t, call(t, "POST", s.url+"/v1/keys/"+frozen.Key.ID+"/revoke", bearer(o.operator), nil), http.StatusOK)
			t.Logf("revoke with a frozen agent: %s", time.Since(begin))
			o.mu.Lock()
			o.probes[frozen.Secret].Store(true)
			o.mu.Unlock()
			if err := o.agent.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the agent answers again", func() bool {
				accepted, answered := o.accepts(t, frozen.Secret)
				if accepted {
					t.Error("P1: an agent that was frozen accepts a revoked key")
				}
				return answered
			})
			eventually(t, "the agent goes on", func() bool { accepted, _ := o.accepts(t, killed.Secret); return accepted })
			o.agent.kill()
			if took := o.revoke(t, s, killed); took > 45*time.Second {
				t.Errorf("the revoke took %s after the agent was killed", took)
			}
		})
	}
}

// TestAgentOutlivesItsServer: a server that is killed and started again knows
// nothing of its agents, and a revoke waits for them all the same. The agent
// answers on meanwhile.
func TestAgentOutlivesItsServer(t *testing.T) {
	t.Parallel()
	flags := []string{"--data", t.TempDir()}
	s := serve(t, flags)
	o := newOutpost(t, s)
	made, kept := o.create(t, s), o.create(t, s)
	address := strings.TrimPrefix(s.url, "http://")
	s.kill()
	if accepted, answered := o.accepts(t, made.Secret); !accepted || !answered {
		t.Error("an agent does not answer on when its server has died")
	}
	again := serve(t, flags, "--listen", address)
	o.revoke(t, again, made)
	eventually(t, "the agent is attached again", func() bool { accepted, _ := o.accepts(t, kept.Secret); return accepted })
	o.revoke(t, again, kept)
}

// TestAgentChangesServers: with two servers an agent goes to the other one when
// its own is killed or leaves, and answers all the while.
func TestAgentChangesServers(t *testing.T) {
	t.Parallel()
	flags := []string{"--database", pgtest.New(t)}
	a, b := serve(t, flags), serve(t, flags)
	o := newOutpost(t, a, b)
	at := func(s *process) bool {
		return strings.Contains(metricsOf(t, s, o.operator), "keystile_replicas_attached 1")
	}
	made, kept, last := o.create(t, a), o.create(t, a), o.create(t, a)
	if !at(a) {
		t.Fatal("the agent is not attached to the first server")
	}
	refused := o.refused.Load()
	a.kill()
	o.revoke(t, b, made) // waits for the lease of a
	eventually(t, "the agent is attached to the other server", func() bool { return at(b) })
	if took := o.revoke(t, b, kept); took > 45*time.Second {
		t.Errorf("a revoke took %s", took)
	}
	c := serve(t, flags, "--listen", strings.TrimPrefix(a.url, "http://"))
	if err := b.stop(); err != nil {
		t.Errorf("the server that left ended with %v\n%s", err, b.stderr)
	}
	eventually(t, "the agent is attached to the first address again", func() bool { return at(c) })
	o.revoke(t, c, last)
	if n := o.refused.Load() - refused; n > 0 {
		t.Logf("the agent did not answer %d of %d times", n, o.asked.Load())
	}
}

func metricsOf(t testing.TB, s *process, key string) string {
	t.Helper()
	r, err := tryCall(httpClient, "GET", s.url+"/metrics", bearer(key), nil)
	if err != nil {
		return ""
	}
	return string(r.body)
}

// TestAgentOutlivesARestore: a server is killed, and a backup restored that was
// made before any replica was there. The next server knows nothing of the agent
// that still answers, and a revoke waits for it all the same. Beside a running
// server with its agent no backup is restored. What the agent knew counts for
// nothing when it is attached again.
func TestAgentOutlivesARestore(t *testing.T) {
	t.Parallel()
	for name, source := range databaseFlags() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := source(t)
			s := serve(t, flags)
			operator := s.admin("key")
			tenant := s.tenant(operator)
			create := func(at *process) keystile.CreatedKey {
				t.Helper()
				return want[keystile.CreatedKey](t, call(t, "POST", at.url+"/v1/workspaces/"+tenant+"/keys", bearer(operator), `{"name": "Key"}`), http.StatusCreated)
			}
			made, kept := create(s), create(s)
			key := s.admin("key", "--role", "replica")
			backup := filepath.Join(t.TempDir(), "backup.db")
			succeed(t, append([]string{"backup", backup}, flags...)...)
			late := create(s)
			network, through := pgtest.NewLink(t, s.url)
			agent := attach(t, key, nil, &process{url: through})
			accepts := func(key keystile.CreatedKey) bool {
				r, err := tryCall(httpClient, "GET", agent.url+"/v1/forward-auth", bearer(key.Secret), nil)
				return err == nil && r.status == http.StatusOK
			}
			eventually(t, "the agent knows the keys", func() bool { return accepts(made) && accepts(late) })
			restore := append([]string{"restore", "--yes", backup}, flags...)
			if status, _, stderr := command(t, restore...); status != 2 || !strings.Contains(stderr, "stop them all") {
				t.Errorf("restore beside a server with an agent: status %d, %q", status, stderr)
			}
			if !accepts(made) {
				t.Log("the agent has no lease") // a very slow machine
			}
			network.Set(pgtest.Cut)
			s.kill()
			succeed(t, restore...)
			// On PostgreSQL the restore itself has waited for the leases of who was there.
			if name == "postgres" && accepts(late) {
				t.Error("P1: after a restore an agent accepts a key that is no more")
			}
			again := serve(t, flags, "--listen", strings.TrimPrefix(s.url, "http://"))
			want[keystile.Key](t, call(t, "POST", again.url+"/v1/keys/"+made.Key.ID+"/revoke", bearer(operator), nil), http.StatusOK)
			if accepts(made) {
				t.Error("P1: after a restore an agent accepts a key whose revoke has returned")
			}
			network.Set(pgtest.Up)
			eventually(t, "the agent is attached again", func() bool { return accepts(kept) })
			if accepts(made) || accepts(late) {
				t.Error("P1: the agent goes on from what it knew before the restore")
			}
		})
	}
}

// TestAgentWantsTLS: an agent attaches to nothing on another machine without TLS.
func TestAgentWantsTLS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url     string
		refused bool
	}{{"http://192.0.2.1:8080", true}, {"http://keys.example.invalid", true}, {"http://127.0.0.1:1", false}, {"http://localhost:1", false}} {
		_, err := server.OpenAgent(canceled(t), server.AgentConfig{Servers: []string{c.url}, Key: "key", Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
		if err == nil || strings.Contains(err.Error(), "--insecure-http") != c.refused {
			t.Errorf("%s: %v", c.url, err)
		}
	}
	_, err := server.OpenAgent(canceled(t), server.AgentConfig{
		Servers: []string{"http://192.0.2.1:8080"}, Key: "key", Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), InsecureHTTP: true,
	})
	if err == nil || strings.Contains(err.Error(), "--insecure-http") {
		t.Errorf("allowed: %v", err)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// TestManyAgents: each of them is waited for.
func TestManyAgents(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"--data", t.TempDir()})
	o := newOutpost(t, s)
	key := s.admin("key", "--role", "replica")
	var agents []*process
	for range 3 {
		agents = append(agents, attach(t, key, nil, s))
	}
	for i := range 5 {
		made := o.create(t, s)
		o.revoke(t, s, made)
		for _, a := range agents {
			r, err := tryCall(httpClient, "GET", a.url+"/v1/forward-auth", bearer(made.Secret), nil)
			if err != nil || r.status != http.StatusUnauthorized {
				t.Errorf("round %d: an agent says %s, %v", i, r, err)
			}
		}
	}
	for _, a := range agents {
		if err := a.stop(); err != nil {
			t.Errorf("an agent ended with %v", err)
		}
	}
}

// TestDuplicatedMessages: on the way between an agent and its server every short
// message is delivered twice, the second time up to three seconds late: requests
// for leases, acknowledgements, farewells, and the calls that revoke.
func TestDuplicatedMessages(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"--data", t.TempDir()}, "--flush-interval", "200ms")
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	var late sync.WaitGroup
	var twice atomic.Int64
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	way := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			again, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, s.url+r.URL.RequestURI(), bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			again.Header = r.Header.Clone()
			late.Go(func() {
				time.Sleep(rand.N(3 * time.Second)) //nolint:gosec // no secret
				if answer, err := httpClient.Do(again); err == nil {
					_ = answer.Body.Close()
					twice.Add(1)
				}
			})
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		pass.ServeHTTP(w, r)
	}))
	defer way.Close()
	defer late.Wait()
	operator := s.admin("key")
	tenant := s.tenant(operator)
	agent := attach(t, s.admin("key", "--role", "replica"), nil, &process{url: way.URL})
	accepts := func(secret string) bool {
		r, err := tryCall(httpClient, "GET", agent.url+"/v1/forward-auth", bearer(secret), nil)
		return err == nil && r.status == http.StatusOK
	}
	var revoked []string
	for range 10 {
		made := want[keystile.CreatedKey](t, call(t, "POST", s.url+"/v1/workspaces/"+tenant+"/keys", bearer(operator), `{"name": "Key"}`), http.StatusCreated)
		eventually(t, "the agent accepts the key", func() bool { return accepts(made.Secret) })
		want[keystile.Key](t, call(t, "POST", way.URL+"/v1/keys/"+made.Key.ID+"/revoke", bearer(operator), nil), http.StatusOK)
		revoked = append(revoked, made.Secret)
		for _, secret := range revoked {
			if accepts(secret) {
				t.Error("P1: the agent accepts a key whose revoke has returned")
			}
		}
	}
	if err := agent.stop(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
	late.Wait()
	if twice.Load() < 20 {
		t.Errorf("%d messages came twice", twice.Load())
	}
}
