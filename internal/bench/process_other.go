//go:build !linux

package bench

import (
	"errors"
	"fmt"
	"time"
)

// CPU is known on Linux alone; elsewhere the error is [errors.ErrUnsupported].
func CPU(int) (time.Duration, error) {
	return 0, fmt.Errorf("the processor time of another process: %w", errors.ErrUnsupported)
}

// Memory is known on Linux alone; elsewhere the error is [errors.ErrUnsupported].
func Memory(int) (int64, error) {
	return 0, fmt.Errorf("the memory of another process: %w", errors.ErrUnsupported)
}
