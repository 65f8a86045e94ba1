package store

import "context"

// Durability says how the database could lose a change that was answered with
// success, in the operator's words; nothing when it could not. A commit waits
// for the disk of the primary, and of the synchronous standbys that the
// database names; this store asks for that itself, whatever the default.
func (s *Store) Durability(ctx context.Context) ([]string, error) {
	if !s.Postgres() {
		return nil, nil // synchronous=FULL on a file of our own
	}
	type settings struct {
		fsync, pages, commit, standbys string
		receivers                      int64
	}
	tx := &Tx{ctx: ctx, q: s.followers}
	is, err := queryOne(tx, func(r scanner) (v settings, err error) {
		err = r.Scan(&v.fsync, &v.pages, &v.commit, &v.standbys, &v.receivers)
		return v, err
	}, `SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
		current_setting('synchronous_standby_names'), (SELECT COUNT(*) FROM pg_stat_replication)`)
	if err != nil {
		return nil, err
	}
	var risks []string
	if is.fsync == "off" {
		risks = append(risks, "fsync is off: a crash of the database's machine can lose changes that were answered with success; set fsync = on")
	}
	if is.pages == "off" {
		risks = append(risks, "full_page_writes is off: a crash of the database's machine can damage the database; set full_page_writes = on")
	}
	if is.commit == "off" || is.commit == "local" {
		risks = append(risks, "synchronous_commit is "+is.commit+" for this server's own connections: something between it and the database changes it; connect directly, or in session mode")
	}
	if is.standbys == "" && is.receivers > 0 {
		risks = append(risks, "a standby follows the database and no commit waits for it: a failover can undo revocations that were answered with success; name it in synchronous_standby_names")
	}
	return risks, nil
}
