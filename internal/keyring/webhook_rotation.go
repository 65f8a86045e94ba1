package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// RotateWebhookSecret makes a replacement in the same environment, and gives
// the old secret an end if an overlap is named. While both are active both
// sign, and the old one does not count against the plan. Only a secret whose
// own predecessor has ended can be rotated, so that this never makes a third.
func (k *Keyring) RotateWebhookSecret(ctx context.Context, a Actor, id string, in keystile.RotateWebhookSecret, idem Idempotency) (out keystile.CreatedWebhookSecret, replayed bool, err error) {
	if err := checkID(secretIDPrefix, id); err != nil {
		return out, false, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		s, err := c.secretFor(id, "create", "delete")
		if err != nil {
			return err
		}
		out, replayed, err = once(c, idem, in, withoutWebhookSecret, func() (keystile.CreatedWebhookSecret, error) {
			return c.rotateSecret(s, in)
		})
		return err
	})
	if err != nil {
		return keystile.CreatedWebhookSecret{}, false, err
	}
	return out, replayed, nil
}

func (c *change) rotateSecret(old store.WebhookSecret, in keystile.RotateWebhookSecret) (out keystile.CreatedWebhookSecret, err error) {
	overlap, named, err := c.overlap(in.Overlap)
	if err != nil {
		return out, err
	}
	if err := c.secretRotatable(old); err != nil {
		return out, err
	}
	fresh := c.newSecret(old.WorkspaceID)
	fresh.EndpointID, fresh.Label, fresh.Environment = old.EndpointID, old.Label, old.Environment
	fresh.ExpiresAt, fresh.Replaces = old.ExpiresAt, old.ID
	if in.Label != "" {
		if fresh.Label, err = requiredLabel(in.Label); err != nil {
			return out, err
		}
	}
	if out, err = c.insertSecret(fresh); err != nil {
		return out, err
	}
	before := old
	old.ReplacedBy, old.FormerEnd = fresh.ID, 0
	if old.ExpiresAt != nil {
		old.FormerEnd = old.ExpiresAt.UnixMilli()
	}
	if named {
		if until := c.now.Add(overlap); overlap == 0 {
			c.revokeSecret(&old, keystile.ReasonRotated)
		} else if old.ExpiresAt == nil || until.Before(*old.ExpiresAt) {
			old.ExpiresAt = &until
		}
	}
	return out, c.saveSecret("webhook_secret.rotated", "", &before, &old)
}

// secretRotatable fails unless the secret is active and stands at the end of
// its line.
func (c *change) secretRotatable(s store.WebhookSecret) error {
	if s.Status != keystile.StatusActive {
		return secretOver(s.Status)
	}
	for _, other := range []struct{ id, detail, fix string }{
		{s.ReplacedBy, "The webhook secret has a replacement already: ", "Rotate the replacement, or revoke it first."},
		{s.Replaces, "The webhook secret that this one replaces is still active: ", "Revoke " + s.Replaces + " first."},
	} {
		if other.id == "" {
			continue
		}
		o, err := c.WebhookSecret(c.actor.scope(), other.id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if secretEnded(&o, c.now); o.Status == keystile.StatusActive {
			return keystile.NewError(keystile.CodeConflict, other.detail+other.id+".", other.fix)
		}
	}
	return nil
}

// revokeSecret ends a webhook secret in memory.
func (c *change) revokeSecret(s *store.WebhookSecret, reason string) {
	who := c.actor.party
	s.Status, s.RevokedAt, s.RevokedReason, s.RevokedBy = keystile.StatusRevoked, &c.now, reason, &who
}

// RevokeWebhookSecret ends a webhook secret for good; the record is kept. When
// it returns, no node signs with it: whoever signs asks the store. With
// Rollback the secret that it replaces gets back the end it had before.
func (k *Keyring) RevokeWebhookSecret(ctx context.Context, a Actor, id string, in keystile.RevokeWebhookSecret) (keystile.WebhookSecretRecord, error) {
	return k.changeSecret(ctx, a, id, []string{"delete"}, func(c *change, s *store.WebhookSecret) error {
		reason, err := text("body.reason", in.Reason, maxReason)
		if err != nil {
			return err
		}
		if s.Status == keystile.StatusRevoked {
			if in.Rollback {
				return keystile.NewError(keystile.CodeConflict, "The webhook secret is revoked already, so its rotation can't be rolled back.")
			}
			return nil
		}
		before := *s
		c.revokeSecret(s, reason)
		if !in.Rollback {
			return c.saveSecret("webhook_secret.revoked", reason, &before, s)
		}
		ws, err := c.Workspace(c.actor.scope(), s.WorkspaceID)
		if err != nil {
			return err
		}
		n, err := c.CountWebhookSecrets(store.OneWorkspace(ws.ID), ws.ID, c.now)
		if err != nil {
			return err
		}
		if err := c.saveSecret("webhook_secret.revoked", reason, &before, s); err != nil {
			return err
		}
		if err := c.rollBackSecret(*s); err != nil {
			return err
		}
		return c.withinSecretLimit(ws, n)
	})
}

// rollBackSecret gives a replaced webhook secret the end that it had before its
// rotation.
func (c *change) rollBackSecret(replacement store.WebhookSecret) error {
	if replacement.Replaces == "" {
		return badField("body.rollback", "This webhook secret replaces no other, so there is nothing to roll back.")
	}
	old, err := c.secretFor(replacement.Replaces, "create", "delete")
	if err != nil {
		return err
	}
	if old.ReplacedBy != replacement.ID {
		return keystile.NewError(keystile.CodeConflict, "The webhook secret that this one replaced has another replacement since.",
			"Revoke without rollback.")
	}
	if old.Status != keystile.StatusActive {
		return keystile.NewError(keystile.CodeConflict, "The replaced webhook secret is "+string(old.Status)+", which is final.",
			"Revoke without rollback and create a new webhook secret.")
	}
	before := old
	old.ExpiresAt, old.FormerEnd, old.ReplacedBy = nil, 0, ""
	if before.FormerEnd != 0 {
		at := time.UnixMilli(before.FormerEnd).UTC()
		old.ExpiresAt = &at
	}
	return c.saveSecret("webhook_secret.rolled_back", "", &before, &old)
}
