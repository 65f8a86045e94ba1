package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
)

// This file moves whole tables from one database to another, whatever the two
// are. Backup and restore are built on it.

// kept are the tables that a backup holds, each behind those it refers to.
func kept() []string {
	return []string{
		"settings", "workspaces", "roles", "people", "passkeys", "members", "keys", "key_use", "usage", "key_sources",
		"usage_sums", "workspace_usage", "recent_uses",
		"audit", "events", "alerts", "alert_mails", "auth_failures", "auth_failure_sources",
		"endpoints", "webhook_secrets", "webhook_secret_use", "deliveries", "attempts",
	}
}

// leftOut are the tables that a backup does not hold and a restore empties:
// nothing in them may outlive the store it was made in. Links and sessions let
// someone in.
// The change log and the nodes belong to one history, which a restore ends.
// Answers kept for repeated requests tell of the last day, which a restore
// takes back.
func leftOut() []string {
	return []string{"links", "sessions", "nodes", "idempotency", "changes", "change_head"}
}

// columns are a table and its columns, in the order of the schema.
type columns struct {
	table string
	names []string
}

// columnsOf reads the columns of a table of a SQLite database. Both databases
// have the same ones.
func (tx *Tx) columnsOf(table string) (columns, error) {
	names, err := queryAll(tx, scanString, `SELECT name FROM pragma_table_info($1) ORDER BY cid`, table)
	if err != nil {
		return columns{}, err
	}
	if len(names) == 0 {
		return columns{}, fmt.Errorf("%w: no table %s", ErrNotFound, table)
	}
	return columns{table, names}, nil
}

// list is the columns for a statement.
func (c columns) list() string { return `"` + strings.Join(c.names, `", "`) + `"` }

// records runs a query and hands over its rows, whose values are of type
// int64, string or []byte.
func (tx *Tx) records(each func(values []any) error, query string, args ...any) error {
	rows, err := tx.q.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return classify(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return classify(err)
	}
	into := make([]any, len(names))
	for rows.Next() {
		values := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return classify(err)
		}
		if err := each(values); err != nil {
			return err
		}
	}
	return classify(rows.Err())
}

// all hands over every row of a table. Their order is the database's own.
func (tx *Tx) all(c columns, each func(values []any) error) error {
	return tx.records(each, `SELECT `+c.list()+` FROM "`+c.table+`"`)
}

// tally counts rows and sums their SHA-256 modulo 2^256, so that two tables
// with the same rows have the same tally in whatever order they are read: the
// two databases do not sort texts alike.
type tally struct {
	rows int64
	sum  [4]uint64
}

func (t *tally) add(values []any) error {
	h := sha256.New()
	var head [9]byte
	write := func(kind byte, n uint64, body []byte) {
		head[0] = kind
		binary.BigEndian.PutUint64(head[1:], n)
		h.Write(head[:])
		h.Write(body)
	}
	for _, v := range values {
		switch v := v.(type) {
		case int64:
			write('i', uint64(v), nil)
		case string:
			write('s', uint64(len(v)), []byte(v))
		case []byte:
			write('b', uint64(len(v)), v)
		default:
			return fmt.Errorf("store: a value of type %T in a row", v)
		}
	}
	digest := h.Sum(nil)
	var carry uint64
	for i := range t.sum {
		t.sum[i], carry = bits.Add64(t.sum[i], binary.LittleEndian.Uint64(digest[8*i:]), carry)
	}
	t.rows++
	return nil
}

func (t *tally) String() string {
	var b [32]byte
	for i, word := range t.sum {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	return hex.EncodeToString(b[:])
}

// insertValues is about how many values one statement inserts. With 1000, a
// statement costs little beside its rows; more gained nothing on either database.
const insertValues = 1000

// copyTable copies all rows of a table into the same table of another database
// and tallies them.
func copyTable(from, to *Tx, conn *sql.Conn, c columns) (t tally, err error) {
	in := &inserter{tx: to, conn: conn, columns: c, full: max(1, insertValues/len(c.names))}
	err = from.all(c, func(values []any) error {
		if err := t.add(values); err != nil {
			return err
		}
		return in.add(values)
	})
	return t, wrap("copy "+c.table, errors.Join(err, in.close()))
}

// inserter adds rows to a table, many at a time.
type inserter struct {
	tx      *Tx
	conn    *sql.Conn
	columns columns
	many    *sql.Stmt
	full    int // rows in a full statement
	waiting []any
}

func (in *inserter) statement(rows int) string {
	var b strings.Builder
	b.WriteString(`INSERT INTO "` + in.columns.table + `" (` + in.columns.list() + `) VALUES `)
	n := 0
	for i := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for j := range in.columns.names {
			if j > 0 {
				b.WriteString(", ")
			}
			n++
			b.WriteString("$" + itoa(n))
		}
		b.WriteByte(')')
	}
	return b.String()
}

// add takes a row's values, in the order of the columns.
func (in *inserter) add(values []any) error {
	in.waiting = append(in.waiting, values...)
	if len(in.waiting) < in.full*len(in.columns.names) {
		return nil
	}
	if in.many == nil {
		var err error
		if in.many, err = in.conn.PrepareContext(in.tx.ctx, in.statement(in.full)); err != nil {
			return classify(err)
		}
	}
	_, err := in.many.ExecContext(in.tx.ctx, in.waiting...)
	return in.added(err)
}

func (in *inserter) added(err error) error {
	if err != nil {
		return wrap("insert into "+in.columns.table, classify(err))
	}
	in.waiting = in.waiting[:0]
	return nil
}

// close inserts what still waits.
func (in *inserter) close() error {
	var err error
	if len(in.waiting) > 0 {
		_, err = in.tx.exec(in.statement(len(in.waiting)/len(in.columns.names)), in.waiting...)
		err = in.added(err)
	}
	if in.many != nil {
		err = errors.Join(err, in.many.Close())
	}
	return err
}

// writeFile makes a database of this version's schema in a file and lets fill
// put rows into it. Until [syncFile] is called on the file, a crash may spoil it.
func writeFile(ctx context.Context, path string, fill func(*Tx, *sql.Conn) error) error {
	db, err := openFile(path, "mode=rwc", "journal_mode(MEMORY)", "synchronous(OFF)", "temp_store(MEMORY)", "cache_size(-65536)")
	if err != nil {
		return err
	}
	if err = migrate(ctx, db, goose.DialectSQLite3); err == nil {
		err = transaction(ctx, db, `BEGIN`, func(to *Tx, conn *sql.Conn) error {
			if err := empty(to); err != nil {
				return err
			}
			return to.withoutIndexes(func() error { return fill(to, conn) })
		})
	}
	return errors.Join(err, db.Close())
}

// withoutIndexes runs fn and makes the indexes of a SQLite database after it:
// sorting all rows at once costs less than finding a place for each.
func (tx *Tx) withoutIndexes(fn func() error) error {
	indexes, err := queryAll(tx, func(r scanner) (i [2]string, err error) {
		err = r.Scan(&i[0], &i[1])
		return i, err
	}, `SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL`)
	if err != nil {
		return err
	}
	for _, i := range indexes {
		if _, err := tx.exec(`DROP INDEX "` + i[0] + `"`); err != nil {
			return err
		}
	}
	if err := fn(); err != nil {
		return err
	}
	for _, i := range indexes {
		if _, err := tx.exec(i[1]); err != nil {
			return err
		}
	}
	return nil
}

// openFile opens a SQLite file on one connection.
func openFile(path, parameters string, pragmas ...string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	for _, p := range pragmas {
		parameters += "&_pragma=" + p
	}
	db, err := sql.Open("sqlite", "file:"+escapePath(path)+"?"+parameters)
	if err != nil {
		return nil, classify(err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// escapePath keeps SQLite from reading more into a path than a path
// (sqlite.org/uri.html, section 3.1).
func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(filepath.ToSlash(path))
}

// empty removes all rows.
func empty(tx *Tx) error {
	tables := append(kept(), leftOut()...)
	for i := len(tables) - 1; i >= 0; i-- { // children before their parents
		if _, err := tx.exec(`DELETE FROM "` + tables[i] + `"`); err != nil {
			return wrap("empty "+tables[i], err)
		}
	}
	return nil
}

// transaction runs fn in a transaction on a connection of its own, outside of
// the store's writer, which bounds the time of one.
func transaction(ctx context.Context, db *sql.DB, begin string, fn func(*Tx, *sql.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return classify(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		return classify(err)
	}
	if err := fn(&Tx{ctx: ctx, q: conn, log: &changeLog{}}, conn); err != nil {
		discard(conn) // and the transaction with it
		return err
	}
	// Not to be called off: a commit that is cut short has an unknown outcome.
	if _, err := conn.ExecContext(context.WithoutCancel(ctx), `COMMIT`); err != nil {
		discard(conn)
		return commitError(err)
	}
	return nil
}

// sound fails with ErrDamaged unless a check of SQLite's finds nothing:
// integrity_check, or quick_check, which looks into tables and not indexes.
func sound(tx *Tx, check string) error {
	answer, err := queryOne(tx, scanString, `PRAGMA `+check+`(1)`)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if answer != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, answer)
	}
	return nil
}

// unbroken fails with ErrDamaged when a row refers to one that is not there.
func unbroken(tx *Tx) error {
	broken, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM pragma_foreign_key_check`)
	if err == nil && broken > 0 {
		err = fmt.Errorf("%d rows refer to others that are not there", broken)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// syncFile makes a file, or the names in a directory, survive a loss of power.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
