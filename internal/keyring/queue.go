package keyring

import (
	"context"
	"sync"
)

// queue lets in so many at once, and of each workspace one, so that whoever
// asks a thousand times waits for themselves and not others for them.
type queue struct {
	places chan struct{}
	mu     sync.Mutex
	lines  map[string]*waitingLine // by workspace
}

// waitingLine is who is in, or waits, of one workspace.
type waitingLine struct {
	place chan struct{}
	n     int
}

func newQueue(places int) *queue {
	return &queue{places: make(chan struct{}, places), lines: map[string]*waitingLine{}}
}

// enter waits for a place, which leave gives back, or for the end of ctx.
func (q *queue) enter(ctx context.Context, workspaceID string) (leave func(), err error) {
	q.mu.Lock()
	l := q.lines[workspaceID]
	if l == nil {
		l = &waitingLine{place: make(chan struct{}, 1)}
		q.lines[workspaceID] = l
	}
	l.n++
	q.mu.Unlock()
	out := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if l.n--; l.n == 0 {
			delete(q.lines, workspaceID)
		}
	}
	select {
	case l.place <- struct{}{}:
	case <-ctx.Done():
		out()
		return nil, ctx.Err()
	}
	select {
	case q.places <- struct{}{}:
	case <-ctx.Done():
		<-l.place
		out()
		return nil, ctx.Err()
	}
	return func() {
		<-q.places
		<-l.place
		out()
	}, nil
}
