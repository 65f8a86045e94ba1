package verify_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// missed counts n attempts with what is no key from an address.
func missed(c *verify.Recorder, code keystile.Code, from netip.Addr, n int) {
	for range n {
		c.Count(&verify.Result{Code: code}, code, from, "guess/1.0", noon)
	}
}

// bySource fails the test when two misses share a source and a code.
func bySource(t *testing.T, all []verify.Miss) map[string]int64 {
	t.Helper()
	m := map[string]int64{}
	for _, one := range all {
		name := fmt.Sprint(one.Code, " ", one.Source)
		if _, twice := m[name]; twice {
			t.Errorf("%s twice in one drain", name)
		}
		if m[name] = one.Count; one.Count < 1 || one.Last.IsZero() {
			t.Errorf("%+v", one)
		}
	}
	return m
}

func missesIn(all []verify.Miss) (n int64) {
	for _, m := range all {
		n += m.Count
	}
	return n
}

// IP11: attempts with what is no key are counted by outcome and source, an
// IPv6 address as its /64.
func TestMissesBySource_IP11(t *testing.T) {
	c := verify.NewRecorder()
	for _, a := range []struct {
		code keystile.Code
		from string
		n    int
	}{
		{keystile.CodeUnknown, "192.0.2.1", 3},
		{keystile.CodeUnknown, "::ffff:192.0.2.1", 1}, // the same
		{keystile.CodeMalformed, "192.0.2.1", 2},
		{keystile.CodeUnknown, "192.0.2.2", 1},
		{keystile.CodeUnknown, "2001:db8:1:2::1", 4},
		{keystile.CodeUnknown, "2001:db8:1:2:ffff::1%eth0", 5},
		{keystile.CodeUnknown, "2001:db8:1:3::1", 1},
		{keystile.CodeUnknown, "::", 1}, // which is an address
		{keystile.CodeMalformed, "0.0.0.0", 1},
	} {
		missed(c, a.code, netip.MustParseAddr(a.from), a.n)
	}
	missed(c, keystile.CodeUnknown, netip.Addr{}, 7)
	all := c.DrainMisses()
	got := bySource(t, all)
	want := map[string]int64{
		"unknown 192.0.2.1/32": 4, "malformed 192.0.2.1/32": 2, "unknown 192.0.2.2/32": 1, "unknown 2001:db8:1:2::/64": 9,
		"unknown 2001:db8:1:3::/64": 1, "unknown ::/64": 1, "malformed 0.0.0.0/32": 1, "unknown invalid Prefix": 7,
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, want %d", name, got[name], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	if again := c.DrainMisses(); len(again) != 0 {
		t.Errorf("drained twice: %v", again)
	}
	c.RestoreMisses(all)
	missed(c, keystile.CodeUnknown, netip.MustParseAddr("192.0.2.2"), 1)
	want["unknown 192.0.2.2/32"]++
	// As a replica sends it; what no Count could have counted is left out.
	one := verify.Miss{Code: keystile.CodeMalformed, Source: verify.Source(netip.MustParseAddr("2001:db8:1:3::9")), Count: 6, Last: noon}
	odd := one.Use()
	odd.Code = keystile.CodeRevoked
	c.Restore([]verify.Use{one.Use(), odd})
	want["malformed 2001:db8:1:3::/64"] = 6
	restored := bySource(t, c.DrainMisses())
	for name, n := range want {
		if restored[name] != n {
			t.Errorf("restored, %s: %d, want %d", name, restored[name], n)
		}
	}
}

// TestMissesFlood: hundreds of thousands of addresses take no memory, hide no
// one who tries often, and no attempt is missing from the sum.
func TestMissesFlood(t *testing.T) {
	c := verify.NewRecorder()
	random := rand.New(rand.NewPCG(7, 8))
	loud := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:bad::1")}
	const flood, each = 300_000, 100
	sent := int64(0)
	for i := range flood {
		from := address(int(random.Uint32() & 0xffffff))
		if i%2 == 0 {
			from = netip.AddrFrom16([16]byte{0x20, 1, byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())})
		}
		missed(c, keystile.CodeUnknown, from, 1)
		sent++
		if i%(flood/each) == 0 {
			for _, a := range loud {
				missed(c, keystile.CodeMalformed, a, 20)
				sent += 20
			}
		}
	}
	all := c.DrainMisses()
	if len(all) > 2*4096+2 {
		t.Errorf("%d sources", len(all))
	}
	if n := missesIn(all); n != sent {
		t.Errorf("%d attempts, %d were made", n, sent)
	}
	got := bySource(t, all)
	for _, name := range []string{"malformed 198.51.100.1/32", "malformed 2001:db8:bad::/64"} {
		if n := got[name]; n < 20*each*9/10 {
			t.Errorf("%s: %d of %d", name, n, 20*each)
		}
	}
}

// TestMissesConcurrent: none is lost and none counted twice, whoever drains.
func TestMissesConcurrent(t *testing.T) {
	c := verify.NewRecorder()
	var drained int64
	var all, drains sync.WaitGroup
	stop := make(chan struct{})
	drains.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				got := c.DrainMisses()
				if len(got)%2 == 1 {
					c.RestoreMisses(got)
				} else {
					drained += missesIn(got)
				}
			}
		}
	})
	const clients, each = 4, 20_000
	for client := range clients {
		all.Go(func() {
			for i := range each {
				missed(c, keystile.CodeUnknown, address(i%(500*(client+1))), 1)
			}
		})
	}
	all.Wait()
	close(stop)
	drains.Wait()
	drained += missesIn(c.DrainMisses())
	if drained != clients*each {
		t.Errorf("%d attempts, %d were made", drained, clients*each)
	}
}

func TestMissesAllocateNothing(t *testing.T) {
	c := verify.NewRecorder()
	n := 0
	if got := testing.AllocsPerRun(1000, func() {
		n++
		missed(c, keystile.CodeUnknown, address(n*7919), 1)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// BenchmarkMiss measures counting alone, of what is no key: from one address
// and from a new one each time.
func BenchmarkMiss(b *testing.B) {
	for name, from := range map[string]func(i uint64) netip.Addr{
		"one source":  func(uint64) netip.Addr { return address(1) },
		"new sources": func(i uint64) netip.Addr { return address(int(i & 0xffffff)) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			c, random, now := verify.NewRecorder(), rand.NewPCG(3, 4), time.Now()
			for b.Loop() {
				c.Count(&verify.Result{Code: keystile.CodeUnknown}, keystile.CodeUnknown, from(random.Uint64()), "", now)
			}
		})
	}
}
