// Package pgtest gives tests a real PostgreSQL. [New] makes a fresh database
// on a cluster that is started once per test binary; [Start] makes a cluster
// of the test's own, which it may stop and start again.
//
// Only tests import it. Nothing here may be needed by the program itself.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable names the environment variable with the URL of a running server
// that [New] uses instead of starting one. Its user must be allowed to create
// databases.
const Variable = "KEYSTILE_TEST_POSTGRES"

// statementTimeout is how long making or dropping a database may take.
const statementTimeout = 60 * time.Second

// shared is the cluster of this test binary. It is the package's only state:
// a cluster per test would cost more than a second each.
var shared struct { //nolint:gochecknoglobals // see above
	sync.Mutex

	server *Server
	err    error // of the one attempt to start it
}

// Main runs the tests of a binary and then stops the cluster that [New]
// started, if it did. Use it as
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// Without it, or when the tests are killed, the cluster ends with the process
// all the same (on Linux), and the next start removes its files.
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.remove()
		shared.server = nil
	}
	return code
}

// New returns the URL of a new, empty database, which is dropped when the test
// ends. Without PostgreSQL's server programs it fails the test and says what
// to install.
func New(t testing.TB) string {
	t.Helper()
	name := "keystile_test_" + strings.ToLower(rand.Text())
	admin, create := os.Getenv(Variable), "CREATE DATABASE "+name
	if admin == "" {
		shared.Lock()
		if shared.server == nil && shared.err == nil {
			shared.server, shared.err = start()
		}
		server, err := shared.server, shared.err
		shared.Unlock()
		if err != nil {
			t.Fatalf("PostgreSQL for the tests: %v", err)
		}
		admin = server.URL("postgres")
		create += server.strategy()
	}
	if err := execute(admin, create); err != nil {
		t.Fatalf("making a database for the test: %v", err)
	}
	t.Cleanup(func() {
		// FORCE ends the connections that a test left open, such as those of a
		// server process it killed.
		if err := execute(admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
	target, err := withDatabase(admin, name)
	if err != nil {
		t.Fatalf("%s: %v", Variable, err)
	}
	return target
}

// Start makes a cluster for this test alone, stopped and removed when the test
// ends, for tests that take their database away. It never uses the server that
// [Variable] names.
func Start(t testing.TB) *Server {
	t.Helper()
	server, err := start()
	if err != nil {
		t.Fatalf("PostgreSQL for the test: %v", err)
	}
	t.Cleanup(server.remove)
	return server
}

// execute runs one statement on a connection of its own.
func execute(target, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, target)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	if closed := conn.Close(ctx); err == nil {
		err = closed
	}
	return err
}

// withDatabase returns target with another database name.
func withDatabase(target, name string) (string, error) {
	u, err := url.Parse(target)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// The text may hold a password, and url.Parse quotes it.
		return "", fmt.Errorf("not a URL of the form postgres://user:password@host:port/database")
	}
	u.Path = "/" + name
	return u.String(), nil
}
