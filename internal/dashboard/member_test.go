package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// IP13: members are invited by a link that the page shows once, and hold roles.
func TestInviteMemberIP13(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	admin, _ := member(t, s, s.Workspace, "Ada Admin", "admin")

	p := admin.get(base + "/members/new").is(http.StatusOK).shows("Invite member")
	in := []string{"nonce", p.field("nonce"), "name", "Bea", "email", "bea@example.com", "role", "viewer"}
	shown := admin.post(base+"/members", in...).is(http.StatusCreated).shows("Invitation link", "Bea", "Viewer")
	link := text(shown.one("output"))
	token, ok := strings.CutPrefix(link, s.URL+"/link/")
	if !ok || len(token) != 43 {
		t.Fatalf("the link %q", link)
	}
	// Sent again, it neither makes a second member nor shows the link again.
	admin.done(base+"/members", in...).lacks(token).shows("Bea", "Invited")
	if n := len(admin.get(base+"/members").all("tr", func(n *html.Node) bool { return strings.Contains(text(n), "Bea") })); n != 1 {
		t.Errorf("%d rows of one member", n)
	}

	bea := newBrowser(t, s).enter(token)
	bea.get(base+"/members").is(http.StatusOK).shows("Bea (you)").lacks("Remove</button>", "Invite member")
	admin.get(base + "/members").shows("Bea bea@example.com Viewer Active")
	newBrowser(t, s).get("/link/" + token).shows("not good any more")

	for _, c := range []struct {
		name  string
		in    []string
		says  string
		typed string
	}{
		{"nobody", []string{"role", "viewer"}, "Say who", ""},
		{"no role", []string{"name", "Cy"}, "Choose a role", "Cy"},
		{"a role that is not there", []string{"name", "Cy", "role", "king"}, "no role of this name", "Cy"},
		{"no address", []string{"name", "Cy", "email", "cy", "role", "viewer"}, "not an e-mail address", "Cy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := admin.post(base+"/members", c.in...).is(http.StatusUnprocessableEntity).shows(c.says)
			if got.field("name") != c.typed {
				t.Errorf("what was typed is gone: %q", got.field("name"))
			}
		})
	}
}

// A new link for someone who lost access ends what they had, and the link
// before it.
func TestNewLinkForMember(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	admin, _ := member(t, s, s.Workspace, "Ada", "admin")
	m := newMember(t, s, s.Workspace, "Bea", "viewer")
	first := invite(t, s, keyring.Operator("test"), m)

	p := admin.get(base + "/members/" + m.ID + "/link").is(http.StatusOK).shows("New link for Bea")
	in := []string{"nonce", p.field("nonce")}
	link := text(admin.post(base+"/members/"+m.ID+"/link", in...).is(http.StatusCreated).one("output"))
	newBrowser(t, s).get("/link/" + first).shows("not good any more")
	// A reload makes no other link, which would end the one just sent.
	admin.done(base+"/members/"+m.ID+"/link", in...).lacks(link)
	bea := newBrowser(t, s).enter(link)
	bea.get(base + "/members").is(http.StatusOK)

	again := text(admin.post(base+"/members/"+m.ID+"/link", "nonce", "another").is(http.StatusCreated).one("output"))
	newBrowser(t, s).enter(again).get(base + "/members").is(http.StatusOK)
	if p := bea.get(base + "/members"); p.status != http.StatusSeeOther {
		t.Errorf("the session of before goes on: %d", p.status)
	}
}

// IP13, IP6: a member's role is changed at once, and nobody gives more than
// they hold.
func TestChangeRoleIP6(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	admin, _ := member(t, s, s.Workspace, "Ada", "admin")
	bea, m := member(t, s, s.Workspace, "Bea", "viewer")
	customRole(t, s, s.Workspace, "host", "api.member.*", "api.role.view", "api.workspace.view")
	host, own := member(t, s, s.Workspace, "Hal", "host")

	bea.get(base + "/keys/new").is(http.StatusForbidden)
	admin.done(base+"/members/"+m.ID+"/role", "role", "developer").shows("Saved.", "Bea bea@example.com Developer")
	bea.get(base + "/keys/new").is(http.StatusOK)

	// The picker holds what the host may give, and the rule holds without it.
	offered := host.get(base + "/members/new").is(http.StatusOK).find("option")
	for _, o := range offered {
		if name := attribute(o, "value"); name == "admin" || name == "developer" {
			t.Errorf("the role %q is offered to someone who does not hold it", name)
		}
	}
	host.post(base+"/members", "name", "Eve", "role", "admin").is(http.StatusForbidden).shows("Your role in this workspace lacks")
	host.post(base+"/members/"+own.ID+"/role", "role", "admin").is(http.StatusForbidden)
	host.post(base+"/members/"+m.ID+"/link", "nonce", "x").is(http.StatusForbidden)
	host.get(base+"/members").shows("Bea bea@example.com Developer", "Hal (you) hal@example.com host").lacks("Eve")
}

// Whoever is removed is asked about: what happens to their keys is chosen.
func TestRemoveMember(t *testing.T) {
	for _, c := range []struct {
		choice string
		status string
		reason string
	}{{"keep", "active", ""}, {"revoke", "revoked", "ownership_changed"}} {
		t.Run(c.choice, func(t *testing.T) {
			s := keystiletest.New(t)
			base := "/w/" + s.Workspace
			admin, _ := member(t, s, s.Workspace, "Ada", "admin")
			bea, m := member(t, s, s.Workspace, "Bea", "developer")
			bea.post(base+"/keys", "nonce", "1", "name", "Bea's first").is(http.StatusCreated)
			bea.post(base+"/keys", "nonce", "2", "name", "Bea's second").is(http.StatusCreated)
			theirs := s.Key(s.Workspace, keystile.CreateKey{Name: "Not hers"})

			path := base + "/members/" + m.ID + "/remove"
			admin.get(path).is(http.StatusOK).shows("Remove Bea", "Bea's first", "Bea's second", "What should happen").lacks("Not hers")
			admin.post(path).is(http.StatusUnprocessableEntity).shows("Nobody was removed")
			admin.get(base + "/members").shows("Bea")

			admin.done(path, "keys", c.choice, "reason", c.reason).shows("Removed.").lacks("Bea")
			bea.get(base + "/keys").is(http.StatusSeeOther) // to the sign-in page: it was her only workspace
			list, err := s.Operator.Keys(t.Context(), s.Workspace, keystile.ListKeys{})
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range list.Data {
				want, reason := c.status, c.reason
				if k.ID == theirs.Key.ID {
					want, reason = "active", ""
				}
				if string(k.Status) != want || k.RevokedReason != reason {
					t.Errorf("%s is %s, %q", k.Name, k.Status, k.RevokedReason)
				}
			}
		})
	}
}

// Who may not revoke keys is not offered it, and can't do it by hand: nothing
// happens then, not even half of it.
func TestRemoveMemberWithoutKeyPermission(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	customRole(t, s, s.Workspace, "host", "api.member.*", "api.key.view", "api.key.create", "api.key.grant", "read")
	customRole(t, s, s.Workspace, "plain", "read")
	customRole(t, s, s.Workspace, "maker", "api.key.view", "api.key.create", "read")
	host, _ := member(t, s, s.Workspace, "Hal", "host")
	bea, m := member(t, s, s.Workspace, "Bea", "maker")
	bea.post(base+"/keys", "nonce", "1", "name", "Bea's", "role", "plain").is(http.StatusCreated)
	path := base + "/members/" + m.ID + "/remove"
	host.get(path).is(http.StatusOK).shows("Bea's", "Keep them").lacks(`value="revoke"`)
	host.post(path, "keys", "revoke").is(http.StatusForbidden).shows("api.key.delete")
	bea.get(base + "/keys").is(http.StatusOK).shows("Active")
	host.done(path, "keys", "keep")
	bea.get(base + "/keys").is(http.StatusSeeOther) // to the sign-in page: it was her only workspace
}
