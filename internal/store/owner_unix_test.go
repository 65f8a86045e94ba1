//go:build unix

package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/keystile/keystile/internal/store"
)

// TestRestoreOwner: what is restored belongs to whom the store belonged, or the
// directory where there was none. Only root can restore for another user;
// everyone else is held to their own.
func TestRestoreOwner(t *testing.T) {
	t.Parallel()
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12345, 23456
	}
	from, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	_, err = from.Backup(t.Context(), backup, false)
	if err := errors.Join(err, from.Close()); err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"an empty directory": func(t *testing.T, dir string) {
			if err := os.Chown(dir, uid, gid); err != nil {
				t.Fatal(err)
			}
		},
		"a store": func(t *testing.T, dir string) {
			s, err := store.Open(t.Context(), store.Options{Dir: dir, Serve: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for _, path := range files(t, dir) {
				if err := os.Chown(path, uid, gid); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			prepare(t, dir)
			if _, err := store.Restore(t.Context(), store.Options{Dir: dir}, backup, restored()); err != nil {
				t.Fatal(err)
			}
			all := files(t, dir)
			if len(all) < 3 { // the database and two locks
				t.Errorf("only %q", all)
			}
			for _, path := range all {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				owner, ok := info.Sys().(*syscall.Stat_t)
				if !ok || int(owner.Uid) != uid || int(owner.Gid) != gid || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %+v, mode %v", path, owner, info.Mode())
				}
			}
		})
	}
}

func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestKeyFileOwner: a master key that root writes is for the service to read.
func TestKeyFileOwner(t *testing.T) {
	t.Parallel()
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12345, 23456
	}
	dir := t.TempDir()
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "master.key")
	for i, replace := range []bool{false, true} {
		if err := store.WriteKeyFile(path, []byte{byte(i)}, replace); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(owner.Uid) != uid || int(owner.Gid) != gid || info.Mode().Perm() != 0o600 {
			t.Errorf("replaced %t: %+v, mode %v", replace, owner, info.Mode())
		}
	}
}
