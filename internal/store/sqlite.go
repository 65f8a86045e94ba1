package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"modernc.org/sqlite" // the driver
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	sqliteFile  = "keystile.db"
	busyTimeout = 10 * time.Second
	// sqliteReaders bounds concurrent reads. WAL readers never wait for the
	// writer; more of them than cores gain nothing.
	sqliteReaders = 8
)

// locks are the files of a data directory that keep processes apart: a server
// from a second server, and a restore from everyone.
type locks struct {
	open   *flock.Flock // shared by every process that has the store open
	server *flock.Flock // held by the one server
}

func (l locks) release() error {
	var errs []error
	for _, f := range []*flock.Flock{l.server, l.open} {
		if f != nil {
			errs = append(errs, f.Unlock())
		}
	}
	return errors.Join(errs...)
}

// lockDir takes the locks that the options ask for.
func lockDir(o Options) (locks, error) {
	var l locks
	l.open = flock.New(filepath.Join(o.Dir, "open.lock"), flock.SetPermissions(0o600))
	take := l.open.TryRLock
	if o.Restore {
		take = l.open.TryLock
	}
	if ok, err := take(); err != nil {
		return locks{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	} else if !ok {
		return locks{}, ErrHeld
	}
	if o.Serve || o.Restore {
		l.server = flock.New(filepath.Join(o.Dir, "server.lock"), flock.SetPermissions(0o600))
		if ok, err := tryFor(lookTime, l.server.TryLock); err != nil || !ok {
			_ = l.open.Unlock()
			if err != nil {
				return locks{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			return locks{}, ErrHeld
		}
	}
	return l, nil
}

// lookTime is for how long a lock may be held by somebody who only looks
// whether it is free, with room to spare. See [ServerRunning].
const lookTime = 200 * time.Millisecond

// tryFor tries to take a lock again and again, for that long.
func tryFor(d time.Duration, take func() (bool, error)) (bool, error) {
	for end := time.Now().Add(d); ; {
		ok, err := take()
		if ok || err != nil || time.Now().After(end) {
			return ok, err
		}
		sleep(context.Background(), 10*time.Millisecond)
	}
}

// ServerRunning tells whether a server holds the data directory. It is for
// SQLite; on PostgreSQL servers are in the table of nodes.
func ServerRunning(dir string) bool {
	f := flock.New(filepath.Join(dir, "server.lock"), flock.SetPermissions(0o600))
	ok, err := f.TryRLock()
	if ok {
		_ = f.Unlock()
	}
	return err == nil && !ok
}

func sqliteURL(path string, readOnly bool) string {
	v := url.Values{}
	for _, pragma := range []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		"temp_store(MEMORY)",
		"cache_size(-16384)",
	} {
		v.Add("_pragma", pragma)
	}
	if readOnly {
		v.Add("_pragma", "query_only(1)")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: v.Encode()}).String()
}

func openSQLite(ctx context.Context, o Options) (*Store, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	path := filepath.Join(dir, sqliteFile)
	if o.MustExist {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s holds no database", ErrUnavailable, o.Dir)
		}
	}
	// The directory holds digests and, later, sealed secrets: the owner's alone.
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	held, err := lockDir(o)
	if err != nil {
		return nil, err
	}
	s, err := openSQLiteFile(ctx, path, held.server != nil)
	if err != nil {
		return nil, errors.Join(err, held.release())
	}
	s.locks = held
	return s, nil
}

// unreadable says which file it is that SQLite can't make sense of. Other
// errors pass through.
func unreadable(err error, path string) error {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
			return fmt.Errorf("%w: %s is no SQLite database, or a damaged one; restore a backup over it with 'keystile restore', or name another directory with --data", ErrUnavailable, path)
		}
	}
	return err
}

// openSQLiteFile opens one database file, without the locks of a directory. Alone
// tells that the caller knows of no server on it but itself.
func openSQLiteFile(ctx context.Context, path string, alone bool) (*Store, error) {
	// SQLite makes a missing file with the process's umask. Make it first.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	d := dialect{
		name: "sqlite", begin: `BEGIN IMMEDIATE`,
		lockHead: `SELECT seq FROM change_head`, timeline: `h.timeline`,
	}
	w, err := sql.Open("sqlite", sqliteURL(path, false))
	if err != nil {
		return nil, classify(err)
	}
	w.SetMaxOpenConns(1)
	if err := migrateSQLite(ctx, w, path, alone); err != nil {
		return nil, errors.Join(unreadable(err, path), w.Close())
	}
	pool := func(n int) *sql.DB {
		db, opened := sql.Open("sqlite", sqliteURL(path, true))
		if err = errors.Join(err, opened); opened == nil {
			db.SetMaxOpenConns(n)
			db.SetMaxIdleConns(n)
		}
		return db
	}
	readers, followers := pool(sqliteReaders), pool(followConns)
	if err != nil { // no such driver; nothing has been opened yet
		return nil, errors.Join(classify(err), w.Close())
	}
	return &Store{dialect: d, readers: readers, followers: followers, writer: newWriter(w, d, nil)}, nil
}
