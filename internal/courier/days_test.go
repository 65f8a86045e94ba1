package courier_test

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to let days pass

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// letPass makes what an endpoint has to do as old as if a time had passed
// since, and due.
func letPass(t *testing.T, dir string, d time.Duration, tries int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "keystile.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []struct {
		text string
		args []any
	}{
		{`UPDATE deliveries SET tries = ?, next_at = 1 WHERE state = 0`, []any{tries}},
		{`UPDATE endpoints SET failing_since = failing_since - ? WHERE failing_since > 0`, []any{d.Milliseconds()}},
		{`UPDATE endpoints SET due_at = 1`, nil},
	} {
		if _, err := db.ExecContext(t.Context(), q.text, q.args...); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPersistentFailure: after the last of its attempts, over days, a delivery
// is given up; an endpoint that accepted nothing in all that time is paused,
// which another one is told of, and one that accepted something is not.
func TestPersistentFailure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	watch := newReceiver(t, nil)
	endpoint(t, s, watch.URL, "endpoint.paused", "endpoint.failing")
	alert := func(state string) keystile.Alert {
		t.Helper()
		list, err := s.Operator.Alerts(t.Context(), s.Workspace, keystile.ListAlerts{State: state})
		if err != nil || len(list.Data) != 1 {
			t.Fatalf("%d alerts %s: %+v, %v", len(list.Data), state, list.Data, err)
		}
		return list.Data[0]
	}
	var status atomic.Int32
	status.Store(500)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	made := endpoint(t, s, r.URL, "key.created")
	id := made.Endpoint.ID
	attempts := func(n int) {
		t.Helper()
		eventually(t, "an attempt is written", func() bool {
			for _, d := range deliveries(t, s, id, "all") {
				if d.Attempts >= n {
					return true
				}
			}
			return false
		})
	}
	newKey(t, s, "First")
	attempts(1)

	// The last attempt but one, and the last one, when it has failed for a day alone.
	letPass(t, dir, 24*time.Hour, 10)
	attempts(2)
	settled(t, s, id, "pending", 1)
	letPass(t, dir, 0, 11)
	failed := settled(t, s, id, "failed", 1)[0]
	if failed.NextAt != nil || failed.Attempts != 3 {
		t.Errorf("%+v", failed)
	}
	if e, err := s.Operator.Endpoint(t.Context(), id); err != nil || e.Status != keystile.EndpointActive || e.FailingSince == nil {
		t.Errorf("after a day: %+v, %v", e, err)
	}
	if a := alert("open"); a.Type != keystile.AlertEndpointFailing || a.Stage != "failing" || a.EndpointID != id || a.EndpointURL != r.URL || a.LastFailure.Status != 500 {
		t.Errorf("after a day: %+v", a)
	}
	failing := watch.wait("the alert", ofType("endpoint.failing"))
	if a := failing.event.Data.Alert; a.EndpointID != id || a.Stage != "failing" {
		t.Errorf("%s", failing.body)
	}

	// Another one, when nothing was accepted for three days.
	newKey(t, s, "Second")
	settled(t, s, id, "pending", 1)
	letPass(t, dir, 48*time.Hour, 11)
	told := watch.wait("the news", ofType("endpoint.paused"))
	if told.event.Data.Endpoint.ID != id {
		t.Errorf("%s", told.body)
	}
	e, err := s.Operator.Endpoint(t.Context(), id)
	if err != nil || e.Status != keystile.EndpointPaused || e.StatusReason == "" {
		t.Fatalf("after three days: %+v, %v", e, err)
	}
	log, err := s.Operator.Audit(t.Context(), s.Workspace, keystile.ListAudit{Object: id, Action: "endpoint.paused"})
	if err != nil || len(log.Data) != 1 || log.Data[0].Actor.Kind != "system" {
		t.Errorf("%+v, %v", log, err)
	}
	settled(t, s, id, "failed", 2)
	if a := alert("open"); a.Stage != "paused" || a.DueAt == nil {
		t.Errorf("after three days: %+v", a)
	}
	watch.wait("the alert again", func(r received) bool {
		return r.event.Type == "endpoint.failing" && r.event.Data.Alert.Stage == "paused"
	})

	// Resumed, it begins anew, and what was given up can be had.
	status.Store(200)
	if e, err = s.Operator.ResumeEndpoint(t.Context(), id); err != nil || e.FailingSince != nil {
		t.Fatalf("%+v, %v", e, err)
	}
	if n, err := s.Operator.ReplayEvents(t.Context(), id, keystile.ReplayEvents{Since: time.Now().Add(-time.Hour)}); err != nil || n.Deliveries != 2 {
		t.Fatalf("%+v, %v", n, err)
	}
	settled(t, s, id, "delivered", 2)
	if a := alert("closed"); a.EndpointID != id || a.ClosedAt == nil {
		t.Errorf("%+v", a)
	}
}
