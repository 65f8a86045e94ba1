package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// pageBehaviours are about lists: what a search finds, and what pages show.
func pageBehaviours() []behaviour {
	return []behaviour{
		{"Search", search},
		{"Pages", pages},
		{"AuditFilter", auditFilter},
		{"AuditLooks", auditLooks},
		{"UsagePages", usagePages},
		{"HugeCounts", hugeCounts},
	}
}

// search: what stands for anything in a pattern stands for itself in a
// search, and letters match in either case, in both databases alike.
func search(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	names := []string{
		`100% sure`, `100 sure`, `snake_case`, `snakeXcase`, `back\slash`, `backslash`, `Ärger Straße`, `АБВ где`,
		`日本`, `%`, `_`, `\`, `'; DROP TABLE keys; --`, `"quoted"`, `[a-z]*?`, `\%`,
	}
	write(t, f.Store, func(tx *store.Tx) error {
		for n, name := range names {
			k := key(acme, n)
			k.Name, k.Preview = name, ""
			w := workspace(fmt.Sprintf("ws_%02d", n))
			w.Name = name
			if err := errors.Join(tx.InsertKey(k), tx.InsertWorkspace(w)); err != nil {
				return err
			}
		}
		k := key(acme, 100)
		k.Name, k.Description, k.Owner, k.Preview = "plain", "Nightly BUILD", "team Ops", "gw_…wXyZ"
		return errors.Join(tx.InsertKey(k), tx.InsertKey(key(other, 101)))
	})
	for _, c := range []struct {
		query string
		want  []string // names
	}{
		{`%`, []string{`100% sure`, `%`, `\%`}},
		{`0% s`, []string{`100% sure`}},
		{`_`, nil},
		{`e_c`, []string{`snake_case`}},
		{`\`, []string{`back\slash`, `\`, `\%`}},
		{`k\s`, []string{`back\slash`}},
		{`\%`, []string{`\%`}},
		{`\\`, nil},
		{`%%`, nil},
		{`SNAKE`, []string{`snake_case`, `snakeXcase`}},
		{`kexc`, []string{`snakeXcase`}},
		{`äRGER sTRA`, []string{`Ärger Straße`}},
		{`абв ГДЕ`, []string{`АБВ где`}},
		{`本`, []string{`日本`}},
		{`'; drop`, []string{`'; DROP TABLE keys; --`}},
		{`"`, []string{`"quoted"`}},
		{`[a`, []string{`[a-z]*?`}},
		{`*`, []string{`[a-z]*?`}},
		{`?`, []string{`[a-z]*?`}},
		{`nothing like it`, nil},
	} {
		keys := get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) {
			return tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Query: c.query, Limit: 99, Now: noon})
		})
		workspaces := get(t, f.Store, func(tx *store.Tx) ([]keystile.Workspace, error) {
			return tx.Workspaces(all(), c.query, "", 99)
		})
		var keyNames, workspaceNames []string
		for _, k := range slices.Backward(keys) { // the list is newest first
			keyNames = append(keyNames, k.Name)
		}
		for _, w := range slices.Backward(workspaces) {
			workspaceNames = append(workspaceNames, w.Name)
		}
		if c.query == "_" { // IDs and the preview have one too
			if len(keyNames) != len(names)+1 || len(workspaceNames) != len(names)+2 {
				t.Errorf("search for %q found %d keys and %d workspaces", c.query, len(keyNames), len(workspaceNames))
			}
			continue
		}
		if !slices.Equal(keyNames, c.want) || !slices.Equal(workspaceNames, c.want) {
			t.Errorf("search for %q found keys %q and workspaces %q, want %q", c.query, keyNames, workspaceNames, c.want)
		}
	}
	for _, query := range []string{"PLAIN", "night", "build", "TEAM ops", "wxyz", "…W", strings.ToUpper(keyID(100)), keyID(100)[4:]} {
		keys := get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) {
			return tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Query: query, Limit: 99, Now: noon})
		})
		if len(keys) != 1 || keys[0].ID != keyID(100) {
			t.Errorf("search for %q found %d keys", query, len(keys))
		}
	}
}

// list is a list that is read page by page: page returns the IDs of a page
// below the cursor, add adds the nth object.
type list struct {
	name string
	add  func(tx *store.Tx, n int) error
	page func(tx *store.Tx, cursor string, limit int) ([]string, error)
}

func lists() []list {
	third := id("ws_", 3)
	return []list{
		{
			"LiveKeys", func(tx *store.Tx, n int) error {
				if _, err := tx.Workspace(all(), third); errors.Is(err, store.ErrNotFound) {
					if err := tx.InsertWorkspace(workspace(third)); err != nil {
						return err
					}
				}
				return tx.InsertKey(key(third, n+2e6))
			},
			func(tx *store.Tx, cursor string, limit int) (ids []string, err error) {
				f := store.KeyFilter{WorkspaceID: third, Cursor: cursor, Limit: limit, Now: noon, Live: true}
				keys, err := tx.Keys(store.OneWorkspace(third), f)
				if err != nil {
					return nil, err
				}
				if n, err := tx.CountListed(store.OneWorkspace(third), f); err != nil || n != len(keys) {
					return nil, fmt.Errorf("%d keys are listed, %d counted: %w", len(keys), n, err)
				}
				for _, k := range keys {
					ids = append(ids, k.ID)
				}
				return ids, nil
			},
		}, {
			"Keys", func(tx *store.Tx, n int) error { return tx.InsertKey(key(acme, n)) },
			func(tx *store.Tx, cursor string, limit int) (ids []string, err error) {
				keys, err := tx.Keys(store.OneWorkspace(acme), store.KeyFilter{WorkspaceID: acme, Cursor: cursor, Limit: limit, Now: noon})
				for _, k := range keys {
					ids = append(ids, k.ID)
				}
				return ids, err
			},
		}, {
			"ActiveKeysFound", func(tx *store.Tx, n int) error { return tx.InsertKey(key(other, n+1e6)) },
			func(tx *store.Tx, cursor string, limit int) (ids []string, err error) {
				keys, err := tx.Keys(store.OneWorkspace(other), store.KeyFilter{
					WorkspaceID: other, Cursor: cursor, Limit: limit, Now: noon, Status: keystile.StatusActive, Query: "key",
				})
				for _, k := range keys {
					ids = append(ids, k.ID)
				}
				return ids, err
			},
		}, {
			"Workspaces", func(tx *store.Tx, n int) error {
				w := workspace(id("ws_", n))
				w.Name = "paged"
				return tx.InsertWorkspace(w)
			},
			func(tx *store.Tx, cursor string, limit int) (ids []string, err error) {
				found, err := tx.Workspaces(all(), "paged", cursor, limit)
				for _, w := range found {
					ids = append(ids, w.ID)
				}
				return ids, err
			},
		}, {
			"Roles", func(tx *store.Tx, n int) error { return tx.InsertRole(role(acme, n)) },
			func(tx *store.Tx, cursor string, limit int) (ids []string, err error) {
				found, err := tx.Roles(store.OneWorkspace(acme), acme, cursor, limit)
				for _, r := range found {
					ids = append(ids, r.ID)
				}
				return ids, err
			},
		}, {
			"Members", func(tx *store.Tx, n int) error { return addMember(tx, member(acme, n)) },
			func(tx *store.Tx, cursor string, limit int) (ids []string, err error) {
				found, err := tx.Members(store.OneWorkspace(acme), acme, cursor, limit)
				for _, m := range found {
					ids = append(ids, m.ID)
				}
				return ids, err
			},
		}, {
			"Audit", func(tx *store.Tx, n int) error { return tx.InsertAudit(auditEntry(acme, n)) },
			func(tx *store.Tx, cursor string, limit int) (ids []string, err error) {
				found, err := tx.Audit(store.OneWorkspace(acme), store.AuditFilter{WorkspaceID: acme, Cursor: cursor, Limit: limit})
				for _, e := range found.Entries {
					ids = append(ids, e.ID)
				}
				return ids, err
			},
		},
	}
}

// pages: while others insert at either end and in between, whoever goes
// through a list page by page sees each row that was there at the start
// exactly once, and none twice.
func pages(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	const rows = 60
	for _, l := range lists() {
		t.Run(l.name, func(t *testing.T) {
			write(t, f.Store, func(tx *store.Tx) error {
				for n := range rows {
					if err := l.add(tx, 1000+2*n); err != nil {
						return err
					}
				}
				return nil
			})
			read := func(cursor string, limit int) []string {
				return get(t, f.Store, func(tx *store.Tx) ([]string, error) { return l.page(tx, cursor, limit) })
			}
			first := read("", 9999)
			if len(first) != rows {
				t.Fatalf("%d rows, want %d", len(first), rows)
			}
			late := rand.Perm(2 * rows)
			for i, n := range late { // before, between and behind the rows
				late[i] = 1000 - rows/2 + 2*n + 1
			}
			var g sync.WaitGroup
			g.Go(func() {
				for _, n := range late {
					if _, err := f.Write(t.Context(), func(tx *store.Tx) error { return l.add(tx, n) }); err != nil {
						t.Errorf("insert: %v", err)
					}
				}
			})
			for limit := 1; limit <= 16; limit *= 2 {
				seen := map[string]int{}
				cursor := ""
				for {
					page := read(cursor, limit)
					if len(page) > limit {
						t.Fatalf("a page of %d rows, limit %d", len(page), limit)
					}
					for _, id := range page {
						seen[id]++
					}
					if len(page) < limit {
						break
					}
					cursor = page[len(page)-1]
				}
				for id, times := range seen {
					if times != 1 {
						t.Errorf("limit %d: %s came %d times", limit, id, times)
					}
				}
				for _, id := range first {
					if seen[id] != 1 {
						t.Errorf("limit %d: %s got lost", limit, id)
					}
				}
			}
			g.Wait()
			if n := len(read("", 9999)); n != 3*rows {
				t.Errorf("%d rows in the end, want %d", n, 3*rows)
			}
		})
	}
}

// auditFilter: each filter by itself and all of them together.
func auditFilter(t *testing.T, f *fixture) {
	entries := make([]keystile.AuditEntry, 0, 12)
	actions := []string{"key.created", "key.revoked", "keyring.x", "k%", "workspace.updated", "key_x"}
	for n := range 12 {
		e := auditEntry(acme, n) // n seconds after noon
		e.Action, e.ObjectID, e.Actor.ID, e.Actor.Name = actions[n%6], keyID(n%4), keyID(n%3), "Ada Lovelace"
		if n%6 == 4 {
			e.ObjectName = "New Year's Ärger"
		}
		entries = append(entries, e)
	}
	write(t, f.Store, func(tx *store.Tx) error {
		for _, e := range entries {
			if err := tx.InsertAudit(e); err != nil {
				return err
			}
		}
		e := auditEntry(other, 99)
		e.Action = "key.created"
		return tx.InsertAudit(e)
	})
	second := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	for _, c := range []struct {
		name string
		f    store.AuditFilter
		want []int
	}{
		{"all", store.AuditFilter{}, []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
		{"limit", store.AuditFilter{Limit: 2}, []int{11, 10}},
		{"action", store.AuditFilter{Action: "key.created"}, []int{6, 0}},
		{"an action's beginning is not the action", store.AuditFilter{Action: "key"}, nil},
		{"beginning", store.AuditFilter{Action: "key.*"}, []int{7, 6, 1, 0}},
		{"beginning without a dot", store.AuditFilter{Action: "key*"}, []int{11, 8, 7, 6, 5, 2, 1, 0}},
		{"any", store.AuditFilter{Action: "*"}, []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
		{"a percent sign is one", store.AuditFilter{Action: "k%"}, []int{9, 3}},
		{"a percent sign is one in a beginning", store.AuditFilter{Action: "k%*"}, []int{9, 3}},
		{"an underscore is one", store.AuditFilter{Action: "key_*"}, []int{11, 5}},
		{"object", store.AuditFilter{Object: keyID(1)}, []int{9, 5, 1}},
		{"actor", store.AuditFilter{Actor: keyID(2)}, []int{11, 8, 5, 2}},
		{"since, inclusive", store.AuditFilter{Since: second(10)}, []int{11, 10}},
		{"until, exclusive", store.AuditFilter{Until: second(2)}, []int{1, 0}},
		{"between", store.AuditFilter{Since: second(3), Until: second(5)}, []int{4, 3}},
		{"cursor", store.AuditFilter{Cursor: entries[2].ID}, []int{1, 0}},
		{"object and actor", store.AuditFilter{Object: keyID(1), Actor: keyID(2)}, []int{5}},
		{"all at once", store.AuditFilter{
			Action: "key*", Object: keyID(1), Actor: keyID(2), Since: second(0), Until: second(9), Cursor: entries[9].ID,
		}, []int{5}},
		{"nothing", store.AuditFilter{Object: "x"}, nil},
		{"a part of an object's name, in another case", store.AuditFilter{Object: "YEAR'S ÄR"}, []int{10, 4}},
		{"a letter beyond ASCII", store.AuditFilter{Object: "ä", Limit: 1}, []int{10}},
		{"a letter beyond ASCII, next page", store.AuditFilter{Object: "ä", Limit: 1, Cursor: entries[10].ID}, []int{4}},
		{"a letter that only looks alike", store.AuditFilter{Object: "âr"}, nil},
		{"a part of an actor's name", store.AuditFilter{Actor: "lOvElA", Object: keyID(1)}, []int{9, 5, 1}},
		{"an actor's kind", store.AuditFilter{Actor: "Key", Object: keyID(1)}, []int{9, 5, 1}},
		{"a percent sign is one in a name", store.AuditFilter{Actor: "%"}, nil},
	} {
		c.f.WorkspaceID = acme
		if c.f.Limit == 0 {
			c.f.Limit = 99
		}
		var got, want []string
		for _, e := range get(t, f.Store, func(tx *store.Tx) (store.AuditFound, error) {
			return tx.Audit(store.OneWorkspace(acme), c.f)
		}).Entries {
			got = append(got, e.ID)
		}
		for _, n := range c.want {
			want = append(want, entries[n].ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}

// auditLooks: a search that looks at a part of the log says where it has ended,
// and going on from there finds what one search would.
func auditLooks(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	write(t, f.Store, func(tx *store.Tx) error {
		for n := range 12 {
			e := auditEntry(acme, n)
			if e.Action = "key.created"; n%6 == 0 {
				e.Action, e.ObjectName = "key.deleted", "Wanted"
			}
			if err := errors.Join(tx.InsertAudit(e), tx.InsertAudit(auditEntry(other, n+20))); err != nil {
				return err
			}
		}
		return nil
	})
	for _, f1 := range []store.AuditFilter{{Action: "key.deleted"}, {Object: "wanted"}, {Object: "wanted", First: auditEntry(acme, 0).ID}} {
		f1.WorkspaceID, f1.Limit, f1.Look = acme, 9, 4
		var got []string
		for steps := 0; steps == 0 || f1.Cursor != ""; steps++ {
			found := get(t, f.Store, func(tx *store.Tx) (store.AuditFound, error) { return tx.Audit(store.OneWorkspace(acme), f1) })
			for _, e := range found.Entries {
				got = append(got, e.ID)
			}
			// Of twelve the first look ends at the ninth, the second at the fifth.
			if at := []int{8, 4, 0}[steps]; steps < 2 && (found.Stopped != auditEntry(acme, at).ID || !found.StoppedAt.Equal(auditEntry(acme, at).At)) {
				t.Errorf("%+v: look %d ends at %s, %v", f1, steps, found.Stopped, found.StoppedAt)
			} else if steps == 2 && found.Stopped != "" {
				t.Errorf("%+v: the last look ends at %s", f1, found.Stopped)
			}
			f1.Cursor = found.Stopped
		}
		if want := []string{auditEntry(acme, 6).ID, auditEntry(acme, 0).ID}; !slices.Equal(got, want) {
			t.Errorf("%+v: %v, want %v", f1, got, want)
		}
		f1.Limit = 1
		if full := get(t, f.Store, func(tx *store.Tx) (store.AuditFound, error) {
			f1.Look = 11
			return tx.Audit(store.OneWorkspace(acme), f1)
		}); len(full.Entries) != 1 || full.Stopped != "" {
			t.Errorf("%+v: a whole page ends at %q with %d entries", f1, full.Stopped, len(full.Entries))
		}
	}
}

// usagePages: pages are of whole buckets, newest hour first, whatever is
// counted meanwhile.
func usagePages(t *testing.T, f *fixture) {
	const keys, hours = 5, 7
	numbers := make([]int, keys)
	for n := range numbers {
		numbers[n] = n
	}
	addKeys(t, f.Store, numbers...)
	codes := []keystile.Code{keystile.CodeValid, keystile.CodeIPNotAllowed, keystile.CodeInsufficientPermission}
	count := func(tx *store.Tx, n, hour int, codes ...keystile.Code) error {
		var uses []verify.Use
		for _, c := range codes {
			uses = append(uses, use(n, c, noon.Add(time.Duration(hour)*time.Hour+59*time.Minute)))
		}
		return tx.AddUses(uses)
	}
	write(t, f.Store, func(tx *store.Tx) error {
		for n := range keys {
			for hour := range hours {
				if err := count(tx, n, hour, codes...); err != nil {
					return err
				}
			}
		}
		return nil
	})
	page := func(u store.UsageFilter) []keystile.UsageBucket {
		u.WorkspaceID = acme
		return get(t, f.Store, func(tx *store.Tx) ([]keystile.UsageBucket, error) { return tx.Usage(store.OneWorkspace(acme), u) })
	}
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	walk := func(u store.UsageFilter) (buckets []keystile.UsageBucket) {
		for {
			p := page(u)
			if len(p) > u.Limit {
				t.Fatalf("a page of %d buckets, limit %d", len(p), u.Limit)
			}
			buckets = append(buckets, p...)
			if len(p) < u.Limit {
				return buckets
			}
			u.CursorHour, u.CursorKey = p[len(p)-1].Hour, p[len(p)-1].KeyID
		}
	}
	for limit := 1; limit <= 64; limit *= 4 {
		got := walk(store.UsageFilter{Since: noon, Until: hour(hours), Limit: limit})
		if len(got) != keys*hours {
			t.Fatalf("limit %d: %d buckets, want %d", limit, len(got), keys*hours)
		}
		for i, b := range got {
			if b.KeyID != keyID(i%keys) || !b.Hour.Equal(hour(hours-1-i/keys)) || b.Total != 9 || len(b.Codes) != 3 {
				t.Errorf("limit %d: bucket %d is %+v", limit, i, b)
			}
		}
	}
	for _, c := range []struct {
		name string
		f    store.UsageFilter
		want int
	}{
		{"one key", store.UsageFilter{KeyID: keyID(2), Since: noon, Until: hour(hours)}, hours},
		{"since is inclusive", store.UsageFilter{Since: hour(hours - 1), Until: hour(hours)}, keys},
		{"until is exclusive", store.UsageFilter{Since: noon, Until: hour(1)}, keys},
		{"one key, one hour", store.UsageFilter{KeyID: keyID(0), Since: hour(3), Until: hour(4)}, 1},
		{"no time", store.UsageFilter{Since: hour(3), Until: hour(3)}, 0},
		{"a key of none", store.UsageFilter{KeyID: "x", Since: noon, Until: hour(hours)}, 0},
	} {
		c.f.Limit = 3
		if got := walk(c.f); len(got) != c.want {
			t.Errorf("%s: %d buckets, want %d", c.name, len(got), c.want)
		}
	}

	// While others count, in hours that were and in new ones, the buckets that
	// were there come once each.
	var g sync.WaitGroup
	g.Go(func() {
		for n := range 60 {
			if _, err := f.Write(t.Context(), func(tx *store.Tx) error {
				return count(tx, n%keys, hours/2+n%hours, codes[n%3])
			}); err != nil {
				t.Errorf("count: %v", err)
			}
		}
	})
	for range 5 {
		seen := map[string]int{}
		for _, b := range walk(store.UsageFilter{Since: noon, Until: hour(2 * hours), Limit: 4}) {
			seen[b.KeyID+b.Hour.String()]++
		}
		for n := range keys {
			for h := range hours {
				if times := seen[keyID(n)+hour(h).String()]; times != 1 {
					t.Errorf("key %d in hour %d came %d times", n, h, times)
				}
			}
		}
		for b, times := range seen {
			if times != 1 {
				t.Errorf("%s came %d times", b, times)
			}
		}
	}
	g.Wait()
}

// hugeCounts: what a replica says it has counted may be more than a number of the
// database holds when it is added up. Then a count stops, and everything else is
// written.
func hugeCounts(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1, 2)
	huge := use(1, keystile.CodeValid, noon)
	huge.Count = 1<<63 - 1
	for range 3 {
		write(t, f.Store, func(tx *store.Tx) error {
			return tx.AddUses([]verify.Use{huge, use(2, keystile.CodeValid, noon), huge})
		})
		write(t, f.Store, func(tx *store.Tx) error { return tx.NoteUses([]verify.Use{huge, use(2, keystile.CodeValid, noon)}) })
	}
	write(t, f.Store, func(tx *store.Tx) error { _, err := tx.SettleUses(100); return err })
	got := map[string]int64{}
	for _, b := range get(t, f.Store, func(tx *store.Tx) ([]keystile.UsageBucket, error) {
		return tx.Usage(store.OneWorkspace(acme), store.UsageFilter{WorkspaceID: acme, Since: noon.Add(-day), Until: noon.Add(day), Limit: 10})
	}) {
		got[b.KeyID] += b.Total
	}
	if got[keyID(1)] != 1<<50 || got[keyID(2)] != 6*use(2, keystile.CodeValid, noon).Count {
		t.Errorf("counted: %v", got)
	}
}
