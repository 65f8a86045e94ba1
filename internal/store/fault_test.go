package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// smallDisks bounds databases in pages, by a part of their path. SQLite takes
// the bound from each connection, and this is the only way to the writer's.
var smallDisks struct {
	once  sync.Once
	pages sync.Map // string to *atomic.Int64
}

// smallDisk bounds the database in a directory that is not open yet.
func smallDisk(dir string) *atomic.Int64 {
	smallDisks.once.Do(func() {
		sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, dsn string) (err error) {
			smallDisks.pages.Range(func(dir, pages any) bool {
				if name, ok := dir.(string); ok && strings.Contains(dsn, name) {
					if bound, ok := pages.(*atomic.Int64); ok {
						_, err = conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA max_page_count = %d", bound.Load()), nil)
					}
				}
				return err == nil
			})
			return err
		})
	})
	pages := &atomic.Int64{}
	smallDisks.pages.Store(dir, pages)
	return pages
}

// TestDiskFull: on a full disk a change fails with ErrFull and leaves nothing
// by half, reads go on, and so do writes as soon as there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pages := smallDisk(dir)
	pages.Store(160)
	f := newFixture(t, store.Options{Dir: dir})
	addWorkspaces(t, f.Store)
	big := func(tx *store.Tx, n int) error {
		k := key(acme, n)
		k.Description = strings.Repeat("x", 3000)
		if err := tx.InsertKey(k); err != nil {
			return err
		}
		return tx.LogChange(store.ChangeKey, k.ID)
	}
	var written []int
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		if _, err = f.Write(t.Context(), func(tx *store.Tx) error { return big(tx, n) }); err == nil {
			written = append(written, n)
		}
	}
	wantErr(t, "write to a full disk", err, store.ErrFull)
	if len(written) < 10 {
		t.Fatalf("only %d keys had room", len(written))
	}
	before := f.dump(t)
	for i := range 3 {
		_, err := f.Write(t.Context(), func(tx *store.Tx) error { return big(tx, 5000+i) })
		wantErr(t, "write again", err, store.ErrFull)
		// A caller that keeps the error to itself changes nothing about it.
		_, err = f.Write(t.Context(), func(tx *store.Tx) error {
			_ = big(tx, 6000+i)
			_ = big(tx, 7000+i)
			_ = tx.SetSetting("half", "done")
			return nil
		})
		wantErr(t, "a swallowed error", err, store.ErrFull)
		// All that share the transaction are told the truth.
		_, errs := batch(t, f.Store, 9, func(n int) (context.Context, func(tx *store.Tx) error) {
			return t.Context(), func(tx *store.Tx) error { return big(tx, 8000+n) }
		})
		for _, err := range errs {
			wantErr(t, "write together", err, store.ErrFull)
		}
	}
	if after := f.dump(t); !reflect.DeepEqual(before, after) {
		t.Errorf("the failed writes left something: %d rows, before %d", len(after), len(before))
	}
	checkLog(t, f.Store, written)
	if err := f.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	// Deleting needs no room, and makes some.
	write(t, f.Store, func(tx *store.Tx) error {
		for _, n := range written[:5] {
			if err := errors.Join(tx.DeleteKey(all(), keyID(n)), tx.LogChange(store.ChangeNoop, keyID(n))); err != nil {
				return err
			}
		}
		return nil
	})
	write(t, f.Store, func(tx *store.Tx) error { return big(tx, 9000) })
	// More room comes from outside.
	for err = nil; err == nil; {
		n := 10_000 + len(written)
		if _, err = f.Write(t.Context(), func(tx *store.Tx) error { return big(tx, n) }); err == nil {
			written = append(written, n)
		}
	}
	wantErr(t, "full again", err, store.ErrFull)
	pages.Store(100_000)
	for n := range 100 {
		write(t, f.Store, func(tx *store.Tx) error { return big(tx, 20_000+n) })
	}
	if result := texts(t, f.raw(t), `PRAGMA integrity_check`); len(result) != 1 || result[0] != "ok" {
		t.Errorf("the database is %v", result)
	}
}

// TestPostgresAway: while PostgreSQL is away every call says so, and nothing
// is done; when it is back everything works at once, without a restart.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	s := open(t, store.Options{URL: server.URL("postgres")})
	addWorkspaces(t, s)
	var written []int
	put := func(n int) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error { return insertLogged(tx, n) })
		written = append(written, n)
	}
	for round := range 2 {
		put(round)
		fillPool(t, s)
		server.Stop(t)
		for range 3 {
			_, err := s.Write(t.Context(), func(tx *store.Tx) error { return insertLogged(tx, 100+round) })
			wantErr(t, "write", err, store.ErrUnavailable)
			wantErr(t, "read", s.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.Head(); return err }), store.ErrUnavailable)
			wantErr(t, "ping", s.Ping(t.Context()), store.ErrUnavailable)
			_, err = s.RenewNode(t.Context(), store.Node{ID: "a"}, [16]byte{})
			wantErr(t, "renew", err, store.ErrUnavailable)
			wantErr(t, "acknowledge", s.AcknowledgeNode(t.Context(), store.Claim{ID: "a"}, 1, [16]byte{}), store.ErrUnavailable)
		}
		_, err := store.Open(t.Context(), store.Options{URL: server.URL("postgres")})
		wantErr(t, "open", err, store.ErrUnavailable)
		server.Start(t)
		put(50 + round)
		for range 20 { // each connection of the pool
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("ping after the return: %v", err)
			}
		}
		checkLog(t, s, written)
	}
	// Connections that broke while nobody used any: the first call of each
	// kind after the return is no worse than the others.
	for round := range 3 {
		fillPool(t, s)
		server.Stop(t)
		server.Start(t)
		var g sync.WaitGroup
		for range 16 {
			g.Go(func() {
				if err := s.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.Head(); return err }); err != nil {
					t.Errorf("the first read after a restart: %v", err)
				}
			})
		}
		g.Wait()
		put(200 + round)
	}
	checkLog(t, s, written)
}

// fillPool uses as many connections at once as there are.
func fillPool(t testing.TB, s *store.Store) {
	t.Helper()
	var g, all sync.WaitGroup
	for range 16 {
		all.Add(1)
		g.Go(func() {
			err := s.Read(t.Context(), func(tx *store.Tx) error {
				all.Done()
				all.Wait()
				_, err := tx.Head()
				return err
			})
			if err != nil {
				t.Errorf("read: %v", err)
			}
		})
	}
	g.Wait()
}

// TestDeadWriter: the writer's connection breaks while nobody writes. The next
// write takes another one, and its caller notices nothing.
func TestDeadWriter(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Options{URL: pgtest.New(t)})
	addWorkspaces(t, f.Store)
	db := f.raw(t)
	var written []int
	for n := range 5 {
		write(t, f.Store, func(tx *store.Tx) error { return insertLogged(tx, n) })
		written = append(written, n)
		number(t, db, `SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		waitFor(t, "the connections are gone", func() bool {
			return number(t, db, `SELECT COUNT(*) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'keystile'`) == 0
		})
	}
	checkLog(t, f.Store, written)
	// In the midst of a transaction: it is lost, and said to be.
	_, err := f.Write(t.Context(), func(tx *store.Tx) error {
		if err := insertLogged(tx, 100); err != nil {
			return err
		}
		number(t, db, `SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		return insertLogged(tx, 101)
	})
	wantErr(t, "a write whose connection breaks", err, store.ErrUnavailable)
	write(t, f.Store, func(tx *store.Tx) error { return insertLogged(tx, 102) })
	checkLog(t, f.Store, append(written, 102))
	read(t, f.Store, func(tx *store.Tx) error {
		_, err := tx.Key(all(), keyID(100))
		wantErr(t, "the key of the lost transaction", err, store.ErrNotFound)
		return nil
	})
}

// TestFrozenWriter: a server stands still in the midst of a write. The database
// ends that, so that others can write, and the server hears that it was lost.
func TestFrozenWriter(t *testing.T) {
	t.Parallel()
	o := store.Options{URL: pgtest.New(t)}
	f, other := newFixture(t, o), open(t, o)
	addWorkspaces(t, f.Store)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		_, err := f.Write(t.Context(), func(tx *store.Tx) error {
			if err := insertLogged(tx, 1); err != nil {
				return err
			}
			close(inside)
			<-goOn
			return insertLogged(tx, 2)
		})
		wantErr(t, "the write that stood still", err, store.ErrUnavailable)
	})
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	_, err := other.Write(ctx, func(tx *store.Tx) error { return insertLogged(tx, 3) })
	wantErr(t, "the write beside it", err, nil)
	close(goOn)
	g.Wait()
	checkLog(t, f.Store, []int{3})
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute it is not so that %s", what)
		}
	}
}

// TestUnknownOutcome: a commit that waits for a standby is cut short in three
// ways. Each time it has happened on this server and the caller must be told
// that nobody knows.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	f := newFixture(t, store.Options{URL: server.URL("postgres")})
	addWorkspaces(t, f.Store)
	db := f.raw(t)
	standby := func(name string) {
		t.Helper()
		for _, q := range []string{`ALTER SYSTEM SET synchronous_standby_names = '` + name + `'`, `SELECT pg_reload_conf()`} {
			if _, err := db.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, "the setting holds", func() bool {
			var now string
			if err := db.QueryRowContext(t.Context(), `SHOW synchronous_standby_names`).Scan(&now); err != nil {
				t.Fatal(err)
			}
			return now == name
		})
	}
	const waits = ` FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'keystile'`
	for i, c := range []struct {
		name string
		cut  func()
	}{
		{"the wait is cancelled", func() { number(t, db, `SELECT COUNT(pg_cancel_backend(pid))`+waits) }},
		{"the connection is ended", func() { number(t, db, `SELECT COUNT(pg_terminate_backend(pid))`+waits) }},
		{"the server dies", func() { server.Stop(t); server.Start(t) }},
	} {
		standby("nobody")
		type outcome struct {
			n   int
			err error
		}
		told := make(chan outcome)
		go func() {
			// The setting reaches all parts of the server a little later.
			n := 1_000_000 * i
			for {
				_, err := f.Write(t.Context(), func(tx *store.Tx) error { return insertLogged(tx, n) })
				if err != nil {
					told <- outcome{n, err}
					return
				}
				n++
			}
		}()
		waitFor(t, "the commit waits", func() bool { return number(t, db, `SELECT COUNT(*)`+waits) == 1 })
		c.cut()
		last := <-told
		wantErr(t, c.name, last.err, store.ErrUnknownOutcome)
		standby("")
		// Whatever it was, trying again settles it.
		_, err := f.Write(t.Context(), func(tx *store.Tx) error { return insertLogged(tx, last.n) })
		if err != nil && !errors.Is(err, store.ErrTaken) {
			t.Errorf("%s: again: %v", c.name, err)
		}
		write(t, f.Store, func(tx *store.Tx) error { return insertLogged(tx, last.n+1) })
		checkLog(t, f.Store, []int{last.n, last.n + 1})
	}
}

// TestReadersHoldNobodyUp: readers that keep every connection of theirs take
// none from the lease, the change log and those who wait for other nodes.
func TestReadersHoldNobodyUp(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addKeys(t, f.Store, 1)
			head := logChanges(t, f.Store, 1)
			ctx, cancel := context.WithCancel(t.Context())
			var g sync.WaitGroup
			defer func() { cancel(); g.Wait() }()
			var reading atomic.Int64
			for range 64 {
				g.Go(func() {
					_ = f.Read(ctx, func(tx *store.Tx) error {
						if _, err := tx.Head(); err != nil {
							return err
						}
						reading.Add(1)
						<-ctx.Done()
						return nil
					})
				})
			}
			// As many as there are connections; the others wait for one.
			waitFor(t, "the readers have their connections", func() bool { return reading.Load() >= 8 })
			short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer stop()
			waitFor(t, "no reader gets one any more", func() bool { return f.Ping(short) != nil })

			woken := make(chan struct{}, 1000)
			g.Go(func() {
				f.Watch(ctx, func() {
					select {
					case woken <- struct{}{}:
					default:
					}
				})
			})
			limited, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			token := [16]byte{}
			if err := f.Follow(limited, func(tx *store.Tx) error {
				h, err := tx.Head()
				token = h.Token
				return err
			}); err != nil {
				t.Fatalf("follow: %v", err)
			}
			for range 3 {
				if _, err := f.RenewNode(limited, store.Node{ID: "a", Applied: head}, token); err != nil {
					t.Errorf("renew: %v", err)
				}
			}
			if err := f.AcknowledgeNode(limited, store.Claim{ID: "a"}, head, token); err != nil {
				t.Errorf("acknowledge: %v", err)
			}
			if _, err := f.LoadIndex(limited, func(verify.Batch) error { return nil }); err != nil {
				t.Errorf("load: %v", err)
			}
			if _, err := f.Write(limited, func(tx *store.Tx) error { return insertLogged(tx, 2) }); err != nil {
				t.Errorf("write: %v", err)
			}
			select {
			case <-woken:
			case <-limited.Done():
				t.Error("nobody is told of changes")
			}
		})
	}
}

// TestCancelledStatement: the database ends one statement of one call, with
// others in the same transaction. They are committed.
func TestCancelledStatement(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Options{URL: pgtest.New(t)})
	addWorkspaces(t, f.Store)
	db := f.raw(t)
	holder, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback()
	if _, err := holder.ExecContext(t.Context(), `INSERT INTO settings (name, value) VALUES ('contended', '')`); err != nil {
		t.Fatal(err)
	}
	release := block(t, f.Store)
	var g sync.WaitGroup
	for n := range 3 {
		g.Go(func() {
			_, err := f.Write(t.Context(), func(tx *store.Tx) error { return insertLogged(tx, n) })
			wantErr(t, "a call beside it", err, nil)
		})
	}
	// Likely the last of the transaction, which is the worst place.
	time.Sleep(100 * time.Millisecond)
	g.Go(func() {
		_, err := f.Write(t.Context(), func(tx *store.Tx) error {
			if err := insertLogged(tx, 100); err != nil {
				return err
			}
			return tx.SetSetting("contended", "x") // waits for the holder
		})
		wantErr(t, "the call whose statement is ended", err, store.ErrUnavailable)
	})
	time.Sleep(100 * time.Millisecond)
	release()
	waitFor(t, "the statement waits and is ended", func() bool {
		return number(t, db, `SELECT COUNT(pg_cancel_backend(pid)) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND datname = current_database() AND application_name = 'keystile'`) == 1
	})
	g.Wait()
	checkLog(t, f.Store, []int{0, 1, 2})
}
