// Package dashboard serves the pages that people see. It calls the keyring as
// the API does; no rule and no SQL belongs here.
//
// Every page works without JavaScript. What looks like a dialog is a page of
// its own, which a script of ours shows in one.
package dashboard

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/keystile/keystile/internal/courier"
	"github.com/keystile/keystile/internal/entry"
)

// maxForm bounds the body of a form, in bytes.
const maxForm = 64 << 10

// Dashboard serves the pages.
type Dashboard struct {
	door   *entry.Door
	url    string // how people reach the server
	secure bool   // they do so by TLS
	pages  pages
	assets assets
	mux    *http.ServeMux

	courier  *courier.Courier
	passkeys *webauthn.WebAuthn // nil where browsers offer none
	provider *provider          // nil for none
	attempts *attempts
}

// New returns the pages behind a door. URL is how people reach the server, post
// sends what they try out, and
// unknown answers programs that ask for what is not there.
func New(door *entry.Door, url string, openID OpenID, post *courier.Courier, unknown http.Handler) (*Dashboard, error) {
	d := &Dashboard{
		door: door, courier: post, url: url, secure: strings.HasPrefix(url, "https://"), mux: http.NewServeMux(),
		provider: newProvider(openID, url, door.Log), attempts: &attempts{spent: map[netip.Prefix]spent{}},
	}
	var err error
	if d.passkeys, err = newWebAuthn(url, door.Profile.Product); err != nil {
		return nil, fmt.Errorf("passkeys at %s: %w", url, err)
	}
	if d.assets, err = newAssets(door.Profile); err != nil {
		return nil, err
	}
	if d.pages, err = d.newPages(); err != nil {
		return nil, err
	}
	// A form that another site sends comes with the person's cookie, but not
	// from our origin.
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(d.open(func(*visit) error { return crossOrigin() }))
	for _, r := range routes() {
		h := d.open(r.serve)
		if r.member {
			h = d.inside(r)
		} else if r.person {
			h = d.signedIn(r)
		}
		d.mux.Handle(r.pattern, origin.Handler(h))
	}
	d.mux.Handle("GET /assets/{name}", d.assets)
	d.mux.Handle("/", d.open(func(v *visit) error {
		if !strings.Contains(v.r.Header.Get("Accept"), "text/html") {
			unknown.ServeHTTP(v.w, v.r)
			return nil
		}
		return unknownPage()
	}))
	return d, nil
}

// ServeHTTP implements http.Handler for every path that is not the API's. Who
// comes by the number of this machine's own address, where it has a name, is
// led to the name: cookies and passkeys belong to one of the two.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if to := d.named(r); to != "" {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	d.mux.ServeHTTP(w, r)
}

// named is the address by name of a page that was asked for by number; "" for none.
func (d *Dashboard) named(r *http.Request) string {
	own, err := url.Parse(d.url)
	if err != nil || own.Hostname() != "localhost" || r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return ""
	}
	asked := url.URL{Host: r.Host}
	if ip := net.ParseIP(asked.Hostname()); ip == nil || !ip.IsLoopback() || asked.Port() != own.Port() {
		return ""
	}
	return d.url + r.URL.RequestURI()
}
