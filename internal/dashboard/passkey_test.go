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

func decode(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

// TestPasskeyLife: the operator's link, a passkey made with it, and signing in
// with that from then on; on both databases.
func TestPasskeyLife(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"SQLite", "PostgreSQL"} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			options := []keystiletest.Option{keystiletest.PublicURL(public)}
			if database == "PostgreSQL" {
				options = append(options, keystiletest.Database(pgtest.New(t)))
			}
			s := keystiletest.New(t, options...)
			ada, laptop := newGuest(t, s), newDevice()
			if r := ada.open(link(t, s, "")); r.to != "/account" {
				t.Errorf("a link leads to %q", r.to)
			}
			byLink := ada.cookie()
			ada.must(ada.get("/account"), http.StatusOK, "Add a passkey", "operator")
			ada.must(ada.get("/account/passkeys/new"), http.StatusOK, "Your name", "/assets/passkey.")
			ada.must(ada.post("/account/passkeys/options"), http.StatusBadRequest+22, "Say who you are")
			ada.must(ada.add(laptop, "person", "Ada"), http.StatusSeeOther, "/account?done=passkey")
			if ada.cookie() == byLink {
				t.Error("the session of the link goes on as the person's")
			}
			old := newGuest(t, s)
			old.cookies = map[string]*http.Cookie{"__Host-keystile": {Name: "__Host-keystile", Value: byLink}}
			if old.in() {
				t.Error("the link's session is still good")
			}
			ada.must(ada.get("/account"), http.StatusOK, "Signed in as Ada", "Laptop", "Never")
			ada.must(ada.post("/sign-out"), http.StatusSeeOther, "/sign-in")
			if ada.in() {
				t.Error("signed out and still in")
			}

			ada.must(ada.get("/sign-in"), http.StatusOK, "Sign in with a passkey", "/assets/passkey.")
			ada.must(ada.signIn(laptop), http.StatusSeeOther, "/account")
			page := ada.must(ada.get("/account"), http.StatusOK, "Signed in as Ada").body
			ada.must(ada.get("/w/"+s.Workspace+"/keys"), http.StatusOK) // an operator reaches every workspace
			wantAudited(t, s, keyring.OperatorWorkspace, "member.joined sign-in link Ada", "passkey.added Ada Laptop", "session.began Ada  passkey", "session.ended Ada")

			id := regexp.MustCompile(`/account/passkeys/(pk_[0-9a-z]+)/remove`).FindStringSubmatch(page)[1]
			ada.must(ada.post("/account/passkeys/"+id, "name", ""), http.StatusUnprocessableEntity, "A name is required")
			ada.must(ada.post("/account/passkeys/"+id, "name", "Work laptop"), http.StatusSeeOther)
			ada.must(ada.get("/account"), http.StatusOK, "Work laptop")
			ada.must(ada.get("/account/passkeys/"+id+"/remove"), http.StatusOK, "Work laptop", "It is your only one")
			ada.must(ada.post("/account/passkeys/"+id+"/remove"), http.StatusSeeOther)
			ada.must(ada.post("/account/passkeys/"+id+"/remove"), http.StatusNotFound)
			ada.must(newGuest(t, s).signIn(laptop), http.StatusForbidden)
			wantAudited(t, s, keyring.OperatorWorkspace, "passkey.renamed Ada Work laptop", "passkey.removed Ada", "session.refused nobody known passkey unknown passkey")
		})
	}
}

// TestPasskeyAdmin: whoever has the link into one workspace becomes its admin,
// and nothing beyond it.
func TestPasskeyAdmin(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	other := s.NewWorkspace("Other", "")
	g, d := newGuest(t, s), newDevice()
	g.open(link(t, s, s.Workspace))
	g.must(g.add(d, "person", "Bob"), http.StatusSeeOther)
	g.must(g.get("/w/"+s.Workspace+"/keys"), http.StatusOK)
	g.must(g.get("/w/"+other.ID+"/keys"), http.StatusNotFound)
	g.must(g.get("/w/"+keyring.OperatorWorkspace+"/keys"), http.StatusNotFound)
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
	owner, good := newGuest(t, s), newDevice()
	owner.open(link(t, s, ""))
	owner.must(owner.add(good, "person", "Ada"), http.StatusSeeOther)
	owner.must(newGuest(t, s).signIn(good), http.StatusSeeOther)

	options := func(g *guest) string { return g.must(g.post("/sign-in/passkey/options"), http.StatusOK).body }
	requestID := regexp.MustCompile(`[0-9a-f]{24}`)
	var same string
	for _, test := range []struct {
		name, why  string
		credential func(g *guest) string
	}{
		{"another key under the same ID", "passkey.refused Ada Laptop the signature", func(g *guest) string {
			forged := *newDevice()
			forged.key.ID, forged.auth.Options.UserHandle, forged.key.Counter = good.key.ID, good.auth.Options.UserHandle, 1000
			return forged.sign(t, options(g))
		}},
		{"unknown passkey", "session.refused nobody known passkey unknown passkey", func(g *guest) string {
			d := newDevice()
			d.auth.Options.UserHandle = good.auth.Options.UserHandle
			return d.sign(t, options(g))
		}},
		{"another person's handle", "passkey.refused Ada Laptop the signature", func(g *guest) string {
			d := *good
			d.auth.Options.UserHandle = []byte("per_somebody_else")
			d.key.Counter = 1000
			return d.sign(t, options(g))
		}},
		{"user not verified", "passkey.refused Ada Laptop the signature", func(g *guest) string {
			d := *good
			d.auth.Options.UserNotVerified, d.key.Counter = true, 1000
			return d.sign(t, options(g))
		}},
		{"another site", "passkey.refused Ada Laptop the signature", func(g *guest) string {
			d := *good
			d.rp.Origin, d.key.Counter = "https://keys.example.test.evil.example", 1000
			return d.sign(t, options(g))
		}},
		{"challenge of another browser", "passkey.refused Ada Laptop the signature", func(g *guest) string {
			d := *good
			d.key.Counter = 1000
			answer := d.sign(t, options(newGuest(t, s)))
			options(g)
			return answer
		}},
		{"copied passkey", "passkey.refused Ada Laptop its counter went back", func(g *guest) string {
			d := *good
			d.key.Counter = 0 // the one it has was used once
			return d.sign(t, options(g))
		}},
		{"no credential", "session.refused nobody known passkey unreadable", func(g *guest) string { options(g); return "{" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGuest(t, s)
			r := g.must(g.post("/sign-in/passkey", "credential", test.credential(g)), http.StatusForbidden, "Not signed in", "invitation")
			text := requestID.ReplaceAllString(r.body, "")
			if same == "" {
				same = text
			}
			if text != same {
				t.Errorf("this refusal can be told from others:\n%s\n%s", text, same)
			}
			if g.cookie() != "" {
				t.Error("a refusal sets a session's cookie")
			}
			wantAudited(t, s, keyring.OperatorWorkspace, test.why)
		})
	}

	t.Run("same answer twice", func(t *testing.T) {
		g := newGuest(t, s)
		ask := options(g)
		ceremony := g.cookies["__Host-keystile-passkey"]
		answer := good.sign(t, ask)
		g.must(g.post("/sign-in/passkey", "credential", answer), http.StatusSeeOther)
		again := newGuest(t, s)
		again.cookies[ceremony.Name] = ceremony
		again.must(again.post("/sign-in/passkey", "credential", answer), http.StatusUnauthorized, "Begin again")
		none := newGuest(t, s)
		none.must(none.post("/sign-in/passkey", "credential", answer), http.StatusUnauthorized, "Begin again")
	})
	t.Run("begun for making one", func(t *testing.T) {
		g := newGuest(t, s)
		g.must(g.signIn(good), http.StatusSeeOther)
		g.must(g.post("/account/passkeys/options"), http.StatusOK)
		c := *g.cookies["__Host-keystile-new-passkey"]
		c.Name = "__Host-keystile-passkey"
		g.cookies[c.Name] = &c
		g.must(g.post("/sign-in/passkey", "credential", good.sign(t, options(newGuest(t, s)))), http.StatusUnauthorized)
	})
	t.Run("made in another session", func(t *testing.T) {
		a, b, d := newGuest(t, s), newGuest(t, s), newDevice()
		a.must(a.signIn(good), http.StatusSeeOther)
		b.must(b.signIn(good), http.StatusSeeOther)
		answer := d.make(t, a.must(a.post("/account/passkeys/options"), http.StatusOK).body)
		c := a.cookies["__Host-keystile-new-passkey"]
		b.cookies[c.Name] = c
		b.must(b.post("/account/passkeys", "credential", answer), http.StatusUnauthorized)
	})
	t.Run("made without verification", func(t *testing.T) {
		g, d := newGuest(t, s), newDevice()
		g.must(g.signIn(good), http.StatusSeeOther)
		d.auth.Options.UserNotVerified = true
		g.must(g.add(d), http.StatusUnprocessableEntity, "cannot be used here")
	})
	t.Run("made twice", func(t *testing.T) {
		g := newGuest(t, s)
		g.must(g.signIn(good), http.StatusSeeOther)
		g.must(g.add(good), http.StatusConflict, "known here already")
	})
}

// TestPasskeysNeedAHostName: where browsers offer none, the pages say why.
func TestPasskeysNeedAHostName(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t) // at 127.0.0.1
	g := newGuest(t, s)
	r := g.must(g.get("/sign-in"), http.StatusOK)
	if strings.Contains(r.body, "Sign in with a passkey") {
		t.Error("offers what does not work")
	}
	g.must(g.post("/sign-in/passkey/options"), http.StatusConflict, "--public-url")
	g.open(link(t, s, ""))
	g.must(g.get("/account"), http.StatusOK, "--public-url")
	g.must(g.get("/account/passkeys/new"), http.StatusOK, "--public-url")
	g.must(g.post("/account/passkeys", "credential", "{}"), http.StatusConflict)
}

// TestAttemptsAreLimited: one address can't try for ever, and another is not
// kept out by it.
func TestAttemptsAreLimited(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.TrustedProxy("127.0.0.0/8"))
	from := func(address string) *guest {
		g := newGuest(t, s)
		g.header.Set("X-Forwarded-For", address)
		return g
	}
	owner, d := from("192.0.2.1"), newDevice()
	owner.open(link(t, s, ""))
	owner.must(owner.add(d, "person", "Ada"), http.StatusSeeOther)
	for range 20 { // of two tries each; what succeeds is not held against anyone
		owner.must(owner.signIn(d), http.StatusSeeOther)
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
		r, tries := reply{}, 0
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
	owner.must(owner.signIn(d), http.StatusSeeOther)
	good := from("192.0.2.2") // kept out of trying, not of a link that is good
	good.open(link(t, s, ""))
}
