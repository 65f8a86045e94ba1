package cluster

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// replicasListed is how many replicas a node's row names.
const replicasListed = 100

// HoldMasterKeys notes which master keys this node holds, for the others to
// see; none is an empty list.
func (n *Node) HoldMasterKeys(ctx context.Context, ids []string) {
	n.mu.Lock()
	same := n.masterKeys != nil && slices.Equal(n.masterKeys, ids)
	n.masterKeys = append([]string{}, ids...)
	n.mu.Unlock()
	if !same && !n.alone {
		_, _ = n.renew(ctx) // if it fails, the next renewal says so
	}
}

// attached are the replicas of this node, the first of them, and how many there
// are. The caller holds mu.
func (n *Node) attached(now time.Time) (list []keystile.Replica, count int) {
	for _, c := range n.children {
		r := keystile.Replica{
			Address: c.caller.Address, Program: c.caller.Program, KeyID: c.caller.KeyID, Applied: c.shows(),
			Leased: now.Before(c.until), Late: len(c.recent(now, n.times.lateSpan)),
		}
		if now.Before(c.refused) {
			until := c.refused.UTC().Truncate(time.Second)
			r.RefusedUntil = &until
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b keystile.Replica) int {
		return strings.Compare(a.Address+" "+a.Program, b.Address+" "+b.Program)
	})
	return list[:min(len(list), replicasListed)], len(list)
}

// Look adds to a list of nodes what this process knows better than their rows:
// all of its own, and how old the leases of the others are. A lease that this
// node saw renewed was renewed at that moment or before.
func (n *Node) Look(nodes []keystile.Node) {
	now := time.Now()
	n.look.Lock()
	since := map[string]time.Time{}
	for id, seen := range n.seen {
		since[id] = seen.since
	}
	n.look.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range nodes {
		node := &nodes[i]
		if node.ID == n.claim.ID {
			head := max(node.Applied+node.Lag, n.applied)
			node.Self, node.Applied = true, max(n.reported, node.Applied)
			node.Lag = head - node.Applied
			node.Replicas, node.ReplicaCount = n.attached(now)
			node.MasterKeys = slices.Clone(n.masterKeys)
			if !n.alone {
				node.Lease = whole(n.left(now))
			}
		} else if at, known := since[node.ID]; known {
			node.Lease = whole(n.times.lease - now.Sub(at))
		}
		if node.Replicas == nil {
			node.Replicas = []keystile.Replica{}
		}
	}
}

// Known is how many nodes this one knows of, itself among them.
func (n *Node) Known() int {
	n.look.Lock()
	defer n.look.Unlock()
	return len(n.seen) + 1
}

// Reported is how far this node and all its replicas have come.
func (n *Node) Reported() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reported
}

// whole is a time in whole seconds, not below none.
func whole(d time.Duration) string { return max(d, 0).Round(time.Second).String() }
