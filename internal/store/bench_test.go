package store_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// record is what the creation of a key writes.
func record(tx *store.Tx, n int) error {
	if err := tx.InsertKey(key(acme, n)); err != nil {
		return err
	}
	if err := tx.InsertAudit(auditEntry(acme, n)); err != nil {
		return err
	}
	if err := tx.InsertEvent(store.Event{ID: id("evt_", n), WorkspaceID: acme, Type: "key.created", ObjectID: keyID(n), At: noon, Data: "x"}); err != nil {
		return err
	}
	return tx.LogChange(store.ChangeKey, keyID(n))
}

// BenchmarkCreate: callers=1 has one row in each transaction, more callers
// share them.
func BenchmarkCreate(b *testing.B) {
	for _, d := range databases() {
		for _, callers := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("%s/callers=%d", d.name, callers), func(b *testing.B) {
				f := d.make(b)
				addWorkspaces(b, f.Store)
				var commits, next atomic.Int64
				f.OnCommit(func(int64, int64) { commits.Add(1) })
				b.SetParallelism(max(1, callers/2)) // times GOMAXPROCS
				b.ResetTimer()
				if callers == 1 {
					for n := range b.N {
						write(b, f.Store, func(tx *store.Tx) error { return record(tx, n) })
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							n := int(next.Add(1))
							if _, err := f.Write(b.Context(), func(tx *store.Tx) error { return record(tx, n) }); err != nil {
								b.Error(err)
							}
						}
					})
				}
				b.ReportMetric(float64(b.N)/float64(commits.Load()), "calls/commit")
			})
		}
	}
}

// BenchmarkCountActiveKeys is the question that every create asks when the
// plan has a limit.
func BenchmarkCountActiveKeys(b *testing.B) {
	for _, d := range databases() {
		for _, keys := range []int{100, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/keys=%d", d.name, keys), func(b *testing.B) {
				f := d.make(b)
				addMany(b, f, keys)
				b.ResetTimer()
				for range b.N {
					read(b, f.Store, func(tx *store.Tx) error {
						n, err := tx.CountActiveKeys(store.OneWorkspace(acme), acme, noon)
						if n != keys {
							b.Errorf("%d keys", n)
						}
						return err
					})
				}
			})
		}
	}
}

func BenchmarkLoadIndex(b *testing.B) {
	const keys = 50_000
	for _, d := range databases() {
		b.Run(d.name, func(b *testing.B) {
			f := d.make(b)
			addMany(b, f, keys)
			b.ResetTimer()
			for range b.N {
				n := 0
				if _, err := f.LoadIndex(b.Context(), func(batch verify.Batch) error { n += len(batch.Keys); return nil }); err != nil || n != keys {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.N*keys)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

// addMany makes that many active keys of acme.
func addMany(b *testing.B, f *fixture, keys int) {
	b.Helper()
	addWorkspaces(b, f.Store)
	db := f.raw(b)
	numbers, digest := `generate_series(1, $1) n`, `decode(lpad(to_hex(n), 64, '0'), 'hex')`
	if !f.Postgres() {
		numbers = `(WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM s WHERE n < $1) SELECT n FROM s)`
		digest = `CAST(printf('%032d', n) AS BLOB)`
	}
	if _, err := db.ExecContext(b.Context(), `INSERT INTO keys (id, workspace_id, digest, name, preview, state, role_id, search,
		created_at, creator_kind, creator_id, creator_name, updated_at)
		SELECT 'key_' || n, 'ws_acme', `+digest+`, 'a key', 'gw_', 0, 'role_writer', 'a key', 1, 'operator', '', '', 1 FROM `+numbers, keys); err != nil {
		b.Fatal(err)
	}
	if f.Postgres() {
		if _, err := db.ExecContext(b.Context(), `VACUUM ANALYZE keys`); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddUses is a flush of the uses of ten thousand keys, as large as
// package keyring makes them.
func BenchmarkAddUses(b *testing.B) {
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
			for b.Loop() {
				for part := range slices.Chunk(uses, chunk) {
					write(b, f.Store, func(tx *store.Tx) error { return tx.AddUses(part) })
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/keys, "µs/key")
			b.ReportMetric(0, "ns/op")
		})
	}
}
