// Package lane answers plain requests on connections of net/http, at a fraction
// of what net/http spends on each.
//
// Between two requests net/http waits in a read. A connection of the lane looks
// at what that read brings. A request that is whole, small, of a route that is
// answered at once, and written in the one way that leaves nothing to interpret,
// is handed to the same handler there and then, and the read goes on waiting.
// With everything else the read returns what has come, untouched, and net/http
// knows of no difference: whatever is unusual, large, slow or wrong is its
// business, and so is the first request of each connection.
//
// What the lane takes it reads as net/http would, or it does not take it: that is
// the rule that keeps two readers of HTTP on one connection from being two
// opinions of where a request ends (RFC 9112, section 11.2).
package lane

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Lane answers requests on the connections of one HTTP server.
type Lane struct {
	server *http.Server
	takes  func(*http.Request) bool
	desks  sync.Pool
	date   atomic.Pointer[date]
	// renewal is how often the limits on time are renewed while requests go on.
	// The system is told of each, which costs. They may end by as much too late.
	renewal time.Duration

	ending atomic.Bool // the server is shutting down
	mu     sync.Mutex
	conns  map[*conn]struct{} // that are open
}

// Join puts a lane in front of a server, on the connections of the listener that
// is returned. The lane asks the server's handler those requests that takes says
// yes to, which is asked for method and path. Their handlers may neither wait for
// anything but their own writes, nor keep anything of the request or its writer,
// nor ask the request's context, which never ends.
//
// The server has a handler before it serves, limits on time of all kinds, and
// nobody else who wants to hear of its connections' states. It must not serve the
// listener through TLS.
func Join(s *http.Server, l net.Listener, takes func(*http.Request) bool) net.Listener {
	s.ConnState = follow
	lane := &Lane{server: s, takes: takes, renewal: min(s.IdleTimeout, s.WriteTimeout) / 4, conns: map[*conn]struct{}{}}
	s.RegisterOnShutdown(lane.end)
	return listener{l, lane}
}

// end limits how long answers under way may still be written, all at once: net/http
// closes one connection after the other, and waits for each (see [conn.Close]).
// From then on no request is answered.
func (l *Lane) end() {
	l.ending.Store(true)
	limit := time.Now().Add(last)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.mu.TryLock() {
			c.mu.Unlock() // nothing is under way, and nothing will be
			continue
		}
		_ = c.Conn.SetWriteDeadline(limit) // fails where it is closed
	}
}

// follow notes that a connection is open, or no more.
func (l *Lane) follow(c *conn, open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if open {
		l.conns[c] = struct{}{}
	} else {
		delete(l.conns, c)
	}
}

type listener struct {
	net.Listener

	lane *Lane
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, lane: l.lane, remote: c.RemoteAddr().String()}, nil
}

// follow is told by net/http what it does with a connection.
func follow(c net.Conn, s http.ConnState) {
	if c, ok := c.(*conn); ok {
		switch s {
		case http.StateNew:
			c.lane.follow(c, true)
		case http.StateClosed, http.StateHijacked:
			c.lane.follow(c, false)
		case http.StateIdle:
			c.idle = true
		case http.StateActive: // what there was to be noted of it, SetReadDeadline and Read have
		}
	}
}

// conn is a connection of net/http with a lane.
type conn struct {
	net.Conn

	lane    *Lane
	remote  string
	room    int  // of net/http's buffer with nothing in it, in bytes; 0: not known yet
	idle    bool // net/http is done with a request
	between bool // it begins to wait for the next one

	spare int // line breaks that may come before the next request, in bytes

	mu     sync.Mutex // held while a request is answered
	closed bool
}

// breaks is how many line breaks too many net/http overlooks behind the body of a
// POST, for clients of old that send them (RFC 9112, section 2.2).
const breaks = 4

// SetReadDeadline implements net.Conn. When net/http is done with a request it
// limits how long it waits for the next one, and then reads, unless the beginning
// of that is in its buffer already. In that case it sets the limit for a head
// before it reads, and may do so with a buffer that it has emptied to the end of
// a line: room for all is then no sign of a beginning.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.idle || c.between {
		c.idle, c.between = false, c.idle
	}
	return c.Conn.SetReadDeadline(t)
}

// Read implements net.Conn. The first read between two requests is into net/http's
// buffer. With room for all that the buffer takes, nothing of the next request is
// in it yet, and the read begins where a request does. With less room it has read
// a byte too far, to notice a client who goes away, and the request is its own.
func (c *conn) Read(p []byte) (int, error) {
	if c.room == 0 {
		c.room = len(p)
	}
	if !c.between {
		return c.Conn.Read(p)
	}
	c.between = false
	if len(p) != c.room {
		return c.Conn.Read(p)
	}
	return c.drive(p)
}

// drive answers requests until something has come that is net/http's, and
// returns how much of p that is.
func (c *conn) drive(p []byte) (n int, err error) {
	s, renewal := c.lane.server, c.lane.renewal
	c.spare = 0
	var renewed time.Time
	late := false // the beginning of a request is there, and its rest has a limit
	for {
		m, err := c.Conn.Read(p[n:])
		if n += m; err != nil {
			if n > 0 {
				err = nil // it comes again, to whom it concerns
			}
			return n, err
		}
		now := time.Now()
		if now.Sub(renewed) > renewal {
			renewed = now
			err := c.Conn.SetWriteDeadline(now.Add(s.WriteTimeout + renewal))
			if !late {
				err = errors.Join(err, c.Conn.SetReadDeadline(now.Add(s.IdleTimeout+renewal)))
			}
			if err != nil {
				return n, err
			}
		}
		rest, begun, err := c.answer(p[:n])
		switch {
		case err != nil:
			return 0, err
		case rest == 0 && late:
			late = false
			err = c.Conn.SetReadDeadline(now.Add(s.IdleTimeout + renewal))
		case rest == 0:
		case !begun || rest == len(p):
			return rest, nil
		case !late || rest < n:
			late = true
			err = c.Conn.SetReadDeadline(now.Add(s.ReadHeaderTimeout))
		}
		if n = rest; err != nil {
			return n, err
		}
	}
}

// answer answers the requests that p begins with. What is left of p comes to its
// beginning: so many bytes, with which the lane's next request has begun, or
// something for net/http.
func (c *conn) answer(p []byte) (rest int, begun bool, err error) {
	c.mu.Lock() // who closes the connection waits for the answer
	defer c.mu.Unlock()
	d := c.lane.desk()
	d.reply.to, d.reply.lane = c.Conn, c.lane
	rest = len(p)
	for rest > 0 {
		if c.spare > 0 && (p[0] == '\r' || p[0] == '\n') {
			c.spare--
			rest = copy(p, p[1:rest])
			continue
		}
		size, v := d.read(p[:rest])
		if v != whole || !c.lane.takes(&d.request) {
			begun = v == part
			break
		}
		if c.closed || c.lane.ending.Load() {
			return rest, false, net.ErrClosed
		}
		d.request.RemoteAddr = c.remote
		c.lane.server.Handler.ServeHTTP(&d.reply, &d.request)
		if err := d.reply.end(); err != nil {
			return rest, false, err
		}
		if c.spare = 0; d.request.Method == http.MethodPost {
			c.spare = breaks
		}
		rest = copy(p, p[size:rest])
	}
	c.lane.desks.Put(d.cleared())
	return rest, begun, nil
}

// last is how long writing an answer may go on when the server ends.
const last = 2 * time.Second

// Close implements net.Conn. An answer under way is written first: net/http takes
// the connection for one that is idle.
func (c *conn) Close() error {
	_ = c.Conn.SetWriteDeadline(time.Now().Add(last)) // fails where it is closed
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer so that a client who still sends can
// read it.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
