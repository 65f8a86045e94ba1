package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

var (
	errBehind = errors.New("cluster: not every server has applied the change in time")
	errLost   = errors.New("cluster: the change log was replaced while the change was under way")
)

// Barrier waits until the change at seq is in force: applied by this node and
// acknowledged by every other that was listed after the commit, or that node's
// lease is over for certain. A change that takes nothing away waits createWait
// at most and tells whether some node was still behind.
//
// Unreached are the nodes that are cut off and answer from before the change
// even so, as they were set to. An error means that the change may not be in
// force everywhere yet.
func (n *Node) Barrier(ctx context.Context, seq int64, narrows bool) (pending bool, unreached []keystile.Unreached, err error) {
	if withoutBarrier {
		return false, nil, nil
	}
	// Whoever asked may go away; the change is committed and must get through.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*n.times.wait)
	defer cancel()
	if err := n.waitApplied(ctx, seq); err != nil {
		return true, nil, err
	}
	if behind, err := n.waitChildren(ctx, seq, narrows); behind || err != nil {
		return true, nil, err
	}
	if n.alone {
		return false, nil, nil // the only node
	}
	behind, unreached, err := n.others.wait(ctx, seq, narrows)
	// What narrows has waited until the leases of those behind were over.
	return behind && (!narrows || err != nil), unreached, err
}

// waitApplied waits until this node's own index shows the change.
func (n *Node) waitApplied(ctx context.Context, seq int64) error {
	ctx, cancel := context.WithTimeout(ctx, n.times.wait)
	defer cancel()
	n.mu.Lock()
	history := n.history
	n.mu.Unlock()
	for {
		n.mu.Lock()
		applied, moved, now := n.applied, n.moved, n.history
		n.mu.Unlock()
		switch {
		case now != history:
			return errLost // the same number may mean another change
		case applied >= seq:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return errBehind
		}
	}
}

// waitChildren waits until this node's children show the change, or have no
// lease any more. What takes nothing away waits for a moment at most, and is
// told whether one was still behind.
func (n *Node) waitChildren(ctx context.Context, seq int64, narrows bool) (behind bool, err error) {
	limit := n.times.createWait
	if narrows {
		limit = 2 * n.times.wait // longer than any child is waited for
		if left := time.Until(n.orphaned); left > 0 {
			if sleep(ctx, left); ctx.Err() != nil {
				return true, errBehind
			}
		}
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	n.mu.Lock()
	history := n.history
	n.mu.Unlock()
	for {
		n.mu.Lock()
		reported, moved, now := n.reported, n.moved, n.history
		n.mu.Unlock()
		switch {
		case now != history:
			return true, errLost
		case reported >= seq:
			return false, nil
		}
		select {
		case <-moved:
		case <-limited.Done():
			if narrows {
				return true, errBehind
			}
			return true, nil
		}
	}
}

// AdminBarrier is the barrier of a process that writes to a store beside
// running servers and answers no verifications itself. Running tells whether
// a server may be there at all.
func AdminBarrier(s *store.Store, running func() bool) func(context.Context, int64, bool) (bool, []keystile.Unreached, error) {
	return adminBarrier(s, protocol(), running)
}

func adminBarrier(s *store.Store, t times, running func() bool) func(context.Context, int64, bool) (bool, []keystile.Unreached, error) {
	return func(ctx context.Context, seq int64, narrows bool) (bool, []keystile.Unreached, error) {
		listed := false
		o := others{times: t, self: func() string { return "" }, note: s.NoteTimeline, list: func(ctx context.Context) (r store.Roster, err error) {
			if r.Seq = seq; running() {
				r, err = s.Roster(ctx)
			}
			listed = len(r.Nodes) > 0
			return r, err
		}}
		behind, unreached, err := o.wait(ctx, seq, narrows)
		if err == nil && narrows && !listed && !s.Postgres() {
			return false, nil, outliveChildren(ctx, s, t)
		}
		if behind && err == nil && narrows && !s.Postgres() {
			// The server that holds a directory needs no lease, so that time
			// alone proves nothing.
			return true, nil, errBehind
		}
		return behind && (!narrows || err != nil), unreached, err
	}
}

// outliveChildren waits until no child of a server that was killed can have a
// lease any more. On PostgreSQL the server's row stays as long.
func outliveChildren(ctx context.Context, s *store.Store, t times) error {
	had, err := hadChildren(ctx, s)
	if err != nil || !had {
		return err
	}
	if sleep(ctx, t.wait); ctx.Err() != nil {
		return errBehind
	}
	return nil
}
