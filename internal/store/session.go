package store

import (
	"encoding/json"
	"time"

	"github.com/keystile/keystile"
)

// Session is someone who is signed in, known by the SHA-256 of the token in
// their cookie.
type Session struct {
	Digest      [32]byte
	ID          string
	Kind        string // how it began
	Person      keystile.Person
	WorkspaceID string // the only one it is good for; "" for any
	ReturnURL   string
	Address     string
	UserAgent   string
	CreatedAt   time.Time
	FreshAt     time.Time // when the person last proved who they are
	ExpiresAt   time.Time
}

const sessionColumns = `s.digest, s.id, s.kind, s.person_id, COALESCE(p.name, ''), COALESCE(p.email, ''), COALESCE(p.issuer, ''),
	COALESCE(p.subject, ''), s.workspace_id, s.return_url, s.address, s.user_agent, s.created_at, s.fresh_at, s.expires_at
	FROM sessions s LEFT JOIN people p ON p.id = s.person_id`

func scanSession(r scanner) (Session, error) {
	var s Session
	var digest []byte
	var created, fresh, expires int64
	p := &s.Person
	err := r.Scan(&digest, &s.ID, &s.Kind, &p.ID, &p.Name, &p.Email, &p.Issuer, &p.Subject, &s.WorkspaceID, &s.ReturnURL,
		&s.Address, &s.UserAgent, &created, &fresh, &expires)
	copy(s.Digest[:], digest)
	s.CreatedAt, s.FreshAt, s.ExpiresAt = fromMillis(created), fromMillis(fresh), fromMillis(expires)
	return s, err
}

// InsertSession adds a session.
func (tx *Tx) InsertSession(s Session) error {
	_, err := tx.exec(`INSERT INTO sessions (digest, id, kind, person_id, workspace_id, return_url, address, user_agent,
		created_at, fresh_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		s.Digest[:], s.ID, s.Kind, s.Person.ID, s.WorkspaceID, s.ReturnURL, s.Address, s.UserAgent,
		millis(s.CreatedAt), millis(s.FreshAt), millis(s.ExpiresAt))
	return wrap("insert a session", err)
}

// Session reads a session by its digest. Whoever knows the token may.
func (tx *Tx) Session(digest [32]byte) (Session, error) {
	return queryOne(tx, scanSession, `SELECT `+sessionColumns+` WHERE s.digest = $1`, digest[:])
}

// Sessions lists a person's sessions, newest first, at most limit.
func (tx *Tx) Sessions(personID string, limit int) ([]Session, error) {
	return queryAll(tx, scanSession, `SELECT `+sessionColumns+` WHERE s.person_id = $1 ORDER BY s.id DESC LIMIT $2`, personID, limit)
}

// DeleteSession ends a person's session. ErrNotFound when there is none of the ID.
func (tx *Tx) DeleteSession(personID, id string) error {
	return tx.one(`DELETE FROM sessions WHERE id = $1 AND person_id = $2`, id, personID)
}

// DeleteSessions ends a person's sessions: those bounded to the workspace if
// one is named, else all. Without a person it ends those of links: into the
// workspace, or the operator's.
func (tx *Tx) DeleteSessions(personID, workspaceID string) error {
	_, err := tx.exec(`DELETE FROM sessions WHERE person_id = $1 AND (workspace_id = $2 OR $2 = '' AND $1 <> '')`, personID, workspaceID)
	return wrap("end sessions", err)
}

// Memberships lists the workspaces that a person is in, with their names, by
// the time they came, at most limit.
func (tx *Tx) Memberships(personID string, limit int) ([]Membership, error) {
	return queryAll(tx, scanMembership, `SELECT m.id, m.workspace_id, w.name, m.role_id, m.status, m.name, m.email, w.ip_allowlist, w.suspended
		FROM members m JOIN workspaces w ON w.id = m.workspace_id WHERE m.person_id = $1 ORDER BY m.id LIMIT $2`, personID, limit)
}

// Membership reads a person's place in a workspace.
func (tx *Tx) Membership(personID, workspaceID string) (Membership, error) {
	return queryOne(tx, scanMembership, `SELECT m.id, m.workspace_id, w.name, m.role_id, m.status, m.name, m.email, w.ip_allowlist, w.suspended
		FROM members m JOIN workspaces w ON w.id = m.workspace_id WHERE m.person_id = $1 AND m.workspace_id = $2`, personID, workspaceID)
}

// Membership is a person's place in a workspace.
type Membership struct {
	MemberID      string
	WorkspaceID   string
	WorkspaceName string
	RoleID        string
	Status        string
	Name, Email   string   // as the workspace knows the person
	IPAllowlist   []string // of the workspace
	Suspended     bool     // the workspace
}

func scanMembership(r scanner) (Membership, error) {
	var m Membership
	var list string
	var suspended int64
	if err := r.Scan(&m.MemberID, &m.WorkspaceID, &m.WorkspaceName, &m.RoleID, &m.Status, &m.Name, &m.Email, &list, &suspended); err != nil {
		return m, err
	}
	m.Suspended = suspended != 0
	return m, json.Unmarshal([]byte(list), &m.IPAllowlist)
}

// ActivateMember notes that an invited person has come in.
func (tx *Tx) ActivateMember(personID, workspaceID string) error {
	_, err := tx.exec(`UPDATE members SET status = 'active' WHERE person_id = $1 AND workspace_id = $2`, personID, workspaceID)
	return wrap("activate a member", err)
}

// Person reads a person by ID.
func (tx *Tx) Person(id string) (keystile.Person, error) {
	return queryOne(tx, func(r scanner) (keystile.Person, error) {
		var p keystile.Person
		err := r.Scan(&p.ID, &p.Name, &p.Email, &p.Issuer, &p.Subject)
		return p, err
	}, `SELECT id, name, email, issuer, subject FROM people WHERE id = $1`, id)
}
