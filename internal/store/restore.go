package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/keystile/keystile"
)

// Restored is what a restore did.
type Restored struct {
	Backup Backup `json:"backup"`
	// ActiveKeys is how many keys are active now, by their state and end.
	ActiveKeys int64 `json:"active_keys"`
	// Former is the file that holds the SQLite database that was replaced; ""
	// when there was none.
	Former string `json:"former,omitempty"`
	// Carried is what was taken over from the former store; nil when there was
	// none, or it could not be read.
	Carried *Carried `json:"carried,omitempty"`
	// Unread says why the former store could not be read.
	Unread string `json:"unread,omitempty"`
	// Complete tells that the former store had come from the backup, so that
	// nothing which was taken away since is back. Otherwise it may be, and
	// LookAt names active keys, those used last before the others: all of
	// them up to maxLookAt.
	Complete bool     `json:"complete"`
	LookAt   []KeyRef `json:"look_at,omitempty"`
}

// KeyRef names a key.
type KeyRef struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	WorkspaceID string `json:"workspace_id"`
}

// maxLookAt is more keys than a person looks at one by one.
const maxLookAt = 1000

// restoreWait is for how long nothing is heard of a node that is gone before
// no lease of it can be left: the wait of the revocation protocol (see package
// cluster) plus 5/4 of the time for which its children may be stale.
const restoreWait = 15 * time.Second

// Restore replaces everything in a store by what a backup holds, except that
// what was taken away since stays away: see [Carried]. It begins a new epoch:
// links, sessions, answers kept for repeated requests and leases end. All of it happens,
// or nothing does, whenever the process is killed. The entry, whose ID, actor
// and workspace the caller sets, goes into the audit log.
//
// It fails with ErrNotBackup, ErrDamaged and ErrNewerSchema as [CheckBackup]
// does, and with ErrHeld while a server or another program uses the store. To
// tell that none does, it waits on PostgreSQL until a node that does not leave
// must have lost its lease. A SQLite database that was there is kept under
// another name; on Unix its owner and group, or those of the directory, get the
// new one.
func Restore(ctx context.Context, o Options, path string, entry keystile.AuditEntry) (r Restored, err error) {
	if r.Backup, err = ReadBackup(ctx, path); err != nil {
		return r, err // before anything is made or waited for
	}
	if o.URL != "" {
		return restorePostgres(ctx, o, path, entry)
	}
	return restoreSQLite(ctx, o, path, entry)
}

func restoreSQLite(ctx context.Context, o Options, path string, entry keystile.AuditEntry) (r Restored, err error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	_, absent := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	o.Dir, o.Restore = dir, true
	held, err := lockDir(o)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil && errors.Is(absent, fs.ErrNotExist) {
			err = errors.Join(err, os.RemoveAll(dir)) // nothing half-made
		}
		err = errors.Join(err, held.release())
	}()
	current := filepath.Join(dir, sqliteFile)
	next := current + ".restoring"
	former, owner := "", dir
	if _, err := os.Stat(current); err == nil {
		owner = current
	}
	if err := ownLike(owner, held.open.Path(), held.server.Path()); err != nil {
		return r, err
	}
	if info, err := os.Stat(current); err == nil && info.Size() > 0 {
		former = current
		// Brings an older schema up to date. What cannot be opened so, a newer
		// or a damaged one, is read as far as it goes.
		if s, err := openSQLiteFile(ctx, current, true); err == nil {
			_ = s.Close()
		}
	}
	defer os.Remove(next) //nolint:errcheck // gone when all went well
	if r, err = prepare(ctx, path, next, former, entry); err != nil {
		return r, err
	}
	if err := ownLike(owner, next); err != nil {
		return r, err
	}
	if former != "" {
		r.Former = fmt.Sprintf("%s.before-restore-%s", current, time.Now().UTC().Format("20060102T150405.000Z"))
		if err := setAside(current, r.Former); err != nil {
			return r, err
		}
	}
	if err := os.Rename(next, current); err != nil {
		return r, err
	}
	return r, syncFile(dir)
}

// setAside gives a database a second name, and leaves nothing beside the first
// that SQLite would take for a part of the next database of this name. Between
// its steps the first name is always that of a whole database.
func setAside(path, aside string) error {
	for _, suffix := range []string{"", "-wal"} {
		// The log is empty and gone unless the database could not be opened.
		err := os.Link(path+suffix, aside+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // some file systems know no links
			if err = copyFile(path+suffix, aside+suffix); err == nil {
				err = ownLike(path, aside+suffix)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncFile(filepath.Dir(path))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// prepare makes the database that shall be from a backup and, unless its path
// is empty, the former database.
func prepare(ctx context.Context, path, next, former string, entry keystile.AuditEntry) (r Restored, err error) {
	if err := copyFile(path, next); err != nil {
		return r, err
	}
	// What is checked is what will be used.
	if r.Backup, err = CheckBackup(ctx, next); err != nil {
		return r, err
	}
	db, err := openFile(next, "mode=rw", "journal_mode(MEMORY)", "synchronous(OFF)", "temp_store(MEMORY)", "cache_size(-65536)")
	if err != nil {
		return r, err
	}
	err = r.rewrite(ctx, db, former, entry)
	if err = errors.Join(err, db.Close()); err != nil {
		return r, err
	}
	return r, syncFile(next)
}

// rewrite makes a store of the copy of a backup.
func (r *Restored) rewrite(ctx context.Context, db *sql.DB, former string, entry keystile.AuditEntry) error {
	if err := migrate(ctx, db, goose.DialectSQLite3); err != nil {
		return err
	}
	tx := &Tx{ctx: ctx, q: db}
	if _, err := tx.exec(`DROP TABLE backup_info`); err != nil {
		return err
	}
	head := int64(0)
	if former != "" {
		c := &carrier{Tx: tx}
		err := c.carry(ctx, former, r.Backup)
		switch {
		case err == nil:
			r.Carried, r.Complete, head = &c.count, c.descends, c.head
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrFull):
			return err
		default:
			r.Unread = err.Error()
		}
	}
	if err := tx.startEpoch(max(r.Backup.Seq, head)+1, r.Backup); err != nil {
		return wrap("begin a new epoch", err)
	}
	// The key of the store that the backup was made of is no concern of this one
	// when it seals nothing.
	if _, err := tx.exec(`DELETE FROM settings WHERE name = $1
		AND NOT EXISTS (SELECT 1 FROM webhook_secrets WHERE master_key <> '')`, SettingMasterKey); err != nil {
		return err
	}
	// The server that was killed before this may have had replicas, which the
	// backup knows nothing of: the next one waits for their leases.
	if err := tx.SetSetting(SettingReplicas, "1"); err != nil {
		return err
	}
	entry.After = map[string]any{"backup": r.Backup.CreatedAt.Format(time.RFC3339), "carried_over": r.Carried}
	if err := tx.InsertAudit(entry); err != nil {
		return err
	}
	return errors.Join(r.activeKeys(tx), unbroken(tx))
}

func (r *Restored) activeKeys(tx *Tx) (err error) {
	const active = ` FROM keys k LEFT JOIN key_use u ON u.key_id = k.id
		WHERE k.state = $1 AND (k.expires_at = 0 OR k.expires_at > $2)`
	now := time.Now().UnixMilli()
	if r.ActiveKeys, err = queryOne(tx, scanInt, `SELECT COUNT(*)`+active, keyActive, now); err != nil || r.Complete {
		return err
	}
	r.LookAt, err = queryAll(tx, func(s scanner) (k KeyRef, err error) {
		err = s.Scan(&k.ID, &k.Name, &k.WorkspaceID)
		return k, err
	}, `SELECT k.id, k.name, k.workspace_id`+active+` ORDER BY COALESCE(u.at, 0) DESC, k.id LIMIT $3`, keyActive, now, maxLookAt)
	return err
}

// startEpoch begins the change log anew at a number that neither the backup
// nor the former store has reached, so that a node which followed either
// notices.
func (tx *Tx) startEpoch(seq int64, b Backup) error {
	h, err := tx.history("main")
	if err != nil {
		return err
	}
	token, err := newToken()
	if err != nil {
		return err
	}
	for _, q := range []struct {
		text string
		args []any
	}{
		{`DELETE FROM changes`, nil},
		{`INSERT INTO changes (seq, token, kind, object_id, at) VALUES ($1, $2, $3, '', $4)`,
			[]any{seq, token, string(ChangeNoop), time.Now().UnixMilli()}},
		{`UPDATE change_head SET seq = $1`, []any{seq}},
	} {
		if _, err := tx.exec(q.text, q.args...); err != nil {
			return err
		}
	}
	return tx.SetSetting(settingHistory, h.branch(b.Seq).String())
}

func restorePostgres(ctx context.Context, o Options, path string, entry keystile.AuditEntry) (r Restored, err error) {
	s, err := Open(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.ownSchema(ctx); err != nil {
		return r, err
	}
	nodes, err := s.silent(ctx)
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "keystile-restore-") // mode 0700
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left holds no key
	s.writer.notices.clear()
	err = transaction(ctx, s.writer.db, s.dialect.begin, func(tx *Tx, conn *sql.Conn) error {
		if err := tx.alone(nodes, s.dialect.timeline); err != nil {
			return err
		}
		former, next := filepath.Join(dir, "former.db"), filepath.Join(dir, "next.db")
		if err := tx.copyFormer(former); err != nil {
			return err
		}
		if r, err = prepare(ctx, path, next, former, entry); err != nil {
			return err
		}
		if r.Unread != "" {
			return errors.New("store: " + r.Unread) // it has just been read
		}
		return tx.replaceAll(conn, next)
	})
	if warning := s.writer.notices.take(); err == nil && warning != "" {
		err = fmt.Errorf("%w: %s", ErrUnknownOutcome, warning)
	}
	return r, err
}

// silent waits until no node that is listed can have a lease any more, and
// lists those that did not leave. It fails with ErrHeld when one renews.
func (s *Store) silent(ctx context.Context) (nodes []Node, err error) {
	list := func() ([]Node, error) {
		r, err := s.Roster(ctx)
		return r.Nodes, err
	}
	if nodes, err = list(); err != nil {
		return nil, err
	}
	end := time.Now()
	for _, n := range nodes {
		if until := time.Now().Add(restoreWait + n.StaleFor*5/4); until.After(end) {
			end = until
		}
	}
	for len(nodes) > 0 && time.Now().Before(end) {
		if !sleep(ctx, pollPostgres) {
			return nil, ctx.Err()
		}
		now, err := list()
		if err != nil {
			return nil, err
		}
		if err := same(nodes, now); err != nil {
			return nil, err
		}
		nodes = now
	}
	return nodes, nil
}

// same fails with ErrHeld when a node has come or has renewed since before.
func same(before, now []Node) error {
	renewals := map[string]int64{}
	for _, n := range before {
		renewals[n.ID] = n.Renewals
	}
	for _, n := range now {
		if known, ok := renewals[n.ID]; !ok || known != n.Renewals {
			return fmt.Errorf("%w: %s", ErrHeld, n.Name)
		}
	}
	return nil
}

// alone keeps all others from writing until the transaction ends: no server
// can start, and the commands beside servers wait. It fails with ErrHeld when
// a server has started meanwhile.
func (tx *Tx) alone(nodes []Node, timeline string) error {
	if err := tx.unhurried(true); err != nil {
		return err
	}
	if _, err := tx.exec(`LOCK TABLE nodes IN EXCLUSIVE MODE`); err != nil {
		return err
	}
	if _, err := queryOne(tx, scanInt, `SELECT seq FROM change_head FOR UPDATE`); err != nil {
		return err
	}
	now, err := tx.roster(timeline)
	if err != nil {
		return err
	}
	return same(nodes, now.Nodes)
}

// copyFormer copies what [carry] needs into a new SQLite file.
func (tx *Tx) copyFormer(path string) error {
	return writeFile(tx.ctx, path, func(to *Tx, conn *sql.Conn) error {
		for _, name := range []string{
			"settings", "change_head", "workspaces", "roles", "people", "passkeys", "members", "keys", "webhook_secrets", "endpoints", "audit",
		} {
			c, err := to.columnsOf(name)
			if err == nil {
				_, err = copyTable(tx, to, conn, c)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// replaceAll makes the contents of the database those of a SQLite file.
func (tx *Tx) replaceAll(conn *sql.Conn, path string) error {
	db, err := openFile(path, "mode=ro", "query_only(1)")
	if err != nil {
		return err
	}
	from := &Tx{ctx: tx.ctx, q: db}
	err = empty(tx)
	for _, name := range append(kept(), leftOut()...) {
		var c columns
		if err == nil {
			c, err = from.columnsOf(name)
		}
		if err == nil {
			_, err = copyTable(from, tx, conn, c)
		}
	}
	return errors.Join(err, db.Close())
}
