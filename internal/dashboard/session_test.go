package dashboard_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// admin signs a person in by the link into a workspace and gives them a passkey.
func adminWithPasskey(t testing.TB, s *keystiletest.Server, workspace, name string) (*browser, *device) {
	t.Helper()
	g, d := newBrowser(t, s), newDevice()
	g.enter(s.SignInLink(workspace))
	g.add(d, "person", name).is(http.StatusSeeOther)
	return g, d
}

// place finds a person's member by name.
func place(t testing.TB, s *keystiletest.Server, workspace, name string) keystile.Member {
	t.Helper()
	l, err := s.Operator.Members(context.Background(), workspace, keystile.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range l.Data {
		if m.Person.Name == name {
			return m
		}
	}
	t.Fatalf("no member %s in %v", name, l.Data)
	return keystile.Member{}
}

// TestInvitationTakesNobodyOver: a link into one workspace lets nobody act as
// someone who has a place in another, or more than the link's maker has.
func TestInvitationTakesNobodyOver(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	ctx := t.Context()
	k := s.Keyring()
	other := s.NewWorkspace("Other", "")

	t.Run("an admin makes no link for someone who is elsewhere too", func(t *testing.T) {
		mallory, _ := adminWithPasskey(t, s, s.Workspace, "Mallory")
		victim, _ := adminWithPasskey(t, s, other.ID, "Grace Hopper")
		m := newMember(t, s, s.Workspace, "Victim here", "viewer")
		token := invite(t, s, mallory.actor(s.Workspace), m)
		victim.get("/link/" + token).is(http.StatusOK).holds("You are about to join")
		victim.enter(token)
		victim.get("/w/" + s.Workspace + "/keys").is(http.StatusOK)
		victim.get("/w/" + other.ID + "/keys").is(http.StatusOK)
		if _, _, err := k.Invite(ctx, mallory.actor(s.Workspace), m.ID, keyring.Idempotency{}); !errors.Is(err, keystile.CodeConflict) {
			t.Errorf("Mallory can sign in as the victim: %v", err)
		}
		victim.get("/link/" + token).is(http.StatusUnauthorized)
		// What the one workspace calls them is not told in the other.
		if log := audited(t, s, s.Workspace); strings.Contains(log, "Grace Hopper") {
			t.Errorf("the name of another workspace is told:\n%s", log)
		}
	})

	t.Run("nor has a link that was made before", func(t *testing.T) {
		mallory, _ := adminWithPasskey(t, s, s.Workspace, "Mallory 2")
		g := newBrowser(t, s)
		m := newMember(t, s, s.Workspace, "Grace", "viewer")
		g.enter(invite(t, s, mallory.actor(s.Workspace), m))
		token := invite(t, s, mallory.actor(s.Workspace), m) // to recover by, kept
		boss, _ := adminWithPasskey(t, s, other.ID, "Boss")
		elsewhere := newMember(t, s, other.ID, "Grace there", "admin")
		g.enter(invite(t, s, boss.actor(other.ID), elsewhere))
		thief := newBrowser(t, s)
		thief.post("/link/" + token).is(http.StatusConflict).holds("member of other workspaces")
		g.get("/w/" + other.ID + "/keys").is(http.StatusOK)
	})

	t.Run("a link dies with its maker's place", func(t *testing.T) {
		mallory, _ := adminWithPasskey(t, s, s.Workspace, "Mallory 3")
		m := newMember(t, s, s.Workspace, "Heidi", "admin")
		token := invite(t, s, mallory.actor(s.Workspace), m)
		if err := s.Operator.DeleteMember(ctx, place(t, s, s.Workspace, "Mallory 3").ID); err != nil {
			t.Fatal(err)
		}
		if mallory.in() {
			t.Error("the session goes on after the only membership has ended")
		}
		g := newBrowser(t, s)
		g.post("/link/" + token).is(http.StatusUnauthorized).holds("not good any more")
	})

	t.Run("a link does not grow with the role", func(t *testing.T) {
		for name, permissions := range map[string]keystile.Permissions{"Reader": {"read"}, "Inviter": {"read", "api.member.create", "api.key.grant"}} {
			if _, err := s.Operator.CreateRole(ctx, s.Workspace, keystile.CreateRole{Name: name, Permissions: permissions}); err != nil {
				t.Fatal(err)
			}
		}
		inviter := newBrowser(t, s)
		inviter.enter(invite(t, s, keyring.Operator("test"), newMember(t, s, s.Workspace, "Mallory 4", "Inviter")))
		ivan := newMember(t, s, s.Workspace, "Ivan", "Reader")
		token := invite(t, s, inviter.actor(s.Workspace), ivan)
		newBrowser(t, s).get("/link/" + token).is(http.StatusOK)
		role := "admin"
		if _, err := s.Operator.UpdateMember(ctx, ivan.ID, keystile.MemberPatch{Role: &role}); err != nil {
			t.Fatal(err)
		}
		newBrowser(t, s).post("/link/" + token).is(http.StatusUnauthorized).holds("not good any more")
		if _, _, err := k.Invite(ctx, inviter.actor(s.Workspace), ivan.ID, keyring.Idempotency{}); !errors.Is(err, keystile.CodeExceedsAuthority) {
			t.Errorf("a link for someone greater: %v", err)
		}
	})

	t.Run("joining proves nothing anew", func(t *testing.T) {
		g, _ := adminWithPasskey(t, s, other.ID, "Judy")
		before, err := k.Session(ctx, g.token(), keyring.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		m := newMember(t, s, s.Workspace, "Judy here", "viewer")
		g.enter(invite(t, s, keyring.Operator("test"), m))
		after, err := k.Session(ctx, g.token(), keyring.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		if !after.FreshAt.Equal(before.FreshAt) || !after.ExpiresAt.Equal(before.ExpiresAt) {
			t.Errorf("fresh at %v until %v, was %v until %v", after.FreshAt, after.ExpiresAt, before.FreshAt, before.ExpiresAt)
		}
		again := newMember(t, s, s.Workspace, "Judy again", "viewer")
		token := invite(t, s, keyring.Operator("test"), again)
		g.post("/link/" + token).is(http.StatusConflict).holds("member of this workspace already")
		newBrowser(t, s).enter(token) // the refusal has not spent it
	})
}

// TestRecovery: who has lost their passkey comes back by a link of another
// admin; what they had before opens nothing more, and it is audited.
func TestRecovery(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	heard := hears(t, s, s.Workspace)
	boss, _ := adminWithPasskey(t, s, s.Workspace, "Boss")
	lost, d := adminWithPasskey(t, s, s.Workspace, "Ada")
	m := place(t, s, s.Workspace, "Ada")
	token := invite(t, s, boss.actor(s.Workspace), m)
	if !lost.in() {
		t.Error("making the link has signed Ada out")
	}
	ada := newBrowser(t, s)
	ada.get("/link/" + token).is(http.StatusOK).holds("as Ada")
	if to := ada.post("/link/" + token).is(http.StatusSeeOther).to; to != "/" {
		t.Errorf("a link leads to %q", to)
	}
	ada.get("/w/"+s.Workspace+"/keys").is(http.StatusOK).one("a", "Add a passkey")
	ada.get("/account").is(http.StatusOK).holds("Signed in as Ada", "You have no passkey yet")
	if lost.in() {
		t.Error("the old session is still good")
	}
	newBrowser(t, s).signIn(d).is(http.StatusForbidden)
	replacement := newDevice()
	ada.add(replacement).is(http.StatusSeeOther)
	ada.get("/w/" + s.Workspace + "/keys").is(http.StatusOK).lacks("Add a passkey") // though a link has begun the session
	newBrowser(t, s).signIn(replacement).is(http.StatusSeeOther)
	wantAudited(t, s, s.Workspace, "member.link_created Boss Ada", "member.recovered Ada Ada link by person per_")
	heard("member.link_created", "member.recovered", "member.joined", "passkey.added")
}

// TestSessionsEnd: one's own, one by one or all; and nobody else's.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	here, d := adminWithPasskey(t, s, s.Workspace, "Ada")
	foreign, _ := adminWithPasskey(t, s, s.Workspace, "Bob")
	there, third := newBrowser(t, s), newBrowser(t, s)
	there.signIn(d).is(http.StatusSeeOther)
	third.signIn(d).is(http.StatusSeeOther)
	ids := func(g *browser) []string {
		var out []string
		for _, m := range regexp.MustCompile(`/account/sessions/(ses_[0-9a-z]+)/end`).FindAllStringSubmatch(g.get("/account").body, -1) {
			out = append(out, m[1])
		}
		return out
	}
	own := ids(here)
	if len(own) != 2 || len(ids(foreign)) != 0 {
		t.Fatalf("%v of Ada's others, %v of Bob's", own, ids(foreign))
	}
	for _, id := range append(own, "ses_nonsense", "x") {
		foreign.post("/account/sessions/" + id + "/end").is(http.StatusNotFound)
	}
	here.post("/account/sessions/" + own[0] + "/end").is(http.StatusSeeOther) // the newest
	if third.in() || !there.in() || !here.in() {
		t.Error("another session has ended than the one that was named")
	}
	here.post("/account/sign-out-everywhere").is(http.StatusSeeOther).holds("/sign-in")
	if there.in() || here.in() || !foreign.in() {
		t.Error("signing out everywhere has not, or too much")
	}
	for _, path := range []string{"/account", "/account/passkeys/new", "/workspaces", "/w/" + s.Workspace + "/keys"} {
		here.get(path).is(http.StatusSeeOther).holds("/sign-in?next=")
	}
	for _, path := range []string{"/account/passkeys", "/account/passkeys/options", "/account/sign-out-everywhere", "/sign-out"} {
		here.post(path).is(http.StatusUnauthorized)
	}
}

// TestLinkSessionsEnd: who came by a link has no name, and still sees where else
// a link of the same kind is signed in, and ends it from there.
func TestLinkSessionsEnd(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	here, lost, third := operator(t, s), operator(t, s), operator(t, s)
	bound, lostToo := admin(t, s), admin(t, s)
	ada, _ := adminWithPasskey(t, s, s.Workspace, "Ada")
	ends := func(b *browser) (paths []string) {
		for _, f := range b.get("/account").is(http.StatusOK).find("form", "End") {
			paths = append(paths, attribute(f, "action"))
		}
		return paths
	}
	operators, admins := ends(here), ends(bound)
	if len(operators) != 2 || len(admins) != 1 || len(ends(ada)) != 0 {
		t.Fatalf("%v of the operator's, %v of the workspace's, %v of Ada's", operators, admins, ends(ada))
	}
	for _, path := range append(slices.Clone(operators), admins...) {
		ada.post(path).is(http.StatusNotFound)
	}
	bound.post(operators[0]).is(http.StatusNotFound)
	here.post(admins[0]).is(http.StatusNotFound) // nor the other way: it is a customer's
	here.done(operators[0])                      // the newest
	if third.in() || !lost.in() || !here.in() {
		t.Error("another session has ended than the one that was named")
	}
	here.post("/account/sign-out-everywhere").is(http.StatusSeeOther)
	if here.in() || lost.in() || !bound.in() || !lostToo.in() || !ada.in() {
		t.Error("signing out everywhere has not, or too much")
	}
	bound.post("/account/sign-out-everywhere").is(http.StatusSeeOther)
	if bound.in() || lostToo.in() || !ada.in() {
		t.Error("signing out everywhere has not, or too much")
	}
	wantAudited(t, s, keyring.OperatorWorkspace, "session.ended sign-in link .* everywhere")
	wantAudited(t, s, s.Workspace, "session.ended sign-in link .* everywhere")
}

// TestSessionIsNotFixed: a cookie that was there before is worth nothing after,
// and a form from another site does nothing.
func TestSessionIsNotFixed(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	g := newBrowser(t, s)
	planted := strings.Repeat("A", 43)
	g.cookies["__Host-keystile"] = &http.Cookie{Name: "__Host-keystile", Value: planted}
	if g.in() {
		t.Fatal("a planted cookie is a session")
	}
	g.enter(s.SignInLink(s.Workspace))
	if g.token() == planted {
		t.Error("the planted cookie is the session's")
	}
	first := g.token()
	d := newDevice()
	g.add(d, "person", "Ada").is(http.StatusSeeOther)
	g.signIn(d).is(http.StatusSeeOther) // again: in place of the first
	if g.token() == first {
		t.Error("the token stays the same over a sign-in")
	}
	if n := len(regexp.MustCompile(`This session`).FindAllString(g.get("/account").body, -1)); n != 1 {
		t.Errorf("%d sessions are this one", n)
	}

	cross := newBrowser(t, s)
	cross.cookies = g.cookies
	cross.header.Set("Sec-Fetch-Site", "cross-site")
	cross.post("/account/sign-out-everywhere").is(http.StatusBadRequest).holds("another site")
	cross.post(strings.TrimPrefix(s.SignInLink(""), s.URL)).is(http.StatusBadRequest)
	if !g.in() {
		t.Error("another site has signed out")
	}
	for _, next := range []string{"https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"} {
		options := g.post("/sign-in/passkey/options").is(http.StatusOK).body
		g.post("/sign-in/passkey", "credential", d.sign(t, options), "next", next).is(http.StatusSeeOther)
		if r := g.get("/sign-in?next=" + next); r.to != "/" {
			t.Errorf("%s leads to %q", next, r.to)
		}
	}
}

// TestRoleChangedMidSession: the next request knows a new role, a suspension
// and the end of a membership, and so does one that is under way.
func TestRoleChangedMidSession(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(public))
	ctx := t.Context()
	g, _ := adminWithPasskey(t, s, s.Workspace, "Ada")
	a := g.actor(s.Workspace) // of a request under way
	g.get("/w/" + s.Workspace + "/keys/new").is(http.StatusOK)
	role := "viewer"
	if _, err := s.Operator.UpdateMember(ctx, place(t, s, s.Workspace, "Ada").ID, keystile.MemberPatch{Role: &role}); err != nil {
		t.Fatal(err)
	}
	g.get("/w/" + s.Workspace + "/keys/new").is(http.StatusForbidden)
	if _, _, err := s.Keyring().CreateKey(ctx, a, s.Workspace, keystile.CreateKey{Name: "x"}, keyring.Idempotency{}); !errors.Is(err, keystile.CodeConflict) {
		t.Errorf("a request that was under way: %v", err)
	}
	yes := true
	if _, err := s.Operator.UpdateWorkspace(ctx, s.Workspace, keystile.WorkspacePatch{Suspended: &yes}); err != nil {
		t.Fatal(err)
	}
	g.get("/w/" + s.Workspace + "/keys").is(http.StatusForbidden).holds("suspended")
	operator := newBrowser(t, s)
	operator.enter(s.SignInLink(""))
	operator.get("/w/" + s.Workspace + "/keys").is(http.StatusOK)
	if err := s.Operator.DeleteMember(ctx, place(t, s, s.Workspace, "Ada").ID); err != nil {
		t.Fatal(err)
	}
	if g.in() {
		t.Error("the session goes on without a membership")
	}
	if _, _, err := s.Keyring().CreateKey(ctx, a, s.Workspace, keystile.CreateKey{Name: "x"}, keyring.Idempotency{}); !errors.Is(err, keystile.CodeSessionEnded) {
		t.Errorf("a request that was under way: %v", err)
	}
}
