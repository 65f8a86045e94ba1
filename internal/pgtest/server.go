package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// install is what to say when PostgreSQL is missing.
const install = "PostgreSQL's server programs (initdb, postgres) are not installed: run" +
	" 'apt-get install -y postgresql', or set " + Variable + " to the URL of a server" +
	" (postgres://user:password@host:port/postgres) whose user may create databases"

const (
	startTimeout = 60 * time.Second // of a cluster; a busy machine needs some
	stopTimeout  = 20 * time.Second
	startTries   = 3 // a free port may be taken before the server binds it
)

// settings make a cluster fast and say nothing about how Keystile must be run:
// what the tests write need not survive a crash of the machine.
func settings(dir string, port int) string {
	return fmt.Sprintf(`
listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = '%s'
max_connections = 300
shared_buffers = 64MB
fsync = off
full_page_writes = off
synchronous_commit = on
wal_level = replica
max_wal_senders = 4
autovacuum_naptime = 10min
timezone = 'UTC'
log_min_messages = warning
`, port, dir)
}

// Server is a PostgreSQL cluster of the tests' own, in a directory of its own.
type Server struct {
	bin      string // directory of initdb and postgres
	dir      string // holds data, socket and log; removed at the end
	lock     *os.File
	owner    *owner // who runs it, nil for ourselves
	port     int
	password string
	process  *process // nil while stopped
}

// URL is where the cluster's superuser reaches a database, over TCP.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Stop ends the server at once, as a crash would: every connection breaks and
// new ones are refused. What was committed is there after [Server.Start].
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Fatalf("stopping PostgreSQL: %v", err)
	}
}

// Start starts a stopped server again, on the same port with the same data.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if s.process != nil {
		return
	}
	if err := s.launch(); err != nil {
		t.Fatalf("starting PostgreSQL again: %v", err)
	}
}

// start makes a new cluster and waits until it answers.
func start() (*Server, error) {
	bin, err := programs(debianPrograms)
	if err != nil {
		return nil, err
	}
	who, err := runAs()
	if err != nil {
		return nil, err
	}
	removeLeftovers()
	s := &Server{bin: bin, owner: who, password: rand.Text()}
	if err := s.create(); err != nil {
		s.remove()
		return nil, err
	}
	for try := 1; ; try++ {
		if s.port, err = freePort(); err != nil {
			break
		}
		if err = s.configure(); err != nil {
			break
		}
		if err = s.launch(); err == nil || try == startTries {
			break
		}
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// debianPrograms is where Debian and its children put the programs of each
// major version, out of PATH.
const debianPrograms = "/usr/lib/postgresql/*/bin"

// programs returns the directory that holds initdb and postgres: the one in
// PATH, else the newest among those that match the pattern.
func programs(pattern string) (string, error) {
	if found, err := exec.LookPath("initdb"); err == nil {
		// Debian's wrappers and links lead to a directory that has both.
		if target, err := filepath.EvalSymlinks(found); err == nil && hasPrograms(filepath.Dir(target)) {
			return filepath.Dir(target), nil
		}
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	best, newest := "", -1
	for _, dir := range found {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && version > newest && hasPrograms(dir) {
			best, newest = dir, version
		}
	}
	if best == "" {
		return "", errors.New(install)
	}
	return best, nil
}

func hasPrograms(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

const directoryPrefix = "keystile-pgtest-"

// create makes the directory and the empty cluster in it.
func (s *Server) create() error {
	dir, err := os.MkdirTemp("", directoryPrefix)
	if err != nil {
		return err
	}
	s.dir = dir
	if s.lock, err = newLock(dir); err != nil {
		return err
	}
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.owner.own(dir, secret); err != nil {
		return err
	}
	// md5 rather than scram: this password guards a throw-away cluster on the
	// loopback, and scram costs milliseconds a connection.
	cmd := exec.Command(filepath.Join(s.bin, "initdb"),
		"--pgdata", s.data(), "--username", "postgres", "--pwfile", secret,
		"--auth-local", "trust", "--auth-host", "md5",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir = dir
	cmd.Env = s.environment()
	cmd.SysProcAttr = s.owner.attributes()
	runtime.LockOSThread() // see startProcess
	defer runtime.UnlockOSThread()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, tail(string(out)))
	}
	return os.Remove(secret)
}

// environment leaves out what PostgreSQL's programs would read of the caller's
// own settings, such as PGDATA.
func (s *Server) environment() []string {
	return []string{"PATH=" + s.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + s.dir}
}

// strategy is how a new database is best made here: by copying the template's
// files, which where nothing is synced takes half the time of writing them
// through the log. Before version 15 there is no other way, nor a name for it.
func (s *Server) strategy() string {
	text, err := os.ReadFile(filepath.Join(s.data(), "PG_VERSION"))
	if err != nil {
		return ""
	}
	if version, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || version < 15 {
		return ""
	}
	return " STRATEGY file_copy"
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) configure() error {
	name := filepath.Join(s.data(), "postgresql.auto.conf")
	if err := os.WriteFile(name, []byte(settings(s.dir, s.port)), 0o600); err != nil {
		return err
	}
	return s.owner.own(name)
}

// launch starts the server process and waits until it answers.
func (s *Server) launch() error {
	log := filepath.Join(s.dir, "log")
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data())
	cmd.Dir = s.dir
	cmd.Env = s.environment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = s.owner.attributes()
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	s.process = p
	if err := s.await(); err != nil {
		text, _ := os.ReadFile(log)
		return errors.Join(fmt.Errorf("%w\n%s", err, tail(string(text))), s.stop())
	}
	return nil
}

// await returns when the server answers a query, or cannot any more.
func (s *Server) await() error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.ping()
		if err == nil {
			return nil
		}
		select {
		case <-s.process.ended:
			return errors.New("PostgreSQL ended while it started")
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not answer after %s: %w", startTimeout, err)
		}
	}
}

func (s *Server) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// stop ends the process. SIGQUIT is PostgreSQL's immediate shutdown: no
// checkpoint, children and shared memory gone.
func (s *Server) stop() error {
	p := s.process
	if p == nil {
		return nil
	}
	s.process = nil
	_ = p.signal(syscall.SIGQUIT) // fails when it has ended, which ended tells
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTimeout):
	}
	_ = p.signal(syscall.SIGKILL)
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("process %d does not end", p.pid())
	}
}

// remove ends the server and deletes its files. Nothing can be done where that
// fails; the next start tries again.
func (s *Server) remove() {
	_ = s.stop()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// removeLeftovers deletes the directories of test binaries that were killed:
// those whose lock nobody holds any more.
func removeLeftovers() {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), directoryPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		lock, err := lockDirectory(dir)
		if err != nil {
			continue // held by a living test, or just being made
		}
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
}

const lockName = "lock"

// lockDirectory takes the lock of a killed test's directory. It fails when a
// living process holds it. The lock ends with the process that holds it.
func lockDirectory(dir string) (*os.File, error) {
	return lockFile(filepath.Join(dir, lockName), os.O_RDWR)
}

// newLock makes a lock and takes it before anybody can find it by its name.
func newLock(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	f, err := lockFile(name+".new", os.O_CREATE|os.O_EXCL|os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(name+".new", name); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func lockFile(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	return f, nil
}

// freePort asks the kernel for a port that nobody listens on just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	return int(at.Port()), errors.Join(err, l.Close())
}

// tail returns the last lines of a program's output.
func tail(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}
