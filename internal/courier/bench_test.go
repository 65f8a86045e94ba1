package courier_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

// BenchmarkOutbox sends a backlog of events to one endpoint and to eight, and
// says how many a second arrive (events/s). Beside it, in the same run, a bare
// HTTP client sends as many requests of the same size to the same receiver, at
// most so many at once as the courier sends to one endpoint (bare/s). An event
// costs three rows written, and its share of two commits, besides the request.
//
//	go test ./internal/courier -run '^$' -bench Outbox -benchtime 5000x
func BenchmarkOutbox(b *testing.B) {
	for _, d := range []struct {
		name    string
		options func() []keystiletest.Option
	}{
		{"sqlite", func() []keystiletest.Option { return nil }},
		{"postgres", func() []keystiletest.Option {
			key := base64.StdEncoding.EncodeToString([]byte("thirty-two bytes, a master's key"))
			return []keystiletest.Option{keystiletest.Database(pgtest.New(b)), keystiletest.MasterKey(key)}
		}},
	} {
		for _, e := range []struct {
			name      string
			endpoints int
		}{{"one", 1}, {"eight", 8}} {
			b.Run(d.name+"/"+e.name, func(b *testing.B) { benchmarkOutbox(b, keystiletest.New(b, d.options()...), e.endpoints) })
		}
	}
}

func benchmarkOutbox(b *testing.B, s *keystiletest.Server, endpoints int) {
	ctx := context.Background()
	var got atomic.Int64
	var size atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		size.Store(n)
		got.Add(1)
	}))
	b.Cleanup(receiver.Close)
	var ids []string
	for range endpoints {
		made := endpoint(b, s, receiver.URL, "key.reviewed")
		if _, err := s.Operator.PauseEndpoint(ctx, made.Endpoint.ID, keystile.PauseEndpoint{}); err != nil {
			b.Fatal(err)
		}
		ids = append(ids, made.Endpoint.ID)
	}
	k, actor := s.Keyring(), keyring.Operator("bench")
	var keys []string
	for range 64 { // events about one object wait for one another
		keys = append(keys, newKey(b, s, "Busy").Key.ID)
	}
	events := (b.N + endpoints - 1) / endpoints
	var all sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		all.Go(func() {
			for i := next.Add(1); i <= int64(events); i = next.Add(1) {
				if _, err := k.ReviewKey(ctx, actor, keys[i%64]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	want := int64(events * endpoints)
	b.ResetTimer()
	begun := time.Now()
	for _, id := range ids {
		if _, err := s.Operator.ResumeEndpoint(ctx, id); err != nil {
			b.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Minute); got.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%d of %d came", got.Load(), want)
		}
	}
	b.ReportMetric(float64(want)/time.Since(begun).Seconds(), "events/s")
	b.StopTimer()
	b.ReportMetric(bare(b, receiver.URL, int(size.Load()), want, 8*endpoints), "bare/s")
}

// bare is how many requests a second a client makes that does nothing else.
func bare(b *testing.B, url string, size int, requests int64, atOnce int) float64 {
	body := bytes.Repeat([]byte{'x'}, size)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for range atOnce {
		all.Go(func() {
			for next.Add(1) <= requests {
				r, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
		})
	}
	all.Wait()
	return float64(requests) / time.Since(begun).Seconds()
}
