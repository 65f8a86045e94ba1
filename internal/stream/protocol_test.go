package stream_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/stream"
)

// TestOtherProtocol: a replica and a server that mean different things by what
// they say have nothing to do with each other, and whoever starts the replica is
// told which of the two is to be updated.
func TestOtherProtocol(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		protocol int
		update   string
	}{
		"an older server": {stream.Protocol - 1, "Update the server first"},
		"a newer server":  {stream.Protocol + 1, "Update the program that the replica is part of, or the agent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					t.Errorf("it asks for a lease: %s %s", r.Method, r.URL.Path)
				}
				w.Header().Set("Content-Type", stream.ContentType)
				out := stream.NewWriter(w)
				for _, f := range []stream.Frame{
					{Kind: stream.KindHello, Hello: &stream.Hello{Attachment: "rep_1", Version: "9.9", Protocol: c.protocol, Prefix: "tt"}},
					{Kind: stream.KindLoaded},
				} {
					_ = out.Write(f) // it may have gone
				}
				_ = out.Flush()
			}))
			defer s.Close()
			_, err := open(t.Context(), s)
			problem, ok := errors.AsType[*keystile.Error](err)
			if !ok || problem.Code != keystile.CodeInvalidRequest || !strings.Contains(err.Error(), `"9.9"`) ||
				len(problem.Fixes) != 1 || !strings.HasPrefix(problem.Fixes[0], c.update) {
				t.Errorf("%v, %+v", err, problem)
			}
		})
	}
}

// TestNoServer: what answers at the URL and is no Keystile server is told apart
// from one that can't be understood.
func TestNoServer(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Welcome</html>")) }))
	defer s.Close()
	var log strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	_, err := stream.Open(ctx, stream.Options{URLs: []string{s.URL}, Key: "key", HTTP: s.Client(), Log: slog.New(once{&log, cancel})})
	if err == nil || !strings.Contains(log.String(), "no Keystile server") {
		t.Errorf("%v: %s", err, log.String())
	}
}

// once is a log that keeps its first line, and then ends something.
type once struct {
	into *strings.Builder
	end  context.CancelFunc
}

func (o once) Enabled(context.Context, slog.Level) bool { return true }
func (o once) WithAttrs([]slog.Attr) slog.Handler       { return o }
func (o once) WithGroup(string) slog.Handler            { return o }
func (o once) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool { o.into.WriteString(a.String()); return true })
	o.end()
	return nil
}

func open(ctx context.Context, s *httptest.Server) (*stream.Replica, error) {
	return stream.Open(ctx, stream.Options{URLs: []string{s.URL}, Key: "key", HTTP: s.Client(), Log: slog.New(slog.DiscardHandler)})
}
