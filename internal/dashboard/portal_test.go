package dashboard_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

const embedding = "product: Acme\nprefix: acme\nsign_in: {embed: [https://app.example.com]}\n"

// portal asks for a portal session and returns its path.
func portal(t testing.TB, s *keystiletest.Server, in keystile.CreatePortalSession) string {
	t.Helper()
	p, err := s.Operator.CreatePortalSession(context.Background(), s.Workspace, in)
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(p.URL, public)
	if !ok {
		t.Fatalf("the link is %s", p.URL)
	}
	return path
}

// TestPortalSession: the product's backend asks, its person opens, works in
// one workspace as the role says, and goes back.
func TestPortalSession(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.ProfileText(embedding))
	other := s.NewWorkspace("Other", "")
	ctx := t.Context()
	eve := keystile.Person{Subject: "user-7", Name: "Eve"}
	path := portal(t, s, keystile.CreatePortalSession{Person: eve, Role: "developer", ReturnURL: "https://app.example.com/settings", ExpiresIn: "30m"})

	g := newBrowser(t, s)
	frame := func(r *page) {
		t.Helper()
		if csp := r.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors https://app.example.com") {
			t.Errorf("not to be embedded: %s", csp)
		}
	}
	frame(g.get(path).is(http.StatusOK).holds("as Eve"))
	g.get(path).is(http.StatusOK) // looking spends nothing
	r := g.post(path).is(http.StatusSeeOther)
	if r.to != "/" {
		t.Errorf("leads to %s", r.to)
	}
	set := strings.Join(r.header.Values("Set-Cookie"), "\n")
	if !strings.Contains(set, "__Host-keystile-portal=") || !strings.Contains(set, "SameSite=None; Partitioned") || !strings.Contains(set, "Secure") {
		t.Errorf("the cookie of an embedded portal: %s", set)
	}
	newBrowser(t, s).post(path).is(http.StatusUnauthorized).holds("not good any more")

	g.get("/").is(http.StatusSeeOther).holds("/w/" + s.Workspace + "/")
	r = g.get("/w/" + s.Workspace + "/keys").is(http.StatusOK).holds("Leave")
	frame(r)
	if csp := r.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://app.example.com;") {
		t.Errorf("a browser would not follow the way back: %s", csp)
	}
	g.get("/w/" + other.ID + "/keys").is(http.StatusNotFound)
	// A portal session is not made more of than it is.
	g.post("/account/passkeys/options").is(http.StatusConflict).holds("from your product")
	r = g.get("/account").is(http.StatusOK).holds(`<td data-label="With">Acme</td>`)
	if strings.Contains(r.body, "Add a passkey") {
		t.Error("a portal session is offered a passkey")
	}
	r = g.post("/sign-out").is(http.StatusSeeOther)
	if r.to != "https://app.example.com/settings" {
		t.Errorf("leaving leads to %s", r.to)
	}
	if set := strings.Join(r.header.Values("Set-Cookie"), "\n"); !strings.Contains(set, "Max-Age=0; HttpOnly; Secure; SameSite=None; Partitioned") {
		t.Errorf("a partitioned cookie is not taken away by %s", set)
	}
	if g.in() {
		t.Error("left and still in")
	}

	// The role of the newest link counts, at once and in sessions under way.
	g.post(portal(t, s, keystile.CreatePortalSession{Person: eve, Role: "developer"})).is(http.StatusSeeOther)
	g.get("/w/" + s.Workspace + "/keys/new").is(http.StatusOK)
	portal(t, s, keystile.CreatePortalSession{Person: eve, Role: "viewer"})
	g.get("/w/" + s.Workspace + "/keys").is(http.StatusOK)
	g.get("/w/" + s.Workspace + "/keys/new").is(http.StatusForbidden)

	// The end of the membership is the end of the session, and of links not opened.
	waiting := portal(t, s, keystile.CreatePortalSession{Person: eve, Role: "viewer"})
	l, err := s.Operator.Members(ctx, s.Workspace, keystile.Page{})
	if err != nil || len(l.Data) != 1 || l.Data[0].Person.Subject != "user-7" || l.Data[0].Status != "active" {
		t.Fatalf("%v %+v", err, l.Data)
	}
	if err := s.Operator.DeleteMember(ctx, l.Data[0].ID); err != nil {
		t.Fatal(err)
	}
	if g.in() {
		t.Error("a member who was removed is still signed in")
	}
	newBrowser(t, s).post(waiting).is(http.StatusUnauthorized)
	wantAudited(t, s, s.Workspace, "portal.created .*Eve", "session.began Eve  portal", "session.ended Eve")
}

// TestPortalManagesNoMembers: whom the product sends is the product's to say. An
// identity that a portal session made would outlive it, and so would one that
// is made with a key of the same powers.
func TestPortalManagesNoMembers(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	g, base := newBrowser(t, s), "/w/"+s.Workspace
	m := newMember(t, s, s.Workspace, "Bea", "viewer")
	g.post(portal(t, s, keystile.CreatePortalSession{Person: keystile.Person{Subject: "u", Name: "Eve"}, Role: "admin"})).is(http.StatusSeeOther)

	g.get(base+"/members").is(http.StatusOK).shows("Bea").lacks("Invite member", "Remove</button>")
	for _, path := range []string{"/members/new", "/members/" + m.ID + "/role", "/members/" + m.ID + "/link", "/members/" + m.ID + "/remove"} {
		g.get(base + path).is(http.StatusForbidden).shows("came from your product")
	}
	for _, path := range []string{"/members", "/members/" + m.ID + "/role", "/members/" + m.ID + "/link", "/members/" + m.ID + "/remove"} {
		g.post(base+path, "name", "Mallory", "role", "viewer", "keys", "keep").is(http.StatusForbidden).shows("came from your product")
	}
	// What they can't do is not handed out either: to a key, or by a role.
	g.post(base+"/keys", "name", "Deputy", "role", "admin").is(http.StatusForbidden)
	g.post(base+"/roles", "name", "Deputy", "permission", "api.member.create").is(http.StatusForbidden)
	g.post(base+"/roles", "name", "Deputy", "permission", "api.*").is(http.StatusForbidden)
	// All else is an admin's.
	g.post(base+"/keys", "name", "Reader", "role", "viewer").is(http.StatusCreated)
	g.done(base+"/roles", "name", "Keys", "permission", "api.key.view", "permission", "api.key.create").shows("Keys")
	g.done(base+"/settings", "name", "Renamed", "ip_allowlist", "")
	g.get(base + "/audit").is(http.StatusOK)
	list, err := s.Operator.Members(t.Context(), s.Workspace, keystile.Page{})
	if err != nil || len(list.Data) != 2 {
		t.Errorf("%v %+v", err, list.Data)
	}
}

// TestPortalFramesOnlyWhereConfigured: no other page, and none without the list.
func TestPortalFramesOnlyWhereConfigured(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	g := newBrowser(t, s)
	path := portal(t, s, keystile.CreatePortalSession{Person: keystile.Person{Subject: "u"}, Role: "viewer"})
	for _, r := range []*page{g.get(path), g.post(path), g.get("/account")} {
		if csp := r.header.Get("Content-Security-Policy"); csp != "" && !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("may be embedded: %s", csp)
		}
	}
	if c := g.cookies["__Host-keystile-portal"]; c == nil || c.SameSite != http.SameSiteLaxMode || c.Partitioned {
		t.Errorf("cookie %+v", c)
	}
	embedded := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.ProfileText(embedding))
	g = newBrowser(t, embedded)
	g.enter(embedded.SignInLink(""))
	if csp := g.get("/account").header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("the operator's pages may be embedded: %s", csp)
	}
}

// TestPortalRefused: what a backend may not ask for.
func TestPortalRefused(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	ctx := t.Context()
	person := keystile.Person{Subject: "u"}
	for _, test := range []struct {
		name, workspace string
		in              keystile.CreatePortalSession
		want            keystile.Code
	}{
		{"no subject", s.Workspace, keystile.CreatePortalSession{Person: keystile.Person{Name: "x"}, Role: "viewer"}, keystile.CodeInvalidField},
		{"no such role", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "operator"}, keystile.CodeInvalidField},
		{"the operator's workspace", "ws_operator", keystile.CreatePortalSession{Person: person, Role: "operator"}, keystile.CodeInvalidField},
		{"script as the way back", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ReturnURL: "javascript:alert(1)"}, keystile.CodeInvalidField},
		{"no TLS on the way back", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ReturnURL: "http://app.example.com"}, keystile.CodeInvalidField},
		{"every host on the way back", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ReturnURL: "https://*"}, keystile.CodeInvalidField},
		{"a directive of the content policy on the way back", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ReturnURL: "https://app.example.com;frame-ancestors"}, keystile.CodeInvalidField},
		{"a second content policy on the way back", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ReturnURL: "https://app.example.com,x"}, keystile.CodeInvalidField},
		{"too long", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ExpiresIn: "25h"}, keystile.CodeInvalidField},
		{"too short", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ExpiresIn: "59s"}, keystile.CodeInvalidField},
		{"no duration", s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer", ExpiresIn: "soon"}, keystile.CodeInvalidField},
		{"no such workspace", "ws_0ktv3m2a8s0c5f9b1d7e6g4h2j", keystile.CreatePortalSession{Person: person, Role: "viewer"}, keystile.CodeNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			if p, err := s.Operator.CreatePortalSession(ctx, test.workspace, test.in); !errors.Is(err, test.want) {
				t.Errorf("%v, %v; want %s", p, err, test.want)
			}
		})
	}
	if l, err := s.Operator.Members(ctx, s.Workspace, keystile.Page{}); err != nil || len(l.Data) != 0 {
		t.Errorf("refusals left members: %v %v", l.Data, err)
	}

	// A key that was taken away opens nothing more.
	made := s.Key("ws_operator", keystile.CreateKey{Name: "Backend", Role: "operator"})
	p, err := s.Client(made.Secret).CreatePortalSession(ctx, s.Workspace, keystile.CreatePortalSession{Person: person, Role: "viewer"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Operator.RevokeKey(ctx, made.Key.ID, keystile.RevokeKey{}); err != nil {
		t.Fatal(err)
	}
	g := newBrowser(t, s)
	g.post(strings.TrimPrefix(p.URL, public)).is(http.StatusUnauthorized).holds("not good any more")
}
