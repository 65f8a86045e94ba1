package courier

import (
	"context"
	"net"
	"time"
)

// DialTo has a mailer reach its server, whatever its name, at an address.
func (m *Mailer) DialTo(address string) {
	m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

// Resume ends a mailer's pause.
func (m *Mailer) Resume() { m.pause = time.Time{} }
