package courier_test

import (
	"os"
	"testing"

	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// TestDelivery: what is committed arrives, signed, with the object as it is on
// the wire.
func TestDelivery(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	r := newReceiver(t, nil)
	made := endpoint(t, s, r.URL, "key.*")
	key := newKey(t, s, "First")
	got := r.wait("the key's event", ofType("key.created"))
	verifies(t, got, made.Secret)
	if got.event.WorkspaceID != s.Workspace || got.event.Data.Key == nil || got.event.Data.Key.ID != key.Key.ID {
		t.Errorf("%s", got.body)
	}
	if got.header.Get("webhook-id") != got.event.ID || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", got.header)
	}
}
