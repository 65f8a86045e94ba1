package replica_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
	"github.com/keystile/keystile/replica"
)

// open attaches a replica to a test server.
func open(t *testing.T, s *keystiletest.Server) *replica.Verifier {
	t.Helper()
	key, err := s.Operator.CreateKey(t.Context(), "ws_operator", keystile.CreateKey{Name: "replica", Role: "replica"})
	if err != nil {
		t.Fatal(err)
	}
	v, err := replica.Open(t.Context(), s.URL, key.Secret, replica.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			t.Log(err)
		}
	})
	return v
}

func code(t *testing.T, v keystile.Verifier, q keystile.VerifyRequest) keystile.Code {
	t.Helper()
	d, err := v.Verify(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return d.Code
}

// P1: what a call took away when it returned, the replica does not accept.
func TestRevokedMeansRevokedInAReplica(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	v := open(t, s)
	for range 20 {
		made, err := s.Operator.CreateKey(t.Context(), s.Workspace, keystile.CreateKey{Name: "one"})
		if err != nil {
			t.Fatal(err)
		}
		q := keystile.VerifyRequest{Key: made.Secret}
		if made.Pending {
			t.Log("the replica was not told of a create in time")
		} else if got := code(t, v, q); got != keystile.CodeValid {
			t.Fatalf("a new key is %s", got)
		}
		begin := time.Now()
		if _, err := s.Operator.RevokeKey(t.Context(), made.Key.ID, keystile.RevokeKey{}); err != nil {
			t.Fatal(err)
		}
		if got := code(t, v, q); got != keystile.CodeRevoked {
			t.Fatalf("a revoked key is %s", got)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("the revoke took %s", took)
		}
	}
}

// A key that may not attach is told so at once.
func TestRefusedKey(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	key, err := s.Operator.CreateKey(t.Context(), "ws_operator", keystile.CreateKey{Name: "verifier", Role: "verifier"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = replica.Open(t.Context(), s.URL, key.Secret, replica.Options{})
	if !errors.Is(err, keystile.CodeInsufficientPermission) {
		t.Errorf("error %v", err)
	}
}

// IP11: what a replica refuses counts for alerts like what a server refuses,
// known key or not, by where it came from.
func TestFailuresInAReplica_IP11(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.ProfileText("product: Test\nprefix: tt\nalerts: {failure_floor: 30}\n"), keystiletest.FlushInterval(20*time.Millisecond))
	v := open(t, s)
	made, err := s.Operator.CreateKey(t.Context(), s.Workspace, keystile.CreateKey{Name: "one"})
	if err == nil {
		_, err = s.Operator.RevokeKey(t.Context(), made.Key.ID, keystile.RevokeKey{})
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		code(t, v, keystile.VerifyRequest{Key: made.Secret, IP: "192.0.2.7"})
		code(t, v, keystile.VerifyRequest{Key: "tt_nothing", IP: "2001:db8::1"})
	}
	for workspace, source := range map[string]string{s.Workspace: "192.0.2.7", "ws_operator": "2001:db8::/64"} {
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			list, err := s.Operator.Alerts(t.Context(), workspace, keystile.ListAlerts{})
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(list.Data, func(a keystile.Alert) bool { return a.Type == keystile.AlertAuthFailures })
			if i >= 0 {
				if f := list.Data[i].Failures; len(f.Sources) != 1 || f.Sources[0].Source != source {
					t.Errorf("%s: %+v", workspace, f)
				}
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s has no alert after a minute", workspace)
			}
		}
	}
}
