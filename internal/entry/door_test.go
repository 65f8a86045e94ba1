package entry_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/profile"
)

// An answer that its handler cuts off must not look whole to the client.
func TestAbortedAnswerIsBroken(t *testing.T) {
	door := &entry.Door{
		Log: slog.New(slog.DiscardHandler), Profile: profile.Default(), Observe: func(string, int, time.Duration) {},
	}
	s := httptest.NewServer(door.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "the first half")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
	}), func(*http.Request) func(*entry.Visit, *http.Request) { return nil }))
	defer s.Close()
	for path, whole := range map[string]bool{"/whole": true, "/cut": false} {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if (err == nil) != whole {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
}

// What a program calls itself stands in mails, pages and logs: it can't turn
// around what is read beside it.
func TestUserAgentStaysInItsPlace(t *testing.T) {
	for said, kept := range map[string]string{
		"curl/8.5.0":                       "curl/8.5.0",
		"a\u202eb\u2066c\u200fd\u061ce":    "abcde",
		"line\u2028other\x1b[31m\u0085end": "lineother[31mend",
	} {
		if got := entry.CleanUserAgent(said); got != kept {
			t.Errorf("%q is %q, not %q", said, got, kept)
		}
	}
}
