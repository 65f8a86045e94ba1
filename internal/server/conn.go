package server

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile/internal/entry"
)

// leanListener hands out connections that spare the system what net/http asks
// of them with each request.
type leanListener struct{ net.Listener }

func (l leanListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newLeanConn(c), nil
}

// leanConn is a connection that does as any other, at less cost for two things
// that net/http does with each request.
//
// It sets eight limits on time, each of which the system would have to hear of.
// A limit is told to the system when something waits that it would end earlier
// than the limit that the system knows; one that comes too early by then is
// renewed. No read or write goes on for longer than it may.
//
// And it reads on behind the request, by a single byte, to notice that the
// client has gone while a handler works. For a request that is answered at once
// there is nothing to be noticed, so that nothing is read. See [entry.Line].
type leanConn struct {
	net.Conn

	read, write limit
	reads       atomic.Int64

	mu     sync.Mutex
	told   sync.Cond
	mode   mode
	closed bool
}

// mode says what becomes of a read behind the request.
type mode int

const (
	undecided mode = iota // it waits until its handler begins
	atOnce
	watched
)

// limit is the time at which reads, or writes, end.
type limit struct {
	mu     sync.Mutex
	wanted time.Time // zero: none
	known  time.Time // to the system
	busy   int       // how many of them are under way
	tell   func(time.Time) error
}

func newLeanConn(c net.Conn) *leanConn {
	l := &leanConn{Conn: c}
	l.told.L = &l.mu
	l.read.tell, l.write.tell = c.SetReadDeadline, c.SetWriteDeadline
	return l
}

// set notes a limit. What is under way is told of one that is earlier.
func (l *limit) set(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = t
	if l.busy > 0 && l.early() {
		return l.now()
	}
	return nil
}

// early tells whether the limit ends before the one that the system knows.
func (l *limit) early() bool {
	return !l.wanted.IsZero() && (l.known.IsZero() || l.wanted.Before(l.known))
}

func (l *limit) now() error {
	l.known = l.wanted
	return l.tell(l.wanted)
}

// begin is called before each read or write, and end after it. Where the limit
// has passed by then, the system need not be told of it: net/http ends most
// reads behind a request like this, before they have begun.
func (l *limit) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy++
	switch {
	case !l.early():
		return nil
	case !time.Now().Before(l.wanted):
		return os.ErrDeadlineExceeded
	}
	return l.now()
}

// end tells whether to go on: what has ended it was a limit that is no more.
func (l *limit) end(err error) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !l.wanted.IsZero() && !time.Now().Before(l.wanted) {
		return false
	}
	return l.now() == nil
}

// over tells whether the limit has passed, and there whether there is one.
func (l *limit) over() (over, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	there = !l.wanted.IsZero()
	return there && !time.Now().Before(l.wanted), there
}

// Read implements net.Conn. A read behind the request is known by its size,
// and by having no limit, which all others have.
func (c *leanConn) Read(p []byte) (int, error) {
	if len(p) == 1 {
		if _, limited := c.read.over(); !limited {
			if watch, err := c.decided(); !watch {
				return 0, err
			}
		}
	}
	c.reads.Add(1)
	for {
		err := c.read.begin()
		n := 0
		if err == nil {
			n, err = c.Conn.Read(p)
		}
		if again := c.read.end(err); n > 0 || !again {
			return n, err
		}
	}
}

// decided waits until it is known whether the request's client is watched.
func (c *leanConn) decided() (watch bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if over, _ := c.read.over(); over {
			return false, os.ErrDeadlineExceeded
		}
		switch {
		case c.closed:
			return false, net.ErrClosed
		case c.mode == watched:
			return true, nil
		case c.mode == atOnce:
			return false, nil // net/http takes it for a read that was not worth it
		}
		c.told.Wait()
	}
}

// Write implements net.Conn.
func (c *leanConn) Write(p []byte) (written int, err error) {
	for {
		err := c.write.begin()
		n := 0
		if err == nil {
			n, err = c.Conn.Write(p[written:])
		}
		written += n
		if again := c.write.end(err); !again {
			return written, err
		}
	}
}

// SetReadDeadline implements net.Conn.
func (c *leanConn) SetReadDeadline(t time.Time) error {
	err := c.read.set(t)
	if !t.IsZero() {
		c.tell(func() {})
	}
	return err
}

// SetWriteDeadline implements net.Conn.
func (c *leanConn) SetWriteDeadline(t time.Time) error { return c.write.set(t) }

// SetDeadline implements net.Conn.
func (c *leanConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close implements net.Conn.
func (c *leanConn) Close() error {
	c.tell(func() { c.closed = true })
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer so that a client who still sends can
// read it.
func (c *leanConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// tell changes what a read behind the request waits for.
func (c *leanConn) tell(change func()) {
	c.mu.Lock()
	change()
	c.mu.Unlock()
	c.told.Broadcast()
}

// Handling implements [entry.Line].
func (c *leanConn) Handling(once bool) {
	c.mu.Lock()
	c.mode = watched
	if once {
		c.mode = atOnce
	}
	c.mu.Unlock()
	c.told.Broadcast()
}

// Handled implements [entry.Line].
func (c *leanConn) Handled() {
	c.mu.Lock()
	c.mode = undecided
	c.mu.Unlock()
}

// Reads implements [entry.Line].
func (c *leanConn) Reads() int64 { return c.reads.Load() }

// withLine lets the door find the connection of a request: [http.Server.ConnContext].
func withLine(ctx context.Context, c net.Conn) context.Context {
	if l, ok := c.(*leanConn); ok {
		return entry.WithLine(ctx, l)
	}
	return ctx // TLS reads more at once, and so none of it is spared
}
