package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) String() string {
	return http.StatusText(r.status) + " " + strings.TrimSpace(string(r.body))
}

// problem reads the answer as a problem (RFC 9457) and checks that it is one.
func (r reply) problem(t testing.TB) keystile.Error {
	t.Helper()
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("Content-Type %q of %s, want application/problem+json", got, r)
	}
	var e keystile.Error
	if err := json.Unmarshal(r.body, &e); err != nil {
		t.Fatalf("answer %s: %v", r, err)
	}
	if e.Status != r.status || e.Type != "urn:keystile:problem:"+string(e.Code) || e.Title == "" || e.Detail == "" || len(e.Fixes) == 0 {
		t.Fatalf("problem is not complete: %s", r)
	}
	return e
}

// want checks the status and reads the body.
func want[T any](t testing.TB, r reply, status int) T {
	t.Helper()
	var v T
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r)
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("answer %s: %v", r, err)
	}
	return v
}

// wantProblem checks status and code of a refusal.
func wantProblem(t testing.TB, r reply, status int, code keystile.Code) keystile.Error {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d with %s: %s", r.status, status, code, r)
	}
	e := r.problem(t)
	if e.Code != code {
		t.Fatalf("code %s, want %s: %s", e.Code, code, r)
	}
	if status == http.StatusUnauthorized && r.header.Get("WWW-Authenticate") == "" {
		t.Fatalf("a 401 without WWW-Authenticate: %s", r)
	}
	return e
}

// headers makes headers of pairs.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func bearer(key string) http.Header { return headers("Authorization", "Bearer "+key) }

// httpClient is shared: its connections are kept.
var httpClient = &http.Client{ //nolint:gochecknoglobals // a constant in all but name
	Timeout:       60 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
}

// tryCall sends a request. The body is sent as it is when it is a string,
// as JSON otherwise, and not at all when it is nil.
func tryCall(client *http.Client, method, url string, h http.Header, body any) (reply, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return reply{}, err
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, url, in)
	if err != nil {
		return reply{}, err
	}
	for name, values := range h {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	if in != nil && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, text}, err
}

func call(t testing.TB, method, url string, h http.Header, body any) reply {
	t.Helper()
	r, err := tryCall(httpClient, method, url, h, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return r
}

// raw sends bytes as they are and returns all that comes back until the
// server closes the connection.
func raw(t testing.TB, address string, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(c)
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

// eventually repeats a check until it holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not so after 30 s: %s", what)
}
