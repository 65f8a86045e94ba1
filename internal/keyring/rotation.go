package keyring

import (
	"context"
	"strconv"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// quiet is for how long a replaced key must not have been used, while its
// replacement was, before it counts as safe to revoke.
const quiet = time.Hour

// RotateKey makes a replacement with the same role, restrictions, environment
// and, unless another is asked for, end; and gives the old key an end if an
// overlap is named. While both are active the old one does not count against
// the plan. Only a key whose own predecessor has ended can be rotated, so that
// this never makes a third.
func (k *Keyring) RotateKey(ctx context.Context, a Actor, id string, in keystile.RotateKey, idem Idempotency) (out keystile.CreatedKey, replayed bool, err error) {
	if err := checkID("key_", id); err != nil {
		return out, false, err
	}
	out.Pending, err = k.write(ctx, a, func(c *change) error {
		key, role, err := c.keyFor(id, []string{"api.key.create", "api.key.delete"})
		if err != nil {
			return err
		}
		if err := c.mayHandOut(key, role); err != nil {
			return err
		}
		out, replayed, err = once(c, idem, in, withoutSecret, func() (keystile.CreatedKey, error) {
			return c.rotate(key, in)
		})
		return err
	})
	if err != nil {
		return keystile.CreatedKey{}, false, err
	}
	return out, replayed, nil
}

func (c *change) rotate(old store.Key, in keystile.RotateKey) (out keystile.CreatedKey, err error) {
	overlap, named, err := c.overlap(in.Overlap)
	if err != nil {
		return out, err
	}
	if err := c.rotatable(old); err != nil {
		return out, err
	}
	ws, err := c.Workspace(store.OneWorkspace(old.WorkspaceID), old.WorkspaceID)
	if err != nil {
		return out, err
	}
	if err := serving(ws); err != nil {
		return out, err
	}
	fresh := store.Key{RoleID: old.RoleID}
	fresh.ID = c.k.ids.next("key_", c.now)
	fresh.WorkspaceID, fresh.Status = old.WorkspaceID, keystile.StatusActive
	fresh.Name, fresh.Description, fresh.Owner, fresh.Metadata = old.Name, old.Description, old.Owner, old.Metadata
	fresh.Permissions, fresh.IPAllowlist, fresh.Environment = old.Permissions, old.IPAllowlist, old.Environment
	fresh.ExpiresAt, fresh.Replaces = old.ExpiresAt, old.ID
	fresh.CreatedAt, fresh.UpdatedAt, fresh.CreatedBy = c.now, c.now, c.actor.party
	if in.Name != "" {
		if fresh.Name, err = requiredName("body.name", in.Name); err != nil {
			return out, err
		}
	}
	if in.ExpiresAt != nil {
		if fresh.ExpiresAt, err = end("body.expires_at", in.ExpiresAt, c.now); err != nil {
			return out, err
		}
	}
	secret, err := c.identify(&fresh, "")
	if err != nil {
		return out, err
	}
	fresh.LookAt = c.k.firstLook(fresh, c.now)
	if err := c.InsertKey(fresh); err != nil {
		return out, err
	}
	if err := c.recordKey("key.created", "", nil, &fresh); err != nil {
		return out, err
	}
	before := old
	old.ReplacedBy, old.FormerEnd = fresh.ID, 0
	if old.ExpiresAt != nil {
		old.FormerEnd = old.ExpiresAt.UnixMilli()
	}
	if named {
		c.narrows = true
		if until := c.now.Add(overlap); overlap == 0 {
			c.revoke(&old, keystile.ReasonRotated)
		} else if old.ExpiresAt == nil || until.Before(*old.ExpiresAt) {
			old.ExpiresAt = &until
		}
	}
	if err := c.saveKey("key.rotated", "", &before, &old); err != nil {
		return out, err
	}
	out.Key, err = c.present(fresh)
	out.Secret, out.Replaces = secret, old.ID
	return out, err
}

// overlap reads for how long the old key stays valid. Not named means until
// it is revoked.
func (c *change) overlap(s string) (d time.Duration, named bool, err error) {
	if s == "" {
		return 0, false, nil
	}
	d, err = time.ParseDuration(s)
	most := c.k.profile.Keys.MaxOverlap
	if err != nil || d < 0 || d > most {
		return 0, false, badField("body.overlap", "It must be a duration from 0s to "+hours(most)+", such as 24h. Leave it out to keep the old key until it is revoked.")
	}
	return d, true, nil
}

// hours writes a duration as people do: 720h, where Go writes 720h0m0s.
func hours(d time.Duration) string {
	if d%time.Hour == 0 {
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return d.String()
}

// rotatable fails unless the key is active and stands at the end of its line.
func (c *change) rotatable(key store.Key) error {
	switch key.Status {
	case keystile.StatusActive:
	case keystile.StatusDisabled:
		return keystile.NewError(keystile.CodeConflict, "The key is disabled, so nothing would be gained by a replacement.",
			"Enable it first, or create a new key.")
	default:
		return over(key.Status)
	}
	live, err := c.live(key.ReplacedBy)
	if err != nil {
		return err
	}
	if live {
		return keystile.NewError(keystile.CodeConflict, "The key has a replacement already: "+key.ReplacedBy+".",
			"Rotate the replacement, or revoke it first.")
	}
	if live, err = c.live(key.Replaces); err != nil {
		return err
	}
	if live {
		return keystile.NewError(keystile.CodeConflict, "The key that this one replaces is still valid: "+key.Replaces+".",
			"Revoke "+key.Replaces+" first.")
	}
	return nil
}

// live tells whether a key is there and its life has not ended.
func (c *change) live(id string) (bool, error) {
	if id == "" {
		return false, nil
	}
	key, err := c.Key(c.actor.scope(), id)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	c.ended(&key)
	return key.Status == keystile.StatusActive || key.Status == keystile.StatusDisabled, nil
}

// revoke ends a key in memory.
func (c *change) revoke(key *store.Key, reason string) {
	who := c.actor.party
	key.Status, key.RevokedAt, key.RevokedReason, key.RevokedBy = keystile.StatusRevoked, &c.now, reason, &who
}

// RevokeKey ends a key for good; the record is kept. When it returns, no node
// accepts the key. With Rollback the key that it replaces gets back the end it
// had before.
func (k *Keyring) RevokeKey(ctx context.Context, a Actor, id string, in keystile.RevokeKey) (keystile.Key, error) {
	return k.changeKey(ctx, a, id, []string{"api.key.delete"}, func(c *change, key *store.Key, _ keystile.Role) error {
		c.narrows = true
		reason, err := text("body.reason", in.Reason, maxReason)
		if err != nil {
			return err
		}
		if key.Status == keystile.StatusRevoked {
			if in.Rollback {
				return keystile.NewError(keystile.CodeConflict, "The key is revoked already, so its rotation can't be rolled back.")
			}
			return c.settle()
		}
		before := *key
		c.revoke(key, reason)
		if !in.Rollback {
			return c.saveKey("key.revoked", reason, &before, key)
		}
		return c.withKeyLimit(key.WorkspaceID, func() error {
			if err := c.saveKey("key.revoked", reason, &before, key); err != nil {
				return err
			}
			return c.rollBack(*key)
		})
	})
}

// rollBack gives a replaced key the end that it had before its rotation. This
// is the one thing that lengthens a key's life, so it takes what handing out
// the key takes.
func (c *change) rollBack(replacement store.Key) error {
	if replacement.Replaces == "" {
		return badField("body.rollback", "This key replaces no other, so there is nothing to roll back.")
	}
	old, role, err := c.keyFor(replacement.Replaces, []string{"api.key.create", "api.key.delete"})
	if err != nil {
		return err
	}
	if old.ReplacedBy != replacement.ID {
		return keystile.NewError(keystile.CodeConflict, "The key that this one replaced has another replacement since.",
			"Revoke without rollback.")
	}
	if err := c.mayHandOut(old, role); err != nil {
		return err
	}
	if old.Status != keystile.StatusActive && old.Status != keystile.StatusDisabled {
		return keystile.NewError(keystile.CodeConflict, "The replaced key is "+string(old.Status)+", which is final.",
			"Revoke without rollback and create a new key.")
	}
	before := old
	old.ExpiresAt, old.FormerEnd, old.ReplacedBy = nil, 0, ""
	if before.FormerEnd != 0 {
		at := time.UnixMilli(before.FormerEnd).UTC()
		old.ExpiresAt = &at
	}
	return c.saveKey("key.rolled_back", "", &before, &old)
}
