package keyring

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// CreateKey issues a key in a workspace. The answer is the only one that will
// ever hold its secret. Replayed is true when an idempotent request was seen
// before; then there is no secret.
func (k *Keyring) CreateKey(ctx context.Context, a Actor, workspaceID string, in keystile.CreateKey, idem Idempotency) (out keystile.CreatedKey, replayed bool, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, false, err
	}
	out.Pending, err = k.write(ctx, a, func(c *change) error {
		ws, err := c.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if err := a.need("api.key.create"); err != nil {
			return err
		}
		out, replayed, err = once(c, idem, in, withoutSecret, func() (keystile.CreatedKey, error) {
			return c.createKey(ws, in)
		})
		return err
	})
	if err != nil {
		return keystile.CreatedKey{}, false, err
	}
	return out, replayed, nil
}

func withoutSecret(v keystile.CreatedKey) keystile.CreatedKey {
	v.Secret = ""
	return v
}

func (c *change) createKey(ws keystile.Workspace, in keystile.CreateKey) (keystile.CreatedKey, error) {
	key, role, err := c.newKey(ws, in)
	if err != nil {
		return keystile.CreatedKey{}, err
	}
	if in.SHA256 == "" { // what is taken over from elsewhere is out already
		if err := serving(ws); err != nil {
			return keystile.CreatedKey{}, err
		}
	}
	if err := c.mayHandOut(key, role); err != nil {
		return keystile.CreatedKey{}, err
	}
	secret, err := c.identify(&key, in.SHA256)
	if err != nil {
		return keystile.CreatedKey{}, err
	}
	if err := c.insertKey(ws, key, "key.created"); err != nil {
		return keystile.CreatedKey{}, err
	}
	wire, err := c.present(key)
	return keystile.CreatedKey{Key: wire, Secret: secret}, err
}

// serving fails for a workspace that is suspended: whoever got a new secret
// there would hand out one that is refused everywhere. Only operators come so
// far, since nobody else may act in such a workspace.
func serving(ws keystile.Workspace) error {
	if !ws.Suspended {
		return nil
	}
	return keystile.NewError(keystile.CodeConflict,
		"The workspace "+ws.Name+" is suspended, so that every key of it is refused. No key was made.",
		"Resume the workspace first.")
}

// newKey checks what was asked for and makes the record of it, without a secret.
func (c *change) newKey(ws keystile.Workspace, in keystile.CreateKey) (key store.Key, role keystile.Role, err error) {
	if role, err = c.roleOf(ws.ID, in.Role); err != nil {
		return key, role, err
	}
	key.ID = c.k.ids.next("key_", c.now)
	key.WorkspaceID, key.RoleID, key.Status = ws.ID, role.ID, keystile.StatusActive
	key.CreatedAt, key.UpdatedAt, key.CreatedBy = c.now, c.now, c.actor.party
	if key.Name, err = requiredName("body.name", in.Name); err != nil {
		return key, role, err
	}
	if key.Description, err = text("body.description", in.Description, maxDescription); err != nil {
		return key, role, err
	}
	if key.Owner, err = identifier("body.owner", in.Owner, maxOwner); err != nil {
		return key, role, err
	}
	if key.Permissions, err = c.narrowing(in.Permissions, role); err != nil {
		return key, role, err
	}
	if key.IPAllowlist, err = allowlist("body.ip_allowlist", in.IPAllowlist); err != nil {
		return key, role, err
	}
	if key.Metadata, err = metadata("body.metadata", in.Metadata); err != nil {
		return key, role, err
	}
	if key.ExpiresAt, err = end("body.expires_at", in.ExpiresAt, c.now); err != nil {
		return key, role, err
	}
	key.Environment = in.Environment
	if key.Environment == "" {
		key.Environment = c.k.profile.DefaultEnvironment()
	} else if _, ok := c.k.profile.Environment(in.Environment); !ok {
		return key, role, badField("body.environment", "There is no environment of this name. There is: "+c.k.environments()+".")
	}
	return key, role, nil
}

func (k *Keyring) environments() string {
	var names []string
	for _, e := range k.profile.Environments {
		names = append(names, e.Name)
	}
	if names == nil {
		return "none; leave it out"
	}
	return strings.Join(names, ", ")
}

// narrowing checks the permissions that a key is given of its role.
func (c *change) narrowing(list keystile.Permissions, role keystile.Role) (keystile.Permissions, error) {
	if list == nil {
		return nil, nil
	}
	if len(list) == 0 {
		// An empty list that some program has computed must not become all of the role.
		return nil, badField("body.permissions", "It names no permission. Name at least one, or leave it out for all of the role.")
	}
	checked, err := c.k.permissions("body.permissions", list)
	if err != nil {
		return nil, err
	}
	for _, p := range checked {
		if !role.Permissions.Allow(p) {
			return nil, badField("body.permissions", "The role "+role.Name+" does not have "+p+". A key can only have less than its role.")
		}
	}
	return checked, nil
}

// effective is what a key may do.
func effective(key store.Key, role keystile.Role) keystile.Permissions {
	if len(key.Permissions) == 0 {
		return role.Permissions
	}
	return role.Permissions.Intersect(key.Permissions)
}

// mayHandOut fails unless the actor may put a key like this into someone's hands.
func (c *change) mayHandOut(key store.Key, role keystile.Role) error {
	p := effective(key, role)
	if err := c.actor.touch(p); err != nil {
		return err
	}
	if err := c.actor.cover(p); err != nil {
		return err
	}
	return c.actor.coverAllowlist(key.IPAllowlist)
}

// identify gives a key its secret, or the digest of one made elsewhere.
func (c *change) identify(key *store.Key, sha256 string) (secret string, err error) {
	if sha256 != "" {
		if err := c.actor.need("platform.key.import"); err != nil {
			return "", err
		}
		digest, err := hex.DecodeString(sha256)
		if err != nil || len(digest) != len(key.Digest) {
			return "", badField("body.sha256", "It must be the SHA-256 of the secret, as 64 hexadecimal digits.")
		}
		copy(key.Digest[:], digest)
		key.Imported = true
		key.Preview = "imported"
		return "", nil
	}
	marker := ""
	if e, ok := c.k.profile.Environment(key.Environment); ok {
		marker = e.Marker
	}
	format := c.k.profile.Format()
	if secret, err = format.Mint(marker); err != nil {
		return "", err
	}
	key.Digest = keystile.Digest(secret)
	key.Preview = format.Preview(secret, c.k.profile.Preview)
	return secret, nil
}

// insertKey adds the key if the plan allows one more.
func (c *change) insertKey(ws keystile.Workspace, key store.Key, action string) error {
	key.LookAt = c.k.firstLook(key, c.now)
	if err := c.InsertKey(key); err != nil {
		if errors.Is(err, store.ErrTaken) {
			return keystile.NewError(keystile.CodeConflict, "A key with this hash is there already.")
		}
		return err
	}
	if err := c.withinKeyLimit(ws, 0); err != nil {
		return err
	}
	return c.recordKey(action, "", nil, &key)
}

// withinKeyLimit fails if the workspace now has more active keys than its plan
// allows, and than it had before. It is called after the change, inside its
// transaction, so whatever the change does is counted as it will be.
func (c *change) withinKeyLimit(ws keystile.Workspace, before int) error {
	most := c.k.planOf(ws).Limits.ActiveKeys
	if most < 0 || ws.Operator {
		return nil
	}
	n, err := c.CountActiveKeys(store.OneWorkspace(ws.ID), ws.ID, c.now)
	if err != nil {
		return err
	}
	if n > most && n > before {
		return planLimit(c.k.planOf(ws), "active key", most, "Revoke keys that are no longer used.",
			"Let applications share a key where they may.")
	}
	return nil
}

// recordKey records a change of a key.
func (c *change) recordKey(action, reason string, before, after *store.Key) error {
	e := entry{action: action, kind: store.ChangeKey, reason: reason}
	for _, side := range []struct {
		key  *store.Key
		into *any
	}{{before, &e.before}, {after, &e.after}} {
		if side.key == nil {
			continue
		}
		wire, err := c.present(*side.key)
		if err != nil {
			return err
		}
		*side.into = wire
		e.workspaceID, e.objectID, e.objectName = wire.WorkspaceID, wire.ID, wire.Name
	}
	return c.record(e)
}

// Key shows a key.
func (k *Keyring) Key(ctx context.Context, a Actor, id string) (out keystile.Key, err error) {
	if err := checkID("key_", id); err != nil {
		return out, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		key, err := tx.Key(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need("api.key.view"); err != nil {
			return err
		}
		out, err = k.presenter(tx).key(key)
		return err
	})
	return out, err
}

// KeyQuery says which keys to list.
type KeyQuery struct {
	Status  string // active, disabled, revoked, expired, all; "" means all
	Query   string // part of name, description, owner, preview or ID
	Creator string // ID of who made them
	// Unrevoked leaves out the revoked ones, Live all that are over, and Over
	// all that are not.
	Unrevoked bool
	Live      bool
	Over      bool
	Cursor    string
	Limit     int // 1 to MaxLimit; 0 means DefaultLimit
}

// Keys lists the keys of a workspace, newest first.
func (k *Keyring) Keys(ctx context.Context, a Actor, workspaceID string, q KeyQuery) (out keystile.List[keystile.Key], err error) {
	n, err := limit(q.Limit)
	if err != nil {
		return out, err
	}
	err = k.listing(ctx, a, workspaceID, q, func(tx *store.Tx, f store.KeyFilter) error {
		f.Limit = n + 1
		rows, err := tx.Keys(a.scope(), f)
		if err != nil {
			return err
		}
		out, err = k.presenter(tx).page(rows, n)
		return err
	})
	return out, err
}

// CountKeys counts the keys that Keys lists, page by page, but no further than
// most.
func (k *Keyring) CountKeys(ctx context.Context, a Actor, workspaceID string, q KeyQuery, most int) (n int, err error) {
	err = k.listing(ctx, a, workspaceID, q, func(tx *store.Tx, f store.KeyFilter) error {
		f.Limit = most
		n, err = tx.CountListed(a.scope(), f)
		return err
	})
	return n, err
}

// listing runs fn with the filter that a query asks for, for those who may see
// the workspace's keys.
func (k *Keyring) listing(ctx context.Context, a Actor, workspaceID string, q KeyQuery, fn func(*store.Tx, store.KeyFilter) error) (err error) {
	f := store.KeyFilter{WorkspaceID: workspaceID, Unrevoked: q.Unrevoked, Live: q.Live, Over: q.Over, Cursor: q.Cursor, Now: k.now()}
	if f.Query, err = text("query.q", q.Query, maxName); err != nil {
		return err
	}
	if f.CreatorID, err = text("query.created_by", q.Creator, maxName); err != nil {
		return err
	}
	switch q.Status {
	case "", "all":
	case "active", "disabled", "revoked", "expired":
		f.Status = keystile.KeyStatus(q.Status)
	default:
		return badField("query.status", "It must be active, disabled, revoked, expired or all.")
	}
	if err := checkCursor("key_", q.Cursor); err != nil {
		return err
	}
	return k.readWithin(ctx, a, workspaceID, "api.key.view", func(tx *store.Tx) error {
		return fn(tx, f)
	})
}

// changeKey runs fn on a key that the actor may see and has the permissions for.
func (k *Keyring) changeKey(ctx context.Context, a Actor, id string, permissions []string, fn func(c *change, key *store.Key, role keystile.Role) error) (out keystile.Key, err error) {
	if err := checkID("key_", id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		key, role, err := c.keyFor(id, permissions)
		if err != nil {
			return err
		}
		if err := fn(c, &key, role); err != nil {
			return err
		}
		out, err = c.present(key)
		return err
	})
	return out, err
}

// keyFor reads a key and fails unless the actor may touch it.
func (c *change) keyFor(id string, permissions []string) (store.Key, keystile.Role, error) {
	key, err := c.Key(c.actor.scope(), id)
	if err != nil {
		return key, keystile.Role{}, err
	}
	if err := c.actor.need(permissions...); err != nil {
		return key, keystile.Role{}, err
	}
	if err := c.expire(&key); err != nil {
		return key, keystile.Role{}, err
	}
	role, err := c.roleByID(key.WorkspaceID, key.RoleID)
	if err != nil {
		return key, role, err
	}
	return key, role, c.actor.touch(effective(key, role))
}

// expire stores as a state that a key has reached its end, if it has: what is
// done with it now must not hide that from the audit log.
func (c *change) expire(key *store.Key) error {
	before := *key
	if c.ended(key); key.Status == before.Status {
		return nil
	}
	who := c.actor
	c.actor = system()
	defer func() { c.actor = who }()
	return c.saveKey("key.expired", "", &before, key)
}

// ended lets the status say what the clock says.
func (c *change) ended(key *store.Key) {
	if key.ExpiresAt != nil && !key.ExpiresAt.After(c.now) &&
		(key.Status == keystile.StatusActive || key.Status == keystile.StatusDisabled) {
		key.Status = keystile.StatusExpired
	}
}

// saveKey writes a changed key with its record.
func (c *change) saveKey(action, reason string, before, after *store.Key) error {
	after.UpdatedAt = c.now
	if err := c.UpdateKey(c.actor.scope(), *after); err != nil {
		return err
	}
	if err := c.recordKey(action, reason, before, after); err != nil {
		return err
	}
	return c.lookNow(after.ID)
}

// UpdateKey edits a key. A change of role, permissions or allowlist is in
// force when it returns.
func (k *Keyring) UpdateKey(ctx context.Context, a Actor, id string, in keystile.KeyPatch) (keystile.Key, error) {
	return k.changeKey(ctx, a, id, []string{"api.key.update"}, func(c *change, key *store.Key, role keystile.Role) error {
		if in == (keystile.KeyPatch{}) {
			return nil
		}
		before := *key
		var err error
		if in.Name != nil {
			if key.Name, err = requiredName("body.name", *in.Name); err != nil {
				return err
			}
		}
		if in.Description != nil {
			if key.Description, err = text("body.description", *in.Description, maxDescription); err != nil {
				return err
			}
		}
		if in.Owner != nil {
			if key.Owner, err = identifier("body.owner", *in.Owner, maxOwner); err != nil {
				return err
			}
		}
		if in.Metadata != nil {
			if key.Metadata, err = metadata("body.metadata", *in.Metadata); err != nil {
				return err
			}
		}
		if err := c.updateAccess(key, role, in); err != nil {
			return err
		}
		c.narrows = true
		return c.saveKey("key.updated", "", &before, key)
	})
}

// updateAccess changes what a key may do, from where and until when.
func (c *change) updateAccess(key *store.Key, role keystile.Role, in keystile.KeyPatch) (err error) {
	if in.Role == nil && in.Permissions == nil && !in.WholeRole && in.IPAllowlist == nil && in.ExpiresAt == nil {
		return nil
	}
	if key.Status == keystile.StatusRevoked || key.Status == keystile.StatusExpired {
		return over(key.Status)
	}
	before, beforeRole := *key, role
	if in.Role != nil {
		if *in.Role == "" { // which a new key may say for the default role
			return badField("body.role", "It is empty. Name a role, or leave it out to keep the one that the key has.")
		}
		if role, err = c.roleOf(key.WorkspaceID, *in.Role); err != nil {
			return err
		}
		key.RoleID = role.ID
		if in.Permissions == nil && !in.WholeRole && !role.Permissions.Cover(key.Permissions) {
			return badField("body.role", "The key is narrowed to permissions that the new role does not have. Send permissions or whole_role as well.")
		}
	}
	switch {
	case in.Permissions != nil && in.WholeRole:
		return badField("body.whole_role", "Send either permissions or whole_role.")
	case in.WholeRole:
		key.Permissions = nil
	case in.Permissions != nil:
		list := *in.Permissions
		if list == nil {
			list = keystile.Permissions{}
		}
		if key.Permissions, err = c.narrowing(list, role); err != nil {
			return err
		}
	}
	if in.IPAllowlist != nil {
		if key.IPAllowlist, err = allowlist("body.ip_allowlist", *in.IPAllowlist); err != nil {
			return err
		}
	}
	if in.ExpiresAt != nil {
		at, err := end("body.expires_at", in.ExpiresAt, c.now)
		if err != nil {
			return err
		}
		if key.ExpiresAt != nil && at.After(*key.ExpiresAt) {
			return badField("body.expires_at", "It is later than the end the key has. Nothing lengthens a key's life; rotate it or create a new one.")
		}
		key.ExpiresAt = at
		// Rolling a rotation back must not undo this.
		if key.ReplacedBy != "" && at != nil && (key.FormerEnd == 0 || at.UnixMilli() < key.FormerEnd) {
			key.FormerEnd = at.UnixMilli()
		}
	}
	roleChanged := key.RoleID != before.RoleID || !slices.Equal(key.Permissions, before.Permissions)
	if roleChanged {
		if err := c.mayHandOut(before, beforeRole); err != nil {
			return err
		}
		return c.mayHandOut(*key, role)
	}
	if in.IPAllowlist != nil && !narrower(before.IPAllowlist, key.IPAllowlist) {
		if err := c.mayHandOut(before, beforeRole); err != nil {
			return err
		}
		return c.mayHandOut(*key, role)
	}
	return nil
}

// over says that a key's life has ended.
func over(s keystile.KeyStatus) error {
	return keystile.NewError(keystile.CodeConflict, "The key is "+string(s)+", which is final.",
		"Create a new key.")
}

// DisableKey refuses a key until it is enabled again.
func (k *Keyring) DisableKey(ctx context.Context, a Actor, id string, in keystile.DisableKey) (keystile.Key, error) {
	return k.changeKey(ctx, a, id, []string{"api.key.update"}, func(c *change, key *store.Key, _ keystile.Role) error {
		c.narrows = true
		switch key.Status {
		case keystile.StatusDisabled:
			return c.settle()
		case keystile.StatusActive:
		default:
			return over(key.Status)
		}
		reason, err := text("body.reason", in.Reason, maxReason)
		if err != nil {
			return err
		}
		before := *key
		key.Status, key.DisabledAt, key.DisabledReason = keystile.StatusDisabled, &c.now, reason
		return c.saveKey("key.disabled", reason, &before, key)
	})
}

// EnableKey accepts a disabled key again.
func (k *Keyring) EnableKey(ctx context.Context, a Actor, id string) (keystile.Key, error) {
	return k.changeKey(ctx, a, id, []string{"api.key.update"}, func(c *change, key *store.Key, role keystile.Role) error {
		switch key.Status {
		case keystile.StatusActive:
			return c.settle()
		case keystile.StatusDisabled:
		default:
			return over(key.Status)
		}
		if err := c.mayHandOut(*key, role); err != nil {
			return err
		}
		before := *key
		key.Status, key.DisabledAt, key.DisabledReason = keystile.StatusActive, nil, ""
		return c.withKeyLimit(key.WorkspaceID, func() error {
			return c.saveKey("key.enabled", "", &before, key)
		})
	})
}

// withKeyLimit runs a change that may make more keys count, and undoes it by
// its error if they become more than the plan allows.
func (c *change) withKeyLimit(workspaceID string, fn func() error) error {
	ws, err := c.Workspace(store.OneWorkspace(workspaceID), workspaceID)
	if err != nil {
		return err
	}
	n, err := c.CountActiveKeys(store.OneWorkspace(workspaceID), workspaceID, c.now)
	if err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	return c.withinKeyLimit(ws, n)
}

// ReviewKey notes that someone has looked at a key and found it in order.
func (k *Keyring) ReviewKey(ctx context.Context, a Actor, id string) (keystile.Key, error) {
	return k.changeKey(ctx, a, id, []string{"api.key.update"}, func(c *change, key *store.Key, _ keystile.Role) error {
		before := *key
		who := c.actor.party
		key.ReviewedAt, key.ReviewedBy = &c.now, &who
		return c.saveKey("key.reviewed", "", &before, key)
	})
}

// DeleteKey removes a key for good. The audit log keeps its ID and name.
func (k *Keyring) DeleteKey(ctx context.Context, a Actor, id string) error {
	_, err := k.changeKey(ctx, a, id, []string{"api.key.delete"}, func(c *change, key *store.Key, _ keystile.Role) error {
		c.narrows = true
		return c.deleteOne(key)
	})
	return k.gone(ctx, a, "api.key.delete", err)
}
