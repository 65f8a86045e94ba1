package dashboard_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// product starts a server with one of the example profiles.
func product(t testing.TB, name string, options ...keystiletest.Option) *keystiletest.Server {
	t.Helper()
	return keystiletest.New(t, append(options, keystiletest.Profile(filepath.Join("..", "..", "examples", name+".yaml")))...)
}

// create makes a key at the pages and returns its secret and its Key ID.
func create(v *browser, s *keystiletest.Server, name string, pairs ...string) (secret, id string) {
	v.t.Helper()
	form := v.get("/w/" + s.Workspace + "/keys/new").is(http.StatusOK)
	shown := v.post("/w/"+s.Workspace+"/keys", append([]string{"nonce", form.field("nonce"), "name", name}, pairs...)...).is(http.StatusCreated)
	secret = text(shown.one("output"))
	for _, k := range keys(v.t, s) {
		if k.Name == name {
			return secret, k.ID
		}
	}
	v.t.Fatalf("no key %q was made", name)
	return "", ""
}

// keys are those of the first workspace, newest first.
func keys(t testing.TB, s *keystiletest.Server) []keystile.Key {
	t.Helper()
	list, err := s.Operator.Keys(t.Context(), s.Workspace, keystile.ListKeys{Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	return list.Data
}

// decided is what the server says of a key that somebody presents.
func decided(t testing.TB, s *keystiletest.Server, secret string) keystile.Code {
	t.Helper()
	d, err := s.Operator.Verify(t.Context(), keystile.VerifyRequest{Key: secret})
	if err != nil {
		t.Fatal(err)
	}
	return d.Code
}

// headers are the columns' names.
func headers(p *page) (names []string) {
	for _, n := range p.find("th") {
		if attribute(n, "scope") == "col" {
			names = append(names, text(n))
		}
	}
	return names
}

// Each product's list has the columns, the buttons, the preview and the words
// of its manual: VQ2, VX1, VX4, IP2, IP3, VZ1, VZ2, VZ4, TN1.
func TestListOfEachProduct(t *testing.T) {
	for _, c := range []struct {
		product, row    string
		menu, title     string
		empty, create   string
		more            string
		columns, beside []string
		preview         string // how a preview begins
	}{
		{"voqo", "VQ2", "Developer Tools", "API keys", "No API keys yet", "Create API key", "Create API key",
			[]string{"Usage label", "Key", "Role", "Environment", "Created", "Last used", "Status", "Actions"},
			[]string{"Rotate", "Revoke", "⋯", "Edit", "Disable"}, "vq_•"},
		{"voxum", "VX1_VX4", "API Keys", "API Keys", "No API Keys", "Create API Key", "Create API Key",
			[]string{"Name", "Key preview", "Created", "Last used", "Status", "Actions"}, []string{"Edit", "Revoke"}, "vx_"},
		{"ipaware", "IP2_IP3", "API Keys", "API Keys", "No API keys yet", "+ Create New Key", "+ Create New Key",
			[]string{"Name", "Key ID", "Role", "Created", "Status", "Actions"}, []string{"Edit", "Revoke"}, "key_"},
		{"vozagent", "VZ1_VZ2_VZ4", "Integrations", "API Keys", "No API Keys Yet", "Create API Key", "Create New API Key",
			[]string{"Name", "Key", "Created", "Actions"}, []string{"Copy", "Delete"}, "gw_•"},
		{"tenant", "TN1", "API Keys", "API Keys", "No API keys yet", "Create API key", "Create API key",
			[]string{"Name", "Key", "Environment", "Created", "Last used", "Status", "Actions"},
			[]string{"Rotate", "Revoke", "⋯", "Edit", "Disable"}, "tn_dev_"},
	} {
		t.Run(c.product+"/"+c.row, func(t *testing.T) {
			t.Parallel()
			s := product(t, c.product)
			v := admin(t, s)
			list := "/w/" + s.Workspace + "/keys"
			p := v.get(list).is(http.StatusOK).shows(c.empty)
			p.one("button", c.create)
			if len(p.find("a", c.menu)) == 0 { // in the menu, and perhaps among the tabs
				t.Errorf("no way leads to %q", c.menu)
			}
			if text(p.one("h1")) != c.title {
				t.Errorf("the title is %q", text(p.one("h1")))
			}
			secret, _ := create(v, s, "CRM sync", "description", "Runs at night")
			p = v.get(list).is(http.StatusOK).shows("Runs at night").lacks(secret)
			p.one("button", c.more)
			if got := headers(p); !slices.Equal(got, c.columns) {
				t.Errorf("columns %q", got)
			}
			row := p.one("tr", "CRM sync")
			if got := buttons(row); !slices.Equal(got, c.beside) {
				t.Errorf("buttons %q", got)
			}
			if !strings.Contains(text(row), c.preview) {
				t.Errorf("no preview in %q", text(row))
			}
			if decided(t, s, secret) != keystile.CodeValid {
				t.Error("the key is not valid")
			}
		})
	}
}

// VQ2, VX3, IP2, VZ3, TN1: a secret is on one answer alone, with a line that
// tries it; sending the form again makes no second key and shows nothing.
func TestShownOnceVX3(t *testing.T) {
	for _, c := range []struct{ product, header, done, asks string }{
		{"voqo", "Authorization: Bearer vq_", "Done", "not copied yet"},
		{"voxum", "X-API-Key: vx_", "Done", "not copied yet"},
		{"ipaware", "Authorization: Bearer ipa_", "I have copied it", "not copied yet"},
		{"vozagent", "Authorization: Bearer gw_", "Done", "not copied yet"},
		{"tenant", "Authorization: Bearer tn_dev_", "Done", "not copied yet"},
	} {
		t.Run(c.product, func(t *testing.T) {
			t.Parallel()
			s := product(t, c.product)
			v := admin(t, s)
			path := "/w/" + s.Workspace + "/keys"
			form := []string{"nonce", v.get(path + "/new").field("nonce"), "name", "Reports of the night"}
			shown := v.post(path, form...).is(http.StatusCreated)
			dialog := shown.one("dialog")
			secret := text(shown.one("output"))
			id := keys(t, s)[0].ID
			for _, words := range []string{secret, id, c.header, "/v1/me", c.done} {
				if !strings.Contains(text(dialog), words) {
					t.Errorf("the dialog does not say %q: %s", words, text(dialog))
				}
			}
			if !strings.Contains(attribute(dialog, "data-uncopied"), c.asks) {
				t.Errorf("closing asks %q", attribute(dialog, "data-uncopied"))
			}
			if strings.Count(shown.body, secret) != 2 {
				t.Error("the secret is elsewhere than beside its button and in the line that tries it")
			}
			v.post(path, form...).is(http.StatusOK).lacks(secret).shows("created before", "Reports of the night", id)
			if n := len(keys(t, s)); n != 1 {
				t.Errorf("%d keys", n)
			}
			for _, again := range []string{path, path + "/" + id, path + "/" + id + "/edit", "/w/" + s.Workspace + "/hygiene"} {
				v.get(again).lacks(secret)
			}
		})
	}
}

// The address that a form without fields leaves is tidied.
func TestQuestionMark(t *testing.T) {
	s := keystiletest.New(t)
	v := admin(t, s)
	_, id := create(v, s, "Billing")
	for _, path := range []string{"/keys", "/keys/" + id, "/hygiene"} {
		p := v.get("/w/" + s.Workspace + path + "?").is(http.StatusSeeOther)
		if got := p.header.Get("Location"); got != "/w/"+s.Workspace+path {
			t.Errorf("%s? leads to %q", path, got)
		}
	}
}

// VX2: a name that says nothing gets a nudge, and the key.
func TestNudgeVX2(t *testing.T) {
	s := product(t, "voxum")
	v := admin(t, s)
	path := "/w/" + s.Workspace + "/keys"
	form := v.get(path + "/new").shows("descriptive name")
	if name := form.find("input"); len(name) == 0 || !strings.Contains(form.body, `id="name" name="name" required`) {
		t.Error("the name is not required")
	}
	v.post(path, "nonce", "n", "name", " ").is(http.StatusUnprocessableEntity).shows("Name is missing")
	for _, c := range []struct {
		name  string
		nudge bool
	}{
		{"Key 1", true}, {"Test", true}, {"my new api key", true}, {"x", true}, {"123", true},
		{"Inventory Integration", false}, {"CRM Sync", false}, {"Test bench of Hall 3", false}, {"Schlüssel für die Kasse", false}, {"在庫", false},
	} {
		p := v.post(path, "name", c.name).is(http.StatusCreated)
		if got := strings.Contains(text(p.one("dialog")), "says little"); got != c.nudge {
			t.Errorf("%q: nudged %t", c.name, got)
		}
	}
}

// What can't be created is said above the form, which keeps what was typed.
func TestCreateProblems(t *testing.T) {
	s := product(t, "ipaware")
	v := admin(t, s)
	path := "/w/" + s.Workspace + "/keys"
	typed := []string{"name", "Door server", "description", "In the cellar", "owner", "Facilities", "role", "reporting", "environment", "staging"}
	for _, c := range []struct {
		name string
		more []string
		says string
	}{
		{"no address", []string{"ip_allowlist", "the cellar"}, "not an IP address"},
		{"no day", []string{"expires", "soon"}, "not a day"},
		{"a day that is over", []string{"expires", "2001-01-01"}, "in the past"},
		{"narrowed to nothing", []string{"narrow", "1"}, "names no permission"},
		{"narrowed to more", []string{"narrow", "1", "permissions[]", "rules.update"}, "does not have rules.update"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := v.post(path, append(slices.Clone(typed), c.more...)...).is(http.StatusUnprocessableEntity).shows(c.says)
			for i := 0; i < len(typed); i += 2 {
				if got := p.field(typed[i]); got != typed[i+1] {
					t.Errorf("%s is %q now", typed[i], got)
				}
			}
			if c.more[0] != "narrow" && p.field(c.more[0]) != c.more[1] {
				t.Errorf("%s is gone", c.more[0])
			}
		})
	}
	if n := len(keys(t, s)); n != 0 {
		t.Fatalf("%d keys were made", n)
	}
	create(v, s, "Door server", append(typed[2:], "ip_allowlist", "203.0.113.7\r\n2001:db8::/32", "narrow", "1", "permissions[]", "reports.view", "expires", "2090-12-31")...)
	k := keys(t, s)[0]
	if k.Role != "reporting" || k.Environment != "staging" || k.Owner != "Facilities" || !slices.Equal(k.IPAllowlist, []string{"203.0.113.7", "2001:db8::/32"}) ||
		!slices.Equal(k.Permissions, keystile.Permissions{"reports.view"}) || k.ExpiresAt.Format("2006-01-02 15:04") != "2091-01-01 00:00" {
		t.Errorf("the key %+v", k)
	}
}

// IP9: the plan's limit is a refusal that says what to do.
func TestPlanLimitIP9(t *testing.T) {
	s := product(t, "ipaware")
	v := admin(t, s)
	for range 5 {
		create(v, s, "Server")
	}
	v.post("/w/"+s.Workspace+"/keys", "name", "One more").is(http.StatusForbidden).
		shows("Plan limit reached", "Revoke keys that are no longer used", "Upgrade to a plan").lacks("<output")
}

// Search, the status filter, the maker and paging: each narrows the list.
func TestFilterKeys(t *testing.T) {
	s := keystiletest.New(t)
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	_, off := create(v, s, "Alpha billing", "owner", "Team Blue")
	_, gone := create(v, s, "Beta billing")
	create(v, s, "Gamma", "description", "straße 7")
	v.post(list + "/" + off + "/disable").is(http.StatusSeeOther)
	v.post(list + "/" + gone + "/revoke").is(http.StatusSeeOther)
	maker := s.Key(s.Workspace, keystile.CreateKey{Name: "Automat", Role: "admin"})
	if _, err := s.Client(maker.Secret).CreateKey(t.Context(), s.Workspace, keystile.CreateKey{Name: "Delta"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"", []string{"Delta", "Automat", "Gamma", "Alpha billing", "Beta billing"}},
		{"?q=billing", []string{"Alpha billing", "Beta billing"}},
		{"?q=STRA%C3%9FE", []string{"Gamma"}},
		{"?q=team+blue", []string{"Alpha billing"}},
		{"?q=" + gone, []string{"Beta billing"}},
		{"?status=disabled", []string{"Alpha billing"}},
		{"?status=revoked", []string{"Beta billing"}},
		{"?status=active", []string{"Delta", "Automat", "Gamma"}},
		{"?q=billing&status=active", nil},
		{"?created_by=" + maker.Key.ID, []string{"Delta"}},
	} {
		p := v.get(list + c.query).is(http.StatusOK)
		var got []string
		for _, n := range p.find("th") {
			if attribute(n, "scope") == "row" {
				got = append(got, text(p.nameIn(n)))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.query, got)
		}
		if len(c.want) == 0 {
			p.shows("No key matches")
		}
	}
	for _, c := range []struct {
		query  string
		status int
	}{{"?status=king", 422}, {"?cursor=x", 422}, {"?q=" + strings.Repeat("x", 101), 422}} {
		v.get(list + c.query).is(c.status).shows("Go to API keys")
	}
}

func (p *page) nameIn(th *html.Node) *html.Node {
	for n := range th.Descendants() {
		if n.Type == html.ElementNode && n.Data == "a" {
			return n
		}
	}
	p.t.Fatalf("%s: no name in %q", p.what, text(th))
	return nil
}

// Paging goes through all keys once, and keeps the filter.
func TestPageKeys(t *testing.T) {
	s := keystiletest.New(t)
	for range 70 {
		s.Key(s.Workspace, keystile.CreateKey{Name: "Till of a shop"})
		s.Key(s.Workspace, keystile.CreateKey{Name: "Other"})
	}
	v := admin(t, s)
	seen, path, pages := map[string]bool{}, "/w/"+s.Workspace+"/keys?q=till", 0
	for path != "" {
		p := v.get(path).is(http.StatusOK)
		pages++
		for _, n := range p.find("input") {
			if attribute(n, "name") == "key[]" {
				seen[attribute(n, "value")] = true
			}
		}
		path = ""
		for _, n := range p.find("a", "Next page") {
			path = attribute(n, "href")
		}
		if pages > 1 {
			p.one("a", "First page")
		}
		if pages == 3 { // and back, page by page
			second := v.get(attribute(p.one("a", "Previous page"), "href")).is(http.StatusOK)
			first := v.get(attribute(second.one("a", "Previous page"), "href")).is(http.StatusOK).lacks("Previous page")
			if a, b := text(first.one("tbody")), text(v.get("/w/"+s.Workspace+"/keys?q=till").one("tbody")); a != b {
				t.Errorf("the way back leads to %q instead of %q", a, b)
			}
		}
	}
	if len(seen) != 70 || pages != 3 {
		t.Errorf("%d keys on %d pages", len(seen), pages)
	}
	v.get("/w/" + s.Workspace + "/keys").shows("140 keys")
}

// What is live stands before what is over, on whichever page that begins, and
// all of it is seen.
func TestLiveKeysFirst(t *testing.T) {
	s := keystiletest.New(t)
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	for range 35 {
		s.Key(s.Workspace, keystile.CreateKey{Name: "Live"})
	}
	var over []string
	for range 30 {
		over = append(over, "key[]", s.Key(s.Workspace, keystile.CreateKey{Name: "Over"}).Key.ID)
	}
	v.done(list+"/revoke", over...).shows("65 keys")
	var got []string
	for path := list; path != ""; {
		p := v.get(path).is(http.StatusOK)
		for _, n := range p.find("th") {
			if attribute(n, "scope") == "row" {
				got = append(got, text(p.nameIn(n)))
			}
		}
		path = ""
		for _, n := range p.find("a", "Next page") {
			path = attribute(n, "href")
		}
	}
	if want := append(slices.Repeat([]string{"Live"}, 35), slices.Repeat([]string{"Over"}, 30)...); !slices.Equal(got, want) {
		t.Errorf("the list is %q", got)
	}
	p := v.get(list + "?status=revoked").is(http.StatusOK)
	if len(p.find("input")) != 1 { // the search: what is over can't be chosen
		t.Errorf("%d inputs", len(p.find("input")))
	}
}

// One key is ended from a search, and the search is there afterwards, with the
// offer of a replacement.
func TestRevokeKeepsSearch(t *testing.T) {
	s := product(t, "voqo")
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	_, id := create(v, s, "Alpha billing", "role", "reporting")
	create(v, s, "Gamma")
	back := v.get(list + "?q=billing&status=active").field("back")
	v.get(list + "/" + id + "/revoke?" + url.Values{"back": {back}}.Encode()).is(http.StatusOK)
	p := v.done(list+"/"+id+"/revoke", "back", back, "reason", "unneeded").lacks("Gamma").shows("Alpha billing", "Create replacement")
	if p.field("q") != "billing" || p.field("status") != "active" {
		t.Errorf("the search is %q, the status %q", p.field("q"), p.field("status"))
	}
	form := v.get(list + "/new?like=" + id).is(http.StatusOK)
	if form.field("name") != "Alpha billing" || form.field("role") != "reporting" {
		t.Error("the replacement is not like the key")
	}
	v.get(list+"/"+id).is(http.StatusOK).one("button", "Create replacement")
	// Nothing else than the list can be named.
	other := v.post(list+"/"+id+"/revoke", "back", "keys?//evil.example/&done=x&q=a").is(http.StatusSeeOther)
	if !strings.HasPrefix(other.to, list+"?q=a&done=revoked") {
		t.Errorf("leads to %q", other.to)
	}
}
