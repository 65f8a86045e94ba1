package server_test

import (
	"bytes"
	"database/sql"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

// TestFailover: the primary dies under load and its synchronous standby takes
// over. Nothing that was answered with success is lost, P1 holds all the while,
// and the servers and the agent go on by themselves.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.StartPair(t, true)
	flags := []string{"--database", pgtest.URLOf("postgres", primary, standby)}
	a, b := serve(t, flags), serve(t, flags)
	o := newOutpost(t, a, b)
	var mu sync.Mutex
	made, revoked := map[string]keystile.CreatedKey{}, map[string]bool{}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for _, at := range []*process{a, b} {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := tryCall(httpClient, "POST", at.url+"/v1/workspaces/"+o.tenant+"/keys", bearer(o.operator), `{"name": "Key"}`)
				if err != nil || r.status != http.StatusCreated {
					time.Sleep(20 * time.Millisecond) // the database is away
					continue
				}
				k := want[keystile.CreatedKey](t, r, http.StatusCreated)
				mu.Lock()
				made[k.Key.ID] = k
				n := len(made)
				mu.Unlock()
				if n%2 == 0 {
					continue
				}
				r, err = tryCall(httpClient, "POST", at.url+"/v1/keys/"+k.Key.ID+"/revoke", bearer(o.operator), nil)
				if err == nil && r.status == http.StatusOK {
					mu.Lock()
					revoked[k.Key.ID] = true
					mu.Unlock()
					if accepted, _ := o.accepts(t, k.Secret); accepted {
						t.Error("P1: the agent accepts a key whose revoke has returned")
					}
				} else {
					mu.Lock()
					delete(made, k.Key.ID) // it may be revoked or not
					mu.Unlock()
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(made)
	}
	eventually(t, "there are keys", func() bool { return count() > 40 })
	primary.Stop(t)
	before := count()
	standby.Promote(t)
	eventually(t, "keys are made again after the failover", func() bool { return count() > before+20 })
	close(stop)
	workers.Wait()
	lost, back := 0, 0
	for id, k := range made {
		d := b.verify(o.operator, k.Secret)
		switch {
		case revoked[id] && d.Code != keystile.CodeRevoked:
			back++
		case !revoked[id] && !d.Valid:
			lost++
		}
	}
	if lost > 0 || back > 0 {
		t.Errorf("of %d keys %d are lost, and of %d revoked ones %d are not", len(made), lost, len(revoked), back)
	}
	t.Logf("%d keys, %d of them revoked, %d made before the failover", len(made), len(revoked), before)
	last := o.create(t, a)
	o.revoke(t, b, last)
}

// TestRisks: a server says at its start and in readyz how the database could
// lose what was answered with success.
func TestRisks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		synchronous bool
	}{{"synchronous", true}, {"asynchronous", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			primary, standby := pgtest.StartPair(t, c.synchronous)
			s := serve(t, []string{"--database", pgtest.URLOf("postgres", primary, standby)})
			ready := want[struct {
				Ready bool
				Risks []string
			}](t, call(t, "GET", s.url+"/readyz", nil, nil), http.StatusOK)
			said := strings.Join(ready.Risks, "\n")
			for word, told := range map[string]bool{"fsync is off": true, "synchronous_standby_names": !c.synchronous} {
				if strings.Contains(said, word) != told {
					t.Errorf("%q in the answer of readyz is not %t:\n%s", word, told, said)
				}
				if told && !s.says(word) || !told && strings.Contains(s.stderr.String(), word) {
					t.Errorf("%q in the log is not %t:\n%s", word, told, s.stderr)
				}
			}
		})
	}
}

// TestSynchronousCommit: a commit waits for the disk whatever the database's
// default is, and where something on the way to it undoes that, a server says so
// at its start and in readyz.
func TestSynchronousCommit(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(),
		`DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET synchronous_commit = off'; END $$`); err != nil {
		t.Fatal(err)
	}
	const word = "synchronous_commit is off"
	for name, c := range map[string]struct {
		url  string
		told bool
	}{
		"the default is off":    {database, false},
		"a pooler turns it off": {poolerWithout(t, database), true},
	} {
		s := serve(t, []string{"--database", c.url})
		ready := want[struct {
			Ready bool
			Risks []string
		}](t, call(t, "GET", s.url+"/readyz", nil, nil), http.StatusOK)
		if said := strings.Join(ready.Risks, "\n"); !ready.Ready || strings.Contains(said, word) != c.told {
			t.Errorf("%s, and readyz says: %t, %q", name, ready.Ready, said)
		}
		if c.told && !s.says(word) || !c.told && strings.Contains(s.stderr.String(), word) {
			t.Errorf("%s, and the log says:\n%s", name, s.stderr)
		}
	}
}

// poolerWithout is a pooler before a database that does not pass on what clients
// want of commits, as pgbouncer with ignore_startup_parameters, and has it off.
func poolerWithout(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	target := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					defer near.Close()
					_, _ = io.Copy(near, far)
				}()
				part := make([]byte, 32<<10)
				for {
					n, err := near.Read(part)
					if err != nil {
						return
					}
					// "no" is PostgreSQL's other word for off, and as long as "on".
					said := bytes.Replace(part[:n], []byte("synchronous_commit\x00on\x00"), []byte("synchronous_commit\x00no\x00"), 1)
					if _, err := far.Write(said); err != nil {
						return
					}
				}
			}()
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}
