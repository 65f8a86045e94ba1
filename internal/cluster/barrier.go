package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/keystile/keystile/internal/store"
)

var errBehind = errors.New("cluster: this node has not applied the change in time")

// Barrier waits until the change at seq is in force: applied by this node and
// acknowledged by every other that was listed after the commit, or that node's
// lease is over for certain. A change that takes nothing away waits createWait
// at most and tells whether some node was still behind.
//
// An error means that the change may not be in force everywhere yet.
func (n *Node) Barrier(ctx context.Context, seq int64, narrows bool) (pending bool, err error) {
	// Whoever asked may go away; the change is committed and must get through.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*n.times.wait)
	defer cancel()
	if err := n.waitApplied(ctx, seq); err != nil {
		return true, err
	}
	if !n.store.Postgres() {
		return false, nil // the only node
	}
	behind, err := waitOthers(ctx, n.times, n.nodes, seq, narrows)
	// What narrows has waited until the leases of those behind were over.
	return behind && (!narrows || err != nil), err
}

// waitApplied waits until this node's own index shows the change.
func (n *Node) waitApplied(ctx context.Context, seq int64) error {
	ctx, cancel := context.WithTimeout(ctx, n.times.wait)
	defer cancel()
	for {
		n.mu.Lock()
		applied, moved := n.applied, n.moved
		n.mu.Unlock()
		if applied >= seq {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return errBehind
		}
	}
}

// AdminBarrier is the barrier of a process that writes to a store beside
// running servers and answers no verifications itself. Running tells whether
// a server may be there at all.
func AdminBarrier(s *store.Store, running func() bool) func(context.Context, int64, bool) (bool, error) {
	return adminBarrier(s, protocol(), running)
}

func adminBarrier(s *store.Store, t times, running func() bool) func(context.Context, int64, bool) (bool, error) {
	return func(ctx context.Context, seq int64, narrows bool) (bool, error) {
		behind, err := waitOthers(ctx, t, func(ctx context.Context) (nodes []store.Node, err error) {
			if !running() {
				return nil, nil
			}
			err = s.Follow(ctx, func(tx *store.Tx) (err error) {
				nodes, err = tx.Nodes()
				return err
			})
			return nodes, err
		}, seq, narrows)
		if behind && err == nil && narrows && !s.Postgres() {
			// The server that holds a directory needs no lease, so that time
			// alone proves nothing.
			return true, errBehind
		}
		return behind && (!narrows || err != nil), err
	}
}

// waitOthers reads the list of nodes once, after the commit, and waits for
// each of them to apply seq or to leave, or until its lease must be over. A
// node that comes later, or renews later, has seen the change by then. It
// tells whether some of them were still behind.
func waitOthers(ctx context.Context, t times, list func(context.Context) ([]store.Node, error), seq int64, narrows bool) (stillBehind bool, err error) {
	first, err := list(ctx)
	if err != nil {
		return true, err
	}
	limit := t.createWait
	if narrows {
		limit = t.wait
	}
	end := time.Now().Add(limit)
	behind := map[string]bool{}
	for _, o := range first {
		if o.Applied < seq {
			behind[o.ID] = true
		}
	}
	for pause := 2 * time.Millisecond; len(behind) > 0; pause = min(2*pause, 100*time.Millisecond) {
		if left := time.Until(end); left <= 0 {
			return true, nil
		} else if sleep(ctx, min(pause, left)); ctx.Err() != nil {
			return true, ctx.Err()
		}
		now, err := list(ctx)
		if err != nil {
			continue // the leases end in any case
		}
		there := map[string]int64{}
		for _, o := range now {
			there[o.ID] = o.Applied
		}
		for id := range behind {
			if applied, listed := there[id]; !listed || applied >= seq {
				delete(behind, id)
			}
		}
	}
	return false, nil
}
