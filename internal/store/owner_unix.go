//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ownLike gives files the owner and group of another one, so that what root
// restores is for the service to open. Someone else than root owns what they
// make; a group that they are not in is no reason to fail, since the owner
// alone may read the files.
func ownLike(like string, paths ...string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	want, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		has, ok := info.Sys().(*syscall.Stat_t)
		if !ok || has.Uid == want.Uid && has.Gid == want.Gid {
			continue
		}
		err = os.Lchown(path, int(want.Uid), int(want.Gid))
		if errors.Is(err, os.ErrPermission) && has.Uid == want.Uid {
			continue
		}
		if err != nil {
			return fmt.Errorf("give %s to the owner of %s: %w", path, like, err)
		}
	}
	return nil
}
