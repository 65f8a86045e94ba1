package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
)

// maxPasskeys bounds how many passkeys a person has.
const maxPasskeys = 20

// Passkey is a WebAuthn credential of a person's.
type Passkey struct {
	ID           string
	PersonID     string
	Name         string
	CredentialID []byte
	Credential   string // public key, counter and flags, as whoever checks it writes them
	CreatedAt    time.Time
	UsedAt       time.Time // zero: never since it was made
}

func passkeyOf(p store.Passkey) Passkey {
	return Passkey{p.ID, p.PersonID, p.Name, p.CredentialID, p.Credential, p.CreatedAt, p.UsedAt}
}

// Passkeys lists the passkeys of whoever is signed in, oldest first.
func (k *Keyring) Passkeys(ctx context.Context, s Session) (out []Passkey, err error) {
	if s.Person.ID == "" {
		return nil, nil
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Passkeys(s.Person.ID, maxPasskeys)
		out = nil
		for _, r := range rows {
			out = append(out, passkeyOf(r))
		}
		return err
	})
	return out, err
}

// Passkey finds the passkey that an authenticator says it has. Nobody is
// signed in yet, and nothing of it may be told before its signature was checked.
func (k *Keyring) Passkey(ctx context.Context, credentialID []byte) (out Passkey, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		p, err := tx.PasskeyByCredential(credentialID)
		out = passkeyOf(p)
		return err
	})
	return out, err
}

// NewPasskey says for whom a passkey is to be made: the ID and name of the
// person, who for someone with the operator's link is still to be made. It
// fails in a session that may not have one.
func (k *Keyring) NewPasskey(s Session, name string) (personID, personName string, err error) {
	if err := k.mayKeepPasskeys(s); err != nil {
		return "", "", err
	}
	if s.Person.ID != "" {
		return s.Person.ID, ownName(s.Person), nil
	}
	if name, err = text("body.person", name, maxName); err != nil {
		return "", "", err
	} else if name == "" {
		return "", "", badField("body.person", "Say who you are: the name stands in the list of members and in the audit log.")
	}
	return timeless("per_"), name, nil
}

func ownName(p keystile.Person) string {
	for _, s := range []string{p.Name, p.Email} {
		if s != "" {
			return s
		}
	}
	return p.ID
}

// mayKeepPasskeys fails in a session that a passkey would make more of: one
// that the product opened is bound to a workspace and an end.
func (k *Keyring) mayKeepPasskeys(s Session) error {
	if s.Kind == SessionPortal || s.Person.ID != "" && s.Workspace != "" {
		return keystile.NewError(keystile.CodeConflict, "Your product has signed you in here, so there are no passkeys to keep.",
			"Open these pages from your product.")
	}
	if !k.Fresh(s) {
		return keystile.NewError(keystile.CodeSessionEnded,
			"It has been a while since you signed in, so this needs a fresh sign-in. Nothing was done.", "Sign in again.")
	}
	return nil
}

// AddPasskey gives whoever is signed in a passkey that was made for the person
// of NewPasskey. Someone with the operator's link becomes that person, a
// member of the operator's workspace or of the link's, and goes on in a new
// session, whose token is returned.
func (k *Keyring) AddPasskey(ctx context.Context, s Session, p Passkey, personName string) (token string, err error) {
	if err := k.mayKeepPasskeys(s); err != nil {
		return "", err
	}
	if p.Name, err = text("body.name", p.Name, maxName); err != nil {
		return "", err
	} else if p.Name == "" {
		p.Name = "Passkey"
	}
	_, err = k.write(ctx, s.actor(), func(c *change) error {
		// A session that ended while the authenticator was asked adds nothing.
		if _, err := c.stillOn(s); errors.Is(err, store.ErrNotFound) {
			return sessionOver()
		} else if err != nil {
			return err
		}
		person := s.Person
		if person.ID == "" {
			person = keystile.Person{ID: p.PersonID, Name: personName}
			if err := c.settleIn(s, person); err != nil {
				return err
			}
		} else if person.ID != p.PersonID {
			return store.ErrNotFound
		}
		own, err := c.Passkeys(person.ID, maxPasskeys)
		if err != nil {
			return err
		}
		if len(own) >= maxPasskeys {
			return keystile.NewError(keystile.CodeConflict, "You have as many passkeys as anyone may have.", "Remove one that you no longer use.")
		}
		row := store.Passkey{
			ID: c.k.ids.next("pk_", c.now), CredentialID: p.CredentialID, PersonID: person.ID, Name: p.Name,
			Credential: p.Credential, CreatedAt: c.now,
		}
		if err := c.InsertPasskey(row); errors.Is(err, store.ErrTaken) {
			return keystile.NewError(keystile.CodeConflict, "This passkey is known here already.", "Use it to sign in.")
		} else if err != nil {
			return err
		}
		if err := c.recordPerson(person.ID, "", entry{action: "passkey.added", kind: store.ChangeSession, objectID: row.ID, objectName: row.Name}); err != nil {
			return err
		}
		if s.Person.ID != "" {
			return nil
		}
		token, err = c.signIn(person, SessionPasskey, c.now, s)
		return err
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// settleIn makes a person and a member of whoever has the operator's link.
func (c *change) settleIn(s Session, person keystile.Person) error {
	home, name := orOperator(s.Workspace), profile.RoleOperator
	if s.Workspace != "" {
		name = profile.RoleAdmin
	}
	ws, err := c.Workspace(store.AllWorkspaces(), home)
	if err != nil {
		return err
	}
	role, err := c.roleOf(home, name)
	if err != nil {
		return err
	}
	if err := c.room(ws); err != nil {
		return err
	}
	if err := c.InsertPerson(person, c.now.UnixMilli()); err != nil {
		return err
	}
	m := store.Member{RoleID: role.ID}
	m.ID, m.WorkspaceID, m.Person, m.Role = c.k.ids.next("mem_", c.now), home, person, role.Name
	m.Status, m.CreatedAt, m.InvitedBy = "active", c.now, c.actor.party
	if err := c.InsertMember(m); err != nil {
		return err
	}
	return c.record(entry{workspaceID: home, action: "member.joined", kind: store.ChangeMember,
		objectID: m.ID, objectName: person.Name, after: m.Member})
}

// RenamePasskey gives one of one's own passkeys another name.
func (k *Keyring) RenamePasskey(ctx context.Context, s Session, id, name string) error {
	name, err := requiredName("body.name", name)
	if err != nil {
		return err
	}
	return k.changePasskey(ctx, s, id, "passkey.renamed", name, func(c *change) error { return c.Tx.RenamePasskey(s.Person.ID, id, name) })
}

// RemovePasskey takes one of one's own passkeys out of use.
func (k *Keyring) RemovePasskey(ctx context.Context, s Session, id string) error {
	if err := checkID("pk_", id); err != nil {
		return err
	}
	if err := k.mayKeepPasskeys(s); err != nil {
		return err
	}
	return k.changePasskey(ctx, s, id, "passkey.removed", "", func(c *change) error { return c.DeletePasskey(s.Person.ID, id) })
}

func (k *Keyring) changePasskey(ctx context.Context, s Session, id, action, name string, fn func(c *change) error) error {
	if err := checkID("pk_", id); err != nil {
		return err
	}
	if s.Person.ID == "" || s.Workspace != "" {
		return notFound()
	}
	_, err := k.write(ctx, s.actor(), func(c *change) error {
		if _, err := c.stillOn(s); errors.Is(err, store.ErrNotFound) {
			return sessionOver()
		} else if err != nil {
			return err
		}
		if err := fn(c); err != nil {
			return err
		}
		return c.recordPerson(s.Person.ID, "", entry{action: action, kind: store.ChangeSession, objectID: id, objectName: name})
	})
	return err
}

// SignInPasskey begins a session of whoever a passkey belongs to, whose
// signature has been checked against was, and keeps what it is now: its
// counter. It fails with CodeNotFound when the passkey is gone or was used
// meanwhile, and for someone without a place anywhere.
func (k *Keyring) SignInPasskey(ctx context.Context, was Passkey, credential string, current Session, o Origin) (token string, err error) {
	_, err = k.write(ctx, Actor{party: keystile.Party{Kind: "person", ID: was.PersonID}, origin: o}, func(c *change) error {
		p, err := c.PasskeyByCredential(was.CredentialID)
		if err != nil {
			return err
		}
		if p.ID != was.ID || p.Credential != was.Credential {
			return store.ErrNotFound
		}
		if err := c.UpdatePasskey(p.ID, credential, c.now); err != nil {
			return err
		}
		person, err := c.Person(p.PersonID)
		if err != nil {
			return err
		}
		token, err = c.signIn(person, SessionPasskey, c.now, current)
		return err
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// NotePasskeyRefusal puts into the audit logs of a passkey's owner that a
// sign-in with it was refused, and why.
func (k *Keyring) NotePasskeyRefusal(ctx context.Context, p Passkey, why string, o Origin) error {
	a := Actor{origin: o}
	_, err := k.write(ctx, a, func(c *change) error {
		return c.recordPerson(p.PersonID, "", entry{action: "passkey.refused", kind: store.ChangeSession, objectID: p.ID, objectName: p.Name, reason: why})
	})
	return err
}

func sessionOver() error {
	return keystile.NewError(keystile.CodeSessionEnded, "Your session has ended. Nothing was done.", "Sign in, and try again.")
}
