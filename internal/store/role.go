package store

import (
	"encoding/json"

	"github.com/keystile/keystile"
)

const roleColumns = `r.id, r.workspace_id, r.name, r.description, r.permissions, r.created_at, r.updated_at`

func scanRole(r scanner) (keystile.Role, error) {
	var v keystile.Role
	var permissions string
	var created, updated int64
	if err := r.Scan(&v.ID, &v.WorkspaceID, &v.Name, &v.Description, &permissions, &created, &updated); err != nil {
		return v, err
	}
	v.CreatedAt, v.UpdatedAt = fromMillisPtr(created), fromMillisPtr(updated)
	return v, json.Unmarshal([]byte(permissions), &v.Permissions)
}

// InsertRole adds a workspace's own role. ErrTaken when the name is in use.
func (tx *Tx) InsertRole(r keystile.Role) error {
	_, err := tx.exec(`INSERT INTO roles (id, workspace_id, name, description, permissions, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, r.ID, r.WorkspaceID, r.Name, r.Description,
		jsonList(r.Permissions), millisPtr(r.CreatedAt), millisPtr(r.UpdatedAt))
	return wrap("insert a role", err)
}

// Role reads a role in scope.
func (tx *Tx) Role(s Scope, id string) (keystile.Role, error) {
	ws, all := s.args()
	return queryOne(tx, scanRole, `SELECT `+roleColumns+` FROM roles r
		WHERE r.id = $1 AND (r.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// Roles lists the roles that a workspace made, oldest first, after the cursor
// (an ID, empty for the beginning), at most limit.
func (tx *Tx) Roles(s Scope, workspaceID, cursor string, limit int) ([]keystile.Role, error) {
	ws, all := s.args()
	return queryAll(tx, scanRole, `SELECT `+roleColumns+` FROM roles r
		WHERE r.workspace_id = $1 AND (r.workspace_id = $2 OR $3 = 1) AND r.id > $4
		ORDER BY r.id LIMIT $5`, workspaceID, ws, all, cursor, limit)
}

// RoleByName reads the role of that name that a workspace made.
func (tx *Tx) RoleByName(s Scope, workspaceID, name string) (keystile.Role, error) {
	ws, all := s.args()
	return queryOne(tx, scanRole, `SELECT `+roleColumns+` FROM roles r
		WHERE r.workspace_id = $1 AND r.name = $2 AND (r.workspace_id = $3 OR $4 = 1)`, workspaceID, name, ws, all)
}

// UpdateRole writes what may change of a role. ErrTaken when the name is in use.
func (tx *Tx) UpdateRole(s Scope, r keystile.Role) error {
	ws, all := s.args()
	return tx.one(`UPDATE roles SET name = $1, description = $2, permissions = $3, updated_at = $4
		WHERE id = $5 AND (workspace_id = $6 OR $7 = 1)`,
		r.Name, r.Description, jsonList(r.Permissions), millisPtr(r.UpdatedAt), r.ID, ws, all)
}

// DeleteRole removes a role.
func (tx *Tx) DeleteRole(s Scope, id string) error {
	ws, all := s.args()
	return tx.one(`DELETE FROM roles WHERE id = $1 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// RoleUsers counts the keys that are not over and the members that have a role.
func (tx *Tx) RoleUsers(s Scope, id string) (keys, members int64, err error) {
	ws, all := s.args()
	keys, err = queryOne(tx, scanInt, `SELECT COUNT(*) FROM keys
		WHERE role_id = $1 AND state < 2 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all)
	if err != nil {
		return 0, 0, err
	}
	members, err = queryOne(tx, scanInt, `SELECT COUNT(*) FROM members
		WHERE role_id = $1 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all)
	return keys, members, err
}

// CountRoles counts the roles that a workspace made.
func (tx *Tx) CountRoles(s Scope, workspaceID string) (int, error) {
	ws, all := s.args()
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM roles
		WHERE workspace_id = $1 AND (workspace_id = $2 OR $3 = 1)`, workspaceID, ws, all)
	return int(n), err
}
