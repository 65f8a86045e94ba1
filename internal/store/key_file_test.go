package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/keystile/keystile/internal/store"
)

// TestWriteKeyFile: made once, replaced whole, and a link stays one.
func TestWriteKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "master.key"), filepath.Join(t.TempDir(), "link")
	holds := func(want string) {
		t.Helper()
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("holds %q, %v; want %q", text, err, want)
		}
	}
	if err := store.WriteKeyFile(path, []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	holds("one")
	if err := store.WriteKeyFile(path, []byte("two"), false); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second first key: %v", err)
	}
	holds("one")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := store.WriteKeyFile(link, []byte("two one"), true); err != nil {
		t.Fatal(err)
	}
	holds("two one")
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is one no more: %v, %v", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := store.WriteKeyFile(filepath.Join(dir, "none", "master.key"), nil, false); err == nil {
		t.Error("written into a directory that is not there")
	}
}
