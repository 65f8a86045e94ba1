package store_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// findings: each kind finds the live keys that it says, and no other.
func findings(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	made := map[string]store.Key{}
	add := func(name string, change func(k *store.Key)) {
		k := key(acme, len(made)+1)
		k.Name, k.CreatedAt = name, ago(time.Hour)
		if change != nil {
			change(&k)
		}
		made[name] = k
		write(t, f.Store, func(tx *store.Tx) error {
			if err := tx.InsertKey(k); err != nil {
				return err
			}
			return tx.UpdateKey(all(), k)
		})
	}
	old := func(k *store.Key) { k.CreatedAt = ago(100 * day) }
	add("new", nil)
	add("old", old)
	add("old, production", func(k *store.Key) { old(k); k.Environment = "production" })
	add("old, development", func(k *store.Key) { old(k); k.Environment = "development" })
	add("old, gone environment", func(k *store.Key) { old(k); k.Environment = "gone" })
	add("old, disabled", func(k *store.Key) { old(k); k.Status = keystile.StatusDisabled })
	add("old, revoked", func(k *store.Key) { old(k); k.Status, k.RevokedAt = keystile.StatusRevoked, at(noon) })
	add("old, ended", func(k *store.Key) { old(k); k.ExpiresAt = at(ago(time.Minute)) })
	add("old, reviewed", func(k *store.Key) { old(k); k.ReviewedAt, k.ReviewedBy = at(ago(day)), &keystile.Party{} })
	add("replacement", nil)
	add("old, replaced", func(k *store.Key) { old(k); k.ReplacedBy = made["replacement"].ID })
	add("dead replacement", func(k *store.Key) { k.Status, k.RevokedAt = keystile.StatusRevoked, at(noon) })
	add("old, dead replacement", func(k *store.Key) { old(k); k.ReplacedBy = made["dead replacement"].ID })
	add("ends soon", func(k *store.Key) { k.ExpiresAt = at(noon.Add(day)) })
	add("ends later", func(k *store.Key) { k.ExpiresAt = at(noon.Add(100 * day)) })
	add("ends soon, replaced", func(k *store.Key) { k.ExpiresAt, k.ReplacedBy = at(noon.Add(day)), made["replacement"].ID })
	add("wide", func(k *store.Key) { k.RoleID = "role_admin" })
	add("wide, narrowed", func(k *store.Key) { k.RoleID, k.Permissions = "role_admin", keystile.Permissions{"stock.read"} })
	add("wide, narrowed wide", func(k *store.Key) {
		k.RoleID, k.Permissions = "role_admin", keystile.Permissions{"stock.read", "api.key.view"}
	})
	foreign := key(other, 99)
	foreign.CreatedAt = ago(100 * day)
	write(t, f.Store, func(tx *store.Tx) error {
		return tx.InsertKey(foreign)
	})
	write(t, f.Store, func(tx *store.Tx) error {
		u := use(2, keystile.CodeValid, ago(time.Minute)) // the old key is in use
		return tx.AddUses([]verify.Use{u})
	})
	window := store.AgeWindow{UpTo: ago(90 * day)}
	in := func(w store.AgeWindow, environment string, others ...string) store.AgeWindow {
		w.Environment, w.Others = environment, others
		return w
	}
	unreplaced := []string{"old, dead replacement", "old, reviewed", "old, disabled"}
	for _, c := range []struct {
		name   string
		filter store.FindingFilter
		want   []string
	}{
		{"no window", store.FindingFilter{Kind: store.FindingAge}, nil},
		{"one environment", store.FindingFilter{Kind: store.FindingAge, Ages: []store.AgeWindow{in(window, "production")}}, []string{"old, production"}},
		{"the others", store.FindingFilter{Kind: store.FindingAge, Ages: []store.AgeWindow{in(window, "", "production", "development")}},
			append(slices.Clone(unreplaced), "old, gone environment", "old")},
		{"both", store.FindingFilter{Kind: store.FindingAge, Ages: []store.AgeWindow{in(window, "development"), in(window, "", "production", "development")}},
			append(slices.Clone(unreplaced), "old, gone environment", "old, development", "old")},
		{"of an age", store.FindingFilter{Kind: store.FindingAge, Ages: []store.AgeWindow{in(store.AgeWindow{After: ago(95 * day), UpTo: noon}, "production")}}, nil},
		{"replaced", store.FindingFilter{Kind: store.FindingReplaced}, []string{"ends soon, replaced", "old, replaced"}},
		{"idle", store.FindingFilter{Kind: store.FindingIdle, Before: ago(90 * day)},
			[]string{"old, dead replacement", "old, replaced", "old, reviewed", "old, gone environment", "old, development", "old, production"}},
		{"expiring", store.FindingFilter{Kind: store.FindingExpiring, Before: noon.Add(14 * day)}, []string{"ends soon"}},
		{"review", store.FindingFilter{Kind: store.FindingReview, Before: ago(90 * day)},
			[]string{"old, dead replacement", "old, replaced", "old, disabled", "old, gone environment", "old, development", "old, production", "old"}},
		{"wide", store.FindingFilter{Kind: store.FindingWide, RoleIDs: []string{"role_admin", "role_other"}}, []string{"wide, narrowed wide", "wide"}},
		{"no role is wide", store.FindingFilter{Kind: store.FindingWide}, nil},
		{"no such kind", store.FindingFilter{Kind: "king"}, nil},
		{"below the cursor", store.FindingFilter{Kind: store.FindingReplaced, Cursor: made["ends soon, replaced"].ID}, []string{"old, replaced"}},
	} {
		c.filter.WorkspaceID, c.filter.Now, c.filter.Limit = acme, noon, 99
		var names []string
		for _, k := range get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) { return tx.Findings(store.OneWorkspace(acme), c.filter) }) {
			names = append(names, k.Name)
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%s: %q, want %q", c.name, names, c.want)
		}
	}
	live := get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) {
		return tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Live: true, Now: noon, Limit: 99})
	})
	unrevoked := get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) {
		return tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Unrevoked: true, Now: noon, Limit: 99})
	})
	if len(live) != len(made)-3 || len(unrevoked) != len(made)-2 {
		t.Errorf("of %d keys %d are live and %d not revoked", len(made), len(live), len(unrevoked))
	}
	for _, k := range live {
		want := map[string]keystile.KeyStatus{"old, replaced": keystile.StatusActive, "ends soon, replaced": keystile.StatusActive, "old, dead replacement": keystile.StatusRevoked}[k.Name]
		if k.ReplacementStatus != want {
			t.Errorf("the replacement of %q is %q, want %q", k.Name, k.ReplacementStatus, want)
		}
	}
}

// usageSeries: what is counted falls into the step that it happened in.
func usageSeries(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1, 2)
	counted := func(n int, code keystile.Code, at time.Time, count int64) verify.Use {
		u := use(n, code, at)
		u.Count = count
		return u
	}
	write(t, f.Store, func(tx *store.Tx) error {
		return tx.AddUses([]verify.Use{
			counted(1, keystile.CodeValid, ago(5*time.Hour), 7), counted(1, keystile.CodeRevoked, ago(5*time.Hour), 2), counted(1, keystile.CodeExpired, ago(5*time.Hour), 1),
			counted(1, keystile.CodeValid, ago(time.Hour), 3), counted(1, keystile.CodeValid, ago(30*time.Hour), 5), counted(2, keystile.CodeValid, ago(time.Hour), 9),
		})
	})
	for _, c := range []struct {
		since, step time.Duration
		want        []store.UsagePoint
	}{
		{6 * time.Hour, time.Hour, []store.UsagePoint{{1, 7, 3}, {5, 3, 0}}},
		{36 * time.Hour, 24 * time.Hour, []store.UsagePoint{{0, 5, 0}, {1, 10, 3}}},
		{time.Minute, time.Hour, nil},
	} {
		got := get(t, f.Store, func(tx *store.Tx) ([]store.UsagePoint, error) {
			return tx.UsageSeries(store.OneWorkspace(acme), keyID(1), ago(c.since), noon, c.step)
		})
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("since %v by %v: %+v, want %+v", c.since, c.step, got, c.want)
		}
	}
}
