package verify

import (
	"net/netip"
	"time"

	"github.com/keystile/keystile"
)

// Meet counts as a goroutine does that met another one at the key's record.
func (c *Recorder) Meet(r Result, address netip.Addr, userAgent string, now time.Time) {
	c.shard(r.id[1]).count(&r, source{id: r.id, code: keystile.CodeValid, address: address.As16()}, c.hash(&r, address, userAgent), true, userAgent, now.UnixMilli())
}

// Hot tells whether the key is counted beside its record.
func (r *Result) Hot() bool { return r.table.records[r.slot][use].Load()>>hashAt == hotHash }
