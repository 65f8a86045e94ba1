package store

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// The states of keys and webhook secrets as they are kept.
const (
	keyActive int64 = iota
	keyDisabled
	keyRevoked
	keyExpired
)

// Key is a key with what only the server knows of it.
type Key struct {
	keystile.Key
	Digest [32]byte // SHA-256 of the secret; not read back by queries
	RoleID string
	// FormerEnd is the end the key had before a rotation gave it a nearer one,
	// in Unix milliseconds, 0 for none.
	FormerEnd int64
	// ReplacementLastUse is the last use of the key that replaces this one.
	ReplacementLastUse time.Time
	// ReplacementStatus and ReplacementEnd are the state and the end (zero for
	// none) of the key that replaces this one; no status when there is none.
	ReplacementStatus keystile.KeyStatus
	ReplacementEnd    time.Time
	ReplacementMade   time.Time // when the key was created that replaces this one
	// LookAt is, of a key that is inserted, when to look at it first: zero for
	// now. Queries do not read it back.
	LookAt time.Time
}

const keyColumns = `k.id, k.workspace_id, k.name, k.description, k.preview, k.state, k.role_id, k.permissions,
	k.environment, k.ip_allowlist, k.metadata, k.owner, k.imported, k.created_at,
	k.creator_kind, k.creator_id, k.creator_name, k.updated_at, k.expires_at, k.former_end,
	k.disabled_at, k.disabled_reason, k.revoked_at, k.revoked_by, k.revoked_reason, k.replaces, k.replaced_by,
	k.reviewed_at, k.reviewed_by,
	COALESCE(u.at, 0), COALESCE(u.address, ''), COALESCE(u.user_agent, ''), COALESCE(ru.at, 0),
	COALESCE(rk.state, -1), COALESCE(rk.expires_at, 0), COALESCE(rk.created_at, 0)`

const keyTables = ` FROM keys k LEFT JOIN key_use u ON u.key_id = k.id
	LEFT JOIN key_use ru ON ru.key_id = k.replaced_by LEFT JOIN keys rk ON rk.id = k.replaced_by `

func scanKey(r scanner) (Key, error) {
	var k Key
	var state, imported, created, updated, expires, disabled, revoked, reviewed, used, replacementUsed, replacementState, replacementEnd, replacementMade int64
	var permissions, allow, metadata, revokedBy, reviewedBy string
	var use keystile.LastUse
	err := r.Scan(&k.ID, &k.WorkspaceID, &k.Name, &k.Description, &k.Preview, &state, &k.RoleID, &permissions,
		&k.Environment, &allow, &metadata, &k.Owner, &imported, &created,
		&k.CreatedBy.Kind, &k.CreatedBy.ID, &k.CreatedBy.Name, &updated, &expires, &k.FormerEnd,
		&disabled, &k.DisabledReason, &revoked, &revokedBy, &k.RevokedReason, &k.Replaces, &k.ReplacedBy,
		&reviewed, &reviewedBy, &used, &use.Address, &use.UserAgent, &replacementUsed, &replacementState, &replacementEnd, &replacementMade)
	if err != nil {
		return k, err
	}
	k.Status = statusOf(state)
	k.Imported = imported != 0
	k.CreatedAt, k.UpdatedAt = fromMillis(created), fromMillis(updated)
	k.ExpiresAt, k.DisabledAt = fromMillisPtr(expires), fromMillisPtr(disabled)
	k.RevokedAt, k.ReviewedAt = fromMillisPtr(revoked), fromMillisPtr(reviewed)
	k.ReplacementLastUse, k.ReplacementEnd = fromMillis(replacementUsed), fromMillis(replacementEnd)
	k.ReplacementMade = fromMillis(replacementMade)
	if replacementState >= 0 {
		k.ReplacementStatus = statusOf(replacementState)
	}
	if used != 0 {
		use.At = fromMillis(used)
		k.LastUse = &use
	}
	for _, f := range []struct {
		text string
		into any
		want bool
	}{
		{permissions, &k.Permissions, permissions != "[]"},
		{allow, &k.IPAllowlist, allow != "[]"},
		{metadata, &k.Metadata, metadata != "{}"},
		{revokedBy, &k.RevokedBy, revoked != 0},
		{reviewedBy, &k.ReviewedBy, reviewed != 0},
	} {
		if f.want {
			if err := json.Unmarshal([]byte(f.text), f.into); err != nil {
				return k, err
			}
		}
	}
	return k, nil
}

func statusOf(state int64) keystile.KeyStatus {
	switch state {
	case keyActive:
		return keystile.StatusActive
	case keyDisabled:
		return keystile.StatusDisabled
	case keyExpired:
		return keystile.StatusExpired
	}
	return keystile.StatusRevoked // an unknown state lets nobody in
}

func stateOf(s keystile.KeyStatus) int64 {
	switch s {
	case keystile.StatusActive:
		return keyActive
	case keystile.StatusDisabled:
		return keyDisabled
	case keystile.StatusExpired:
		return keyExpired
	}
	return keyRevoked
}

// InsertKey adds a key. ErrTaken when its digest is known.
func (tx *Tx) InsertKey(k Key) error {
	_, err := tx.exec(`INSERT INTO keys (id, workspace_id, digest, name, description, preview, state, role_id,
		permissions, environment, ip_allowlist, metadata, owner, imported, search, created_at,
		creator_kind, creator_id, creator_name, updated_at, expires_at, replaces, look_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`,
		k.ID, k.WorkspaceID, k.Digest[:], k.Name, k.Description, k.Preview, stateOf(k.Status), k.RoleID,
		jsonList(k.Permissions), k.Environment, jsonList(k.IPAllowlist), jsonMap(k.Metadata), k.Owner,
		flag(k.Imported), searchKey(k), millis(k.CreatedAt),
		k.CreatedBy.Kind, k.CreatedBy.ID, k.CreatedBy.Name, millis(k.UpdatedAt), millisPtr(k.ExpiresAt), k.Replaces, lookMillis(k.LookAt))
	return wrap("insert a key", err)
}

// lookMillis is how it is kept when to look at a key: a zero time is now.
func lookMillis(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

func searchKey(k Key) string {
	return fold(k.Name, k.Description, k.Owner, k.ID, k.Preview)
}

// Key reads a key in scope.
func (tx *Tx) Key(s Scope, id string) (Key, error) {
	ws, all := s.args()
	return queryOne(tx, scanKey, `SELECT `+keyColumns+keyTables+`
		WHERE k.id = $1 AND (k.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// KeyFilter says which keys of a workspace to list.
type KeyFilter struct {
	WorkspaceID string
	Status      keystile.KeyStatus // "" for all
	Unrevoked   bool               // leave out what was revoked
	Live        bool               // without a status: only what is active or disabled and has not expired
	Over        bool               // without a status: only what is revoked or has expired
	Query       string             // part of name, description, owner, preview or ID
	CreatorID   string             // "" for all
	Cursor      string             // ID of the last key of the page before
	Limit       int
	Now         time.Time // decides what has expired
}

// Conditions of the states that a key can be in. What has expired counts as
// expired from that instant on, $5, whether or not the state says so yet.
const (
	isAlive    = ` AND (k.expires_at = 0 OR k.expires_at > $5)`
	hasExpired = ` AND k.state = 3`
	isExpiring = ` AND k.state < 2 AND k.expires_at > 0 AND k.expires_at <= $5`
)

// conditions are those of which one holds for each key of the filter's status.
func (f KeyFilter) conditions() []string {
	switch f.Status {
	case "":
		// One query for many states could not be read in the order of an index.
		switch {
		case f.Live:
			return []string{` AND k.state = 0` + isAlive, ` AND k.state = 1` + isAlive}
		case f.Over:
			return []string{` AND k.state = 2`, hasExpired, isExpiring}
		}
		return []string{""}
	case keystile.StatusRevoked:
		return []string{` AND k.state = 2`}
	case keystile.StatusDisabled:
		return []string{` AND k.state = 1` + isAlive}
	case keystile.StatusExpired:
		return []string{hasExpired, isExpiring}
	}
	return []string{` AND k.state = 0` + isAlive}
}

// Keys lists keys in scope, newest first.
func (tx *Tx) Keys(s Scope, f KeyFilter) ([]Key, error) {
	var keys []Key
	conditions := f.conditions()
	for _, condition := range conditions {
		where, args := f.where(s, condition)
		some, err := queryAll(tx, scanKey, `SELECT `+keyColumns+keyTables+where+` ORDER BY k.id DESC LIMIT $4`, args...)
		if err != nil {
			return nil, err
		}
		keys = append(keys, some...)
	}
	if len(conditions) > 1 {
		slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(b.ID, a.ID) })
	}
	return keys[:min(len(keys), f.Limit)], nil
}

// CountListed counts the keys that Keys lists, from the cursor on and as far as
// the limit: what a person reads needs no more.
func (tx *Tx) CountListed(s Scope, f KeyFilter) (int, error) {
	n := 0
	for _, condition := range f.conditions() {
		where, args := f.where(s, condition)
		some, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM (SELECT 1 FROM keys k`+where+` LIMIT $4) AS counted`, args...)
		if err != nil {
			return 0, err
		}
		n += int(some)
	}
	return min(n, f.Limit), nil
}

// where is the filter's condition, and one more in which $5 is the present,
// with what they are held against. The limit is $4.
func (f KeyFilter) where(s Scope, condition string) (where string, args []any) {
	ws, all := s.args()
	args = []any{ws, all, f.WorkspaceID, f.Limit}
	where = ` WHERE (k.workspace_id = $1 OR $2 = 1) AND k.workspace_id = $3` + condition
	if strings.Contains(condition, "$5") {
		args = append(args, millis(f.Now))
	}
	if f.Unrevoked {
		where += ` AND k.state <> 2`
	}
	for _, c := range []struct {
		condition string
		value     string
		set       bool
	}{
		{`k.id < $`, f.Cursor, f.Cursor != ""},
		{`k.creator_id = $`, f.CreatorID, f.CreatorID != ""},
		{`k.search LIKE $`, like(f.Query), f.Query != ""},
	} {
		if !c.set {
			continue
		}
		args = append(args, c.value)
		where += ` AND ` + c.condition + itoa(len(args))
		if c.condition == `k.search LIKE $` {
			where += ` ESCAPE '\'`
		}
	}
	return where, args
}

// UpdateKey writes everything that may change of a key: not its digest, its
// preview, its workspace or who made it.
func (tx *Tx) UpdateKey(s Scope, k Key) error {
	ws, all := s.args()
	revokedBy, reviewedBy := "{}", "{}"
	if k.RevokedBy != nil {
		revokedBy = mustJSON(k.RevokedBy)
	}
	if k.ReviewedBy != nil {
		reviewedBy = mustJSON(k.ReviewedBy)
	}
	return tx.one(`UPDATE keys SET name = $1, description = $2, state = $3, role_id = $4, permissions = $5,
		ip_allowlist = $6, metadata = $7, owner = $8, search = $9, updated_at = $10, expires_at = $11,
		former_end = $12, disabled_at = $13, disabled_reason = $14, revoked_at = $15, revoked_by = $16,
		revoked_reason = $17, replaces = $18, replaced_by = $19, reviewed_at = $20, reviewed_by = $21, look_at = 0
		WHERE id = $22 AND (workspace_id = $23 OR $24 = 1)`,
		k.Name, k.Description, stateOf(k.Status), k.RoleID, jsonList(k.Permissions),
		jsonList(k.IPAllowlist), jsonMap(k.Metadata), k.Owner, searchKey(k), millis(k.UpdatedAt), millisPtr(k.ExpiresAt),
		k.FormerEnd, millisPtr(k.DisabledAt), k.DisabledReason, millisPtr(k.RevokedAt), revokedBy,
		k.RevokedReason, k.Replaces, k.ReplacedBy, millisPtr(k.ReviewedAt), reviewedBy,
		k.ID, ws, all)
}

// DeleteKey removes a key and what was counted of it.
func (tx *Tx) DeleteKey(s Scope, id string) error {
	ws, all := s.args()
	if err := tx.one(`DELETE FROM keys WHERE id = $1 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all); err != nil {
		return err
	}
	if err := tx.forgetUses(id); err != nil {
		return err
	}
	for _, q := range []string{
		`UPDATE keys SET replaces = '' WHERE replaces = $1 AND replaces <> ''`,
		`UPDATE keys SET replaced_by = '', look_at = 0 WHERE replaced_by = $1 AND replaced_by <> ''`,
	} {
		if _, err := tx.exec(q, id); err != nil {
			return err
		}
	}
	return nil
}

// DueToExpire lists up to limit keys whose end has come and whose state does
// not say so yet.
func (tx *Tx) DueToExpire(s Scope, now time.Time, limit int) ([]Key, error) {
	ws, all := s.args()
	return queryAll(tx, scanKey, `SELECT `+keyColumns+keyTables+`
		WHERE k.expires_at > 0 AND k.state < 2 AND k.expires_at <= $1 AND (k.workspace_id = $2 OR $3 = 1)
		ORDER BY k.expires_at LIMIT $4`, millis(now), ws, all, limit)
}
