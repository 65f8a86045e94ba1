package verify_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

const readers = 2

// read runs f in several goroutines until stop is called, which waits for them.
func read(f func(random *rand.Rand)) (stop func()) {
	var done atomic.Bool
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for !done.Load() {
				f(random)
			}
		})
	}
	return func() {
		done.Store(true)
		all.Wait()
	}
}

// TestAppliedIsSeenByAllThatBeginLater is what the barrier relies on: once
// Apply has returned, no Decide that begins later answers as before. Tables
// grow, slots are reused and roles are edited meanwhile.
func TestAppliedIsSeenByAllThatBeginLater(t *testing.T) {
	const n = 4000
	x := newIndex(t)
	secrets := make([]string, n)
	for i := range secrets {
		secrets[i] = mint(t)
	}
	// Each key is created, revoked, and deleted, in this order; some stay.
	var created, revoked, deleted atomic.Int64
	var decided atomic.Int64
	stop := read(func(random *rand.Rand) {
		c, r, d := created.Load(), revoked.Load(), deleted.Load()
		if c == 0 {
			return
		}
		i := random.Int64N(c)
		code := decide(x, ask(secrets[i])).Code
		decided.Add(1)
		switch stays := i%5 == 0; {
		case stays && code != keystile.CodeValid:
			t.Errorf("key %d was left alone: %s", i, code)
		case !stays && i < d && code != keystile.CodeUnknown:
			t.Errorf("key %d was deleted: %s", i, code)
		case !stays && i < r && code != keystile.CodeRevoked && code != keystile.CodeUnknown:
			t.Errorf("key %d was revoked: %s", i, code)
		}
	})
	const lag = 500
	for i := range n + 2*lag {
		if i < n {
			x.Apply(verify.Batch{Keys: []verify.Key{newKey(i, secrets[i])}, Roles: roles()})
			created.Store(int64(i) + 1)
		}
		if j := i - lag; 0 <= j && j < n {
			if j%5 != 0 {
				k := newKey(j, secrets[j])
				k.State = verify.StateRevoked
				x.Apply(verify.Batch{Keys: []verify.Key{k}})
			}
			revoked.Store(int64(j) + 1)
		}
		if j := i - 2*lag; 0 <= j {
			if j%5 != 0 {
				x.Apply(verify.Batch{GoneKeys: []string{keyID(j)}})
			}
			deleted.Store(int64(j) + 1)
		}
		for decided.Load() < int64(min(i, n)) { // or a busy machine might let it end before anybody has read
			runtime.Gosched()
		}
	}
	stop()
	if x.Len() != n/5 || decided.Load() < n {
		t.Errorf("%d keys, %d decisions", x.Len(), decided.Load())
	}
}

// What narrows through a role or a workspace is seen as soon.
func TestNarrowingIsSeenByAllThatBeginLater(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	x.Apply(verify.Batch{Roles: []verify.Role{{ID: "role_writer"}}})
	// Odd while neither role nor workspace lets anyone in.
	var turn atomic.Int64
	turn.Store(1)
	stop := read(func(*rand.Rand) {
		before := turn.Load()
		q := ask(secret)
		q.Permission = "stock.read"
		code := decide(x, q).Code
		if after := turn.Load(); before == after && before%2 == 1 && code == keystile.CodeValid {
			t.Errorf("valid at turn %d", before)
		}
	})
	for i := range 3000 {
		turn.Add(1)
		x.Apply(verify.Batch{Roles: roles(), Workspaces: workspaces()})
		if i%2 == 0 {
			x.Apply(verify.Batch{Roles: []verify.Role{{ID: "role_writer", Permissions: keystile.Permissions{"orders.*"}}}})
		} else {
			x.Apply(verify.Batch{Workspaces: []verify.Workspace{{ID: acme, Suspended: true}}})
		}
		turn.Add(1)
	}
	stop()
}

// TestNoRecordIsTorn has keys alternate between two states that have nothing in
// common, so that the extra that one gives up goes to another, and reads the
// very key that is being written. What is read must be one of the two.
func TestNoRecordIsTorn(t *testing.T) {
	const n, flips = 200, 800
	secrets := make([]string, n)
	states := make([][2]verify.Key, n)
	for i := range n {
		secrets[i] = mint(t)
		rich := newKey(i, secrets[i])
		rich.Owner, rich.Allow = fmt.Sprint(i), prefixes(fmt.Sprintf("10.0.%d.0/24", i))
		rich.Environment, rich.ExpiresAt = "rich", noon.Add(time.Hour).UnixMilli()
		poor := newKey(i, secrets[i])
		poor.RoleID, poor.WorkspaceID, poor.Environment = "role_reader", other, "poor"
		poor.State = verify.StateDisabled
		states[i] = [2]verify.Key{rich, poor}
	}
	x := newIndex(t)
	for i := range n {
		x.Apply(verify.Batch{Keys: []verify.Key{states[i][i%2]}})
	}
	var at, richSeen, poorSeen atomic.Int64
	stop := read(func(*rand.Rand) {
		i := int(at.Load())
		q := ask(secrets[i])
		q.Address = netip.AddrFrom4([4]byte{10, 0, byte(i), 1})
		for range 20 {
			r := decide(x, q)
			end, ends := r.ExpiresAt()
			switch {
			case r.KeyID() != keyID(i):
				t.Errorf("key %d: %s as %q", i, r.Code, r.KeyID())
			case r.Code == keystile.CodeValid && r.WorkspaceID() == acme && r.RoleName() == "writer" && r.Environment() == "rich" &&
				r.Owner() == states[i][0].Owner && slices.Equal(r.Allow(), states[i][0].Allow) && end.Equal(noon.Add(time.Hour)):
				richSeen.Add(1)
			case r.Code == keystile.CodeDisabled && r.WorkspaceID() == other && r.RoleName() == "reader" && r.Environment() == "poor" &&
				r.Owner() == "" && r.Allow() == nil && !ends:
				poorSeen.Add(1)
			default:
				t.Errorf("key %d: %s in %s as %s, %q %q %v until %v", i,
					r.Code, r.WorkspaceID(), r.RoleName(), r.Environment(), r.Owner(), r.Allow(), end)
			}
		}
	})
	for i := range n {
		at.Store(int64(i))
		for flip := range flips {
			x.Apply(verify.Batch{Keys: []verify.Key{states[i][(i+flip)%2]}})
		}
		x.Apply(verify.Batch{Keys: []verify.Key{newKey(n+i, mint(t))}}) // tables grow as well
	}
	stop()
	if richSeen.Load() == 0 || poorSeen.Load() == 0 {
		t.Errorf("saw the two states %d and %d times: the test is too short", richSeen.Load(), poorSeen.Load())
	}
}

// TestSlotsChangeHands gives the slots of deleted keys to new ones while both
// are being read: no answer is about another key than the one presented.
func TestSlotsChangeHands(t *testing.T) {
	const n = 300
	secrets := make([]string, 2*n)
	keys := make([]verify.Key, 2*n)
	ids := make([]string, 2*n)
	for i := range keys {
		secrets[i] = mint(t)
		keys[i] = newKey(i, secrets[i])
		keys[i].Owner = fmt.Sprint(i)
		ids[i] = keys[i].ID
	}
	x := newIndex(t, keys[:n]...)
	stop := read(func(random *rand.Rand) {
		i := random.IntN(2 * n)
		r := decide(x, ask(secrets[i]))
		if r.Known() && (r.KeyID() != ids[i] || r.Owner() != fmt.Sprint(i)) || !r.Known() && r.Code != keystile.CodeUnknown {
			t.Errorf("key %d: %s as %s of %q", i, r.Code, r.KeyID(), r.Owner())
		}
	})
	for round := range 100 {
		in, out := n*((round+1)%2), n*(round%2)
		for i := range n {
			x.Apply(verify.Batch{GoneKeys: ids[out+i : out+i+1]})
			x.Apply(verify.Batch{Keys: keys[in+i : in+i+1]})
		}
	}
	stop()
	if x.Len() != n {
		t.Errorf("%d keys", x.Len())
	}
}
