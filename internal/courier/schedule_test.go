package courier

import (
	"net/http"
	"testing"
	"time"
)

// TestSchedule: the waits that the documentation names, each with its jitter,
// and an end after about three days.
func TestSchedule(t *testing.T) {
	t.Parallel()
	h, m, s := time.Hour, time.Minute, time.Second
	want := []time.Duration{5 * s, 5 * m, 30 * m, 2 * h, 5 * h, 10 * h, 10 * h, 10 * h, 10 * h, 10 * h, 10 * h}
	var total time.Duration
	for tries, w := range want {
		low, high := w, w
		for range 2000 {
			got, again := next(tries, 0)
			if !again || got < w*9/10 || got > w*11/10 {
				t.Fatalf("after %d attempts: %s, %t", tries+1, got, again)
			}
			low, high = min(low, got), max(high, got)
		}
		if low > w*93/100 || high < w*107/100 {
			t.Errorf("the jitter around %s reaches from %s to %s only", w, low, high)
		}
		total += w
	}
	if got, again := next(len(want), time.Hour); again {
		t.Errorf("there is an attempt more, after %s", got)
	}
	if total < 60*h || total > 76*h {
		t.Errorf("it is tried for %s", total)
	}
}

// TestRetryAfter: a receiver can make a wait longer, up to a day, and never
// shorter.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"120", 2 * time.Minute},
		{" 120 ", 2 * time.Minute},
		{"-1", 0},
		{"+5", 0},
		{"1.5", 0},
		{"1e3", 0},
		{"soon", 0},
		{"4294967295", 4294967295 * time.Second},
		{"99999999999999999999", 0},
		{now.Add(time.Hour).Format(http.TimeFormat), time.Hour},
		{now.Add(-time.Hour).Format(http.TimeFormat), 0},
		{"Fri, 02 Jan 2026 03:04", 0},
	} {
		if got := retryAfter(http.Header{"Retry-After": {c.value}}, now); got != c.want {
			t.Errorf("%q: %s, want %s", c.value, got, c.want)
		}
	}
	for _, c := range []struct{ asked, least, most time.Duration }{
		{0, 4500 * time.Millisecond, 5500 * time.Millisecond},
		{time.Second, 4500 * time.Millisecond, 5500 * time.Millisecond},
		{time.Hour, time.Hour, time.Hour},
		{1000 * time.Hour, 24 * time.Hour, 24 * time.Hour},
	} {
		if got, again := next(0, c.asked); !again || got < c.least || got > c.most {
			t.Errorf("asked for %s: %s", c.asked, got)
		}
	}
}
