package cluster_test

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// TestMain lets more tests run side by side than there are processors: most
// of the time they wait for leases to end.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(pgtest.Main(m))
}

// fast is the factor by which most tests hurry: 3 s of barrier, 2.4 s of lease.
const fast = 5

// deadline is how long a test waits for what must happen. It is no measure of
// how soon it should.
const deadline = 60 * time.Second

// server is a process of a cluster, without its door: store, node and rules.
type server struct {
	t     testing.TB
	store *store.Store
	node  *cluster.Node
	keys  *keyring.Keyring
	log   *buffer
	only  string // the tenant's workspace
	stop  context.CancelFunc
	ended bool
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.text.String(), text)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start starts a server on a store, with times shorter by the factor.
func start(t testing.TB, o store.Options, factor time.Duration) *server {
	t.Helper()
	s := &server{t: t, log: &buffer{}}
	var err error
	if s.store, err = store.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	p := profile.Default()
	s.keys = keyring.New(s.store, p, func(ctx context.Context, seq int64, narrows bool) (bool, []keystile.Unreached, error) {
		return s.node.Barrier(ctx, seq, narrows)
	})
	log := slog.New(slog.NewTextHandler(s.log, nil))
	s.node, err = cluster.NewHurriedNode(s.store, factor, p.Format(), s.keys.BuiltInRoles(keyring.OperatorWorkspace), t.Name(), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	t.Cleanup(s.leave)
	if err := s.node.Start(ctx); err != nil {
		t.Fatalf("start: %v\n%s", err, s.log)
	}
	if _, s.only, err = s.keys.Start(ctx); err != nil {
		t.Fatalf("start: %v\n%s", err, s.log)
	}
	return s
}

// leave ends a server in order.
func (s *server) leave() {
	if s.ended {
		return
	}
	s.ended = true
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.node.Leave(ctx) // a database that is out of reach is some tests' matter
	if err := s.store.Close(); err != nil {
		s.t.Errorf("close: %v", err)
	}
}

// die ends the loops of a server at once. It answers on from memory, as a
// process does that has lost everything but its listeners.
func (s *server) die() { s.stop() }

// cluster starts so many servers on one new PostgreSQL database.
func startAll(t testing.TB, count int, factor time.Duration) []*server {
	t.Helper()
	all := make([]*server, count)
	database := pgtest.New(t)
	for i := range all {
		all[i] = start(t, store.Options{URL: database}, factor)
	}
	return all
}

func operator() keyring.Actor { return keyring.Operator("test") }

// create makes a key in the tenant's workspace.
func (s *server) create(name string) keystile.CreatedKey {
	s.t.Helper()
	made, _, err := s.keys.CreateKey(s.t.Context(), operator(), s.only, keystile.CreateKey{Name: name}, keyring.Idempotency{})
	if err != nil {
		s.t.Fatalf("create: %v\n%s", err, s.log)
	}
	return made
}

// revoke ends a key; what it returned with success must hold everywhere.
func (s *server) revoke(id string) {
	s.t.Helper()
	if _, err := s.keys.RevokeKey(s.t.Context(), operator(), id, keystile.RevokeKey{}); err != nil {
		s.t.Fatalf("revoke: %v\n%s", err, s.log)
	}
}

// accepts tells whether the server would let a key in now.
func (s *server) accepts(secret string) bool {
	index, ok := s.node.Index()
	return ok && decide(index, secret) == keystile.CodeValid
}

func decide(index *verify.Index, secret string) keystile.Code {
	var r verify.Result
	index.Decide(&verify.Query{Secret: secret, Now: time.Now()}, &r)
	return r.Code
}

// usable tells whether the server answers at all.
func (s *server) usable() bool {
	_, ok := s.node.Index()
	return ok
}

// mustAccept waits until the server lets the key in: it may not know the key
// yet where its create said so, or be without a lease on a slow machine.
func (s *server) mustAccept(secret string) {
	s.t.Helper()
	for end := time.Now().Add(deadline); !s.accepts(secret); pause() {
		if time.Now().After(end) {
			s.t.Fatalf("a good key is not accepted after %s\n%s", deadline, s.log)
		}
	}
}

// mustKnow fails unless the server, if it answers, lets the key in at once.
func (s *server) mustKnow(secret string) {
	s.t.Helper()
	if index, ok := s.node.Index(); ok {
		if code := decide(index, secret); code != keystile.CodeValid {
			s.t.Errorf("a create returned, and a server says %s\n%s", code, s.log)
		}
	}
}

func pause() { time.Sleep(2 * time.Millisecond) }

// eventually waits for what must happen.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !holds(); pause() {
		if time.Now().After(end) {
			t.Fatalf("not so after %s: %s", deadline, what)
		}
	}
}

// beside is a connection beside the stores.
func beside(t testing.TB, o store.Options) *sql.DB {
	t.Helper()
	driver, source := "pgx", o.URL
	if source == "" {
		driver, source = "sqlite", "file:"+filepath.Join(o.Dir, "keystile.db")+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func number(t testing.TB, db *sql.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
