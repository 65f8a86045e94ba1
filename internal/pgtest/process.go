package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
)

// owner is the unprivileged user that a cluster belongs to: PostgreSQL refuses
// to run as root. A nil owner stands for ourselves.
type owner struct{ uid, gid int }

// runAs returns who is to run PostgreSQL.
func runAs() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			continue
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			continue
		}
		return &owner{uid: uid, gid: gid}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody:" +
		" make one ('useradd --system postgres') or run the tests as another user")
}

// own gives files to the owner.
func (o *owner) own(names ...string) error {
	if o == nil {
		return nil
	}
	for _, name := range names {
		if err := os.Chown(name, o.uid, o.gid); err != nil {
			return fmt.Errorf("giving %s to user %d: %w", name, o.uid, err)
		}
	}
	return nil
}

// attributes make a program run as the owner and end with us.
func (o *owner) attributes() *syscall.SysProcAttr {
	attributes := dieWithParent()
	if o != nil {
		attributes.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return attributes
}

// process is a started program. ended closes when it is gone.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// startProcess starts cmd on a thread that lives as long as the program: Linux
// sends the signal of dieWithParent when the thread that started it ends, not
// the process (prctl(2), PR_SET_PDEATHSIG), and a thread of Go's may end with
// whatever goroutine it serves next.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

func (p *process) pid() int { return p.cmd.Process.Pid }
