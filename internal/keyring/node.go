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
	roster, err := k.store.Roster(ctx)
	if err != nil {
		return out, problemOf(err)
	}
	out.Data = []keystile.Node{}
	for _, n := range roster.Nodes {
		out.Data = append(out.Data, keystile.Node{
			ID: n.ID, Name: n.Name, Version: n.Version, StartedAt: n.StartedAt, Applied: n.Applied, Lag: max(roster.Seq-n.Applied, 0),
		})
	}
	return out, nil
}
