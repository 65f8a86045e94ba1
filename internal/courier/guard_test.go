package courier

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/keystile/keystile"
)

// TestGuard: nothing is dialled but addresses of the internet, and what an
// operator allows. Each address is given as the dialler would give it.
func TestGuard(t *testing.T) {
	t.Parallel()
	private := []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255",
		"192.168.0.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "198.18.0.1",
		"198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "5f00::1",
		"2001:db8::1", "3fff::1",
		// An IPv4 address inside an IPv6 one: mapped, compatible, translated,
		// NAT64 (both prefixes), 6to4, Teredo, ISATAP on a link.
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "2001::1", "fe80::5efe:7f00:1",
	}
	public := []string{"1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"}
	network := func(address string) string {
		if net.ParseIP(address).To4() != nil {
			return "tcp4"
		}
		return "tcp6"
	}
	ask := func(g guard, address string) error {
		return g.control(network(address), net.JoinHostPort(address, "443"), nil)
	}
	open := func(secure bool, ranges ...string) guard {
		g, err := newGuard(secure, ranges)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	secured, plain := open(true), open(false)
	for _, a := range private {
		for name, g := range map[string]guard{"https": secured, "http": plain} {
			if err := ask(g, a); !errors.Is(err, errForbidden) {
				t.Errorf("%s to %s: %v", name, a, err)
			}
		}
	}
	for _, a := range public {
		if err := ask(secured, a); err != nil {
			t.Errorf("https to %s: %v", a, err)
		}
		if err := ask(plain, a); !errors.Is(err, errForbidden) {
			t.Errorf("http to %s: %v", a, err)
		}
	}
	// What an operator allows: that range and no other, by http as well.
	for _, c := range []struct {
		ranges  []string
		address string
		allowed bool
	}{
		{[]string{"10.1.0.0/16"}, "10.1.2.3", true},
		{[]string{"10.1.0.0/16"}, "::ffff:10.1.2.3", true},
		{[]string{"10.1.0.0/16"}, "10.2.0.1", false},
		{[]string{"10.1.0.0/16"}, "127.0.0.1", false},
		{[]string{"10.1.0.0/16"}, "64:ff9b::a01:203", false},
		{[]string{"127.0.0.1"}, "127.0.0.1", true},
		{[]string{"127.0.0.1"}, "127.0.0.2", false},
		{[]string{"::1"}, "::1", true},
		{[]string{"::1"}, "127.0.0.1", false},
		{[]string{"fd00::/32"}, "fd00::1", true},
	} {
		for _, secure := range []bool{true, false} {
			if err := ask(open(secure, c.ranges...), c.address); (err == nil) != c.allowed {
				t.Errorf("%v, https %t, to %s: %v", c.ranges, secure, c.address, err)
			}
		}
	}
	for _, wrong := range []string{"", "127.0.0.1", "localhost:80", "127.0.0.1:"} {
		if err := secured.control("tcp4", wrong, nil); err == nil {
			t.Errorf("it would dial %q", wrong)
		}
	}
	for _, n := range []string{"udp4", "unix", "tcp"} {
		if err := secured.control(n, "1.1.1.1:443", nil); err == nil {
			t.Errorf("it would dial by %s", n)
		}
	}
	if _, err := newGuard(true, []string{"nonsense"}); err == nil {
		t.Error("a range that is none was taken")
	}
}

// TestForbiddenIsNotNamed: whoever names a host that only the server's own
// network knows does not learn its address.
func TestForbiddenIsNotNamed(t *testing.T) {
	t.Parallel()
	const to = "https://127.0.0.1:9/"
	l, err := newLine(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	secret, _ := keystile.NewWebhookSecret()
	o := l.post(t.Context(), to, "evt_1", []byte("{}"), []keystile.WebhookSecret{secret})
	if o.delivered || !strings.Contains(o.Error, "not dialled") || strings.Contains(o.Error, "127.0.0.1") || o.Address != "" {
		t.Errorf("%q, dialled %q", o.Error, o.Address)
	}
	// Nor where the name has a public address as well, which was dialled before
	// or after.
	g, err := newGuard(true, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]string{{"1.1.1.1:443", "10.0.0.1:443"}, {"10.0.0.1:443", "1.1.1.1:443"}} {
		var dialled address
		for _, to := range order {
			_ = g.dialer().ControlContext(dialled.within(t.Context()), "tcp4", to, nil) // TestGuard has its answers
		}
		if got := dialled.last(); got != "1.1.1.1:443" {
			t.Errorf("%v: dialled %q", order, got)
		}
	}
}
