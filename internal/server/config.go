// Package server wires the process together: settings, store, node, keyring,
// listeners, background loops and an orderly end. Every part is built here,
// once, and handed to whoever needs it; nothing else knows them all.
package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/keystile/keystile/internal/courier"
	"github.com/keystile/keystile/internal/dashboard"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/store"
)

// DefaultListen is where a server listens that was told nothing else: this
// machine alone, since keys travel in the clear without TLS.
const DefaultListen = "127.0.0.1:8080"

// DefaultDir is where the embedded database is kept.
const DefaultDir = "./keystile-data"

// Config says how a server runs. What it serves is in the profile.
type Config struct {
	ProfilePath string // "" for the one that the store was last served with, or the built-in one
	Dir         string // data directory of the embedded database
	DatabaseURL string // PostgreSQL instead
	Listen      string
	PublicURL   string // how people and clients reach it; "" for the listener's address
	// Named has people on this machine reach a listener that is open to it alone
	// as localhost: browsers keep passkeys for names only.
	Named   bool
	Trusted []string // proxies whose forwarding headers count, addresses or CIDR ranges
	TLSCert string
	TLSKey  string
	// MetricsListen serves /metrics without a key on a listener of its own; "" for none.
	MetricsListen string
	// VerifySocket is the path of a unix socket on which verify needs no key
	// of the caller's; "" for none.
	VerifySocket  string
	FlushInterval time.Duration // of usage; 0 for 10 s
	// Partition is what a server does that has lost the database for longer than
	// its lease: "refuse", as it does without it, or "serve-stale=DURATION", which
	// goes on checking keys for so long from what it knew.
	Partition string
	stale     time.Duration // read from it
	// Mail is the server that mails of alerts go to; without an address there
	// are none.
	Mail courier.MailServer
	// OpenID is the provider that people may sign in with.
	OpenID dashboard.OpenID
	// MasterKey is where the keys are that webhook secrets are sealed with.
	// Without any it is a file beside the embedded database, which is made when
	// there is none, and nowhere with PostgreSQL: each node would make its own.
	MasterKey seal.Source
	Log       *slog.Logger
}

// check reads what can be wrong before anything is opened or made.
func (c *Config) check() (trusted []netip.Prefix, err error) {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return nil, fmt.Errorf("--listen %q is not an address and port such as 127.0.0.1:8080", c.Listen)
	}
	if c.DatabaseURL == "" && c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = 10 * time.Second
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key go together; name both files or neither")
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, errors.New("--public-url must be a URL without a path, such as https://keys.example.com")
		}
		c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	}
	if err := CheckMasterKey(c.MasterKey); err != nil {
		return nil, err
	}
	if err := c.checkPartition(); err != nil {
		return nil, err
	}
	if err := c.checkOpenID(); err != nil {
		return nil, err
	}
	if err := c.checkMail(); err != nil {
		return nil, err
	}
	return parseTrusted(c.Trusted)
}

// maxStale bounds for how long a server may go on without the database: the
// change log is kept as long, and each change that takes access away waits for
// the leases of servers that are cut off.
const maxStale = 24 * time.Hour

func (c *Config) checkPartition() (err error) {
	if c.Partition == "" || c.Partition == "refuse" {
		return nil
	}
	text, ok := strings.CutPrefix(c.Partition, "serve-stale=")
	if c.stale, err = time.ParseDuration(text); !ok || err != nil {
		return fmt.Errorf("--partition %q is neither refuse nor serve-stale with a duration, such as serve-stale=5m", c.Partition)
	}
	switch {
	case c.stale < time.Second || c.stale > maxStale:
		return fmt.Errorf("--partition %q: the duration must be from 1s to 24h", c.Partition)
	case c.DatabaseURL == "":
		return errors.New("--partition serve-stale is for servers on PostgreSQL: the embedded database is on the same machine, and cannot be cut off")
	}
	return nil
}

// parseTrusted reads what was given as trusted proxies.
func parseTrusted(given []string) (trusted []netip.Prefix, err error) {
	for _, s := range given {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("--trusted-proxy %q is not an address or CIDR range such as 10.0.0.0/8", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		trusted = append(trusted, p.Masked())
	}
	return trusted, nil
}

func (c *Config) checkMail() error {
	switch m := &c.Mail; {
	case m.Address == "" && (m.User != "" || m.Password != "" || m.From != ""):
		return errors.New("a setting of mail is there without --smtp-server")
	case m.Address == "":
		return nil
	case c.PublicURL == "":
		return errors.New("--smtp-server needs --public-url, since mails lead to the pages")
	default:
		return m.Check()
	}
}

func (c *Config) checkOpenID() error {
	o := c.OpenID
	if o.Issuer == "" && o.ClientID == "" {
		if o.Secret != "" {
			return errors.New("KEYSTILE_OIDC_CLIENT_SECRET is set without --oidc-issuer and --oidc-client-id")
		}
		return nil
	}
	if o.Issuer == "" || o.ClientID == "" {
		return errors.New("--oidc-issuer and --oidc-client-id go together; give both or neither")
	}
	u, err := url.Parse(o.Issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("--oidc-issuer must be the provider's issuer, a URL such as https://login.example.com")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return errors.New("--oidc-issuer must begin with https://; whoever is on the way could sign in as anyone otherwise")
	}
	return nil
}

// CheckMasterKey fails when more than one source of master keys is named.
func CheckMasterKey(s seal.Source) error {
	named := 0
	for _, v := range []string{s.File, s.Text, s.Command} {
		if v != "" {
			named++
		}
	}
	if named > 1 {
		return errors.New("--master-key-file, --master-key-command and KEYSTILE_MASTER_KEY exclude each other; keep one of them")
	}
	return nil
}

// masterKeyFile is the name of the file with the master keys in a data directory.
const masterKeyFile = "master.key"

// MasterKeySource is where the master keys of a store are: where they are said
// to be, or else in a file beside an embedded database. It may be made then.
func MasterKeySource(named seal.Source, o store.Options) (source seal.Source, mayMake bool) {
	if named.IsZero() && o.Dir != "" {
		return seal.Source{File: filepath.Join(o.Dir, masterKeyFile)}, true
	}
	return named, named.File != "" && o.Dir != ""
}

// StoreOptions say which store a configuration means.
func StoreOptions(dir, databaseURL string) store.Options {
	if databaseURL != "" {
		return store.Options{URL: databaseURL}
	}
	if dir == "" {
		dir = DefaultDir
	}
	return store.Options{Dir: dir}
}

// Explain makes one line for the operator of an error that keeps a server from
// starting: what is wrong and what to do.
func Explain(err error, o store.Options) error {
	where := o.Dir
	if o.URL != "" {
		where = "the database"
	}
	switch {
	case errors.Is(err, store.ErrHeld):
		return fmt.Errorf("another Keystile process holds %s; stop it first, or name another directory with --data", where)
	case errors.Is(err, store.ErrNewerSchema):
		return fmt.Errorf("%s was written by a newer version of Keystile that this one can't work with; start that version, or restore a backup made with this one", where)
	case errors.Is(err, store.ErrOlderServer):
		return fmt.Errorf("the server that runs on %s is of an older version, and this one would change the database underneath it; start the server with this version first, or use the server's own version for this command", where)
	case errors.Is(err, store.ErrFull):
		return fmt.Errorf("no space left for %s; free some and start again", where)
	case errors.Is(err, store.ErrForbidden):
		return fmt.Errorf("the user that --database names may not make tables there: %s; give it a database of its own: CREATE DATABASE keystile OWNER keystile", reason(err))
	case errors.Is(err, store.ErrUnavailable) && o.URL != "":
		return fmt.Errorf("cannot reach PostgreSQL: %s; check --database and that the server runs", reason(err))
	case errors.Is(err, store.ErrUnavailable):
		return fmt.Errorf("cannot use the data directory %s: %s", where, reason(err))
	}
	return err
}

// reason is what lies below the store's own words, on one line.
func reason(err error) string {
	s := err.Error()
	s = strings.TrimPrefix(s, store.ErrUnavailable.Error()+": ")
	return strings.Join(strings.Fields(s), " ")
}

// loadProfile reads the profile that the configuration names; nil when it
// names none.
func (c *Config) loadProfile() (*profile.Profile, error) {
	if c.ProfilePath == "" {
		return nil, nil //nolint:nilnil // no profile is no error
	}
	return profile.Load(c.ProfilePath)
}
