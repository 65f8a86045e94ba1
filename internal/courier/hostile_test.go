package courier_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// raw is a receiver that answers below HTTP: with whatever the function writes.
func raw(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// request reads what a client sends, as far as it comes at once.
func request(c net.Conn) { _, _ = c.Read(make([]byte, 64<<10)) }

// TestHostileReceivers: whatever a receiver does, the attempt ends, tells what
// happened, and counts as delivered only with a 2xx.
func TestHostileReceivers(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	write := func(text string) func(net.Conn) {
		return func(c net.Conn) { request(c); _, _ = c.Write([]byte(text)) }
	}
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprint(w, "said ", code)
		}
	}
	elsewhere := newReceiver(t, nil)
	hanging := make(chan struct{})
	t.Cleanup(func() { close(hanging) })
	for _, c := range []struct {
		name      string
		url       string
		delivered bool
		status    int
		err, body string // parts
	}{
		{"accepts", newReceiver(t, nil).URL, true, 200, "", ""},
		{"accepts with 299", newReceiver(t, status(299)).URL, true, 299, "", "said 299"},
		{"fails", newReceiver(t, status(500)).URL, false, 500, "The receiver has failed", "said 500"},
		{"refuses", newReceiver(t, status(401)).URL, false, 401, "another secret", "said 401"},
		{"not modified", newReceiver(t, status(304)).URL, false, 304, "redirects", ""},
		{"redirects", newReceiver(t, status(302, "Location", elsewhere.URL)).URL, false, 302, "not followed", ""},
		{"redirects for good", newReceiver(t, status(308, "Location", elsewhere.URL)).URL, false, 308, "not followed", ""},
		{"redirects to a file", newReceiver(t, status(307, "Location", "file:///etc/passwd")).URL, false, 307, "not followed", ""},
		{"closes", raw(t, request), false, 0, "closed the connection", ""},
		{"resets", raw(t, func(c net.Conn) {
			request(c)
			_ = c.(*net.TCPConn).SetLinger(0)
		}), false, 0, "connection", ""},
		{"speaks no HTTP", raw(t, write("SSH-2.0-OpenSSH\r\n")), false, 0, "failed", ""},
		{"promises more than it sends", raw(t, write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")), true, 200, "before its answer was whole", "short"},
		{"promises less than it sends", raw(t, write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlonger")), true, 200, "", "lo"},
		{"two lengths", raw(t, write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 6\r\n\r\nlonger")), false, 0, "failed", ""},
		{"negative length", raw(t, write("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx")), false, 0, "failed", ""},
		{"breaks off in a chunk", raw(t, write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc")), true, 200, "before its answer was whole", "abc"},
		{"status out of range", raw(t, write("HTTP/1.1 99999 OK\r\n\r\n")), false, 0, "failed", ""},
		{"status below", raw(t, write("HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n")), false, 0, "", ""},
		{"endless header", raw(t, func(c net.Conn) {
			request(c)
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n"))
			for line := []byte("X: " + strings.Repeat("y", 1000) + "\r\n"); ; {
				if _, err := c.Write(line); err != nil {
					return
				}
			}
		}), false, 0, "failed", ""},
		{"endless informational answers", raw(t, func(c net.Conn) {
			request(c)
			for {
				if _, err := c.Write([]byte("HTTP/1.1 103 Early Hints\r\n\r\n")); err != nil {
					return
				}
			}
		}), false, 0, "failed", ""},
		{"10 MB", newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16))
		}).URL, true, 200, "", strings.Repeat("0123456789abcdef", 256)},
		{"no text", newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("a\x00b\xffc"))
		}).URL, true, 200, "", "a\uFFFDb\uFFFDc"},
		{"compressed", newReceiver(t, func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Accept-Encoding") != "" {
				t.Errorf("it asks for %s", q.Header.Get("Accept-Encoding"))
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("\x1f\x8b"))
		}).URL, true, 200, "", "\x1f"},
		{"drips its body", newReceiver(t, func(w http.ResponseWriter, q *http.Request) {
			for range 600 {
				if _, err := w.Write([]byte(".")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-q.Context().Done():
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		}).URL, true, 200, "beginning is kept", "..."},
		{"drips its header", raw(t, func(c net.Conn) {
			request(c)
			for _, b := range []byte("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 600)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}), false, 0, "No answer in time", ""},
		{"hangs", raw(t, func(net.Conn) { <-hanging }), false, 0, "No answer in time", ""},
		{"nobody there", "http://" + freeAddress(t), false, 0, "connection", ""},
		{"no TLS", strings.Replace(newReceiver(t, nil).URL, "http:", "https:", 1), false, 0, "TLS failed", ""},
		{"hangs in TLS", strings.Replace(raw(t, func(net.Conn) { <-hanging }), "http:", "https:", 1), false, 0, "No answer in time", ""},
		{"another certificate", tlsReceiver(t), false, 0, "TLS failed", ""},
		{"no such host", "https://nowhere.invalid/", false, 0, "host", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := oneAttempt(t, s, c.url)
			a := got.Log[0]
			if (got.Delivery.Status == keystile.DeliveryDelivered) != c.delivered || a.Status != c.status {
				t.Errorf("%s after %+v", got.Delivery.Status, a)
			}
			if !strings.Contains(a.Error, c.err) || c.err == "" && a.Error != "" && c.status != 0 || !strings.HasPrefix(a.Body, c.body) || len(a.Body) > 4096 {
				t.Errorf("error %q, body %.60q… of %d bytes", a.Error, a.Body, len(a.Body))
			}
			if a.At.IsZero() || a.DurationMS < 0 || a.DurationMS > 30_000 {
				t.Errorf("at %s for %d ms", a.At, a.DurationMS)
			}
			if c.name != "no such host" && !strings.Contains(c.url, a.Address) || c.name != "no such host" && a.Address == "" {
				t.Errorf("dialled %q for %s", a.Address, c.url)
			}
			if c.delivered == (got.Delivery.NextAt != nil) {
				t.Errorf("it is tried again at %v", got.Delivery.NextAt)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(elsewhere.all()); n > 0 {
			t.Errorf("redirects were followed %d times", n)
		}
	})
}

// oneAttempt has something happen in a workspace of its own that an endpoint
// there is told of, and returns the delivery after its first attempt.
func oneAttempt(t *testing.T, s *keystiletest.Server, url string) (d keystile.DeliveryDetails) {
	t.Helper()
	made, err := s.Operator.CreateEndpoint(t.Context(), s.NewWorkspace("One", "").ID,
		keystile.CreateEndpoint{URL: url, EventTypes: []string{"endpoint.created"}, AllowRanges: loopback()})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first attempt", func() bool {
		list, err := s.Operator.Deliveries(t.Context(), made.Endpoint.ID, keystile.ListDeliveries{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Data) == 0 || list.Data[0].Attempts == 0 {
			return false
		}
		d, err = s.Operator.Delivery(t.Context(), list.Data[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
	return d
}

// tlsReceiver has a certificate that nobody vouches for.
func tlsReceiver(t *testing.T) string {
	t.Helper()
	r := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came through") }))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	return r.URL
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
