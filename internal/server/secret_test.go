package server_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/server"
	"github.com/keystile/keystile/keystiletest"
)

// leak looks for secrets in texts. It never prints one.
type leak struct {
	texts map[string]string // what must not be found, and what it is
}

// add takes a key.
func (l *leak) add(what, secret string) { l.addToken(what, body(secret), secret) }

// addToken takes a secret and its random part.
func (l *leak) addToken(what, random, secret string) {
	if l.texts == nil {
		l.texts = map[string]string{}
	}
	digest := sha256.Sum256([]byte(secret))
	l.texts[random[:33]] = what // the random part; the rest follows from it
	for name, form := range map[string]string{
		"raw": string(digest[:]), "hex": hex.EncodeToString(digest[:]), "HEX": strings.ToUpper(hex.EncodeToString(digest[:])),
		"base64": base64.RawStdEncoding.EncodeToString(digest[:]), "base64url": base64.RawURLEncoding.EncodeToString(digest[:]),
	} {
		l.texts[form] = "the digest of " + what + ", " + name
	}
}

// in fails if a text holds what it must not.
func (l *leak) in(t testing.TB, where, text string) {
	t.Helper()
	for form, what := range l.texts {
		if strings.Contains(text, form) {
			t.Errorf("%s holds %s", where, what)
		}
	}
}

// TestSecretsNeverLeave drives every route, in success and in failure, with
// keys in right and wrong places, and looks for them everywhere after.
func TestSecretsNeverLeave(t *testing.T) {
	t.Parallel()
	log, plain := &buffer{}, &buffer{}
	dir := t.TempDir()
	bothForms := func(_ testing.TB, c *server.Config) {
		o := &slog.HandlerOptions{Level: slog.LevelDebug}
		c.Log = slog.New(slog.NewMultiHandler(slog.NewJSONHandler(log, o), slog.NewTextHandler(plain, o)))
	}
	s := keystiletest.New(t, bothForms, keystiletest.Dir(dir), keystiletest.FlushInterval(20*time.Millisecond))
	p, err := profile.Load("")
	if err != nil {
		t.Fatal(err)
	}
	n := newTenant(t, s, p, dir)
	d := &drive{tenant: n, seen: map[string]int{}}
	d.leak.add("the operator's key", s.OperatorKey)
	d.leak.add("the admin's key", n.admin)

	d.succeed()
	d.everyRouteSucceeded()
	d.misplace()

	eventually(t, "uses are written", func() bool { return strings.Contains(d.list("/v1/workspaces/"+n.id+"/usage"), `"total"`) })
	time.Sleep(100 * time.Millisecond) // several flushes
	for _, workspace := range []string{n.id, "ws_operator"} {
		for _, what := range []string{"webhook-secrets?limit=200", "audit?limit=200", "alerts?state=all&limit=200", "usage?limit=200", "keys?limit=200", "members", "roles"} {
			d.leak.in(t, what, d.list("/v1/workspaces/"+workspace+"/"+what))
		}
	}
	d.leak.in(t, "metrics", d.list("/metrics"))
	text := log.String() + plain.String()
	if strings.Count(text, "\n") < 2000 || !strings.Contains(text, `"level":"DEBUG"`) || !strings.Contains(text, "level=DEBUG") {
		t.Fatalf("the log has %d lines; it is not the whole", strings.Count(text, "\n"))
	}
	for line := range strings.Lines(text) {
		d.leak.in(t, "a log line", line)
		if strings.Contains(line, "Bearer") || strings.Contains(line, "Authorization") {
			t.Errorf("a log line holds an Authorization header: %s", line)
		}
	}
	d.leak.database(t, filepath.Join(dir, "keystile.db"))
	backups := t.TempDir()
	succeed(t, "backup", filepath.Join(backups, "backup.db"), "--data", dir)
	var forms []string
	for form, what := range d.leak.texts {
		if !strings.HasSuffix(what, "raw") { // which the digests of keys and links are
			forms = append(forms, form)
		}
	}
	inFiles(t, dir, forms...)
	box, err := seal.Source{File: filepath.Join(dir, "master.key")}.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inFiles(t, backups, append(forms, box.Keys()[0].Text())...)
	if strings.Contains(text, box.Keys()[0].Text()) {
		t.Error("the log holds the master key")
	}
}

// drive sends requests and notes which routes they reached.
type drive struct {
	*tenant

	leak  leak
	seen  map[string]int // successes by method and path of the description
	spare keystile.CreatedKey
	hook  keystile.CreatedWebhookSecret
	role  keystile.Role
	mem   keystile.Member
}

// send sends a request whose answer must hold no secret.
func (d *drive) send(method, path string, h http.Header, body any) reply {
	d.Helper()
	r := call(d, method, d.server.URL+path, h, body)
	d.leak.in(d, fmt.Sprintf("the answer %d of %s", r.status, method), string(r.body)+fmt.Sprint(r.header))
	if r.status < 300 {
		d.seen[method+" "+d.pattern(path)]++
	}
	return r
}

// issueHook is issue for webhook secrets. Their bytes are looked for as well.
func (d *drive) issueHook(path string, h http.Header, body any) keystile.CreatedWebhookSecret {
	d.Helper()
	made := want[keystile.CreatedWebhookSecret](d, call(d, "POST", d.server.URL+path, h, body), http.StatusCreated)
	d.leak.addHook(made.WebhookSecret.Label, made.Secret)
	d.seen["POST "+d.pattern(path)]++
	return made
}

// addHook takes a webhook secret.
func (l *leak) addHook(what, secret string) {
	encoded := strings.TrimPrefix(secret, "whsec_")
	l.addToken(what, encoded, secret)
	raw, _ := base64.StdEncoding.DecodeString(encoded)
	l.texts[string(raw)] = "the bytes of " + what
	l.texts[hex.EncodeToString(raw)] = "the bytes of " + what + " in hexadecimal"
	l.texts[encoded[:20]] = "the beginning of " + what
}

var ids = regexp.MustCompile(`/(ws|key|role|mem|whs|ep|dlv|al)_[0-9a-z]+`)

func (d *drive) pattern(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return ids.ReplaceAllString(path, "/{id}")
}

func (d *drive) list(path string) string {
	d.Helper()
	return string(call(d, "GET", d.server.URL+path, bearer(d.server.OperatorKey), nil).body)
}

// issue sends a request that is answered with a secret, which is then looked
// for in all that follows.
func (d *drive) issue(path string, body any) keystile.CreatedKey {
	d.Helper()
	made := want[keystile.CreatedKey](d, d.call(d.admin, "POST", path, body), http.StatusCreated)
	if strings.Count(fmt.Sprint(made), made.Secret) != 1 {
		d.Error("the answer holds the secret more than once")
	}
	d.leak.add(made.Key.Name, made.Secret)
	d.seen["POST "+d.pattern(path)]++
	return made
}

// succeed drives every route to success.
func (d *drive) succeed() {
	d.Helper()
	admin, operator := bearer(d.admin), bearer(d.server.OperatorKey)
	first := d.issue(d.keys(), keystile.CreateKey{Name: "first", Metadata: map[string]string{"team": "a"}, Owner: "o"})
	second := d.issue(d.keys(), keystile.CreateKey{Name: "second"})
	d.spare = d.issue(d.keys(), keystile.CreateKey{Name: "spare"})
	one := "/v1/keys/" + first.Key.ID
	fresh := d.issue(one+"/rotate", nil)
	d.role = want[keystile.Role](d, d.send("POST", "/v1/workspaces/"+d.id+"/roles", admin, `{"name": "reader", "permissions": ["read"]}`), 201)
	d.mem = want[keystile.Member](d, d.send("POST", "/v1/workspaces/"+d.id+"/members", admin, `{"person": {"name": "Ada"}, "role": "viewer"}`), 201)
	extra := want[keystile.Workspace](d, d.send("POST", "/v1/workspaces", operator, `{"name": "Extra"}`), 201)
	exposed := d.issue(d.keys(), keystile.CreateKey{Name: "exposed"})
	d.send("POST", "/v1/keys/"+exposed.Key.ID+"/revoke", admin, `{"reason": "exposure_suspected"}`)
	alerts := want[keystile.List[keystile.Alert]](d, d.send("GET", "/v1/workspaces/"+d.id+"/alerts", admin, nil), 200)
	if len(alerts.Data) == 0 {
		d.Fatal("no alert tells of a key that was exposed")
	}
	h := headers("Authorization", "Bearer "+d.admin, "Idempotency-Key", "once")
	made := want[keystile.CreatedKey](d, call(d, "POST", d.server.URL+d.keys(), h, `{"name": "idempotent"}`), 201)
	d.leak.add("idempotent", made.Secret)
	d.send("POST", d.keys(), h, `{"name": "idempotent"}`)

	portal := "/v1/workspaces/" + d.id + "/portal-sessions"
	link := want[keystile.PortalSession](d, call(d, "POST", d.server.URL+portal, operator, `{"person": {"subject": "u-1"}, "role": "viewer"}`), 201)
	token := link.URL[strings.LastIndexByte(link.URL, '/')+1:]
	d.leak.addToken("a portal's link", token, token)
	d.seen["POST "+d.pattern(portal)]++

	hooks := "/v1/workspaces/" + d.id + "/webhook-secrets"
	d.hook = d.issueHook(hooks, admin, `{"label": "a consumer", "environment": "production"}`)
	once := headers("Authorization", "Bearer "+d.admin, "Idempotency-Key", "once")
	gone := d.issueHook(hooks, once, `{"label": "a former consumer", "environment": "production"}`)
	d.send("POST", hooks, once, `{"label": "a former consumer", "environment": "production"}`)
	hook, former := "/v1/webhook-secrets/"+d.hook.WebhookSecret.ID, "/v1/webhook-secrets/"+gone.WebhookSecret.ID
	d.issueHook(former+"/rotate", admin, `{"label": "a new consumer"}`)

	// An endpoint where nobody listens: its deliveries wait to be sent again.
	endpoints := "/v1/workspaces/" + d.id + "/endpoints"
	target := want[keystile.CreatedEndpoint](d, call(d, "POST", d.server.URL+endpoints, operator,
		`{"url": "http://127.0.0.1:1/x", "event_types": ["*"], "allow_ranges": ["127.0.0.1"]}`), http.StatusCreated)
	d.leak.addHook("the secret of an endpoint", target.Secret)
	d.seen["POST "+d.pattern(endpoints)]++
	endpoint := "/v1/endpoints/" + target.Endpoint.ID
	d.send("PATCH", hook, admin, `{"label": "an event"}`)
	var delivery string
	eventually(d, "there is a delivery", func() bool {
		list := want[keystile.List[keystile.Delivery]](d, d.send("GET", endpoint+"/deliveries", admin, nil), http.StatusOK)
		if len(list.Data) > 0 {
			delivery = "/v1/deliveries/" + list.Data[0].ID
		}
		return delivery != ""
	})

	for _, c := range []struct {
		method, path string
		header       http.Header
		body         any
	}{
		{"GET", endpoints, admin, nil},
		{"GET", endpoint, admin, nil},
		{"PATCH", endpoint, admin, `{"description": "d"}`},
		{"GET", delivery, admin, nil},
		{"POST", delivery + "/retry", admin, nil},
		{"POST", endpoint + "/test", admin, `{}`},
		{"POST", endpoint + "/pause", admin, `{"reason": "r"}`},
		{"POST", endpoint + "/resume", admin, nil},
		{"POST", endpoint + "/replay", admin, `{"since": "2026-01-01T00:00:00Z"}`},
		{"DELETE", endpoint, admin, nil},
		{"POST", hook + "/test", operator, `{"url": "http://127.0.0.1:1/x", "allow_ranges": ["127.0.0.1"]}`},
		{"GET", "/v1/event-types", admin, nil},
		{"GET", "/v1/nodes", operator, nil},
		{"GET", hooks, admin, nil},
		{"GET", hook, admin, nil},
		{"PATCH", hook, admin, `{"label": "renamed"}`},
		{"POST", "/v1/workspaces/" + d.id + "/webhooks/sign", admin, `{"payload": "{}", "environment": "production"}`},
		{"POST", "/v1/workspaces/" + d.id + "/webhooks/verify", admin, keystile.VerifyWebhookRequest{
			Payload: "{}", Secret: d.hook.Secret, Headers: map[string]string{"webhook-id": "msg_1", "webhook-signature": d.hook.Secret},
		}},
		{"POST", former + "/revoke", admin, `{"reason": "rotated"}`},
		{"DELETE", former, admin, nil},
		{"GET", one, admin, nil},
		{"PATCH", one, admin, `{"name": "renamed"}`},
		{"POST", one + "/disable", admin, `{"reason": "unneeded"}`},
		{"POST", one + "/enable", admin, nil},
		{"POST", one + "/review", admin, nil},
		{"POST", one + "/revoke", admin, `{"reason": "rotated"}`},
		{"DELETE", "/v1/keys/" + second.Key.ID, admin, nil},
		{"GET", d.keys(), admin, nil},
		{"POST", "/v1/verify", operator, keystile.VerifyRequest{Key: fresh.Secret, UserAgent: "app/1"}},
		{"POST", "/v1/verify", admin, keystile.VerifyRequest{Key: first.Secret}},
		{"POST", "/v1/verify/batch", operator, keystile.VerifyBatch{Requests: []keystile.VerifyRequest{{Key: fresh.Secret}, {Key: first.Secret}, {Key: "x" + fresh.Secret}}}},
		{"GET", "/v1/forward-auth", bearer(fresh.Secret), nil},
		{"GET", "/v1/me", headers("X-API-Key", fresh.Secret), nil},
		{"GET", "/v1/plans", admin, nil},
		{"GET", "/v1/workspaces", operator, nil},
		{"GET", "/v1/workspaces/" + d.id, admin, nil},
		{"PATCH", "/v1/workspaces/" + d.id, admin, `{"name": "Renamed"}`},
		{"DELETE", "/v1/workspaces/" + extra.ID, operator, nil},
		{"GET", "/v1/workspaces/" + d.id + "/roles", admin, nil},
		{"GET", "/v1/roles/" + d.role.ID, admin, nil},
		{"PATCH", "/v1/roles/" + d.role.ID, admin, `{"description": "Reads"}`},
		{"GET", "/v1/workspaces/" + d.id + "/members", admin, nil},
		{"GET", "/v1/members/" + d.mem.ID, admin, nil},
		{"PATCH", "/v1/members/" + d.mem.ID, admin, `{"role": "developer"}`},
		{"GET", "/v1/workspaces/" + d.id + "/usage", admin, nil},
		{"GET", "/v1/workspaces/" + d.id + "/audit", admin, nil},
		{"GET", "/v1/workspaces/" + d.id + "/alerts", admin, nil},
		{"POST", "/v1/alerts/" + alerts.Data[0].ID + "/seen", admin, nil},
		{"DELETE", "/v1/members/" + d.mem.ID, admin, nil},
		{"DELETE", "/v1/roles/" + d.role.ID, admin, nil},
		{"GET", "/openapi.json", nil, nil},
		{"GET", "/healthz", nil, nil},
		{"GET", "/readyz", nil, nil},
		{"GET", "/metrics", operator, nil},
	} {
		if r := d.send(c.method, c.path, c.header, c.body); r.status >= 300 {
			d.Errorf("%s %s: %s", c.method, c.path, r)
		}
	}
}

// routes are those of the description that the server gives of itself.
func (d *drive) routes() []string {
	d.Helper()
	spec := want[struct {
		Paths map[string]map[string]any `json:"paths"`
	}](d, call(d, "GET", d.server.URL+"/openapi.json", nil, nil), http.StatusOK)
	var routes []string
	for path, methods := range spec.Paths {
		for method := range methods {
			if method != "parameters" {
				routes = append(routes, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(routes)
	return routes
}

func (d *drive) everyRouteSucceeded() {
	d.Helper()
	for _, route := range d.routes() {
		if d.seen[route] == 0 {
			d.Errorf("no request of this test succeeded at %s; add one", route)
		}
	}
}

// misplace sends keys, good and bad ones, where they do not belong.
func (d *drive) misplace() {
	d.Helper()
	never := d.mint()
	d.leak.add("a key that was never issued", never)
	d.leak.add("spare", d.spare.Secret)
	idFor := map[string]string{
		"/v1/workspaces/{id}": d.id, "/v1/keys/{id}": d.spare.Key.ID, "/v1/roles/{id}": d.role.ID, "/v1/members/{id}": d.mem.ID,
		"/v1/webhook-secrets/{id}": d.hook.WebhookSecret.ID,
	}
	for _, route := range append(d.routes(), "GET /nothing/{id}", "GET /metrics", "POST /link/{id}", "GET /link/{id}") {
		method, path, _ := strings.Cut(route, " ")
		for _, secret := range []string{d.spare.Secret, never, d.hook.Secret} {
			at := path
			for prefix, id := range idFor {
				if strings.HasPrefix(path, prefix) {
					at = strings.Replace(path, "{id}", id, 1)
				}
			}
			var fields string
			if method != "GET" {
				fields = `{"name": "n", "role": "viewer", "person": {"name": "p"}}`
			}
			send := func(path string, in any, pairs ...string) {
				d.Helper()
				h := headers(pairs...)
				if h.Get("Authorization") == "" && h.Get("X-Api-Key") == "" {
					h.Set("Authorization", "Bearer "+d.admin)
				}
				if method == "DELETE" && !strings.Contains(path, body(secret)) {
					return // it would take away what the rest is tried on
				}
				d.send(method, path, h, in)
			}
			var plain any
			if fields != "" {
				plain = fields
			}
			for _, query := range []string{"?key=", "?token=", "?q=", "?cursor=", "?limit=", "?x=", "?"} {
				send(at+query+secret, plain)
			}
			send(strings.Replace(path, "{id}", secret, 1), plain)
			send(at+"/"+secret, plain)
			for _, pairs := range [][]string{
				{"Authorization", secret}, {"Authorization", "Basic " + secret}, {"Authorization", "Bearer " + secret + " " + secret},
				{"Authorization", "Bearer " + secret}, {"X-API-Key", secret}, {"Authorization", "Bearer " + secret, "X-API-Key", secret},
				{"X-Auth-Token", secret}, {"Cookie", "key=" + secret}, {"User-Agent", secret}, {"User-Agent", strings.Repeat("x", 180) + " " + secret},
				{"User-Agent", "app/1 (" + secret + ")"}, {"Idempotency-Key", secret}, {"X-Forwarded-For", secret}, {"Referer", "https://x.example/?k=" + secret},
				{"Content-Type", secret}, {"X-Request-Id", secret}, {"Origin", "https://" + secret}, {"Accept", secret},
			} {
				send(at, plain, pairs...)
			}
			if method == "GET" || secret == never {
				continue // bodies are read alike whether a key was issued or not
			}
			escaped := strings.ReplaceAll(secret, "_", `\u005f`)
			for _, in := range []string{
				secret, `"` + secret + `"`, `{"` + secret + `": 1}`, `{"name": "` + secret, `{"name": "` + secret + `"}`, `{"name": "n", "description": "see ` + escaped + `"}`,
				`{"name": "n", "owner": "` + secret + `"}`, `{"name": "n", "metadata": {"k": "` + secret + `"}}`, `{"name": "n", "metadata": {"` + secret + `": "v"}}`,
				`{"reason": "leaked: ` + secret + `"}`, `{"name": "n", "role": "` + secret + `"}`, `{"name": "n", "environment": "` + secret + `"}`,
				`{"name": "n", "permissions": ["` + secret + `"]}`, `{"name": "n", "ip_allowlist": ["` + secret + `"]}`, `{"name": "n", "expires_at": "` + secret + `"}`,
				`{"name": "n", "sha256": "` + secret + `"}`, `{"key": {"` + secret + `": "` + secret + `"}}`, `{"key": "` + secret + `", "permission": "` + secret + `"}`,
				`{"key": "` + secret + `", "workspace": "` + secret + `", "ip": "` + secret + `"}`, `{"key": "k", "user_agent": "` + secret + `"}`,
				`{"requests": [{"key": "` + secret + `", "user_agent": "` + secret + `"}]}`, `{"overlap": "` + secret + `"}`, `{"plan": "` + secret + `"}`, `{"name": "n", "plan": "` + secret + `"}`,
				`{"suspended_reason": "` + secret + `"}`, `{"person": {"name": "` + secret + `"}, "role": "viewer"}`, `{"person": {"subject": "` + secret + `"}, "role": "viewer"}`,
				`{"person": {"email": "` + secret + `@example.com"}, "role": "viewer"}`, `{"person": {"issuer": "https://` + secret + `", "subject": "1"}, "role": "viewer"}`,
				`{"name": "` + secret + `", "permissions": ["read"]}`, `{"name": "r", "description": "` + secret + `", "permissions": ["read"]}`,
			} {
				r := call(d, method, d.server.URL+at, bearer(d.admin), in)
				if r.status == http.StatusCreated && strings.Contains(string(r.body), `"secret"`) {
					// A key was made of it, since the misplaced one was not in this route's fields.
					made := want[keystile.CreatedKey](d, r, http.StatusCreated)
					d.leak.in(d, "the key that was made of "+method, fmt.Sprint(made.Key))
					d.leak.add("a further key", made.Secret)
					continue
				}
				d.leak.in(d, fmt.Sprintf("the answer %d of %s %s to a body", r.status, method, path), string(r.body)+fmt.Sprint(r.header))
			}
		}
	}
}

// database looks into every column of every table, except the one that holds
// the digests of keys.
func (l *leak) database(t testing.TB, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cells := 0
	for _, table := range names(t, db, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`) {
		for _, column := range names(t, db, `SELECT name FROM pragma_table_info('`+table+`')`) {
			if column == "digest" && (table == "keys" || table == "links") {
				continue
			}
			for _, cell := range names(t, db, `SELECT CAST("`+column+`" AS BLOB) FROM "`+table+`"`) {
				cells++
				l.in(t, table+"."+column, cell)
			}
		}
	}
	if cells < 1000 {
		t.Errorf("only %d cells were looked at", cells)
	}
}

// names runs a query of one column.
func names(t testing.TB, db *sql.DB, query string) (out []string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s.String)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
