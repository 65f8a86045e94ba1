package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// presenter makes the wire's form of records: names of roles, and what follows
// from the profile and the clock.
type presenter struct {
	k     *Keyring
	tx    *store.Tx
	now   time.Time
	roles map[string]string // names by ID
}

func (k *Keyring) presenter(tx *store.Tx) *presenter {
	return &presenter{k: k, tx: tx, now: k.now(), roles: map[string]string{}}
}

func (c *change) present(key store.Key) (keystile.Key, error) {
	p := c.k.presenter(c.Tx)
	p.now = c.now
	return p.key(key)
}

func (p *presenter) key(r store.Key) (keystile.Key, error) {
	key := r.Key
	var err error
	if key.Role, err = p.roleName(r.WorkspaceID, r.RoleID); err != nil {
		return key, err
	}
	alive := key.Status == keystile.StatusActive || key.Status == keystile.StatusDisabled
	if alive && key.ExpiresAt != nil && !key.ExpiresAt.After(p.now) {
		key.Status, alive = keystile.StatusExpired, false
	}
	if !alive {
		return key, nil
	}
	policy := p.k.profile.Keys
	replaced := p.replaced(r)
	// A key that has its replacement waits for its end, not for another one.
	if every := p.k.profile.RotateEvery(key.Environment); every > 0 && !replaced {
		due := key.CreatedAt.Add(every)
		key.RotationDue = &due
	}
	if every := policy.ReviewEvery; every > 0 {
		due := key.CreatedAt.Add(every)
		if key.ReviewedAt != nil {
			due = key.ReviewedAt.Add(every)
		}
		key.ReviewDue = &due
	}
	used := key.CreatedAt
	if key.LastUse != nil {
		used = key.LastUse.At
	}
	if idle := policy.IdleAfter; idle > 0 && key.Status == keystile.StatusActive {
		key.Idle = p.now.Sub(used) > idle
	}
	key.SafeToRevoke = replaced && r.ReplacementLastUse.After(used) && p.now.Sub(used) > quiet
	return key, nil
}

// replaced tells whether the key that replaces this one is there and alive.
func (p *presenter) replaced(r store.Key) bool {
	alive := r.ReplacementStatus == keystile.StatusActive
	return alive && (r.ReplacementEnd.IsZero() || r.ReplacementEnd.After(p.now))
}

// roleName is the name of a role. A role that is gone has none.
func (p *presenter) roleName(workspaceID, id string) (string, error) {
	if name, ok := p.roles[id]; ok {
		return name, nil
	}
	name := ""
	if r, ok := p.k.builtIn(workspaceID, id); ok {
		name = r.Name
	} else {
		r, err := p.tx.Role(store.OneWorkspace(workspaceID), id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
		name = r.Name
	}
	p.roles[id] = name
	return name, nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Self is what the holder of a valid key may know about it, whatever its role
// permits. When the database is away it is what memory holds: the names are
// missing then.
func (k *Keyring) Self(ctx context.Context, a Actor, d keystile.Decision) (keystile.Self, error) {
	self := keystile.Self{Decision: d}
	err := k.read(ctx, func(tx *store.Tx) error {
		own := store.OneWorkspace(a.workspace)
		key, err := tx.Key(own, a.party.ID)
		if err != nil {
			return err
		}
		ws, err := tx.Workspace(own, a.workspace)
		self.Name, self.Preview, self.WorkspaceName = key.Name, key.Preview, ws.Name
		return err
	})
	if errors.Is(err, keystile.CodeUnavailable) || errors.Is(err, keystile.CodeNotFound) {
		return self, nil
	}
	return self, err
}
