package api_test

import (
	"net/http"
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

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/replica", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	hello, err := stream.NewReader(answer.Body).Read()
	if err != nil || hello.Hello == nil {
		t.Fatalf("%+v, %v", hello, err)
	}
	now := time.Now().UTC()
	use := map[string]any{"KeyID": made.Key.ID, "Code": "valid", "Count": 1, "First": now, "Last": now, "Address": ""}
	var uses []any
	foreign := s.NewWorkspace("Foreign", "").ID // whose usage the key's must not become
	for _, ws := range []string{"a\x00b", "", "ws_", s.Workspace + "\x00", foreign} {
		one := map[string]any{"WorkspaceID": ws}
		for name, value := range use {
			one[name] = value
		}
		uses = append(uses, one)
	}
	for part, one := range uses {
		got := want[stream.Grant](t, call(t, s, key, "POST", "/v1/replica/"+hello.Hello.Attachment,
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
