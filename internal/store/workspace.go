package store

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

const workspaceColumns = `w.id, w.name, w.plan, w.suspended, w.suspended_reason, w.ip_allowlist, w.operator,
	w.created_at, w.updated_at`

func scanWorkspace(r scanner) (keystile.Workspace, error) {
	var w keystile.Workspace
	var suspended, operator, created, updated int64
	var allow string
	err := r.Scan(&w.ID, &w.Name, &w.Plan, &suspended, &w.SuspendedReason, &allow, &operator, &created, &updated)
	if err != nil {
		return w, err
	}
	w.Suspended, w.Operator = suspended != 0, operator != 0
	w.CreatedAt, w.UpdatedAt = fromMillis(created), fromMillis(updated)
	return w, json.Unmarshal([]byte(allow), &w.IPAllowlist)
}

// InsertWorkspace adds a workspace. ErrTaken when its ID is there already.
func (tx *Tx) InsertWorkspace(w keystile.Workspace) error {
	_, err := tx.exec(`INSERT INTO workspaces (id, name, plan, suspended, suspended_reason, ip_allowlist, operator,
		search, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		w.ID, w.Name, w.Plan, flag(w.Suspended), w.SuspendedReason, jsonList(w.IPAllowlist), flag(w.Operator),
		fold(w.Name, w.ID), millis(w.CreatedAt), millis(w.UpdatedAt))
	return wrap("insert a workspace", err)
}

// Workspace reads a workspace in scope.
func (tx *Tx) Workspace(s Scope, id string) (keystile.Workspace, error) {
	ws, all := s.args()
	return queryOne(tx, scanWorkspace, `SELECT `+workspaceColumns+` FROM workspaces w
		WHERE w.id = $1 AND (w.id = $2 OR $3 = 1)`, id, ws, all)
}

// Workspaces lists workspaces in scope, newest first, below the cursor (an ID,
// empty for the beginning), at most limit. Query matches name and ID.
func (tx *Tx) Workspaces(s Scope, query, cursor string, limit int) ([]keystile.Workspace, error) {
	// The one workspace of a scope is looked up, not searched for among all.
	where, args := ` WHERE w.id = $2`, []any{limit, s.workspace}
	if s.all {
		where, args = ` WHERE w.id > $2`, []any{limit, ""}
	}
	if cursor != "" {
		args = append(args, cursor)
		where += ` AND w.id < $` + itoa(len(args))
	}
	if query != "" {
		args = append(args, like(query))
		where += ` AND w.search LIKE $` + itoa(len(args)) + ` ESCAPE '\'`
	}
	return queryAll(tx, scanWorkspace, `SELECT `+workspaceColumns+` FROM workspaces w`+where+` ORDER BY w.id DESC LIMIT $1`, args...)
}

// UpdateWorkspace writes what may change of a workspace.
func (tx *Tx) UpdateWorkspace(s Scope, w keystile.Workspace) error {
	ws, all := s.args()
	return tx.one(`UPDATE workspaces SET name = $1, plan = $2, suspended = $3, suspended_reason = $4,
		ip_allowlist = $5, search = $6, updated_at = $7 WHERE id = $8 AND (id = $9 OR $10 = 1)`,
		w.Name, w.Plan, flag(w.Suspended), w.SuspendedReason, jsonList(w.IPAllowlist), fold(w.Name, w.ID),
		millis(w.UpdatedAt), w.ID, ws, all)
}

// DeleteWorkspace removes a workspace and everything in it but its audit log.
// It returns the IDs of the keys that went with it.
func (tx *Tx) DeleteWorkspace(s Scope, id string) ([]string, error) {
	if _, err := tx.Workspace(s, id); err != nil {
		return nil, err
	}
	keys, err := queryAll(tx, scanString, `SELECT id FROM keys WHERE workspace_id = $1`, id)
	if err != nil {
		return nil, err
	}
	for _, q := range []string{
		`DELETE FROM recent_uses WHERE key_id IN (SELECT id FROM keys WHERE workspace_id = $1)`,
		`DELETE FROM key_use WHERE key_id IN (SELECT id FROM keys WHERE workspace_id = $1)`,
		`DELETE FROM key_sources WHERE key_id IN (SELECT id FROM keys WHERE workspace_id = $1)`,
		`DELETE FROM usage WHERE workspace_id = $1`,
		`DELETE FROM usage_sums WHERE workspace_id = $1`,
		`DELETE FROM workspace_usage WHERE workspace_id = $1`,
		`DELETE FROM alert_mails WHERE alert_id IN (SELECT id FROM alerts WHERE workspace_id = $1)`,
		`DELETE FROM alerts WHERE workspace_id = $1`,
		`DELETE FROM auth_failures WHERE workspace_id = $1`,
		`DELETE FROM auth_failure_sources WHERE workspace_id = $1`,
		`DELETE FROM keys WHERE workspace_id = $1`,
		`DELETE FROM members WHERE workspace_id = $1`,
		`DELETE FROM roles WHERE workspace_id = $1`,
		// An event goes after its deliveries, so these are all of them.
		`DELETE FROM deliveries WHERE event_id IN (SELECT id FROM events WHERE workspace_id = $1)`,
		`DELETE FROM endpoints WHERE workspace_id = $1`,
		`DELETE FROM webhook_secret_use WHERE webhook_secret_id IN
			(SELECT id FROM webhook_secrets WHERE workspace_id = $1)`,
		`DELETE FROM webhook_secrets WHERE workspace_id = $1`,
		`DELETE FROM links WHERE workspace_id = $1`,
		`DELETE FROM workspaces WHERE id = $1`,
	} {
		if _, err := tx.exec(q, id); err != nil {
			return nil, wrap("delete a workspace", err)
		}
	}
	return keys, nil
}

// CountMade counts the live keys in a workspace that one party made.
func (tx *Tx) CountMade(s Scope, workspaceID, creatorID string, now time.Time) (int, error) {
	ws, all := s.args()
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM keys k WHERE k.creator_id = $1 AND k.workspace_id = $2
		AND k.state < 2 AND (k.expires_at = 0 OR k.expires_at > $3) AND (k.workspace_id = $4 OR $5 = 1)`,
		creatorID, workspaceID, millis(now), ws, all)
	return int(n), err
}

// CountActiveKeys counts the keys that count against the plan: active ones,
// without those whose replacement is active too.
//
// Both statements read indexes that hold all that is asked for, and no key's
// own row; states are no parameters, so that both databases see it. In one
// statement the question for a replacement is asked of every key, and takes
// ten times as long.
func (tx *Tx) CountActiveKeys(s Scope, workspaceID string, now time.Time) (int, error) {
	ws, all := s.args()
	active, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM keys k
		WHERE k.workspace_id = $1 AND k.state = 0 AND (k.expires_at = 0 OR k.expires_at > $2)
		AND (k.workspace_id = $3 OR $4 = 1)`, workspaceID, millis(now), ws, all)
	if err != nil || active == 0 {
		return 0, err
	}
	replaced, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM keys k JOIN keys r ON r.id = k.replaced_by
		WHERE k.workspace_id = $1 AND k.state = 0 AND k.replaced_by <> '' AND (k.expires_at = 0 OR k.expires_at > $2)
		AND r.state = 0 AND (r.expires_at = 0 OR r.expires_at > $2)
		AND (k.workspace_id = $3 OR $4 = 1)`, workspaceID, millis(now), ws, all)
	return int(active - replaced), err
}

// jsonList is how lists are kept: never null.
func jsonList[T any](list []T) string {
	if len(list) == 0 {
		return "[]"
	}
	return mustJSON(list)
}

func jsonMap(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	return mustJSON(m)
}

// mustJSON writes values that cannot fail: strings, and maps and structs of them.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: " + err.Error())
	}
	return string(b)
}

// fold makes the text that searches look in. Both databases see what Go has
// lowered, since they disagree on letters beyond ASCII.
func fold(parts ...string) string { return strings.ToLower(strings.Join(parts, "\n")) }

// like makes the pattern for a search in a folded text.
func like(query string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(query))
	return "%" + escaped + "%"
}
