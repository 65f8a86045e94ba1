package dashboard_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// entries are the rows of the log's table.
func entries(p *page) (rows []string) {
	for _, n := range p.all("tr", func(n *html.Node) bool { return len(p.find("time")) > 0 && !strings.Contains(text(n), "When") }) {
		rows = append(rows, text(n))
	}
	return rows
}

// IP11: a search of a long log looks at a part of it at a time, says how far it
// has looked, and goes on from there; the API likewise.
func TestAuditSearchEndsIP11(t *testing.T) {
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	base := "/w/" + s.Workspace
	s.Key(s.Workspace, keystile.CreateKey{Name: "Needle"})
	b := admin(t, s)
	later := time.Now().Add(time.Second)
	if _, err := openDatabase(t, dir).ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
		INSERT INTO audit SELECT substr(id, 1, 13) || 'vvvvv' || printf('%011d0', i), workspace_id, $2, actor_kind, actor_id, actor_name, 'key.updated',
			object_kind, object_id, 'Hay', address, user_agent, request_id, reason, before, after
		FROM n, (SELECT * FROM audit WHERE workspace_id = $1 ORDER BY id DESC LIMIT 1)`, s.Workspace, later.UnixMilli(), keyring.MaxLooked); err != nil {
		t.Fatal(err)
	}
	for _, filter := range []string{"object=needle", "action=key.created"} {
		p := b.get(base + "/audit?" + filter).is(http.StatusOK).shows("20,000 entries were looked at, back to").lacks("Needle")
		on := attribute(p.one("a", "Look further back"), "href")
		b.get(on).is(http.StatusOK).shows("Needle").lacks("were looked at")
	}
	list, err := s.Operator.Audit(t.Context(), s.Workspace, keystile.ListAudit{Object: "needle"})
	if err != nil || len(list.Data) != 0 || list.SearchedUntil == nil || list.NextCursor == "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if list, err = s.Operator.Audit(t.Context(), s.Workspace, keystile.ListAudit{Object: "needle", Cursor: list.NextCursor}); err != nil ||
		len(list.Data) != 1 || list.SearchedUntil != nil {
		t.Fatalf("%+v, %v", list, err)
	}
	// The export has all.
	if got := b.get(base + "/audit/export?format=jsonl&object=needle").is(http.StatusOK); !strings.Contains(got.body, "Needle") {
		t.Errorf("the export: %s", got.body)
	}
	// Days that are long past are found at once.
	b.get(base + "/audit?action=key.created&until=2020-01-01").is(http.StatusOK).shows("Nothing found").lacks("were looked at")
}

// IP5, IP11: the log says who did what, when, from where, and what changed;
// it is filtered by action, actor, object and time.
func TestAuditLogIP5_IP11(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	ada, _ := member(t, s, s.Workspace, "Ada", "admin")
	bea, m := member(t, s, s.Workspace, "Bea", "developer")
	ada.done(base+"/settings", "name", "Renamed", "ip_allowlist", "127.0.0.0/8")
	ada.done(base+"/members/"+m.ID+"/role", "role", "admin")
	key := s.Key(s.Workspace, keystile.CreateKey{Name: "Till"})
	if _, err := s.Operator.RevokeKey(t.Context(), key.Key.ID, keystile.RevokeKey{Reason: "exposure_suspected"}); err != nil {
		t.Fatal(err)
	}

	p := bea.get(base + "/audit").is(http.StatusOK)
	p.shows("Workspace updated", "ip allowlist 127.0.0.0/8", "name Default → Renamed", "Member's role changed", "role developer → admin",
		"Key revoked Reason: Exposure suspected", "status active → revoked", "127.0.0.1 Go client", "Operator (keystiletest)")
	if _, err := time.Parse(time.RFC3339, attribute(p.find("time")[0], "datetime")); err != nil {
		t.Error(err)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	before := time.Now().UTC().AddDate(0, 0, -2).Format(time.DateOnly)
	for _, c := range []struct {
		name  string
		query url.Values
		want  int
		has   string
	}{
		{"action", form("action", "key.revoked"), 1, "Till"},
		{"actions", form("action", "key.*"), 2, "Till"},
		{"actor by name", form("actor", "Ada", "action", "workspace.*"), 1, "Renamed"},
		{"actor and object", form("actor", "Ada", "object", m.ID), 1, "Bea"},
		{"object by a part of its name", form("object", "tIL"), 2, "Key created"},
		{"object by ID", form("object", key.Key.ID), 2, "Key created"},
		{"actor by a part of the name", form("actor", "DA", "action", "workspace.*"), 1, "Renamed"},
		{"an action that is not offered", form("action", "key.tickled"), 0, ""},
		{"today", form("since", today, "until", today, "action", "key.*"), 2, "Till"},
		{"before", form("until", before), 0, ""},
		{"after", form("since", time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)), 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := bea.get(base + "/audit?" + c.query.Encode()).is(http.StatusOK)
			got := entries(p)
			if len(got) != c.want || c.want > 0 && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.has) }) {
				t.Errorf("%d entries: %v", len(got), got)
			}
			for name := range c.query {
				if p.field(name) != c.query.Get(name) {
					t.Errorf("the filter forgot %s", name)
				}
			}
		})
	}
	bea.get(base + "/audit?since=yesterday").is(http.StatusUnprocessableEntity).shows("2026-11-21")
	bea.get(base + "/audit?cursor=nonsense").is(http.StatusUnprocessableEntity)
}

// Pages of the log follow on each other, and the export has them all: in both
// formats, however many pages it takes.
func TestAuditExport(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	b, _ := member(t, s, s.Workspace, "Ada", "viewer")
	const made = 250 // two pages of an export
	for i := range made {
		customRole(t, s, s.Workspace, fmt.Sprint("Role ", i), "read")
	}
	query := "action=role.created"
	var seen []string
	next := base + "/audit?" + query
	for pages := 0; next != ""; pages++ {
		p := b.get(next).is(http.StatusOK)
		seen = append(seen, entries(p)...)
		next = ""
		if more := p.all("a", func(n *html.Node) bool { return text(n) == "Next page" }); len(more) > 0 {
			next = attribute(more[0], "href")
		}
		if pages > made {
			t.Fatal("the pages never end")
		}
	}
	if slices.Sort(seen); len(seen) != made || len(slices.Compact(seen)) != made {
		t.Errorf("%d entries on the pages", len(seen))
	}

	lines := strings.Split(strings.TrimSpace(download(b, base+"/audit/export?format=jsonl&"+query, "application/jsonl", ".jsonl")), "\n")
	ids := map[string]bool{}
	for _, line := range lines {
		var e keystile.AuditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		ids[e.ID] = e.Action == "role.created" && e.After["name"] == e.ObjectName
	}
	rows, err := csv.NewReader(strings.NewReader(download(b, base+"/audit/export?format=csv&"+query, "text/csv; charset=utf-8", ".csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != made || len(ids) != made || len(rows) != made+1 || rows[0][0] != "id" {
		t.Errorf("%d lines of %d entries, %d rows", len(lines), len(ids), len(rows))
	}
	for _, row := range rows[1:] {
		if !ids[row[0]] {
			t.Errorf("only in one export: %v", row)
		}
	}
	b.get(base + "/audit/export?format=xml").is(http.StatusUnprocessableEntity).shows("Choose CSV or JSON Lines")
	b.get(base + "/audit/export?format=csv&since=x").is(http.StatusUnprocessableEntity)
}

func download(b *browser, path, kind, ending string) string {
	b.t.Helper()
	p := b.get(path).is(http.StatusOK)
	if got := p.header.Get("Content-Type"); got != kind {
		b.t.Errorf("%s is %s", path, got)
	}
	if got := p.header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment;") || !strings.HasSuffix(got, ending+`"`) {
		b.t.Errorf("%s: %s", path, got)
	}
	return p.body
}

// What people chose as a name is no formula in a spreadsheet.
func TestAuditExportHarmless(t *testing.T) {
	s := keystiletest.New(t)
	b, _ := member(t, s, s.Workspace, "Ada", "viewer")
	names := []string{`=HYPERLINK("http://evil.example","x")`, "+1+1", "-2+3", "@SUM(A1)", "＝1+1", "harmless = yes", "a;=1+1;b", "Win; x64", "b; \"@SUM(A1)"}
	for _, name := range names {
		s.Key(s.Workspace, keystile.CreateKey{Name: name})
	}
	rows, err := csv.NewReader(strings.NewReader(b.get("/w/" + s.Workspace + "/audit/export?format=csv&action=key.created").body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	column := slices.Index(rows[0], "object_name")
	for _, row := range rows[1:] {
		got = append(got, row[column])
		for i, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") {
				t.Errorf("%s begins like a formula: %q", rows[0][i], cell)
			}
		}
	}
	// A spreadsheet that expects semicolons makes cells of what is between them.
	want := []string{"b; \"'@SUM(A1)", "Win; x64", "a;'=1+1;b", "harmless = yes", "'＝1+1", "'@SUM(A1)", "'-2+3", "'+1+1", `'=HYPERLINK("http://evil.example","x")`}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Who reads the log wants to know what sort of program it was, and can see what
// it said of itself.
func TestProgramsAreTold(t *testing.T) {
	s := keystiletest.New(t)
	b, _ := member(t, s, s.Workspace, "Ada", "admin")
	const linux = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
	for _, c := range []struct{ agent, short string }{
		{linux + "Chrome/142.0.0.0 Safari/537.36", "Chrome on Linux"},
		{linux + "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", "Edge on Linux"},
		{linux + "HeadlessChrome/142.0.0.0 Safari/537.36", "Chrome on Linux"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox on Windows"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1", "Safari on iOS"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15", "Safari on macOS"},
		{"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", "Chrome on Android"},
		{"Mozilla/5.0 (compatible)", "A browser"},
		{"curl/8.14.1", "curl"},
		{"Go-http-client/2.0", "Go client"},
		{"keystile-go/0.1", "Keystile's Go client"},
		{"python-requests/2.32.0", "Python client"},
		{"till", "till"},
		{strings.Repeat("y", 60), strings.Repeat("y", 39) + "…"},
	} {
		b.header.Set("User-Agent", c.agent)
		b.done("/w/"+s.Workspace+"/settings", "name", "Default", "ip_allowlist", "")
		p := b.get("/w/" + s.Workspace + "/audit?action=workspace.updated").holds(html.EscapeString(c.agent))
		if got := text(p.find("tr")[1]); !strings.Contains(got, "127.0.0.1 "+c.short) {
			t.Errorf("%s is told as %q, want %q", c.agent, got, c.short)
		}
	}
}

// A name is looked for in so many days, and the page says so; an ID, which is
// found at once, in all of the log.
func TestAuditByNameIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	key := s.Key(s.Workspace, keystile.CreateKey{Name: "Old till"}).Key
	if _, err := openDatabase(t, dir).ExecContext(t.Context(), `UPDATE audit SET at = at - 91 * 86400000 WHERE object_id = $1`, key.ID); err != nil {
		t.Fatal(err)
	}
	at, v := "/w/"+s.Workspace+"/audit", admin(t, s)
	p := v.get(at+"?object=till").is(http.StatusOK).shows("Names are looked for in 90 days", "Nothing found")
	if first := p.field("since"); first != time.Now().UTC().AddDate(0, 0, -90).Format(time.DateOnly) {
		t.Errorf("the first day is %q", first)
	}
	v.get(at + "?object=till&since=2020-01-01").is(http.StatusOK).shows("Old till").lacks("Names are looked for")
	v.get(at + "?object=" + key.ID).is(http.StatusOK).shows("Old till").lacks("Names are looked for")
	v.get(at).is(http.StatusOK).shows("Old till").lacks("Names are looked for")
}
