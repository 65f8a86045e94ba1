package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Node is a process that answers verifications from memory, as the others see it.
type Node struct {
	ID        string
	Name      string
	Version   string
	Renewals  int64
	Applied   int64
	StaleFor  time.Duration
	StartedAt time.Time
}

// ErrHistory means that the change log holds another history than the one
// the node has followed: a restore or a failover that lost commits.
var ErrHistory = errors.New("store: the change log has another history")

// renewNode writes a node's own row: one more renewal, and how far it has
// applied the log. It fails with ErrHistory when the position is not in the log.
func (tx *Tx) renewNode(n Node, token [16]byte) error {
	touched, err := tx.exec(`INSERT INTO nodes (id, name, version, renewals, applied, applied_token, stale_for, started_at)
		SELECT $1, $2, $3, 1, $4, $5, $6, $7
		WHERE EXISTS (SELECT 1 FROM changes WHERE seq = $4 AND token = $5)
		ON CONFLICT (id) DO UPDATE SET renewals = nodes.renewals + 1, applied = excluded.applied,
			applied_token = excluded.applied_token`,
		n.ID, n.Name, n.Version, n.Applied, token[:], n.StaleFor.Milliseconds(), millis(n.StartedAt))
	if err != nil {
		return wrap("renew a node", err)
	}
	if touched != 1 {
		return ErrHistory
	}
	return nil
}

// acknowledgeNode raises what a node has applied, and nothing else of its row.
// A row that is not there stays away: only a renewal makes one.
func (tx *Tx) acknowledgeNode(id string, applied int64, token [16]byte) error {
	_, err := tx.exec(`UPDATE nodes SET applied = $1, applied_token = $2 WHERE id = $3 AND applied < $1
		AND EXISTS (SELECT 1 FROM changes WHERE seq = $1 AND token = $2)`, applied, token[:], id)
	return wrap("acknowledge changes", err)
}

// Nodes lists all nodes.
func (tx *Tx) Nodes() ([]Node, error) {
	return queryAll(tx, func(r scanner) (Node, error) {
		var n Node
		var stale, started int64
		err := r.Scan(&n.ID, &n.Name, &n.Version, &n.Renewals, &n.Applied, &stale, &started)
		n.StaleFor, n.StartedAt = time.Duration(stale)*time.Millisecond, fromMillis(started)
		return n, err
	}, `SELECT id, name, version, renewals, applied, stale_for, started_at FROM nodes ORDER BY id`)
}

// DeleteNodes removes all rows. The one server that holds a SQLite directory
// does so at its start: rows of dead predecessors mean nothing there.
func (tx *Tx) DeleteNodes() error {
	_, err := tx.exec(`DELETE FROM nodes`)
	return wrap("remove nodes", err)
}

// TrimChanges removes changes older than before, but never the newest one
// nor what a listed node has yet to apply. At most limit rows; it returns how many.
func (tx *Tx) TrimChanges(before time.Time, limit int) (int64, error) {
	// Only the beginning of the log is looked at: what is behind a change that
	// stays is newer, and there may be millions of rows of it.
	n, err := tx.exec(`DELETE FROM changes WHERE seq IN (
		SELECT seq FROM (SELECT seq, at FROM changes ORDER BY seq LIMIT $2) oldest WHERE at < $1
		AND seq < (SELECT seq FROM change_head)
		AND seq < COALESCE((SELECT MIN(applied) FROM nodes), (SELECT seq FROM change_head)))`, millis(before), limit)
	if err != nil {
		return 0, fmt.Errorf("trim the change log: %w", err)
	}
	return n, nil
}

// RenewNode writes a node's own row, commits it, and then reads the head of
// the log, in a statement of its own on the same connection: in one
// transaction with the row it could miss a change that does not see the row.
func (s *Store) RenewNode(ctx context.Context, n Node, token [16]byte) (head int64, err error) {
	if !s.Postgres() {
		if _, err := s.Write(ctx, func(tx *Tx) error { return tx.renewNode(n, token) }); err != nil {
			return 0, err
		}
		err = s.Follow(ctx, func(tx *Tx) error {
			h, err := tx.Head()
			head = h.Seq
			return err
		})
		return head, err
	}
	conn, err := s.followers.Conn(ctx)
	if err != nil {
		return 0, classify(err)
	}
	defer conn.Close()
	tx := &Tx{ctx: ctx, q: conn}
	if err := tx.renewNode(n, token); err != nil {
		return 0, err
	}
	return queryOne(tx, scanInt, `SELECT seq FROM change_head`)
}

// AcknowledgeNode tells the others how far a node has come.
func (s *Store) AcknowledgeNode(ctx context.Context, id string, applied int64, token [16]byte) error {
	return s.onNodes(ctx, func(tx *Tx) error { return tx.acknowledgeNode(id, applied, token) })
}

// SweepNode removes the row of a node that has been silent for too long,
// unless it has renewed since it was read with that many renewals.
func (s *Store) SweepNode(ctx context.Context, id string, renewals int64) error {
	return s.onNodes(ctx, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM nodes WHERE id = $1 AND renewals = $2`, id, renewals)
		return wrap("remove a node", err)
	})
}

// LeaveNode removes a node's own row.
func (s *Store) LeaveNode(ctx context.Context, id string) error {
	return s.onNodes(ctx, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM nodes WHERE id = $1`, id)
		return wrap("remove a node", err)
	})
}

// onNodes runs one statement on the table of nodes. On PostgreSQL it does not
// queue behind changes: each commits by itself and touches no other table.
func (s *Store) onNodes(ctx context.Context, fn func(*Tx) error) error {
	if s.Postgres() {
		return fn(&Tx{ctx: ctx, q: s.followers})
	}
	_, err := s.Write(ctx, fn)
	return err
}
