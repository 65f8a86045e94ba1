package store

import (
	"time"
)

// Link is a token that is good once, known by its SHA-256: a sign-in link, an
// invitation, a portal session to be opened, or a sign-in under way.
type Link struct {
	Digest      [32]byte
	WorkspaceID string // "" where it is for no one workspace
	PersonID    string // whom it lets in; "" for whoever has it
	Purpose     string
	Data        string // what the purpose needs besides; no secret
	CreatedAt   time.Time
	ExpiresAt   time.Time
	UsedAt      time.Time
}

// InsertLink adds a link.
func (tx *Tx) InsertLink(l Link) error {
	_, err := tx.exec(`INSERT INTO links (digest, workspace_id, person_id, purpose, data, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		l.Digest[:], l.WorkspaceID, l.PersonID, l.Purpose, l.Data, millis(l.CreatedAt), millis(l.ExpiresAt))
	return wrap("insert a link", err)
}

// Link reads a link by its digest. Whoever knows the token may.
func (tx *Tx) Link(digest [32]byte) (Link, error) {
	return queryOne(tx, func(r scanner) (Link, error) {
		l := Link{Digest: digest}
		var created, expires, used int64
		err := r.Scan(&l.WorkspaceID, &l.PersonID, &l.Purpose, &l.Data, &created, &expires, &used)
		l.CreatedAt, l.ExpiresAt, l.UsedAt = fromMillis(created), fromMillis(expires), fromMillis(used)
		return l, err
	}, `SELECT workspace_id, person_id, purpose, data, created_at, expires_at, used_at FROM links WHERE digest = $1`, digest[:])
}

// SpendLink marks a link as used. ErrNotFound when it is used or over.
func (tx *Tx) SpendLink(digest [32]byte, now time.Time) error {
	return tx.one(`UPDATE links SET used_at = $1 WHERE digest = $2 AND used_at = 0 AND expires_at > $1`,
		millis(now), digest[:])
}

// EndLinks spends all links that would let a person into a workspace.
func (tx *Tx) EndLinks(personID, workspaceID string, now time.Time) error {
	_, err := tx.exec(`UPDATE links SET used_at = $1 WHERE person_id = $2 AND workspace_id = $3 AND used_at = 0`,
		millis(now), personID, workspaceID)
	return wrap("end links", err)
}
