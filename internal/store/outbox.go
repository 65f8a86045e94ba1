package store

import (
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// This file is for the courier, which sends the events of all workspaces.

// Tried is what became of one attempt at a delivery.
type Tried struct {
	DeliveryID, EndpointID string
	Number                 int // of the attempt, from 1
	Attempt                keystile.Attempt
	Delivered              bool
	Next                   time.Time // when to try again; zero after the last attempt
}

// RecordTried writes the outcomes of attempts. One that another node has
// written meanwhile, which took this one for dead, stays as it is. It returns
// the endpoints that were failing and are not any more.
func (tx *Tx) RecordTried(tried []Tried, now time.Time) (recovered []string, err error) {
	if len(tried) == 0 {
		return nil, nil
	}
	if err := tx.insertAttempts(tried); err != nil {
		return nil, err
	}
	var done []string
	good, bad := map[string]bool{}, map[string]keystile.Attempt{}
	for _, t := range tried {
		if t.Delivered {
			done = append(done, t.DeliveryID)
			good[t.EndpointID] = true
			continue
		}
		bad[t.EndpointID] = t.Attempt // the last of them
		state := int64(deliveryPending)
		if t.Next.IsZero() {
			state = deliveryFailed
		}
		if _, err := tx.exec(`UPDATE deliveries SET state = $1, attempts = attempts + 1, tries = tries + 1, next_at = $2, updated_at = $3
			WHERE id = $4 AND state = 0 AND attempts < $5`, state, millis(t.Next), millis(now), t.DeliveryID, t.Number); err != nil {
			return nil, wrap("record a failed attempt", err)
		}
	}
	if done != nil {
		args, list := bindAll([]any{millis(now)}, done)
		if _, err := tx.exec(`UPDATE deliveries SET state = 1, attempts = attempts + 1, tries = tries + 1, next_at = 0, updated_at = $1
			WHERE state = 0 AND id IN `+list, args...); err != nil {
			return nil, wrap("record deliveries", err)
		}
	}
	return tx.recordHealth(good, bad, now)
}

// recordHealth notes since when endpoints have been failing, and how. One that
// has accepted something meanwhile is not. It returns those that were failing.
func (tx *Tx) recordHealth(good map[string]bool, bad map[string]keystile.Attempt, now time.Time) ([]string, error) {
	var well []string
	for id := range good {
		well = append(well, id)
	}
	for id, how := range bad {
		if good[id] {
			continue
		}
		how.Body = "" // stands in the attempt
		if _, err := tx.exec(`UPDATE endpoints SET failing_since = CASE WHEN failing_since = 0 THEN $1 ELSE failing_since END, failure = $2
			WHERE id = $3`, millis(now), mustJSON(how), id); err != nil {
			return nil, wrap("record an endpoint's health", err)
		}
	}
	if well == nil {
		return nil, nil
	}
	args, list := bindAll(nil, well)
	recovered, err := queryAll(tx, scanString, `UPDATE endpoints SET failing_since = 0, failure = ''
		WHERE failing_since > 0 AND id IN `+list+` RETURNING id`, args...)
	return recovered, wrap("record an endpoint's health", err)
}

func (tx *Tx) insertAttempts(tried []Tried) error {
	var b strings.Builder
	b.WriteString(`INSERT INTO attempts (delivery_id, number, at, took, status, address, error, body) `)
	var args []any
	for i, t := range tried {
		// A delivery whose endpoint or workspace was deleted meanwhile is gone.
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		n := len(args)
		b.WriteString("SELECT id, CAST($" + itoa(n+2) + " AS BIGINT), CAST($" + itoa(n+3) + " AS BIGINT), CAST($" + itoa(n+4) + " AS BIGINT), CAST($" +
			itoa(n+5) + " AS BIGINT), CAST($" + itoa(n+6) + " AS TEXT), CAST($" + itoa(n+7) + " AS TEXT), CAST($" + itoa(n+8) +
			" AS TEXT) FROM deliveries WHERE id = $" + itoa(n+1))
		a := t.Attempt
		args = append(args, t.DeliveryID, int64(t.Number), millis(a.At), a.DurationMS, int64(a.Status), a.Address, a.Error, a.Body)
	}
	// SQLite takes ON CONFLICT behind a SELECT for a join without a WHERE that ends it, which there is.
	_, err := tx.exec(b.String()+` ON CONFLICT DO NOTHING`, args...)
	return wrap("insert attempts", err)
}

// EndpointsDue has endpoints of the list looked at for something to send.
func (tx *Tx) EndpointsDue(ids []string, now time.Time) error {
	args, list := bindAll([]any{millis(now)}, ids)
	_, err := tx.exec(`UPDATE endpoints SET due_at = $1 WHERE (due_at = 0 OR due_at > $1) AND id IN `+list, args...)
	return wrap("note that something is to be sent", err)
}

// ClaimEndpoints gives a node the endpoints that have something to send and
// that no other node sends to, at most limit, until an instant. Those of some
// workspaces are left out.
func (tx *Tx) ClaimEndpoints(node string, except []string, now, till time.Time, limit int) ([]string, error) {
	args, list := bindAll([]any{millis(now), node, limit}, except)
	ids, err := queryAll(tx, scanString, `SELECT id FROM endpoints WHERE due_at > 0 AND due_at <= $1 AND state = 0
		AND (claimed_by = '' OR claimed_till < $1) AND claimed_by <> $2 AND workspace_id NOT IN `+list+` ORDER BY due_at LIMIT $3`, args...)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	args, list = bindAll([]any{node, millis(till)}, ids)
	_, err = tx.exec(`UPDATE endpoints SET claimed_by = $1, claimed_till = $2 WHERE id IN `+list, args...)
	return ids, wrap("claim endpoints", err)
}

// RenewClaims lengthens a node's claims.
func (tx *Tx) RenewClaims(node string, till time.Time) error {
	_, err := tx.exec(`UPDATE endpoints SET claimed_till = $1 WHERE claimed_by = $2 AND claimed_by <> ''`, millis(till), node)
	return wrap("renew claims", err)
}

// ReleaseEndpoints gives up a node's claims, and notes when there is something
// to send again.
func (tx *Tx) ReleaseEndpoints(node string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	args, list := bindAll([]any{node}, ids)
	_, err := tx.exec(`UPDATE endpoints SET claimed_by = '', claimed_till = 0, due_at = COALESCE(
		(SELECT MIN(d.next_at) FROM deliveries d WHERE d.endpoint_id = endpoints.id AND d.state = 0), 0)
		WHERE claimed_by = $1 AND id IN `+list, args...)
	return wrap("release endpoints", err)
}

// ReleaseAll gives up every claim, whoever has it: for the one server on a
// SQLite database, when it starts.
func (tx *Tx) ReleaseAll() error {
	_, err := tx.exec(`UPDATE endpoints SET claimed_by = '', claimed_till = 0 WHERE claimed_by <> ''`)
	return wrap("release endpoints", err)
}

// ClaimedEndpoints reads the endpoints that a node has claimed.
func (tx *Tx) ClaimedEndpoints(node string) ([]Endpoint, error) {
	return queryAll(tx, scanEndpoint, `SELECT `+endpointColumns+` FROM endpoints e WHERE e.claimed_by = $1 AND e.claimed_by <> '' ORDER BY e.id`, node)
}

// DueDeliveries lists the deliveries to an endpoint that are due, at most limit.
func (tx *Tx) DueDeliveries(endpointID string, now time.Time, limit int) ([]Delivery, error) {
	return queryAll(tx, scanDelivery, `SELECT `+deliveryColumns+deliveryTables+`
		WHERE d.endpoint_id = $1 AND d.state = 0 AND d.next_at <= $2 ORDER BY d.next_at, d.id LIMIT $3`, endpointID, millis(now), limit)
}

// Waiting tells whether there is something for a node to do: events to hand
// on, or endpoints to send to that no other node sends to.
func (tx *Tx) Waiting(node string, now time.Time) (bool, error) {
	n, err := queryOne(tx, scanInt, `SELECT CASE WHEN EXISTS (SELECT 1 FROM events WHERE pending = 1)
		OR EXISTS (SELECT 1 FROM endpoints WHERE due_at > 0 AND due_at <= $1 AND state = 0
			AND (claimed_by = '' OR claimed_till < $1) AND claimed_by <> $2) THEN 1 ELSE 0 END`, millis(now), node)
	return n == 1, err
}

// OldestDue is since when the oldest event, or the first attempt at a
// delivery, has been waiting to be sent to an active endpoint; the zero time
// when nothing is.
func (tx *Tx) OldestDue(now time.Time) (time.Time, error) {
	event, err := queryOne(tx, scanInt, `SELECT COALESCE((SELECT at FROM events WHERE pending = 1 ORDER BY id LIMIT 1), 0)`)
	if err != nil {
		return time.Time{}, err
	}
	due, err := queryOne(tx, scanInt, `SELECT COALESCE(MIN(due_at), 0) FROM endpoints WHERE due_at > 0 AND due_at <= $1 AND state = 0`, millis(now))
	if event == 0 || due > 0 && due < event {
		event = due
	}
	return fromMillis(event), err
}
