package server_test

import (
	"context"
	"database/sql"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/keystile/keystile/keystiletest"
)

// TestWrongLinkNeverWrites holds against a stranger who tries sign-in links: a
// wrong one is refused while somebody else writes, and so takes nobody's turn.
func TestWrongLinkNeverWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir))
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "keystile.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	defer conn.ExecContext(context.WithoutCancel(t.Context()), `ROLLBACK`) //nolint:errcheck // nothing was written
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/link/nobody-was-given-this", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s of a wrong link while the database is held: status %d, want 401", method, response.StatusCode)
		}
	}
}
