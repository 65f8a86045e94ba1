package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

func tenantRows() []row {
	return []row{
		{"TN1_shown_once", tenantShownOnce},
		{"TN2_rotation", tenantRotation},
		{"TN2_overlap", tenantOverlap},
		{"TN2_roll_back", tenantRollBack},
		{"TN3_revocation", tenantRevocation},
		{"TN4_environments", tenantEnvironments},
		{"TN5_recent_calls", tenantRecentCalls},
	}
}

func tenantShownOnce(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Backend", Environment: "production"})
	n.works(made.Secret)
	n.nowhere(made)
	// Repeating the request does not show it again either.
	h := bearer(n.admin)
	h.Set("Idempotency-Key", "order-1")
	first := want[keystile.CreatedKey](t, call(t, "POST", n.server.URL+n.keys(), h, `{"name": "Once"}`), http.StatusCreated)
	r := call(t, "POST", n.server.URL+n.keys(), h, `{"name": "Once"}`)
	again := want[keystile.CreatedKey](t, r, http.StatusCreated)
	if first.Secret == "" || again.Secret != "" || again.Key.ID != first.Key.ID || r.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("replayed: %s", r)
	}
	n.nowhere(first)
	h.Set("Idempotency-Key", "order-1")
	wantProblem(t, call(t, "POST", n.server.URL+n.keys(), h, `{"name": "Twice"}`), http.StatusUnprocessableEntity, keystile.CodeIdempotencyMismatch)
}

func (n *tenant) rotate(id string, body any) keystile.CreatedKey {
	n.Helper()
	return want[keystile.CreatedKey](n, n.call(n.admin, "POST", "/v1/keys/"+id+"/rotate", body), http.StatusCreated)
}

func tenantRotation(t *testing.T, n *tenant) {
	old := n.create(keystile.CreateKey{Name: "Backend", Environment: "production"})
	fresh := n.rotate(old.Key.ID, nil)
	for range 3 {
		n.works(old.Secret)
		n.works(fresh.Secret)
	}
	if k := n.show(old.Key.ID); k.Status != keystile.StatusActive || k.ExpiresAt != nil || k.ReplacedBy != fresh.Key.ID {
		t.Errorf("the old key has %+v", k)
	}
	n.revoke(old.Key.ID, keystile.RevokeKey{Reason: keystile.ReasonRotated})
	n.refused(old.Secret, keystile.CodeRevoked)
	n.works(fresh.Secret)
}

func tenantOverlap(t *testing.T, n *tenant) {
	// Within an overlap both keys work.
	begin := time.Now()
	old := n.create(keystile.CreateKey{Name: "Backend"})
	fresh := n.rotate(old.Key.ID, keystile.RotateKey{Overlap: "1h"})
	n.works(old.Secret)
	n.works(fresh.Secret)
	if end := n.show(old.Key.ID).ExpiresAt; end == nil || end.Before(begin.Add(time.Hour-time.Second)) || end.After(time.Now().Add(time.Hour+time.Second)) {
		t.Fatalf("the old key ends at %v", end)
	}
	// At its end the old one stops by itself.
	old = n.create(keystile.CreateKey{Name: "Backend"})
	fresh = n.rotate(old.Key.ID, keystile.RotateKey{Overlap: "50ms"})
	eventually(t, "the overlap is over", func() bool { return n.me(old.Secret).status == http.StatusUnauthorized })
	if end := n.show(old.Key.ID).ExpiresAt; end == nil || end.After(time.Now()) {
		t.Fatalf("the old key was refused before its end, %v", end)
	}
	n.refused(old.Secret, keystile.CodeExpired)
	n.works(fresh.Secret)
	for _, overlap := range []string{"721h", "-1s", "soon", "31d"} {
		wantProblem(t, n.call(n.admin, "POST", "/v1/keys/"+fresh.Key.ID+"/rotate", keystile.RotateKey{Overlap: overlap}), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
	}
	none := n.rotate(fresh.Key.ID, keystile.RotateKey{Overlap: "0s"})
	n.refused(fresh.Secret, keystile.CodeRevoked)
	n.works(none.Secret)
}

func tenantRollBack(t *testing.T, n *tenant) {
	old := n.create(keystile.CreateKey{Name: "Backend"})
	fresh := n.rotate(old.Key.ID, keystile.RotateKey{Overlap: "1h"})
	if n.show(old.Key.ID).ExpiresAt == nil {
		t.Fatal("the old key has no end")
	}
	n.revoke(fresh.Key.ID, keystile.RevokeKey{Rollback: true})
	n.refused(fresh.Secret, keystile.CodeRevoked)
	n.works(old.Secret)
	if k := n.show(old.Key.ID); k.ExpiresAt != nil || k.ReplacedBy != "" || k.Status != keystile.StatusActive {
		t.Errorf("rolled back: %+v", k)
	}
	n.works(n.rotate(old.Key.ID, nil).Secret)
}

func tenantRevocation(t *testing.T, n *tenant) {
	// No request that begins after the answer is let in, on any connection.
	for range 20 {
		made := n.create(keystile.CreateKey{Name: "Backend"})
		n.works(made.Secret)
		n.revoke(made.Key.ID, nil)
		e := n.refused(made.Secret, keystile.CodeRevoked)
		if e.Status != http.StatusUnauthorized {
			t.Fatalf("status %d", e.Status)
		}
	}
}

func tenantEnvironments(t *testing.T, n *tenant) {
	for environment, marker := range map[string]string{"development": "dev", "staging": "stage", "production": "prod"} {
		made := n.create(keystile.CreateKey{Name: environment, Environment: environment})
		if !strings.HasPrefix(made.Secret, "tn_"+marker+"_") {
			t.Errorf("a key for %s does not say so", environment)
		}
		if self := n.works(made.Secret); self.Environment != environment {
			t.Errorf("me says %q, want %q", self.Environment, environment)
		}
		if want := previewFirst(made.Secret, len("tn_"+marker+"_")+4); made.Key.Preview != want {
			t.Errorf("preview %q", made.Key.Preview)
		}
	}
	if made := n.create(keystile.CreateKey{Name: "No one thought"}); made.Key.Environment != "development" {
		t.Errorf("the default is %q", made.Key.Environment)
	}
	e := wantProblem(t, n.call(n.admin, "POST", n.keys(), keystile.CreateKey{Name: "x", Environment: "qa"}), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
	if !strings.Contains(e.Detail, "staging") {
		t.Errorf("the refusal does not name the environments: %+v", e)
	}
}

// The calls that the revoke dialog shows.
func tenantRecentCalls(t *testing.T, n *tenant) {
	key := n.create(keystile.CreateKey{Name: "Backend"})
	if u := n.usage("?key=" + key.Key.ID); len(u.Buckets) != 0 || len(u.Sources) != 0 {
		t.Errorf("before any call: %+v", u)
	}
	for range 7 {
		n.me(key.Secret, "203.0.113.7")
	}
	var u keystile.Usage
	eventually(t, "seven calls are shown", func() bool {
		u = n.usage("?key=" + key.Key.ID)
		return len(u.Buckets) == 1 && u.Buckets[0].Total == 7
	})
	if time.Since(u.Buckets[0].Hour) > 2*time.Hour || len(u.Sources) != 1 || time.Since(u.Sources[0].LastAt) > time.Minute || u.Sources[0].Count != 7 {
		t.Errorf("calls: %+v", u)
	}
}
