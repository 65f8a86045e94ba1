package stream_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/stream"
)

// TestNonsenseEndsNoProgram: whatever a server says, or something that has
// taken its place, the program that the replica is part of goes on.
func TestNonsenseEndsNoProgram(t *testing.T) {
	t.Parallel()
	hello := func(keys int) stream.Frame {
		return stream.Frame{Kind: stream.KindHello, Hello: &stream.Hello{Attachment: "rep_1", Protocol: stream.Protocol, Prefix: "tt", Keys: keys}}
	}
	kinds := func(keys int, all ...stream.Kind) (frames []stream.Frame) {
		frames = append(frames, hello(keys))
		for _, k := range all {
			frames = append(frames, stream.Frame{Kind: k})
		}
		return frames
	}
	for name, frames := range map[string][]stream.Frame{
		"resumed at once":      kinds(0, stream.KindResumed),
		"a load of nothing":    kinds(0, stream.KindLoad),
		"a change too early":   kinds(0, stream.KindChange),
		"a change of nothing":  kinds(0, stream.KindLoaded, stream.KindChange),
		"loaded twice":         kinds(0, stream.KindLoaded, stream.KindLoaded),
		"resumed after a load": kinds(0, stream.KindLoaded, stream.KindResumed),
		"hello twice":          append(kinds(0), hello(1), hello(-1)),
		"keys without end":     kinds(1<<62, stream.KindLoad),
		"less than no keys":    kinds(-1<<62, stream.KindLoad),
		"a kind of its own":    kinds(0, 200),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var came atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				w.Header().Set("Content-Type", stream.ContentType)
				out := stream.NewWriter(w)
				for _, f := range frames {
					if err := out.Write(f); err != nil {
						return
					}
				}
				_ = out.Flush()
				came.Add(1)
			}))
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for end := time.Now().Add(time.Minute); came.Load() < 3 && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				cancel()
			}()
			if _, err := stream.Open(ctx, stream.Options{URLs: []string{s.URL}, Key: "key", HTTP: s.Client(), Log: slog.New(slog.DiscardHandler)}); err == nil {
				t.Error("it is content")
			}
			if came.Load() < 3 {
				t.Error("it does not try again")
			}
		})
	}
}
