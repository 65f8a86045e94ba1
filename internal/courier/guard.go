package courier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// guard decides which addresses may be dialled for one endpoint. It is asked
// with the address itself, after the name was looked up and right before the
// connection is made, so a name that leads elsewhere the next time gains nothing.
type guard struct {
	inside   []netip.Prefix // the operator's network, as far as it is allowed
	internet *ssrf.Guardian // nil for http, which goes nowhere else
}

// errForbidden is the error of an address that must not be dialled.
var errForbidden = errors.New("it is not an address of the internet")

// newGuard makes the guard of an endpoint. Ranges come from the store, where
// they were checked.
func newGuard(secure bool, ranges []string) (guard, error) {
	var g guard
	for _, s := range ranges {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, failed := netip.ParseAddr(s)
			if failed != nil {
				return guard{}, fmt.Errorf("courier: the range %q: %w", s, err)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		g.inside = append(g.inside, p)
	}
	if secure {
		g.internet = ssrf.New(ssrf.WithAnyPort())
	}
	return g, nil
}

// control is what the [net.Dialer] asks with each address.
func (g guard) control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := to.Addr().Unmap().WithZone("")
	for _, p := range g.inside {
		if p.Contains(ip) {
			return nil
		}
	}
	if g.internet == nil {
		return fmt.Errorf("%w that the operator allows: %s", errForbidden, ip)
	}
	// A mapped address is an IPv4 address: asked as one, it finds the rules for it.
	if err := g.internet.SafeAddr(ip); err != nil {
		return fmt.Errorf("%w: %s", errForbidden, ip)
	}
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("courier: the network %s", network)
	}
	return nil
}

// dialledKey is the key of the [address] in a context that notes what is dialled.
type dialledKey struct{}

// dialer makes connections for an endpoint. What it may not dial is not noted,
// also where a name leads to that beside what it may.
func (g guard) dialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, ControlContext: func(ctx context.Context, network, to string, c syscall.RawConn) error {
		err := g.control(network, to, c)
		if a, ok := ctx.Value(dialledKey{}).(*address); ok && err == nil {
			a.note(to)
		}
		return err
	}}
}
