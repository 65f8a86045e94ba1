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
}

// Join puts a lane in front of a server, on the connections of the listener that
// is returned. The lane asks the server's handler those requests that takes says
// yes to, which is asked for method and path. Their handlers may neither wait for
// anything nor keep anything of the request or its writer, nor ask the request's
// context, which never ends.
//
// The server has a handler before it serves, limits on time of all kinds, and
// nobody else who wants to hear of its connections' states. It must not serve the
// listener through TLS.
func Join(s *http.Server, l net.Listener, takes func(*http.Request) bool) net.Listener {
	s.ConnState = follow
	return listener{l, &Lane{server: s, takes: takes, renewal: min(s.IdleTimeout, s.WriteTimeout) / 4}}
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
		c.between = s == http.StateIdle
	}
}

// conn is a connection of net/http with a lane.
type conn struct {
	net.Conn

	lane    *Lane
	remote  string
	room    int  // of net/http's buffer with nothing in it, in bytes; 0: not known yet
	between bool // net/http waits for the next request

	mu     sync.Mutex // held while a request is answered
	closed bool
}

// Read implements net.Conn. net/http says when it is between two requests, and
// then reads into its buffer. With room for all that the buffer takes, nothing of
// the next request is in it yet, and the read begins where a request does. With
// less room it has read a byte too far, to notice a client who goes away, and the
// request is its own.
func (c *conn) Read(p []byte) (int, error) {
	if c.room == 0 {
		c.room = len(p)
	}
	if !c.between || len(p) != c.room {
		return c.Conn.Read(p)
	}
	n, err := c.drive(p)
	c.between = false
	return n, err
}

// drive answers requests until something has come that is net/http's, and
// returns how much of p that is.
func (c *conn) drive(p []byte) (n int, err error) {
	s, renewal := c.lane.server, c.lane.renewal
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
		if !late && now.Sub(renewed) > renewal {
			renewed = now
			if err := errors.Join(c.SetReadDeadline(now.Add(s.IdleTimeout+renewal)), c.SetWriteDeadline(now.Add(s.WriteTimeout+renewal))); err != nil {
				return n, err
			}
		}
		rest, begun, err := c.answer(p[:n])
		switch {
		case err != nil:
			return 0, err
		case rest == 0 && late:
			late = false
			err = c.SetReadDeadline(now.Add(s.IdleTimeout + renewal))
		case rest == 0:
		case !begun || rest == len(p):
			return rest, nil
		case !late || rest < n:
			late = true
			err = c.SetReadDeadline(now.Add(s.ReadHeaderTimeout))
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
	rest = len(p)
	for rest > 0 {
		size, v := d.read(p[:rest])
		if v != whole || !c.lane.takes(&d.request) {
			begun = v == part
			break
		}
		if c.closed {
			return rest, false, net.ErrClosed
		}
		d.request.RemoteAddr = c.remote
		c.lane.server.Handler.ServeHTTP(&d.reply, &d.request)
		if _, err := c.Conn.Write(d.text(c.lane.now())); err != nil {
			return rest, false, err
		}
		rest = copy(p, p[size:rest])
	}
	c.lane.desks.Put(d.cleared())
	return rest, begun, nil
}

// last is how long writing an answer may go on when the connection is closed.
const last = time.Second

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
