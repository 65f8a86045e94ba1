package store_test

import (
	"errors"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// TestFlushFromAfar: while uses are written, nobody else can change anything. So
// it takes few exchanges with a database that may be far away.
func TestFlushFromAfar(t *testing.T) {
	t.Parallel()
	link, through := pgtest.NewLink(t, pgtest.New(t))
	s := open(t, store.Options{URL: through})
	write(t, s, func(tx *store.Tx) error { return tx.InsertWorkspace(workspace(acme)) })
	var uses []verify.Use
	const keys = 90 // half of them in no round number
	for i := range keys {
		write(t, s, func(tx *store.Tx) error { return tx.InsertKey(key(acme, i)) })
		uses = append(uses, use(i, keystile.CodeValid, noon), use(i, keystile.CodeRevoked, noon))
	}
	failures := make([]store.Failure, keys)
	for i := range failures {
		failures[i] = store.Failure{WorkspaceID: acme, At: noon, Code: keystile.CodeRevoked, Source: "192.0.2.1", KeyID: keyID(i), Count: 1}
	}
	flush := func() int64 {
		t.Helper()
		before := link.Sent()
		write(t, s, func(tx *store.Tx) error { return errors.Join(tx.AddUses(uses), tx.AddFailures(failures)) })
		return link.Sent() - before
	}
	// Each table alone takes more than ten, asked for one after the other.
	if first, second := flush(), flush(); first > 60 || second > 60 {
		t.Errorf("%d and %d pieces for %d uses", first, second, len(uses))
	}
	if n := get(t, s, func(tx *store.Tx) (int, error) { return tx.CountKeys() }); n != keys {
		t.Errorf("%d keys", n)
	}
}
