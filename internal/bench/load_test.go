package bench_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keystile/keystile/internal/bench"
)

// TestLoad sends every request once, takes answers of every form, and ends with
// the first that is wrong.
func TestLoad(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen[string(body)+r.Header.Get("Authorization")]++
		mu.Unlock()
		n, _ := strconv.Atoi(string(body))
		w.WriteHeader(200 + n%2)
		for range n % 3 { // nothing, a length, or chunks
			_, _ = w.Write(bytes.Repeat(body, 2000))
		}
	}))
	defer s.Close()
	l := bench.Load{
		Network: "tcp", Address: strings.TrimPrefix(s.URL, "http://"), Connections: 8, Requests: 300,
		Request: func(to []byte, n int) []byte { return bench.Request(to, "POST", "/", "k", strconv.Itoa(n)) },
		Check: func(n int, a bench.Answer) error {
			if want := bytes.Repeat([]byte(strconv.Itoa(n)), 2000*(n%3)); a.Status != 200+n%2 || !bytes.Equal(a.Body, want) {
				return fmt.Errorf("request %d: status %d, %d bytes", n, a.Status, len(a.Body))
			}
			return nil
		},
	}
	took, err := l.Run(t.Context())
	if err != nil || took.P50 <= 0 || took.P99 < took.P50 || took.Elapsed < took.P99 {
		t.Errorf("%+v, %v", took, err)
	}
	for n := range l.Requests {
		if seen[strconv.Itoa(n)+"Bearer k"] != 1 {
			t.Errorf("request %d was sent %d times", n, seen[strconv.Itoa(n)+"Bearer k"])
		}
	}
	wrong := errors.New("wrong")
	l.Check = func(n int, _ bench.Answer) error {
		if n == 100 {
			return wrong
		}
		return nil
	}
	if _, err := l.Run(t.Context()); !errors.Is(err, wrong) {
		t.Errorf("a wrong answer ends the load with %v", err)
	}
}

// What is no answer is said to be none.
func TestLoadOfNoHTTP(t *testing.T) {
	for _, text := range []string{"SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(c, text)
				_ = c.Close()
			}
		}))
		_, err := bench.Load{
			Network: "tcp", Address: strings.TrimPrefix(s.URL, "http://"), Connections: 1, Requests: 1,
			Request: func(to []byte, _ int) []byte { return bench.Request(to, "GET", "/", "k", "") },
			Check:   func(int, bench.Answer) error { return nil },
		}.Run(t.Context())
		if err == nil {
			t.Errorf("%q was taken for an answer", text)
		}
		s.Close()
	}
}
