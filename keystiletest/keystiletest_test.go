package keystiletest_test

import (
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// TestLife takes one key from creation to revocation, and over a restart.
func TestLife(t *testing.T) {
	s := keystiletest.New(t)
	ctx := t.Context()
	made, err := s.Operator.CreateKey(ctx, s.Workspace, keystile.CreateKey{Name: "First"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(want keystile.Code) {
		t.Helper()
		d, err := s.Operator.Verify(ctx, keystile.VerifyRequest{Key: made.Secret})
		if err != nil {
			t.Fatal(err)
		}
		if d.Code != want {
			t.Fatalf("code %q, want %q", d.Code, want)
		}
	}
	check(keystile.CodeValid)
	s.Restart()
	check(keystile.CodeValid)
	if _, err := s.Operator.RevokeKey(ctx, made.Key.ID, keystile.RevokeKey{}); err != nil {
		t.Fatal(err)
	}
	check(keystile.CodeRevoked)
	s.Restart()
	check(keystile.CodeRevoked)
}
