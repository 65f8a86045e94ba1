package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	postgresReaders = 16
	connectTimeout  = 10 * time.Second
	minPostgres     = 150000 // server_version_num of PostgreSQL 15
)

func openPostgres(ctx context.Context, o Options) (*Store, error) {
	config, err := pgx.ParseConfig(o.URL)
	if err != nil {
		// The driver's error may quote the URL, and the URL holds a password.
		return nil, fmt.Errorf("%w: what was given is no URL such as postgres://keystile@db.example.com/keystile", ErrUnavailable)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	// A URL may name several servers. Leases and changes need the primary: a
	// standby may not have what was committed.
	if config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	config.RuntimeParams["application_name"] = "keystile"
	// A change that was answered survives a crash, whatever the database's default.
	config.RuntimeParams["synchronous_commit"] = "on"
	// A server that is frozen while it writes holds the head of the log, and with
	// it every change of the others, also those that take access away.
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "10000" // milliseconds
	// Each exchange has a limit here. Those that somebody has set for people and
	// other programs would end a change that waits for its turn, and a load.
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_session_timeout"} {
		config.RuntimeParams[name] = "0"
	}
	config.RuntimeParams["default_transaction_isolation"] = "read committed"
	config.RuntimeParams["default_transaction_deferrable"] = "off"

	n := &notices{}
	forWrites := config.Copy()
	forWrites.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.Severity == "WARNING" {
			n.add(notice.Message)
		}
	}
	w := stdlib.OpenDB(*forWrites)
	// One for the writer, one for migrations while it is not there yet.
	w.SetMaxOpenConns(2)
	fail := func(err error) (*Store, error) { return nil, errors.Join(err, w.Close()) }

	var version int
	if err := w.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return fail(unreachable(err))
	}
	if version < minPostgres {
		return fail(fmt.Errorf("%w: PostgreSQL %d is too old, 15 or newer is needed", ErrUnavailable, version/10000))
	}
	if err := migratePostgres(ctx, w); err != nil {
		return fail(err)
	}
	d := dialect{
		name: "postgres", begin: `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`,
		beginRead: sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		lockHead:  `SELECT seq FROM change_head FOR UPDATE`,
		// The name of the file being written begins with the timeline, in hex.
		// That of pg_control_checkpoint is late: it changes with the first
		// checkpoint after a failover.
		timeline: `('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint`,
	}
	// A store that has never been used has no former timeline.
	tx := &Tx{ctx: ctx, q: w}
	if _, err := tx.exec(`UPDATE change_head h SET timeline = ` + d.timeline + ` WHERE timeline = 0`); err != nil {
		return fail(unreachable(err))
	}
	return &Store{
		dialect: d, readers: postgresPool(config, postgresReaders), followers: postgresPool(config, followConns),
		writer: newWriter(w, d, n),
	}, nil
}

// pingTimeout bounds the try of a connection before it is used.
const pingTimeout = 2 * time.Second

// postgresPool is up to n connections. Each is tried before it is handed out:
// after a restart of PostgreSQL all of them are dead at once, and the first
// calls would fail one after the other though the database is back. One that
// the network has swallowed without a word is found out too, which without a
// limit would take as long as TCP believes in it. It costs a round trip, of
// which a read takes three more.
func postgresPool(config *pgx.ConnConfig, n int) *sql.DB {
	db := stdlib.OpenDB(*config,
		stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }),
		stdlib.OptionResetSession(func(ctx context.Context, c *pgx.Conn) error {
			ctx, cancel := context.WithTimeout(ctx, pingTimeout)
			defer cancel()
			if c.PgConn().Ping(ctx) != nil {
				return driver.ErrBadConn
			}
			return nil
		}))
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

// unreachable says why a connection failed without the connection string,
// which holds a password.
func unreachable(err error) error {
	var dial *pgconn.ConnectError
	if errors.As(err, &dial) && dial.Config != nil {
		// The driver tries more than once, with and without TLS, and joins what
		// came of it. The first of it is enough for a person.
		cause := errors.Unwrap(dial)
		if strings.HasSuffix(dial.Error(), "read only connection") { // the driver names it no other way
			cause = errors.New("it takes no writes: it is a standby, or set to be read only; name the primary, or all servers of the database")
		} else if network, ok := errors.AsType[*net.OpError](cause); ok {
			cause = network.Err
		} else if refused, ok := errors.AsType[*pgconn.PgError](cause); ok {
			cause = refused
		}
		return fmt.Errorf("%w: PostgreSQL at %s:%d, database %q, user %q: %w", ErrUnavailable,
			dial.Config.Host, dial.Config.Port, dial.Config.Database, dial.Config.User, cause)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
