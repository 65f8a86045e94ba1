package keyring

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// managing is the permission that makes somebody an administrator of a
// workspace's members.
const managing = "api.member.update"

// managers lists the members of a workspace who have come in and may manage
// its members, the oldest first.
func (k *Keyring) managers(tx *store.Tx, workspaceID string, most int) ([]store.Member, error) {
	var roles []string
	for _, r := range k.BuiltInRoles(workspaceID) {
		if r.Permissions.Allow(managing) {
			roles = append(roles, r.ID)
		}
	}
	own, err := tx.Roles(store.OneWorkspace(workspaceID), workspaceID, "", MaxLimit)
	if err != nil {
		return nil, err
	}
	for _, r := range own {
		if r.Permissions.Allow(managing) {
			roles = append(roles, r.ID)
		}
	}
	return tx.MembersInRoles(store.OneWorkspace(workspaceID), workspaceID, roles, most)
}

// stillManaged fails when a change has left nobody in the workspace who may
// manage its members. The operator, who can put it right, may do so.
func (c *change) stillManaged(workspaceID string) error {
	if c.actor.Everywhere() || c.actor.party.Kind == "operator" {
		return nil
	}
	left, err := c.k.managers(c.Tx, workspaceID, 1)
	if err != nil || len(left) > 0 {
		return err
	}
	return keystile.NewError(keystile.CodeConflict,
		"Nobody who can manage the members of this workspace would be left, so nothing was changed.",
		"Give another member a role that can, such as admin, and let them sign in first.",
		"Ask the operator of this service to do it.")
}

// unmanaged is stillManaged for a member who had one role and has another now,
// or none. Who never came in managed nobody.
func (c *change) unmanaged(m *store.Member, heldID string, now keystile.Role) error {
	if m.Status != "active" {
		return nil
	}
	held, err := c.roleByID(m.WorkspaceID, heldID)
	if err != nil || !held.Permissions.Allow(managing) || now.Permissions.Allow(managing) {
		return err
	}
	return c.stillManaged(m.WorkspaceID)
}

// Administrators lists some members who can help with what somebody in the
// workspace may not do, at most most.
func (k *Keyring) Administrators(ctx context.Context, a Actor, workspaceID string, most int) (out []keystile.Member, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return nil, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Workspace(a.scope(), workspaceID); err != nil {
			return err
		}
		rows, err := k.managers(tx, workspaceID, most)
		out = nil
		for _, r := range rows {
			out = append(out, r.Member)
		}
		return err
	})
	return out, err
}

// ErrNamesake says that a member has an e-mail address already. Namesakes says who.
var ErrNamesake = errors.New("keyring: a member has this e-mail address already")

func (c *change) createOnlyMember(ws keystile.Workspace, in keystile.CreateMember) (keystile.Member, error) {
	if email := strings.TrimSpace(in.Person.Email); email != "" {
		if rows, err := c.MembersByEmail(c.actor.scope(), ws.ID, email, 1); err != nil {
			return keystile.Member{}, err
		} else if len(rows) > 0 {
			return keystile.Member{}, ErrNamesake
		}
	}
	return c.createMember(ws, in)
}

// Namesakes lists members of a workspace who have an e-mail address already,
// at most ten. An address identifies nobody, so that this is no error.
func (k *Keyring) Namesakes(ctx context.Context, a Actor, workspaceID, email string) (out []keystile.Member, err error) {
	if email, err = text("body.person.email", email, maxEmail); err != nil || email == "" {
		return nil, err
	}
	err = k.readWithin(ctx, a, workspaceID, "api.member.create", func(tx *store.Tx) error {
		rows, err := tx.MembersByEmail(a.scope(), workspaceID, email, 10)
		p := k.presenter(tx)
		out = make([]keystile.Member, len(rows))
		for i := 0; err == nil && i < len(rows); i++ {
			out[i], err = p.member(rows[i])
		}
		return err
	})
	return out, err
}

// CallerSpan is how far back it is looked who uses keys, before a list of
// addresses takes that from them.
const CallerSpan = 30 * 24 * time.Hour

// Caller is an address that keys were used from.
type Caller = store.Caller

// CallersOutside lists the addresses from which keys of a workspace were used
// in the last CallerSpan and which an allowlist would let in no more, latest
// first. More tells that there are more than most. Of the addresses that were
// used, at most 5000 are looked at.
func (k *Keyring) CallersOutside(ctx context.Context, a Actor, workspaceID string, list []string, most int) (out []Caller, more bool, err error) {
	if list, err = allowlist("body.ip_allowlist", list); err != nil {
		return nil, false, err
	}
	err = k.readUsage(ctx, a, workspaceID, "", func(tx *store.Tx) error {
		out, more = nil, false
		rows, err := tx.Callers(a.scope(), workspaceID, k.now().Add(-CallerSpan), 5000)
		for _, r := range rows {
			if at, err := netip.ParseAddr(r.Address); err == nil && admits(list, at) {
				continue
			}
			if len(out) == most {
				more = true
				break
			}
			out = append(out, r)
		}
		return err
	})
	return out, more, err
}
