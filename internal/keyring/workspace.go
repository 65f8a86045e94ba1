package keyring

import (
	"cmp"
	"context"
	"strconv"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
)

// workspace reads a workspace that the actor may see.
func (c *change) workspace(id string) (keystile.Workspace, error) {
	return c.Workspace(c.actor.workspaceScope(), id)
}

// workspaceScope is which workspaces the actor can see: those it acts in, and
// all of them for who manages workspaces.
func (a Actor) workspaceScope() store.Scope {
	if a.permissions.Allow("platform.workspace.view") {
		return store.AllWorkspaces()
	}
	return a.scope()
}

// planOf is the plan of a workspace. A plan that the profile no longer has
// gives way to the default one.
func (k *Keyring) planOf(ws keystile.Workspace) profile.Plan {
	if p, ok := k.profile.Plan(ws.Plan); ok {
		return p
	}
	p, _ := k.profile.Plan(k.profile.DefaultPlan)
	return p
}

// noPlan refuses a plan that the profile does not have.
func (k *Keyring) noPlan() error {
	var known []string
	for _, p := range k.profile.Plans {
		known = append(known, p.Name)
	}
	return badField("body.plan", "There is no plan of this name. There is: "+names(known)+".")
}

func planLimit(plan profile.Plan, noun string, most int, fixes ...string) error {
	if most != 1 {
		noun += "s"
	}
	return keystile.NewError(keystile.CodePlanLimit,
		"The plan "+cmp.Or(plan.Title, plan.Name)+" allows "+strconv.Itoa(most)+" "+noun+" in a workspace.",
		append(fixes, "Upgrade to a plan with a higher limit.")...)
}

// CreateWorkspace makes a workspace. It takes platform.workspace.create.
func (k *Keyring) CreateWorkspace(ctx context.Context, a Actor, in keystile.CreateWorkspace, idem Idempotency) (out keystile.Workspace, replayed bool, err error) {
	if err := a.need("platform.workspace.create"); err != nil {
		return out, false, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		same := func(w keystile.Workspace) keystile.Workspace { return w }
		out, replayed, err = once(c, idem, in, same, func() (keystile.Workspace, error) { return c.createWorkspace(in) })
		return err
	})
	if err != nil {
		return keystile.Workspace{}, false, err
	}
	return out, replayed, nil
}

func (c *change) createWorkspace(in keystile.CreateWorkspace) (w keystile.Workspace, err error) {
	w = keystile.Workspace{ID: c.k.ids.next("ws_", c.now), Plan: in.Plan, CreatedAt: c.now, UpdatedAt: c.now}
	if w.Name, err = requiredName("body.name", in.Name); err != nil {
		return w, err
	}
	if w.Plan == "" {
		w.Plan = c.k.profile.DefaultPlan
	} else if _, ok := c.k.profile.Plan(w.Plan); !ok {
		return w, c.k.noPlan()
	}
	if err := c.InsertWorkspace(w); err != nil {
		return w, err
	}
	return w, c.recordWorkspace("workspace.created", "", nil, &w)
}

func (c *change) recordWorkspace(action, reason string, before, after *keystile.Workspace) error {
	e := entry{action: action, kind: store.ChangeWorkspace, reason: reason}
	if before != nil {
		e.before, e.workspaceID, e.objectID, e.objectName = *before, before.ID, before.ID, before.Name
	}
	if after != nil {
		e.after, e.workspaceID, e.objectID, e.objectName = *after, after.ID, after.ID, after.Name
	}
	return c.record(e)
}

// Workspaces lists the workspaces that the actor may see, newest first.
func (k *Keyring) Workspaces(ctx context.Context, a Actor, query, cursor string, n int) (out keystile.List[keystile.Workspace], err error) {
	if !a.May("platform.workspace.view") {
		if err := a.need("api.workspace.view"); err != nil {
			return out, err
		}
	}
	if query, err = text("query.q", query, maxName); err != nil {
		return out, err
	}
	if err := checkCursor("ws_", cursor); err != nil {
		return out, err
	}
	if n, err = limit(n); err != nil {
		return out, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Workspaces(a.workspaceScope(), query, cursor, n+1)
		if err != nil {
			return err
		}
		out = page(rows, n, func(w keystile.Workspace) string { return w.ID })
		for i := range out.Data {
			if err := k.countKeys(tx, &out.Data[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (k *Keyring) countKeys(tx *store.Tx, w *keystile.Workspace) (err error) {
	w.ActiveKeys, err = tx.CountActiveKeys(store.OneWorkspace(w.ID), w.ID, k.now())
	return err
}

// Workspace shows a workspace.
func (k *Keyring) Workspace(ctx context.Context, a Actor, id string) (out keystile.Workspace, err error) {
	if err := checkID("ws_", id); err != nil {
		return out, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		w, err := tx.Workspace(a.workspaceScope(), id)
		if err != nil {
			return err
		}
		if !a.May("platform.workspace.view") {
			if err := a.need("api.workspace.view"); err != nil {
				return err
			}
		}
		out = w
		return k.countKeys(tx, &out)
	})
	return out, err
}

// UpdateWorkspace edits a workspace: its people may rename it and set its
// allowlist, the operator may change the plan and suspend it.
func (k *Keyring) UpdateWorkspace(ctx context.Context, a Actor, id string, in keystile.WorkspacePatch) (out keystile.Workspace, err error) {
	if err := checkID("ws_", id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		w, err := c.workspace(id)
		if err != nil {
			return err
		}
		before := w
		if err := c.updateWorkspace(&w, in); err != nil {
			return err
		}
		out = w
		if in == (keystile.WorkspacePatch{}) {
			return k.countKeys(c.Tx, &out)
		}
		w.UpdatedAt = c.now
		c.narrows = true
		if err := c.Tx.UpdateWorkspace(a.workspaceScope(), w); err != nil {
			return err
		}
		action, reason := "workspace.updated", ""
		switch {
		case w.Suspended && !before.Suspended:
			action, reason = "workspace.suspended", w.SuspendedReason
		case !w.Suspended && before.Suspended:
			action = "workspace.resumed"
		}
		out = w
		if err := c.recordWorkspace(action, reason, &before, &w); err != nil {
			return err
		}
		return k.countKeys(c.Tx, &out)
	})
	if err != nil {
		return keystile.Workspace{}, err
	}
	return out, nil
}

func (c *change) updateWorkspace(w *keystile.Workspace, in keystile.WorkspacePatch) (err error) {
	a := c.actor
	// Every request takes one of the two, an empty one as well.
	if in.Plan == nil && in.Suspended == nil && in.SuspendedReason == nil || in.Name != nil || in.IPAllowlist != nil {
		if !a.May("platform.workspace.update") {
			if w.ID != a.workspace && !a.Everywhere() {
				return a.Lacks("platform.workspace.update") // it sees the list of workspaces, and no more
			}
			if err := a.need("api.workspace.update"); err != nil {
				return err
			}
		}
	}
	if in.Name != nil {
		if w.Name, err = requiredName("body.name", *in.Name); err != nil {
			return err
		}
	}
	if in.IPAllowlist != nil {
		before := w.IPAllowlist
		if w.IPAllowlist, err = allowlist("body.ip_allowlist", *in.IPAllowlist); err != nil {
			return err
		}
		if !narrower(before, w.IPAllowlist) {
			if err := a.coverAllowlist(w.IPAllowlist); err != nil {
				return err
			}
		}
	}
	if in.Plan != nil {
		if err := a.need("platform.workspace.update"); err != nil {
			return err
		}
		if _, ok := c.k.profile.Plan(*in.Plan); !ok {
			return c.k.noPlan()
		}
		w.Plan = *in.Plan
	}
	if in.Suspended == nil && in.SuspendedReason == nil {
		return nil
	}
	if err := a.need("platform.workspace.suspend"); err != nil {
		return err
	}
	if w.Operator {
		return keystile.NewError(keystile.CodeConflict, "The operator's own workspace can't be suspended: nobody could manage Keystile any more.",
			"Revoke or disable the keys in it that must not work.")
	}
	if in.Suspended != nil {
		w.Suspended = *in.Suspended
	}
	if in.SuspendedReason != nil {
		if w.SuspendedReason, err = text("body.suspended_reason", *in.SuspendedReason, maxReason); err != nil {
			return err
		}
	}
	if !w.Suspended {
		w.SuspendedReason = ""
	}
	return nil
}

// DeleteWorkspace removes a workspace with all that is in it. Its audit log stays.
func (k *Keyring) DeleteWorkspace(ctx context.Context, a Actor, id string) error {
	if err := checkID("ws_", id); err != nil {
		return err
	}
	_, err := k.write(ctx, a, func(c *change) error {
		w, err := c.workspace(id)
		if err != nil {
			return err
		}
		if err := a.need("platform.workspace.delete"); err != nil {
			return err
		}
		if w.Operator {
			return keystile.NewError(keystile.CodeConflict, "The operator's own workspace can't be deleted: nobody could manage Keystile any more.",
				"Revoke the keys in it that are not needed.")
		}
		c.narrows = true
		if err := c.recordWorkspace("workspace.deleted", "", &w, nil); err != nil {
			return err
		}
		keys, err := c.Tx.DeleteWorkspace(a.workspaceScope(), id)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := c.LogChange(store.ChangeKey, key); err != nil {
				return err
			}
		}
		return nil
	})
	return k.gone(ctx, a, "platform.workspace.delete", err)
}

// Plans shows which plan and which built-in role allows what. Anyone with a
// valid key may see it: it is the same for all.
func (k *Keyring) Plans(a Actor) (keystile.PlanMatrix, error) {
	if a.workspace == "" {
		return keystile.PlanMatrix{}, notFound()
	}
	return keystile.PlanMatrix{
		Plans: k.profile.WirePlans(), Roles: k.BuiltInRoles(a.workspace), Permissions: k.profile.PermissionCatalogue(),
	}, nil
}

// PlanUse counts what a workspace has of the things that its plan limits, by
// the names of the limits.
func (k *Keyring) PlanUse(ctx context.Context, a Actor, workspaceID string) (use map[string]int, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		w, err := tx.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if err := a.need("api.workspace.view"); err != nil {
			return err
		}
		if err := k.countKeys(tx, &w); err != nil {
			return err
		}
		members, err := tx.CountMembers(a.scope(), w.ID)
		if err != nil {
			return err
		}
		roles, err := tx.CountRoles(a.scope(), w.ID)
		use = map[string]int{"active_keys": w.ActiveKeys, "members": members, "custom_roles": roles}
		return err
	})
	return use, err
}

// LocksOut tells whether a workspace with this allowlist would let the list's
// author in no more, from the address that they have now: whoever's place is in
// it, but for the operator's link.
func (k *Keyring) LocksOut(a Actor, workspaceID string, list []string) (bool, error) {
	list, err := allowlist("body.ip_allowlist", list)
	if err != nil {
		return false, err
	}
	link := a.session.Person.ID == "" && a.session.Workspace == ""
	bound := a.session.ID != "" && a.workspace == workspaceID && !link
	return bound && !admits(list, a.origin.Address), nil
}
