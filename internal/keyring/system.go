package keyring

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// What Keystile does by itself, or for the operator at the command line.

// Start makes what a new store needs: the operator's workspace and a first
// one for a tenant. It tells whether the store was new, and the ID of the one
// workspace of a tenant if there is exactly one. It also takes note of roles
// that the profile has changed, so that no node goes on with what they were.
func (k *Keyring) Start(ctx context.Context) (fresh bool, only string, err error) {
	_, err = k.write(ctx, system(), func(c *change) error {
		fresh = false
		_, err := c.Workspace(store.AllWorkspaces(), OperatorWorkspace)
		if errors.Is(err, store.ErrNotFound) {
			fresh = true
			err = c.firstWorkspaces()
		}
		if err != nil {
			return err
		}
		if err := c.noteRules(); err != nil {
			return err
		}
		return c.noteProfile()
	})
	if err != nil {
		return false, "", err
	}
	only, err = k.OnlyWorkspace(ctx)
	return fresh, only, err
}

func (c *change) firstWorkspaces() error {
	operator := keystile.Workspace{
		ID: OperatorWorkspace, Name: "Operator", Plan: c.k.profile.DefaultPlan, Operator: true, CreatedAt: c.now, UpdatedAt: c.now,
	}
	if err := c.InsertWorkspace(operator); err != nil {
		return err
	}
	if err := c.recordWorkspace("workspace.created", "", nil, &operator); err != nil {
		return err
	}
	_, err := c.createWorkspace(keystile.CreateWorkspace{Name: "Default"})
	return err
}

// OnlyWorkspace is the ID of the only workspace of a tenant, "" if there are
// none or several.
func (k *Keyring) OnlyWorkspace(ctx context.Context) (string, error) {
	l, err := k.Workspaces(ctx, Operator(""), "", "", 3)
	if err != nil {
		return "", err
	}
	only := ""
	for _, w := range l.Data {
		if w.Operator {
			continue
		}
		if only != "" {
			return "", nil
		}
		only = w.ID
	}
	return only, nil
}

// flushChunk is how many counts share a transaction, so that others have
// their turn in between.
const flushChunk = 512

// FlushUses writes what was counted. It returns what could not be written. When
// that is more than one transaction takes, the uses of valid keys are in the
// tables of usage only when [Keyring.SettleUses] has put them there: many keys
// are then used again and again, and it is the rows of each that are dear.
func (k *Keyring) FlushUses(ctx context.Context, uses []verify.Use) ([]verify.Use, error) {
	many := len(uses) > flushChunk
	if many { // neighbours in the tables come one after the other
		slices.SortFunc(uses, func(a, b verify.Use) int { return strings.Compare(a.KeyID, b.KeyID) })
	}
	for len(uses) > 0 {
		n := min(len(uses), flushChunk)
		failures := k.failuresOf(uses[:n])
		var now, later []verify.Use
		for _, u := range uses[:n] {
			if many && u.Code == keystile.CodeValid {
				later = append(later, u)
			} else {
				now = append(now, u)
			}
		}
		if _, err := k.store.Write(ctx, func(tx *store.Tx) error {
			if err := tx.AddUses(now); err != nil {
				return err
			}
			if err := tx.NoteUses(later); err != nil {
				return err
			}
			return tx.AddFailures(failures)
		}); err != nil {
			return uses, err
		}
		uses = uses[n:]
	}
	return nil, nil
}

// SettleUses puts uses that were only noted into the tables of usage, one step of
// them. It returns how many it found.
func (k *Keyring) SettleUses(ctx context.Context) (n int, err error) {
	// Looking costs a read; only finding something costs a write.
	if err := k.read(ctx, func(tx *store.Tx) error {
		n, err = tx.UsesToSettle()
		return err
	}); err != nil || n == 0 {
		return 0, err
	}
	_, err = k.store.Write(ctx, func(tx *store.Tx) error {
		n, err = tx.SettleUses(flushChunk)
		return err
	})
	return n, err
}

// expireChunk is how many keys one step of ExpireKeys takes.
const expireChunk = 100

// ExpireKeys stores as a state that keys have reached their end, with an
// audit entry and an event each. Verification does not wait for it. It
// returns how many keys it found.
func (k *Keyring) ExpireKeys(ctx context.Context) (n int, err error) {
	// Looking costs a read; only finding something costs a write.
	if err := k.read(ctx, func(tx *store.Tx) error {
		due, err := tx.DueToExpire(store.AllWorkspaces(), k.now(), 1)
		n = len(due)
		return err
	}); err != nil || n == 0 {
		return 0, err
	}
	_, err = k.write(ctx, system(), func(c *change) error {
		due, err := c.DueToExpire(store.AllWorkspaces(), c.now, expireChunk)
		if err != nil {
			return err
		}
		n = len(due)
		for i := range due {
			if err := c.expire(&due[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// ExpireWebhookSecrets does for webhook secrets what ExpireKeys does for keys.
// Signing does not wait for it.
func (k *Keyring) ExpireWebhookSecrets(ctx context.Context) (n int, err error) {
	if err := k.read(ctx, func(tx *store.Tx) error {
		due, err := tx.WebhookSecretsDue(store.AllWorkspaces(), k.now(), 1)
		n = len(due)
		return err
	}); err != nil || n == 0 {
		return 0, err
	}
	_, err = k.write(ctx, system(), func(c *change) error {
		due, err := c.WebhookSecretsDue(store.AllWorkspaces(), c.now, expireChunk)
		if err != nil {
			return err
		}
		n = len(due)
		for i := range due {
			if err := c.expireSecret(&due[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// retainChunk is how many rows of a kind one step of Retain removes.
const retainChunk = 500

// Retain removes one step of what the profile's retention says is old enough
// to go, and returns how many rows went. The caller repeats it until it
// returns 0.
func (k *Keyring) Retain(ctx context.Context) (int64, error) {
	now := k.now()
	before := func(keep time.Duration) time.Time {
		if keep <= 0 {
			return time.Time{}
		}
		return now.Add(-keep)
	}
	r := k.profile.Retention
	cutoffs := store.Cutoffs{
		Audit: before(r.Audit), Usage: before(r.Usage), Sources: before(r.Sources),
		Events: before(r.Deliveries), RevokedKeys: before(r.RevokedKeys),
		Links: before(24 * time.Hour), Idempotency: before(idempotencyWindow),
		Alerts: before(r.Alerts), Failures: before(failuresKept),
	}
	var n int64
	_, err := k.write(ctx, system(), func(c *change) error {
		var err error
		if n, err = c.Tx.Retain(cutoffs, retainChunk); err != nil {
			return err
		}
		trimmed, err := c.TrimChanges(now.Add(-changeLogLife), retainChunk)
		if err != nil {
			return err
		}
		n += trimmed
		if cutoffs.RevokedKeys.IsZero() {
			return nil
		}
		old, err := c.OldRevokedKeys(store.AllWorkspaces(), cutoffs.RevokedKeys, expireChunk)
		if err != nil {
			return err
		}
		for i := range old {
			if err := c.recordKey("key.deleted", "retention", &old[i], nil); err != nil {
				return err
			}
			if err := c.closeAlertsOf(old[i].ID); err != nil {
				return err
			}
			if err := c.Tx.DeleteKey(store.AllWorkspaces(), old[i].ID); err != nil {
				return err
			}
		}
		n += int64(len(old))
		over, err := c.OldWebhookSecrets(store.AllWorkspaces(), cutoffs.RevokedKeys, expireChunk)
		if err != nil {
			return err
		}
		for i := range over {
			if err := c.deleteSecret(&over[i], "retention"); err != nil {
				return err
			}
		}
		n += int64(len(over))
		return nil
	})
	return n, err
}

// changeLogLife is for how long the change log is kept. A node that has been
// away for longer loads everything anew.
const changeLogLife = 24 * time.Hour

// MayReadMetrics fails unless the actor may see how the servers are doing.
func (k *Keyring) MayReadMetrics(a Actor) error { return a.need("platform.metrics") }
