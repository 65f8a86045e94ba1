package keyring

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// This file is for package courier: it sends the events of all workspaces and
// acts for nobody, so its methods take no Actor. They are no part of the API.

const (
	// fanOutChunk is how many events are handed on in one transaction, and
	// claimChunk how many endpoints are claimed in one. Others wait meanwhile.
	fanOutChunk = 100
	claimChunk  = 50
	// claimLife is for how long a node may be silent before another one sends
	// in its place. It is longer than an attempt can take, and renewed at half.
	claimLife = 45 * time.Second
	// failingFor is for how long nothing was accepted when an endpoint is
	// paused, which is found out when a delivery is given up: that takes a bit
	// more than 60 hours of attempts.
	failingFor = 60 * time.Hour
)

// Tried is what became of one attempt.
type Tried struct {
	store.Tried
	Gone bool // the receiver answered 410
}

// Turn is what a node writes at once.
type Turn struct {
	Node  string
	Tried []Tried
	// Done are endpoints that the node has nothing of left to send.
	Done []string
	// Claim tells that the node has room for more endpoints.
	Claim bool
	// Renew tells that the node's claims are to be lengthened.
	Renew bool
}

// Turn writes what became of attempts, makes deliveries of events, and claims
// endpoints for the node. It tells whether more events wait.
func (k *Keyring) Turn(ctx context.Context, t Turn) (more bool, err error) {
	_, err = k.write(ctx, system(), func(c *change) error {
		var tried []store.Tried
		for _, one := range t.Tried {
			tried = append(tried, one.Tried)
		}
		if err := c.RecordTried(tried, c.now); err != nil {
			return err
		}
		for _, one := range t.Tried {
			if err := c.judge(one); err != nil {
				return err
			}
		}
		n, err := c.handOn()
		if err != nil {
			return err
		}
		more = n == fanOutChunk
		if err := c.ReleaseEndpoints(t.Node, t.Done); err != nil {
			return err
		}
		if t.Renew {
			if err := c.RenewClaims(t.Node, c.now.Add(claimLife)); err != nil {
				return err
			}
		}
		if t.Claim {
			_, err = c.ClaimEndpoints(t.Node, c.now, c.now.Add(claimLife), claimChunk)
		}
		return err
	})
	return more, err
}

// judge stops an endpoint whose receiver is gone, or has not accepted anything
// for as long as a delivery is tried.
func (c *change) judge(t Tried) error {
	if t.Delivered || !t.Gone && !t.Next.IsZero() {
		return nil
	}
	e, err := c.Tx.Endpoint(store.AllWorkspaces(), t.EndpointID)
	if err != nil || e.Status != keystile.EndpointActive {
		return ignoreNotFound(err)
	}
	switch {
	case t.Gone:
		return c.stopEndpoint(&e, keystile.EndpointDisabled, "The receiver answered 410 Gone.")
	case e.FailingSince != nil && c.now.Sub(*e.FailingSince) >= failingFor:
		return c.stopEndpoint(&e, keystile.EndpointPaused, "Nothing was accepted since "+e.FailingSince.Format(time.RFC3339)+".")
	}
	return nil
}

// handOn makes deliveries of the oldest events in the outbox, and returns how
// many events it took.
func (c *change) handOn() (int, error) {
	events, err := c.PendingEvents(fanOutChunk)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	var ids, workspaces []string
	for _, e := range events {
		ids = append(ids, e.ID)
		if !slices.Contains(workspaces, e.WorkspaceID) {
			workspaces = append(workspaces, e.WorkspaceID)
		}
	}
	endpoints, err := c.EndpointsOf(workspaces)
	if err != nil {
		return 0, err
	}
	var rows []store.Delivery
	var due []string
	for _, ev := range events {
		t, ok := keystile.EventTypeOf(ev.Type)
		if !ok {
			continue
		}
		for _, e := range endpoints {
			if e.WorkspaceID != ev.WorkspaceID || !wants(e, t) {
				continue
			}
			d := store.Delivery{ObjectID: ev.ObjectID}
			d.ID, d.WorkspaceID, d.EventID, d.EndpointID = c.k.ids.next("dlv_", c.now), ev.WorkspaceID, ev.ID, e.ID
			d.EventAt, d.CreatedAt = ev.At, c.now
			rows = append(rows, d)
			if !slices.Contains(due, e.ID) {
				due = append(due, e.ID)
			}
		}
	}
	for chunk := range slices.Chunk(rows, fanOutChunk) {
		if err := c.InsertDeliveries(chunk); err != nil {
			return 0, err
		}
	}
	if due != nil {
		if err := c.EndpointsDue(due, c.now); err != nil {
			return 0, err
		}
	}
	return len(events), c.HandedOn(ids)
}

// Parcel is one delivery that is to be sent now.
type Parcel struct {
	DeliveryID, EventID, ObjectID string
	Attempts, Tries               int
	Payload                       json.RawMessage
}

// Round is an endpoint that a node has claimed, and what is to be sent to it.
type Round struct {
	ID, WorkspaceID, URL string
	AllowRanges          []string
	Failing              bool
	UpdatedAt            time.Time
	Parcels              []Parcel
}

// Rounds reads the endpoints that a node has claimed, as they are now, with at
// most limit deliveries each that are due. One that is not active any more has none.
func (k *Keyring) Rounds(ctx context.Context, node string, limit int) (out []Round, err error) {
	now := k.now()
	err = k.read(ctx, func(tx *store.Tx) error {
		out = nil
		endpoints, err := tx.ClaimedEndpoints(node)
		if err != nil {
			return err
		}
		for _, e := range endpoints {
			r := Round{ID: e.ID, WorkspaceID: e.WorkspaceID, URL: e.URL, AllowRanges: e.AllowRanges, Failing: e.FailingSince != nil, UpdatedAt: e.UpdatedAt}
			if e.Status == keystile.EndpointActive {
				due, err := tx.DueDeliveries(e.ID, now, limit)
				if err != nil {
					return err
				}
				for _, d := range due {
					body, err := payload(d)
					if err != nil {
						return err
					}
					r.Parcels = append(r.Parcels, Parcel{d.ID, d.EventID, d.ObjectID, d.Attempts, d.Tries, body})
				}
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

// Waiting tells whether a node has something to do.
func (k *Keyring) Waiting(ctx context.Context, node string) (waiting bool, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		waiting, err = tx.Waiting(node, k.now())
		return err
	})
	return waiting, err
}

// OldestDue is for how long the oldest event has been waiting to be sent to an
// active endpoint.
func (k *Keyring) OldestDue(ctx context.Context) (age time.Duration, err error) {
	err = k.read(ctx, func(tx *store.Tx) error {
		now := k.now()
		at, err := tx.OldestDue(now)
		if !at.IsZero() {
			age = max(0, now.Sub(at))
		}
		return err
	})
	return age, err
}

// ReleaseAll ends the claims of a server that was killed. It is for the one
// server on a SQLite database, at its start.
func (k *Keyring) ReleaseAll(ctx context.Context) error {
	_, err := k.store.Write(ctx, func(tx *store.Tx) error { return tx.ReleaseAll() })
	return problemOf(err)
}

// Release ends the claims of a node that leaves.
func (k *Keyring) Release(ctx context.Context, node string, endpoints []string) error {
	_, err := k.store.Write(ctx, func(tx *store.Tx) error { return tx.ReleaseEndpoints(node, endpoints) })
	return problemOf(err)
}
