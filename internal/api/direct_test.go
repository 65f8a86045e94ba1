package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// TestDirectWay asks by the addresses that are known without a look at the
// routes, and by other spellings of them, which take the way of all routes.
func TestDirectWay(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	made := s.Key(s.Workspace, keystile.CreateKey{Name: "Asked about"})
	ask := func(method, path, key, body string) (status int, text string, h http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		all, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		h = response.Header.Clone()
		h.Del("X-Request-Id")
		h.Del("Date")
		return response.StatusCode, string(all), h
	}
	one := `{"key":"` + made.Secret + `"}`
	for _, c := range []struct{ method, direct, other, key, body, want string }{
		{"POST", "/v1/verify", "/v1/%76erify", s.OperatorKey, one, `"valid":true`},
		{"POST", "/v1/verify/batch", "/v1/verify/%62atch", s.OperatorKey, `{"requests":[` + one + `]}`, `{"data":[{"valid":true`},
		{"GET", "/v1/forward-auth?permission=read", "/v1/forward%2dauth?permission=read", made.Secret, "", ""},
		{"POST", "/v1/forward-auth", "/v1/forward%2dauth", made.Secret, "{}", ""},
	} {
		status, text, header := ask(c.method, c.direct, c.key, c.body)
		otherStatus, otherText, otherHeader := ask(c.method, c.other, c.key, c.body)
		if status != http.StatusOK || !strings.Contains(text, c.want) || header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: status %d, %v, %s", c.direct, status, header, text)
		}
		if otherStatus != status || otherText != text || fmt.Sprint(otherHeader) != fmt.Sprint(header) {
			t.Errorf("%s: status %d, %v, %s; by %s: status %d, %v, %s", c.direct, status, header, text, c.other, otherStatus, otherHeader, otherText)
		}
	}
	if status, text, h := ask("PUT", "/v1/verify", s.OperatorKey, one); status != http.StatusMethodNotAllowed || h.Get("Allow") != "POST" {
		t.Errorf("PUT: status %d, %v, %s", status, h, text)
	}
}

// A caller whose key is taken away while the question arrives gets no answer to
// it, whoever reads the body.
func TestCallerRevokedWhileItsQuestionArrives(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	asked := s.Key(s.Workspace, keystile.CreateKey{Name: "Asked about"})
	plain, unusual := `{"key":"`+asked.Secret+`"}`, `{"key":"\u006b`+asked.Secret[1:]+`"}`
	for path, bodies := range map[string][]string{
		"/v1/verify":       {plain, unusual},
		"/v1/verify/batch": {`{"requests":[` + plain + `]}`, `{"requests":[` + unusual + `]}`},
	} {
		for _, body := range bodies {
			caller := s.Key(s.Workspace, keystile.CreateKey{Name: "Asks", Role: "developer"})
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			// The server has let the caller in once it asks for the rest.
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
				path, caller.Secret, len(body))
			in := bufio.NewReader(conn)
			if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
				t.Fatalf("%q, %v", line, err)
			}
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Operator.RevokeKey(t.Context(), caller.Key.ID, keystile.RevokeKey{}); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(conn, body)
			response, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), `"code":"revoked"`) {
				t.Errorf("%s %q: status %d, %v, %s", path, body[:10], response.StatusCode, err, text)
			}
		}
	}
}
