// Package cluster keeps the index of every node in step with the change log,
// and holds back the answer to a change until no node acts on what was before:
// leases, barrier, change stream. It knows no rule and no HTTP.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// changesAtOnce is how many changes are read in one step.
const changesAtOnce = 1000

// loadsAtOnce is how many children may load everything at the same time: each
// holds a connection to the database and a snapshot.
const loadsAtOnce = 2

// looksAtOnce is how many children may read changes from the store at the same
// time.
const looksAtOnce = 2

// times are those of the revocation protocol. They are part of it and no
// settings; only its tests make them shorter.
type times struct {
	// wait is L: how long a change that narrows access waits for a node that
	// does not answer.
	wait time.Duration
	// lease is L_node: for how long a node uses what it knows without having
	// asked again. It is shorter than wait, so that clocks may drift apart by
	// 11 % on each side.
	lease time.Duration
	// renewEvery and renewLimit are how often a node asks and how long it
	// waits for the answer.
	renewEvery, renewLimit time.Duration
	// createWait is how long a change that takes nothing away waits for the
	// other nodes, so that its caller can use what it made anywhere.
	createWait time.Duration
	// stepLimit bounds one step along the change log, so that a connection
	// that has died without a word is given up.
	stepLimit time.Duration
	// loadLimit is how long a load may bring nothing. Counting ten million
	// keys from a cold disk takes most of it.
	loadLimit time.Duration
	// loadSlack is what a child may take longer to load everything than its pace.
	loadSlack time.Duration
	// late is how long a change waits for a child that has a lease before that
	// counts against the child, lateSpan in which span of time such count, and
	// for how long the child is then refused leases.
	late, lateSpan time.Duration
}

func protocol() times {
	return times{
		wait: 15 * time.Second, lease: 12 * time.Second,
		renewEvery: 3 * time.Second, renewLimit: 2 * time.Second,
		createWait: time.Second, stepLimit: 5 * time.Second, loadLimit: time.Minute,
		loadSlack: 30 * time.Second, late: 3 * time.Second, lateSpan: 5 * time.Minute,
	}
}

// Node is this process as one that answers verifications from memory.
type Node struct {
	store  *store.Store
	log    *slog.Logger
	times  times
	format keystile.Format
	roles  []verify.Role // built into the profile; not in the store

	name    string
	started time.Time

	// alone tells that the store is a directory, which one server holds: there
	// are no other nodes, and this one needs no lease itself.
	alone bool
	// stale is for how long this node goes on answering checks of keys after its
	// lease, from what it knew; 0 for not at all.
	stale time.Duration
	// sendRow is the store's RenewNode.
	sendRow func(context.Context, store.Node, [16]byte) (head int64, err error)

	index    atomic.Pointer[verify.Index]
	usableTo atomic.Pointer[time.Time] // end of the lease, with monotonic clock; nil for none
	wake     chan struct{}
	others   others

	mu      sync.Mutex
	claim   store.Claim // of this node's row
	applied int64
	token   [16]byte
	grants  []grant // renewals that wait for applied to reach their heads, oldest first
	history int     // counts how often everything was loaded anew
	moved   chan struct{}
	own     ownRun

	// reported is how far this node and all its children have come, with the
	// token of that position: what the others are told.
	reported      int64
	reportedToken [16]byte
	children      map[string]*child
	steps         []step // applied last, oldest first
	kept          int    // objects in steps
	leaving       bool
	leave         chan struct{} // closed when leaving
	noted         bool          // that there have been children
	orphaned      time.Time     // when the leases of a killed predecessor's children are over

	loading chan struct{} // holds as many as children may load at once
	looking chan struct{} // and as many as may read what memory no longer has
	late    int64         // how often a change has waited long for a child; with mu

	renewing sync.Mutex
	renewed  int64 // how often this node has sent its row; only with renewing held

	acked int64 // what the others were told last; only follow touches it
	owes  bool  // another process waits to be told; only follow touches it

	look       sync.Mutex          // of seen
	seen       map[string]seenNode // other nodes
	timeline   int64               // of the database server, as it was last; with look
	masterKeys []string            // that this node holds; with mu
	loops      sync.WaitGroup
}

// ownRun is the newest run of changes, without a gap, that this process
// committed. Nobody else waits for this node to apply those.
type ownRun struct{ first, last int64 }

// grant is the answer to a renewal: usable until end once head is applied.
type grant struct {
	head int64
	end  time.Time
}

type seenNode struct {
	renewals int64
	mark     string
	since    time.Time
}

// NewNode returns a node that has loaded nothing yet. Name is for people.
// It takes over the store's OnCommit.
func NewNode(s *store.Store, format keystile.Format, roles []keystile.Role, name string, log *slog.Logger) (*Node, error) {
	return newNode(s, protocol(), format, roles, name, log)
}

func newNode(s *store.Store, t times, format keystile.Format, roles []keystile.Role, name string, log *slog.Logger) (*Node, error) {
	n := &Node{
		store: s, alone: !s.Postgres(), sendRow: s.RenewNode, log: log, times: t, format: format,
		claim: store.Claim{ID: random()}, name: name, started: time.Now(),
		wake: make(chan struct{}, 1), moved: make(chan struct{}), seen: map[string]seenNode{},
		children: map[string]*child{}, leave: make(chan struct{}), loading: make(chan struct{}, loadsAtOnce),
		looking: make(chan struct{}, looksAtOnce),
	}
	n.others = others{times: t, self: n.self, list: newRoster(s.Roster, t.stepLimit).list, note: s.NoteTimeline}
	for _, r := range roles {
		n.roles = append(n.roles, verify.Role{ID: r.ID, Name: r.Name, WorkspaceID: r.WorkspaceID, Permissions: r.Permissions})
	}
	s.OnCommit(func(first, last int64) {
		n.mu.Lock()
		if first != n.own.last+1 {
			n.own.first = first
		}
		n.own.last = last
		n.mu.Unlock()
		n.nudge()
	})
	return n, nil
}

// ServeStale has the node go on answering checks of keys for so long after its
// lease when it loses the database. Its row says so, and changes that take
// access away name it. It is called before Start, and not on SQLite, where
// nothing can be lost.
func (n *Node) ServeStale(d time.Duration) { n.stale = d }

// Start loads the index, takes a lease and follows the change log until ctx
// ends. It returns when the node can answer.
func (n *Node) Start(ctx context.Context) error {
	if n.alone {
		// The server that holds the directory is the only node: rows of
		// servers that were killed mean nothing.
		if _, err := n.store.Write(ctx, (*store.Tx).DeleteNodes); err != nil {
			return fmt.Errorf("cluster: forget former nodes: %w", err)
		}
		// Their children may be there all the same.
		if err := n.orphans(ctx); err != nil {
			return fmt.Errorf("cluster: look for replicas of a former server: %w", err)
		}
	}
	head, err := n.join(ctx)
	if err != nil {
		return err
	}
	if !n.alone {
		// What happened to the database while no server was there.
		if err := n.sweep(ctx); err != nil {
			return fmt.Errorf("cluster: list the nodes: %w", err)
		}
	}
	n.loops.Go(func() { n.store.Watch(ctx, n.nudge) })
	n.loops.Go(func() { n.follow(ctx) })
	if !n.alone {
		n.loops.Go(func() { n.renewals(ctx) })
	}
	// The lease counts once what was committed during the load is applied.
	return n.waitApplied(ctx, head)
}

// join loads the index and takes a lease. A log that was trimmed in between,
// while nobody knew of this node, or an answer that was late, costs another
// load.
func (n *Node) join(ctx context.Context) (head int64, err error) {
	for range 3 {
		if err := n.load(ctx); err != nil {
			return 0, err
		}
		if head, err = n.renew(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("cluster: take a lease: %w", err)
	}
	return head, nil
}

// Leave stops answering and takes the node off the list of those that a
// change waits for. It is called after Start's context has ended.
func (n *Node) Leave(ctx context.Context) error {
	n.loops.Wait()
	n.usableTo.Store(nil)
	n.mu.Lock()
	for id, c := range n.children {
		if len(c.held) == 0 {
			n.forget(id, c)
		}
	}
	orphans := len(n.children)
	noted := n.noted
	n.mu.Unlock()
	if orphans > 0 {
		// The row stays, as that of a node which has died: those who wait for
		// it wait for its replicas.
		return fmt.Errorf("cluster: %d replicas may still answer for up to %s", orphans, n.times.wait)
	}
	ctx, cancel := context.WithTimeout(ctx, n.times.stepLimit)
	defer cancel()
	if noted && n.alone {
		if _, err := n.store.Write(ctx, func(tx *store.Tx) error { return tx.SetSetting(store.SettingReplicas, "0") }); err != nil {
			return err
		}
	}
	return n.store.LeaveNode(ctx, n.claimed())
}

// Index returns the index if this node may use it now: the lease is looked at
// first, so that a lease that ends meanwhile can't let an old index answer.
func (n *Node) Index() (*verify.Index, bool) { return n.indexWithin(0) }

// Checks returns the index that checks of keys are answered from: that of
// [Node.Index], and for as long after the lease as [Node.ServeStale] has it.
// Nothing else may be decided by it. Another history than the node's own ends
// that at once.
func (n *Node) Checks() (*verify.Index, bool) { return n.indexWithin(n.stale) }

func (n *Node) indexWithin(extra time.Duration) (*verify.Index, bool) {
	end := n.usableTo.Load()
	if end == nil {
		return nil, false
	}
	if !n.alone {
		now, end := time.Now(), end.Add(extra)
		// Both clocks must agree: the monotonic one stands still while a
		// machine sleeps, the wall clock can be set back.
		if !now.Before(end) || !now.Round(0).Before(end.Round(0)) {
			return nil, false
		}
	}
	return n.index.Load(), true
}

// Stale tells whether this node answers checks of keys after its lease, and
// until when it does so by the wall clock.
func (n *Node) Stale() (until time.Time, stale bool) {
	_, leased := n.Index()
	_, answers := n.Checks()
	end := n.usableTo.Load()
	if leased || !answers || end == nil {
		return time.Time{}, false
	}
	return end.Add(n.stale).Round(0), true
}

// Applied is how far this node has applied the change log.
func (n *Node) Applied() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.applied
}

func (n *Node) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// load reads everything into a new index and publishes it.
func (n *Node) load(ctx context.Context) error {
	begin := time.Now()
	count, err := n.countKeys(ctx)
	if err != nil {
		return fmt.Errorf("cluster: count keys: %w", err)
	}
	n.mu.Lock()
	n.own = ownRun{} // its numbers may mean other changes from now on
	n.mu.Unlock()
	index := verify.New(n.format, count)
	index.Apply(verify.Batch{Roles: n.roles})
	head, err := n.loadIndex(ctx, func(b verify.Batch) error {
		index.Apply(b)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cluster: load the index: %w", err)
	}
	// What children of the history before show is not this one.
	if err := n.childless(ctx); err != nil {
		return err
	}
	n.index.Store(index)
	n.mu.Lock()
	n.steps, n.kept, n.reported = nil, 0, -1
	n.mu.Unlock()
	n.acked, n.owes = head.Seq, false
	n.reached(head.Seq, head.Token, nil)
	n.log.Info("index loaded", "keys", index.Len(), "seq", head.Seq, "seconds", time.Since(begin).Round(time.Millisecond).Seconds())
	return nil
}

func (n *Node) countKeys(ctx context.Context) (count int, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.times.loadLimit)
	defer cancel()
	err = n.store.Follow(ctx, func(tx *store.Tx) (err error) {
		count, err = tx.CountKeys()
		return err
	})
	return count, err
}

// loadIndex hands over everything. It gives up when nothing has come for as long
// as a load may bring nothing.
func (n *Node) loadIndex(ctx context.Context, each func(verify.Batch) error) (store.Head, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(n.times.loadLimit, cancel)
	defer idle.Stop()
	return n.store.LoadIndex(ctx, func(b verify.Batch) error {
		idle.Reset(n.times.loadLimit)
		if err := each(b); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// reached notes that everything up to seq is visible in the index, wakes who
// waits for it, and takes the lease into use that waited for it.
func (n *Node) reached(seq int64, token [16]byte, by *step) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.applied, n.token = seq, token
	if by != nil {
		n.keep(*by)
		n.owe(time.Now())
	}
	close(n.moved)
	n.moved = make(chan struct{})
	n.report()
	n.takeGrants()
}

// takeGrants puts those leases into use whose heads are applied. A later one
// does not displace an earlier: a node that is always some seconds behind
// would never get any. The caller holds mu.
func (n *Node) takeGrants() {
	for len(n.grants) > 0 {
		first := n.grants[0]
		if n.applied >= first.head {
			n.usableTo.Store(&first.end)
		} else if time.Now().Before(first.end) {
			return
		}
		n.grants = n.grants[1:]
	}
}

// follow applies the change log whenever it may have grown.
func (n *Node) follow(ctx context.Context) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		for ctx.Err() == nil {
			more, err := n.step(ctx)
			if err != nil && ctx.Err() == nil {
				if !failing { // once, and not ten times a second
					n.log.Error("following the change log; trying on", "error", err)
				}
				failing = true
				sleep(ctx, 100*time.Millisecond)
				continue
			}
			if failing {
				n.log.Info("following the change log again")
				failing = false
			}
			if !more {
				break
			}
		}
	}
}

// step goes one step along the change log, tells the others if they wait for
// it, and asks for a lease if there is none. What fails is tried again by the
// next step.
func (n *Node) step(ctx context.Context) (more bool, err error) {
	limited, cancel := context.WithTimeout(ctx, n.times.stepLimit)
	defer cancel()
	more, err = n.apply(limited)
	if errors.Is(err, store.ErrHistory) {
		n.log.Warn("the change log does not go on where this node stands; it refuses until it has loaded everything anew",
			"error", err)
		if errors.Is(err, errUndone) {
			n.log.Error("the database has lost changes that were answered with success: revocations among them are undone; " +
				"find out since when, and revoke again what should be dead")
		}
		n.dropLease()
		return true, n.load(ctx)
	}
	if err != nil {
		return false, err
	}
	if n.owes {
		n.mu.Lock()
		applied, reported, token := n.applied, n.reported, n.reportedToken
		n.mu.Unlock()
		if reported > n.acked {
			if err := n.store.AcknowledgeNode(limited, n.claimed(), reported, token); err != nil {
				return false, fmt.Errorf("acknowledge changes: %w", err)
			}
			n.acked = reported
		}
		n.owes = reported < applied // the rest when the children are as far
	}
	if !more && n.usableTo.Load() == nil {
		_, err = n.renew(ctx)
		return false, err
	}
	return more, nil
}

// apply reads and publishes one step of the change log.
func (n *Node) apply(ctx context.Context) (more bool, err error) {
	n.mu.Lock()
	applied, token := n.applied, n.token
	n.mu.Unlock()
	var changes []store.Change
	var batch verify.Batch
	if err := n.store.Follow(ctx, func(tx *store.Tx) (err error) {
		if changes, err = tx.ChangesSince(applied, changesAtOnce); err != nil {
			return err
		}
		if err := continues(changes, applied, token); err != nil {
			return err
		}
		batch, err = tx.IndexChanges(changes[1:])
		return err
	}); err != nil {
		return false, err
	}
	if len(changes) == 1 {
		return false, nil
	}
	last := changes[len(changes)-1]
	// Visible first, then acknowledged.
	n.index.Load().Apply(batch)
	n.reached(last.Seq, last.Token, &step{first: applied + 1, last: last.Seq, token: last.Token, batch: batch})
	n.mu.Lock()
	own := n.own.first <= applied+1 && last.Seq <= n.own.last
	n.mu.Unlock()
	// Of our own changes the others are told now and then, for the log to be
	// trimmed.
	n.owes = n.owes || !own || last.Seq-n.acked >= changesAtOnce
	return len(changes) == changesAtOnce, nil
}

// errUndone is ErrHistory where a change that was there is there no more.
var errUndone = fmt.Errorf("%w: it was set back", store.ErrHistory)

// continues fails unless the changes go on where a node stands: the row that
// it stands on must still be its own, and nothing may be missing behind it.
func continues(changes []store.Change, applied int64, token [16]byte) error {
	switch {
	case len(changes) == 0:
		return fmt.Errorf("%w: it ends before change %d", errUndone, applied)
	case changes[0].Seq != applied:
		return fmt.Errorf("%w: it was trimmed and no longer has change %d", store.ErrHistory, applied)
	case changes[0].Token != token:
		return fmt.Errorf("%w: change %d is another one", errUndone, applied)
	}
	for i, c := range changes {
		if c.Seq != applied+int64(i) {
			return fmt.Errorf("%w: change %d is missing", store.ErrHistory, applied+int64(i))
		}
	}
	return nil
}

func (n *Node) dropLease() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.grants = nil
	n.history++
	n.usableTo.Store(nil)
	close(n.moved)
	n.moved = make(chan struct{})
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
