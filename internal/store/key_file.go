package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteKeyFile keeps a file beside a store, for its owner alone to read, in one
// step that survives a loss of power: there is the whole file or the one
// before. With replace it takes the place of the one that is there; otherwise
// it fails with ErrExists when there is one. On Unix it gets the owner of the
// one before, or of the directory, so that what root writes is for the service
// to read.
func WriteKeyFile(path string, text []byte, replace bool) (err error) {
	if linked, err := filepath.EvalSymlinks(path); err == nil {
		path = linked // a link stays one
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return fmt.Errorf("write the master key file: %w", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone when all went well
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write the master key file: %w", err)
	}
	like := dir
	if replace {
		like = path
	}
	if err := ownLike(like, tmp.Name()); err != nil {
		return err
	}
	if err := place(tmp.Name(), path, replace); err != nil {
		return err
	}
	return syncFile(dir)
}
