package server_test

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // to look into the database

	"github.com/keystile/keystile/internal/pgtest"
)

// newerSchema marks a store as written by a newer version that this one can't
// work with.
func newerSchema(t *testing.T, driver, source string) {
	t.Helper()
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	applied := "1"
	if driver == "pgx" {
		applied = "true"
	}
	for _, q := range []string{`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, ` + applied + `)`, `UPDATE schema_floor SET oldest = 9999`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCannotStart: what keeps a server from starting is told in one line that
// says what to do, ends with 2, and leaves nothing half-made.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	in := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(in, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	goodCert, goodKey := filepath.Join(in, "cert.pem"), filepath.Join(in, "key.pem")
	certificate(t, "one", goodCert, goodKey)
	_, otherKey := filepath.Join(in, "cert2.pem"), filepath.Join(in, "key2.pem")
	certificate(t, "two", filepath.Join(in, "cert2.pem"), otherKey)

	newer := t.TempDir()
	if err := serve(t, []string{"--data", newer}).stop(); err != nil {
		t.Fatal(err)
	}
	newerSchema(t, "sqlite", "file:"+filepath.Join(newer, "keystile.db"))
	newerURL := pgtest.New(t)
	if err := serve(t, []string{"--database", newerURL}).stop(); err != nil {
		t.Fatal(err)
	}
	newerSchema(t, "pgx", newerURL)

	for _, c := range []struct {
		name  string
		flags []string
		says  []string
	}{
		{"unknown flag", []string{"--prot", "80"}, []string{"--prot", "keystile serve --help"}},
		{"listen", []string{"--listen", "8080"}, []string{"--listen", "127.0.0.1:8080"}},
		{"port that is none", []string{"--listen", "127.0.0.1:99999"}, []string{"127.0.0.1:99999", "--listen"}},
		{"port taken", []string{"--listen", taken.Addr().String()}, []string{"in use", "--listen"}},
		{"metrics port taken", []string{"--metrics-listen", taken.Addr().String()}, []string{"in use", "metrics"}},
		{"foreign address", []string{"--listen", "192.0.2.1:80"}, []string{"192.0.2.1:80", "--listen"}},
		{"public url", []string{"--public-url", "keys.example.com"}, []string{"--public-url", "https://"}},
		{"trusted proxy", []string{"--trusted-proxy", "proxy.example.com"}, []string{"--trusted-proxy", "10.0.0.0/8"}},
		{"flush interval", []string{"--flush-interval", "0s"}, []string{"--flush-interval", "10s"}},
		{"log level", []string{"--log-level", "loud"}, []string{"--log-level", "debug"}},
		{"half of TLS", []string{"--tls-cert", goodCert}, []string{"--tls-key"}},
		{"no certificate there", []string{"--tls-cert", filepath.Join(in, "none.pem"), "--tls-key", goodKey}, []string{"--tls-cert", "none.pem"}},
		{"certificate that is none", []string{"--tls-cert", file("junk.pem", "junk"), "--tls-key", goodKey}, []string{"--tls-cert"}},
		{"key of another certificate", []string{"--tls-cert", goodCert, "--tls-key", otherKey}, []string{"--tls-key", "match"}},
		{"key that cannot be read", []string{"--tls-cert", goodCert, "--tls-key", in}, []string{"--tls-key"}},
		{"unknown field of the profile", []string{"--config", file("p.yaml", "product: X\nprefix: x\nprefx: y\n")}, []string{"p.yaml:3", "prefx"}},
		{"no profile", []string{"--config", filepath.Join(in, "none.yaml")}, []string{"none.yaml"}},
		{"socket in place of a file", []string{"--verify-socket", file("socket", "precious")}, []string{"socket"}},
		{"socket in no directory", []string{"--verify-socket", filepath.Join(in, "none", "s")}, []string{"socket"}},
		{"newer directory", []string{"--data", newer}, []string{newer, "newer version"}},
		{"newer database", []string{"--database", newerURL}, []string{"newer version"}},
		{"no database", []string{"--database", "postgres://me:hunter2@" + freeAddress(t) + "/db"}, []string{"cannot reach PostgreSQL", "--database", "refused"}},
		{"directory that is a file", []string{"--data", goodKey}, []string{"data directory", goodKey}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			arguments := []string{"serve"}
			if c.flags[0] != "--listen" {
				arguments = append(arguments, "--listen", "127.0.0.1:0")
			}
			if c.flags[0] != "--data" && c.flags[0] != "--database" {
				arguments = append(arguments, "--data", dir)
			}
			before := contents(t, in) + contents(t, newer)
			cmd := exec.Command(program(t), append(arguments, c.flags...)...)
			cmd.Env, cmd.Dir = environment(), t.TempDir()
			var out, said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &said
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Errorf("ended with %v, want exit 2", err)
			}
			line, whole := strings.CutSuffix(said.String(), "\n")
			if out.Len() > 0 || !whole || strings.Contains(line, "\n") || !strings.HasPrefix(line, "keystile: ") || strings.Contains(line, "hunter2") {
				t.Errorf("said %q and printed %q", said.String(), out.String())
			}
			for _, part := range c.says {
				if !strings.Contains(line, part) {
					t.Errorf("%q does not name %q", line, part)
				}
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the data directory was made: %v", err)
			}
			if left := contents(t, cmd.Dir); left != "" {
				t.Errorf("left behind: %s", left)
			}
			if contents(t, in)+contents(t, newer) != before {
				t.Error("files were changed")
			}
		})
	}
}

// contents are the files of a directory with what is in them, without locks
// and what SQLite keeps beside a database that is open.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") || strings.HasSuffix(path, "-shm") || strings.HasSuffix(path, "-wal") {
			return err
		}
		text, err := os.ReadFile(path)
		b.WriteString(path + "\n" + string(text) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
