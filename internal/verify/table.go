package verify

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"runtime"
	"sync/atomic"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pages"
)

// digest is what a record keeps of a digest: its first 128 bits and, in the
// lower half of the third word, a keyed hash of the rest.
type digest struct{ a, b, rest uint64 }

// A hasher turns digests and IDs into places. It is keyed, so that nobody can
// import digests that fall on one place, or that agree in all that is kept.
type hasher [4]uint64

func newHasher() (h hasher) {
	var b [8 * len(h)]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails: it ends the program instead
	for i := range h {
		h[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return h
}

// mix folds the product of two words: every bit of either moves half of the
// result, as long as nobody knows the keys that the words were combined with.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func (h *hasher) digest(d *[32]byte) digest {
	rest := mix(binary.LittleEndian.Uint64(d[16:])^h[2], binary.LittleEndian.Uint64(d[24:])^h[3])
	return digest{binary.LittleEndian.Uint64(d[0:]), binary.LittleEndian.Uint64(d[8:]), rest >> 32}
}

// location says where a key is kept: its first six bits choose the shard, the
// other 34 the home slot in it.
func (h *hasher) location(d digest) uint64 {
	return mix(d.a^h[0], d.b^h[1]^d.rest<<32) >> (64 - locationBits)
}

func (h *hasher) id(id [2]uint64) uint64 { return mix(id[0]^h[2], id[1]^h[3]) }

const (
	shardBits    = 6
	shardCount   = 1 << shardBits
	locationBits = 40
	homeBits     = locationBits - shardBits
)

// A table holds the keys of one shard, by open addressing with linear probing.
// A key lies in its home slot or one of the next, up to the reach that the home
// slot's record states: how far any key of this home ever had to go. So a miss
// looks at about two lines, a slot can be reused as soon as its key is gone, and
// there are no tombstones.
//
// A table never changes its size. A larger one takes its place in the shard,
// and readers that still hold this one see it as it was at that moment. Its
// records lie outside the heap, until nobody holds the table: whoever holds a
// record alone has to keep the table in reach.
type table struct {
	index   *Index
	shard   int
	records []record // of memory
	memory  *pages.Array[record]
	extras  atomic.Pointer[[]atomic.Pointer[extra]] // number 0 is none
	spare   []uint32                                // numbers of extras to use again
	live    int
}

// An extra is what only some keys have. It is never changed: an update puts
// another one in its place, inside the same write of the record.
type extra struct {
	allow       []netip.Prefix
	narrow      keystile.Permissions
	owner       string
	metadata    map[string]string
	environment string // when there are too many for a number
	effective   atomic.Pointer[effective]
}

// effective remembers what a narrowed key has of a role.
type effective struct {
	role        *Role
	permissions keystile.Permissions
}

// newExtra returns nil for a key that has none of this.
func newExtra(k *Key, environment string) *extra {
	if len(k.Allow) == 0 && len(k.Permissions) == 0 && k.Owner == "" && len(k.Metadata) == 0 && environment == "" {
		return nil
	}
	return &extra{
		allow: plainPrefixes(k.Allow), narrow: k.Permissions[:len(k.Permissions):len(k.Permissions)],
		owner: k.Owner, metadata: k.Metadata, environment: environment,
	}
}

// A new table is 3/5 full at the number of keys that is known: 107 bytes a key,
// of which seven in ten lie in their home slot. It is rebuilt when more than 3/4
// of it are in use, to be 2/3 full.
const (
	newSlotsNum, newSlotsDen = 5, 3
	maxLoadNum, maxLoadDen   = 3, 4
	slotsNum, slotsDen       = 3, 2
	minSlots                 = 8
	maxReach                 = reachMask
)

func newTable(x *Index, shard int, memory *pages.Array[record]) *table {
	return &table{index: x, shard: shard, records: memory.Of, memory: memory}
}

// full tells whether another key needs a larger table.
func (t *table) full() bool { return (t.live+1)*maxLoadDen > len(t.records)*maxLoadNum }

// home spreads locations evenly over any number of slots below 2^30, in order:
// copying into a larger table reads and writes memory from front to back.
func (t *table) home(location uint64) int {
	return int(location & (1<<homeBits - 1) * uint64(len(t.records)) >> homeBits)
}

func (t *table) next(slot int) int {
	if slot++; slot == len(t.records) {
		return 0
	}
	return slot
}

func (t *table) reach(home int) uint64 { return t.records[home][life].Load() & reachMask }

// find reads the record with the digest: slot, ID and extra into r, and three
// words as they are. It is the one place where readers meet records. Nothing is
// copied that was written a moment before, for which a processor would wait.
func (t *table) find(d digest, location uint64, r *Result) (life, place, head uint64, ok bool) {
	slot := t.home(location)
	for left := t.reach(slot); ; left-- {
		rec := &t.records[slot]
		// As long as a key is in a slot its digest stays, so another digest
		// needs no second look.
		if rec[digest0].Load() == d.a {
			if life, place, head, ok = t.read(rec, d, r); ok {
				r.slot = uint32(slot)
				break
			}
		}
		if left == 0 {
			break
		}
		slot = t.next(slot)
	}
	runtime.KeepAlive(t)
	return life, place, head, ok
}

// read reads a record, and tells whether it held the digest, as of one moment.
func (t *table) read(rec *record, d digest, r *Result) (lifeIs, placeIs, headIs uint64, ok bool) {
	for tries := 1; ; tries++ {
		if h := rec[head].Load(); h&changing == 0 {
			other := (rec[digest0].Load() ^ d.a) | (rec[digest1].Load() ^ d.b) | (h>>digest2At ^ d.rest)
			r.id[0], r.id[1] = rec[id0].Load(), rec[id1].Load()
			lifeIs, placeIs = rec[life].Load(), rec[place].Load()
			// The number of an extra may be given to another key once this one
			// is gone, so it is resolved before the second look at the version.
			r.extra = t.extra(placeIs & extraMask)
			if (rec[head].Load()^h)&^counted == 0 {
				return lifeIs, placeIs, h, other == 0 && h&stateMask != 0
			}
		}
		if tries%16 == 0 {
			runtime.Gosched() // the writer may wait for this very processor
		}
	}
}

func (t *table) extra(number uint64) *extra {
	if number == 0 {
		return nil
	}
	// The list is loaded after the version: a number in the record is in it.
	return (*t.extras.Load())[number].Load()
}

// What follows is the writer's; the index holds its mutex.

// A keyRecord is what is to be written of a key: life without reach, place
// without the number of the extra, head without version.
type keyRecord struct {
	digest            digest
	id                [2]uint64
	life, place, head uint64
	extra             *extra
}

// slotOf returns the slot of the key with the digest.
func (t *table) slotOf(d digest, location uint64) (int, bool) {
	slot := t.home(location)
	for left := t.reach(slot); ; left-- {
		rec := &t.records[slot]
		if rec[digest0].Load() == d.a && rec[digest1].Load() == d.b && rec[head].Load()>>digest2At == d.rest && rec.live() {
			return slot, true
		}
		if left == 0 {
			return 0, false
		}
		slot = t.next(slot)
	}
}

// slotOfID returns the slot of the key with the ID, whose location is known.
func (t *table) slotOfID(id [2]uint64, location uint64) (int, bool) {
	slot := t.home(location)
	for left := t.reach(slot); ; left-- {
		rec := &t.records[slot]
		if rec[id0].Load() == id[0] && rec[id1].Load() == id[1] && rec.live() {
			return slot, true
		}
		if left == 0 {
			return 0, false
		}
		slot = t.next(slot)
	}
}

// insert puts a key that the table does not hold into a vacant slot. There may
// be none in reach, since slots that are counted in stay occupied for a while.
func (t *table) insert(k *keyRecord) bool {
	home := t.home(t.index.hash.location(k.digest))
	slot := home
	for distance := range uint64(min(len(t.records), maxReach+1)) {
		if !t.records[slot].vacant() {
			slot = t.next(slot)
			continue
		}
		t.write(slot, k)
		// Found only from here on. The home slot may hold another key: the bits
		// of that one stay as they are, so its readers need no new version.
		if l := t.records[home][life].Load(); l&reachMask < distance {
			t.records[home][life].Store(l&^reachMask | distance)
		}
		t.live++
		return true
	}
	return false
}

// write writes a key into its slot, or into a vacant one.
func (t *table) write(slot int, k *keyRecord) {
	rec := &t.records[slot]
	rec.begin()
	number := t.setExtra(rec[place].Load()&extraMask, k.extra)
	rec[digest0].Store(k.digest.a)
	rec[digest1].Store(k.digest.b)
	rec[id0].Store(k.id[0])
	rec[id1].Store(k.id[1])
	rec[life].Store(k.life | rec[life].Load()&reachMask)
	rec[place].Store(k.place | number)
	rec.end(k.digest.rest<<digest2At | k.head)
}

// remove vacates a slot. ID and workspace stay readable for the recorder as
// long as the slot is counted in.
func (t *table) remove(slot int) {
	rec := &t.records[slot]
	rec.begin()
	t.setExtra(rec[place].Load()&extraMask, nil)
	rec[place].And(^uint64(extraMask))
	rec.end(0)
	t.live--
}

// canHold tells whether there is a number left for the extra of a key that has
// none yet: 2^20 for each of 64 tables.
func (t *table) canHold(e *extra) bool {
	list := t.extras.Load()
	return e == nil || len(t.spare) > 0 || list == nil || len(*list) <= extraMask
}

// setExtra puts e in the place of the extra with the number and returns the
// number it has now. It happens inside a write of the record.
func (t *table) setExtra(number uint64, e *extra) uint64 {
	if e == nil && number == 0 {
		return 0
	}
	if e != nil && number == 0 {
		number = t.takeNumber()
	}
	(*t.extras.Load())[number].Store(e)
	if e == nil {
		t.spare = append(t.spare, uint32(number))
		return 0
	}
	return number
}

func (t *table) takeNumber() uint64 {
	if len(t.spare) == 0 {
		t.growExtras()
	}
	n := t.spare[len(t.spare)-1]
	t.spare = t.spare[:len(t.spare)-1]
	return uint64(n)
}

// growExtras publishes a longer list. Who still holds the shorter one misses
// only what is written later, and then finds a new version of the record.
func (t *table) growExtras() {
	var old []atomic.Pointer[extra]
	if list := t.extras.Load(); list != nil {
		old = *list
	}
	size := min(max(minSlots, len(old)+len(old)/4), extraMask+1)
	list := make([]atomic.Pointer[extra], size)
	for i := range old {
		list[i].Store(old[i].Load())
	}
	for n := size - 1; n >= max(1, len(old)); n-- {
		t.spare = append(t.spare, uint32(n))
	}
	t.extras.Store(&list)
}

// copyFrom inserts the keys of another table. Their counters stay behind: the
// recorder knows in which table it counts.
func (t *table) copyFrom(old *table) bool {
	for slot := range old.records {
		rec := &old.records[slot]
		h := rec[head].Load()
		if h&stateMask == 0 {
			continue
		}
		p := rec[place].Load()
		if !t.insert(&keyRecord{
			digest: digest{rec[digest0].Load(), rec[digest1].Load(), h >> digest2At},
			id:     [2]uint64{rec[id0].Load(), rec[id1].Load()},
			life:   rec[life].Load() &^ reachMask,
			place:  p &^ extraMask,
			head:   h & (stateMask | imported),
			extra:  old.extra(p & extraMask),
		}) {
			return false
		}
	}
	return true
}
