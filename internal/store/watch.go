package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

const (
	notifyChannel = "keystile_changes"
	// pollPostgres is how soon a lost notification is made up for.
	pollPostgres = 250 * time.Millisecond
	// pollSQLite is how soon another process's write is noticed. Reading
	// PRAGMA data_version costs a few microseconds.
	pollSQLite = 20 * time.Millisecond
)

// Watch calls wake whenever the change log may have grown by another
// process's writes, until ctx ends. Waking without cause is harmless, and it
// survives the loss of the database.
func (s *Store) Watch(ctx context.Context, wake func()) {
	for ctx.Err() == nil {
		conn, err := s.followers.Conn(ctx)
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
	if _, err := conn.ExecContext(ctx, `LISTEN `+notifyChannel); err != nil {
		return err
	}
	return conn.Raw(func(c any) error {
		driver, ok := c.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("store: %T is no connection of pgx", c)
		}
		pg := driver.Conn()
		for {
			wake()
			wait, cancel := context.WithTimeout(ctx, pollPostgres)
			_, err := pg.WaitForNotification(wait)
			timedOut := wait.Err() != nil
			cancel()
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // asked to end
			case err == nil, timedOut && !pg.IsClosed():
			default:
				return err
			}
		}
	})
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
