package lane_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keystile/keystile/internal/lane"
)

// house is a server with a lane, or without.
type house struct {
	*http.Server

	address string
	log     bytes.Buffer
	direct  atomic.Int64 // requests that the lane has taken
}

func open(t testing.TB, lanes bool, handler http.HandlerFunc, set func(*http.Server)) *house {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{address: l.Addr().String()}
	h.Server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := w.(interface{ ArrivedWhole() }); ok {
				h.direct.Add(1)
			}
			handler(w, r)
		}),
		ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(&h.log, "", 0),
	}
	if set != nil {
		set(h.Server)
	}
	if lanes {
		l = lane.Join(h.Server, l, func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/once") })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Serve(l)
	}()
	t.Cleanup(func() {
		_ = h.Close()
		<-done
	})
	return h
}

func (h *house) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// echo says what the request was, in all that a handler may look at.
func echo(w http.ResponseWriter, r *http.Request) {
	var body []byte
	var err error
	if !strings.HasSuffix(r.URL.Path, "/unread") {
		body, err = io.ReadAll(r.Body)
	}
	if strings.HasSuffix(r.URL.Path, "/teapot") {
		w.Header()["X-Two"] = []string{"a", "b\r\nX-Three: c"}
		w.WriteHeader(http.StatusTeapot)
	}
	fmt.Fprintf(w, "%s %q %q %q %s %q %q %d %v %t %q %v", r.Method, r.RequestURI, r.URL.Path, r.URL.RawQuery, r.Proto, r.Host,
		r.Header, r.ContentLength, r.TransferEncoding, r.Close, body, err)
}

// said is what a server answers to pieces that are sent one after the other, its
// dates left out.
func (h *house) said(t testing.TB, pieces []string) string {
	c := h.dial(t)
	go func() {
		for i, p := range pieces {
			if i > 0 {
				<-time.After(300 * time.Microsecond)
			}
			if _, err := io.WriteString(c, p); err != nil {
				return // the server has closed the connection
			}
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // a server that has enough may close before it has read all
		t.Error(err)
	}
	blocks := strings.Split(string(text), "\r\n\r\n")
	for i := range blocks {
		lines := slices.DeleteFunc(strings.Split(blocks[i], "\r\n"), func(s string) bool { return strings.HasPrefix(s, "Date: ") })
		slices.Sort(lines) // headers have no order
		blocks[i] = strings.Join(lines, "\n")
	}
	return strings.Join(blocks, "\n\n")
}

// requests are of every kind that matters on a connection: those of the lane,
// those that are nearly, and such as are wrong.
var requests = []string{
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
	"POST /once HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /once/teapot HTTP/1.1\r\nhost: a.b:80\r\ncontent-length: 3\r\nx-Forwarded-FOR: 10.0.0.1\r\nUser-Agent:  a b \r\n\r\n\r\n\r",
	"GET /once?permission=read HTTP/1.1\r\nHost: [::1]:8080\r\nAuthorization: Bearer x\r\nConnection: keep-alive\r\n\r\n",
	"GET /once HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"GET /once HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
	"GET /once HTTP/1.1\r\nHost: a\r\nX-A: \r\n\r\n",
	"GET /other HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /once HTTP/1.1\nHost: a\n\n",
	"GET /once HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET /once HTTP/1.0\r\nHost: a\r\n\r\n",
	"GET /once HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
	"HEAD /once HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 02\r\n\r\n{}",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n{}",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\n{}",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000),
	"POST /once HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 2\r\n\r\n{}",
	"POST /other/unread HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", // net/http reads on while it closes
	"POST /once/unread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nPOST /once HTTP/1.1\r\nHost: a\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nX: 1\r\n\tfolded\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nX\rY: a\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nX.y!z: a\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nx_y-2z: a\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost:\r\n\r\n",
	"POST /once HTTP/1.1\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a b\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nTrailer: X\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
	"POST /once HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
	"POST /once HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
	"POST /on%63e HTTP/1.1\r\nHost: a\r\n\r\n", "POST http://b/once HTTP/1.1\r\nHost: a\r\n\r\n", "POST //once HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /once? HTTP/1.1\r\nHost: a\r\n\r\n", "POST /once?a#b HTTP/1.1\r\nHost: a\r\n\r\n", "POST /once?a=%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST  /once HTTP/1.1\r\nHost: a\r\n\r\n", "POST /once HTTP/1.1 \r\nHost: a\r\n\r\n", "POST /once HTTP/1.2\r\nHost: a\r\n\r\n",
	"XPOST /once HTTP/1.1\r\nHost: a\r\n\r\n", "XYZPOST /once HTTP/1.1\r\nHost: a\r\n\r\n", "post /once HTTP/1.1\r\nHost: a\r\n\r\n",
	"\r\nPOST /once HTTP/1.1\r\nHost: a\r\n\r\n", "\n\r\n\r\nGET /once HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nGET /once HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "P",
}

// TestSameAsWithoutLane sends the same bytes, in the same pieces, to a server with
// a lane and to one without: what handlers see and what is answered is the same,
// whatever was sent and however it was cut.
func TestSameAsWithoutLane(t *testing.T) {
	t.Parallel()
	with, without := open(t, true, echo, nil), open(t, false, echo, nil)
	same := func(t interface{ Fatalf(string, ...any) }, b testing.TB, pieces []string) {
		if got, want := with.said(b, pieces), without.said(b, pieces); got != want {
			t.Fatalf("%.500q:\nwith a lane    %.2000s\nwithout a lane %.2000s", pieces, got, want)
		}
	}
	const opening = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n" // which is never the lane's
	for _, r := range requests {
		same(t, t, []string{opening, r + requests[0]})
		same(t, t, []string{opening + r[:1], r[1:], requests[0]})
		same(t, t, []string{opening, requests[0] + r, requests[3]})
		same(t, t, []string{opening, requests[3] + r, requests[0]})
	}
	if with.direct.Load() == 0 {
		t.Error("the lane has taken nothing")
	}
	if without.direct.Load() != 0 {
		t.Error("there is a lane where there should be none")
	}
	rapid.Check(t, func(r *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(requests), 1, 6).Draw(r, "requests"), "")
		if rapid.Bool().Draw(r, "opened") {
			text = opening + text
		}
		var pieces []string
		for range rapid.IntRange(0, 4).Draw(r, "cuts") {
			at := rapid.IntRange(0, len(text)).Draw(r, "at")
			if end := strings.Index(text[at:], "\n"); end >= 0 && rapid.Bool().Draw(r, "at the end of a line") {
				at += end + 1
			}
			pieces, text = append(pieces, text[:at]), text[at:]
		}
		same(r, t, append(pieces, text))
	})
}

// Where net/http has the beginning of a request in its buffer, to the end of a
// line, it reads on into an empty buffer. What it reads there is no request, even
// if it looks like one.
func TestTakesNothingInTheMiddleOfAHead(t *testing.T) {
	t.Parallel()
	with, without := open(t, true, echo, nil), open(t, false, echo, nil)
	const opening = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, begun := range []string{
		"GET /other HTTP/1.1\r\n", "POST /other HTTP/1.1\r\nHost: a\r\n", "POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 64\r\n",
	} {
		c := with.dial(t)
		if _, err := io.WriteString(c, opening+begun); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(c)
		if r, err := http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		} else if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, requests[3]); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Body.Close(); err != nil || r.StatusCode != http.StatusBadRequest {
			t.Errorf("behind %q a request is answered with %s, %v", begun, r.Status, err)
		}
		pieces := []string{opening + begun, requests[3], requests[0]}
		if got, want := with.said(t, pieces), without.said(t, pieces); got != want {
			t.Errorf("%q:\nwith a lane    %s\nwithout a lane %s", begun, got, want)
		}
	}
}

// ask sends one plain request and returns its answer.
func ask(t testing.TB, c net.Conn, path string) (string, error) {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// A connection comes back to the lane after what was net/http's: at once, or
// some requests later where net/http has the first byte of a request before it is
// done with the one before.
func TestTakesUpAgain(t *testing.T) {
	t.Parallel()
	h := open(t, true, echo, nil)
	c := h.dial(t)
	for _, path := range []string{"/other", "/once/teapot?a=b", "/other"} {
		if got, err := ask(t, c, path); err != nil || !strings.Contains(got, path) {
			t.Fatalf("%q, %v", got, err)
		}
		before := h.direct.Load()
		for n := 0; h.direct.Load() == before; n++ {
			if got, err := ask(t, c, "/once"); err != nil || !strings.Contains(got, "/once") {
				t.Fatalf("%q, %v", got, err)
			}
			if n == 1000 {
				t.Fatalf("after %s the lane takes none of %d requests", path, n)
			}
		}
	}
}

// Limits on time are as without a lane: for a client who sends nothing, half a
// request, and for one who does not read.
func TestLimits(t *testing.T) {
	t.Parallel()
	const limit = 400 * time.Millisecond
	h := open(t, true, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/large") {
			_, _ = w.Write(make([]byte, 64<<20))
			return
		}
		echo(w, r)
	}, func(s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout = limit, limit, limit, limit
	})
	opened := func(t *testing.T) net.Conn {
		c := h.dial(t)
		for range 2 {
			if _, err := ask(t, c, "/once"); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	ends := func(t *testing.T, c net.Conn) {
		t.Helper()
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) {
			t.Error("the connection stays open")
		}
	}
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		c, began := opened(t), time.Now()
		if ends(t, c); time.Since(began) < limit {
			t.Errorf("closed after %v", time.Since(began))
		}
	})
	t.Run("half a request", func(t *testing.T) {
		t.Parallel()
		for _, half := range []string{"P", "POST /once HTTP/1.1\r\nHo", "POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"} {
			c := opened(t)
			if _, err := io.WriteString(c, half); err != nil {
				t.Fatal(err)
			}
			ends(t, c)
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		t.Parallel()
		c := opened(t)
		go func() {
			for {
				if _, err := io.WriteString(c, "P"); err != nil {
					return
				}
				<-time.After(limit / 10)
			}
		}()
		ends(t, c)
	})
	t.Run("reads nothing", func(t *testing.T) {
		t.Parallel()
		c := opened(t)
		if _, err := io.WriteString(c, "GET /once/large HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-time.After(3 * limit)
		if n, _ := io.Copy(io.Discard, c); n >= 64<<20 {
			t.Error("all of the answer was written")
		}
	})
	t.Run("longer than any limit, always in the middle of a request", func(t *testing.T) {
		t.Parallel()
		c, began := opened(t), time.Now()
		in := bufio.NewReader(c)
		const request, half = "GET /once HTTP/1.1\r\nHost: a\r\n\r\n", 10
		if _, err := io.WriteString(c, request[:half]); err != nil {
			t.Fatal(err)
		}
		for time.Since(began) < 5*limit {
			if _, err := io.WriteString(c, request[half:]+request[:half]); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Fatal(err)
			}
			<-time.After(limit / 4)
		}
	})
	t.Run("longer than any limit, in all", func(t *testing.T) {
		t.Parallel()
		c, began := opened(t), time.Now()
		for time.Since(began) < 4*limit {
			if _, err := ask(t, c, "/once"); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			<-time.After(limit / 4)
		}
	})
}

// A server that ends lets an answer under way through.
func TestShutdown(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	h := open(t, true, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			close(begun)
			<-goOn
		}
		echo(w, r)
	}, nil)
	idle, busy := h.dial(t), h.dial(t)
	for _, c := range []net.Conn{idle, busy} {
		for range 2 {
			if _, err := ask(t, c, "/once"); err != nil {
				t.Fatal(err)
			}
		}
	}
	type answer struct {
		text string
		err  error
	}
	answers, ended := make(chan answer), make(chan error)
	go func() {
		text, err := ask(t, busy, "/once/slow")
		answers <- answer{text, err}
	}()
	<-begun
	go func() { ended <- h.Shutdown(context.Background()) }()
	select {
	case err := <-ended:
		t.Fatalf("it ended while a request was under way: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	if a := <-answers; a.err != nil || !strings.Contains(a.text, "/once/slow") {
		t.Errorf("the request under way: %q, %v", a.text, a.err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, c := range []net.Conn{idle, busy} {
		if _, err := ask(t, c, "/once"); err == nil {
			t.Error("it answers after its end")
		}
	}
}

// Clients who read none of their answers don't keep a server from ending, however
// many they are.
func TestShutdownWhileNobodyReads(t *testing.T) {
	t.Parallel()
	h := open(t, true, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/large") {
			_, _ = w.Write(make([]byte, 16<<20))
			return
		}
		echo(w, r)
	}, nil)
	const clients = 30
	for n := range clients {
		c := h.dial(t)
		for range 2 {
			if _, err := ask(t, c, "/once"); err != nil {
				t.Fatal(err)
			}
		}
		before := h.direct.Load()
		if _, err := io.WriteString(c, "GET /once/large HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for h.direct.Load() == before {
			if err := t.Context().Err(); err != nil {
				t.Fatalf("client %d: %v", n, err)
			}
			<-time.After(time.Millisecond)
		}
	}
	const most = 20 * time.Second // as long as one of them may take, many times over, and less than all one after the other
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 2*most)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil || time.Since(began) > most {
		t.Errorf("it took %v to end: %v", time.Since(began), err)
	}
}

// What is held of an answer is bounded: a client who does not read it holds up
// the handler that writes it.
func TestLargeAnswer(t *testing.T) {
	t.Parallel()
	const piece, pieces = 64 << 10, 1024
	var written atomic.Int64
	h := open(t, true, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/large") {
			echo(w, r)
			return
		}
		text := bytes.Repeat([]byte("x"), piece)
		for range pieces {
			if _, err := w.Write(text); err != nil {
				return
			}
			written.Add(piece)
		}
	}, nil)
	c := h.dial(t)
	for range 2 {
		if _, err := ask(t, c, "/once"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c, strings.Repeat("GET /once/large HTTP/1.1\r\nHost: a\r\n\r\n", 2)); err != nil {
		t.Fatal(err)
	}
	for before := int64(-1); written.Load() == 0 || written.Load() > before; <-time.After(200 * time.Millisecond) {
		before = written.Load()
	}
	if n := written.Load(); n > piece*pieces/2 {
		t.Errorf("%d bytes are held for a client who reads nothing", n)
	}
	in := bufio.NewReader(c)
	for range 2 {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n != piece*pieces {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	if got, err := ask(t, c, "/once"); err != nil || !strings.Contains(got, "/once") {
		t.Errorf("the answer behind it: %q, %v", got, err)
	}
}

// A handler that panics takes its connection along, and nothing else.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := open(t, true, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/panic") {
			panic(http.ErrAbortHandler)
		}
		echo(w, r)
	}, nil)
	c, bystander := h.dial(t), h.dial(t)
	for _, c := range []net.Conn{c, bystander} {
		if _, err := ask(t, c, "/once"); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := ask(t, c, "/once/panic"); err == nil {
		t.Errorf("the answer is %q", text)
	}
	if text, err := ask(t, bystander, "/once"); err != nil || !strings.Contains(text, "/once") {
		t.Errorf("the other connection: %q, %v", text, err)
	}
}
