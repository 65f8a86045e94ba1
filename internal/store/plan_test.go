package store_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// planned is a call whose statements must find their rows by an index.
type planned struct {
	name string
	call func(tx *store.Tx) error
	// scans are the tables that the call may read as a whole, or in the order
	// of an index until it has enough.
	scans []string
	// most is how many rows the call may touch at most; 0 means few.
	most float64
	// sorts says that the call puts few rows in order by itself.
	sorts bool
	// covered names the indexes, one of which must hold all that is asked of k.
	covered []string
}

// plannedCalls are all methods that read or change rows, with each of their
// filters. What is not here reads everything on purpose: LoadIndex, CountKeys.
func plannedCalls() []planned {
	var calls []planned
	for _, m := range scopedMethods() {
		for _, s := range []struct {
			name  string
			scope store.Scope
		}{{"own", store.OneWorkspace(acme)}, {"all", all()}} {
			p := planned{name: m.name + " " + s.name, call: func(tx *store.Tx) error { _, err := m.call(tx, s.scope); return err }}
			if m.name == "Workspaces" {
				p.scans, p.most = []string{"w"}, 3000 // a search looks at each name
			}
			switch m.name {
			case "Usage":
				p.scans, p.sorts = []string{"page"}, true
			case "UsageOverTime", "UsageByKey": // sums of all uses in a time
				p.scans, p.sorts, p.most = []string{"page", "parts"}, true, filledRows
			case "Sources", "UsageSeries":
				p.sorts = true // of one key
			case "CountActiveKeys":
				p.most, p.covered = filledRows/50, []string{"keys_active", "keys_rotating"}
			case "CountListed":
				p.scans = []string{"counted"} // what it has counted
			case "CountUnseenAlerts":
				p.scans = []string{"found"}
			case "FailingWorkspaces": // all windows of a time
				p.sorts = true
			case "FailureWindows", "FailureSources", "TriedSources": // of one workspace, of one key
				p.sorts = true
			case "CountMembers", "MembersByEmail", "MembersInRoles": // a look at each member
				p.most, p.sorts = filledRows, m.name == "MembersInRoles"
			case "Callers": // sums of all keys of a workspace
				p.sorts, p.most = true, filledRows
			case "DeleteWorkspace":
				p.most = filledRows
			case "LookAtSecrets": // all there are
				p.scans, p.most = []string{"webhook_secrets"}, filledRows
			}
			calls = append(calls, p)
		}
	}
	keys := func(name string, f store.KeyFilter) {
		f.WorkspaceID, f.Limit, f.Now = acme, 10, noon
		calls = append(calls, planned{name: "Keys " + name, call: func(tx *store.Tx) error { _, err := tx.Keys(all(), f); return err }})
	}
	keys("below a cursor", store.KeyFilter{Cursor: keyID(5)})
	keys("active", store.KeyFilter{Status: keystile.StatusActive})
	keys("disabled", store.KeyFilter{Status: keystile.StatusDisabled})
	keys("revoked", store.KeyFilter{Status: keystile.StatusRevoked})
	keys("expired", store.KeyFilter{Status: keystile.StatusExpired})
	calls[len(calls)-1].sorts = true // those that have expired a moment ago
	keys("live", store.KeyFilter{Live: true})
	keys("over", store.KeyFilter{Over: true})
	calls[len(calls)-1].sorts = true // those that have expired a moment ago
	keys("of a creator", store.KeyFilter{CreatorID: "x"})
	keys("found", store.KeyFilter{Query: "x", Status: keystile.StatusActive, Cursor: keyID(5)})
	audit := func(name string, f store.AuditFilter) {
		f.WorkspaceID, f.Limit = acme, 10
		calls = append(calls, planned{name: "Audit " + name, call: func(tx *store.Tx) error { _, err := tx.Audit(all(), f); return err }})
	}
	audit("below a cursor", store.AuditFilter{Cursor: id("aud_", 5)})
	audit("of an object", store.AuditFilter{Object: keyID(1)})
	audit("of an actor", store.AuditFilter{Actor: keyID(1)})
	for _, f := range []store.AuditFilter{{Object: "x"}, {Actor: "x"}} {
		audit("found by name", f)
		calls[len(calls)-1].most = filledRows // a search looks at each entry of the workspace
	}
	audit("of actions", store.AuditFilter{Action: "key.*"})
	audit("in a part", store.AuditFilter{Action: "key.deleted", First: id("aud_", 5), Cursor: id("aud_", 500), Look: 100})
	audit("by name in a part", store.AuditFilter{Object: "x", Look: 100})
	audit("of a time", store.AuditFilter{Since: ago(day), Until: noon})
	usage := func(name string, f store.UsageFilter) {
		f.WorkspaceID, f.Limit, f.Since, f.Until = acme, 10, ago(day), noon.Add(day)
		calls = append(calls, planned{name: "Usage " + name, call: func(tx *store.Tx) error { _, err := tx.Usage(all(), f); return err }, scans: []string{"page"}, sorts: true})
	}
	usage("of a key", store.UsageFilter{KeyID: keyID(1)})
	usage("below a cursor", store.UsageFilter{CursorHour: noon, CursorKey: keyID(1)})
	for _, days := range []int{1, 7, 30} { // up to noon those of hours, up to midnight those of days
		for _, until := range []time.Time{noon.Add(time.Hour), noon.Truncate(day).Add(day)} {
			f := store.UsageFilter{WorkspaceID: acme, Since: until.AddDate(0, 0, -days), Until: until, Limit: 10}
			calls = append(calls, planned{
				name: "UsageByKey", call: func(tx *store.Tx) error { _, err := tx.UsageByKey(all(), f, 0); return err },
				scans: []string{"page", "parts"}, sorts: true, most: filledRows,
			})
		}
	}
	long := ago(10_000 * time.Hour)
	return append(calls, []planned{
		{name: "IndexChanges", call: func(tx *store.Tx) error {
			_, err := tx.IndexChanges([]store.Change{
				{Kind: store.ChangeKey, ObjectID: keyID(1)}, {Kind: store.ChangeKey, ObjectID: keyID(2)},
				{Kind: store.ChangeRole, ObjectID: "x"}, {Kind: store.ChangeWorkspace, ObjectID: acme},
			})
			return err
		}},
		{name: "ChangesSince", call: func(tx *store.Tx) error { _, err := tx.ChangesSince(5, 10); return err }},
		{name: "Head", call: func(tx *store.Tx) error { _, err := tx.Head(); return err }, scans: []string{"h"}},
		{name: "TrimChanges", call: func(tx *store.Tx) error { _, err := tx.TrimChanges(long, 10); return err }, scans: []string{"oldest", "changes", "change_head", "nodes"}},
		{name: "Retain", call: func(tx *store.Tx) error {
			_, err := tx.Retain(store.Cutoffs{Audit: long, Usage: long, Sources: long, Events: long, Links: long, Idempotency: long, Alerts: long, Failures: long}, 10)
			return err
		}, scans: []string{"oldest"}},
		{name: "AddFailures", call: func(tx *store.Tx) error { return tx.AddFailures([]store.Failure{failure(acme, 1)}) }},
		{name: "AddUses of a revoked key", call: func(tx *store.Tx) error { return tx.AddUses([]verify.Use{use(1, keystile.CodeRevoked, noon)}) }, sorts: true}, // sources of one key, by lot
		{name: "Alerts closed", call: func(tx *store.Tx) error {
			_, err := tx.Alerts(all(), store.AlertFilter{WorkspaceID: acme, State: "closed", Cursor: id("al_", 9), Limit: 9})
			return err
		}},
		{name: "Alerts", call: func(tx *store.Tx) error {
			_, err := tx.Alerts(all(), store.AlertFilter{WorkspaceID: acme, Limit: 9})
			return err
		}},
		{name: "QueueMails", call: func(tx *store.Tx) error {
			return tx.QueueMails(alert(acme, 1), []string{"role_writer"}, noon, noon, 200)
		}, most: filledRows}, // the roles of all members are looked at
		{name: "DueMail", call: func(tx *store.Tx) error { _, err := tx.DueMail(noon); return err }},
		{name: "TakeMails", call: func(tx *store.Tx) error {
			_, err := tx.TakeMails(id("mem_", 1), "x", noon, noon, noon)
			return err
		}, sorts: true}, // those of one member
		{name: "EndMails", call: func(tx *store.Tx) error { return tx.EndMails(id("mem_", 1), "x", true, noon) }},
		{name: "MailSentBefore", call: func(tx *store.Tx) error {
			_, err := tx.MailSentBefore(id("mem_", 1), noon, 10)
			return err
		}},
		{name: "PostponeMails", call: func(tx *store.Tx) error { return tx.PostponeMails(id("mem_", 1), noon) }},
		{name: "SecretsToLook", call: func(tx *store.Tx) error {
			_, err := tx.SecretsToLook(all(), ago(day), 9)
			return err
		}},
		{name: "OpenAlertsOfEndpoint", call: func(tx *store.Tx) error {
			_, err := tx.OpenAlertsOfEndpoint(all(), id("ep_", 1))
			return err
		}},
		{name: "RetryMails", call: func(tx *store.Tx) error { return tx.RetryMails(id("mem_", 1), "x", noon) }},
		{name: "MailAttempts", call: func(tx *store.Tx) error { _, err := tx.MailAttempts(id("mem_", 1), "x"); return err }},
		{name: "DropMails", call: func(tx *store.Tx) error { return tx.DropMails(id("mem_", 1)) }},
		{name: "AddUses", call: func(tx *store.Tx) error { return tx.AddUses([]verify.Use{use(1, keystile.CodeValid, noon)}) }, sorts: true},
		{name: "NoteUses", call: func(tx *store.Tx) error { return tx.NoteUses([]verify.Use{use(1, keystile.CodeValid, noon)}) }},
		{name: "UsesToSettle", call: func(tx *store.Tx) error { _, err := tx.UsesToSettle(); return err }, scans: []string{"one", "recent_uses"}},
		{name: "SettleUses", call: func(tx *store.Tx) error { _, err := tx.SettleUses(9); return err }, scans: []string{"first", "recent_uses"}, sorts: true},
		{name: "Link", call: func(tx *store.Tx) error { return tx.SpendLink(digest(1), noon) }},
		{name: "Idempotent", call: func(tx *store.Tx) error { _, _, err := tx.Idempotent(digest(1)); return err }},
		{name: "ForgetIdempotent", call: func(tx *store.Tx) error { return tx.ForgetIdempotent(digest(1), noon) }},
		{name: "Setting", call: func(tx *store.Tx) error { _, err := tx.Setting("x"); return err }},
		{name: "PersonBySubject", call: func(tx *store.Tx) error { _, err := tx.PersonBySubject("x", "y"); return err }},
		{name: "InsertEvent", call: func(tx *store.Tx) error { return tx.InsertEvent(event(acme, 1)) }},
		{name: "PendingEvents", call: func(tx *store.Tx) error { _, err := tx.PendingEvents(10); return err }, scans: []string{"events"}},
		{name: "HandedOn", call: func(tx *store.Tx) error { return tx.HandedOn([]string{id("evt_", 1), id("evt_", 2)}) }},
		{name: "EndpointsOf", call: func(tx *store.Tx) error { _, err := tx.EndpointsOf([]string{acme, other}); return err }, sorts: true}, // few
		{name: "EndpointsDue", call: func(tx *store.Tx) error { return tx.EndpointsDue([]string{id("ep_", 1)}, noon) }},
		{name: "RecordTried", call: func(tx *store.Tx) error {
			_, err := tx.RecordTried([]store.Tried{
				{DeliveryID: id("dlv_", 1), EndpointID: id("ep_", 1), Number: 2, Delivered: true},
				{DeliveryID: id("dlv_", 2), EndpointID: id("ep_", 2), Number: 2, Next: noon},
			}, noon)
			return err
		}, sorts: true}, // what is written, to tell what is there already
		{name: "ClaimEndpoints", call: func(tx *store.Tx) error { _, err := tx.ClaimEndpoints("n", nil, noon, noon, 10); return err }, scans: []string{"endpoints"}},
		{name: "RenewClaims", call: func(tx *store.Tx) error { return tx.RenewClaims("node", noon) }},
		{name: "ReleaseEndpoints", call: func(tx *store.Tx) error { return tx.ReleaseEndpoints("node", []string{id("ep_", 100)}) }},
		{name: "ClaimedEndpoints", call: func(tx *store.Tx) error { _, err := tx.ClaimedEndpoints("node"); return err }, sorts: true}, // few
		{name: "DueDeliveries", call: func(tx *store.Tx) error { _, err := tx.DueDeliveries(id("ep_", 1), noon, 10); return err }},
		{name: "Waiting", call: func(tx *store.Tx) error { _, err := tx.Waiting("n", noon); return err }, scans: []string{"events"}},
		{name: "OldestDue", call: func(tx *store.Tx) error { _, err := tx.OldestDue(noon); return err }, scans: []string{"events"}},
		{name: "DeleteDeliveries", call: func(tx *store.Tx) error { _, err := tx.DeleteDeliveries("gone", 10); return err }},
		{name: "InsertKey", call: func(tx *store.Tx) error { return tx.InsertKey(key(acme, 1<<40)) }},
		{name: "LogChange", call: func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") }},
	}...)
}

// TestPlans: no list, lookup or change reads a table as a whole. SQLite's plan
// says so by itself; PostgreSQL's depends on what is there, so it runs on a
// database with many rows, and tells how many it has touched.
func TestPlans(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			explain := scansNothing
			if f.Postgres() {
				fillForPlans(t, f)
				explain = touchesFew
			} else {
				addKeys(t, f.Store, 1)
				write(t, f.Store, func(tx *store.Tx) error {
					return tx.AddUses([]verify.Use{use(1, keystile.CodeValid, noon), use(1, keystile.CodeValid, ago(9*day))})
				})
			}
			db := f.raw(t)
			for _, p := range plannedCalls() {
				statements, err := f.Statements(t.Context(), p.call)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: %v", p.name, err)
				}
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range statements {
					explain(t, tx, p, s)
				}
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

var (
	scan = regexp.MustCompile(`^SCAN (\S+)`)
	// ofEveryone are indexes by time alone: what retention reads, and one
	// workspace's pages must not, since the rows of all the others stand there.
	ofEveryone = regexp.MustCompile(`INDEX (usage_hour|usage_sums_at|workspace_usage_day|audit_at) `)
)

// scansNothing asks SQLite: https://www.sqlite.org/eqp.html
func scansNothing(t *testing.T, tx *sql.Tx, p planned, s store.Statement) {
	t.Helper()
	rows, err := tx.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+s.Text, s.Args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var number, parent, unused int
		var detail string
		if err := rows.Scan(&number, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		if m := scan.FindStringSubmatch(detail); m != nil && m[1] != "CONSTANT" && !slices.Contains(p.scans, m[1]) {
			t.Errorf("%s: %s\n%s", p.name, detail, s.Text)
		}
		if strings.HasPrefix(detail, "SEARCH k ") && p.covered != nil &&
			!slices.ContainsFunc(p.covered, func(index string) bool { return strings.Contains(detail, "COVERING INDEX "+index+" ") }) {
			t.Errorf("%s: %s\n%s", p.name, detail, s.Text)
		}
		if ofEveryone.MatchString(detail) && p.name != "Retain" {
			t.Errorf("%s reads what belongs to all workspaces: %s\n%s", p.name, detail, s.Text)
		}
		if strings.Contains(detail, "TEMP B-TREE") && !p.sorts {
			t.Errorf("%s: %s\n%s", p.name, detail, s.Text)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// fewRows is how many rows a call may touch that is for a page or an object.
// There are sixteen times as many in the workspace that is asked about, and as
// many again in others.
const fewRows, filledRows = 250, 8000

// plan is a node of https://www.postgresql.org/docs/15/sql-explain.html
type plan struct {
	Type    string  `json:"Node Type"`
	Index   string  `json:"Index Name"`
	Alias   string  `json:"Alias"`
	Table   string  `json:"Relation Name"`
	Rows    float64 `json:"Actual Rows"`
	Removed float64 `json:"Rows Removed by Filter"`
	Recheck float64 `json:"Rows Removed by Index Recheck"`
	Loops   float64 `json:"Actual Loops"`
	Plans   []plan  `json:"Plans"`
}

func (p plan) touched() float64 {
	n := (p.Rows + p.Removed + p.Recheck) * p.Loops
	for _, below := range p.Plans {
		n = max(n, below.touched())
	}
	return n
}

// covers tells whether k is read from the index alone.
func (p plan) covers(indexes []string) bool {
	return p.Type == "Index Only Scan" && slices.Contains(indexes, p.Index) && p.Alias == "k" ||
		slices.ContainsFunc(p.Plans, func(below plan) bool { return below.covers(indexes) })
}

func touchesFew(t *testing.T, tx *sql.Tx, p planned, s store.Statement) {
	t.Helper()
	var text string
	if err := tx.QueryRowContext(t.Context(), `EXPLAIN (ANALYZE, FORMAT JSON) `+s.Text, s.Args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v\n%s", p.name, err, s.Text)
	}
	var plans []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	if p.covered != nil && !plans[0].Plan.covers(p.covered) {
		t.Errorf("%s: %+v", p.name, plans[0].Plan)
	}
	if n := plans[0].Plan.touched(); n > max(fewRows, p.most) {
		t.Errorf("%s touches %.0f rows\n%s\n%+v", p.name, n, s.Text, plans[0].Plan)
	}
}

// fillForPlans makes rows of every kind that lists and lookups go through, half of
// them acme's.
func fillForPlans(t testing.TB, f *fixture) {
	t.Helper()
	addWorkspaces(t, f.Store)
	db := f.raw(t)
	for _, q := range []string{
		`INSERT INTO workspaces (id, name, plan, search, created_at, updated_at)
			SELECT 'ws_' || lpad(n::text, 8, '0'), 'n', 'free', 'n', 1, 1 FROM generate_series(1, 2000) n`,
		`INSERT INTO keys (id, workspace_id, digest, name, preview, state, role_id, search, created_at, creator_kind,
			creator_id, creator_name, updated_at, replaced_by, revoked_at, expires_at)
			SELECT 'key_' || lpad(n::text, 26, '0'), w, decode(lpad(to_hex(n), 64, '0'), 'hex'), 'n', 'p', s, 'role_' || n % 500,
			'n', 1, 'operator', 'per_' || n % 500, 'n', 1, CASE n % 3 WHEN 0 THEN 'key_' || lpad((n + 2)::text, 26, '0') ELSE '' END, CASE s WHEN 2 THEN n ELSE 0 END, CASE s WHEN 3 THEN n ELSE 0 END
			FROM (SELECT n, CASE n % 2 WHEN 0 THEN 'ws_acme' ELSE 'ws_other' END w, CASE n / 2 % 50 WHEN 0 THEN 0 WHEN 1 THEN 1 WHEN 2 THEN 3 ELSE 2 END s
			FROM generate_series(1, $1) n) r`,
		`INSERT INTO key_use (key_id, at, address, user_agent) SELECT id, 1, '', '' FROM keys`,
		`INSERT INTO recent_uses (key_id, address, hour, user_agent, first_at, last_at, count) SELECT id, '', 1, '', 1, 1, 1 FROM keys`,
		`INSERT INTO key_sources (key_id, address, code, user_agent, first_at, last_at, count) SELECT id, '', 'valid', '', n, n, 1
			FROM (SELECT id, row_number() OVER () n FROM keys) k`,
		`INSERT INTO usage (key_id, hour, code, workspace_id, count) SELECT id, 3600000 * n, 'valid', workspace_id, 1
			FROM (SELECT id, workspace_id, row_number() OVER () n FROM keys) k`,
		`INSERT INTO audit (id, workspace_id, at, actor_kind, actor_id, actor_name, action, object_kind, object_id, object_name,
			address, user_agent, request_id, reason, before, after)
			SELECT 'aud_' || lpad(n::text, 26, '0'), workspace_id, n, 'operator', creator_id, '', 'key.created', 'key', id, '', '', '', '', '', '{}', '{}'
			FROM (SELECT id, workspace_id, creator_id, row_number() OVER () n FROM keys) k`,
		`INSERT INTO events (id, workspace_id, type, object_id, at, data, pending)
			SELECT 'evt' || id, workspace_id, 'x', object_id, at, '', CASE at % 1000 WHEN 0 THEN 1 ELSE 0 END FROM audit`,
		`INSERT INTO endpoints (id, workspace_id, url, event_types, state, created_at, updated_at, due_at, claimed_by, claimed_till)
			SELECT 'ep_' || lpad(n::text, 26, '0'), CASE n % 100 WHEN 0 THEN 'ws_acme' ELSE 'ws_' || lpad(n::text, 8, '0') END, 'u', '[]', n % 2, 1, 1,
			CASE n % 50 WHEN 0 THEN n ELSE 0 END, CASE n % 100 WHEN 0 THEN 'node' ELSE '' END, 0 FROM generate_series(1, 2000) n`,
		`INSERT INTO deliveries (id, workspace_id, event_id, endpoint_id, object_id, state, next_at, created_at, updated_at)
			SELECT 'dlv_' || lpad(n::text, 26, '0'), workspace_id, id, 'ep_' || lpad((n % 100 + 1)::text, 26, '0'), object_id,
			CASE n % 20 WHEN 0 THEN 0 WHEN 1 THEN 2 ELSE 1 END, n, 1, 1 FROM (SELECT *, row_number() OVER () n FROM events) ev`,
		`INSERT INTO attempts (delivery_id, number, at, took, status, address, error, body) SELECT id, 1, 1, 1, 200, '', '', '' FROM deliveries`,
		`INSERT INTO people (id, subject, created_at) SELECT 'per_' || id, id, 1 FROM keys`,
		`INSERT INTO members (id, workspace_id, person_id, role_id, status, invited_by, created_at)
			SELECT 'mem_' || id, workspace_id, 'per_' || id, role_id, 'active', '{}', 1 FROM keys`,
		`INSERT INTO alerts (id, workspace_id, type, key_id, facts, opened_at, updated_at, closed_at)
			SELECT 'al' || id, workspace_id, CASE n % 20 WHEN 0 THEN 'key.expiring' ELSE 'key.idle' END, id, '{}', n, n, CASE n % 3 WHEN 0 THEN n ELSE 0 END
			FROM (SELECT id, workspace_id, row_number() OVER () n FROM keys) k`,
		`INSERT INTO alert_mails (alert_id, stage, member_id, state, next_at, created_at)
			SELECT a.id, '', 'mem_' || a.id, a.opened_at % 3, a.opened_at, 1 FROM alerts a`,
		`INSERT INTO auth_failures (workspace_id, at, code, count) SELECT id, 3600000, 'revoked', 1 FROM keys`,
		`INSERT INTO auth_failure_sources (workspace_id, at, source, key_id, code, count) SELECT id, 3600000, '', '', 'revoked', 1 FROM keys`,
		`INSERT INTO links (digest, workspace_id, purpose, created_at, expires_at) SELECT digest, workspace_id, 'x', 1, 1 FROM keys`,
		`INSERT INTO idempotency (scope, request, response, created_at) SELECT digest, digest, '', 1 FROM keys`,
		`INSERT INTO changes (seq, token, kind, object_id, at) SELECT n, '', 'key', '', n FROM generate_series(1, $1) n`,
		`UPDATE change_head SET seq = $1`,
		`VACUUM ANALYZE`, // index-only scans need to know what everyone can see
	} {
		var args []any
		if strings.Contains(q, "$1") {
			args = append(args, filledRows)
		}
		if _, err := db.ExecContext(t.Context(), q, args...); err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
	}
}
