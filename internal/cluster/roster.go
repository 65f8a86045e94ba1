package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

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
	self  string // ID of the node that needs no waiting for; "" for none
	list  func(context.Context) (store.Roster, error)
	note  func(ctx context.Context, from, to int64) error
}

// wait reads the list of nodes once, after the commit, and waits for each of
// them to apply seq or to leave, or until its lease must be over. A node that
// comes later, or renews later, has seen the change by then. It tells whether
// some of them were still behind. An error means that the leases may not be
// over yet.
func (o *others) wait(ctx context.Context, seq int64, narrows bool) (stillBehind bool, err error) {
	first, err := o.read(ctx, seq)
	if err != nil {
		return true, err
	}
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
			return true, ctx.Err()
		}
		// If this fails, the next change waits as long.
		_ = o.note(ctx, first.Noted, first.Timeline)
		return true, nil
	}
	behind := map[string]bool{}
	for _, n := range first.Nodes {
		if n.ID != o.self && n.Applied < seq {
			behind[n.ID] = true
		}
	}
	for pause := 2 * time.Millisecond; len(behind) > 0; pause = min(2*pause, 100*time.Millisecond) {
		if sleep(limited, pause); limited.Err() != nil {
			return true, ctx.Err()
		}
		now, err := o.read(limited, seq)
		if err != nil {
			continue // the leases end in any case
		}
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
	return false, nil
}

// read refuses a list that is older than the change.
func (o *others) read(ctx context.Context, seq int64) (store.Roster, error) {
	r, err := o.list(ctx)
	if err == nil && r.Seq < seq {
		err = errStale
	}
	return r, err
}
