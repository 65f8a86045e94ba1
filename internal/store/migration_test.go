package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// TestUsageOfTheSchemaBefore: a database of the version before the sums of usage
// is opened by this one. Every sum is that of the uses that were there, uses that
// come later are added to it, and the version before may not come back.
func TestUsageOfTheSchemaBefore(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func() store.Options{
		"sqlite":   func() store.Options { return store.Options{Dir: t.TempDir()} },
		"postgres": func() store.Options { return store.Options{URL: pgtest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{options: options()}
			db := f.raw(t)
			if err := store.MigrateTo(t.Context(), db, f.options.URL != "", 7); err != nil {
				t.Fatal(err)
			}

			// Two keys of one workspace and one of another, with uses and refusals at
			// both ends of each of forty days, which begin and end amid ten.
			const days = 40
			first := noon.Truncate(24 * time.Hour).Add(-days * day)
			workspaces := map[int]string{1: acme, 2: acme, 3: other}
			byKey, byDay := map[string]int64{}, map[string]int64{} // by key and code, and by workspace, day and code
			var hours []string
			count := func(n int, at time.Time, code keystile.Code, uses int64) {
				byKey[fmt.Sprint(keyID(n), code)] += uses
				byDay[fmt.Sprint(workspaces[n], at.Truncate(24*time.Hour), code)] += uses
			}
			for n, ws := range workspaces {
				for d := range days {
					for _, hour := range []int{0, 13, 23} {
						for i, code := range []keystile.Code{keystile.CodeValid, keystile.CodeRevoked} {
							at, uses := first.Add(time.Duration(24*d+hour)*time.Hour), int64(1000*n+10*d+hour+i)
							count(n, at, code, uses)
							hours = append(hours, fmt.Sprintf("('%s', %d, '%s', '%s', %d)", keyID(n), at.UnixMilli(), code, ws, uses))
						}
					}
				}
			}
			statements := []string{`INSERT INTO usage (key_id, hour, code, workspace_id, count) VALUES ` + strings.Join(hours, ", ")}
			for _, ws := range []string{acme, other} {
				statements = append(statements, fmt.Sprintf(`INSERT INTO workspaces (id, name, plan, search, created_at, updated_at) VALUES ('%s', 'It', 'free', 'it', 1, 1)`, ws))
			}
			for _, s := range statements {
				if _, err := db.ExecContext(t.Context(), s); err != nil {
					t.Fatalf("%.120s: %v", s, err)
				}
			}
			for n, ws := range workspaces {
				id, digest := keyID(n), digest(n)
				if _, err := db.ExecContext(t.Context(), `INSERT INTO keys (id, workspace_id, digest, name, preview, state, role_id, search, created_at, creator_kind, creator_id, creator_name, updated_at)
					VALUES ($1, $2, $3, 'Key', 'k', 0, 'role_reader', 'key', 1, 'operator', '', '', 1)`, id, ws, digest[:]); err != nil {
					t.Fatal(err)
				}
			}

			f.Store = open(t, f.options)
			check := func(what string) {
				t.Helper()
				gotKey, gotDay := map[string]int64{}, map[string]int64{}
				for _, ws := range []string{acme, other} {
					all := store.UsageFilter{WorkspaceID: ws, Since: first, Until: first.Add((days + 1) * day), Limit: 9}
					for _, u := range get(t, f.Store, func(tx *store.Tx) ([]store.KeyUsage, error) { return tx.UsageByKey(store.OneWorkspace(ws), all, 0) }) {
						for code, n := range u.Codes {
							gotKey[fmt.Sprint(u.KeyID, code)] += n
						}
					}
					ofKeys := int64(0)
					for n := range workspaces {
						one := all
						one.KeyID = keyID(n)
						for _, s := range get(t, f.Store, func(tx *store.Tx) ([]store.UsageStep, error) {
							return tx.UsageOverTime(store.OneWorkspace(ws), one, day)
						}) {
							ofKeys += s.Total
						}
					}
					for _, s := range get(t, f.Store, func(tx *store.Tx) ([]store.UsageStep, error) {
						return tx.UsageOverTime(store.OneWorkspace(ws), all, day)
					}) {
						ofKeys -= s.Total
						for code, n := range s.Codes {
							gotDay[fmt.Sprint(ws, s.At, code)] += n
						}
					}
					if ofKeys != 0 {
						t.Errorf("%s: by day, the keys of %s have %d uses more than the workspace", what, ws, ofKeys)
					}
				}
				if fmt.Sprint(gotKey) != fmt.Sprint(byKey) {
					t.Errorf("%s: by key\n%v, want\n%v", what, gotKey, byKey)
				}
				if fmt.Sprint(gotDay) != fmt.Sprint(byDay) {
					t.Errorf("%s: by day\n%v, want\n%v", what, gotDay, byDay)
				}
			}
			check("migrated")

			last := first.Add((days-1)*day + 13*time.Hour)
			write(t, f.Store, func(tx *store.Tx) error {
				return tx.AddUses([]verify.Use{{KeyID: keyID(1), WorkspaceID: acme, Code: keystile.CodeValid, Count: 5, First: last, Last: last}})
			})
			count(1, last, keystile.CodeValid, 5)
			check("used again")
			if floor := number(t, db, `SELECT oldest FROM schema_floor`); floor < 8 {
				t.Errorf("a version that knows schema %d may work with this one, and would not keep the sums", floor)
			}
		})
	}
}
