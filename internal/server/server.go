package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/api"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/courier"
	"github.com/keystile/keystile/internal/dashboard"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/lane"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// Limits of every listener.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	// writeTimeout is longer than the barrier may take.
	writeTimeout = 60 * time.Second
	idleTimeout  = 2 * time.Minute
	maxHeader    = 16 << 10 // bytes
	// drain is for how long requests under way may go on after the end was
	// asked for: longer than a barrier waits for a node that is gone.
	drain = 20 * time.Second
)

// Server is a running Keystile.
type Server struct {
	config  Config
	profile *profile.Profile
	store   *store.Store
	node    *cluster.Node
	keyring *keyring.Keyring
	uses    *verify.Recorder
	metrics *metrics
	courier *courier.Courier
	pages   *dashboard.Dashboard

	listeners []listener
	leave     context.CancelFunc // ends the node's loops

	// Fresh tells that this start made the store, and Only is the ID of the
	// one tenant workspace, if there is exactly one.
	Fresh bool
	Only  string
}

type listener struct {
	net.Listener
	http *http.Server
	tls  bool
}

// Open builds a server up to the point where it can answer: the store is
// open, the index loaded, the listeners bound. On an error nothing is left
// open and nothing half-made.
func Open(ctx context.Context, c Config) (_ *Server, err error) {
	trusted, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, uses: verify.NewRecorder(), metrics: newMetrics()}
	given, err := c.loadProfile()
	if err != nil {
		return nil, err
	}
	// A port that is taken should be found out before a database is made.
	defer func() {
		if err != nil {
			s.closeListeners()
		}
	}()
	if err := s.bind(); err != nil {
		return nil, err
	}
	o := StoreOptions(c.Dir, c.DatabaseURL)
	o.Serve = true
	if s.store, err = store.Open(ctx, o); err != nil {
		return nil, Explain(err, o)
	}
	defer func() {
		if err != nil {
			if s.leave != nil {
				s.leave()
				_ = s.node.Leave(context.WithoutCancel(ctx))
			}
			err = errors.Join(err, s.store.Close())
		}
	}()
	if err := s.chooseProfile(ctx, given); err != nil {
		return nil, err
	}
	risks, err := s.store.Durability(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the database's settings: %w", err)
	}
	for _, r := range risks {
		c.Log.Warn("the database could lose what was answered with success: " + r)
	}
	s.keyring = keyring.New(s.store, s.profile, func(ctx context.Context, seq int64, narrows bool) (bool, []keystile.Unreached, error) {
		return s.node.Barrier(ctx, seq, narrows)
	})
	if c.Mail.Address != "" {
		s.keyring.MailAlerts()
	}
	s.courier = courier.New(s.keyring, c.Log, s.metrics.posted)
	s.store.OnEvent(s.courier.Wake)
	name, err := os.Hostname()
	if err != nil {
		name = "unnamed"
	}
	s.node, err = cluster.NewNode(s.store, s.profile.Format(), s.keyring.BuiltInRoles(keyring.OperatorWorkspace), name, c.Log)
	if err != nil {
		return nil, err
	}
	s.node.ServeStale(c.stale)
	// The node goes on while requests drain, and so does not end with ctx.
	running, leave := context.WithCancel(context.WithoutCancel(ctx))
	s.leave = leave
	if err := s.node.Start(running); err != nil {
		return nil, err
	}
	if s.Fresh, s.Only, err = s.keyring.Start(ctx); err != nil {
		return nil, fmt.Errorf("prepare the store: %w", err)
	}
	if err := s.unlock(ctx, o); err != nil {
		return nil, err
	}
	s.hold(ctx)
	// Only one server is on a SQLite database: claims there are of one that was killed.
	if !s.store.Postgres() {
		if err := s.keyring.ReleaseAll(ctx); err != nil {
			return nil, fmt.Errorf("prepare the store: %w", err)
		}
	}
	s.metrics.watch(s.node, s.uses)
	door := &entry.Door{
		Index: s.node.Index, Checks: s.node.Checks, Look: s.node.Look, Recorder: s.uses, Keyring: s.keyring, Profile: s.profile,
		Trusted: trusted, TLS: strings.HasPrefix(s.URL(), "https://"), Log: c.Log, Observe: s.metrics.observe, Decided: s.metrics.decided,
	}
	for i := range s.listeners {
		l := &s.listeners[i]
		if l.http.Handler == nil { // the main listener and the socket
			open := l.Addr().Network() == "unix"
			if l.http.Handler, err = s.routes(door, open); err != nil {
				return nil, err
			}
		}
		l.http.ErrorLog = quietLog(c.Log)
	}
	return s, nil
}

// unlock reads the master keys.
func (s *Server) unlock(ctx context.Context, o store.Options) error {
	source, _ := MasterKeySource(s.config.MasterKey, o)
	m, err := s.keyring.UnlockSecrets(ctx, source, s.config.MasterKey.IsZero() && o.Dir != "")
	switch {
	case err != nil:
		return err
	case source.File != "" && readableByAll(source.File):
		s.config.Log.Warn("everyone on this machine can read the master key file: chmod 600 it", "file", source.File)
	}
	switch {
	case m.Made:
		s.config.Log.Warn("made a master key: back this file up, apart from the database; without it no webhook secret can be read again", "file", source.File)
	case !m.Held && m.Current != "":
		s.config.Log.Warn("the master key is missing: webhook secrets are refused until it is back, and keys go on", "master_key", m.Current, "file", source.File)
	case !m.Held:
		s.config.Log.Info("no master key: webhook secrets are refused; set KEYSTILE_MASTER_KEY, --master-key-file or --master-key-command, the same on every node")
	case m.Newest != m.Current:
		s.config.Log.Info("there is a newer master key than the one in use: keystile admin rotate-master-key", "newest", m.Newest, "in_use", m.Current)
	}
	return nil
}

// readableByAll tells whether users who have nothing to do with the server may
// read a file, as far as the system knows of such.
func readableByAll(path string) bool {
	info, err := os.Stat(path)
	return err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0
}

// chooseProfile takes the profile that the configuration names, or the one
// that the store remembers.
func (s *Server) chooseProfile(ctx context.Context, given *profile.Profile) error {
	p, remembered, err := keyring.ProfileFor(ctx, s.store, given)
	if err != nil {
		if given != nil {
			err = fmt.Errorf("%s: %w", s.config.ProfilePath, err)
		}
		return err
	}
	if remembered {
		s.config.Log.Info("no --config: going on with the profile that this store was last served with", "product", p.Product, "prefix", p.Prefix)
	}
	s.profile = p
	return nil
}

// routes joins what the parts serve behind the door. The socket, where verify is open, has no
// pages.
func (s *Server) routes(door *entry.Door, open bool) (http.Handler, error) {
	a := api.New(door, api.Options{BaseURL: s.URL(), DocsURL: s.profile.Branding.DocsURL, Open: open, Node: s.node, Courier: s.courier})
	mux := http.NewServeMux()
	mux.Handle("/v1/", a)
	mux.Handle("GET /openapi.json", a)

	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /metrics", door.Guard(func(w http.ResponseWriter, r *http.Request) {
		if err := s.keyring.MayReadMetrics(entry.Actor(r.Context())); err != nil {
			door.Refuse(w, r, door.Problem(r.Context(), err))
			return
		}
		s.metrics.handler().ServeHTTP(w, r)
	}))
	if open {
		mux.HandleFunc("/", a.UnknownRoute)
		return door.Handler(mux, a.Direct), nil
	}
	pages, err := dashboard.New(door, s.URL(), s.config.OpenID, s.courier, http.HandlerFunc(a.UnknownRoute))
	if err != nil {
		return nil, err
	}
	s.pages = pages
	mux.Handle("/", pages)
	return door.Handler(mux, a.Direct), nil
}

// bind takes the addresses.
func (s *Server) bind() error {
	var secure *tls.Config
	if s.config.TLSCert != "" {
		var err error
		if secure, err = certificates(s.config.TLSCert, s.config.TLSKey); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %s; choose another address with --listen", s.config.Listen, inner(err))
	}
	s.listeners = append(s.listeners, newListener(l, secure))
	if path := s.config.VerifySocket; path != "" {
		l, err := listenUnix(path)
		if err != nil {
			return fmt.Errorf("cannot listen on the socket %s: %s; choose another path with --verify-socket", path, inner(err))
		}
		s.listeners = append(s.listeners, newListener(l, nil))
	}
	if address := s.config.MetricsListen; address != "" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("cannot listen on %s for metrics: %s; choose another address with --metrics-listen", address, inner(err))
		}
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", s.metrics.handler())
		s.listeners = append(s.listeners, listener{l, NewHTTP(mux), false})
	}
	return nil
}

func inner(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

// newListener returns a listener without a handler as yet. In the clear it has a
// lane for what is answered at once; TLS hides where requests begin.
func newListener(l net.Listener, secure *tls.Config) listener {
	s := NewHTTP(nil)
	s.TLSConfig = secure
	if secure == nil {
		l = lane.Join(s, l, api.AtOnce)
	}
	return listener{l, s, secure != nil}
}

// NewHTTP returns an HTTP server with the limits of every listener.
func NewHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
}

// Address is where the main listener listens.
func (s *Server) Address() string { return s.listeners[0].Addr().String() }

// URL is how people and clients reach the server, without a trailing slash.
func (s *Server) URL() string {
	if s.config.PublicURL != "" {
		return s.config.PublicURL
	}
	host, port, _ := net.SplitHostPort(s.Address())
	if ip := net.ParseIP(host); s.config.Named && !s.listeners[0].tls && ip != nil && ip.IsLoopback() {
		return "http://" + net.JoinHostPort("localhost", port)
	}
	return s.LocalURL()
}

// LocalURL is where the main listener listens, without a trailing slash.
func (s *Server) LocalURL() string {
	scheme := "http"
	if s.listeners[0].tls {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(s.Address())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// Link makes a one-time sign-in link.
func (s *Server) Link(ctx context.Context) (string, error) {
	token, err := s.keyring.CreateLink(ctx, keyring.Operator("first start"), "")
	if err != nil {
		return "", err
	}
	return s.URL() + "/link/" + token, nil
}

// Keyring is the rules, for programs that hold the server in their own process.
func (s *Server) Keyring() *keyring.Keyring { return s.keyring }

// Run answers requests until ctx ends, and then ends in order: no new
// requests, those under way finish, what was counted is written, the node
// leaves, the store closes.
func (s *Server) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var loops errgroup.Group
	loops.Go(func() error { s.flushLoop(work); return nil })
	loops.Go(func() error { s.settleLoop(work); return nil })
	loops.Go(func() error { s.expireLoop(work); return nil })
	loops.Go(func() error { s.retainLoop(work); return nil })
	loops.Go(func() error { s.watchLoop(work); return nil })
	if s.config.Mail.Address != "" {
		mailer := courier.NewMailer(s.keyring, s.config.Mail, s.URL(), s.config.Log)
		loops.Go(func() error { mailer.Run(work); return nil })
	}
	loops.Go(func() error { s.pages.Run(work); return nil })
	loops.Go(func() error { s.courier.Run(work); return nil })
	loops.Go(func() error { s.outboxLoop(work); return nil })
	if s.store.Postgres() {
		loops.Go(func() error { s.holdLoop(work); return nil })
	}

	failed := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		go func() {
			serve := l.http.Serve
			if l.tls {
				serve = func(n net.Listener) error { return l.http.ServeTLS(n, "", "") }
			}
			if err := serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, s.end(stop, &loops))
}

func (s *Server) end(stop context.CancelFunc, loops *errgroup.Group) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	s.metrics.draining.Store(true)
	var errs []error
	// Replicas go to another server, or answer until their leases end; this one
	// answers meanwhile.
	if err := s.node.Dismiss(ctx); err != nil {
		errs = append(errs, fmt.Errorf("replicas are still attached: %w", err))
	}
	for _, l := range s.listeners {
		if err := l.http.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("requests were cut off: %w", err), l.http.Close())
		}
	}
	stop()
	_ = loops.Wait()
	// A fresh time for the last writes: what requests used up is not theirs.
	last, done := context.WithTimeout(context.Background(), drain)
	defer done()
	if err := s.flush(last); err != nil {
		errs = append(errs, fmt.Errorf("the last usage counts were not written: %w", err))
	}
	s.all(last, "settle usage", s.keyring.SettleUses) // or the next server does
	s.leave()
	if err := s.node.Leave(last); err != nil {
		errs = append(errs, fmt.Errorf("leave the other nodes: %w", err))
	}
	return errors.Join(append(errs, s.store.Close())...)
}

// Close ends a server that was opened and never run.
func (s *Server) Close() error {
	s.closeListeners()
	s.leave()
	return errors.Join(s.node.Leave(context.Background()), s.store.Close())
}

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// Insecure tells whether keys travel in the clear beyond this machine.
func (s *Server) Insecure() bool {
	host, _, _ := net.SplitHostPort(s.Address())
	ip := net.ParseIP(host)
	return !s.listeners[0].tls && ip != nil && !ip.IsLoopback() && !strings.HasPrefix(s.config.PublicURL, "https://")
}
