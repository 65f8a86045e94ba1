package verify

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile"
)

// Miss is how often texts that are no key of the index came from one source
// with one outcome, between two drains.
type Miss struct {
	Code   keystile.Code // CodeMalformed or CodeUnknown
	Source netip.Prefix  // as [Source] makes it; invalid when it was not known, or there were too many
	Count  int64
	Last   time.Time // UTC, to the millisecond
}

// Use is the miss as a use of no key, for [Recorder.Restore]: so it travels
// with the uses that a replica has counted.
func (m Miss) Use() Use {
	return Use{Code: m.Code, Address: m.Source.Addr(), Count: m.Count, First: m.Last, Last: m.Last}
}

// Source is whom an address is counted for: itself in IPv4, and its /64 in
// IPv6, of which one subscriber has all addresses (RFC 6177, section 2).
func Source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // fails for more bits than there are
		return p
	}
	return netip.PrefixFrom(a, a.BitLen())
}

const (
	missShards = 64
	missSets   = 8 // in a shard
	missWays   = 8 // sources in a set
)

// misses count texts that are no key by source, in 197 kB whatever comes: it
// holds 4096 sources. A new one takes the place of the one with the fewest
// attempts of the eight in its set, whose count goes to the others. So whoever
// tries much stays, however many others try once. The hash is keyed, which keeps
// anyone from choosing a set.
//
// A flood of wrong keys ends here, so a source that has its place is counted
// without a lock. No count is ever lost: it is taken by an exchange that leaves
// 0, and what comes later is found by the next one. It may then be told of the
// source that has the place by then, or of none.
type misses struct {
	key    hasher
	shards [missShards]missShard
}

type missShard struct {
	mu     sync.Mutex // who gives and takes places
	sets   [missSets][missWays]missed
	others missed
}

// missed are the attempts of a source: the network of an address and its
// family, 0 when there is none.
type missed struct {
	tag     atomic.Uint64 // the hash of the source; 0 when the place is free
	counts  [len(missCodes)]atomic.Int64
	last    atomic.Int64 // Unix milliseconds
	network uint64       // this and family are read and written by who has the mutex
	family  uint8
}

// missCodes are the outcomes that are told apart.
var missCodes = [...]keystile.Code{keystile.CodeMalformed, keystile.CodeUnknown} //nolint:gochecknoglobals // a constant list

func missNumber(code keystile.Code) int {
	if code == keystile.CodeMalformed {
		return 0
	}
	return 1
}

func networkOf(a netip.Addr) (network uint64, family uint8) {
	switch a = a.Unmap(); {
	case a.Is4():
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:])), 4
	case a.Is6():
		b := a.As16()
		return binary.BigEndian.Uint64(b[:8]), 6
	}
	return 0, 0
}

func (m *misses) count(code keystile.Code, a netip.Addr, n, ms int64) {
	network, family := networkOf(a)
	tag := max(mix(network^m.key[0], uint64(family)^m.key[1]), 1)
	s := &m.shards[tag%missShards]
	set := &s.sets[tag/missShards%missSets]
	if family != 0 {
		if one := find(set, tag); one != nil {
			one.add(missNumber(code), n, ms)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	into := &s.others
	if family != 0 {
		into = s.place(set, tag)
		into.network, into.family = network, family
	}
	into.add(missNumber(code), n, ms)
}

func find(set *[missWays]missed, tag uint64) *missed {
	for i := range set {
		if one := &set[i]; one.tag.Load() == tag {
			return one
		}
	}
	return nil
}

// place finds the place of a source, or makes it one.
func (s *missShard) place(set *[missWays]missed, tag uint64) *missed {
	if one := find(set, tag); one != nil {
		return one
	}
	least := &set[0]
	for i := range set {
		if one := &set[i]; one.total() < least.total() {
			least = one
		}
	}
	least.tag.Store(0)
	s.others.takeFrom(least)
	least.tag.Store(tag)
	return least
}

func (m *missed) total() int64 { return m.counts[0].Load() + m.counts[1].Load() }

func (m *missed) add(code int, n, ms int64) {
	m.counts[code].Add(n)
	for last := m.last.Load(); last < ms && !m.last.CompareAndSwap(last, ms); {
		last = m.last.Load()
	}
}

// takeFrom adds what another has counted, which then has nothing. Most have
// nothing whenever it is called: to look is cheaper than to write.
func (m *missed) takeFrom(o *missed) {
	if o.total() == 0 {
		return
	}
	last := o.last.Swap(0)
	for i := range o.counts {
		m.add(i, o.counts[i].Swap(0), last)
	}
}

func (m *missed) source() netip.Prefix {
	switch m.family {
	case 4:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(m.network))
		return Source(netip.AddrFrom4(b))
	case 6:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], m.network)
		return Source(netip.AddrFrom16(b))
	}
	return netip.Prefix{}
}

// DrainMisses takes what was counted since the last time of texts that are no
// key. There is one Miss for each source and code.
func (c *Recorder) DrainMisses() []Miss {
	var all []Miss
	var others missed
	for i := range c.misses.shards {
		s := &c.misses.shards[i]
		s.mu.Lock()
		for j := range s.sets {
			for w := range s.sets[j] {
				m := &s.sets[j][w]
				if m.tag.Load() == 0 {
					others.takeFrom(m)
				} else {
					m.tag.Store(0) // nobody else does: we have the mutex
					all = m.drain(all, m.source())
				}
			}
		}
		others.takeFrom(&s.others)
		s.mu.Unlock()
	}
	return others.drain(all, netip.Prefix{})
}

// drain appends what was counted.
func (m *missed) drain(all []Miss, source netip.Prefix) []Miss {
	last := time.UnixMilli(m.last.Swap(0)).UTC()
	for i := range m.counts {
		if n := m.counts[i].Swap(0); n > 0 {
			all = append(all, Miss{Code: missCodes[i], Source: source, Count: n, Last: last})
		}
	}
	return all
}

// RestoreMisses puts back what could not be written, so that the next drain
// has it again.
func (c *Recorder) RestoreMisses(all []Miss) {
	for _, m := range all {
		c.misses.count(m.Code, m.Source.Addr(), m.Count, m.Last.UnixMilli())
	}
}
