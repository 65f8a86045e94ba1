//go:build linux && (amd64 || arm64)

package pages

import (
	"syscall"
	"unsafe"
)

// reserve returns memory that begins on a large page, or nil. The system is
// asked for large pages (madvise(2), MADV_HUGEPAGE), since it gives none by
// itself in most distributions; what of it they do not fill has small ones.
func reserve(size int) unsafe.Pointer {
	whole := uintptr(size) + Huge
	at, _, failed := syscall.Syscall6(syscall.SYS_MMAP, 0, whole, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE, ^uintptr(0), 0)
	if failed != 0 {
		return nil
	}
	begin := (at + Huge - 1) &^ (Huge - 1)
	end := begin + uintptr(size)
	if begin > at {
		release(at, int(begin-at))
	}
	if rest := at + whole - end; rest > 0 {
		release(end, int(rest))
	}
	// A system without large pages says no, and has given small ones.
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, begin, uintptr(size), syscall.MADV_HUGEPAGE)
	return *(*unsafe.Pointer)(unsafe.Pointer(&begin)) // no address of Go's that could move
}

// release gives memory back. It cannot fail for what was reserved.
func release(at uintptr, size int) {
	_, _, _ = syscall.Syscall(syscall.SYS_MUNMAP, at, uintptr(size), 0)
}
