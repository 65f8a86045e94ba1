package pgtest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// StartPair makes a primary and a standby that follows it by streaming
// replication, both of this test alone. With synchronous, a commit on the
// primary waits for the standby to have it on disk.
func StartPair(t testing.TB, synchronous bool) (primary, standby *Server) {
	t.Helper()
	primary = Start(t)
	standby, err := primary.follow()
	if err != nil {
		t.Fatalf("a standby for the test: %v", err)
	}
	t.Cleanup(standby.remove)
	if synchronous {
		for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"} {
			if err := execute(primary.URL("postgres"), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	return primary, standby
}

// follow makes a standby of a server and waits until it answers.
func (s *Server) follow() (*Server, error) {
	dir, err := os.MkdirTemp("", directoryPrefix)
	if err != nil {
		return nil, err
	}
	// The standby has the primary's password, since it has all that is in it.
	f := &Server{bin: s.bin, owner: s.owner, password: s.password, dir: dir}
	if err := f.copyOf(s); err != nil {
		f.remove()
		return nil, err
	}
	return f, nil
}

func (s *Server) copyOf(primary *Server) (err error) {
	if s.lock, err = newLock(s.dir); err != nil {
		return err
	}
	if err := s.owner.own(s.dir); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "pg_basebackup"),
		"--pgdata", s.data(), "--dbname", primary.URL(""), "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	cmd.Dir = s.dir
	cmd.Env = s.environment()
	cmd.SysProcAttr = s.owner.attributes()
	runtime.LockOSThread() // see startProcess
	out, err := cmd.CombinedOutput()
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, tail(string(out)))
	}
	for try := 1; ; try++ {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err := s.configureStandby(primary); err != nil {
			return err
		}
		if err = s.launch(); err == nil || try == startTries {
			return err
		}
	}
}

func (s *Server) configureStandby(primary *Server) error {
	if err := s.configure(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "primary_conninfo = 'host=127.0.0.1 port=%d user=postgres password=%s sslmode=disable application_name=standby'\n",
		primary.port, primary.password)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	signal := filepath.Join(s.data(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	return s.owner.own(signal)
}

// Promote makes a primary of a standby, and returns when it takes writes.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	if err := execute(s.URL("postgres"), "SELECT pg_promote(true, 60)"); err != nil {
		t.Fatalf("promoting the standby: %v", err)
	}
	for end := time.Now().Add(startTimeout); ; <-time.After(20 * time.Millisecond) {
		err := execute(s.URL("postgres"), "CREATE TEMPORARY TABLE promoted ()")
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the standby takes no writes after it was promoted: %v", err)
		}
	}
}

// URLOf is where a database is reached that one of several servers has.
func URLOf(database string, servers ...*Server) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", servers[0].password), Path: "/" + database, RawQuery: "sslmode=disable"}
	for i, s := range servers {
		if i > 0 {
			u.Host += ","
		}
		u.Host += net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	}
	return u.String()
}
