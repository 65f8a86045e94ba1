package store

import "time"

// Cutoffs say what is old enough to go: everything before the time. A zero
// time keeps everything.
type Cutoffs struct {
	Audit       time.Time
	Usage       time.Time // usage by hour, and by day the days that ended before
	Sources     time.Time // where keys were used from
	Events      time.Time // the outbox and its deliveries
	RevokedKeys time.Time
	Links       time.Time
	Idempotency time.Time
	Alerts      time.Time // that are closed, with their mails
	Failures    time.Time // failed attempts by window
}

// Retain removes at most limit rows of each kind that are older than the
// cutoffs and returns how many went. Calling it until it returns 0 removes
// them all in small steps, between which other writers have their turn.
func (tx *Tx) Retain(c Cutoffs, limit int) (int64, error) {
	var total int64
	for _, step := range []struct {
		before time.Time
		query  string
	}{
		{c.Audit, `DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)`},
		{c.Usage, `DELETE FROM usage WHERE (key_id, hour, code) IN
			(SELECT key_id, hour, code FROM usage WHERE hour < $1 ORDER BY hour LIMIT $2)`},
		{c.Usage.Add(-day), `DELETE FROM usage_sums WHERE (key_id, days, at, code) IN
			(SELECT key_id, days, at, code FROM usage_sums WHERE days = 1 AND at < $1 ORDER BY at LIMIT $2)`},
		{c.Usage.Add(-10 * day), `DELETE FROM usage_sums WHERE (key_id, days, at, code) IN
			(SELECT key_id, days, at, code FROM usage_sums WHERE days = 10 AND at < $1 ORDER BY at LIMIT $2)`},
		{c.Usage.Add(-day), `DELETE FROM workspace_usage WHERE (workspace_id, day, code) IN
			(SELECT workspace_id, day, code FROM workspace_usage WHERE day < $1 ORDER BY day LIMIT $2)`},
		{c.Sources, `DELETE FROM key_sources WHERE (key_id, address, code) IN
			(SELECT key_id, address, code FROM key_sources WHERE last_at < $1 ORDER BY last_at LIMIT $2)`},
		{c.Events, `DELETE FROM deliveries WHERE id IN (SELECT d.id FROM events e JOIN deliveries d ON d.event_id = e.id
			WHERE e.at < $1 LIMIT $2)`},
		// Of the oldest events, those without deliveries. The other way round,
		// PostgreSQL compares all events with all deliveries for it.
		{c.Events, `DELETE FROM events WHERE id IN (SELECT id FROM
			(SELECT id FROM events WHERE at < $1 ORDER BY at LIMIT $2) oldest
			WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = oldest.id))`},
		{c.Links, `DELETE FROM links WHERE digest IN (SELECT digest FROM links WHERE expires_at < $1 LIMIT $2)`},
		{c.Links, `DELETE FROM sessions WHERE digest IN (SELECT digest FROM sessions WHERE expires_at < $1 LIMIT $2)`},
		{c.Idempotency, `DELETE FROM idempotency WHERE scope IN
			(SELECT scope FROM idempotency WHERE created_at < $1 LIMIT $2)`},
		{c.Alerts, `DELETE FROM alert_mails WHERE alert_id IN (SELECT m.alert_id FROM alerts a JOIN alert_mails m ON m.alert_id = a.id
			WHERE a.closed_at > 0 AND a.closed_at < $1 LIMIT $2)`},
		{c.Alerts, `DELETE FROM alerts WHERE id IN (SELECT id FROM
			(SELECT id FROM alerts WHERE closed_at > 0 AND closed_at < $1 ORDER BY closed_at LIMIT $2) oldest
			WHERE NOT EXISTS (SELECT 1 FROM alert_mails m WHERE m.alert_id = oldest.id))`},
		{c.Failures, `DELETE FROM auth_failures WHERE (workspace_id, at, code) IN
			(SELECT workspace_id, at, code FROM auth_failures WHERE at < $1 ORDER BY at LIMIT $2)`},
		{c.Failures, `DELETE FROM auth_failure_sources WHERE (workspace_id, at, source, key_id, code) IN
			(SELECT workspace_id, at, source, key_id, code FROM auth_failure_sources WHERE at < $1 ORDER BY at LIMIT $2)`},
	} {
		if step.before.Before(time.UnixMilli(0)) { // none was given
			continue
		}
		n, err := tx.exec(step.query, millis(step.before), limit)
		if err != nil {
			return total, wrap("remove what is old", err)
		}
		total += n
	}
	return total, nil
}

// OldRevokedKeys lists keys that were revoked, or expired, before a time.
func (tx *Tx) OldRevokedKeys(s Scope, before time.Time, limit int) ([]Key, error) {
	ws, all := s.args()
	return queryAll(tx, scanKey, `SELECT `+keyColumns+keyTables+`
		WHERE ((k.state = 2 AND k.revoked_at < $1) OR (k.state = 3 AND k.expires_at < $1))
		AND (k.workspace_id = $2 OR $3 = 1) LIMIT $4`, millis(before), ws, all, limit)
}
