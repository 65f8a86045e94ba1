package verify

import (
	"slices"
	"sync/atomic"
	"unsafe"
)

// A hot counts the uses of a key that several goroutines use at once, from the
// source that its record has counted so far. A word that two processors write
// in turn costs each of them more than all the rest of a check.
//
// Its words are like the word use of a record, with hotHash for the hash. They
// are so from the moment the hot can be found until the drain makes them 0, so
// whoever comes late with an old one counts nothing there and takes the mutex.
type hot struct {
	id      [2]uint64
	hash    uint64 // of the source
	stripes [stripes]struct {
		word atomic.Uint64
		_    [56]byte // no two in one line
	}
}

const (
	stripes = 64
	// hotsPerShard makes 1024 for all keys: 4 MB.
	hotsPerShard = 16
	hotMask      = 1<<hashAt - 1
)

func hotWord(ms int64) uint64 { return hotHash<<hashAt | uint64(ms)&stampMask }

// hot finds the hot that a record's word names, unless it is another key's or
// source's by now.
func (s *recorderShard) hot(word uint64, id [2]uint64, hash uint64) *hot {
	list := s.hots.Load()
	if word>>hashAt != hotHash || list == nil || word&hotMask >= uint64(len(*list)) {
		return nil
	}
	if h := (*list)[word&hotMask]; h.id == id && h.hash == hash {
		return h
	}
	return nil
}

// manyHot tells that no key can become hot before the next drain.
func (s *recorderShard) manyHot() bool {
	list := s.hots.Load()
	return list != nil && len(*list) == hotsPerShard
}

// heat makes a hot for the key whose record has the word, and returns the word
// that names it: the same word, without its uses, when there are too many. The
// caller holds the mutex.
func (s *recorderShard) heat(word uint64, id [2]uint64, hash uint64, ms int64) uint64 {
	var list []*hot
	if l := s.hots.Load(); l != nil {
		list = *l
	}
	if s.manyHot() {
		return stamp(word&^usesMask, ms)
	}
	h := &hot{id: id, hash: hash}
	for i := range h.stripes {
		h.stripes[i].word.Store(hotWord(ms))
	}
	list = append(slices.Clip(list), h)
	s.hots.Store(&list)
	return hotHash<<hashAt | uint64(len(list)-1)
}

// word returns the word of the goroutine that calls: goroutines have stacks of
// their own, so two that run at once seldom share one.
func (h *hot) word() *atomic.Uint64 {
	var here byte
	const golden = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio: neighbours come far apart
	return &h.stripes[uint64(uintptr(unsafe.Pointer(&here))>>11)*golden>>(64-6)%stripes].word
}

// take empties all words for good.
func (h *hot) take(near int64) (n, last int64) {
	last = near
	for i := range h.stripes {
		u := h.stripes[i].word.Swap(0)
		n += usesOf(u)
		last = max(last, timeOf(u, near))
	}
	return n, last
}
