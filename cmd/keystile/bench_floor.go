package main

import (
	"context"

	"github.com/keystile/keystile/internal/bench"
	"github.com/keystile/keystile/internal/server"
)

// benchFloorCmd is the bare server that 'keystile bench' measures against.
type benchFloorCmd struct{}

// Run serves until it is told to stop.
func (*benchFloorCmd) Run(ctx context.Context, a *app) error {
	return bench.Floor(ctx, a.stdin, a.stdout, server.NewHTTP)
}
