package keystile

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddress returns the address of whoever sent the request, as allowlists
// compare it: without a zone, and IPv4 as IPv4.
//
// It is the peer of the connection. Only when the peer is one of the trusted
// proxies is X-Forwarded-For read instead, from the right: every proxy appends
// the address of its own peer, so the rightmost address that is no trusted
// proxy is the first that nobody could make up. A peer on a unix socket has no
// address, whatever it calls itself; it is taken for a trusted proxy when there
// are any.
//
// The address is invalid when nobody trustworthy tells it, so that a key with
// an allowlist is refused. forwardedIgnored tells that a forwarding header came
// from a peer that is not trusted: worth one warning, since it is how a
// forgotten setting shows.
func ClientAddress(r *http.Request, trusted []netip.Prefix) (address netip.Addr, forwardedIgnored bool) {
	var peer netip.Addr
	socket := isSocket(r)
	if !socket {
		peer = parsePeer(r.RemoteAddr)
	}
	trustedPeer := contains(trusted, peer) || socket && len(trusted) > 0
	forwarded := r.Header["X-Forwarded-For"]
	if !trustedPeer {
		return peer, len(forwarded) > 0 || len(r.Header["Forwarded"]) > 0 || len(r.Header["X-Real-Ip"]) > 0
	}
	address = peer
	for _, line := range slices.Backward(forwarded) {
		for list, more := line, true; more; {
			var entry string
			if comma := strings.LastIndexByte(list, ','); comma >= 0 {
				list, entry = list[:comma], list[comma+1:]
			} else {
				entry, more = list, false
			}
			address = parsePeer(entry)
			if !contains(trusted, address) {
				return address, false
			}
		}
	}
	return address, false
}

// parsePeer reads the peer of a connection or one entry of X-Forwarded-For: an
// address, with a port or without (routers' own middleware cuts it off, some
// proxies add it). What is no address is invalid.
func parsePeer(text string) netip.Addr {
	text = strings.TrimSpace(text)
	if at, err := netip.ParseAddrPort(text); err == nil {
		return plain(at.Addr())
	}
	if address, err := netip.ParseAddr(text); err == nil {
		return plain(address)
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			if address, err := netip.ParseAddr(inner); err == nil {
				return plain(address)
			}
		}
	}
	return netip.Addr{}
}

// isSocket tells whether a peer is on a unix socket: by where the server listens,
// if that is known, or by the name of the peer, which is a path, or as nearly all
// clients have none, "@" (Linux) or nothing. The path is the client's choice.
func isSocket(r *http.Request) bool {
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && at.Network() == "unix" {
		return true
	}
	peer := r.RemoteAddr
	return peer == "" || peer[0] == '@' || peer[0] == '/'
}

// plain removes what would keep equal addresses from comparing equal: the zone
// and the IPv6 form of an IPv4 address.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
