// Package courier sends events to endpoints, and mails of alerts to members. It takes them from the outbox,
// which is part of the store, so whatever was committed is sent at least once;
// signs, sends and notes what became of each attempt. What an endpoint gets
// and when it is stopped are rules, and stand in package keyring.
package courier

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

const (
	// lookEvery is how soon this node finds what another one has left for it:
	// events of a node that ended, deliveries whose time has come.
	lookEvery = time.Second
	// perEndpoint, perWorkspace and atOnce bound attempts at the same time, to
	// one endpoint, of one workspace and in all, so that receivers that hang hold
	// up nobody else. An endpoint that is failing has one at a time. A workspace
	// begins another attempt only while it has fewer under way than a share of
	// the places that are free: however many have receivers that hang, something
	// is left for whoever comes (the dynamic threshold of shared buffers,
	// Choudhury and Hahne 1998), after twenty of them a place in seventy.
	perEndpoint  = 8
	perWorkspace = 64
	atOnce       = 512
	attemptShare = 4
	// held bounds the endpoints that this node sends to, which are shared among
	// workspaces in the same way, and claimed so many at once.
	held      = 512
	claimed   = 50
	heldShare = 8
	// queued is how many deliveries to one endpoint are held in memory.
	queued = 64
	// writeTogether is how many outcomes are written in one transaction.
	writeTogether = 100
	// renewEvery is how often this node says that it still sends to its
	// endpoints. After silentFor it begins no attempt any more: the longest one
	// must end before another node takes over (45 s after the last sign).
	renewEvery = 10 * time.Second
	silentFor  = 20 * time.Second
	// Grace is for how long attempts may go on when the server ends.
	Grace = 10 * time.Second
	// testsAtOnce bounds test deliveries, each of which a request waits for: a
	// workspace has one at a time. testLimit bounds one of them.
	testsAtOnce = 256
	testLimit   = 10 * time.Second
)

// Observe is told of every attempt: whether it was accepted, whether it was
// the last one, and how long it took.
type Observe func(delivered, last bool, took time.Duration)

// Courier sends the events of one store, beside those of other nodes.
type Courier struct {
	keyring *keyring.Keyring
	signers *signers
	node    string // this process
	log     *slog.Logger
	observe Observe
	wake    chan struct{}
	results chan result
	turned  chan turned

	// Only Run's goroutine touches these.
	boxes   map[string]*box // endpoints that this node sends to, by ID
	flying  int             // attempts under way
	of      map[string]int  // and those of each workspace
	tried   []result        // outcomes that are not written yet, in the order in which they came
	turning bool            // something is being written
	after   time.Time       // nothing is written before, since writing failed
	renewed time.Time

	tests   sync.Mutex
	testing map[string]bool // workspaces with a test under way
}

// New returns a courier. Observe may be nil.
func New(k *keyring.Keyring, log *slog.Logger, o Observe) *Courier {
	if o == nil {
		o = func(bool, bool, time.Duration) {}
	}
	return &Courier{
		keyring: k, signers: newSigners(k), node: rand.Text(), log: log, observe: o,
		wake: make(chan struct{}, 1), results: make(chan result, atOnce), turned: make(chan turned, 1),
		boxes: map[string]*box{}, of: map[string]int{}, testing: map[string]bool{},
	}
}

// Wake tells that there is something in the outbox. It does not block.
func (c *Courier) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// result is what became of one attempt.
type result struct {
	tried keyring.Tried
	// void tells that the attempt was cut short by the end of this process, or
	// was none, and is not to be counted.
	void bool
}

// Run sends events until ctx ends. Attempts under way may go on for [Grace]
// then; endpoints are left to other nodes.
func (c *Courier) Run(ctx context.Context) {
	// Attempts and what is written of them outlive ctx for a moment.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	c.renewed = time.Now()
	woken := true
	at := make(chan struct{})
	close(at)
	for {
		var now <-chan struct{} // ready when there is something to write already
		if (woken || len(c.tried) > 0) && c.mayTurn() {
			now = at
		}
		select {
		case <-ctx.Done():
			c.end(work, stop)
			return
		case <-now:
		case <-c.wake:
			woken = true
		case r := <-c.results:
			c.landed(r)
		case t := <-c.turned:
			woken = c.settle(work, t) || woken
		case <-look.C:
			if !woken {
				woken = c.waiting(ctx)
			}
			if len(c.boxes) > 0 && !c.turning {
				c.load(work) // what has come due meanwhile
			}
		}
		for more := true; more && len(c.tried) < writeTogether; {
			select {
			case r := <-c.results:
				c.landed(r)
			default:
				more = false
			}
		}
		if c.mayTurn() && (woken || len(c.tried) > 0 || c.idle() || c.renewalDue()) {
			woken = false
			c.turn(work)
		}
		c.dispatch(work)
	}
}

func (c *Courier) waiting(ctx context.Context) bool {
	yes, err := c.keyring.Waiting(ctx, c.node)
	if err != nil {
		c.trouble("look into the outbox", err)
	}
	return yes
}

func (c *Courier) renewalDue() bool {
	return len(c.boxes) > 0 && time.Since(c.renewed) > renewEvery
}

// idle tells whether there is an endpoint that nothing is left for.
func (c *Courier) idle() bool {
	for _, b := range c.boxes {
		if b.done() {
			return true
		}
	}
	return false
}

// landed takes the outcome of an attempt.
func (c *Courier) landed(r result) {
	c.flying--
	b := c.boxes[r.tried.EndpointID]
	b.flying--
	if c.of[b.round.WorkspaceID]--; c.of[b.round.WorkspaceID] == 0 {
		delete(c.of, b.round.WorkspaceID)
	}
	delete(b.objects, b.busy[r.tried.DeliveryID])
	if r.void {
		delete(b.busy, r.tried.DeliveryID)
		return
	}
	b.unwritten++
	c.tried = append(c.tried, r)
}

// mayTurn tells whether something can be written now.
func (c *Courier) mayTurn() bool { return !c.turning && !time.Now().Before(c.after) }

// turned is what became of a turn.
type turned struct {
	turn  keyring.Turn
	begun time.Time
	more  bool
	err   error
}

// turn begins to write outcomes, to hand events on, and to claim and release
// endpoints. Attempts go on meanwhile: a commit takes longer than many of them.
func (c *Courier) turn(ctx context.Context) {
	t := turned{turn: keyring.Turn{Node: c.node, Renew: c.renewalDue()}, begun: time.Now()}
	t.turn.Claim, t.turn.Full = c.room()
	left := map[string]int{}
	for _, r := range c.tried[:min(len(c.tried), writeTogether)] {
		t.turn.Tried = append(t.turn.Tried, r.tried)
		left[r.tried.EndpointID]++
	}
	for id, b := range c.boxes {
		if len(b.queue) == 0 && b.flying == 0 && b.unwritten == left[id] {
			t.turn.Done = append(t.turn.Done, id)
		}
	}
	c.turning = true
	go func() {
		t.more, t.err = c.keyring.Turn(ctx, t.turn)
		c.turned <- t
	}()
}

// room is how many endpoints this node may claim, and the workspaces that have
// so many of it already that the others' share is left to them.
func (c *Courier) room() (n int, full []string) {
	free := held - len(c.boxes)
	of := map[string]int{}
	for _, b := range c.boxes {
		of[b.round.WorkspaceID]++
	}
	for workspace, n := range of {
		if n >= share(free, heldShare) {
			full = append(full, workspace)
		}
	}
	// One workspace may take all of what is claimed at once.
	return max(0, min(claimed, share(free, heldShare))), full
}

// settle takes note of what a turn has written, and reads what is to be sent.
// It tells whether there is more to do at once.
func (c *Courier) settle(ctx context.Context, t turned) (more bool) {
	c.turning = false
	if t.err != nil {
		c.trouble("write what became of deliveries; it is tried again", t.err)
		c.after = time.Now().Add(lookEvery)
		return true
	}
	if t.turn.Renew || len(c.boxes) == 0 {
		c.renewed = t.begun
	}
	for _, r := range t.turn.Tried {
		b := c.boxes[r.EndpointID]
		b.unwritten--
		delete(b.busy, r.DeliveryID)
	}
	c.tried = append(c.tried[:0], c.tried[len(t.turn.Tried):]...)
	for _, id := range t.turn.Done {
		c.boxes[id].close()
		delete(c.boxes, id)
	}
	c.load(ctx)
	return t.more
}

// load reads the endpoints of this node and what is due for them.
func (c *Courier) load(ctx context.Context) {
	room := map[string]int{"": queued}
	for id, b := range c.boxes {
		room[id] = b.room()
	}
	rounds, err := c.keyring.Rounds(ctx, c.node, room)
	if err != nil {
		c.trouble("read what is to be sent", err)
		return
	}
	claimed := map[string]bool{}
	for _, r := range rounds {
		claimed[r.ID] = r.Active
		b := c.boxes[r.ID]
		if b == nil {
			b = newBox()
			c.boxes[r.ID] = b
		}
		b.take(r)
	}
	for id, b := range c.boxes {
		if !claimed[id] { // paused, deleted, or another node's by now
			b.empty()
		}
	}
}

// dispatch begins attempts as far as the bounds allow.
func (c *Courier) dispatch(ctx context.Context) {
	if time.Since(c.renewed) > silentFor && len(c.boxes) > 0 {
		return // another node may be about to take over
	}
	for _, b := range c.boxes {
		for c.mayFly(b.round.WorkspaceID) {
			p, ok := b.next()
			if !ok {
				break
			}
			c.flying++
			c.of[b.round.WorkspaceID]++
			b.flying++
			b.objects[p.ObjectID] = true
			go c.attempt(ctx, b.round, b.line, b.lineError, p)
		}
	}
}

// mayFly tells whether another attempt of a workspace may begin.
func (c *Courier) mayFly(workspace string) bool {
	return c.of[workspace] < min(perWorkspace, share(atOnce-c.flying, attemptShare))
}

// share is a part of what is free, and the last one whole.
func share(free, part int) int { return (free + part - 1) / part }

// attempt tries one delivery. What signs it is read once it has begun, so that
// a secret signs nothing any more once its revoke was answered. One that
// nothing can sign has failed: nothing is ever sent unsigned.
func (c *Courier) attempt(ctx context.Context, to keyring.Round, l *line, unfit error, p keyring.Parcel) {
	var secrets []keystile.WebhookSecret
	if unfit == nil {
		secrets, unfit = c.signers.of(ctx, to.WorkspaceID, to.ID)
	}
	o := unsent(unfit)
	if unfit == nil {
		o = l.post(ctx, to.URL, p.EventID, p.Payload, secrets)
	}
	r := result{void: ctx.Err() != nil && !o.delivered}
	r.tried.DeliveryID, r.tried.EndpointID, r.tried.Number = p.DeliveryID, to.ID, p.Attempts+1
	r.tried.Attempt, r.tried.Delivered, r.tried.Gone = o.Attempt, o.delivered, o.gone
	last := o.gone
	if !o.delivered && !o.gone {
		wait, again := next(p.Tries, o.retryAfter)
		if last = !again; again {
			r.tried.Next = time.Now().Add(wait)
		}
	}
	if !r.void {
		c.observe(o.delivered, last, time.Duration(o.DurationMS)*time.Millisecond)
	}
	c.results <- r
}

// unsent is the outcome of an attempt that could not begin.
func unsent(err error) (o outcome) {
	o.At = time.Now().UTC().Truncate(time.Millisecond)
	o.Error = "Nothing was sent: the server made a mistake, which its log names."
	if problem, ok := errors.AsType[*keystile.Error](err); ok {
		o.Error = "Nothing was sent: " + problem.Detail
	}
	return o
}

// end lets attempts finish, writes what became of them and leaves the
// endpoints to others.
func (c *Courier) end(ctx context.Context, stop context.CancelFunc) {
	cut := time.AfterFunc(Grace, stop)
	defer cut.Stop()
	for c.flying > 0 || c.turning {
		select {
		case r := <-c.results:
			c.landed(r)
		case t := <-c.turned:
			c.settle(ctx, t)
		}
	}
	var ids []string
	for id := range c.boxes {
		ids = append(ids, id)
	}
	// The grace is over for attempts, not for what is left to write.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), Grace)
	defer cancel()
	for len(c.tried) > 0 || len(ids) > 0 {
		t := keyring.Turn{Node: c.node}
		n := min(len(c.tried), writeTogether)
		for _, r := range c.tried[:n] {
			t.Tried = append(t.Tried, r.tried)
		}
		if c.tried = c.tried[n:]; len(c.tried) == 0 {
			t.Done, ids = ids, nil
		}
		if _, err := c.keyring.Turn(last, t); err != nil {
			c.trouble("write what became of the last deliveries; they will be sent again", err)
			return
		}
	}
}

func (c *Courier) trouble(doing string, err error) {
	if !errors.Is(err, context.Canceled) {
		c.log.Error("deliveries: "+doing, "error", err)
	}
}
