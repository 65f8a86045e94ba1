package store_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// TestSettledUses: uses that are noted and settled later, a few at a time, come
// to the same rows as those that are added at once, and none is lost or counted
// twice by noting more in between.
func TestSettledUses(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			atOnce, later := d.make(t), d.make(t)
			var numbers []int
			for n := range 20 {
				numbers = append(numbers, n+1)
			}
			for _, f := range []*fixture{atOnce, later} {
				addKeys(t, f.Store, numbers...)
			}
			r := rand.New(rand.NewPCG(1, 2))
			settle := func() (n int) {
				write(t, later.Store, func(tx *store.Tx) (err error) { n, err = tx.SettleUses(7); return err })
				return n
			}
			for range 6 {
				var uses []verify.Use
				for range 50 { // some of one key, address and hour
					u := use(1+r.IntN(len(numbers)), keystile.CodeValid, noon.Add(time.Duration(r.IntN(3*3600))*time.Second))
					u.Address = [...]netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}[r.IntN(3)]
					u.Count, u.UserAgent = 1+r.Int64N(9), fmt.Sprint("agent ", u.Last.Unix())
					uses = append(uses, u)
				}
				uses = append(uses, use(99, keystile.CodeValid, noon)) // a key that is gone
				write(t, atOnce.Store, func(tx *store.Tx) error { return tx.AddUses(uses) })
				write(t, later.Store, func(tx *store.Tx) error { return tx.NoteUses(uses) })
				settle()
			}
			if n := get(t, later.Store, func(tx *store.Tx) (int, error) { return tx.UsesToSettle() }); n == 0 {
				t.Fatal("nothing is left to settle; that is no test")
			}
			for settle() > 0 { //nolint:revive // until all is settled
			}
			for _, q := range []string{
				`SELECT key_id || ' ' || CAST(at AS TEXT) || ' ' || address || ' ' || user_agent FROM key_use`,
				`SELECT key_id || ' ' || CAST(hour AS TEXT) || ' ' || code || ' ' || workspace_id || ' ' || CAST(count AS TEXT) FROM usage`,
				`SELECT key_id || ' ' || CAST(days AS TEXT) || ' ' || CAST(at AS TEXT) || ' ' || CAST(count AS TEXT) FROM usage_sums`,
				`SELECT workspace_id || ' ' || CAST(day AS TEXT) || ' ' || CAST(count AS TEXT) FROM workspace_usage`,
				`SELECT key_id || ' ' || address || ' ' || user_agent || ' ' || CAST(first_at AS TEXT) || ' ' || CAST(last_at AS TEXT) || ' ' || CAST(count AS TEXT) FROM key_sources`,
			} {
				want, got := texts(t, atOnce.raw(t), q), texts(t, later.raw(t), q)
				slices.Sort(want)
				slices.Sort(got)
				if len(want) == 0 || !slices.Equal(want, got) {
					t.Errorf("%s\nadded at once:\n%s\nsettled:\n%s", q, strings.Join(want, "\n"), strings.Join(got, "\n"))
				}
			}
			if n := get(t, later.Store, func(tx *store.Tx) (int, error) { return tx.UsesToSettle() }); n != 0 {
				t.Error("something is left to settle")
			}
		})
	}
}

// What was noted of keys that are deleted goes with them.
func TestNotedUsesOfDeletedKeys(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addKeys(t, f.Store, 1, 2)
			left := func() int64 { return number(t, f.raw(t), `SELECT COUNT(*) FROM recent_uses`) }
			write(t, f.Store, func(tx *store.Tx) error {
				return tx.NoteUses([]verify.Use{use(1, keystile.CodeValid, noon), use(2, keystile.CodeValid, noon)})
			})
			write(t, f.Store, func(tx *store.Tx) error { return tx.DeleteKey(all(), keyID(1)) })
			if n := left(); n != 1 {
				t.Errorf("%d rows after one of two keys was deleted", n)
			}
			write(t, f.Store, func(tx *store.Tx) error { _, err := tx.DeleteWorkspace(all(), acme); return err })
			if n := left(); n != 0 {
				t.Errorf("%d rows after the workspace was deleted", n)
			}
		})
	}
}

// TestSourcesAreBounded: of a key that comes from other addresses all the time
// the latest are kept, a bit more than a thousand, and those of another outcome.
func TestSourcesAreBounded(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addKeys(t, f.Store, 1)
			write(t, f.Store, func(tx *store.Tx) error { return tx.AddUses([]verify.Use{use(1, keystile.CodeRevoked, noon)}) })
			const flushes, each = 60, 64
			address := func(n int) netip.Addr {
				return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 14: byte(n >> 8), 15: byte(n)})
			}
			for i := range flushes {
				var uses []verify.Use
				for j := range each {
					u := use(1, keystile.CodeValid, noon.Add(time.Duration(i)*10*time.Second))
					u.Address = address(i*each + j)
					uses = append(uses, u)
				}
				write(t, f.Store, func(tx *store.Tx) error { return tx.AddUses(uses) })
			}
			sources := get(t, f.Store, func(tx *store.Tx) ([]keystile.KeySource, error) { return tx.Sources(all(), keyID(1), flushes*each+1) })
			// That nothing was chosen in twenty flushes happens once in 5e8 runs.
			if n := len(sources); n < 1001 || n > 1001+20*each {
				t.Errorf("%d sources are kept", n)
			}
			if last := sources[len(sources)-1]; last.Code != keystile.CodeRevoked {
				t.Errorf("the oldest that is kept is %+v", last)
			}
			for i, s := range sources[:1000-each] { // within a flush all are as old
				if want := noon.Add(time.Duration(flushes-1-i/each) * 10 * time.Second); !s.LastAt.Equal(want) {
					t.Fatalf("source %d is of %s, want %s", i, s.LastAt, want)
				}
			}
		})
	}
}

// BenchmarkNoteUses is what BenchmarkAddUses is, of uses that are noted and
// settled with those of the five flushes before.
func BenchmarkNoteUses(b *testing.B) {
	for _, d := range databases() {
		b.Run(d.name, func(b *testing.B) {
			const keys, chunk = 10_000, 512
			f := d.make(b)
			addMany(b, f, keys)
			var uses []verify.Use
			for i := range keys {
				u := use(i, keystile.CodeValid, noon)
				u.KeyID = fmt.Sprintf("key_%d", i+1)
				uses = append(uses, u)
			}
			slices.SortFunc(uses, func(a, b verify.Use) int { return strings.Compare(a.KeyID, b.KeyID) })
			for b.Loop() {
				for range 6 {
					for part := range slices.Chunk(uses, chunk) {
						write(b, f.Store, func(tx *store.Tx) error { return tx.NoteUses(part) })
					}
				}
				for n := 1; n > 0; {
					write(b, f.Store, func(tx *store.Tx) (err error) { n, err = tx.SettleUses(chunk); return err })
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/keys/6, "µs/key")
			b.ReportMetric(0, "ns/op")
		})
	}
}
