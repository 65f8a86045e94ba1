package verify

import (
	"runtime"

	"github.com/keystile/keystile/internal/pages"
)

// ids finds the location of a key by its ID, for who holds the mutex: readers
// never ask by ID. Each entry is eight bytes, 24 bits of the ID's hash and the
// 40 bits of the location; the record there has the whole ID. A Go map from ID
// to slot would take three times the memory, and new slots in every larger
// table.
type ids struct {
	entries *pages.Array[uint64] // 0 is free
	n       int
}

const tagBits = 64 - locationBits

// tagOf returns the bits of an ID's hash that are kept, those behind the ones
// that choose the shard. It is never 0, so that no entry is.
func tagOf(hash uint64) uint64 {
	return max(hash<<shardBits>>(64-tagBits), 1)
}

func (s *ids) home(entry uint64) int {
	return int(entry >> locationBits * uint64(len(s.entries.Of)) >> tagBits)
}

func (s *ids) next(i int) int {
	if i++; i == len(s.entries.Of) {
		return 0
	}
	return i
}

// find calls is with the place and the location of each entry with the tag
// until it says yes.
func (s *ids) find(tag uint64, is func(location uint64) bool) (at int, ok bool) {
	if s.n == 0 {
		return 0, false
	}
	for at = s.home(tag << locationBits); s.entries.Of[at] != 0; at = s.next(at) {
		if e := s.entries.Of[at]; e>>locationBits == tag && is(e&(1<<locationBits-1)) {
			return at, true
		}
	}
	return 0, false
}

func (s *ids) add(tag, location uint64) {
	if (s.n+1)*maxLoadDen > len(s.entries.Of)*maxLoadNum {
		old := s.entries
		s.entries = pages.Make[uint64](1, max((s.n+1)*slotsNum/slotsDen, minSlots))[0]
		for _, e := range old.Of {
			if e != 0 {
				s.put(e)
			}
		}
		runtime.KeepAlive(old)
	}
	s.put(tag<<locationBits | location)
	s.n++
}

func (s *ids) put(entry uint64) {
	i := s.home(entry)
	for s.entries.Of[i] != 0 {
		i = s.next(i)
	}
	s.entries.Of[i] = entry
}

// remove frees a place and moves up what lies behind it only because of it
// (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
func (s *ids) remove(at int) {
	for i := s.next(at); s.entries.Of[i] != 0; i = s.next(i) {
		// An entry may move to at unless its home lies behind at, going round.
		home := s.home(s.entries.Of[i])
		if at <= i && (home <= at || home > i) || at > i && home <= at && home > i {
			s.entries.Of[at] = s.entries.Of[i]
			at = i
		}
	}
	s.entries.Of[at] = 0
	s.n--
}
