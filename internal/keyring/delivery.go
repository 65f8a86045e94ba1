package keyring

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// maxAttempts is how many attempts at one delivery are shown.
const maxAttempts = 100

// replayChunk is how many deliveries are queued again at once.
const replayChunk = 500

// Deliveries lists the deliveries to an endpoint, newest first; with a status,
// those that have it.
func (k *Keyring) Deliveries(ctx context.Context, a Actor, endpointID string, status keystile.DeliveryStatus, cursor string, n int) (out keystile.List[keystile.Delivery], err error) {
	if err := checkCursor("dlv_", cursor); err != nil {
		return out, err
	}
	if n, err = limit(n); err != nil {
		return out, err
	}
	err = k.readEndpoint(ctx, a, endpointID, "api.endpoint.view", func(tx *store.Tx, e store.Endpoint) error {
		rows, err := tx.Deliveries(a.scope(), e.ID, status, cursor, n+1)
		var list []keystile.Delivery
		for _, r := range rows {
			list = append(list, r.Delivery)
		}
		out = page(list, n, func(d keystile.Delivery) string { return d.ID })
		return err
	})
	return out, err
}

// Delivery shows a delivery with its attempts. What was sent is there for who
// may see events of its type.
func (k *Keyring) Delivery(ctx context.Context, a Actor, id string) (out keystile.DeliveryDetails, err error) {
	if err := checkID("dlv_", id); err != nil {
		return out, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		d, err := tx.Delivery(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need("api.endpoint.view"); err != nil {
			return err
		}
		out = keystile.DeliveryDetails{Delivery: d.Delivery, Log: []keystile.Attempt{}}
		if t, ok := keystile.EventTypeOf(d.EventType); ok && a.May(t.Permission) {
			if out.Payload, err = payload(d); err != nil {
				return err
			}
		}
		log, err := tx.Attempts(a.scope(), id, maxAttempts)
		out.Log = append(out.Log, log...)
		return err
	})
	if err != nil {
		return keystile.DeliveryDetails{}, err
	}
	return out, nil
}

// payload is an event as it is sent, byte for byte the same each time.
func payload(d store.Delivery) (json.RawMessage, error) {
	return json.Marshal(struct {
		ID          string          `json:"id"`
		Type        string          `json:"type"`
		Timestamp   time.Time       `json:"timestamp"`
		WorkspaceID string          `json:"workspace_id"`
		Data        json.RawMessage `json:"data"`
	}{d.EventID, d.EventType, d.EventAt, d.WorkspaceID, d.Data})
}

// RetryDelivery has an event sent to an endpoint again at once, whatever has
// become of it, and from then on like a new one.
func (k *Keyring) RetryDelivery(ctx context.Context, a Actor, id string) (out keystile.Delivery, err error) {
	if err := checkID("dlv_", id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		d, err := c.Tx.Delivery(a.scope(), id)
		if err != nil {
			return err
		}
		if err := a.need("api.endpoint.update"); err != nil {
			return err
		}
		e, err := c.Tx.Endpoint(a.scope(), d.EndpointID)
		if err != nil {
			return err
		}
		if err := c.Requeue(a.scope(), id, c.now); err != nil {
			return err
		}
		d, err = c.Tx.Delivery(a.scope(), id)
		if err != nil {
			return err
		}
		out = d.Delivery
		return c.record(entry{workspaceID: e.WorkspaceID, action: "delivery.retried", kind: store.ChangeEndpoint,
			objectID: id, objectName: d.EventType + " to " + e.URL})
	})
	if err != nil {
		return keystile.Delivery{}, err
	}
	return out, nil
}

// ReplayEvents has all failed deliveries to an endpoint sent again of events
// that happened since an instant. Cut short, it can be repeated.
func (k *Keyring) ReplayEvents(ctx context.Context, a Actor, endpointID string, in keystile.ReplayEvents) (out keystile.Replayed, err error) {
	first := true
	for {
		var n int64
		_, err := k.changeEndpoint(ctx, a, endpointID, "api.endpoint.update", func(c *change, e *store.Endpoint) (err error) {
			if n, err = c.RequeueFailed(a.scope(), e.ID, in.Since, c.now, replayChunk); err != nil || !first {
				return err
			}
			return c.record(entry{workspaceID: e.WorkspaceID, action: "endpoint.replayed", kind: store.ChangeEndpoint,
				objectID: e.ID, objectName: e.URL, reason: "since " + in.Since.UTC().Format(time.RFC3339)})
		})
		if err != nil {
			return out, err
		}
		out.Deliveries += int(n)
		if n < replayChunk {
			return out, nil
		}
		first = false
	}
}
