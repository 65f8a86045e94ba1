package pgtest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Link is the network between a server of ours and what it speaks to: the
// database, or another server.
type Link struct {
	listener net.Listener
	target   string

	delay atomic.Int64 // of every piece that gets through, in nanoseconds
	sent  atomic.Int64 // pieces towards the target

	mu    sync.Mutex
	state LinkState
	moved chan struct{} // closed when the state changes
	age   int           // counts the times that it came up from silence
	conns map[net.Conn]bool
}

// LinkState is what a network does.
type LinkState int

// The states of a [Link].
const (
	Up      LinkState = iota
	Stalled           // nothing gets through; when it is over, connections have broken
	Silent            // nothing gets through; the connections of then never hear of anything again
	Cut               // connections break and new ones are refused
)

// NewLink returns a network to the host of a URL, and the URL through it.
func NewLink(t testing.TB, to string) (*Link, string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{target: u.Host, conns: map[net.Conn]bool{}, moved: make(chan struct{})}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = l.listener.Addr().String()
	go l.run()
	t.Cleanup(func() {
		_ = l.listener.Close()
		l.Set(Cut)
	})
	return l, u.String()
}

func (l *Link) run() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.join(near)
	}
}

func (l *Link) join(near net.Conn) {
	l.mu.Lock()
	age := l.age
	l.conns[near] = true
	l.mu.Unlock()
	if l.pass(age) != Up {
		_ = near.Close()
		return
	}
	far, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.target)
	if err != nil {
		_ = near.Close()
		return
	}
	l.mu.Lock()
	l.conns[far] = true
	l.mu.Unlock()
	go l.copy(near, far, age, false)
	l.copy(far, near, age, true)
}

func (l *Link) copy(to, from net.Conn, age int, out bool) {
	part := make([]byte, 32<<10)
	for {
		n, err := from.Read(part)
		if l.pass(age) != Up || err != nil && !errors.Is(err, io.EOF) {
			break
		}
		<-time.After(time.Duration(l.delay.Load()))
		if n > 0 && out {
			l.sent.Add(1)
		}
		if _, failed := to.Write(part[:n]); failed != nil || err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
	l.mu.Lock()
	delete(l.conns, to)
	delete(l.conns, from)
	l.mu.Unlock()
}

// Slow delays every piece that gets through.
func (l *Link) Slow(by time.Duration) { l.delay.Store(int64(by)) }

// Sent is in how many pieces something was sent to the target: about as many as
// questions were asked.
func (l *Link) Sent() int64 { return l.sent.Load() }

// pass waits while nothing gets through for connections of this age, and
// returns what the network is then.
func (l *Link) pass(age int) LinkState {
	for {
		l.mu.Lock()
		state, now, moved := l.state, l.age, l.moved
		l.mu.Unlock()
		if state == Cut || state == Up && now == age {
			return state
		}
		<-moved
	}
}

// Set changes the network. What was sent while nothing got through never arrives.
func (l *Link) Set(state LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state == Cut || l.state == Stalled {
		for c := range l.conns {
			_ = c.Close()
		}
	}
	if l.state == Silent {
		l.age++
	}
	l.state = state
	close(l.moved)
	l.moved = make(chan struct{})
}
