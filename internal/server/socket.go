package server

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// listenUnix makes a socket that the owner and the group may use. A socket
// left behind by a killed server is replaced, one that answers is not, and none
// that may have somebody behind it.
func listenUnix(path string) (net.Listener, error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return nil, errors.New("another process answers there")
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("it belongs to somebody else, or its directory does")
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errors.New("another process listens there, and is slow to answer")
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, errors.New("there is a file of this name that is no socket")
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // the group is whom the socket is for
		return nil, errors.Join(err, l.Close())
	}
	return socket{l}, nil
}

// socket is a listener whose peers have no names. A client on a unix socket may
// give itself any path for one, and "192.0.2.1:80" is a path.
type socket struct{ net.Listener }

func (s socket) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if unix, ok := c.(*net.UnixConn); ok {
		c = nameless{unix}
	}
	return c, err
}

type nameless struct{ *net.UnixConn }

// RemoteAddr implements net.Conn.
func (nameless) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "@", Net: "unix"} }
