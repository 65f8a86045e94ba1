package keyring

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

const builtInPrefix = "role_"

// roleNames are those of custom roles: what people read, without the signs
// that would make them look like something else.
var roleNames = regexp.MustCompile(`^[\pL\pN][\pL\pN _.-]{0,62}[\pL\pN.]$|^[\pL\pN]$`)

// BuiltInRoles are the roles that the profile gives every workspace, and the
// operator's workspace its own besides.
func (k *Keyring) BuiltInRoles(workspaceID string) []keystile.Role {
	roles := k.profile.WireRoles()
	if workspaceID == OperatorWorkspace {
		for _, r := range k.profile.OperatorRoles() {
			roles = append(roles, keystile.Role{
				ID: builtInPrefix + r.Name, WorkspaceID: OperatorWorkspace, Name: r.Name, Description: r.Description,
				Permissions: r.Permissions, BuiltIn: true,
			})
		}
	}
	return roles
}

func (k *Keyring) builtIn(workspaceID, nameOrID string) (keystile.Role, bool) {
	for _, r := range k.BuiltInRoles(workspaceID) {
		if r.ID == nameOrID || r.Name == nameOrID {
			return r, true
		}
	}
	return keystile.Role{}, false
}

// roleOf finds the role that a request names, by name or ID, in a workspace.
// No name means the default role.
func (c *change) roleOf(workspaceID, name string) (keystile.Role, error) {
	if name == "" {
		name = c.k.profile.DefaultRole
	}
	if r, ok := c.k.builtIn(workspaceID, name); ok {
		return r, nil
	}
	if _, err := text("body.role", name, maxName); err != nil {
		return keystile.Role{}, err // PostgreSQL can't be asked for it
	}
	scope := store.OneWorkspace(workspaceID)
	r, err := c.RoleByName(scope, workspaceID, name)
	if errors.Is(err, store.ErrNotFound) {
		r, err = c.Role(scope, name)
	}
	if errors.Is(err, store.ErrNotFound) {
		return r, c.noRole(workspaceID)
	}
	return r, err
}

// noRole refuses a role that a workspace does not have, and names those that
// the actor may see there.
func (c *change) noRole(workspaceID string) error {
	roles := c.k.BuiltInRoles(workspaceID)
	if c.actor.May("api.role.view") {
		own, err := c.Roles(store.OneWorkspace(workspaceID), workspaceID, "", maxNames)
		if err != nil {
			return err
		}
		roles = append(roles, own...)
	}
	var known []string
	for _, r := range roles {
		known = append(known, r.Name)
	}
	return badField("body.role", "The workspace has no role of this name. There is: "+names(known)+".")
}

// roleByID is the role that a key or member has. A role that is gone, such as
// one that the profile no longer has, permits nothing.
func (c *change) roleByID(workspaceID, id string) (keystile.Role, error) {
	if r, ok := c.k.builtIn(workspaceID, id); ok {
		return r, nil
	}
	r, err := c.Role(store.OneWorkspace(workspaceID), id)
	return r, ignoreNotFound(err)
}

// Roles lists the roles of a workspace: the built-in ones first, with the
// first page.
func (k *Keyring) Roles(ctx context.Context, a Actor, workspaceID, cursor string, n int) (out keystile.List[keystile.Role], err error) {
	if err := checkCursor("role_", cursor); err != nil {
		return out, err
	}
	if n, err = limit(n); err != nil {
		return out, err
	}
	err = k.readWithin(ctx, a, workspaceID, "api.role.view", func(tx *store.Tx) error {
		rows, err := tx.Roles(a.scope(), workspaceID, cursor, n+1)
		if err != nil {
			return err
		}
		out = page(rows, n, func(r keystile.Role) string { return r.ID })
		if cursor == "" {
			out.Data = append(k.BuiltInRoles(workspaceID), out.Data...)
		}
		return nil
	})
	return out, err
}

// allRoles are the roles of a workspace, the built-in ones first.
func (k *Keyring) allRoles(tx *store.Tx, workspaceID string) ([]keystile.Role, error) {
	roles := k.BuiltInRoles(workspaceID)
	for cursor := ""; ; {
		rows, err := tx.Roles(store.OneWorkspace(workspaceID), workspaceID, cursor, MaxLimit)
		if err != nil {
			return nil, err
		}
		roles = append(roles, rows...)
		if len(rows) < MaxLimit {
			return roles, nil
		}
		cursor = rows[len(rows)-1].ID
	}
}

// RolesToGive lists the roles of a workspace that the actor can give a key.
func (k *Keyring) RolesToGive(ctx context.Context, a Actor, workspaceID string) (out []keystile.Role, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return nil, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Workspace(a.scope(), workspaceID); err != nil {
			return err
		}
		if !a.May("api.key.create") {
			if err := a.need("api.key.update"); err != nil {
				return err
			}
		}
		all, err := k.allRoles(tx, workspaceID)
		out = nil
		for _, r := range all {
			if a.touch(r.Permissions) == nil && a.cover(r.Permissions) == nil {
				out = append(out, r)
			}
		}
		return err
	})
	return out, err
}

// KeyPermissions is what a key may do: its role, or what it is narrowed to.
func (k *Keyring) KeyPermissions(ctx context.Context, a Actor, keyID string) (out keystile.Permissions, err error) {
	if err := checkID("key_", keyID); err != nil {
		return nil, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		key, err := tx.Key(a.scope(), keyID)
		if err != nil {
			return err
		}
		if err := a.need("api.key.view"); err != nil {
			return err
		}
		role, err := (&change{Tx: tx, k: k}).roleByID(key.WorkspaceID, key.RoleID)
		out = effective(key, role)
		return err
	})
	return out, err
}

// Role shows a role.
func (k *Keyring) Role(ctx context.Context, a Actor, id string) (out keystile.Role, err error) {
	if r, ok := k.builtIn(a.workspace, id); ok && r.ID == id {
		return r, a.need("api.role.view")
	}
	if err := checkID("role_", id); err != nil {
		return out, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		if out, err = tx.Role(a.scope(), id); err != nil {
			return err
		}
		return a.need("api.role.view")
	})
	if err != nil {
		return keystile.Role{}, err
	}
	return out, nil
}

// CreateRole makes a role of a workspace's own.
func (k *Keyring) CreateRole(ctx context.Context, a Actor, workspaceID string, in keystile.CreateRole, idem Idempotency) (out keystile.Role, replayed bool, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, false, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		ws, err := c.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if err := a.need("api.role.create"); err != nil {
			return err
		}
		same := func(r keystile.Role) keystile.Role { return r }
		out, replayed, err = once(c, idem, in, same, func() (keystile.Role, error) { return c.createRole(ws, in) })
		return err
	})
	if err != nil {
		return keystile.Role{}, false, err
	}
	return out, replayed, nil
}

func (c *change) createRole(ws keystile.Workspace, in keystile.CreateRole) (r keystile.Role, err error) {
	r = keystile.Role{ID: c.k.ids.next("role_", c.now), WorkspaceID: ws.ID, CreatedAt: &c.now, UpdatedAt: &c.now}
	if r.Name, err = c.k.roleName(in.Name); err != nil {
		return r, err
	}
	if r.Description, err = text("body.description", in.Description, maxDescription); err != nil {
		return r, err
	}
	if r.Permissions, err = c.k.rolePermissions(in.Permissions); err != nil {
		return r, err
	}
	if err := c.mayShape(r.Permissions); err != nil {
		return r, err
	}
	if most := c.k.planOf(ws).Limits.CustomRoles; most >= 0 && !ws.Operator {
		n, err := c.CountRoles(store.OneWorkspace(ws.ID), ws.ID)
		if err != nil {
			return r, err
		}
		if n >= most {
			return r, planLimit(c.k.planOf(ws), "custom role", most, "Delete roles that are no longer used.")
		}
	}
	if err := c.InsertRole(r); err != nil {
		return r, nameTaken(err)
	}
	return r, c.record(entry{workspaceID: ws.ID, action: "role.created", kind: store.ChangeRole,
		objectID: r.ID, objectName: r.Name, after: r})
}

// mayShape fails unless the actor may make a role of these permissions.
func (c *change) mayShape(p keystile.Permissions) error {
	if err := c.actor.touch(p); err != nil {
		return err
	}
	return c.actor.cover(p)
}

// mayExtend fails unless the actor may give whoever has the permissions of
// before those of after. They may be used from anywhere, which an actor who is
// bound to addresses can't hand out.
func (c *change) mayExtend(before, after keystile.Permissions) error {
	if err := c.mayShape(after); err != nil || before.Cover(after) {
		return err
	}
	return c.actor.coverAllowlist(nil)
}

func (k *Keyring) roleName(name string) (string, error) {
	name, err := requiredName("body.name", name)
	if err != nil {
		return "", err
	}
	if !roleNames.MatchString(name) || strings.HasPrefix(strings.ToLower(name), builtInPrefix) {
		return "", badField("body.name", "A role's name has 1 to 64 letters, digits, spaces, dots, dashes and underscores, and does not begin with role_.")
	}
	if _, ok := k.builtIn(OperatorWorkspace, strings.ToLower(name)); ok {
		return "", keystile.NewError(keystile.CodeNameTaken, "A built-in role has this name.", "Choose another name.")
	}
	return name, nil
}

// rolePermissions checks the permissions of a workspace's own role, which
// never reach beyond the workspace.
func (k *Keyring) rolePermissions(list keystile.Permissions) (keystile.Permissions, error) {
	if len(list) == 0 {
		return nil, badField("body.permissions", "It names no permission. Name at least one.")
	}
	out, err := k.permissions("body.permissions", list)
	if err != nil {
		return nil, err
	}
	for i, p := range out {
		if strings.HasPrefix(p, keystile.PlatformPrefix) {
			return nil, badField("body.permissions["+strconv.Itoa(i)+"]", "Only the operator's built-in roles have platform permissions.")
		}
	}
	return out, nil
}

func nameTaken(err error) error {
	if errors.Is(err, store.ErrTaken) {
		return keystile.NewError(keystile.CodeNameTaken, "Something of this workspace has this name already.", "Choose another name.")
	}
	return err
}

// changeRole runs fn on a role of a workspace's own.
func (k *Keyring) changeRole(ctx context.Context, a Actor, id, permission string, fn func(c *change, r *keystile.Role) error) (out keystile.Role, err error) {
	if r, ok := k.builtIn(a.workspace, id); ok && r.ID == id {
		if err := a.need(permission); err != nil {
			return out, err
		}
		return out, keystile.NewError(keystile.CodeConflict, "A built-in role is part of the product's configuration.",
			"Create a role of your own with the permissions you want.")
	}
	if err := checkID("role_", id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		r, err := c.Role(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need(permission); err != nil {
			return err
		}
		c.narrows = true
		if err := fn(c, &r); err != nil {
			return err
		}
		out = r
		return nil
	})
	return out, err
}

// UpdateRole edits a role. What it takes away from keys and members is gone
// when it returns.
func (k *Keyring) UpdateRole(ctx context.Context, a Actor, id string, in keystile.RolePatch) (keystile.Role, error) {
	return k.changeRole(ctx, a, id, "api.role.update", func(c *change, r *keystile.Role) error {
		before := *r
		var err error
		if in.Name != nil {
			if r.Name, err = k.roleName(*in.Name); err != nil {
				return err
			}
		}
		if in.Description != nil {
			if r.Description, err = text("body.description", *in.Description, maxDescription); err != nil {
				return err
			}
		}
		if err := c.mayShape(before.Permissions); err != nil || in == (keystile.RolePatch{}) {
			return err
		}
		if in.Permissions != nil {
			if r.Permissions, err = k.rolePermissions(*in.Permissions); err != nil {
				return err
			}
			if err := c.mayExtend(before.Permissions, r.Permissions); err != nil {
				return err
			}
		}
		r.UpdatedAt = &c.now
		if err := c.Tx.UpdateRole(a.scope(), *r); err != nil {
			return nameTaken(err)
		}
		if before.Permissions.Allow(managing) && !r.Permissions.Allow(managing) {
			if err := c.stillManaged(r.WorkspaceID); err != nil {
				return err
			}
		}
		return c.record(entry{workspaceID: r.WorkspaceID, action: "role.updated", kind: store.ChangeRole,
			objectID: r.ID, objectName: r.Name, before: before, after: *r})
	})
}

// DeleteRole removes a role that no member and no living key has.
func (k *Keyring) DeleteRole(ctx context.Context, a Actor, id string) error {
	_, err := k.changeRole(ctx, a, id, "api.role.delete", func(c *change, r *keystile.Role) error {
		if err := c.mayShape(r.Permissions); err != nil {
			return err
		}
		keys, members, err := c.RoleUsers(a.scope(), id)
		if err != nil {
			return err
		}
		if keys > 0 || members > 0 {
			return keystile.NewError(keystile.CodeInUse,
				strconv.FormatInt(keys, 10)+" keys and "+strconv.FormatInt(members, 10)+" members have this role.",
				"Give them another role first.")
		}
		if err := c.Tx.DeleteRole(a.scope(), id); err != nil {
			return err
		}
		return c.record(entry{workspaceID: r.WorkspaceID, action: "role.deleted", kind: store.ChangeRole,
			objectID: r.ID, objectName: r.Name, before: *r})
	})
	return err
}
