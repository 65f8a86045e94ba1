// Package store keeps everything Keystile must remember, in SQLite or
// PostgreSQL. It holds all SQL and no rule: who may do what is decided in
// package keyring, which is the only caller of the rows of tenants. Those
// rows cannot be read without a [Scope].
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Errors of this package. Everything else that a method returns wraps one of
// these too, or is a fault of the program.
var (
	ErrNotFound       = errors.New("store: not found")
	ErrTaken          = errors.New("store: a unique value is taken")
	ErrUnavailable    = errors.New("store: the database cannot be reached")
	ErrFull           = errors.New("store: the database has no space left")
	ErrUnknownOutcome = errors.New("store: the commit was sent and its answer is not known")
	ErrNewerSchema    = errors.New("store: the database was written by a newer version of Keystile")
	ErrOlderServer    = errors.New("store: a server of an older version of Keystile runs on the data directory")
	ErrHeld           = errors.New("store: another server holds the data directory")
	ErrForbidden      = errors.New("store: the database's user may not do that")
	ErrClosed         = errors.New("store: closed")
)

// Options say where the data is. Exactly one of Dir and URL is set.
type Options struct {
	Dir string // data directory of an embedded SQLite database; made when missing
	URL string // PostgreSQL connection string

	// Serve holds the data directory against a second server. Programs that
	// only add to a store beside a running server leave it false.
	Serve bool
	// Restore holds the data directory against everyone else.
	Restore bool
	// MustExist refuses a data directory without a database.
	MustExist bool
}

// Store is an open database. Its methods may be called from many goroutines.
type Store struct {
	dialect dialect
	readers *sql.DB
	// followers are for what a node needs to go on answering: its lease, the
	// change log, the list of nodes. Readers that are slow, or many, would
	// otherwise hold up every connection until the lease is over.
	followers *sql.DB
	writer    *writer
	locks     locks

	closeOnce sync.Once
	closeErr  error
}

// followConns are one that listens, one that follows the log or loads, one that
// renews, two for those who wait for other nodes, two for replicas that load
// and two for replicas that catch up.
const followConns = 9

// dialect holds what differs between the two databases.
type dialect struct {
	name      string // "sqlite" or "postgres"
	begin     string // starts a write transaction that no other can interleave with
	beginRead sql.TxOptions
	lockHead  string // reads the head of the change log, and holds it until commit
	timeline  string // the server's timeline, as an expression beside change_head h
}

// Postgres tells whether the store is a PostgreSQL database, which other
// servers may share.
func (s *Store) Postgres() bool { return s.dialect.name == "postgres" }

// Open opens the store, makes it when it is not there, and brings its schema
// up to this version. It fails with ErrNewerSchema when a newer version has
// been there, ErrOlderServer when a server of an older version runs on the
// directory, ErrHeld when another server holds it, and ErrUnavailable when the
// database does not answer.
func Open(ctx context.Context, o Options) (*Store, error) {
	if (o.Dir == "") == (o.URL == "") {
		return nil, errors.New("store: name either a data directory or a database URL")
	}
	if o.URL != "" {
		return openPostgres(ctx, o)
	}
	return openSQLite(ctx, o)
}

// Close waits for writes under way and closes the store.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.closeErr = errors.Join(s.writer.close(), s.followers.Close(), s.readers.Close(), s.locks.release())
	})
	return s.closeErr
}

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.readers.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return classify(err)
	}
	return nil
}

// Write runs fn in a transaction and returns when it is durable. Several
// waiting calls share one transaction, each in a savepoint of its own: if fn
// fails, its own changes are undone and no one else's. All writers of all
// processes are serialised, so what fn reads cannot change before it commits.
//
// fn may run more than once and must have no effect outside of tx but on the
// variables it returns its results in. The returned number is the position of
// the last change that fn logged, 0 when it logged none.
//
// A context that ends before fn starts prevents it. After that the outcome
// no longer depends on it: Write returns what became of the transaction.
func (s *Store) Write(ctx context.Context, fn func(tx *Tx) error) (int64, error) {
	return s.writer.do(ctx, fn)
}

// readTimeout bounds one [Store.Read]: the network may swallow a connection
// without a word, and nobody would ever hear of its end.
const readTimeout = 30 * time.Second

// Read runs fn on one consistent snapshot, for 30 s at most.
func (s *Store) Read(ctx context.Context, fn func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return s.read(ctx, s.readers, fn)
}

// ReadOne is Read for one statement, which is a snapshot by itself: without a
// transaction around it it costs a third of the round trips.
func (s *Store) ReadOne(ctx context.Context, fn func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return fn(&Tx{ctx: ctx, q: s.readers})
}

// Follow is Read for package cluster, on connections that are kept for it, and
// without a limit of its own.
func (s *Store) Follow(ctx context.Context, fn func(tx *Tx) error) error {
	return s.read(ctx, s.followers, fn)
}

func (s *Store) read(ctx context.Context, from *sql.DB, fn func(tx *Tx) error) error {
	t, err := from.BeginTx(ctx, &s.dialect.beginRead)
	if err != nil {
		return classify(err)
	}
	defer t.Rollback() //nolint:errcheck // a read leaves nothing behind
	return fn(&Tx{ctx: ctx, q: t})
}

// Tx is a transaction. It is valid inside the function it is handed to.
type Tx struct {
	ctx context.Context
	q   querier
	log *changeLog // nil in a read
	// lite tells that the database is SQLite, where that is known.
	lite bool
	// broken is the error that may have ended the transaction. SQLite rolls
	// back on its own when the disk is full, and would commit each statement
	// after that by itself.
	broken error
}

// querier is what *sql.Tx, *sql.Conn and *sql.DB have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// exec runs a statement and returns how many rows it touched.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	if tx.broken != nil {
		return 0, tx.broken
	}
	r, err := tx.q.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, tx.failed(err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return 0, classify(err)
	}
	return n, nil
}

// repeating has the transaction keep its statements until done is called, for
// few that run many times.
func (tx *Tx) repeating() (done func()) {
	of := tx.q
	if _, ok := of.(*prepared); ok {
		return func() {}
	}
	p := &prepared{querier: of}
	tx.q = p
	return func() {
		tx.q = of
		p.close()
	}
}

// prepared is a querier that keeps its statements: SQLite takes longer to read
// one than to run it.
type prepared struct {
	querier

	statements map[string]*sql.Stmt
}

// maxPrepared is how many statements are kept: more than there are, but for
// those that are made for a number of rows.
const maxPrepared = 256

// preparer is what *sql.Tx and *sql.Conn have in common beside a querier.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// statement returns nil where nothing can be kept.
func (p *prepared) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := p.statements[query]; ok {
		return s, nil
	}
	of, ok := p.querier.(preparer)
	if !ok {
		return nil, nil //nolint:nilnil // see above
	}
	if len(p.statements) >= maxPrepared {
		p.close()
	}
	s, err := of.PrepareContext(ctx, query)
	if err == nil {
		if p.statements == nil {
			p.statements = map[string]*sql.Stmt{}
		}
		p.statements[query] = s
	}
	return s, err
}

func (p *prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // p.close does it
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return p.querier.ExecContext(ctx, query, args...)
	}
	return s.ExecContext(ctx, args...)
}

func (p *prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // p.close does it
	if err != nil || s == nil {
		return p.querier.QueryRowContext(ctx, query, args...) // which fails in the same way
	}
	return s.QueryRowContext(ctx, args...)
}

func (p *prepared) close() {
	for _, s := range p.statements {
		_ = s.Close() // nothing depends on it any more
	}
	p.statements = nil
}

// failed classifies the error of a statement and remembers whether it may have
// ended the transaction.
func (tx *Tx) failed(err error) error {
	err = classify(err)
	if errors.Is(err, ErrFull) || errors.Is(err, ErrUnavailable) {
		tx.broken = err
	}
	return err
}

// one runs a statement that must touch exactly one row.
func (tx *Tx) one(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err != nil {
		return err
	}
	if n != 1 {
		return ErrNotFound
	}
	return nil
}

// scanner is what *sql.Row and *sql.Rows have in common.
type scanner interface{ Scan(dest ...any) error }

// queryAll reads all rows of a query.
func queryAll[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	if tx.broken != nil {
		return nil, tx.broken
	}
	rows, err := tx.q.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, tx.failed(err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, tx.failed(err)
		}
		all = append(all, v)
	}
	if err := rows.Err(); err != nil {
		return nil, tx.failed(err)
	}
	return all, nil
}

// queryOne reads the one row of a query; ErrNotFound if there is none.
func queryOne[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	var zero T
	if tx.broken != nil {
		return zero, tx.broken
	}
	v, err := scan(tx.q.QueryRowContext(tx.ctx, query, args...))
	if err != nil {
		return zero, tx.failed(err)
	}
	return v, nil
}

func scanInt(r scanner) (int64, error) {
	var n int64
	err := r.Scan(&n)
	return n, err
}

func scanString(r scanner) (string, error) {
	var s string
	err := r.Scan(&s)
	return s, err
}

// millis and fromMillis convert the times of the schema.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func millisPtr(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return millis(*t)
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func fromMillisPtr(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := fromMillis(ms)
	return &t
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// wrap adds what was being done to an error, for logs.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
