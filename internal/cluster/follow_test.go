package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// TestStartDuringChanges: a server that starts while others change keys misses
// none of it.
func TestStartDuringChanges(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	a := start(t, store.Options{URL: database}, fast)
	h := newHammer(t, a)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	var mu sync.Mutex
	kept := map[string]string{} // secrets of living keys, by ID
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				made := a.create(fmt.Sprintf("%d %d", w, i))
				if i%2 == 0 {
					mu.Lock()
					kept[made.Key.ID] = made.Secret
					mu.Unlock()
					continue
				}
				p := h.add(made.Secret)
				a.revoke(made.Key.ID)
				p.revoked.Store(true)
			}
		})
	}
	servers := []*server{a}
	eventually(t, "changes go on", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(kept) >= 5 && h.asked.Load() > 0
	})
	for range 3 {
		mu.Lock()
		before := make([]string, 0, len(kept))
		for _, secret := range kept {
			before = append(before, secret)
		}
		mu.Unlock()
		s := start(t, store.Options{URL: database}, fast)
		h.ask(s)
		for _, secret := range before {
			s.mustAccept(secret)
		}
		servers = append(servers, s)
	}
	close(stop)
	writers.Wait()
	for _, s := range servers {
		for _, secret := range kept {
			eventually(t, "every server knows every key", func() bool { return s.accepts(secret) })
		}
	}
	h.end(t)
}

// TestLostNotification: a change of which nobody was told is found by polling.
func TestLostNotification(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]store.Options{"sqlite": {Dir: t.TempDir(), Serve: true}, "postgres": {URL: pgtest.New(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, o, fast)
			for range 3 {
				made := s.create("key")
				s.mustAccept(made.Secret)
				quietly(t, o, made.Key.ID, 2)
				eventually(t, "the change is found", func() bool { return s.usable() && !s.accepts(made.Secret) })
			}
		})
	}
}

// quietly changes the state of a key beside the servers, without a
// notification: 0 is active, 2 revoked.
func quietly(t *testing.T, o store.Options, id string, state int) {
	t.Helper()
	db := beside(t, o)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		text string
		args []any
	}{
		{`UPDATE change_head SET seq = seq + 1`, nil},
		{`UPDATE keys SET state = $1 WHERE id = $2`, []any{state, id}},
		{`INSERT INTO changes (seq, token, kind, object_id, at) SELECT seq, $1, 'key', $2, 1 FROM change_head`, []any{[]byte("0123456789abcdef"), id}},
	} {
		if _, err := tx.ExecContext(t.Context(), q.text, q.args...); err != nil {
			t.Fatalf("%s: %v", q.text, err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
}

// TestTrimmedUnderASlowServer: a server that was away for so long that the
// log no longer reaches back to it loads everything anew.
func TestTrimmedUnderASlowServer(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	network, through := pgtest.NewLink(t, database)
	a, b := start(t, store.Options{URL: database}, fast), start(t, store.Options{URL: through}, fast)
	made, kept := a.create("revoked"), a.create("kept")
	b.mustAccept(made.Secret)
	h := newHammer(t, a, b)
	p := h.add(made.Secret)
	trim := func() (n int64) {
		_, err := a.store.Write(t.Context(), func(tx *store.Tx) (err error) {
			n, err = tx.TrimChanges(time.Now().Add(time.Hour), 10000)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	network.Set(pgtest.Cut)
	a.revoke(made.Key.ID)
	p.revoked.Store(true)
	standing := b.node.Applied()
	trim()
	raw := beside(t, store.Options{URL: database})
	if !b.log.has("stopped without leaving") && number(t, raw, `SELECT COUNT(*) FROM nodes`) == 2 &&
		number(t, raw, `SELECT COUNT(*) FROM changes WHERE seq = $1`, standing) != 1 {
		t.Error("what a listed server has yet to apply was trimmed")
	}
	eventually(t, "a has swept b", func() bool { return number(t, raw, `SELECT COUNT(*) FROM nodes`) == 1 })
	eventually(t, "the log is trimmed", func() bool {
		a.create("more")
		trim()
		return number(t, raw, `SELECT COUNT(*) FROM changes WHERE seq <= $1`, standing) == 0
	})
	network.Set(pgtest.Up)
	b.mustAccept(kept.Secret)
	if !b.log.has("it was trimmed and no longer has change") {
		t.Errorf("the log does not say that everything was loaded anew, and why:\n%s", b.log)
	}
	late := b.create("late")
	a.mustAccept(late.Secret)
	h.end(t)
}

// TestAnotherHistory: a log that is not the one that the servers have followed,
// after a restore or a failover that lost commits, is loaded anew by all of
// them, and said.
func TestAnotherHistory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, said string }{
		{"shorter", "it ends before change"},
		{"as long", "is another one"},
		{"longer", "is another one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := store.Options{URL: pgtest.New(t)}
			a, b := start(t, o, fast), start(t, o, fast)
			restored, made := a.create("restored"), a.create("key")
			b.mustAccept(made.Secret)
			head := a.node.Applied()
			a.revoke(restored.Key.ID)
			// Back to before the revoke, and on from there on another way, all in
			// one transaction: no server sees anything between.
			raw := beside(t, o)
			tx, err := raw.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			run := func(query string, args ...any) {
				t.Helper()
				if _, err := tx.ExecContext(t.Context(), query, args...); err != nil {
					t.Fatalf("%s: %v", query, err)
				}
			}
			run(`SELECT seq FROM change_head FOR UPDATE`)
			run(`DELETE FROM changes WHERE seq > $1`, head)
			run(`UPDATE keys SET state = 0 WHERE id = $1`, restored.Key.ID)
			on := map[string]int64{"shorter": 0, "as long": 1, "longer": 7}[c.name]
			for i := range on {
				run(`INSERT INTO changes (seq, token, kind, object_id, at) VALUES ($1, $2, 'noop', '', 1)`, head+1+i, fmt.Appendf(nil, "another token %02d", i)[:16])
			}
			run(`UPDATE change_head SET seq = $1`, head+on)
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			for _, s := range []*server{a, b} {
				eventually(t, "a server has loaded the other history", func() bool { return s.accepts(restored.Secret) })
				s.mustAccept(made.Secret)
				if !s.log.has(c.said) || !s.log.has("loaded everything anew") || !s.log.has("revocations among them are undone") {
					t.Errorf("the log does not say so:\n%s", s.log)
				}
			}
			// Numbers that meant something else before are new changes now, and
			// are waited for as such.
			h := newHammer(t, a, b)
			for _, s := range []*server{a, b, a, b} {
				fresh := s.create("fresh")
				p := h.add(fresh.Secret)
				if !fresh.Pending {
					a.mustKnow(fresh.Secret)
					b.mustKnow(fresh.Secret)
				}
				s.revoke(fresh.Key.ID)
				p.revoked.Store(true)
			}
			h.end(t)
		})
	}
}

// TestRecoveredWhileAway: a server that starts says that the database was set to
// another timeline since somebody last changed something.
func TestRecoveredWhileAway(t *testing.T) {
	t.Parallel()
	o := store.Options{URL: pgtest.New(t)}
	const told = "the database was promoted or recovered"
	first := start(t, o, fast)
	made := first.create("key")
	first.leave()
	exec(t, beside(t, o), `UPDATE change_head SET timeline = 77`)
	second := start(t, o, fast)
	if first.log.has(told) || !second.log.has(told) {
		t.Errorf("the log of a server before it:\n%s\nand after it:\n%s", first.log, second.log)
	}
	second.revoke(made.Key.ID)
	if n := strings.Count(second.log.String(), told); n != 1 {
		t.Errorf("it says so %d times:\n%s", n, second.log)
	}
	third := start(t, o, fast)
	if third.log.has(told) {
		t.Errorf("a server says so though it is known:\n%s", third.log)
	}
}

// TestManyChangesAtOnce: more than one step of the log, by another process
// beside the server and in one go.
func TestManyChangesAtOnce(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]store.Options{"sqlite": {Dir: t.TempDir(), Serve: true}, "postgres": {URL: pgtest.New(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, o, 1)
			made := s.create("key")
			beside := admin(t, o, 1, func() bool { return true })
			other, err := store.Open(t.Context(), store.Options{Dir: o.Dir, URL: o.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			seq, err := other.Write(t.Context(), func(tx *store.Tx) error {
				for range 1100 {
					if err := tx.LogChange(store.ChangeNoop, ""); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := beside.RevokeKey(t.Context(), operator(), made.Key.ID, keystile.RevokeKey{}); err != nil {
				t.Fatal(err)
			}
			if s.accepts(made.Secret) || s.node.Applied() <= seq {
				t.Errorf("applied %d of more than %d changes", s.node.Applied(), seq)
			}
		})
	}
}

// TestVisibleBeforeAcknowledged is rule 5: what a server says it has applied
// can be seen in its index, however much it was.
func TestVisibleBeforeAcknowledged(t *testing.T) {
	t.Parallel()
	const many = 150 // one step of the log; publishing it takes a while
	o := store.Options{Dir: t.TempDir(), Serve: true}
	s := start(t, o, 1)
	made := make([]keystile.CreatedKey, many)
	var makers sync.WaitGroup
	for w := range 30 {
		makers.Go(func() {
			for i := w; i < many; i += 30 {
				made[i] = s.create(fmt.Sprint("key ", i))
			}
		})
	}
	makers.Wait()
	db := beside(t, o)
	for round := range 3 {
		state := 2 - round%2*2 // revoked, and back
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		run := func(query string, args ...any) {
			t.Helper()
			if _, err := tx.ExecContext(t.Context(), query, args...); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		run(`UPDATE keys SET state = $1`, state)
		for _, k := range made {
			run(`UPDATE change_head SET seq = seq + 1`)
			run(`INSERT INTO changes (seq, token, kind, object_id, at) SELECT seq, $1, 'key', $2, 1 FROM change_head`, []byte("0123456789abcdef"), k.Key.ID)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.node.Barrier(t.Context(), number(t, db, `SELECT seq FROM change_head`), true); err != nil {
			t.Fatal(err)
		}
		for _, k := range []keystile.CreatedKey{made[many-1], made[0]} {
			if s.accepts(k.Secret) != (state == 0) {
				t.Fatalf("round %d: applied, it says, and yet the key has not become %d", round, state)
			}
		}
	}
}

// TestChildThatLoadsSlowly: it would keep others from loading, and the database
// from tidying up.
func TestChildThatLoadsSlowly(t *testing.T) {
	t.Parallel()
	s := start(t, store.Options{Dir: t.TempDir(), Serve: true}, 1000) // 30 ms of patience
	a, err := s.node.Attach(cluster.Caller{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Detach()
	pieces := 0
	_, _, err = a.Load(t.Context(), func(verify.Batch) error { pieces++; time.Sleep(50 * time.Millisecond); return nil })
	if !errors.Is(err, cluster.ErrSlow) || pieces != 1 {
		t.Errorf("after %d pieces: %v", pieces, err)
	}
}

// TestManyChildrenCatchUp: after a restart all replicas come at once, and what
// they missed is no longer in memory. They leave connections to the database
// for the log and the lease.
func TestManyChildrenCatchUp(t *testing.T) {
	t.Parallel()
	o := store.Options{URL: pgtest.New(t)}
	before := start(t, o, fast)
	var then store.Head
	if err := before.store.Follow(t.Context(), func(tx *store.Tx) (err error) { then, err = tx.Head(); return err }); err != nil {
		t.Fatal(err)
	}
	before.create("key")
	s := start(t, o, fast) // remembers nothing of that
	db := beside(t, o)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE changes IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var resuming sync.WaitGroup
	for range 40 {
		resuming.Go(func() {
			if a, err := s.node.Attach(cluster.Caller{}); err == nil {
				_ = a.Resume(ctx, then.Seq, then.Token) // the lock is in its way
				a.Detach()
			}
		})
	}
	waiting := func() int64 {
		return number(t, db, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
			AND query LIKE 'SELECT seq, token, kind%'`)
	}
	eventually(t, "some are in the database", func() bool { return waiting() >= 2 })
	most := int64(0)
	for range 20 {
		most = max(most, waiting())
		time.Sleep(20 * time.Millisecond)
	}
	if most > 4 { // two of them, and each server for itself
		t.Errorf("%d connections wait for the log", most)
	}
	cancel()
	resuming.Wait()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	a, err := s.node.Attach(cluster.Caller{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Detach()
	eventually(t, "a replica goes on where it was", func() bool { return a.Resume(t.Context(), then.Seq, then.Token) == nil })
	if err := a.Resume(t.Context(), then.Seq, [16]byte{1}); !errors.Is(err, cluster.ErrReset) {
		t.Errorf("a replica of another history: %v", err)
	}
}
