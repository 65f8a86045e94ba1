package keyring

import (
	"context"
	"errors"
	"net/mail"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

const (
	maxEmail   = 254 // RFC 5321, section 4.5.3.1.3 as amended
	maxSubject = 200
)

// Members lists the members of a workspace, newest first.
func (k *Keyring) Members(ctx context.Context, a Actor, workspaceID, cursor string, n int) (out keystile.List[keystile.Member], err error) {
	if err := checkCursor("mem_", cursor); err != nil {
		return out, err
	}
	if n, err = limit(n); err != nil {
		return out, err
	}
	err = k.readWithin(ctx, a, workspaceID, "api.member.view", func(tx *store.Tx) error {
		rows, err := tx.Members(a.scope(), workspaceID, cursor, n+1)
		if err != nil {
			return err
		}
		p := k.presenter(tx)
		members := make([]keystile.Member, len(rows))
		for i, r := range rows {
			if members[i], err = p.member(r); err != nil {
				return err
			}
		}
		out = page(members, n, func(m keystile.Member) string { return m.ID })
		return nil
	})
	return out, err
}

func (p *presenter) member(r store.Member) (keystile.Member, error) {
	m := r.Member
	var err error
	m.Role, err = p.roleName(r.WorkspaceID, r.RoleID)
	return m, err
}

// Member shows a member.
func (k *Keyring) Member(ctx context.Context, a Actor, id string) (out keystile.Member, err error) {
	if err := checkID("mem_", id); err != nil {
		return out, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		r, err := tx.Member(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need("api.member.view"); err != nil {
			return err
		}
		out, err = k.presenter(tx).member(r)
		return err
	})
	return out, err
}

// CreateMember invites a person into a workspace.
func (k *Keyring) CreateMember(ctx context.Context, a Actor, workspaceID string, in keystile.CreateMember, idem Idempotency) (keystile.Member, bool, error) {
	return k.newMember(ctx, a, workspaceID, in, idem, (*change).createMember)
}

// CreateOnlyMember is CreateMember for those who may have invited the person
// before: it fails with ErrNamesake when a member has the e-mail address.
func (k *Keyring) CreateOnlyMember(ctx context.Context, a Actor, workspaceID string, in keystile.CreateMember, idem Idempotency) (keystile.Member, bool, error) {
	return k.newMember(ctx, a, workspaceID, in, idem, (*change).createOnlyMember)
}

func (k *Keyring) newMember(ctx context.Context, a Actor, workspaceID string, in keystile.CreateMember, idem Idempotency,
	create func(*change, keystile.Workspace, keystile.CreateMember) (keystile.Member, error),
) (out keystile.Member, replayed bool, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, false, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		ws, err := c.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if err := a.need("api.member.create"); err != nil {
			return err
		}
		same := func(m keystile.Member) keystile.Member { return m }
		out, replayed, err = once(c, idem, in, same, func() (keystile.Member, error) { return create(c, ws, in) })
		return err
	})
	if err != nil {
		return keystile.Member{}, false, err
	}
	return out, replayed, nil
}

func (c *change) createMember(ws keystile.Workspace, in keystile.CreateMember) (out keystile.Member, err error) {
	person, err := c.person(in.Person)
	if err != nil {
		return out, err
	}
	role, err := c.roleOf(ws.ID, in.Role)
	if err != nil {
		return out, err
	}
	if err := c.mayExtend(nil, role.Permissions); err != nil {
		return out, err
	}
	if err := c.room(ws); err != nil {
		return out, err
	}
	m := store.Member{RoleID: role.ID}
	m.ID, m.WorkspaceID, m.Person, m.Role = c.k.ids.next("mem_", c.now), ws.ID, person, role.Name
	m.Status, m.CreatedAt, m.InvitedBy = "invited", c.now, c.actor.party
	if err := c.InsertMember(m); err != nil {
		if errors.Is(err, store.ErrTaken) {
			return out, keystile.NewError(keystile.CodeConflict, "This person is a member of the workspace already.",
				"Change the role of the member instead.")
		}
		return out, err
	}
	return m.Member, c.record(entry{workspaceID: ws.ID, action: "member.invited", kind: store.ChangeMember,
		objectID: m.ID, objectName: person.Name, after: m.Member})
}

// room fails when the workspace's plan allows no more members.
func (c *change) room(ws keystile.Workspace) error {
	most := c.k.planOf(ws).Limits.Members
	if most < 0 || ws.Operator {
		return nil
	}
	n, err := c.CountMembers(store.OneWorkspace(ws.ID), ws.ID)
	if err == nil && n >= most {
		return planLimit(c.k.planOf(ws), "member", most, "Remove members who no longer need access.")
	}
	return err
}

// person finds who is meant, or notes someone new. Issuer and subject
// identify; an e-mail address never does. Name and address stay those of this
// invitation: what another workspace calls the person is not to be told.
func (c *change) person(in keystile.Person) (p keystile.Person, err error) {
	if in.ID != "" {
		return p, badField("body.person.id", "Name a person by issuer and subject, or by name and e-mail address; the ID is Keystile's.")
	}
	if p.Name, err = text("body.person.name", in.Name, maxName); err != nil {
		return p, err
	}
	if p.Email, err = text("body.person.email", in.Email, maxEmail); err != nil {
		return p, err
	}
	if p.Email != "" {
		if a, err := mail.ParseAddress(p.Email); err != nil || a.Address != p.Email || !strings.Contains(p.Email, "@") {
			return p, badField("body.person.email", "It is not an e-mail address such as ada@example.com.")
		}
	}
	if p.Issuer, err = identifier("body.person.issuer", in.Issuer, maxSubject); err != nil {
		return p, err
	}
	if p.Subject, err = identifier("body.person.subject", in.Subject, maxSubject); err != nil {
		return p, err
	}
	if p.Subject == "" && p.Issuer != "" {
		return p, badField("body.person.subject", "An issuer without a subject names nobody.")
	}
	if p.Subject == "" && p.Name == "" && p.Email == "" {
		return p, badField("body.person", "Say who: a name, an e-mail address or a subject.")
	}
	if p.Subject != "" {
		known, err := c.PersonBySubject(p.Issuer, p.Subject)
		if err == nil {
			p.ID = known.ID
			return p, nil
		}
		if ignoreNotFound(err) != nil {
			return p, err
		}
	}
	p.ID = timeless("per_")
	return p, c.InsertPerson(p, c.now.UnixMilli())
}

// changeMember runs fn on a member.
func (k *Keyring) changeMember(ctx context.Context, a Actor, id, permission string, fn func(c *change, m *store.Member) error) (out keystile.Member, err error) {
	if err := checkID("mem_", id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		m, err := c.Tx.Member(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need(permission); err != nil {
			return err
		}
		c.narrows = true
		if err := fn(c, &m); err != nil {
			return err
		}
		out, err = k.presenter(c.Tx).member(m)
		return err
	})
	return out, err
}

// UpdateMember gives a member another role.
func (k *Keyring) UpdateMember(ctx context.Context, a Actor, id string, in keystile.MemberPatch) (keystile.Member, error) {
	return k.changeMember(ctx, a, id, "api.member.update", func(c *change, m *store.Member) error {
		if in.Role == nil {
			return badField("body.role", "Nothing else of a member can be changed. Name a role.")
		}
		role, err := c.roleOf(m.WorkspaceID, *in.Role)
		if err != nil {
			return err
		}
		held := m.RoleID
		if err := c.giveRole(m, role); err != nil {
			return err
		}
		return c.unmanaged(m, held, role)
	})
}

// giveRole gives a member another role.
func (c *change) giveRole(m *store.Member, role keystile.Role) error {
	p := c.k.presenter(c.Tx)
	before, err := p.member(*m)
	if err != nil {
		return err
	}
	held, err := c.roleByID(m.WorkspaceID, m.RoleID)
	if err != nil {
		return err
	}
	if err := c.mayShape(held.Permissions); err != nil {
		return err
	}
	if err := c.mayExtend(held.Permissions, role.Permissions); err != nil {
		return err
	}
	m.RoleID = role.ID
	if err := c.UpdateMemberRole(c.actor.scope(), m.ID, role.ID); err != nil {
		return err
	}
	after, err := p.member(*m)
	if err != nil {
		return err
	}
	return c.record(entry{workspaceID: m.WorkspaceID, action: "member.updated", kind: store.ChangeMember,
		objectID: m.ID, objectName: m.Person.Name, before: before, after: after})
}

// DeleteMember takes a person out of a workspace. The keys that they made stay.
func (k *Keyring) DeleteMember(ctx context.Context, a Actor, id string) error {
	_, err := k.changeMember(ctx, a, id, "api.member.delete", func(c *change, m *store.Member) error {
		return c.removeMember(m)
	})
	return err
}

// removeMember is deleteMember, unless it is the last who manages the others.
func (c *change) removeMember(m *store.Member) error {
	held := m.RoleID
	if err := c.deleteMember(m); err != nil {
		return err
	}
	return c.unmanaged(m, held, keystile.Role{})
}

// DeleteMemberWithKeys takes a person out of a workspace and revokes all keys
// that they made there, or does neither.
func (k *Keyring) DeleteMemberWithKeys(ctx context.Context, a Actor, id, reason string) error {
	_, err := k.changeMember(ctx, a, id, "api.member.delete", func(c *change, m *store.Member) error {
		reason, err := text("body.reason", reason, maxReason)
		if err != nil {
			return err
		}
		if err := c.removeMember(m); err != nil {
			return err
		}
		return c.revokeMade(m, reason)
	})
	return err
}

func (c *change) deleteMember(m *store.Member) error {
	held, err := c.roleByID(m.WorkspaceID, m.RoleID)
	if err != nil {
		return err
	}
	if err := c.mayShape(held.Permissions); err != nil { // as for taking their role away
		return err
	}
	before, err := c.k.presenter(c.Tx).member(*m)
	if err != nil {
		return err
	}
	if err := c.Tx.DeleteMember(c.actor.scope(), m.ID); err != nil {
		return err
	}
	bound := m.WorkspaceID
	if left, err := c.Memberships(m.Person.ID, 1); err != nil {
		return err
	} else if len(left) == 0 {
		bound = "" // there is nowhere left to be signed in to
	}
	if err := c.DeleteSessions(m.Person.ID, bound); err != nil {
		return err
	}
	if err := c.EndLinks(m.Person.ID, m.WorkspaceID, c.now); err != nil {
		return err
	}
	return c.record(entry{workspaceID: m.WorkspaceID, action: "member.removed", kind: store.ChangeMember,
		objectID: m.ID, objectName: m.Person.Name, before: before})
}

// revokeMade revokes the living keys that a member made in the workspace.
func (c *change) revokeMade(m *store.Member, reason string) error {
	for _, status := range []keystile.KeyStatus{keystile.StatusActive, keystile.StatusDisabled} {
		f := store.KeyFilter{WorkspaceID: m.WorkspaceID, CreatorID: m.Person.ID, Status: status, Limit: MaxLimit, Now: c.now}
		for {
			keys, err := c.Keys(store.OneWorkspace(m.WorkspaceID), f)
			if err != nil {
				return err
			}
			for _, made := range keys {
				key, _, err := c.keyFor(made.ID, []string{"api.key.delete"})
				if err != nil {
					return err
				}
				before := key
				c.revoke(&key, reason)
				if err := c.saveKey("key.revoked", reason, &before, &key); err != nil {
					return err
				}
			}
			if len(keys) < f.Limit {
				break
			}
			f.Cursor = keys[len(keys)-1].ID
		}
	}
	return nil
}
