//go:build linux

// Command peers measures Keystile beside what people would use instead: each is
// started on this machine, gets the same keys and the same load, in turns, and
// the table is written into docs/performance.md.
//
//	go run ./bench/peers
//
// It needs nginx, PostgreSQL's server programs, node and npm, and says which of
// them is missing. Whatever it starts ends with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/keystile/keystile/internal/bench"
)

const page = "docs/performance.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) > 0 && arguments[0] == "serve-hello":
		err = serve(ctx, http.HandlerFunc(hello))
	case len(arguments) == 2 && arguments[0] == "serve-postgres":
		err = servePostgres(ctx, arguments[1])
	case len(arguments) == 3 && arguments[0] == "serve-verifier":
		err = serveVerifier(ctx, arguments[1], arguments[2])
	default:
		err = compare(ctx, arguments)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

// options of the command line.
type options struct {
	keys, rounds int
	modules      string
	out          string
}

// parse reads the command line.
func parse(arguments []string) (o options, err error) {
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	var said strings.Builder
	flags.SetOutput(&said)
	flags.IntVar(&o.keys, "keys", 10_000, "keys that each gets, 100 or more")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds, each of which measures every one for about a second")
	flags.StringVar(&o.modules, "modules", "", "directory with node_modules of bench/peers/package-lock.json;\nwithout it npm ci makes one in the user's cache, once")
	flags.StringVar(&o.out, "out", page, "page with the marks between which the table goes;\n- for standard output")
	flags.Usage = func() {
		fmt.Fprint(&said, "usage: go run ./bench/peers [flags]\n\n"+
			"Measures Keystile beside what people would use instead, all started on this\n"+
			"machine and ended again, and writes the table into a page.\n\n")
		flags.PrintDefaults()
	}
	switch err := flags.Parse(arguments); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(said.String())
		return o, err
	case err != nil:
		return o, fmt.Errorf("%w; go run ./bench/peers -h names the flags", err)
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %s; go run ./bench/peers -h names the flags", flags.Arg(0))
	case o.keys < 100 || o.rounds < 1:
		return o, errors.New("it takes at least 100 keys and one round")
	}
	return o, nil
}

// ready finds out before anything is measured whether the table can be written.
func (o options) ready() error {
	if o.out == "-" {
		return nil
	}
	old, err := os.ReadFile(o.out)
	if err != nil {
		return err
	}
	if _, err := between(string(old), ""); err != nil {
		return fmt.Errorf("%s: %w", o.out, err)
	}
	f, err := os.OpenFile(o.out, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// compare starts all, measures them and writes the table.
func compare(ctx context.Context, arguments []string) (err error) {
	var o options
	if o, err = parse(arguments); errors.Is(err, flag.ErrHelp) {
		return nil // it has been printed
	} else if err != nil {
		return err
	}
	if err := missing(); err != nil {
		return err
	}
	if err := o.ready(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1) // the load is one client thread
	s := &stage{ctx: ctx, say: func(text string) { fmt.Fprintln(os.Stderr, text) }}
	if s.dir, err = os.MkdirTemp("", "keystile-peers-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	defer s.stop()
	if err := os.Chmod(s.dir, 0o711); err != nil { //nolint:gosec // PostgreSQL runs as another user and has a place in it
		return err
	}
	if s.modules, err = install(ctx, o.modules); err != nil {
		return err
	}
	peers, err := s.open(o.keys)
	if err != nil {
		return err
	}
	rows, err := s.measure(peers, o.rounds)
	if err != nil {
		return err
	}
	if err := s.forget(peers, rows); err != nil {
		return err
	}
	return write(o, table(rows, o))
}

// missing says what has to be installed before anything is started.
func missing() error {
	var all []string
	for _, name := range []string{"nginx", "initdb", "node", "npm", "go"} {
		if _, err := program(name); err != nil {
			all = append(all, name)
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("not installed: %s; on Debian: apt-get install nginx postgresql nodejs npm", strings.Join(all, ", "))
	}
	if _, err := os.Stat(filepath.Join("bench", "peers", "better-auth.mjs")); err != nil {
		return errors.New("run it in the root of the repository: go run ./bench/peers")
	}
	return nil
}

// install returns a directory with better-auth and what it needs. The database
// driver is compiled, which takes a minute, so it is kept.
func install(ctx context.Context, given string) (string, error) {
	from := filepath.Join("bench", "peers")
	dir := given
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "keystile-peers")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	lock, err := os.ReadFile(filepath.Join(from, "package-lock.json"))
	if err != nil {
		return "", err
	}
	kept, _ := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	_, err = os.Stat(filepath.Join(dir, "node_modules", "better-sqlite3", "build", "Release", "better_sqlite3.node"))
	whole := err == nil && slices.Equal(lock, kept)
	for _, name := range []string{"package.json", "better-auth.mjs", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600) //nolint:gosec // a directory that the caller names
		}
		if err != nil {
			return "", err
		}
	}
	if whole {
		return dir, nil
	}
	fmt.Fprintln(os.Stderr, "installing better-auth with npm ci into "+dir+", once")
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error") //nolint:gosec // a fixed command
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %s", err, out)
	}
	return dir, nil
}

// open starts everything.
func (s *stage) open(keys int) (peers []peer, err error) {
	s.say("building keystile")
	s.keystile = filepath.Join(s.dir, "keystile")
	if out, err := exec.CommandContext(s.ctx, "go", "build", "-o", s.keystile, "./cmd/keystile").CombinedOutput(); err != nil { //nolint:gosec // our own program
		return nil, fmt.Errorf("build keystile: %w: %s", err, out)
	}
	if s.server, err = bench.Serve(s.ctx, s.keystile, filepath.Join(s.dir, "data"), keys, s.say, "--trusted-proxy", "127.0.0.1"); err != nil {
		return nil, err
	}
	s.running = append(s.running, s.server.Program)
	for _, start := range []func() (peer, error){
		s.hello, s.verifier, s.asServer, s.nginxMap, s.nginxForward, s.postgres,
		func() (peer, error) { return s.betterAuth("wal", "better-auth api-key, SQLite with WAL") },
		func() (peer, error) { return s.betterAuth("plain", "better-auth api-key, SQLite as it comes") },
	} {
		p, err := start()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
		s.say("started: " + p.name)
		peers = append(peers, p)
	}
	return peers, nil
}
