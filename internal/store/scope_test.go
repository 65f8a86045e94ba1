package store_test

import (
	"errors"
	"reflect"
	"slices"
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
		{"CountMade", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountMade(s, acme, "", noon) }},
		{"CountActiveKeys", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountActiveKeys(s, acme, noon) }},
		{"Findings", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Findings(s, store.FindingFilter{Kind: store.FindingIdle, WorkspaceID: acme, Now: noon, Before: noon.Add(day), Limit: 9})
			return len(l), err
		}},
		{"WebhookSecret", func(tx *store.Tx, s store.Scope) (int, error) {
			_, err := tx.WebhookSecret(s, id("whs_", 1))
			return count(err)
		}},
		{"WebhookSecrets", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.WebhookSecrets(s, store.SecretFilter{WorkspaceID: acme, Limit: 9, Now: noon})
			return len(l), err
		}},
		{"SigningSecrets", func(tx *store.Tx, s store.Scope) (int, error) {
			list, err := tx.SigningSecrets(s, id("ep_", 1), noon, 10)
			return len(list), err
		}},
		{"UpdateWebhookSecret", func(tx *store.Tx, s store.Scope) (int, error) {
			w := webhookSecret(acme, 1)
			w.Label = "changed"
			return count(tx.UpdateWebhookSecret(s, w))
		}},
		{"DeleteWebhookSecret", func(tx *store.Tx, s store.Scope) (int, error) {
			return count(tx.DeleteWebhookSecret(s, id("whs_", 1)))
		}},
		{"CountWebhookSecrets", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountWebhookSecrets(s, acme, noon) }},
		{"WebhookSecretsDue", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.WebhookSecretsDue(s, noon, 9)
			return len(l), err
		}},
		{"OldWebhookSecrets", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.OldWebhookSecrets(s, noon, 9)
			return len(l), err
		}},
		{"NextSealed", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.NextSealed(s, "newer", "", 9)
			return len(l), err
		}},
		{"Reseal", func(tx *store.Tx, s store.Scope) (int, error) {
			return count(tx.Reseal(s, id("whs_", 1), "newer", []byte("sealed anew")))
		}},
		{"Endpoint", func(tx *store.Tx, s store.Scope) (int, error) {
			_, err := tx.Endpoint(s, id("ep_", 1))
			return count(err)
		}},
		{"Endpoints", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Endpoints(s, acme, "", 9)
			return len(l), err
		}},
		{"CountEndpoints", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountEndpoints(s, acme) }},
		{"UpdateEndpoint", func(tx *store.Tx, s store.Scope) (int, error) {
			e := endpoint(acme, 1)
			e.URL = "https://changed.example.com/"
			return count(tx.UpdateEndpoint(s, e, noon))
		}},
		{"DeleteEndpoint", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.DeleteEndpoint(s, id("ep_", 1))) }},
		{"Delivery", func(tx *store.Tx, s store.Scope) (int, error) {
			_, err := tx.Delivery(s, id("dlv_", 1))
			return count(err)
		}},
		{"Deliveries", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Deliveries(s, id("ep_", 1), keystile.DeliveryFailed, "", 9)
			return len(l), err
		}},
		{"Attempts", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Attempts(s, id("dlv_", 1), 9)
			return len(l), err
		}},
		{"Requeue", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.Requeue(s, id("dlv_", 1), noon)) }},
		{"RequeueFailed", func(tx *store.Tx, s store.Scope) (int, error) {
			n, err := tx.RequeueFailed(s, id("ep_", 1), ago(day), noon, 9)
			return int(n), err
		}},
		{"MembersInRoles", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.MembersInRoles(s, acme, []string{"role_x", "role_writer"}, 9)
			return len(l), err
		}},
		{"MembersByEmail", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.MembersByEmail(s, acme, "ANN@Example.org", 9)
			return len(l), err
		}},
		{"Callers", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Callers(s, acme, ago(day), 9)
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
			return len(l.Entries), err
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
		{"Alert", func(tx *store.Tx, s store.Scope) (int, error) { _, err := tx.Alert(s, id("al_", 1)); return count(err) }},
		{"Alerts", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.Alerts(s, store.AlertFilter{WorkspaceID: acme, State: "open", Limit: 9})
			return len(l), err
		}},
		{"UpdateAlert", func(tx *store.Tx, s store.Scope) (int, error) {
			a := alert(acme, 1)
			a.Stage = "1d"
			return count(tx.UpdateAlert(s, a))
		}},
		{"CountUnseenAlerts", func(tx *store.Tx, s store.Scope) (int, error) { return tx.CountUnseenAlerts(s, acme, 9) }},
		{"OpenAlertsAbout", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.OpenAlertsAbout(s, keyID(1))
			return len(l), err
		}},
		{"OpenAlertsOfType", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.OpenAlertsOfType(s, keystile.AlertKeyExpiring, 9)
			return len(l), err
		}},
		{"DueToLook", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.DueToLook(s, ago(day), 9)
			return min(len(l)/2, 1), err // the other tenant has one, too
		}},
		{"SetLook", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.SetLook(s, keyID(1), noon)) }},
		{"LookAtReplaced", func(tx *store.Tx, s store.Scope) (int, error) {
			n, err := tx.LookAtReplaced(s, keyID(1))
			return int(n), err
		}},
		{"LookAgain", func(tx *store.Tx, s store.Scope) (int, error) {
			last, err := tx.LookAgain(s, keyID(0), 2)
			if last == keyID(2) {
				return 1, err
			}
			return 0, err
		}},
		{"OpenAlertsOfEndpoint", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.OpenAlertsOfEndpoint(s, id("ep_", 1))
			return len(l), err
		}},
		{"SecretsToLook", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.SecretsToLook(s, noon, 9)
			l = slices.DeleteFunc(l, func(w store.WebhookSecret) bool { return w.WorkspaceID != acme }) // the other tenant has one, too
			return len(l), err
		}},
		{"SetSecretLook", func(tx *store.Tx, s store.Scope) (int, error) { return count(tx.SetSecretLook(s, id("whs_", 1), noon)) }},
		{"LookAtSecret", func(tx *store.Tx, s store.Scope) (int, error) {
			n, err := tx.LookAtSecret(s, id("whs_", 1))
			return int(n), err
		}},
		{"LookAtSecrets", func(tx *store.Tx, s store.Scope) (int, error) {
			n, err := tx.LookAtSecrets(s)
			return max(int(n)-1, 0), err // the other tenant has one, too
		}},
		{"TriedSources", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.TriedSources(s, keyID(1), ago(day), 9)
			return len(l), err
		}},
		{"FailingWorkspaces", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.FailingWorkspaces(s, ago(day), 2)
			return len(l), err
		}},
		{"FailureWindows", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.FailureWindows(s, acme, ago(day), noon.Add(day), time.Hour)
			return len(l), err
		}},
		{"FailureSources", func(tx *store.Tx, s store.Scope) (int, error) {
			l, err := tx.FailureSources(s, acme, ago(day), true, 9)
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
		ofEndpoint, about := webhookSecret(acme, 4), alert(acme, 2)
		ofEndpoint.EndpointID, about.KeyID = id("ep_", 1), ofEndpoint.ID
		foreignSecret := webhookSecret(other, 9)
		foreignSecret.MasterKey = "newer" // or NextSealed would read it by right
		due.ExpiresAt = at(ago(day))
		revoked.Status = keystile.StatusRevoked
		if err := errors.Join(tx.InsertKey(due), tx.InsertKey(revoked)); err != nil {
			return err
		}
		revoked.RevokedAt, revoked.RevokedBy, revoked.RevokedReason = at(ago(day)), &keystile.Party{Kind: "operator"}, "exposure_suspected"
		revoked.ReplacedBy = keyID(1)
		return errors.Join(tx.UpdateKey(all(), revoked), tx.InsertRole(role(acme, 1)), addMember(tx, member(acme, 1)),
			tx.InsertAudit(auditEntry(acme, 1)), tx.AddUses([]verify.Use{use(1, keystile.CodeValid, noon), use(1, keystile.CodeRevoked, noon)}),
			tx.InsertAlert(alert(acme, 1)), tx.AddFailures([]store.Failure{failure(acme, 2)}),
			addSecrets(tx), addDeliveries(tx), tx.InsertWebhookSecret(ofEndpoint), tx.InsertAlert(about),
			// The other tenant has a key too: the foreign scope is not an empty one.
			tx.InsertKey(foreign), tx.InsertWebhookSecret(foreignSecret))
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
