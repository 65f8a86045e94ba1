package keyring

import (
	"context"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// begin makes a session and returns the token for its cookie. The token is
// always a new one, so that none that was planted in a browser before comes
// to be worth something.
func (c *change) begin(s store.Session) (token string, err error) {
	token, s.Digest = newToken()
	s.ID = c.k.ids.next("ses_", c.now)
	s.Address, s.UserAgent = c.actor.origin.address(), c.actor.origin.UserAgent
	s.CreatedAt = c.now
	if s.ExpiresAt.IsZero() {
		s.ExpiresAt = c.now.Add(c.k.profile.SignIn.Session)
	}
	if err := c.InsertSession(s); err != nil {
		return "", err
	}
	if s.Person.ID == "" {
		return token, c.record(entry{workspaceID: orOperator(s.WorkspaceID), action: "session.began", kind: store.ChangeSession,
			objectID: s.ID, reason: s.Kind})
	}
	return token, c.recordPerson(s.Person.ID, s.WorkspaceID, entry{action: "session.began", kind: store.ChangeSession, objectID: s.ID, reason: s.Kind})
}

// recordPerson records what a person did with their sign-in where it matters:
// in the one workspace that it is bound to, else in each that they are in,
// under the name that they have there.
func (c *change) recordPerson(personID, workspaceID string, e entry) error {
	rows, err := c.Memberships(personID, maxMemberships)
	if err != nil {
		return err
	}
	done := false
	for _, m := range rows {
		if workspaceID != "" && workspaceID != m.WorkspaceID {
			continue
		}
		e.workspaceID, done = m.WorkspaceID, true
		c.actor.party = keystile.Party{Kind: "person", ID: personID, Name: memberName(personID, m)}
		if err := c.record(e); err != nil {
			return err
		}
	}
	if done {
		return nil
	}
	e.workspaceID = orOperator(workspaceID)
	c.actor.party = keystile.Party{Kind: "person", ID: personID, Name: personID}
	return c.record(e)
}

// stillOn reads a session anew: what the request began with may have ended since.
// It fails with ErrNotFound when it has.
func (c *change) stillOn(s Session) (store.Session, error) {
	now, err := c.Session(s.digest)
	if err == nil && !now.ExpiresAt.After(c.now) {
		err = store.ErrNotFound
	}
	return now, err
}

// replace ends the session that a new one in the same browser takes the place of.
func (c *change) replace(s Session) error {
	if s.ID == "" {
		return nil
	}
	return ignoreNotFound(c.DeleteSession(s.Person.ID, s.ID))
}

// signIn begins a session of someone who has proved who they are, in place of
// the one that the browser had. It fails with ErrNotFound for someone who has
// no place in any workspace.
func (c *change) signIn(p keystile.Person, kind string, freshAt time.Time, current Session) (token string, err error) {
	rows, err := c.Memberships(p.ID, maxMemberships)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 {
		return "", store.ErrNotFound
	}
	for _, m := range rows {
		if m.Status == "invited" { // by issuer and subject, which they have shown to be theirs
			if err := c.ActivateMember(p.ID, m.WorkspaceID); err != nil {
				return "", err
			}
		}
	}
	if err := c.replace(current); err != nil {
		return "", err
	}
	return c.begin(store.Session{Kind: kind, Person: p, FreshAt: freshAt})
}

// NoteRefusal puts a refused sign-in into the operator's audit log. Nobody is
// signed in, so there is no actor; why is a word of ours and never what was sent.
func (k *Keyring) NoteRefusal(ctx context.Context, kind, why string, o Origin) error {
	a := Actor{party: keystile.Party{Kind: "person", Name: "nobody known"}, origin: o}
	_, err := k.write(ctx, a, func(c *change) error {
		return c.record(entry{workspaceID: OperatorWorkspace, action: "session.refused", kind: store.ChangeSession, objectName: kind, reason: why})
	})
	return err
}

// EndSession signs out.
func (k *Keyring) EndSession(ctx context.Context, s Session) error {
	return k.endSession(ctx, s, s.ID)
}

func (k *Keyring) endSession(ctx context.Context, s Session, id string) error {
	_, err := k.write(ctx, s.actor(), func(c *change) error {
		if err := c.DeleteSession(s.Person.ID, id); err != nil {
			return ignoreNotFound(err)
		}
		return c.recordOwn(s, entry{action: "session.ended", kind: store.ChangeSession, objectID: id})
	})
	return err
}

// recordOwn records what whoever has a session did with their sign-ins.
func (c *change) recordOwn(s Session, e entry) error {
	if s.Person.ID == "" {
		e.workspaceID = orOperator(s.Workspace)
		return c.record(e)
	}
	return c.recordPerson(s.Person.ID, s.Workspace, e)
}

// actor is whoever has the session, in no workspace and without permissions.
func (s Session) actor() Actor {
	if s.Person.ID == "" {
		return Actor{party: keystile.Party{Kind: "operator", Name: "sign-in link"}, origin: s.origin}
	}
	return Actor{party: keystile.Party{Kind: "person", ID: s.Person.ID}, origin: s.origin}
}

// MySessions lists a person's own sessions, newest first. In a session that is
// bound to one workspace it lists those alone that are bound to the same. Those
// who came by a link and have no name are one: whoever can make such a link.
func (k *Keyring) MySessions(ctx context.Context, s Session) (out []Session, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Sessions(s.Person.ID, MaxLimit)
		out = nil
		for _, r := range rows {
			if r.ExpiresAt.After(k.now()) && s.reaches(r) {
				out = append(out, sessionOf(r, s.origin))
			}
		}
		return err
	})
	return out, err
}

// reaches tells whether a session may see and end another one of the same person.
func (s Session) reaches(other store.Session) bool {
	return s.Workspace == "" && s.Person.ID != "" || s.Workspace == other.WorkspaceID
}

// EndMySession ends one of a person's own sessions by its ID.
func (k *Keyring) EndMySession(ctx context.Context, s Session, id string) error {
	if err := checkID("ses_", id); err != nil {
		return err
	}
	own, err := k.MySessions(ctx, s)
	if err != nil {
		return err
	}
	for _, o := range own {
		if o.ID == id {
			return k.endSession(ctx, s, id)
		}
	}
	return notFound()
}

// EndMySessions signs out everywhere, here included. A session that is bound
// to one workspace ends those alone that are bound to the same.
func (k *Keyring) EndMySessions(ctx context.Context, s Session) error {
	_, err := k.write(ctx, s.actor(), func(c *change) error {
		if err := c.DeleteSessions(s.Person.ID, s.Workspace); err != nil {
			return err
		}
		return c.recordOwn(s, entry{action: "session.ended", kind: store.ChangeSession, reason: "everywhere"})
	})
	return err
}

// A ceremony is a sign-in, or the making of a passkey, under way between two
// requests of one browser. Its token is in a cookie there.
const (
	CeremonyPasskey    = "passkey"     // signing in with one
	CeremonyNewPasskey = "new_passkey" // making one
	CeremonyOIDC       = "oidc"        // signing in at an OpenID provider
)

// CeremonyLife is for how long a ceremony may be under way.
const CeremonyLife = 10 * time.Minute

// BeginCeremony notes a ceremony under way, and returns the token that ends
// it. Data must hold no secret.
func (k *Keyring) BeginCeremony(ctx context.Context, purpose, data string) (token string, err error) {
	_, err = k.write(ctx, Actor{}, func(c *change) error {
		token, err = c.createLink(store.Link{Purpose: purpose, Data: data}, CeremonyLife)
		return err
	})
	return token, err
}

// EndCeremony returns the data of a ceremony, once, and when it began. It
// fails with CodeNotFound for one that is not under way.
func (k *Keyring) EndCeremony(ctx context.Context, purpose, token string) (data string, begun time.Time, err error) {
	// Anyone may try a token, and shall not get to hold up those who write.
	if err := k.read(ctx, func(tx *store.Tx) error { _, err := tx.Link(digestOf(token)); return err }); err != nil {
		return "", begun, err
	}
	_, err = k.write(ctx, Actor{}, func(c *change) error {
		l, err := c.Link(digestOf(token))
		if err != nil {
			return err
		}
		if l.Purpose != purpose {
			return store.ErrNotFound
		}
		data, begun = l.Data, l.CreatedAt
		return c.SpendLink(l.Digest, c.now)
	})
	return data, begun, err
}
