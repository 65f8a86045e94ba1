package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/bench"
	"github.com/keystile/keystile/internal/server"
	"github.com/keystile/keystile/keystiletest"
)

// BenchmarkHTTP loads a server of this process, for profiles of where its time
// and its memory go; the loader and what the bare server does are in them too.
// What a request costs is measured by keystile bench, between processes.
func BenchmarkHTTP(b *testing.B) {
	s := keystiletest.New(b)
	secrets := make([]string, 1000)
	for i := range secrets {
		secrets[i] = s.Key(s.Workspace, keystile.CreateKey{Name: "Service"}).Secret
	}
	bare := server.NewHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h := w.Header()
		for _, name := range []string{"X-Request-Id", "X-Content-Type-Options", "Cache-Control", "Content-Type"} {
			h[name] = []string{"application/json"}
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 250))
	}))
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = bare.Serve(l) }()
	b.Cleanup(func() { _ = bare.Close() })

	one := func(n int) string { return `{"key":"` + secrets[n%len(secrets)] + `","permission":"read"}` }
	verify := func(to []byte, n int) []byte { return bench.Request(to, "POST", "/v1/verify", s.OperatorKey, one(n)) }
	forward := func(to []byte, n int) []byte {
		return bench.Request(to, "GET", "/v1/forward-auth?permission=read", secrets[n%len(secrets)], "")
	}
	var all []string
	for n := range secrets {
		all = append(all, one(n))
	}
	batch := func(to []byte, _ int) []byte {
		return bench.Request(to, "POST", "/v1/verify/batch", s.OperatorKey, `{"requests":[`+strings.Join(all, ",")+`]}`)
	}
	address := strings.TrimPrefix(s.URL, "http://")
	for _, c := range []struct {
		name, address string
		request       func([]byte, int) []byte
	}{
		{"verify", address, verify}, {"verify-bare", l.Addr().String(), verify},
		{"forward-auth", address, forward}, {"forward-auth-bare", l.Addr().String(), forward},
		{"batch", address, batch},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			load := bench.Load{Network: "tcp", Address: c.address, Connections: 32, Requests: b.N, Request: c.request, Check: func(_ int, a bench.Answer) error {
				if a.Status != http.StatusOK {
					return fmt.Errorf("status %d: %s", a.Status, a.Body)
				}
				return nil
			}}
			if _, err := load.Run(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
