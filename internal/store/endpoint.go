package store

import (
	"encoding/json"
	"time"

	"github.com/keystile/keystile"
)

// Endpoint is a row of the endpoints: what is on the wire, and what decides
// about what it gets.
type Endpoint struct {
	keystile.Endpoint
	// Sees are the permissions that its subscriptions were checked against, also
	// those that it no longer has.
	Sees keystile.Permissions
}

// States of an endpoint.
const (
	endpointActive = iota
	endpointPaused
	endpointDisabled
)

func endpointState(s keystile.EndpointStatus) int64 {
	switch s {
	case keystile.EndpointActive:
		return endpointActive
	case keystile.EndpointDisabled:
		return endpointDisabled
	}
	return endpointPaused
}

const endpointColumns = `e.id, e.workspace_id, e.url, e.description, e.event_types, e.state, e.state_reason, e.allow_ranges,
	e.created_at, e.updated_at, e.creator_kind, e.creator_id, e.creator_name, e.sees, e.failing_since, e.failure`

func scanEndpoint(r scanner) (Endpoint, error) {
	var e Endpoint
	var state, created, updated, failing int64
	var types, ranges, sees, failure string
	err := r.Scan(&e.ID, &e.WorkspaceID, &e.URL, &e.Description, &types, &state, &e.StatusReason, &ranges,
		&created, &updated, &e.CreatedBy.Kind, &e.CreatedBy.ID, &e.CreatedBy.Name, &sees, &failing, &failure)
	if err != nil {
		return e, err
	}
	switch state {
	case endpointActive:
		e.Status = keystile.EndpointActive
	case endpointDisabled:
		e.Status = keystile.EndpointDisabled
	default:
		e.Status = keystile.EndpointPaused
	}
	e.CreatedAt, e.UpdatedAt, e.FailingSince = fromMillis(created), fromMillis(updated), fromMillisPtr(failing)
	if failure != "" {
		if err := json.Unmarshal([]byte(failure), &e.LastFailure); err != nil {
			return e, err
		}
	}
	for _, list := range []struct {
		text string
		into any
	}{{types, &e.EventTypes}, {ranges, &e.AllowRanges}, {sees, &e.Sees}} {
		if err := json.Unmarshal([]byte(list.text), list.into); err != nil {
			return e, err
		}
	}
	return e, nil
}

// InsertEndpoint adds an endpoint.
func (tx *Tx) InsertEndpoint(e Endpoint) error {
	_, err := tx.exec(`INSERT INTO endpoints (id, workspace_id, url, description, event_types, state, state_reason,
		allow_ranges, created_at, updated_at, creator_kind, creator_id, creator_name, sees)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		e.ID, e.WorkspaceID, e.URL, e.Description, jsonList(e.EventTypes), endpointState(e.Status), e.StatusReason,
		jsonList(e.AllowRanges), millis(e.CreatedAt), millis(e.UpdatedAt), e.CreatedBy.Kind, e.CreatedBy.ID, e.CreatedBy.Name,
		jsonList(e.Sees))
	return wrap("insert an endpoint", err)
}

// Endpoint reads an endpoint in scope.
func (tx *Tx) Endpoint(s Scope, id string) (Endpoint, error) {
	ws, all := s.args()
	return queryOne(tx, scanEndpoint, `SELECT `+endpointColumns+` FROM endpoints e
		WHERE e.id = $1 AND (e.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// Endpoints lists the endpoints of a workspace, newest first, below the cursor
// (an ID, empty for the beginning), at most limit.
func (tx *Tx) Endpoints(s Scope, workspaceID, cursor string, limit int) ([]Endpoint, error) {
	ws, all := s.args()
	where, args := ``, []any{workspaceID, ws, all, limit}
	if cursor != "" {
		args = append(args, cursor)
		where = ` AND e.id < $5`
	}
	return queryAll(tx, scanEndpoint, `SELECT `+endpointColumns+` FROM endpoints e
		WHERE e.workspace_id = $1 AND (e.workspace_id = $2 OR $3 = 1)`+where+` ORDER BY e.id DESC LIMIT $4`, args...)
}

// CountEndpoints counts the endpoints of a workspace.
func (tx *Tx) CountEndpoints(s Scope, workspaceID string) (int, error) {
	ws, all := s.args()
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM endpoints
		WHERE workspace_id = $1 AND (workspace_id = $2 OR $3 = 1)`, workspaceID, ws, all)
	return int(n), err
}

// UpdateEndpoint writes what may change of an endpoint. With due, what waits
// for it is looked for at that time.
func (tx *Tx) UpdateEndpoint(s Scope, e Endpoint, due time.Time) error {
	ws, all := s.args()
	failing := int64(0)
	if e.FailingSince != nil {
		failing = millis(*e.FailingSince)
	}
	return tx.one(`UPDATE endpoints SET url = $1, description = $2, event_types = $3, state = $4, state_reason = $5,
		allow_ranges = $6, updated_at = $7, sees = $8, failing_since = $9, failure = CASE WHEN CAST($9 AS BIGINT) = 0 THEN '' ELSE failure END, due_at = CASE WHEN CAST($10 AS BIGINT) = 0 THEN due_at ELSE CAST($10 AS BIGINT) END
		WHERE id = $11 AND (workspace_id = $12 OR $13 = 1)`,
		e.URL, e.Description, jsonList(e.EventTypes), endpointState(e.Status), e.StatusReason,
		jsonList(e.AllowRanges), millis(e.UpdatedAt), jsonList(e.Sees), failing, millis(due), e.ID, ws, all)
}

// DeleteEndpoint removes an endpoint and its secrets. Its deliveries are
// removed by [Tx.DeleteDeliveries], in steps.
func (tx *Tx) DeleteEndpoint(s Scope, id string) error {
	ws, all := s.args()
	for _, q := range []string{
		`DELETE FROM webhook_secret_use WHERE webhook_secret_id IN (SELECT id FROM webhook_secrets
			WHERE endpoint_id = $1 AND endpoint_id <> '' AND (workspace_id = $2 OR $3 = 1))`,
		`DELETE FROM webhook_secrets WHERE endpoint_id = $1 AND endpoint_id <> '' AND (workspace_id = $2 OR $3 = 1)`,
	} {
		if _, err := tx.exec(q, id, ws, all); err != nil {
			return wrap("delete an endpoint's secrets", err)
		}
	}
	return tx.one(`DELETE FROM endpoints WHERE id = $1 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// EndpointsOf reads all endpoints of some workspaces, oldest first.
func (tx *Tx) EndpointsOf(workspaceIDs []string) ([]Endpoint, error) {
	args, list := bindAll(nil, workspaceIDs)
	return queryAll(tx, scanEndpoint, `SELECT `+endpointColumns+` FROM endpoints e WHERE e.workspace_id IN `+list+` ORDER BY e.id`, args...)
}
