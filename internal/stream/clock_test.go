package stream

import (
	"testing"
	"time"
	"unsafe"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// stepped is a time whose wall clock reads so many seconds more, and whose
// monotonic clock is the same.
func stepped(t *testing.T, at time.Time, seconds int64) time.Time {
	t.Helper()
	// The wall seconds of a time with a monotonic reading are bits 30 to 62 of
	// its first word (package time, type Time).
	words := (*[3]uint64)(unsafe.Pointer(&at))
	before := at
	words[0] += uint64(seconds) << 30
	if at.Sub(before) != 0 || at.Unix()-before.Unix() != seconds {
		t.Fatalf("package time keeps its times otherwise than this test thinks: %v, %v", before, at)
	}
	return at
}

// TestClockSteps: a replica's lease is good while both clocks say so, as a
// server's is: setting the clock back lengthens none, and a machine that slept
// has none.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	index, now := verify.New(keystile.Format{}, 0), time.Now()
	for _, c := range []struct {
		name   string
		end    time.Time
		usable bool
	}{
		{"time left", now.Add(time.Hour), true},
		{"time over", now.Add(-time.Nanosecond), false},
		{"over, and the clock was set back by a day", stepped(t, now.Add(-time.Second), 24*3600), false},
		{"the clock was set forward, or the machine slept for a day", stepped(t, now.Add(time.Hour), -24*3600), false},
		{"left on both, the clock was set back a little", stepped(t, now.Add(time.Hour), 60), true},
	} {
		r.view.Store(&view{index, c.end})
		if _, usable := r.Index(); usable != c.usable {
			t.Errorf("%s: usable %t", c.name, usable)
		}
	}
}
