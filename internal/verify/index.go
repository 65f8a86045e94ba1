// Package verify answers whether a key is good: the in-memory index of all
// keys, the decision, and the counting of uses. It knows no SQL and no HTTP,
// and imports the standard library and the root package alone, so that a
// program can carry it inside.
//
// [Index.Decide] takes no lock and allocates nothing. It costs the key's
// checksum, its SHA-256 and, for nearly all keys, one line of memory.
// [Index.Apply] is the one writer; when it returns, every Decide that begins
// later sees what it wrote.
package verify

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pages"
)

// State is where a key stands. Whether its time is over is asked beside it.
type State uint8

const (
	StateActive   State = iota
	StateDisabled       // refused until it is active again
	StateRevoked        // refused for good
	StateExpired        // its time was over when this was stored
)

// Key is a key as the store hands it over.
type Key struct {
	ID          string   // as [EncodeID] writes it, with [KeyPrefix]; a key with another ID is left out
	Digest      [32]byte // SHA-256 of the secret; no two keys share one, and a key keeps its own
	WorkspaceID string
	RoleID      string
	State       State
	ExpiresAt   int64 // Unix milliseconds, 0 for never
	Environment string
	Allow       []netip.Prefix       // empty: from anywhere
	Permissions keystile.Permissions // narrows the role; empty: all of it
	Owner       string
	Metadata    map[string]string
	Imported    bool // the secret may have any form, not only that of the product's keys
}

// Workspace is what the decision needs of a workspace.
type Workspace struct {
	ID        string
	Suspended bool
	Allow     []netip.Prefix // empty: from anywhere
}

// Role is what the decision needs of a role.
type Role struct {
	ID, Name    string
	WorkspaceID string // empty for a role that every workspace has
	Permissions keystile.Permissions
}

// Batch is what has changed: objects as they are now, and IDs of those that are
// gone. An ID that is in both is gone.
type Batch struct {
	Workspaces     []Workspace
	GoneWorkspaces []string
	Roles          []Role
	GoneRoles      []string
	Keys           []Key
	GoneKeys       []string
}

// Index is the in-memory index of all keys. It is made by [New].
type Index struct {
	format       keystile.Format
	size         atomic.Int64
	imports      atomic.Int64 // keys with Imported
	workspaces   cells[Workspace]
	roles        cells[Role]
	environments atomic.Pointer[[]string] // by number; 0 is ""
	shards       [shardCount]shard

	hash hasher

	mu sync.Mutex // writers
}

// A shard holds a 64th of the keys by digest, and a 64th of the IDs. It grows
// on its own, so that growing holds up a change for milliseconds even with ten
// million keys, and needs memory for one more shard, not for all twice.
type shard struct {
	table atomic.Pointer[table]
	ids   ids
}

// New returns an empty index for keys of the format, with room for capacity
// keys before it has to grow. It takes 64 bytes a key at 3/5 of its slots in
// use, and 8 for the ID at 3/4: 118 in all; 96 to 108 once it has grown.
func New(format keystile.Format, capacity int) *Index {
	x := &Index{format: format, hash: newHasher()}
	x.workspaces.init()
	x.roles.init()
	x.environments.Store(&[]string{""})
	share := float64(max(capacity, 0)) / shardCount
	// Four standard deviations above the mean: one shard in 30 000 has more.
	least := (share + 4*math.Sqrt(share)) * maxLoadDen / maxLoadNum
	records := pages.Make[record](shardCount, max(int(max(share*newSlotsNum/newSlotsDen, least)), minSlots))
	ids := pages.Make[uint64](shardCount, max(int(least), minSlots))
	for i := range x.shards {
		x.shards[i].table.Store(newTable(x, i, records[i]))
		x.shards[i].ids.entries = ids[i]
	}
	return x
}

// Len returns how many keys the index holds, whatever their state.
func (x *Index) Len() int { return int(x.size.Load()) }

// Has tells whether the index holds a key, whatever its state. It waits for a
// change under way.
func (x *Index) Has(id string) bool {
	number, ok := keyID(id)
	if !ok {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	_, _, _, ok = x.find(number)
	return ok
}

// Bytes returns how much memory the keys take, without what only some of them
// have: owners, metadata, allowlists, permissions of their own.
func (x *Index) Bytes() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	var records, ids int
	for i := range x.shards {
		records += len(x.shards[i].table.Load().records)
		ids += len(x.shards[i].ids.entries.Of)
	}
	return int64(records)*int64(unsafe.Sizeof(record{})) + int64(ids)*8
}

// Apply makes a batch visible. It may be called from several goroutines; each
// change is visible to every Decide that begins after Apply has returned. A
// Decide that runs meanwhile sees each object as before or as after. The batch
// itself may be used again afterwards, but not the slices and maps in its
// objects: the index keeps them.
func (x *Index) Apply(b Batch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	// What keys refer to comes before them and goes after them, so that no key
	// is refused on the way that is good before and after.
	for _, w := range b.Workspaces {
		w.Allow = plainPrefixes(w.Allow)
		x.workspaces.set(w.ID, &w)
	}
	for _, r := range b.Roles {
		r.Permissions = r.Permissions[:len(r.Permissions):len(r.Permissions)]
		x.roles.set(r.ID, &r)
	}
	for i := range b.Keys {
		x.put(&b.Keys[i])
	}
	for _, id := range b.GoneKeys {
		if id, ok := keyID(id); ok {
			x.removeID(id)
		}
	}
	for _, id := range b.GoneRoles {
		x.roles.remove(id)
	}
	for _, id := range b.GoneWorkspaces {
		x.workspaces.remove(id)
	}
}

// put inserts a key or writes it anew.
func (x *Index) put(k *Key) {
	id, ok := keyID(k.ID)
	if !ok {
		return
	}
	d := x.hash.digest(&k.Digest)
	location := x.hash.location(d)
	s := x.shardOf(location)
	t := s.table.Load()
	slot, found := t.slotOf(d, location)
	if found {
		if rec := &t.records[slot]; rec[id0].Load() != id[0] || rec[id1].Load() != id[1] {
			// The digest of a key that was deleted came back with a new one.
			x.removeID([2]uint64{rec[id0].Load(), rec[id1].Load()})
			found = false
		}
	}
	if !found {
		x.removeID(id) // there is none, unless a key's digest was changed
	}
	r := x.record(k, id, d)
	if found {
		if t.records[slot][place].Load()&extraMask == 0 && !t.canHold(r.extra) {
			x.removeID(id)
			return
		}
		x.imports.Add(importCount(r.head) - importCount(t.records[slot][head].Load()))
		t.write(slot, r)
		return
	}
	if !t.canHold(r.extra) {
		return // better unknown than without its restrictions
	}
	// Who reads the count of imports first and then misses the key began before.
	x.imports.Add(importCount(r.head))
	if t.full() || !t.insert(r) {
		s.grow(t, r)
	}
	tag, ids := x.idHash(id)
	ids.add(tag, location)
	x.size.Add(1)
}

// grow replaces a table by one with the same keys and one more.
func (s *shard) grow(old *table, k *keyRecord) {
	slots := (old.live + 1) * slotsNum / slotsDen
	for {
		t := newTable(old.index, old.shard, pages.Make[record](1, max(slots, minSlots))[0])
		if t.copyFrom(old) && t.insert(k) {
			s.table.Store(t)
			return
		}
		slots += slots/8 + 1 // some key found no slot in reach, however unlikely
	}
}

// removeID removes a key by its ID, if it is there.
func (x *Index) removeID(id [2]uint64) {
	t, slot, at, ok := x.find(id)
	if !ok {
		return
	}
	x.imports.Add(-importCount(t.records[slot][head].Load()))
	t.remove(slot)
	_, ids := x.idHash(id)
	ids.remove(at)
	x.size.Add(-1)
}

// find finds a key by its ID: its record, and its place among the IDs.
func (x *Index) find(id [2]uint64) (t *table, slot, at int, ok bool) {
	tag, ids := x.idHash(id)
	at, ok = ids.find(tag, func(location uint64) (ok bool) {
		t = x.shardOf(location).table.Load()
		slot, ok = t.slotOfID(id, location)
		return ok
	})
	return t, slot, at, ok
}

// record packs a key.
func (x *Index) record(k *Key, id [2]uint64, d digest) *keyRecord {
	number, name := x.environment(k.Environment)
	r := &keyRecord{
		digest: d, id: id,
		life:  expiryBits(k.ExpiresAt)<<expiry | number<<environment,
		place: x.workspaces.number(k.WorkspaceID)<<workspaceAt | x.roles.number(k.RoleID)<<roleAt,
		head:  uint64(min(k.State, StateExpired)+1) << stateAt,
		extra: newExtra(k, name),
	}
	if k.Imported {
		r.head |= imported
	}
	return r
}

// expiryBits keeps any time in 48 bits: what lies before 1970 is over, and what
// lies behind the year 10889 is said to be then.
func expiryBits(ms int64) uint64 {
	switch {
	case ms < 0:
		return 1
	case ms > maxExpiry:
		return maxExpiry
	}
	return uint64(ms)
}

func importCount(head uint64) int64 {
	if head&imported != 0 {
		return 1
	}
	return 0
}

// moreEnvironments is the number that stands for a name in the key's extra.
const moreEnvironments = 1<<(expiry-environment) - 1

// environment returns the number of an environment, and its name where there
// are too many of them. Names are never forgotten, so numbers keep theirs.
func (x *Index) environment(name string) (number uint64, extra string) {
	list := *x.environments.Load()
	for i, e := range list {
		if e == name {
			return uint64(i), ""
		}
	}
	if len(list) == moreEnvironments {
		return moreEnvironments, name
	}
	list = append(list, name) // readers of the list so far don't look behind its end
	x.environments.Store(&list)
	return uint64(len(list) - 1), ""
}

func (x *Index) shardOf(location uint64) *shard { return &x.shards[location>>homeBits] }

// idHash returns where the location of an ID is kept.
func (x *Index) idHash(id [2]uint64) (tag uint64, in *ids) {
	h := x.hash.id(id)
	return tagOf(h), &x.shards[h>>(64-shardBits)].ids
}

func keyID(s string) (id [2]uint64, ok bool) {
	b, ok := DecodeID(KeyPrefix, s)
	return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, ok
}

func idBytes(id [2]uint64) (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], id[0])
	binary.BigEndian.PutUint64(b[8:], id[1])
	return b
}
