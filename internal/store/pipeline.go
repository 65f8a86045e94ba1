package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// together has the statements of fn, whose outcome fn does not look at, run with
// as few exchanges as possible: while a transaction is under way nobody else can
// change anything, and the database may be far away. What fn reads it reads
// before. SQLite, which is not, keeps what it has read of a statement.
func (tx *Tx) together(fn func() error) error {
	conn, ok := tx.q.(*sql.Conn)
	if !ok || !isPostgres(conn) {
		defer tx.repeating()()
		return fn()
	}
	of := tx.q
	p := &pipeline{querier: of, batch: &pgx.Batch{}}
	tx.q = p
	err := fn()
	tx.q = of
	if err != nil || p.batch.Len() == 0 {
		return err
	}
	if err := p.send(tx.ctx, conn); err != nil {
		return tx.failed(err)
	}
	return nil
}

func isPostgres(conn *sql.Conn) (is bool) {
	_ = conn.Raw(func(c any) error { // fails when it is closed, as whatever comes next does
		_, is = c.(*stdlib.Conn)
		return nil
	})
	return is
}

// pipeline is a querier that keeps statements until they are sent.
type pipeline struct {
	querier

	batch *pgx.Batch
}

func (p *pipeline) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	p.batch.Queue(query, args...)
	return driver.RowsAffected(0), nil
}

// send returns the error of the first statement that failed.
func (p *pipeline) send(ctx context.Context, conn *sql.Conn) error {
	return conn.Raw(func(c any) error {
		pg, ok := c.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("store: %T is no connection of pgx", c)
		}
		return pg.Conn().SendBatch(ctx, p.batch).Close()
	})
}
