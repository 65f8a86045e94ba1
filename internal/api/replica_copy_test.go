package api_test

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/stream"
	"github.com/keystile/keystile/keystiletest"
)

// overhears is a way to a server that remembers how a replica asked for a lease.
type overhears struct {
	mu    sync.Mutex
	path  string
	marks string
}

func (o *overhears) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost {
		o.mu.Lock()
		o.path, o.marks = r.URL.Path, r.Header.Get(stream.MarksHeader)
		o.mu.Unlock()
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (o *overhears) last() (path, marks string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.path, o.marks
}

// TestCopiedReplica: of a replica whose machine was copied while it ran, the
// second to ask for a lease gets none, drops what it has, and attaches anew. It
// neither says for the other what that shows, nor that it is gone.
func TestCopiedReplica(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	key := s.Key("ws_operator", keystile.CreateKey{Name: "replica", Role: "replica"}).Secret
	made := s.Key(s.Workspace, keystile.CreateKey{Name: "key"}).Secret
	var log strings.Builder
	var heard overhears
	r, err := stream.Open(t.Context(), stream.Options{
		URLs: []string{s.URL}, Key: key, HTTP: &http.Client{Transport: &heard}, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	answers := func() bool {
		d, err := r.Verify(t.Context(), keystile.VerifyRequest{Key: made})
		return err == nil && d.Valid
	}
	wait := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not so after a minute: " + what)
			}
		}
	}
	wait("it answers", answers)

	// A copy asks first. It knows what the replica has left before.
	first, marks := heard.last()
	const copied = "00000000000000c0"
	ask := func(marks string) answer {
		return call(t, s, key, "POST", first, map[string]any{"seq": int64(1) << 40}, stream.MarksHeader, marks)
	}
	if got := want[stream.Grant](t, ask(copied+" "+marks), 200); got.For <= 0 {
		t.Fatalf("%+v", got)
	}
	wait("it refuses or has attached anew", func() bool { path, _ := heard.last(); return !answers() || path != first })
	wait("it has attached anew", func() bool { path, _ := heard.last(); return answers() && path != first })
	// What it left before counts no more, and the copy's lease is not forgotten.
	wantProblem(t, ask(marks), http.StatusConflict, keystile.CodeConflict)
	call(t, s, key, "DELETE", first, nil, stream.MarksHeader, marks)
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "copied while it ran") {
		t.Errorf("it does not say why:\n%s", log.String())
	}
	leased := func() (n int) {
		nodes := want[keystile.List[keystile.Node]](t, call(t, s, s.OperatorKey, "GET", "/v1/nodes", nil), 200)
		for _, one := range nodes.Data[0].Replicas {
			if one.Leased {
				n++
			}
		}
		return n
	}
	if n := leased(); n != 1 {
		t.Errorf("the server knows of %d leases, want that of the copy", n)
	}
	want[stream.Grant](t, ask(copied), 200) // the same message again
	call(t, s, key, "DELETE", first, nil, stream.MarksHeader, copied)
	if n := leased(); n != 0 {
		t.Errorf("the server knows of %d leases after the copy has gone", n)
	}
}
