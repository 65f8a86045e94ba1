package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keystile/keystile/internal/pgtest"
)

// databases runs the tests with PostgreSQL at hand.
type databases struct{ m *testing.M }

func (d databases) Run() int { return pgtest.Main(d.m) }

func TestMain(m *testing.M) {
	testscript.Main(databases{m}, map[string]func(){"keystile": main})
}

// TestScript runs the scripts in testdata/script, each with the program in its
// PATH. Beside testscript's own commands they have:
//
//	code N PROGRAM ARGUMENTS…   runs it to its end and checks the exit status
//	misuse ARGUMENTS…           runs keystile, which must end with 2, one line on stderr and no word on stdout
//	await REGEXP PROGRAM …      runs it until a line on stdout matches
//	capture NAME [REGEXP]       puts stdout, or the first group of the expression in it, into a variable
//	serve ARGUMENTS…            starts keystile serve, waits until it listens, and sets KEYSTILE_URL;
//	                            what it prints goes into the file served
//	unserve [SIGNAL]            stops it with INT or TERM, after which it must end with 0;
//	                            what it logged goes into the file served.log
//	freeport NAME               puts a free port of this machine into a variable
//	report FILE KEYS            holds a report of keystile bench against what can be
//	postgres NAME               puts the URL of an empty PostgreSQL database into a variable
//
// The program is as it is released. In the scripts start and bench, where it
// does several things at once, it is this test binary, which may have the race
// detector; that takes five times as long to start, and the others start it
// hundreds of times. A script finds the released one in $RELEASED.
func TestScript(t *testing.T) {
	released := filepath.Join(t.TempDir(), "released")
	build := exec.Command("go", "build", "-o", filepath.Join(released, "keystile"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("HOME", home)
			e.Setenv("RELEASED", released)
			if script := filepath.Base(e.WorkDir); script != "script-start" && script != "script-bench" {
				e.Setenv("PATH", released+string(filepath.ListSeparator)+e.Getenv("PATH"))
			}
			// A program built with the race detector would sleep for a second at its
			// end, so that races of other threads are still told.
			e.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=20"))
			e.Values["server"] = &running{}
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":    code,
			"misuse":  misuse,
			"await":   await,
			"capture": capture,
			"serve":   serve,
			"unserve": unserve,
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], freePort(ts))
			},
			"report": report,
			"postgres": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], pgtest.New(t))
			},
		},
	})
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if want := args[0]; fmt.Sprint(got) != want {
		ts.Fatalf("%s ended with %d, want %s", args[1], got, want)
	}
}

func misuse(ts *testscript.TestScript, _ bool, args []string) {
	code(ts, false, append([]string{"2", "keystile"}, args...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("a mistake printed to stdout: %q", out)
	}
	line, isLine := strings.CutSuffix(ts.ReadFile("stderr"), "\n")
	if !isLine || !strings.HasPrefix(line, "keystile: ") || strings.Contains(line, "\n") {
		ts.Fatalf("a mistake must be told in one line, not %q", line)
	}
}

func capture(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) > 1 {
		found := regexp.MustCompile(args[1]).FindStringSubmatch(text)
		if found == nil {
			ts.Fatalf("stdout does not match %q", args[1])
		}
		text = found[1]
	}
	ts.Setenv(args[0], text)
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	line := regexp.MustCompile(`(?m)` + args[0])
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if line.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no line matched %q", args[0])
		}
	}
}

func freePort(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Check(l.Close())
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	return port
}

// running is the server of a script.
type running struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	copied chan struct{} // closed when all of its stdout is in the file
}

func serve(ts *testscript.TestScript, _ bool, args []string) {
	r, _ := ts.Value("server").(*running)
	if r.cmd != nil {
		ts.Fatalf("a server is running already")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	ts.Defer(cancel)
	r.cmd = exec.CommandContext(ctx, lookPath(ts, "keystile"), append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	r.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "GORACE", "KEYSTILE_DATABASE", "KEYSTILE_DATA", "KEYSTILE_CONFIG"} {
		if value := ts.Getenv(name); value != "" {
			r.cmd.Env = append(r.cmd.Env, name+"="+value)
		}
	}
	r.stderr.Reset()
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	ts.Check(err)
	file, err := os.Create(ts.MkAbs("served"))
	ts.Check(err)
	ts.Check(r.cmd.Start())
	ts.Defer(func() {
		if r.cmd != nil { // the script failed
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})

	lines := bufio.NewReader(stdout)
	first, err := lines.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(first), "Keystile listens on ")
	if err != nil || !ok {
		_ = r.cmd.Wait()
		ts.Fatalf("keystile serve: %q, %v\n%s", first, err, r.stderr.String())
	}
	ts.Setenv("KEYSTILE_URL", url)
	_, err = file.WriteString(first)
	ts.Check(err)
	r.copied = make(chan struct{})
	go func() {
		defer close(r.copied)
		defer file.Close()
		_, _ = io.Copy(file, lines)
	}()
}

func unserve(ts *testscript.TestScript, _ bool, args []string) {
	r, _ := ts.Value("server").(*running)
	signal := syscall.SIGTERM
	if len(args) > 0 && args[0] == "INT" {
		signal = syscall.SIGINT
	}
	ts.Check(r.cmd.Process.Signal(signal))
	<-r.copied
	err := r.cmd.Wait()
	ts.Logf("[server]\n%s", r.stderr.String())
	ts.Check(os.WriteFile(ts.MkAbs("served.log"), r.stderr.Bytes(), 0o600))
	r.cmd = nil
	if err != nil {
		ts.Fatalf("the server did not end in good order: %v", err)
	}
}

// lookPath finds a program in the script's PATH.
func lookPath(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
			return filepath.Join(dir, name)
		}
	}
	ts.Fatalf("no %s in PATH", name)
	return ""
}
