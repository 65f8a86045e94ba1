package store

import (
	"encoding/json"
	"strings"

	"github.com/keystile/keystile"
)

// Member is a member with the ID of its role.
type Member struct {
	keystile.Member
	RoleID string
}

const memberColumns = `m.id, m.workspace_id, m.role_id, m.status, m.invited_by, m.created_at,
	p.id, m.name, m.email, p.issuer, p.subject`

func scanMember(r scanner) (Member, error) {
	var m Member
	var invitedBy string
	var created int64
	p := &m.Person
	if err := r.Scan(&m.ID, &m.WorkspaceID, &m.RoleID, &m.Status, &invitedBy, &created,
		&p.ID, &p.Name, &p.Email, &p.Issuer, &p.Subject); err != nil {
		return m, err
	}
	m.CreatedAt = fromMillis(created)
	return m, json.Unmarshal([]byte(invitedBy), &m.InvitedBy)
}

// PersonBySubject reads the person that an issuer knows by a subject.
func (tx *Tx) PersonBySubject(issuer, subject string) (keystile.Person, error) {
	return queryOne(tx, func(r scanner) (keystile.Person, error) {
		var p keystile.Person
		err := r.Scan(&p.ID, &p.Name, &p.Email, &p.Issuer, &p.Subject)
		return p, err
	}, `SELECT id, name, email, issuer, subject FROM people WHERE issuer = $1 AND subject = $2 AND subject <> ''`,
		issuer, subject)
}

// InsertPerson adds a person. ErrTaken when issuer and subject are known.
func (tx *Tx) InsertPerson(p keystile.Person, createdAt int64) error {
	_, err := tx.exec(`INSERT INTO people (id, name, email, issuer, subject, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, p.ID, p.Name, p.Email, p.Issuer, p.Subject, createdAt)
	return wrap("insert a person", err)
}

// InsertMember adds a person to a workspace. ErrTaken when it is there already.
func (tx *Tx) InsertMember(m Member) error {
	_, err := tx.exec(`INSERT INTO members (id, workspace_id, person_id, role_id, status, invited_by, created_at,
		name, email) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, m.ID, m.WorkspaceID, m.Person.ID, m.RoleID, m.Status,
		mustJSON(m.InvitedBy), millis(m.CreatedAt), m.Person.Name, m.Person.Email)
	return wrap("insert a member", err)
}

// Member reads a member in scope.
func (tx *Tx) Member(s Scope, id string) (Member, error) {
	ws, all := s.args()
	return queryOne(tx, scanMember, `SELECT `+memberColumns+` FROM members m JOIN people p ON p.id = m.person_id
		WHERE m.id = $1 AND (m.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// Members lists the members of a workspace, newest first, below the cursor
// (an ID), at most limit.
func (tx *Tx) Members(s Scope, workspaceID, cursor string, limit int) ([]Member, error) {
	ws, all := s.args()
	where, args := ` WHERE m.workspace_id = $1 AND (m.workspace_id = $2 OR $3 = 1)`, []any{workspaceID, ws, all, limit}
	if cursor != "" {
		where, args = where+` AND m.id < $5`, append(args, cursor)
	}
	return queryAll(tx, scanMember, `SELECT `+memberColumns+` FROM members m JOIN people p ON p.id = m.person_id`+where+`
		ORDER BY m.id DESC LIMIT $4`, args...)
}

// MembersInRoles lists the members of a workspace who have come in and have one
// of these roles, the oldest first, at most limit.
func (tx *Tx) MembersInRoles(s Scope, workspaceID string, roleIDs []string, limit int) ([]Member, error) {
	if len(roleIDs) == 0 {
		return nil, nil
	}
	ws, all := s.args()
	args := []any{workspaceID, ws, all, limit}
	in := make([]string, len(roleIDs))
	for i, id := range roleIDs {
		args = append(args, id)
		in[i] = `$` + itoa(len(args))
	}
	return queryAll(tx, scanMember, `SELECT `+memberColumns+` FROM members m JOIN people p ON p.id = m.person_id
		WHERE m.workspace_id = $1 AND (m.workspace_id = $2 OR $3 = 1) AND m.status = 'active' AND m.role_id IN (`+
		strings.Join(in, `, `)+`) ORDER BY m.id LIMIT $4`, args...)
}

// MembersByEmail lists the members of a workspace with an e-mail address, in
// any case of its letters, the oldest first, at most limit.
func (tx *Tx) MembersByEmail(s Scope, workspaceID, email string, limit int) ([]Member, error) {
	ws, all := s.args()
	return queryAll(tx, scanMember, `SELECT `+memberColumns+` FROM members m JOIN people p ON p.id = m.person_id
		WHERE m.workspace_id = $1 AND (m.workspace_id = $2 OR $3 = 1) AND LOWER(m.email) = LOWER($4)
		ORDER BY m.id LIMIT $5`, workspaceID, ws, all, email, limit)
}

// UpdateMemberRole gives a member another role.
func (tx *Tx) UpdateMemberRole(s Scope, id, roleID string) error {
	ws, all := s.args()
	return tx.one(`UPDATE members SET role_id = $1 WHERE id = $2 AND (workspace_id = $3 OR $4 = 1)`, roleID, id, ws, all)
}

// HandMembership gives an invited member's place to another person, who is
// whom it was meant for. ErrTaken when they are in the workspace already.
func (tx *Tx) HandMembership(memberID, personID string) error {
	return tx.one(`UPDATE members SET person_id = $1 WHERE id = $2 AND status = 'invited'`, personID, memberID)
}

// DeleteMember takes a person out of a workspace.
func (tx *Tx) DeleteMember(s Scope, id string) error {
	ws, all := s.args()
	return tx.one(`DELETE FROM members WHERE id = $1 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// CountMembers counts the members of a workspace.
func (tx *Tx) CountMembers(s Scope, workspaceID string) (int, error) {
	ws, all := s.args()
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM members
		WHERE workspace_id = $1 AND (workspace_id = $2 OR $3 = 1)`, workspaceID, ws, all)
	return int(n), err
}
