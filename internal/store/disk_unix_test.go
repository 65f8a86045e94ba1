//go:build unix

package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/signal"
	"strings"
	"syscall"

	"github.com/keystile/keystile/internal/store"
)

// unwritable takes from this process the right to make files longer, writes,
// and gives it back. The kernel refuses the write of the log at COMMIT with
// EFBIG, which to SQLite is an error of the disk and not a full one.
func unwritable(ctx context.Context, s *store.Store) int {
	signal.Ignore(syscall.SIGXFSZ)
	insert := func(n int, description string) error {
		_, err := s.Write(ctx, func(tx *store.Tx) error {
			k := key(acme, n)
			k.Description = description
			if err := tx.InsertKey(k); err != nil {
				return err
			}
			return tx.LogChange(store.ChangeKey, k.ID)
		})
		return err
	}
	if err := insert(1, ""); err != nil {
		fmt.Println(err)
		return 2
	}
	limit(20_000)
	err := insert(2, strings.Repeat("x", 200_000))
	limit(math.MaxInt64)
	if errors.Is(err, store.ErrUnknownOutcome) {
		fmt.Println("unknown outcome")
	} else {
		fmt.Println("error:", err)
	}
	err = s.Read(ctx, func(tx *store.Tx) error {
		_, err := tx.Key(all(), keyID(2))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		fmt.Println("not there")
	} else {
		fmt.Println("read:", err)
	}
	if err := insert(3, ""); err != nil {
		fmt.Println(err)
		return 2
	}
	fmt.Println("written")
	if err := s.Close(); err != nil {
		fmt.Println(err)
		return 2
	}
	return 0
}

// limit bounds how long this process may make a file, in bytes.
func limit(bytes uint64) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		fmt.Println(err)
	}
	l.Cur = min(bytes, l.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		fmt.Println(err)
	}
}
