package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// This file walks through the orders in which two nodes can do what the
// protocol says about one key: node a revokes it, node b renews its lease,
// applies the change, acknowledges it and is asked, or stands still. Lease and
// barrier are the real ones; the database is a table in memory, the change is
// number 1, and time is that of testing/synctest.

// order is one way for things to happen. Times are counted from b's first
// renewal.
type order struct {
	revoke       time.Duration // when the change commits
	write, gap   time.Duration // of a renewal: until the row is committed, and from there until the head is read
	reply        time.Duration // until the head arrives
	apply, tell  time.Duration // from the commit to b's index, and from there to the others' knowing; never: far away
	pause, still time.Duration // when b stands still, and for how long
	stale        time.Duration // for how long b answers after its lease, as it was set to
}

// fault is a way to get the protocol wrong, which must be found out.
type fault int

const (
	sound       fault = iota
	noBarrier         // the revoke returns after its commit
	shortWait         // the revoke waits for less than a lease
	headFirst         // a renewal reads the head before its row is committed
	tellFirst         // acknowledged before it is visible
	countsLate        // a lease counts from the answer
	ignoresHead       // a lease counts before its head is applied
	namesNobody       // of a node that answers after its lease nothing is said
	endsEarly         // such a node is said to end a lease too early
	hidesPolicy       // its row does not say that it is one
)

func (f fault) String() string {
	return [...]string{"sound", "no barrier", "short wait", "head before row", "acknowledged before visible", "lease from the answer", "lease before its head", "stale and not named", "stale for longer than said", "stale and the row does not say so"}[f]
}

const never = 10 * time.Minute

// table is the database.
type table struct {
	mu   sync.Mutex
	head int64
	b    *store.Node // b's row, nil for none
}

func (d *table) commit() { d.mu.Lock(); d.head = 1; d.mu.Unlock() }

func (d *table) roster(context.Context) (store.Roster, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := store.Roster{Seq: d.head}
	if d.b != nil {
		r.Nodes = []store.Node{*d.b}
	}
	return r, nil
}

// play lets things happen in one order, and tells how often b let the key in
// after the revoke had returned, how often it let it in at all, and how long the
// revoke took.
func play(t *testing.T, o order, f fault) (broken, accepted int, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		db := &table{}
		ctx, stop := context.WithCancel(t.Context())
		// b does nothing while it stands still: what it is about to do comes after.
		b := func() {
			if at := time.Since(begin); at >= o.pause && at < o.pause+o.still {
				time.Sleep(o.pause + o.still - at)
			}
		}
		n := &Node{
			times: protocol(), log: slog.New(slog.DiscardHandler), claim: store.Claim{ID: "b"}, moved: make(chan struct{}),
			wake: make(chan struct{}, 1), children: map[string]*child{},
		}
		n.ServeStale(o.stale)
		n.index.Store(verify.New(keystile.Format{}, 0))
		n.reached(0, [16]byte{}, nil)
		n.sendRow = func(ctx context.Context, row store.Node, _ [16]byte) (int64, error) {
			db.mu.Lock()
			early := db.head
			db.mu.Unlock()
			time.Sleep(o.write)
			if f == hidesPolicy {
				row.StaleFor = 0
			}
			db.mu.Lock()
			if db.b == nil || db.b.Applied <= row.Applied {
				db.b = &row
			} else {
				row.Applied = db.b.Applied
				db.b = &row
			}
			db.mu.Unlock()
			time.Sleep(o.gap)
			db.mu.Lock()
			head := db.head
			db.mu.Unlock()
			time.Sleep(o.reply)
			b()
			switch f {
			case headFirst:
				head = early
			case ignoresHead:
				head = 0
			}
			return head, ctx.Err()
		}
		var all sync.WaitGroup
		all.Go(func() { // b's leases
			for ctx.Err() == nil {
				b()
				before := time.Now()
				_, err := n.renew(ctx)
				if end := n.usableTo.Load(); f == countsLate && err == nil && end != nil {
					late := end.Add(time.Since(before))
					n.usableTo.Store(&late)
				}
				sleep(ctx, n.times.renewEvery)
			}
		})
		all.Go(func() { // b applies the change, and then says so
			sleep(ctx, o.revoke+o.apply)
			b()
			tell := func() {
				db.mu.Lock()
				defer db.mu.Unlock()
				if db.b != nil && ctx.Err() == nil {
					db.b.Applied = 1
				}
			}
			if f == tellFirst {
				tell()
				sleep(ctx, o.tell)
				b()
			}
			if ctx.Err() != nil {
				return
			}
			n.reached(1, [16]byte{}, nil)
			if f != tellFirst {
				sleep(ctx, o.tell)
				b()
				tell()
			}
		})
		returned := make(chan struct{})
		var excused time.Time // b may let the key in until then: whoever revoked it was told so
		all.Go(func() {       // a revokes
			time.Sleep(o.revoke)
			db.commit()
			committed := time.Now()
			times := protocol()
			if f == shortWait {
				times.wait = times.lease / 2
			}
			a := others{times: times, self: func() string { return "a" }, list: db.roster}
			if f != noBarrier {
				_, unreached, err := a.wait(ctx, 1, true)
				if err != nil {
					t.Errorf("%+v: the barrier fails: %v", o, err)
				}
				if len(unreached) > 0 && f != namesNobody {
					excused = unreached[0].Until
					if o.stale == 0 {
						t.Errorf("%+v: a node that refuses without a lease is named", o)
					}
					if f == endsEarly {
						excused = excused.Add(-times.lease)
					}
				}
			}
			took = time.Since(committed)
			close(returned)
		})
		for range 200 { // b is asked
			time.Sleep(250 * time.Millisecond)
			over := false
			select {
			case <-returned:
				over = true
			default:
			}
			b() // a question that was there when b stood still is answered when it goes on
			if _, usable := n.Checks(); usable && n.Applied() == 0 {
				accepted++
				if over && time.Now().After(excused) {
					broken++
				}
			}
		}
		stop()
		all.Wait()
	})
	return broken, accepted, took
}

// orders are all combinations, some 3000; few of them are some 350.
func orders(few bool) []order {
	const s, ms = time.Second, time.Millisecond
	revokes := []time.Duration{0, 100 * ms, 700 * ms, 1300 * ms, 1900 * ms, 3100 * ms, 4 * s}
	delays := []time.Duration{0, 600 * ms}
	applies := []time.Duration{0, 4 * s, 14 * s, never}
	tells := []time.Duration{0, 5 * s}
	pauses := [][2]time.Duration{{0, 0}, {300 * ms, 5 * s}, {300 * ms, 20 * s}, {1500 * ms, 11 * s}, {1500 * ms, 14 * s}, {3300 * ms, 13 * s}}
	if few {
		revokes, applies, pauses = revokes[1:4], []time.Duration{0, 4 * s, never}, pauses[:4]
	}
	var all []order
	for _, revoke := range revokes {
		for _, write := range delays {
			for _, gap := range delays {
				for _, reply := range delays {
					for _, apply := range applies {
						for _, tell := range tells {
							for _, p := range pauses {
								all = append(all, order{revoke, write, gap, reply, apply, tell, p[0], p[1], 0})
								if apply == never && tell == 0 { // what b does when it can't apply
									all = append(all, order{revoke, write, gap, reply, apply, tell, p[0], p[1], 8 * s})
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// TestEveryOrder: whatever the order, the key is not let in once its revoke has
// returned, and the revoke returns in time. Before, it is let in often enough
// for that to mean something.
func TestEveryOrder(t *testing.T) {
	t.Parallel()
	let, all := 0, orders(testing.Short())
	for _, o := range all {
		broken, accepted, took := play(t, o, sound)
		if broken > 0 {
			t.Errorf("%+v: let in %d times after the revoke", o, broken)
		}
		if took > protocol().wait+time.Second {
			t.Errorf("%+v: the revoke took %s", o, took)
		}
		if accepted > 0 {
			let++
		}
	}
	if let < len(all)/3 {
		t.Errorf("the key was let in at all in %d of %d orders", let, len(all))
	}
	t.Logf("%d orders", len(all))
}

// shuffled is a list in an order that is always the same. What begins alike
// stands together in the list itself, and a fault shows in the one half of it or
// in the other.
func shuffled[T any](all []T) []T {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// TestEveryOrderFindsFaults: the walk is worth something, since it finds each
// way to get the protocol wrong.
func TestEveryOrderFindsFaults(t *testing.T) {
	t.Parallel()
	for f := noBarrier; f <= hidesPolicy; f++ {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			for _, o := range shuffled(orders(false)) {
				if broken, _, _ := play(t, o, f); broken > 0 {
					t.Logf("found in %+v", o)
					return
				}
			}
			t.Error("this fault is not found")
		})
	}
}
