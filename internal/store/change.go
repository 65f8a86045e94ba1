package store

import (
	"crypto/rand"
	"time"
)

// ChangeKind says what a change touched.
type ChangeKind string

const (
	ChangeKey       ChangeKind = "key"
	ChangeWorkspace ChangeKind = "workspace"
	ChangeRole      ChangeKind = "role"
	ChangeMember    ChangeKind = "member"
	ChangeProfile   ChangeKind = "profile" // roles built into the profile
	ChangeLink      ChangeKind = "link"    // sign-in links; of no concern to the index
	ChangeAlert     ChangeKind = "alert"   // that someone has seen one; of no concern either
	ChangeSession   ChangeKind = "session" // sessions and passkeys; of no concern to the index either
	// ChangeWebhookSecret is of no concern to the index: whoever signs reads the store.
	ChangeWebhookSecret ChangeKind = "webhook_secret"
	ChangeMasterKey     ChangeKind = "master_key" // which one seals; of no concern to the index
	ChangeEndpoint      ChangeKind = "endpoint"   // endpoints and deliveries; of no concern to the index
	ChangeNoop          ChangeKind = "noop"       // nothing; whoever logged it waits for the barrier
)

// Change is a row of the change log: object ID of Kind is to be read anew.
type Change struct {
	Seq      int64
	Token    [16]byte // random; equal (Seq, Token) means the same history
	Kind     ChangeKind
	ObjectID string
}

// changeLog is the position in the log of the transaction under way.
type changeLog struct {
	seq  int64
	told bool // an event is in it that goes to somebody
}

func newToken() ([]byte, error) {
	token := make([]byte, 16)
	_, err := rand.Read(token)
	return token, err
}

// LogChange appends to the change log: every node reads the object anew and
// the calls that wait for the barrier wait for that.
func (tx *Tx) LogChange(kind ChangeKind, objectID string) error {
	token, err := newToken()
	if err != nil {
		return err
	}
	tx.log.seq++
	_, err = tx.exec(`INSERT INTO changes (seq, token, kind, object_id, at) VALUES ($1, $2, $3, $4, $5)`,
		tx.log.seq, token, string(kind), objectID, time.Now().UnixMilli())
	return wrap("append to the change log", err)
}

// writeHead moves the head to what this transaction has appended. The head's
// row has been locked since the transaction began, so numbers are given out
// in commit order and without gaps.
func (tx *Tx) writeHead() error {
	return tx.one(`UPDATE change_head SET seq = $1 WHERE one = 1`, tx.log.seq)
}

// Head is a position in the change log.
type Head struct {
	Seq      int64
	Token    [16]byte
	Timeline int64
}

// Head reads the newest position.
func (tx *Tx) Head() (Head, error) {
	return queryOne(tx, func(r scanner) (Head, error) {
		var h Head
		var token []byte
		err := r.Scan(&h.Seq, &token, &h.Timeline)
		copy(h.Token[:], token)
		return h, err
	}, `SELECT h.seq, c.token, h.timeline FROM change_head h JOIN changes c ON c.seq = h.seq`)
}

// ChangesSince reads the changes from seq on, the one at seq included, so that
// the caller can check that it is still the one it knows. At most limit rows.
func (tx *Tx) ChangesSince(seq int64, limit int) ([]Change, error) {
	return queryAll(tx, func(r scanner) (Change, error) {
		var c Change
		var token []byte
		var kind string
		err := r.Scan(&c.Seq, &token, &kind, &c.ObjectID)
		copy(c.Token[:], token)
		c.Kind = ChangeKind(kind)
		return c, err
	}, `SELECT seq, token, kind, object_id FROM changes WHERE seq >= $1 ORDER BY seq LIMIT $2`, seq, limit)
}

// OnCommit sets what is called after every commit of this process that logged
// changes, with the first and last of them. It is set once, before the first
// write, and must not block.
func (s *Store) OnCommit(f func(first, last int64)) { s.writer.committed = f }
