package dashboard_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// waiting are the fields of the form that waits for a sign-in.
func waiting(p *page) (pairs []string) {
	p.t.Helper()
	found := p.all("form", func(n *html.Node) bool { return attribute(n, "id") == "sent-form" })
	if len(found) != 1 {
		p.t.Fatalf("%s: no form waits: %s", p.what, p.words())
	}
	for n := range found[0].Descendants() {
		if n.Type == html.ElementNode && n.Data == "input" {
			pairs = append(pairs, attribute(n, "name"), attribute(n, "value"))
		}
	}
	return pairs
}

// What was typed is not lost when the session went stale, or ended, while the
// form was open: the page asks for a sign-in on the spot, and the form goes on.
func TestFormWaitsForSignIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.Dir(dir))
	db := openDatabase(t, dir)
	ada, _ := member(t, s, s.Workspace, "Ada", "admin")
	d := newDevice()
	ada.add(d).is(http.StatusSeeOther)
	base := "/w/" + s.Workspace
	for _, c := range []struct {
		name string
		end  func()
		want []string
	}{
		{"gone stale", func() {
			if err := age(db); err != nil {
				t.Fatal(err)
			}
		}, []string{"It has been a while", "Sign in again"}},
		{"signed out", func() { ada.post("/sign-out").is(http.StatusSeeOther) }, []string{"You are not signed in any more", "Sign in"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			typed := []string{"name", "Nightly " + c.name, "description", "<b>\"quoted\"</b> and more", "nonce", "of " + c.name}
			c.end()
			ada.header.Set("Referer", s.URL+base+"/keys/new?like=x")
			p := ada.post(base+"/keys", typed...).is(http.StatusUnauthorized).shows(append(c.want, "Nothing was done yet", "Continue")...)
			ada.header.Del("Referer")
			p.one("button", "Sign in with a passkey")
			p.one("a", "Go back without it")
			p.holds(base+"/keys/new?like=x", "data-then=\"sent-form\"")
			if got := waiting(p); !slices.Equal(pairs(got), pairs(typed)) {
				t.Fatalf("it holds %q, not %q", got, typed)
			}
			if got := ada.post(base+"/keys", waiting(p)...); got.status != http.StatusUnauthorized {
				t.Errorf("done without a proof: %d", got.status)
			}
			ada.signIn(d).is(http.StatusSeeOther)
			ada.post(base+"/keys", waiting(p)...).is(http.StatusCreated).shows("Nightly "+c.name, "Save your API key")
		})
	}
	// What is too long for a page is not repeated, and nothing is of a sign-in.
	newBrowser(t, s).post(base+"/keys", "name", strings.Repeat("x", 9<<10)).is(http.StatusUnauthorized).shows("fill in the form again").lacks("xxxx", "Continue")
	newBrowser(t, s).post(base+"/webhook-debugger", "headers", "webhook-id: m", "body", "{}", "secret", "whsec_secretive").
		is(http.StatusUnauthorized).shows("Continue").lacks("secretive")
	newBrowser(t, s).post("/account/passkeys", "credential", "secretive").is(http.StatusUnauthorized).lacks("secretive")
}

// pairs makes pairs of names and values in turn, in order.
func pairs(in []string) (out []string) {
	for p := range slices.Chunk(in, 2) {
		out = append(out, strings.Join(p, "="))
	}
	slices.Sort(out)
	return out
}

// Whoever came by an invitation and has no passkey is told on every page, and
// asked before they sign out for good.
func TestNoWayBack(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	m := newMember(t, s, s.Workspace, "Bea", "viewer")
	token := invite(t, s, keyring.Operator("test"), m)
	newBrowser(t, s).get("/link/" + token).shows("Then add a passkey")
	bea := newBrowser(t, s).enter(token)
	keys := "/w/" + s.Workspace + "/keys"
	bea.get(keys).holds("You can’t come back without a passkey")
	bea.post("/sign-out").is(http.StatusConflict).shows("You would not get back in", "Sign out anyway", "Add a passkey")
	if !bea.in() {
		t.Fatal("signed out all the same")
	}
	d := newDevice()
	bea.add(d).is(http.StatusSeeOther)
	bea.get(keys).lacks("come back without")
	bea.post("/sign-out").is(http.StatusSeeOther)
	bea.signIn(d).is(http.StatusSeeOther)

	carl := newBrowser(t, s).enter(invite(t, s, keyring.Operator("test"), newMember(t, s, s.Workspace, "Carl", "viewer")))
	carl.post("/sign-out", "confirm", "stranded").is(http.StatusSeeOther)
	if carl.in() {
		t.Error("still signed in")
	}
	// The operator makes another link, and the product sends its people again.
	for _, b := range []*browser{operator(t, s), admin(t, s), inRole(t, s, s.Workspace, "viewer")} {
		b.get(keys).lacks("come back without")
		b.post("/sign-out").is(http.StatusSeeOther)
	}
}

// A refusal speaks of the pages as they are called, names who can help, and
// leads to a page that opens.
func TestRefusalNamesHelpers(t *testing.T) {
	t.Parallel()
	s := product(t, "voqo")
	base := "/w/" + s.Workspace
	member(t, s, s.Workspace, "Ada Admin", "admin")
	newMember(t, s, s.Workspace, "Never Came", "admin")
	agent, _ := member(t, s, s.Workspace, "Gus", "agent")
	p := agent.get(base+"/keys").is(http.StatusForbidden).shows("You can’t open Developer Tools", "api.key.view",
		"Ask an administrator of the workspace, such as Ada Admin, for a role that has it").lacks("Never Came")
	for _, a := range p.all("a", func(n *html.Node) bool { return strings.HasPrefix(text(n), "Go to") }) {
		agent.get(attribute(a, "href")).is(http.StatusOK)
	}
	viewer, _ := member(t, s, s.Workspace, "Vera", "viewer")
	viewer.get(base+"/members/new").is(http.StatusForbidden).shows("You can’t change Members", "Ada Admin")
	viewer.get(base + "/settings/plan").is(http.StatusForbidden).shows("Only for the operator")
	if to := attribute(viewer.get("/nowhere").is(http.StatusNotFound).one("a", "Go to"), "href"); viewer.get(to).status != http.StatusOK {
		t.Errorf("%s does not open", to)
	}

	dead := newBrowser(t, s).get("/link/"+strings.Repeat("A", 43)).is(http.StatusUnauthorized).shows("This link does not work", "support@voqo.ai")
	if text(dead.one("h1")) != "This link does not work" {
		t.Errorf("the heading is %q", text(dead.one("h1")))
	}
	far := keystiletest.New(t, keystiletest.PublicURL(public))
	for _, path := range []string{"/sign-in", "/link/" + strings.Repeat("A", 43)} {
		newBrowser(t, far).get(path).lacks("keystile admin")
	}
}

// The last who manages the members of a workspace stays that, unless the
// operator says otherwise. The API holds to it as the pages do.
func TestLastAdministrator(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	ada, m := member(t, s, s.Workspace, "Ada", "admin")
	newMember(t, s, s.Workspace, "Never Came", "admin")
	const words = "Nobody who can manage the members of this workspace would be left"
	refused := func() {
		t.Helper()
		ada.post(base+"/members/"+m.ID+"/role", "role", "viewer").is(http.StatusConflict).shows(words, "Ask the operator")
		ada.post(base+"/members/"+m.ID+"/remove", "keys", "keep").is(http.StatusConflict).shows(words)
		ada.get(base + "/members").is(http.StatusOK).shows("Ada (you)")
	}
	refused()
	own := s.Client(s.Key(s.Workspace, keystile.CreateKey{Name: "Admin's", Role: "admin"}).Secret)
	viewer := "viewer"
	if _, err := own.UpdateMember(t.Context(), m.ID, keystile.MemberPatch{Role: &viewer}); !strings.Contains(errorText(err), words) {
		t.Errorf("by the API: %v", err)
	}
	if err := own.DeleteMember(t.Context(), m.ID); !strings.Contains(errorText(err), words) {
		t.Errorf("by the API: %v", err)
	}

	// A role of the workspace's own counts, until it manages no more.
	role := customRole(t, s, s.Workspace, "host", "api.member.*", "api.role.*", "api.key.grant", "api.workspace.view")
	host, hm := member(t, s, s.Workspace, "Hal", "host")
	ada.post(base+"/members/"+m.ID+"/role", "role", "viewer").is(http.StatusSeeOther)
	host.post(base+"/roles/"+role.ID+"/edit", "name", "host", "permission", "api.member.view").is(http.StatusConflict).shows(words)
	host.post(base+"/members/"+hm.ID+"/remove", "keys", "keep").is(http.StatusConflict).shows(words)

	op := operator(t, s)
	op.done(base+"/members/"+hm.ID+"/remove", "keys", "keep").lacks("Hal")
	if err := s.Operator.DeleteMember(t.Context(), m.ID); err != nil {
		t.Error(err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Who invites an e-mail address that a member has already is told, and may.
func TestInviteTwice(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	ada, _ := member(t, s, s.Workspace, "Ada", "admin")
	newMember(t, s, s.Workspace, "Bea", "viewer")
	in := []string{"nonce", "1", "name", "Bea again", "email", "BEA@example.com", "role", "viewer"}
	p := ada.post(base+"/members", in...).is(http.StatusConflict).shows("Nobody was invited yet", "Bea, Viewer, invited", "Invite anyway")
	if p.field("name") != "Bea again" || p.field("email") != "BEA@example.com" || p.field("role") != "viewer" {
		t.Error("what was typed is gone")
	}
	ada.get(base + "/members").lacks("Bea again")
	in = append(in, "confirm", "namesake")
	ada.post(base+"/members", in...).is(http.StatusCreated).shows("Invitation link")
	ada.done(base+"/members", in...) // sent again
	ada.get(base + "/members").shows("Bea again")
}

// Whoever would refuse those who use keys now is told who they are, the
// operator too.
func TestAllowlistWarnsOfCallersIP8(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	key := s.Key(s.Workspace, keystile.CreateKey{Name: "Till"})
	other := s.Key(s.Workspace, keystile.CreateKey{Name: "Other till"})
	for _, in := range []keystile.VerifyRequest{
		{Key: key.Secret, IP: "203.0.113.9"}, {Key: key.Secret, IP: "203.0.113.9"}, {Key: other.Secret, IP: "203.0.113.9"},
		{Key: key.Secret, IP: "198.51.100.1"}, {Key: key.Secret + "x", IP: "203.0.113.66"},
	} {
		if _, err := s.Operator.Verify(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	s.Restart() // which writes what was counted
	op := operator(t, s)
	list := []string{"name", "Default", "ip_allowlist", "127.0.0.1\n198.51.100.0/24"}
	p := op.post(base+"/settings", list...).is(http.StatusConflict).shows("Some callers would be refused", "Nothing was saved yet").lacks("198.51.100.1<", "203.0.113.66", "Add my address")
	if got := text(p.one("tr", "203.0.113.9")); !strings.HasPrefix(got, "203.0.113.9 2 3 ") {
		t.Errorf("the caller's row: %q", got)
	}
	op.done(base+"/settings", append(list, "confirm", "lockout")...).shows("Saved.")
	op.done(base+"/settings", append(list[:2:2], "ip_allowlist", "")...).shows("Saved.") // a list that is not there refuses nobody
}

// The switcher lists where else one can go; who has one workspace sees its name.
func TestSwitcher(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	second := s.NewWorkspace("Second", "")
	ada, _ := member(t, s, s.Workspace, "Ada", "viewer")
	p := ada.get("/w/" + s.Workspace + "/keys").is(http.StatusOK).holds("Ada</span>")
	if len(p.find("summary", "Default")) != 0 {
		t.Error("a menu of one workspace")
	}
	ada.enter(invite(t, s, keyring.Operator("test"), newMember(t, s, second.ID, "Ada of Second", "viewer")))
	p = ada.get("/w/" + s.Workspace + "/keys").is(http.StatusOK)
	p.one("summary", "Default")
	if to := attribute(p.one("a", "Second"), "href"); ada.get(ada.get(to).to).status != http.StatusOK {
		t.Errorf("%s does not open", to)
	}
	operator(t, s).get("/w/"+s.Workspace+"/keys").is(http.StatusOK).one("a", "All workspaces")
}
