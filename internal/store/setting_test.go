package store_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
)

// TestSettingsOfTheDatabase: limits that somebody has set for all who use the
// database, for people's queries and other programs, end neither a change that
// waits for its turn nor a load nor the connection that listens.
func TestSettingsOfTheDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, value := range map[string]string{
		"statement_timeout": "150ms", "lock_timeout": "100ms", "idle_session_timeout": "300ms",
		"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	} {
		if _, err := db.ExecContext(t.Context(), fmt.Sprintf(
			`DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET %s = %s'; END $$`, name, "''"+value+"''")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	noop := func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") }
	held, free := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, err := other.Write(t.Context(), func(tx *store.Tx) error { close(held); <-free; return noop(tx) })
		first <- err
	}()
	<-held
	second := make(chan error, 1)
	go func() { _, err := s.Write(t.Context(), noop); second <- err }()
	select {
	case err := <-second:
		t.Errorf("a change does not wait for its turn: %v", err)
	case <-time.After(500 * time.Millisecond): // several times what is allowed
	}
	close(free)
	if err := <-first; err != nil {
		t.Errorf("a change that takes long: %v", err)
	}
	if t.Failed() {
		return
	}
	if err := <-second; err != nil {
		t.Errorf("a change that has waited: %v", err)
	}
	if n := number(t, db, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'keystile'`); n == 0 {
		t.Error("no connection is left")
	}
	if is := get(t, s, func(tx *store.Tx) (h store.Head, err error) { return tx.Head() }); is.Seq != 2 {
		t.Errorf("the log ends at %d", is.Seq)
	}
}
