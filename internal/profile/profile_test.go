package profile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
)

const day = 24 * time.Hour

// least is the smallest profile there is.
const least = "product: Voxum\nprefix: vx\n"

func parse(t *testing.T, text string) *profile.Profile {
	t.Helper()
	p, err := profile.Parse("voxum.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefault(t *testing.T) {
	p := profile.Default()
	if p.Product != "Keystile" || p.Prefix != "ks" {
		t.Errorf("product %q, prefix %q; want Keystile, ks", p.Product, p.Prefix)
	}
	loaded, err := profile.Load("")
	if err != nil || !reflect.DeepEqual(loaded, p) {
		t.Errorf("Load of no path is not the default (%v)", err)
	}
	for _, got := range []struct {
		what      string
		got, want any
	}{
		{"headers", p.Headers, []string{"Authorization", "X-API-Key"}},
		{"show_header", p.ShowHeader, "Authorization"},
		{"unauthorized", p.Unauthorized, "Unauthorized"},
		{"preview", p.Preview, keystile.PreviewLast},
		{"environment", p.DefaultEnvironment(), "production"},
		{"role", p.DefaultRole, "service"},
		{"plan", p.DefaultPlan, "standard"},
		{"retention", p.Retention, profile.Retention{Audit: 400 * day, Usage: 400 * day, Sources: 90 * day, Deliveries: 30 * day, Alerts: 90 * day}},
		{"alerts", p.Alerts, profile.Alerts{Expiring: []time.Duration{30 * day, 7 * day, day}, Notice: 7 * day, FailureWindow: 5 * time.Minute, FailureFloor: 100, FailureFactor: 5}},
		{"sign_in", p.SignIn, profile.SignIn{Session: 12 * time.Hour, Fresh: time.Hour, Embed: []string{}}},
		{"overlap", p.Keys.MaxOverlap, 30 * day},
	} {
		if !reflect.DeepEqual(got.got, got.want) {
			t.Errorf("%s: %v, want %v", got.what, got.got, got.want)
		}
	}
}

// What a profile leaves out is as in the default one, whatever it gives.
func TestParseLeftOut(t *testing.T) {
	got := parse(t, least)
	want := profile.Default()
	want.Product, want.Prefix = "Voxum", "vx"
	for i := range reflect.TypeFor[profile.Profile]().NumField() {
		f := reflect.TypeFor[profile.Profile]().Field(i)
		if !f.IsExported() {
			continue
		}
		g, w := reflect.ValueOf(got).Elem().Field(i).Interface(), reflect.ValueOf(want).Elem().Field(i).Interface()
		if !reflect.DeepEqual(g, w) {
			t.Errorf("%s: %v, want %v", f.Name, g, w)
		}
	}
	if got.Format().Prefix() != "vx" {
		t.Errorf("format has prefix %q, want vx", got.Format().Prefix())
	}
}

func TestParseForms(t *testing.T) {
	for _, c := range []struct {
		name, text string
		get        func(*profile.Profile) any
		want       any
	}{
		{"flow", "{product: Voxum, prefix: vx, preview: first}", func(p *profile.Profile) any { return p.Preview }, keystile.PreviewFirst},
		{"crlf", "product: Voxum\r\nprefix: vx\r\n", func(p *profile.Profile) any { return p.Product + p.Prefix }, "Voxumvx"},
		{"byte order mark", "\ufeff" + least, func(p *profile.Profile) any { return p.Product }, "Voxum"},
		{"document marker", "---\n" + least + "...\n", func(p *profile.Profile) any { return p.Product }, "Voxum"},
		{"folded", "product: >\n  Vo\n  xum\nprefix: vx\n", func(p *profile.Profile) any { return p.Product }, "Vo xum"},
		{"not ASCII", "product: Größe 語\nprefix: vx\n", func(p *profile.Profile) any { return p.Product }, "Größe 語"},
		{"unquoted off", least + "keys: {revoke: off, delete: true}\n", func(p *profile.Profile) any { return p.Keys.Revoke }, profile.RevokeOff},
		{"days", least + "keys: {idle_after: 1d12h30m}\n", func(p *profile.Profile) any { return p.Keys.IdleAfter }, 36*time.Hour + 30*time.Minute},
		{"hours", least + "keys: {idle_after: 48h}\n", func(p *profile.Profile) any { return p.Keys.IdleAfter }, 2 * day},
		{"zero", least + "keys: {idle_after: 0}\n", func(p *profile.Profile) any { return p.Keys.IdleAfter }, time.Duration(0)},
		{"zero days", least + "keys: {max_overlap: 0d}\n", func(p *profile.Profile) any { return p.Keys.MaxOverlap }, time.Duration(0)},
		{"a hundred years", least + "retention: {audit: 36500d}\n", func(p *profile.Profile) any { return p.Retention.Audit }, 36500 * day},
		{"the rest of a mapping stays", least + "retention: {audit: 30d}\n", func(p *profile.Profile) any { return p.Retention.Usage }, 400 * day},
		{"one word of many", least + "words: {menu: Keys}\n", func(p *profile.Profile) any { return p.Word("menu") + p.Word("copied_button") }, "KeysDone"},
		{"a word that another follows", least + "words: {create_button: New}\n", func(p *profile.Profile) any { return p.Word("create_button_more") + p.Word("create_title") }, "NewNew"},
		{"a follower of its own", least + "words: {create_button: New, create_button_more: Another}\n", func(p *profile.Profile) any { return p.Word("create_button_more") }, "Another"},
		{"no word", least, func(p *profile.Profile) any { return p.Word("nothing") }, ""},
		{"no environments", least + "environments: []\n", func(p *profile.Profile) any { return p.DefaultEnvironment() }, ""},
		{"titles", least + "environments: [{name: pre-live}]\n", func(p *profile.Profile) any { e, _ := p.Environment("pre-live"); return e.Title }, "Pre live"},
		{"rotation of all", least + "environments: [{name: a}, {name: b, rotate_every: 30d}, {name: c, rotate_every: 0}]\nkeys: {rotate_every: 60d}\n",
			func(p *profile.Profile) any {
				return []time.Duration{p.RotateEvery("a"), p.RotateEvery("b"), p.RotateEvery("c"), p.RotateEvery(""), p.RotateEvery("gone")}
			},
			[]time.Duration{60 * day, 30 * day, 0, 60 * day, 60 * day}},
		{"limits", least + "plans: [{name: a, limits: {members: 0, endpoints: 0x10}}]\n", func(p *profile.Profile) any { return p.Plans[0].Limits },
			profile.Limits{ActiveKeys: profile.NoLimit, Members: 0, CustomRoles: profile.NoLimit, WebhookSecrets: profile.NoLimit, Endpoints: 16}},
		{"first plan", least + "plans: [{name: a}, {name: b}]\n", func(p *profile.Profile) any { return p.DefaultPlan }, "a"},
		{"first role of its own", least + "roles: [{name: developer}, {name: a, permissions: []}, {name: b, permissions: []}]\n", func(p *profile.Profile) any { return p.DefaultRole }, "a"},
		{"built-in default role", least + "roles: [{name: viewer, permissions: [read]}]\ndefault_role: viewer\n", func(p *profile.Profile) any { return p.DefaultRole }, "viewer"},
		{"shown header", least + "headers: [X-API-Key]\n", func(p *profile.Profile) any { return p.ShowHeader }, "X-API-Key"},
		{"path of a logo", least + "branding: {logo: /static/logo.svg}\n", func(p *profile.Profile) any { return p.Branding.Logo }, "/static/logo.svg"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.get(parse(t, c.text)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRoles(t *testing.T) {
	p := parse(t, least+`
permissions:
  - {name: calls.read}
  - {name: calls.write}
roles:
  - {name: agent, title: Call agent, permissions: [calls.*]}
  - {name: viewer, description: Calls alone, permissions: [calls.read]}
  - {name: developer, title: Engineer}
`)
	var names []string
	for _, r := range p.Roles {
		names = append(names, r.Name)
	}
	if want := []string{"admin", "developer", "viewer", "agent"}; !slices.Equal(names, want) {
		t.Fatalf("roles %v, want %v", names, want)
	}
	for _, c := range []struct {
		role, title, permission string
		allowed                 bool
	}{
		{"admin", "Admin", "api.role.create", true},
		{"admin", "Admin", "platform.verify", false},
		{"developer", "Engineer", "api.key.create", true},
		{"developer", "Engineer", "api.role.create", false},
		{"viewer", "Viewer", "calls.read", true},
		{"viewer", "Viewer", "api.key.view", false},
		{"agent", "Call agent", "calls.write", true},
		{"agent", "Call agent", "api.key.view", false},
	} {
		r, ok := p.Role(c.role)
		if !ok || r.Title != c.title || r.Permissions.Allow(c.permission) != c.allowed {
			t.Errorf("role %s: %+v, want title %q and %s allowed: %t", c.role, r, c.title, c.permission, c.allowed)
		}
	}
	if _, ok := p.Role("operator"); ok {
		t.Error("tenants have the role operator")
	}
	for _, r := range p.WireRoles() {
		own, _ := p.Role(r.Name)
		if r.ID != "role_"+r.Name || !r.BuiltIn || r.Default != (r.Name == "agent") || !slices.Equal(r.Permissions, own.Permissions) {
			t.Errorf("on the wire: %+v", r)
		}
	}
}

func TestOperatorRoles(t *testing.T) {
	roles := profile.Default().OperatorRoles()
	if len(roles) != 3 || roles[0].Name != profile.RoleOperator || roles[1].Name != profile.RoleVerifier || roles[2].Name != profile.RoleReplica {
		t.Fatalf("got %+v", roles)
	}
	for _, info := range slices.Concat(profile.ManagementPermissions(), profile.PlatformPermissions()) {
		if !roles[0].Permissions.Allow(info.Name) {
			t.Errorf("operator lacks %s", info.Name)
		}
		if roles[1].Permissions.Allow(info.Name) != (info.Name == "platform.verify") {
			t.Errorf("verifier and %s", info.Name)
		}
		if roles[2].Permissions.Allow(info.Name) != (info.Name == "platform.replica") {
			t.Errorf("replica and %s", info.Name)
		}
	}
}

func TestPermissions(t *testing.T) {
	p := parse(t, least+"permissions: [{name: stock.item.write, description: Change items}, {name: read}]\n")
	for _, c := range []struct {
		pattern string
		want    bool
	}{
		{"stock.item.write", true}, {"stock.item.*", true}, {"stock.*", true}, {"read", true}, {"*", true},
		{"api.*", true}, {"api.key.*", true}, {"api.key.grant", true}, {"api.webhook_secret.sign", true},
		{"platform.verify", true}, {"platform.*", true}, {"platform.workspace.*", true},
		{"", false}, {".", false}, {"stock", false}, {"stock.item", false}, {"read.*", false}, {"stock.item.write.*", false},
		{"*.write", false}, {"api", false}, {"api.key", false}, {"api.key.view.*", false}, {"api.nothing.view", false}, {"**", false}, {" read", false},
	} {
		if got := p.PermissionKnown(c.pattern); got != c.want {
			t.Errorf("PermissionKnown(%q) is %t, want %t", c.pattern, got, c.want)
		}
	}
	all := p.PermissionCatalogue()
	if all[0] != (keystile.PermissionInfo{Name: "stock.item.write", Description: "Change items"}) || all[1].Name != "read" ||
		!slices.Equal(all[2:], profile.ManagementPermissions()) {
		t.Errorf("catalogue %v", all)
	}
	var names []string
	for _, info := range slices.Concat(all, profile.PlatformPermissions()) {
		if slices.Contains(names, info.Name) || !p.PermissionKnown(info.Name) {
			t.Errorf("%s is twice in the catalogue, or not known", info.Name)
		}
		names = append(names, info.Name)
	}
	for _, list := range []struct {
		prefix string
		infos  []keystile.PermissionInfo
	}{{keystile.ManagementPrefix, profile.ManagementPermissions()}, {keystile.PlatformPrefix, profile.PlatformPermissions()}} {
		for _, info := range list.infos {
			if !strings.HasPrefix(info.Name, list.prefix) || info.Description == "" {
				t.Errorf("%+v does not begin with %s, or has no description", info, list.prefix)
			}
		}
	}
}

func TestWirePlans(t *testing.T) {
	p := parse(t, least+"plans: [{name: free, limits: {active_keys: 5, custom_roles: 0}}, {name: pro, title: Professional, features: [Support]}]\ndefault_plan: pro\n")
	want := []keystile.Plan{
		{Name: "free", Title: "Free", Limits: map[string]int{"active_keys": 5, "members": -1, "custom_roles": 0, "webhook_secrets": -1, "endpoints": -1}},
		{Name: "pro", Title: "Professional", Default: true, Features: []string{"Support"},
			Limits: map[string]int{"active_keys": -1, "members": -1, "custom_roles": -1, "webhook_secrets": -1, "endpoints": -1}},
	}
	if got := p.WirePlans(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if l, ok := p.Plan("free"); !ok || l.Limits.ActiveKeys != 5 {
		t.Errorf("plan free: %+v, %t", l, ok)
	}
	if _, ok := p.Plan("gold"); ok {
		t.Error("there is a plan gold")
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "voxum.yaml")
	if err := os.WriteFile(path, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := profile.Load(path); err != nil || p.Prefix != "vx" {
		t.Errorf("got %+v, %v", p, err)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte(least+strings.Repeat("#\n", 128<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{big, big + ":1: the file has more than 256 KiB; a profile is far smaller: check the path"},
		{filepath.Join(dir, "none.yaml"), "cannot open the profile: open " + dir + "/none.yaml: no such file or directory; check the path"},
		{dir, "cannot read the profile: read " + dir + ": is a directory; check the path"},
	} {
		if p, err := profile.Load(c.path); p != nil || err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// A file within the size limit is read or refused in a moment, whatever it
// holds: aliases are not followed and depth is bounded before parsing.
func TestParseHostile(t *testing.T) {
	const size = 250 << 10
	laughs := "a0: &a0 [ha, ha]\n"
	for i := 1; i < 40; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	keys := new(strings.Builder)
	for i := 0; keys.Len() < size; i++ {
		fmt.Fprintf(keys, "w%d: x\n", i)
	}
	steps := new(strings.Builder)
	for i := 0; steps.Len() < size; i++ {
		steps.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for _, c := range []struct{ name, text string }{
		{"billion laughs", laughs},
		{"laughs within a field", least + "words: &w {menu: *w}\n"},
		{"brackets", strings.Repeat("[", size)},
		{"closed brackets", strings.Repeat("[", size/2) + strings.Repeat("]", size/2)},
		{"braces", strings.Repeat("{a: ", size/4)},
		{"dashes", strings.Repeat("- ", size/2)},
		{"question marks", strings.Repeat("? ", size/2)},
		{"steps", steps.String()},
		{"many keys", keys.String()},
		{"many words", least + "words:\n  " + strings.ReplaceAll(strings.TrimSpace(keys.String()[:size/2]), "\n", "\n  ")},
		{"long list", least + "columns: [" + strings.Repeat("a,", size/2) + "]"},
		{"long text", "product: " + strings.Repeat("x", size) + "\nprefix: vx\n"},
		{"long key", strings.Repeat("x", size) + ": 1\n"},
		{"many documents", strings.Repeat("--- a\n", size/6)},
		{"zeros", strings.Repeat("\x00", size)},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			p, err := profile.Parse("hostile.yaml", []byte(c.text))
			if p != nil || err == nil {
				t.Fatal("taken")
			}
			if len(err.Error()) > 500 || strings.Contains(err.Error(), "\n") {
				t.Errorf("not one short line: %.600q", err.Error())
			}
			// The slowest takes half a second; exponential or cubic time takes hours.
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// FuzzParse holds Parse to its word: no panic, and an error of one line that
// begins with the file's name and a line within the file.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(seeds) < 5 {
		f.Fatalf("seeds %v (%v), want the five examples", seeds, err)
	}
	for _, path := range seeds {
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			f.Fatalf("seed %s is empty or unreadable (%v)", path, err)
		}
		f.Add(data)
	}
	for _, c := range faults() {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := profile.Parse("fuzz.yaml", data)
		if (p == nil) == (err == nil) {
			t.Fatalf("profile %v with error %v", p, err)
		}
		if err == nil {
			if p.Format().Prefix() != p.Prefix || len(p.Roles) < 3 || len(p.Plans) == 0 || p.Word("menu") == "" {
				t.Fatalf("incomplete: %+v", p)
			}
			if _, ok := p.Role(p.DefaultRole); !ok {
				t.Fatalf("no default role: %+v", p)
			}
			return
		}
		var line int
		if _, scan := fmt.Sscanf(err.Error(), "fuzz.yaml:%d: ", &line); scan != nil {
			t.Fatalf("no name and line: %q", err)
		}
		if last := 1 + strings.Count(string(data), "\n") + strings.Count(string(data), "\r"); line < 1 || line > last {
			t.Fatalf("line %d of %d: %q", line, last, err)
		}
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Fatalf("several lines: %q", err)
		}
	})
}
