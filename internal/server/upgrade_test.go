package server_test

import (
	"database/sql"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

// fleetOf is two addresses that clients know, each with a server behind it that
// may be replaced.
type fleetOf struct {
	t                *testing.T
	operator, tenant string

	mu      sync.Mutex
	servers [2]*process
	moving  [2]bool // it is being replaced: calls to it may fail
}

func (f *fleetOf) at(i int) (url string, moving bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.servers[i].url, f.moving[i]
}

// call sends a request to one server. It tells false when the server was being
// replaced; every other failure is one of the test.
func (f *fleetOf) call(i int, method, path string, body any, status int) (reply, bool) {
	f.t.Helper()
	url, before := f.at(i)
	r, err := tryCall(httpClient, method, url+path, bearer(f.operator), body)
	if now, after := f.at(i); before || after || now != url {
		return r, err == nil && r.status == status
	}
	if err != nil {
		f.t.Errorf("%s %s: %v", method, path, err)
		return r, false
	}
	if r.status != status {
		f.t.Errorf("%s %s: %s", method, path, r)
		return r, false
	}
	return r, true
}

// replace ends a server in order and starts another build in its place.
func (f *fleetOf) replace(i int, binary string, store []string) {
	f.t.Helper()
	f.mu.Lock()
	old := f.servers[i]
	f.moving[i] = true
	f.mu.Unlock()
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		f.t.Fatal(err)
	}
	select {
	case <-old.ended:
	case <-time.After(time.Minute):
		f.t.Fatalf("it does not end\n%s", old.stderr)
	}
	fresh := serveBy(f.t, binary, store)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers[i], f.moving[i] = fresh, false
}

// nextMigration is that of a version after this one.
const nextMigration = `ALTER TABLE keys ADD COLUMN next_note TEXT NOT NULL DEFAULT 'of the next version';
CREATE INDEX keys_next ON keys (next_note);
CREATE TABLE next_things (id TEXT PRIMARY KEY, key_id TEXT NOT NULL REFERENCES keys (id) ON DELETE CASCADE);`

// attended has an agent of one build attach to a server of the other, and take
// part in a revoke.
func (f *fleetOf) attended(replica, binary string, i int) {
	f.t.Helper()
	server := f.servers[i]
	agent := attachBy(f.t, binary, replica, nil, server)
	o := &outpost{agent: agent, operator: f.operator, tenant: f.tenant, probes: map[string]*atomic.Bool{}}
	o.revoke(f.t, server, o.create(f.t, server))
	if err := agent.stop(); err != nil {
		f.t.Errorf("the agent ended with %v\n%s", err, agent.stderr)
	}
}

// TestRollingUpgrade: two servers on one database are replaced one by one by a
// build that knows one migration more, and one of them back again, while
// clients create, check and revoke at both. No call fails but at a server that
// is being replaced, and no key is accepted after its revoke has returned. The
// older build serves beside and on the newer schema, and refuses it once the
// schema says that it takes a newer one. Agents of either build attach to servers
// of the other.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	next := nextProgram(t)
	database := pgtest.New(t)
	flags := []string{"--database", database}
	f := &fleetOf{t: t, servers: [2]*process{serve(t, flags), serve(t, flags)}}
	f.operator = f.servers[0].admin("key")
	f.tenant = f.servers[0].tenant(f.operator)
	replica := f.servers[0].admin("key", "--role", "replica")

	done := make(chan struct{})
	var clients sync.WaitGroup
	var made, revoked, asked atomic.Int64
	for w := range 2 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
				}
				at := (w + i) % 2
				r, ok := f.call(at, "POST", "/v1/workspaces/"+f.tenant+"/keys", `{"name": "Key"}`, http.StatusCreated)
				if !ok {
					continue
				}
				made.Add(1)
				key := want[keystile.CreatedKey](t, r, http.StatusCreated)
				for _, check := range []int{at, 1 - at} {
					if r, ok := f.call(check, "POST", "/v1/verify", keystile.VerifyRequest{Key: key.Secret}, http.StatusOK); ok {
						asked.Add(1)
						if d := want[keystile.Decision](t, r, http.StatusOK); !d.Valid && !key.Pending {
							t.Errorf("a create returned, and a server says %s", d.Code)
						}
					}
				}
				if i%3 == 0 {
					at = 1 - at
				}
				if _, ok := f.call(at, "POST", "/v1/keys/"+key.Key.ID+"/revoke", nil, http.StatusOK); !ok {
					continue
				}
				revoked.Add(1)
				for check := range 2 {
					if r, ok := f.call(check, "POST", "/v1/verify", keystile.VerifyRequest{Key: key.Secret}, http.StatusOK); ok {
						if d := want[keystile.Decision](t, r, http.StatusOK); d.Valid {
							t.Error("P1: a key was accepted after its revoke had returned")
						}
					}
				}
			}
		})
	}
	// Each stage goes on until clients have done enough under it.
	stage := func(what string) {
		t.Helper()
		t.Log(time.Now().Format(time.TimeOnly), what)
		was := revoked.Load()
		eventually(t, "clients go on "+what, func() bool { return revoked.Load() >= was+10 })
	}
	stage("with two of the older build")
	f.replace(0, next, flags)
	stage("with one of each")
	f.attended(replica, program(t), 0)
	f.attended(replica, next, 1)
	f.replace(1, next, flags)
	stage("with two of the newer build")
	f.replace(0, program(t), flags)
	stage("with the older build back on the newer schema")
	close(done)
	clients.Wait()
	t.Logf("%d keys made, %d revoked, %d questions answered", made.Load(), revoked.Load(), asked.Load())

	// A schema that takes a newer version: who runs refuses, who starts ends.
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `UPDATE schema_floor SET oldest = (SELECT MAX(version_id) FROM goose_db_version)`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the older build refuses", func() bool {
		r, err := tryCall(httpClient, "GET", f.servers[0].url+"/readyz", nil, nil)
		return err == nil && r.status == http.StatusServiceUnavailable
	})
	if r, ok := f.call(1, "GET", "/v1/workspaces", nil, http.StatusOK); !ok {
		t.Errorf("the newer build does not go on: %s", r)
	}
	if !f.servers[0].says("newer version") {
		t.Errorf("the older build does not say why:\n%s", f.servers[0].stderr)
	}
	f.servers[0].kill()
	_, err = trySeparate(t, flags)
	if err == nil || !strings.Contains(err.Error(), "newer version of Keystile that this one can't work with") {
		t.Errorf("the older build starts on a schema that it can't work with: %v", err)
	}
}

// trySeparate starts the program where it should not come up.
func trySeparate(t *testing.T, store []string) (*process, error) {
	t.Helper()
	cmd := exec.Command(program(t), append([]string{"serve", "--listen", "127.0.0.1:0"}, store...)...)
	p, err := tryStart(t, cmd, store)
	if err == nil {
		return p, errors.New("it came up")
	}
	return nil, err
}

// TestNewerVerbBesideAnOlderServer: on SQLite a command of a newer version
// leaves the database alone while a server of an older one runs on it, and says
// what to do. The other way round it works.
func TestNewerVerbBesideAnOlderServer(t *testing.T) {
	t.Parallel()
	flags := []string{"--data", t.TempDir()}
	admin := func(binary string) (string, error) {
		cmd := exec.Command(binary, append([]string{"admin", "key"}, flags...)...)
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	s := serve(t, flags)
	operator := s.admin("key")
	if out, err := admin(nextProgram(t)); err == nil || !strings.Contains(out, "is of an older version") || strings.Count(out, "\n") > 0 {
		t.Errorf("a newer version beside an older server: %v\n%s", err, out)
	}
	s.tenant(operator) // it goes on
	s.end()
	s = serveBy(t, nextProgram(t), flags)
	made, err := admin(program(t))
	if err != nil {
		t.Fatalf("an older version beside a newer server: %v\n%s", err, made)
	}
	s.tenant(made)
}
