package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/keystile/keystile/internal/verify"
)

// idSource makes the IDs of this process: 48 bits of Unix milliseconds and 80
// random bits, so that they sort by time. Within a process each is greater
// than the one before, even when the clock stands or goes back.
type idSource struct {
	mu   sync.Mutex
	last [16]byte
}

func (s *idSource) next(prefix string, now time.Time) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16)
	if _, err := rand.Read(id[6:]); err != nil {
		panic("keyring: the system has no randomness: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Compare(id[:], s.last[:]) <= 0 {
		id = s.last
		for i := len(id) - 1; i >= 0; i-- {
			if id[i]++; id[i] != 0 {
				break
			}
		}
	}
	s.last = id
	return verify.EncodeID(prefix, id)
}

// timeless makes an ID that does not tell when it was made. People have one:
// they are the same in all workspaces, and who invites someone must not see by
// the age of the ID that another workspace did so before.
func timeless(prefix string) string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic("keyring: the system has no randomness: " + err.Error())
	}
	return verify.EncodeID(prefix, id)
}

// checkID tells a well-formed ID of a kind of object from anything else.
// Whatever is not one is answered like an object that does not exist.
func checkID(prefix, id string) error {
	if prefix == "ws_" && id == OperatorWorkspace {
		return nil
	}
	if _, ok := verify.DecodeID(prefix, id); !ok {
		return notFound()
	}
	return nil
}

// checkCursor refuses cursors that no page ever gave out.
func checkCursor(prefix, cursor string) error {
	if cursor == "" || checkID(prefix, cursor) == nil {
		return nil
	}
	return badField("query.cursor", "This is not a cursor that a page of this list gave out.")
}
