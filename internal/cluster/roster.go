package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

var errStale = errors.New("cluster: the list of nodes was read from a database that does not have the change")

// roster hands out the list of nodes. Each list is read after it was asked
// for; calls that come while one is being read share the next, so that a
// thousand revokes at once cost the database no more than one.
type roster struct {
	read  func(context.Context) (store.Roster, error)
	limit time.Duration // of one reading

	one  chan struct{} // full while one is being read
	mu   sync.Mutex
	next *listing // nil unless somebody waits for a reading that has not begun
}

func newRoster(read func(context.Context) (store.Roster, error), limit time.Duration) *roster {
	return &roster{read: read, limit: limit, one: make(chan struct{}, 1)}
}

type listing struct {
	store.Roster
	err  error
	done chan struct{}
}

func (r *roster) list(ctx context.Context) (store.Roster, error) {
	r.mu.Lock()
	l := r.next
	if l == nil {
		l = &listing{done: make(chan struct{})}
		r.next = l
		go r.fill(context.WithoutCancel(ctx), l)
	}
	r.mu.Unlock()
	select {
	case <-l.done:
		return l.Roster, l.err
	case <-ctx.Done():
		return store.Roster{}, ctx.Err()
	}
}

func (r *roster) fill(ctx context.Context, l *listing) {
	r.one <- struct{}{}
	defer func() { <-r.one }()
	r.mu.Lock()
	r.next = nil // it begins: who asks from now on is too late for it
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	l.Roster, l.err = r.read(ctx)
	close(l.done)
}

// others are the nodes that a change of this process waits for.
type others struct {
	times times
	self  func() string // ID of the node that needs no waiting for; "" for none
	list  func(context.Context) (store.Roster, error)
	note  func(ctx context.Context, from, to int64) error
}

// wait reads the list of nodes once, after the commit, and waits for each of
// them to apply seq or to leave, or until its lease must be over. A node that
// comes later, or renews later, has seen the change by then. It tells whether
// some of them were still behind. An error means that the leases may not be
// over yet.
//
// Of what narrows, unreached are the nodes that have not applied it and go on
// answering after their leases, as they were set to, with the times when each
// of them refuses for certain.
func (o *others) wait(ctx context.Context, seq int64, narrows bool) (stillBehind bool, unreached []keystile.Unreached, err error) {
	first, err := o.read(ctx, seq)
	if err != nil {
		return true, nil, err
	}
	listed := time.Now()
	limit := o.times.createWait
	if narrows {
		limit = o.times.wait
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if narrows && first.Timeline != first.Noted {
		// The failover may have lost rows of nodes, and who is not listed
		// can't be asked. All leases of before are over after the full wait.
		<-limited.Done()
		if ctx.Err() != nil {
			return true, nil, ctx.Err()
		}
		// If this fails, the next change waits as long.
		_ = o.note(ctx, first.Noted, first.Timeline)
		return true, o.stale(ctx, o.behind(first, seq), seq, listed), nil
	}
	behind := o.behind(first, seq)
	for pause := 2 * time.Millisecond; len(behind) > 0; pause = min(2*pause, 100*time.Millisecond) {
		sleep(limited, pause)
		switch {
		case ctx.Err() != nil:
			return true, nil, ctx.Err()
		case limited.Err() != nil && narrows:
			return true, o.stale(ctx, behind, seq, listed), nil
		case limited.Err() != nil:
			return true, nil, nil
		}
		if now, err := o.read(limited, seq); err == nil { // if not, the leases end in any case
			stillThere(behind, now, seq)
		}
	}
	return false, nil, nil
}

// behind are the nodes of a list that have yet to apply seq, by ID.
func (o *others) behind(r store.Roster, seq int64) map[string]store.Node {
	behind, self := map[string]store.Node{}, o.self()
	for _, n := range r.Nodes {
		if n.ID != self && n.Applied < seq {
			behind[n.ID] = n
		}
	}
	return behind
}

// stillThere takes those out that a newer list no longer has, or has further on.
func stillThere(behind map[string]store.Node, now store.Roster, seq int64) {
	there := map[string]int64{}
	for _, n := range now.Nodes {
		there[n.ID] = n.Applied
	}
	for id := range behind {
		if applied, listed := there[id]; !listed || applied >= seq {
			delete(behind, id)
		}
	}
}

// stale are those of the nodes that go on answering after their leases, which
// are over by now, the one that does so for longest first. A lease that shows
// nothing of the change was asked for before the list was read, and what a
// clock may run slow is added to the time beyond it too.
func (o *others) stale(ctx context.Context, behind map[string]store.Node, seq int64, listed time.Time) []keystile.Unreached {
	var all []keystile.Unreached
	for id, n := range behind {
		if n.StaleFor == 0 {
			delete(behind, id)
		}
	}
	if len(behind) == 0 {
		return nil
	}
	if now, err := o.read(ctx, seq); err == nil { // the last word counts
		stillThere(behind, now, seq)
	}
	for _, n := range behind {
		until := listed.Add(o.times.wait + n.StaleFor*holdNum/holdDen)
		all = append(all, keystile.Unreached{Node: n.ID, Name: n.Name, Until: until.UTC().Truncate(time.Second).Add(time.Second)})
	}
	slices.SortFunc(all, func(a, b keystile.Unreached) int {
		return cmp.Or(b.Until.Compare(a.Until), strings.Compare(a.Node, b.Node))
	})
	return all
}

// read refuses a list that is older than the change.
func (o *others) read(ctx context.Context, seq int64) (store.Roster, error) {
	r, err := o.list(ctx)
	if err == nil && r.Seq < seq {
		err = errStale
	}
	return r, err
}
