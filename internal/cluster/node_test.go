package cluster

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// stepped is a time as it was read when the wall clock stood elsewhere by so
// many seconds, and the monotonic clock where it stands.
func stepped(t *testing.T, at time.Time, seconds int64) time.Time {
	t.Helper()
	// The wall seconds of a time with a monotonic reading are bits 30 to 62 of
	// its first word (package time, type Time).
	words := (*[3]uint64)(unsafe.Pointer(&at))
	before := at
	words[0] += uint64(seconds) << 30
	if at.Sub(before) != 0 || at.Unix()-before.Unix() != seconds {
		t.Fatalf("package time keeps its times otherwise than this test thinks: %v, %v", before, at)
	}
	return at
}

// TestClockSteps is rule 7: a lease is good while both clocks say so. A wall
// clock that is set back lengthens none, and a machine that slept, whose
// monotonic clock stood still, has none.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), store.Options{URL: pgtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := &Node{store: s}
	n.index.Store(verify.New(keystile.Format{}, 0))
	now := time.Now()
	for _, c := range []struct {
		name   string
		end    time.Time
		usable bool
	}{
		{"time left", now.Add(time.Hour), true},
		{"time over", now.Add(-time.Nanosecond), false},
		// Set back by a day since the lease began: its end looks far away.
		{"over, and the clock was set back", stepped(t, now.Add(-time.Second), 24*3600), false},
		// Set forward by a day, or the machine slept for one.
		{"the clock was set forward", stepped(t, now.Add(time.Hour), -24*3600), false},
		{"left on both, the clock was set back a little", stepped(t, now.Add(time.Hour), 60), true},
	} {
		n.usableTo.Store(&c.end)
		if _, usable := n.Index(); usable != c.usable {
			t.Errorf("%s: usable %t", c.name, usable)
		}
	}
}

// TestLeaseOfANodeThatIsAlwaysBehind is rule 7 too: a lease is good when the
// head that it was given with is applied, whatever has been renewed since.
func TestLeaseOfANodeThatIsAlwaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := protocol().lease
		n := &Node{moved: make(chan struct{})}
		renew := func(head int64) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.grants = append(n.grants, grant{head: head, end: time.Now().Add(lease)})
			n.takeGrants()
		}
		begin := time.Now()
		renew(10)
		time.Sleep(3 * time.Second)
		renew(20)
		n.reached(9, [16]byte{}, nil)
		if n.usableTo.Load() != nil {
			t.Fatal("a lease before its head is applied")
		}
		time.Sleep(time.Second)
		n.reached(10, [16]byte{}, nil)
		if end := n.usableTo.Load(); end == nil || !end.Equal(begin.Add(lease)) {
			t.Fatalf("lease to %v, want that of the first renewal", end)
		}
		time.Sleep(2 * time.Second)
		renew(30)
		n.reached(25, [16]byte{}, nil)
		if end := n.usableTo.Load(); !end.Equal(begin.Add(3*time.Second + lease)) {
			t.Fatalf("lease to %v, want that of the second renewal", end)
		}
		// What has run out before it could be used does not pile up.
		for range 100 {
			time.Sleep(3 * time.Second)
			renew(1000)
		}
		if len(n.grants) > 6 {
			t.Errorf("%d leases wait", len(n.grants))
		}
		n.dropLease()
		if n.reached(1000, [16]byte{}, nil); n.usableTo.Load() != nil {
			t.Error("a lease of another history came into use")
		}
	})
}

// TestChildThatAcknowledgesNothing: a child that asks for leases again and again
// and never says that it has come further is waited for until the leases from
// before the change are over, and no longer: later ones take the change.
func TestChildThatAcknowledgesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now()
		n := &Node{
			alone: true, noted: true, times: protocol(), moved: make(chan struct{}),
			children: map[string]*child{}, leave: make(chan struct{}), log: slog.New(slog.DiscardHandler),
		}
		n.usableTo.Store(&end)
		n.reached(1, [16]byte{1}, nil)
		a, err := n.Attach(Caller{})
		if err != nil {
			t.Fatal(err)
		}
		ask := func() int64 {
			lease, err := n.Grant(a.ID, Speaker{}, 1, 0)
			if err != nil || lease.For != n.times.lease {
				t.Fatalf("%+v, %v", lease, err)
			}
			return lease.Head
		}
		for range 10 {
			ask()
			time.Sleep(n.times.renewEvery)
		}
		ask()
		last := time.Now()
		n.reached(2, [16]byte{2}, &step{first: 2, last: 2, token: [16]byte{2}})
		done := make(chan error, 1)
		go func() {
			_, err := n.waitChildren(t.Context(), 2, true)
			done <- err
		}()
		over := n.times.lease * holdNum / holdDen
		for {
			time.Sleep(n.times.renewEvery)
			synctest.Wait()
			select {
			case err := <-done:
				if took := time.Since(last); err != nil || took < over || took > over+n.times.renewEvery {
					t.Errorf("waited for %s: %v", took, err)
				}
				n.Release(a.ID, Speaker{})
				return
			default:
			}
			if head := ask(); head != 2 {
				t.Fatalf("a lease for %d", head)
			}
		}
	})
}

// TestChangeOfALogThatIsNoMore: when the log is replaced while a change waits,
// its number may come to mean another change, so that reaching it proves nothing.
func TestChangeOfALogThatIsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{moved: make(chan struct{}), times: protocol()}
		result := make(chan error, 1)
		go func() { result <- n.waitApplied(t.Context(), 5) }()
		synctest.Wait()
		n.dropLease()
		n.reached(9, [16]byte{}, nil)
		if err := <-result; !errors.Is(err, errLost) {
			t.Errorf("error %v, want %v", err, errLost)
		}
	})
}

// TestContinues is rule 5.
func TestContinues(t *testing.T) {
	t.Parallel()
	mine, foreign := [16]byte{1}, [16]byte{2}
	row := func(seq int64, token [16]byte) store.Change { return store.Change{Seq: seq, Token: token} }
	for name, c := range map[string]struct {
		log []store.Change
		ok  bool
	}{
		"nothing new":                 {[]store.Change{row(5, mine)}, true},
		"goes on":                     {[]store.Change{row(5, mine), row(6, foreign), row(7, mine)}, true},
		"empty":                       {nil, false},
		"another token":               {[]store.Change{row(5, foreign), row(6, mine)}, false},
		"trimmed":                     {[]store.Change{row(6, mine), row(7, mine)}, false},
		"a gap":                       {[]store.Change{row(5, mine), row(7, mine)}, false},
		"a gap, and the token fits":   {[]store.Change{row(5, mine), row(6, mine), row(8, mine)}, false},
		"the own row and a later one": {[]store.Change{row(5, mine), row(5, mine)}, false},
	} {
		if err := continues(c.log, 5, mine); (err == nil) != c.ok || err != nil && !errors.Is(err, store.ErrHistory) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
