package dashboard_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// VQ1: the switcher selects the workspace; those without Developer Tools are
// refused in words.
func TestSwitchWorkspaceVQ1(t *testing.T) {
	s := keystiletest.New(t, keystiletest.Profile(filepath.Join("..", "..", "examples", "voqo.yaml")))
	second := s.NewWorkspace("Second", "growth")
	ada, _ := member(t, s, s.Workspace, "Ada", "developer")
	ada.enter(invite(t, s, keyring.Operator("test"), newMember(t, s, second.ID, "Ada of Second", "agent"))) // joins as who she is

	p := ada.get("/workspaces").is(http.StatusOK).shows("Default", "Second", "Agent").lacks("All workspaces", "Create workspace")
	if n := len(p.all("a", func(n *html.Node) bool { return strings.HasPrefix(attribute(n, "href"), "/w/") })); n != 2 {
		t.Errorf("%d workspaces to go to", n)
	}
	first := ada.get(ada.get("/w/" + s.Workspace + "/").is(http.StatusSeeOther).to)
	first.one("a", "Developer Tools")
	ada.get("/w/"+second.ID+"/").is(http.StatusForbidden).shows("Your role in this workspace lacks", "Ask an administrator")
	if len(ada.get("/w/"+second.ID+"/keys").is(http.StatusForbidden).find("a", "Developer Tools")) != 0 {
		t.Error("the menu offers what does not open")
	}
}

// An operator finds every workspace, makes one, changes its plan, suspends and
// resumes it.
func TestOperatorsWorkspaces(t *testing.T) {
	s := keystiletest.New(t, keystiletest.Profile(filepath.Join("..", "..", "examples", "voqo.yaml")))
	op := operator(t, s)
	p := op.get("/workspaces/new").is(http.StatusOK)
	op.post("/workspaces", "name", " ", "plan", "growth").is(http.StatusUnprocessableEntity).shows("name is required")
	in := []string{"nonce", p.field("nonce"), "name", "Acme", "plan", "growth"}
	op.done("/workspaces", in...).shows("Created.", "Growth")
	op.done("/workspaces", in...)
	p = op.get("/workspaces?q=acm").is(http.StatusOK).lacks(">Default<")
	if n := len(p.all("tr", func(n *html.Node) bool { return strings.Contains(text(n), "Acme") })); n != 1 {
		t.Fatalf("%d workspaces of the name: %s", n, p.words())
	}
	link := p.all("a", func(n *html.Node) bool { return text(n) == "Acme" })[0]
	base := strings.TrimSuffix(attribute(link, "href"), "/")

	op.done(base+"/settings/plan", "plan", "enterprise").shows("Saved.", "Enterprise")
	op.post(base+"/settings/plan", "plan", "golden").is(http.StatusUnprocessableEntity).shows("no plan of this name")
	op.get(base + "/settings/suspend").is(http.StatusOK).shows("Suspend Acme")
	key := s.Key(strings.TrimPrefix(base, "/w/"), keystile.CreateKey{Name: "Acme's"})
	op.done(base+"/settings/suspend", "reason", "unpaid since May").shows("Suspended.", "Reason: unpaid since May", "Resume")
	if d, err := s.Operator.Verify(t.Context(), keystile.VerifyRequest{Key: key.Secret}); err != nil || d.Code != keystile.CodeWorkspaceSuspended {
		t.Errorf("a key of the suspended workspace: %+v, %v", d, err)
	}
	op.get("/workspaces").shows("Suspended")
	op.done(base + "/settings/resume").shows("Resumed.").lacks("unpaid")
	if d, err := s.Operator.Verify(t.Context(), keystile.VerifyRequest{Key: key.Secret}); err != nil || !d.Valid {
		t.Errorf("a key of the resumed workspace: %+v, %v", d, err)
	}

	// Its own workspace has no plan and can't be suspended.
	own := "/w/ws_operator"
	op.get(own+"/settings").is(http.StatusOK).lacks("Change plan", "Suspend</button>")
	op.post(own + "/settings/suspend").is(http.StatusConflict).shows("can't be suspended")
	for _, path := range []string{"/members", "/roles", "/plans", "/audit", "/usage"} {
		op.get(own + path).is(http.StatusOK)
	}
}

// IP8: the workspace's allowlist holds for keys and members; one who would
// lock themselves out is warned, and asked a second time.
func TestAllowlistIP8(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	admin, _ := member(t, s, s.Workspace, "Ada", "admin")
	admin.get(base+"/settings").is(http.StatusOK).shows("You come from 127.0.0.1", "Allowed addresses")

	for _, list := range []string{"127.0.0.1", "127.0.0.0/8\n2001:db8::/32", ""} {
		admin.done(base+"/settings", "name", "Default", "ip_allowlist", list).shows("Saved.")
	}
	bad := admin.post(base+"/settings", "name", "Renamed", "ip_allowlist", "127.0.0.1\nhome").is(http.StatusUnprocessableEntity).
		shows("not an IP address such as 203.0.113.7, or a CIDR range")
	if got := bad.field("ip_allowlist"); got != "127.0.0.1 home" || bad.field("name") != "Renamed" {
		t.Errorf("what was typed is gone: %q", got)
	}

	away := []string{"name", "Renamed", "ip_allowlist", "192.0.2.0/24"}
	admin.post(base+"/settings", away...).is(http.StatusConflict).
		shows("You would lock yourself out", "Nothing was saved yet", "127.0.0.1", "192.0.2.0/24")
	admin.get(base+"/settings").is(http.StatusOK).lacks("192.0.2.0", "Renamed")
	typed := admin.post(base+"/settings", append(away, "back", "1")...).is(http.StatusOK)
	if typed.field("ip_allowlist") != "192.0.2.0/24" || typed.field("name") != "Renamed" {
		t.Error("what was typed is gone on the way back from the warning")
	}
	with := admin.post(base+"/settings", away...).hidden()[:4] // the form that adds the address
	admin.done(base+"/settings", with...).shows("Saved.", "192.0.2.0/24 127.0.0.1")
	admin.post(base+"/settings", append(away, "confirm", "lockout")...).is(http.StatusSeeOther)
	admin.get(base+"/settings?done=saved").lacks("Saved.").is(http.StatusForbidden).shows("from certain addresses only", "Come from an address")

	// The operator is not bound, and puts it right without a warning.
	op := operator(t, s)
	op.get(base + "/settings").is(http.StatusOK).shows("192.0.2.0/24").holds("Renamed")
	op.done(base+"/settings", "name", "Renamed", "ip_allowlist", "192.0.2.0/24 198.51.100.7").shows("198.51.100.7")
	op.done(base+"/settings", "name", "Renamed", "ip_allowlist", "")
	admin.get(base + "/settings").is(http.StatusOK)
}

// IP8: everyone is held to the list of the workspace that their place is in:
// its members, whoever came by its admin's link, and the operators to that of
// their own. The operator's link alone, which takes a command on the server,
// is held to none: by it a list that locks everyone out is put right.
func TestAllowlistOfOnesOwnPlaceIP8(t *testing.T) {
	s := keystiletest.New(t, keystiletest.TrustedProxy("127.0.0.0/8"))
	other := s.NewWorkspace("Other", "")
	settings := func(workspace string) string { return "/w/" + workspace + "/settings" }
	who := map[string]*browser{"link": operator(t, s), "admin's link": admin(t, s)}
	who["member"], _ = member(t, s, s.Workspace, "Ada", "admin")
	who["operator"], _ = member(t, s, keyring.OperatorWorkspace, "Olga", "operator")
	for name, b := range who {
		b.header.Set("X-Forwarded-For", "192.0.2.1")
		b.get(settings(s.Workspace)).is(http.StatusOK)
		if name == "operator" || name == "link" {
			b.get(settings(other.ID)).is(http.StatusOK)
		}
	}
	expect := func(list, workspace string, inside ...string) {
		t.Helper()
		for name, b := range who {
			p := b.get(settings(workspace))
			if (p.status == http.StatusOK) != slices.Contains(inside, name) {
				t.Errorf("%s: %s: %d: %s", list, name, p.status, p.words())
			} else if p.status != http.StatusOK && name != "member" && name != "admin's link" {
				p.is(http.StatusForbidden).shows("from certain addresses only")
			}
		}
	}
	// A member and the admin's link are warned before they lock themselves out; the operator is not locked out.
	for _, name := range []string{"member", "admin's link"} {
		who[name].post(settings(s.Workspace), "name", "Default", "ip_allowlist", "198.51.100.0/24").is(http.StatusConflict).shows("You would lock yourself out")
	}
	who["operator"].done(settings(s.Workspace), "name", "Default", "ip_allowlist", "198.51.100.0/24")
	expect("of the workspace", s.Workspace, "link", "operator")
	who["operator"].done(settings(s.Workspace), "name", "Default", "ip_allowlist", "")
	expect("none", s.Workspace, "link", "operator", "member", "admin's link")

	own := settings(keyring.OperatorWorkspace)
	away := []string{"name", "Operator", "ip_allowlist", "198.51.100.0/24"}
	who["operator"].post(own, away...).is(http.StatusConflict).shows("You would lock yourself out")
	who["operator"].post(own, append(away, "confirm", "lockout")...).is(http.StatusSeeOther)
	expect("of the operators", s.Workspace, "link", "member", "admin's link")
	expect("of the operators, elsewhere", other.ID, "link")
	who["link"].done(own, "name", "Operator", "ip_allowlist", "")
	expect("none", s.Workspace, "link", "operator", "member", "admin's link")
}

// VQ10: which plan and which role allows what, with what there is now.
func TestPlansVQ10(t *testing.T) {
	s := keystiletest.New(t, keystiletest.Profile(filepath.Join("..", "..", "examples", "voqo.yaml")))
	b, _ := member(t, s, s.Workspace, "Ada", "developer")
	s.Key(s.Workspace, keystile.CreateKey{Name: "One"})
	p := b.get("/w/"+s.Workspace+"/plans").is(http.StatusOK).shows("Starter Yours", "Growth", "Enterprise", "support@voqo.ai")
	for _, c := range []struct{ row, want string }{
		{"Active keys", "Active keys 1 25 250 No limit"},
		{"Custom roles 0", "Custom roles 0 5 No limit No limit"},
		{"Single sign-on", "Single sign-on – No – No ✓ Yes"},
		{"calls.create", "Yes"},
		{"api.member.delete", "✓ Yes – No – No – No – No – No"}, // the admin alone
	} {
		if got := text(p.one("tr", c.row)); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.row, got, c.want)
		}
	}
}

// IP9: a limit of the plan is told with what to do about it.
func TestWorkspacePlanLimitIP9(t *testing.T) {
	s := keystiletest.New(t, keystiletest.ProfileText("product: P\nprefix: pp\nplans:\n  - name: tiny\n    limits: {members: 1, custom_roles: 0}\n"))
	base := "/w/" + s.Workspace
	admin, _ := member(t, s, s.Workspace, "Ada", "admin")
	admin.post(base+"/members", "name", "Bea", "role", "viewer").is(http.StatusForbidden).
		shows("allows 1 member in a workspace", "Plans and permissions", "Remove members who no longer need access", "Upgrade")
	admin.post(base+"/roles", "name", "Own", "permission", "*").is(http.StatusForbidden).shows("allows 0 custom roles", "Upgrade")
}

// TestServers: operators see the servers of the installation with what each of
// them says of itself; nobody else does.
func TestServers(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	op := operator(t, s)
	op.get("/workspaces").is(http.StatusOK).shows("Servers of this installation")
	op.get("/servers").is(http.StatusOK).shows("This one", keystile.Version, "needs none", "refuses")
}

// TestUnreachedIsShown: what the address says of servers that a change has not
// reached is shown, and nothing that no server of ours can have written.
func TestUnreachedIsShown(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	op := operator(t, s)
	at := func(servers string, until time.Time) string {
		return "/workspaces?done=revoked&unreached=" + servers + "&until=" + strconv.FormatInt(until.Unix(), 10)
	}
	soon := time.Now().Add(time.Hour)
	op.get(at("2", soon)).is(http.StatusOK).shows("Not everywhere yet", "2 servers have", soon.UTC().Format(time.RFC3339))
	for _, path := range []string{at("0", soon), at("1", soon.AddDate(1, 0, 0)), at("1", time.Now().Add(-time.Minute)), at("x", soon), "/workspaces?done=revoked"} {
		op.get(path).is(http.StatusOK).lacks("Not everywhere yet")
	}
}
