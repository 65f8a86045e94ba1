package store

import (
	"time"
)

// Link is a one-time link, known by the SHA-256 of its token.
type Link struct {
	Digest      [32]byte
	WorkspaceID string // "" for a chooser
	Purpose     string
	CreatedAt   time.Time
	ExpiresAt   time.Time
	UsedAt      time.Time
}

// InsertLink adds a link.
func (tx *Tx) InsertLink(l Link) error {
	_, err := tx.exec(`INSERT INTO links (digest, workspace_id, purpose, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`,
		l.Digest[:], l.WorkspaceID, l.Purpose, millis(l.CreatedAt), millis(l.ExpiresAt))
	return wrap("insert a link", err)
}

// Link reads a link by its digest. Whoever knows the token may.
func (tx *Tx) Link(digest [32]byte) (Link, error) {
	return queryOne(tx, func(r scanner) (Link, error) {
		l := Link{Digest: digest}
		var created, expires, used int64
		err := r.Scan(&l.WorkspaceID, &l.Purpose, &created, &expires, &used)
		l.CreatedAt, l.ExpiresAt, l.UsedAt = fromMillis(created), fromMillis(expires), fromMillis(used)
		return l, err
	}, `SELECT workspace_id, purpose, created_at, expires_at, used_at FROM links WHERE digest = $1`, digest[:])
}

// SpendLink marks a link as used. ErrNotFound when it is used or over.
func (tx *Tx) SpendLink(digest [32]byte, now time.Time) error {
	return tx.one(`UPDATE links SET used_at = $1 WHERE digest = $2 AND used_at = 0 AND expires_at > $1`,
		millis(now), digest[:])
}
