package profile

import (
	"strconv"
	"strings"
	"time"
)

// day is 24 hours: retention and rotation follow no calendar.
const day = 24 * time.Hour

// maxDuration is a hundred years, longer than any record or key needs to
// live, and short of where a duration overflows.
const maxDuration = 36500 * day

// parseDuration reads a duration in Go's form with days before it: "90d",
// "36h", "1d12h". It refuses negative ones and those over a hundred years.
func parseDuration(s string) (time.Duration, bool) {
	var whole time.Duration
	rest := s
	if days, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, false
		}
		whole, rest = time.Duration(n)*day, after
	}
	if rest != "" || s == "" {
		part, err := time.ParseDuration(rest)
		if err != nil || part < 0 {
			return 0, false
		}
		whole += min(part, maxDuration+1)
	}
	return whole, whole <= maxDuration
}
