package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Carried is what a restore took over from the store that it replaced, so
// that nothing which was taken away since the backup comes back: how many rows.
type Carried struct {
	Keys           int64 `json:"keys"`            // ended, disabled or narrowed
	WebhookSecrets int64 `json:"webhook_secrets"` // ended
	Workspaces     int64 `json:"workspaces"`      // suspended or narrowed
	Deleted        int64 `json:"deleted"`         // keys, workspaces, roles, members, passkeys, endpoints and webhook secrets
	Audit          int64 `json:"audit"`           // entries
}

// carrier takes the stricter state of a former store over into the copy of a
// backup. Both are schemas of one SQLite connection: main and former.
type carrier struct {
	*Tx

	// descends tells that the former store has come from the moment of the
	// backup. Then what it lacks was deleted, and what it says is newer.
	descends bool
	head     int64 // number of the former store's newest change
	count    Carried
}

// stricter orders the states of keys and webhook secrets (see [keyActive]):
// active, disabled, expired, and revoked or anything unknown.
func stricter(table string) string {
	return `CASE ` + table + `.state WHEN 0 THEN 0 WHEN 1 THEN 1 WHEN 3 THEN 2 ELSE 3 END`
}

// carry changes the copy of the backup b by what the former store at path says.
func (c *carrier) carry(ctx context.Context, path string, b Backup) (err error) {
	if _, err := c.exec(`ATTACH $1 AS former`, path); err != nil {
		return err
	}
	undo := &Tx{ctx: context.WithoutCancel(ctx), q: c.q}
	defer func() {
		_, failed := undo.exec(`DETACH former`)
		err = errors.Join(err, failed)
	}()
	if err := sound(c.Tx, "former.quick_check"); err != nil {
		return err
	}
	if _, err := c.exec(`BEGIN`); err != nil {
		return err
	}
	if err = c.run(b); err == nil {
		_, err = c.exec(`COMMIT`)
	}
	if err != nil {
		_, failed := undo.exec(`ROLLBACK`)
		return errors.Join(err, failed)
	}
	return nil
}

func (c *carrier) run(b Backup) (err error) {
	if c.head, err = queryOne(c.Tx, scanInt, `SELECT seq FROM former.change_head`); err != nil {
		return err
	}
	backup, err := c.history("main")
	if err != nil {
		return err
	}
	former, err := c.history("former")
	if err != nil {
		return err
	}
	c.descends = former.cameFrom(backup.now(), b.Seq, c.head)
	for _, step := range []func() error{
		c.audit, c.remove, c.replace, c.workspaces, c.keys, c.webhookSecrets, c.tidy,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// add runs a statement and adds the rows it touched to a count.
func (c *carrier) add(count *int64, query string, args ...any) error {
	n, err := c.exec(query, args...)
	if count != nil {
		*count += n
	}
	return err
}

// audit keeps what happened since the backup on record.
func (c *carrier) audit() error {
	list, err := c.shared("audit")
	if err != nil {
		return err
	}
	return c.add(&c.count.Audit, `INSERT OR IGNORE INTO audit (`+list+`) SELECT `+list+` FROM former.audit`)
}

// shared lists the columns that a table has in both: the former store may be
// of another version.
func (c *carrier) shared(table string) (string, error) {
	names, err := queryAll(c.Tx, scanString, `SELECT m.name FROM pragma_table_info($1, 'main') m
		JOIN pragma_table_info($1, 'former') f ON f.name = m.name ORDER BY m.cid`, table)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%w: no table %s", ErrNotFound, table)
	}
	return `"` + strings.Join(names, `", "`) + `"`, err
}

// remove deletes what was deleted since. Where the former store has not come
// from the backup, only its audit log can tell.
func (c *carrier) remove() error {
	if _, err := c.exec(`CREATE TEMP TABLE gone (id TEXT PRIMARY KEY)`); err != nil {
		return err
	}
	for _, table := range []string{"workspaces", "roles", "members", "passkeys", "keys", "webhook_secrets", "endpoints"} {
		if err := c.add(&c.count.Deleted, `INSERT INTO gone SELECT t.id FROM main.`+table+` t
			WHERE NOT EXISTS (SELECT 1 FROM former.`+table+` f WHERE f.id = t.id)
			AND ($1 = 1 OR EXISTS (SELECT 1 FROM former.audit a WHERE a.object_id = t.id
				AND (a.action LIKE '%.deleted' OR a.action LIKE '%.removed')))`, flag(c.descends)); err != nil {
			return err
		}
	}
	for _, q := range []string{
		// With a workspace goes what is in it, which has no entry of its own.
		`INSERT OR IGNORE INTO gone SELECT id FROM keys WHERE workspace_id IN (SELECT id FROM gone)`,
		`INSERT OR IGNORE INTO gone SELECT id FROM webhook_secrets WHERE workspace_id IN (SELECT id FROM gone)`,
		`DELETE FROM recent_uses WHERE key_id IN (SELECT id FROM gone)`,
		`DELETE FROM key_use WHERE key_id IN (SELECT id FROM gone)`,
		`DELETE FROM key_sources WHERE key_id IN (SELECT id FROM gone)`,
		`DELETE FROM usage WHERE key_id IN (SELECT id FROM gone)`,
		`DELETE FROM usage_sums WHERE key_id IN (SELECT id FROM gone)`,
		`DELETE FROM workspace_usage`,
		`INSERT INTO workspace_usage (workspace_id, day, code, count)
			SELECT workspace_id, at, code, SUM(count) FROM usage_sums WHERE days = 1 GROUP BY 1, 2, 3`,
		`DELETE FROM webhook_secret_use WHERE webhook_secret_id IN (SELECT id FROM gone)`,
		`DELETE FROM alert_mails WHERE alert_id IN (SELECT id FROM alerts WHERE key_id IN (SELECT id FROM gone)
			OR workspace_id IN (SELECT id FROM gone))`,
		`DELETE FROM alerts WHERE key_id IN (SELECT id FROM gone) OR workspace_id IN (SELECT id FROM gone)`,
		`DELETE FROM deliveries WHERE endpoint_id IN (SELECT id FROM gone)`,
		`DELETE FROM passkeys WHERE id IN (SELECT id FROM gone)`,
	} {
		if _, err := c.exec(q); err != nil {
			return err
		}
	}
	for _, table := range []string{"keys", "webhook_secrets", "members", "roles", "endpoints", "deliveries"} {
		if _, err := c.exec(`DELETE FROM ` + table + ` WHERE id IN (SELECT id FROM gone)
			OR workspace_id IN (SELECT id FROM gone)`); err != nil {
			return err
		}
	}
	_, err := c.exec(`DELETE FROM workspaces WHERE id IN (SELECT id FROM gone)`)
	return err
}

// replace takes over who may do what: roles, members, passkeys and endpoints
// as the former store has them, unless it is known that the backup is newer.
func (c *carrier) replace() error {
	type part struct{ table, where string }
	parts := []part{
		{"people", ``},
		{"roles", ` WHERE f.workspace_id IN (SELECT id FROM workspaces) AND NOT EXISTS
			(SELECT 1 FROM main.roles m WHERE m.id = f.id AND m.updated_at > f.updated_at)`},
		{"members", ` WHERE f.workspace_id IN (SELECT id FROM workspaces)`},
		{"endpoints", ` WHERE f.workspace_id IN (SELECT id FROM workspaces) AND NOT EXISTS
			(SELECT 1 FROM main.endpoints m WHERE m.id = f.id AND m.updated_at > f.updated_at)`},
	}
	if c.descends {
		// Those that a link of recovery took away have no entry of their own:
		// another store could bring them back.
		parts = append(parts, part{"passkeys", ``})
	}
	for _, t := range parts {
		list, err := c.shared(t.table)
		if err != nil {
			return err
		}
		// A row with another ID that has the same unique name gives way.
		if _, err := c.exec(`INSERT OR REPLACE INTO main.` + t.table + ` (` + list + `)
			SELECT ` + list + ` FROM former.` + t.table + ` f` + t.where); err != nil {
			return wrap("take over "+t.table, err)
		}
	}
	return nil
}

func (c *carrier) workspaces() error {
	return c.add(&c.count.Workspaces, `UPDATE workspaces AS w SET
		suspended = MAX(w.suspended, f.suspended),
		suspended_reason = CASE WHEN f.suspended > w.suspended THEN f.suspended_reason ELSE w.suspended_reason END,
		ip_allowlist = CASE WHEN $1 = 1 OR f.updated_at > w.updated_at THEN f.ip_allowlist ELSE w.ip_allowlist END
		FROM former.workspaces f WHERE f.id = w.id AND (f.suspended > w.suspended
			OR (f.ip_allowlist <> w.ip_allowlist AND ($1 = 1 OR f.updated_at > w.updated_at)))`, flag(c.descends))
}

func (c *carrier) keys() error {
	if _, err := c.exec(`CREATE TEMP TABLE touched (id TEXT PRIMARY KEY)`); err != nil {
		return err
	}
	// What narrowed a key may have widened it elsewhere: the newer row says.
	newer := `($1 = 1 OR f.updated_at > k.updated_at)`
	ended := stricter("f") + ` > ` + stricter("k")
	nearer := `(f.expires_at > 0 AND (k.expires_at = 0 OR f.expires_at < k.expires_at))`
	changed := `(f.role_id, f.permissions, f.ip_allowlist) <> (k.role_id, k.permissions, k.ip_allowlist) AND ` + newer
	if err := c.add(&c.count.Keys, `INSERT INTO touched SELECT k.id FROM main.keys k JOIN former.keys f ON f.id = k.id
		WHERE `+ended+` OR `+nearer+` OR (`+changed+`)`, flag(c.descends)); err != nil {
		return err
	}
	for _, q := range []string{
		`UPDATE keys AS k SET state = f.state, disabled_at = f.disabled_at, disabled_reason = f.disabled_reason,
			revoked_at = f.revoked_at, revoked_by = f.revoked_by, revoked_reason = f.revoked_reason
			FROM former.keys f WHERE f.id = k.id AND k.id IN (SELECT id FROM touched) AND ` + ended,
		`UPDATE keys AS k SET expires_at = f.expires_at, former_end = f.former_end, replaced_by = f.replaced_by
			FROM former.keys f WHERE f.id = k.id AND k.id IN (SELECT id FROM touched) AND ` + nearer,
	} {
		if _, err := c.exec(q); err != nil {
			return err
		}
	}
	// What was due of them may be no more.
	if _, err := c.exec(`UPDATE keys SET look_at = 0 WHERE id IN (SELECT id FROM touched)`); err != nil {
		return err
	}
	_, err := c.exec(`UPDATE keys AS k SET role_id = f.role_id, permissions = f.permissions, ip_allowlist = f.ip_allowlist
		FROM former.keys f WHERE f.id = k.id AND k.id IN (SELECT id FROM touched) AND `+newer, flag(c.descends))
	return err
}

func (c *carrier) webhookSecrets() error {
	ended := stricter("f") + ` > ` + stricter("w")
	nearer := `(f.expires_at > 0 AND (w.expires_at = 0 OR f.expires_at < w.expires_at))`
	if err := c.add(&c.count.WebhookSecrets, `UPDATE webhook_secrets AS w SET state = f.state, revoked_at = f.revoked_at,
		revoked_by = f.revoked_by, revoked_reason = f.revoked_reason, look_at = 0
		FROM former.webhook_secrets f WHERE f.id = w.id AND `+ended); err != nil {
		return err
	}
	return c.add(nil, `UPDATE webhook_secrets AS w SET expires_at = f.expires_at, former_end = f.former_end,
		replaced_by = f.replaced_by, look_at = 0 FROM former.webhook_secrets f WHERE f.id = w.id AND `+nearer)
}

// tidy leaves no reference to what is not there.
func (c *carrier) tidy() error {
	queries := []string{
		`DELETE FROM members WHERE person_id NOT IN (SELECT id FROM people)`,
		`DELETE FROM passkeys WHERE person_id NOT IN (SELECT id FROM people)`,
		// The deliveries are the backup's: what the former store knew of its own
		// says nothing about when these are due.
		`UPDATE main.endpoints SET claimed_by = '', claimed_till = 0, due_at = COALESCE(
			(SELECT MIN(d.next_at) FROM main.deliveries d WHERE d.endpoint_id = endpoints.id AND d.state = 0), 0)`,
		`DROP TABLE temp.gone`, `DROP TABLE temp.touched`,
	}
	for _, table := range []string{"keys", "webhook_secrets"} {
		for _, column := range []string{"replaces", "replaced_by"} {
			queries = append(queries, `UPDATE main.`+table+` SET `+column+` = '' WHERE `+column+` <> ''
				AND `+column+` NOT IN (SELECT id FROM main.`+table+`)`)
		}
	}
	for _, q := range queries {
		if _, err := c.exec(q); err != nil {
			return err
		}
	}
	return nil
}
