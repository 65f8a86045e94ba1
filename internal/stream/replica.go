package stream

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// Times of a replica. Those of the protocol are in docs/spec/revocation.md.
const (
	askEvery   = 3 * time.Second  // for a lease, where nothing changes
	askLimit   = 2 * time.Second  // for the answer
	silence    = 30 * time.Second // without any frame the server is given up
	countEvery = 10 * time.Second // uses are sent
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	// maxGrant is the longest lease that is believed, whatever a server says.
	maxGrant = 12 * time.Second
	// believed is for how many keys room is made because a server says so; more
	// make room for themselves.
	believed = 1 << 25
	// maxAnswer is what is read of an answer that is no stream, in bytes.
	maxAnswer = 64 << 10
)

// Options say where a replica gets what it knows.
type Options struct {
	URLs []string // of servers, tried in turn; at least one
	Key  string   // carries platform.replica
	HTTP *http.Client
	Log  *slog.Logger
}

// Replica answers from an index in this process. It may be used by any number
// of goroutines.
type Replica struct {
	options  Options
	recorder *verify.Recorder
	view     atomic.Pointer[view]
	clock    atomic.Pointer[clock]
	hello    atomic.Pointer[Hello]
	known    atomic.Pointer[map[string]bool] // permissions

	stop  context.CancelFunc
	done  chan struct{}
	ready chan struct{} // closed when the first lease is there
	once  sync.Once

	mu     sync.Mutex
	latest *Frame        // position of index
	index  *verify.Index // what the stream is applied to
	past   []attachment  // that are over and not released
	waits  []verify.Use  // to be sent
}

// view is what answers are given from.
type view struct {
	index *verify.Index
	end   time.Time // of the lease, with monotonic clock
}

// clock is the server's time at a moment of this process.
type clock struct {
	there time.Time
	here  time.Time // with monotonic clock
}

var (
	errReset = errors.New("the history of changes is another one")
	errLeave = errors.New("the server ends")
)

// Open attaches to a server and returns when the replica can answer. It fails
// when ctx ends before, or when a server refuses the key.
func Open(ctx context.Context, o Options) (*Replica, error) {
	if len(o.URLs) == 0 {
		return nil, errors.New("keystile: a replica needs the URL of at least one server")
	}
	for i, u := range o.URLs {
		base, err := url.Parse(strings.TrimSpace(u))
		if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
			return nil, errors.New("keystile: the server's URL can't be used: give one like https://keys.example.com, without user, password, query or fragment")
		}
		o.URLs = slices.Clone(o.URLs)
		o.URLs[i] = strings.TrimRight(base.String(), "/")
	}
	o.Key = strings.TrimSpace(o.Key)
	if o.Key == "" || strings.ContainsFunc(o.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("keystile: the key is empty or can't be sent: give one whose role carries platform.replica, such as that of keystile admin key --role replica")
	}
	own := *o.HTTP                                                                                    // what the caller handed over stays as it is
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the key would go elsewhere
	o.HTTP = &own
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Replica{options: o, recorder: verify.NewRecorder(), stop: stop, done: make(chan struct{}), ready: make(chan struct{})}
	fatal := make(chan error, 1)
	go r.run(running, fatal)
	select {
	case <-r.ready:
		return r, nil
	case err := <-fatal:
		stop()
		<-r.done
		return nil, err
	case <-ctx.Done():
		stop()
		<-r.done
		return nil, fmt.Errorf("keystile: no server has given this replica a lease: %w", ctx.Err())
	}
}

// Index is the index if it may be used now: the lease is looked at first.
func (r *Replica) Index() (*verify.Index, bool) {
	v := r.view.Load()
	if v == nil {
		return nil, false
	}
	now := time.Now()
	// Both clocks must agree: the monotonic one stands still while a machine
	// sleeps, the wall clock can be set back.
	if !now.Before(v.end) || !now.Round(0).Before(v.end.Round(0)) {
		return nil, false
	}
	return v.index, true
}

// Recorder counts uses that are sent to the server.
func (r *Replica) Recorder() *verify.Recorder { return r.recorder }

// Hello is what the server said of itself last.
func (r *Replica) Hello() Hello { return *r.hello.Load() }

// Now is the server's time.
func (r *Replica) Now() time.Time {
	c := r.clock.Load()
	if c == nil {
		return time.Now()
	}
	return c.there.Add(time.Since(c.here))
}

// Verify implements keystile.Verifier.
func (r *Replica) Verify(_ context.Context, q keystile.VerifyRequest) (keystile.Decision, error) {
	index, ok := r.Index()
	if !ok {
		return keystile.Decision{}, keystile.NewError(keystile.CodeUnavailable,
			"This replica has lost touch with its server, and does not answer from what may be out of date.")
	}
	var address netip.Addr
	if q.IP != "" {
		var err error
		if address, err = netip.ParseAddr(q.IP); err != nil {
			return keystile.Decision{}, keystile.NewError(keystile.CodeInvalidField, "IP is not an IP address.")
		}
	}
	if q.Key == "" {
		return keystile.Decision{}, keystile.NewError(keystile.CodeInvalidField, "Key is missing: hand over the key to check.")
	}
	// A role with "*" would carry a misspelt name like any other.
	if q.Permission != "" && !(*r.known.Load())[q.Permission] {
		return keystile.Decision{}, keystile.NewError(keystile.CodeInvalidField, "The product has no permission of the name that Permission has.")
	}
	asked := verify.Query{Secret: q.Key, Permission: q.Permission, Workspace: q.Workspace, Address: address, Now: r.Now()}
	var result verify.Result
	index.Decide(&asked, &result)
	r.recorder.Count(&result, result.Code, address, q.UserAgent, asked.Now)
	return result.Decision(), nil
}

// Close stops answering, sends what was counted and tells the server that
// nobody needs to wait for this replica.
func (r *Replica) Close(ctx context.Context) error {
	r.stop()
	<-r.done
	r.view.Store(nil) // now that no grant can come any more
	r.count()
	r.mu.Lock()
	past := r.past
	r.past = nil
	r.mu.Unlock()
	var err error
	for i := len(past) - 1; i >= 0; i-- {
		if i == len(past)-1 {
			for range (len(r.waits) + MaxUses - 1) / MaxUses {
				err = errors.Join(err, r.lastUses(ctx, past[i]))
			}
		}
		_ = r.call(ctx, http.MethodDelete, past[i], nil, nil) // its lease ends by itself
	}
	return err
}

func (r *Replica) lastUses(ctx context.Context, a attachment) error {
	n := min(len(r.waits), MaxUses)
	err := r.call(ctx, http.MethodPost, a, Ask{Uses: r.waits[:n], Part: time.Now().UnixNano()}, nil)
	r.waits = r.waits[n:]
	return err
}

// count takes what was counted since the last time.
func (r *Replica) count() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waits) > 10*MaxUses {
		return // counts stay where they are until there is room
	}
	r.waits = append(r.waits, r.recorder.Drain()...)
	for _, m := range r.recorder.DrainMisses() {
		r.waits = append(r.waits, m.Use())
	}
}

// run attaches again and again until ctx ends.
func (r *Replica) run(ctx context.Context, fatal chan<- error) {
	var counting sync.WaitGroup
	defer close(r.done)
	defer counting.Wait()
	counting.Go(func() {
		t := time.NewTicker(countEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				r.count()
			}
		}
	})
	pause := retryFirst
	for try := 0; ctx.Err() == nil; try++ {
		worked, err := r.attend(ctx, r.options.URLs[try%len(r.options.URLs)])
		if ctx.Err() != nil {
			return
		}
		if worked {
			pause = retryFirst
		}
		if p, ok := errors.AsType[refused](err); ok {
			select {
			case fatal <- p.problem:
			default:
			}
		}
		if errors.Is(err, errReset) {
			continue
		}
		if !errors.Is(err, errLeave) || !worked {
			r.options.Log.WarnContext(ctx, "keystile: not attached; trying on", "error", err)
		}
		// A little at random, so that a thousand replicas don't come at once.
		timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // no secret
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, retryMost)
	}
}

// attend holds one conversation. It tells whether it got as far as a lease.
func (r *Replica) attend(ctx context.Context, base string) (worked bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	from := r.latest
	r.mu.Unlock()
	at := base + "/v1/replica?protocol=" + strconv.Itoa(Protocol)
	if from != nil {
		at += "&seq=" + strconv.FormatInt(from.Seq, 10) + "&token=" + hex.EncodeToString(from.Token[:])
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return false, err
	}
	watch := time.AfterFunc(silence, func() { cancel(errors.New("the server has fallen silent")) })
	defer watch.Stop()
	answer, err := r.send(request)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.Header.Get("Content-Type") != ContentType {
		return false, errors.New("what answers at this URL is no Keystile server")
	}
	in := NewReader(answer.Body)
	first, err := in.Read()
	if err != nil {
		return false, err
	}
	if first.Kind != KindHello || first.Hello == nil {
		return false, errors.New("this is not what a Keystile server says first")
	}
	if theirs := first.Hello.Protocol; theirs != Protocol {
		return false, refused{otherVersion(first.Hello.Version, theirs)}
	}
	before := r.hello.Load()
	format, err := r.meet(first.Hello)
	if err != nil {
		return false, err
	}
	c := &conversation{
		replica: r, attachment: attachment{at: base + "/v1/replica/" + first.Hello.Attachment}, cancel: cancel, index: verify.New(format, min(first.Hello.Keys, believed)),
		wake: make(chan struct{}, 1),
	}
	c.index.Apply(verify.Batch{Roles: first.Hello.Roles})
	var asking sync.WaitGroup
	defer func() {
		cancel(nil)
		asking.Wait()
		r.mu.Lock()
		if c.asked && !c.copied {
			r.past = append(r.past, c.attachment)
		}
		worked = c.granted
		r.mu.Unlock()
	}()
	for {
		watch.Reset(silence)
		f, err := in.Read()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return false, err
		}
		if !f.fits(c.whole, from != nil && before != nil) { // nothing that a server says may end the caller's program
			return false, errors.New("the server says what does not come now")
		}
		switch f.Kind {
		case KindResumed:
			r.mu.Lock()
			if before.Profile != first.Hello.Profile {
				// Roles may be gone that the index holds.
				r.latest = nil
				r.mu.Unlock()
				return false, errReset
			}
			c.index, c.applied, c.whole = r.index, from.Seq, true
			r.mu.Unlock()
			asking.Go(func() { c.ask(ctx) })
		case KindLoad:
			c.index.Apply(f.Batch.Batch())
		case KindLoaded:
			r.mu.Lock()
			c.applied, c.whole, r.index, r.latest = f.Seq, true, c.index, &f
			r.mu.Unlock()
			asking.Go(func() { c.ask(ctx) })
		case KindChange:
			// Visible first, then acknowledged.
			c.index.Apply(f.Batch.Batch())
			f.Batch = nil
			r.mu.Lock()
			c.applied, r.latest = f.Seq, &f
			c.take()
			r.mu.Unlock()
			c.nudge()
		case KindReset:
			r.view.Store(nil)
			r.mu.Lock()
			r.index, r.latest = nil, nil
			r.mu.Unlock()
			cancel(errReset)
			asking.Wait()
			r.view.Store(nil) // no grant came in between
			c.release(context.WithoutCancel(ctx), c.attachment)
			return false, errReset
		case KindLeave:
			return false, errLeave
		}
	}
}

// meet takes note of what the server says of itself.
func (r *Replica) meet(h *Hello) (keystile.Format, error) {
	format, err := keystile.NewFormat(h.Prefix, h.Markers...)
	if err != nil {
		return format, fmt.Errorf("the server's keys have a form that this version does not know: %w", err)
	}
	known := make(map[string]bool, len(h.Permissions))
	for _, p := range h.Permissions {
		known[p] = true
	}
	r.known.Store(&known)
	r.hello.Store(h)
	return format, nil
}

// conversation is one attachment. What changes is under the replica's mutex.
type conversation struct {
	attachment

	replica *Replica
	index   *verify.Index
	wake    chan struct{}
	cancel  context.CancelCauseFunc

	whole   bool // the index has everything, and goes on by changes
	applied int64
	grants  []pending
	end     time.Time // of the lease that this conversation gave
	asked   bool
	granted bool
	copied  bool  // another process speaks for it
	part    int64 // of uses, as they are numbered
	sent    int   // uses in the part that has no answer yet
}

// pending is a lease that counts once the index shows head.
type pending struct {
	head int64
	end  time.Time
}

func (c *conversation) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// ask asks for leases until ctx ends: at once when something was applied,
// which tells the server so, and every few seconds otherwise.
func (c *conversation) ask(ctx context.Context) {
	r := c.replica
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		err := c.once(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			r.options.Log.WarnContext(ctx, "keystile: the lease was not renewed; trying on", "error", err)
		}
		failing = err != nil
		next := askEvery
		if failing {
			next = 200 * time.Millisecond
		}
		timer.Reset(next)
	}
}

// once asks for one lease. It counts from before it was asked for.
func (c *conversation) once(ctx context.Context) error {
	r := c.replica
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	r.mu.Lock()
	ask := Ask{Seq: c.applied}
	// What is sent again is what was sent: more of it would be left out, where the
	// answer was lost and not the question.
	n := c.sent
	if n == 0 {
		n = min(len(r.waits), MaxUses)
	}
	if n > 0 {
		ask.Uses, ask.Part = slices.Clone(r.waits[:n]), c.part+1
	}
	c.asked, c.sent = true, n
	c.mark()
	at := attachment{c.at, c.marks}
	r.mu.Unlock()
	begin := time.Now()
	var g Grant
	err := r.call(ctx, http.MethodPost, at, ask, &g)
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem, ok := errors.AsType[*keystile.Error](err); ok && problem.Status == http.StatusConflict {
		// The server waits for the other process, and not for this one.
		c.copied, c.grants = true, nil
		r.view.Store(nil)
		c.cancel(err)
	}
	if err != nil {
		return err
	}
	c.marks = at.marks[:1]
	if n > 0 {
		c.part++
		c.sent = 0
		r.waits = r.waits[n:]
	}
	switch {
	case g.Why != "":
		return errors.New("the server gives no lease: " + g.Why)
	case g.For <= 0:
		return errors.New("the server has no lease of its own to share")
	}
	// Never backwards: what was over stays over.
	if now := g.Now; r.clock.Load() == nil || now.After(r.Now()) {
		r.clock.Store(&clock{there: now, here: begin})
	}
	c.grants = append(c.grants, pending{head: g.Head, end: begin.Add(min(g.For, maxGrant))})
	c.take()
	return nil
}

// take puts leases into use whose heads are applied. The caller holds the
// replica's mutex.
func (c *conversation) take() {
	r := c.replica
	for len(c.grants) > 0 {
		first := c.grants[0]
		switch {
		case c.applied >= first.head:
			if !c.granted || first.end.After(c.end) {
				c.end = first.end
				r.view.Store(&view{c.index, c.end})
			}
			if !c.granted {
				c.granted = true
				r.once.Do(func() { close(r.ready) })
				// Nothing is answered under a lease of theirs any more.
				for _, old := range r.past {
					go c.release(context.Background(), old)
				}
				r.past = nil
			}
		case time.Now().Before(first.end):
			return
		}
		c.grants = c.grants[1:]
	}
}

// release tells a server that it need not wait for an attachment.
func (c *conversation) release(ctx context.Context, a attachment) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	_ = c.replica.call(ctx, http.MethodDelete, a, nil, nil) // otherwise the lease ends by itself
}
