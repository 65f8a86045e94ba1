package cluster

import (
	"context"
	"errors"
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
		if err := n.renew(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("renewing the lease", "error", err)
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
// counts from before the row was sent.
func (n *Node) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.times.renewLimit)
	defer cancel()
	begin := time.Now()
	n.mu.Lock()
	self := store.Node{ID: n.id, Name: n.name, Version: keystile.Version, Applied: n.applied, StartedAt: n.started}
	token, history := n.token, n.history
	n.mu.Unlock()
	head, err := n.store.RenewNode(ctx, self, token)
	if err != nil {
		return err
	}
	n.mu.Lock()
	if n.history != history {
		n.mu.Unlock()
		return nil // the answer of a log that is no more
	}
	n.grant = grant{head: head, end: begin.Add(n.times.lease)}
	n.takeGrant()
	behind := n.applied < head
	n.mu.Unlock()
	if behind {
		n.nudge()
	}
	return nil
}

// sweep removes the rows of nodes that have stopped renewing: long enough
// ago, on this node's own clock, that no lease of theirs is left.
func (n *Node) sweep(ctx context.Context) error {
	nodes, err := n.nodes(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	listed := map[string]bool{}
	for _, other := range nodes {
		listed[other.ID] = true
		before, known := n.seen[other.ID]
		switch {
		case !known || before.renewals != other.Renewals:
			n.seen[other.ID] = seenNode{renewals: other.Renewals, since: now}
		case now.Sub(before.since) > n.times.wait+other.StaleFor*5/4:
			if err := n.store.SweepNode(ctx, other.ID, other.Renewals); err != nil {
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

// nodes lists the nodes other than this one.
func (n *Node) nodes(ctx context.Context) (others []store.Node, err error) {
	err = n.store.Follow(ctx, func(tx *store.Tx) error {
		all, err := tx.Nodes()
		for _, o := range all {
			if o.ID != n.id {
				others = append(others, o)
			}
		}
		return err
	})
	return others, err
}
