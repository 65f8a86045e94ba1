package api

import (
	"context"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

func (a *API) listNodes(ctx context.Context, _ *struct{}) (*answer[keystile.List[keystile.Node]], error) {
	list, err := a.keyring.Nodes(ctx, entry.Actor(ctx))
	a.door.Look(list.Data)
	return answerWith(list, err)
}
