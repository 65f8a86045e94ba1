package keyring_test

import (
	"context"
	"database/sql"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to look into the database
	_ "modernc.org/sqlite"             // as above

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

const day = 24 * time.Hour

// begin is the first instant of every test here.
var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clocked is a keyring whose clock the test moves.
type clocked struct {
	*keyring.Keyring

	t         *testing.T
	options   store.Options
	store     *store.Store
	workspace string

	mu  sync.Mutex
	now time.Time
}

const alertProfile = `product: Test
prefix: tt
environments: [{name: production, rotate_every: 90d}, {name: development}]
keys: {idle_after: 60d}
`

// eachDatabase runs a test on both databases.
func eachDatabase(t *testing.T, test func(t *testing.T, o store.Options)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, store.Options{Dir: t.TempDir()}) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, store.Options{URL: pgtest.New(t)}) })
}

func newClocked(t *testing.T, o store.Options, text string) *clocked {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &clocked{t: t, options: o, store: s, now: begin}
	c.use(text)
	w, _, err := c.CreateWorkspace(t.Context(), operator(), keystile.CreateWorkspace{Name: "Acme"}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	c.workspace = w.ID
	return c
}

// use starts the keyring with a profile, as a server does.
func (c *clocked) use(text string) {
	c.t.Helper()
	p, err := profile.Parse("test", []byte(text))
	if err != nil {
		c.t.Fatal(err)
	}
	c.Keyring = keyring.New(c.store, p, func(context.Context, int64, bool) (bool, []keystile.Unreached, error) { return false, nil, nil })
	c.SetNow(c.time)
	if _, _, err := c.Start(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clocked) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// at moves the clock to so long after the beginning, and lets the background
// loops run until they find nothing more.
func (c *clocked) at(d time.Duration) *clocked {
	c.t.Helper()
	c.mu.Lock()
	c.now = begin.Add(d)
	c.mu.Unlock()
	for _, step := range []func(context.Context) (int, error){c.ExpireKeys, c.ExpireWebhookSecrets, c.WatchKeys, c.WatchWebhookSecrets} {
		for range 1000 {
			n, err := step(c.t.Context())
			if err != nil {
				c.t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
	}
	if err := c.WatchFailures(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return c
}

func (c *clocked) key(k keystile.CreateKey) keystile.Key {
	c.t.Helper()
	if k.Name == "" {
		k.Name = "a"
	}
	made, _, err := c.CreateKey(c.t.Context(), operator(), c.workspace, k, keyring.Idempotency{})
	if err != nil {
		c.t.Fatal(err)
	}
	return made.Key
}

// used flushes a use of a key at the present.
func (c *clocked) used(k keystile.Key, code keystile.Code, n int64, from string) {
	c.t.Helper()
	address, _ := netip.ParseAddr(from) //nolint:errcheck // none is fine
	now := c.time()
	if _, err := c.FlushUses(c.t.Context(), []verify.Use{{
		KeyID: k.ID, WorkspaceID: k.WorkspaceID, Code: code, Address: address, UserAgent: "till/7", Count: n, First: now, Last: now,
	}}); err != nil {
		c.t.Fatal(err)
	}
}

// alerts lists the open alerts as type/stage, sorted.
func (c *clocked) alerts() []keystile.Alert {
	c.t.Helper()
	l, err := c.Alerts(c.t.Context(), operator(), c.workspace, keyring.AlertQuery{})
	if err != nil {
		c.t.Fatal(err)
	}
	return l.Data
}

// open expects exactly these open alerts, as type/stage.
func (c *clocked) open(want ...string) *clocked {
	c.t.Helper()
	got := []string{}
	for _, a := range c.alerts() {
		got = append(got, strings.TrimSuffix(string(a.Type)+"/"+a.Stage, "/"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("%v after the beginning: open are %q, want %q", c.time().Sub(begin), got, want)
	}
	return c
}

func (c *clocked) database() *sql.DB {
	c.t.Helper()
	driver, source := "pgx", c.options.URL
	if source == "" {
		driver, source = "sqlite", "file:"+filepath.Join(c.options.Dir, "keystile.db")+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = db.Close() })
	return db
}

// events expects so many events of a type.
func (c *clocked) events(kind string, want int) {
	c.t.Helper()
	var n int
	if err := c.database().QueryRowContext(c.t.Context(), `SELECT COUNT(*) FROM events WHERE type = $1`, kind).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	if n != want {
		c.t.Errorf("%d events %s, want %d", n, kind, want)
	}
}

// TestAlertsOfKeys: what comes due of a key opens one alert, which moves on by
// stages that are told once each, and closes when its cause is gone (IP10, VQ9).
func TestAlertsOfKeys(t *testing.T) {
	eachDatabase(t, func(t *testing.T, o store.Options) {
		for _, test := range []struct {
			name string
			run  func(c *clocked)
		}{
			{"Expiring", alertExpiring},
			{"ExpiringShortLived", alertShortLived},
			{"ExpiringShortened", alertShortened},
			{"RotationDueIP10", alertRotation},
			{"IdleVQ9", alertIdle},
			{"StillUsed", alertStillUsed},
			{"StillTried", alertStillTried},
			{"ExposedIP14", alertExposed},
			{"SecretsIP14", alertSecrets},
			{"Deleted", alertDeleted},
			{"ProfileChanged", alertProfileChanged},
			{"Imported", alertManyAtOnce},
		} {
			t.Run(test.name, func(t *testing.T) {
				own := o
				if own.Dir != "" {
					own.Dir = t.TempDir()
				} else {
					own.URL = pgtest.New(t)
				}
				test.run(newClocked(t, own, alertProfile))
			})
		}
	})
}

func alertExpiring(c *clocked) {
	end := begin.Add(40 * day)
	c.key(keystile.CreateKey{Environment: "development", ExpiresAt: &end})
	c.at(0).open()
	c.at(10*day - time.Millisecond).open()
	c.at(10 * day).open("key.expiring/30d")
	c.at(11 * day).open("key.expiring/30d")
	c.at(33 * day).open("key.expiring/7d")
	c.at(39*day + time.Hour).open("key.expiring/1d")
	c.at(40*day - time.Minute).open("key.expiring/1d")
	c.at(40 * day).open("key.expired")
	c.events("key.expiring", 3)
	c.events("key.expired", 1)
	c.at(47 * day).open()
	c.events("key.expired", 1)
	closed, err := c.Alerts(c.t.Context(), operator(), c.workspace, keyring.AlertQuery{State: "closed"})
	if err != nil || len(closed.Data) != 2 || closed.Data[0].State != "closed" || closed.Data[0].ClosedAt == nil {
		c.t.Errorf("closed: %+v, %v", closed.Data, err)
	}
}

// A key that never had so long to live is not told of: a program that makes
// one for each of its runs would drown everything else.
func alertShortLived(c *clocked) {
	hour, week := begin.Add(time.Hour), begin.Add(7*day+time.Hour)
	c.key(keystile.CreateKey{Environment: "development", ExpiresAt: &hour})
	c.at(2 * time.Hour).open()
	c.key(keystile.CreateKey{Environment: "development", ExpiresAt: &week})
	c.at(3 * time.Hour).open()
	c.at(6*day + 2*time.Hour).open("key.expiring/1d")
}

func alertShortened(c *clocked) {
	k := c.key(keystile.CreateKey{Environment: "development"})
	c.at(50 * day)
	end := begin.Add(55 * day)
	if _, err := c.UpdateKey(c.t.Context(), operator(), k.ID, keystile.KeyPatch{ExpiresAt: &end}); err != nil {
		c.t.Fatal(err)
	}
	c.open("key.expiring/7d")
	c.events("key.expiring", 1)
}

func alertRotation(c *clocked) {
	k := c.key(keystile.CreateKey{})
	c.at(50 * day)
	c.used(k, keystile.CodeValid, 1, "192.0.2.1")
	c.at(76*day - time.Second).open()
	c.at(76 * day).open("key.rotation_due/due")
	if a := c.alerts()[0]; a.KeyID != k.ID || a.KeyName != "a" || a.DueAt == nil || !a.DueAt.Equal(begin.Add(90*day)) {
		c.t.Errorf("%+v", a)
	}
	c.at(90 * day).open("key.rotation_due/overdue")
	c.at(91 * day).open("key.rotation_due/overdue")
	c.events("key.rotation_due", 2)
	fresh, _, err := c.RotateKey(c.t.Context(), operator(), k.ID, keystile.RotateKey{}, keyring.Idempotency{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.open() // at once
	c.at(92 * day).open()
	// Without its replacement it is overdue again.
	if _, err := c.RevokeKey(c.t.Context(), operator(), fresh.Key.ID, keystile.RevokeKey{}); err != nil {
		c.t.Fatal(err)
	}
	c.at(92 * day).open("key.rotation_due/overdue")
	if _, err := c.RevokeKey(c.t.Context(), operator(), k.ID, keystile.RevokeKey{}); err != nil {
		c.t.Fatal(err)
	}
	c.open()
}

func alertIdle(c *clocked) {
	k := c.key(keystile.CreateKey{Environment: "development"})
	c.at(30 * day)
	c.used(k, keystile.CodeValid, 1, "192.0.2.1")
	c.at(90 * day).open()
	c.at(90*day + time.Second).open("key.idle")
	c.at(95 * day).open("key.idle")
	c.events("key.idle", 1)
	c.used(k, keystile.CodeValid, 1, "192.0.2.1")
	c.at(95*day + time.Second).open()
	c.at(154 * day).open()
	c.at(156 * day).open("key.idle")
	if _, err := c.DisableKey(c.t.Context(), operator(), k.ID, keystile.DisableKey{}); err != nil {
		c.t.Fatal(err)
	}
	c.open()
	c.events("key.idle", 2)
}

func alertStillUsed(c *clocked) {
	moved, late := c.key(keystile.CreateKey{Name: "moved"}), c.key(keystile.CreateKey{Name: "late"})
	for _, k := range []keystile.Key{moved, late} {
		if _, _, err := c.RotateKey(c.t.Context(), operator(), k.ID, keystile.RotateKey{Overlap: "8h"}, keyring.Idempotency{}); err != nil {
			c.t.Fatal(err)
		}
	}
	c.at(3 * time.Hour).open()
	c.used(moved, keystile.CodeValid, 1, "192.0.2.1")
	c.at(5 * time.Hour).open()
	c.used(late, keystile.CodeValid, 1, "192.0.2.9")
	c.at(6 * time.Hour).open("key.still_used")
	a := c.alerts()[0]
	if a.KeyID != late.ID || len(a.Sources) != 1 || a.Sources[0].Address != "192.0.2.9" || !a.DueAt.Equal(begin.Add(8*time.Hour)) {
		c.t.Errorf("%+v", a)
	}
	// The other one is used once more, by something that runs seldom.
	c.used(moved, keystile.CodeValid, 1, "192.0.2.7")
	c.at(7*time.Hour).open("key.still_used", "key.still_used")
	c.events("key.still_used", 2)
	c.at(8 * time.Hour).open()
}

func alertStillTried(c *clocked) {
	k := c.key(keystile.CreateKey{Environment: "development"})
	c.used(k, keystile.CodeValid, 1, "192.0.2.1")
	c.at(day)
	if _, err := c.RevokeKey(c.t.Context(), operator(), k.ID, keystile.RevokeKey{}); err != nil {
		c.t.Fatal(err)
	}
	c.open()
	// What has not heard of it yet is no cause.
	c.at(day + 9*time.Minute)
	c.used(k, keystile.CodeRevoked, 1, "192.0.2.9")
	c.at(day + 10*time.Minute).open()
	c.at(day + 11*time.Minute)
	c.used(k, keystile.CodeRevoked, 1, "192.0.2.9")
	c.at(day + 12*time.Minute).open() // nor somebody who looks
	c.used(k, keystile.CodeRevoked, 1, "192.0.2.9")
	c.at(day + 13*time.Minute).open("key.still_tried")
	if s := c.alerts()[0].Sources; len(s) != 1 || s[0].Address != "192.0.2.9" || s[0].Count != 3 || s[0].UserAgent != "till/7" {
		c.t.Errorf("%+v", s)
	}
	// Others go on; the alert knows within ten minutes, and tells nobody again.
	c.used(k, keystile.CodeRevoked, 1, "192.0.2.10")
	c.at(day + 14*time.Minute).open("key.still_tried")
	c.at(day + 30*time.Minute)
	if s := c.alerts()[0].Sources; len(s) != 2 || s[0].Address != "192.0.2.10" && s[1].Address != "192.0.2.10" {
		c.t.Errorf("%+v", s)
	}
	c.events("key.still_tried", 1)
	c.at(2*day + 11*time.Minute).open("key.still_tried")
	c.at(2*day + 14*time.Minute).open()
	// And again, days later.
	c.at(9 * day)
	c.used(k, keystile.CodeRevoked, 1, "192.0.2.10")
	c.at(9*day + time.Second).open("key.still_tried")
	c.events("key.still_tried", 2)
}

func alertExposed(c *clocked) {
	k := c.key(keystile.CreateKey{})
	if _, err := c.RevokeKeys(c.t.Context(), operator(), c.workspace, []string{k.ID}, keystile.RevokeKey{Reason: keystile.ReasonExposureSuspected}); err != nil {
		c.t.Fatal(err)
	}
	c.open("key.exposed") // at once
	c.events("key.exposed", 1)
	// Whoever tries it now may be who has it: the first time counts.
	c.used(k, keystile.CodeRevoked, 1, "192.0.2.66")
	c.at(time.Minute).open("key.exposed", "key.still_tried")
	c.at(6 * day).open("key.exposed")
	c.at(7 * day).open()
}

// What comes due of a webhook secret is told of as with keys.
func alertSecrets(c *clocked) {
	t := c.t
	if _, err := c.UnlockSecrets(t.Context(), seal.Source{File: filepath.Join(t.TempDir(), "master.key")}, true); err != nil {
		t.Fatal(err)
	}
	create := func(in keystile.CreateWebhookSecret) string {
		t.Helper()
		made, _, err := c.CreateWebhookSecret(t.Context(), operator(), c.workspace, in, keyring.Idempotency{})
		if err != nil {
			t.Fatal(err)
		}
		return made.WebhookSecret.ID
	}
	end := begin.Add(40 * day)
	old := create(keystile.CreateWebhookSecret{Label: "Shop", Environment: "development", ExpiresAt: &end})
	c.at(0).open()
	c.at(10 * day).open("webhook_secret.expiring/30d")
	if a := c.alerts()[0]; a.WebhookSecretID != old || a.WebhookSecretLabel != "Shop" || a.KeyID != "" || !a.DueAt.Equal(end) {
		t.Errorf("%+v", a)
	}
	c.at(33 * day).open("webhook_secret.expiring/7d")
	// Replaced, it may end; without its replacement it may not.
	fresh, _, err := c.RotateWebhookSecret(t.Context(), operator(), old, keystile.RotateWebhookSecret{}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	c.open() // at once
	if _, err := c.RevokeWebhookSecret(t.Context(), operator(), fresh.WebhookSecret.ID, keystile.RevokeWebhookSecret{Rollback: true}); err != nil {
		t.Fatal(err)
	}
	c.at(33*day + time.Second).open("webhook_secret.expiring/7d")
	c.at(39 * day).open("webhook_secret.expiring/1d")
	c.at(40 * day).open("webhook_secret.expired")
	c.events("webhook_secret.expiring", 4)
	c.events("webhook_secret.expired", 1)
	c.at(47 * day).open()
	// The environment recommends 90 days.
	aged := create(keystile.CreateWebhookSecret{Label: "Old", Environment: "production"})
	c.at(47*day + 76*day).open("webhook_secret.rotation_due/due")
	c.at(47*day + 90*day).open("webhook_secret.rotation_due/overdue")
	c.events("webhook_secret.rotation_due", 2)
	if _, err := c.RevokeWebhookSecret(t.Context(), operator(), aged, keystile.RevokeWebhookSecret{Reason: keystile.ReasonExposureSuspected}); err != nil {
		t.Fatal(err)
	}
	c.open("webhook_secret.exposed") // at once
	c.events("webhook_secret.exposed", 1)
	c.at(140 * day).open("webhook_secret.exposed")
	c.at(145 * day).open()
	// What goes takes its alerts along, an endpoint those of its secrets.
	gone := create(keystile.CreateWebhookSecret{Label: "Gone", Environment: "development"})
	made, _, err := c.CreateEndpoint(t.Context(), operator(), c.workspace, keystile.CreateEndpoint{URL: "https://example.com/", EventTypes: []string{"*"}}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{gone, made.WebhookSecret.ID} {
		if _, err := c.RevokeWebhookSecret(t.Context(), operator(), id, keystile.RevokeWebhookSecret{Reason: keystile.ReasonExposureSuspected}); err != nil {
			t.Fatal(err)
		}
	}
	c.open("webhook_secret.exposed", "webhook_secret.exposed")
	if err := c.DeleteWebhookSecret(t.Context(), operator(), gone); err != nil {
		t.Fatal(err)
	}
	c.open("webhook_secret.exposed")
	if err := c.DeleteEndpoint(t.Context(), operator(), made.Endpoint.ID); err != nil {
		t.Fatal(err)
	}
	c.open()
}

// TestSpikeWords: the text of a spike names its cause where the outcomes tell.
func TestSpikeWords(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]keystile.AuthFailure{
		"Somebody guesses": {Total: 9, Codes: map[keystile.Code]int64{keystile.CodeUnknown: 9}},
		"All were of the one key key_1, which has ended": {Total: 9, Codes: map[keystile.Code]int64{keystile.CodeRevoked: 9},
			Keys: []keystile.AuthFailureCount{{KeyID: "key_1", Count: 9}}},
		"All were of keys that have ended": {Total: 9, Codes: map[keystile.Code]int64{keystile.CodeRevoked: 5, keystile.CodeDisabled: 4},
			Keys: []keystile.AuthFailureCount{{KeyID: "key_1", Count: 5}, {KeyID: "key_2", Count: 4}}},
		"All were of the one key key_1, from addresses": {Total: 9, Codes: map[keystile.Code]int64{keystile.CodeIPNotAllowed: 9},
			Keys: []keystile.AuthFailureCount{{KeyID: "key_1", Count: 9}}},
		"The workspace is suspended": {Total: 9, Codes: map[keystile.Code]int64{keystile.CodeWorkspaceSuspended: 9},
			Keys: []keystile.AuthFailureCount{{KeyID: "key_1", Count: 9}}},
	} {
		text := keyring.AlertText(keystile.Alert{Type: keystile.AlertAuthFailures, AlertFacts: keystile.AlertFacts{Failures: &f}}).String()
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}

func alertDeleted(c *clocked) {
	k := c.key(keystile.CreateKey{})
	c.at(100*day).open("key.rotation_due/overdue", "key.idle")
	if err := c.DeleteKey(c.t.Context(), operator(), k.ID); err != nil {
		c.t.Fatal(err)
	}
	c.open()
	k = c.key(keystile.CreateKey{})
	c.at(200*day).open("key.rotation_due/overdue", "key.idle")
	if err := c.DeleteWorkspace(c.t.Context(), operator(), c.workspace); err != nil {
		c.t.Fatal(err)
	}
	c.used(k, keystile.CodeRevoked, 1000, "192.0.2.1")
	c.at(200 * day)
}

// What the profile says can change from one start to the next.
func alertProfileChanged(c *clocked) {
	for range 150 { // more than one step takes
		c.key(keystile.CreateKey{Environment: "development"})
	}
	c.at(20 * day).open()
	c.use(strings.Replace(alertProfile, "development", "development, rotate_every: 30d", 1))
	c.at(20 * day)
	l, err := c.Alerts(c.t.Context(), operator(), c.workspace, keyring.AlertQuery{Limit: keyring.MaxLimit})
	if err != nil || len(l.Data) != 150 || l.Data[0].Stage != "due" {
		c.t.Errorf("%d alerts, %v", len(l.Data), err)
	}
	c.use(alertProfile)
	c.at(20*day + time.Second).open()
}

// Several nodes find the same at once; each alert is there and told of once.
func alertManyAtOnce(c *clocked) {
	const keys = 250
	for range keys {
		c.key(keystile.CreateKey{Environment: "development"})
	}
	c.mu.Lock()
	c.now = begin.Add(61 * day)
	c.mu.Unlock()
	var nodes sync.WaitGroup
	for range 4 {
		nodes.Go(func() {
			for range 1000 {
				n, err := c.WatchKeys(c.t.Context())
				if err != nil {
					c.t.Error(err)
				}
				if n == 0 || err != nil {
					return
				}
			}
		})
	}
	nodes.Wait()
	c.events("key.idle", keys)
	if n, err := c.UnseenAlerts(c.t.Context(), operator(), c.workspace); err != nil || n != keyring.MostUnseen {
		c.t.Errorf("%d unseen, %v", n, err)
	}
	seen := map[string]bool{}
	for cursor := ""; ; {
		l, err := c.Alerts(c.t.Context(), operator(), c.workspace, keyring.AlertQuery{Cursor: cursor, Limit: 100})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, a := range l.Data {
			if seen[a.KeyID] {
				c.t.Errorf("two alerts about %s", a.KeyID)
			}
			seen[a.KeyID] = true
		}
		if cursor = l.NextCursor; cursor == "" {
			break
		}
	}
	if len(seen) != keys {
		c.t.Errorf("%d alerts, want %d", len(seen), keys)
	}
	// The next look is two months away: nothing is due.
	var due int
	if err := c.database().QueryRowContext(c.t.Context(), `SELECT COUNT(*) FROM keys WHERE look_at >= 0 AND look_at <= $1`, c.time().UnixMilli()).Scan(&due); err != nil || due != 0 {
		c.t.Errorf("%d keys are due, %v", due, err)
	}
}

// TestAlertsAgreeWithHygiene: the page of findings and the alerts never tell
// two stories about a key, whatever its age, use and end.
func TestAlertsAgreeWithHygiene(t *testing.T) {
	eachDatabase(t, func(t *testing.T, o store.Options) {
		c := newClocked(t, o, alertProfile)
		for i := range 30 {
			k := keystile.CreateKey{Name: strconv.Itoa(i), Environment: []string{"production", "development"}[i%2]}
			if i%3 == 0 {
				end := begin.Add(time.Duration(i) * 7 * day)
				k.ExpiresAt = &end
			}
			if i == 0 {
				k.ExpiresAt = nil
			}
			made := c.key(k)
			if i%5 == 1 {
				if _, _, err := c.RotateKey(t.Context(), operator(), made.ID, keystile.RotateKey{}, keyring.Idempotency{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		kinds := map[keyring.Finding]string{
			keyring.FindingOverdue: "key.rotation_due/overdue", keyring.FindingDue: "key.rotation_due/due", keyring.FindingIdle: "key.idle/",
		}
		seen := map[string]bool{}
		for at := time.Duration(0); at <= 210*day; at += 7*day + 5*time.Hour {
			c.at(at)
			told := map[string][]string{}
			for _, a := range c.everything() {
				name := string(a.Type) + "/" + a.Stage
				told[name], seen[name] = append(told[name], a.KeyID), true
			}
			find := func(kind keyring.Finding) (ids []string) {
				l, err := c.Findings(t.Context(), operator(), c.workspace, kind, "", keyring.MaxLimit)
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range l.Data {
					ids = append(ids, k.ID)
				}
				slices.Sort(ids)
				return ids
			}
			for kind, name := range kinds {
				slices.Sort(told[name])
				if found := find(kind); !slices.Equal(found, told[name]) {
					t.Errorf("after %v: findings %s are %v, alerts %s about %v", at, kind, found, name, told[name])
				}
			}
			// What ends within a week ends within two.
			expiring := find(keyring.FindingExpiring)
			for _, stage := range []string{"7d", "1d"} {
				for _, id := range told["key.expiring/"+stage] {
					if !slices.Contains(expiring, id) {
						t.Errorf("after %v: %s is told of and not found", at, id)
					}
				}
			}
		}
		for _, name := range []string{"key.rotation_due/overdue", "key.rotation_due/due", "key.idle/", "key.expiring/30d", "key.expiring/7d", "key.expired/"} {
			if !seen[name] {
				t.Errorf("no alert was %s", name)
			}
		}
	})
}

// everything lists all open alerts.
func (c *clocked) everything() (all []keystile.Alert) {
	c.t.Helper()
	for cursor := ""; ; {
		l, err := c.Alerts(c.t.Context(), operator(), c.workspace, keyring.AlertQuery{Cursor: cursor, Limit: keyring.MaxLimit})
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, l.Data...)
		if cursor = l.NextCursor; cursor == "" {
			return all
		}
	}
}
