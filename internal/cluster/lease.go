package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// renewals renews the lease until ctx ends.
func (n *Node) renewals(ctx context.Context) {
	for {
		sleep(ctx, n.times.renewEvery)
		if ctx.Err() != nil {
			return
		}
		if _, err := n.renew(ctx); err != nil && ctx.Err() == nil {
			if _, usable := n.Index(); usable {
				n.log.Warn("the lease was not renewed; this node answers until it ends", "error", err)
			} else if until, stale := n.Stale(); stale {
				n.log.Error("the lease has ended; as --partition has it, this node goes on checking keys from what it knew", "until", until, "error", err)
			} else {
				n.log.Error("the lease has ended; this node refuses until it reaches the database again", "error", err)
			}
			if errors.Is(err, store.ErrHistory) {
				n.nudge()
			}
		}
		if err := n.sweep(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("looking for nodes that are gone", "error", err)
		}
	}
}

// renew writes this node's row, commits, and only then reads the head of the
// log: a change that this head does not show was committed after the row, so
// whoever made it has the row on the list of those to wait for. The lease
// counts from before the row was sent. It returns the head.
func (n *Node) renew(ctx context.Context) (int64, error) {
	// One at a time, so that heads and ends of leases only ever rise.
	n.renewing.Lock()
	defer n.renewing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, n.times.renewLimit)
	defer cancel()
	n.renewed++
	begin := time.Now()
	n.mu.Lock()
	if len(n.claim.Marks) > marksKept {
		n.claim = store.Claim{ID: random()}
	}
	self := store.Node{
		ID: n.claim.ID, Mark: random(), Was: slices.Clone(n.claim.Marks), Name: n.name, Version: keystile.Version, Renewals: n.renewed, Applied: n.reported,
		StaleFor: n.stale, StartedAt: n.started, MasterKeys: n.masterKeys,
	}
	self.Replicas, self.ReplicaCount = n.attached(begin)
	// It may come through though no answer does.
	n.claim.Marks = append(n.claim.Marks, self.Mark)
	token, history := n.reportedToken, n.history
	n.mu.Unlock()
	head, err := n.sendRow(ctx, self, token)
	if errors.Is(err, store.ErrCopied) {
		n.rename()
	}
	if err != nil {
		return 0, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.claim.Marks = n.claim.Marks[max(0, len(n.claim.Marks)-marksAnswered):]
	if n.history != history {
		return head, nil // the answer of a log that is no more
	}
	n.grants = append(n.grants, grant{head: head, end: begin.Add(n.times.lease)})
	n.takeGrants()
	if n.applied < head {
		n.nudge()
	}
	return head, nil
}

// sweep removes the rows of nodes that have stopped renewing: long enough
// ago, on this node's own clock, that no lease of theirs is left.
func (n *Node) sweep(ctx context.Context) error {
	// A connection that has died without a word must not hold up the next renewal.
	ctx, cancel := context.WithTimeout(ctx, n.times.renewLimit)
	defer cancel()
	roster, err := n.others.list(ctx)
	if err != nil {
		return err
	}
	n.look.Lock()
	defer n.look.Unlock()
	if n.timeline == 0 {
		n.timeline = roster.Noted
	}
	if roster.Timeline != n.timeline {
		n.timeline = roster.Timeline
		n.log.Warn("the database was promoted or recovered: if commits did not wait for its standby, or if it was set back to an earlier time, "+
			"revocations that were answered with success are undone, and the keys are to be revoked again",
			"timeline", roster.Timeline)
	}
	now, self := time.Now(), n.self()
	listed := map[string]bool{}
	for _, other := range roster.Nodes {
		if other.ID == self {
			continue
		}
		listed[other.ID] = true
		before, known := n.seen[other.ID]
		switch {
		case !known || before.renewals != other.Renewals || before.mark != other.Mark:
			n.seen[other.ID] = seenNode{renewals: other.Renewals, mark: other.Mark, since: now}
		case now.Sub(before.since) > n.times.wait+other.StaleFor*holdNum/holdDen:
			if err := n.store.SweepNode(ctx, other); err != nil {
				return err
			}
			n.log.Warn("a node stopped without leaving", "node", other.Name, "id", other.ID)
		}
	}
	for id := range n.seen {
		if !listed[id] {
			delete(n.seen, id)
		}
	}
	return nil
}
