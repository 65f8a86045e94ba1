package api_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// limits is a product with plans that have limits.
const limits = `product: Limits
prefix: lt
headers: [X-API-Key]
permissions:
  - name: read
  - name: write
plans:
  - name: small
    limits: {active_keys: 3, members: 2, custom_roles: 2}
  - name: large
    limits: {active_keys: 100}
default_plan: small
`

type fields = map[string]any

// do sends a request as the operator.
func (h *house) do(method, path string, body any) answer {
	h.t.Helper()
	return call(h.t, h.Server, h.OperatorKey, method, path, body)
}

func (h *house) show(id string) keystile.Key {
	h.t.Helper()
	return want[keystile.Key](h.t, h.do("GET", "/v1/keys/"+id, nil), 200)
}

// TestLifeOfAKey takes keys through every state (IP1, IP4, IP5, VQ5, VZ6, TN3).
func TestLifeOfAKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		end := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
		made := want[keystile.CreatedKey](t, h.do("POST", "/v1/workspaces/"+ws+"/keys", fields{
			"name": "  Inventory sync ", "description": "Runs at night", "role": "admin", "permissions": []string{"read", "api.key.view"},
			"environment": "staging", "expires_at": end, "ip_allowlist": []string{"127.0.0.1", " 2001:DB8::/32 ", "10.1.2.3/8", "10.0.0.0/8"},
			"metadata": fields{"team": "blue"}, "owner": "cust_42",
		}), 201)
		k := made.Key
		if made.Secret == "" || made.Pending || made.Replaces != "" || strings.Contains(fmt.Sprint(k), made.Secret) {
			t.Errorf("created: %+v", k)
		}
		same(t, "name", k.Name, "Inventory sync")
		same(t, "allowlist", k.IPAllowlist, []string{"127.0.0.1", "2001:db8::/32", "10.0.0.0/8"})
		same(t, "by", k.CreatedBy, keystile.Party{Kind: "key", ID: k.CreatedBy.ID, Name: "Test operator"})
		if k.ExpiresAt == nil || !k.ExpiresAt.Equal(end) || k.Environment != "staging" || k.Status != keystile.StatusActive {
			t.Errorf("created: %+v", k)
		}
		same(t, "shown", h.show(k.ID), k)
		h.expect(made.Secret, keystile.CodeValid)

		// Each edit changes what it names and nothing else, and is in force at once.
		edited := want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+k.ID, fields{"name": "Renamed", "metadata": fields{"a": "b"}, "owner": "", "description": ""}), 200)
		k.Name, k.Metadata, k.Owner, k.Description, k.UpdatedAt = "Renamed", map[string]string{"a": "b"}, "", "", edited.UpdatedAt
		same(t, "edited", edited, k)
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+k.ID, fields{"ip_allowlist": []string{"192.0.2.1"}}), 200)
		h.expect(made.Secret, keystile.CodeIPNotAllowed)
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+k.ID, fields{"ip_allowlist": []string{}, "role": "viewer", "permissions": []string{"api.key.view"}}), 200)
		d := want[keystile.Decision](t, h.do("POST", "/v1/verify", fields{"key": made.Secret, "permission": "read"}), 200)
		same(t, "after the change of role", d.Code, keystile.CodeInsufficientPermission)
		same(t, "its permissions", d.Permissions, keystile.Permissions{"api.key.view"})
		earlier := end.Add(-time.Minute)
		if got := want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+k.ID, fields{"expires_at": earlier}), 200); !got.ExpiresAt.Equal(earlier) {
			t.Errorf("ends %v", got.ExpiresAt)
		}
		wantProblem(t, h.do("PATCH", "/v1/keys/"+k.ID, fields{"expires_at": end}), 422, keystile.CodeInvalidField)

		// Disabled and back.
		off := want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.ID+"/disable", fields{"reason": "on holiday"}), 200)
		if off.Status != keystile.StatusDisabled || off.DisabledReason != "on holiday" || off.DisabledAt == nil {
			t.Errorf("disabled: %+v", off)
		}
		h.expect(made.Secret, keystile.CodeDisabled)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.ID+"/disable", fields{"reason": "another"}), 200)
		same(t, "reason of the first", h.show(k.ID).DisabledReason, "on holiday")
		wantProblem(t, h.do("POST", "/v1/keys/"+k.ID+"/rotate", nil), 409, keystile.CodeConflict)
		for range 2 {
			on := want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.ID+"/enable", nil), 200)
			if on.Status != keystile.StatusActive || on.DisabledAt != nil || on.DisabledReason != "" {
				t.Errorf("enabled: %+v", on)
			}
		}
		h.expect(made.Secret, keystile.CodeValid)

		// Revoked is for good, and asking again changes nothing.
		first := want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.ID+"/revoke", fields{"reason": keystile.ReasonExposureSuspected}), 200)
		h.expect(made.Secret, keystile.CodeRevoked)
		again := want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.ID+"/revoke", fields{"reason": "something else"}), 200)
		same(t, "the second revoke", again, first)
		if first.RevokedReason != keystile.ReasonExposureSuspected || first.RevokedBy == nil || first.RevokedBy.Name != "Test operator" || first.RevokedAt == nil {
			t.Errorf("revoked: %+v", first)
		}
		for _, verb := range []string{"/enable", "/disable", "/rotate"} {
			wantProblem(t, h.do("POST", "/v1/keys/"+k.ID+verb, nil), 409, keystile.CodeConflict)
		}
		for _, patch := range []fields{{"role": "admin", "whole_role": true}, {"ip_allowlist": []string{}}, {"expires_at": end}} {
			wantProblem(t, h.do("PATCH", "/v1/keys/"+k.ID, patch), 409, keystile.CodeConflict)
		}
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+k.ID, fields{"name": "Leaked"}), 200)

		// Deleted looks like one never issued; the log keeps ID and name.
		want[struct{}](t, h.do("DELETE", "/v1/keys/"+k.ID, nil), 204)
		wantProblem(t, h.do("DELETE", "/v1/keys/"+k.ID, nil), 404, keystile.CodeNotFound)
		h.expect(made.Secret, keystile.CodeUnknown)
		log := h.audit(ws, k.ID)
		same(t, "log", actions(log), []string{
			"key.created", "key.updated", "key.updated", "key.updated", "key.updated",
			"key.disabled", "key.enabled", "key.revoked", "key.updated", "key.deleted",
		})
		last := log[len(log)-1]
		same(t, "name in the log", last.ObjectName, "Leaked")
		same(t, "reason in the log", log[7].Reason, keystile.ReasonExposureSuspected)
		for _, e := range log {
			if e.Actor.Name != "Test operator" || e.Actor.ID == "" || e.Address != "127.0.0.1" || e.UserAgent == "" || e.RequestID == "" || e.ObjectKind != "key" {
				t.Errorf("an entry that does not say who, from where or what: %+v", e)
			}
			if strings.Contains(fmt.Sprint(e), made.Secret) {
				t.Errorf("an entry holds the secret: %s", e.Action)
			}
		}
		same(t, "before", log[1].Before["name"], any("Inventory sync"))
		same(t, "after", log[1].After["name"], any("Renamed"))
		same(t, "fields that changed", slices.Sorted(maps.Keys(log[1].After)), []string{"metadata", "name"})
	})
}

// TestExpiry: a key ends by its clock everywhere, and the log says so once.
func TestExpiry(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		end := time.Now().Add(4 * time.Second) // long enough to be seen alive on a slow machine
		made := h.Key(ws, keystile.CreateKey{Name: "Short", ExpiresAt: &end})
		touched := h.Key(ws, keystile.CreateKey{Name: "Touched", ExpiresAt: &end})
		h.expect(made.Secret, keystile.CodeValid)
		time.Sleep(time.Until(end.Add(5 * time.Millisecond)))
		h.expect(made.Secret, keystile.CodeExpired)
		same(t, "status", h.show(made.Key.ID).Status, keystile.StatusExpired)
		wantProblem(t, call(t, s, made.Secret, "GET", "/v1/plans", nil), 401, keystile.CodeExpired)
		// Whoever is faster than the loop that stores it doesn't hide it.
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+touched.Key.ID, fields{"name": "Touched after its end"}), 200)
		for _, verb := range []string{"/enable", "/disable", "/rotate"} {
			wantProblem(t, h.do("POST", "/v1/keys/"+made.Key.ID+verb, nil), 409, keystile.CodeConflict)
		}
		for status, n := range map[string]int{"active": 0, "expired": 2, "revoked": 0, "disabled": 0, "all": 2} {
			got := want[keystile.List[keystile.Key]](t, h.do("GET", "/v1/workspaces/"+ws+"/keys?status="+status, nil), 200)
			same(t, status, len(got.Data), n)
		}
		deadline := time.Now().Add(20 * time.Second)
		for !slices.Contains(actions(h.audit(ws, made.Key.ID)), "key.expired") {
			if time.Now().After(deadline) {
				t.Fatal("the log never says that the key expired")
			}
			time.Sleep(50 * time.Millisecond)
		}
		same(t, "log", actions(h.audit(ws, made.Key.ID)), []string{"key.created", "key.expired"})
		log := h.audit(ws, touched.Key.ID)
		same(t, "log of the one that was touched", actions(log), []string{"key.created", "key.expired", "key.updated"})
		same(t, "who let it expire", log[1].Actor.Kind, "system")
		same(t, "who touched it", log[2].Actor.Kind, "key")
	})
}

// TestList: filter, search and pages that stay in order while keys are added.
func TestList(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws, other := h.workspace(), h.workspace()
		h.key(other, "service")
		var ids []string
		for i := range 7 {
			k := h.Key(ws, keystile.CreateKey{Name: fmt.Sprintf("Key %d", i), Owner: fmt.Sprintf("cust_%d%%", i), Description: "Große_Maschine"})
			ids = append([]string{k.Key.ID}, ids...)
		}
		path := "/v1/workspaces/" + ws + "/keys"
		list := func(query string) keystile.List[keystile.Key] {
			t.Helper()
			return want[keystile.List[keystile.Key]](t, h.do("GET", path+query, nil), 200)
		}
		var seen []string
		for cursor, pages := "", 0; ; pages++ {
			l := list("?limit=3&cursor=" + cursor)
			for _, k := range l.Data {
				seen = append(seen, k.ID)
			}
			h.Key(ws, keystile.CreateKey{Name: "Between the pages"})
			if cursor = l.NextCursor; cursor == "" {
				same(t, "pages", pages, 2)
				break
			}
		}
		same(t, "all pages", seen, ids)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+ids[0]+"/revoke", nil), 200)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+ids[1]+"/disable", nil), 200)
		made := len(list("").Data)
		for query, n := range map[string]int{
			"?status=active": made - 2, "?status=revoked": 1, "?status=disabled": 1, "?status=expired": 0, "?status=all": made,
			"?q=key": 7 + made - 7, "?q=" + ids[3]: 1, "?q=CUST_3": 1, "?q=" + url.QueryEscape("3%"): 1, "?q=" + url.QueryEscape("große_"): 7,
			"?q=" + url.QueryEscape("%"): 7, "?q=_aschine": 0, "?q=" + url.QueryEscape("' OR 1=1"): 0, "?q=between": made - 7,
			"?created_by=" + ids[0]: 0, "?created_by=" + url.QueryEscape("' --"): 0, "?q=between&status=revoked": 0,
		} {
			if strings.HasPrefix(query, "?q=key") {
				continue // an ID begins like this too
			}
			if got := len(list(query).Data); got != n {
				t.Errorf("%s: %d keys, want %d", query, got, n)
			}
		}
		for _, query := range []string{
			"?cursor=x", "?cursor=" + ws, "?cursor=key_zzz", "?limit=0", "?limit=-1", "?limit=201", "?limit=x", "?status=gone",
			"?q=%00", "?created_by=%00", "?created_by=%ff", "?q=%e2%80%ae", "?nope=1", "?q=" + strings.Repeat("x", 101),
		} {
			wantProblem(t, h.do("GET", path+query, nil), 422, keystile.CodeInvalidField)
		}
		// A cursor that was made up in the right form is a position like another.
		list("?cursor=" + h.key(other, "service").Key.ID)
		if got := list("?limit=200"); got.NextCursor != "" || len(got.Data) != made {
			t.Errorf("%d keys and cursor %q", len(got.Data), got.NextCursor)
		}
	})
}

// TestRotation is VQ4 and TN2: both keys valid for the overlap, then one.
func TestRotation(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		rotate := func(id string, body any) keystile.CreatedKey {
			t.Helper()
			return want[keystile.CreatedKey](t, h.do("POST", "/v1/keys/"+id+"/rotate", body), 201)
		}
		for _, overlap := range []string{"", "0s", "24h", "720h"} {
			t.Run("overlap "+overlap, func(t *testing.T) {
				h.t = t
				old := h.Key(ws, keystile.CreateKey{Name: "Old", Role: "viewer", Permissions: keystile.Permissions{"api.key.view"},
					IPAllowlist: []string{"127.0.0.1"}, Environment: "development", Owner: "o", Metadata: map[string]string{"a": "b"}})
				body := fields{}
				if overlap != "" {
					body["overlap"] = overlap
				}
				fresh := rotate(old.Key.ID, body)
				was := h.show(old.Key.ID)
				same(t, "replaced by", was.ReplacedBy, fresh.Key.ID)
				same(t, "replaces", []string{fresh.Replaces, fresh.Key.Replaces}, []string{old.Key.ID, old.Key.ID})
				h.expect(fresh.Secret, keystile.CodeValid)
				copied := fresh.Key
				copied.ID, copied.Preview, copied.CreatedAt, copied.UpdatedAt, copied.CreatedBy, copied.Replaces, copied.RotationDue =
					old.Key.ID, old.Key.Preview, old.Key.CreatedAt, old.Key.UpdatedAt, old.Key.CreatedBy, "", old.Key.RotationDue
				same(t, "the replacement", copied, old.Key)
				switch overlap {
				case "0s":
					h.expect(old.Secret, keystile.CodeRevoked)
					same(t, "reason", was.RevokedReason, keystile.ReasonRotated)
					return
				case "":
					if was.ExpiresAt != nil {
						t.Errorf("ends %v", was.ExpiresAt)
					}
				default:
					d, _ := time.ParseDuration(overlap)
					if left := time.Until(*was.ExpiresAt); left > d || left < d-time.Minute {
						t.Errorf("ends in %v, want %v", left, d)
					}
				}
				h.expect(old.Secret, keystile.CodeValid)
				// No third one while both live.
				wantProblem(t, h.do("POST", "/v1/keys/"+old.Key.ID+"/rotate", nil), 409, keystile.CodeConflict)
				wantProblem(t, h.do("POST", "/v1/keys/"+fresh.Key.ID+"/rotate", nil), 409, keystile.CodeConflict)
				// Back again: the old one as it was.
				want[keystile.Key](t, h.do("POST", "/v1/keys/"+fresh.Key.ID+"/revoke", fields{"rollback": true, "reason": "it broke"}), 200)
				h.expect(fresh.Secret, keystile.CodeRevoked)
				h.expect(old.Secret, keystile.CodeValid)
				back := h.show(old.Key.ID)
				if back.ExpiresAt != nil || back.ReplacedBy != "" || back.Status != keystile.StatusActive {
					t.Errorf("rolled back: %+v", back)
				}
				wantProblem(t, h.do("POST", "/v1/keys/"+fresh.Key.ID+"/revoke", fields{"rollback": true}), 409, keystile.CodeConflict)
				same(t, "log", actions(h.audit(ws, old.Key.ID)), []string{"key.created", "key.rotated", "key.rolled_back"})
				same(t, "log of the replacement", actions(h.audit(ws, fresh.Key.ID)), []string{"key.created", "key.revoked"})
				// And on: once the old one is gone, the new one can be rotated.
				fresh = rotate(old.Key.ID, fields{"name": "Third"})
				same(t, "name", fresh.Key.Name, "Third")
				want[keystile.Key](t, h.do("POST", "/v1/keys/"+old.Key.ID+"/revoke", nil), 200)
				wantProblem(t, h.do("POST", "/v1/keys/"+fresh.Key.ID+"/revoke", fields{"rollback": true}), 409, keystile.CodeConflict)
				h.expect(fresh.Secret, keystile.CodeValid)
				rotate(fresh.Key.ID, nil)
			})
		}
		h.t = t
		key := h.key(ws, "service")
		for _, overlap := range []string{"744h", "-1s", "x", "1d", "24", "9999999999h"} {
			wantProblem(t, h.do("POST", "/v1/keys/"+key.Key.ID+"/rotate", fields{"overlap": overlap}), 422, keystile.CodeInvalidField)
		}
		wantProblem(t, h.do("POST", "/v1/keys/"+key.Key.ID+"/revoke", fields{"rollback": true}), 422, keystile.CodeInvalidField)
		h.expect(key.Secret, keystile.CodeValid)

		// A nearer end is never pushed out by an overlap or by rolling back.
		near := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
		old := h.Key(ws, keystile.CreateKey{Name: "Near", ExpiresAt: &near})
		fresh := rotate(old.Key.ID, fields{"overlap": "24h"})
		same(t, "ends", []time.Time{*h.show(old.Key.ID).ExpiresAt, *fresh.Key.ExpiresAt}, []time.Time{near, near})
		nearer := near.Add(-30 * time.Minute)
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+old.Key.ID, fields{"expires_at": nearer}), 200)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+fresh.Key.ID+"/revoke", fields{"rollback": true}), 200)
		same(t, "end after rolling back", *h.show(old.Key.ID).ExpiresAt, nearer)
		old = h.key(ws, "service")
		fresh = rotate(old.Key.ID, nil)
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+old.Key.ID, fields{"expires_at": near}), 200)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+fresh.Key.ID+"/revoke", fields{"rollback": true}), 200)
		same(t, "end that was given after the rotation", *h.show(old.Key.ID).ExpiresAt, near)

		// A replacement that is over is no way back past the one that followed it.
		old = h.key(ws, "service")
		first := rotate(old.Key.ID, nil)
		soon := time.Now().Add(2 * time.Second)
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+first.Key.ID, fields{"expires_at": soon}), 200)
		time.Sleep(time.Until(soon.Add(5 * time.Millisecond)))
		second := rotate(old.Key.ID, fields{"overlap": "1h"})
		wantProblem(t, h.do("POST", "/v1/keys/"+first.Key.ID+"/revoke", fields{"rollback": true}), 409, keystile.CodeConflict)
		was := h.show(old.Key.ID)
		if was.ReplacedBy != second.Key.ID || was.ExpiresAt == nil {
			t.Errorf("the chain is broken: %+v", was)
		}
		// A deleted replacement leaves no name behind.
		want[struct{}](t, h.do("DELETE", "/v1/keys/"+second.Key.ID, nil), 204)
		same(t, "replaced by", h.show(old.Key.ID).ReplacedBy, "")
	})
}

// TestPlanLimits is IP9: never one too many, rotation counts once, and the
// refusal says what to do.
func TestPlanLimits(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		create := "/v1/workspaces/" + ws + "/keys"
		var mu sync.Mutex
		var made []keystile.CreatedKey
		together(32, func(i int) {
			a := call(t, s, h.OperatorKey, "POST", create, fields{"name": fmt.Sprint("Racer ", i)})
			mu.Lock()
			defer mu.Unlock()
			if a.status == 201 {
				made = append(made, want[keystile.CreatedKey](t, a, 201))
			} else if e := wantProblem(t, a, 403, keystile.CodePlanLimit); !strings.Contains(strings.Join(e.Fixes, " "), "Upgrade") {
				t.Errorf("fixes %v", e.Fixes)
			}
		})
		if len(made) != 3 {
			t.Fatalf("%d keys of 3", len(made))
		}
		active := func(n int) {
			t.Helper()
			same(t, "active keys", want[keystile.Workspace](t, h.do("GET", "/v1/workspaces/"+ws, nil), 200).ActiveKeys, n)
		}
		full := func() {
			t.Helper()
			active(3)
			wantProblem(t, h.do("POST", create, fields{"name": "x"}), 403, keystile.CodePlanLimit)
		}
		full()
		// Rotations do not count while both live, all at once as well.
		fresh := make([]keystile.CreatedKey, 3)
		together(3, func(i int) {
			fresh[i] = want[keystile.CreatedKey](t, call(t, s, h.OperatorKey, "POST", "/v1/keys/"+made[i].Key.ID+"/rotate", nil), 201)
		})
		full()
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+fresh[0].Key.ID+"/disable", nil), 200)
		full() // the old one counts again
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+fresh[0].Key.ID+"/enable", nil), 200)
		full()
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+fresh[0].Key.ID+"/revoke", fields{"rollback": true}), 200)
		full()
		// A disabled key does not count, and cannot come back for one too many.
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+made[0].Key.ID+"/disable", nil), 200)
		active(2)
		want[keystile.CreatedKey](t, h.do("POST", create, fields{"name": "In its place"}), 201)
		full()
		wantProblem(t, h.do("POST", "/v1/keys/"+made[0].Key.ID+"/enable", nil), 403, keystile.CodePlanLimit)
		same(t, "status", h.show(made[0].Key.ID).Status, keystile.StatusDisabled)
		// More room, and less again: what is there stays.
		want[keystile.Workspace](t, h.do("PATCH", "/v1/workspaces/"+ws, fields{"plan": "large"}), 200)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+made[0].Key.ID+"/enable", nil), 200)
		want[keystile.Workspace](t, h.do("PATCH", "/v1/workspaces/"+ws, fields{"plan": "small"}), 200)
		active(4)
		wantProblem(t, h.do("POST", create, fields{"name": "x"}), 403, keystile.CodePlanLimit)
		want[keystile.CreatedKey](t, h.do("POST", "/v1/keys/"+made[0].Key.ID+"/rotate", nil), 201)
		active(4)

		ws = h.workspace()
		for i, status := range []int{201, 201, 403} {
			same(t, "role", h.do("POST", "/v1/workspaces/"+ws+"/roles", fields{"name": fmt.Sprint("R", i), "permissions": []string{"read"}}).status, status)
			same(t, "member", h.do("POST", "/v1/workspaces/"+ws+"/members", fields{"person": fields{"name": "x"}, "role": "viewer"}).status, status)
		}
	}
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, keystiletest.New(t, keystiletest.ProfileText(limits))) })
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, keystiletest.New(t, keystiletest.ProfileText(limits), keystiletest.Database(newDatabase(t))))
	})
}

// together runs n calls at the same time.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() { <-start; do(i) })
	}
	close(start)
	all.Wait()
}

// TestRaces: two clients on the same key leave it in a state that one after the
// other could have left it in.
func TestRaces(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		post := func(id, verb string, body any) answer {
			return call(t, s, h.OperatorKey, "POST", "/v1/keys/"+id+verb, body)
		}
		for range 5 {
			k := h.key(ws, "service")
			together(4, func(i int) {
				if a := post(k.Key.ID, "/revoke", fields{"reason": fmt.Sprint(i)}); a.status != 200 {
					t.Error(a)
				}
			})
			same(t, "log of four revokes", actions(h.audit(ws, k.Key.ID)), []string{"key.created", "key.revoked"})
			h.expect(k.Secret, keystile.CodeRevoked)

			// Rotate against revoke: the old one is gone, and a replacement is there if it was made first.
			k = h.key(ws, "service")
			var rotated answer
			together(2, func(i int) {
				if i == 0 {
					rotated = post(k.Key.ID, "/rotate", nil)
				} else if a := post(k.Key.ID, "/revoke", nil); a.status != 200 {
					t.Error(a)
				}
			})
			h.expect(k.Secret, keystile.CodeRevoked)
			if rotated.status == 201 {
				h.expect(want[keystile.CreatedKey](t, rotated, 201).Secret, keystile.CodeValid)
			} else {
				wantProblem(t, rotated, 409, keystile.CodeConflict)
				same(t, "replaced by", h.show(k.Key.ID).ReplacedBy, "")
			}

			// Only one of several rotations makes a replacement.
			k = h.key(ws, "service")
			var mu sync.Mutex
			made := 0
			together(4, func(int) {
				if a := post(k.Key.ID, "/rotate", nil); a.status == 201 {
					mu.Lock()
					made++
					mu.Unlock()
				} else {
					wantProblem(t, a, 409, keystile.CodeConflict)
				}
			})
			same(t, "replacements", made, 1)

			// Disable against enable: status and verification agree.
			k = h.key(ws, "service")
			together(6, func(i int) {
				if a := post(k.Key.ID, []string{"/disable", "/enable"}[i%2], nil); a.status != 200 {
					t.Error(a)
				}
			})
			code := keystile.CodeValid
			if h.show(k.Key.ID).Status == keystile.StatusDisabled {
				code = keystile.CodeDisabled
			}
			h.expect(k.Secret, code)

			// Delete against edit: it is gone, and nothing brings it back.
			k = h.key(ws, "service")
			together(2, func(i int) {
				if i == 0 {
					if a := call(t, s, h.OperatorKey, "DELETE", "/v1/keys/"+k.Key.ID, nil); a.status != 204 {
						t.Error(a)
					}
				} else if a := call(t, s, h.OperatorKey, "PATCH", "/v1/keys/"+k.Key.ID, fields{"name": "x"}); a.status != 200 {
					wantProblem(t, a, 404, keystile.CodeNotFound)
				}
			})
			h.expect(k.Secret, keystile.CodeUnknown)
		}
		// An edit of a role against keys of it: what verify says is what the role has.
		r := h.role(ws, "read", "write")
		k := h.key(ws, r.ID)
		together(8, func(i int) {
			permissions := [][]string{{"read"}, {"read", "write"}}[i%2]
			if a := call(t, s, h.OperatorKey, "PATCH", "/v1/roles/"+r.ID, fields{"permissions": permissions}); a.status != 200 {
				t.Error(a)
			}
		})
		is := want[keystile.Role](t, h.do("GET", "/v1/roles/"+r.ID, nil), 200).Permissions
		d := want[keystile.Decision](t, h.do("POST", "/v1/verify", fields{"key": k.Secret}), 200)
		same(t, "permissions", d.Permissions, is)
	})
}

// TestWorkspaces: plan, suspension, allowlist, end.
func TestWorkspaces(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		w := want[keystile.Workspace](t, h.do("POST", "/v1/workspaces", fields{"name": "Acme"}), 201)
		same(t, "plan", w.Plan, "standard")
		k, path := h.key(w.ID, "admin"), "/v1/workspaces/"+w.ID
		for _, bad := range []any{fields{"plan": "gold"}, fields{"name": ""}, fields{"name": "a\nb"}, fields{"suspended_reason": strings.Repeat("x", 201)}} {
			wantProblem(t, h.do("PATCH", path, bad), 422, keystile.CodeInvalidField)
		}
		w = want[keystile.Workspace](t, h.do("PATCH", path, fields{"suspended": true, "suspended_reason": "unpaid"}), 200)
		if !w.Suspended || w.SuspendedReason != "unpaid" || w.ActiveKeys != 1 {
			t.Errorf("suspended: %+v", w)
		}
		h.expect(k.Secret, keystile.CodeWorkspaceSuspended)
		for _, p := range []string{path, "/v1/me", "/v1/plans", "/v1/forward-auth"} {
			wantProblem(t, call(t, s, k.Secret, "GET", p, nil), 403, keystile.CodeWorkspaceSuspended)
		}
		wantProblem(t, call(t, s, k.Secret, "POST", "/v1/verify", fields{"key": k.Secret}), 403, keystile.CodeWorkspaceSuspended)
		// Nobody is given a key that is refused, though one from elsewhere is kept.
		for _, made := range []struct {
			path string
			body fields
		}{{path + "/keys", fields{"name": "x"}}, {"/v1/keys/" + k.Key.ID + "/rotate", fields{}}} {
			p := wantProblem(t, h.do("POST", made.path, made.body), 409, keystile.CodeConflict)
			if !strings.Contains(p.Detail, "is suspended") || len(p.Fixes) != 1 {
				t.Errorf("%s: %+v", made.path, p)
			}
		}
		taken := want[keystile.CreatedKey](t, h.do("POST", path+"/keys", fields{"name": "y", "sha256": strings.Repeat("0a", 32)}), 201)
		h.do("DELETE", "/v1/keys/"+taken.Key.ID, nil)
		// Suspended comes before the state of the key.
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.Key.ID+"/disable", nil), 200)
		h.expect(k.Secret, keystile.CodeWorkspaceSuspended)
		w = want[keystile.Workspace](t, h.do("PATCH", path, fields{"suspended": false}), 200)
		same(t, "reason", w.SuspendedReason, "")
		h.expect(k.Secret, keystile.CodeDisabled)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.Key.ID+"/enable", nil), 200)

		// Both lists must pass.
		want[keystile.Workspace](t, call(t, s, k.Secret, "PATCH", path, fields{"ip_allowlist": []string{"127.0.0.0/8", "10.0.0.0/8"}}), 200)
		h.expect(k.Secret, keystile.CodeValid)
		want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+k.Key.ID, fields{"ip_allowlist": []string{"10.0.0.0/8", "192.0.2.0/24"}}), 200)
		for ip, code := range map[string]keystile.Code{
			"127.0.0.1": keystile.CodeIPNotAllowed, "192.0.2.1": keystile.CodeIPNotAllowed, "10.1.1.1": keystile.CodeValid,
			"::ffff:10.1.1.1": keystile.CodeValid, "": keystile.CodeIPNotAllowed, "2001:db8::1": keystile.CodeIPNotAllowed,
		} {
			d := want[keystile.Decision](t, h.do("POST", "/v1/verify", fields{"key": k.Secret, "ip": ip}), 200)
			same(t, "from "+ip, d.Code, code)
		}
		wantProblem(t, call(t, s, k.Secret, "GET", path, nil), 403, keystile.CodeIPNotAllowed)
		for _, bad := range []string{"x", "", "10.0.0.0/33", "300.1.1.1", "::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.1-10.0.0.9", "010.0.0.1", "10.0.0.0/8/8", "*"} {
			wantProblem(t, h.do("PATCH", path, fields{"ip_allowlist": []string{bad}}), 422, keystile.CodeInvalidField)
			wantProblem(t, h.do("PATCH", "/v1/keys/"+k.Key.ID, fields{"ip_allowlist": []string{"10.0.0.1", bad}}), 422, keystile.CodeInvalidField)
		}

		same(t, "log", actions(h.audit(w.ID, w.ID)), []string{
			"workspace.created", "workspace.suspended", "workspace.resumed", "workspace.updated",
		})
		other := h.key(h.workspace(), "service")
		want[struct{}](t, h.do("DELETE", path, nil), 204)
		h.expect(k.Secret, keystile.CodeUnknown)
		h.expect(other.Secret, keystile.CodeValid)
		wantProblem(t, h.do("GET", path, nil), 404, keystile.CodeNotFound)
		wantProblem(t, h.do("GET", "/v1/keys/"+k.Key.ID, nil), 404, keystile.CodeNotFound)
		// The operator can still read what happened there.
		log := h.audit(w.ID, w.ID)
		same(t, "last entry", log[len(log)-1].Action, "workspace.deleted")
		for _, body := range []fields{{"suspended": true}} {
			wantProblem(t, h.do("PATCH", "/v1/workspaces/"+operatorWorkspace, body), 409, keystile.CodeConflict)
		}
		wantProblem(t, h.do("DELETE", "/v1/workspaces/"+operatorWorkspace, nil), 409, keystile.CodeConflict)
		// Lists: a tenant sees its own, the operator all.
		admin := h.key(h.Workspace, "admin").Secret
		l := want[keystile.List[keystile.Workspace]](t, call(t, s, admin, "GET", "/v1/workspaces", nil), 200)
		if len(l.Data) != 1 || l.Data[0].ID != h.Workspace {
			t.Errorf("a tenant sees %v", l.Data)
		}
		first := want[keystile.List[keystile.Workspace]](t, h.do("GET", "/v1/workspaces?limit=1", nil), 200)
		next := want[keystile.List[keystile.Workspace]](t, h.do("GET", "/v1/workspaces?limit=200&cursor="+first.NextCursor, nil), 200)
		same(t, "workspaces", len(first.Data)+len(next.Data), 3)
	})
}

// TestRolesAndMembers: names, use, and what a person is called.
func TestRolesAndMembers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws, foreign := h.workspace(), h.workspace()
		r := want[keystile.Role](t, h.do("POST", "/v1/workspaces/"+ws+"/roles", fields{"name": "Billing", "permissions": []string{"read", "read"}}), 201)
		same(t, "permissions", r.Permissions, keystile.Permissions{"read"})
		wantProblem(t, h.do("POST", "/v1/workspaces/"+ws+"/roles", fields{"name": "Billing", "permissions": []string{"read"}}), 409, keystile.CodeNameTaken)
		want[keystile.Role](t, h.do("POST", "/v1/workspaces/"+foreign+"/roles", fields{"name": "Billing", "permissions": []string{"read"}}), 201)
		second := h.role(ws, "read")
		wantProblem(t, h.do("PATCH", "/v1/roles/"+second.ID, fields{"name": "Billing"}), 409, keystile.CodeNameTaken)
		k := h.key(ws, "Billing")
		want[keystile.Role](t, h.do("PATCH", "/v1/roles/"+r.ID, fields{"name": "Accounts"}), 200)
		same(t, "the key's role", h.show(k.Key.ID).Role, "Accounts")
		same(t, "the role in a decision", want[keystile.Decision](t, h.do("POST", "/v1/verify", fields{"key": k.Secret}), 200).Role, "Accounts")
		for _, role := range []string{"Billing", second.ID + "x", "a\x00b", "\x00", "nobody"} {
			wantProblem(t, h.do("POST", "/v1/workspaces/"+ws+"/keys", fields{"name": "x", "role": role}), 422, keystile.CodeInvalidField)
		}
		// A role of another workspace is none, by ID as well.
		elsewhere := h.role(foreign, "read")
		wantProblem(t, h.do("POST", "/v1/workspaces/"+ws+"/keys", fields{"name": "x", "role": elsewhere.ID}), 422, keystile.CodeInvalidField)

		m := want[keystile.Member](t, h.do("POST", "/v1/workspaces/"+ws+"/members", fields{
			"person": fields{"name": "Ada", "email": "ada@example.com", "issuer": "https://id.example.com", "subject": "42"}, "role": "Accounts"}), 201)
		if m.Status != "invited" || m.Role != "Accounts" || m.Person.Email != "ada@example.com" || m.InvitedBy.Kind != "key" {
			t.Errorf("invited: %+v", m)
		}
		wantProblem(t, h.do("POST", "/v1/workspaces/"+ws+"/members", fields{"person": fields{"issuer": "https://id.example.com", "subject": "42"}, "role": "viewer"}), 409, keystile.CodeConflict)
		e := wantProblem(t, h.do("DELETE", "/v1/roles/"+r.ID, nil), 409, keystile.CodeInUse)
		if !strings.Contains(e.Detail, "1 keys and 1 members") {
			t.Errorf("detail %q", e.Detail)
		}
		// P4: inviting someone tells nothing of what another workspace calls them.
		mine := want[keystile.Member](t, h.do("POST", "/v1/workspaces/"+foreign+"/members", fields{
			"person": fields{"issuer": "https://id.example.com", "subject": "42"}, "role": "viewer"}), 201)
		for _, got := range []keystile.Member{mine, want[keystile.Member](t, h.do("GET", "/v1/members/"+mine.ID, nil), 200)} {
			if got.Person.Name != "" || got.Person.Email != "" || got.Person.ID != m.Person.ID {
				t.Errorf("the invitation told %+v", got.Person)
			}
		}
		same(t, "the first one's name", want[keystile.Member](t, h.do("GET", "/v1/members/"+m.ID, nil), 200).Person.Name, "Ada")
		for _, person := range []fields{
			{}, {"email": "x"}, {"email": "Ada <ada@example.com>"}, {"issuer": "https://x"}, {"id": m.Person.ID}, {"name": "a\u0000"}, {"name": strings.Repeat("x", 101)},
		} {
			wantProblem(t, h.do("POST", "/v1/workspaces/"+ws+"/members", fields{"person": person, "role": "viewer"}), 422, keystile.CodeInvalidField)
		}
		m = want[keystile.Member](t, h.do("PATCH", "/v1/members/"+m.ID, fields{"role": "viewer"}), 200)
		same(t, "role", m.Role, "viewer")
		wantProblem(t, h.do("PATCH", "/v1/members/"+m.ID, fields{}), 422, keystile.CodeInvalidField)
		want[keystile.Key](t, h.do("POST", "/v1/keys/"+k.Key.ID+"/revoke", nil), 200)
		want[struct{}](t, h.do("DELETE", "/v1/roles/"+r.ID, nil), 204)
		same(t, "role of a key whose role is gone", h.show(k.Key.ID).Role, "")
		want[struct{}](t, h.do("DELETE", "/v1/members/"+m.ID, nil), 204)
		wantProblem(t, h.do("GET", "/v1/members/"+m.ID, nil), 404, keystile.CodeNotFound)
		same(t, "log of the role", actions(h.audit(ws, r.ID)), []string{"role.created", "role.updated", "role.deleted"})
		same(t, "log of the member", actions(h.audit(ws, m.ID)), []string{"member.invited", "member.updated", "member.removed"})

		// Pages of roles and members are whole and in order.
		for range 3 {
			h.role(ws, "read")
			h.member(ws, "viewer")
		}
		for what, n := range map[string]int{"roles": 4 + 4, "members": 3} {
			seen := map[string]bool{}
			for cursor, pages := "", 0; ; pages++ {
				l := want[keystile.List[struct{ ID string }]](t, h.do("GET", "/v1/workspaces/"+ws+"/"+what+"?limit=2&cursor="+cursor, nil), 200)
				for _, v := range l.Data {
					if seen[v.ID] {
						t.Errorf("%s: %s twice", what, v.ID)
					}
					seen[v.ID] = true
				}
				if cursor = l.NextCursor; cursor == "" || pages > 9 {
					break
				}
			}
			same(t, what, len(seen), n)
		}
	})
}

// TestUsage: what was counted can be read, by its own workspace alone.
func TestUsage(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t, keystiletest.FlushInterval(50*time.Millisecond)))
	ws := h.workspace()
	k := h.key(ws, "service")
	for range 3 {
		h.expect(k.Secret, keystile.CodeValid)
	}
	var u keystile.Usage
	for deadline := time.Now().Add(10 * time.Second); len(u.Buckets) == 0 || u.Buckets[0].Total < 3; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("usage %+v", u)
		}
		u = want[keystile.Usage](t, h.do("GET", "/v1/workspaces/"+ws+"/usage?key="+k.Key.ID, nil), 200)
	}
	same(t, "codes", u.Buckets[0].Codes, map[keystile.Code]int64{keystile.CodeValid: 3})
	if len(u.Sources) != 1 || u.Sources[0].Address != "127.0.0.1" {
		t.Errorf("sources %+v", u.Sources)
	}
	if use := h.show(k.Key.ID).LastUse; use == nil || use.Address != "127.0.0.1" {
		t.Errorf("last use %+v", use)
	}
	other := h.key(h.workspace(), "service").Key.ID
	wantProblem(t, h.do("GET", "/v1/workspaces/"+ws+"/usage?key="+other, nil), 404, keystile.CodeNotFound)
	for _, query := range []string{"cursor=x", "cursor=1.key_x", "since=yesterday", "limit=0", "until=2026-13-01T00:00:00Z"} {
		wantProblem(t, h.do("GET", "/v1/workspaces/"+ws+"/usage?"+query, nil), 422, keystile.CodeInvalidField)
	}
}

// TestClientSeesCodes: the Go client's errors are these codes.
func TestClientSeesCodes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	_, err := h.Operator.CreateKey(t.Context(), h.Workspace, keystile.CreateKey{})
	if !errors.Is(err, keystile.CodeInvalidField) {
		t.Errorf("error %v", err)
	}
	var problem *keystile.Error
	if !errors.As(err, &problem) || problem.Status != http.StatusUnprocessableEntity {
		t.Errorf("error %v", err)
	}
}
