package store_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keystile/keystile/internal/store"
)

// backup makes a backup of a store and returns its path.
func backup(t testing.TB, s *store.Store) (string, store.Backup) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	b, err := s.Backup(t.Context(), path, false)
	if err != nil {
		t.Fatalf("backup: %v", err)
	}
	return path, b
}

func TestBackup(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addKeys(t, f.Store, 1, 2, 3)
			path, made := backup(t, f.Store)
			if made.Source != d.name || made.Rows["keys"] != 3 || made.Rows["workspaces"] != 2 || made.CreatedAt.IsZero() || made.Schema != store.SchemaVersion() {
				t.Errorf("the backup says of itself %+v", made)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != fs.FileMode(0o600) || info.Size() != made.Size {
				t.Errorf("mode %v, size %d, %v; want 0600 and %d", info.Mode(), info.Size(), err, made.Size)
			}
			_, err := f.Backup(t.Context(), path, false)
			wantErr(t, "a second backup to the same file", err, store.ErrExists)
			addKeysOnly(t, f.Store, 4)
			if again, err := f.Backup(t.Context(), path, true); err != nil || again.Rows["keys"] != 4 {
				t.Errorf("overwriting: %+v, %v", again, err)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if _, err := f.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "backup.db"), false); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a directory that is not there: %v", err)
			}
		})
	}
}

func addKeysOnly(t testing.TB, s *store.Store, numbers ...int) {
	t.Helper()
	write(t, s, func(tx *store.Tx) error {
		for _, n := range numbers {
			if err := tx.InsertKey(key(acme, n)); err != nil {
				return err
			}
		}
		return nil
	})
}

// forgotten are the tables that a backup leaves out and a restore empties:
// nothing in them may outlive the store it was made in. Whoever adds a table
// decides whether it belongs here.
func forgotten() []string {
	return []string{"change_head", "changes", "idempotency", "links", "nodes", "sessions"}
}

// TestBackupTables holds the tables of a backup against those of the schema,
// so that no table of a later version is forgotten.
func TestBackupTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Options{Dir: t.TempDir()})
	_, b := backup(t, f.Store)
	got := append(slices.Collect(maps.Keys(b.Rows)), forgotten()...)
	slices.Sort(got)
	want := texts(t, f.raw(t), `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
		AND name NOT IN ('goose_db_version', 'schema_floor') ORDER BY name`)
	if !slices.Equal(got, want) {
		t.Errorf("kept or left out on purpose: %v\nin the schema: %v", got, want)
	}
}

// TestBackupRefused checks that a file in which anything is missing or changed
// is told from a backup, and that nothing is done with it.
func TestBackupRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Options{Dir: t.TempDir()})
	addKeys(t, f.Store, 1, 2, 3)
	path, _ := backup(t, f.Store)
	own := filepath.Join(f.options.Dir, "keystile.db")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	database, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	edited := func(statements ...string) []byte {
		file := filepath.Join(t.TempDir(), "edited.db")
		if err := os.WriteFile(file, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		edit(t, file, statements...)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	edit(t, foreign, `CREATE TABLE notes (text TEXT)`)
	foreignText, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	// SQLite itself cannot notice that a text is another one.
	changed := bytes.ReplaceAll(whole, []byte("key 2"), []byte("key 9"))
	if bytes.Equal(changed, whole) {
		t.Fatal("the backup holds no key 2")
	}
	for _, c := range []struct {
		name string
		text []byte
		want error
	}{
		{"empty", nil, store.ErrNotBackup},
		{"text", []byte("not a database"), store.ErrNotBackup},
		{"another program's database", foreignText, store.ErrNotBackup},
		{"the database itself", database, store.ErrNotBackup},
		{"cut off", whole[:len(whole)-4096], store.ErrDamaged},
		{"cut off in the header", whole[:60], store.ErrNotBackup},
		{"longer", append(slices.Clone(whole), 0), store.ErrDamaged},
		{"zeroes in the middle", append(append(slices.Clone(whole[:8192]), make([]byte, 8192)...), whole[16384:]...), store.ErrDamaged},
		{"a changed name", changed, store.ErrDamaged},
		{"a row less", edited(`DELETE FROM keys WHERE name = 'key 2'`), store.ErrDamaged},
		{"a description that was changed", edited(`UPDATE backup_info SET value = 0 WHERE name = 'created_at'`), store.ErrDamaged},
		{"a table less", edited(`DROP TABLE audit`), store.ErrDamaged},
		{"a newer schema", edited(describe(t, path, "schema", "9999")...), store.ErrNewerSchema},
		{"a newer form", edited(describe(t, path, "format", "2")...), store.ErrNewerSchema},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.CheckBackup(t.Context(), file)
		wantErr(t, c.name, err, c.want)
		target := filepath.Join(t.TempDir(), "target")
		_, err = store.Restore(t.Context(), store.Options{Dir: target}, file, auditEntry(acme, 99))
		wantErr(t, "restore of "+c.name, err, c.want)
		if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the refused restore made a directory", c.name)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, c.text) {
			t.Errorf("%s: looking at the file changed it", c.name)
		}
	}
	if _, err := store.CheckBackup(t.Context(), filepath.Join(t.TempDir(), "nonesuch")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// edit runs statements on a SQLite file.
func edit(t testing.TB, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// describe makes a backup say something else of itself, with a checksum that
// agrees: the SHA-256 of the sorted lines name=value.
func describe(t testing.TB, path, name, value string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	lines := texts(t, db, `SELECT name || '=' || value FROM backup_info WHERE name NOT IN ('sha256', $1)`, name)
	lines = append(lines, name+"="+value)
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n") + "\n"))
	return []string{
		`UPDATE backup_info SET value = '` + value + `' WHERE name = '` + name + `'`,
		`UPDATE backup_info SET value = '` + hex.EncodeToString(sum[:]) + `' WHERE name = 'sha256'`,
	}
}
