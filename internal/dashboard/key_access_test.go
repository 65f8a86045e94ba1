package dashboard_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// Every page and form about keys, as every role, as somebody of another
// workspace, and as nobody: what a role does not open is refused on a page that
// names the permission, what is foreign is not there, and nothing is done.
func TestAccessToKeysIP7(t *testing.T) {
	s := product(t, "ipaware")
	made := s.Key(s.Workspace, keystile.CreateKey{Name: "Jewel", Description: "The vault's own", Owner: "Vault", Role: "server"})
	for name, permissions := range map[string]keystile.Permissions{
		"Nothing": {"reports.view"}, "Sees": {"api.key.view"}, "Edits": {"api.key.view", "api.key.update"},
		"Ends": {"api.key.view", "api.key.delete"}, "Creates": {"*", "api.key.view", "api.key.create"},
	} {
		if _, err := s.Operator.CreateRole(t.Context(), s.Workspace, keystile.CreateRole{Name: name, Permissions: permissions}); err != nil {
			t.Fatal(err)
		}
	}
	other := s.NewWorkspace("Other", "")
	theirs := s.Key(other.ID, keystile.CreateKey{Name: "Theirs"})
	roles := map[string]*browser{"nobody": newBrowser(t, s), "foreigner": inRole(t, s, other.ID, "admin")}
	for _, role := range []string{"admin", "developer", "viewer", "lookup", "Nothing", "Sees", "Edits", "Ends", "Creates"} {
		roles[role] = inRole(t, s, s.Workspace, role)
	}
	base := "/w/" + s.Workspace
	key := base + "/keys/" + made.Key.ID
	type door struct{ path, permission string }
	gets := []door{
		{base + "/keys", "view"}, {base + "/keys/new", "create"}, {base + "/keys/new?like=" + made.Key.ID, "create"}, {base + "/hygiene", "view"},
		{base + "/keys/revoke?key[]=" + made.Key.ID, "delete"}, {base + "/keys/delete?key[]=" + made.Key.ID, "delete"},
		{key, "view"}, {key + "/edit", "update"}, {key + "/disable", "update"}, {key + "/revoke", "delete"}, {key + "/delete", "delete"},
		{key + "/rotate", "create"}, {key + "/rollback", "delete"},
	}
	posts := []door{
		{base + "/keys", "create"}, {base + "/keys/revoke", "delete"}, {base + "/keys/delete", "delete"}, {key + "/edit", "update"},
		{key + "/disable", "update"}, {key + "/enable", "update"}, {key + "/review", "update"}, {key + "/revoke", "delete"},
		{key + "/delete", "delete"}, {key + "/rotate", "create"}, {key + "/rollback", "delete"},
	}
	holds := map[string]string{
		"admin": "view create update delete", "developer": "view create update delete", "viewer": "view", "lookup": "", "Nothing": "",
		"Sees": "view", "Edits": "view update", "Ends": "view delete", "Creates": "view create",
	}
	for role, v := range roles {
		for _, d := range gets {
			switch {
			case role == "nobody":
				v.get(d.path).is(http.StatusSeeOther).holds("/sign-in?")
			case role == "foreigner":
				v.get(d.path).is(http.StatusNotFound).shows("Page not found").lacks("Jewel", "vault", made.Key.Preview)
			case strings.Contains(holds[role], d.permission) && (d.permission != "update" || strings.Contains(holds[role], "view")):
				p := v.get(d.path)
				if d.permission == "create" && role == "Creates" && strings.Contains(d.path, "rotate") {
					continue // rotating takes deleting too; the form says so
				}
				p.is(http.StatusOK)
			default:
				v.get(d.path).is(http.StatusForbidden).shows("api.key."+d.permission, "administrator").lacks("Jewel", "vault", made.Key.Preview)
			}
		}
		for _, d := range posts {
			switch {
			case role == "nobody":
				v.post(d.path).is(http.StatusUnauthorized)
			case role == "foreigner":
				v.post(d.path, "name", "Mine", "key[]", made.Key.ID).is(http.StatusNotFound).lacks("Jewel", made.Key.Preview)
			case !strings.Contains(holds[role], d.permission):
				v.post(d.path, "name", "Mine", "key[]", made.Key.ID).is(http.StatusForbidden).shows("api.key."+d.permission).lacks("Jewel", made.Key.Preview)
			}
		}
	}
	if got := keys(t, s); len(got) != 1 || got[0].Name != "Jewel" || got[0].Status != keystile.StatusActive || got[0].ReviewedAt != nil {
		t.Errorf("something was done: %+v", got)
	}
	// The key of another workspace is not there under the address of this one,
	// not even for whoever may see both.
	everywhere := newBrowser(t, s).enter(s.SignInLink(""))
	for _, d := range gets {
		if strings.Contains(d.path, made.Key.ID) {
			path := strings.ReplaceAll(d.path, made.Key.ID, theirs.Key.ID)
			everywhere.get(path).is(http.StatusNotFound).lacks("Theirs")
			roles["admin"].get(path).is(http.StatusNotFound).lacks("Theirs")
		}
	}
	// IP6: nobody is offered a role that they can't hand out.
	v := roles["Creates"]
	for _, n := range v.get(base + "/keys/new").find("option") {
		if name := attribute(n, "value"); name == "admin" || name == "developer" {
			t.Errorf("someone without management permissions is offered %q", name)
		}
	}
	v.post(base+"/keys", "name", "Up", "role", "admin").is(http.StatusForbidden)
	v.post(key+"/rotate", "nonce", "n").is(http.StatusForbidden).shows("api.key.delete").lacks("<output")
	if n := len(keys(t, s)); n != 1 {
		t.Errorf("%d keys", n)
	}
	// A form from elsewhere is not taken.
	roles["admin"].header.Set("Sec-Fetch-Site", "cross-site")
	roles["admin"].post(key+"/revoke", "reason", "unneeded").is(http.StatusBadRequest).shows("another site")
}

// Creating, rotating and deleting ask for a fresh sign-in; revoking and
// disabling, which are urgent, don't.
func TestFreshForKeys(t *testing.T) {
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	v := admin(t, s)
	secret, id := create(v, s, "Billing")
	rewrite(t, dir, `UPDATE sessions SET fresh_at = fresh_at - 86400000`)
	base := "/w/" + s.Workspace + "/keys"
	for _, path := range []string{base + "/new", base + "/" + id + "/rotate", base + "/" + id + "/delete", base + "/delete"} {
		if at := v.get(path).is(http.StatusSeeOther).header.Get("Location"); !strings.HasPrefix(at, "/sign-in?again=1") {
			t.Errorf("%s leads to %s", path, at)
		}
		if path == base+"/new" {
			path = base
		}
		v.post(path, "name", "New", "key[]", id).is(http.StatusUnauthorized).shows("fresh sign-in")
	}
	v.done(base + "/" + id + "/disable")
	v.get(base + "/" + id + "/revoke").is(http.StatusOK)
	v.done(base + "/" + id + "/revoke")
	if code := decided(t, s, secret); code != keystile.CodeRevoked || len(keys(t, s)) != 1 {
		t.Errorf("the key is %s", code)
	}
}

// What makes more of a key, or brings one back, hands out access as a new one
// does: whoever has a stale session and a weak key must not get a strong one.
func TestFreshForMoreOfAKey(t *testing.T) {
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	v := admin(t, s)
	id := s.Key(s.Workspace, keystile.CreateKey{Name: "Weak", Role: "developer", Permissions: keystile.Permissions{"read"}, IPAllowlist: []string{"192.0.2.1"}}).Key.ID
	rewrite(t, dir, `UPDATE sessions SET fresh_at = fresh_at - 86400000`)
	at := "/w/" + s.Workspace + "/keys/" + id
	form := func(changed ...string) []string {
		version := v.get(at + "/edit").is(http.StatusOK).field("version")
		return append(changed, "version", version)
	}
	for name, sent := range map[string][]string{
		"role":        {"name", "Weak", "role", "admin", "ip_allowlist", "192.0.2.1", "narrow", "1", "permissions[]", "read"},
		"permissions": {"name", "Weak", "role", "developer", "ip_allowlist", "192.0.2.1"},
		"addresses":   {"name", "Weak", "role", "developer", "ip_allowlist", "", "narrow", "1", "permissions[]", "read"},
	} {
		t.Run(name, func(t *testing.T) {
			v.post(at+"/edit", form(sent...)...).is(http.StatusUnauthorized).shows("fresh sign-in")
		})
	}
	v.done(at+"/edit", form("name", "Renamed", "role", "developer", "ip_allowlist", "192.0.2.1", "narrow", "1", "permissions[]", "read")...)
	v.done(at + "/disable")
	v.post(at + "/enable").is(http.StatusUnauthorized).shows("fresh sign-in")
	k := keys(t, s)[0]
	if k.Name != "Renamed" || k.Role != "developer" || len(k.Permissions) != 1 || len(k.IPAllowlist) != 1 || k.Status != keystile.StatusDisabled {
		t.Errorf("the key is %+v", k)
	}
}

// manyKeys fills the first workspace.
func manyKeys(t testing.TB, s *keystiletest.Server, dir string, n int) {
	t.Helper()
	made := s.Key(s.Workspace, keystile.CreateKey{Name: "Till, the first"})
	db := openDatabase(t, dir)
	// Copies that differ in what must be unique. IDs go on from the first.
	columns := strings.Fields(`preview state role_id permissions environment ip_allowlist metadata owner imported
		creator_kind creator_id creator_name updated_at expires_at former_end disabled_at disabled_reason revoked_at revoked_by
		revoked_reason replaces replaced_by reviewed_at reviewed_by workspace_id`)
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
		INSERT INTO keys (id, digest, name, description, search, created_at, %[1]s)
		SELECT substr(id, 1, length(id) - 6) || printf('%%06d', i), randomblob(32), 'Till ' || i, 'Shop ' || i, 'till ' || i, created_at - i * 1000000, %[1]s
		FROM keys, n WHERE id = $2`, strings.Join(columns, ", ")), n-1, made.Key.ID); err != nil {
		t.Fatal(err)
	}
}

// muchUse notes 90 days of use of ten thousand keys: 200 are in use all the
// time, 1000 for three hours a day, 2500 once a week; some calls of the busy
// ones are refused. That is 750 000 rows.
func muchUse(t testing.TB, dir string) {
	t.Helper()
	db := openDatabase(t, dir)
	now := time.Now().UnixMilli() / time.Hour.Milliseconds()
	for _, c := range []struct {
		code         string
		every, first int // of the keys
		hours, step  int // how many, and how far apart
		burst        int // hours on end
	}{{"valid", 50, 0, 90 * 24, 1, 1}, {"ip_not_allowed", 50, 0, 90, 24, 1}, {"valid", 10, 1, 90, 24, 3}, {"valid", 4, 2, 13, 168, 1}} {
		if _, err := db.ExecContext(t.Context(), `WITH RECURSIVE h (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM h WHERE i < $1 - 1),
			b (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM b WHERE i < $2 - 1),
			chosen (id, workspace_id, n) AS MATERIALIZED (SELECT id, workspace_id, rowid FROM keys WHERE rowid % $3 = $4)
			INSERT INTO usage (key_id, hour, code, workspace_id, count)
			SELECT id, ($5 - h.i * $6 - b.i) * 3600000, $7, workspace_id, 1 + (n * 7 + h.i) % 100 FROM chosen, h, b WHERE true
			ON CONFLICT DO NOTHING`, c.hours, c.burst, c.every, c.first, now, c.step, c.code); err != nil {
			t.Fatal(err)
		}
	}
	if err := sumUsage(t.Context(), db); err != nil {
		t.Fatal(err)
	}
}

// With ten thousand keys the first page of each list is as small as with a
// few, and the way to the next is there. How long it takes is for the
// benchmark below.
func TestTenThousandKeys(t *testing.T) {
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	manyKeys(t, s, dir, 10_000)
	v := admin(t, s)
	for _, path := range []string{"/keys", "/keys?q=till+99", "/keys?status=active"} {
		p := v.get("/w/" + s.Workspace + path).is(http.StatusOK)
		if n := len(p.find("tr", "Till")); n != 30 || len(p.find("a", "Next page")) != 1 {
			t.Errorf("%s shows %d keys", path, n)
		}
	}
	v.get("/w/" + s.Workspace + "/keys?status=revoked").shows("No key matches")
	v.get("/w/"+s.Workspace+"/hygiene").shows("Idle").one("a", "More of these")
}

// BenchmarkPages times pages of a workspace with ten thousand keys, as a
// browser sees them. The aim is 50 ms.
func BenchmarkPages(b *testing.B) {
	dir := b.TempDir()
	s := keystiletest.New(b, keystiletest.Dir(dir))
	manyKeys(b, s, dir, 10_000)
	muchUse(b, dir)
	v := admin(b, s)
	id := keys(b, s)[0].ID
	for _, path := range []string{"/keys", "/keys?q=till+99", "/keys/" + id, "/hygiene", "/usage", "/usage?span=7d", "/usage?span=30d", "/usage?span=90d", "/usage?span=90d&key=" + id} {
		name := strings.ReplaceAll(strings.Replace(path, id, "one", 1), "?", " ")
		b.Run(name[1:], func(b *testing.B) {
			for b.Loop() {
				v.get("/w/" + s.Workspace + path).is(http.StatusOK)
			}
		})
	}
}
