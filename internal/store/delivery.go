package store

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// Delivery is a row of the deliveries.
type Delivery struct {
	keystile.Delivery
	ObjectID string // what its event is about
	Tries    int    // attempts since its schedule began
	Data     json.RawMessage
}

// States of a delivery.
const (
	deliveryPending = iota
	deliveryDelivered
	deliveryFailed
)

// deliveryStates are the states by the names on the wire.
func deliveryStates() []keystile.DeliveryStatus {
	return []keystile.DeliveryStatus{
		deliveryPending: keystile.DeliveryPending, deliveryDelivered: keystile.DeliveryDelivered, deliveryFailed: keystile.DeliveryFailed,
	}
}

const deliveryColumns = `d.id, d.workspace_id, d.endpoint_id, d.event_id, d.state, d.attempts, d.next_at, d.created_at, d.updated_at,
	d.object_id, d.tries, ev.type, ev.at, ev.data`

const deliveryTables = ` FROM deliveries d JOIN events ev ON ev.id = d.event_id`

func scanDelivery(r scanner) (Delivery, error) {
	var d Delivery
	var state, next, created, updated, at int64
	var data string
	err := r.Scan(&d.ID, &d.WorkspaceID, &d.EndpointID, &d.EventID, &state, &d.Attempts, &next, &created, &updated,
		&d.ObjectID, &d.Tries, &d.EventType, &at, &data)
	if err != nil {
		return d, err
	}
	d.Status = deliveryStates()[state]
	d.NextAt, d.CreatedAt, d.UpdatedAt, d.EventAt = fromMillisPtr(next), fromMillis(created), fromMillis(updated), fromMillis(at)
	d.Data = json.RawMessage(data)
	return d, nil
}

// also scans columns behind those that somebody else knows of.
type also struct {
	row  scanner
	more []any
}

func (a also) Scan(into ...any) error { return a.row.Scan(append(into, a.more...)...) }

// InsertDeliveries adds deliveries that are due at the time of their event.
func (tx *Tx) InsertDeliveries(rows []Delivery) error {
	const columns = 8
	var b strings.Builder
	b.WriteString(`INSERT INTO deliveries (id, workspace_id, event_id, endpoint_id, object_id, state, next_at, created_at, updated_at) VALUES `)
	args := make([]any, 0, columns*len(rows))
	for i, d := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		n := len(args)
		b.WriteString("($" + itoa(n+1) + ", $" + itoa(n+2) + ", $" + itoa(n+3) + ", $" + itoa(n+4) + ", $" + itoa(n+5) + ", $" + itoa(n+6) +
			", $" + itoa(n+7) + ", $" + itoa(n+8) + ", $" + itoa(n+8) + ")")
		args = append(args, d.ID, d.WorkspaceID, d.EventID, d.EndpointID, d.ObjectID, int64(deliveryPending), millis(d.EventAt), millis(d.CreatedAt))
	}
	_, err := tx.exec(b.String(), args...)
	return wrap("insert deliveries", err)
}

// Delivery reads a delivery in scope, whose endpoint is still there.
func (tx *Tx) Delivery(s Scope, id string) (Delivery, error) {
	ws, all := s.args()
	return queryOne(tx, scanDelivery, `SELECT `+deliveryColumns+deliveryTables+` JOIN endpoints e ON e.id = d.endpoint_id
		WHERE d.id = $1 AND (d.workspace_id = $2 OR $3 = 1)`, id, ws, all)
}

// Deliveries lists the deliveries to an endpoint, newest first, below the
// cursor (an ID, empty for the beginning), at most limit, in one state or, with
// an empty status, in any.
func (tx *Tx) Deliveries(s Scope, endpointID string, status keystile.DeliveryStatus, cursor string, limit int) ([]Delivery, error) {
	ws, all := s.args()
	where, args := ``, []any{endpointID, ws, all, limit}
	for state, name := range deliveryStates() {
		if name == status {
			where += ` AND d.state = ` + itoa(state)
		}
	}
	if cursor != "" {
		args = append(args, cursor)
		where += ` AND d.id < $5`
	}
	return queryAll(tx, func(r scanner) (Delivery, error) {
		var status, took int64
		d, err := scanDelivery(also{r, []any{&status, &took}})
		d.LastStatus, d.LastMS = int(status), took
		return d, err
	}, `SELECT `+deliveryColumns+`, COALESCE(a.status, 0), COALESCE(a.took, 0)`+deliveryTables+`
		LEFT JOIN attempts a ON a.delivery_id = d.id AND a.number = d.attempts
		WHERE d.endpoint_id = $1 AND (d.workspace_id = $2 OR $3 = 1)`+where+` ORDER BY d.id DESC LIMIT $4`, args...)
}

// Attempts lists the attempts at a delivery, newest first, at most limit.
func (tx *Tx) Attempts(s Scope, deliveryID string, limit int) ([]keystile.Attempt, error) {
	ws, all := s.args()
	return queryAll(tx, func(r scanner) (a keystile.Attempt, err error) {
		var at int64
		err = r.Scan(&at, &a.DurationMS, &a.Status, &a.Address, &a.Error, &a.Body)
		a.At = fromMillis(at)
		return a, err
	}, `SELECT a.at, a.took, a.status, a.address, a.error, a.body FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
		WHERE a.delivery_id = $1 AND (d.workspace_id = $2 OR $3 = 1) ORDER BY a.number DESC LIMIT $4`, deliveryID, ws, all, limit)
}

// Requeue has a delivery sent again at once, with its schedule from the beginning.
func (tx *Tx) Requeue(s Scope, id string, now time.Time) error {
	ws, all := s.args()
	if err := tx.one(`UPDATE deliveries SET state = $1, tries = 0, next_at = $2, updated_at = $2
		WHERE id = $3 AND (workspace_id = $4 OR $5 = 1)`, int64(deliveryPending), millis(now), id, ws, all); err != nil {
		return err
	}
	return tx.due(`id = (SELECT endpoint_id FROM deliveries WHERE id = $2)`, now, id)
}

// RequeueFailed does so with the failed deliveries to an endpoint of events
// that happened since an instant, at most limit, and returns how many there were.
func (tx *Tx) RequeueFailed(s Scope, endpointID string, since, now time.Time, limit int) (int64, error) {
	ws, all := s.args()
	n, err := tx.exec(`UPDATE deliveries SET state = $1, tries = 0, next_at = $2, updated_at = $2 WHERE id IN
		(SELECT d.id FROM deliveries d JOIN events ev ON ev.id = d.event_id
			WHERE d.endpoint_id = $3 AND (d.workspace_id = $4 OR $5 = 1) AND d.state = 2 AND ev.at >= $6 ORDER BY d.id LIMIT $7)`,
		int64(deliveryPending), millis(now), endpointID, ws, all, millis(since), limit)
	if err != nil || n == 0 {
		return 0, err
	}
	return n, tx.due(`id = $2`, now, endpointID)
}

// due has endpoints looked at for something to send.
func (tx *Tx) due(where string, now time.Time, args ...any) error {
	_, err := tx.exec(`UPDATE endpoints SET due_at = $1 WHERE (due_at = 0 OR due_at > $1) AND `+where, append([]any{millis(now)}, args...)...)
	if tx.log != nil {
		tx.log.told = true
	}
	return wrap("note that something is to be sent", err)
}

// DeleteDeliveries removes at most limit deliveries to an endpoint that is
// gone, with their attempts, and returns how many went.
func (tx *Tx) DeleteDeliveries(endpointID string, limit int) (int64, error) {
	return tx.exec(`DELETE FROM deliveries WHERE id IN (SELECT d.id FROM deliveries d WHERE d.endpoint_id = $1
		AND NOT EXISTS (SELECT 1 FROM endpoints e WHERE e.id = d.endpoint_id) LIMIT $2)`, endpointID, limit)
}
