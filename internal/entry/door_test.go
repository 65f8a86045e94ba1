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
	})))
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
