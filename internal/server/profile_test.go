package server_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into the database

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/keystiletest"
)

// requirements are the rows of what the five products' manuals ask for.
var requirements = map[string][]string{ //nolint:gochecknoglobals // a constant
	"voqo":     {"VQ1", "VQ2", "VQ3", "VQ4", "VQ5", "VQ6", "VQ7", "VQ8", "VQ9", "VQ10"},
	"voxum":    {"VX1", "VX2", "VX3", "VX4", "VX5", "VX6", "VX7"},
	"ipaware":  {"IP1", "IP2", "IP3", "IP4", "IP5", "IP6", "IP7", "IP8", "IP9", "IP10", "IP11", "IP12", "IP13", "IP14", "IP15"},
	"vozagent": {"VZ1", "VZ2", "VZ3", "VZ4", "VZ5", "VZ6", "VZ7"},
	"tenant":   {"TN1", "TN2", "TN3", "TN4", "TN5"},
}

// elsewhere are the rows of which nothing can be shown over the API today,
// and what they wait for.
var elsewhere = map[string]string{ //nolint:gochecknoglobals // a constant
	"VX1": "words on pages; shown in internal/dashboard",
	"IP2": "words on pages; shown in internal/dashboard",
	"IP3": "words on pages; shown in internal/dashboard",
	"VZ1": "words on pages; shown in internal/dashboard",
	"VQ7": "comes with webhook secrets",
}

// row is a subtest that shows a row, or the part of it that the API can show.
type row struct {
	name string // the row's ID, an underscore and what is shown
	run  func(*testing.T, *tenant)
}

func profileRows() map[string][]row {
	return map[string][]row{
		"voqo": voqoRows(), "voxum": voxumRows(), "ipaware": ipawareRows(), "vozagent": vozagentRows(), "tenant": tenantRows(),
	}
}

// TestRequirements fails when a row has neither a subtest nor a reason to
// have none, or has both.
func TestRequirements(t *testing.T) {
	t.Parallel()
	rows := profileRows()
	known := map[string]bool{}
	for name, ids := range requirements {
		shown := map[string]bool{}
		for _, r := range rows[name] {
			id, _, _ := strings.Cut(r.name, "_")
			if shown[id] = true; !slices.Contains(ids, id) {
				t.Errorf("%s/%s shows a row that does not exist", name, r.name)
			}
		}
		for _, id := range ids {
			known[id] = true
			_, waits := elsewhere[id]
			switch {
			case !shown[id] && !waits:
				t.Errorf("%s: row %s has no subtest", name, id)
			case shown[id] && waits:
				t.Errorf("%s: row %s has a subtest; take it off the list of those without", name, id)
			}
		}
	}
	for id := range elsewhere {
		if !known[id] {
			t.Errorf("%s is no row", id)
		}
	}
	if len(known) != 44 {
		t.Errorf("%d rows, want 44", len(known))
	}
}

// TestProfile drives every row over HTTP against a server with the profile as
// it is shipped.
func TestProfile(t *testing.T) {
	t.Parallel()
	for name, rows := range profileRows() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := filepath.Abs(filepath.Join("..", "..", "examples", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			p, err := profile.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			s := keystiletest.New(t, keystiletest.Profile(path), keystiletest.Dir(dir),
				keystiletest.FlushInterval(20*time.Millisecond), keystiletest.TrustedProxy("127.0.0.1"))
			for _, r := range rows {
				t.Run(r.name, func(t *testing.T) { r.run(t, newTenant(t, s, p, dir)) })
			}
		})
	}
}

// tenant is a workspace of a product, fresh for each row.
type tenant struct {
	*testing.T

	server  *keystiletest.Server
	profile *profile.Profile
	dir     string
	id      string
	admin   string // key with the role admin
}

func newTenant(t *testing.T, s *keystiletest.Server, p *profile.Profile, dir string) *tenant {
	t.Helper()
	// The largest plan, so that only rows about limits meet them.
	w := s.NewWorkspace(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:], p.Plans[len(p.Plans)-1].Name)
	return &tenant{T: t, server: s, profile: p, dir: dir, id: w.ID, admin: s.Key(w.ID, keystile.CreateKey{Name: "Admin", Role: "admin"}).Secret}
}

// call sends a management request.
func (n *tenant) call(key, method, path string, body any) reply {
	n.Helper()
	return call(n, method, n.server.URL+path, bearer(key), body)
}

// keys is the path of the workspace's keys.
func (n *tenant) keys() string { return "/v1/workspaces/" + n.id + "/keys" }

// create makes a key as the workspace's admin would.
func (n *tenant) create(k keystile.CreateKey) keystile.CreatedKey {
	n.Helper()
	made := want[keystile.CreatedKey](n, n.call(n.admin, "POST", n.keys(), k), http.StatusCreated)
	if made.Secret == "" || made.Key.ID == "" {
		n.Fatal("a created key lacks its secret or its ID")
	}
	return made
}

func (n *tenant) show(id string) keystile.Key {
	n.Helper()
	return want[keystile.Key](n, n.call(n.admin, "GET", "/v1/keys/"+id, nil), http.StatusOK)
}

func (n *tenant) list(query string) []keystile.Key {
	n.Helper()
	return want[keystile.List[keystile.Key]](n, n.call(n.admin, "GET", n.keys()+query, nil), http.StatusOK).Data
}

func (n *tenant) revoke(id string, body any) keystile.Key {
	n.Helper()
	return want[keystile.Key](n, n.call(n.admin, "POST", "/v1/keys/"+id+"/revoke", body), http.StatusOK)
}

// present puts a key where the product's customers put theirs.
func (n *tenant) present(key string) http.Header {
	if len(n.profile.Headers) == 1 && strings.EqualFold(n.profile.Headers[0], "X-API-Key") {
		return headers("X-API-Key", key)
	}
	return bearer(key)
}

// me presents a key the product's way, from an address if one is named.
func (n *tenant) me(key string, address ...string) reply {
	n.Helper()
	return n.meWith(n.present(key), address...)
}

func (n *tenant) meWith(h http.Header, address ...string) reply {
	n.Helper()
	for _, a := range address {
		h.Set("X-Forwarded-For", a)
	}
	return call(n, "GET", n.server.URL+"/v1/me", h, nil)
}

// works checks that a key is accepted by me, forward-auth and verify.
func (n *tenant) works(key string) keystile.Self {
	n.Helper()
	self := want[keystile.Self](n, n.me(key), http.StatusOK)
	if !self.Valid {
		n.Fatalf("me says %s", self.Code)
	}
	if r := call(n, "GET", n.server.URL+"/v1/forward-auth", n.present(key), nil); r.status != http.StatusOK || r.header.Get("X-Keystile-Key-Id") != self.KeyID {
		n.Fatalf("forward-auth: %s with %v", r, r.header)
	}
	if d := n.verify(keystile.VerifyRequest{Key: key}); !d.Valid || d.KeyID != self.KeyID {
		n.Fatalf("verify: %+v", d)
	}
	return self
}

// refused checks that a key is refused in all three places with one code.
func (n *tenant) refused(key string, code keystile.Code) keystile.Error {
	n.Helper()
	e := wantProblem(n, n.me(key), code.Status(), code)
	wantProblem(n, call(n, "GET", n.server.URL+"/v1/forward-auth", n.present(key), nil), code.Status(), code)
	if d := n.verify(keystile.VerifyRequest{Key: key}); d.Valid || d.Code != code || d.Status != code.Status() || d.Detail == "" || len(d.Fixes) == 0 {
		n.Fatalf("verify: %+v, want %s", d, code)
	}
	if e.Status == http.StatusUnauthorized && e.Title != n.profile.Unauthorized {
		n.Fatalf("title %q, want %q", e.Title, n.profile.Unauthorized)
	}
	return e
}

// verify asks as the product's backend does.
func (n *tenant) verify(q keystile.VerifyRequest) keystile.Decision {
	n.Helper()
	return want[keystile.Decision](n, n.call(n.server.OperatorKey, "POST", "/v1/verify", q), http.StatusOK)
}

// audit lists the entries of the audit log about an object, newest first.
func (n *tenant) audit(object string) []keystile.AuditEntry {
	n.Helper()
	return want[keystile.AuditList](n, n.call(n.admin, "GET", "/v1/workspaces/"+n.id+"/audit?object="+object, nil), http.StatusOK).Data
}

// audited returns the newest entry of an action on an object.
func (n *tenant) audited(object, action string) keystile.AuditEntry {
	n.Helper()
	for _, e := range n.audit(object) {
		if e.Action == action {
			return e
		}
	}
	n.Fatalf("no audit entry %s for %s", action, object)
	return keystile.AuditEntry{}
}

func (n *tenant) usage(query string) keystile.Usage {
	n.Helper()
	return want[keystile.Usage](n, n.call(n.admin, "GET", "/v1/workspaces/"+n.id+"/usage"+query, nil), http.StatusOK)
}

// used waits until a key's last use is written.
func (n *tenant) used(id string) keystile.Key {
	n.Helper()
	var k keystile.Key
	eventually(n, "the last use of "+id+" is shown", func() bool {
		k = n.show(id)
		return k.LastUse != nil
	})
	return k
}

// sql changes the database beside the server, which is how a test lets time pass.
func (n *tenant) sql(statement string, arguments ...any) {
	n.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(n.dir, "keystile.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		n.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec(statement, arguments...)
	if err != nil {
		n.Fatal(err)
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 0 {
		n.Fatalf("%s changed %d rows: %v", statement, rows, err)
	}
}

// created puts the creation of a key back.
func (n *tenant) created(id string, ago time.Duration) {
	n.Helper()
	n.sql(`UPDATE keys SET created_at = ?, look_at = 0 WHERE id = ?`, time.Now().Add(-ago).UnixMilli(), id)
}

// alerted waits until a key has an open alert of a type and stage, or none if
// there is to be none.
func (n *tenant) alerted(id string, kind keystile.AlertType, stage string, there bool) (found keystile.Alert) {
	n.Helper()
	eventually(n, fmt.Sprintf("alert %s %s about %s: %v", kind, stage, id, there), func() bool {
		for _, a := range want[keystile.List[keystile.Alert]](n, n.call(n.admin, "GET", "/v1/workspaces/"+n.id+"/alerts?limit=200", nil), http.StatusOK).Data {
			if a.KeyID == id && a.Type == kind && a.Stage == stage {
				found = a
				return there
			}
		}
		return !there
	})
	return found
}

// nowhere checks that a secret is in no page of the API about the workspace
// and in no file of the database.
func (n *tenant) nowhere(made keystile.CreatedKey) {
	n.Helper()
	for _, path := range []string{
		"/v1/keys/" + made.Key.ID, n.keys(), "/v1/workspaces/" + n.id + "/audit", "/v1/workspaces/" + n.id + "/usage?key=" + made.Key.ID,
	} {
		r := n.call(n.admin, "GET", path, nil)
		if r.status != http.StatusOK || !strings.Contains(string(r.body), made.Key.ID) && !strings.Contains(path, "usage") {
			n.Fatalf("GET %s does not show the key: %s", path, r)
		}
		if strings.Contains(string(r.body), made.Secret) || strings.Contains(string(r.body), `"secret"`) {
			n.Fatalf("GET %s shows the secret", path)
		}
	}
	inFiles(n, n.dir, made.Secret, body(made.Secret))
}

// body is what is random in a key, without its prefix.
func body(secret string) string { return secret[strings.LastIndexByte(secret, '_')+1:] }

// previewFirst and previewLast are the two styles of previews.
func previewFirst(secret string, shown int) string {
	return secret[:shown] + "••••••••"
}

func previewLast(secret, prefix string) string {
	return prefix + "••••••••" + secret[len(secret)-4:]
}

// mint makes a key that has the form of the product's and was never issued.
func (n *tenant) mint() string {
	n.Helper()
	secret, err := n.profile.Format().Mint("")
	if err != nil {
		n.Fatal(err)
	}
	return secret
}

var keyID = regexp.MustCompile(`^key_[0-9a-z]+$`)

const (
	day  = 24 * time.Hour
	year = 365 * day
)
