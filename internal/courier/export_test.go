package courier

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// DialTo has a mailer reach its server, whatever its name, at an address.
func (m *Mailer) DialTo(address string) {
	m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

// Claims plays how a node claims endpoints where each workspace has so many of
// them, all of which hang, and returns how many each has got in the end.
func Claims(endpoints map[string]int) map[string]int {
	c := New(nil, nil, nil)
	got := map[string]int{}
	for {
		n, full := c.room()
		before := n
		for workspace, all := range endpoints { // the first found may take all
			for ; n > 0 && got[workspace] < all && !slices.Contains(full, workspace); n-- {
				got[workspace]++
				b := newBox()
				b.round.WorkspaceID = workspace
				c.boxes[fmt.Sprint(workspace, got[workspace])] = b
			}
		}
		if n == before {
			return got
		}
	}
}

// Resume ends a mailer's pause.
func (m *Mailer) Resume() { m.pause = time.Time{} }
