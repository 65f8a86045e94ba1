// Package keystiletest runs a real Keystile server for the tests of programs
// that use one: the same code, listeners and database as in production, in
// the test's own process and a temporary directory.
package keystiletest

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/server"
)

// Server is a running server. It ends with the test.
type Server struct {
	// URL is where the server listens, without a trailing slash.
	URL string
	// Operator is a client whose key may do everything in every workspace.
	Operator *keystile.Client
	// OperatorKey is the key of Operator.
	OperatorKey string
	// Workspace is the ID of the first workspace, which a new server makes.
	Workspace string

	t       testing.TB
	config  server.Config
	running *server.Server
	stop    func()
}

// Option changes how the server is set up.
type Option func(t testing.TB, c *server.Config)

// Profile gives the server the profile in a file instead of the built-in one.
func Profile(path string) Option {
	return func(_ testing.TB, c *server.Config) { c.ProfilePath = path }
}

// ProfileText gives the server a profile.
func ProfileText(yaml string) Option {
	return func(t testing.TB, c *server.Config) {
		t.Helper()
		c.ProfilePath = filepath.Join(t.TempDir(), "profile.yaml")
		if err := os.WriteFile(c.ProfilePath, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Dir keeps the embedded database in a directory that outlives the test.
func Dir(path string) Option {
	return func(_ testing.TB, c *server.Config) { c.Dir = path }
}

// MasterKey is what webhook secrets are sealed with: the base64 of 32 bytes.
// With an embedded database the server makes one by itself.
func MasterKey(text string) Option {
	return func(_ testing.TB, c *server.Config) { c.MasterKey = seal.Source{Text: text} }
}

// Database uses PostgreSQL instead of the embedded database. For webhook
// secrets it needs a [MasterKey] then.
func Database(url string) Option {
	return func(_ testing.TB, c *server.Config) { c.Dir, c.DatabaseURL = "", url }
}

// TrustedProxy lets the forwarding headers of these peers count.
func TrustedProxy(ranges ...string) Option {
	return func(_ testing.TB, c *server.Config) { c.Trusted = ranges }
}

// PublicURL says how people reach the server. Clients of the test go on to
// reach it where it listens.
func PublicURL(url string) Option {
	return func(_ testing.TB, c *server.Config) { c.PublicURL = url }
}

// OpenID lets people sign in with an OpenID provider.
func OpenID(issuer, clientID, secret string) Option {
	return func(_ testing.TB, c *server.Config) {
		c.OpenID.Issuer, c.OpenID.ClientID, c.OpenID.Secret = issuer, clientID, secret
	}
}

// FlushInterval says how often usage and last use are written; 10 s otherwise.
func FlushInterval(d time.Duration) Option {
	return func(_ testing.TB, c *server.Config) { c.FlushInterval = d }
}

// Log sends the server's log, at its finest, to w. It is discarded otherwise.
func Log(w io.Writer) Option {
	return func(_ testing.TB, c *server.Config) {
		c.Log = slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// New starts a server and stops it when the test ends.
func New(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{t: t, config: server.Config{
		Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
	}}
	for _, o := range options {
		o(t, &s.config)
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *Server) start() {
	s.t.Helper()
	running, err := server.Open(context.Background(), s.config)
	if err != nil {
		s.t.Fatalf("keystiletest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	s.running = running
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("keystiletest: %v", err)
		}
	})
	s.URL, s.Workspace = running.URL(), running.Only
	if s.config.PublicURL != "" {
		s.URL = "http://" + running.Address()
	}
	s.OperatorKey = s.Key(keyring.OperatorWorkspace, keystile.CreateKey{Name: "Test operator", Role: "operator"}).Secret
	s.Operator = s.Client(s.OperatorKey)
}

// Keyring is the rules of the server, for Keystile's own tests.
func (s *Server) Keyring() *keyring.Keyring { return s.running.Keyring() }

// Restart stops the server in good order and starts it again on the same
// store, at a new address and with a new operator's key. Keys that were
// issued before go on.
func (s *Server) Restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// Client returns a client with a key.
func (s *Server) Client(key string) *keystile.Client {
	s.t.Helper()
	c, err := keystile.NewClient(s.URL, key)
	if err != nil {
		s.t.Fatalf("keystiletest: %v", err)
	}
	return c
}

// Key creates a key in a workspace as the operator at the command line would.
func (s *Server) Key(workspaceID string, k keystile.CreateKey) keystile.CreatedKey {
	s.t.Helper()
	made, _, err := s.running.Keyring().CreateKey(context.Background(), keyring.Operator("keystiletest"), workspaceID, k, keyring.Idempotency{})
	if err != nil {
		s.t.Fatalf("keystiletest: create a key: %v", err)
	}
	return made
}

// NewWorkspace creates a workspace, on the profile's default plan if plan is empty.
func (s *Server) NewWorkspace(name, plan string) keystile.Workspace {
	s.t.Helper()
	w, _, err := s.running.Keyring().CreateWorkspace(context.Background(), keyring.Operator("keystiletest"),
		keystile.CreateWorkspace{Name: name, Plan: plan}, keyring.Idempotency{})
	if err != nil {
		s.t.Fatalf("keystiletest: create a workspace: %v", err)
	}
	return w
}

// SignInLink makes a one-time link to the pages: as the operator, or as an
// admin of one workspace if it is named.
func (s *Server) SignInLink(workspaceID string) string {
	s.t.Helper()
	token, err := s.running.Keyring().CreateLink(context.Background(), keyring.Operator("keystiletest"), workspaceID)
	if err != nil {
		s.t.Fatalf("keystiletest: make a link: %v", err)
	}
	return s.URL + "/link/" + token
}

// MemberLink makes a one-time link to the pages of one workspace, for a person
// who has a role there.
func (s *Server) MemberLink(workspaceID, subject, role string) string {
	s.t.Helper()
	token, _, err := s.running.Keyring().CreatePortal(context.Background(), keyring.Operator("keystiletest"), workspaceID, keystile.CreatePortalSession{
		Person: keystile.Person{Subject: subject, Name: "Someone in " + role}, Role: role,
	})
	if err != nil {
		s.t.Fatalf("keystiletest: make a link: %v", err)
	}
	return s.URL + "/link/" + token
}
