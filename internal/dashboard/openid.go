package dashboard

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

// OpenID says which OpenID provider people may sign in with. Without an issuer
// there is none.
type OpenID struct {
	Issuer   string
	ClientID string
	Secret   string // "" for a public client, which PKCE alone protects
}

const (
	// providerTimeout bounds each request to the provider.
	providerTimeout = 10 * time.Second
	// clockSkew is how far the provider's clock may be behind ours.
	clockSkew = time.Minute
	// callback is the path that the provider leads back to.
	callback = "/sign-in/openid/callback"
)

// provider is the OpenID provider, once it has been reached.
type provider struct {
	OpenID

	redirect string
	client   *http.Client
	log      *slog.Logger
	found    atomic.Pointer[discovered]
}

// discovered is what a provider says about itself.
type discovered struct {
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	namesIss bool // in the answer (RFC 9207)
}

func newProvider(o OpenID, url string, log *slog.Logger) *provider {
	if o.Issuer == "" {
		return nil
	}
	return &provider{OpenID: o, redirect: url + callback, log: log, client: &http.Client{
		Timeout:       providerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Run asks the OpenID provider about itself, until it has answered. A provider
// that is down keeps nobody from signing in another way.
func (d *Dashboard) Run(ctx context.Context) {
	if d.provider == nil {
		return
	}
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := d.provider.discover(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		d.provider.log.Warn("the OpenID provider cannot be reached; trying again", "issuer", d.provider.Issuer, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (p *provider) discover(ctx context.Context) error {
	said, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.Issuer)
	if err != nil {
		return err
	}
	var more struct {
		Methods  []string `json:"token_endpoint_auth_methods_supported"`
		NamesIss bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := said.Claims(&more); err != nil {
		return err
	}
	endpoint := said.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader // the default (OpenID Connect Discovery, section 3)
	if p.Secret == "" || len(more.Methods) > 0 && !slices.Contains(more.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	p.found.Store(&discovered{
		oauth: oauth2.Config{
			ClientID: p.ClientID, ClientSecret: p.Secret, Endpoint: endpoint, RedirectURL: p.redirect,
			Scopes: []string{oidc.ScopeOpenID, "profile", "email"},
		},
		verifier: said.Verifier(&oidc.Config{ClientID: p.ClientID}),
		namesIss: more.NamesIss,
	})
	return nil
}

// going is a sign-in at the provider under way. State, nonce and verifier
// follow from the token in the browser's cookie, so that none of them is kept.
type going struct {
	Next   string    `json:"next"`
	Again  bool      `json:"again,omitempty"`
	Invite string    `json:"invite,omitempty"` // keyring.InviteRef of the invitation to accept
	Begun  time.Time `json:"begun"`
}

func derived(token, use string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(use)) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// toProvider leads to the provider's sign-in page.
func (v *visit) toProvider() error {
	q := v.r.URL.Query()
	return v.leave(going{Next: local(q.Get("next")), Again: q.Get("again") != "" && v.known()})
}

// acceptAtProvider leads there to accept an invitation.
func (v *visit) acceptAtProvider() error {
	token := v.r.PathValue("token")
	if _, err := v.keyring().Link(v.r.Context(), token); err != nil {
		return v.badLink(err)
	}
	// The provider may vouch without asking, and who comes from elsewhere has
	// not read what they would join. Old browsers don't say where from.
	if site := v.r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return v.to("/link/" + token)
	}
	return v.leave(going{Next: "/", Invite: keyring.InviteRef(token)})
}

func (v *visit) leave(g going) error {
	if v.provider == nil {
		return unknownPage()
	}
	if err := v.attempt(); err != nil {
		return err
	}
	found := v.provider.found.Load()
	if found == nil {
		return keystile.NewError(keystile.CodeUnavailable, "The sign-in service of your organisation cannot be reached at the moment.",
			"Try again in a minute.", "Sign in another way.")
	}
	g.Begun = time.Now().UTC()
	token, err := v.begin(keyring.CeremonyOIDC, g)
	if err != nil {
		return err
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(derived(token, "verifier")), oidc.Nonce(derived(token, "nonce"))}
	if g.Again {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	} else {
		// Asked for, the provider says when it had proof (OpenID Connect Core,
		// section 2, auth_time), by which it is known how fresh the session is.
		age := strconv.Itoa(int(v.door.Profile.SignIn.Session.Seconds()))
		options = append(options, oauth2.SetAuthURLParam("max_age", age))
	}
	return v.to(found.oauth.AuthCodeURL(derived(token, "state"), options...))
}

// fromProvider ends a sign-in at the provider.
func (v *visit) fromProvider() error {
	if v.provider == nil {
		return unknownPage()
	}
	if err := v.attempt(); err != nil {
		return err
	}
	// An answer to a question that this browser did not ask ends nothing.
	c, err := v.r.Cookie(v.ceremonyName(keyring.CeremonyOIDC))
	if err != nil || subtle.ConstantTimeCompare([]byte(derived(c.Value, "state")), []byte(v.r.URL.Query().Get("state"))) != 1 {
		return v.refusedOpenID("state", stale())
	}
	var g going
	if err := v.ceremony(keyring.CeremonyOIDC, &g); err != nil {
		return v.refusedOpenID("state", err)
	}
	who, why, err := v.identity(g, c.Value)
	if err != nil {
		return err
	}
	if why != "" {
		return v.refusedOpenID(why, notIn("The sign-in service of your organisation did not vouch for you."))
	}
	token, err := v.keyring().SignInOpenID(v.r.Context(), who, g.Invite, v.session, entry.Origin(v.r.Context()))
	if errors.Is(err, keystile.CodeNotFound) {
		return v.refusedOpenID("no place in any workspace", notIn("You have no place here, or the invitation is not good any more."))
	} else if err != nil {
		return err
	}
	return v.enter(token, g.Next)
}

// refusedOpenID notes why nobody was let in, and returns what to tell them.
func (v *visit) refusedOpenID(why string, tell error) error {
	if err := v.keyring().NoteRefusal(v.r.Context(), keyring.SessionOIDC, why, entry.Origin(v.r.Context())); err != nil {
		return err
	}
	return tell
}

// identity asks the provider who has come back with its answer. Why says what
// is wrong with the answer.
func (v *visit) identity(g going, token string) (who keyring.OpenID, why string, err error) {
	p := v.provider
	found := p.found.Load()
	if found == nil {
		return who, "the provider is not known yet", nil
	}
	q := v.r.URL.Query()
	// Mix-up of providers: RFC 9207, section 2.4.
	if iss := q.Get("iss"); iss != p.Issuer && (iss != "" || found.namesIss) {
		return who, "wrong issuer", nil
	}
	if q.Get("error") != "" {
		return who, "the provider refused", nil
	}
	ctx := oidc.ClientContext(v.r.Context(), p.client)
	answer, err := found.oauth.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(derived(token, "verifier")))
	if err != nil {
		code := "" // the rest of the answer may hold what is not for logs
		if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			code = refusal.ErrorCode
		}
		p.log.Warn("the OpenID provider did not take a code", "issuer", p.Issuer, "code", code)
		return who, "the code was not taken", nil
	}
	raw, _ := answer.Extra("id_token").(string)
	id, err := found.verifier.Verify(ctx, raw)
	if err != nil {
		p.log.Warn("the OpenID provider sent a token that does not hold", "issuer", p.Issuer, "error", err)
		return who, "the token does not hold", nil
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(derived(token, "nonce"))) != 1 {
		return who, "wrong nonce", nil
	}
	var claims struct {
		Party  string      `json:"azp"`
		AuthAt json.Number `json:"auth_time"`
		Name   string      `json:"name"`
		Email  string      `json:"email"`
	}
	if unreadable := id.Claims(&claims); unreadable != nil || id.Subject == "" {
		return who, "unreadable claims", nil //nolint:nilerr // the token is at fault, and this says so
	}
	if len(id.Audience) > 1 && claims.Party != p.ClientID {
		return who, "issued to another party", nil
	}
	who = keyring.OpenID{Issuer: id.Issuer, Subject: id.Subject, Name: claims.Name, Email: claims.Email, AuthAt: instant(claims.AuthAt)}
	if g.Again && who.AuthAt.Before(g.Begun.Add(-clockSkew)) {
		return who, "no fresh proof", nil
	}
	return who, "", nil
}

// instant reads a number of seconds since 1970, the zero time if it is none.
func instant(n json.Number) time.Time {
	s, err := n.Float64()
	if err != nil || s <= 0 || s > math.MaxInt32*100 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0)
}
