package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	notifyChannel = "keystile_changes"
	// pollPostgres is how soon a lost notification is made up for.
	pollPostgres = 250 * time.Millisecond
	// watchLimit bounds each exchange on the connection that listens. tryEvery
	// is for how long it may hear nothing before it is tried: the network may
	// have swallowed it without a word.
	watchLimit = 5 * time.Second
	tryEvery   = 10 * time.Second
	// pollSQLite is how soon another process's write is noticed. Reading
	// PRAGMA data_version costs a few microseconds.
	pollSQLite = 20 * time.Millisecond
)

// Watch calls wake whenever the change log may have grown by another
// process's writes, until ctx ends. Waking without cause is harmless, and it
// survives the loss of the database.
func (s *Store) Watch(ctx context.Context, wake func()) {
	for ctx.Err() == nil {
		conn, err := s.watching(ctx)
		if err == nil {
			if s.Postgres() {
				err = watchPostgres(ctx, conn, wake)
			} else {
				err = watchSQLite(ctx, conn, wake)
			}
			discard(conn)
		}
		if err != nil {
			wake()
			sleep(ctx, pollPostgres)
		}
	}
}

// watching returns a connection of its own.
func (s *Store) watching(ctx context.Context) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	return s.followers.Conn(ctx)
}

func watchSQLite(ctx context.Context, conn *sql.Conn, wake func()) error {
	var last int64
	for {
		var version int64
		if err := conn.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&version); err != nil {
			return err
		}
		if version != last {
			last = version
			wake()
		}
		if !sleep(ctx, pollSQLite) {
			return nil
		}
	}
}

func watchPostgres(ctx context.Context, conn *sql.Conn, wake func()) error {
	limited, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	if _, err := conn.ExecContext(limited, `LISTEN `+notifyChannel); err != nil {
		return err
	}
	return conn.Raw(func(c any) error {
		driver, ok := c.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("store: %T is no connection of pgx", c)
		}
		pg := driver.Conn()
		for alive := time.Now(); ; {
			wake()
			told, err := hear(ctx, pg)
			if told {
				alive = time.Now()
			} else if err == nil && time.Since(alive) > tryEvery {
				alive, err = time.Now(), try(ctx, pg)
			}
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // asked to end
			case err != nil:
				return err
			}
		}
	})
}

// hear waits for a notification until it is time to look without one.
func hear(ctx context.Context, pg *pgx.Conn) (told bool, err error) {
	wait, cancel := context.WithTimeout(ctx, pollPostgres)
	defer cancel()
	_, err = pg.WaitForNotification(wait)
	if err != nil && wait.Err() != nil && !pg.IsClosed() {
		return false, nil
	}
	return err == nil, err
}

func try(ctx context.Context, pg *pgx.Conn) error {
	limited, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	return pg.Ping(limited)
}

// notify tells the other nodes how far the log has come. It runs after the
// commit, in a statement of its own: inside the transaction it would hold a
// lock of the whole server until the standby has answered. It may get lost.
func (w *writer) notify(ctx context.Context, conn *sql.Conn, seq int64) {
	if w.dialect.name == "postgres" {
		_, _ = conn.ExecContext(ctx, `SELECT pg_notify($1, $2)`, notifyChannel, strconv.FormatInt(seq, 10))
	}
}

// sleep waits for d and tells whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
