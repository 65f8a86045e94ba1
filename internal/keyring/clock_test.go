package keyring_test

import (
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// TestUpdatedAtGrows: the state of an object that came later says so, also when
// the server that changed it has a clock behind that of the one before, or both
// did so in one millisecond.
func TestUpdatedAtGrows(t *testing.T) {
	t.Parallel()
	c := newClocked(t, store.Options{Dir: t.TempDir()}, alertProfile)
	last := c.key(keystile.CreateKey{Environment: "development"})
	for i, back := range []time.Duration{0, 0, -2 * time.Second, -2 * time.Second, time.Second} {
		c.at(back)
		name := "Name " + string(rune('a'+i))
		now, err := c.UpdateKey(t.Context(), operator(), last.ID, keystile.KeyPatch{Name: &name})
		if err != nil || !now.UpdatedAt.After(last.UpdatedAt) {
			t.Errorf("at %s: %s, after %s: %v", back, now.UpdatedAt, last.UpdatedAt, err)
		}
		last = now
	}
	if want := begin.Add(time.Second); !last.UpdatedAt.Equal(want) {
		t.Errorf("the clock is ahead again, and it says %s", last.UpdatedAt)
	}
}
