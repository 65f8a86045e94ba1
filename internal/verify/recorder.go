package verify

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile"
)

// Use is how often a key was used from an address with one outcome, between
// two drains.
type Use struct {
	KeyID       string
	WorkspaceID string
	Code        keystile.Code
	Address     netip.Addr // invalid when it was not known, or there were too many
	UserAgent   string     // of the last use, or of one near it; at most 200 bytes, without controls
	Count       int64
	First, Last time.Time // UTC, to the millisecond
}

// Recorder counts the uses of keys until they are drained. An index has one
// recorder, which can outlive it.
//
// The first address from which a key is used validly after a drain is counted
// in the key's own record, in the line of memory that the decision has just
// read: no lock, no allocation. All else, other outcomes included, takes the
// mutex of a shard for about a tenth of a microsecond.
//
// The word use of a record is 0, or holds a hash of address, user agent and key
// (24 bits), the count (12) and the time of the last use (28 bits of Unix
// milliseconds). It goes from 0 to another value only under the shard's mutex,
// together with an entry in the shard and the bit counted in the record, which
// keeps the slot from going to another key. It goes back to 0 only under the
// mutex too, by an exchange whose result is added up. In between it is changed
// by compare-and-swap, and only while the hash is the caller's. So each use is
// in the word when that is emptied, or takes the mutex: none is lost, and none
// counted twice. Another source takes another's count with a chance of 2^-24,
// which the key of the hash keeps from being sought.
//
// All goroutines that use one key write this one word. When two of them meet at
// it, the key gets a word for each of many goroutines, beside its record (see
// [hot]): the word use then has a hash that is set aside, and the number of the
// hot key, and nobody writes it until the drain.
type Recorder struct {
	seed   maphash.Seed
	key    hasher
	shards [shardCount]recorderShard
	misses misses
}

// recorderShard counts a 64th of the keys, by ID: the same ones whatever index
// they were found in.
type recorderShard struct {
	// since is when the first use was counted after the last drain. Times in
	// records are told from it, so it is set before the first of them.
	since atomic.Int64
	_     [56]byte // readers of since don't wait for the line with the mutex

	mu      sync.Mutex
	open    bool                   // since is set
	hots    atomic.Pointer[[]*hot] // since the last drain
	tables  []*table
	newest  [shardCount]uint16 // of each shard of an index the last in tables
	entries []entry
	others  tally
	agents  agents
}

// entry is a record that is counted in. The ID and the workspace are in the
// record, which stays this key's until then.
type entry struct {
	address [16]byte
	first   int64 // Unix milliseconds
	slot    uint32
	table   uint16 // in tables
	agent   uint16
}

const (
	stampBits = 28
	stampMask = 1<<stampBits - 1
	oneUse    = 1 << stampBits
	usesMask  = (1<<12 - 1) << stampBits
	hashAt    = 40
	hotHash   = 1<<24 - 1 // of no source

	// maxWindow is how long, in milliseconds, uses can be counted in records
	// without a drain: any two of them are less than half a round of the stamp
	// apart. It is 18 hours; what comes later takes the mutex.
	maxWindow = 1<<(stampBits-2) - 1
)

// NewRecorder returns a recorder that has counted nothing.
func NewRecorder() *Recorder {
	return &Recorder{seed: maphash.MakeSeed(), key: newHasher(), misses: misses{key: newHasher()}}
}

// Count counts a use of the key that was decided about. The code is what was
// answered in the end, which may be another than the result's. It may be called
// from any number of goroutines at once.
func (c *Recorder) Count(r *Result, code keystile.Code, address netip.Addr, userAgent string, now time.Time) {
	if r.table == nil { // Known would copy the result first
		c.misses.count(code, address, 1, now.UnixMilli())
		return
	}
	ms := now.UnixMilli()
	userAgent = cutAgent(userAgent)
	s := c.shard(r.id[1])
	if code != keystile.CodeValid {
		s.count(r, source{id: r.id, code: code, address: address.As16()}, 0, false, userAgent, ms)
		return
	}
	hash := c.hash(r, address, userAgent)
	word := &r.table.records[r.slot][use]
	in := hash
	if u := word.Load(); u>>hashAt == hotHash {
		if h := s.hot(u, r.id, hash); h != nil {
			word, in = h.word(), hotHash
		}
	}
	counted, met := s.countIn(word, in, ms)
	if !counted {
		s.count(r, source{id: r.id, code: code, address: address.As16()}, hash, met, userAgent, ms)
	}
	runtime.KeepAlive(r.table)
}

// shard goes by the second word of an ID, of which all bits are random.
func (c *Recorder) shard(id1 uint64) *recorderShard { return &c.shards[id1%shardCount] }

// hash returns 24 bits, neither all zero nor hotHash. Whoever does not know the
// key of the hash can't choose what falls together.
func (c *Recorder) hash(r *Result, address netip.Addr, agent string) uint64 {
	a, b := words(address)
	h := mix(a^c.key[0], b^c.key[1])
	h = mix(h^r.id[0]^c.key[2], maphash.String(c.seed, agent)^r.id[1]^c.key[3])
	return min(max(h>>hashAt, 1), hotHash-1)
}

// words returns what As16 does, as two words. That of IPv4 is not written to
// memory in smaller pieces than it is read in, for which a processor would wait.
func words(a netip.Addr) (upper, lower uint64) {
	if a.Is4() {
		b := a.As4()
		return 0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// countIn counts where the word counts this very source already. Met tells that
// another goroutine was faster there, and that the key can be made hot for that.
func (s *recorderShard) countIn(word *atomic.Uint64, hash uint64, ms int64) (counted, met bool) {
	for {
		u := word.Load()
		if u>>hashAt != hash || u&usesMask == usesMask || !s.near(ms) {
			return false, false
		}
		if word.CompareAndSwap(u, stamp(u, ms)+oneUse) {
			return true, false
		}
		if hash != hotHash && !s.manyHot() {
			return false, true
		}
	}
}

func (s *recorderShard) near(ms int64) bool {
	d := ms - s.since.Load()
	return -maxWindow <= d && d <= maxWindow
}

// stamp sets the time of the last use, unless it has a later one.
func stamp(u uint64, ms int64) uint64 {
	if timeOf(u, ms) > ms {
		return u
	}
	return u&^stampMask | uint64(ms)&stampMask
}

func usesOf(u uint64) int64 { return int64(u & usesMask >> stampBits) }

// timeOf returns the time of the last use, which is less than half a round of
// the stamp from a time that is known.
func timeOf(u uint64, near int64) int64 {
	const unused = 64 - stampBits
	return near + int64((u-uint64(near))<<unused)>>unused
}

// count counts under the mutex. Met tells that another goroutine counts the same
// source right now.
func (s *recorderShard) count(r *Result, from source, hash uint64, met bool, agent string, ms int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		s.since.Store(ms)
		s.open = true
	}
	number := s.agents.number(agent)
	n, last := int64(1), ms
	if hash != 0 && s.near(ms) {
		word := &r.table.records[r.slot][use]
		u := word.Load()
		h := s.hot(u, r.id, hash)
		switch {
		case u == 0:
			if table, ok := s.tableNumber(r.table); ok && r.table.records[r.slot].attach(r.id) {
				s.entries = append(s.entries, entry{
					address: from.address, first: ms, slot: r.slot, table: table, agent: number,
				})
				word.Store(hash<<hashAt | oneUse | uint64(ms)&stampMask)
				return
			}
		case h != nil, u>>hashAt == hash: // full, met, or it has come to be this source's meanwhile
			next := stamp(u&^usesMask, ms)
			if h != nil {
				word, next = h.word(), hotWord(ms)
			} else if met {
				next = s.heat(u, r.id, hash, ms)
			}
			u = word.Swap(next)
			n += usesOf(u)
			last = max(last, timeOf(u, ms))
		}
	}
	s.others.add(from, count{
		workspace: r.workspace.ID, agent: s.agents.name(number), n: n, first: ms, last: last,
	}, sourcesPerKey-1) // the record has one
}

// tableNumber finds the number of a table or gives it one.
func (s *recorderShard) tableNumber(t *table) (uint16, bool) {
	if n := s.newest[t.shard]; int(n) < len(s.tables) && s.tables[n] == t {
		return n, true
	}
	n := slices.Index(s.tables, t)
	if n < 0 {
		if n = len(s.tables); n > math.MaxUint16 {
			return 0, false
		}
		s.tables = append(s.tables, t)
	}
	s.newest[t.shard] = uint16(n)
	return uint16(n), true
}

// Drain takes what was counted since the last time. Every Count that has
// returned is in this one or was in one before; one that runs meanwhile is in
// this one or will be in the next. There is one Use for each key, code and
// address.
func (c *Recorder) Drain() []Use {
	var uses []Use
	for i := range c.shards {
		for from, n := range c.shards[i].drain() {
			uses = append(uses, newUse(from, n))
		}
	}
	return uses
}

// drain takes what a shard has counted. Uses of a key that was counted in two
// tables, or in two slots of one, come together here.
func (s *recorderShard) drain() map[source]count {
	s.mu.Lock()
	taken := make([]used, len(s.entries))
	for i, e := range s.entries {
		taken[i] = s.takeUses(s.tables[e.table], e, s.agents.name(e.agent))
	}
	all := s.others
	if cap(s.entries) > 4*len(s.entries) {
		s.entries = nil
	}
	s.entries = s.entries[:0]
	s.tables, s.others, s.agents, s.open = nil, tally{}, agents{}, false
	s.hots.Store(nil)
	s.mu.Unlock()
	for _, t := range taken {
		if t.n > 0 { // otherwise they are all among the others
			all.merge(t.source, t.count)
		}
	}
	return all.uses
}

type used struct {
	source
	count
}

// takeUses empties a record's counter and gives the slot free. Between the two
// the word is 0, so whoever wants to count waits for the mutex.
func (s *recorderShard) takeUses(t *table, e entry, agent string) used {
	rec := &t.records[e.slot]
	u := rec[use].Swap(0)
	from := source{
		id: [2]uint64{rec[id0].Load(), rec[id1].Load()}, code: keystile.CodeValid, address: e.address,
	}
	n := count{
		workspace: t.index.workspaces.id(rec[place].Load() >> workspaceAt), agent: agent,
		n: usesOf(u), first: e.first, last: timeOf(u, e.first),
	}
	if u>>hashAt == hotHash {
		n.n, n.last = (*s.hots.Load())[u&hotMask].take(e.first)
	}
	rec.detach()
	return used{from, n}
}

// Restore puts back what could not be written, so that the next Drain has it
// again. When there is too much of it, addresses are given up, never counts.
// A Use without a KeyID is a miss (see [Miss.Use]); one whose KeyID is none is
// left out.
func (c *Recorder) Restore(uses []Use) {
	for _, u := range uses {
		if u.KeyID == "" {
			if slices.Contains(missCodes[:], u.Code) {
				c.misses.count(u.Code, u.Address, u.Count, u.Last.UnixMilli())
			}
			continue
		}
		id, ok := keyID(u.KeyID)
		if !ok {
			continue
		}
		s := c.shard(id[1])
		s.mu.Lock()
		s.others.add(source{id: id, code: u.Code, address: u.Address.As16()}, count{
			workspace: u.WorkspaceID, agent: u.UserAgent, n: u.Count, first: u.First.UnixMilli(), last: u.Last.UnixMilli(),
		}, sourcesPerKey)
		s.mu.Unlock()
	}
}

func newUse(from source, n count) Use {
	u := Use{
		KeyID: EncodeID(KeyPrefix, idBytes(from.id)), WorkspaceID: n.workspace, Code: from.code, UserAgent: n.agent,
		Count: n.n, First: time.UnixMilli(n.first).UTC(), Last: time.UnixMilli(n.last).UTC(),
	}
	if from.address != ([16]byte{}) {
		u.Address = netip.AddrFrom16(from.address).Unmap()
	}
	return u
}
