package api_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/stream"
	"github.com/keystile/keystile/keystiletest"
)

// TestUsesOfAHostileReplica: what a replica says it has counted is written, or
// left out, and never keeps what others count from being written.
func TestUsesOfAHostileReplica(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.Database(pgtest.New(t)), keystiletest.MasterKey(masterKey), keystiletest.FlushInterval(20*time.Millisecond))
	key := s.Key("ws_operator", keystile.CreateKey{Name: "replica", Role: "replica"}).Secret
	made := s.Key(s.Workspace, keystile.CreateKey{Name: "used"})

	at := "/v1/replica/" + attach(t, s, key)
	now := time.Now().UTC()
	use := map[string]any{"KeyID": made.Key.ID, "Code": "valid", "Count": 1, "First": now, "Last": now, "Address": ""}
	var uses []any
	foreign := s.NewWorkspace("Foreign", "").ID // whose usage the key's must not become
	with := func(field string, value any) {
		one := maps.Clone(use)
		one["WorkspaceID"] = s.Workspace
		one[field] = value
		uses = append(uses, one)
	}
	for _, ws := range []string{"a\x00b", "", "ws_", s.Workspace + "\x00", foreign} {
		with("WorkspaceID", ws)
	}
	for _, id := range []string{"key_\x00", "key_", "key_zzzzzzzzzzzzzzzzzzzzzzzzzz"} {
		with("KeyID", id)
	}
	for range 3 { // more than a number of the database holds, if it were added up
		with("Count", int64(1)<<62)
	}
	with("Count", -1)
	with("First", "0000-01-01T00:00:00Z")
	with("Last", "9999-12-31T23:59:59Z")
	with("Code", "a\x00b")
	with("UserAgent", "a\x00b")
	// Long ago: there would be a row for each hour of each year.
	long := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	uses = append(uses, map[string]any{"KeyID": made.Key.ID, "WorkspaceID": s.Workspace, "Code": "valid", "Count": 1, "First": long, "Last": long, "Address": ""})
	for part, one := range uses {
		got := want[stream.Grant](t, call(t, s, key, "POST", at,
			map[string]any{"seq": 0, "part": part + 1, "uses": []any{one}}), 200)
		if got.For <= 0 {
			t.Fatalf("%+v", got)
		}
	}
	if d, err := s.Client(made.Secret).Me(t.Context()); err != nil {
		t.Fatalf("%+v, %v", d, err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		shown, err := s.Operator.Key(t.Context(), made.Key.ID)
		if err != nil {
			t.Fatal(err)
		}
		if shown.LastUse != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the use of a key is not written")
		}
	}
	for _, where := range []struct {
		workspace string
		used      bool
	}{{s.Workspace, true}, {foreign, false}} {
		got := want[keystile.Usage](t, call(t, s, s.OperatorKey, "GET", "/v1/workspaces/"+where.workspace+"/usage", nil), 200)
		if used := len(got.Buckets) > 0; used != where.used {
			t.Errorf("usage of %s: %+v", where.workspace, got.Buckets)
		}
	}
}

// attach begins a conversation as a replica does, which lasts as long as the
// test, and returns its name.
func attach(t *testing.T, s *keystiletest.Server, key string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/replica?protocol="+strconv.Itoa(stream.Protocol), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	hello, err := stream.NewReader(answer.Body).Read()
	if err != nil || hello.Hello == nil {
		t.Fatalf("%+v, %v", hello, err)
	}
	return hello.Hello.Attachment
}

// TestNobodySpeaksForAReplica: the name of an attachment is in URLs, which
// proxies write down. Who has read it there, and even has a replica's key, can't
// say in its place that it shows a change, or that it is gone: a revoke would
// return that the replica has not heard of.
func TestNobodySpeaksForAReplica(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	key := s.Key("ws_operator", keystile.CreateKey{Name: "replica", Role: "replica"})
	other := s.Key("ws_operator", keystile.CreateKey{Name: "another", Role: "replica"})
	at := "/v1/replica/" + attach(t, s, key.Secret)
	if got := want[stream.Grant](t, call(t, s, key.Secret, "POST", at, map[string]any{"seq": 0}), 200); got.For <= 0 {
		t.Fatalf("%+v", got)
	}
	replica := func() keystile.Replica {
		t.Helper()
		nodes := want[keystile.List[keystile.Node]](t, call(t, s, s.OperatorKey, "GET", "/v1/nodes", nil), 200)
		if len(nodes.Data) != 1 || len(nodes.Data[0].Replicas) != 1 {
			t.Fatalf("%+v", nodes)
		}
		return nodes.Data[0].Replicas[0]
	}
	before := replica()
	ahead := map[string]any{"seq": int64(1) << 40}
	for who, secret := range map[string]string{"nobody": "", "no key": "ks_nothing", "the operator": s.OperatorKey, "another replica": other.Secret} {
		if r := call(t, s, secret, "POST", at, ahead); r.status < 400 {
			t.Errorf("%s speaks for the replica: %d", who, r.status)
		}
		call(t, s, secret, "DELETE", at, nil) // 204 where the replica would be gone, and nothing to see otherwise
		if after := replica(); after.Applied != before.Applied || !after.Leased {
			t.Errorf("after %s: %+v, before %+v", who, after, before)
		}
	}
	// The replica itself may say so, even when its key is gone: who deleted the
	// key waits for that.
	done := make(chan error, 1)
	go func() { done <- s.Operator.DeleteKey(t.Context(), key.Key.ID) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if r := call(t, s, key.Secret, "POST", at, map[string]any{"seq": 0}); r.status == http.StatusUnauthorized {
			call(t, s, key.Secret, "POST", at, ahead)
			break
		}
		if time.Now().After(end) {
			t.Fatal("the key is still good")
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if after := replica(); after.Applied <= before.Applied {
		t.Errorf("the replica has said that it knows, and is shown as %+v", after)
	}
}

// TestReplicaThatSaysNothing: a replica asks on for leases and never says that it
// shows a change. A revoke returns when its leases from before are over. The
// replica is named with its key, gets no more leases and is told why, and the
// next revoke waits for nobody.
func TestReplicaThatSaysNothing(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	key := s.Key("ws_operator", keystile.CreateKey{Name: "replica", Role: "replica"})
	at := "/v1/replica/" + attach(t, s, key.Secret)
	ask := func() stream.Grant {
		return want[stream.Grant](t, call(t, s, key.Secret, "POST", at, stream.Ask{}), 200)
	}
	first, second := s.Key(s.Workspace, keystile.CreateKey{Name: "first"}), s.Key(s.Workspace, keystile.CreateKey{Name: "second"})
	if got := ask(); got.For <= 0 {
		t.Fatalf("%+v", got)
	}
	revoke := func(id string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := s.Operator.RevokeKey(t.Context(), id, keystile.RevokeKey{})
			done <- err
		}()
		return done
	}
	waiting := revoke(first.Key.ID)
	var last stream.Grant
	for end := time.Now().Add(time.Minute); last.Why == ""; time.Sleep(200 * time.Millisecond) {
		if last = ask(); time.Now().After(end) {
			t.Fatal("it gets leases")
		}
	}
	if last.For > 0 || !strings.Contains(last.Why, "waited for this replica") {
		t.Errorf("it is told: %+v", last)
	}
	nodes := want[keystile.List[keystile.Node]](t, call(t, s, s.OperatorKey, "GET", "/v1/nodes", nil), 200)
	if len(nodes.Data) != 1 || len(nodes.Data[0].Replicas) != 1 {
		t.Fatalf("%+v", nodes)
	}
	if r := nodes.Data[0].Replicas[0]; r.RefusedUntil == nil || r.KeyID != key.Key.ID {
		t.Errorf("it is shown as %+v", r)
	}
	if page := signedIn(t, s, "/servers"); !strings.Contains(page, "Too late") || !strings.Contains(page, "no lease until") {
		t.Errorf("the page does not tell of it: %s", page)
	}
	if m := call(t, s, s.OperatorKey, "GET", "/metrics", nil); !strings.Contains(string(m.body), "\nkeystile_replicas_late_total 3\n") {
		t.Error("the metrics don't count three times")
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	// It asks on all the while, as before. That its leases are over shows in the list.
	begin := time.Now()
	waiting = revoke(second.Key.ID)
	for {
		select {
		case err := <-waiting:
			if took := time.Since(begin); err != nil || took > 10*time.Second {
				t.Errorf("the next revoke took %s: %v", took, err)
			}
			return
		case <-time.After(200 * time.Millisecond):
			ask()
		}
	}
}

// signedIn is a page as an operator sees it.
func signedIn(t *testing.T, s *keystiletest.Server, path string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	entered, err := browser.PostForm(s.SignInLink(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = entered.Body.Close()
	page, err := browser.Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	text, err := io.ReadAll(page.Body)
	if err != nil || page.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, page.Status, err)
	}
	return string(text)
}

// TestReplicaOfAnotherProtocol is told which of the two is to be updated.
func TestReplicaOfAnotherProtocol(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	key := s.Key("ws_operator", keystile.CreateKey{Name: "replica", Role: "replica"}).Secret
	for protocol, update := range map[string]string{
		"": "Update the program", "?protocol=": "Update the program", "?protocol=0": "Update the program", "?protocol=x": "Update the program",
		"?protocol=" + strconv.Itoa(stream.Protocol+1): "Update the server first",
	} {
		p := wantProblem(t, call(t, s, key, "GET", "/v1/replica"+protocol, nil), http.StatusBadRequest, keystile.CodeInvalidRequest)
		if len(p.Fixes) != 1 || !strings.HasPrefix(p.Fixes[0], update) {
			t.Errorf("%q: %+v", protocol, p)
		}
	}
}
