package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
)

// settingHistory names the setting that holds a store's [history].
const settingHistory = "history"

// history is where a store's contents come from: its epochs, oldest first. A
// restore begins a new epoch. Within an epoch the numbers of the change log
// grow, so an epoch and a number name one moment of one history, and it can
// be told whether a store has come from that moment: only then does a row that
// it lacks mean that the row was deleted.
type history []epoch

type epoch struct {
	ID string `json:"id"` // random
	// Last is the number at which the next epoch branched off; absent in the
	// epoch that still goes on.
	Last int64 `json:"last,omitempty"`
}

func newEpoch() epoch { return epoch{ID: rand.Text()} }

func (h history) String() string { return mustJSON(h) }

// now is the epoch that goes on, empty when the history is not known.
func (h history) now() string {
	if len(h) == 0 {
		return ""
	}
	return h[len(h)-1].ID
}

// branch is the history of a store that begins with this one's state at seq.
func (h history) branch(seq int64) history {
	next := append(history(nil), h...)
	if len(next) > 0 {
		next[len(next)-1].Last = seq
	}
	return append(next, newEpoch())
}

// cameFrom tells whether a store with this history and the change log at head
// has come from the moment at seq of an epoch.
func (h history) cameFrom(id string, seq, head int64) bool {
	for i, e := range h {
		if e.ID == id && id != "" {
			if i == len(h)-1 {
				return seq <= head
			}
			return seq <= e.Last
		}
	}
	return false
}

// history reads the history of the store in a schema of a SQLite connection.
func (tx *Tx) history(schema string) (history, error) {
	text, err := queryOne(tx, scanString, `SELECT value FROM `+schema+`.settings WHERE name = $1`, settingHistory)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var h history
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return nil, fmt.Errorf("store: the setting %s: %w", settingHistory, err)
	}
	return h, nil
}
