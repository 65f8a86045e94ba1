package store_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
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
