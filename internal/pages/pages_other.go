//go:build !linux || (!amd64 && !arm64)

package pages

import "unsafe"

// reserve has nothing to give: arrays are on the heap.
func reserve(int) unsafe.Pointer { return nil }

func release(uintptr, int) {}
