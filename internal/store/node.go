package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// Node is a process that answers verifications from memory, as the others see it.
type Node struct {
	ID      string
	Name    string
	Version string
	// Renewals is the node's own count. It must never repeat, not even after
	// the row was swept: a sweeper that knows the row from before would take
	// it for silent and remove it with its new lease.
	Renewals int64
	// Mark is random, and another with each renewal, and Was are those that the
	// row may carry before it: see [Claim].
	Mark      string
	Was       []string
	Applied   int64
	StaleFor  time.Duration
	StartedAt time.Time
	// Replicas are some of those attached to it, and ReplicaCount how many there
	// are.
	Replicas     []keystile.Replica
	ReplicaCount int
	// MasterKeys are the IDs of those it holds; nil: it has not said, or is of a
	// version that does not.
	MasterKeys []string
}

// SettingReplicas names the setting that tells, on SQLite, whether a server has
// had replicas and did not end in order: 1 or 0.
const SettingReplicas = "replicas_attached"

// noMasterKey is how a row says that a node holds none.
const noMasterKey = "none"

func (n *Node) masterKeys() string {
	switch {
	case n.MasterKeys == nil:
		return ""
	case len(n.MasterKeys) == 0:
		return noMasterKey
	}
	return strings.Join(n.MasterKeys, " ")
}

func masterKeysOf(text string) []string {
	if text == noMasterKey {
		return []string{}
	}
	return strings.Fields(text)
}

// ErrHistory means that the change log holds another history than the one
// the node has followed: a restore or a failover that lost commits.
var ErrHistory = errors.New("store: the change log has another history")

// ErrCopied means that the row of a node was renewed by another process under the
// same ID, whose machine was copied while it ran.
var ErrCopied = errors.New("store: the row of this node carries a mark that it has not written")

// Claim is by what a node knows its row for its own: that row carries the mark of
// one of its last renewals, which may have come through though no answer did. A
// copy of the process that renewed in between has left another.
type Claim struct {
	ID    string
	Marks []string // of hexadecimal digits; none: any row of that ID
}

// marks is what SQL holds the mark of a row against, with holdsMark.
func (c Claim) marks() string { return strings.Join(c.Marks, " ") }

// holdsMark is a condition on a row of nodes: its mark is in a list. An empty one
// is in each: that of a version that writes none.
func holdsMark(list string) string { return list + ` LIKE '%' || nodes.mark || '%'` }

// renewNode writes a node's own row: the number of its renewal, and how far it
// has applied the log. It fails with ErrHistory when the position is not in the
// log, and with ErrCopied when the row carries none of the marks that it may.
//
// An acknowledgement may overtake a renewal. It stays then: whoever waits for
// the node would wait for its next renewal. It does not stay when the log no
// longer has it, as after a restore.
func (tx *Tx) renewNode(n Node, token [16]byte) error {
	const overtaken = `nodes.applied > excluded.applied AND EXISTS
		(SELECT 1 FROM changes c WHERE c.seq = nodes.applied AND c.token = nodes.applied_token)`
	replicas, err := json.Marshal(n.Replicas)
	if err != nil {
		return err
	}
	if n.Replicas == nil {
		replicas = []byte("[]")
	}
	touched, err := tx.exec(`INSERT INTO nodes (id, name, version, renewals, applied, applied_token, stale_for, started_at,
			replicas, replica_count, master_keys, mark)
		SELECT $1, $2, $3, $8, $4, $5, $6, $7, $9, $10, $11, $12
		WHERE EXISTS (SELECT 1 FROM changes WHERE seq = $4 AND token = $5)
		ON CONFLICT (id) DO UPDATE SET renewals = excluded.renewals,
			applied = CASE WHEN `+overtaken+` THEN nodes.applied ELSE excluded.applied END,
			applied_token = CASE WHEN `+overtaken+` THEN nodes.applied_token ELSE excluded.applied_token END,
			replicas = excluded.replicas,
			replica_count = excluded.replica_count, master_keys = excluded.master_keys,
			mark = excluded.mark
		WHERE `+holdsMark(`$13`),
		n.ID, n.Name, n.Version, n.Applied, token[:], n.StaleFor.Milliseconds(), millis(n.StartedAt), n.Renewals,
		string(replicas), int64(n.ReplicaCount), n.masterKeys(), n.Mark, Claim{n.ID, n.Was}.marks())
	if err != nil {
		return wrap("renew a node", err)
	}
	if touched == 1 {
		return nil
	}
	known, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM changes WHERE seq = $1 AND token = $2`, n.Applied, token[:])
	switch {
	case err != nil:
		return wrap("renew a node", err)
	case known == 0:
		return ErrHistory
	}
	return ErrCopied
}

// acknowledgeNode raises what a node has applied, and nothing else of its row.
// A row that is not there stays away: only a renewal makes one. One that another
// process has renewed stays as it is: what that one shows is not known here.
func (tx *Tx) acknowledgeNode(c Claim, applied int64, token [16]byte) error {
	_, err := tx.exec(`UPDATE nodes SET applied = $1, applied_token = $2 WHERE id = $3 AND applied < $1
		AND EXISTS (SELECT 1 FROM changes WHERE seq = $1 AND token = $2) AND `+holdsMark(`$4`), applied, token[:], c.ID, c.marks())
	return wrap("acknowledge changes", err)
}

// Roster is who must have applied a change before it is in force.
type Roster struct {
	Nodes []Node
	// Seq is the head of the change log that the list was read with. A list
	// that does not show a change was read before it.
	Seq int64
	// Timeline is that of the database server, which changes with a failover
	// and a recovery, and Noted the one that all rows are known to be of: after
	// a failover rows may be missing. Both are 0 on SQLite.
	Timeline, Noted int64
}

// Nodes lists all nodes with what they say of themselves, and the head of the
// change log.
func (s *Store) Nodes(ctx context.Context) (nodes []Node, head int64, err error) {
	tx := &Tx{ctx: ctx, q: s.followers}
	nodes, err = queryAll(tx, func(row scanner) (n Node, err error) {
		var stale, started, count int64
		var replicas, keys string
		if err := row.Scan(&head, &n.ID, &n.Name, &n.Version, &n.Applied, &stale, &started, &replicas, &count, &keys); err != nil {
			return n, err
		}
		n.StaleFor, n.StartedAt = time.Duration(stale)*time.Millisecond, fromMillis(started)
		n.ReplicaCount, n.MasterKeys = int(count), masterKeysOf(keys)
		return n, json.Unmarshal([]byte(replicas), &n.Replicas)
	}, `SELECT h.seq, n.id, n.name, n.version, n.applied, n.stale_for, n.started_at, n.replicas, n.replica_count, n.master_keys
		FROM nodes n JOIN change_head h ON h.one = 1 ORDER BY n.started_at, n.id`)
	return nodes, head, err
}

// Roster lists all nodes, in one statement. On PostgreSQL it fails unless it
// is answered by a primary.
func (s *Store) Roster(ctx context.Context) (r Roster, err error) {
	return (&Tx{ctx: ctx, q: s.followers}).roster(s.dialect.timeline)
}

// roster is Roster in a transaction. Timeline is the expression of the
// database server's.
func (tx *Tx) roster(timeline string) (r Roster, err error) {
	// That there is one head is said to the planner too. It takes a table that
	// was never analysed for thousands of rows, and compiling the query for so
	// many takes 30 ms instead of the 0.2 ms to run it.
	r.Nodes, err = queryAll(tx, func(row scanner) (Node, error) {
		var n Node
		var stale, started int64
		err := row.Scan(&r.Seq, &r.Noted, &r.Timeline, &n.ID, &n.Name, &n.Version, &n.Renewals, &n.Applied, &stale, &started, &n.Mark)
		n.StaleFor, n.StartedAt = time.Duration(stale)*time.Millisecond, fromMillis(started)
		return n, err
	}, `SELECT h.seq, h.timeline, `+timeline+`, COALESCE(n.id, ''), COALESCE(n.name, ''), COALESCE(n.version, ''),
			COALESCE(n.renewals, 0), COALESCE(n.applied, 0), COALESCE(n.stale_for, 0), COALESCE(n.started_at, 0),
			COALESCE(n.mark, '')
		FROM change_head h LEFT JOIN nodes n ON 1 = 1 WHERE h.one = 1 ORDER BY n.id`)
	if len(r.Nodes) == 1 && r.Nodes[0].ID == "" {
		r.Nodes = nil // the head without any node
	}
	return r, err
}

// NoteTimeline notes that the database server is on the timeline to, and no
// longer on from. It changes nothing where another process was faster.
func (s *Store) NoteTimeline(ctx context.Context, from, to int64) error {
	return s.onNodes(ctx, func(tx *Tx) error {
		_, err := tx.exec(`UPDATE change_head SET timeline = $1 WHERE timeline = $2`, to, from)
		return wrap("note the timeline", err)
	})
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
	var floor int64
	head, err = queryOne(tx, func(row scanner) (head int64, err error) {
		return head, row.Scan(&head, &floor)
	}, `SELECT seq, (SELECT oldest FROM schema_floor) FROM change_head`)
	if err == nil && floor > SchemaVersion() {
		// A newer server has changed the schema underneath this one.
		err = fmt.Errorf("%w: it takes a version that knows schema %d, this one knows %d", ErrNewerSchema, floor, SchemaVersion())
	}
	return head, err
}

// AcknowledgeNode tells the others how far a node has come.
func (s *Store) AcknowledgeNode(ctx context.Context, c Claim, applied int64, token [16]byte) error {
	return s.onNodes(ctx, func(tx *Tx) error { return tx.acknowledgeNode(c, applied, token) })
}

// SweepNode removes the row of a node that has been silent for too long,
// unless it has renewed since it was read with that many renewals and that mark.
func (s *Store) SweepNode(ctx context.Context, n Node) error {
	return s.onNodes(ctx, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM nodes WHERE id = $1 AND renewals = $2 AND mark = $3`, n.ID, n.Renewals, n.Mark)
		return wrap("remove a node", err)
	})
}

// LeaveNode removes a node's own row, and not one that a copy of its process has
// renewed.
func (s *Store) LeaveNode(ctx context.Context, c Claim) error {
	return s.onNodes(ctx, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM nodes WHERE id = $1 AND `+holdsMark(`$2`), c.ID, c.marks())
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
