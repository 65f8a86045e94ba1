package keyring_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// TestSpikesIP11: far more refused keys than usual open one alert, which is
// told of once, brought up to date while they go on, and closes when they end.
func TestSpikesIP11(t *testing.T) {
	eachDatabase(t, func(t *testing.T, o store.Options) {
		c := newClocked(t, o, alertProfile+"alerts: {failure_floor: 20, failure_factor: 4}\n")
		k := c.key(keystile.CreateKey{Environment: "development"})
		other := c.key(keystile.CreateKey{Environment: "development"})
		// A day in which 10 in five minutes are usual.
		for at := time.Duration(0); at < day; at += 5 * time.Minute {
			c.at(at)
			c.used(k, keystile.CodeIPNotAllowed, 10, "192.0.2.1")
		}
		c.open()
		c.at(day)
		c.used(k, keystile.CodeIPNotAllowed, 39, "192.0.2.1")
		c.at(day + time.Minute).open()
		c.used(k, keystile.CodeIPNotAllowed, 1, "192.0.2.1")
		c.at(day + 2*time.Minute).open("auth.failures")
		f := c.alerts()[0].Failures
		if f.Usual != 10 || f.Threshold != 40 || f.Total != 40 || f.Peak != 40 || !f.From.Equal(begin.Add(day)) || f.Window != "5m0s" {
			t.Errorf("%+v", f)
		}
		// It goes on, from elsewhere, with another key.
		c.at(day + 4*time.Minute)
		c.used(other, keystile.CodeDisabled, 100, "2001:db8:1:2:3::4")
		c.used(other, keystile.CodeDisabled, 100, "2001:db8:1:2:ffff::4")
		// This is no failed authentication.
		c.used(other, keystile.CodeInsufficientPermission, 1000, "192.0.2.1")
		c.at(day + 6*time.Minute).open("auth.failures")
		f = c.alerts()[0].Failures
		if f.Total != 240 || f.Peak != 240 || f.Codes[keystile.CodeDisabled] != 200 || f.Codes[keystile.CodeIPNotAllowed] != 40 || len(f.Codes) != 2 {
			t.Errorf("%+v", f)
		}
		if len(f.Sources) != 2 || f.Sources[0] != (keystile.AuthFailureCount{Source: "2001:db8:1:2::/64", Count: 200}) || f.Sources[1].Source != "192.0.2.1" {
			t.Errorf("sources %+v", f.Sources)
		}
		if len(f.Keys) != 2 || f.Keys[0] != (keystile.AuthFailureCount{KeyID: other.ID, Count: 200}) {
			t.Errorf("keys %+v", f.Keys)
		}
		c.at(day + 9*time.Minute).open("auth.failures")
		c.events("auth.failures", 1)
		c.events("auth.failures_ended", 0)
		c.at(day + 10*time.Minute).open()
		c.events("auth.failures", 1)
		c.events("auth.failures_ended", 1)
		// Those of no workspace's keys are the operator's, and nobody else's.
		now := c.time()
		if err := c.FlushMisses(t.Context(), []verify.Miss{
			{Code: keystile.CodeUnknown, Source: verify.Source(netip.MustParseAddr("198.51.100.7")), Count: 30, Last: now},
			{Code: keystile.CodeMalformed, Count: 5, Last: now},
		}); err != nil {
			t.Fatal(err)
		}
		c.at(day + 11*time.Minute).open()
		l, err := c.Alerts(t.Context(), operator(), keyring.OperatorWorkspace, keyring.AlertQuery{})
		if err != nil || len(l.Data) != 1 || l.Data[0].Failures.Total != 35 || len(l.Data[0].Failures.Sources) != 1 || l.Data[0].Failures.Sources[0].Source != "198.51.100.7" {
			t.Errorf("the operator's: %+v, %v", l.Data, err)
		}
		// What is counted goes after a day.
		c.at(3 * day)
		for {
			n, err := c.Retain(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
		for _, table := range []string{"auth_failures", "auth_failure_sources"} {
			var n int
			if err := c.database().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("%d rows left in %s, %v", n, table, err)
			}
		}
	})
}

// TestFailureSourcesAreBounded: whoever tries from very many addresses fills
// no table, and no attempt is lost from the sum.
func TestFailureSourcesAreBounded(t *testing.T) {
	eachDatabase(t, func(t *testing.T, o store.Options) {
		c := newClocked(t, o, alertProfile)
		k := c.key(keystile.CreateKey{})
		total := 0
		for flush := range 6 {
			var uses []verify.Use
			for i := range 150 {
				uses = append(uses, verify.Use{
					KeyID: k.ID, WorkspaceID: k.WorkspaceID, Code: keystile.CodeRevoked, Count: 1, First: c.time(), Last: c.time(),
					Address: netip.AddrFrom4([4]byte{10, 0, byte(flush), byte(i)}),
				})
			}
			total += len(uses)
			if _, err := c.FlushUses(t.Context(), uses); err != nil {
				t.Fatal(err)
			}
		}
		var rows, sum int
		if err := c.database().QueryRowContext(t.Context(), `SELECT COUNT(*), SUM(count) FROM auth_failure_sources`).Scan(&rows, &sum); err != nil {
			t.Fatal(err)
		}
		if rows > 201 || sum != total {
			t.Errorf("%d rows with %d failures, want at most 201 with %d", rows, sum, total)
		}
	})
}

// TestSpikeProperties: whatever comes when, a workspace never has two open
// alerts of failures, each is told of once when it opens and once when it
// closes, and all are closed when nothing has come for two windows.
func TestSpikeProperties(t *testing.T) {
	t.Parallel()
	root, n := t.TempDir(), 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		floor, factor := rapid.IntRange(1, 30).Draw(r, "floor"), rapid.IntRange(2, 5).Draw(r, "factor")
		c := newClocked(t, store.Options{Dir: filepath.Join(root, fmt.Sprint(n))}, alertProfile+
			fmt.Sprintf("alerts: {failure_floor: %d, failure_factor: %d, failure_window: 10m}\n", floor, factor))
		k := c.key(keystile.CreateKey{Environment: "development"})
		all := func() (open, closed int) {
			l, err := c.Alerts(t.Context(), operator(), c.workspace, keyring.AlertQuery{State: "all", Limit: keyring.MaxLimit})
			if err != nil {
				r.Fatal(err)
			}
			for _, a := range l.Data {
				if a.Type != keystile.AlertAuthFailures {
					continue
				}
				if a.ClosedAt == nil {
					open++
				} else {
					closed++
				}
				if f := a.Failures; f.Threshold < int64(min(floor, factor)) || f.Peak > f.Total || f.Total <= 0 {
					r.Fatalf("%+v", f)
				}
			}
			return open, closed
		}
		at, before := time.Duration(0), 0
		for step := range rapid.IntRange(1, 25).Draw(r, "steps") {
			at += time.Duration(rapid.IntRange(0, 1500).Draw(r, "seconds")) * time.Second
			c.at(at)
			if count := rapid.IntRange(0, 80).Draw(r, "failures"); count > 0 {
				c.used(k, keystile.CodeDisabled, int64(count), "192.0.2.1")
				c.at(at)
				// With so little behind it, nothing is usual yet.
				if open, _ := all(); step < 10 && count >= floor && open == 0 {
					r.Fatalf("%d failures opened nothing", count)
				}
			}
			open, closed := all()
			if open > 1 || closed < before {
				r.Fatalf("%d open, %d closed after %d", open, closed, before)
			}
			c.at(at) // looking twice changes nothing
			if again, _ := all(); again != open {
				r.Fatalf("%d open, then %d", open, again)
			}
			before = closed
		}
		c.at(at + 20*time.Minute)
		open, closed := all()
		if open != 0 {
			r.Fatalf("%d are open when all is over", open)
		}
		c.events("auth.failures", closed)
		c.events("auth.failures_ended", closed)
	})
}
