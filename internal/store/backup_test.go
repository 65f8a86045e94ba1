package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/keystile/keystile/internal/store"
)

// TestBackupFile makes a backup of an empty store, and refuses it once
// anything of it is missing or changed.
func TestBackupFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := store.Open(ctx, store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	path := filepath.Join(t.TempDir(), "backup.db")
	made, err := s.Backup(ctx, path, false)
	if err != nil {
		t.Fatal(err)
	}
	if made.Source != "sqlite" || made.Rows["settings"] != 1 || made.CreatedAt.IsZero() {
		t.Errorf("the backup says of itself %+v", made)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := s.Backup(ctx, path, false); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second backup to the same file: %v; want ErrExists", err)
	}
	if _, err := s.Backup(ctx, path, true); err != nil {
		t.Errorf("overwriting: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		text []byte
		want error
	}{
		{"empty", nil, store.ErrNotBackup},
		{"other", []byte("not a database"), store.ErrNotBackup},
		{"cut off", whole[:len(whole)-4096], store.ErrDamaged},
		{"longer", append(append([]byte(nil), whole...), 0), store.ErrDamaged},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.CheckBackup(ctx, file); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", c.name, err, c.want)
		}
	}
}
