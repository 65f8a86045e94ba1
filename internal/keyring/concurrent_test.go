package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// limit is the number of active keys in the plan of the tests.
const limit = 10

// TestConcurrent: what many do at once to the same keys, from two processes,
// ends as if they had done it one after the other.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(*testing.T) store.Options{
		"sqlite":   func(t *testing.T) store.Options { return store.Options{Dir: t.TempDir()} },
		"postgres": func(t *testing.T) store.Options { return store.Options{URL: pgtest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			p := &pair{t: t, rings: []*keyring.Keyring{ring(t, o), ring(t, o)}}
			for _, k := range p.rings {
				if _, _, err := k.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range []struct {
				name string
				run  func(*pair)
			}{
				{"CreatesAtTheLimitBy32", (*pair).createsAtTheLimit},
				{"RotationsAndCreatesAtTheLimit", (*pair).rotationsAtTheLimit},
				{"EnablesAtTheLimit", (*pair).enablesAtTheLimit},
				{"TwoRevokes", (*pair).twoRevokes},
				{"RotateAgainstRevoke", (*pair).rotateAgainstRevoke},
				{"TwoRotations", (*pair).twoRotations},
				{"RollBackAgainstRevoke", (*pair).rollBackAgainstRevoke},
				{"SameIdempotencyKeyBy32", (*pair).sameIdempotencyKey},
			} {
				t.Run(c.name, func(t *testing.T) {
					c.run(&pair{t: t, rings: p.rings})
				})
			}
		})
	}
}

func ring(t *testing.T, o store.Options) *keyring.Keyring {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := profile.Parse("test", fmt.Appendf(nil, "product: Test\nprefix: tt\nplans: [{name: small, limits: {active_keys: %d}}]\n", limit))
	if err != nil {
		t.Fatal(err)
	}
	return keyring.New(s, p, func(context.Context, int64, bool) (bool, []keystile.Unreached, error) { return false, nil, nil })
}

// pair is two processes on one store.
type pair struct {
	t     *testing.T
	rings []*keyring.Keyring
}

func operator() keyring.Actor { return keyring.Operator("test") }

func (p *pair) workspace() string {
	p.t.Helper()
	w, _, err := p.rings[0].CreateWorkspace(p.t.Context(), operator(), keystile.CreateWorkspace{Name: "Acme"}, keyring.Idempotency{})
	if err != nil {
		p.t.Fatal(err)
	}
	return w.ID
}

func (p *pair) key(ws string) keystile.CreatedKey {
	p.t.Helper()
	made, _, err := p.rings[0].CreateKey(p.t.Context(), operator(), ws, keystile.CreateKey{Name: "a"}, keyring.Idempotency{})
	if err != nil {
		p.t.Fatal(err)
	}
	return made
}

// at runs fn n times at once, in either process, and returns the errors.
func (p *pair) at(n int, fn func(i int, k *keyring.Keyring) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() {
			<-start
			errs[i] = fn(i, p.rings[i%2])
		})
	}
	close(start)
	g.Wait()
	return errs
}

// count counts the calls that succeeded and fails on errors but those of the codes.
func (p *pair) count(errs []error, codes ...keystile.Code) (succeeded int) {
	p.t.Helper()
next:
	for _, err := range errs {
		if err == nil {
			succeeded++
			continue
		}
		for _, c := range codes {
			if errors.Is(err, c) {
				continue next
			}
		}
		p.t.Errorf("error: %v", err)
	}
	return succeeded
}

func (p *pair) show(id string) keystile.Key {
	p.t.Helper()
	k, err := p.rings[1].Key(p.t.Context(), operator(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return k
}

// active lists the active keys of a workspace.
func (p *pair) active(ws string) []keystile.Key {
	p.t.Helper()
	l, err := p.rings[1].Keys(p.t.Context(), operator(), ws, keyring.KeyQuery{Status: "active", Limit: 100})
	if err != nil {
		p.t.Fatal(err)
	}
	return l.Data
}

// actions counts what the audit log tells of an object.
func (p *pair) actions(ws, object string) map[string]int {
	p.t.Helper()
	l, err := p.rings[1].Audit(p.t.Context(), operator(), ws, keyring.AuditQuery{Object: object, Limit: 100})
	if err != nil {
		p.t.Fatal(err)
	}
	n := map[string]int{}
	for _, e := range l.Data {
		n[e.Action]++
	}
	return n
}

func (p *pair) createsAtTheLimit() {
	ws := p.workspace()
	errs := p.at(32, func(_ int, k *keyring.Keyring) error {
		_, _, err := k.CreateKey(p.t.Context(), operator(), ws, keystile.CreateKey{Name: "a"}, keyring.Idempotency{})
		return err
	})
	if n := p.count(errs, keystile.CodePlanLimit); n != limit || len(p.active(ws)) != limit {
		p.t.Errorf("%d creates succeeded and %d keys are active, want %d", n, len(p.active(ws)), limit)
	}
}

// rotationsAtTheLimit: a rotation takes no place in the plan, and frees none
// for a create that comes at the same time.
func (p *pair) rotationsAtTheLimit() {
	ws := p.workspace()
	var ids []string
	for range limit {
		ids = append(ids, p.key(ws).Key.ID)
	}
	errs := p.at(32, func(i int, k *keyring.Keyring) error {
		if i >= limit {
			_, _, err := k.CreateKey(p.t.Context(), operator(), ws, keystile.CreateKey{Name: "b"}, keyring.Idempotency{})
			return err
		}
		_, _, err := k.RotateKey(p.t.Context(), operator(), ids[i], keystile.RotateKey{}, keyring.Idempotency{})
		return err
	})
	if n := p.count(errs[:limit]); n != limit {
		p.t.Errorf("%d rotations succeeded, want %d", n, limit)
	}
	if n := p.count(errs[limit:], keystile.CodePlanLimit); n != 0 || len(p.active(ws)) != 2*limit {
		p.t.Errorf("%d creates succeeded, %d keys are active", n, len(p.active(ws)))
	}
	w, err := p.rings[0].Workspace(p.t.Context(), operator(), ws)
	if err != nil || w.ActiveKeys != limit {
		p.t.Errorf("%d keys count, %v; want %d", w.ActiveKeys, err, limit)
	}
}

func (p *pair) enablesAtTheLimit() {
	ws := p.workspace()
	var ids []string
	for range limit {
		id := p.key(ws).Key.ID
		if _, err := p.rings[0].DisableKey(p.t.Context(), operator(), id, keystile.DisableKey{}); err != nil {
			p.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	errs := p.at(32, func(i int, k *keyring.Keyring) error {
		if i < limit {
			_, err := k.EnableKey(p.t.Context(), operator(), ids[i])
			return err
		}
		_, _, err := k.CreateKey(p.t.Context(), operator(), ws, keystile.CreateKey{Name: "b"}, keyring.Idempotency{})
		return err
	})
	if n := p.count(errs, keystile.CodePlanLimit); n != limit || len(p.active(ws)) != limit {
		p.t.Errorf("%d succeeded and %d keys are active, want %d", n, len(p.active(ws)), limit)
	}
}

func (p *pair) twoRevokes() {
	ws := p.workspace()
	for range 10 {
		id := p.key(ws).Key.ID
		errs := p.at(2, func(i int, k *keyring.Keyring) error {
			_, err := k.RevokeKey(p.t.Context(), operator(), id, keystile.RevokeKey{Reason: fmt.Sprint("by ", i)})
			return err
		})
		if n := p.count(errs); n != 2 {
			p.t.Errorf("%d revokes of 2 succeeded", n)
		}
		k := p.show(id)
		if k.Status != keystile.StatusRevoked || k.RevokedReason != "by 0" && k.RevokedReason != "by 1" {
			p.t.Errorf("after two revokes: %+v", k)
		}
		if n := p.actions(ws, id); n["key.revoked"] != 1 {
			p.t.Errorf("the audit log tells of it %d times", n["key.revoked"])
		}
	}
}

// rotateAgainstRevoke: either the key was revoked first and has no
// replacement, or it was rotated first and the replacement goes on. In both
// cases the key itself is revoked.
func (p *pair) rotateAgainstRevoke() {
	ws := p.workspace()
	for range 10 {
		id := p.key(ws).Key.ID
		var replacement string
		errs := p.at(2, func(i int, k *keyring.Keyring) error {
			if i == 0 {
				made, _, err := k.RotateKey(p.t.Context(), operator(), id, keystile.RotateKey{Overlap: "24h"}, keyring.Idempotency{})
				replacement = made.Key.ID
				return err
			}
			_, err := k.RevokeKey(p.t.Context(), operator(), id, keystile.RevokeKey{})
			return err
		})
		if errs[1] != nil {
			p.t.Errorf("revoke: %v", errs[1])
		}
		p.count(errs[:1], keystile.CodeConflict)
		k := p.show(id)
		if k.Status != keystile.StatusRevoked || k.ReplacedBy != replacement || (errs[0] == nil) != (replacement != "") {
			p.t.Errorf("after rotate (%v) against revoke: %s, replaced by %q, want %q", errs[0], k.Status, k.ReplacedBy, replacement)
		}
		if replacement != "" {
			if r := p.show(replacement); r.Status != keystile.StatusActive || r.Replaces != id {
				p.t.Errorf("the replacement is %s and replaces %q", r.Status, r.Replaces)
			}
			if _, err := p.rings[0].RevokeKey(p.t.Context(), operator(), replacement, keystile.RevokeKey{}); err != nil {
				p.t.Fatal(err)
			}
		}
		if left := p.active(ws); len(left) != 0 {
			p.t.Errorf("%d keys are active that nobody knows of", len(left))
		}
	}
}

// twoRotations: there is one replacement, never two.
func (p *pair) twoRotations() {
	ws := p.workspace()
	id := p.key(ws).Key.ID
	errs := p.at(16, func(_ int, k *keyring.Keyring) error {
		_, _, err := k.RotateKey(p.t.Context(), operator(), id, keystile.RotateKey{}, keyring.Idempotency{})
		return err
	})
	if n := p.count(errs, keystile.CodeConflict); n != 1 || len(p.active(ws)) != 2 {
		p.t.Errorf("%d rotations succeeded, %d keys are active", n, len(p.active(ws)))
	}
}

// rollBackAgainstRevoke: rolling back brings no revoked key back.
func (p *pair) rollBackAgainstRevoke() {
	ws := p.workspace()
	for range 10 {
		old := p.key(ws).Key.ID
		made, _, err := p.rings[0].RotateKey(p.t.Context(), operator(), old, keystile.RotateKey{Overlap: "1h"}, keyring.Idempotency{})
		if err != nil {
			p.t.Fatal(err)
		}
		errs := p.at(2, func(i int, k *keyring.Keyring) error {
			if i == 0 {
				_, err := k.RevokeKey(p.t.Context(), operator(), made.Key.ID, keystile.RevokeKey{Rollback: true})
				return err
			}
			_, err := k.RevokeKey(p.t.Context(), operator(), old, keystile.RevokeKey{})
			return err
		})
		if errs[1] != nil {
			p.t.Errorf("revoke: %v", errs[1])
		}
		p.count(errs[:1], keystile.CodeConflict)
		if k := p.show(old); k.Status != keystile.StatusRevoked {
			p.t.Errorf("the revoked key is %s", k.Status)
		}
		want := keystile.StatusRevoked
		if errs[0] != nil { // refused: then it has done nothing
			want = keystile.StatusActive
		}
		if k := p.show(made.Key.ID); k.Status != want {
			p.t.Errorf("after a roll-back that ended with %v the replacement is %s", errs[0], k.Status)
		}
		if _, err := p.rings[0].RevokeKey(p.t.Context(), operator(), made.Key.ID, keystile.RevokeKey{}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// sameIdempotencyKey: the same request sent many times makes one key, and one
// answer has its secret.
func (p *pair) sameIdempotencyKey() {
	ws := p.workspace()
	var mu sync.Mutex
	ids, secrets, replays := map[string]bool{}, 0, 0
	errs := p.at(32, func(_ int, k *keyring.Keyring) error {
		made, replayed, err := k.CreateKey(p.t.Context(), operator(), ws, keystile.CreateKey{Name: "a"},
			keyring.Idempotency{Key: "the same", Route: "create"})
		mu.Lock()
		defer mu.Unlock()
		ids[made.Key.ID] = true
		if made.Secret != "" {
			secrets++
		}
		if replayed {
			replays++
		}
		return err
	})
	if n := p.count(errs); n != 32 || len(ids) != 1 || secrets != 1 || replays != 31 || len(p.active(ws)) != 1 {
		p.t.Errorf("%d succeeded, %d keys, %d secrets, %d replays, %d active", n, len(ids), secrets, replays, len(p.active(ws)))
	}
}
