package server_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/pgtest"
)

// TestDatabaseThatWillNotDo: a database that refuses, for its own reasons, is told
// in one line that names the reason and says what to do.
func TestDatabaseThatWillNotDo(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.StartPair(t, false)
	db, err := sql.Open("pgx", primary.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	as := func(role, options string) string {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), `CREATE ROLE `+role+` LOGIN PASSWORD 'hunter2' `+options); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(primary.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(role, "hunter2")
		return u.String()
	}
	for name, c := range map[string]struct {
		url  string
		says []string
	}{
		"a standby":          {standby.URL("postgres"), []string{"--database", "primary"}},
		"no right to make":   {as("guest", ""), []string{"permission denied", "own"}},
		"no connection left": {as("crowd", "CONNECTION LIMIT 0"), []string{"crowd", "too many connections"}},
	} {
		binary := program(t) // building it takes a while
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, "serve", "--listen", "127.0.0.1:0", "--database", c.url)
			cmd.Env, cmd.Dir = environment(), t.TempDir()
			out, err := cmd.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
				t.Errorf("ended with %v, want exit 2", err)
			}
			line, whole := strings.CutSuffix(string(out), "\n")
			if !whole || strings.Contains(line, "\n") || !strings.HasPrefix(line, "keystile: ") || strings.Contains(line, "hunter2") {
				t.Errorf("said %q", out)
			}
			for _, part := range c.says {
				if !strings.Contains(line, part) {
					t.Errorf("%q does not name %q", line, part)
				}
			}
		})
	}
}
