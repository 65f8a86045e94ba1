package store_test

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
)

// TestFloodOfNotifications: whoever may connect to the database may notify, as
// often as they like. A server looks into the log a few hundred times a second at
// most for that, and after the flood as soon as ever.
func TestFloodOfNotifications(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var woken atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Watch(ctx, func() { woken.Add(1) }); close(ended) }()
	defer func() { stop(); <-ended }()

	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	begin, before := time.Now(), woken.Load()
	const times, each = 60, 1000
	for range times {
		if _, err := db.ExecContext(t.Context(), `SELECT count(pg_notify('keystile_changes', i::text)) FROM generate_series(1, 1000) i`); err != nil {
			t.Fatal(err)
		}
	}
	// What is still under way is heard of, and then one that is not lost in it.
	for last := int64(-1); last != woken.Load(); time.Sleep(20 * time.Millisecond) {
		last = woken.Load()
	}
	took, looks := time.Since(begin), woken.Load()-before
	if most := int64(2*took/(5*time.Millisecond)) + 10; looks > most {
		t.Errorf("%d looks for %d notifications in %s, want %d at most", looks, times*each, took, most)
	}
	before = woken.Load()
	if _, err := db.ExecContext(t.Context(), `SELECT pg_notify('keystile_changes', '1')`); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); woken.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is heard of after the flood")
		}
	}
	t.Logf("%d looks for %d notifications in %s", looks, times*each, took)
}

// TestNotifyIsHeldUp: a notification waits while another program, of any database
// of the server, commits one, which may wait for a standby for as long as that
// stands still. A change does not wait for its own.
func TestNotifyIsHeldUp(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.StartPair(t, true)
	s, err := store.Open(t.Context(), store.Options{URL: primary.URL("postgres")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	noop := func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") }
	write(t, s, noop)
	db := func(server *pgtest.Server) *sql.DB {
		db, err := sql.Open("pgx", server.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	behind, other := db(standby), db(primary)
	if _, err := behind.ExecContext(t.Context(), `SELECT pg_wal_replay_pause()`); err != nil {
		t.Fatal(err)
	}
	held, release := context.WithCancel(t.Context())
	defer release()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { release(); _ = conn.Close() }()
	if _, err := conn.ExecContext(t.Context(), `SET synchronous_commit = remote_apply`); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = conn.ExecContext(held, `CREATE TABLE other (n INT); NOTIFY anything`) }()
	waiting := `SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`
	for end := time.Now().Add(time.Minute); number(t, other, waiting) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing waits for the standby; that is no test")
		}
	}
	begin := time.Now()
	for range 3 {
		write(t, s, noop)
	}
	took := time.Since(begin)
	if n := number(t, other, waiting); n == 0 {
		t.Fatal("nothing waits for the standby any more; that is no test")
	}
	if took > 15*time.Second {
		t.Errorf("three changes took %s", took)
	}
}
