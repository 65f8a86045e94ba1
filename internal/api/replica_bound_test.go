package api_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/api"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/stream"
	"github.com/keystile/keystile/internal/verify"
	"github.com/keystile/keystile/keystiletest"
)

// inHand is a server whose node and recorder the test can reach: to fill it with
// more replicas than a test can start, and to see what it holds.
func inHand(t *testing.T) (s *keystiletest.Server, node *cluster.Node, uses *verify.Recorder) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	p, log := profile.Default(), slog.New(slog.DiscardHandler)
	keys := keyring.New(db, p, func(ctx context.Context, seq int64, narrows bool) (bool, []keystile.Unreached, error) {
		return node.Barrier(ctx, seq, narrows)
	})
	if node, err = cluster.NewNode(db, p.Format(), keys.BuiltInRoles(keyring.OperatorWorkspace), "test", log); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		_ = node.Leave(context.Background()) // replicas of the test may be there
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := node.Start(running); err != nil {
		t.Fatal(err)
	}
	_, tenant, err := keys.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	uses = verify.NewRecorder()
	door := &entry.Door{
		Index: node.Index, Checks: node.Checks, Look: node.Look, Recorder: uses, Keyring: keys, Profile: p, Log: log,
		Observe: func(string, int, time.Duration) {}, Decided: func(keystile.Code, int) {},
	}
	answers := api.New(door, api.Options{Node: node})
	front := httptest.NewServer(door.Handler(answers, answers.Direct))
	t.Cleanup(front.Close)
	made, _, err := keys.CreateKey(t.Context(), keyring.Operator("test"), keyring.OperatorWorkspace, keystile.CreateKey{Name: "replica", Role: "replica"}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return &keystiletest.Server{URL: front.URL, Workspace: tenant, OperatorKey: made.Secret}, node, uses
}

// TestReplicasOfACrowdedServer: a server takes 5000 replicas. The next one is
// told what to do, and comes in when another has gone.
func TestReplicasOfACrowdedServer(t *testing.T) {
	t.Parallel()
	s, node, _ := inHand(t)
	var last *cluster.Attachment
	for range 5000 {
		a, err := node.Attach(cluster.Caller{})
		if err != nil {
			t.Fatal(err)
		}
		last = a
	}
	path := "/v1/replica?protocol=1"
	p := wantProblem(t, call(t, s, s.OperatorKey, "GET", path, nil), http.StatusServiceUnavailable, keystile.CodeUnavailable)
	if !strings.Contains(p.Detail, "5000") || len(p.Fixes) == 0 || !strings.Contains(strings.Join(p.Fixes, " "), "KEYSTILE_URL") {
		t.Errorf("a replica too many is told: %+v", p)
	}
	last.Detach()
	attach(t, s, s.OperatorKey)
}

// TestUsesOfForgedKeys: what is counted takes memory by key. A replica's report
// names only keys that are there, or it could name as many as it likes.
func TestUsesOfForgedKeys(t *testing.T) {
	t.Parallel()
	s, node, recorder := inHand(t)
	index, _ := node.Index()
	at, now := "/v1/replica/"+attach(t, s, s.OperatorKey), time.Now().UTC()
	use := func(id string) verify.Use {
		return verify.Use{KeyID: id, WorkspaceID: s.Workspace, Code: keystile.CodeRevoked, Count: 1, First: now, Last: now}
	}
	me := want[keystile.Decision](t, call(t, s, s.OperatorKey, "GET", "/v1/me", nil), http.StatusOK)
	recorder.Drain() // the uses of the key itself
	for part := range 3 {
		uses := []verify.Use{use(me.KeyID)}
		for i := range 1000 {
			uses = append(uses, use(verify.EncodeID("key_", [16]byte{1: byte(part), 2: byte(i >> 8), 3: byte(i)})))
		}
		want[stream.Grant](t, call(t, s, s.OperatorKey, "POST", at, stream.Ask{Uses: uses, Part: int64(part) + 1}), http.StatusOK)
	}
	kept := recorder.Drain()
	if len(kept) != 1 || kept[0].KeyID != me.KeyID || kept[0].Count != 3 {
		t.Errorf("of %d keys, all but one forged, %d are counted", index.Len(), len(kept))
	}
}
