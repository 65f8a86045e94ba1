package cluster

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// hurried are the times of the protocol, all shorter by the same factor.
func hurried(factor time.Duration) times {
	t := protocol()
	for _, d := range []*time.Duration{&t.wait, &t.lease, &t.renewEvery, &t.renewLimit, &t.createWait, &t.stepLimit, &t.loadLimit, &t.loadSlack, &t.late, &t.lateSpan} {
		*d /= factor
	}
	// How long an answer may take is the machine's business, and it may be slow.
	t.renewLimit, t.stepLimit, t.loadLimit = max(t.renewLimit, 1500*time.Millisecond), max(t.stepLimit, 4*time.Second), time.Minute
	return t
}

// NewHurriedNode is NewNode with times shorter by a factor.
func NewHurriedNode(s *store.Store, factor time.Duration, f keystile.Format, roles []keystile.Role, name string, log *slog.Logger) (*Node, error) {
	return newNode(s, hurried(factor), f, roles, name, log)
}

// HurriedAdminBarrier is AdminBarrier with times shorter by a factor.
func HurriedAdminBarrier(s *store.Store, factor time.Duration, running func() bool) func(context.Context, int64, bool) (bool, []keystile.Unreached, error) {
	return adminBarrier(s, hurried(factor), running)
}

// Wait and Lease are L and L_node of the protocol, shorter by a factor.
func Wait(factor time.Duration) time.Duration  { return hurried(factor).wait }
func Lease(factor time.Duration) time.Duration { return hurried(factor).lease }

// Copy is a live copy of a node, as of a machine that is copied while it runs:
// everything of it but its connections, which are those of the store. It runs
// until ctx ends.
func (n *Node) Copy(ctx context.Context, s *store.Store, log *slog.Logger) (*Node, error) {
	c, err := newNode(s, n.times, n.format, nil, n.name, log)
	if err != nil {
		return nil, err
	}
	c.roles = n.roles
	if err := c.load(ctx); err != nil { // its own index; applied is what it shows
		return nil, err
	}
	n.renewing.Lock()
	n.mu.Lock()
	c.claim = store.Claim{ID: n.claim.ID, Marks: slices.Clone(n.claim.Marks)}
	c.started, c.renewed = n.started, n.renewed
	c.usableTo.Store(n.usableTo.Load())
	n.mu.Unlock()
	n.renewing.Unlock()
	c.loops.Go(func() { c.store.Watch(ctx, c.nudge) })
	c.loops.Go(func() { c.follow(ctx) })
	c.loops.Go(func() { c.renewals(ctx) })
	return c, nil
}
