package courier_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/courier"
	"github.com/keystile/keystile/keystiletest"
)

func answering(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// deliveries lists those to an endpoint, oldest first.
func deliveries(t testing.TB, s *keystiletest.Server, endpointID, status string) (all []keystile.Delivery) {
	t.Helper()
	for d, err := range s.Operator.AllDeliveries(t.Context(), endpointID, keystile.ListDeliveries{Status: status, Limit: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append([]keystile.Delivery{d}, all...)
	}
	return all
}

// settled waits until an endpoint has so many deliveries of a status.
func settled(t testing.TB, s *keystiletest.Server, endpointID, status string, n int) []keystile.Delivery {
	t.Helper()
	var all []keystile.Delivery
	eventually(t, fmt.Sprintf("%d deliveries %s", n, status), func() bool {
		all = deliveries(t, s, endpointID, status)
		return len(all) == n
	})
	return all
}

// TestRetry: what was not accepted is sent again, the same byte for byte and
// with the same ID, and Retry-After makes the wait longer.
func TestRetry(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	var n atomic.Int32
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(503)
		}
	})
	made := endpoint(t, s, r.URL, "key.created")
	newKey(t, s, "First")
	r.wait("the first attempt", ofType("key.created"))
	failing := settled(t, s, made.Endpoint.ID, "pending", 1)[0]
	eventually(t, "the outcome is written", func() bool {
		failing = deliveries(t, s, made.Endpoint.ID, "pending")[0]
		return failing.Attempts == 1
	})
	e, err := s.Operator.Endpoint(t.Context(), made.Endpoint.ID)
	if err != nil || e.FailingSince == nil {
		t.Errorf("the endpoint is not failing: %+v, %v", e, err)
	}
	settled(t, s, made.Endpoint.ID, "delivered", 1)
	got := r.all()
	if len(got) != 2 || string(got[0].body) != string(got[1].body) || got[0].header.Get("webhook-id") != got[1].header.Get("webhook-id") {
		t.Fatalf("%d requests: %v", len(got), got)
	}
	if wait := got[1].at.Sub(got[0].at); wait < 6900*time.Millisecond {
		t.Errorf("it was tried again after %s, though the receiver asked for 7 s", wait)
	}
	for _, one := range got {
		verifies(t, one, made.Secret)
	}
	d, err := s.Operator.Delivery(t.Context(), failing.ID)
	if err != nil || d.Delivery.Attempts != 2 || len(d.Log) != 2 || d.Log[0].Status != 200 || d.Log[1].Status != 503 || d.Delivery.NextAt != nil {
		t.Errorf("%+v, %v", d, err)
	}
	if string(d.Payload) != string(got[0].body) {
		t.Errorf("the payload is shown as %s and was sent as %s", d.Payload, got[0].body)
	}
	if e, err = s.Operator.Endpoint(t.Context(), made.Endpoint.ID); err != nil || e.FailingSince != nil {
		t.Errorf("the endpoint is failing still: %+v, %v", e, err)
	}
}

// TestOrder: events about one object arrive in the order in which they
// happened, each after the answer to the one before; a slow one about one
// object holds up no other.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	for tries := 1; !inOrder(t, s); tries++ {
		if tries == 5 {
			t.Fatal("the slow answer took longer than one is waited for, each time")
		}
	}
}

// inOrder tries it once. It is false when the machine was so slow that the
// attempt which is to be slow was given up.
func inOrder(t *testing.T, s *keystiletest.Server) bool {
	t.Helper()
	const each = 10
	slow := newKey(t, s, "Slow")
	others := []keystile.CreatedKey{newKey(t, s, "One"), newKey(t, s, "Two")}
	release := make(chan struct{})
	var first, cut atomic.Bool
	r := newReceiver(t, nil)
	about := func(q *http.Request) string {
		for _, one := range r.all() {
			if one.header.Get("webhook-id") == q.Header.Get("webhook-id") {
				return one.event.Data.Key.ID
			}
		}
		return ""
	}
	r.then(func(_ http.ResponseWriter, q *http.Request) {
		// Events about different keys leave together: any of them may be here first.
		if about(q) == slow.Key.ID && first.CompareAndSwap(false, true) {
			select {
			case <-release:
			case <-q.Context().Done():
				cut.Store(true)
			}
		}
	})
	made := endpoint(t, s, r.URL, "key.updated")
	if _, err := s.Operator.PauseEndpoint(t.Context(), made.Endpoint.ID, keystile.PauseEndpoint{}); err != nil {
		t.Fatal(err)
	}
	edit := func(id string, i int) {
		t.Helper()
		name := fmt.Sprintf("n%03d", i)
		if _, err := s.Operator.UpdateKey(t.Context(), id, keystile.KeyPatch{Name: &name}); err != nil {
			t.Fatal(err)
		}
	}
	edit(slow.Key.ID, 0) // the oldest, and so the first to be sent
	for i := 1; i <= each; i++ {
		edit(slow.Key.ID, i)
		for _, k := range others {
			edit(k.Key.ID, i)
		}
	}
	settled(t, s, made.Endpoint.ID, "pending", 3*each+1)
	if _, err := s.Operator.ResumeEndpoint(t.Context(), made.Endpoint.ID); err != nil {
		t.Fatal(err)
	}
	count := func(id string) (n int) {
		for _, one := range r.all() {
			if one.event.Data.Key.ID == id {
				n++
			}
		}
		return n
	}
	for _, k := range others {
		eventually(t, "the others arrive", func() bool { return count(k.Key.ID) == each })
	}
	sent := count(slow.Key.ID)
	close(release)
	settled(t, s, made.Endpoint.ID, "delivered", 3*each+1)
	if cut.Load() {
		return false
	}
	if sent != 1 {
		t.Errorf("%d events of the slow key were sent while the first was under way", sent)
	}
	last := map[string]string{}
	for _, one := range r.all() {
		k := one.event.Data.Key
		if k.Name <= last[k.ID] {
			t.Errorf("of %s, %s came after %s", k.ID, k.Name, last[k.ID])
		}
		last[k.ID] = k.Name
	}
	return true
}

// TestPause: while an endpoint is paused nothing is sent and nothing is lost.
func TestPause(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	r := newReceiver(t, nil)
	made := endpoint(t, s, r.URL, "key.*", "endpoint.*")
	id := made.Endpoint.ID
	r.wait("its own creation", ofType("endpoint.created"))
	e, err := s.Operator.PauseEndpoint(t.Context(), id, keystile.PauseEndpoint{Reason: "maintenance"})
	if err != nil || e.Status != keystile.EndpointPaused || e.StatusReason != "maintenance" {
		t.Fatalf("%+v, %v", e, err)
	}
	for i := range 5 {
		newKey(t, s, fmt.Sprint("Waiting ", i))
	}
	settled(t, s, id, "pending", 6)   // with its pause
	time.Sleep(50 * time.Millisecond) // long enough for one that should not be sent
	for _, one := range r.all() {
		if one.event.Type != "endpoint.created" {
			t.Errorf("%s was sent meanwhile", one.event.Type)
		}
	}
	if e, err = s.Operator.ResumeEndpoint(t.Context(), id); err != nil || e.Status != keystile.EndpointActive || e.StatusReason != "" {
		t.Fatalf("%+v, %v", e, err)
	}
	settled(t, s, id, "delivered", 8) // with its creation, pause and resumption
}

// TestGone: an endpoint whose receiver answers 410 is disabled, which another
// endpoint is told of; what failed can be sent again, one by one and since a time.
func TestGone(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	watch := newReceiver(t, nil)
	endpoint(t, s, watch.URL, "endpoint.disabled")
	r := newReceiver(t, answering(410))
	made := endpoint(t, s, r.URL, "key.created")
	id := made.Endpoint.ID
	since := time.Now().Add(-time.Minute)
	newKey(t, s, "First")
	told := watch.wait("the news", ofType("endpoint.disabled"))
	if told.event.Data.Endpoint.ID != id || told.event.Data.Endpoint.StatusReason == "" {
		t.Errorf("%s", told.body)
	}
	e, err := s.Operator.Endpoint(t.Context(), id)
	if err != nil || e.Status != keystile.EndpointDisabled {
		t.Fatalf("%+v, %v", e, err)
	}
	failed := settled(t, s, id, "failed", 1)[0]
	for i := range 3 {
		newKey(t, s, fmt.Sprint("Later ", i))
	}
	settled(t, s, id, "pending", 3)
	r.then(answering(200))
	if d, err := s.Operator.RetryDelivery(t.Context(), failed.ID); err != nil || d.Status != keystile.DeliveryPending {
		t.Fatalf("%+v, %v", d, err)
	}
	settled(t, s, id, "pending", 4) // it is not active yet
	if _, err := s.Operator.ResumeEndpoint(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	settled(t, s, id, "delivered", 4)

	// Since a time: those that failed, and no others.
	r.then(answering(410))
	newKey(t, s, "Fails")
	settled(t, s, id, "failed", 1)
	r.then(answering(200))
	if _, err := s.Operator.ResumeEndpoint(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	before := len(r.all())
	for _, c := range []struct {
		since time.Time
		want  int
	}{{time.Now().Add(time.Hour), 0}, {since, 1}, {since, 0}} {
		if n, err := s.Operator.ReplayEvents(t.Context(), id, keystile.ReplayEvents{Since: c.since}); err != nil || n.Deliveries != c.want {
			t.Errorf("since %s: %+v, %v", c.since, n, err)
		}
	}
	settled(t, s, id, "delivered", 5)
	if n := len(r.all()) - before; n != 1 {
		t.Errorf("%d were sent again", n)
	}
	// One that was delivered is sent again on request, with the same ID.
	if _, err := s.Operator.RetryDelivery(t.Context(), failed.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it comes again", func() bool {
		n := 0
		for _, one := range r.all() {
			if one.event.ID == failed.EventID {
				n++
			}
		}
		return n == 3
	})
}

// TestOneWorkspaceHangs: a workspace whose receivers all hang leaves attempts
// to the others, however many endpoints it has.
func TestOneWorkspaceHangs(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	hanging := make(chan struct{})
	var now, most atomic.Int64
	bad := newReceiver(t, func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-hanging
	})
	defer close(hanging)
	for range 20 {
		endpoint(t, s, bad.URL, "key.created")
	}
	for range 8 {
		newKey(t, s, "Hangs")
	}
	eventually(t, "as many as may hang do", func() bool { return most.Load() >= 64 })
	good, other := newReceiver(t, nil), s.NewWorkspace("Other", "").ID
	if _, err := s.Operator.CreateEndpoint(t.Context(), other, keystile.CreateEndpoint{URL: good.URL, EventTypes: []string{"key.created"}, AllowRanges: loopback()}); err != nil {
		t.Fatal(err)
	}
	s.Key(other, keystile.CreateKey{Name: "Goes on"})
	good.wait("the other workspace's event", ofType("key.created"))
	if n := most.Load(); n != 64 {
		t.Errorf("%d attempts of one workspace at a time", n)
	}
}

// TestManyWorkspacesHang: however many workspaces have receivers that hang, and
// however many endpoints each, there is room for the next one at once.
func TestManyWorkspacesHang(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	hanging := make(chan struct{})
	var now atomic.Int64
	bad := newReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		now.Add(1)
		defer now.Add(-1)
		select {
		case <-hanging:
		case <-r.Context().Done():
		}
	})
	defer close(hanging)
	const workspaces, endpoints, events = 5, 8, 8
	for range workspaces {
		ws := s.NewWorkspace("Hangs", "").ID
		for range endpoints {
			if _, err := s.Operator.CreateEndpoint(t.Context(), ws, keystile.CreateEndpoint{URL: bad.URL, EventTypes: []string{"key.created"}, AllowRanges: loopback()}); err != nil {
				t.Fatal(err)
			}
		}
		for range events {
			s.Key(ws, keystile.CreateKey{Name: "Hangs"})
		}
	}
	// Of the 512 places four of them get 64, and the fifth a share of the rest.
	eventually(t, "as many as may hang do", func() bool { return now.Load() >= 300 })
	good, other := newReceiver(t, nil), s.NewWorkspace("Other", "").ID
	if _, err := s.Operator.CreateEndpoint(t.Context(), other, keystile.CreateEndpoint{URL: good.URL, EventTypes: []string{"key.created"}, AllowRanges: loopback()}); err != nil {
		t.Fatal(err)
	}
	s.Key(other, keystile.CreateKey{Name: "Goes on"})
	good.wait("the other workspace's event", ofType("key.created"))
	if n := now.Load(); n > 320 {
		t.Errorf("%d attempts hang at a time", n)
	}
}

// TestClaimsAreShared: a node always has room for the endpoint of one more
// workspace, whatever those before have.
func TestClaimsAreShared(t *testing.T) {
	t.Parallel()
	all := map[string]int{}
	for n := range 15 {
		if got := courier.Claims(all)["one more"]; n > 0 && got != 1 {
			t.Errorf("beside %d workspaces: %d", n, got)
		}
		delete(all, "one more")
		all[fmt.Sprint(n)] = 10_000
		got, sum := courier.Claims(all), 0
		for _, n := range got {
			sum += n
		}
		if sum >= 512 {
			t.Errorf("%d workspaces have all places: %v", n+1, got)
		}
		all["one more"] = 1
	}
}

// TestRevokedSecretSignsNoMore: what is sent after a secret's revoke was
// answered is not signed with it, also where deliveries are under way that were.
func TestRevokedSecretSignsNoMore(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	hanging := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-hanging })
	defer close(hanging)
	made := endpoint(t, s, r.URL, "key.created")
	fresh, err := s.Operator.RotateWebhookSecret(t.Context(), made.WebhookSecret.ID, keystile.RotateWebhookSecret{})
	if err != nil {
		t.Fatal(err)
	}
	newKey(t, s, "Before")
	verifies(t, r.wait("the first", ofType("key.created")), made.Secret)
	if _, err := s.Operator.RevokeWebhookSecret(t.Context(), made.WebhookSecret.ID, keystile.RevokeWebhookSecret{}); err != nil {
		t.Fatal(err)
	}
	after := newKey(t, s, "After")
	got := r.wait("the second", func(r received) bool { return r.event.Data.Key.ID == after.Key.ID })
	if n := len(strings.Fields(got.header.Get("webhook-signature"))); n != 1 {
		t.Errorf("%d signatures after the revoke", n)
	}
	verifies(t, got, fresh.Secret)
}

// TestSigning: during a rotation both secrets sign; a revoked one does not; a
// test is signed with the one that is asked for.
func TestSigning(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	ctx := t.Context()
	r := newReceiver(t, nil)
	made := endpoint(t, s, r.URL, "key.created")
	id := made.Endpoint.ID
	signatures := func(r received) int { return len(strings.Fields(r.header.Get("webhook-signature"))) }
	newKey(t, s, "One secret")
	first := r.wait("with one secret", ofType("key.created"))
	if signatures(first) != 1 {
		t.Errorf("%v", first.header)
	}
	fresh, err := s.Operator.RotateWebhookSecret(ctx, made.WebhookSecret.ID, keystile.RotateWebhookSecret{})
	if err != nil {
		t.Fatal(err)
	}
	both := newKey(t, s, "Both")
	got := r.wait("with both", func(r received) bool { return r.event.Type == "key.created" && r.event.Data.Key.ID == both.Key.ID })
	if signatures(got) != 2 {
		t.Errorf("%v", got.header)
	}
	verifies(t, got, made.Secret)
	verifies(t, got, fresh.Secret)

	for _, c := range []struct {
		ask  string
		want string
	}{{"", ""}, {fresh.WebhookSecret.ID, fresh.Secret}, {made.WebhookSecret.ID, made.Secret}} {
		result, err := s.Operator.TestEndpoint(ctx, id, keystile.TestDelivery{WebhookSecret: c.ask})
		if err != nil || !result.Delivered || result.Attempt.Status != 200 || result.Attempt.Address == "" {
			t.Fatalf("%+v, %v", result, err)
		}
		got := r.wait("the test", func(r received) bool { return r.event.ID == result.EventID })
		if got.event.Type != keystile.EventEndpointTest || got.event.Data.Endpoint.ID != id {
			t.Errorf("%s", got.body)
		}
		if c.want == "" {
			if signatures(got) != 2 {
				t.Errorf("%v", got.header)
			}
			continue
		}
		if signatures(got) != 1 {
			t.Errorf("%v", got.header)
		}
		verifies(t, got, c.want)
	}
	if _, err := s.Operator.RevokeWebhookSecret(ctx, made.WebhookSecret.ID, keystile.RevokeWebhookSecret{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Operator.TestEndpoint(ctx, id, keystile.TestDelivery{WebhookSecret: made.WebhookSecret.ID}); !errors.Is(err, keystile.CodeConflict) {
		t.Errorf("a revoked secret: %v", err)
	}
	one := newKey(t, s, "New one alone")
	got = r.wait("with the new one", func(r received) bool { return r.event.Type == "key.created" && r.event.Data.Key.ID == one.Key.ID })
	if signatures(got) != 1 {
		t.Errorf("%v", got.header)
	}
	verifies(t, got, fresh.Secret)

	// Without any secret nothing is sent, and nothing is lost.
	if _, err := s.Operator.RevokeWebhookSecret(ctx, fresh.WebhookSecret.ID, keystile.RevokeWebhookSecret{}); err != nil {
		t.Fatal(err)
	}
	before := len(r.all())
	newKey(t, s, "Unsigned")
	pending := settled(t, s, id, "pending", 1)[0]
	eventually(t, "an attempt", func() bool {
		d, err := s.Operator.Delivery(ctx, pending.ID)
		if err != nil {
			t.Fatal(err)
		}
		return d.Delivery.Attempts > 0 && strings.Contains(d.Log[0].Error, "no active webhook secret")
	})
	if len(r.all()) != before {
		t.Error("something was sent unsigned")
	}
}

// TestOwnSecret: a workspace's own webhook secret is tried on a URL.
func TestOwnSecret(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	ctx := t.Context()
	r := newReceiver(t, nil)
	environment := keystile.CreateWebhookSecret{Label: "Consumer", Environment: "production"}
	made, err := s.Operator.CreateWebhookSecret(ctx, s.Workspace, environment)
	if err != nil {
		t.Fatal(err)
	}
	result, err := s.Operator.TestWebhookSecret(ctx, made.WebhookSecret.ID, keystile.TestWebhook{URL: r.URL, AllowRanges: loopback()})
	if err != nil || !result.Delivered {
		t.Fatalf("%+v, %v", result, err)
	}
	got := r.wait("the test", func(r received) bool { return r.event.ID == result.EventID })
	verifies(t, got, made.Secret)
	if got.event.Type != keystile.EventWebhookSecretTest || got.event.Data.WebhookSecret.ID != made.WebhookSecret.ID {
		t.Errorf("%s", got.body)
	}
	// Whoever may sign can try it on the internet, and nowhere else.
	admin := s.Client(s.Key(s.Workspace, keystile.CreateKey{Name: "Admin", Role: "admin"}).Secret)
	for _, c := range []struct {
		in   keystile.TestWebhook
		want keystile.Code
	}{
		{keystile.TestWebhook{URL: r.URL}, keystile.CodeInvalidField},
		{keystile.TestWebhook{URL: r.URL, AllowRanges: loopback()}, keystile.CodeInsufficientPermission},
		{keystile.TestWebhook{URL: "https://127.0.0.1/"}, keystile.CodeInvalidField},
		{keystile.TestWebhook{URL: "https://localhost/"}, keystile.CodeInvalidField},
	} {
		if _, err := admin.TestWebhookSecret(ctx, made.WebhookSecret.ID, c.in); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.in, err)
		}
	}
}

// TestTestDeliveriesOneAtATime: a test that hangs keeps its workspace from
// another one, and nobody else.
func TestTestDeliveriesOneAtATime(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	begun, release := make(chan struct{}), make(chan struct{})
	slow := newReceiver(t, func(http.ResponseWriter, *http.Request) { close(begun); <-release })
	quick := newReceiver(t, nil)
	first, second := endpoint(t, s, slow.URL, "role.created"), endpoint(t, s, quick.URL, "role.created")
	done := make(chan error, 1)
	go func() {
		_, err := s.Operator.TestEndpoint(t.Context(), first.Endpoint.ID, keystile.TestDelivery{})
		done <- err
	}()
	<-begun
	if _, err := s.Operator.TestEndpoint(t.Context(), second.Endpoint.ID, keystile.TestDelivery{}); !errors.Is(err, keystile.CodeConflict) {
		t.Errorf("a second test at once: %v", err)
	}
	admin := s.Client(s.Key(s.Workspace, keystile.CreateKey{Name: "Admin", Role: "admin"}).Secret)
	if r, err := admin.TestEndpoint(t.Context(), second.Endpoint.ID, keystile.TestDelivery{}); err != nil || !r.Delivered {
		t.Errorf("of another workspace's actor: %+v, %v", r, err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r, err := s.Operator.TestEndpoint(t.Context(), second.Endpoint.ID, keystile.TestDelivery{}); err != nil || !r.Delivered {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

// TestDelete: with an endpoint goes what waited for it; a receiver is not
// called any more.
func TestDelete(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	r := newReceiver(t, answering(500))
	made := endpoint(t, s, r.URL, "key.*")
	newKey(t, s, "First")
	r.wait("an attempt", ofType("key.created"))
	d := settled(t, s, made.Endpoint.ID, "pending", 1)[0]
	if err := s.Operator.DeleteEndpoint(t.Context(), made.Endpoint.ID); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"endpoint": second(s.Operator.Endpoint(t.Context(), made.Endpoint.ID)),
		"delivery": second(s.Operator.Delivery(t.Context(), d.ID)),
		"secret":   second(s.Operator.WebhookSecret(t.Context(), made.WebhookSecret.ID)),
		"retry":    second(s.Operator.RetryDelivery(t.Context(), d.ID)),
		"test":     second(s.Operator.TestEndpoint(t.Context(), made.Endpoint.ID, keystile.TestDelivery{})),
	} {
		if !errors.Is(err, keystile.CodeNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	n := len(r.all())
	newKey(t, s, "Second")
	other := newReceiver(t, nil)
	endpoint(t, s, other.URL, "key.*")
	newKey(t, s, "Third")
	other.wait("the new endpoint's", ofType("key.created"))
	if len(r.all()) != n {
		t.Error("the deleted endpoint was called")
	}
}

func second[T any](_ T, err error) error { return err }
