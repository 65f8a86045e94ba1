// Package stream is what a server and a replica say to each other: messages,
// and the replica's side of the conversation. The server's side is in
// internal/cluster, behind internal/api.
//
// A replica opens one long answer, GET /v1/replica, which brings everything
// that an index needs and then each change. Beside it the replica asks for
// leases, POST /v1/replica/{attachment}, each time saying how far it has come.
// Package stream knows no store, no rule and no SQL; it is part of programs
// that verify in their own process.
package stream

import (
	"bufio"
	"encoding/gob"
	"io"
	"net/netip"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// Protocol is the number of what both sides must mean by their messages. It is
// raised by every change after which a replica of before could let in a key that
// the server refuses, such as one more condition on a key: encoding/gob would
// leave out what the other side does not know.
const Protocol = 1

// MarksHeader is the header of each short request in which a replica leaves a mark:
// random, and behind it those that it may have left before, separated by spaces. A
// copy of the replica's machine leaves others. It is no part of the message, since
// older servers refuse what they don't know there.
const MarksHeader = "Keystile-Marks"

// MarkLength is how long a mark is.
const MarkLength = 16

// ContentType is that of the long answer: frames of encoding/gob, which fits
// fields by their names, so that either side may be a version older.
const ContentType = "application/vnd.keystile.replica+gob"

// Token names one position of one history of changes: two logs that have the
// same number and token have the same past.
type Token [16]byte

// Kind is what a frame is about.
type Kind uint8

// The kinds of frames, in the order in which they come.
const (
	KindHello   Kind = iota + 1 // first of all
	KindResumed                 // the replica's own index goes on
	KindLoad                    // a part of everything, for a new index
	KindLoaded                  // that was everything
	KindChange                  // what has changed
	KindAlive                   // nothing has changed for a moment
	KindReset                   // the history is another one: forget everything
	KindLeave                   // this server ends: go to another
)

// Frame is one message of the long answer.
type Frame struct {
	Kind  Kind
	Hello *Hello
	Batch *Batch
	Seq   int64 // position of the change log that the replica has with this frame
	Token Token
}

// fits tells whether a frame may come now: to a replica whose index has
// everything, or to one that could go on with the index of before.
func (f Frame) fits(whole, resumable bool) bool {
	switch f.Kind {
	case KindResumed:
		return !whole && resumable
	case KindLoad:
		return !whole && f.Batch != nil
	case KindLoaded:
		return !whole
	case KindChange:
		return whole && f.Batch != nil
	case KindAlive, KindReset, KindLeave:
		return true
	}
	return false // a second hello, or what only another version knows
}

// Hello is what a replica must know of the server.
type Hello struct {
	Attachment  string // names this conversation
	Version     string
	Protocol    int
	Prefix      string   // of the product's keys
	Markers     []string // of environments that keys name
	Permissions []string // that may be asked for
	Profile     string   // its source
	Roles       []verify.Role
	Keys        int // about how many there are
}

// Batch is a [verify.Batch] in a form that travels well.
type Batch struct {
	Workspaces     []Workspace
	GoneWorkspaces []string
	Roles          []verify.Role
	GoneRoles      []string
	Keys           []Key
	GoneKeys       []string
}

// Workspace is a [verify.Workspace].
type Workspace struct {
	ID        string
	Suspended bool
	Allow     []netip.Prefix
}

// Key is a [verify.Key].
type Key struct {
	ID          string
	Digest      []byte
	WorkspaceID string
	RoleID      string
	State       uint8
	ExpiresAt   int64
	Environment string
	Allow       []netip.Prefix
	Permissions []string
	Owner       string
	Metadata    map[string]string
	Imported    bool
}

// NewBatch makes a batch that travels.
func NewBatch(b verify.Batch) *Batch {
	out := &Batch{GoneWorkspaces: b.GoneWorkspaces, Roles: b.Roles, GoneRoles: b.GoneRoles, GoneKeys: b.GoneKeys}
	for _, w := range b.Workspaces {
		out.Workspaces = append(out.Workspaces, Workspace(w))
	}
	for i := range b.Keys {
		k := &b.Keys[i]
		out.Keys = append(out.Keys, Key{
			ID: k.ID, Digest: k.Digest[:], WorkspaceID: k.WorkspaceID, RoleID: k.RoleID, State: uint8(k.State),
			ExpiresAt: k.ExpiresAt, Environment: k.Environment, Allow: k.Allow, Permissions: k.Permissions,
			Owner: k.Owner, Metadata: k.Metadata, Imported: k.Imported,
		})
	}
	return out
}

// Batch makes the batch that an index takes. A digest of another length makes
// the key one that is revoked: what can't be read must not let anyone in.
func (b *Batch) Batch() verify.Batch {
	out := verify.Batch{GoneWorkspaces: b.GoneWorkspaces, Roles: b.Roles, GoneRoles: b.GoneRoles, GoneKeys: b.GoneKeys}
	for _, w := range b.Workspaces {
		out.Workspaces = append(out.Workspaces, verify.Workspace(w))
	}
	out.Keys = make([]verify.Key, len(b.Keys))
	for i := range b.Keys {
		k := &b.Keys[i]
		out.Keys[i] = verify.Key{
			ID: k.ID, WorkspaceID: k.WorkspaceID, RoleID: k.RoleID, State: verify.State(k.State),
			ExpiresAt: k.ExpiresAt, Environment: k.Environment, Allow: k.Allow, Permissions: k.Permissions,
			Owner: k.Owner, Metadata: k.Metadata, Imported: k.Imported,
		}
		if copy(out.Keys[i].Digest[:], k.Digest) != len(out.Keys[i].Digest) {
			out.Keys[i].State = verify.StateRevoked
		}
	}
	return out
}

// Ask is what a replica sends with every request for a lease.
type Ask struct {
	// Seq is the position up to which its index shows the changes.
	Seq int64 `json:"seq"`
	// Uses are what it has counted, and Part numbers them, so that what is sent
	// twice is counted once.
	Uses []verify.Use `json:"uses,omitempty"`
	Part int64        `json:"part,omitempty"`
}

// Grant answers an Ask: once the index shows Head, it may be used for For,
// counted from before the request was sent.
type Grant struct {
	Head int64         `json:"head"`
	For  time.Duration `json:"for_ns"` // 0: none
	// Why is why there is none, where that is the replica's own doing.
	Why string `json:"why,omitempty"`
	// Now is the server's clock. What has an end is held against it.
	Now time.Time `json:"now"`
}

// MaxUses is how many uses travel with one Ask.
const MaxUses = 2000

// Writer writes frames.
type Writer struct {
	buffer *bufio.Writer
	gob    *gob.Encoder
}

// NewWriter returns a writer of frames to w.
func NewWriter(w io.Writer) *Writer {
	b := bufio.NewWriterSize(w, 64<<10)
	return &Writer{buffer: b, gob: gob.NewEncoder(b)}
}

// Write writes a frame, which may stay in the buffer until Flush.
func (w *Writer) Write(f Frame) error { return w.gob.Encode(f) }

// Flush sends what is in the buffer.
func (w *Writer) Flush() error { return w.buffer.Flush() }

// Reader reads frames.
type Reader struct{ gob *gob.Decoder }

// NewReader returns a reader of frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{gob.NewDecoder(bufio.NewReaderSize(r, 64<<10))} }

// Read reads the next frame.
func (r *Reader) Read() (f Frame, err error) {
	err = r.gob.Decode(&f)
	return f, err
}

// Permission is what the key of a replica must carry.
const Permission = "platform.replica"

var _ keystile.Verifier = (*Replica)(nil)
