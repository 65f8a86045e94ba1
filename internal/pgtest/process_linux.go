package pgtest

import "syscall"

// dieWithParent makes the kernel end the program when we are killed, with the
// signal that PostgreSQL takes as an immediate shutdown.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
}
