package cluster

import "time"

// lateTimes is how many changes within a while may wait long for a child. Then
// it gets no lease for as long, so that it pays and not whoever takes access
// away: a child without a lease refuses, and nobody waits for it.
const lateTimes = 3

// lateness is how far a child has kept changes waiting. What is counted is time
// during which it asked on for leases: one that is frozen or cut off asks for
// none, and is waited for once.
type lateness struct {
	owed    int64       // a change that it has not said to show, 0 for none
	since   time.Time   // when the child came to owe it
	late    []time.Time // when changes had waited for it for too long, the last few
	refused time.Time   // until then it gets no lease
}

// owe notes what has been applied, which each child with a lease has to say that
// it shows. The caller holds mu.
func (n *Node) owe(now time.Time) {
	for _, c := range n.children {
		if c.owed == 0 && len(c.held) > 0 {
			c.owed, c.since = n.applied, now
		}
	}
}

// settle counts how long a child has kept a change waiting, whenever it says how
// far it has come. The caller holds mu.
func (n *Node) settle(c *child, now time.Time) {
	if c.owed == 0 {
		return
	}
	if took := now.Sub(c.since); took > n.times.late {
		n.wasLate(c, now, took)
		c.since = now // it may go on like that
	}
	switch {
	case c.acked < c.owed:
	case c.acked < n.applied:
		c.owed, c.since = n.applied, now
	default:
		c.owed = 0
	}
}

func (n *Node) wasLate(c *child, now time.Time, took time.Duration) {
	n.late++
	if now.Before(c.refused) {
		return // it has no lease, and nobody waits
	}
	if c.late = append(c.recent(now, n.times.lateSpan), now); len(c.late) == 1 {
		n.log.Warn("a change has waited for a replica that asks for leases and is late to say that it shows the change",
			"replica", c.caller.Address, "program", c.caller.Program, "key", c.caller.KeyID, "waited", took.Round(time.Millisecond).String())
	}
	if len(c.late) < lateTimes {
		return
	}
	// Where many are late it is this server, or the network, that is slow: to
	// refuse them all would turn slow changes into no answers.
	out := 0
	for _, other := range n.children {
		if now.Before(other.refused) {
			out++
		}
	}
	if out >= max(1, len(n.children)/10) {
		return
	}
	c.refused, c.late = now.Add(n.times.lateSpan), nil
	n.log.Error("changes have waited for a replica again and again, which gets no lease for a while and refuses; "+
		"if it goes on like that, look after its machine, or revoke its key",
		"replica", c.caller.Address, "program", c.caller.Program, "key", c.caller.KeyID, "until", c.refused.UTC())
}

// recent are the times of the last while.
func (l *lateness) recent(now time.Time, span time.Duration) []time.Time {
	for len(l.late) > 0 && now.Sub(l.late[0]) > span {
		l.late = l.late[1:]
	}
	return l.late
}

// Late is how often a change has waited for a replica for longer than it should.
func (n *Node) Late() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.late
}
