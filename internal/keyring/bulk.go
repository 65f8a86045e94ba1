package keyring

import (
	"context"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// maxBulk is how many keys one transaction ends at most. Each takes about
// five rows, and other writers wait meanwhile.
const maxBulk = MaxLimit

// RevokeKeys ends the keys of a workspace that are named, at most MaxLimit,
// for good: all of them or, when one can't be, none. Those that are revoked
// already stay as they are. It returns how many it has ended.
func (k *Keyring) RevokeKeys(ctx context.Context, a Actor, workspaceID string, ids []string, in keystile.RevokeKey) (n int, err error) {
	return k.each(ctx, a, workspaceID, ids, func(c *change, key *store.Key) (bool, error) { return c.revokeOne(key, in) })
}

// DeleteKeys removes the keys of a workspace that are named, at most MaxLimit:
// all of them or, when one can't be, none.
func (k *Keyring) DeleteKeys(ctx context.Context, a Actor, workspaceID string, ids []string) (n int, err error) {
	return k.each(ctx, a, workspaceID, ids, func(c *change, key *store.Key) (bool, error) { return true, c.deleteOne(key) })
}

// RevokeMade ends live keys of a workspace that one person or key has made, at
// most as many as asked for, and returns how many. When it fails, some may have
// ended already; it can be called again.
func (k *Keyring) RevokeMade(ctx context.Context, a Actor, workspaceID, creatorID string, in keystile.RevokeKey, most int) (n int, err error) {
	return k.eachMade(ctx, a, workspaceID, creatorID, most, func(c *change, key *store.Key) (bool, error) { return c.revokeOne(key, in) })
}

// DeleteMade removes live keys of a workspace that one person or key has made,
// at most as many as asked for, and returns how many. When it fails, some may
// be gone already; it can be called again.
func (k *Keyring) DeleteMade(ctx context.Context, a Actor, workspaceID, creatorID string, most int) (n int, err error) {
	return k.eachMade(ctx, a, workspaceID, creatorID, most, func(c *change, key *store.Key) (bool, error) { return true, c.deleteOne(key) })
}

func (c *change) revokeOne(key *store.Key, in keystile.RevokeKey) (bool, error) {
	if key.Status == keystile.StatusRevoked {
		return false, nil
	}
	reason, err := text("body.reason", in.Reason, maxReason)
	if err != nil {
		return false, err
	}
	before := *key
	c.revoke(key, reason)
	return true, c.saveKey("key.revoked", reason, &before, key)
}

func (c *change) deleteOne(key *store.Key) error {
	if err := c.recordKey("key.deleted", "", key, nil); err != nil {
		return err
	}
	return c.Tx.DeleteKey(c.actor.scope(), key.ID)
}

// each takes access away from the keys that are named, in one transaction.
func (k *Keyring) each(ctx context.Context, a Actor, workspaceID string, ids []string, fn func(*change, *store.Key) (bool, error)) (n int, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return 0, err
	}
	if len(ids) == 0 || len(ids) > MaxLimit {
		return 0, badField("body.keys", "Choose from 1 to 200 keys.")
	}
	for _, id := range ids {
		if err := checkID("key_", id); err != nil {
			return 0, err
		}
	}
	_, err = k.write(ctx, a, func(c *change) error {
		n = 0
		if _, err := c.Workspace(a.scope(), workspaceID); err != nil {
			return err
		}
		for _, id := range ids {
			key, _, err := c.keyFor(id, []string{"api.key.delete"})
			if err != nil {
				return err
			}
			if key.WorkspaceID != workspaceID {
				return store.ErrNotFound
			}
			if did, err := fn(c, &key); err != nil {
				return err
			} else if did {
				n++
			}
		}
		return c.settle()
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// eachMade does the same to live keys that one party made, in as many
// transactions as it takes.
func (k *Keyring) eachMade(ctx context.Context, a Actor, workspaceID, creatorID string, most int, fn func(*change, *store.Key) (bool, error)) (n int, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return 0, err
	}
	if checkID("key_", creatorID) != nil && checkID("per_", creatorID) != nil {
		return 0, notFound()
	}
	for {
		done, chunk := 0, min(maxBulk, most-n)
		_, err := k.write(ctx, a, func(c *change) error {
			done = 0
			if _, err := c.Workspace(a.scope(), workspaceID); err != nil {
				return err
			}
			if err := c.actor.need("api.key.delete"); err != nil {
				return err
			}
			rows, err := c.Keys(a.scope(), store.KeyFilter{WorkspaceID: workspaceID, CreatorID: creatorID, Live: true, Now: c.now, Limit: chunk})
			if err != nil {
				return err
			}
			for _, row := range rows {
				key, _, err := c.keyFor(row.ID, []string{"api.key.delete"})
				if err != nil {
					return err
				}
				if _, err := fn(c, &key); err != nil {
					return err
				}
				done++
			}
			return c.settle()
		})
		if err != nil {
			return n, err
		}
		n += done
		if done < chunk || n >= most {
			return n, nil
		}
	}
}
