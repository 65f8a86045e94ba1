package keyring

import (
	"context"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// watchSecret finds what is to be said about a webhook secret now, and when to
// look at it again.
func (k *Keyring) watchSecret(s store.WebhookSecret, now time.Time) *watch {
	secretEnded(&s, now)
	w := &watch{k: k, now: now}
	replaced := secretReplaced(s, now)
	switch {
	case s.Status == keystile.StatusRevoked && s.RevokedAt != nil:
		w.exposed(keystile.AlertSecretExposed, s.RevokedReason, *s.RevokedAt)
	case s.Status == keystile.StatusExpired && s.ExpiresAt != nil:
		if s.ReplacedBy == "" {
			w.expired(keystile.AlertSecretExpired, s.CreatedAt, *s.ExpiresAt)
		}
	case !replaced:
		w.rotation(keystile.AlertSecretRotationDue, s.Environment, s.CreatedAt)
		w.expiring(keystile.AlertSecretExpiring, s.CreatedAt, s.ExpiresAt)
	}
	if s.ExpiresAt != nil {
		w.at(*s.ExpiresAt)
	}
	return w
}

// secretReplaced tells whether the secret that replaces this one is there and
// signs.
func secretReplaced(s store.WebhookSecret, now time.Time) bool {
	return s.ReplacementStatus == keystile.StatusActive && (s.ReplacementEnd.IsZero() || s.ReplacementEnd.After(now))
}

// lookAtSecret opens, moves and closes the alerts about a webhook secret, and
// notes when to look at it next.
func (c *change) lookAtSecret(s store.WebhookSecret) error {
	if secretEnded(&s, c.now); s.Status != keystile.StatusActive && s.Replaces != "" {
		// That one may be due for a replacement again.
		if _, err := c.LookAtSecret(store.OneWorkspace(s.WorkspaceID), s.Replaces); err != nil {
			return err
		}
	}
	next, err := c.follow(c.k.watchSecret(s, c.now), keystile.Alert{WorkspaceID: s.WorkspaceID, WebhookSecretID: s.ID, WebhookSecretLabel: s.Label})
	if err != nil {
		return err
	}
	return c.SetSecretLook(store.OneWorkspace(s.WorkspaceID), s.ID, next)
}

// lookAtSecretNow does so with one that has just been changed.
func (c *change) lookAtSecretNow(id string) error {
	s, err := c.Tx.WebhookSecret(store.AllWorkspaces(), id)
	if err != nil {
		return err
	}
	return c.lookAtSecret(s)
}

// WatchWebhookSecrets does for webhook secrets what WatchKeys does for keys.
func (k *Keyring) WatchWebhookSecrets(ctx context.Context) (n int, err error) {
	if err := k.read(ctx, func(tx *store.Tx) error {
		due, err := tx.SecretsToLook(store.AllWorkspaces(), k.now(), 1)
		n = len(due)
		return err
	}); err != nil || n == 0 {
		return 0, err
	}
	_, err = k.write(ctx, system(), func(c *change) error {
		due, err := c.SecretsToLook(store.AllWorkspaces(), c.now, lookChunk)
		if err != nil {
			return err
		}
		n = len(due)
		for _, s := range due {
			if err := c.lookAtSecret(s); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
