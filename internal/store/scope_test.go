package store_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// scoped is a method that takes a scope, called with the rows of acme. It
// returns how many rows it read or changed.
type scoped struct {
	name string
	call func(tx *store.Tx, s store.Scope) (int, error)
}

func scopedMethods() []scoped {
	count := func(err error) (int, error) {
		if err != nil {
			return 0, err
		}
		return 1, nil
	}
	changed := key(acme, 1)
	changed.Name = "changed"
	return []scoped{
		{"Key", func(tx *store.Tx, s store.Scope) (int, error) { _, err := tx.Key(s, keyID(1)); return count(err) }},
		{"Keys", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Keys(s, store.KeyFilter{WorkspaceID: acme, Limit: 9, Now: noon})
			return len(l), err
		}},
		{"UpdateKey", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.UpdateKey(s, changed)) }},
		{"DeleteKey", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.DeleteKey(s, keyID(1))) }},
		{"DueToExpire", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.DueToExpire(s, noon, 9)
			return len(l), err
		}},
		{"OldRevokedKeys", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.OldRevokedKeys(s, noon, 9)
			return len(l), err
		}},
		{"CountListed", func(tx *store.Tx, s store.Scope) (int, error) {
			return tx.CountListed(s, store.KeyFilter{WorkspaceID: acme, Limit: 9, Now: noon})
		}},
		{"CountActiveKeys", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountActiveKeys(s, acme, noon) }},
		{"Findings", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Findings(s, store.FindingFilter{Kind: store.FindingIdle, WorkspaceID: acme, Now: noon, Before: noon.Add(day), Limit: 9})
			return len(l), err
		}},
		{"KeysRevokedFor", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.KeysRevokedFor(s, acme, "exposure_suspected", ago(2*day), 9)
			return len(l), err
		}},
		{"Workspace", func(tx *store.Tx, s store.Scope) (int, error) { _, err := tx.Workspace(s, acme); return count(err) }},
		{"Workspaces", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Workspaces(s, "acme", "", 9)
			return len(l), err
		}},
		{"UpdateWorkspace", func(tx *store.Tx, s store.Scope) (int, error) {
			w := workspace(acme)
			w.Name = "changed"
			return count(tx.UpdateWorkspace(s, w))
		}},
		{"DeleteWorkspace", func(tx *store.Tx, s store.Scope) (int, error) {
			keys, err := tx.DeleteWorkspace(s, acme)
			return len(keys), err
		}},
		{"Role", func(tx *store.Tx, s store.Scope) (int, error) {
			_, err := tx.Role(s, id("role_", 1))
			return count(err)
		}},
		{"Roles", func(tx *store.Tx, s store.Scope) (int, error) { l, err := tx.Roles(s, acme, "", 9); return len(l), err }},
		{"RoleByName", func(tx *store.Tx, s store.Scope) (int, error) {
			_, err := tx.RoleByName(s, acme, "role 1")
			return count(err)
		}},
		{"UpdateRole", func(tx *store.Tx, s store.Scope) (int, error) {
			r := role(acme, 1)
			r.Name = "changed"
			return count(tx.UpdateRole(s, r))
		}},
		{"DeleteRole", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.DeleteRole(s, id("role_", 1))) }},
		{"RoleUsers", func(tx *store.Tx, s store.Scope) (int, error) {
			keys, members, err := tx.RoleUsers(s, "role_writer")
			return int(keys + members), err
		}},
		{"CountRoles", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountRoles(s, acme) }},
		{"Member", func(tx *store.Tx, s store.Scope) (int, error) {
			_, err := tx.Member(s, id("mem_", 1))
			return count(err)
		}},
		{"Members", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Members(s, acme, "", 9)
			return len(l), err
		}},
		{"UpdateMemberRole", func(tx *store.Tx, s store.Scope) (int, error) {
			return count(tx.UpdateMemberRole(s, id("mem_", 1), "role_reader"))
		}},
		{"DeleteMember", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.DeleteMember(s, id("mem_", 1))) }},
		{"CountMembers", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountMembers(s, acme) }},
		{"Audit", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Audit(s, store.AuditFilter{WorkspaceID: acme, Limit: 9})
			return len(l), err
		}},
		{"Usage", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Usage(s, store.UsageFilter{WorkspaceID: acme, Since: ago(day), Until: noon.Add(day), Limit: 9})
			return len(l), err
		}},
		{"UsageOverTime", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.UsageOverTime(s, store.UsageFilter{WorkspaceID: acme, Since: ago(day), Until: noon.Add(day)}, time.Hour)
			return len(l), err
		}},
		{"UsageByKey", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.UsageByKey(s, store.UsageFilter{WorkspaceID: acme, Since: ago(day), Until: noon.Add(day), Limit: 9}, 0)
			return len(l), err
		}},
		{"Sources", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Sources(s, keyID(1), 9)
			return len(l), err
		}},
	}
}

const day = 24 * time.Hour

// scopes: what is not in scope is neither read nor changed, by any method.
func scopes(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		due, revoked := key(acme, 2), key(acme, 3)
		foreign := key(other, 9)
		foreign.RoleID = "role_reader"
		due.ExpiresAt = at(ago(day))
		revoked.Status = keystile.StatusRevoked
		if err := errors.Join(tx.InsertKey(due), tx.InsertKey(revoked)); err != nil {
			return err
		}
		revoked.RevokedAt, revoked.RevokedBy, revoked.RevokedReason = at(ago(day)), &keystile.Party{Kind: "operator"}, "exposure_suspected"
		return errors.Join(tx.UpdateKey(all(), revoked), tx.InsertRole(role(acme, 1)), addMember(tx, member(acme, 1)),
			tx.InsertAudit(auditEntry(acme, 1)), tx.AddUses([]verify.Use{use(1, keystile.CodeValid, noon)}),
			// The other tenant has a key too: the foreign scope is not an empty one.
			tx.InsertKey(foreign))
	})
	before := f.dump(t)
	if len(before) < 15 {
		t.Fatalf("the dump sees %d rows", len(before))
	}
	for _, m := range scopedMethods() {
		for _, s := range []struct {
			name  string
			scope store.Scope
		}{{"own", store.OneWorkspace(acme)}, {"all", all()}} {
			var n int
			err := try(t, f.Store, func(tx *store.Tx) (err error) { n, err = m.call(tx, s.scope); return err })
			if err != nil || n == 0 {
				t.Errorf("%s in scope %s: %d rows, %v", m.name, s.name, n, err)
			}
		}
		for _, s := range []struct {
			name  string
			scope store.Scope
		}{{"foreign", store.OneWorkspace(other)}, {"zero", store.Scope{}}, {"of no name", store.OneWorkspace("")}} {
			var n int
			var err error
			write(t, f.Store, func(tx *store.Tx) error { n, err = m.call(tx, s.scope); return nil })
			if n != 0 || (err != nil && !errors.Is(err, store.ErrNotFound)) {
				t.Errorf("%s in scope %s: %d rows, %v", m.name, s.name, n, err)
			}
		}
	}
	if after := f.dump(t); !reflect.DeepEqual(before, after) {
		t.Errorf("rows changed out of scope:\n%v\nbefore:\n%v", after, before)
	}
}

// scopeTableIsComplete: a new method with a scope needs a line above.
func scopeTableIsComplete(t *testing.T, _ *fixture) {
	listed := map[string]bool{}
	for _, m := range scopedMethods() {
		listed[m.name] = true
	}
	tx := reflect.TypeFor[*store.Tx]()
	for i := range tx.NumMethod() {
		m := tx.Method(i)
		takes := m.Type.NumIn() > 1 && m.Type.In(1) == reflect.TypeFor[store.Scope]()
		if takes != listed[m.Name] {
			t.Errorf("%s: takes a scope %t, is in the table %t", m.Name, takes, listed[m.Name])
		}
	}
}
