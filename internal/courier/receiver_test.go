package courier_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// soon is how long a test waits for what must happen, on the slowest machine.
const soon = 60 * time.Second

// received is one request that a receiver got.
type received struct {
	header http.Header
	body   []byte
	event  keystile.Event
	at     time.Time
}

// receiver is an endpoint's other side. It answers as told, and 200 otherwise.
type receiver struct {
	*httptest.Server
	t      testing.TB
	mu     sync.Mutex
	got    []received
	answer http.HandlerFunc
}

func newReceiver(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{t: t, answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return // cut short: not received
		}
		one := received{header: q.Header.Clone(), body: body, at: time.Now()}
		if err := json.Unmarshal(body, &one.event); err != nil {
			t.Errorf("a body that is no event: %v: %s", err, body)
		}
		r.mu.Lock()
		r.got = append(r.got, one)
		answer := r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(w, q)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// then sets how the receiver answers from now on.
func (r *receiver) then(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// wait waits until the receiver has got something that fits.
func (r *receiver) wait(what string, fits func(received) bool) received {
	r.t.Helper()
	var found received
	eventually(r.t, what, func() bool {
		for _, one := range r.all() {
			if fits(one) {
				found = one
				return true
			}
		}
		return false
	})
	return found
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// ofType fits events of a type.
func ofType(name string) func(received) bool {
	return func(r received) bool { return r.event.Type == name }
}

// loopback lets an endpoint reach the test's own receivers.
func loopback() []string { return []string{"127.0.0.0/8", "::1"} }

// endpoint makes an endpoint that leads to a URL of this machine.
func endpoint(t testing.TB, s *keystiletest.Server, url string, types ...string) keystile.CreatedEndpoint {
	t.Helper()
	made, err := s.Operator.CreateEndpoint(t.Context(), s.Workspace, keystile.CreateEndpoint{URL: url, EventTypes: types, AllowRanges: loopback()})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// verifies fails unless one of the secrets signed a request.
func verifies(t testing.TB, r received, secrets ...string) {
	t.Helper()
	v := keystile.WebhookVerifier{}
	for _, s := range secrets {
		parsed, err := keystile.ParseWebhookSecret(s)
		if err != nil {
			t.Fatal(err)
		}
		v.Secrets = append(v.Secrets, parsed)
	}
	if err := v.Verify(r.header, r.body); err != nil {
		t.Error(err)
	}
}

func newKey(t testing.TB, s *keystiletest.Server, name string) keystile.CreatedKey {
	t.Helper()
	made, err := s.Operator.CreateKey(t.Context(), s.Workspace, keystile.CreateKey{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return made
}
