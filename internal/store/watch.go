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
	// hintEvery is how often notifications are acted on at most. Whoever may connect
	// to the database may send them, and each look into the log costs it some.
	hintEvery = 5 * time.Millisecond
	// muteFor is for how long nobody is notified when that could not be done.
	muteFor = 5 * time.Second
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
		again := true
		for alive := time.Now(); ; {
			if again {
				wake()
			}
			told, err := hear(ctx, pg)
			if again = true; told {
				alive = time.Now()
				wake()
				again, err = gather(ctx, pg)
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

// gather takes what comes for a while after a notification, so that all of it costs
// one look more, and tells whether anything came.
func gather(ctx context.Context, pg *pgx.Conn) (some bool, err error) {
	wait, cancel := context.WithTimeout(ctx, hintEvery)
	defer cancel()
	for wait.Err() == nil {
		switch _, err := pg.WaitForNotification(wait); {
		case err == nil:
			some = true
		case wait.Err() == nil || pg.IsClosed():
			return some, err
		}
	}
	return some, nil
}

func try(ctx context.Context, pg *pgx.Conn) error {
	limited, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	return pg.Ping(limited)
}

// notify tells the other nodes how far the log has come. It runs after the
// commit, in a statement of its own: inside the transaction it would hold a
// lock of the whole server until the standby has answered. It may get lost.
//
// Another program that notifies in its transactions does hold that lock, of
// whatever database it is, and may wait for a standby that stands still. So it is
// given up when polling has made up for it, and not tried again for a while.
func (w *writer) notify(ctx context.Context, conn *sql.Conn, seq int64) {
	if w.dialect.name != "postgres" || time.Now().Before(w.mute) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pollPostgres)
	defer cancel()
	if _, err := conn.ExecContext(ctx, `SELECT pg_notify($1, $2)`, notifyChannel, strconv.FormatInt(seq, 10)); err != nil {
		w.mute = time.Now().Add(muteFor)
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
