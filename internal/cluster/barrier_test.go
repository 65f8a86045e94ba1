package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
)

// probe is a key that is looked at from everywhere, all the time.
type probe struct {
	secret  string
	revoked atomic.Bool // a revoke has returned with success
}

// hammer asks all servers about all keys until the test is over. No server
// may accept a key when asked after its revoke has returned.
type hammer struct {
	mu      sync.Mutex
	probes  []*probe
	broken  atomic.Int64
	asked   atomic.Int64
	running sync.WaitGroup
	done    chan struct{}
}

func newHammer(t testing.TB, servers ...*server) *hammer {
	h := &hammer{done: make(chan struct{})}
	for _, s := range servers {
		h.ask(s)
	}
	t.Cleanup(func() { h.end(t) })
	return h
}

func (h *hammer) ask(s *server) {
	h.running.Go(func() {
		for {
			select {
			case <-h.done:
				return
			default:
			}
			h.mu.Lock()
			probes := h.probes
			h.mu.Unlock()
			for _, p := range probes {
				revoked := p.revoked.Load() // before the key is asked about
				if s.accepts(p.secret) && revoked {
					h.broken.Add(1)
				}
				h.asked.Add(1)
			}
			time.Sleep(100 * time.Microsecond) // the machine is others' too
		}
	})
}

func (h *hammer) add(secret string) *probe {
	p := &probe{secret: secret}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes = append(h.probes[:len(h.probes):len(h.probes)], p)
	return p
}

func (h *hammer) end(t testing.TB) {
	select {
	case <-h.done:
		return
	default:
	}
	close(h.done)
	h.running.Wait()
	if n := h.broken.Load(); n > 0 {
		t.Errorf("P1: %d times a key was accepted after its revoke had returned", n)
	}
	if h.asked.Load() == 0 {
		t.Error("nobody was asked")
	}
}

// TestP1RevokedMeansRevoked: on every server, at once, while all of them
// create and revoke. A create that returned verifies on every server too.
func TestP1RevokedMeansRevoked(t *testing.T) {
	t.Parallel()
	for name, all := range map[string]func(t *testing.T) []*server{
		"1 on SQLite": func(t *testing.T) []*server {
			return []*server{start(t, store.Options{Dir: t.TempDir(), Serve: true}, fast)}
		},
		"2 on PostgreSQL": func(t *testing.T) []*server { return startAll(t, 2, fast) },
		"4 on PostgreSQL": func(t *testing.T) []*server { return startAll(t, 4, fast) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := all(t)
			h := newHammer(t, servers...)
			var workers sync.WaitGroup
			for w := range 4 {
				workers.Go(func() {
					for round := range 6 {
						maker, revoker := servers[(w+round)%len(servers)], servers[(w*round+1)%len(servers)]
						made := maker.create(fmt.Sprintf("%d of %d", round, w))
						p := h.add(made.Secret)
						if !made.Pending {
							for _, s := range servers {
								s.mustKnow(made.Secret)
							}
						}
						revoker.revoke(made.Key.ID)
						p.revoked.Store(true)
						for _, s := range servers {
							if s.accepts(made.Secret) {
								t.Error("a server accepts a key that was revoked")
							}
						}
					}
				})
			}
			workers.Wait()
			h.end(t)
		})
	}
}

// TestDeadServer: a server that ended without leaving holds a revoke up until
// its lease is over, has stopped answering by then, and is forgotten later.
func TestDeadServer(t *testing.T) {
	t.Parallel()
	servers := startAll(t, 2, fast)
	a, b := servers[0], servers[1]
	made, other := a.create("one"), a.create("other")
	h := newHammer(t, a, b)
	p := h.add(made.Secret)
	b.mustAccept(made.Secret)
	b.die()
	if !b.accepts(made.Secret) {
		t.Log("the lease ended before it could be seen") // a very slow machine
	}
	a.revoke(made.Key.ID)
	p.revoked.Store(true)
	if b.usable() {
		t.Error("a dead server answers when the barrier has given it up")
	}
	// What takes nothing away does not wait for the dead.
	if _, err := a.keys.EnableKey(t.Context(), operator(), other.Key.ID); err != nil && a.usable() {
		t.Logf("enable: %v", err)
	}
	eventually(t, "the dead server is forgotten, and it is said", func() bool { return a.log.has("stopped without leaving") })
	begin := time.Now()
	a.revoke(other.Key.ID)
	if took := time.Since(begin); took > cluster.Wait(fast) {
		t.Errorf("a revoke took %s after the dead server was forgotten", took)
	}
	h.end(t)
}

// TestCreateDoesNotWaitForTheDead: it says that some server may not know yet.
func TestCreateDoesNotWaitForTheDead(t *testing.T) {
	t.Parallel()
	servers := startAll(t, 2, 1)
	servers[1].die()
	begin := time.Now()
	made := servers[0].create("key")
	if took := time.Since(begin); !made.Pending || took > cluster.Wait(1) {
		t.Errorf("pending %t after %s", made.Pending, took)
	}
	servers[0].mustAccept(made.Secret)
}

// TestLeaving: a server that leaves in order holds nobody up, and does not
// answer afterwards.
func TestLeaving(t *testing.T) {
	t.Parallel()
	servers := startAll(t, 2, 1)
	made := servers[0].create("key")
	servers[1].mustAccept(made.Secret)
	h := newHammer(t, servers...)
	p := h.add(made.Secret)
	servers[1].leave()
	if servers[1].usable() {
		t.Error("it answers after it has left")
	}
	begin := time.Now()
	servers[0].revoke(made.Key.ID)
	p.revoked.Store(true)
	if took := time.Since(begin); took > cluster.Wait(1)*2/3 {
		t.Errorf("the revoke took %s", took)
	}
	h.end(t)
}

// TestFailover: when the database server has another timeline than the rows
// are known to be of, rows of servers may be missing, so a revoke waits for all
// leases that there can be; once.
func TestFailover(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	a, b := start(t, store.Options{URL: database}, fast), start(t, store.Options{URL: database}, fast)
	one, two := a.create("one"), a.create("two")
	b.mustAccept(one.Secret)
	raw := beside(t, store.Options{URL: database})
	noted := number(t, raw, `SELECT timeline FROM change_head`)
	if noted == 0 {
		t.Fatal("no timeline was noted when the store was made")
	}
	// What a failover that lost the row of b leaves behind.
	b.die()
	exec(t, raw, `UPDATE change_head SET timeline = 77`)
	exec(t, raw, `DELETE FROM nodes WHERE id <> (SELECT id FROM nodes ORDER BY started_at LIMIT 1)`)
	h := newHammer(t, a, b)
	p := h.add(one.Secret)
	a.revoke(one.Key.ID)
	p.revoked.Store(true)
	if b.usable() {
		t.Error("a server without a row answers when the revoke has returned")
	}
	if got := number(t, raw, `SELECT timeline FROM change_head`); got != noted {
		t.Errorf("timeline %d was noted, want %d", got, noted)
	}
	begin := time.Now()
	a.revoke(two.Key.ID)
	if took := time.Since(begin); took > cluster.Wait(fast) {
		t.Errorf("the next revoke took %s again", took)
	}
	h.end(t)
}

// TestCallerGoesAway: the change is committed, so its barrier is waited for
// even when nobody listens any more.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	s := startAll(t, 1, fast)[0]
	made := s.create("key")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if pending, _, err := s.node.Barrier(ctx, s.node.Applied(), true); pending || err != nil {
		t.Errorf("pending %t, error %v", pending, err)
	}
	s.mustAccept(made.Secret)
}

// TestBarrierTellsFailure: a change that this server can't apply itself is not
// said to be in force.
func TestBarrierTellsFailure(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]store.Options{"sqlite": {Dir: t.TempDir(), Serve: true}, "postgres": {URL: pgtest.New(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, o, fast)
			if pending, _, err := s.node.Barrier(t.Context(), s.node.Applied()+1, true); !pending || err == nil {
				t.Errorf("pending %t, error %v for a change that is not there", pending, err)
			}
		})
	}
}

// admin opens the rules beside running servers, as the admin verbs do.
func admin(t testing.TB, o store.Options, factor time.Duration, running func() bool) *keyring.Keyring {
	t.Helper()
	o.Serve, o.MustExist = false, o.Dir != ""
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return keyring.New(s, profile.Default(), cluster.HurriedAdminBarrier(s, factor, running))
}

// TestAdminBesideServers: what an admin verb has changed is in force when it
// returns, or it says that it may not be.
func TestAdminBesideServers(t *testing.T) {
	t.Parallel()
	postgres := pgtest.New(t)
	for name, c := range map[string]struct {
		o     store.Options
		count int
	}{
		"sqlite":   {store.Options{Dir: t.TempDir(), Serve: true}, 1},
		"postgres": {store.Options{URL: postgres}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var servers []*server
			for range c.count {
				servers = append(servers, start(t, c.o, fast))
			}
			running := func() bool { return c.o.URL != "" || store.ServerRunning(c.o.Dir) }
			k, last := admin(t, c.o, fast, running), servers[len(servers)-1]
			create := func() keystile.CreatedKey {
				made, _, err := k.CreateKey(t.Context(), operator(), last.only, keystile.CreateKey{Name: "Admin's"}, keyring.Idempotency{})
				if err != nil {
					t.Fatal(err)
				}
				return made
			}
			revoke := func(made keystile.CreatedKey) error {
				_, err := k.RevokeKey(t.Context(), operator(), made.Key.ID, keystile.RevokeKey{})
				return err
			}
			h := newHammer(t, servers...)
			for range 10 {
				made := create()
				p := h.add(made.Secret)
				if !made.Pending {
					for _, s := range servers {
						s.mustKnow(made.Secret)
					}
				}
				if err := revoke(made); err != nil {
					t.Fatal(err)
				}
				p.revoked.Store(true)
			}
			made := create()
			p := h.add(made.Secret)
			last.die()
			if late := create(); !late.Pending {
				t.Error("a server that does not follow has the key, it says")
			}
			err := revoke(made)
			if c.o.URL != "" {
				// The lease is over, so the revoke is in force.
				if p.revoked.Store(true); err != nil {
					t.Errorf("revoke: %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), "not certain") {
				// The only server needs no lease, so nothing proves that it has stopped.
				t.Errorf("a server that does not follow refuses the key, it says: %v", err)
			}
			for _, s := range servers {
				s.leave()
			}
			if alone := create(); c.o.Dir != "" && alone.Pending {
				t.Error("it waits for a server where none runs")
			}
			h.end(t)
		})
	}
}

// TestAdminAndChildrenOfTheDead: what an admin verb takes away is not accepted
// by a replica either whose server was killed, and is not there again or just is.
func TestAdminAndChildrenOfTheDead(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: t.TempDir(), Serve: true}
	s := start(t, o, fast)
	isRunning := true
	k := admin(t, o, fast, func() bool { return isRunning })
	revoke := func(made keystile.CreatedKey) {
		t.Helper()
		if _, err := k.RevokeKey(t.Context(), operator(), made.Key.ID, keystile.RevokeKey{}); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three := s.create("One"), s.create("Two"), s.create("Three")
	begin := time.Now()
	if revoke(one); time.Since(begin) > cluster.Wait(fast) {
		t.Logf("a revoke without children took %s", time.Since(begin))
	}
	if _, err := s.node.Attach(cluster.Caller{}); err != nil {
		t.Fatal(err)
	}
	isRunning = false // as if it was killed now
	begin = time.Now()
	if revoke(two); time.Since(begin) < cluster.Wait(fast) {
		t.Errorf("the revoke took %s, in which a replica may accept the key", time.Since(begin))
	}
	s.leave()
	isRunning = true
	exec(t, beside(t, o), `UPDATE settings SET value = '1' WHERE name = 'replicas_attached'`) // it did not leave in order
	begin = time.Now()
	start(t, o, fast)
	time.Sleep(cluster.Wait(fast) / 4) // the admin's wait ends after the server's
	if revoke(three); time.Since(begin) < cluster.Wait(fast) {
		t.Errorf("the revoke took %s after the start, in which a replica may accept the key", time.Since(begin))
	}
}

// TestSixteenServers: each is waited for, and each knows of all the others.
func TestSixteenServers(t *testing.T) {
	t.Parallel()
	const count = 16
	servers := startAll(t, count, 1)
	eventually(t, "the first knows of all", func() bool {
		nodes, _, err := servers[0].store.Nodes(t.Context())
		return err == nil && len(nodes) == count
	})
	for i := range 3 {
		at := servers[i*5]
		made := at.create(fmt.Sprintf("key %d", i))
		for _, s := range servers {
			s.mustAccept(made.Secret)
		}
		at.revoke(made.Key.ID)
		for n, s := range servers {
			if s.accepts(made.Secret) {
				t.Errorf("P1: server %d accepts a key whose revoke has returned", n)
			}
		}
	}
}
