package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// ErrNoKey is the error of a source that names no place for master keys.
var ErrNoKey = errors.New("seal: no master key is configured")

const (
	// maxText is far more bytes than a box of keys has: a longer text is
	// something else.
	maxText = 64 << 10
	// commandTimeout is for a vault that is asked over a network.
	commandTimeout = 30 * time.Second
)

// Source says where the master keys come from. At most one field is set; the
// zero Source holds none.
type Source struct {
	File    string // path of a file with the keys
	Text    string // the keys themselves, as a variable holds them
	Command string // a command line of the system's shell that prints them
}

// IsZero tells whether no place is named.
func (s Source) IsZero() bool { return s == Source{} }

// String says where the keys come from, and no key.
func (s Source) String() string {
	switch {
	case s.File != "":
		return s.File
	case s.Command != "":
		return "the master key command"
	case s.Text != "":
		return "the variable KEYSTILE_MASTER_KEY"
	}
	return "nowhere"
}

// GoString does so for %#v.
func (s Source) GoString() string { return s.String() }

// Rereadable tells whether another look may find other keys, which the
// variable of a running process never has.
func (s Source) Rereadable() bool { return s.File != "" || s.Command != "" }

// Read reads the keys. It fails with ErrNoKey when no place is named, and with
// fs.ErrNotExist when there is no such file. No error repeats what was read.
func (s Source) Read(ctx context.Context) (*Box, error) {
	text, err := s.text(ctx)
	if err != nil {
		return nil, err
	}
	if len(text) > maxText {
		return nil, fmt.Errorf("%s: it holds more than master keys", s)
	}
	b, err := ParseBox(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return b, nil
}

func (s Source) text(ctx context.Context) ([]byte, error) {
	switch {
	case s.File != "":
		f, err := os.Open(s.File)
		if err != nil {
			return nil, fmt.Errorf("the master key file: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxText+1))
		if err != nil {
			return nil, fmt.Errorf("the master key file: %w", err)
		}
		return text, nil
	case s.Text != "":
		return []byte(s.Text), nil
	case s.Command != "":
		return run(ctx, s.Command)
	}
	return nil, ErrNoKey
}

// run returns what a command line prints. What it says of its errors goes to
// ours.
func run(ctx context.Context, line string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	shell, flag := "/bin/sh", "-c"
	if runtime.GOOS == "windows" {
		shell, flag = "cmd", "/C"
	}
	c := exec.CommandContext(ctx, shell, flag, line) //nolint:gosec // the operator's own command line
	var out bytes.Buffer
	most := &limited{buf: &out}
	c.Stdout, c.Stderr = most, os.Stderr
	c.WaitDelay = time.Second // a child that holds the pipe open is not waited for
	if err := c.Run(); err != nil {
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case most.err != nil: // the exit status is that of a broken pipe
			err = most.err
		}
		return nil, fmt.Errorf("the master key command: %w", err)
	}
	return out.Bytes(), nil
}

// limited takes no more than there can be of keys.
type limited struct {
	buf *bytes.Buffer
	err error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > maxText {
		l.err = errors.New("it prints more than master keys")
		return 0, l.err
	}
	return l.buf.Write(p)
}
