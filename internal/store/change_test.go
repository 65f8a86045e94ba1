package store_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// changeBehaviours are about the change log and those who follow it.
func changeBehaviours() []behaviour {
	return []behaviour{
		{"TrimChanges", trimChanges},
		{"NodeRows", nodeRows},
		{"LoadIndex", loadIndex},
		{"LoadIndexWhileWriting", loadIndexWhileWriting},
		{"RetainKinds", retainKinds},
	}
}

func logChanges(t testing.TB, s *store.Store, n int) (head int64) {
	t.Helper()
	return write(t, s, func(tx *store.Tx) error {
		for i := range n {
			if err := tx.LogChange(store.ChangeKey, keyID(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func tokenAt(t testing.TB, s *store.Store, seq int64) [16]byte {
	t.Helper()
	c := get(t, s, func(tx *store.Tx) ([]store.Change, error) { return tx.ChangesSince(seq, 1) })
	if len(c) != 1 || c[0].Seq != seq {
		t.Fatalf("change %d: %v", seq, c)
	}
	return c[0].Token
}

// trimChanges: the log is shortened from its old end, in small steps, and
// never by what a node has yet to read, nor by the newest change.
func trimChanges(t *testing.T, f *fixture) {
	head := logChanges(t, f.Store, 20)
	trim := func(before time.Time, limit int) (n int64) {
		write(t, f.Store, func(tx *store.Tx) (err error) { n, err = tx.TrimChanges(before, limit); return err })
		return n
	}
	oldest := func() int64 {
		c := get(t, f.Store, func(tx *store.Tx) ([]store.Change, error) { return tx.ChangesSince(0, 99) })
		for i := range c {
			if c[i].Seq != c[0].Seq+int64(i) {
				t.Fatalf("the log has a gap: %v", c)
			}
		}
		if len(c) == 0 || c[len(c)-1].Seq != head {
			t.Fatalf("the newest change is gone: %v", c)
		}
		return c[0].Seq
	}
	later := time.Now().Add(time.Hour)
	if n := trim(time.Now().Add(-time.Hour), 99); n != 1 || oldest() != 1 { // row 0 has no age
		t.Errorf("%d young changes went, the oldest is %d", n, oldest())
	}
	if n := trim(later, 3); n != 3 || oldest() != 4 {
		t.Errorf("a step of 3 removed %d, the oldest is %d", n, oldest())
	}
	// A node that stands at 8 needs what comes behind, and 8 itself to see
	// that it is still the same history.
	for n, applied := range []int64{8, 12} {
		if _, err := f.RenewNode(t.Context(), store.Node{ID: fmt.Sprint(n), Applied: applied, StartedAt: noon}, tokenAt(t, f.Store, applied)); err != nil {
			t.Fatal(err)
		}
	}
	var steps []int64
	for {
		n := trim(later, 3)
		if steps = append(steps, n); n == 0 {
			break
		}
	}
	if !slices.Equal(steps, []int64{3, 1, 0}) || oldest() != 8 {
		t.Errorf("with a node at 8, steps removed %v, and the oldest is %d", steps, oldest())
	}
	wantErr(t, "acknowledge", f.AcknowledgeNode(t.Context(), store.Claim{ID: "0"}, 10, tokenAt(t, f.Store, 10)), nil)
	if n := trim(later, 99); n != 2 || oldest() != 10 {
		t.Errorf("with a node at 10, %d went, and the oldest is %d", n, oldest())
	}
	write(t, f.Store, (*store.Tx).DeleteNodes)
	if n := trim(later, 99); n != 10 || oldest() != head {
		t.Errorf("without nodes %d went, and the oldest is %d", n, oldest())
	}
	if n := trim(later, 99); n != 0 {
		t.Errorf("%d more went", n)
	}
	// Numbers go on, and a load works from what is left.
	if next := logChanges(t, f.Store, 1); next != head+1 {
		t.Errorf("the next change is %d, want %d", next, head+1)
	}
	if h, err := f.LoadIndex(t.Context(), func(verify.Batch) error { return nil }); err != nil || h.Seq != head+1 {
		t.Errorf("a load shows %d, %v", h.Seq, err)
	}
}

// nodeRows: a node's row says what the node has said, in the order in which it
// said it, and a node of another history gets none.
func nodeRows(t *testing.T, f *fixture) {
	head := logChanges(t, f.Store, 5)
	token := func(seq int64) [16]byte { return tokenAt(t, f.Store, seq) }
	n := store.Node{ID: "a", Name: "one", Version: "1.2.3", Applied: 2, StaleFor: 90 * time.Second, StartedAt: noon}
	renew := func(n store.Node, token [16]byte, want error) {
		t.Helper()
		h, err := f.RenewNode(t.Context(), n, token)
		wantErr(t, "renew", err, want)
		if err == nil && h != head {
			t.Errorf("head %d, want %d", h, head)
		}
	}
	nodes := func() []store.Node {
		r, err := f.Roster(t.Context())
		if err != nil || r.Seq != head {
			t.Fatalf("roster at %d: %v", r.Seq, err)
		}
		return r.Nodes
	}
	check := func(what string, want ...store.Node) {
		t.Helper()
		if got := nodes(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	foreign := token(2)
	foreign[0] ^= 1
	renew(n, foreign, store.ErrHistory)
	renew(store.Node{ID: "a", Applied: 99}, token(2), store.ErrHistory)
	check("a node of another history")
	wantErr(t, "acknowledge without a row", f.AcknowledgeNode(t.Context(), store.Claim{ID: "a"}, 3, token(3)), nil)
	check("an acknowledgement makes no row")

	n.Renewals = 1
	renew(n, token(2), nil)
	check("made", n)
	n.Renewals = 2
	renew(n, token(2), nil)
	check("renewed", n)
	wantErr(t, "acknowledge", f.AcknowledgeNode(t.Context(), store.Claim{ID: "a"}, 4, token(4)), nil)
	n.Applied = 4
	check("acknowledged", n)
	// Late messages: nothing goes back, nothing of another history counts.
	wantErr(t, "acknowledge less", f.AcknowledgeNode(t.Context(), store.Claim{ID: "a"}, 3, token(3)), nil)
	wantErr(t, "acknowledge another history", f.AcknowledgeNode(t.Context(), store.Claim{ID: "a"}, 5, foreign), nil)
	check("acknowledged late", n)
	// A renewal that was made up before the acknowledgement and comes after it
	// takes nothing back: a revoke would wait for the next renewal.
	late := n
	late.Renewals, late.Applied = 3, 2
	renew(late, token(2), nil)
	n.Renewals = 3
	check("renewed late", n)
	// What was acknowledged in a history that is no more is no acknowledgement.
	if _, err := f.raw(t).ExecContext(t.Context(), `UPDATE nodes SET applied_token = $1 WHERE id = 'a'`, foreign[:]); err != nil {
		t.Fatal(err)
	}
	late.Renewals = 4
	renew(late, token(2), nil)
	check("renewed in another history", late)

	other := store.Node{ID: "b", Name: "two", Version: "x", Renewals: 1, Applied: head, StartedAt: noon.Add(time.Second)}
	renew(other, token(head), nil)
	check("two", late, other)
	// The sweep removes a row only as it was seen.
	wantErr(t, "sweep what has renewed", f.SweepNode(t.Context(), store.Node{ID: "a", Renewals: 1}), nil)
	check("swept too late", late, other)
	wantErr(t, "sweep", f.SweepNode(t.Context(), store.Node{ID: "a", Renewals: 4}), nil)
	check("swept", other)
	wantErr(t, "leave", f.LeaveNode(t.Context(), store.Claim{ID: "b"}), nil)
	wantErr(t, "leave again", f.LeaveNode(t.Context(), store.Claim{ID: "b"}), nil)
	check("left")
	if got := logChanges(t, f.Store, 1); got != head+1 {
		t.Errorf("nodes wrote to the change log: %d, want %d", got, head+1)
	}

	// Many renew at once, and each row holds its own.
	head++
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			for k := range 5 {
				n := store.Node{ID: fmt.Sprint(i), Renewals: int64(k + 1), Applied: 1}
				if _, err := f.RenewNode(t.Context(), n, token(1)); err != nil {
					t.Errorf("renew: %v", err)
				}
			}
		})
	}
	g.Wait()
	for _, n := range nodes() {
		if n.Renewals != 5 {
			t.Errorf("%s renewed %d times, want 5", n.ID, n.Renewals)
		}
	}
	if len(nodes()) != 8 {
		t.Errorf("%d nodes", len(nodes()))
	}
}

// image is what an index would hold: what is there by its ID.
type image struct {
	keys       map[string]verify.Key
	workspaces map[string]verify.Workspace
	roles      map[string]verify.Role
}

func (m *image) apply(b verify.Batch) error {
	if m.keys == nil {
		m.keys, m.workspaces, m.roles = map[string]verify.Key{}, map[string]verify.Workspace{}, map[string]verify.Role{}
	}
	for _, k := range b.Keys {
		m.keys[k.ID] = k
	}
	for _, w := range b.Workspaces {
		m.workspaces[w.ID] = w
	}
	for _, r := range b.Roles {
		m.roles[r.ID] = r
	}
	for _, id := range b.GoneKeys {
		delete(m.keys, id)
	}
	for _, id := range b.GoneWorkspaces {
		delete(m.workspaces, id)
	}
	for _, id := range b.GoneRoles {
		delete(m.roles, id)
	}
	return nil
}

func loadImage(t testing.TB, s *store.Store) (m image, head store.Head) {
	t.Helper()
	head, err := s.LoadIndex(t.Context(), m.apply)
	if err != nil {
		t.Fatal(err)
	}
	return m, head
}

// loadIndex: a load hands over all that the decision needs, in parts of
// bounded size, and stops where its caller says so.
func loadIndex(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	const keys = 5000 // more than one part
	full := key(acme, keys)
	full.Status, full.ExpiresAt, full.Environment, full.Owner = keystile.StatusDisabled, at(noon), "live", "ops"
	full.IPAllowlist, full.Permissions = []string{"10.0.0.0/8", "2001:db8::1", "::ffff:192.0.2.1"}, keystile.Permissions{"a.b"}
	full.Metadata, full.Imported = map[string]string{"k": "v"}, true
	write(t, f.Store, func(tx *store.Tx) error {
		for n := range keys {
			if err := tx.InsertKey(key(acme, n)); err != nil {
				return err
			}
		}
		w := workspace("ws_shut")
		w.Suspended, w.IPAllowlist = true, []string{"192.0.2.0/24"}
		return errors.Join(tx.InsertKey(full), tx.InsertRole(role(acme, 1)), tx.InsertWorkspace(w), tx.LogChange(store.ChangeProfile, ""))
	})
	var parts, most int
	var m image
	head, err := f.LoadIndex(t.Context(), func(b verify.Batch) error {
		parts++
		most = max(most, len(b.Keys))
		return m.apply(b)
	})
	if err != nil || head.Seq != 1 || head.Token != tokenAt(t, f.Store, 1) {
		t.Errorf("head %+v, %v", head, err)
	}
	if len(m.keys) != keys+1 || len(m.workspaces) != 3 || len(m.roles) != 1 {
		t.Errorf("%d keys, %d workspaces, %d roles", len(m.keys), len(m.workspaces), len(m.roles))
	}
	if parts < 3 || most >= keys {
		t.Errorf("%d parts of up to %d keys", parts, most)
	}
	got := m.keys[full.ID]
	if got.State != verify.StateDisabled || got.ExpiresAt != noon.UnixMilli() || got.Digest != full.Digest || len(got.Allow) != 3 ||
		got.Environment != "live" || got.Owner != "ops" || !got.Imported || got.Metadata["k"] != "v" || len(got.Permissions) != 1 ||
		got.RoleID != full.RoleID || got.WorkspaceID != acme {
		t.Errorf("the key with everything: %+v", got)
	}
	if w := m.workspaces["ws_shut"]; !w.Suspended || len(w.Allow) != 1 {
		t.Errorf("the workspace with everything: %+v", w)
	}
	if n := get(t, f.Store, (*store.Tx).CountKeys); n != keys+1 {
		t.Errorf("%d keys are counted", n)
	}
	errEnough := errors.New("enough")
	_, err = f.LoadIndex(t.Context(), func(b verify.Batch) error {
		if len(b.Keys) > 0 {
			return errEnough
		}
		return nil
	})
	wantErr(t, "a load that its caller stops", err, errEnough)

	// A row that can't be read stops the load. An empty allowlist would admit everyone.
	db := f.raw(t)
	for _, change := range []string{
		`UPDATE keys SET ip_allowlist = '["10.0.0.0/99"]' WHERE id = $1`,
		`UPDATE keys SET ip_allowlist = '[]', permissions = '{' WHERE id = $1`,
	} {
		if _, err := db.ExecContext(t.Context(), change, full.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.LoadIndex(t.Context(), func(verify.Batch) error { return nil }); err == nil {
			t.Errorf("a load after %s", change)
		}
	}
}

// loadIndexWhileWriting: a load shows exactly what the log says at the
// position that it returns, and following the log from there leads to what is.
func loadIndexWhileWriting(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	const changes = 144
	written := make(chan struct{})
	var g sync.WaitGroup
	for worker := range 3 {
		g.Go(func() {
			for n := worker; n < changes; n += 3 {
				// Each third change takes away the key of two before.
				if _, err := f.Write(t.Context(), func(tx *store.Tx) error {
					if n%9 >= 6 {
						if err := tx.DeleteKey(all(), keyID(n-6)); err != nil {
							return err
						}
						return tx.LogChange(store.ChangeKey, keyID(n-6))
					}
					return insertLogged(tx, n)
				}); err != nil {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	go func() { g.Wait(); close(written) }()
	first, start := loadImage(t, f.Store)
	for running := true; running; {
		select {
		case <-written:
			running = false // and one more
		default:
		}
		m, head := loadImage(t, f.Store)
		log := get(t, f.Store, func(tx *store.Tx) ([]store.Change, error) { return tx.ChangesSince(0, 9999) })
		if log[head.Seq].Token != head.Token {
			t.Fatal("the token is of another change")
		}
		// Up to there, what the log names once is there, and what it names
		// twice has gone again.
		there := map[string]bool{}
		for _, c := range log[1 : head.Seq+1] {
			if there[c.ObjectID] {
				delete(there, c.ObjectID)
			} else {
				there[c.ObjectID] = true
			}
		}
		if !slices.Equal(slices.Sorted(maps.Keys(there)), slices.Sorted(maps.Keys(m.keys))) {
			t.Fatalf("at %d the load has %d keys, the log %d", head.Seq, len(m.keys), len(there))
		}
	}
	read(t, f.Store, func(tx *store.Tx) error {
		rest, err := tx.ChangesSince(start.Seq, 9999)
		if err != nil {
			return err
		}
		b, err := tx.IndexChanges(rest[1:])
		if err != nil {
			return err
		}
		return first.apply(b)
	})
	last, head := loadImage(t, f.Store)
	if head.Seq != changes || start.Seq == changes {
		t.Errorf("the first load shows %d of %d changes, the last %d", start.Seq, changes, head.Seq)
	}
	if !reflect.DeepEqual(first, last) {
		t.Errorf("following the log leads to %d keys, there are %d", len(first.keys), len(last.keys))
	}
}

// retainKinds: each kind of row goes when it is old enough, in steps, and
// stays while its cutoff is zero.
func retainKinds(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	old, young := ago(48*time.Hour), ago(time.Hour)
	cut := ago(24 * time.Hour)
	const rows = 7
	write(t, f.Store, func(tx *store.Tx) error {
		for n := range 2 * rows {
			when := old
			if n >= rows {
				when = young
			}
			e := auditEntry(acme, n)
			e.At = when
			u := use(1, keystile.CodeValid, when.Add(time.Duration(n)*time.Minute))
			u.Address = u.Address.Next()
			for range n {
				u.Address = u.Address.Next()
			}
			k := key(acme, 100+n)
			k.Status = keystile.StatusRevoked
			if n%2 == 0 {
				k.Status, k.ExpiresAt = keystile.StatusExpired, at(when)
			}
			if err := errors.Join(tx.InsertAudit(e), tx.AddUses([]verify.Use{u}), tx.InsertKey(k),
				tx.InsertEvent(store.Event{ID: id("evt_", n), WorkspaceID: acme, Type: "x", At: when}),
				tx.InsertLink(store.Link{Digest: digest(n), CreatedAt: when, ExpiresAt: when}),
				tx.KeepIdempotent(digest(n), digest(n), "", when)); err != nil {
				return err
			}
			if n%2 == 1 {
				k.RevokedAt, k.RevokedBy = at(when), &keystile.Party{Kind: "operator"}
				if err := tx.UpdateKey(all(), k); err != nil {
					return err
				}
			}
		}
		return nil
	})
	db := f.raw(t)
	for n := range 2 * rows { // two deliveries of each event
		for i := range 2 {
			if _, err := db.ExecContext(t.Context(), `INSERT INTO deliveries (id, workspace_id, event_id, endpoint_id, state, created_at, updated_at)
				VALUES ($1, $2, $3, 'e', 0, 1, 1)`, fmt.Sprint("dlv_", n, i), acme, id("evt_", n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tables := []string{"audit", "key_sources", "usage", "usage_sums", "workspace_usage", "events", "deliveries", "links", "idempotency"}
	counts := func() map[string]int64 {
		m := map[string]int64{}
		for _, name := range tables {
			m[name] = number(t, db, `SELECT COUNT(*) FROM `+name)
		}
		return m
	}
	step := func(c store.Cutoffs) (n int64) {
		write(t, f.Store, func(tx *store.Tx) (err error) { n, err = tx.Retain(c, 3); return err })
		return n
	}
	before := counts()
	if n := step(store.Cutoffs{}); n != 0 || !maps.Equal(before, counts()) {
		t.Errorf("without cutoffs %d rows went", n)
	}
	for _, c := range []struct {
		tables  []string
		cutoffs store.Cutoffs
	}{
		{[]string{"audit"}, store.Cutoffs{Audit: cut}},
		{[]string{"usage", "usage_sums", "workspace_usage"}, store.Cutoffs{Usage: cut}},
		{[]string{"key_sources"}, store.Cutoffs{Sources: cut}},
		{[]string{"events", "deliveries"}, store.Cutoffs{Events: cut}},
		{[]string{"links"}, store.Cutoffs{Links: cut}},
		{[]string{"idempotency"}, store.Cutoffs{Idempotency: cut}},
	} {
		was := counts()
		var total int64
		for {
			last := counts()
			n := step(c.cutoffs)
			if total += n; n == 0 {
				break
			}
			for name, rows := range counts() {
				if last[name]-rows > 3 {
					t.Errorf("%v: a step removed %d of %s", c.tables, last[name]-rows, name)
				}
			}
		}
		for name, n := range counts() {
			want := was[name]
			if slices.Contains(c.tables, name) {
				switch want /= 2; name {
				case "usage", "workspace_usage": // a row for each of two hours, and of their days
					want = 1
				case "usage_sums": // of a day and of ten
					want = 2
				}
				total -= was[name] - n
			}
			if n != want {
				t.Errorf("%v: %d rows of %s are left, want %d", c.tables, n, name, want)
			}
		}
		if total != 0 {
			t.Errorf("%v: the steps' numbers are off by %d", c.tables, total)
		}
	}
	var found []string
	for {
		keys := get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) { return tx.OldRevokedKeys(all(), cut, 3) })
		if len(keys) > 3 {
			t.Errorf("%d keys, limit 3", len(keys))
		}
		if len(keys) == 0 {
			break
		}
		write(t, f.Store, func(tx *store.Tx) error {
			for _, k := range keys {
				found = append(found, k.ID)
				if err := tx.DeleteKey(all(), k.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	slices.Sort(found)
	var want []string
	for n := range rows {
		want = append(want, keyID(100+n))
	}
	if !slices.Equal(found, want) {
		t.Errorf("old keys: %v, want %v", found, want)
	}
}
