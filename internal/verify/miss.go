package verify

import (
	"encoding/binary"
	"net/netip"
	"sync"
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

// misses count texts that are no key by source, in 164 kB whatever comes: it
// holds 4096 sources. A new one takes the place of the one with the fewest
// attempts of the eight in its set, whose count goes to the others. So whoever
// tries much stays, however many others try once, and no count is ever lost.
// The hash is keyed, which keeps anyone from choosing a set.
type misses struct {
	key    hasher
	shards [missShards]missShard
}

type missShard struct {
	mu     sync.Mutex
	sets   [missSets][missWays]missed
	others missed
}

// missed are the attempts of a source: the network of an address and its
// family, 0 when there is none.
type missed struct {
	network uint64
	family  uint8
	counts  [len(missCodes)]int64
	last    int64 // Unix milliseconds
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
	h := mix(network^m.key[0], uint64(family)^m.key[1])
	s := &m.shards[h%missShards]
	s.mu.Lock()
	into := &s.others
	if family != 0 {
		into = s.place(&s.sets[h/missShards%missSets], network, family)
	}
	into.counts[missNumber(code)] += n
	into.last = max(into.last, ms)
	s.mu.Unlock()
}

// place finds the place of a source, or makes it one.
func (s *missShard) place(set *[missWays]missed, network uint64, family uint8) *missed {
	for i := range set {
		if one := &set[i]; one.network == network && one.family == family {
			return one
		}
	}
	least := &set[0]
	for i := range set {
		if one := &set[i]; one.total() < least.total() {
			least = one
		}
	}
	s.others.add(least)
	*least = missed{network: network, family: family}
	return least
}

func (m *missed) total() int64 { return m.counts[0] + m.counts[1] }

func (m *missed) add(o *missed) {
	for i, n := range o.counts {
		m.counts[i] += n
	}
	m.last = max(m.last, o.last)
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
	tell := func(m *missed) {
		for i, n := range m.counts {
			if n > 0 {
				all = append(all, Miss{Code: missCodes[i], Source: m.source(), Count: n, Last: time.UnixMilli(m.last).UTC()})
			}
		}
	}
	for i := range c.misses.shards {
		s := &c.misses.shards[i]
		s.mu.Lock()
		sets := s.sets
		others.add(&s.others)
		s.sets, s.others = [missSets][missWays]missed{}, missed{}
		s.mu.Unlock()
		for j := range sets {
			for w := range sets[j] {
				tell(&sets[j][w])
			}
		}
	}
	tell(&others)
	return all
}

// RestoreMisses puts back what could not be written, so that the next drain
// has it again.
func (c *Recorder) RestoreMisses(all []Miss) {
	for _, m := range all {
		c.misses.count(m.Code, m.Source.Addr(), m.Count, m.Last.UnixMilli())
	}
}
