package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/api"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/stream"
)

// AgentConfig says how an agent runs.
type AgentConfig struct {
	Servers []string // URLs, tried in turn
	Key     string   // carries platform.replica
	Listen  string   // address and port; "" for none
	Socket  string   // path of a unix socket on which verify needs no key; "" for none
	Open    bool     // verify needs no key on Listen either
	// InsecureHTTP lets servers on other machines be reached without TLS.
	InsecureHTTP bool
	Trusted      []string // proxies whose forwarding headers count, addresses or CIDR ranges
	Log          *slog.Logger
}

// Agent answers verify and forward-auth beside a program, from a replica.
type Agent struct {
	config    AgentConfig
	replica   *stream.Replica
	listeners []listener
}

// OpenAgent attaches a replica and binds the listeners.
func OpenAgent(ctx context.Context, c AgentConfig) (_ *Agent, err error) {
	trusted, err := parseTrusted(c.Trusted)
	if err != nil {
		return nil, err
	}
	if err := c.checkServers(); err != nil {
		return nil, err
	}
	if c.Listen == "" && c.Socket == "" {
		return nil, errors.New("the agent has nowhere to listen: give --listen, --socket or both")
	}
	a := &Agent{config: c}
	defer func() {
		if err != nil {
			for _, l := range a.listeners {
				_ = l.Close()
			}
		}
	}()
	if c.Listen != "" {
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %s; choose another address with --listen", c.Listen, inner(err))
		}
		a.listeners = append(a.listeners, newListener(l, nil))
	}
	if c.Socket != "" {
		l, err := listenUnix(c.Socket)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on the socket %s: %s; choose another path with --socket", c.Socket, inner(err))
		}
		a.listeners = append(a.listeners, newListener(l, nil))
	}
	a.replica, err = stream.Open(ctx, stream.Options{URLs: c.Servers, Key: c.Key, HTTP: stream.NewClient(), Log: c.Log})
	if err != nil {
		return nil, err
	}
	for i := range a.listeners {
		l := &a.listeners[i]
		routes, err := a.routes(trusted, c.Open || l.Addr().Network() == "unix")
		if err != nil {
			return nil, errors.Join(err, a.replica.Close(ctx))
		}
		l.http.Handler, l.http.ErrorLog = routes, quietLog(c.Log)
	}
	return a, nil
}

// checkServers refuses servers on other machines without TLS: whoever is on the
// way would have the agent's key, with which every key's digest can be had, and
// could tell the agent that any key is good.
func (c *AgentConfig) checkServers() error {
	for _, s := range c.Servers {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil || u.Scheme != "http" || c.InsecureHTTP {
			continue // what is no URL is refused when it is attached to
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("%s is on another machine and without TLS: whoever is on the way could read the agent's key, and tell the agent that any key is good; "+
				"give its https:// URL, or allow it with --insecure-http where the network itself is sealed", u.Redacted())
		}
	}
	return nil
}

// routes are those of a server that need its index and nothing else.
func (a *Agent) routes(trusted []netip.Prefix, open bool) (http.Handler, error) {
	p, err := profile.Parse("the server's profile", []byte(a.replica.Hello().Profile))
	if err != nil {
		return nil, fmt.Errorf("this agent is older than the server and does not understand it: %w", err)
	}
	door := &entry.Door{
		Index: a.replica.Index, Recorder: a.replica.Recorder(), Profile: p, Trusted: trusted, Log: a.config.Log,
		Observe: func(string, int, time.Duration) {}, Decided: func(keystile.Code, int) {},
	}
	answers := api.New(door, api.Options{BaseURL: "http://" + a.config.Listen, DocsURL: p.Branding.DocsURL, Open: open})
	mux := http.NewServeMux()
	for _, path := range []string{"/v1/verify", "/v1/verify/batch", "/v1/forward-auth"} {
		mux.Handle(path, answers)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{\"status\":\"ok\"}\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if _, ok := a.replica.Index(); !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("{\"ready\":false,\"index\":\"no lease: no server was reached for too long\"}\n"))
			return
		}
		_, _ = w.Write([]byte("{\"ready\":true,\"index\":\"ok\"}\n"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		door.Refuse(w, r, keystile.NewError(keystile.CodeUnknownRoute, "An agent answers /v1/verify, /v1/verify/batch and /v1/forward-auth, and nothing else.",
			"Ask the server for everything else."))
	})
	return door.Handler(mux, answers.Direct), nil
}

// URLs are where the agent listens, as a client takes them.
func (a *Agent) URLs() []string {
	var all []string
	for _, l := range a.listeners {
		scheme := "http://"
		if l.Addr().Network() == "unix" {
			scheme = "unix://"
		}
		all = append(all, scheme+l.Addr().String())
	}
	return all
}

// Run answers until ctx ends, and then ends in order.
func (a *Agent) Run(ctx context.Context) error {
	failed := make(chan error, len(a.listeners))
	for _, l := range a.listeners {
		go func() {
			if err := l.http.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	for _, l := range a.listeners {
		err = errors.Join(err, l.http.Shutdown(last))
	}
	if closing := a.replica.Close(last); closing != nil {
		err = errors.Join(err, fmt.Errorf("the last usage counts were not sent: %w", closing))
	}
	return err
}
