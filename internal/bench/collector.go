package bench

import (
	"context"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/keystile/keystile/internal/verify"
)

// objects returns how many objects were put on the heap so far.
func objects() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m) // to the object; package runtime/metrics counts by the page
	return m.Mallocs
}

// collected returns the time that the collector has taken of the processors.
func collected() float64 {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/pause:cpu-seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64() - s[1].Value.Float64() // pauses are told in processors that stand still
}

// collector returns how long the collector works for a load: checks as requests
// make them, each with as much garbage as the smallest request of net/http.
func (c *check) collector(ctx context.Context) (float64, error) {
	const checks, garbage, size = 200_000, 4, 512
	var kept [1024][]byte // what requests under way hold
	runtime.GC()
	before := collected()
	unknown := c.secrets.texts([]uint64{1 << 62, 1<<62 + 1, 1<<62 + 2, 1<<62 + 3})
	now := time.Now()
	var r verify.Result
	for i := range checks {
		if i%1024 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		c.index.Decide(&verify.Query{Secret: unknown[i%len(unknown)], Now: now}, &r)
		for j := range garbage {
			kept[(i*garbage+j)%len(kept)] = make([]byte, size)
		}
		c.recorder.Count(&r, r.Code, from(), agent, now)
	}
	runtime.GC()
	runtime.KeepAlive(c)
	return collected() - before, nil
}
