package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
)

// TestP1UnderFaults drives servers through faults in an order that a seed
// gives: networks that break or fall silent, servers that die, leave and
// come, a log that is trimmed. Whatever happens, no server accepts a key when
// asked after its revoke has returned with success; and when all is well
// again, every server gives the answers of the database.
func TestP1UnderFaults(t *testing.T) {
	t.Parallel()
	const hurry = 12 // a barrier of 1.25 s, a lease of 1 s
	const steps = 24
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	database := pgtest.New(t)

	type member struct {
		*server
		network *pgtest.Link
		up      bool
	}
	h := newHammer(t)
	join := func() *member {
		network, through := pgtest.NewLink(t, database)
		m := &member{server: start(t, store.Options{URL: through}, hurry), network: network, up: true}
		h.ask(m.server)
		return m
	}
	members := []*member{join(), join(), join()}
	type known struct {
		keystile.CreatedKey
		probe *probe
		tried bool // a revoke was begun; it has happened or not
	}
	var keys []*known
	reachable := func() *member {
		for _, i := range random.Perm(len(members)) {
			if members[i].up {
				return members[i]
			}
		}
		m := members[0]
		m.network.Set(pgtest.Up)
		m.up = true
		return m
	}
	create := func() {
		m := reachable()
		made, _, err := m.keys.CreateKey(t.Context(), operator(), m.only, keystile.CreateKey{Name: fmt.Sprint("key ", len(keys))}, keyring.Idempotency{})
		if err == nil { // a connection that broke just now is no fault
			keys = append(keys, &known{CreatedKey: made, probe: h.add(made.Secret)})
		}
	}
	revoked := 0
	revoke := func() {
		for _, i := range random.Perm(len(keys)) {
			k := keys[i]
			if k.tried {
				continue
			}
			k.tried = true
			if _, err := reachable().keys.RevokeKey(t.Context(), operator(), k.Key.ID, keystile.RevokeKey{}); err == nil {
				k.probe.revoked.Store(true)
				revoked++
			}
			return
		}
	}
	for range steps {
		i := random.IntN(len(members))
		m := members[i]
		switch random.IntN(12) {
		case 0, 1, 2:
			create()
		case 3, 4, 5:
			create()
			revoke()
		case 6, 7:
			m.network.Set([]pgtest.LinkState{pgtest.Cut, pgtest.Stalled}[random.IntN(2)])
			m.up = false
		case 8, 9:
			m.network.Set(pgtest.Up)
			m.up = true
		case 10: // ends, in order or not, and another comes in its place
			if random.IntN(2) == 0 && m.up {
				m.leave()
			} else {
				m.die()
			}
			members[i] = join()
		case 11:
			if _, err := reachable().store.Write(t.Context(), func(tx *store.Tx) error {
				_, err := tx.TrimChanges(time.Now().Add(time.Hour), 1000)
				return err
			}); err != nil {
				t.Logf("trim: %v", err)
			}
		}
	}
	create()
	for _, m := range members {
		m.network.Set(pgtest.Up)
		m.up = true
	}
	revoke()
	for _, m := range members {
		for _, k := range keys {
			is, err := m.keys.Key(t.Context(), operator(), k.Key.ID)
			for end := time.Now().Add(deadline); err != nil; is, err = m.keys.Key(t.Context(), operator(), k.Key.ID) {
				if time.Now().After(end) {
					t.Fatal(err)
				}
			}
			eventually(t, "every server says what the database says", func() bool {
				return m.usable() && m.accepts(k.Secret) == (is.Status == keystile.StatusActive)
			})
		}
	}
	h.end(t)
	if revoked == 0 {
		t.Error("nothing was revoked; the test has seen nothing")
	}
	t.Logf("%d keys, %d revokes that returned", len(keys), revoked)
}
