package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// A child is a replica that is attached to this node: a process that answers
// from an index of its own, under a lease that ends no later than this node's.
//
// The node says of no change that it is applied before every child that may
// hold a lease from before has said so. So whoever waits for the node waits for
// them.
type child struct {
	caller  Caller
	mark    string // that it left last
	history int    // of the node, when the child came
	acked   int64  // how far it has said that its index shows the changes
	// until is when its last lease is over for certain, whatever its clock: 1.25
	// times the lease, on this node's monotonic clock.
	until time.Time
	held  []held      // leases that may not be over, oldest first: later ones have later heads and ends
	timer *time.Timer // fires when the oldest of them is over
	lateness

	part     int64 // of the uses that were taken from it last
	detached bool  // its stream has ended
	gone     chan struct{}
}

// held is a lease that a child may have: it answers under it once its index
// shows head.
type held struct {
	head  int64
	until time.Time
}

// shows is the position that whatever the child answers shows at least: what
// it has acknowledged, or what its oldest lease takes. A child that asks for
// leases and acknowledges nothing is not waited for any longer than for its
// leases of before.
func (c *child) shows() int64 {
	if len(c.held) == 0 { // it answers nothing
		return c.acked
	}
	return max(c.acked, c.held[0].head)
}

// lapse forgets the leases that are over.
func (c *child) lapse(now time.Time) {
	for len(c.held) > 0 && !now.Before(c.held[0].until) {
		c.held = c.held[1:]
	}
}

// MaxChildren is how many children a node takes: each needs some 300 KiB and has
// every change wait for two messages.
const MaxChildren = 5000

const (
	// keepSteps is how many objects the node keeps of what it has applied, so
	// that children get it from memory. Who is further behind is served from
	// the database.
	keepSteps = 1 << 14
	// loadPace is how many keys a second a child must take at least while it loads
	// everything, some 300 KiB, beyond a while at the start.
	loadPace = 2000
	// holdNum/holdDen is by how much longer a child is waited for than its
	// lease lasts: clocks may drift apart by 11 % on each side.
	holdNum, holdDen = 5, 4
)

var (
	// ErrLeaving tells a child to go to another server.
	ErrLeaving = errors.New("cluster: this node is leaving")
	// ErrReset tells a child that what it knows is of another history.
	ErrReset = errors.New("cluster: the change log was replaced")
	// ErrCrowded tells a child that the node has as many as it takes.
	ErrCrowded = errors.New("cluster: this node has as many replicas as it takes")
	// ErrSlow ends the conversation with a child that takes too slowly what it loads.
	ErrSlow = errors.New("cluster: it takes fewer than 2000 keys a second, which keeps others from loading")
	// ErrCopied tells a child that another process has spoken for it.
	ErrCopied = errors.New("cluster: another process speaks for this replica: its machine was copied while it ran")
	// ErrNoChild says that an attachment is not, or no longer, known.
	ErrNoChild = errors.New("cluster: no such attachment")
)

// Caller is who has attached a child.
type Caller struct {
	Address, Program string // of the process, for people
	KeyID            string // of the key that it has attached with, for people
	// Credential is a digest of what the child has shown. Its attachment is part
	// of URLs, which proxies write down, so that whoever speaks for it later must
	// show the same.
	Credential [32]byte
}

// Attachment is a conversation with one child.
type Attachment struct {
	ID      string
	node    *Node
	child   *child
	history int
	seq     int64 // how far the child was told
}

// Attach begins a conversation. The child has no lease yet, so nobody waits
// for it.
func (n *Node) Attach(caller Caller) (*Attachment, error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	if err := n.haveChildren(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.leaving:
		return nil, ErrLeaving
	case len(n.children) >= MaxChildren:
		return nil, ErrCrowded
	}
	a := &Attachment{ID: "rep_" + hex.EncodeToString(random), node: n, history: n.history, child: &child{
		caller: caller, history: n.history, gone: make(chan struct{}),
	}}
	n.children[a.ID] = a.child
	return a, nil
}

// haveChildren notes in a store of one node that children have been there: a
// server that is killed and started again knows none of them by name, and
// waits for them all.
func (n *Node) haveChildren() error {
	if !n.alone {
		return nil // the row of a server that was killed stays until its lease is over
	}
	n.mu.Lock()
	noted := n.noted
	n.mu.Unlock()
	if noted {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.times.stepLimit)
	defer cancel()
	if _, err := n.store.Write(ctx, func(tx *store.Tx) error { return tx.SetSetting(store.SettingReplicas, "1") }); err != nil {
		return err
	}
	n.mu.Lock()
	n.noted = true
	n.mu.Unlock()
	return nil
}

// orphans makes narrowing changes wait until the leases of children that a
// killed predecessor had are over.
func (n *Node) orphans(ctx context.Context) error {
	had, err := hadChildren(ctx, n.store)
	if err != nil || !had {
		return err
	}
	n.noted = true
	n.orphaned = time.Now().Add(n.times.wait)
	time.AfterFunc(n.times.wait, n.review)
	return nil
}

// hadChildren tells whether a server that is there, or did not end in order,
// has had children.
func hadChildren(ctx context.Context, s *store.Store) (had bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, protocol().stepLimit)
	defer cancel()
	err = s.Follow(ctx, func(tx *store.Tx) error {
		value, err := tx.Setting(store.SettingReplicas)
		had = value == "1"
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return had, err
}

// Resume makes the conversation go on where the child stands, or fails with
// ErrReset when the log does not have that position, or no longer.
func (a *Attachment) Resume(ctx context.Context, seq int64, token [16]byte) error {
	if a.node.stoodAt(a.history, seq, token) {
		a.seq = seq
		return nil
	}
	if err := a.look(ctx, func(tx *store.Tx) error {
		changes, err := tx.ChangesSince(seq, 1)
		if err != nil {
			return err
		}
		return continues(changes, seq, token)
	}); errors.Is(err, store.ErrHistory) {
		return ErrReset
	} else if err != nil {
		return err
	}
	a.seq = seq
	return nil
}

// stoodAt tells whether the node remembers that it has stood at a position of
// the history that it follows.
func (n *Node) stoodAt(history int, seq int64, token [16]byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.history != history {
		return false
	}
	if seq == n.applied {
		return token == n.token
	}
	i := n.stepBehind(seq)
	return i > 0 && n.steps[i-1].last == seq && n.steps[i-1].token == token
}

// look reads from the store for a child. Few may do so at once: after a restart
// they all come, and would take the connections that the node follows the log
// and renews its lease with.
func (a *Attachment) look(ctx context.Context, read func(*store.Tx) error) error {
	select {
	case a.node.looking <- struct{}{}:
		defer func() { <-a.node.looking }()
	case <-a.child.gone:
		return ErrNoChild
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, a.node.times.stepLimit)
	defer cancel()
	return a.node.store.Follow(ctx, read)
}

// Load hands over everything, and returns the position that it shows. It fails
// with ErrSlow when the child takes it too slowly: meanwhile it keeps others from
// loading, and a snapshot of the database.
func (a *Attachment) Load(ctx context.Context, each func(verify.Batch) error) (seq int64, token [16]byte, err error) {
	select {
	case a.node.loading <- struct{}{}:
		defer func() { <-a.node.loading }()
	case <-ctx.Done():
		return 0, token, ctx.Err()
	}
	var waited time.Duration
	keys := 0
	head, err := a.node.loadIndex(ctx, func(b verify.Batch) error {
		begin := time.Now()
		err := each(b)
		waited += time.Since(begin)
		keys += len(b.Keys)
		if err == nil && waited > a.node.times.loadSlack+time.Duration(keys)*time.Second/loadPace {
			err = ErrSlow
		}
		return err
	})
	a.seq = head.Seq
	return head.Seq, head.Token, err
}

// Next returns the next changes, or none after the time, or at once ErrReset
// or ErrLeaving.
func (a *Attachment) Next(ctx context.Context, wait time.Duration) (b verify.Batch, seq int64, token [16]byte, err error) {
	n := a.node
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		n.mu.Lock()
		moved, leaving, history, applied := n.moved, n.leave, n.history, n.applied
		var next step
		i := n.stepBehind(a.seq)
		// The steps in memory begin early enough, and go on.
		reaches := i < len(n.steps) && n.steps[0].first <= a.seq+1
		if reaches {
			next = n.steps[i]
		}
		n.mu.Unlock()
		switch {
		case history != a.history:
			return b, 0, token, ErrReset
		case applied <= a.seq:
			// nothing yet
		case reaches:
			a.seq = next.last
			return next.batch, next.last, next.token, nil
		default:
			return a.fromStore(ctx)
		}
		select {
		case <-moved:
		case <-leaving:
			return b, 0, token, ErrLeaving
		case <-a.child.gone:
			return b, 0, token, ErrNoChild
		case <-timer.C:
			return b, a.seq, token, nil
		case <-ctx.Done():
			return b, 0, token, ctx.Err()
		}
	}
}

// fromStore reads changes that memory no longer holds.
func (a *Attachment) fromStore(ctx context.Context) (b verify.Batch, seq int64, token [16]byte, err error) {
	var changes []store.Change
	err = a.look(ctx, func(tx *store.Tx) (err error) {
		if changes, err = tx.ChangesSince(a.seq, changesAtOnce); err != nil {
			return err
		}
		if len(changes) == 0 || changes[0].Seq != a.seq {
			return store.ErrHistory // trimmed meanwhile
		}
		if err := continues(changes, a.seq, changes[0].Token); err != nil {
			return err
		}
		b, err = tx.IndexChanges(changes[1:])
		return err
	})
	if errors.Is(err, store.ErrHistory) {
		return b, 0, token, ErrReset
	} else if err != nil {
		return b, 0, token, err
	}
	last := changes[len(changes)-1]
	a.seq = last.Seq
	return b, last.Seq, last.Token, nil
}

// Granted is what a child gets when it asks.
type Granted struct {
	Head int64         // usable once the child's index shows that
	For  time.Duration // counted from before it asked; 0: none
	// Refused is until when it gets none because changes have waited for it too
	// often; zero otherwise.
	Refused time.Time
	// Fresh tells whether the uses of that part have not been taken yet.
	Fresh bool
}

// Grant takes note of how far a child has come, and gives it a lease: the
// child's index may be used for the duration, counted from before it asked,
// once it shows the head. First the child is noted, and only then the own
// position is read: a change that this head does not show is applied here
// afterwards, and then waits for the child.
func (n *Node) Grant(id string, who Speaker, seq, part int64) (g Granted, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.children[id]
	if err := c.speaks(who); err != nil {
		return g, err
	}
	if c.history != n.history {
		return g, ErrReset
	}
	c.mark = who.Mark
	now := time.Now()
	c.acked = max(c.acked, seq)
	n.settle(c, now)
	if part > c.part {
		c.part, g.Fresh = part, true
	}
	g.For = n.left(now)
	switch {
	case now.Before(c.refused):
		g.For, g.Refused = 0, c.refused
	case g.For <= 0 || n.leaving:
		g.For = 0
	default:
		n.hold(c, g.For*holdNum/holdDen)
	}
	n.report()
	g.Head = n.applied
	return g, nil
}

// hold notes that a child may have a lease, which is over after so long. The
// caller holds mu.
func (n *Node) hold(c *child, d time.Duration) {
	until := time.Now().Add(d)
	if !until.After(c.until) {
		return
	}
	c.until = until
	if last := len(c.held) - 1; last >= 0 && c.held[last].head == n.applied {
		c.held[last].until = until
	} else {
		c.held = append(c.held, held{n.applied, until})
	}
	switch {
	case c.timer == nil:
		c.timer = time.AfterFunc(d, n.review)
	case len(c.held) == 1: // it had none for a while
		c.timer.Reset(d)
	}
}

// Attached tells whether there is a conversation of that ID, of who shows the
// same credential as then.
func (n *Node) Attached(id string, who Speaker) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.children[id].speaks(who) == nil
}

// Acknowledge takes note of how far a child has come, and gives it nothing.
func (n *Node) Acknowledge(id string, who Speaker, seq int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.children[id]; c.speaks(who) == nil && c.history == n.history {
		c.mark = who.Mark
		c.acked = max(c.acked, seq)
		n.settle(c, time.Now())
		n.report()
	}
}

// Roles are the built-in ones, which are not in the store.
func (n *Node) Roles() []verify.Role { return n.roles }

// Lease is for how long this node may answer without reaching the database
// again; on SQLite, where it needs no lease, what a replica would get.
func (n *Node) Lease() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(n.left(time.Now()), 0)
}

// left is how much of this node's own lease is left, on the clock that says
// less. The caller holds mu.
func (n *Node) left(now time.Time) time.Duration {
	end := n.usableTo.Load()
	switch {
	case end == nil:
		return 0
	case n.alone:
		return n.times.lease // the only server of its directory needs none itself
	}
	return min(end.Sub(now), end.Round(0).Sub(now.Round(0)), n.times.lease)
}

// Release ends a conversation whose child holds no lease any more, and says so
// itself.
func (n *Node) Release(id string, who Speaker) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.children[id]; c.speaks(who) == nil {
		n.forget(id, c)
		n.report()
	}
}

// Detach ends a conversation whose child is gone. A lease that it may still
// have is waited for.
func (a *Attachment) Detach() {
	a.node.mu.Lock()
	defer a.node.mu.Unlock()
	a.child.detached = true
	if len(a.child.held) == 0 && a.node.children[a.ID] == a.child {
		a.node.forget(a.ID, a.child)
	}
}

// forget removes a child. The caller holds mu.
func (n *Node) forget(id string, c *child) {
	if c.timer != nil {
		c.timer.Stop()
	}
	close(c.gone)
	delete(n.children, id)
}

// review removes leases that are over, and children that have none any more.
func (n *Node) review() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for id, c := range n.children {
		switch c.lapse(now); {
		case len(c.held) > 0:
			c.timer.Reset(c.held[0].until.Sub(now))
		case c.until.IsZero(): // it has just come
		case c.detached || !now.Before(c.refused):
			n.forget(id, c)
		}
	}
	n.report()
}

// report raises what this node says to have applied: what it shows itself and
// every child with a lease shows. The caller holds mu.
func (n *Node) report() {
	if n.reported == n.applied {
		return
	}
	if n.reported >= 0 && time.Now().Before(n.orphaned) {
		return // who shows what of a killed predecessor's children is not known
	}
	low := n.applied
	for _, c := range n.children {
		if len(c.held) > 0 {
			low = min(low, c.shows())
		}
	}
	seq, token := n.reported, n.reportedToken
	switch {
	case low == n.applied:
		seq, token = n.applied, n.token
	default:
		if i := n.stepBehind(low); i > 0 && n.steps[i-1].last > seq {
			seq, token = n.steps[i-1].last, n.steps[i-1].token
		}
	}
	if seq <= n.reported {
		return
	}
	n.reported, n.reportedToken = seq, token
	close(n.moved)
	n.moved = make(chan struct{})
	n.nudge() // to tell the others
}

// Children returns how many replicas are attached.
func (n *Node) Children() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.children)
}

// Dismiss asks all children to go elsewhere, gives no more leases, and waits
// until none of them can have one.
func (n *Node) Dismiss(ctx context.Context) error {
	n.mu.Lock()
	if !n.leaving {
		n.leaving = true
		close(n.leave)
	}
	n.mu.Unlock()
	return n.childless(ctx)
}

// childless waits until no child holds a lease.
func (n *Node) childless(ctx context.Context) error {
	for {
		n.mu.Lock()
		left := 0
		for _, c := range n.children {
			if len(c.held) > 0 {
				left++
			}
		}
		n.mu.Unlock()
		if left == 0 {
			return nil
		}
		if sleep(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
