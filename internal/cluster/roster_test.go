package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keystile/keystile/internal/store"
)

// book is the table of nodes, in the time of a bubble. The lists that it
// gives are what is tested here; the table itself is tested on real databases.
type book struct {
	mu     sync.Mutex
	roster store.Roster
	err    error
	noted  []int64
	took   time.Duration // to read
}

func (b *book) set(change func(*store.Roster)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	nodes := append([]store.Node(nil), b.roster.Nodes...)
	b.roster.Nodes = nodes
	change(&b.roster)
}

func (b *book) list(ctx context.Context) (store.Roster, error) {
	b.mu.Lock()
	took := b.took
	b.mu.Unlock()
	if sleep(ctx, took); ctx.Err() != nil {
		return store.Roster{}, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.roster, b.err
}

func (b *book) note(_ context.Context, from, to int64) error {
	b.noted = append(b.noted, from, to)
	return nil
}

// TestWhoIsWaitedFor is rule 10 and 11 of the protocol, to the millisecond.
func TestWhoIsWaitedFor(t *testing.T) {
	node := func(id string, applied int64) store.Node { return store.Node{ID: id, Applied: applied} }
	full := protocol().wait
	for _, c := range []struct {
		name   string
		nodes  []store.Node
		later  func(*book) // three seconds after the commit
		wide   bool        // the change takes nothing away
		moved  bool        // the database has another timeline
		read   time.Duration
		behind bool
		err    error
		least  time.Duration
		most   time.Duration
	}{
		{name: "nobody"},
		{name: "itself", nodes: []store.Node{node("self", 0)}},
		{name: "one that has it", nodes: []store.Node{node("a", 7), node("b", 9)}},
		{name: "one that is dead", nodes: []store.Node{node("a", 6)}, behind: true, least: full, most: full},
		{name: "one that is dead, of several", nodes: []store.Node{node("a", 7), node("b", 6), node("c", 8)}, behind: true, least: full, most: full},
		{
			name: "the time counts from when the list is there", nodes: []store.Node{node("a", 6)}, read: time.Second,
			behind: true, least: full + time.Second, most: full + time.Second,
		},
		{
			name: "one that acknowledges", nodes: []store.Node{node("a", 6)},
			later: func(b *book) { b.set(func(r *store.Roster) { r.Nodes[0].Applied = 7 }) },
			least: 3 * time.Second, most: 3*time.Second + 100*time.Millisecond,
		},
		{
			name: "one that leaves", nodes: []store.Node{node("a", 6)},
			later: func(b *book) { b.set(func(r *store.Roster) { r.Nodes = nil }) },
			least: 3 * time.Second, most: 3*time.Second + 100*time.Millisecond,
		},
		{
			name: "one that renews and stays behind", nodes: []store.Node{node("a", 6)},
			later:  func(b *book) { b.set(func(r *store.Roster) { r.Nodes[0].Renewals++ }) },
			behind: true, least: full, most: full,
		},
		{
			name: "one that comes later needs no waiting", nodes: []store.Node{node("a", 6)},
			later: func(b *book) { b.set(func(r *store.Roster) { r.Nodes = []store.Node{node("a", 7), node("b", 6)} }) },
			least: 3 * time.Second, most: 3*time.Second + 100*time.Millisecond,
		},
		{
			name: "a list from before the change proves no leaving", nodes: []store.Node{node("a", 6)},
			later:  func(b *book) { b.set(func(r *store.Roster) { r.Seq, r.Nodes = 6, nil }) },
			behind: true, least: full, most: full,
		},
		{
			name: "a database that goes away proves nothing", nodes: []store.Node{node("a", 6)},
			later:  func(b *book) { b.mu.Lock(); defer b.mu.Unlock(); b.err = errors.New("gone") },
			behind: true, least: full, most: full,
		},
		{
			name: "a database that does not answer holds nobody up for longer", nodes: []store.Node{node("a", 6)},
			later:  func(b *book) { b.mu.Lock(); defer b.mu.Unlock(); b.took = time.Hour },
			behind: true, least: full, most: full,
		},
		{name: "another timeline, whatever the rows say", moved: true, behind: true, least: full, most: full},
		{name: "another timeline, and nothing taken away", moved: true, wide: true},
		{
			name: "a dead one, and nothing taken away", wide: true, nodes: []store.Node{node("a", 6)},
			behind: true, least: protocol().createWait, most: protocol().createWait,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &book{roster: store.Roster{Seq: 7, Nodes: c.nodes, Timeline: 2, Noted: 2}, took: c.read}
				if c.moved {
					b.roster.Noted = 1
				}
				if c.later != nil {
					time.AfterFunc(3*time.Second, func() { c.later(b) })
				}
				o := others{times: protocol(), self: func() string { return "self" }, list: b.list, note: b.note}
				begin := time.Now()
				behind, _, err := o.wait(t.Context(), 7, !c.wide)
				if behind != c.behind || !errors.Is(err, c.err) {
					t.Errorf("behind %t, error %v", behind, err)
				}
				if took := time.Since(begin); took < c.least || took > c.most {
					t.Errorf("it took %s, want %s to %s", took, c.least, c.most)
				}
				if noted := len(b.noted) > 0; noted != (c.moved && !c.wide) {
					t.Errorf("noted: %v", b.noted)
				}
			})
		})
	}
}

// TestNoListNoProof: without a list that shows the change nothing is said to
// be in force, and a caller that is told to end ends with an error.
func TestNoListNoProof(t *testing.T) {
	for _, moved := range []int64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			b := &book{roster: store.Roster{Seq: 6}}
			o := others{times: protocol(), self: func() string { return "" }, list: b.list, note: b.note}
			if behind, _, err := o.wait(t.Context(), 7, true); !behind || !errors.Is(err, errStale) {
				t.Errorf("an old list: behind %t, error %v", behind, err)
			}
			b.roster = store.Roster{Seq: 7, Timeline: moved, Nodes: []store.Node{{ID: "a"}}}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if behind, _, err := o.wait(ctx, 7, true); !behind || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("told to end: behind %t, error %v", behind, err)
			}
			b.err = errors.New("gone")
			if behind, _, err := o.wait(t.Context(), 7, true); !behind || !errors.Is(err, b.err) {
				t.Errorf("no list: behind %t, error %v", behind, err)
			}
		})
	}
}

// TestListsAreSharedAndFresh: whoever asks while a list is being read gets
// the next one, together with all others who wait.
func TestListsAreSharedAndFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun int64
		r := newRoster(func(ctx context.Context) (store.Roster, error) {
			begun++
			seq := begun
			sleep(ctx, time.Second)
			return store.Roster{Seq: seq}, ctx.Err()
		}, time.Minute)
		var all sync.WaitGroup
		ask := func(want int64) {
			all.Go(func() {
				if got, err := r.list(t.Context()); err != nil || got.Seq != want {
					t.Errorf("list %d, error %v, want list %d", got.Seq, err, want)
				}
			})
		}
		ask(1)
		synctest.Wait()
		for range 1000 {
			ask(2)
		}
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond) // the second is being read
		for range 10 {
			ask(3)
		}
		all.Wait()
		if begun != 3 {
			t.Errorf("%d lists were read for 1011 who asked, want 3", begun)
		}
		// Who gives up does not take the list from the others.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		ask(4)
		synctest.Wait()
		if _, err := r.list(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gave up: %v", err)
		}
		all.Wait()
		time.Sleep(2 * time.Second) // the one that nobody waits for any more
		// A database that does not answer is given up.
		r = newRoster(func(ctx context.Context) (store.Roster, error) { <-ctx.Done(); return store.Roster{}, ctx.Err() }, time.Minute)
		if _, err := r.list(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a database that does not answer: %v", err)
		}
	})
}
