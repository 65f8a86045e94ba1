package keyring

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// How a session began.
const (
	SessionLink    = "link"    // the operator's sign-in link, or an invitation
	SessionPasskey = "passkey" // a passkey
	SessionOIDC    = "oidc"    // an OpenID provider
	SessionPortal  = "portal"  // a link that the product's backend asked for
)

// What a link is for.
const (
	linkOperator = "operator" // signs in as the operator, or as an admin of one workspace
	linkInvite   = "invite"   // lets a member in
)

// maxMemberships bounds how many workspaces a person's pages name.
const maxMemberships = 200

// Session is someone who is signed in. It comes from a token that was checked.
type Session struct {
	ID        string
	Kind      string
	Person    keystile.Person // without an ID for whoever came with the operator's link
	Workspace string          // the only one the session is good for; "" for any
	ReturnURL string          // where the product's own pages are; "" for none
	CreatedAt time.Time
	FreshAt   time.Time // when the person last proved who they are
	ExpiresAt time.Time
	Address   string
	UserAgent string

	digest [32]byte
	origin Origin
}

// Seat is a place in a workspace that a session can go to.
type Seat struct {
	WorkspaceID   string
	WorkspaceName string
	Role          string
}

func newToken() (token string, digest [32]byte) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails (crypto/rand since Go 1.24)
	token = base64.RawURLEncoding.EncodeToString(random)
	return token, sha256.Sum256([]byte(token))
}

// Session finds out who is signed in. It fails with CodeNotFound when nobody is.
func (k *Keyring) Session(ctx context.Context, token string, o Origin) (out Session, err error) {
	if len(token) != 43 { // 32 bytes in base64
		return out, notFound()
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		s, err := tx.Session(sha256.Sum256([]byte(token)))
		if err != nil {
			return err
		}
		if !s.ExpiresAt.After(k.now()) {
			return store.ErrNotFound
		}
		out = sessionOf(s, o)
		return nil
	})
	return out, err
}

func sessionOf(s store.Session, o Origin) Session {
	return Session{
		ID: s.ID, Kind: s.Kind, Person: s.Person, Workspace: s.WorkspaceID, ReturnURL: s.ReturnURL,
		CreatedAt: s.CreatedAt, FreshAt: s.FreshAt, ExpiresAt: s.ExpiresAt, Address: s.Address, UserAgent: s.UserAgent,
		digest: s.Digest, origin: o,
	}
}

// Fresh tells whether the person has proved who they are lately enough for
// what hands out or takes away access.
func (k *Keyring) Fresh(s Session) bool {
	return k.now().Sub(s.FreshAt) < k.profile.SignIn.Fresh
}

// Enter returns the actor that a session is in a workspace. It fails with
// CodeNotFound when the session has no place there.
func (k *Keyring) Enter(ctx context.Context, s Session, workspaceID string) (a Actor, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return a, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		a, err = (&change{Tx: tx, k: k, now: k.now()}).enter(s, workspaceID)
		return err
	})
	return a, err
}

// enter is Enter in a transaction.
func (c *change) enter(s Session, workspaceID string) (Actor, error) {
	a := Actor{
		party: keystile.Party{Kind: "person", ID: s.Person.ID, Name: personName(s.Person)}, origin: s.origin, session: s,
	}
	if s.Workspace != "" && s.Workspace != workspaceID {
		return Actor{}, store.ErrNotFound
	}
	if s.Person.ID == "" { // whoever has the operator's link
		a.party = keystile.Party{Kind: "operator", Name: "sign-in link"}
		w, err := c.Workspace(store.AllWorkspaces(), workspaceID)
		if err != nil {
			return Actor{}, err
		}
		if w.Suspended && s.Workspace != "" {
			return Actor{}, suspended(w.Name)
		}
		if s.Workspace == "" {
			a.workspace, a.permissions = OperatorWorkspace, keystile.Permissions{"*", "api.*", "platform.*"}
		} else {
			a.workspace, a.permissions = s.Workspace, keystile.Permissions{"*", "api.*"}
		}
		return a, nil
	}
	// The operators' own role reaches further than one in the workspace itself.
	for _, home := range []string{OperatorWorkspace, workspaceID} {
		m, err := c.Membership(s.Person.ID, home)
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return Actor{}, err
		}
		role, err := c.roleByID(home, m.RoleID)
		if err != nil {
			return Actor{}, err
		}
		a.workspace, a.permissions = home, role.Permissions
		if home != workspaceID {
			if s.Workspace != "" || !a.Everywhere() {
				continue
			}
			if _, err := c.Workspace(store.AllWorkspaces(), workspaceID); err != nil {
				return Actor{}, err
			}
		}
		if !a.Everywhere() && m.Suspended {
			return Actor{}, suspended(m.WorkspaceName)
		}
		if !a.Everywhere() && !admits(m.IPAllowlist, s.origin.Address) {
			return Actor{}, keystile.NewError(keystile.CodeIPNotAllowed,
				"The workspace "+m.WorkspaceName+" may be used from certain addresses only, and yours is not one of them.",
				"Come from an address that the workspace allows.", "Ask an administrator of the workspace to allow yours.")
		}
		return a, nil
	}
	return Actor{}, store.ErrNotFound
}

func suspended(workspace string) error {
	return keystile.NewError(keystile.CodeWorkspaceSuspended, "The workspace "+workspace+" is suspended: its keys and its pages are closed.",
		"Ask whoever runs this service what has to happen before it is resumed.")
}

func personName(p keystile.Person) string {
	for _, s := range []string{p.Name, p.Email, p.Subject} {
		if s != "" {
			return s
		}
	}
	return p.ID
}

// recheckSession fails unless the actor's session is still good for what it
// was when its request was let in.
func (c *change) recheckSession() error {
	over := func() error {
		return keystile.NewError(keystile.CodeSessionEnded, "Your session has ended. Nothing was done.")
	}
	s, err := c.Session(c.actor.session.digest)
	if errors.Is(err, store.ErrNotFound) {
		return over()
	} else if err != nil {
		return err
	}
	if !s.ExpiresAt.After(c.now) {
		return over()
	}
	now, err := c.enter(sessionOf(s, c.actor.origin), c.actor.entered())
	if errors.Is(err, store.ErrNotFound) {
		return over()
	} else if err != nil {
		return err
	}
	if !now.permissions.Cover(c.actor.permissions) {
		return keystile.NewError(keystile.CodeConflict,
			"What you may do was changed while this request was under way. Nothing was done.", "Load the page again.")
	}
	return nil
}

// entered is a workspace that the actor of a session must still have a place in.
func (a Actor) entered() string {
	if a.session.Workspace != "" {
		return a.session.Workspace
	}
	return a.workspace
}

// Seats lists the workspaces that a session can go to. For those who may see
// every workspace, Everywhere is true and the list has their memberships only.
func (k *Keyring) Seats(ctx context.Context, s Session) (seats []Seat, everywhere bool, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		c := &change{Tx: tx, k: k, now: k.now()}
		seats, everywhere = nil, false
		if s.Person.ID == "" {
			everywhere = s.Workspace == ""
			if everywhere {
				return nil
			}
			w, err := tx.Workspace(store.OneWorkspace(s.Workspace), s.Workspace)
			seats = append(seats, Seat{w.ID, w.Name, "admin"})
			return err
		}
		rows, err := tx.Memberships(s.Person.ID, maxMemberships)
		if err != nil {
			return err
		}
		p := k.presenter(tx)
		for _, m := range rows {
			if s.Workspace != "" && m.WorkspaceID != s.Workspace {
				continue
			}
			role, err := c.roleByID(m.WorkspaceID, m.RoleID)
			if err != nil {
				return err
			}
			if m.WorkspaceID == OperatorWorkspace && role.Permissions.Allow("platform.access") {
				everywhere = s.Workspace == ""
			}
			name, err := p.roleName(m.WorkspaceID, m.RoleID)
			if err != nil {
				return err
			}
			seats = append(seats, Seat{m.WorkspaceID, m.WorkspaceName, name})
		}
		return nil
	})
	return seats, everywhere, err
}

// begin makes a session and returns the token for its cookie.
func (c *change) begin(s store.Session) (token string, err error) {
	token, s.Digest = newToken()
	s.ID = c.k.ids.next("ses_", c.now)
	s.Address, s.UserAgent = c.actor.origin.address(), c.actor.origin.UserAgent
	s.CreatedAt, s.FreshAt = c.now, c.now
	if s.ExpiresAt.IsZero() {
		s.ExpiresAt = c.now.Add(c.k.profile.SignIn.Session)
	}
	return token, c.InsertSession(s)
}

// EndSession signs out.
func (k *Keyring) EndSession(ctx context.Context, s Session) error {
	a := Actor{party: keystile.Party{Kind: "person", ID: s.Person.ID, Name: personName(s.Person)}, origin: s.origin}
	_, err := k.write(ctx, a, func(c *change) error { return ignoreNotFound(c.DeleteSession(s.Person.ID, s.ID)) })
	return err
}

// MySessions lists a person's own sessions, newest first.
func (k *Keyring) MySessions(ctx context.Context, s Session) (out []Session, err error) {
	if s.Person.ID == "" {
		return []Session{s}, nil
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Sessions(s.Person.ID, MaxLimit)
		out = nil
		for _, r := range rows {
			if r.ExpiresAt.After(k.now()) {
				out = append(out, sessionOf(r, s.origin))
			}
		}
		return err
	})
	return out, err
}

// EndMySession ends one of a person's own sessions by its ID.
func (k *Keyring) EndMySession(ctx context.Context, s Session, id string) error {
	if err := checkID("ses_", id); err != nil {
		return err
	}
	if s.Person.ID == "" && id != s.ID {
		return notFound() // nobody has several
	}
	s.ID = id
	return k.EndSession(ctx, s)
}

// Home is the workspace that a person at the pages is in, as whoever has a
// place in it may know it: its name and state.
func (k *Keyring) Home(ctx context.Context, a Actor, workspaceID string) (out keystile.Workspace, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		out, err = tx.Workspace(a.scope(), workspaceID)
		return err
	})
	return out, err
}
