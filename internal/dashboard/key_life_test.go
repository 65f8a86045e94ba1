package dashboard_test

import (
	"database/sql"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to let time pass for a key

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

const day = 24 * time.Hour

// rewrite changes rows of a server's database beside it.
func rewrite(t testing.TB, dir, statement string, arguments ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "keystile.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.ExecContext(t.Context(), statement, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", statement, n, err)
	}
}

// use presents a key, and waits until the use is written.
func use(t testing.TB, s *keystiletest.Server, secret, id string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, s.URL+"/v1/me", nil)
	r.RequestURI = ""
	r.Header.Set("X-Api-Key", secret)
	r.Header.Set("User-Agent", "till/7")
	before := time.Now().Add(-time.Minute)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the key is answered %d", answer.StatusCode)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		k, err := s.Operator.Key(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if k.LastUse != nil && k.LastUse.At.After(before) {
			return
		}
	}
	t.Fatal("the use was never written")
}

// IP4: Edit changes name and role, at once, and nothing that it does not show.
func TestEditIP4(t *testing.T) {
	s := product(t, "ipaware")
	v := admin(t, s)
	secret, id := create(v, s, "Production Server", "role", "lookup", "ip_allowlist", "127.0.0.0/8")
	path := "/w/" + s.Workspace + "/keys/" + id
	form := v.get(path+"/edit").is(http.StatusOK).shows("Edit API Key", id, "Save Changes").lacks(secret)
	same := func(changed ...string) []string {
		pairs := []string{"version", v.get(path + "/edit").field("version")}
		for _, name := range []string{"name", "description", "owner", "role", "ip_allowlist", "expires"} {
			if i := slices.Index(changed, name); i < 0 || i%2 != 0 {
				pairs = append(pairs, name, form.field(name))
			}
		}
		return append(pairs, changed...)
	}
	v.done(path+"/edit", same("name", "Door server", "role", "server")...).shows("Saved.", "Door server", "Server")
	k := keys(t, s)[0]
	if k.Name != "Door server" || k.Role != "server" || !slices.Equal(k.IPAllowlist, []string{"127.0.0.0/8"}) || k.ExpiresAt != nil || len(k.Permissions) != 0 {
		t.Errorf("the key is %+v", k)
	}
	if d, err := s.Operator.Verify(t.Context(), keystile.VerifyRequest{Key: secret, IP: "127.0.0.1"}); err != nil || d.Role != "server" {
		t.Errorf("decided %+v, %v", d, err)
	}

	stale := same("name", "Mine")
	v.done(path+"/edit", same("name", "Theirs")...)
	v.post(path+"/edit", stale...).is(http.StatusConflict).shows("Somebody changed the key")
	if keys(t, s)[0].Name != "Theirs" {
		t.Error("an older form has overwritten a newer one")
	}

	form = v.get(path + "/edit")
	v.done(path+"/edit", same("expires", "2090-05-01", "narrow", "1", "permissions[]", "ip.lookup", "role", "lookup")...)
	k = keys(t, s)[0]
	if k.ExpiresAt.Format(time.RFC3339) != "2090-05-02T00:00:00Z" || !slices.Equal(k.Permissions, keystile.Permissions{"ip.lookup"}) {
		t.Errorf("the key is %+v", k)
	}
	form = v.get(path + "/edit")
	for _, c := range []struct {
		changed []string
		says    string
	}{
		{[]string{"expires", "2091-01-01"}, "Nothing lengthens"},
		{[]string{"expires", ""}, "Nothing lengthens"},
		{[]string{"name", ""}, "Key Name is missing"},
		{[]string{"narrow", "1"}, "names no permission"},
	} {
		p := v.post(path+"/edit", same(c.changed...)...).is(http.StatusUnprocessableEntity)
		if !strings.Contains(strings.ToLower(p.words()), strings.ToLower(c.says)) {
			t.Errorf("%q: %s", c.changed, p.words())
		}
	}
	v.done(path+"/edit", same()...) // without narrow: all of the role again
	if k = keys(t, s)[0]; len(k.Permissions) != 0 || k.ExpiresAt == nil {
		t.Errorf("the key is %+v", k)
	}
}

// VX5, VQ5, IP5, TN3: Revoke asks, in the words of the product; the key stops
// at once; where the record stays, it says why.
func TestRevokeVX5(t *testing.T) {
	for _, c := range []struct {
		product, row, title, warning, confirm string
		stays                                 bool
	}{
		{"voqo", "VQ5", "Revoke API key", "stop working at once", "Revoke API key", true},
		{"voxum", "VX5", "Revoke API Key", "The key stops working immediately", "Revoke Key", true},
		{"ipaware", "IP5", "Revoke API Key", "Applications using this key will stop working", "Revoke Key", false},
		{"tenant", "TN3", "Revoke key", "fail at once", "Revoke key", true},
	} {
		t.Run(c.product+"/"+c.row, func(t *testing.T) {
			t.Parallel()
			s := product(t, c.product)
			v := admin(t, s)
			secret, id := create(v, s, "CRM sync")
			path := "/w/" + s.Workspace + "/keys/" + id + "/revoke"
			p := v.get(path).is(http.StatusOK).shows(c.warning, "CRM sync", "Recent calls", "never used")
			p.one("button", c.confirm)
			if got := text(p.one("h1")); got != c.title {
				t.Errorf("the title is %q", got)
			}
			v.post(path, "other_reason", strings.Repeat("x", 201)).is(http.StatusUnprocessableEntity).shows("characters")
			list := v.done(path, "reason", "unneeded").shows("Revoked.")
			if n := len(list.find("tr", "CRM sync")); n != map[bool]int{true: 1, false: 0}[c.stays] {
				t.Errorf("%d rows of the revoked key", n)
			}
			if c.stays {
				list.one("tr", "CRM sync", "Revoked", "No longer needed")
			}
			if code := decided(t, s, secret); code != keystile.CodeRevoked {
				t.Errorf("the key is %s", code)
			}
			v.get("/w/"+s.Workspace+"/keys/"+id).shows("No longer needed", "Revoked").lacks("/revoke\"")
		})
	}
	t.Run("vozagent offers none", func(t *testing.T) {
		s := product(t, "vozagent")
		v := admin(t, s)
		_, id := create(v, s, "Zapier")
		v.get("/w/" + s.Workspace + "/keys").lacks("Revoke")
		v.get("/w/" + s.Workspace + "/keys/" + id).lacks("Revoke")
	})
}

// IP14: after a suspected exposure the next page is the key's log of use, and
// everybody who can end keys reads of it.
func TestExposureIP14(t *testing.T) {
	s := product(t, "ipaware", keystiletest.FlushInterval(20*time.Millisecond))
	v := admin(t, s)
	secret, id := create(v, s, "Mobile app")
	use(t, s, secret, id)
	at := v.post("/w/"+s.Workspace+"/keys/"+id+"/revoke", "reason", "exposure_suspected").is(http.StatusSeeOther).header.Get("Location")
	if want := "/w/" + s.Workspace + "/keys/" + id + "?done=revoked#use"; at != want {
		t.Fatalf("led to %q", at)
	}
	v.get(strings.TrimSuffix(at, "#use")).is(http.StatusOK).shows("Log of use", "127.0.0.1", "till/7", "Exposure suspected")
	list := "/w/" + s.Workspace + "/keys"
	inRole(t, s, s.Workspace, "developer").get(list).shows("Mobile app was revoked for suspected exposure")
	inRole(t, s, s.Workspace, "viewer").get(list).lacks("Mobile app")
}

// VZ6: Delete asks, naming the key, and deletes for good.
func TestDeleteVZ6(t *testing.T) {
	s := product(t, "vozagent")
	v := admin(t, s)
	secret, id := create(v, s, "Zapier Production")
	path := "/w/" + s.Workspace + "/keys/" + id + "/delete"
	v.get(path).is(http.StatusOK).shows("Delete API Key", "Zapier Production", "permanent").one("button", "Delete")
	v.done(path).shows("Deleted.", "No API Keys Yet")
	if code := decided(t, s, secret); code != keystile.CodeUnknown {
		t.Errorf("the key is %s", code)
	}
	v.get("/w/" + s.Workspace + "/keys/" + id).is(http.StatusNotFound).shows("Page not found")
	v.post(path).is(http.StatusNotFound)
}

// VZ5: the button beside a key copies what the list shows of it, no more.
func TestCopyPreviewVZ5(t *testing.T) {
	s := product(t, "vozagent")
	v := admin(t, s)
	secret, _ := create(v, s, "Zapier")
	p := v.get("/w/" + s.Workspace + "/keys").lacks(secret)
	copies := attribute(p.one("button", "Copy"), "data-copy")
	preview := p.one("code", "gw_")
	if attribute(preview, "id") != copies || !strings.HasSuffix(text(preview), secret[len(secret)-4:]) {
		t.Errorf("copies %q, which is %q", copies, text(preview))
	}
}

// Disabling refuses a key until it is enabled again.
func TestDisable(t *testing.T) {
	s := product(t, "voqo")
	v := admin(t, s)
	secret, id := create(v, s, "Call sync")
	path := "/w/" + s.Workspace + "/keys/" + id
	v.get(path+"/disable").is(http.StatusOK).shows("Call sync", "until it is enabled again")
	list := v.done(path+"/disable", "other_reason", "Holidays")
	if got := buttons(list.one("tr", "Call sync", "Disabled", "Holidays")); !slices.Equal(got, []string{"Revoke", "⋯", "Edit", "Enable"}) {
		t.Errorf("buttons %q", got)
	}
	if code := decided(t, s, secret); code != keystile.CodeDisabled {
		t.Errorf("the key is %s", code)
	}
	v.done(path+"/enable", "back", "key").shows("Enabled.", "Active")
	if code := decided(t, s, secret); code != keystile.CodeValid {
		t.Errorf("the key is %s", code)
	}
}

// VQ4, TN2: the replacement comes first; both are side by side with their last
// use; the old one is revoked when that is safe, or the new one rolled back.
func TestRotateTN2(t *testing.T) {
	dir := t.TempDir()
	s := product(t, "tenant", keystiletest.Dir(dir), keystiletest.FlushInterval(20*time.Millisecond))
	v := admin(t, s)
	old, oldID := create(v, s, "Shop", "environment", "production")
	at := "/w/" + s.Workspace + "/keys/"

	form := v.get(at+oldID+"/rotate").is(http.StatusOK).shows("Both keys work", "Until it is revoked", "30 days")
	sent := []string{"nonce", form.field("nonce"), "overlap", ""}
	shown := v.post(at+oldID+"/rotate", sent...).is(http.StatusCreated).shows("Old key", "Replacement", "/v1/me")
	fresh := text(shown.one("output"))
	freshID := keys(t, s)[0].ID
	if action := attribute(shown.one("form", "Done"), "action"); action != at+freshID {
		t.Errorf("closing leads to %q", action)
	}
	v.post(at+oldID+"/rotate", sent...).is(http.StatusOK).shows("created before", freshID).lacks(fresh)
	if n := len(keys(t, s)); n != 2 {
		t.Fatalf("%d keys", n)
	}
	for _, secret := range []string{old, fresh} {
		if decided(t, s, secret) != keystile.CodeValid {
			t.Error("not both are valid")
		}
	}
	// Neither page offers a third key; both offer the way forward and back.
	for _, id := range []string{oldID, freshID} {
		names := buttons(v.get(at + id).lacks(fresh).one("main"))
		if slices.Contains(names, "Rotate") || !slices.Contains(names, "Roll back") || !slices.Contains(names, "Revoke the old key") {
			t.Errorf("buttons %q", names)
		}
	}
	v.post(at+oldID+"/rotate", "nonce", "again").is(http.StatusConflict).shows("has a replacement already")

	v.get(at + freshID + "/rollback").is(http.StatusOK).shows("The replacement is revoked")
	v.done(at+freshID+"/rollback").shows("Rolled back", "Shop")
	if decided(t, s, fresh) != keystile.CodeRevoked || decided(t, s, old) != keystile.CodeValid {
		t.Error("not rolled back")
	}
	v.post(at + freshID + "/rollback").is(http.StatusConflict).shows("revoked already")

	fresh = text(v.post(at+oldID+"/rotate", "nonce", "second", "overlap", "24h").is(http.StatusCreated).one("output"))
	freshID = keys(t, s)[0].ID
	if k, err := s.Operator.Key(t.Context(), oldID); err != nil || k.ExpiresAt == nil || time.Until(*k.ExpiresAt) > 24*time.Hour {
		t.Errorf("the old key is %+v, %v", k, err)
	}
	v.get(at + freshID).lacks("Safe to revoke")
	use(t, s, fresh, freshID)
	rewrite(t, dir, `UPDATE key_use SET at = at - 7200000 WHERE key_id = $1`, oldID)
	v.get(at + freshID).shows("Safe to revoke")
	v.get("/w/"+s.Workspace+"/keys").one("tr", "Safe to revoke")
	v.done(at+oldID+"/revoke", "reason", "rotated").shows("Replaced by another")
	if decided(t, s, old) != keystile.CodeRevoked || decided(t, s, fresh) != keystile.CodeValid {
		t.Error("not moved on")
	}
	v.post(at+freshID+"/rotate", "nonce", "third", "overlap", "9999h").is(http.StatusUnprocessableEntity).shows("from 0s to 720h")
}

// A replaced key whose replacement is revoked is not safe to revoke: nothing
// would be left.
func TestDeadReplacementIsNoReplacement(t *testing.T) {
	dir := t.TempDir()
	s := product(t, "voqo", keystiletest.Dir(dir), keystiletest.FlushInterval(20*time.Millisecond))
	made := s.Key(s.Workspace, keystile.CreateKey{Name: "Shop"})
	rewrite(t, dir, `UPDATE keys SET created_at = $1 WHERE id = $2`, time.Now().Add(-100*day).UnixMilli(), made.Key.ID)
	fresh, err := s.Operator.RotateKey(t.Context(), made.Key.ID, keystile.RotateKey{})
	if err != nil {
		t.Fatal(err)
	}
	use(t, s, fresh.Secret, fresh.Key.ID)
	if k, err := s.Operator.Key(t.Context(), made.Key.ID); err != nil || !k.SafeToRevoke || k.RotationDue != nil {
		t.Fatalf("replaced: %+v, %v", k, err)
	}
	if _, err := s.Operator.RevokeKey(t.Context(), fresh.Key.ID, keystile.RevokeKey{}); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Operator.Key(t.Context(), made.Key.ID); err != nil || k.SafeToRevoke || k.RotationDue == nil {
		t.Errorf("its replacement is revoked: %+v, %v", k, err)
	}
}

// TN5: the revoke page shows the recent calls, to those who may see them.
func TestRecentCallsTN5(t *testing.T) {
	s := product(t, "tenant", keystiletest.FlushInterval(20*time.Millisecond))
	v := admin(t, s)
	secret, id := create(v, s, "Shop")
	use(t, s, secret, id)
	path := "/w/" + s.Workspace + "/keys/" + id + "/revoke"
	p := v.get(path).shows("Recent calls", "127.0.0.1", "till/7", "valid")
	if len(p.find("svg")) != 1 || len(p.find("rect")) != 2 {
		t.Error("no chart of the last hours")
	}
	role, err := s.Operator.CreateRole(t.Context(), s.Workspace, keystile.CreateRole{Name: "Ender", Permissions: keystile.Permissions{"api.key.view", "api.key.delete"}})
	if err != nil {
		t.Fatal(err)
	}
	inRole(t, s, s.Workspace, role.Name).get(path).is(http.StatusOK).lacks("127.0.0.1", "till/7")
}

// VQ8, VX7, IP1, IP11: a key's page says who made it, what it may do, from
// where and how it was used, what was done with it; its support details name
// everything and open nothing.
func TestKeyPageVQ8(t *testing.T) {
	s := product(t, "voqo", keystiletest.FlushInterval(20*time.Millisecond))
	v := inRole(t, s, s.Workspace, "admin")
	secret, id := create(v, s, "Call sync", "role", "reporting", "ip_allowlist", "127.0.0.1", "owner", "CRM team")
	at := "/w/" + s.Workspace + "/keys/" + id
	v.get(at).shows("by Someone in admin", "Reporting", "calls.read", "127.0.0.1", "CRM team", "Production", "Never", "No calls yet", "Created")
	use(t, s, secret, id)
	p := v.get(at).shows("127.0.0.1", "with till", "valid")
	for _, n := range []string{"?range=30d", "?range=90d", "?range=7y"} {
		v.get(at+n).shows("Calls", "as a table")
	}
	details := text(p.one("pre"))
	for _, words := range []string{s.Workspace, id, "Call sync", "Created: 20", "Last used: 20"} {
		if !strings.Contains(details, words) {
			t.Errorf("the details lack %q: %s", words, details)
		}
	}
	if strings.Contains(details, secret[len(secret)-4:]) {
		t.Error("the details hold a part of the key")
	}
	if attribute(p.one("button", "Copy support details"), "data-copy") != attribute(p.one("pre"), "id") {
		t.Error("the button copies something else")
	}
	v.done(at+"/edit", "version", v.get(at+"/edit").field("version"), "name", "Call sync 2", "role", "reporting", "ip_allowlist", "127.0.0.1", "owner", "CRM team")
	v.get(at).shows("Updated: name", "Someone in admin")
}

// Many keys are ended at once: those that are ticked, or all that one person
// or key has made; all of them or, when one can't be, none.
func TestEndManyKeys(t *testing.T) {
	s := product(t, "voqo")
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	a, aID := create(v, s, "Alpha")
	b, bID := create(v, s, "Beta")
	c, cID := create(v, s, "Gamma")
	v.get(list).one("button", "Revoke selected")
	v.get(list+"/revoke?key[]="+aID+"&key[]="+bID).is(http.StatusOK).shows("Alpha", "Beta", "stop working").lacks("Gamma").one("button", "Revoke 2")
	v.done(list + "/revoke").shows("No key was chosen")
	foreign := s.Key(s.NewWorkspace("Other", "").ID, keystile.CreateKey{Name: "Foreign"})
	for _, id := range []string{foreign.Key.ID, "key_x", "ws_1"} {
		v.get(list + "/revoke?key[]=" + id).is(http.StatusNotFound).lacks("Foreign")
		v.post(list+"/revoke", "key[]", aID, "key[]", id).is(http.StatusNotFound)
	}
	if decided(t, s, a) != keystile.CodeValid || decided(t, s, foreign.Secret) != keystile.CodeValid {
		t.Fatal("some were ended")
	}
	done := v.done(list+"/revoke", "key[]", aID, "key[]", bID, "reason", "ownership_changed").shows("All of them")
	done.one("tr", "Alpha", "Ownership changed")
	if decided(t, s, a) != keystile.CodeRevoked || decided(t, s, b) != keystile.CodeRevoked || decided(t, s, c) != keystile.CodeValid {
		t.Error("not those that were chosen")
	}
	v.done(list+"/revoke", "key[]", aID, "key[]", cID) // one of them is revoked already
	if decided(t, s, c) != keystile.CodeRevoked {
		t.Error("the other one goes on")
	}

}

// All that one key or person has made can be ended at once.
func TestEndAllThatSomebodyMade(t *testing.T) {
	s := keystiletest.New(t)
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	maker := s.Key(s.Workspace, keystile.CreateKey{Name: "Automat", Role: "admin"})
	var made []string
	for range 210 { // more than one transaction ends
		k, err := s.Client(maker.Secret).CreateKey(t.Context(), s.Workspace, keystile.CreateKey{Name: "Till"})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, k.Secret)
	}
	mine, mineID := create(v, s, "Mine")
	p := v.get(list+"?created_by="+maker.Key.ID).shows("Only what Key “Automat” has made", "210 keys").lacks("Mine")
	ask := attribute(p.one("form", "Revoke all of them"), "action")
	v.get(ask+"?made_by="+maker.Key.ID).is(http.StatusOK).shows("Revoke all keys made by Key “Automat”", "has made in this workspace: 210", "and 110 more").one("button", "Revoke 210")
	v.done(ask, "made_by", maker.Key.ID, "reason", "exposure_suspected").shows("All of them")
	for i, secret := range made {
		if code := decided(t, s, secret); code != keystile.CodeRevoked {
			t.Fatalf("key %d is %s", i, code)
		}
	}
	if decided(t, s, mine) != keystile.CodeValid || decided(t, s, maker.Secret) != keystile.CodeValid {
		t.Error("others were ended too")
	}
	v.post(ask, "made_by", "king").is(http.StatusNotFound)
	v.post(ask, "made_by", mineID).is(http.StatusSeeOther) // which has made none
	// A key is ended together with what it has made from its own page.
	v.get(list + "/" + maker.Key.ID).is(http.StatusOK).shows("all that it has made")
}

// When there are more than one request can end, the page says how many are left
// and goes on; and so it does when one of them can't be ended by who asks.
func TestEndAllGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	manyKeys(t, s, dir, 2150)
	maker := s.Key(s.Workspace, keystile.CreateKey{Name: "Automat", Role: "admin"}).Key.ID
	strong := s.Key(s.Workspace, keystile.CreateKey{Name: "Strong", Role: "admin"}).Key.ID
	db := openDatabase(t, dir)
	if _, err := db.ExecContext(t.Context(), `UPDATE keys SET creator_kind = 'key', creator_id = $1, creator_name = 'Automat' WHERE name LIKE 'Till%'`, maker); err != nil {
		t.Fatal(err)
	}
	v.get(list+"/revoke?made_by="+maker).is(http.StatusOK).shows("has made in this workspace: 2,150", "and 2,050 more")
	p := v.post(list+"/revoke", "made_by", maker, "reason", "unneeded").is(http.StatusOK).shows("2,000 of 2,150 are revoked", "150 are left and still valid", "Go on with the 150")
	if p.field("made_by") != maker || p.field("reason") != "unneeded" {
		t.Error("the way on has forgotten what it was about")
	}

	// One of those that are left is beyond whoever asks now: none of its batch ends, and the page says why.
	if _, err := db.ExecContext(t.Context(), `UPDATE keys SET creator_kind = 'key', creator_id = $1, id = substr(id, 1, 4) || '0' || substr(id, 6) WHERE id = $2`, maker, strong); err != nil {
		t.Fatal(err)
	}
	customRole(t, s, s.Workspace, "ender", "*", "api.key.view", "api.key.delete")
	ender, _ := member(t, s, s.Workspace, "Ed", "ender")
	ender.post(list+"/revoke", "made_by", maker, "reason", "unneeded").is(http.StatusForbidden).shows("api.key.grant", "Strong").lacks("are revoked")
	v.done(list+"/revoke", "made_by", maker, "reason", "unneeded").shows("All of them")
	v.get(v.get(list + "/revoke?made_by=" + maker).is(http.StatusSeeOther).to).shows("No key was chosen")
}

// VZ6: where keys are deleted and not revoked, so are many of them.
func TestDeleteManyKeys(t *testing.T) {
	s := product(t, "vozagent")
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	secret, id := create(v, s, "Alpha")
	_, other := create(v, s, "Beta")
	v.get(list).one("button", "Delete selected")
	v.get(list+"/delete?key[]="+id+"&key[]="+other).shows("Alpha", "Beta").one("button", "Delete 2")
	v.done(list+"/delete", "key[]", id, "key[]", other).shows("Deleted.", "No API Keys Yet")
	if code := decided(t, s, secret); code != keystile.CodeUnknown {
		t.Errorf("the key is %s", code)
	}
}

// A page of the keys that need something done names the one thing: VQ9, IP10,
// IP15, VX7.
func TestHygieneVQ9(t *testing.T) {
	dir := t.TempDir()
	s := product(t, "ipaware", keystiletest.Dir(dir))
	v := admin(t, s)
	plan := "enterprise"
	if _, err := s.Operator.UpdateWorkspace(t.Context(), s.Workspace, keystile.WorkspacePatch{Plan: &plan}); err != nil {
		t.Fatal(err)
	}
	age := func(id string, by time.Duration) {
		rewrite(t, dir, `UPDATE keys SET created_at = $1 WHERE id = $2`, time.Now().Add(-by).UnixMilli(), id)
	}
	page := "/w/" + s.Workspace + "/hygiene"
	v.get(page).shows("Key hygiene", "Nothing to do", "Keys for Production are replaced every 90 days")
	add := func(name string, k keystile.CreateKey) string {
		k.Name = name
		return s.Key(s.Workspace, k).Key.ID
	}
	soon := time.Now().Add(5 * day)
	fresh := add("Fresh", keystile.CreateKey{})
	overdue := add("Overdue", keystile.CreateKey{})
	age(overdue, 91*day)
	due := add("Due", keystile.CreateKey{})
	age(due, 80*day)
	age(add("Developers have longer", keystile.CreateKey{Environment: "development"}), 88*day)
	replaced := add("Replaced", keystile.CreateKey{})
	age(replaced, 89*day)
	if _, err := s.Operator.RotateKey(t.Context(), replaced, keystile.RotateKey{Name: "Replacement"}); err != nil {
		t.Fatal(err)
	}
	add("Ending", keystile.CreateKey{ExpiresAt: &soon})
	add("Wide", keystile.CreateKey{Role: "developer"})
	add("Narrowed", keystile.CreateKey{Role: "developer", Permissions: keystile.Permissions{"ip.lookup"}})
	gone := add("Revoked", keystile.CreateKey{})
	age(gone, 400*day)
	if _, err := s.Operator.RevokeKey(t.Context(), gone, keystile.RevokeKey{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		finding, act string
		names        []string
	}{
		{"overdue", "Rotate", []string{"Overdue"}},
		{"due", "Rotate", []string{"Due"}},
		{"expiring", "+ Create New Key", []string{"Ending"}},
		{"replaced", "Revoke", []string{"Replaced"}},
		{"idle", "Revoke", []string{"Overdue"}},
		{"review", "Mark as reviewed", []string{"Overdue"}},
		{"wide", "Edit", []string{"Wide"}},
	} {
		p := v.get(page + "?finding=" + c.finding).is(http.StatusOK)
		var names []string
		for _, n := range p.find("th") {
			if attribute(n, "scope") == "row" {
				names = append(names, text(p.nameIn(n)))
			}
		}
		if !slices.Equal(names, c.names) {
			t.Errorf("%s: %q", c.finding, names)
			continue
		}
		for _, n := range p.find("tr", c.names[0]) {
			if got := buttons(n); !slices.Equal(got, []string{c.act}) {
				t.Errorf("%s: buttons %q", c.finding, got)
			}
		}
		v.get(page).shows(c.names[0])
	}
	v.get(page + "?finding=king").is(http.StatusNotFound)
	for name, mark := range map[string]string{"Overdue": "Rotation overdue", "Ending": "Expires soon"} {
		v.get("/w/"+s.Workspace+"/keys").one("tr", name, mark)
	}
	v.get("/w/" + s.Workspace + "/keys").lacks("Revoked")
	if got := v.get("/w/" + s.Workspace + "/keys/new?like=" + overdue).field("name"); got != "Overdue" {
		t.Errorf("a key like it is called %q", got)
	}

	// IP15: who reviewed a key, and when.
	reviewer := inRole(t, s, s.Workspace, "developer")
	reviewer.done("/w/"+s.Workspace+"/keys/"+overdue+"/review", "back", "hygiene").shows("Review noted.")
	v.get(page + "?finding=review").shows("None.")
	v.get("/w/"+s.Workspace+"/keys/"+overdue).shows("by Someone in developer", "Reviewed")
	v.get("/w/" + s.Workspace + "/keys/" + fresh).shows("Reviewed Never")

	reader := inRole(t, s, s.Workspace, "viewer")
	p := reader.get(page).shows("Overdue")
	if got := buttons(p.one("main")); len(got) != 0 {
		t.Errorf("a viewer is offered %q", got)
	}
	for range 11 {
		age(add("Many", keystile.CreateKey{}), 91*day)
	}
	more := v.get(page).find("a", "More of these")
	if len(more) == 0 {
		t.Fatal("no way to the others")
	}
	if n := len(v.get(attribute(more[0], "href")).find("tr", "Many")); n != 11 {
		t.Errorf("%d of 11 on the page of one finding", n)
	}
}

// VZ7: Integrations, Third Parties, Zapier; nothing of it elsewhere.
func TestZapierVZ7(t *testing.T) {
	s := product(t, "vozagent")
	v := admin(t, s)
	p := v.get("/w/" + s.Workspace + "/keys")
	third := attribute(p.one("a", "Third Parties"), "href")
	p = v.get(third).is(http.StatusOK)
	if attribute(p.one("a", "Integrations"), "aria-current") == "" {
		t.Error("the menu does not say where one is")
	}
	zapier := attribute(p.one("a", "Zapier"), "href")
	v.get(zapier).is(http.StatusOK).shows("Connect Zapier", "Paste the whole key", s.URL+"/v1/me", "Authorization: Bearer YOUR_KEY").one("a", "Create API Key")
	inRole(t, s, s.Workspace, "viewer").get(zapier).is(http.StatusOK).shows("Ask someone who manages the keys")
	other := product(t, "voxum")
	w := admin(t, other)
	w.get("/w/"+other.Workspace+"/keys").lacks("Third parties", "Zapier")
	for _, path := range []string{"/integrations", "/integrations/zapier"} {
		w.get("/w/" + other.Workspace + path).is(http.StatusNotFound)
	}
}

// An environment whose keys are never to be replaced is not overruled by the
// policy for all keys.
func TestRotateNever(t *testing.T) {
	s := keystiletest.New(t, keystiletest.ProfileText(`product: P
prefix: pp
environments:
  - name: production
  - name: sandbox
    rotate_every: 0
keys:
  rotate_every: 90d
`))
	for environment, due := range map[string]bool{"production": true, "sandbox": false} {
		k := s.Key(s.Workspace, keystile.CreateKey{Name: "Shop", Environment: environment}).Key
		if (k.RotationDue != nil) != due {
			t.Errorf("%s: due %v", environment, k.RotationDue)
		}
	}
	admin(t, s).get("/w/" + s.Workspace + "/hygiene").shows("Keys for Production are replaced every 90 days").lacks("Sandbox")
}

// While two keys of a rotation are live, the list tells them apart and offers no
// third; the replacement may end later than the key that it replaces.
func TestRotatedPairInList(t *testing.T) {
	s := product(t, "voqo")
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/keys"
	_, id := create(v, s, "Call sync", "expires", "2090-05-01")
	v.get(list + "/" + id + "/rotate").is(http.StatusOK).shows("Last day of the replacement")
	v.post(list+"/"+id+"/rotate", "nonce", "a", "expires", "2001-01-01").is(http.StatusUnprocessableEntity).shows("in the past")
	v.post(list+"/"+id+"/rotate", "nonce", "b", "expires", "2095-12-31").is(http.StatusCreated)
	p := v.get(list).is(http.StatusOK)
	for mark, want := range map[string][]string{"Replaced by": {"Revoke", "⋯", "Edit", "Disable"}, "Replacement of": {"Revoke", "⋯", "Edit", "Disable"}} {
		if got := buttons(p.one("tr", mark)); !slices.Equal(got, want) {
			t.Errorf("%s: buttons %q", mark, got)
		}
	}
	all := keys(t, s)
	i := slices.IndexFunc(all, func(k keystile.Key) bool { return k.Replaces == id })
	if end := all[i].ExpiresAt; end == nil || end.Format(time.RFC3339) != "2096-01-01T00:00:00Z" {
		t.Errorf("the replacement ends %v", end)
	}
	v.done(list + "/" + all[i].ID + "/revoke")
	v.get(list).lacks("Replaced by", "Replacement of")
	_, endless := create(v, s, "Without an end")
	v.get(list + "/" + endless + "/rotate").lacks("Last day of the replacement")
}
