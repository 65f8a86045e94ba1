package store_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childVariable); child != "" {
		os.Exit(runChild(child))
	}
	os.Exit(pgtest.Main(m))
}

// TestStore runs every behaviour on both databases, each on a database of its own.
func TestStore(t *testing.T) {
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for _, b := range slices.Concat(rowBehaviours(), pageBehaviours(), writerBehaviours(), changeBehaviours(), openBehaviours(), processBehaviours(), secretBehaviours(), deliveryBehaviours()) {
				t.Run(b.name, func(t *testing.T) {
					t.Parallel()
					b.run(t, d.make(t))
				})
			}
		})
	}
}

// behaviour is what every store does.
type behaviour struct {
	name string
	run  func(t *testing.T, f *fixture)
}

type database struct {
	name string
	make func(t testing.TB) *fixture
}

func databases() []database {
	return []database{
		{"sqlite", func(t testing.TB) *fixture { return newFixture(t, store.Options{Dir: t.TempDir()}) }},
		{"postgres", func(t testing.TB) *fixture { return newFixture(t, store.Options{URL: pgtest.New(t)}) }},
	}
}

// fixture is an open store and how to reach its database otherwise.
type fixture struct {
	*store.Store
	options store.Options
}

func newFixture(t testing.TB, o store.Options) *fixture {
	t.Helper()
	return &fixture{open(t, o), o}
}

func open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// raw is a connection beside the store.
func (f *fixture) raw(t testing.TB) *sql.DB {
	t.Helper()
	driver, source := "pgx", f.options.URL
	if source == "" {
		driver, source = "sqlite", "file:"+filepath.Join(f.options.Dir, "keystile.db")+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// number reads one number beside the store.
func number(t testing.TB, db *sql.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// dump is every row of every table, as text.
func (f *fixture) dump(t testing.TB) []string {
	t.Helper()
	db := f.raw(t)
	list := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`
	if f.Postgres() {
		list = `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name`
	}
	var all []string
	for _, name := range texts(t, db, list) {
		rows, err := db.QueryContext(t.Context(), `SELECT * FROM `+name)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s %v", name, values))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}

func texts(t testing.TB, db *sql.DB, query string, args ...any) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func write(t testing.TB, s *store.Store, fn func(tx *store.Tx) error) int64 {
	t.Helper()
	seq, err := s.Write(t.Context(), fn)
	if err != nil {
		t.Fatalf("write: %v", err)
	}
	return seq
}

func read(t testing.TB, s *store.Store, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := s.Read(t.Context(), fn); err != nil {
		t.Fatalf("read: %v", err)
	}
}

// get reads one value.
func get[T any](t testing.TB, s *store.Store, fn func(tx *store.Tx) (T, error)) (v T) {
	t.Helper()
	read(t, s, func(tx *store.Tx) (err error) {
		v, err = fn(tx)
		return err
	})
	return v
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// noon is the present of the tests that take one.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

func at(t time.Time) *time.Time { return &t }

const (
	acme  = "ws_acme"
	other = "ws_other"
)

func all() store.Scope { return store.AllWorkspaces() }

// id makes an ID that sorts by n.
func id(prefix string, n int) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	return verify.EncodeID(prefix, b)
}

func keyID(n int) string { return id(verify.KeyPrefix, n) }

func workspace(wsID string) keystile.Workspace {
	return keystile.Workspace{ID: wsID, Name: strings.TrimPrefix(wsID, "ws_"), Plan: "free", CreatedAt: noon, UpdatedAt: noon}
}

func digest(n int) (d [32]byte) {
	binary.BigEndian.PutUint64(d[:8], uint64(n)*0x9e3779b97f4a7c15+1)
	return d
}

// key is the nth key of a test; no two share a digest.
func key(wsID string, n int) store.Key {
	return store.Key{Key: keystile.Key{
		ID: keyID(n), WorkspaceID: wsID, Name: fmt.Sprintf("key %d", n), Preview: "gw_…", Status: keystile.StatusActive,
		CreatedAt: noon, UpdatedAt: noon, CreatedBy: keystile.Party{Kind: "operator", Name: "ops"},
	}, Digest: digest(n), RoleID: "role_writer"}
}

func member(wsID string, n int) store.Member {
	return store.Member{Member: keystile.Member{
		ID: id("mem_", n), WorkspaceID: wsID, Status: "active", CreatedAt: noon,
		Person:    keystile.Person{ID: id("per_", n), Name: "Ann", Email: "ann@example.org", Issuer: "https://id.example", Subject: fmt.Sprint(n)},
		InvitedBy: keystile.Party{Kind: "operator", Name: "ops"},
	}, RoleID: "role_writer"}
}

func addMember(tx *store.Tx, m store.Member) error {
	if err := tx.InsertPerson(m.Person, m.CreatedAt.UnixMilli()); err != nil {
		return err
	}
	return tx.InsertMember(m)
}

func role(wsID string, n int) keystile.Role {
	return keystile.Role{
		ID: id("role_", n), WorkspaceID: wsID, Name: fmt.Sprintf("role %d", n), Description: "why",
		Permissions: keystile.Permissions{"stock.read"}, CreatedAt: at(noon), UpdatedAt: at(noon),
	}
}

func auditEntry(wsID string, n int) keystile.AuditEntry {
	return keystile.AuditEntry{
		ID: id("aud_", n), WorkspaceID: wsID, At: noon.Add(time.Duration(n) * time.Second),
		Actor:  keystile.Party{Kind: "key", ID: keyID(n), Name: "ci"},
		Action: "key.created", ObjectKind: "key", ObjectID: keyID(n), ObjectName: "web",
		Address: "192.0.2.1", UserAgent: "curl", RequestID: "req", Reason: "unneeded",
		Before: map[string]any{"name": "a"}, After: map[string]any{"name": "b"},
	}
}

// addWorkspaces makes the two tenants that most tests have.
func addWorkspaces(t testing.TB, s *store.Store) {
	t.Helper()
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertWorkspace(workspace(acme)), tx.InsertWorkspace(workspace(other)))
	})
}

// addKeys makes both tenants and keys of acme with these numbers.
func addKeys(t testing.TB, s *store.Store, numbers ...int) {
	t.Helper()
	addWorkspaces(t, s)
	write(t, s, func(tx *store.Tx) error {
		for _, n := range numbers {
			if err := tx.InsertKey(key(acme, n)); err != nil {
				return err
			}
		}
		return nil
	})
}

// alert is an open one about the key of the same number.
func alert(ws string, n int) keystile.Alert {
	return keystile.Alert{
		ID: id("al_", n), WorkspaceID: ws, Type: keystile.AlertKeyExpiring, Stage: "7d", State: "open", OpenedAt: noon, UpdatedAt: noon,
		KeyID: keyID(n), KeyName: "Grüße\n\"'", AlertFacts: keystile.AlertFacts{DueAt: &noon},
	}
}

func failure(ws string, n int64) store.Failure {
	return store.Failure{WorkspaceID: ws, At: noon, Code: keystile.CodeRevoked, Source: "2001:db8::/64", KeyID: keyID(1), Count: n}
}

// errUndo makes Write take back what a test has looked at.
var errUndo = errors.New("undo")

// try runs fn in a transaction that is undone.
func try(t testing.TB, s *store.Store, fn func(tx *store.Tx) error) (err error) {
	t.Helper()
	_, wrote := s.Write(context.Background(), func(tx *store.Tx) error {
		err = fn(tx)
		return errUndo
	})
	wantErr(t, "a write that is undone", wrote, errUndo)
	return err
}
