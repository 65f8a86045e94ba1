package store

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

const alertColumns = `a.id, a.workspace_id, a.type, a.key_id, a.key_name, a.stage, a.facts, a.opened_at, a.updated_at,
	a.closed_at, a.acknowledged_at, a.acknowledged_by`

// secretID begins the ID of a webhook secret, and endpointID that of an endpoint.
// An alert about one has its ID, and its label or URL, in the columns for those
// of a key.
const (
	secretID   = "whs_"
	endpointID = "ep_"
)

// about is what an alert is about, for these columns.
func about(a keystile.Alert) (id, name string) {
	return a.KeyID + a.WebhookSecretID + a.EndpointID, a.KeyName + a.WebhookSecretLabel + a.EndpointURL
}

func scanAlert(r scanner) (keystile.Alert, error) {
	var a keystile.Alert
	var facts, who string
	var opened, updated, closed, acknowledged int64
	if err := r.Scan(&a.ID, &a.WorkspaceID, &a.Type, &a.KeyID, &a.KeyName, &a.Stage, &facts, &opened, &updated,
		&closed, &acknowledged, &who); err != nil {
		return a, err
	}
	switch {
	case strings.HasPrefix(a.KeyID, secretID):
		a.WebhookSecretID, a.WebhookSecretLabel, a.KeyID, a.KeyName = a.KeyID, a.KeyName, "", ""
	case strings.HasPrefix(a.KeyID, endpointID):
		a.EndpointID, a.EndpointURL, a.KeyID, a.KeyName = a.KeyID, a.KeyName, "", ""
	}
	a.OpenedAt, a.UpdatedAt, a.ClosedAt, a.State = fromMillis(opened), fromMillis(updated), fromMillisPtr(closed), "open"
	if a.ClosedAt != nil {
		a.State = "closed"
	}
	if a.AcknowledgedAt = fromMillisPtr(acknowledged); a.AcknowledgedAt != nil {
		if err := json.Unmarshal([]byte(who), &a.AcknowledgedBy); err != nil {
			return a, err
		}
	}
	return a, json.Unmarshal([]byte(facts), &a.AlertFacts)
}

// InsertAlert adds an open alert. ErrTaken when its cause has one.
func (tx *Tx) InsertAlert(a keystile.Alert) error {
	object, name := about(a)
	_, err := tx.exec(`INSERT INTO alerts (id, workspace_id, type, key_id, key_name, stage, facts, opened_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, a.ID, a.WorkspaceID, string(a.Type), object, name, a.Stage,
		mustJSON(a.AlertFacts), millis(a.OpenedAt), millis(a.UpdatedAt))
	return wrap("insert an alert", err)
}

// UpdateAlert writes all that changes of an alert.
func (tx *Tx) UpdateAlert(s Scope, a keystile.Alert) error {
	ws, all := s.args()
	who := "{}"
	if a.AcknowledgedBy != nil {
		who = mustJSON(a.AcknowledgedBy)
	}
	return tx.one(`UPDATE alerts SET stage = $1, facts = $2, updated_at = $3, closed_at = $4, acknowledged_at = $5,
		acknowledged_by = $6 WHERE id = $7 AND (workspace_id = $8 OR $9 = 1)`, a.Stage, mustJSON(a.AlertFacts),
		millis(a.UpdatedAt), millisPtr(a.ClosedAt), millisPtr(a.AcknowledgedAt), who, a.ID, ws, all)
}

// Alert reads an alert in scope.
func (tx *Tx) Alert(s Scope, id string) (keystile.Alert, error) {
	ws, all := s.args()
	return queryOne(tx, scanAlert, `SELECT `+alertColumns+` FROM alerts a
		WHERE a.id = $1 AND (a.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// AlertFilter says which alerts of a workspace to list.
type AlertFilter struct {
	WorkspaceID string
	State       string             // open, closed, "" for all
	Type        keystile.AlertType // of open ones; "" for all
	Unseen      bool               // leave out what was acknowledged
	Cursor      string             // ID of the last alert of the page before
	Limit       int
}

// Alerts lists alerts in scope, newest first.
func (tx *Tx) Alerts(s Scope, f AlertFilter) ([]keystile.Alert, error) {
	ws, all := s.args()
	where, args := ` WHERE (a.workspace_id = $1 OR $2 = 1) AND a.workspace_id = $3`, []any{ws, all, f.WorkspaceID, f.Limit}
	switch f.State {
	case "open":
		where += ` AND a.closed_at = 0`
	case "closed":
		where += ` AND a.closed_at > 0`
	}
	if f.Unseen {
		where += ` AND a.acknowledged_at = 0`
	}
	for _, c := range []struct{ condition, value string }{{`a.type = $`, string(f.Type)}, {`a.id < $`, f.Cursor}} {
		if c.value != "" {
			args = append(args, c.value)
			where += ` AND ` + c.condition + itoa(len(args))
		}
	}
	return queryAll(tx, scanAlert, `SELECT `+alertColumns+` FROM alerts a`+where+` ORDER BY a.id DESC LIMIT $4`, args...)
}

// CountUnseenAlerts counts the open alerts of a workspace that nobody has
// acknowledged, as far as most.
func (tx *Tx) CountUnseenAlerts(s Scope, workspaceID string, most int) (int, error) {
	ws, all := s.args()
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM (SELECT 1 FROM alerts a WHERE a.workspace_id = $1
		AND a.closed_at = 0 AND a.acknowledged_at = 0 AND (a.workspace_id = $2 OR $3 = 1) LIMIT $4) found`,
		workspaceID, ws, all, most)
	return int(n), err
}

// OpenAlertsAbout lists the open alerts about a key, a webhook secret or an endpoint.
func (tx *Tx) OpenAlertsAbout(s Scope, id string) ([]keystile.Alert, error) {
	ws, all := s.args()
	return queryAll(tx, scanAlert, `SELECT `+alertColumns+` FROM alerts a
		WHERE a.key_id = $1 AND a.key_id <> '' AND a.closed_at = 0 AND (a.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// OpenAlertsOfEndpoint lists the open alerts about the secrets of an endpoint.
func (tx *Tx) OpenAlertsOfEndpoint(s Scope, endpointID string) ([]keystile.Alert, error) {
	ws, all := s.args()
	return queryAll(tx, scanAlert, `SELECT `+alertColumns+` FROM alerts a JOIN webhook_secrets w ON w.id = a.key_id
		WHERE w.endpoint_id = $1 AND w.endpoint_id <> '' AND a.key_id <> '' AND a.closed_at = 0
		AND (a.workspace_id = $2 OR $3 = 1)`, endpointID, ws, all)
}

// OpenAlertsOfType lists the open alerts of a type in scope, at most limit.
func (tx *Tx) OpenAlertsOfType(s Scope, t keystile.AlertType, limit int) ([]keystile.Alert, error) {
	ws, all := s.args()
	return queryAll(tx, scanAlert, `SELECT `+alertColumns+` FROM alerts a
		WHERE a.type = $1 AND a.closed_at = 0 AND (a.workspace_id = $2 OR $3 = 1) ORDER BY a.workspace_id LIMIT $4`, string(t), ws, all, limit)
}

// NeverLook says that nothing about a key comes due any more.
var NeverLook = time.UnixMilli(-1) //nolint:gochecknoglobals // a constant

// DueToLook lists the IDs of up to limit keys that are to be looked at.
func (tx *Tx) DueToLook(s Scope, now time.Time, limit int) ([]string, error) {
	ws, all := s.args()
	return queryAll(tx, scanString, `SELECT k.id FROM keys k WHERE k.look_at >= 0 AND k.look_at <= $1
		AND (k.workspace_id = $2 OR $3 = 1) ORDER BY k.look_at LIMIT $4`, millis(now), ws, all, limit)
}

// SetLook says when to look at a key next.
func (tx *Tx) SetLook(s Scope, id string, at time.Time) error {
	ws, all := s.args()
	return tx.one(`UPDATE keys SET look_at = $1 WHERE id = $2 AND (workspace_id = $3 OR $4 = 1)`, at.UnixMilli(), id, ws, all)
}

// LookAtReplaced has the keys looked at that a key replaces, and returns how
// many there are.
func (tx *Tx) LookAtReplaced(s Scope, id string) (int64, error) {
	ws, all := s.args()
	return tx.exec(`UPDATE keys SET look_at = 0 WHERE replaced_by = $1 AND replaced_by <> '' AND (workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// LookAgain has the next keys behind an ID looked at, at most limit, and
// returns the last of them; "" when there is none.
func (tx *Tx) LookAgain(s Scope, after string, limit int) (last string, err error) {
	ws, all := s.args()
	last, err = queryOne(tx, scanString, `SELECT COALESCE(MAX(id), '') FROM (SELECT k.id FROM keys k WHERE k.id > $1
		AND (k.workspace_id = $2 OR $3 = 1) ORDER BY k.id LIMIT $4) page`, after, ws, all, limit)
	if err != nil || last == "" {
		return "", err
	}
	_, err = tx.exec(`UPDATE keys SET look_at = 0 WHERE id > $1 AND id <= $2 AND (workspace_id = $3 OR $4 = 1)`, after, last, ws, all)
	return last, wrap("look at keys again", err)
}

// SecretsToLook lists up to limit webhook secrets that are to be looked at.
func (tx *Tx) SecretsToLook(s Scope, now time.Time, limit int) ([]WebhookSecret, error) {
	ws, all := s.args()
	return queryAll(tx, scanSecret, `SELECT `+secretColumns+secretTables+` WHERE w.look_at >= 0 AND w.look_at <= $1
		AND (w.workspace_id = $2 OR $3 = 1) ORDER BY w.look_at LIMIT $4`, millis(now), ws, all, limit)
}

// SetSecretLook says when to look at a webhook secret next.
func (tx *Tx) SetSecretLook(s Scope, id string, at time.Time) error {
	ws, all := s.args()
	return tx.one(`UPDATE webhook_secrets SET look_at = $1 WHERE id = $2 AND (workspace_id = $3 OR $4 = 1)`, at.UnixMilli(), id, ws, all)
}

// LookAtSecret has a webhook secret looked at, and returns whether it is there.
func (tx *Tx) LookAtSecret(s Scope, id string) (int64, error) {
	ws, all := s.args()
	n, err := tx.exec(`UPDATE webhook_secrets SET look_at = 0 WHERE id = $1 AND (workspace_id = $2 OR $3 = 1)`, id, ws, all)
	return n, wrap("look at a webhook secret again", err)
}

// LookAtSecrets has all webhook secrets looked at, which are few, and returns
// how many there are.
func (tx *Tx) LookAtSecrets(s Scope) (int64, error) {
	ws, all := s.args()
	n, err := tx.exec(`UPDATE webhook_secrets SET look_at = 0 WHERE workspace_id = $1 OR $2 = 1`, ws, all)
	return n, wrap("look at webhook secrets again", err)
}

// TriedSources lists who tried a key since it ended, latest first, at most
// limit.
func (tx *Tx) TriedSources(s Scope, keyID string, since time.Time, limit int) ([]keystile.KeySource, error) {
	all, err := tx.Sources(s, keyID, 4*limit)
	var tried []keystile.KeySource
	for _, one := range all {
		over := one.Code == keystile.CodeRevoked || one.Code == keystile.CodeExpired
		if over && !one.LastAt.Before(since) && len(tried) < limit {
			tried = append(tried, one)
		}
	}
	return tried, err
}

// Failure counts failed attempts.
type Failure struct {
	WorkspaceID string
	At          time.Time // beginning of the window
	Code        keystile.Code
	Source      string // address, or /64 of one; "" for many
	KeyID       string // "" when no key is known
	Count       int64
}

// maxFailureSources is how many sources of a workspace and window are kept.
const maxFailureSources = 200

// AddFailures adds failed attempts to those of their windows.
func (tx *Tx) AddFailures(failures []Failure) error {
	kept := map[failureGroup]map[failureSource]bool{}
	for _, f := range failures {
		g := failureGroup{f.WorkspaceID, millis(f.At)}
		if _, read := kept[g]; read {
			continue
		}
		kept[g] = map[failureSource]bool{}
		sources, err := queryAll(tx, func(r scanner) (s failureSource, err error) { return s, r.Scan(&s.source, &s.key, &s.code) },
			`SELECT source, key_id, code FROM auth_failure_sources WHERE workspace_id = $1 AND at = $2`, g.workspace, g.at)
		if err != nil {
			return wrap("read sources of failures", err)
		}
		for _, s := range sources {
			kept[g][s] = true
		}
	}
	return wrap("count failures", tx.together(func() error {
		for _, f := range failures {
			if err := tx.addFailure(f, kept[failureGroup{f.WorkspaceID, millis(f.At)}]); err != nil {
				return err
			}
		}
		return nil
	}))
}

// failureGroup is what failures are counted by, and failureSource what is kept of
// some in each.
type (
	failureGroup struct {
		workspace string
		at        int64
	}
	failureSource struct{ source, key, code string }
)

func (tx *Tx) addFailure(f Failure, kept map[failureSource]bool) error {
	at := millis(f.At)
	if _, err := tx.exec(`INSERT INTO auth_failures (workspace_id, at, code, count) VALUES ($1, $2, $3, $4)
		ON CONFLICT (workspace_id, at, code) DO UPDATE SET count = auth_failures.count + excluded.count`,
		f.WorkspaceID, at, string(f.Code), f.Count); err != nil {
		return err
	}
	s := failureSource{f.Source, f.KeyID, string(f.Code)}
	switch {
	case kept[s]:
	case len(kept) >= maxFailureSources:
		s.source, s.key = "", "" // one of the others
	default:
		kept[s] = true
	}
	_, err := tx.exec(`INSERT INTO auth_failure_sources (count, workspace_id, at, source, key_id, code)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workspace_id, at, source, key_id, code)
		DO UPDATE SET count = auth_failure_sources.count + excluded.count`, f.Count, f.WorkspaceID, at, s.source, s.key, s.code)
	return err
}

// FailingWorkspaces lists the workspaces in scope with at least so many
// failures since an instant. The term keeps SQLite from going through all
// windows in the order of workspaces.
func (tx *Tx) FailingWorkspaces(s Scope, since time.Time, least int64) ([]string, error) {
	ws, all := s.args()
	return queryAll(tx, scanString, `SELECT f.workspace_id || '' FROM auth_failures f
		WHERE f.at >= $1 AND (f.workspace_id = $2 OR $3 = 1) GROUP BY f.workspace_id || '' HAVING SUM(f.count) >= $4`,
		millis(since), ws, all, least)
}

// WindowCount counts the failures with one outcome in one window.
type WindowCount struct {
	At    time.Time // beginning of the window
	Code  keystile.Code
	Count int64
}

// FailureWindows counts the failures of a workspace in [since, until), by
// windows of a length, oldest first.
func (tx *Tx) FailureWindows(s Scope, workspaceID string, since, until time.Time, window time.Duration) ([]WindowCount, error) {
	ws, all := s.args()
	return queryAll(tx, func(r scanner) (WindowCount, error) {
		var w WindowCount
		var at int64
		err := r.Scan(&at, &w.Code, &w.Count)
		w.At = fromMillis(at)
		return w, err
	}, `SELECT f.at - f.at % $1 AS w, f.code, CAST(SUM(f.count) AS BIGINT) FROM auth_failures f
		WHERE f.workspace_id = $2 AND f.at >= $3 AND f.at < $4 AND (f.workspace_id = $5 OR $6 = 1)
		GROUP BY 1, f.code ORDER BY 1, f.code`, window.Milliseconds(), workspaceID, millis(since), millis(until), ws, all)
}

// FailureSources sums the failures of a workspace since an instant by one of
// source and key, the most first, at most limit.
func (tx *Tx) FailureSources(s Scope, workspaceID string, since time.Time, byKey bool, limit int) ([]keystile.AuthFailureCount, error) {
	ws, all := s.args()
	column := "source"
	if byKey {
		column = "key_id"
	}
	return queryAll(tx, func(r scanner) (keystile.AuthFailureCount, error) {
		var f keystile.AuthFailureCount
		into := &f.Source
		if byKey {
			into = &f.KeyID
		}
		err := r.Scan(into, &f.Count)
		return f, err
	}, `SELECT f.`+column+`, CAST(SUM(f.count) AS BIGINT) AS total FROM auth_failure_sources f
		WHERE f.workspace_id = $1 AND f.at >= $2 AND f.`+column+` <> '' AND (f.workspace_id = $3 OR $4 = 1)
		GROUP BY f.`+column+` ORDER BY total DESC, f.`+column+` LIMIT $5`, workspaceID, millis(since), ws, all, limit)
}
