package cluster

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"slices"

	"github.com/keystile/keystile/internal/store"
)

// A machine that is copied while it runs leaves two of each process on it, both
// of which are right in what they know, and neither knows of the other. What they
// share is an ID, and what they can't share is what each draws at random from then
// on. So a node leaves such a mark with each renewal, and a child with each request
// for a lease, and each says which it has left before: the second of two finds the
// mark of the first.

const (
	// marksAnswered is how many marks a node remembers when it has an answer: a
	// failover may set its row back by a renewal or two.
	marksAnswered = 8
	// marksKept is how many it remembers without one. By then its lease is long
	// over, and it goes on under another ID.
	marksKept = 64
)

// rename gives this node another ID, and no lease: a copy of this process has
// renewed under the one it had, and whoever waits for that row waits for the copy.
func (n *Node) rename() {
	n.mu.Lock()
	before := n.claim.ID
	n.claim = store.Claim{ID: random()}
	after := n.claim.ID
	n.mu.Unlock()
	n.dropLease()
	n.log.Error("the database has a row of this server that it has not written, so that it goes on under another ID; "+
		"if the machine was copied while the server ran, the copy or this one may have accepted until now what was revoked "+
		"in the seconds after that; if the database was set back to an earlier state, revocations of since then may be undone",
		"before", before, "id", after)
	n.nudge()
}

// self is the ID of this node.
func (n *Node) self() string { return n.claimed().ID }

// claimed is what this node knows its row by.
func (n *Node) claimed() store.Claim {
	n.mu.Lock()
	defer n.mu.Unlock()
	return store.Claim{ID: n.claim.ID, Marks: slices.Clone(n.claim.Marks)}
}

// random is a new ID, or a mark.
func random() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program first
	return hex.EncodeToString(b)
}

// Speaker is who speaks for a child.
type Speaker struct {
	Credential [32]byte // as [Caller] has it
	// Mark is what this message leaves, and Was are those that may have been left
	// before: of the last message that had an answer, and of those since. Older
	// children leave none.
	Mark string
	Was  []string
}

// speaks fails with ErrNoChild for somebody who did not attach the child, and with
// ErrCopied for a copy of who did.
func (c *child) speaks(who Speaker) error {
	if c == nil || subtle.ConstantTimeCompare(c.caller.Credential[:], who.Credential[:]) != 1 {
		return ErrNoChild
	}
	// The same message may come twice.
	if c.mark != "" && c.mark != who.Mark && !slices.Contains(who.Was, c.mark) {
		return ErrCopied
	}
	return nil
}
