package verify_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// benchKeys is how many keys the benchmark's index holds.
func benchKeys(b *testing.B) int {
	text, ok := os.LookupEnv("KEYSTILE_BENCH_KEYS")
	if !ok {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("KEYSTILE_BENCH_KEYS=%q: want the number of keys, such as 10000000", text)
	}
	return n
}

// BenchmarkVerify measures a check as the server makes it: the decision with a
// permission, and the counting of the use. KEYSTILE_BENCH_KEYS=10000000 makes
// the index as large as memory is planned for.
func BenchmarkVerify(b *testing.B) {
	n := benchKeys(b)
	before := heap()
	x := verify.New(format(b), n)
	x.Apply(verify.Batch{Workspaces: workspaces(), Roles: roles()})
	// Only so many secrets are kept that their records exceed the caches.
	const most = 1 << 20
	secrets := make([]string, min(n, most))
	chunk := make([]verify.Key, 0, 4096)
	random := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	for i := range n {
		var k verify.Key
		if i < len(secrets) {
			secrets[i] = mint(b)
			k = newKey(i, secrets[i])
		} else {
			k = newKey(i, "")
			for j := range k.Digest {
				k.Digest[j] = byte(random.Uint32())
			}
		}
		if chunk = append(chunk, k); len(chunk) == cap(chunk) || i == n-1 {
			x.Apply(verify.Batch{Keys: chunk})
			chunk = chunk[:0]
		}
	}
	loaded := time.Since(began)
	var unknown []string
	for range 1000 {
		unknown = append(unknown, mint(b))
	}
	texts := int64(0)
	for _, s := range secrets {
		texts += int64(len(s)+7)/8*8 + 16
	}
	perKey := float64(heap()-before-texts) / float64(n)
	c := verify.NewRecorder()
	from := netip.MustParseAddr("192.0.2.1")

	verifyOne := func(secret string) keystile.Code {
		now := time.Now()
		q, r := verify.Query{Secret: secret, Permission: "stock.read", Address: from, Now: now}, verify.Result{}
		x.Decide(&q, &r)
		c.Count(&r, r.Code, from, "bench/1.0", now)
		return r.Code
	}
	run := func(name string, want keystile.Code, pick func(i uint64) string) {
		b.Run(fmt.Sprintf("%s/keys=%d", name, n), func(b *testing.B) {
			b.ReportAllocs()
			random := rand.NewPCG(3, 4)
			for b.Loop() {
				if got := verifyOne(pick(random.Uint64())); got != want {
					b.Fatalf("got %s, want %s", got, want)
				}
			}
			b.StopTimer()
			b.ReportMetric(perKey, "bytes/key")
			b.ReportMetric(float64(loaded.Nanoseconds())/float64(n), "ns/load")
		})
		c.Drain()
	}
	run("first use", keystile.CodeValid, func(i uint64) string { return secrets[i%uint64(len(secrets))] })
	for _, s := range secrets {
		verifyOne(s)
	}
	run("again", keystile.CodeValid, func(i uint64) string { return secrets[i%uint64(len(secrets))] })
	run("one hot key", keystile.CodeValid, func(uint64) string { return secrets[0] })
	run("unknown", keystile.CodeUnknown, func(i uint64) string { return unknown[i%uint64(len(unknown))] })
	run("malformed", keystile.CodeMalformed, func(i uint64) string { return unknown[i%uint64(len(unknown))][:46] })
	b.Run(fmt.Sprintf("sha256/keys=%d", n), func(b *testing.B) {
		random := rand.NewPCG(3, 4)
		var sum byte
		for b.Loop() {
			sum += keystile.Digest(secrets[random.Uint64()%uint64(len(secrets))])[0]
		}
	})
	runtime.KeepAlive(x)
}
