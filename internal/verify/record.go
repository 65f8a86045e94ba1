package verify

import (
	"runtime"
	"sync/atomic"
)

// A record is one key in 64 bytes, one line of the processor's cache, without
// a pointer that the collector would have to follow. Its words are:
//
//	digest0  bits 0 to 63 of the digest
//	digest1  bits 64 to 127
//	id0, id1 the 16 bytes of the Key ID
//	life     expires_at in Unix milliseconds (48 bits) · environment (6) · reach (10)
//	place    workspace (22) · role (22) · extra (20)
//	head     hash of the digest's other bits (32) · version (27) · state (3) · imported (1) · counted (1)
//	use      source (24) · count (12) · last use (28); the recorder's
//
// So 160 bits of a digest are compared. To be accepted without being a key, a
// text must agree in all of them with some key: for ten million keys, a chance
// of 2^-137 for each guess. The last 32 come from a keyed hash, so whoever
// imports digests can't make two that agree either. Keeping the other 96 bits
// would cost each check a second line of memory.
//
// Who writes: the index alone, holding its mutex, all but the word use and the
// bit counted, which are the recorder's.
//
// Readers take no lock. The version is odd while the record is being written,
// and greater by two afterwards. sync/atomic orders all operations in one
// sequence that agrees with each goroutine's own (The Go Memory Model), so if a
// reader finds the same even version before and after reading the words, no
// write lay in between: a word of a write would have come after the odd version
// of that write, which the second look would have seen. The version comes
// round after 2^26 writes; a reader would have to stand still exactly as long
// as one key is changed that often.
type record [8]atomic.Uint64

const (
	digest0 = iota
	digest1
	id0
	id1
	life
	place
	head
	use
)

const (
	reachMask   = 1<<10 - 1
	environment = 10 // where the environment begins
	expiry      = 16
	maxExpiry   = 1<<48 - 1 // in the year 10889

	extraMask   = 1<<20 - 1
	numberMask  = 1<<22 - 1
	roleAt      = 20
	workspaceAt = 42

	counted     = 1 << 0 // the recorder counts here: the slot must not go to another key
	imported    = 1 << 1
	stateAt     = 2
	stateMask   = 7 << stateAt // 0 is a vacant slot, otherwise State + 1
	changing    = 1 << 5       // the lowest bit of the version
	versionMask = (1<<27 - 1) << 5
	digest2At   = 32
)

// begin makes the version odd. The recorder may set or clear counted at the
// same time, so the word is only ever exchanged.
func (r *record) begin() {
	for {
		h := r[head].Load()
		if r[head].CompareAndSwap(h, nextVersion(h)) {
			return
		}
	}
}

// end makes the version even again and sets the rest of head to bits, all but
// counted.
func (r *record) end(bits uint64) {
	for {
		h := r[head].Load()
		if r[head].CompareAndSwap(h, nextVersion(h)&(versionMask|counted)|bits) {
			return
		}
	}
}

func nextVersion(h uint64) uint64 {
	return h&^versionMask | (h+changing)&versionMask
}

// vacant tells whether the slot can be given to a key. The recorder sets
// counted only where there is a key, so a vacant slot stays vacant.
func (r *record) vacant() bool {
	return r[head].Load()&(stateMask|counted) == 0
}

func (r *record) live() bool { return r[head].Load()&stateMask != 0 }

// attach sets counted, so that the slot stays this key's until detach. It
// refuses when the slot is not this key's any more or is counted in already.
func (r *record) attach(id [2]uint64) bool {
	for {
		h := r[head].Load()
		if h&changing != 0 {
			runtime.Gosched() // the writer is between two stores
			continue
		}
		if h&stateMask == 0 || h&counted != 0 || r[id0].Load() != id[0] || r[id1].Load() != id[1] {
			return false
		}
		// The version is part of the word: the slot was this key's throughout.
		if r[head].CompareAndSwap(h, h|counted) {
			return true
		}
	}
}

func (r *record) detach() { r[head].And(^uint64(counted)) }
