//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keystile/keystile/internal/bench"
)

// peer is one way to guard a service by keys.
type peer struct {
	name    string
	address string
	pids    []int // its processes; what they have started counts too
	request func(to []byte, key string) []byte
	// refuses tells whether an answer refuses the key; nil where none is checked.
	refuses func(a bench.Answer) bool
	// revoke takes a key away, and returns when that is said to be done.
	revoke func(ctx context.Context, n int) error
}

// stage holds what has been started.
type stage struct {
	ctx      context.Context //nolint:containedctx // one run, from beginning to end
	dir      string
	keystile string // the program
	modules  string // directory of better-auth.mjs and its node_modules
	server   *bench.Server
	running  []*bench.Program
	say      func(string)
}

// stop ends everything, the last first.
func (s *stage) stop() {
	for _, p := range slices.Backward(s.running) {
		p.Stop()
	}
}

func (s *stage) start(cmd *exec.Cmd) (*bench.Program, error) {
	p, err := bench.Start(s.ctx, cmd)
	if err == nil {
		s.running = append(s.running, p)
	}
	return p, err
}

// get is a request to a guarded service.
func get(to []byte, key string) []byte { return bench.Request(to, "GET", "/hello", key, "") }

func unauthorized(a bench.Answer) bool { return a.Status == http.StatusUnauthorized }

// own starts this program as one of its servers.
func (s *stage) own(name string, arguments ...string) (peer, error) {
	self, err := os.Executable()
	if err != nil {
		return peer{}, err
	}
	return s.listening(exec.Command(self, append([]string{"serve-" + name}, arguments...)...)) //nolint:gosec // itself
}

// listening starts a server that says where it listens.
func (s *stage) listening(cmd *exec.Cmd) (peer, error) {
	p, err := s.start(cmd)
	if err != nil {
		return peer{}, err
	}
	address, err := p.Line(s.ctx, peerListens)
	return peer{address: address, pids: []int{p.PID()}, request: get, refuses: unauthorized}, err
}

func (s *stage) hello() (peer, error) {
	p, err := s.own("hello")
	p.name, p.refuses = "net/http hello, which checks nothing", nil
	return p, err
}

func (s *stage) asServer() (peer, error) {
	return peer{
		name: "**Keystile**, `POST /v1/verify`", address: s.server.Address, pids: []int{s.server.PID()}, revoke: s.revokeOurs,
		request: func(to []byte, key string) []byte {
			return bench.Request(to, "POST", "/v1/verify", s.server.Verifier, `{"key":"`+key+`","permission":"read"}`)
		},
		refuses: func(a bench.Answer) bool {
			return a.Status == http.StatusOK && bytes.Contains(a.Body, []byte(`"valid":false`))
		},
	}, nil
}

func (s *stage) revokeOurs(ctx context.Context, n int) error {
	_, err := s.server.Call(ctx, "POST", "/v1/keys/"+s.server.IDs[n]+"/revoke", "", nil)
	return err
}

func (s *stage) verifier() (peer, error) {
	p, err := s.own("verifier", "http://"+s.server.Address, s.server.Operator)
	p.name, p.revoke = "**Keystile**, Verifier in the service's process", s.revokeOurs
	p.pids = append(p.pids, s.server.PID())
	return p, err
}

func (s *stage) postgres() (peer, error) {
	initdb, err := program("initdb")
	if err != nil {
		return peer{}, err
	}
	dir := filepath.Join(s.dir, "postgres")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return peer{}, err
	}
	var attributes *syscall.SysProcAttr
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		if attributes, err = nobody(); err != nil {
			return peer{}, err
		}
		if err := os.Chown(dir, int(attributes.Credential.Uid), int(attributes.Credential.Gid)); err != nil {
			return peer{}, err
		}
	}
	data := filepath.Join(dir, "data")
	prepare := exec.CommandContext(s.ctx, initdb, "-D", data, "-U", "bench", "-A", "trust", "--no-sync") //nolint:gosec // found on this machine
	prepare.SysProcAttr, prepare.Dir = attributes, dir
	if out, err := prepare.CombinedOutput(); err != nil {
		return peer{}, fmt.Errorf("initdb: %w: %s", err, out)
	}
	address, err := free()
	if err != nil {
		return peer{}, err
	}
	host, port, _ := net.SplitHostPort(address)
	run := exec.Command(filepath.Join(filepath.Dir(initdb), "postgres"), //nolint:gosec // as above
		"-D", data, "-h", host, "-p", port, "-k", dir)
	run.SysProcAttr, run.Dir = attributes, dir
	database, err := s.start(run)
	if err != nil {
		return peer{}, err
	}
	url := "postgres://bench@" + address + "/postgres?sslmode=disable"
	c, err := connect(s.ctx, url)
	if err != nil {
		return peer{}, err
	}
	defer func() { _ = c.Close(s.ctx) }()
	if _, err := c.Exec(s.ctx, "CREATE TABLE api_keys (hash bytea PRIMARY KEY, revoked boolean NOT NULL DEFAULT false)"); err != nil {
		return peer{}, err
	}
	if _, err := c.CopyFrom(s.ctx, pgx.Identifier{"api_keys"}, []string{"hash"}, pgx.CopyFromSlice(len(s.server.Secrets), func(i int) ([]any, error) {
		h := sha256.Sum256([]byte(s.server.Secrets[i]))
		return []any{h[:]}, nil
	})); err != nil {
		return peer{}, err
	}
	if _, err := c.Exec(s.ctx, "ANALYZE api_keys"); err != nil {
		return peer{}, err
	}
	p, err := s.own("postgres", url)
	p.name = "net/http middleware of 40 lines, PostgreSQL by pgx"
	p.pids = append(p.pids, database.PID())
	p.revoke = func(ctx context.Context, n int) error {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close(ctx) }()
		h := sha256.Sum256([]byte(s.server.Secrets[n]))
		_, err = c.Exec(ctx, "UPDATE api_keys SET revoked = true WHERE hash = $1", h[:])
		return err
	}
	return p, err
}

// connect waits until the database answers.
func connect(ctx context.Context, url string) (c *pgx.Conn, err error) {
	for range 600 {
		if c, err = pgx.Connect(ctx, url); err == nil {
			return c, nil
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	return nil, fmt.Errorf("PostgreSQL does not answer: %w", err)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stage) betterAuth(journal, name string) (peer, error) {
	node := exec.Command("node", filepath.Join(s.modules, "better-auth.mjs"), filepath.Join(s.dir, "better-auth-"+journal+".db"), journal) //nolint:gosec // a file of ours
	node.Stdin = strings.NewReader(strings.Join(s.server.Secrets, "\n"))
	p, err := s.listening(node)
	p.name = name
	p.revoke = func(ctx context.Context, n int) error {
		return once(ctx, p.address, bench.Request(nil, "DELETE", "/hello", s.server.Secrets[n], ""), func(a bench.Answer) error {
			if a.Status != http.StatusOK {
				return fmt.Errorf("better-auth did not take the key away: status %d", a.Status)
			}
			return nil
		})
	}
	return p, err
}

// once sends one request on a connection of its own.
func once(ctx context.Context, address string, request []byte, check func(bench.Answer) error) error {
	_, err := bench.Load{
		Network: "tcp", Address: address, Connections: 1, Requests: 1,
		Request: func(to []byte, _ int) []byte { return append(to, request...) },
		Check:   func(_ int, a bench.Answer) error { return check(a) },
	}.Run(ctx)
	return err
}

// nginxMap has the keys in a map of the configuration. It compares them without
// regard to case, as maps of nginx do.
func (s *stage) nginxMap() (peer, error) {
	write := func(without int) error {
		var b strings.Builder
		for i, key := range s.server.Secrets {
			if i != without {
				b.WriteString(`"Bearer ` + key + "\" 1;\n")
			}
		}
		return os.WriteFile(filepath.Join(s.dir, "keys.map"), []byte(b.String()), 0o600)
	}
	if err := write(-1); err != nil {
		return peer{}, err
	}
	p, reload, err := s.nginx("map", `map_hash_max_size 262144; map_hash_bucket_size 128;
map $http_authorization $good { default 0; include `+s.dir+`/keys.map; }
server { listen ADDRESS; location / { if ($good = 0) { return 401 "no"; } return 200 "hello"; } }`)
	p.name = "nginx, keys in a static `map`"
	p.revoke = func(_ context.Context, n int) error {
		if err := write(n); err != nil {
			return err
		}
		return reload()
	}
	return p, err
}

// nginxForward asks our forward-auth before it hands out a file.
func (s *stage) nginxForward() (peer, error) {
	if err := os.WriteFile(filepath.Join(s.dir, "hello"), []byte("hello"), 0o600); err != nil {
		return peer{}, err
	}
	p, _, err := s.nginx("forward", `open_file_cache max=10;
upstream keystile { server `+s.server.Address+`; keepalive 64; keepalive_requests 1000000000; }
server { listen ADDRESS; root `+s.dir+`;
location / { auth_request /_keystile; }
location = /_keystile { internal; proxy_pass http://keystile/v1/forward-auth?permission=read; proxy_http_version 1.1;
proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr; proxy_pass_request_body off; proxy_set_header Content-Length ""; } }`)
	p.name = "**Keystile**, forward-auth behind nginx"
	p.pids, p.revoke = append(p.pids, s.server.PID()), s.revokeOurs
	return p, err
}

// nginx starts one, and returns how it reads its configuration again.
func (s *stage) nginx(name, http string) (peer, func() error, error) {
	path, err := program("nginx")
	if err != nil {
		return peer{}, nil, err
	}
	address, err := free()
	if err != nil {
		return peer{}, nil, err
	}
	dir := filepath.Join(s.dir, "nginx-"+name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return peer{}, nil, err
	}
	text := "daemon off; worker_processes auto; pid " + dir + "/pid; error_log stderr warn;\n"
	if os.Getuid() == 0 {
		text += "user root;\n" // the files are its own
	}
	text += "events {}\nhttp { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += kind + "_temp_path " + dir + "/" + kind + ";\n"
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text+strings.ReplaceAll(http, "ADDRESS", address)+"\n}\n"), 0o600); err != nil {
		return peer{}, nil, err
	}
	run, err := s.start(exec.Command(path, "-p", dir, "-c", file, "-e", "stderr")) //nolint:gosec // found on this machine
	if err != nil {
		return peer{}, nil, err
	}
	reload := func() error {
		out, err := exec.CommandContext(s.ctx, path, "-p", dir, "-c", file, "-e", "stderr", "-s", "reload").CombinedOutput() //nolint:gosec // as above
		if err != nil {
			return fmt.Errorf("nginx does not reload: %w: %s", err, out)
		}
		return nil
	}
	p := peer{address: address, pids: []int{run.PID()}, request: get, refuses: unauthorized}
	for range 300 {
		c, err := new(net.Dialer).DialContext(s.ctx, "tcp", address)
		if err == nil {
			_ = c.Close()
			return p, reload, nil
		}
		if err := wait(s.ctx, 100*time.Millisecond); err != nil {
			return p, nil, err
		}
	}
	return p, nil, errors.New("nginx does not listen: " + run.Said())
}

// free is an address that nothing listens on.
func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// program finds a program where Debian puts it, too.
func program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	places, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	slices.SortFunc(places, func(a, b string) int { return version(b) - version(a) })
	for _, path := range append(places, "/usr/sbin/"+name) {
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// nobody is who PostgreSQL runs as when this program is root.
func nobody() (*syscall.SysProcAttr, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody: run this as another user")
}
