package lane

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// sameAsNetHTTP reads bytes as the lane does. What it takes is what net/http makes
// of the same bytes, and ends where that ends.
func sameAsNetHTTP(t interface{ Fatalf(string, ...any) }, text string) verdict {
	d := new(Lane).desk()
	p := []byte(text)
	size, v := d.read(p)
	if !strings.EqualFold(string(p), text) {
		t.Fatalf("%q became %q", text, p)
	}
	in := strings.NewReader(text)
	buffered := bufio.NewReader(in)
	r, err := http.ReadRequest(buffered)
	if v != whole {
		return v
	}
	if err != nil {
		t.Fatalf("%q: the lane takes it, net/http says %v", text, err)
	}
	body, err := io.ReadAll(r.Body)
	if end := len(text) - in.Len() - buffered.Buffered(); err != nil || end != size {
		t.Fatalf("%q: it ends at %d for the lane, at %d for net/http, %v", text, size, end, err)
	}
	own, err := io.ReadAll(d.request.Body)
	if err != nil || !bytes.Equal(body, own) || (r.Body == http.NoBody) != (d.request.Body == http.NoBody) {
		t.Fatalf("%q: the body is %q for the lane, %q for net/http, %v", text, own, body, err)
	}
	r.Body, d.request.Body = nil, nil
	if got, want := fmt.Sprintf("%+v %+v", d.request, d.url), fmt.Sprintf("%+v %+v", *r, *r.URL); sansPointers(got, d.request.URL) != sansPointers(want, r.URL) {
		t.Fatalf("%q:\nthe lane reads %s\nnet/http reads %s", text, got, want)
	}
	return v
}

// sansPointers leaves out where the URL is, which is no matter.
func sansPointers(s string, of any) string { return strings.Replace(s, fmt.Sprintf("%p", of), "", 1) }

func TestReadSameAsNetHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want verdict
	}{
		{"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", whole},
		{"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET", whole},
		{"GET /v1/forward-auth?permission=read HTTP/1.1\r\nhost: a.example:8080\r\nAUTHORIZATION: Bearer k\r\nx-forwarded-for: 10.0.0.1, ::1\r\n\r\n", whole},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\nAccept: */*\r\n\r\n", whole},
		{"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{", part},
		{"POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r", part},
		{"POST /v1/verify HTTP/1.1\r\nHost: a\r\nConte", part},
		{"POST /v1/verify HTTP/1.1\r", part}, {"POST /v1/ver", part}, {"P", part}, {"GET", part}, {"", part},
		{"X", other}, {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", other}, {"PUT / HTTP/1.1\r\nHost: a\r\n\r\n", other}, {"\r\n", other}, {"\x16\x03\x01", other},
		{"GET / HTTP/1.1\nHost: a\n\n", other}, {"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n", other}, {"GET / HTTP/1.1\r\nHost: a\r\n\n", other},
		{"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", other}, {"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", other}, {"GET / HTTP/1.1\r\nHost: a\r\n X: a\r\n\r\n", other},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", other}, {"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", other},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", other}, {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n", other},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12345\r\n\r\n", other}, {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1", other},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", other}, {"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", other},
		{"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", other}, {"POST / HTTP/1.1\r\n\r\n", other}, {"POST / HTTP/1.1\r\nHost: a/b\r\n\r\n", other},
		{"POST /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", other}, {"POST a HTTP/1.1\r\nHost: a\r\n\r\n", other}, {"POST / HTTP/1.0\r\nHost: a\r\n\r\n", other},
		{"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: a\r\n", 2) + "\r\n", other},
	} {
		if v := sameAsNetHTTP(t, c.text); v != c.want {
			t.Errorf("%q is %d to the lane, want %d", c.text, v, c.want)
		}
	}
	var many strings.Builder
	for n := range maxHeaders {
		fmt.Fprintf(&many, "X-%d: a\r\n", n)
	}
	if v := sameAsNetHTTP(t, "GET / HTTP/1.1\r\nHost: a\r\n"+many.String()+"\r\n"); v != other {
		t.Errorf("more headers than there is room for are %d", v)
	}
}

// A request of before leaves nothing behind.
func TestCleared(t *testing.T) {
	t.Parallel()
	lane := new(Lane)
	d := lane.desk()
	d.reply.to, d.reply.lane = io.Discard, lane
	if _, v := d.read([]byte("POST /a?b=c HTTP/1.1\r\nHost: a\r\nAuthorization: secret\r\nContent-Length: 2\r\n\r\n{}")); v != whole {
		t.Fatal(v)
	}
	d.reply.Header().Set("X-A", "b")
	_, _ = d.reply.Write([]byte("secret"))
	if err := d.reply.end(); err != nil {
		t.Fatal(err)
	}
	d.cleared()
	if text := fmt.Sprintf("%+v %+v %v %q %v %d %q", d.request, d.url, d.header, d.values, d.reply.header, d.reply.status, d.reply.content); strings.Contains(text, "secret") || strings.Contains(text, "/a") {
		t.Errorf("left behind: %s", text)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
	f.Add("GET /v1/forward-auth?permission=read HTTP/1.1\r\nhost: a:80\r\nauthorization: Bearer k\r\nx-forwarded-for: 10.0.0.1\r\n\r\n")
	f.Add("")
	f.Add("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\nGET")
	f.Add("POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Type: application/json\r\nX-Api-Key: k\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\nUser-Agent:  a  \r\n\r\n\r\n{}POST")
	f.Add("GET //a/../b/./?permission=%2e&+:,* HTTP/1.1\r\nHOST:  [::1]:80 \r\nKEEP-ALIVE: 5\r\ncontent-length: 0000\r\nx_y-z--a: :\r\n\r\n\r\n")
	f.Add("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nProxy-Connection: close\r\nContent-Encoding: gzip\r\nIf-Match: *\r\nRange: bytes=0-1\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) { sameAsNetHTTP(t, text) })
}
