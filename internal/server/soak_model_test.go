package server_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A history is what clients saw of one key, and the judge says whether a key
// could have behaved so. A key is open, closed, or on the way: while a call
// that takes it away is under way, and for a while after one that gives it back,
// each server may say either. A call is therefore two steps, each of which
// happens at some moment while the call is under way.
//
// A call that failed is sent again until it succeeds, as the documentation
// asks; it is under way from the first try until then.

type act int

const (
	closeBegins act = iota
	closeEnds
	openBegins
	openEnds
	accepted
	refused
)

func (a act) String() string {
	return [...]string{"close begins", "close ends", "open begins", "open ends", "accepted", "refused"}[a]
}

type standing int

const (
	open standing = iota
	closing
	closed
	opening
)

func (s standing) String() string { return [...]string{"open", "closing", "closed", "opening"}[s] }

// keyModel is the judge's idea of a key.
func keyModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return open },
		Step: func(state, input, _ any) (bool, any) {
			s, _ := state.(standing)
			a, _ := input.(act)
			switch {
			case a == closeBegins && s == open:
				return true, closing
			case a == closeEnds && s == closing:
				return true, closed
			case a == openBegins && s == closed:
				return true, opening
			case a == openEnds && s == opening:
				return true, open
			case a == accepted:
				return s != closed, s
			case a == refused:
				return s != open, s
			}
			return false, s
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprint(input) },
		DescribeState:     func(state any) string { return fmt.Sprint(state) },
	}
}

// history is one key's.
type history struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

// forever is the end of what has not ended.
const forever = time.Duration(math.MaxInt64)

func (h *history) add(a act, from, to time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: len(h.ops), Input: a, Call: int64(from), Return: int64(to)})
}

// judge tells whether a key could have behaved so.
func (h *history) judge() porcupine.CheckResult {
	h.mu.Lock()
	defer h.mu.Unlock()
	return porcupine.CheckOperationsTimeout(keyModel(), h.ops, time.Minute)
}

// TestJudge: what must be found and what must not.
func TestJudge(t *testing.T) {
	t.Parallel()
	type op struct {
		act
		from, to time.Duration
	}
	for _, c := range []struct {
		name string
		ops  []op
		fine bool
	}{
		{"nothing but uses", []op{{accepted, 0, 1}, {accepted, 2, 3}}, true},
		{"refused without a reason", []op{{accepted, 0, 1}, {refused, 2, 3}}, false},
		{"revoked, then refused", []op{{closeBegins, 2, 4}, {closeEnds, 2, 4}, {accepted, 0, 1}, {refused, 5, 6}}, true},
		{"accepted after the revoke", []op{{closeBegins, 2, 4}, {closeEnds, 2, 4}, {accepted, 5, 6}}, false},
		{"accepted by one and refused by another while it is under way", []op{{closeBegins, 2, 9}, {closeEnds, 2, 9}, {refused, 3, 4}, {accepted, 5, 6}, {refused, 10, 11}}, true},
		{"accepted in a question that began before the end", []op{{closeBegins, 2, 4}, {closeEnds, 2, 4}, {accepted, 3, 9}}, true},
		{"refused before the revoke was asked for", []op{{refused, 0, 1}, {closeBegins, 2, 4}, {closeEnds, 2, 4}}, false},
		{"a revoke that never returned", []op{{closeBegins, 2, forever}, {closeEnds, 2, forever}, {refused, 3, 4}, {accepted, 5, 6}}, true},
		{"given back, and then either for a while", []op{{closeBegins, 0, 1}, {closeEnds, 0, 1}, {openBegins, 2, 3}, {openEnds, 2, 23}, {refused, 4, 5}, {accepted, 6, 7}, {accepted, 30, 31}}, true},
		{"given back and refused long after", []op{{closeBegins, 0, 1}, {closeEnds, 0, 1}, {openBegins, 2, 3}, {openEnds, 2, 23}, {refused, 30, 31}}, false},
		{"accepted before it was given back", []op{{closeBegins, 0, 1}, {closeEnds, 0, 1}, {accepted, 2, 3}, {openBegins, 4, 5}, {openEnds, 4, 25}}, false},
	} {
		var h history
		for _, o := range c.ops {
			h.add(o.act, o.from, o.to)
		}
		if got := h.judge(); (got == porcupine.Ok) != c.fine {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}
