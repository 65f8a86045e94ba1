package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
)

// openBehaviours are about opening a database: new, shared, held, of another version.
func openBehaviours() []behaviour {
	return []behaviour{
		{"NewerSchema", newerSchema},
	}
}

// TestFirstOpenBy8: many processes may find the same empty database at once.
// Each of them opens it, and no one waits for longer than the others need.
func TestFirstOpenBy8(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(*testing.T) store.Options{
		"sqlite":   func(t *testing.T) store.Options { return store.Options{Dir: filepath.Join(t.TempDir(), "new")} },
		"postgres": func(t *testing.T) store.Options { return store.Options{URL: pgtest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			begin := time.Now()
			stores := make([]*store.Store, 8)
			var g sync.WaitGroup
			for i := range stores {
				g.Go(func() {
					var err error
					if stores[i], err = store.Open(t.Context(), o); err != nil {
						t.Errorf("open: %v", err)
					}
				})
			}
			g.Wait()
			// One of them migrates, which takes a tenth of a second, and the
			// others wait for it and for nothing else.
			if took := time.Since(begin); took > 15*time.Second {
				t.Errorf("8 first opens took %v", took)
			}
			seqs := map[int64]bool{}
			for i, s := range stores {
				if s == nil {
					continue
				}
				seqs[write(t, s, func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, fmt.Sprint(i)) })] = true
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
			for n := int64(1); n <= 8; n++ {
				if !seqs[n] {
					t.Errorf("change %d is missing: %v", n, seqs)
				}
			}
		})
	}
}

// newerSchema: an older binary refuses a database of a newer one and leaves
// it as it is.
func newerSchema(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	db := f.raw(t)
	if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`); err != nil {
		t.Fatal(err)
	}
	// One that says that this version can work with it is worked with, and left
	// as it is; whole tables are not moved.
	if _, err := db.ExecContext(t.Context(), `ALTER TABLE keys ADD COLUMN later TEXT NOT NULL DEFAULT ''`); err != nil {
		t.Fatal(err)
	}
	older := open(t, f.options)
	addKeysOnly(t, older, 2)
	_, err := older.Backup(t.Context(), filepath.Join(t.TempDir(), "backup.db"), false)
	wantErr(t, "back up a newer schema", err, store.ErrNewerSchema)
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE schema_floor SET oldest = 999`); err != nil {
		t.Fatal(err)
	}
	before, file := f.dump(t), fileHash(t, f)
	for _, o := range []store.Options{
		f.options, {Dir: f.options.Dir, URL: f.options.URL, Serve: true}, {Dir: f.options.Dir, URL: f.options.URL, MustExist: true},
	} {
		s, err := store.Open(t.Context(), o)
		wantErr(t, "open a newer schema", err, store.ErrNewerSchema)
		if s != nil {
			t.Error("there is a store all the same")
		}
	}
	if after := f.dump(t); !reflect.DeepEqual(before, after) {
		t.Errorf("rows changed:\n%v\nbefore:\n%v", after, before)
	}
	if after := fileHash(t, f); after != file {
		t.Error("the file changed")
	}
	// Where it does not say so, neither.
	if _, err := db.ExecContext(t.Context(), `DROP TABLE schema_floor`); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), f.options)
	wantErr(t, "open a newer schema that says nothing", err, store.ErrNewerSchema)
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE schema_floor (one BIGINT PRIMARY KEY, oldest BIGINT NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	// The locks were given back, so the newer version can go on.
	if _, err := db.ExecContext(t.Context(), `DELETE FROM goose_db_version WHERE version_id = 999`); err != nil {
		t.Fatal(err)
	}
	open(t, store.Options{Dir: f.options.Dir, URL: f.options.URL, Serve: true})
}

// fileHash is the hash of SQLite's main file.
func fileHash(t testing.TB, f *fixture) [32]byte {
	t.Helper()
	if f.options.Dir == "" {
		return [32]byte{}
	}
	b, err := os.ReadFile(filepath.Join(f.options.Dir, "keystile.db"))
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// TestHeld: who may have a data directory open beside whom.
func TestHeld(t *testing.T) {
	t.Parallel()
	plain, serve, restore := store.Options{}, store.Options{Serve: true}, store.Options{Restore: true}
	for _, c := range []struct {
		name          string
		first, second store.Options
		want          error
	}{
		{"two servers", serve, serve, store.ErrHeld},
		{"an admin verb beside a server", serve, plain, nil},
		{"a server beside an admin verb", plain, serve, nil},
		{"two admin verbs", plain, plain, nil},
		{"a restore beside a server", serve, restore, store.ErrHeld},
		{"a restore beside an admin verb", plain, restore, store.ErrHeld},
		{"an admin verb beside a restore", restore, plain, store.ErrHeld},
		{"a server beside a restore", restore, serve, store.ErrHeld},
		{"two restores", restore, restore, store.ErrHeld},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.first.Dir = t.TempDir()
			c.second.Dir = c.first.Dir
			first := open(t, c.first)
			second, err := store.Open(t.Context(), c.second)
			wantErr(t, "beside the first", err, c.want)
			if second != nil {
				write(t, second, func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") })
				if err := second.Close(); err != nil {
					t.Error(err)
				}
			}
			write(t, first, func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") })
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			open(t, c.second) // what was refused has left no lock behind
		})
	}
}

// TestOlderServer: a server looks at the schema when it starts. So nobody changes
// it while one runs that has an older schema.
func TestOlderServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := open(t, store.Options{Dir: dir, Serve: true})
	f := &fixture{Store: server, options: store.Options{Dir: dir}}
	db := f.raw(t)
	version := func() int64 { return number(t, db, `SELECT MAX(version_id) FROM goose_db_version`) }
	newest := version()
	// As a server leaves it that does not know the newest migration.
	if _, err := db.ExecContext(t.Context(), `DELETE FROM goose_db_version WHERE version_id = $1`, newest); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if wantErr(t, "a newer version beside the server", err, store.ErrOlderServer); s != nil {
		t.Error(s.Close())
	}
	if got := version(); got == newest {
		t.Error("the schema was changed underneath a server")
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, TRUE)`, newest); err != nil {
		t.Fatal(err)
	}
	open(t, store.Options{Dir: dir})
}

// TestHeldByAnotherProcess: the lock ends with the process, however that ends.
func TestHeldByAnotherProcess(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: t.TempDir(), Serve: true}
	if store.ServerRunning(o.Dir) {
		t.Error("a server is said to run before there is one")
	}
	server := startChild(t, "hold", o)
	server.line(t)
	_, err := store.Open(t.Context(), o)
	wantErr(t, "a second server", err, store.ErrHeld)
	if !store.ServerRunning(o.Dir) {
		t.Error("the server is said not to run")
	}
	server.kill()
	if store.ServerRunning(o.Dir) {
		t.Error("the killed server is said to run")
	}
	open(t, o)
}

// TestServerRunningDisturbsNoServer: whoever looks whether a server runs holds
// its lock for a moment. A server that starts just then starts all the same.
func TestServerRunningDisturbsNoServer(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: t.TempDir(), Serve: true}
	open(t, store.Options{Dir: o.Dir})
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			for ctx.Err() == nil {
				store.ServerRunning(o.Dir)
			}
		})
	}
	for range 20 {
		s, err := store.Open(t.Context(), o)
		if err != nil {
			t.Errorf("open: %v", err)
			continue
		}
		if !store.ServerRunning(o.Dir) {
			t.Error("the server is said not to run")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	cancel()
	g.Wait()
}

// TestOpenRefuses: one clear error where there is nothing to open, and no
// password in it.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	garbage := t.TempDir()
	for _, name := range []string{file, filepath.Join(garbage, "keystile.db")} {
		if err := os.WriteFile(name, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		o    store.Options
		want error // nil for any
	}{
		{"neither", store.Options{}, nil},
		{"both", store.Options{Dir: t.TempDir(), URL: "postgres://localhost/x"}, nil},
		{"an empty directory that must hold a database", store.Options{Dir: t.TempDir(), MustExist: true}, store.ErrUnavailable},
		{"a file for a directory", store.Options{Dir: file}, store.ErrUnavailable},
		{"a file that is no database", store.Options{Dir: garbage}, nil},
		{"no URL", store.Options{URL: "postgres://u:hunter2@local host:x/"}, store.ErrUnavailable},
		{"nobody listens", store.Options{URL: "postgres://u:hunter2@127.0.0.1:1/x"}, store.ErrUnavailable},
	} {
		s, err := store.Open(t.Context(), c.o)
		if s != nil || err == nil {
			t.Errorf("%s: opened", c.name)
			continue
		}
		if c.want != nil {
			wantErr(t, c.name, err, c.want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows a password: %v", c.name, err)
		}
	}
}
