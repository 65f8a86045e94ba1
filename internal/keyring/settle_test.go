package keyring_test

import (
	"net/netip"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// TestManyUses: a flush of many uses is written at once, and is there when it is
// settled, also by the server that comes after one that was killed. What was
// tried in vain is told at once.
func TestManyUses(t *testing.T) {
	t.Parallel()
	const many = 600
	c := newClocked(t, store.Options{Dir: t.TempDir()}, alertProfile)
	good, over := c.key(keystile.CreateKey{Environment: "development"}), c.key(keystile.CreateKey{Environment: "development"})
	if _, err := c.RevokeKey(t.Context(), operator(), over.ID, keystile.RevokeKey{}); err != nil {
		t.Fatal(err)
	}
	now := c.time()
	var uses []verify.Use
	for i := range many {
		uses = append(uses, verify.Use{
			KeyID: good.ID, WorkspaceID: c.workspace, Code: keystile.CodeValid, Address: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}),
			UserAgent: "till/7", Count: 2, First: now, Last: now,
		})
	}
	uses = append(uses, verify.Use{KeyID: over.ID, WorkspaceID: c.workspace, Code: keystile.CodeRevoked, Count: 5, First: now, Last: now})
	if left, err := c.FlushUses(t.Context(), uses); err != nil || len(left) > 0 {
		t.Fatalf("%d left, %v", len(left), err)
	}
	total := func(id string) (n int64) {
		u, err := c.Usage(t.Context(), operator(), c.workspace, keyring.UsageQuery{Key: id})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range u.Buckets {
			n += b.Total
		}
		return n
	}
	if n := total(over.ID); n != 5 {
		t.Errorf("%d attempts with the revoked key, want 5", n)
	}
	if n := total(good.ID); n != 0 {
		t.Errorf("%d uses before they were settled; that is no test", n)
	}
	c.use(alertProfile) // as the next server does
	for {
		n, err := c.SettleUses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if n := total(good.ID); n != 2*many {
		t.Errorf("%d uses, want %d", n, 2*many)
	}
	k, err := c.Key(t.Context(), operator(), good.ID)
	if err != nil || k.LastUse == nil || !k.LastUse.At.Equal(now) {
		t.Errorf("last used %+v, %v, want %v", k.LastUse, err, now)
	}
}
