package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxBatch bounds how many calls share a transaction, so that the first
	// of them does not wait for an endless queue.
	maxBatch = 256
	// commitTimeout bounds one transaction. A database that does not answer
	// for that long counts as gone.
	commitTimeout = 30 * time.Second
)

// writer runs all writes of this process, one transaction at a time, and lets
// the calls that wait meanwhile share the next one.
type writer struct {
	db        *sql.DB
	dialect   dialect
	calls     chan *call
	stop      chan struct{}
	stopped   chan struct{}
	committed func(first, last int64) // told of every commit that logged changes
	told      func()                  // told of every commit with an event for somebody
	notices   *notices
	kept      prepared  // of the connection
	mute      time.Time // until then nobody is notified

	mu     sync.RWMutex // held for reading while a call is handed in
	closed bool
}

type call struct {
	ctx  context.Context
	fn   func(*Tx) error
	seq  int64
	err  error
	done chan struct{}
}

func newWriter(db *sql.DB, d dialect, n *notices) *writer {
	w := &writer{
		db: db, dialect: d, notices: n,
		calls: make(chan *call, maxBatch), stop: make(chan struct{}), stopped: make(chan struct{}),
		committed: func(int64, int64) {}, told: func() {},
	}
	go w.run()
	return w
}

func (w *writer) do(ctx context.Context, fn func(*Tx) error) (int64, error) {
	c := &call{ctx: ctx, fn: fn, done: make(chan struct{})}
	w.mu.RLock()
	if w.closed {
		w.mu.RUnlock()
		return 0, ErrClosed
	}
	select {
	case w.calls <- c:
		w.mu.RUnlock()
	case <-ctx.Done():
		w.mu.RUnlock()
		return 0, ctx.Err()
	}
	<-c.done
	return c.seq, c.err
}

func (w *writer) close() error {
	w.mu.Lock()
	already := w.closed
	w.closed = true
	w.mu.Unlock()
	if !already {
		close(w.stop)
	}
	<-w.stopped
	return w.db.Close()
}

func (w *writer) run() {
	defer close(w.stopped)
	var conn *sql.Conn
	defer func() {
		if conn != nil {
			w.kept.close()
			conn.Close()
		}
	}()
	for {
		batch := w.next()
		if batch == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		var err error
		if conn, err = w.begin(ctx, conn); err == nil {
			if err = w.transact(ctx, conn, batch); err != nil {
				// The connection may be inside a broken transaction. A new one
				// costs less than finding out.
				w.discard(conn)
				conn = nil
			}
		}
		cancel()
		finish(batch, err)
	}
}

// begin starts a transaction, on the connection of the one before if that
// still works: a database that was away in between costs a new connection and
// not an error, since nothing was sent yet that could have got lost.
func (w *writer) begin(ctx context.Context, conn *sql.Conn) (*sql.Conn, error) {
	if conn != nil {
		if w.again(ctx, conn) {
			return conn, nil
		}
		w.discard(conn)
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return nil, classify(err)
	}
	if _, err := conn.ExecContext(ctx, w.dialect.begin); err != nil {
		discard(conn)
		return nil, classify(err)
	}
	return conn, nil
}

// again tells whether a transaction has begun on a connection that was used
// before. The network may have swallowed it without a word, so that it is given
// up soon; SQLite has no network, and may have to wait for another process.
func (w *writer) again(ctx context.Context, conn *sql.Conn) bool {
	if w.dialect.name == "postgres" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, pingTimeout)
		defer cancel()
	}
	_, err := conn.ExecContext(ctx, w.dialect.begin)
	return err == nil
}

// next waits for a call and takes what else is waiting. It returns nil when
// the writer is closed and nothing waits any more.
func (w *writer) next() []*call {
	var first *call
	select {
	case first = <-w.calls:
	default:
		select {
		case first = <-w.calls:
		case <-w.stop:
			select {
			case first = <-w.calls:
			default:
				return nil
			}
		}
	}
	batch := []*call{first}
	for len(batch) < maxBatch {
		select {
		case c := <-w.calls:
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

// transact runs a batch in the transaction that was begun, and commits it. A
// call's own failure stands in the call; an error returned here means that
// none of the batch is known to be committed.
func (w *writer) transact(ctx context.Context, conn *sql.Conn, batch []*call) error {
	tx := &Tx{ctx: ctx, q: conn, log: &changeLog{}, lite: w.dialect.name == "sqlite"}
	if tx.lite { // the driver of PostgreSQL does so itself
		w.kept.querier = conn
		tx.q = &w.kept
	}
	if err := tx.q.QueryRowContext(ctx, w.dialect.lockHead).Scan(&tx.log.seq); err != nil {
		return classify(err)
	}
	first := tx.log.seq
	for _, c := range batch {
		if err := w.runCall(tx, c); err != nil {
			return err
		}
	}
	if tx.log.seq > first {
		if err := tx.writeHead(); err != nil {
			return err
		}
	}
	w.notices.clear()
	if _, err := conn.ExecContext(ctx, `COMMIT`); err != nil {
		return commitError(err)
	}
	// PostgreSQL answers a commit whose wait for the standby was cut short
	// with success and a warning.
	if warning := w.notices.take(); warning != "" {
		return fmt.Errorf("%w: %s", ErrUnknownOutcome, warning)
	}
	if tx.log.seq > first {
		w.committed(first+1, tx.log.seq)
		w.notify(ctx, conn, tx.log.seq)
	}
	if tx.log.told {
		w.told()
	}
	return nil
}

// runCall runs one call in a savepoint. It returns an error only when the
// whole transaction is lost.
func (w *writer) runCall(tx *Tx, c *call) error {
	c.seq, c.err = 0, nil
	if c.err = c.ctx.Err(); c.err != nil {
		return nil //nolint:nilerr // the call's error, which loses no transaction
	}
	savepoint := func(statement string) error {
		_, err := tx.q.ExecContext(tx.ctx, statement)
		return classify(err)
	}
	if err := savepoint(`SAVEPOINT call`); err != nil {
		return err
	}
	before := tx.log.seq
	tx.broken = nil
	if c.err = protect(tx, c.fn); c.err == nil {
		c.err = tx.broken // fn may have kept it to itself
	}
	if c.err == nil {
		// PostgreSQL refuses this when fn kept the error of a statement to
		// itself. That is this call's failure and nobody else's.
		if c.err = savepoint(`RELEASE SAVEPOINT call`); c.err == nil {
			if tx.log.seq > before {
				c.seq = tx.log.seq
			}
			return nil
		}
	}
	tx.log.seq = before
	if err := savepoint(`ROLLBACK TO SAVEPOINT call`); err != nil {
		// A full disk or a lost connection has ended the whole transaction.
		// The error of the statement that met it says which.
		return firstKnown(tx.broken, c.err, err)
	}
	tx.broken = nil // it was this call's alone: the transaction goes on
	return savepoint(`RELEASE SAVEPOINT call`)
}

// protect turns a panic of one caller into its error, so that it does not
// take the other callers' transaction with it. The stack goes to the log with
// the error; the API shows neither.
func protect(tx *Tx, fn func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("store: panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(tx)
}

// finish hands the calls of a batch their outcome. With err, none of them is
// known to have happened.
func finish(batch []*call, err error) {
	for _, c := range batch {
		if err != nil {
			c.seq, c.err = 0, err
		}
		close(c.done)
	}
}

// discard is discard, with the statements that were kept of the connection.
func (w *writer) discard(conn *sql.Conn) {
	w.kept.close()
	discard(conn)
}

// discard closes the connection instead of handing it back to the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

func firstKnown(errs ...error) error {
	for _, err := range errs {
		for _, known := range []error{ErrFull, ErrUnavailable} {
			if errors.Is(err, known) {
				return err
			}
		}
	}
	return errors.Join(errs...)
}

// notices remembers the warnings that PostgreSQL sends on the writer's
// connection.
type notices struct {
	mu   sync.Mutex
	last string
}

func (n *notices) add(text string) {
	n.mu.Lock()
	n.last = text
	n.mu.Unlock()
}

func (n *notices) clear() { n.take() }

func (n *notices) take() string {
	if n == nil {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	text := n.last
	n.last = ""
	return text
}
