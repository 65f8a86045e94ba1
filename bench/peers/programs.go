//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/replica"
)

// The servers of this file run as processes of their own: this program starts
// itself with their name.

const peerListens = "peer listens on "

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }

// serve serves until ctx ends, and says where.
func serve(ctx context.Context, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	fmt.Fprintln(os.Stdout, peerListens+l.Addr().String())
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// guard is what most teams write: the SHA-256 of the key, looked up in
// PostgreSQL for every request.
func guard(pool *pgxpool.Pool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			http.Error(w, "no key", http.StatusUnauthorized)
			return
		}
		hash := sha256.Sum256([]byte(key))
		var revoked bool
		err := pool.QueryRow(r.Context(), "SELECT revoked FROM api_keys WHERE hash = $1", hash[:]).Scan(&revoked)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || err == nil && revoked:
			http.Error(w, "no", http.StatusUnauthorized)
		case err != nil:
			http.Error(w, "cannot tell", http.StatusServiceUnavailable)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func servePostgres(ctx context.Context, url string) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	return serve(ctx, guard(pool, http.HandlerFunc(hello)))
}

// serveVerifier asks the index that it carries inside.
func serveVerifier(ctx context.Context, url, key string) error {
	v, err := replica.Open(ctx, url, key, replica.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = v.Close(context.WithoutCancel(ctx)) }()
	return serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, problem := keystile.CredentialFrom(r.Header, nil)
		if problem == nil {
			d, err := v.Verify(r.Context(), keystile.VerifyRequest{Key: key, Permission: "read"})
			if err != nil {
				http.Error(w, "cannot tell", http.StatusServiceUnavailable)
				return
			}
			problem = d.Problem("read")
		}
		if problem != nil {
			keystile.WriteError(w, problem, "")
			return
		}
		hello(w, r)
	}))
}
