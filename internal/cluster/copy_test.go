package cluster_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
)

// copyOf is a server as a copy of its machine has it, on a network of its own.
func copyOf(t *testing.T, s *server, url string) *server {
	t.Helper()
	c := &server{t: t, log: &buffer{}, keys: s.keys, only: s.only}
	var err error
	if c.store, err = store.Open(t.Context(), store.Options{URL: url}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	t.Cleanup(c.leave)
	if c.node, err = s.node.Copy(ctx, c.store, slog.New(slog.NewTextHandler(c.log, nil))); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCopiedMachine: of a server whose machine was copied while it ran there are
// two, with one ID, one row and one lease. When the leases of before are over they
// are two servers, and whoever revokes a key waits for each of them, also where
// one is cut off or leaves in order.
func TestCopiedMachine(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"the copy", "the original"} {
		for _, leaves := range []bool{false, true} {
			name := who + " is cut off"
			if leaves {
				name += ", the other leaves"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				database := pgtest.New(t)
				toFirst, throughFirst := pgtest.NewLink(t, database)
				toSecond, throughSecond := pgtest.NewLink(t, database)
				a := start(t, store.Options{URL: database}, fast)
				first := start(t, store.Options{URL: throughFirst}, fast)
				made := a.create("key")
				first.mustAccept(made.Secret)
				second := copyOf(t, first, throughSecond)
				time.Sleep(cluster.Lease(fast)) // as the specification has it
				first.mustAccept(made.Secret)
				second.mustAccept(made.Secret)
				cut, other, network := second, first, toSecond
				if who == "the original" {
					cut, other, network = first, second, toFirst
				}
				network.Set(pgtest.Stalled)
				if leaves {
					other.leave()
				}
				a.revoke(made.Key.ID)
				if cut.accepts(made.Secret) {
					t.Error("P1: one of two copies of a server accepts a revoked key")
				}
				if !leaves && other.accepts(made.Secret) {
					t.Error("P1: one of two copies of a server accepts a revoked key, and it has said otherwise")
				}
				const told = "goes on under another ID"
				if first.log.has(told) == second.log.has(told) {
					t.Errorf("not one of the two says that it has another ID:\n%s\n%s", first.log, second.log)
				}
				network.Set(pgtest.Up)
				eventually(t, "it goes on", cut.usable)
			})
		}
	}
}
