package dashboard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// public is how people reach the servers of these tests: passkeys need a host name.
const public = "https://keys.example.test"

// guest is a browser that nobody is signed in to yet. Its cookies are kept by
// hand, since those of a server with TLS don't come back without it.
type guest struct {
	t       testing.TB
	s       *keystiletest.Server
	cookies map[string]*http.Cookie
	header  http.Header
	client  http.Client
}

func newGuest(t testing.TB, s *keystiletest.Server) *guest {
	return &guest{t: t, s: s, cookies: map[string]*http.Cookie{}, header: http.Header{}, client: http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// reply is what the server has answered.
type reply struct {
	status int
	header http.Header
	body   string
	to     string // where it leads
}

func (g *guest) do(method, path string, form url.Values) reply {
	g.t.Helper()
	r, err := http.NewRequest(method, g.s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		g.t.Fatal(err)
	}
	for name, values := range g.header {
		r.Header[name] = values
	}
	r.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range g.cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	res, err := g.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 {
			delete(g.cookies, c.Name)
			continue
		}
		if !c.HttpOnly || c.Secure != strings.HasPrefix(c.Name, "__Host-") || c.Path != "/" || c.Domain != "" {
			g.t.Errorf("cookie %s: %+v", c.Name, c)
		}
		g.cookies[c.Name] = c
	}
	return reply{res.StatusCode, res.Header, string(body), res.Header.Get("Location")}
}

func (g *guest) get(path string) reply { g.t.Helper(); return g.do(http.MethodGet, path, nil) }
func (g *guest) post(path string, pairs ...string) reply {
	g.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return g.do(http.MethodPost, path, form)
}

// must fails unless the answer has the status and holds the texts.
func (g *guest) must(r reply, status int, holds ...string) reply {
	g.t.Helper()
	if r.status != status {
		g.t.Fatalf("status %d, want %d, to %q: %s", r.status, status, r.to, r.body)
	}
	for _, s := range holds {
		if !strings.Contains(r.body+r.to, s) {
			g.t.Fatalf("there is no %q in %s%s", s, r.to, r.body)
		}
	}
	return r
}

// open spends a link.
func (g *guest) open(token string) reply {
	g.t.Helper()
	g.must(g.get("/link/"+token), http.StatusOK)
	return g.must(g.post("/link/"+token), http.StatusSeeOther)
}

// in tells whether somebody is signed in.
func (g *guest) in() bool {
	g.t.Helper()
	return g.get("/account").status == http.StatusOK
}

// cookie is the session's token.
func (g *guest) cookie() string {
	for _, name := range []string{"__Host-keystile", "keystile", "__Host-keystile-portal"} {
		if c, ok := g.cookies[name]; ok {
			return c.Value
		}
	}
	return ""
}

// link makes the link that keystile admin link would.
func link(t testing.TB, s *keystiletest.Server, workspace string) string {
	t.Helper()
	token, err := s.Keyring().CreateLink(context.Background(), keyring.Operator("test"), workspace)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// invite makes a member and a link that lets them in, by an actor.
func invite(t testing.TB, s *keystiletest.Server, by keyring.Actor, memberID string) string {
	t.Helper()
	token, _, err := s.Keyring().Invite(context.Background(), by, memberID, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func memberOf(t testing.TB, s *keystiletest.Server, workspace, name, role string) keystile.Member {
	t.Helper()
	m, err := s.Operator.CreateMember(context.Background(), workspace, keystile.CreateMember{Person: keystile.Person{Name: name}, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// actor is who a guest is in a workspace.
func (g *guest) actor(workspace string) keyring.Actor {
	g.t.Helper()
	s, err := g.s.Keyring().Session(context.Background(), g.cookie(), keyring.Origin{})
	if err != nil {
		g.t.Fatal(err)
	}
	a, err := g.s.Keyring().Enter(context.Background(), s, workspace)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

// device is an authenticator with one passkey.
type device struct {
	auth virtualwebauthn.Authenticator
	key  virtualwebauthn.Credential
	rp   virtualwebauthn.RelyingParty
}

func newDevice() *device {
	// The package drops leading zeros of a public key's coordinates, which real
	// authenticators don't: one key of 128 would be refused, and rightly so.
	const whole = 77 // bytes of a P-256 key in COSE form
	key := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	for len(key.Key.AttestationData()) != whole {
		key = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	return &device{
		auth: virtualwebauthn.NewAuthenticator(), key: key,
		rp: virtualwebauthn.RelyingParty{ID: "keys.example.test", Name: "Keystile", Origin: public},
	}
}

// make answers the options of a new passkey.
func (d *device) make(t testing.TB, options string) string {
	t.Helper()
	o, err := virtualwebauthn.ParseAttestationOptions(options)
	if err != nil {
		t.Fatalf("%v: %s", err, options)
	}
	var raw struct {
		PublicKey struct {
			User struct {
				ID string `json:"id"`
			} `json:"user"`
		} `json:"publicKey"`
	}
	if err := json.Unmarshal([]byte(options), &raw); err != nil {
		t.Fatal(err)
	}
	if d.auth.Options.UserHandle, err = decode(raw.PublicKey.User.ID); err != nil {
		t.Fatal(err)
	}
	return virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.key, *o)
}

// sign answers the options of a sign-in, with a counter that goes up.
func (d *device) sign(t testing.TB, options string) string {
	t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(options)
	if err != nil {
		t.Fatalf("%v: %s", err, options)
	}
	d.key.Counter++
	return virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.key, *o)
}

// add makes a passkey of the device for whoever is signed in.
func (g *guest) add(d *device, pairs ...string) reply {
	g.t.Helper()
	options := g.must(g.post("/account/passkeys/options", pairs...), http.StatusOK).body
	return g.post("/account/passkeys", append(pairs, "credential", d.make(g.t, options), "name", "Laptop")...)
}

// signIn signs in with the device's passkey.
func (g *guest) signIn(d *device) reply {
	g.t.Helper()
	options := g.must(g.post("/sign-in/passkey/options"), http.StatusOK).body
	return g.post("/sign-in/passkey", "credential", d.sign(g.t, options), "next", "/account")
}

// audited are the actions in a workspace's audit log, newest first.
func audited(t testing.TB, s *keystiletest.Server, workspace string) string {
	t.Helper()
	l, err := s.Operator.Audit(context.Background(), workspace, keystile.ListAudit{Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, e := range l.Data {
		b.WriteString(e.Action + " " + e.Actor.Name + " " + e.ObjectName + " " + e.Reason + "\n")
	}
	return b.String()
}

func wantAudited(t testing.TB, s *keystiletest.Server, workspace string, patterns ...string) {
	t.Helper()
	log := audited(t, s, workspace)
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)^" + p).MatchString(log) {
			t.Errorf("no entry %q in:\n%s", p, log)
		}
	}
}
