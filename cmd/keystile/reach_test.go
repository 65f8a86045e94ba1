package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestWrongProtocol calls servers that speak otherwise than the URL says, or
// whose certificate nobody vouches for. The message says what to change.
func TestWrongProtocol(t *testing.T) {
	t.Parallel()
	nothing := http.NotFoundHandler()
	plain, sealed := httptest.NewServer(nothing), httptest.NewUnstartedServer(nothing)
	sealed.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of every client that does not trust it
	sealed.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(sealed.Close)
	for name, c := range map[string]struct {
		url  string
		want []string
	}{
		"https on a plain server": {
			strings.Replace(plain.URL, "http:", "https:", 1),
			[]string{"answered without TLS", "give the URL with http://"},
		},
		"a certificate of one's own making": {
			sealed.URL, []string{"does not trust the certificate of " + sealed.URL, "unknown authority", "SSL_CERT_FILE"},
		},
		"a certificate of another name": {
			strings.Replace(sealed.URL, "127.0.0.1", "localhost", 1), []string{"certificate of https://localhost", "not localhost"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, messages bytes.Buffer
			code := run(t.Context(), []string{"keys", "list", "--url", c.url}, &app{
				stdin: strings.NewReader(""), stdout: &out, stderr: &messages,
				env: func(name string) string { return map[string]string{"KEYSTILE_KEY": "x"}[name] },
			})
			if code != exitFailed || out.Len() > 0 {
				t.Errorf("ended with %d and printed %q", code, &out)
			}
			for _, part := range c.want {
				if !strings.Contains(messages.String(), part) {
					t.Errorf("%q does not say %q", &messages, part)
				}
			}
			if strings.Count(messages.String(), "\n") != 1 {
				t.Errorf("not one line: %q", &messages)
			}
		})
	}
}
