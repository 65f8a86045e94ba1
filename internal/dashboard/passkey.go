package dashboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

// newWebAuthn returns what checks passkeys, nil where browsers offer none: they
// belong to a host name, and to TLS or the reader's own machine (Web
// Authentication Level 3, section 5.1.3, and Secure Contexts, section 3.1).
func newWebAuthn(address, product string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	host := u.Hostname()
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if net.ParseIP(host) != nil || u.Scheme != "https" && !local {
		return nil, nil //nolint:nilnil // none is not an error
	}
	required := protocol.VerificationRequired
	return webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: product, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(), ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: required,
		},
	})
}

// holder is a person as the ceremony knows them.
type holder struct {
	id, name    string
	credentials []webauthn.Credential
}

func (h holder) WebAuthnID() []byte                         { return []byte(h.id) }
func (h holder) WebAuthnName() string                       { return h.name }
func (h holder) WebAuthnDisplayName() string                { return h.name }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.credentials }

// credentialOf reads what is kept of a passkey.
func credentialOf(p keyring.Passkey) (c webauthn.Credential, err error) {
	return c, json.Unmarshal([]byte(p.Credential), &c)
}

// noPasskeys refuses where there can be none.
func (v *visit) noPasskeys() error {
	if v.passkeys != nil {
		return nil
	}
	fix := "Ask the operator of this service for such an address."
	if v.near() {
		fix = "If you run this server, open it at such an address, or name one with --public-url."
	}
	return keystile.NewError(keystile.CodeConflict, "Passkeys don’t work at this address: browsers want a host name with TLS, or localhost.", fix)
}

// begin notes a ceremony under way in the browser's cookie.
func (v *visit) begin(purpose string, data any) (token string, err error) {
	text, err := json.Marshal(data)
	if err != nil {
		return "", err
	}
	if token, err = v.keyring().BeginCeremony(v.r.Context(), purpose, string(text)); err != nil {
		return "", err
	}
	v.ceremonyCookie(purpose, token, int(keyring.CeremonyLife.Seconds()))
	return token, nil
}

// ceremony ends the ceremony that is under way in this browser, whatever
// comes of it: a second try begins anew.
func (v *visit) ceremony(purpose string, data any) error {
	c, err := v.r.Cookie(v.ceremonyName(purpose))
	if err != nil {
		return stale()
	}
	v.ceremonyCookie(purpose, "", -1)
	text, _, err := v.keyring().EndCeremony(v.r.Context(), purpose, c.Value)
	if errors.Is(err, keystile.CodeNotFound) {
		return stale()
	} else if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), data)
}

func stale() error {
	return keystile.NewError(keystile.CodeSessionEnded, "This was begun too long ago, in another window, or it was done already.",
		"Begin again.")
}

func (d *Dashboard) ceremonyName(purpose string) string {
	name := "keystile-" + strings.ReplaceAll(purpose, "_", "-")
	if d.secure {
		return "__Host-" + name
	}
	return name
}

func (v *visit) ceremonyCookie(purpose, token string, maxAge int) {
	http.SetCookie(v.w, &http.Cookie{ //nolint:gosec // Secure wherever there is TLS
		Name: v.ceremonyName(purpose), Value: token, Path: "/", MaxAge: maxAge, HttpOnly: true,
		Secure: v.secure, SameSite: http.SameSiteLaxMode, // Strict is not sent on the way back from a provider
	})
}

// options answers a script with what the authenticator is to be asked.
func (v *visit) options(o any) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	_, _ = v.w.Write(text) // fails when the client has gone
	return nil
}

// passkeyOptions begins a sign-in with a passkey. Nobody is named: the
// authenticator knows whose it is.
func (v *visit) passkeyOptions() error {
	if err := errors.Join(v.noPasskeys(), v.attempt()); err != nil {
		return err
	}
	ask, session, err := v.passkeys.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return err
	}
	if _, err := v.begin(keyring.CeremonyPasskey, session); err != nil {
		return err
	}
	return v.options(ask)
}

// signInPasskey ends a sign-in with a passkey.
func (v *visit) signInPasskey() error {
	if err := errors.Join(v.noPasskeys(), v.attempt()); err != nil {
		return err
	}
	var session webauthn.SessionData
	if err := v.ceremony(keyring.CeremonyPasskey, &session); err != nil {
		return err
	}
	passkey, now, why, err := v.assertion(session)
	if err != nil {
		return err
	}
	token := ""
	if why == "" {
		text, err := json.Marshal(now)
		if err != nil {
			return err
		}
		token, err = v.keyring().SignInPasskey(v.r.Context(), passkey, string(text), v.session, entry.Origin(v.r.Context()))
		if errors.Is(err, keystile.CodeNotFound) {
			why = "no place in any workspace, or used twice at once"
		} else if err != nil {
			return err
		}
	}
	if why != "" {
		return v.refusedPasskey(passkey, why)
	}
	return v.enter(token, local(v.r.PostFormValue("next")))
}

// assertion checks what an authenticator has signed. Why is empty when it is good.
func (v *visit) assertion(session webauthn.SessionData) (passkey keyring.Passkey, now *webauthn.Credential, why string, err error) {
	response, err := protocol.ParseCredentialRequestResponseBytes([]byte(v.r.PostFormValue("credential")))
	if err != nil {
		return passkey, nil, "unreadable", nil //nolint:nilerr // what was sent is at fault, and this says so
	}
	passkey, err = v.keyring().Passkey(v.r.Context(), response.RawID)
	if errors.Is(err, keystile.CodeNotFound) {
		return passkey, nil, "unknown passkey", nil
	} else if err != nil {
		return passkey, nil, "", err
	}
	known, err := credentialOf(passkey)
	if err != nil {
		return passkey, nil, "", err
	}
	now, err = v.passkeys.ValidateDiscoverableLogin(func(_, _ []byte) (webauthn.User, error) {
		return holder{id: passkey.PersonID, credentials: []webauthn.Credential{known}}, nil
	}, session, response)
	switch {
	case err != nil:
		return passkey, nil, "the signature or what was signed is wrong", nil //nolint:nilerr // as above
	case now.Authenticator.CloneWarning:
		// The counter did not go up: two authenticators have this key.
		return passkey, nil, "its counter went back: the passkey may have been copied", nil
	}
	return passkey, now, "", nil
}

// refusedPasskey is the one answer to every passkey that does not open.
func (v *visit) refusedPasskey(p keyring.Passkey, why string) error {
	var err error
	if p.ID != "" {
		err = v.keyring().NotePasskeyRefusal(v.r.Context(), p, why, entry.Origin(v.r.Context()))
	} else {
		err = v.keyring().NoteRefusal(v.r.Context(), keyring.SessionPasskey, why, entry.Origin(v.r.Context()))
	}
	if err != nil {
		return err
	}
	return notIn("This passkey does not open anything here.")
}

// notIn refuses a sign-in, with the same words whether there is such an
// account or not.
func notIn(detail string) error {
	e := keystile.NewError(keystile.CodeInsufficientPermission, detail,
		"Ask an administrator of your workspace for an invitation, or for a new link if you had one.",
		"Try another way to sign in.")
	e.Title = "Not signed in"
	return e
}

// enter goes on in a session that has just begun.
func (v *visit) enter(token, next string) error {
	s, err := v.keyring().Session(v.r.Context(), token, entry.Origin(v.r.Context()))
	if err != nil {
		return err
	}
	v.session = s
	v.succeeded()
	v.setCookie(token, s)
	return v.to(next)
}

// making is the making of a passkey under way.
type making struct {
	Session   webauthn.SessionData `json:"webauthn"`
	SessionID string               `json:"session"` // that of the person
	PersonID  string               `json:"person"`
	Name      string               `json:"name"`
}

// newPasskeyPage is the form of a new passkey.
type newPasskeyPage struct {
	Possible bool
	Near     bool // the reader is likely to be who runs the server
	Stranger bool // who came by the operator's link and has no name here yet
	Home     string
	Person   string
	Name     string
	Problem  *keystile.Error
}

func (v *visit) newPasskey() error { return v.passkeyForm(nil) }

func (v *visit) passkeyForm(problem *keystile.Error) error {
	page := newPasskeyPage{
		Possible: v.passkeys != nil, Near: v.near(), Stranger: v.session.Person.ID == "", Home: v.session.Workspace,
		Person: v.r.PostFormValue("person"), Name: v.r.PostFormValue("name"), Problem: problem,
	}
	status := http.StatusOK
	if problem != nil {
		status = problem.Status
	}
	v.show(status, "passkey_new", "Add a passkey", page)
	return nil
}

// newPasskeyOptions begins the making of a passkey.
func (v *visit) newPasskeyOptions() error {
	if err := v.noPasskeys(); err != nil {
		return err
	}
	id, name, err := v.keyring().NewPasskey(v.session, v.r.PostFormValue("person"))
	if err != nil {
		return err
	}
	own, err := v.keyring().Passkeys(v.r.Context(), v.session)
	if err != nil {
		return err
	}
	h := holder{id: id, name: name}
	for _, p := range own {
		c, err := credentialOf(p)
		if err != nil {
			return err
		}
		h.credentials = append(h.credentials, c)
	}
	ask, session, err := v.passkeys.BeginRegistration(h, webauthn.WithExclusions(webauthn.Credentials(h.credentials).CredentialDescriptors()))
	if err != nil {
		return err
	}
	if _, err := v.begin(keyring.CeremonyNewPasskey, making{*session, v.session.ID, id, name}); err != nil {
		return err
	}
	return v.options(ask)
}

// addPasskey keeps a passkey that was made.
func (v *visit) addPasskey() error {
	if err := v.noPasskeys(); err != nil {
		return err
	}
	if v.r.PostFormValue("credential") == "" { // sent without the script
		return v.passkeyForm(v.correctable(keystile.NewError(keystile.CodeInvalidField,
			"Your browser did not make a passkey. This page needs JavaScript.")))
	}
	var m making
	if err := v.ceremony(keyring.CeremonyNewPasskey, &m); err != nil {
		return err
	}
	if m.SessionID != v.session.ID {
		return stale()
	}
	response, err := protocol.ParseCredentialCreationResponseBytes([]byte(v.r.PostFormValue("credential")))
	var made *webauthn.Credential
	if err == nil {
		made, err = v.passkeys.CreateCredential(holder{id: m.PersonID, name: m.Name}, m.Session, response)
	}
	if err != nil {
		return v.passkeyForm(v.correctable(keystile.NewError(keystile.CodeInvalidField,
			"The passkey that your browser made cannot be used here: it must be kept on a device that asks for a PIN, a fingerprint or a face.")))
	}
	text, err := json.Marshal(made)
	if err != nil {
		return err
	}
	token, err := v.keyring().AddPasskey(v.r.Context(), v.session, keyring.Passkey{
		PersonID: m.PersonID, Name: v.r.PostFormValue("name"), CredentialID: bytes.Clone(made.ID), Credential: string(text),
	}, m.Name)
	if problem := v.correctable(err); problem != nil {
		return v.passkeyForm(problem)
	} else if err != nil {
		return err
	}
	if token != "" {
		return v.enter(token, "/account?done=passkey")
	}
	return v.to("/account?done=passkey")
}
