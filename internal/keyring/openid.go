package keyring

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// OpenID is someone who has signed in at an OpenID provider. Issuer and
// subject identify; name and e-mail address are what the provider says.
type OpenID struct {
	Issuer, Subject string
	Name, Email     string
	// AuthAt is when the provider had proof of them; zero when it did not say,
	// and then the session is not a fresh one.
	AuthAt time.Time
}

// InviteRef names an invitation without giving away its token.
func InviteRef(token string) string {
	d := digestOf(token)
	return hex.EncodeToString(d[:])
}

// SignInOpenID begins a session of someone whom an OpenID provider knows. An
// invitation (InviteRef, or "") gives them its place. It fails with
// CodeNotFound for someone without a place anywhere, known or not.
func (k *Keyring) SignInOpenID(ctx context.Context, id OpenID, invite string, current Session, o Origin) (token string, err error) {
	_, err = k.write(ctx, Actor{party: keystile.Party{Kind: "person"}, origin: o}, func(c *change) error {
		person, err := c.PersonBySubject(id.Issuer, id.Subject)
		if errors.Is(err, store.ErrNotFound) && invite != "" {
			person = keystile.Person{ID: timeless("per_"), Issuer: id.Issuer, Subject: id.Subject}
			person.Name, _ = text("name", id.Name, maxName) // one that is unfit is none
			person.Email, _ = text("email", id.Email, maxEmail)
			err = c.InsertPerson(person, c.now.UnixMilli())
		}
		if err != nil {
			return err
		}
		c.actor.party.ID = person.ID
		if invite != "" {
			if err := c.acceptAs(invite, person); err != nil {
				return err
			}
		}
		fresh := id.AuthAt
		if fresh.After(c.now) { // the provider's clock is ahead of ours
			fresh = c.now
		}
		token, err = c.signIn(person, SessionOIDC, fresh, current)
		return err
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// acceptAs spends an invitation and gives its place to a person.
func (c *change) acceptAs(invite string, person keystile.Person) error {
	var digest [32]byte
	if raw, err := hex.DecodeString(invite); err != nil || copy(digest[:], raw) != len(digest) {
		return store.ErrNotFound
	}
	l, err := c.Link(digest)
	if err != nil {
		return err
	}
	if l.Purpose != LinkInvite {
		return store.ErrNotFound
	}
	if err := c.SpendLink(l.Digest, c.now); err != nil {
		return err
	}
	at, _, err := c.invitation(l)
	if err != nil {
		return err
	}
	if l.PersonID == person.ID {
		return c.ActivateMember(person.ID, l.WorkspaceID)
	}
	if at.Status != "invited" { // a link to recover by is for the one who had the passkeys
		return keystile.NewError(keystile.CodeConflict, "This link is for a member who is in already.",
			"Use its other button, which signs in as that member.")
	}
	return c.join(at, person)
}
