package store

import (
	"encoding/json"
	"time"

	"github.com/keystile/keystile"
)

// SettingMasterKey names the setting that holds the ID of the master key that
// seals what is new. It is read in the transaction that seals, so that once a
// rotation has changed it, no process seals under the former key any more; and
// it shows a wrong key at the start.
const SettingMasterKey = "master_key"

// WebhookSecret is a webhook secret as it is kept: sealed.
type WebhookSecret struct {
	keystile.WebhookSecretRecord
	// MasterKey is the ID of the key that Sealed is under; both are empty when
	// the secret can never be opened again, since that key was lost.
	MasterKey string
	Sealed    []byte
	// FormerEnd is the end the secret had before a rotation gave it a nearer
	// one, in Unix milliseconds, 0 for none.
	FormerEnd int64
	// ReplacementStatus and ReplacementEnd are the state and the end (zero for
	// none) of the secret that replaces this one; no status when there is none.
	ReplacementStatus keystile.KeyStatus
	ReplacementEnd    time.Time
	// ReplacementVerified is when a signature of that one was last verified,
	// zero for never.
	ReplacementVerified time.Time
}

const secretColumns = `w.id, w.workspace_id, w.endpoint_id, w.label, w.environment, w.algorithm, w.preview, w.state,
	w.master_key, w.sealed, w.created_at, w.creator_kind, w.creator_id, w.creator_name, w.updated_at, w.expires_at,
	w.former_end, w.revoked_at, w.revoked_by, w.revoked_reason, w.replaces, w.replaced_by,
	COALESCE(u.signed_at, 0), COALESCE(u.verified_at, 0), COALESCE(r.state, -1), COALESCE(r.expires_at, 0),
	COALESCE(ru.verified_at, 0)`

const secretTables = ` FROM webhook_secrets w LEFT JOIN webhook_secret_use u ON u.webhook_secret_id = w.id
	LEFT JOIN webhook_secrets r ON r.id = w.replaced_by
	LEFT JOIN webhook_secret_use ru ON ru.webhook_secret_id = w.replaced_by `

func scanSecret(r scanner) (WebhookSecret, error) {
	var s WebhookSecret
	var state, created, updated, expires, revoked, signed, verified, replacementState, replacementEnd, replacementVerified int64
	var revokedBy string
	err := r.Scan(&s.ID, &s.WorkspaceID, &s.EndpointID, &s.Label, &s.Environment, &s.Algorithm, &s.Preview, &state,
		&s.MasterKey, &s.Sealed, &created, &s.CreatedBy.Kind, &s.CreatedBy.ID, &s.CreatedBy.Name, &updated, &expires,
		&s.FormerEnd, &revoked, &revokedBy, &s.RevokedReason, &s.Replaces, &s.ReplacedBy,
		&signed, &verified, &replacementState, &replacementEnd, &replacementVerified)
	if err != nil {
		return s, err
	}
	s.Status = statusOf(state)
	s.CreatedAt, s.UpdatedAt = fromMillis(created), fromMillis(updated)
	s.ExpiresAt, s.RevokedAt = fromMillisPtr(expires), fromMillisPtr(revoked)
	s.LastSignedAt, s.LastVerifiedAt = fromMillisPtr(signed), fromMillisPtr(verified)
	s.ReplacementEnd, s.ReplacementVerified = fromMillis(replacementEnd), fromMillis(replacementVerified)
	if replacementState >= 0 {
		s.ReplacementStatus = statusOf(replacementState)
	}
	if revoked != 0 {
		if err := json.Unmarshal([]byte(revokedBy), &s.RevokedBy); err != nil {
			return s, err
		}
	}
	return s, nil
}

// InsertWebhookSecret adds a webhook secret.
func (tx *Tx) InsertWebhookSecret(s WebhookSecret) error {
	_, err := tx.exec(`INSERT INTO webhook_secrets (id, workspace_id, endpoint_id, label, environment, algorithm, preview,
		state, master_key, sealed, created_at, creator_kind, creator_id, creator_name, updated_at, expires_at, replaces)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
		s.ID, s.WorkspaceID, s.EndpointID, s.Label, s.Environment, s.Algorithm, s.Preview,
		stateOf(s.Status), s.MasterKey, s.Sealed, millis(s.CreatedAt), s.CreatedBy.Kind, s.CreatedBy.ID, s.CreatedBy.Name,
		millis(s.UpdatedAt), millisPtr(s.ExpiresAt), s.Replaces)
	return wrap("insert a webhook secret", err)
}

// WebhookSecret reads a webhook secret in scope.
func (tx *Tx) WebhookSecret(s Scope, id string) (WebhookSecret, error) {
	ws, all := s.args()
	return queryOne(tx, scanSecret, `SELECT `+secretColumns+secretTables+`
		WHERE w.id = $1 AND (w.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// SecretFilter says which webhook secrets of a workspace to list.
type SecretFilter struct {
	WorkspaceID string
	EndpointID  string             // those of this endpoint; "" for the workspace's own
	Environment string             // "" for all
	Status      keystile.KeyStatus // "" for all
	Cursor      string             // ID of the last one of the page before
	Limit       int
	Now         time.Time // decides what has expired
}

// WebhookSecrets lists webhook secrets in scope, newest first.
func (tx *Tx) WebhookSecrets(s Scope, f SecretFilter) ([]WebhookSecret, error) {
	ws, all := s.args()
	args := []any{ws, all, f.WorkspaceID, f.EndpointID, f.Limit}
	bind := func(v any) string {
		args = append(args, v)
		return "$" + itoa(len(args))
	}
	where := ` WHERE (w.workspace_id = $1 OR $2 = 1) AND w.workspace_id = $3 AND w.endpoint_id = $4`
	switch f.Status {
	case keystile.StatusActive:
		where += ` AND w.state = 0 AND (w.expires_at = 0 OR w.expires_at > ` + bind(millis(f.Now)) + `)`
	case keystile.StatusRevoked:
		where += ` AND w.state = 2`
	case keystile.StatusExpired:
		where += ` AND (w.state = 3 OR w.state = 0 AND w.expires_at > 0 AND w.expires_at <= ` + bind(millis(f.Now)) + `)`
	}
	if f.Environment != "" {
		where += ` AND w.environment = ` + bind(f.Environment)
	}
	if f.Cursor != "" {
		where += ` AND w.id < ` + bind(f.Cursor)
	}
	return queryAll(tx, scanSecret, `SELECT `+secretColumns+secretTables+where+` ORDER BY w.id DESC LIMIT $5`, args...)
}

// SigningSecrets lists the active webhook secrets of an endpoint in scope,
// newest first, at most limit. Of each there is what it takes to open it, and no
// more: it is one statement that is asked for with every delivery, and a short
// one costs SQLite a third.
func (tx *Tx) SigningSecrets(s Scope, endpointID string, now time.Time, limit int) ([]WebhookSecret, error) {
	ws, all := s.args()
	return queryAll(tx, func(r scanner) (w WebhookSecret, err error) {
		return w, r.Scan(&w.ID, &w.WorkspaceID, &w.MasterKey, &w.Sealed)
	}, `SELECT id, workspace_id, master_key, sealed FROM webhook_secrets
		WHERE endpoint_id = $1 AND endpoint_id <> '' AND state = 0 AND (expires_at = 0 OR expires_at > $2)
		AND (workspace_id = $3 OR $4 = 1) ORDER BY id DESC LIMIT $5`, endpointID, millis(now), ws, all, limit)
}

// UpdateWebhookSecret writes everything that may change of a webhook secret but
// the secret itself.
func (tx *Tx) UpdateWebhookSecret(s Scope, w WebhookSecret) error {
	ws, all := s.args()
	revokedBy := "{}"
	if w.RevokedBy != nil {
		revokedBy = mustJSON(w.RevokedBy)
	}
	return tx.one(`UPDATE webhook_secrets SET label = $1, state = $2, updated_at = $3, expires_at = $4, former_end = $5,
		revoked_at = $6, revoked_by = $7, revoked_reason = $8, replaced_by = $9, look_at = 0
		WHERE id = $10 AND (workspace_id = $11 OR $12 = 1)`,
		w.Label, stateOf(w.Status), millis(w.UpdatedAt), millisPtr(w.ExpiresAt), w.FormerEnd,
		millisPtr(w.RevokedAt), revokedBy, w.RevokedReason, w.ReplacedBy, w.ID, ws, all)
}

// DeleteWebhookSecret removes a webhook secret and what was noted of its use.
func (tx *Tx) DeleteWebhookSecret(s Scope, id string) error {
	ws, all := s.args()
	if err := tx.one(`DELETE FROM webhook_secrets WHERE id = $1 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all); err != nil {
		return err
	}
	for _, q := range []string{
		`DELETE FROM webhook_secret_use WHERE webhook_secret_id = $1`,
		`UPDATE webhook_secrets SET replaces = '' WHERE replaces = $1 AND replaces <> ''`,
		`UPDATE webhook_secrets SET replaced_by = '', look_at = 0 WHERE replaced_by = $1 AND replaced_by <> ''`,
	} {
		if _, err := tx.exec(q, id); err != nil {
			return err
		}
	}
	return nil
}

// CountWebhookSecrets counts the workspace's own active webhook secrets that
// count against the plan: without those whose replacement is active too.
func (tx *Tx) CountWebhookSecrets(s Scope, workspaceID string, now time.Time) (int, error) {
	ws, all := s.args()
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM webhook_secrets w LEFT JOIN webhook_secrets r ON r.id = w.replaced_by
		WHERE w.workspace_id = $1 AND w.endpoint_id = '' AND w.state = 0 AND (w.expires_at = 0 OR w.expires_at > $2)
		AND (r.id IS NULL OR r.state <> 0 OR (r.expires_at > 0 AND r.expires_at <= $2))
		AND (w.workspace_id = $3 OR $4 = 1)`, workspaceID, millis(now), ws, all)
	return int(n), err
}

// WebhookSecretsDue lists up to limit webhook secrets whose end has come and
// whose state does not say so yet.
func (tx *Tx) WebhookSecretsDue(s Scope, now time.Time, limit int) ([]WebhookSecret, error) {
	ws, all := s.args()
	return queryAll(tx, scanSecret, `SELECT `+secretColumns+secretTables+`
		WHERE w.expires_at > 0 AND w.state < 2 AND w.expires_at <= $1 AND (w.workspace_id = $2 OR $3 = 1)
		ORDER BY w.expires_at LIMIT $4`, millis(now), ws, all, limit)
}

// OldWebhookSecrets lists webhook secrets that were revoked, or expired,
// before a time.
func (tx *Tx) OldWebhookSecrets(s Scope, before time.Time, limit int) ([]WebhookSecret, error) {
	ws, all := s.args()
	return queryAll(tx, scanSecret, `SELECT `+secretColumns+secretTables+`
		WHERE ((w.state = 2 AND w.revoked_at < $1) OR (w.state = 3 AND w.expires_at < $1))
		AND (w.workspace_id = $2 OR $3 = 1) LIMIT $4`, millis(before), ws, all, limit)
}

// SecretUse is when a webhook secret last signed, and when a signature of it
// was last found good; a zero time says nothing.
type SecretUse struct {
	ID       string
	Signed   time.Time
	Verified time.Time
}

// AddSecretUses keeps the newest times. Uses of secrets that were deleted
// meanwhile are dropped: nothing would ever remove what was kept of them.
func (tx *Tx) AddSecretUses(uses []SecretUse) error {
	for _, u := range uses {
		if _, err := tx.exec(`INSERT INTO webhook_secret_use (webhook_secret_id, signed_at, verified_at)
			SELECT $1, $2, $3 WHERE EXISTS (SELECT 1 FROM webhook_secrets WHERE id = $1)
			ON CONFLICT (webhook_secret_id) DO UPDATE SET
			signed_at = CASE WHEN excluded.signed_at > webhook_secret_use.signed_at THEN excluded.signed_at ELSE webhook_secret_use.signed_at END,
			verified_at = CASE WHEN excluded.verified_at > webhook_secret_use.verified_at THEN excluded.verified_at ELSE webhook_secret_use.verified_at END`,
			u.ID, millis(u.Signed), millis(u.Verified)); err != nil {
			return wrap("keep the last use of a webhook secret", err)
		}
	}
	return nil
}

// SealedUnder counts the webhook secrets under each master key, by its ID:
// those that live, and all of them.
func (tx *Tx) SealedUnder() (live, all map[string]int64, err error) {
	type row struct {
		id          string
		live, total int64
	}
	rows, err := queryAll(tx, func(r scanner) (row, error) {
		var v row
		err := r.Scan(&v.id, &v.live, &v.total)
		return v, err
	}, `SELECT master_key, COUNT(CASE WHEN state < 2 THEN 1 END), COUNT(*) FROM webhook_secrets
		WHERE master_key <> '' GROUP BY master_key`)
	live, all = map[string]int64{}, map[string]int64{}
	for _, r := range rows {
		all[r.id] = r.total
		if r.live > 0 {
			live[r.id] = r.live
		}
	}
	return live, all, err
}

// NextSealed lists up to limit webhook secrets that are under another master
// key than the one named, those with an ID after the cursor, in the order of IDs.
func (tx *Tx) NextSealed(s Scope, masterKey, after string, limit int) ([]WebhookSecret, error) {
	ws, all := s.args()
	return queryAll(tx, scanSecret, `SELECT `+secretColumns+secretTables+`
		WHERE w.master_key <> '' AND w.master_key <> $1 AND w.id > $2 AND (w.workspace_id = $3 OR $4 = 1)
		ORDER BY w.id LIMIT $5`, masterKey, after, ws, all, limit)
}

// Reseal keeps a webhook secret under another master key. An empty one says
// that nobody can open it any more.
func (tx *Tx) Reseal(s Scope, id, masterKey string, sealed []byte) error {
	ws, all := s.args()
	if sealed == nil {
		sealed = []byte{} // no column is ever NULL
	}
	return tx.one(`UPDATE webhook_secrets SET master_key = $1, sealed = $2
		WHERE id = $3 AND (workspace_id = $4 OR $5 = 1)`, masterKey, sealed, id, ws, all)
}
