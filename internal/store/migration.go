package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// next is SQL of one migration more, in a build that plays the version after
// this one: see TestRollingUpgrade. Only the linker sets it (-X), so that such a
// build compiles nothing anew.
var next string //nolint:gochecknoglobals // see above

// migrateSQLite brings the schema up to date under a file lock, since two
// processes may open a new directory at once. Beside a server of an older
// version it does not: the server looks at the schema when it starts, and never
// again.
func migrateSQLite(ctx context.Context, db *sql.DB, path string, alone bool) error {
	l := flock.New(path+".migrate", flock.SetPermissions(0o600))
	for end := time.Now().Add(startTime); ; sleep(ctx, 20*time.Millisecond) {
		if _, err := l.TryLockContext(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		have, err := schemaOf(ctx, db)
		if alone || err == nil && have >= SchemaVersion() || !ServerRunning(filepath.Dir(path)) {
			defer l.Unlock() //nolint:errcheck // closing the file ends the lock in any case
			return migrate(ctx, db, goose.DialectSQLite3)
		}
		// It may be of this version, and about to migrate.
		if err := l.Unlock(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: it has schema %d, this version has %d", ErrOlderServer, have, SchemaVersion())
		}
	}
}

// startTime is how soon a server that holds a directory has migrated its schema,
// if it is of this version.
const startTime = 2 * time.Second

// schemaOf is the number of the newest migration that a database has had.
func schemaOf(ctx context.Context, q querier) (int64, error) {
	return queryOne(&Tx{ctx: ctx, q: q}, scanInt, `SELECT MAX(version_id) FROM goose_db_version`)
}

// migrationLock is the number of the advisory lock: "keystile" in ASCII.
const migrationLock = 0x6b657973_74696c65

// migratePostgres does the same under an advisory lock. It waits in the
// database: goose's own locker asks again every five seconds, so that eight
// servers that start at once take half a minute.
func migratePostgres(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return unreachable(err)
	}
	// Ends the lock with the connection, whatever state it is in.
	defer discard(conn)
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("store: wait for the migrations of another server: %w", classify(err))
	}
	return migrate(ctx, db, goose.DialectPostgres)
}

// migrations are the files by their numbers, each in a transaction. A file goes
// to the database as a whole: goose would cut it into statements line by line,
// and take four megabytes for each line.
func migrations() (all []*goose.Migration, err error) {
	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var texts []string
	for i, f := range files {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(f.Name(), want) {
			return nil, fmt.Errorf("%s should begin with %s", f.Name(), want)
		}
		text, err := migrationFiles.ReadFile("migrations/" + f.Name())
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	if next != "" {
		texts = append(texts, next)
	}
	for i, text := range texts {
		all = append(all, goose.NewGoMigration(int64(i+1), &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		}}, nil))
	}
	return all, nil
}

func migrate(ctx context.Context, db *sql.DB, d goose.Dialect) error {
	steps, err := migrations()
	if err != nil {
		return fmt.Errorf("store: migrations: %w", err)
	}
	p, err := goose.NewProvider(d, db, nil, goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("store: migrations: %w", err)
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("store: read the schema version: %w", classify(err))
	}
	if have > newest {
		// A newer version was here. What it has added is left alone, if it says
		// that this version can work with it.
		var floor int64
		if err := db.QueryRowContext(ctx, `SELECT oldest FROM schema_floor WHERE one = 1`).Scan(&floor); err != nil {
			return errors.Join(fmt.Errorf("%w: schema %d, this version knows %d", ErrNewerSchema, have, newest), classify(err))
		}
		if floor > newest {
			return fmt.Errorf("%w: schema %d, which takes a version that knows schema %d; this one knows %d", ErrNewerSchema, have, floor, newest)
		}
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			err = partial.Err
		}
		return fmt.Errorf("store: migrate the schema: %w", classify(err))
	}
	return seed(ctx, db)
}

// ownSchema fails unless the schema is this version's own. To work with a newer
// one is well enough for a server, and not for who moves whole tables: what
// this version does not know of would be left behind.
func (s *Store) ownSchema(ctx context.Context) error {
	have, err := schemaOf(ctx, s.readers)
	if err == nil && have > SchemaVersion() {
		err = fmt.Errorf("%w: schema %d, this version knows %d", ErrNewerSchema, have, SchemaVersion())
	}
	return err
}

// seed makes the one row of the change log's head, the log's row 0, which
// every node's position is checked against, and the first epoch of the
// store's history.
func seed(ctx context.Context, db *sql.DB) error {
	token, err := newToken()
	if err != nil {
		return err
	}
	for _, q := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO changes (seq, token, kind, object_id, at) SELECT 0, $1, 'noop', '', 0
		  WHERE NOT EXISTS (SELECT 1 FROM change_head) ON CONFLICT DO NOTHING`, []any{token}},
		{`INSERT INTO change_head (one, seq, timeline) VALUES (1, 0, 0) ON CONFLICT DO NOTHING`, nil},
		{`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
			[]any{settingHistory, history(nil).branch(0).String()}},
	} {
		if _, err := db.ExecContext(ctx, q.text, q.args...); err != nil {
			return fmt.Errorf("store: start the change log: %w", classify(err))
		}
	}
	return nil
}

// SchemaVersion is the number of the newest migration of this version.
func SchemaVersion() int64 {
	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return 0 // never: they are embedded
	}
	if next != "" {
		return int64(len(files)) + 1
	}
	return int64(len(files))
}
