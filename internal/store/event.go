package store

import (
	"encoding/json"
	"time"
)

// Event is a row of the outbox.
type Event struct {
	ID, WorkspaceID, Type, ObjectID string
	At                              time.Time
	Data                            any // written as JSON; carries no secret
}

// InsertEvent adds an event to the outbox. Where nobody gets events, it is
// kept like one that has been handed on, and nobody is woken for it.
func (tx *Tx) InsertEvent(e Event) error {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return wrap("write an event", err)
	}
	pending, err := queryOne(tx, scanInt, `INSERT INTO events (id, workspace_id, type, object_id, at, data, pending)
		VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN EXISTS (SELECT 1 FROM endpoints WHERE workspace_id = $2) THEN 1 ELSE 0 END)
		RETURNING pending`,
		e.ID, e.WorkspaceID, e.Type, e.ObjectID, millis(e.At), string(data))
	if pending == 1 && tx.log != nil {
		tx.log.told = true
	}
	return wrap("insert an event", err)
}

// OnEvent sets what is called after every commit of this process that put
// something into the outbox for somebody. It is set once, before the first
// write, and must not block.
func (s *Store) OnEvent(f func()) { s.writer.told = f }

// PendingEvents lists events that have not been handed on to endpoints, oldest
// first, without their data.
func (tx *Tx) PendingEvents(limit int) ([]Event, error) {
	return queryAll(tx, func(r scanner) (e Event, err error) {
		var at int64
		err = r.Scan(&e.ID, &e.WorkspaceID, &e.Type, &e.ObjectID, &at)
		e.At = fromMillis(at)
		return e, err
	}, `SELECT id, workspace_id, type, object_id, at FROM events WHERE pending = 1 ORDER BY id LIMIT $1`, limit)
}

// HandedOn notes that deliveries were made of events.
func (tx *Tx) HandedOn(ids []string) error {
	args, list := bindAll(nil, ids)
	_, err := tx.exec(`UPDATE events SET pending = 0 WHERE id IN `+list, args...)
	return wrap("hand on events", err)
}

// bindAll adds values to the arguments of a statement and returns their list
// in SQL, which must not be empty.
func bindAll(args []any, values []string) ([]any, string) {
	list := "(''"
	for _, v := range values {
		args = append(args, v)
		list += ", $" + itoa(len(args))
	}
	return args, list + ")"
}
