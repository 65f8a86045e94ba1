package dashboard

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

// unreached is how many servers do not know yet of what the form before this
// page has done, and until when they may go on without.
type unreached struct {
	Servers int
	Until   time.Time
}

// maxUnreached bounds what an address may say of it: more servers than that,
// or a later time than in two days, are nothing that this program wrote.
const (
	maxUnreached      = 10_000
	maxUnreachedUntil = 48 * time.Hour
)

// withUnreached adds the servers that a change has not reached to the address
// of the page that follows.
func withUnreached(path string, list []keystile.Unreached) string {
	if len(list) == 0 {
		return path
	}
	path, fragment, found := strings.Cut(path, "#")
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	path += mark + url.Values{"unreached": {strconv.Itoa(len(list))}, "until": {strconv.FormatInt(latest(list).Unix(), 10)}}.Encode()
	if found {
		path += "#" + fragment
	}
	return path
}

func latest(list []keystile.Unreached) (until time.Time) {
	for _, u := range list {
		if u.Until.After(until) {
			until = u.Until
		}
	}
	return until
}

// unreached is what this page has to say of it: of the change that was made
// with this very request, or with the one before.
func (v *visit) unreached() unreached {
	if list := entry.Unreached(v.r.Context()); len(list) > 0 {
		return unreached{len(list), latest(list)}
	}
	q := v.r.URL.Query()
	servers, err := strconv.Atoi(q.Get("unreached"))
	seconds, errUntil := strconv.ParseInt(q.Get("until"), 10, 64)
	until := time.Unix(seconds, 0)
	if err != nil || errUntil != nil || servers < 1 || servers > maxUnreached || time.Until(until) > maxUnreachedUntil || time.Until(until) < 0 {
		return unreached{}
	}
	return unreached{servers, until}
}
