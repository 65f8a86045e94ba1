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
	// LinkInvite lets a member in.
	LinkInvite = "invite"
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

// Name is what to call whoever has the session; "" for nobody known.
func (s Session) Name() string {
	if s.Person.ID == "" {
		return ""
	}
	return ownName(s.Person)
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
	return token, digestOf(token)
}

func digestOf(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// Session finds out who is signed in. It fails with CodeNotFound when nobody is.
func (k *Keyring) Session(ctx context.Context, token string, o Origin) (out Session, err error) {
	if len(token) != 43 { // 32 bytes in base64
		return out, notFound()
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		s, err := tx.Session(digestOf(token))
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
		ws, err := c.Workspace(store.AllWorkspaces(), workspaceID)
		if err != nil {
			return Actor{}, err
		}
		if s.Workspace == "" {
			// Bound by no allowlist: it takes a command on the server to come in
			// like this, and it is the way to put right one that locks everyone out.
			a.workspace, a.permissions = OperatorWorkspace, keystile.Permissions{"*", "api.*", "platform.*"}
			return a, nil
		}
		a.workspace, a.permissions = s.Workspace, keystile.Permissions{"*", "api.*"}
		if !admits(ws.IPAllowlist, s.origin.Address) {
			return Actor{}, outside(ws.Name)
		}
		if ws.Suspended {
			return Actor{}, suspended(ws.Name)
		}
		return a, nil
	}
	at, role, err := c.place(s.Person.ID, workspaceID, s.Workspace != "")
	if err != nil {
		return Actor{}, err
	}
	a.workspace, a.permissions, a.party.Name = at.WorkspaceID, role.Permissions, memberName(s.Person.ID, at)
	if s.Kind == SessionPortal {
		a.permissions = withoutMembers(role.Permissions)
	}
	// The list of the workspace that the place is in counts, so that of the
	// operators' own for those who act by their role there.
	if !admits(at.IPAllowlist, s.origin.Address) {
		return Actor{}, outside(at.WorkspaceName)
	}
	if at.Suspended {
		return Actor{}, suspended(at.WorkspaceName)
	}
	return a, nil
}

// outside refuses whoever comes from an address that a workspace does not allow.
func outside(name string) error {
	return keystile.NewError(keystile.CodeIPNotAllowed,
		"The workspace "+name+" may be used from certain addresses only, and yours is not one of them.",
		"Come from an address that the workspace allows.", "Ask an administrator of the workspace to allow yours.")
}

// suspended refuses everyone but the operator, as the API refuses the keys.
func suspended(name string) error {
	return keystile.NewError(keystile.CodeWorkspaceSuspended, "The workspace "+name+" is suspended.",
		"Ask whoever runs this service what has to happen before it is resumed.")
}

// place is the membership by which a person acts in a workspace, with its
// role. The operators' own role reaches further than one in the workspace
// itself; only makes that of the workspace count alone.
func (c *change) place(personID, workspaceID string, only bool) (m store.Membership, role keystile.Role, err error) {
	homes := []string{OperatorWorkspace, workspaceID}
	if only {
		homes = homes[1:]
	}
	for _, home := range homes {
		m, err = c.Membership(personID, home)
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return m, role, err
		}
		if role, err = c.roleByID(home, m.RoleID); err != nil {
			return m, role, err
		}
		if home == workspaceID {
			return m, role, nil
		}
		if role.Permissions.Allow("platform.access") {
			_, err := c.Workspace(store.AllWorkspaces(), workspaceID)
			return m, role, err
		}
	}
	return m, role, store.ErrNotFound
}

// memberName is what a workspace calls a person. What another one calls them
// is not to be told there.
func memberName(personID string, m store.Membership) string {
	for _, s := range []string{m.Name, m.Email} {
		if s != "" {
			return s
		}
	}
	return personID
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

// Home is the workspace that a person at the pages is in, as whoever has a
// place in it may know it: its name and state.
func (k *Keyring) Home(ctx context.Context, a Actor, workspaceID string) (out keystile.Workspace, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		out, err = tx.Workspace(a.scope(), workspaceID)
		return err
	})
	return out, err
}
