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
	// fanOutRows after how many deliveries no further one is. Others wait meanwhile.
	fanOutChunk = 100
	fanOutRows  = 1000
	// claimLife is for how long a node may be silent before another one sends
	// in its place. It is longer than an attempt can take, and renewed at half.
	claimLife = 45 * time.Second
	// failingFor is for how long nothing was accepted when an endpoint is
	// paused, which is found out when a delivery is given up: that takes a bit
	// more than 60 hours of attempts.
	failingFor = 60 * time.Hour
	// alertAfter is for how long nothing was accepted when people are told, which
	// is found out with the attempt number alertAttempt, half an hour after the
	// one before: a receiver that is being restarted is back by then.
	alertAfter   = 30 * time.Minute
	alertAttempt = 4
)

// endpointFailing is the first stage of an alert about an endpoint. The others
// are the states that it is stopped in.
const endpointFailing = "failing"

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
	// Claim is for how many more endpoints the node has room, none of them of
	// the workspaces in Full.
	Claim int
	Full  []string
	// Renew tells that the node's claims are to be lengthened.
	Renew bool
}

// Turn writes what became of attempts, makes deliveries of events, and claims
// endpoints for the node. It tells whether there is more of the last two.
func (k *Keyring) Turn(ctx context.Context, t Turn) (more bool, err error) {
	_, err = k.write(ctx, system(), func(c *change) error {
		var tried []store.Tried
		for _, one := range t.Tried {
			tried = append(tried, one.Tried)
		}
		recovered, err := c.RecordTried(tried, c.now)
		if err != nil {
			return err
		}
		for _, id := range recovered {
			if err := c.closeAlertsOf(id); err != nil {
				return err
			}
		}
		for _, one := range t.Tried {
			if err := c.judge(one); err != nil {
				return err
			}
		}
		if more, err = c.handOn(); err != nil {
			return err
		}
		if err := c.ReleaseEndpoints(t.Node, t.Done); err != nil {
			return err
		}
		if t.Renew {
			if err := c.RenewClaims(t.Node, c.now.Add(claimLife)); err != nil {
				return err
			}
		}
		if t.Claim > 0 {
			claimed, err := c.ClaimEndpoints(t.Node, t.Full, c.now, c.now.Add(claimLife), t.Claim)
			more = more || len(claimed) == t.Claim
			return err
		}
		return nil
	})
	return more, err
}

// judge stops an endpoint whose receiver is gone, or has not accepted anything
// for as long as a delivery is tried, and tells people before.
func (c *change) judge(t Tried) error {
	if t.Delivered || !t.Gone && !t.Next.IsZero() && t.Number < alertAttempt {
		return nil
	}
	e, err := c.Tx.Endpoint(store.AllWorkspaces(), t.EndpointID)
	if err != nil || e.Status != keystile.EndpointActive {
		return ignoreNotFound(err)
	}
	failing := time.Duration(0)
	if e.FailingSince != nil {
		failing = c.now.Sub(*e.FailingSince)
	}
	stage := endpointFailing
	switch {
	case t.Gone:
		stage = string(keystile.EndpointDisabled)
		err = c.stopEndpoint(&e, keystile.EndpointDisabled, "The receiver answered 410 Gone.")
	case t.Next.IsZero() && failing >= failingFor:
		stage = string(keystile.EndpointPaused)
		err = c.stopEndpoint(&e, keystile.EndpointPaused, "Nothing was accepted since "+e.FailingSince.Format(time.RFC3339)+".")
	case failing < alertAfter:
		return nil
	}
	if err != nil {
		return err
	}
	open, err := c.OpenAlertsAbout(store.OneWorkspace(e.WorkspaceID), e.ID)
	if err != nil {
		return err
	}
	alert := keystile.Alert{WorkspaceID: e.WorkspaceID, Type: keystile.AlertEndpointFailing, EndpointID: e.ID, EndpointURL: e.URL}
	if len(open) > 0 {
		alert = open[0]
	}
	return c.raise(alert, stage, keystile.AlertFacts{DueAt: e.FailingSince, LastFailure: e.LastFailure})
}

// handOn makes deliveries of the oldest events in the outbox, and tells whether
// there may be more of them.
func (c *change) handOn() (more bool, err error) {
	events, err := c.PendingEvents(fanOutChunk)
	if err != nil || len(events) == 0 {
		return false, err
	}
	more = len(events) == fanOutChunk
	var workspaces []string
	for _, e := range events {
		if !slices.Contains(workspaces, e.WorkspaceID) {
			workspaces = append(workspaces, e.WorkspaceID)
		}
	}
	endpoints, err := c.EndpointsOf(workspaces)
	if err != nil {
		return false, err
	}
	var rows []store.Delivery
	var ids, due []string
	for _, ev := range events {
		if len(rows) >= fanOutRows {
			more = true
			break
		}
		ids = append(ids, ev.ID)
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
			return false, err
		}
	}
	if due != nil {
		if err := c.EndpointsDue(due, c.now); err != nil {
			return false, err
		}
	}
	return more, c.HandedOn(ids)
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
	Active, Failing      bool
	UpdatedAt            time.Time
	Parcels              []Parcel
}

// Rounds reads the endpoints that a node has claimed, as they are now, each
// with the deliveries that are due: as many at most as room says of its ID, or
// of "" where it says nothing. One that is not active has none.
func (k *Keyring) Rounds(ctx context.Context, node string, room map[string]int) (out []Round, err error) {
	now := k.now()
	err = k.read(ctx, func(tx *store.Tx) error {
		out = nil
		endpoints, err := tx.ClaimedEndpoints(node)
		if err != nil {
			return err
		}
		for _, e := range endpoints {
			r := Round{ID: e.ID, WorkspaceID: e.WorkspaceID, URL: e.URL, AllowRanges: e.AllowRanges,
				Active: e.Status == keystile.EndpointActive, Failing: e.FailingSince != nil, UpdatedAt: e.UpdatedAt}
			most, ok := room[e.ID]
			if !ok {
				most = room[""]
			}
			if r.Active && most > 0 {
				due, err := tx.DueDeliveries(e.ID, now, most)
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

// TestAccepted notes that a receiver accepted a test that one secret signed
// alone: evidence that the receiver has that one.
func (k *Keyring) TestAccepted(ctx context.Context, secretID string) error {
	_, err := k.store.Write(ctx, func(tx *store.Tx) error {
		return tx.AddSecretUses([]store.SecretUse{{ID: secretID, Signed: k.now(), Verified: k.now()}})
	})
	return problemOf(err)
}

// TestRound is what a test delivery takes.
type TestRound struct {
	WorkspaceID, URL string
	AllowRanges      []string
	EventID          string
	Payload          json.RawMessage
	Secrets          []keystile.WebhookSecret
	Alone            string // ID of the one secret that was asked for; "" for all
}

// TestEndpoint prepares a test delivery to an endpoint, signed with all of its
// live secrets or with one of them alone, and notes in the audit log that it
// was asked for. The endpoint need not be active.
func (k *Keyring) TestEndpoint(ctx context.Context, a Actor, id string, in keystile.TestDelivery) (out TestRound, err error) {
	if in.WebhookSecret != "" {
		if err := checkID(secretIDPrefix, in.WebhookSecret); err != nil {
			return out, err
		}
	}
	_, err = k.changeEndpoint(ctx, a, id, "api.endpoint.update", func(c *change, e *store.Endpoint) error {
		out = TestRound{WorkspaceID: e.WorkspaceID, URL: e.URL, AllowRanges: e.AllowRanges}
		if err := c.testPayload(&out, keystile.EventEndpointTest, map[string]any{string(store.ChangeEndpoint): e.Endpoint}); err != nil {
			return err
		}
		return c.record(entry{workspaceID: e.WorkspaceID, action: "endpoint.tested", kind: store.ChangeEndpoint,
			objectID: e.ID, objectName: e.URL, reason: in.WebhookSecret})
	})
	if err != nil {
		return TestRound{}, err
	}
	out.Alone = in.WebhookSecret
	out.Secrets, err = k.SecretsOfEndpoint(ctx, out.WorkspaceID, id, in.WebhookSecret)
	return out, err
}

// TestWebhookSecret prepares a test webhook to a URL, signed with one of a
// workspace's own secrets alone, and notes that in the audit log.
func (k *Keyring) TestWebhookSecret(ctx context.Context, a Actor, id string, in keystile.TestWebhook) (out TestRound, err error) {
	if err := checkID(secretIDPrefix, id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		s, err := c.WebhookSecret(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need("api.webhook_secret.sign"); err != nil {
			return err
		}
		if s.EndpointID != "" {
			return keystile.NewError(keystile.CodeConflict, "This is a secret of the endpoint "+s.EndpointID+".",
				"Test it with POST /v1/endpoints/"+s.EndpointID+"/test and its ID as webhook_secret.")
		}
		out = TestRound{WorkspaceID: s.WorkspaceID}
		if len(in.AllowRanges) > 0 {
			if err := a.need(allowRanges); err != nil {
				return err
			}
			if out.AllowRanges, err = ranges(in.AllowRanges); err != nil {
				return err
			}
		}
		if out.URL, err = c.receiverURL(in.URL, len(out.AllowRanges) > 0); err != nil {
			return err
		}
		wire := k.presentSecret(s, c.now)
		if err := c.testPayload(&out, keystile.EventWebhookSecretTest, map[string]any{string(store.ChangeWebhookSecret): wire}); err != nil {
			return err
		}
		return c.record(entry{workspaceID: s.WorkspaceID, action: "webhook_secret.tested", kind: store.ChangeWebhookSecret,
			objectID: s.ID, objectName: s.Label, reason: out.URL})
	})
	if err != nil {
		return TestRound{}, err
	}
	out.Alone = id
	out.Secrets, err = k.SecretsOfEndpoint(ctx, out.WorkspaceID, "", id)
	return out, err
}

// testPayload makes the event of a test delivery. It is sent once, and stands
// in no outbox.
func (c *change) testPayload(t *TestRound, event string, data map[string]any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	d := store.Delivery{Data: text}
	d.EventID, d.EventType, d.EventAt, d.WorkspaceID = c.k.ids.next("evt_", c.now), event, c.now, t.WorkspaceID
	t.EventID = d.EventID
	t.Payload, err = payload(d)
	return err
}
