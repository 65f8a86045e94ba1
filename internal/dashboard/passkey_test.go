package dashboard_test

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

// TestPasskeyLife: the operator's link, a passkey made with it, and signing in
// with that from then on; on both databases.
func TestPasskeyLife(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"SQLite", "PostgreSQL"} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			options := []keystiletest.Option{keystiletest.PublicURL(public)}
			if database == "PostgreSQL" {
				key := base64.StdEncoding.EncodeToString([]byte("thirty-two bytes, a master's key"))
				options = append(options, keystiletest.Database(pgtest.New(t)), keystiletest.MasterKey(key))
			}
			s := keystiletest.New(t, options...)
			heard := hears(t, s, keyring.OperatorWorkspace)
			ada, laptop := newBrowser(t, s), newDevice()
			// To the keys of the only workspace, and a word about the next time.
			ada.enter(s.SignInLink(""))
			ada.get(ada.get(ada.get("/").is(http.StatusSeeOther).to).is(http.StatusSeeOther).to).is(http.StatusOK).shows("No API keys yet").one("a", "Add a passkey")
			byLink := ada.token()
			ada.get("/account").is(http.StatusOK).holds("Add a passkey", "operator")
			ada.get("/account/passkeys/new").is(http.StatusOK).holds("Your name", "/assets/passkey.")
			ada.post("/account/passkeys/options").is(http.StatusBadRequest + 22).holds("Say who you are")
			ada.add(laptop, "person", "Ada").is(http.StatusSeeOther).holds("/account?done=passkey")
			if ada.token() == byLink {
				t.Error("the session of the link goes on as the person's")
			}
			old := newBrowser(t, s)
			old.cookies = map[string]*http.Cookie{"__Host-keystile": {Name: "__Host-keystile", Value: byLink}}
			if old.in() {
				t.Error("the link's session is still good")
			}
			ada.get("/account").is(http.StatusOK).holds("Signed in as Ada", "Laptop", "Never")
			ada.get("/w/" + s.Workspace + "/keys").is(http.StatusOK).lacks("Add a passkey")
			ada.post("/sign-out").is(http.StatusSeeOther).holds("/sign-in")
			if ada.in() {
				t.Error("signed out and still in")
			}

			ada.get("/sign-in").is(http.StatusOK).holds("Sign in with a passkey", "/assets/passkey.")
			ada.signIn(laptop).is(http.StatusSeeOther).holds("/account")
			page := ada.get("/account").is(http.StatusOK).holds("Signed in as Ada").body
			ada.get("/w/" + s.Workspace + "/keys").is(http.StatusOK) // an operator reaches every workspace
			wantAudited(t, s, keyring.OperatorWorkspace, "member.joined sign-in link Ada", "passkey.added Ada Laptop", "session.began Ada  passkey", "session.ended Ada")

			id := regexp.MustCompile(`/account/passkeys/(pk_[0-9a-z]+)/remove`).FindStringSubmatch(page)[1]
			ada.post("/account/passkeys/"+id, "name", "").is(http.StatusUnprocessableEntity).holds("A name is required")
			ada.post("/account/passkeys/"+id, "name", "Work laptop").is(http.StatusSeeOther)
			ada.get("/account").is(http.StatusOK).holds("Work laptop")
			ada.get("/account/passkeys/"+id+"/remove").is(http.StatusOK).holds("Work laptop", "It is your only one")
			ada.post("/account/passkeys/" + id + "/remove").is(http.StatusSeeOther)
			ada.post("/account/passkeys/" + id + "/remove").is(http.StatusNotFound)
			newBrowser(t, s).signIn(laptop).is(http.StatusForbidden)
			wantAudited(t, s, keyring.OperatorWorkspace, "passkey.renamed Ada Work laptop", "passkey.removed Ada", "session.refused nobody known passkey unknown passkey")
			heard("link.created", "member.joined", "passkey.added", "session.began", "session.ended", "passkey.renamed", "passkey.removed", "session.refused")
		})
	}
}

// TestPasskeyAdmin: whoever has the link into one workspace becomes its admin,
// and nothing beyond it.
func TestPasskeyAdmin(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	other := s.NewWorkspace("Other", "")
	g, d := newBrowser(t, s), newDevice()
	g.enter(s.SignInLink(s.Workspace))
	g.add(d, "person", "Bob").is(http.StatusSeeOther)
	g.get("/w/" + s.Workspace + "/keys").is(http.StatusOK)
	g.get("/w/" + other.ID + "/keys").is(http.StatusNotFound)
	g.get("/w/" + keyring.OperatorWorkspace + "/keys").is(http.StatusNotFound)
	a := g.actor(s.Workspace)
	if a.Everywhere() || !a.May("api.member.create") || a.May("platform.portal") {
		t.Errorf("the admin of a workspace may too much or too little")
	}
}

// TestPasskeyRefused: every answer to an authenticator that does not open is
// the same page, and each is audited.
func TestPasskeyRefused(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	heard := hears(t, s, keyring.OperatorWorkspace)
	owner, good := newBrowser(t, s), newDevice()
	owner.enter(s.SignInLink(""))
	owner.add(good, "person", "Ada").is(http.StatusSeeOther)
	newBrowser(t, s).signIn(good).is(http.StatusSeeOther)

	options := func(g *browser) string { return g.post("/sign-in/passkey/options").is(http.StatusOK).body }
	requestID := regexp.MustCompile(`[0-9a-f]{24}`)
	var same string
	for _, test := range []struct {
		name, why  string
		credential func(g *browser) string
	}{
		{"another key under the same ID", "passkey.refused Ada Laptop the signature", func(g *browser) string {
			forged := *newDevice()
			forged.key.ID, forged.auth.Options.UserHandle, forged.key.Counter = good.key.ID, good.auth.Options.UserHandle, 1000
			return forged.sign(t, options(g))
		}},
		{"unknown passkey", "session.refused nobody known passkey unknown passkey", func(g *browser) string {
			d := newDevice()
			d.auth.Options.UserHandle = good.auth.Options.UserHandle
			return d.sign(t, options(g))
		}},
		{"another person's handle", "passkey.refused Ada Laptop the signature", func(g *browser) string {
			d := *good
			d.auth.Options.UserHandle = []byte("per_somebody_else")
			d.key.Counter = 1000
			return d.sign(t, options(g))
		}},
		{"user not verified", "passkey.refused Ada Laptop the signature", func(g *browser) string {
			d := *good
			d.auth.Options.UserNotVerified, d.key.Counter = true, 1000
			return d.sign(t, options(g))
		}},
		{"another site", "passkey.refused Ada Laptop the signature", func(g *browser) string {
			d := *good
			d.rp.Origin, d.key.Counter = "https://keys.example.test.evil.example", 1000
			return d.sign(t, options(g))
		}},
		{"challenge of another browser", "passkey.refused Ada Laptop the signature", func(g *browser) string {
			d := *good
			d.key.Counter = 1000
			answer := d.sign(t, options(newBrowser(t, s)))
			options(g)
			return answer
		}},
		{"copied passkey", "passkey.refused Ada Laptop its counter went back", func(g *browser) string {
			d := *good
			d.key.Counter = 0 // the one it has was used once
			return d.sign(t, options(g))
		}},
		{"no credential", "session.refused nobody known passkey unreadable", func(g *browser) string { options(g); return "{" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newBrowser(t, s)
			r := g.post("/sign-in/passkey", "credential", test.credential(g)).is(http.StatusForbidden).holds("Not signed in", "invitation")
			text := requestID.ReplaceAllString(r.body, "")
			if same == "" {
				same = text
			}
			if text != same {
				t.Errorf("this refusal can be told from others:\n%s\n%s", text, same)
			}
			if g.token() != "" {
				t.Error("a refusal sets a session's cookie")
			}
			wantAudited(t, s, keyring.OperatorWorkspace, test.why)
		})
	}

	heard("passkey.refused", "session.refused")

	t.Run("same answer twice", func(t *testing.T) {
		g := newBrowser(t, s)
		ask := options(g)
		ceremony := g.cookies["__Host-keystile-passkey"]
		answer := good.sign(t, ask)
		g.post("/sign-in/passkey", "credential", answer).is(http.StatusSeeOther)
		again := newBrowser(t, s)
		again.cookies[ceremony.Name] = ceremony
		again.post("/sign-in/passkey", "credential", answer).is(http.StatusUnauthorized).holds("Begin again")
		none := newBrowser(t, s)
		none.post("/sign-in/passkey", "credential", answer).is(http.StatusUnauthorized).holds("Begin again")
	})
	t.Run("begun for making one", func(t *testing.T) {
		g := newBrowser(t, s)
		g.signIn(good).is(http.StatusSeeOther)
		g.post("/account/passkeys/options").is(http.StatusOK)
		c := *g.cookies["__Host-keystile-new-passkey"]
		c.Name = "__Host-keystile-passkey"
		g.cookies[c.Name] = &c
		g.post("/sign-in/passkey", "credential", good.sign(t, options(newBrowser(t, s)))).is(http.StatusUnauthorized)
	})
	t.Run("made in another session", func(t *testing.T) {
		a, b, d := newBrowser(t, s), newBrowser(t, s), newDevice()
		a.signIn(good).is(http.StatusSeeOther)
		b.signIn(good).is(http.StatusSeeOther)
		answer := d.make(t, a.post("/account/passkeys/options").is(http.StatusOK).body)
		c := a.cookies["__Host-keystile-new-passkey"]
		b.cookies[c.Name] = c
		b.post("/account/passkeys", "credential", answer).is(http.StatusUnauthorized)
	})
	t.Run("made without verification", func(t *testing.T) {
		g, d := newBrowser(t, s), newDevice()
		g.signIn(good).is(http.StatusSeeOther)
		d.auth.Options.UserNotVerified = true
		g.add(d).is(http.StatusUnprocessableEntity).holds("cannot be used here")
	})
	t.Run("made twice", func(t *testing.T) {
		g := newBrowser(t, s)
		g.signIn(good).is(http.StatusSeeOther)
		g.add(good).is(http.StatusConflict).holds("known here already")
	})
}

// TestPasskeysNeedAHostName: where browsers offer none, the pages say why.
func TestPasskeysNeedAHostName(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t) // at 127.0.0.1
	g := newBrowser(t, s)
	r := g.get("/sign-in").is(http.StatusOK)
	if strings.Contains(r.body, "Sign in with a passkey") {
		t.Error("offers what does not work")
	}
	g.post("/sign-in/passkey/options").is(http.StatusConflict).holds("--public-url")
	g.enter(s.SignInLink(""))
	g.get("/account").is(http.StatusOK).holds("--public-url")
	g.get("/account/passkeys/new").is(http.StatusOK).holds("--public-url")
	g.post("/account/passkeys", "credential", "{}").is(http.StatusConflict)
}

// TestAttemptsAreLimited: one address can't try for ever, and another is not
// kept out by it.
func TestAttemptsAreLimited(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.TrustedProxy("127.0.0.0/8"))
	from := func(address string) *browser {
		g := newBrowser(t, s)
		g.header.Set("X-Forwarded-For", address)
		return g
	}
	owner, d := from("192.0.2.1"), newDevice()
	owner.enter(s.SignInLink(""))
	owner.add(d, "person", "Ada").is(http.StatusSeeOther)
	for range 20 { // of two tries each; what succeeds is not held against anyone
		owner.signIn(d).is(http.StatusSeeOther)
	}
	for _, c := range []struct {
		path string
		from []string // in turn
	}{
		{"/link/nonsense", []string{"192.0.2.2"}},
		{"/sign-in/passkey", []string{"192.0.2.3"}},
		// Two addresses of one household, which by themselves had 60 tries.
		{"/sign-in/passkey/options", []string{"2001:db8::1", "2001:db8::ffff:1"}},
	} {
		r, tries := &page{}, 0
		for r.status != http.StatusTooManyRequests && tries < 60 {
			r = from(c.from[tries%len(c.from)]).post(c.path)
			tries++
		}
		if r.status != http.StatusTooManyRequests || tries <= 30 {
			t.Fatalf("%s: try %d from %v: %d", c.path, tries, c.from, r.status)
		}
		if r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "Too many attempts") {
			t.Errorf("%s: %v", r.body, r.header)
		}
	}
	owner.signIn(d).is(http.StatusSeeOther)
	good := from("192.0.2.2") // kept out of trying, not of a link that is good
	good.enter(s.SignInLink(""))
}
