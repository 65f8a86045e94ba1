package cluster_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
)

// TestNothingIsLeftRunning comes first of the tests that share the process:
// those that run in parallel wait until it is over.
func TestNothingIsLeftRunning(t *testing.T) {
	for name, make := range map[string]func() store.Options{
		"sqlite":   func() store.Options { return store.Options{Dir: t.TempDir(), Serve: true} },
		"postgres": func() store.Options { return store.Options{URL: pgtest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			o := make()
			first := start(t, o, fast) // what the process keeps for good is there after it
			first.revoke(first.create("key").Key.ID)
			first.leave()
			mine := func() (n int, stacks string) {
				text := string(stack())
				for g := range strings.SplitSeq(text, "\n\n") {
					ours := strings.Contains(g, "internal/cluster.") || strings.Contains(g, "internal/store.") || strings.Contains(g, "database/sql.")
					if ours && !strings.Contains(g, "testing.tRunner") {
						n, stacks = n+1, stacks+g+"\n\n"
					}
				}
				return n, stacks
			}
			gone := func() {
				t.Helper()
				for end := time.Now().Add(deadline); ; pause() {
					n, stacks := mine()
					if n == 0 {
						return
					}
					if time.Now().After(end) {
						t.Fatalf("%d goroutines are left:\n%s", n, stacks)
					}
				}
			}
			gone()
			s := start(t, o, fast)
			s.revoke(s.create("key").Key.ID)
			if n, _ := mine(); n == 0 {
				t.Fatal("nothing runs while a server does; the check sees nothing")
			}
			s.leave()
			gone()
		})
	}
}

// stack is what all goroutines do.
func stack() []byte {
	for size := 1 << 20; ; size *= 2 {
		text := make([]byte, size)
		if n := runtime.Stack(text, true); n < size {
			return text[:n]
		}
	}
}

// TestPartition: a server that can't reach the database refuses when its lease
// ends, whether it is told of the loss or not. A revoke elsewhere waits for
// that and no longer. When the database is back, the server catches up.
func TestPartition(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]pgtest.LinkState{"told": pgtest.Cut, "not told": pgtest.Silent} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.New(t)
			network, through := pgtest.NewLink(t, database)
			a := start(t, store.Options{URL: database}, fast)
			b := start(t, store.Options{URL: through}, fast)
			made, kept := a.create("revoked"), a.create("kept")
			b.mustAccept(made.Secret)
			b.mustAccept(kept.Secret)
			h := newHammer(t, a, b)
			p := h.add(made.Secret)
			for round := range 2 { // a second time, with connections that were made anew
				network.Set(state)
				a.revoke(made.Key.ID)
				p.revoked.Store(true)
				if b.usable() {
					t.Error("b answers after the barrier has given it up")
				}
				if !b.log.has("this node refuses until it reaches the database again") {
					eventually(t, "b says that it refuses", func() bool { return b.log.has("this node refuses until it reaches the database again") })
				}
				late := a.create(fmt.Sprintf("late %d", round))
				network.Set(pgtest.Up)
				eventually(t, "b answers again", b.usable)
				b.mustAccept(kept.Secret)
				b.mustAccept(late.Secret)
				if b.accepts(made.Secret) {
					t.Error("b accepts what was revoked while it was away")
				}
				// And its row is there again, so that the next revoke waits for it.
				made = a.create(fmt.Sprintf("next %d", round))
				eventually(t, "b learns of a key", func() bool { return b.accepts(made.Secret) })
				p = h.add(made.Secret)
			}
			a.revoke(made.Key.ID)
			p.revoked.Store(true)
			h.end(t)
		})
	}
}

// TestDatabaseGoesAndComes: all servers lose the database and go on from
// memory while their leases last; then they refuse; then they go on.
func TestDatabaseGoesAndComes(t *testing.T) {
	t.Parallel()
	db := pgtest.Start(t)
	o := store.Options{URL: db.URL("postgres")}
	a, b := start(t, o, fast), start(t, o, fast)
	made := a.create("key")
	a.mustAccept(made.Secret)
	b.mustAccept(made.Secret)
	db.Stop(t)
	eventually(t, "both refuse", func() bool { return !a.usable() && !b.usable() })
	if n := strings.Count(a.log.String(), "following the change log; trying on"); n != 1 {
		t.Errorf("the log says %d times that the database is away, want once:\n%s", n, a.log)
	}
	db.Start(t)
	a.mustAccept(made.Secret)
	b.mustAccept(made.Secret)
	h := newHammer(t, a, b)
	p := h.add(made.Secret)
	a.revoke(made.Key.ID)
	p.revoked.Store(true)
	h.end(t)
}

// TestReadersDoNotStarveTheLease: reads of tenants that hold every connection
// they can get don't keep a server from renewing, following and acknowledging.
func TestReadersDoNotStarveTheLease(t *testing.T) {
	t.Parallel()
	servers := startAll(t, 2, fast)
	a, b := servers[0], servers[1]
	made := a.create("key")
	b.mustAccept(made.Secret)
	release := make(chan struct{})
	var readers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); readers.Wait() }()
	for range 40 { // more than there are connections
		readers.Go(func() {
			_ = b.store.Read(ctx, func(*store.Tx) error {
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil
			})
		})
	}
	renewals := func() int64 {
		n := int64(0)
		r, err := a.store.Roster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range r.Nodes {
			n += other.Renewals
		}
		return n
	}
	// Well over the time of a lease, counted in what the servers do.
	begin := renewals()
	eventually(t, "both renew", func() bool { return renewals() >= begin+20 })
	b.mustAccept(made.Secret)
	a.revoke(made.Key.ID)
	if b.accepts(made.Secret) {
		t.Error("b accepts a revoked key")
	}
	close(release)
}

// TestAcknowledge is rule 9: who waits for a server need not wait for its next
// renewal.
func TestAcknowledge(t *testing.T) {
	t.Parallel()
	servers := startAll(t, 2, 1)
	renewals := func() (n int64) {
		r, err := servers[0].store.Roster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range r.Nodes {
			n += node.Renewals
		}
		return n
	}
	const revokes = 20
	begin := renewals()
	for range revokes {
		servers[0].revoke(servers[0].create("key").Key.ID)
	}
	// Of both servers: without acknowledging, each revoke and most creates
	// would wait for one of each.
	if n := renewals() - begin; n > revokes {
		t.Errorf("%d renewals during %d revokes", n, revokes)
	}
}
