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

// maxRounds is how many such transactions one call makes: as many as answer
// within seconds.
const maxRounds = 10

// Ended is how many keys a call has ended, and how many of those that were
// meant are still valid. It holds when the call fails, too.
type Ended struct{ Done, Left int }

// RevokeMade ends the live keys of a workspace that one person or key has
// made, newest first, at most 2000 in one call: as long as some are left it is
// to be called again.
func (k *Keyring) RevokeMade(ctx context.Context, a Actor, workspaceID, creatorID string, in keystile.RevokeKey) (Ended, error) {
	return k.eachMade(ctx, a, workspaceID, creatorID, func(c *change, key *store.Key) (bool, error) { return c.revokeOne(key, in) })
}

// DeleteMade removes the live keys of a workspace that one person or key has
// made, as [Keyring.RevokeMade] ends them.
func (k *Keyring) DeleteMade(ctx context.Context, a Actor, workspaceID, creatorID string) (Ended, error) {
	return k.eachMade(ctx, a, workspaceID, creatorID, func(c *change, key *store.Key) (bool, error) { return true, c.deleteOne(key) })
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
	if err := c.closeAlertsOf(key.ID); err != nil {
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

// Made counts the live keys of a workspace that one person or key has made.
func (k *Keyring) Made(ctx context.Context, a Actor, workspaceID, creatorID string) (n int, err error) {
	err = k.readWithin(ctx, a, workspaceID, "api.key.view", func(tx *store.Tx) error {
		n, err = tx.CountMade(a.scope(), workspaceID, creatorID, k.now())
		return err
	})
	return n, err
}

// eachMade does the same to the live keys that one party made.
func (k *Keyring) eachMade(ctx context.Context, a Actor, workspaceID, creatorID string, fn func(*change, *store.Key) (bool, error)) (out Ended, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, err
	}
	if checkID("key_", creatorID) != nil && checkID("per_", creatorID) != nil {
		return out, notFound()
	}
	for range maxRounds {
		done, left := 0, 0
		_, err := k.write(ctx, a, func(c *change) error {
			done = 0
			if left, err = c.CountMade(a.scope(), workspaceID, creatorID, c.now); err != nil {
				return err
			}
			if _, err := c.Workspace(a.scope(), workspaceID); err != nil {
				return err
			}
			if err := c.actor.need("api.key.delete"); err != nil {
				return err
			}
			rows, err := c.Keys(a.scope(), store.KeyFilter{WorkspaceID: workspaceID, CreatorID: creatorID, Live: true, Now: c.now, Limit: maxBulk})
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
			out.Left = left
			return out, err
		}
		out.Done, out.Left = out.Done+done, left-done
		if done < maxBulk {
			break
		}
	}
	return out, nil
}
