package keyring_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/store"
)

// TestAlertOfEndpoint: people hear of an endpoint that accepts nothing for half
// an hour, and once more when it is stopped, and the alert closes when something
// is accepted or somebody sees to it.
func TestAlertOfEndpoint(t *testing.T) {
	eachDatabase(t, testAlertOfEndpoint)
}

func testAlertOfEndpoint(t *testing.T, o store.Options) {
	c := newClocked(t, o, alertProfile)
	if _, err := c.UnlockSecrets(t.Context(), seal.Source{File: filepath.Join(t.TempDir(), "master.key")}, true); err != nil {
		t.Fatal(err)
	}
	c.MailAlerts()
	if _, _, err := c.CreateMember(t.Context(), operator(), c.workspace, keystile.CreateMember{
		Person: keystile.Person{Name: "Ada", Email: "ada@example.com", Issuer: "https://id.example", Subject: "ada"}, Role: "admin",
	}, keyring.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.database().ExecContext(t.Context(), `UPDATE members SET status = 'active'`); err != nil {
		t.Fatal(err)
	}
	made, _, err := c.CreateEndpoint(t.Context(), operator(), c.workspace,
		keystile.CreateEndpoint{URL: "https://example.com/hook", EventTypes: []string{"key.*"}}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	id := made.Endpoint.ID
	var delivery string
	number := 0
	fresh := func() {
		t.Helper()
		c.key(keystile.CreateKey{Environment: "development"})
		if _, err := c.Turn(t.Context(), keyring.Turn{Node: "n", Claim: 1}); err != nil {
			t.Fatal(err)
		}
		list, err := c.Deliveries(t.Context(), operator(), id, keystile.DeliveryPending, "", 1)
		if err != nil || len(list.Data) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		delivery, number = list.Data[0].ID, 0
	}
	tried := func(at time.Duration, status int, last bool) {
		t.Helper()
		c.at(at)
		number++
		one := keyring.Tried{Gone: status == 410}
		one.DeliveryID, one.EndpointID, one.Number = delivery, id, number
		one.Attempt = keystile.Attempt{At: c.time(), Status: status, Error: "No.", Body: "what it answered"}
		if one.Delivered = status == 200; !one.Delivered && !one.Gone && !last {
			one.Next = c.time().Add(time.Hour)
		}
		if _, err := c.Turn(t.Context(), keyring.Turn{Node: "n", Tried: []keyring.Tried{one}}); err != nil {
			t.Fatal(err)
		}
	}
	open := func(stage string) {
		t.Helper()
		list, err := c.Alerts(t.Context(), operator(), c.workspace, keyring.AlertQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if stage == "" {
			if len(list.Data) != 0 {
				t.Fatalf("open: %+v", list.Data)
			}
			return
		}
		if len(list.Data) != 1 {
			t.Fatalf("%d are open: %+v", len(list.Data), list.Data)
		}
		a := list.Data[0]
		if a.Type != keystile.AlertEndpointFailing || a.Stage != stage || a.EndpointID != id || a.EndpointURL != "https://example.com/hook" ||
			a.KeyID != "" || a.DueAt == nil || a.LastFailure == nil || a.LastFailure.Body != "" {
			t.Fatalf("%+v", a)
		}
		if keyring.AlertText(a).String() == "" || c.Profile().Word(keyring.AlertWord(a)) == "" {
			t.Errorf("no words for %+v", a)
		}
	}
	mailed := func(stages ...string) {
		t.Helper()
		c.mu.Lock()
		c.now = c.now.Add(2 * time.Minute)
		c.mu.Unlock()
		for _, stage := range stages {
			m, ok, err := c.TakeMail(t.Context())
			if err != nil || !ok || len(m.Alerts) != 1 || m.Alerts[0].Stage != stage || m.Alerts[0].EndpointID != id {
				t.Fatalf("%t, %+v, %v", ok, m, err)
			}
			if err := c.MailSent(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if m, ok, err := c.TakeMail(t.Context()); ok || err != nil {
			t.Fatalf("%+v, %v", m, err)
		}
	}

	// A receiver that is back within half an hour is nothing to tell of.
	fresh()
	tried(0, 500, false)
	tried(5*time.Second, 500, false)
	tried(5*time.Minute, 500, false)
	open("")
	tried(35*time.Minute, 503, false)
	open("failing")
	mailed("failing")
	tried(3*time.Hour, 500, false) // once for each stage
	open("failing")
	mailed()
	tried(8*time.Hour, 200, false)
	open("")

	// Failing until it is paused, which people are told of again.
	fresh()
	for _, at := range []time.Duration{9 * time.Hour, 10 * time.Hour, 11 * time.Hour, 12 * time.Hour} {
		tried(at, 500, false)
	}
	open("failing")
	mailed("failing")
	tried(75*time.Hour, 500, true)
	open("paused")
	mailed("paused")
	if _, err := c.ResumeEndpoint(t.Context(), operator(), id); err != nil {
		t.Fatal(err)
	}
	open("")

	// Gone at once; then paused by a person, which is no alert, and deleted.
	fresh()
	tried(80*time.Hour, 410, false)
	open("disabled")
	mailed("disabled")
	if _, err := c.ResumeEndpoint(t.Context(), operator(), id); err != nil {
		t.Fatal(err)
	}
	open("")
	fresh()
	for _, at := range []time.Duration{81 * time.Hour, 82 * time.Hour, 83 * time.Hour, 84 * time.Hour} {
		tried(at, 500, false)
	}
	open("failing")
	if _, err := c.PauseEndpoint(t.Context(), operator(), id, keystile.PauseEndpoint{}); err != nil {
		t.Fatal(err)
	}
	open("")
	if _, err := c.ResumeEndpoint(t.Context(), operator(), id); err != nil {
		t.Fatal(err)
	}
	tried(86*time.Hour, 500, false)
	tried(87*time.Hour, 500, false)
	open("failing")
	if err := c.DeleteEndpoint(t.Context(), operator(), id); err != nil {
		t.Fatal(err)
	}
	open("")
}
