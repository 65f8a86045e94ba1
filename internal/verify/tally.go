package verify

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keystile/keystile"
)

// Bounds of what is kept between two drains.
const (
	// sourcesPerKey is how many addresses of a key are kept; what comes from
	// others is counted without its address.
	sourcesPerKey = 64
	// sourcesPerShard makes 262 144 for all keys, about 40 MB, beside the ones
	// that are counted in records.
	sourcesPerShard = 4096
	agentsPerShard  = 512
	agentLen        = 200 // bytes
)

// A source is what uses are told apart by.
type source struct {
	id      [2]uint64
	code    keystile.Code
	address [16]byte // IPv4 as IPv4-mapped IPv6; zero when not known
}

// A count is what is known of the uses from a source.
type count struct {
	workspace   string
	agent       string // of the last use
	n           int64
	first, last int64 // Unix milliseconds
}

// A tally counts uses by source. Without its address, every source is kept: so
// many keys and codes there are at most.
type tally struct {
	uses   map[source]count
	spread map[[2]uint64]int // addresses of a key
}

// add counts, and gives up the address when there are too many of them.
func (t *tally) add(s source, c count, perKey int) {
	if _, ok := t.uses[s]; !ok && s.address != ([16]byte{}) {
		if t.spread[s.id] >= perKey || len(t.uses) >= sourcesPerShard {
			s.address = [16]byte{}
		} else {
			if t.spread == nil {
				t.spread = map[[2]uint64]int{}
			}
			t.spread[s.id]++
		}
	}
	t.merge(s, c)
}

// merge counts without bounds.
func (t *tally) merge(s source, c count) {
	if t.uses == nil {
		t.uses = map[source]count{}
	}
	if o, ok := t.uses[s]; ok {
		c = c.plus(o)
	}
	t.uses[s] = c
}

func (c count) plus(o count) count {
	if o.last > c.last {
		c.last, c.agent = o.last, o.agent
	}
	c.first = min(c.first, o.first)
	c.n += o.n
	return c
}

// agents keeps each user agent once. Number 0 is none, and stands for those
// that are too many as well.
type agents struct {
	names   []string
	texts   []string          // as they came
	numbers map[string]uint16 // of texts
	last    uint16            // that was asked for: mostly the next one too
}

func (a *agents) number(raw string) uint16 {
	if raw == "" {
		return 0
	}
	if a.last != 0 && raw == a.texts[a.last] {
		return a.last
	}
	n, ok := a.numbers[raw]
	if !ok {
		n = a.add(raw)
	}
	a.last = n
	return n
}

func (a *agents) add(raw string) uint16 {
	if a.numbers == nil {
		a.numbers, a.names, a.texts = map[string]uint16{}, []string{""}, []string{""}
	}
	if len(a.names) > agentsPerShard {
		return 0
	}
	n := uint16(len(a.names))
	raw = strings.Clone(raw) // the caller's text may be a whole request
	a.names, a.texts = append(a.names, cleanAgent(raw)), append(a.texts, raw)
	a.numbers[raw] = n
	return n
}

func (a *agents) name(n uint16) string {
	if n == 0 {
		return ""
	}
	return a.names[n]
}

// cutAgent bounds a user agent, at the beginning of a character.
func cutAgent(s string) string {
	if len(s) <= agentLen {
		return s
	}
	n := agentLen
	for n > agentLen-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// cleanAgent leaves out what has no business in a log: controls, invisible
// formatting and what is not UTF-8.
func cleanAgent(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, strings.Clone(s))
}
