package courier

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a receiver can ask for, and so for how long one
// answer can hold a delivery back.
const maxRetryAfter = 24 * time.Hour

// waits are the times between one attempt and the next: twelve attempts over
// two days and twenty hours.
func waits() []time.Duration {
	const long = 10 * time.Hour
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, long, long, long, long, long, long,
	}
}

// next is how long to wait after an attempt, of which there were tries before
// it, and false after the last one. Each wait is up to a tenth longer or
// shorter, so that what failed together does not come back together; what the
// receiver asks for makes it longer, never shorter.
func next(tries int, retryAfter time.Duration) (time.Duration, bool) {
	all := waits()
	if tries >= len(all) {
		return 0, false
	}
	wait := all[tries]
	wait += time.Duration((rand.Float64()*2 - 1) * float64(wait) / 10) //nolint:gosec // jitter guards nothing
	return max(wait, min(retryAfter, maxRetryAfter)), true
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds,
// or a date. It is zero where there is none that makes sense.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(n) * time.Second //nolint:gosec // 32 bits of seconds fit
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
