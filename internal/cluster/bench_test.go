package cluster_test

import (
	"fmt"
	"testing"

	"github.com/keystile/keystile/internal/store"
)

// BenchmarkBarrier is what a revoke waits for from commit to answer, and the
// commit before it: with this server alone, and with three others that have to
// acknowledge; one caller at a time, and many at once.
func BenchmarkBarrier(b *testing.B) {
	change := func(b *testing.B, s *server) {
		seq, err := s.store.Write(b.Context(), func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") })
		if err != nil {
			b.Error(err)
			return
		}
		if pending, _, err := s.node.Barrier(b.Context(), seq, true); pending || err != nil {
			b.Errorf("pending %t, error %v", pending, err)
		}
	}
	for _, count := range []int{1, 4} {
		b.Run(fmt.Sprintf("nodes=%d", count), func(b *testing.B) {
			s := startAll(b, count, 1)[0]
			b.Run("callers=1", func(b *testing.B) {
				for b.Loop() {
					change(b, s)
				}
			})
			b.Run("callers=128", func(b *testing.B) {
				b.SetParallelism(64)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						change(b, s)
					}
				})
			})
		})
	}
	b.Run("sqlite", func(b *testing.B) {
		s := start(b, store.Options{Dir: b.TempDir(), Serve: true}, 1)
		for b.Loop() {
			change(b, s)
		}
	})
}
