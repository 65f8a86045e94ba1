package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// classify wraps an error of a driver in the error of this package that says
// what it means. Others pass through.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, own := range []error{ErrNotFound, ErrTaken, ErrUnavailable, ErrFull, ErrUnknownOutcome, ErrForbidden, ErrClosed} {
		if errors.Is(err, own) {
			return err
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return classifySQLite(lite)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return classifyPostgres(pg)
	}
	var network net.Error
	var dial *pgconn.ConnectError
	switch {
	case strings.Contains(err.Error(), "database is closed"): // database/sql names it no other way
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn), errors.As(err, &dial),
		errors.As(err, &network), errors.Is(err, context.DeadlineExceeded),
		strings.Contains(err.Error(), "conn closed"), strings.Contains(err.Error(), "unexpected EOF"):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func classifySQLite(err *sqlite.Error) error {
	switch err.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	switch err.Code() & 0xff { // the low byte is the primary result code
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// classifyPostgres goes by the classes of SQLSTATE (PostgreSQL, appendix A).
func classifyPostgres(err *pgconn.PgError) error {
	switch {
	case err.Code == "23505":
		return fmt.Errorf("%w: %w", ErrTaken, err)
	case err.Code == "53100": // disk_full
		return fmt.Errorf("%w: %w", ErrFull, err)
	case err.Code == "42501": // insufficient_privilege
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	case strings.HasPrefix(err.Code, "08"), strings.HasPrefix(err.Code, "53"), strings.HasPrefix(err.Code, "57"),
		err.Code == "25006", // read_only_sql_transaction: a standby
		err.Code == "55P03", // lock_not_available: a lock_timeout that a pooler has let stand
		err.Code == "40001", err.Code == "40P01":
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// commitError says what a failed COMMIT means. Only an answer of the database
// itself proves that nothing was committed.
func commitError(err error) error {
	var lite *sqlite.Error
	// A commit whose fsync failed may be in the log all the same, for whoever
	// reads it after a crash.
	if errors.As(err, &lite) && lite.Code()&0xff != sqlite3.SQLITE_IOERR {
		return classify(err)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "57") && !strings.HasPrefix(pg.Code, "08") {
		return classify(err)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}
