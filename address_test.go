package keystile_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/keystile/keystile"
)

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("fd00::/8"),
		netip.MustParsePrefix("127.0.0.1/32"),
	}
	tests := map[string]struct {
		peer      string
		forwarded []string
		header    string // "" means X-Forwarded-For
		trusted   []netip.Prefix
		want      string // "" means invalid
		ignored   bool
	}{
		"peer alone":                     {peer: "192.0.2.7:4711", want: "192.0.2.7"},
		"peer on IPv6":                   {peer: "[2001:db8::7]:4711", want: "2001:db8::7"},
		"peer on IPv6 with a zone":       {peer: "[fe80::7%eth0]:4711", want: "fe80::7"},
		"peer mapped into IPv6":          {peer: "[::ffff:192.0.2.7]:4711", want: "192.0.2.7"},
		"peer cut to its address":        {peer: "192.0.2.7", trusted: proxies, forwarded: []string{"198.51.100.1"}, want: "192.0.2.7", ignored: true},
		"peer that is nothing":           {peer: "somebody", trusted: proxies, forwarded: []string{"198.51.100.1"}, ignored: true},
		"no proxies, forwarded":          {peer: "192.0.2.7:1", forwarded: []string{"198.51.100.1"}, want: "192.0.2.7", ignored: true},
		"stranger, forwarded":            {peer: "192.0.2.7:1", trusted: proxies, forwarded: []string{"198.51.100.1"}, want: "192.0.2.7", ignored: true},
		"stranger, Forwarded":            {peer: "192.0.2.7:1", trusted: proxies, header: "Forwarded", forwarded: []string{"for=198.51.100.1"}, want: "192.0.2.7", ignored: true},
		"stranger, X-Real-IP":            {peer: "192.0.2.7:1", trusted: proxies, header: "X-Real-IP", forwarded: []string{"198.51.100.1"}, want: "192.0.2.7", ignored: true},
		"proxy alone":                    {peer: "10.1.2.3:1", trusted: proxies, want: "10.1.2.3"},
		"proxy, one client":              {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"198.51.100.1"}, want: "198.51.100.1"},
		"proxy, client's own claim":      {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"203.0.113.9, 198.51.100.1"}, want: "198.51.100.1"},
		"proxy, claim in another line":   {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"203.0.113.9", "198.51.100.1"}, want: "198.51.100.1"},
		"two proxies":                    {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"203.0.113.9,198.51.100.1 , 10.9.9.9"}, want: "198.51.100.1"},
		"two proxies in two lines":       {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"203.0.113.9, 198.51.100.1", "10.9.9.9"}, want: "198.51.100.1"},
		"proxy on IPv6":                  {peer: "[fd00::1]:1", trusted: proxies, forwarded: []string{"2001:db8::9"}, want: "2001:db8::9"},
		"proxy mapped into IPv6":         {peer: "[::ffff:10.1.2.3]:1", trusted: proxies, forwarded: []string{"198.51.100.1"}, want: "198.51.100.1"},
		"client mapped into IPv6":        {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"::ffff:198.51.100.1"}, want: "198.51.100.1"},
		"client with port":               {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"198.51.100.1:55"}, want: "198.51.100.1"},
		"client on IPv6 with port":       {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"[2001:db8::9]:55"}, want: "2001:db8::9"},
		"client on IPv6 in brackets":     {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"[2001:db8::9]"}, want: "2001:db8::9"},
		"only proxies":                   {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"10.7.7.7, 10.9.9.9"}, want: "10.7.7.7"},
		"proxy does not know its client": {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"198.51.100.1, unknown"}},
		"nothing after the comma":        {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{"198.51.100.1,"}},
		"empty line":                     {peer: "10.1.2.3:1", trusted: proxies, forwarded: []string{""}},
		"trusted proxy's Forwarded":      {peer: "10.1.2.3:1", trusted: proxies, header: "Forwarded", forwarded: []string{"for=198.51.100.1"}, want: "10.1.2.3"},
		"unix socket":                    {peer: "@"},
		"unix socket, forwarded":         {peer: "@", forwarded: []string{"198.51.100.1"}, ignored: true},
		"unix socket behind a proxy":     {peer: "@", trusted: proxies, forwarded: []string{"203.0.113.9, 198.51.100.1"}, want: "198.51.100.1"},
		"named unix socket":              {peer: "/run/nginx.sock", trusted: proxies, forwarded: []string{"198.51.100.1"}, want: "198.51.100.1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			header := test.header
			if header == "" {
				header = "X-Forwarded-For"
			}
			r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
			for _, line := range test.forwarded {
				r.Header.Add(header, line)
			}
			got, ignored := keystile.ClientAddress(r, test.trusted)
			want := netip.Addr{}
			if test.want != "" {
				want = netip.MustParseAddr(test.want)
			}
			if got != want || ignored != test.ignored {
				t.Errorf("address %s, ignored %t; want %s, %t", got, ignored, want, test.ignored)
			}
		})
	}
}

// What a peer on a unix socket calls itself is its own choice: it may be a path
// that reads like an address.
func TestClientAddressOnSocket(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	on := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Name: "/run/service.sock", Net: "unix"}))
	r := (&http.Request{RemoteAddr: "198.51.100.7:80", Header: http.Header{}}).WithContext(on)
	if got, _ := keystile.ClientAddress(r, nil); got.IsValid() {
		t.Errorf("a peer that calls itself %s has the address %s", r.RemoteAddr, got)
	}
	if got, _ := keystile.ClientAddress(r, proxies); got.IsValid() {
		t.Errorf("a peer that calls itself %s has the address %s where there are proxies", r.RemoteAddr, got)
	}
	r.Header.Set("X-Forwarded-For", "203.0.113.9")
	if got, ignored := keystile.ClientAddress(r, proxies); got != netip.MustParseAddr("203.0.113.9") || ignored {
		t.Errorf("a proxy on a socket tells %s, ignored %t", got, ignored)
	}
	if got, ignored := keystile.ClientAddress(r, nil); got.IsValid() || !ignored {
		t.Errorf("without proxies: %s, ignored %t", got, ignored)
	}
}
