package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// rowBehaviours are about single rows: what is written is what is read, within
// one's scope.
func rowBehaviours() []behaviour {
	return []behaviour{
		{"Scope", scopes},
		{"ScopeTableIsComplete", scopeTableIsComplete},
		{"Workspace", workspaceRow},
		{"DeleteWorkspace", deleteWorkspace},
		{"Key", keyRow},
		{"DeleteKey", deleteKey},
		{"Findings", findings},
		{"Role", roleRow},
		{"Member", memberRow},
		{"Audit", auditRow},
		{"AuditFilter", auditByName},
		{"UsageSums", usageSums},
		{"UsageSumsOfMonths", usageSumsOfMonths},
		{"Event", eventRow},
		{"Link", linkRow},
		{"LinkSpentOnceBy32", linkSpentOnce},
		{"Idempotency", idempotency},
		{"Setting", setting},
		{"KeyStatus", keyStatus},
		{"NoopHidesNothing", noopHidesNothing},
		{"RetainLimit", retainLimit},
		{"SwallowedError", swallowedError},
		{"NotFound", notFound},
		{"Taken", taken},
		{"Node", nodeRow},
	}
}

func workspaceRow(t *testing.T, f *fixture) {
	w := workspace(acme)
	w.Operator = true
	write(t, f.Store, func(tx *store.Tx) error { return tx.InsertWorkspace(w) })
	check := func(what string) {
		t.Helper()
		got := get(t, f.Store, func(tx *store.Tx) (keystile.Workspace, error) { return tx.Workspace(all(), acme) })
		if len(got.IPAllowlist) == 0 {
			got.IPAllowlist = nil
		}
		if !reflect.DeepEqual(got, w) {
			t.Errorf("%s: %+v, want %+v", what, got, w)
		}
	}
	check("inserted")
	w.Name, w.Plan, w.Suspended, w.SuspendedReason = "Straße №1", "pro", true, "unpaid"
	w.IPAllowlist, w.UpdatedAt = []string{"10.0.0.0/8", "2001:db8::1"}, noon.Add(time.Hour)
	write(t, f.Store, func(tx *store.Tx) error { return tx.UpdateWorkspace(all(), w) })
	check("updated")
}

func deleteWorkspace(t *testing.T, f *fixture) {
	addKeys(t, f.Store)
	empty := f.dump(t)
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertKey(key(acme, 1)), tx.InsertKey(key(acme, 2)), tx.InsertRole(role(acme, 1)), addMember(tx, member(acme, 1)),
			tx.AddUses([]verify.Use{use(1, keystile.CodeValid, noon)}), tx.InsertAudit(auditEntry(acme, 1)),
			tx.InsertLink(store.Link{Digest: digest(1), WorkspaceID: acme, CreatedAt: noon, ExpiresAt: noon.Add(day)}),
			tx.InsertKey(key(other, 3)))
	})
	var keys []string
	write(t, f.Store, func(tx *store.Tx) (err error) { keys, err = tx.DeleteWorkspace(all(), acme); return err })
	if len(keys) != 2 {
		t.Errorf("keys that went with it: %v", keys)
	}
	// The workspace is gone; the audit entry, the person and the other's key are left.
	if got, want := len(f.dump(t)), len(empty)-1+3; got != want {
		t.Errorf("%d rows are left, want %d: %v", got, want, f.dump(t))
	}
	wantErr(t, "delete again", try(t, f.Store, func(tx *store.Tx) error { _, err := tx.DeleteWorkspace(all(), acme); return err }), store.ErrNotFound)
}

func keyRow(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	k := key(acme, 1)
	k.Description, k.Owner, k.Environment, k.Imported = "in CI\n", "team \"a\"", "live", true
	k.Permissions, k.IPAllowlist = keystile.Permissions{"stock.read", "a.*"}, []string{"10.0.0.0/8"}
	k.Metadata, k.ExpiresAt, k.Replaces = map[string]string{"ключ": "знач"}, at(noon.Add(day)), keyID(7)
	write(t, f.Store, func(tx *store.Tx) error { return tx.InsertKey(k) })
	check := func(what string) {
		t.Helper()
		got := get(t, f.Store, func(tx *store.Tx) (store.Key, error) { return tx.Key(all(), k.ID) })
		want := k
		want.Digest = [32]byte{}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", what, got, want)
		}
	}
	check("inserted")
	by := &keystile.Party{Kind: "person", ID: "per_1", Name: "Ann"}
	k.Name, k.Description, k.Owner, k.Status, k.RoleID = "new", "", "", keystile.StatusRevoked, "role_reader"
	k.Permissions, k.IPAllowlist, k.Metadata, k.ExpiresAt = nil, nil, nil, nil
	k.FormerEnd, k.DisabledAt, k.DisabledReason = 5, at(noon), "unneeded"
	k.RevokedAt, k.RevokedBy, k.RevokedReason = at(noon), by, "rotated"
	k.Replaces, k.ReplacedBy, k.ReviewedAt, k.ReviewedBy, k.UpdatedAt = "", keyID(2), at(noon), by, noon.Add(time.Hour)
	write(t, f.Store, func(tx *store.Tx) error { return tx.UpdateKey(all(), k) })
	check("updated")

	// Both last uses come with the key: its own, and that of its replacement.
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertKey(key(acme, 2)),
			tx.AddUses([]verify.Use{use(1, keystile.CodeValid, noon), use(2, keystile.CodeValid, noon.Add(time.Minute))}))
	})
	k.LastUse = &keystile.LastUse{At: noon, Address: "192.0.2.1", UserAgent: "curl"}
	k.ReplacementLastUse = noon.Add(time.Minute)
	k.ReplacementStatus, k.ReplacementMade = keystile.StatusActive, noon
	check("used")
}

func deleteKey(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1, 3)
	before := f.dump(t)
	next, prior := key(acme, 1), key(acme, 3)
	next.Replaces, prior.ReplacedBy = keyID(2), keyID(2)
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertKey(key(acme, 2)), tx.AddUses([]verify.Use{use(2, keystile.CodeValid, noon)}),
			tx.UpdateKey(all(), next), tx.UpdateKey(all(), prior))
	})
	write(t, f.Store, func(tx *store.Tx) error { return tx.DeleteKey(all(), keyID(2)) })
	// Counts that arrive after the key has gone leave nothing behind.
	write(t, f.Store, func(tx *store.Tx) error { return tx.AddUses([]verify.Use{use(2, keystile.CodeValid, noon)}) })
	if after := f.dump(t); !reflect.DeepEqual(before, after) {
		t.Errorf("the deleted key left something:\n%v\nbefore:\n%v", after, before)
	}
}

func roleRow(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	r := role(acme, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRole(r), tx.InsertRole(role(acme, 2)), tx.InsertRole(role(other, 3)))
	})
	r.Name, r.Description, r.Permissions, r.UpdatedAt = "writer", "", keystile.Permissions{"a.b", "c.*"}, at(noon.Add(time.Hour))
	write(t, f.Store, func(tx *store.Tx) error { return tx.UpdateRole(all(), r) })
	for what, read := range map[string]func(tx *store.Tx) (keystile.Role, error){
		"by ID":   func(tx *store.Tx) (keystile.Role, error) { return tx.Role(all(), r.ID) },
		"by name": func(tx *store.Tx) (keystile.Role, error) { return tx.RoleByName(all(), acme, "writer") },
	} {
		if got := get(t, f.Store, read); !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %+v, want %+v", what, got, r)
		}
	}
	if n := get(t, f.Store, func(tx *store.Tx) (int, error) { return tx.CountRoles(all(), acme) }); n != 2 {
		t.Errorf("%d roles", n)
	}

	// Keys that are over do not hold a role, active and disabled ones do.
	write(t, f.Store, func(tx *store.Tx) error {
		for n, status := range []keystile.KeyStatus{keystile.StatusActive, keystile.StatusDisabled, keystile.StatusRevoked, keystile.StatusExpired} {
			k := key(acme, n)
			k.Status, k.RoleID = status, r.ID
			if err := tx.InsertKey(k); err != nil {
				return err
			}
		}
		m := member(acme, 1)
		m.RoleID = r.ID
		return addMember(tx, m)
	})
	read(t, f.Store, func(tx *store.Tx) error {
		keys, members, err := tx.RoleUsers(all(), r.ID)
		if keys != 2 || members != 1 {
			t.Errorf("%d keys and %d members have the role", keys, members)
		}
		return err
	})
	write(t, f.Store, func(tx *store.Tx) error { return tx.DeleteRole(all(), r.ID) })
	wantErr(t, "a role that is gone", f.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.Role(all(), r.ID); return err }), store.ErrNotFound)
}

func memberRow(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	m := member(acme, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		elsewhere := member(other, 2)
		elsewhere.Person = m.Person // one person in two workspaces
		return errors.Join(addMember(tx, m), tx.InsertMember(elsewhere))
	})
	if got := get(t, f.Store, func(tx *store.Tx) (store.Member, error) { return tx.Member(all(), m.ID) }); !reflect.DeepEqual(got, m) {
		t.Errorf("%+v, want %+v", got, m)
	}
	write(t, f.Store, func(tx *store.Tx) error { return tx.UpdateMemberRole(all(), m.ID, "role_reader") })
	if got := get(t, f.Store, func(tx *store.Tx) (store.Member, error) { return tx.Member(all(), m.ID) }); got.RoleID != "role_reader" {
		t.Errorf("role %q", got.RoleID)
	}
	p := get(t, f.Store, func(tx *store.Tx) (keystile.Person, error) {
		return tx.PersonBySubject(m.Person.Issuer, m.Person.Subject)
	})
	if p != m.Person {
		t.Errorf("by subject: %+v", p)
	}
	// Without a subject nobody is identified, however many there are.
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertPerson(keystile.Person{ID: "per_a"}, 1), tx.InsertPerson(keystile.Person{ID: "per_b"}, 1))
	})
	wantErr(t, "the person of no subject",
		f.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.PersonBySubject("", ""); return err }), store.ErrNotFound)
	write(t, f.Store, func(tx *store.Tx) error { return tx.DeleteMember(all(), m.ID) })
	for ws, want := range map[string]int{acme: 0, other: 1} {
		if n := get(t, f.Store, func(tx *store.Tx) (int, error) { return tx.CountMembers(all(), ws) }); n != want {
			t.Errorf("%s has %d members, want %d", ws, n, want)
		}
	}
}

func auditRow(t *testing.T, f *fixture) {
	full, bare := auditEntry(acme, 1), keystile.AuditEntry{ID: id("aud_", 2), WorkspaceID: acme, At: noon}
	write(t, f.Store, func(tx *store.Tx) error { return errors.Join(tx.InsertAudit(full), tx.InsertAudit(bare)) })
	got := get(t, f.Store, func(tx *store.Tx) ([]keystile.AuditEntry, error) {
		found, err := tx.Audit(all(), store.AuditFilter{WorkspaceID: acme, Limit: 9})
		return found.Entries, err
	})
	if want := []keystile.AuditEntry{bare, full}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// auditByName: whom and what an entry is about can be asked for by ID and by name.
func auditByName(t *testing.T, f *fixture) {
	write(t, f.Store, func(tx *store.Tx) error {
		for n, e := range []keystile.AuditEntry{
			{Action: "key.created", Actor: keystile.Party{ID: "per_1", Name: "Ada"}, ObjectID: "key_1", ObjectName: "web"},
			{Action: "key.revoked", Actor: keystile.Party{ID: "per_2", Name: "Bob"}, ObjectID: "key_1", ObjectName: "web"},
			{Action: "role.created", Actor: keystile.Party{Name: "Ada"}, ObjectID: "role_1", ObjectName: "per_2"},
		} {
			e.ID, e.WorkspaceID, e.At = id("aud_", n+1), acme, noon.Add(time.Duration(n)*time.Hour)
			if err := tx.InsertAudit(e); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		filter store.AuditFilter
		want   []int
	}{
		{store.AuditFilter{}, []int{3, 2, 1}},
		{store.AuditFilter{Action: "key.*"}, []int{2, 1}},
		{store.AuditFilter{Action: "key.created"}, []int{1}},
		{store.AuditFilter{Actor: "Ada"}, []int{3, 1}},
		{store.AuditFilter{Actor: "per_2"}, []int{2}},
		{store.AuditFilter{Object: "key_1"}, []int{2, 1}},
		{store.AuditFilter{Object: "per_2"}, []int{3}},
		{store.AuditFilter{Object: "web", Actor: "Ada"}, []int{1}},
		{store.AuditFilter{Since: noon.Add(time.Hour), Until: noon.Add(2 * time.Hour)}, []int{2}},
		{store.AuditFilter{Actor: "Ada", Cursor: id("aud_", 3)}, []int{1}},
		{store.AuditFilter{Actor: "nobody"}, nil},
	} {
		c.filter.WorkspaceID, c.filter.Limit = acme, 9
		var got []string
		for _, e := range get(t, f.Store, func(tx *store.Tx) (store.AuditFound, error) { return tx.Audit(all(), c.filter) }).Entries {
			got = append(got, e.ID)
		}
		var want []string
		for _, n := range c.want {
			want = append(want, id("aud_", n))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %v, want %v", c.filter, got, want)
		}
	}
}

// usageSums: uses add up by hour, by day and by key, and pages of keys don't overlap.
func usageSums(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1, 2, 3)
	write(t, f.Store, func(tx *store.Tx) error {
		return tx.AddUses([]verify.Use{
			use(1, keystile.CodeValid, noon), use(1, keystile.CodeExpired, noon), use(1, keystile.CodeValid, noon.Add(-time.Hour)),
			use(2, keystile.CodeValid, noon), use(3, keystile.CodeValid, noon), use(3, keystile.CodeValid, ago(2*day)),
		})
	})
	for _, end := range []time.Time{noon.Add(day), noon.Truncate(day).Add(day)} {
		week := store.UsageFilter{WorkspaceID: acme, Since: end.Add(-8 * day), Until: end}
		steps := func(filter store.UsageFilter, step time.Duration) (totals []int64) {
			var last time.Time
			for _, s := range get(t, f.Store, func(tx *store.Tx) ([]store.UsageStep, error) { return tx.UsageOverTime(all(), filter, step) }) {
				if !s.At.After(last) || s.At != s.At.Truncate(step) {
					t.Errorf("step %v after %v", s.At, last)
				}
				last = s.At
				totals = append(totals, s.Total)
			}
			return totals
		}
		one := week
		one.KeyID = keyID(1)
		for _, c := range []struct {
			name      string
			got, want []int64
		}{
			{"by hour", steps(week, time.Hour), []int64{3, 3, 12}},
			{"by day", steps(week, day), []int64{3, 15}},
			{"of one key", steps(one, time.Hour), []int64{3, 6}},
		} {
			if !reflect.DeepEqual(c.got, c.want) {
				t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
			}
		}
		keys := func(filter store.UsageFilter, below int64) []store.KeyUsage {
			return get(t, f.Store, func(tx *store.Tx) ([]store.KeyUsage, error) { return tx.UsageByKey(all(), filter, below) })
		}
		week.Limit = 2
		first := keys(week, 0)
		if len(first) != 2 || first[0].KeyID != keyID(1) || first[0].Total != 9 || first[0].Name == "" ||
			first[0].Codes[keystile.CodeExpired] != 3 || first[1].KeyID != keyID(3) || first[1].Total != 6 {
			t.Fatalf("the first page: %+v", first)
		}
		week.CursorKey = first[1].KeyID
		if second := keys(week, first[1].Total); len(second) != 1 || second[0].KeyID != keyID(2) || second[0].Total != 3 {
			t.Errorf("the second page: %+v", second)
		}
		day1 := store.UsageFilter{WorkspaceID: acme, Since: end.Add(-2 * day), Until: end, Limit: 9, CursorKey: keyID(2)}
		if rest := keys(day1, 3); len(rest) != 1 || rest[0].KeyID != keyID(3) {
			t.Errorf("after a key of the same total: %+v", rest)
		}
	}
}

// usageSumsOfMonths: what is asked of whole days comes from sums, which are
// those of the hours, whatever was written when and deleted since.
func usageSumsOfMonths(t *testing.T, f *fixture) {
	const keys = 12
	addKeys(t, f.Store, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, keys)
	today := noon.Truncate(day)
	codes := []keystile.Code{keystile.CodeValid, keystile.CodeValid, keystile.CodeExpired, keystile.CodeDisabled}
	r := rand.New(rand.NewPCG(1, 2))
	var uses []verify.Use
	for range 600 {
		u := use(1+r.IntN(keys), codes[r.IntN(len(codes))], today.Add(-time.Duration(r.IntN(100*24))*time.Hour))
		u.Count = 1 + r.Int64N(50)
		uses = append(uses, u)
	}
	for part := range slices.Chunk(uses, 60) {
		write(t, f.Store, func(tx *store.Tx) error { return tx.AddUses(part) })
	}
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.DeleteKey(all(), keyID(3)), tx.DeleteKey(all(), keyID(8)), tx.AddUses(uses[:9]))
	})
	db := f.raw(t)
	for _, span := range []int{1, 7, 9, 10, 11, 30, 31, 90} {
		for _, shift := range []int{0, 1, 4, 9} {
			until := today.Add(day - time.Duration(shift)*day)
			q := store.UsageFilter{WorkspaceID: acme, Since: until.Add(-time.Duration(span) * day), Until: until, Limit: keys}
			where := fmt.Sprintf(` FROM usage WHERE workspace_id = '%s' AND hour >= %d AND hour < %d `, acme, q.Since.UnixMilli(), q.Until.UnixMilli())
			var got, want []string
			for _, s := range get(t, f.Store, func(tx *store.Tx) ([]store.UsageStep, error) { return tx.UsageOverTime(all(), q, day) }) {
				for code, n := range s.Codes {
					got = append(got, fmt.Sprint(s.At.UnixMilli(), code, n))
				}
			}
			want = texts(t, db, `SELECT CAST(hour - hour % 86400000 AS TEXT) || code || ' ' || CAST(SUM(count) AS TEXT)`+where+`GROUP BY hour - hour % 86400000, code`)
			if !slices.Equal(normal(got), normal(want)) {
				t.Errorf("%d days, %d ago, by day: %v, want %v", span, shift, got, want)
			}
			got = nil
			for _, u := range get(t, f.Store, func(tx *store.Tx) ([]store.KeyUsage, error) { return tx.UsageByKey(all(), q, 0) }) {
				for code, n := range u.Codes {
					got = append(got, fmt.Sprint(u.KeyID, code, n))
				}
			}
			want = texts(t, db, `SELECT key_id || code || ' ' || CAST(SUM(count) AS TEXT)`+where+`GROUP BY key_id, code`)
			if !slices.Equal(normal(got), normal(want)) {
				t.Errorf("%d days, %d ago, by key: %v, want %v", span, shift, got, want)
			}
			q.KeyID = keyID(1)
			var sum int64
			for _, s := range get(t, f.Store, func(tx *store.Tx) ([]store.UsageStep, error) { return tx.UsageOverTime(all(), q, day) }) {
				sum += s.Total
			}
			if want := number(t, db, `SELECT COALESCE(SUM(count), 0)`+where+`AND key_id = '`+keyID(1)+`'`); sum != want {
				t.Errorf("%d days, %d ago, of one key: %d, want %d", span, shift, sum, want)
			}
		}
	}
}

// normal sorts texts and drops their spaces.
func normal(in []string) (out []string) {
	for _, s := range in {
		out = append(out, strings.ReplaceAll(s, " ", ""))
	}
	slices.Sort(out)
	return out
}

func eventRow(t *testing.T, f *fixture) {
	write(t, f.Store, func(tx *store.Tx) error {
		return tx.InsertEvent(store.Event{ID: "evt_1", WorkspaceID: acme, Type: "key.created", ObjectID: "key_1", At: noon, Data: map[string]any{"a": "b"}})
	})
	db := f.raw(t)
	if n := number(t, db, `SELECT COUNT(*) FROM events WHERE id = 'evt_1' AND pending = 0 AND data = '{"a":"b"}'`); n != 1 {
		t.Errorf("the outbox holds %v", texts(t, db, `SELECT data FROM events`))
	}
	if err := try(t, f.Store, func(tx *store.Tx) error { return tx.InsertEvent(store.Event{ID: "evt_2", Data: make(chan int)}) }); err == nil {
		t.Error("an event that is no JSON was accepted")
	}
}

func linkRow(t *testing.T, f *fixture) {
	l := store.Link{Digest: digest(1), WorkspaceID: acme, Purpose: "operator", CreatedAt: noon, ExpiresAt: noon.Add(time.Minute)}
	write(t, f.Store, func(tx *store.Tx) error { return tx.InsertLink(l) })
	link := func() store.Link {
		return get(t, f.Store, func(tx *store.Tx) (store.Link, error) { return tx.Link(l.Digest) })
	}
	if got := link(); got != l {
		t.Errorf("%+v, want %+v", got, l)
	}
	spend := func(now time.Time) error {
		_, err := f.Write(t.Context(), func(tx *store.Tx) error { return tx.SpendLink(l.Digest, now) })
		return err
	}
	wantErr(t, "at the instant of its end", spend(l.ExpiresAt), store.ErrNotFound)
	wantErr(t, "before it", spend(l.ExpiresAt.Add(-time.Millisecond)), nil)
	wantErr(t, "again", spend(noon), store.ErrNotFound)
	l.UsedAt = l.ExpiresAt.Add(-time.Millisecond)
	if got := link(); got != l {
		t.Errorf("%+v, want %+v", got, l)
	}
}

func linkSpentOnce(t *testing.T, f *fixture) {
	second := open(t, f.options) // as another process
	write(t, f.Store, func(tx *store.Tx) error {
		return tx.InsertLink(store.Link{Digest: digest(1), CreatedAt: noon, ExpiresAt: noon.Add(day)})
	})
	var spent atomic.Int64
	var g sync.WaitGroup
	for i := range 32 {
		s := []*store.Store{f.Store, second}[i%2]
		g.Go(func() {
			_, err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.SpendLink(digest(1), noon) })
			switch {
			case err == nil:
				spent.Add(1)
			case !errors.Is(err, store.ErrNotFound):
				t.Errorf("spend: %v", err)
			}
		})
	}
	g.Wait()
	if n := spent.Load(); n != 1 {
		t.Errorf("spent %d times", n)
	}
}

func idempotency(t *testing.T, f *fixture) {
	scope, request := digest(1), digest(2)
	kept := func(want string) {
		t.Helper()
		err := f.Read(t.Context(), func(tx *store.Tx) error {
			r, response, err := tx.Idempotent(scope)
			if err == nil && (string(r) != string(request[:]) || response != want) {
				t.Errorf("kept %x %q, want %q", r, response, want)
			}
			return err
		})
		if want == "" {
			wantErr(t, "nothing kept", err, store.ErrNotFound)
		} else if err != nil {
			t.Error(err)
		}
	}
	kept("")
	write(t, f.Store, func(tx *store.Tx) error { return tx.KeepIdempotent(scope, request, "one", noon) })
	kept("one")
	write(t, f.Store, func(tx *store.Tx) error { return tx.ForgetIdempotent(scope, noon) })
	kept("one")
	request = digest(3)
	write(t, f.Store, func(tx *store.Tx) error { return tx.KeepIdempotent(scope, request, "two", noon.Add(time.Hour)) })
	kept("two")
	write(t, f.Store, func(tx *store.Tx) error { return tx.ForgetIdempotent(scope, noon.Add(2*time.Hour)) })
	kept("")
}

func setting(t *testing.T, f *fixture) {
	wantErr(t, "no setting", f.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.Setting("a"); return err }), store.ErrNotFound)
	for _, v := range []string{"one", "two", ""} {
		write(t, f.Store, func(tx *store.Tx) error { return tx.SetSetting("a", v) })
		if got := get(t, f.Store, func(tx *store.Tx) (string, error) { return tx.Setting("a") }); got != v {
			t.Errorf("%q, want %q", got, v)
		}
	}
}

// keyStatus: each status lists its own keys, by the clock, on both databases.
func keyStatus(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	write(t, f.Store, func(tx *store.Tx) error {
		for n, status := range []keystile.KeyStatus{
			keystile.StatusActive, keystile.StatusDisabled, keystile.StatusRevoked, keystile.StatusExpired,
		} {
			k, over := key(acme, 2*n), key(acme, 2*n+1)
			k.Status, over.Status, over.ExpiresAt = status, status, at(noon)
			if err := errors.Join(tx.InsertKey(k), tx.InsertKey(over)); err != nil {
				return err
			}
		}
		return nil
	})
	for status, want := range map[keystile.KeyStatus][]int{
		"": {7, 6, 5, 4, 3, 2, 1, 0}, keystile.StatusActive: {0}, keystile.StatusDisabled: {2},
		keystile.StatusRevoked: {5, 4}, keystile.StatusExpired: {7, 6, 3, 1},
	} {
		for _, cursor := range []string{"", keyID(5)} {
			var ids, wanted []string
			for _, k := range get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) {
				return tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Status: status, Query: "KEY", Cursor: cursor, Limit: 9, Now: noon})
			}) {
				ids = append(ids, k.ID)
			}
			for _, n := range want {
				if cursor == "" || n < 5 {
					wanted = append(wanted, keyID(n))
				}
			}
			if !slices.Equal(ids, wanted) {
				t.Errorf("status %q below %q: %v, want %v", status, cursor, ids, wanted)
			}
		}
	}
}

// noopHidesNothing: a change of nothing that names an object does not hide the
// change of it, and what is gone is named as gone.
func noopHidesNothing(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	b := get(t, f.Store, func(tx *store.Tx) (verify.Batch, error) {
		return tx.IndexChanges([]store.Change{
			{Kind: store.ChangeNoop, ObjectID: keyID(1)}, {Kind: store.ChangeKey, ObjectID: keyID(1)},
			{Kind: store.ChangeKey, ObjectID: keyID(2)}, {Kind: store.ChangeRole, ObjectID: "role_x"},
			{Kind: store.ChangeWorkspace, ObjectID: "ws_x"},
		})
	})
	if len(b.Keys) != 1 || b.Keys[0].ID != keyID(1) || !slices.Equal(b.GoneKeys, []string{keyID(2)}) ||
		!slices.Equal(b.GoneRoles, []string{"role_x"}) || !slices.Equal(b.GoneWorkspaces, []string{"ws_x"}) {
		t.Errorf("%+v", b)
	}
}

// retainLimit: one step removes at most so many rows of a kind, and only old ones.
func retainLimit(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		for n := range 10 {
			if err := errors.Join(tx.InsertAudit(auditEntry(acme, n)),
				tx.AddUses([]verify.Use{use(1, keystile.CodeValid, noon.Add(time.Duration(n)*time.Hour))})); err != nil {
				return err
			}
		}
		return nil
	})
	cutoffs := store.Cutoffs{Audit: noon.Add(7 * time.Second), Usage: noon.Add(7 * time.Hour)}
	for _, want := range []int64{6, 6, 2, 0} { // 7 of each kind, 3 at a time
		var n int64
		write(t, f.Store, func(tx *store.Tx) (err error) { n, err = tx.Retain(cutoffs, 3); return err })
		if n != want {
			t.Errorf("a step removed %d rows, want %d", n, want)
		}
	}
}

// swallowedError: what a call breaks by keeping an error to itself, or by a
// panic, is its own failure; the log has no gap where it was.
func swallowedError(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	started, release := make(chan struct{}), make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		_, err := f.Write(t.Context(), func(*store.Tx) error { close(started); <-release; return nil })
		wantErr(t, "the call that holds the others up", err, nil)
	})
	<-started
	seqs := make([]int64, 30)
	var queued sync.WaitGroup
	for n := range seqs {
		queued.Add(1)
		g.Go(func() {
			queued.Done()
			seq, err := f.Write(t.Context(), func(tx *store.Tx) error {
				if err := tx.LogChange(store.ChangeKey, keyID(n)); err != nil {
					return err
				}
				switch n % 3 {
				case 1:
					_ = tx.InsertKey(key(acme, 1)) // taken, and nobody is told
				case 2:
					panic("on purpose")
				}
				return nil
			})
			if n%3 == 2 && err == nil || n%3 == 0 && err != nil {
				t.Errorf("call %d: %v", n, err)
			}
			seqs[n] = seq
		})
	}
	queued.Wait()
	close(release)
	g.Wait()
	var got []int64
	for _, seq := range seqs {
		if seq != 0 {
			got = append(got, seq)
		}
	}
	slices.Sort(got)
	for i, seq := range got {
		if seq != int64(i+1) {
			t.Fatalf("the log has gaps: %v", got)
		}
	}
	head := get(t, f.Store, func(tx *store.Tx) (store.Head, error) { return tx.Head() })
	if len(got) < 10 || head.Seq != got[len(got)-1] {
		t.Errorf("%d changes, head %d", len(got), head.Seq)
	}
}

func notFound(t *testing.T, f *fixture) {
	for _, c := range []struct {
		name string
		call func(tx *store.Tx) error
	}{
		{"Key", func(tx *store.Tx) error { _, err := tx.Key(all(), "x"); return err }},
		{"UpdateKey", func(tx *store.Tx) error { return tx.UpdateKey(all(), key(acme, 1)) }},
		{"DeleteKey", func(tx *store.Tx) error { return tx.DeleteKey(all(), "x") }},
		{"Workspace", func(tx *store.Tx) error { _, err := tx.Workspace(all(), "x"); return err }},
		{"UpdateWorkspace", func(tx *store.Tx) error { return tx.UpdateWorkspace(all(), workspace(acme)) }},
		{"DeleteWorkspace", func(tx *store.Tx) error { _, err := tx.DeleteWorkspace(all(), "x"); return err }},
		{"Role", func(tx *store.Tx) error { _, err := tx.Role(all(), "x"); return err }},
		{"RoleByName", func(tx *store.Tx) error { _, err := tx.RoleByName(all(), acme, "x"); return err }},
		{"UpdateRole", func(tx *store.Tx) error { return tx.UpdateRole(all(), role(acme, 1)) }},
		{"DeleteRole", func(tx *store.Tx) error { return tx.DeleteRole(all(), "x") }},
		{"Member", func(tx *store.Tx) error { _, err := tx.Member(all(), "x"); return err }},
		{"UpdateMemberRole", func(tx *store.Tx) error { return tx.UpdateMemberRole(all(), "x", "y") }},
		{"DeleteMember", func(tx *store.Tx) error { return tx.DeleteMember(all(), "x") }},
		{"PersonBySubject", func(tx *store.Tx) error { _, err := tx.PersonBySubject("i", "s"); return err }},
		{"Link", func(tx *store.Tx) error { _, err := tx.Link(digest(1)); return err }},
		{"SpendLink", func(tx *store.Tx) error { return tx.SpendLink(digest(1), noon) }},
		{"Idempotent", func(tx *store.Tx) error { _, _, err := tx.Idempotent(digest(1)); return err }},
	} {
		wantErr(t, c.name, try(t, f.Store, c.call), store.ErrNotFound)
	}
}

func taken(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertRole(role(acme, 1)), tx.InsertRole(role(acme, 2)), addMember(tx, member(acme, 1)))
	})
	for _, c := range []struct {
		name string
		call func(tx *store.Tx) error
	}{
		{"a workspace's ID", func(tx *store.Tx) error { return tx.InsertWorkspace(workspace(acme)) }},
		{"a key's digest", func(tx *store.Tx) error { k := key(other, 2); k.Digest = digest(1); return tx.InsertKey(k) }},
		{"a key's ID", func(tx *store.Tx) error { k := key(acme, 1); k.Digest = digest(2); return tx.InsertKey(k) }},
		{"a role's name", func(tx *store.Tx) error { r := role(acme, 3); r.Name = "role 1"; return tx.InsertRole(r) }},
		{"another role's name", func(tx *store.Tx) error { r := role(acme, 2); r.Name = "role 1"; return tx.UpdateRole(all(), r) }},
		{"a person's subject", func(tx *store.Tx) error {
			p := member(acme, 1).Person
			p.ID = "per_x"
			return tx.InsertPerson(p, 1)
		}},
		{"a member's workspace", func(tx *store.Tx) error { m := member(acme, 1); m.ID = "mem_x"; return tx.InsertMember(m) }},
		{"a link's digest", func(tx *store.Tx) error {
			l := store.Link{Digest: digest(1), CreatedAt: noon, ExpiresAt: noon}
			return errors.Join(tx.InsertLink(l), tx.InsertLink(l))
		}},
	} {
		wantErr(t, c.name, try(t, f.Store, c.call), store.ErrTaken)
	}
	// The same name is free in another workspace.
	wantErr(t, "a role's name elsewhere", try(t, f.Store, func(tx *store.Tx) error {
		r := role(other, 3)
		r.Name = "role 1"
		return tx.InsertRole(r)
	}), nil)
}

// use is three uses of acme's nth key that end at a time.
func use(n int, code keystile.Code, last time.Time) verify.Use {
	return verify.Use{
		KeyID: keyID(n), WorkspaceID: acme, Code: code, Address: netip.MustParseAddr("192.0.2.1"), UserAgent: "curl",
		Count: 3, First: last.Add(-time.Second), Last: last,
	}
}
