package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// LinkLife is for how long the operator's sign-in link is good.
const LinkLife = 15 * time.Minute

// inviteLife is for how long an invitation is good.
const inviteLife = 7 * 24 * time.Hour

// CreateLink makes a one-time sign-in link and returns its token. Without a
// workspace it signs in as the operator; with one, as an admin of that alone.
func (k *Keyring) CreateLink(ctx context.Context, a Actor, workspaceID string) (token string, err error) {
	if err := a.need("platform.portal"); err != nil {
		return "", err
	}
	if workspaceID == OperatorWorkspace {
		workspaceID = ""
	}
	if workspaceID != "" {
		if err := checkID("ws_", workspaceID); err != nil {
			return "", err
		}
	}
	_, err = k.write(ctx, a, func(c *change) error {
		if workspaceID != "" {
			if _, err := c.workspace(workspaceID); err != nil {
				return err
			}
		} else if err := c.actor.cover(keystile.Permissions{"*", "api.*", "platform.*"}); err != nil {
			return err
		}
		token, err = c.createLink(store.Link{WorkspaceID: workspaceID, Purpose: linkOperator}, LinkLife)
		if err != nil {
			return err
		}
		return c.record(entry{workspaceID: orOperator(workspaceID), action: "link.created", kind: store.ChangeLink})
	})
	return token, err
}

// createLink adds a link that is good for a while and returns its token.
func (c *change) createLink(l store.Link, life time.Duration) (token string, err error) {
	token, l.Digest = newToken()
	l.CreatedAt, l.ExpiresAt = c.now, c.now.Add(life)
	return token, c.InsertLink(l)
}

func orOperator(workspaceID string) string {
	if workspaceID == "" {
		return OperatorWorkspace
	}
	return workspaceID
}

// LinkInfo is what the page behind a link says before its button is pressed.
type LinkInfo struct {
	Purpose   string // operator, invite or portal
	Workspace string // its name; "" for the operator's link to everything
	Person    string // whom it lets in; "" for whoever has it
	Joins     bool   // an invitation that has not been accepted yet, so that anyone may accept it as who they are
	ExpiresAt time.Time
}

// Link tells what a link is for, without spending it. Anyone who has the token
// may ask. It fails with CodeNotFound when the link is not good (any more).
func (k *Keyring) Link(ctx context.Context, token string) (out LinkInfo, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		l, err := k.goodLink(tx, token)
		if err != nil {
			return err
		}
		out = LinkInfo{Purpose: l.Purpose, ExpiresAt: l.ExpiresAt}
		if l.WorkspaceID != "" {
			w, err := tx.Workspace(store.OneWorkspace(l.WorkspaceID), l.WorkspaceID)
			if err != nil {
				return err
			}
			out.Workspace = w.Name
		}
		if l.PersonID != "" {
			at, err := tx.Membership(l.PersonID, l.WorkspaceID)
			if err != nil {
				return err
			}
			out.Person = memberName(l.PersonID, at)
			out.Joins = l.Purpose == LinkInvite && at.Status == "invited"
		}
		return nil
	})
	return out, err
}

// goodLink reads a link that opens a session and can still be used.
func (k *Keyring) goodLink(tx *store.Tx, token string) (store.Link, error) {
	l, err := tx.Link(digestOf(token))
	if err != nil {
		return l, err
	}
	if !l.UsedAt.IsZero() || !l.ExpiresAt.After(k.now()) {
		return l, store.ErrNotFound
	}
	switch l.Purpose {
	case linkOperator, LinkInvite, SessionPortal:
		return l, nil
	}
	return l, store.ErrNotFound
}

// OpenLink spends a link and begins the session that it is for, in place of
// the one that the browser had. Someone who is signed in already joins the
// workspace of an invitation as who they are. The second time it fails with
// CodeNotFound.
func (k *Keyring) OpenLink(ctx context.Context, token string, current Session, o Origin) (session string, err error) {
	// Anyone may try a token, and shall not get to hold up those who write.
	if _, err := k.Link(ctx, token); err != nil {
		return "", err
	}
	a := Actor{party: keystile.Party{Kind: "operator", Name: "sign-in link"}, origin: o}
	_, err = k.write(ctx, a, func(c *change) error {
		l, err := k.goodLink(c.Tx, token)
		if err != nil {
			return err
		}
		if err := c.SpendLink(l.Digest, c.now); err != nil {
			return err
		}
		s := store.Session{Kind: SessionLink, WorkspaceID: l.WorkspaceID, FreshAt: c.now}
		switch l.Purpose {
		case LinkInvite:
			err = c.acceptInvite(l, current, &s)
		case SessionPortal:
			err = c.openPortal(l, &s)
		}
		if err != nil {
			return err
		}
		if err := c.replace(current); err != nil {
			return err
		}
		session, err = c.begin(s)
		return err
	})
	if err != nil {
		return "", err
	}
	return session, nil
}

// inviteData is what an invitation's link carries.
type inviteData struct {
	Maker maker `json:"maker"`
}

// maker is who made a link. It is good only as long as they may make one like
// it: someone who was shown the door must not come in again by a link they kept.
type maker struct {
	Party       keystile.Party       `json:"party"`
	Workspace   string               `json:"workspace"`
	Permissions keystile.Permissions `json:"permissions"`
}

func (a Actor) maker() maker { return maker{a.party, a.workspace, a.permissions} }

// maker returns the actor that the maker of a link is now, for a link into a
// workspace. It fails with ErrNotFound when they are nobody any more.
func (c *change) maker(m maker, workspaceID string) (Actor, error) {
	a := Actor{party: m.Party, workspace: m.Workspace, permissions: m.Permissions}
	switch m.Party.Kind {
	case "key":
		key, err := c.Key(store.OneWorkspace(m.Workspace), m.Party.ID)
		if err != nil {
			return a, err
		}
		ws, err := c.Workspace(store.OneWorkspace(m.Workspace), m.Workspace)
		if err != nil {
			return a, err
		}
		role, err := c.roleByID(m.Workspace, key.RoleID)
		if err != nil {
			return a, err
		}
		if c.ended(&key); key.Status != keystile.StatusActive || ws.Suspended {
			return a, store.ErrNotFound
		}
		a.permissions = effective(key, role)
	case "person":
		at, role, err := c.place(m.Party.ID, workspaceID, false)
		if err != nil {
			return a, err
		}
		a.workspace, a.permissions = at.WorkspaceID, role.Permissions
	}
	return a, nil
}

// acceptInvite lets a member in. Whoever has the link becomes the member, so
// what the person could reach elsewhere, or prove before, must not come along.
func (c *change) acceptInvite(l store.Link, current Session, s *store.Session) error {
	at, by, err := c.invitation(l)
	if err != nil {
		return err
	}
	s.WorkspaceID = "" // their other places, if they join as someone known
	if current.Person.ID != "" && current.Workspace == "" {
		now, err := c.stillOn(current)
		if err == nil && at.Status == "invited" && current.Person.ID != l.PersonID {
			// Joining proves nothing anew: not who they are, nor for longer.
			s.Person, s.Kind, s.FreshAt, s.ExpiresAt = current.Person, current.Kind, now.FreshAt, now.ExpiresAt
			return c.join(at, current.Person)
		}
		if ignoreNotFound(err) != nil {
			return err
		}
	}
	if s.Person, err = c.Person(l.PersonID); err != nil {
		return err
	}
	if err := c.invitable(by, s.Person, l.WorkspaceID); err != nil {
		return err
	}
	if err := c.DeletePasskeys(l.PersonID); err != nil {
		return err
	}
	if err := c.DeleteSessions(l.PersonID, ""); err != nil {
		return err
	}
	if err := c.ActivateMember(l.PersonID, l.WorkspaceID); err != nil {
		return err
	}
	action := "member.joined"
	if at.Status != "invited" {
		action = "member.recovered" // by a link, in place of the passkeys that they had
	}
	return c.recordPerson(l.PersonID, "", entry{action: action, kind: store.ChangeMember, objectID: at.MemberID,
		objectName: memberName(l.PersonID, at), reason: "link by " + by.party.Kind + " " + by.party.ID})
}

// invitation reads the place that an invitation leads to, and who made it. It
// fails with ErrNotFound when there is no such place any more, or its maker
// could not give it now.
func (c *change) invitation(l store.Link) (at store.Membership, by Actor, err error) {
	var data inviteData
	if err := json.Unmarshal([]byte(l.Data), &data); err != nil {
		return at, by, err
	}
	if at, err = c.Membership(l.PersonID, l.WorkspaceID); err != nil {
		return at, by, err
	}
	if by, err = c.maker(data.Maker, l.WorkspaceID); err != nil {
		return at, by, err
	}
	role, err := c.roleByID(l.WorkspaceID, at.RoleID)
	if err != nil {
		return at, by, err
	}
	if by.need("api.member.create") != nil || by.touch(role.Permissions) != nil || by.cover(role.Permissions) != nil {
		return at, by, store.ErrNotFound
	}
	return at, by, nil
}

// join gives an invited member's place to the person whom it was meant for.
func (c *change) join(at store.Membership, person keystile.Person) error {
	if err := c.HandMembership(at.MemberID, person.ID); errors.Is(err, store.ErrTaken) {
		return keystile.NewError(keystile.CodeConflict, "You are a member of this workspace already.",
			"Sign out first to come in as someone else.")
	} else if err != nil {
		return err
	}
	if err := c.ActivateMember(person.ID, at.WorkspaceID); err != nil {
		return err
	}
	return c.recordPerson(person.ID, at.WorkspaceID, entry{action: "member.joined", kind: store.ChangeMember,
		objectID: at.MemberID, objectName: memberName(person.ID, at)})
}

// invitable fails for someone whom a link into one workspace would let into
// others too, unless an operator made it; and an operator must hold all that
// the person does, anywhere.
func (c *change) invitable(by Actor, p keystile.Person, workspaceID string) error {
	if !by.Everywhere() && p.Subject != "" {
		return keystile.NewError(keystile.CodeConflict,
			"This person signs in through "+orProduct(p.Issuer)+", so there is no link for them.",
			"Tell them to sign in there.", "Ask the operator for a link if they can't.")
	}
	places, err := c.Memberships(p.ID, maxMemberships+1)
	if err != nil {
		return err
	}
	if len(places) > maxMemberships {
		return keystile.NewError(keystile.CodeConflict, "This person is in too many workspaces for a link to let them into.")
	}
	for _, m := range places {
		if m.WorkspaceID != workspaceID && !by.Everywhere() {
			return keystile.NewError(keystile.CodeConflict,
				"This person is a member of other workspaces too, which a link of yours must not open.",
				"Ask the operator of this service for a link for them.")
		}
		role, err := c.roleByID(m.WorkspaceID, m.RoleID)
		if err != nil {
			return err
		}
		if err := by.touch(role.Permissions); err != nil {
			return err
		}
		if err := by.cover(role.Permissions); err != nil {
			return err
		}
	}
	return nil
}

func orProduct(issuer string) string {
	if issuer == "" {
		return "your product"
	}
	return issuer
}

// Invite makes a link that lets an invited member in, once, and returns its
// token. Links made for the member before are not good any more. Replayed is
// true when an idempotent request was seen before; then there is no token.
func (k *Keyring) Invite(ctx context.Context, a Actor, memberID string, idem Idempotency) (token string, replayed bool, err error) {
	_, err = k.changeMember(ctx, a, memberID, "api.member.create", func(c *change, m *store.Member) (err error) {
		unsaid := func(string) string { return "" }
		token, replayed, err = once(c, idem, memberID, unsaid, func() (string, error) { return c.invite(m) })
		return err
	})
	if err != nil {
		return "", false, err
	}
	return token, replayed, nil
}

func (c *change) invite(m *store.Member) (token string, err error) {
	role, err := c.roleByID(m.WorkspaceID, m.RoleID)
	if err != nil {
		return "", err
	}
	// Whoever opens it acts as the member, so it takes what the role has.
	if err := c.mayExtend(nil, role.Permissions); err != nil {
		return "", err
	}
	if err := c.invitable(c.actor, m.Person, m.WorkspaceID); err != nil {
		return "", err
	}
	data, err := json.Marshal(inviteData{c.actor.maker()})
	if err != nil {
		return "", err
	}
	if err := c.EndLinks(m.Person.ID, m.WorkspaceID, c.now); err != nil {
		return "", err
	}
	token, err = c.createLink(store.Link{WorkspaceID: m.WorkspaceID, PersonID: m.Person.ID, Purpose: LinkInvite, Data: string(data)}, inviteLife)
	if err != nil {
		return "", err
	}
	return token, c.record(entry{workspaceID: m.WorkspaceID, action: "member.link_created", kind: store.ChangeLink,
		objectID: m.ID, objectName: personName(m.Person)})
}
