package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keystile/keystile/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func connect(t *testing.T, target string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func ask[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	var answer T
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

func TestNewGivesEachTestADatabase(t *testing.T) {
	first, second := connect(t, pgtest.New(t)), connect(t, pgtest.New(t))
	if _, err := first.Exec(t.Context(), "CREATE TABLE mine (n int)"); err != nil {
		t.Fatal(err)
	}
	const seen = "SELECT count(*) FROM pg_class WHERE relname = 'mine'"
	if n := ask[int](t, first, seen); n != 1 {
		t.Errorf("the first database has %d tables of that name, want 1", n)
	}
	if n := ask[int](t, second, seen); n != 0 {
		t.Errorf("the second database has %d tables of that name, want 0", n)
	}
	if version := ask[int](t, first, "SELECT current_setting('server_version_num')::int"); version < 150000 {
		t.Errorf("server version %d, Keystile needs 15 or newer", version)
	}
}

func TestNewDropsItsDatabase(t *testing.T) {
	var name string
	t.Run("uses one and leaves a connection open", func(t *testing.T) {
		target := pgtest.New(t)
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		name = strings.TrimPrefix(u.Path, "/")
		conn, err := pgx.Connect(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask[string](t, conn, "SELECT current_database()"); got != name {
			t.Fatalf("connected to %q, the URL says %q", got, name)
		}
	})
	other := connect(t, pgtest.New(t))
	if n := ask[int](t, other, "SELECT count(*) FROM pg_database WHERE datname = $1", name); n != 0 {
		t.Errorf("database %s is still there", name)
	}
}

func TestNewOnANamedServer(t *testing.T) {
	server := pgtest.Start(t)
	t.Setenv(pgtest.Variable, server.URL("postgres"))
	target := pgtest.New(t)
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	named, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if u.Host != named.Host {
		t.Errorf("the database is on %s, want the named server %s", u.Host, named.Host)
	}
	if got := ask[string](t, connect(t, target), "SELECT current_database()"); !strings.HasPrefix(got, "keystile_test_") {
		t.Errorf("database %q", got)
	}
}

func TestServerStopsAndStarts(t *testing.T) {
	server := pgtest.Start(t)
	target := server.URL("postgres")
	conn := connect(t, target)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the old connection survived the stop")
	}
	var refused *pgconn.ConnectError
	if _, err := pgx.Connect(t.Context(), target); !errors.As(err, &refused) {
		t.Errorf("a stopped server answered a new connection with %v", err)
	}
	server.Start(t)
	if n := ask[int](t, connect(t, target), "SELECT n FROM kept"); n != 7 {
		t.Errorf("after the restart the row holds %d, want 7", n)
	}
}

// victim is the variable that makes this test binary the one that is killed.
const victim = "PGTEST_VICTIM"

func TestKilledTestLeavesNothing(t *testing.T) {
	if os.Getenv(victim) != "" {
		conn := connect(t, pgtest.Start(t).URL("postgres"))
		dir := ask[string](t, conn, "SELECT current_setting('data_directory')")
		pid, _, _ := strings.Cut(ask[string](t, conn, "SELECT pg_read_file('postmaster.pid')"), "\n")
		fmt.Printf("started %s %s\n", pid, dir)
		time.Sleep(time.Minute) // the parent kills us long before
		t.Fatal("not killed")
	}

	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledTestLeavesNothing$")
	cmd.Env = append(os.Environ(), victim+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var pid int
	var dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "started" {
			pid, _ = strconv.Atoi(fields[1])
			dir = filepath.Dir(fields[2])
		}
	}
	if pid == 0 {
		t.Fatal("the victim did not start a server")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed

	for deadline := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL, process %d, outlived the killed test", pid)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the victim's directory is gone before the next start: %v", err)
	}
	pgtest.Start(t)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the next start left the killed test's directory %s (%v)", dir, err)
	}
}

// alive tells whether a process runs. One that has ended and that nobody has
// waited for yet does not: in a container that may be for ever.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(status), "State:\tZ")
}
