package server_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

// pair is two processes on one PostgreSQL database.
type pair struct {
	a, b             *process
	operator, tenant string
}

func newPair(t *testing.T) pair {
	t.Helper()
	flags := []string{"--database", pgtest.New(t)}
	p := pair{a: serve(t, flags), b: serve(t, flags)}
	p.operator = p.a.admin("key")
	p.tenant = p.a.tenant(p.operator)
	return p
}

// create makes a key at one process that the other accepts.
func (p pair) create(t *testing.T, at, other *process) keystile.CreatedKey {
	t.Helper()
	made := want[keystile.CreatedKey](t, call(t, "POST", at.url+"/v1/workspaces/"+p.tenant+"/keys", bearer(p.operator), `{"name": "Key"}`), http.StatusCreated)
	if made.Pending {
		eventually(t, "the other process learns of a key", func() bool { return other.verify(p.operator, made.Secret).Valid })
	}
	if d := other.verify(p.operator, made.Secret); !d.Valid {
		t.Fatalf("a create returned, and the other process says %+v", d)
	}
	return made
}

func (p pair) revoke(t *testing.T, at *process, made keystile.CreatedKey) {
	t.Helper()
	want[keystile.Key](t, call(t, "POST", at.url+"/v1/keys/"+made.Key.ID+"/revoke", bearer(p.operator), nil), http.StatusOK)
}

// ask asks a process about a key and tells whether it accepts it. A process
// without a lease refuses with 503 and says when to ask again.
func (p pair) ask(t *testing.T, at *process, secret string) (accepted, answered bool) {
	t.Helper()
	r, err := tryCall(httpClient, "POST", at.url+"/v1/verify", bearer(p.operator), keystile.VerifyRequest{Key: secret})
	if err != nil {
		return false, false // it has ended
	}
	if r.status == http.StatusServiceUnavailable {
		wantProblem(t, r, http.StatusServiceUnavailable, keystile.CodeUnavailable)
		if r.header.Get("Retry-After") == "" {
			t.Error("a 503 without Retry-After")
		}
		return false, false
	}
	return want[keystile.Decision](t, r, http.StatusOK).Valid, true
}

// TestTwoProcesses: P1 over HTTP. Keys are made at either process and revoked
// at either, while clients ask both about all of them, all the time.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	type probe struct {
		secret  string
		revoked atomic.Bool
	}
	var probes sync.Map
	done := make(chan struct{})
	var clients sync.WaitGroup
	for _, at := range []*process{p.a, p.b} {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				probes.Range(func(_, v any) bool {
					probe, _ := v.(*probe)
					revoked := probe.revoked.Load()
					if accepted, _ := p.ask(t, at, probe.secret); accepted && revoked {
						t.Error("P1: a key was accepted after its revoke had returned")
					}
					return true
				})
			}
		})
	}
	var workers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			for i := range 10 {
				at, other := p.a, p.b
				if (i+w)%2 == 0 {
					at, other = other, at
				}
				made := p.create(t, at, other)
				probe := &probe{secret: made.Secret}
				probes.Store(fmt.Sprint(w, i), probe)
				if i%3 == 0 {
					at, other = other, at
				}
				p.revoke(t, at, made)
				probe.revoked.Store(true)
				if d := other.verify(p.operator, made.Secret); d.Code != keystile.CodeRevoked {
					t.Errorf("a revoke returned, and the other process says %+v", d)
				}
			}
		})
	}
	workers.Wait()
	close(done)
	clients.Wait()
}

// TestKilledProcess: a process that was killed holds a revoke up for no longer
// than its lease can last.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	made := p.create(t, p.a, p.b)
	p.b.kill()
	begin := time.Now()
	p.revoke(t, p.a, made)
	if took := time.Since(begin); took > 45*time.Second {
		t.Errorf("the revoke took %s", took)
	}
	if d := p.a.verify(p.operator, made.Secret); d.Code != keystile.CodeRevoked {
		t.Errorf("after the revoke: %+v", d)
	}
	// What takes nothing away does not wait, and says so or has been forgotten.
	begin = time.Now()
	want[keystile.CreatedKey](t, call(t, "POST", p.a.url+"/v1/workspaces/"+p.tenant+"/keys", bearer(p.operator), `{"name": "Key"}`), http.StatusCreated)
	if took := time.Since(begin); took > 12*time.Second {
		t.Errorf("a create took %s", took)
	}
}

// TestFrozenProcess: a process that was frozen while a key was revoked does not
// accept it when it goes on, not even at once.
func TestFrozenProcess(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	made, kept := p.create(t, p.a, p.b), p.create(t, p.a, p.b)
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := p.b.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	// The admin verb says that a server does not know its key yet.
	cmd := exec.Command(program(t), append([]string{"admin", "key"}, p.a.store...)...)
	cmd.Env = environment()
	var said bytes.Buffer
	cmd.Stderr = &said
	if out, err := cmd.Output(); err != nil || strings.Count(string(out), "\n") != 1 {
		t.Errorf("keystile admin key: %q, %v", out, err)
	}
	if !strings.Contains(said.String(), "may need a moment more") {
		t.Errorf("keystile admin key says %q beside a frozen server", said.String())
	}
	p.revoke(t, p.a, made)
	// Clients that wait for the frozen process get their answers when it goes on.
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			if accepted, _ := p.ask(t, p.b, made.Secret); accepted {
				t.Error("P1: a process that was frozen accepts a revoked key")
			}
		})
	}
	time.Sleep(200 * time.Millisecond) // so that some of them are there first
	signal(syscall.SIGCONT)
	clients.Wait()
	eventually(t, "it answers again", func() bool {
		accepted, answered := p.ask(t, p.b, made.Secret)
		if accepted {
			t.Error("P1: a process that was frozen accepts a revoked key")
		}
		return answered
	})
	if d := p.b.verify(p.operator, kept.Secret); !d.Valid {
		t.Errorf("a good key after the freeze: %+v", d)
	}
}

// TestOrderlyStop: a process that ends in order holds nobody up.
func TestOrderlyStop(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	made := p.create(t, p.a, p.b)
	if err := p.b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.b.ended:
	case <-time.After(time.Minute):
		t.Fatalf("it does not end\n%s", p.b.stderr)
	}
	if p.b.err != nil {
		t.Errorf("it ended with %v\n%s", p.b.err, p.b.stderr)
	}
	begin := time.Now()
	p.revoke(t, p.a, made)
	if took := time.Since(begin); took > 12*time.Second {
		t.Errorf("a revoke took %s after the other process had left", took)
	}
}

// TestStopsAfterSilence: connections to the database that nobody ever hears of
// again keep a server neither from answering nor from ending in order.
func TestStopsAfterSilence(t *testing.T) {
	t.Parallel()
	network, through := pgtest.NewLink(t, pgtest.New(t))
	s := serve(t, []string{"--database", through})
	operator := s.admin("key")
	tenant := s.tenant(operator)
	var reading sync.WaitGroup
	for range 16 { // as many connections as there may be
		reading.Go(func() {
			for range 50 {
				if _, err := tryCall(httpClient, "GET", s.url+"/v1/workspaces/"+tenant+"/keys", bearer(operator), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reading.Wait()
	network.Set(pgtest.Silent)
	time.Sleep(3 * time.Second) // for the background work to meet it
	network.Set(pgtest.Up)
	if r := call(t, "GET", s.url+"/v1/workspaces/"+tenant+"/keys", bearer(operator), nil); r.status != http.StatusOK {
		t.Errorf("the first call after the silence: %s", r)
	}
	if err := s.stop(); err != nil {
		t.Errorf("the server ended with %v\n%s", err, s.stderr)
	}
}
