package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/url"
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
			p, err := tx.Person(l.PersonID)
			if err != nil {
				return err
			}
			out.Person = personName(p)
		}
		return nil
	})
	return out, err
}

// goodLink reads a link that opens a session and can still be used.
func (k *Keyring) goodLink(tx *store.Tx, token string) (store.Link, error) {
	l, err := tx.Link(sha256.Sum256([]byte(token)))
	if err != nil {
		return l, err
	}
	if !l.UsedAt.IsZero() || !l.ExpiresAt.After(k.now()) {
		return l, store.ErrNotFound
	}
	switch l.Purpose {
	case linkOperator, linkInvite, SessionPortal:
		return l, nil
	}
	return l, store.ErrNotFound
}

// OpenLink spends a link and begins the session that it is for. Someone who is
// signed in already joins the workspace of an invitation as who they are. The
// second time it fails with CodeNotFound.
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
		s := store.Session{Kind: SessionLink, WorkspaceID: l.WorkspaceID}
		switch l.Purpose {
		case linkInvite:
			err = c.acceptInvite(l, current, &s)
		case SessionPortal:
			err = c.openPortal(l, &s)
		}
		if err != nil {
			return err
		}
		if s.Person.ID != "" {
			c.actor.party = keystile.Party{Kind: "person", ID: s.Person.ID, Name: personName(s.Person)}
		}
		if session, err = c.begin(s); err != nil {
			return err
		}
		return c.record(entry{workspaceID: orOperator(l.WorkspaceID), action: "link.used", kind: store.ChangeLink})
	})
	if err != nil {
		return "", err
	}
	return session, nil
}

// byOperator is the data of an invitation that someone made who may act in
// every workspace.
const byOperator = "operator"

// acceptInvite lets a member in. Whoever has the link becomes the member, so
// what the person could reach elsewhere, or prove before, must not come along.
func (c *change) acceptInvite(l store.Link, current Session, s *store.Session) (err error) {
	at, err := c.Membership(l.PersonID, l.WorkspaceID)
	if err != nil {
		return err // removed since
	}
	s.WorkspaceID = "" // their other places, if they join as someone known
	if at.Status == "invited" && current.Person.ID != "" && current.Workspace == "" && current.Person.ID != l.PersonID {
		if err := c.HandMembership(at.MemberID, current.Person.ID); errors.Is(err, store.ErrTaken) {
			return keystile.NewError(keystile.CodeConflict, "You are a member of this workspace already.",
				"Sign out first to come in as someone else.")
		} else if err != nil {
			return err
		}
		s.Person, s.Kind = current.Person, current.Kind
		return c.ActivateMember(s.Person.ID, l.WorkspaceID)
	}
	if s.Person, err = c.Person(l.PersonID); err != nil {
		return err
	}
	if err := c.invitable(s.Person, l.WorkspaceID, l.Data == byOperator); err != nil {
		return err
	}
	if err := c.DeletePasskeys(l.PersonID); err != nil {
		return err
	}
	if err := c.DeleteSessions(l.PersonID, ""); err != nil {
		return err
	}
	return c.ActivateMember(l.PersonID, l.WorkspaceID)
}

// invitable fails for someone whom a link into one workspace would let into
// others too, unless the operator made it.
func (c *change) invitable(p keystile.Person, workspaceID string, byOperator bool) error {
	if byOperator {
		return nil
	}
	if p.Subject != "" {
		return keystile.NewError(keystile.CodeConflict,
			"This person signs in through "+orProduct(p.Issuer)+", so there is no link for them.",
			"Tell them to sign in there.", "Ask the operator for a link if they can't.")
	}
	others, err := c.Memberships(p.ID, 2)
	if err != nil {
		return err
	}
	for _, m := range others {
		if m.WorkspaceID != workspaceID {
			return keystile.NewError(keystile.CodeConflict,
				"This person is a member of other workspaces too, which a link of yours must not open.",
				"Ask the operator of this service for a link for them.")
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

// maxPortalLife is the longest that a portal session can last.
const maxPortalLife = 24 * time.Hour

// portalLinkLife is for how long the link to a portal session can be opened.
const portalLinkLife = 5 * time.Minute

// portalData is what a portal's link carries.
type portalData struct {
	ReturnURL string        `json:"return_url,omitempty"`
	Life      time.Duration `json:"life"`
}

// CreatePortal makes a link that opens a session for one of the product's own
// people in one workspace, once, and returns its token. The person becomes a
// member with the role, or has it from now on.
func (k *Keyring) CreatePortal(ctx context.Context, a Actor, workspaceID string, in keystile.CreatePortalSession) (token string, expires time.Time, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return "", expires, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		ws, err := c.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if err := a.need("platform.portal"); err != nil {
			return err
		}
		data, err := portalOf(in)
		if err != nil {
			return err
		}
		if in.Person.Subject == "" {
			return badField("body.person.subject", "Name the person by the ID that your product has for them.")
		}
		if ws.Operator {
			return badField("body.workspace", "The operator's own workspace has no portal.")
		}
		m, err := c.seat(ws, keystile.CreateMember{Person: in.Person, Role: in.Role})
		if err != nil {
			return err
		}
		expires = c.now.Add(portalLinkLife)
		token, err = c.createLink(store.Link{
			WorkspaceID: ws.ID, PersonID: m.Person.ID, Purpose: SessionPortal, Data: string(data),
		}, portalLinkLife)
		if err != nil {
			return err
		}
		return c.record(entry{workspaceID: ws.ID, action: "portal.created", kind: store.ChangeLink, objectID: m.ID, objectName: personName(m.Person)})
	})
	return token, expires, err
}

func portalOf(in keystile.CreatePortalSession) ([]byte, error) {
	data := portalData{ReturnURL: in.ReturnURL, Life: time.Hour}
	if in.ExpiresIn != "" {
		var err error
		if data.Life, err = time.ParseDuration(in.ExpiresIn); err != nil || data.Life < time.Minute || data.Life > maxPortalLife {
			return nil, badField("body.expires_in", "It must be a duration from 1m to 24h, such as 30m.")
		}
	}
	if in.ReturnURL != "" {
		u, err := url.Parse(in.ReturnURL)
		if err != nil || len(in.ReturnURL) > 500 || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
			return nil, badField("body.return_url", "It must be an address of your product that begins with https://.")
		}
	}
	return json.Marshal(data)
}

// seat finds the person's place in the workspace, and gives them one, or
// another role there, as the caller may.
func (c *change) seat(ws keystile.Workspace, in keystile.CreateMember) (keystile.Member, error) {
	known, err := c.PersonBySubject(in.Person.Issuer, in.Person.Subject)
	if errors.Is(err, store.ErrNotFound) {
		return c.createMember(ws, in)
	} else if err != nil {
		return keystile.Member{}, err
	}
	at, err := c.Membership(known.ID, ws.ID)
	if errors.Is(err, store.ErrNotFound) {
		return c.createMember(ws, in)
	} else if err != nil {
		return keystile.Member{}, err
	}
	m, err := c.Member(store.OneWorkspace(ws.ID), at.MemberID)
	if err != nil {
		return keystile.Member{}, err
	}
	role, err := c.roleOf(ws.ID, in.Role)
	if err != nil {
		return keystile.Member{}, err
	}
	if role.ID == m.RoleID {
		return m.Member, c.mayExtend(nil, role.Permissions)
	}
	if err := c.giveRole(&m, role); err != nil {
		return keystile.Member{}, err
	}
	return m.Member, nil
}

// openPortal makes a session of a portal's link.
func (c *change) openPortal(l store.Link, s *store.Session) (err error) {
	var data portalData
	if err := json.Unmarshal([]byte(l.Data), &data); err != nil {
		return err
	}
	s.Kind, s.ReturnURL, s.ExpiresAt = SessionPortal, data.ReturnURL, c.now.Add(data.Life)
	if s.Person, err = c.Person(l.PersonID); err != nil {
		return err
	}
	if _, err := c.Membership(l.PersonID, l.WorkspaceID); err != nil {
		return err // removed since
	}
	return c.ActivateMember(l.PersonID, l.WorkspaceID)
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
	data := ""
	if c.actor.Everywhere() {
		data = byOperator
	}
	if err := c.invitable(m.Person, m.WorkspaceID, data == byOperator); err != nil {
		return "", err
	}
	if err := c.EndLinks(m.Person.ID, m.WorkspaceID, c.now); err != nil {
		return "", err
	}
	token, err = c.createLink(store.Link{WorkspaceID: m.WorkspaceID, PersonID: m.Person.ID, Purpose: linkInvite, Data: data}, inviteLife)
	if err != nil {
		return "", err
	}
	return token, c.record(entry{workspaceID: m.WorkspaceID, action: "member.link_created", kind: store.ChangeLink,
		objectID: m.ID, objectName: personName(m.Person)})
}
