package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

func deliveryBehaviours() []behaviour {
	return []behaviour{{"Endpoint", endpointRow}, {"Claims", claims}, {"RetainDeliveries", retainDeliveries}}
}

func endpoint(ws string, n int) store.Endpoint {
	return store.Endpoint{
		Endpoint: keystile.Endpoint{
			ID: id("ep_", n), WorkspaceID: ws, URL: "https://example.com/", Description: "d", EventTypes: []string{"key.*"},
			Status: keystile.EndpointActive, AllowRanges: []string{"10.0.0.0/8"}, CreatedAt: noon, UpdatedAt: noon,
			CreatedBy: keystile.Party{Kind: "key", ID: keyID(1), Name: "Key"},
		},
		Sees: keystile.Permissions{"api.key.view"},
	}
}

func event(ws string, n int) store.Event {
	return store.Event{ID: id("evt_", n), WorkspaceID: ws, Type: "key.created", ObjectID: keyID(1), At: noon.Add(time.Duration(n) * time.Second), Data: map[string]any{"n": n}}
}

// delivery is of the event of that number to the endpoint of that number.
func delivery(ws string, n, ev, ep int) store.Delivery {
	d := store.Delivery{ObjectID: keyID(1)}
	d.ID, d.WorkspaceID, d.EventID, d.EndpointID = id("dlv_", n), ws, id("evt_", ev), id("ep_", ep)
	d.EventAt, d.CreatedAt = noon.Add(time.Duration(ev)*time.Second), noon
	return d
}

// addDeliveries adds an endpoint of acme with one failed delivery, which has
// an attempt.
func addDeliveries(tx *store.Tx) error {
	err := errors.Join(tx.InsertEndpoint(endpoint(acme, 1)), tx.InsertEvent(event(acme, 1)), tx.InsertDeliveries([]store.Delivery{delivery(acme, 1, 1, 1)}))
	if err == nil {
		_, err = tx.RecordTried([]store.Tried{{DeliveryID: id("dlv_", 1), EndpointID: id("ep_", 1), Number: 1, Attempt: keystile.Attempt{At: noon, Status: 500, Body: "no"}}}, noon)
	}
	return err
}

// accepted notes that a delivery to the first endpoint was accepted.
func accepted(tx *store.Tx, delivery int, at time.Time) error {
	_, err := tx.RecordTried([]store.Tried{{DeliveryID: id("dlv_", delivery), EndpointID: id("ep_", 1), Number: 1, Delivered: true}}, at)
	return err
}

// endpointRow: an endpoint is read as it was written, and an event waits only
// where there is one.
func endpointRow(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	e := endpoint(acme, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertEvent(event(acme, 1)), tx.InsertEndpoint(e), tx.InsertEvent(event(acme, 2)), tx.InsertEvent(event(other, 3)))
	})
	waiting := get(t, f.Store, func(tx *store.Tx) ([]store.Event, error) { return tx.PendingEvents(9) })
	if len(waiting) != 1 || waiting[0].ID != id("evt_", 2) || waiting[0].ObjectID != keyID(1) || !waiting[0].At.Equal(noon.Add(2*time.Second)) {
		t.Errorf("waiting: %+v", waiting)
	}
	read := func() store.Endpoint {
		t.Helper()
		return get(t, f.Store, func(tx *store.Tx) (store.Endpoint, error) { return tx.Endpoint(all(), e.ID) })
	}
	if got := read(); fmt.Sprint(got) != fmt.Sprint(e) {
		t.Errorf("read %+v, written %+v", got, e)
	}
	for _, status := range []keystile.EndpointStatus{keystile.EndpointPaused, keystile.EndpointDisabled, keystile.EndpointActive} {
		e.Status, e.StatusReason, e.URL, e.Description = status, "because", "http://other.example/", ""
		e.EventTypes, e.AllowRanges, e.Sees, e.FailingSince = []string{"*"}, nil, keystile.Permissions{"a", "b"}, at(noon)
		write(t, f.Store, func(tx *store.Tx) error { return tx.UpdateEndpoint(all(), e, time.Time{}) })
		got := read()
		e.AllowRanges, e.FailingSince, got.FailingSince = got.AllowRanges, nil, nil
		if fmt.Sprint(got) != fmt.Sprint(e) || len(e.AllowRanges) != 0 {
			t.Errorf("read %+v, written %+v", got, e)
		}
	}
	for i := 2; i < 5; i++ {
		write(t, f.Store, func(tx *store.Tx) error { return tx.InsertEndpoint(endpoint(acme, i)) })
	}
	list := get(t, f.Store, func(tx *store.Tx) ([]store.Endpoint, error) { return tx.Endpoints(all(), acme, id("ep_", 4), 2) })
	if len(list) != 2 || list[0].ID != id("ep_", 3) || list[1].ID != id("ep_", 2) {
		t.Errorf("a page: %+v", list)
	}
}

// claims: one node at a time has an endpoint, until it lets go of it or is
// silent for too long; an endpoint that is not active, or has nothing to send,
// is nobody's.
func claims(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	now := noon.Add(time.Hour)
	write(t, f.Store, func(tx *store.Tx) error {
		for n := 1; n <= 3; n++ {
			if err := tx.InsertEndpoint(endpoint(acme, n)); err != nil {
				return err
			}
		}
		return errors.Join(tx.InsertEvent(event(acme, 1)), tx.InsertEvent(event(acme, 2)),
			tx.InsertDeliveries([]store.Delivery{delivery(acme, 1, 1, 1), delivery(acme, 2, 1, 2), delivery(acme, 3, 2, 1)}),
			tx.EndpointsDue([]string{id("ep_", 1), id("ep_", 2)}, noon))
	})
	claim := func(node string, at time.Time) (ids []string) {
		t.Helper()
		write(t, f.Store, func(tx *store.Tx) (err error) {
			ids, err = tx.ClaimEndpoints(node, nil, at, at.Add(time.Minute), 9)
			return err
		})
		return ids
	}
	waiting := func(node string, at time.Time) bool {
		t.Helper()
		return get(t, f.Store, func(tx *store.Tx) (bool, error) { return tx.Waiting(node, at) })
	}
	write(t, f.Store, func(tx *store.Tx) error { return tx.HandedOn([]string{id("evt_", 1), id("evt_", 2)}) })
	for _, step := range []struct {
		what string
		got  any
		want any
	}{
		{"before it is due", claim("a", noon.Add(-time.Second)), []string(nil)},
		{"there is something to do", waiting("a", now), true},
		{"the first", claim("a", now), []string{id("ep_", 1), id("ep_", 2)}},
		{"the first again", claim("a", now), []string(nil)},
		{"the second", claim("b", now), []string(nil)},
		{"nothing for the second", waiting("b", now), false},
		{"nothing more for the first", waiting("a", now), false},
		{"the second, when the first is silent", claim("b", now.Add(2*time.Minute)), []string{id("ep_", 1), id("ep_", 2)}},
	} {
		if fmt.Sprint(step.got) != fmt.Sprint(step.want) {
			t.Errorf("%s: %v, want %v", step.what, step.got, step.want)
		}
	}
	held := func(node string) (n int) {
		return len(get(t, f.Store, func(tx *store.Tx) ([]store.Endpoint, error) { return tx.ClaimedEndpoints(node) }))
	}
	if held("a") != 0 || held("b") != 2 {
		t.Errorf("a has %d, b has %d", held("a"), held("b"))
	}
	due := get(t, f.Store, func(tx *store.Tx) ([]store.Delivery, error) { return tx.DueDeliveries(id("ep_", 1), now, 9) })
	if len(due) != 2 || due[0].ID != id("dlv_", 1) || due[1].ID != id("dlv_", 3) || string(due[0].Data) != `{"n":1}` || due[0].EventType != "key.created" {
		t.Errorf("due: %+v", due)
	}
	// One is delivered, one is to be tried again later.
	later := now.Add(time.Hour)
	write(t, f.Store, func(tx *store.Tx) error {
		recovered, err := tx.RecordTried([]store.Tried{
			{DeliveryID: id("dlv_", 1), EndpointID: id("ep_", 1), Number: 1, Attempt: keystile.Attempt{At: now, Status: 200}, Delivered: true},
			{DeliveryID: id("dlv_", 3), EndpointID: id("ep_", 1), Number: 1, Attempt: keystile.Attempt{At: now, Error: "no"}, Next: later},
			{DeliveryID: id("dlv_", 2), EndpointID: id("ep_", 2), Number: 1, Attempt: keystile.Attempt{At: now, Error: "no"}, Next: later},
			{DeliveryID: id("dlv_", 9), EndpointID: id("ep_", 9), Number: 1, Attempt: keystile.Attempt{At: now}, Delivered: true}, // deleted meanwhile
		}, now)
		if recovered != nil {
			t.Errorf("recovered, and were not failing: %v", recovered)
		}
		return errors.Join(err, tx.ReleaseEndpoints("a", []string{id("ep_", 1)}), tx.ReleaseEndpoints("b", []string{id("ep_", 1), id("ep_", 2)}))
	})
	if got := claim("a", now.Add(time.Minute)); got != nil {
		t.Errorf("claimed before the time: %v", got)
	}
	for n, failing := range map[int]bool{1: false, 2: true} {
		if e := get(t, f.Store, func(tx *store.Tx) (store.Endpoint, error) { return tx.Endpoint(all(), id("ep_", n)) }); (e.FailingSince != nil) != failing {
			t.Errorf("endpoint %d fails since %v", n, e.FailingSince)
		}
	}
	stopped := endpoint(acme, 2)
	stopped.Status = keystile.EndpointPaused
	write(t, f.Store, func(tx *store.Tx) error { return tx.UpdateEndpoint(all(), stopped, time.Time{}) })
	if got := claim("a", later); fmt.Sprint(got) != fmt.Sprint([]string{id("ep_", 1)}) {
		t.Errorf("claimed at the time: %v", got)
	}
	// The same outcome written twice, and one that comes late, change nothing.
	for range 2 {
		write(t, f.Store, func(tx *store.Tx) error {
			_, err := tx.RecordTried([]store.Tried{{DeliveryID: id("dlv_", 3), EndpointID: id("ep_", 1), Number: 2, Attempt: keystile.Attempt{At: later, Error: "no"}}}, later)
			return err
		})
	}
	d := get(t, f.Store, func(tx *store.Tx) (store.Delivery, error) { return tx.Delivery(all(), id("dlv_", 3)) })
	if d.Attempts != 2 || d.Status != keystile.DeliveryFailed || d.NextAt != nil {
		t.Errorf("%+v", d)
	}
	if log := get(t, f.Store, func(tx *store.Tx) ([]keystile.Attempt, error) { return tx.Attempts(all(), d.ID, 9) }); len(log) != 2 || !log[0].At.Equal(later) {
		t.Errorf("%+v", log)
	}
	write(t, f.Store, func(tx *store.Tx) error { return tx.ReleaseAll() })
	if held("a") != 0 {
		t.Error("a claim was left")
	}
}

// retainDeliveries: deliveries go with their event, attempts with their
// delivery, and what an endpoint leaves behind when it is deleted in steps.
func retainDeliveries(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	write(t, f.Store, func(tx *store.Tx) error {
		if err := addDeliveries(tx); err != nil {
			return err
		}
		return errors.Join(tx.InsertEvent(event(acme, 2)), tx.InsertEvent(event(acme, 3)),
			tx.InsertDeliveries([]store.Delivery{delivery(acme, 2, 2, 1), delivery(acme, 3, 3, 1)}),
			accepted(tx, 2, noon))
	})
	count := func(table string) int64 {
		t.Helper()
		return number(t, f.raw(t), `SELECT COUNT(*) FROM `+table)
	}
	expect := func(when string, events, deliveries, attempts int64) {
		t.Helper()
		if e, d, a := count("events"), count("deliveries"), count("attempts"); e != events || d != deliveries || a != attempts {
			t.Errorf("%s: %d events, %d deliveries, %d attempts; want %d, %d, %d", when, e, d, a, events, deliveries, attempts)
		}
	}
	expect("before", 3, 3, 2)
	for {
		var n int64
		write(t, f.Store, func(tx *store.Tx) (err error) {
			n, err = tx.Retain(store.Cutoffs{Events: noon.Add(1500 * time.Millisecond)}, 1)
			return err
		})
		if n == 0 {
			break
		}
	}
	expect("after retention", 2, 2, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		n, err := tx.DeleteDeliveries(id("ep_", 1), 9)
		if n != 0 {
			t.Errorf("%d deliveries of an endpoint that is there were deleted", n)
		}
		return err
	})
	write(t, f.Store, func(tx *store.Tx) error { return tx.DeleteEndpoint(all(), id("ep_", 1)) })
	for _, want := range []int64{1, 1, 0} {
		write(t, f.Store, func(tx *store.Tx) error {
			n, err := tx.DeleteDeliveries(id("ep_", 1), 1)
			if n != want {
				t.Errorf("%d deliveries went at once, want %d", n, want)
			}
			return err
		})
	}
	expect("after the endpoint", 2, 0, 0)
}

// TestRestoreDeliveries: what waited when the backup was made is due after a
// restore, whatever the former store had sent and claimed since; an endpoint
// that was paused since stays paused.
func TestRestoreDeliveries(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addWorkspaces(t, f.Store)
			write(t, f.Store, func(tx *store.Tx) error {
				for n := 1; n <= 2; n++ {
					if err := errors.Join(tx.InsertEndpoint(endpoint(acme, n)), tx.InsertEvent(event(acme, n)),
						tx.InsertDeliveries([]store.Delivery{delivery(acme, n, n, n)}), tx.EndpointsDue([]string{id("ep_", n)}, noon)); err != nil {
						return err
					}
				}
				return errors.Join(tx.HandedOn([]string{id("evt_", 1), id("evt_", 2)}), tx.LogChange(store.ChangeNoop, ""))
			})
			path, _ := backup(t, f.Store)
			later := noon.Add(time.Hour)
			write(t, f.Store, func(tx *store.Tx) error {
				if _, err := tx.ClaimEndpoints("node", nil, later, later.Add(time.Hour), 9); err != nil {
					return err
				}
				paused := endpoint(acme, 2)
				paused.Status, paused.UpdatedAt = keystile.EndpointPaused, later
				return errors.Join(accepted(tx, 1, later),
					tx.ReleaseEndpoints("node", []string{id("ep_", 1)}), tx.UpdateEndpoint(all(), paused, time.Time{}))
			})
			f.restore(t, path)
			var ids []string
			write(t, f.Store, func(tx *store.Tx) (err error) {
				ids, err = tx.ClaimEndpoints("another", nil, later, later.Add(time.Hour), 9)
				return err
			})
			if len(ids) != 1 || ids[0] != id("ep_", 1) {
				t.Errorf("claimed after the restore: %v", ids)
			}
			if e := get(t, f.Store, func(tx *store.Tx) (store.Endpoint, error) { return tx.Endpoint(all(), id("ep_", 2)) }); e.Status != keystile.EndpointPaused {
				t.Errorf("%+v", e)
			}
		})
	}
}
