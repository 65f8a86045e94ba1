package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keystile/keystile/internal/dashboard"
	"github.com/keystile/keystile/internal/server"
)

type serveCmd struct {
	storeFlags
	masterKeyFlags
	Listen        string   `help:"Address and port to listen on; ${default} without it." default:"127.0.0.1:8080" env:"KEYSTILE_LISTEN" placeholder:"ADDR"`
	PublicURL     string   `help:"How people and clients reach this server: for links, passkeys, single sign-on and Secure cookies." env:"KEYSTILE_PUBLIC_URL" placeholder:"URL"`
	TrustedProxy  []string `help:"Address or CIDR range of a proxy whose X-Forwarded-For counts; may be repeated." env:"KEYSTILE_TRUSTED_PROXY" placeholder:"CIDR"`
	TLSCert       string   `help:"Certificate in PEM form; served without a proxy." name:"tls-cert" env:"KEYSTILE_TLS_CERT" placeholder:"FILE"`
	TLSKey        string   `help:"Key of the certificate, in PEM form." name:"tls-key" env:"KEYSTILE_TLS_KEY" placeholder:"FILE"`
	MetricsListen string   `help:"Serve /metrics on an address of its own, where it needs no key." env:"KEYSTILE_METRICS_LISTEN" placeholder:"ADDR"`
	VerifySocket  string   `help:"Serve on a unix socket as well, where verify needs no key of the caller's." env:"KEYSTILE_VERIFY_SOCKET" placeholder:"PATH"`
	OIDCIssuer    string   `help:"OpenID provider that people may sign in with; its client secret is read from KEYSTILE_OIDC_CLIENT_SECRET." name:"oidc-issuer" env:"KEYSTILE_OIDC_ISSUER" placeholder:"URL"`
	OIDCClientID  string   `help:"Client ID that the provider knows this server by." name:"oidc-client-id" env:"KEYSTILE_OIDC_CLIENT_ID" placeholder:"ID"`
	mailFlags
	FlushInterval time.Duration `help:"How often usage and last use are written; ${default} without it." default:"10s" env:"KEYSTILE_FLUSH_INTERVAL" placeholder:"DURATION"`
	Partition     string        `help:"What to do without the database for longer than a lease, 12 s: refuse, or serve-stale=DURATION to go on checking keys from what was known, revoked ones too; ${default} without it." default:"refuse" env:"KEYSTILE_PARTITION" placeholder:"POLICY"`
	LogFormat     string        `help:"Form of the log on standard error: ${enum}; ${default} without it." enum:"text,json" default:"text" env:"KEYSTILE_LOG_FORMAT" placeholder:"FORM"`
	LogLevel      string        `help:"What to log: debug, info, warn or error; ${default} without it." default:"info" env:"KEYSTILE_LOG_LEVEL" placeholder:"LEVEL"`
}

// Run serves until it is told to stop.
func (c *serveCmd) Run(ctx context.Context, a *app) error {
	log, err := logger(a.stderr, c.LogFormat, c.LogLevel)
	if err != nil {
		return usage(err)
	}
	if c.FlushInterval <= 0 {
		return usage(errors.New("--flush-interval must be more than 0, such as 10s"))
	}
	mail, err := c.mail(a)
	if err != nil {
		return usage(err)
	}
	s, err := server.Open(ctx, server.Config{
		ProfilePath: c.Config, Dir: c.Data, DatabaseURL: c.Database, Listen: c.Listen, PublicURL: c.PublicURL, Named: true,
		Trusted: c.TrustedProxy, TLSCert: c.TLSCert, TLSKey: c.TLSKey, MetricsListen: c.MetricsListen,
		MasterKey: c.source(a), VerifySocket: c.VerifySocket, FlushInterval: c.FlushInterval, Partition: c.Partition, Log: log, Mail: mail,
		OpenID: dashboard.OpenID{Issuer: c.OIDCIssuer, ClientID: c.OIDCClientID, Secret: a.env("KEYSTILE_OIDC_CLIENT_SECRET")},
	})
	if err != nil {
		if ctx.Err() != nil { // told to stop while it started, which is no mistake of anyone's
			log.Info("stopped")
			return nil //nolint:nilerr // see above
		}
		return usage(err)
	}
	if s.Insecure() {
		log.Warn("keys travel in the clear: serve TLS with --tls-cert and --tls-key, or through a proxy and say so with --public-url")
	}
	fmt.Fprintf(a.stdout, "Keystile listens on %s\n", s.LocalURL())
	if s.URL() != s.LocalURL() {
		fmt.Fprintf(a.stdout, "People and clients reach it at %s\n", s.URL())
	}
	if s.Fresh {
		// Whoever is told to stop just now has still made a store, and the one
		// chance to print its link.
		link, err := s.Link(context.WithoutCancel(ctx))
		if err != nil {
			_ = s.Close()
			return err
		}
		c.welcome(a.stdout, s, link)
	}
	if err := withBallast(func() error { return s.Run(ctx) }); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// welcome is what a first start says: how to sign in, and three lines that
// run as they are pasted into one shell.
func (c *serveCmd) welcome(w io.Writer, s *server.Server, link string) {
	admin := c.command("admin", "key", "--expires", "1h")
	url := s.LocalURL() // the way there from outside may not be open yet
	if c.TLSCert != "" {
		url = s.URL() // the certificate is for that name
	}
	fmt.Fprintf(w, "\nSign in within 15 minutes, once:\n  %s\n", link)
	where := "into another terminal"
	if c.Database != "" {
		where += ", with KEYSTILE_DATABASE set to this server's database"
	}
	fmt.Fprintf(w, "\nCreate a key, check it, take it away (paste %s):\n\n", where)
	fmt.Fprintf(w, `K=$(curl -sS %s/v1/workspaces/%s/keys -H "Authorization: Bearer $(%s)" -H 'Content-Type: application/json' -d '{"name":"First key"}'); echo "$K"`+"\n\n", url, s.Only, admin)
	fmt.Fprintf(w, `curl -sS %s/v1/verify -H "Authorization: Bearer $(%s)" -H 'Content-Type: application/json' -d "{\"key\":\"$(echo "$K" | sed 's/.*"secret":"\([^"]*\)".*/\1/')\"}"`+"\n\n", url, admin)
	fmt.Fprintf(w, `curl -sS -X POST %s/v1/keys/$(echo "$K" | sed 's/.*"key":{"id":"\([^"]*\)".*/\1/')/revoke -H "Authorization: Bearer $(%s)"`+"\n\n", url, admin)
}

// command is a command line of this program on the same store, as it can be
// pasted into any shell on this machine, whatever started the program. The
// database's URL holds a password and is not repeated: it comes from the
// environment there.
func (c *serveCmd) command(args ...string) string {
	words := append([]string{program()}, args...)
	if c.Database == "" {
		data := c.Data
		if data == "" {
			data = server.DefaultDir
		}
		if dir, err := filepath.Abs(data); err == nil {
			words = append(words, "--data", dir)
		}
	}
	if c.Config != "" {
		if file, err := filepath.Abs(c.Config); err == nil {
			words = append(words, "--config", file)
		}
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// program is the path of this program. Its name alone may be known to the
// shell that started it, and to no other.
func program() string {
	self, err := os.Executable()
	if err != nil {
		return "keystile"
	}
	return self
}

// quote makes one word of a shell of a text.
func quote(s string) string {
	safe := func(r rune) bool {
		return r == '/' || r == '.' || r == '_' || r == '-' || r == '+' || r == ':' || r == ',' || r == '@' ||
			r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
