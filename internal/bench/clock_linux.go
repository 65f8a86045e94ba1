package bench

import (
	"syscall"
	"time"
	"unsafe"
)

// spent returns how much of a processor this thread has used, so that what
// other programs do at the same time counts as little as it can.
func spent() time.Duration {
	const threadClock = 3 // CLOCK_THREAD_CPUTIME_ID, clock_gettime(2)
	var t syscall.Timespec
	if _, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, threadClock, uintptr(unsafe.Pointer(&t)), 0); failed != 0 {
		return 0
	}
	return time.Duration(t.Nano())
}
