package keyring

import (
	"context"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// Restore replaces the contents of a store by those of a backup and notes it
// in the audit log of the operator's workspace. See [store.Restore].
func Restore(ctx context.Context, a Actor, o store.Options, path string) (store.Restored, error) {
	if err := a.need("platform.restore"); err != nil {
		return store.Restored{}, err
	}
	now := time.Now()
	return store.Restore(ctx, o, path, keystile.AuditEntry{
		ID: (&idSource{}).next("aud_", now), WorkspaceID: OperatorWorkspace, At: now, Actor: a.party,
		Action: "store.restored", ObjectKind: "store",
	})
}
