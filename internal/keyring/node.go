package keyring

import (
	"context"

	"github.com/keystile/keystile"
)

// Nodes lists the servers of the installation.
func (k *Keyring) Nodes(ctx context.Context, a Actor) (out keystile.List[keystile.Node], err error) {
	if err := a.need("platform.nodes"); err != nil {
		return out, err
	}
	nodes, head, err := k.store.Nodes(ctx)
	if err != nil {
		return out, problemOf(err)
	}
	out.Data = []keystile.Node{}
	for _, n := range nodes {
		node := keystile.Node{
			ID: n.ID, Name: n.Name, Version: n.Version, StartedAt: n.StartedAt, Applied: n.Applied, Lag: max(head-n.Applied, 0),
			Replicas: n.Replicas, ReplicaCount: n.ReplicaCount, MasterKeys: n.MasterKeys,
		}
		if n.StaleFor > 0 {
			node.StaleFor = n.StaleFor.String()
		}
		out.Data = append(out.Data, node)
	}
	return out, nil
}
