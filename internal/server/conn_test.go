package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// ends are the two ends of a connection, the first one lean.
func ends(t *testing.T) (lean *leanConn, far net.Conn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err = new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := leanListener{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	lean, ok := near.(*leanConn)
	if !ok {
		t.Fatalf("%T", near)
	}
	return lean, far
}

// A read ends when its limit says so: with one that was set before or while it
// waits, an earlier one after a later one and the other way round.
func TestLeanConnLimits(t *testing.T) {
	t.Parallel()
	soon, late := 50*time.Millisecond, time.Hour
	for name, c := range map[string]struct {
		before, during []time.Duration
	}{
		"set before":            {[]time.Duration{soon}, nil},
		"earlier than before":   {[]time.Duration{late, soon}, nil},
		"later than before":     {[]time.Duration{time.Millisecond, soon}, nil},
		"set while it waits":    {nil, []time.Duration{soon}},
		"earlier while it does": {[]time.Duration{late}, []time.Duration{soon}},
		"long past":             {[]time.Duration{late}, []time.Duration{-late}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lean, _ := ends(t)
			began := time.Now()
			for _, d := range c.before {
				if err := lean.SetReadDeadline(time.Now().Add(d)); err != nil {
					t.Fatal(err)
				}
			}
			ended := make(chan error, 1)
			go func() {
				_, err := lean.Read(make([]byte, 100))
				ended <- err
			}()
			for lean.waiting() == 0 && len(ended) == 0 {
				time.Sleep(time.Millisecond)
			}
			for _, d := range c.during {
				if err := lean.SetReadDeadline(time.Now().Add(d)); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the read ended with %v", err)
			}
			if last := append(c.before, c.during...); last[len(last)-1] > 0 && time.Since(began) < soon {
				t.Errorf("the read ended after %v", time.Since(began))
			}
		})
	}
}

func (c *leanConn) waiting() int {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	return c.read.busy
}

// A limit that the system was told of and that is no more ends nothing, neither
// what waits nor what comes.
func TestLeanConnForgetsLimits(t *testing.T) {
	t.Parallel()
	for _, wanted := range []time.Time{{}, time.Now().Add(time.Hour)} {
		lean, far := ends(t)
		pass := func() { // what the system knows passes
			lean.read.mu.Lock()
			defer lean.read.mu.Unlock()
			lean.read.known = time.Now()
			if err := lean.Conn.SetReadDeadline(lean.read.known); err != nil {
				t.Error(err)
			}
		}
		if err := lean.SetReadDeadline(wanted); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		read := func() {
			_, err := io.ReadFull(lean, make([]byte, 5))
			got <- err
		}
		for _, before := range []bool{false, true} {
			if before {
				pass()
			}
			go read()
			for lean.waiting() == 0 {
				time.Sleep(time.Millisecond)
			}
			if !before {
				pass()
			}
			if _, err := far.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if err := <-got; err != nil {
				t.Error(err)
			}
		}
	}
}

// What is written beyond what the other side takes ends by its limit, and all
// that was written in limits that came one after the other arrives.
func TestLeanConnWrites(t *testing.T) {
	t.Parallel()
	lean, far := ends(t)
	large := make([]byte, 64<<20)
	if err := lean.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := lean.Write(large)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n >= len(large) {
		t.Fatalf("%d written, %v", n, err)
	}
	if err := lean.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	read := make(chan int64)
	go func() {
		all, _ := io.Copy(io.Discard, far)
		read <- all
	}()
	rest, err := lean.Write(large[n:])
	if err != nil || n+rest != len(large) {
		t.Fatalf("%d and %d of %d written, %v", n, rest, len(large), err)
	}
	if err := lean.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all := <-read; all != int64(len(large)) {
		t.Errorf("%d of %d bytes arrived", all, len(large))
	}
}

// A read behind a request reads nothing when the request is answered at once, and
// sees its client go when it is not.
func TestLeanConnBehindARequest(t *testing.T) {
	t.Parallel()
	type outcome struct {
		n   int
		err error
	}
	behind := func(lean *leanConn) chan outcome {
		ended := make(chan outcome, 1)
		go func() {
			n, err := lean.Read(make([]byte, 1))
			ended <- outcome{n, err}
		}()
		return ended
	}
	t.Run("answered at once", func(t *testing.T) {
		t.Parallel()
		lean, far := ends(t)
		ended := behind(lean)
		if _, err := far.Write([]byte("GET")); err != nil { // the next request
			t.Fatal(err)
		}
		lean.Handling(true)
		if got := <-ended; got != (outcome{}) {
			t.Errorf("%d bytes, %v", got.n, got.err)
		}
		lean.Handled()
		text := make([]byte, 3)
		if _, err := io.ReadFull(lean, text); err != nil || string(text) != "GET" {
			t.Errorf("the next request begins with %q, %v", text, err)
		}
	})
	t.Run("watched", func(t *testing.T) {
		t.Parallel()
		lean, far := ends(t)
		ended := behind(lean)
		lean.Handling(false)
		_ = far.Close()
		if got := <-ended; !errors.Is(got.err, io.EOF) {
			t.Errorf("%d bytes, %v", got.n, got.err)
		}
	})
	t.Run("over before it began", func(t *testing.T) {
		t.Parallel()
		lean, _ := ends(t)
		ended := behind(lean)
		_ = lean.SetReadDeadline(time.Unix(1, 0)) // as net/http ends it
		if got := <-ended; !errors.Is(got.err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", got.n, got.err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		lean, _ := ends(t)
		ended := behind(lean)
		_ = lean.Close()
		if got := <-ended; !errors.Is(got.err, net.ErrClosed) {
			t.Errorf("%d bytes, %v", got.n, got.err)
		}
	})
	t.Run("a byte of a request", func(t *testing.T) { // which always has a limit
		t.Parallel()
		lean, far := ends(t)
		_ = lean.SetReadDeadline(time.Now().Add(time.Hour))
		ended := behind(lean)
		if _, err := far.Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
		if got := <-ended; got.n != 1 || got.err != nil {
			t.Errorf("%d bytes, %v", got.n, got.err)
		}
	})
}

// The system's limit is never later than the one that was set last, whatever was
// set before: nothing waits for longer than it may.
func TestLimitIsNeverLate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var system time.Time
		l := limit{tell: func(at time.Time) error { system = at; return nil }}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				_ = l.set(time.Time{})
			case 1:
				_ = l.set(time.Now().Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "hours")) * time.Hour))
			case 2:
				if l.begin() != nil {
					t.Fatal("no limit has passed")
				}
			case 3:
				if l.busy > 0 && !l.end(nil) && l.busy < 0 {
					t.Fatal("more ended than began")
				}
			}
			if late := !l.wanted.IsZero() && (system.IsZero() || system.After(l.wanted)); l.busy > 0 && late {
				t.Fatalf("wanted %v, the system knows %v", l.wanted, system)
			}
		}
	})
}

// A connection that is not lean, as below TLS, has no line.
func TestWithLine(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	_ = b.Close()
	if ctx := withLine(t.Context(), a); ctx != t.Context() {
		t.Error("a pipe has a line")
	}
	if ctx := withLine(context.Background(), newLeanConn(a)); ctx == context.Background() {
		t.Error("a lean connection has none")
	}
}
