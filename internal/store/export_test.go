package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/pressly/goose/v3"
)

// Statement is what a method has asked the database.
type Statement struct {
	Text string
	Args []any
}

// recorder keeps the statements that go through it.
type recorder struct {
	querier

	all []Statement
}

func (r *recorder) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	r.all = append(r.all, Statement{query, args})
	return r.querier.ExecContext(ctx, query, args...)
}

func (r *recorder) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.all = append(r.all, Statement{query, args})
	return r.querier.QueryContext(ctx, query, args...)
}

func (r *recorder) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	r.all = append(r.all, Statement{query, args})
	return r.querier.QueryRowContext(ctx, query, args...)
}

// Statements runs fn in a transaction, undoes it, and returns what fn asked
// the database, so that a test can ask the database how it goes about that.
func (s *Store) Statements(ctx context.Context, fn func(*Tx) error) (all []Statement, err error) {
	undo := errors.New("undo")
	_, wrote := s.Write(ctx, func(tx *Tx) error {
		r := &recorder{querier: tx.q}
		inner := *tx
		inner.q = r
		err = fn(&inner)
		all = r.all
		return undo
	})
	if !errors.Is(wrote, undo) {
		return nil, wrote
	}
	return all, err
}

// MigrateTo makes the schema of an older version in an empty database.
func MigrateTo(ctx context.Context, db *sql.DB, postgres bool, version int) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	if postgres {
		dialect = goose.DialectPostgres
	}
	p, err := goose.NewProvider(dialect, db, nil, goose.WithGoMigrations(all[:version]...), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	return seed(ctx, db)
}
