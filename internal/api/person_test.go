package api_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
	"github.com/keystile/keystile/keystiletest"
)

// TestPersonTellsNoAge is P4: the ID of a person is the same in all workspaces,
// and must not tell who invites them that another one did so before.
func TestPersonTellsNoAge(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	h := newHouse(t, s)
	for _, person := range []fields{{"issuer": "https://id.example.com", "subject": "42"}, {"name": "Ada"}} {
		m := want[keystile.Member](t, h.do("POST", "/v1/workspaces/"+h.workspace()+"/members", fields{"person": person, "role": "viewer"}), 201)
		id, ok := verify.DecodeID("per_", m.Person.ID)
		if !ok {
			t.Fatalf("%q is no ID of a person", m.Person.ID)
		}
		// Other IDs begin with 48 bits of Unix milliseconds.
		told := time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
		if age := time.Since(told).Abs(); age < 24*time.Hour {
			t.Errorf("the ID %s tells that it was made %v ago", m.Person.ID, age)
		}
	}
}
