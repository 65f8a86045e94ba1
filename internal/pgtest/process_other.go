//go:build unix && !linux

package pgtest

import "syscall"

// dieWithParent asks for nothing here: only Linux ends a program with its
// parent. [Main] stops the cluster of tests that end in order.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
