package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/stream"
	"github.com/keystile/keystile/internal/verify"
)

// This file walks through the orders in which a node, a replica attached to it,
// and another node that revokes the replica's one key can do what the protocol
// says. The replica is attached when it begins. Leases, grants, barrier and the replica are the real ones; the network
// between node and replica, and the database, are in memory, and time is that
// of testing/synctest.

// family is one way for things to happen. Times are counted from when
// the replica is attached; never is far away.
type family struct {
	revoke     time.Duration // when the change commits
	apply      time.Duration // from there to the parent's index
	lost       time.Duration // when the parent loses the database
	carry      time.Duration // of the long answer, to the child
	send, back time.Duration // of a request for a lease, and of its answer
	parent     [2]time.Duration
	child      [2]time.Duration // when each stands still, and for how long
}

// childFault is a way to get the tree wrong, which must be found out.
type childFault int

const (
	soundChild   childFault = iota
	longLease               // the child's lease is as long as a node's, whatever is left of the parent's
	sentIsShown             // the parent takes for applied what it has sent
	alone                   // the parent reports what it has applied itself
	headTooEarly            // the parent reads its position before it notes the child
	headIgnored             // the child uses a lease before it shows its head
	forgets                 // the parent forgets a child whose connection has ended
)

func (f childFault) String() string {
	return [...]string{"sound", "lease as long as a node's", "sent is applied", "parent without its children", "position before the note", "lease before its head", "forgotten when it is gone"}[f]
}

// home is a node as a replica reaches it.
type home struct {
	node   *Node
	db     *table
	f      childFault
	o      family
	begun  atomic.Pointer[time.Time] // when the order begins; nil: the child is not there yet, and all goes well
	batch  func(revoked bool) verify.Batch
	prefix string
}

// still waits while somebody stands still.
func (h *home) still(pause [2]time.Duration) {
	begin := h.begun.Load()
	if begin == nil {
		return
	}
	if at := time.Since(*begin); at >= pause[0] && at < pause[0]+pause[1] {
		time.Sleep(pause[0] + pause[1] - at)
	}
}

// delay is one of the network's.
func (h *home) delay(ctx context.Context, d time.Duration) {
	if h.begun.Load() != nil {
		sleep(ctx, d)
	}
}

func (h *home) cut() bool {
	begin := h.begun.Load()
	return begin != nil && time.Since(*begin) >= h.o.lost
}

// RoundTrip is the network, and the parent's door.
func (h *home) RoundTrip(r *http.Request) (*http.Response, error) {
	h.delay(r.Context(), h.o.send)
	h.still(h.o.parent)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {stream.ContentType}}, Request: r, Body: http.NoBody}
	attachment := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/v1/replica"), "/")
	switch r.Method {
	case http.MethodGet:
		h.db.mu.Lock()
		head := h.db.head
		h.db.mu.Unlock()
		at, err := h.node.Attach(Caller{})
		if err != nil || h.cut() { // everything comes from the database
			answer.StatusCode = http.StatusServiceUnavailable
			return answer, nil //nolint:nilerr // the answer says it
		}
		out, in := io.Pipe()
		context.AfterFunc(r.Context(), func() { _ = out.CloseWithError(r.Context().Err()) })
		answer.Body = out
		go h.feed(r.Context(), at, in, head)
	case http.MethodDelete:
		h.node.Release(attachment, Speaker{})
	case http.MethodPost:
		var ask stream.Ask
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			return nil, err
		}
		early := h.node.Applied()
		if h.f == headTooEarly {
			sleep(r.Context(), time.Second)
		}
		granted, err := h.node.Grant(attachment, Speaker{}, ask.Seq, 0)
		if err != nil {
			answer.StatusCode = http.StatusNotFound
			return answer, nil //nolint:nilerr // the answer says it
		}
		head, lease := granted.Head, granted.For
		switch {
		case h.f == longLease && lease > 0:
			lease = h.node.times.lease
		case h.f == headTooEarly:
			head = early
		case h.f == headIgnored:
			head = 0
		}
		text, err := json.Marshal(stream.Grant{Head: head, For: lease, Now: time.Now()})
		if err != nil {
			return nil, err
		}
		answer.Body = io.NopCloser(bytes.NewReader(text))
		h.delay(r.Context(), h.o.back)
		h.still(h.o.child)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return answer, nil
}

// feed is the long answer.
func (h *home) feed(ctx context.Context, at *Attachment, in *io.PipeWriter, head int64) {
	defer in.Close()
	defer at.Detach()
	out := stream.NewWriter(in)
	send := func(f stream.Frame) bool {
		return out.Write(f) == nil && out.Flush() == nil
	}
	if !send(stream.Frame{Kind: stream.KindHello, Hello: &stream.Hello{Attachment: at.ID, Protocol: stream.Protocol, Prefix: h.prefix, Keys: 1}}) ||
		!send(stream.Frame{Kind: stream.KindLoad, Batch: stream.NewBatch(h.batch(head > 0))}) ||
		!send(stream.Frame{Kind: stream.KindLoaded, Seq: head}) {
		return
	}
	at.seq = head
	for {
		b, seq, token, err := at.Next(ctx, time.Second)
		if err != nil {
			return
		}
		f := stream.Frame{Kind: stream.KindAlive}
		if token != ([16]byte{}) {
			f = stream.Frame{Kind: stream.KindChange, Batch: stream.NewBatch(b), Seq: seq, Token: token}
			if h.f == sentIsShown {
				h.node.Acknowledge(at.ID, Speaker{}, seq)
			}
			if h.f == forgets {
				h.node.Release(at.ID, Speaker{})
			}
			h.delay(ctx, h.o.carry)
		}
		h.still(h.o.parent)
		h.still(h.o.child)
		if !send(f) {
			return
		}
	}
}

// live lets things happen in one order, and tells how often the child let the
// key in after the revoke had returned, how often at all, and how long the
// revoke took.
func live(t *testing.T, o family, f childFault) (broken, accepted int, took time.Duration) {
	t.Helper()
	format, err := keystile.NewFormat("ks")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := format.Mint("")
	if err != nil {
		t.Fatal(err)
	}
	ws, id := verify.EncodeID("ws_", [16]byte{1}), verify.EncodeID("key_", [16]byte{2})
	batch := func(revoked bool) verify.Batch {
		k := verify.Key{ID: id, Digest: sha256.Sum256([]byte(secret)), WorkspaceID: ws, RoleID: "role_x", State: verify.StateActive}
		if revoked {
			k.State = verify.StateRevoked
		}
		return verify.Batch{
			Workspaces: []verify.Workspace{{ID: ws}}, Roles: []verify.Role{{ID: "role_x", Name: "x"}}, Keys: []verify.Key{k},
		}
	}
	synctest.Test(t, func(t *testing.T) {
		db := &table{}
		ctx, stop := context.WithCancel(t.Context())
		n := &Node{
			times: protocol(), log: slog.New(slog.DiscardHandler), claim: store.Claim{ID: "b"}, moved: make(chan struct{}),
			wake: make(chan struct{}, 1), children: map[string]*child{}, leave: make(chan struct{}),
		}
		h := &home{node: n, db: db, f: f, o: o, batch: batch, prefix: "ks"}
		n.index.Store(verify.New(format, 1))
		n.reached(0, [16]byte{}, nil)
		reports := func() int64 {
			if f == alone {
				return n.Applied()
			}
			return n.Reported()
		}
		n.sendRow = func(ctx context.Context, row store.Node, _ [16]byte) (int64, error) {
			h.still(o.parent)
			db.mu.Lock()
			defer db.mu.Unlock()
			if h.cut() || ctx.Err() != nil {
				return 0, errors.New("the database does not answer")
			}
			if row.Applied = reports(); db.b != nil {
				row.Applied = max(row.Applied, db.b.Applied)
			}
			db.b = &row
			return db.head, nil
		}
		var all sync.WaitGroup
		all.Go(func() { // the parent's leases
			for ctx.Err() == nil {
				h.still(o.parent)
				_, _ = n.renew(ctx)
				sleep(ctx, n.times.renewEvery)
			}
		})
		all.Go(func() { // and tells the others when its children have
			for ctx.Err() == nil {
				n.mu.Lock()
				moved := n.moved
				n.mu.Unlock()
				h.still(o.parent)
				db.mu.Lock()
				if db.b != nil && !h.cut() {
					db.b.Applied = max(db.b.Applied, reports())
				}
				db.mu.Unlock()
				select {
				case <-moved:
				case <-ctx.Done():
				}
			}
		})
		time.Sleep(time.Millisecond) // the parent's first lease
		replica, err := stream.Open(ctx, stream.Options{
			URLs: []string{"http://parent"}, Key: "key", HTTP: &http.Client{Transport: h}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		begin := time.Now()
		h.begun.Store(&begin)
		all.Go(func() { // the parent applies the change
			sleep(ctx, o.revoke+o.apply)
			if h.still(o.parent); ctx.Err() == nil && !h.cut() {
				n.reached(1, [16]byte{1}, &step{first: 1, last: 1, token: [16]byte{1}, batch: batch(true)})
			}
		})
		returned := make(chan struct{})
		all.Go(func() { // another node revokes
			time.Sleep(o.revoke)
			db.commit()
			committed := time.Now()
			a := others{times: protocol(), self: func() string { return "a" }, list: db.roster}
			if _, _, err := a.wait(ctx, 1, true); err != nil {
				t.Errorf("%+v: the barrier fails: %v", o, err)
			}
			took = time.Since(committed)
			close(returned)
		})
		for range 160 { // the child is asked
			time.Sleep(250 * time.Millisecond)
			over := false
			select {
			case <-returned:
				over = true
			default:
			}
			h.still(o.child) // a question that was there when it stood still is answered when it goes on
			if d, err := replica.Verify(ctx, keystile.VerifyRequest{Key: secret}); err == nil && d.Valid {
				accepted++
				if over {
					broken++
				}
			} else if err == nil && d.Code != keystile.CodeRevoked {
				t.Fatalf("%+v: the replica says %s", o, d.Code)
			}
		}
		stop()
		_ = replica.Close(ctx)
		all.Wait()
		time.Sleep(2 * never) // what still stands still ends
	})
	return broken, accepted, took
}

// families are all combinations, some 860; few of them are 144.
func families(few bool) []family {
	const s, ms = time.Second, time.Millisecond
	revokes := []time.Duration{1300 * ms, 3100 * ms}
	applies := []time.Duration{0, 4 * s, never}
	losts := []time.Duration{never, 1200 * ms}
	carries := []time.Duration{0, 6 * s, never}
	delays := []time.Duration{0, 600 * ms}
	stills := [][2]time.Duration{{never, 0}, {1500 * ms, 14 * s}}
	parents := append(stills, [2]time.Duration{2 * s, never}) // which then is dead
	if few {
		revokes, applies, parents = revokes[:1], []time.Duration{0, never}, parents[:2]
	}
	var all []family
	for _, revoke := range revokes {
		for _, apply := range applies {
			for _, lost := range losts {
				for _, carry := range carries {
					for _, send := range delays {
						for _, back := range delays {
							for _, parent := range parents {
								for _, child := range stills {
									if lost == never || apply == never || !few {
										all = append(all, family{revoke, apply, lost, carry, send, back, parent, child})
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// TestEveryOrderOfAChild: whatever the order, a replica does not let the key in
// once its revoke has returned, and the revoke returns in time.
func TestEveryOrderOfAChild(t *testing.T) {
	t.Parallel()
	let, all := 0, families(testing.Short())
	for _, o := range all {
		broken, accepted, took := live(t, o, soundChild)
		if broken > 0 {
			t.Errorf("%+v: let in %d times after the revoke", o, broken)
		}
		if took > protocol().wait+time.Second {
			t.Errorf("%+v: the revoke took %s", o, took)
		}
		if accepted > 0 {
			let++
		}
		if t.Failed() {
			break
		}
	}
	if let < len(all)/2 {
		t.Errorf("the key was let in at all in %d of %d orders", let, len(all))
	}
	t.Logf("%d orders", len(all))
}

// TestEveryOrderOfAChildFindsFaults: the walk is worth something, since it
// finds each way to get the tree wrong.
func TestEveryOrderOfAChildFindsFaults(t *testing.T) {
	t.Parallel()
	for f := longLease; f <= forgets; f++ {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			for _, o := range shuffled(families(false)) {
				if broken, _, _ := live(t, o, f); broken > 0 {
					t.Logf("found in %+v", o)
					return
				}
			}
			t.Error("this fault is not found")
		})
	}
}
