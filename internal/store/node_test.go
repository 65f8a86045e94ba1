package store_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/store"
)

// nodeRow is rules 6, 9 and 12 of the revocation protocol, as far as they are SQL.
func nodeRow(t *testing.T, f *fixture) {
	ctx := t.Context()
	head := get(t, f.Store, (*store.Tx).Head)
	n := store.Node{ID: "n1", Name: "Node", Version: "v", Renewals: 1, Applied: head.Seq, StartedAt: noon, StaleFor: time.Second}
	roster := func() store.Roster {
		t.Helper()
		r, err := f.Roster(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := roster(); len(r.Nodes) != 0 || r.Seq != head.Seq || r.Timeline != r.Noted {
		t.Fatalf("a new store: %+v", r)
	}
	renew := func(n store.Node, token [16]byte) error { _, err := f.RenewNode(ctx, n, token); return err }

	wantErr(t, "a renewal with another token", renew(n, [16]byte{1}), store.ErrHistory)
	ahead := n
	ahead.Applied++
	wantErr(t, "a renewal with a change that is not there", renew(ahead, head.Token), store.ErrHistory)
	if err := f.AcknowledgeNode(ctx, store.Claim{ID: n.ID}, head.Seq, head.Token); err != nil {
		t.Fatal(err)
	}
	if r := roster(); len(r.Nodes) != 0 {
		t.Fatalf("what was refused made a row, or an acknowledgement did: %+v", r)
	}

	if got, err := f.RenewNode(ctx, n, head.Token); err != nil || got != head.Seq {
		t.Fatalf("head %d, error %v", got, err)
	}
	if r := roster(); len(r.Nodes) != 1 || !reflect.DeepEqual(r.Nodes[0], n) {
		t.Fatalf("after a renewal: %+v", r)
	}
	seq := write(t, f.Store, func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") })
	if seq != head.Seq+1 {
		t.Fatalf("change %d after %d", seq, head.Seq)
	}
	after := get(t, f.Store, (*store.Tx).Head)
	applied := func() int64 { t.Helper(); return roster().Nodes[0].Applied }
	if err := f.AcknowledgeNode(ctx, store.Claim{ID: n.ID}, seq, head.Token); err != nil || applied() != head.Seq {
		t.Errorf("an acknowledgement with another token: %v, applied %d", err, applied())
	}
	if err := f.AcknowledgeNode(ctx, store.Claim{ID: n.ID}, seq, after.Token); err != nil || applied() != seq {
		t.Errorf("an acknowledgement: %v, applied %d", err, applied())
	}
	if err := f.AcknowledgeNode(ctx, store.Claim{ID: n.ID}, head.Seq, head.Token); err != nil || applied() != seq {
		t.Errorf("a late acknowledgement: %v, applied %d", err, applied())
	}
	if got := roster().Nodes[0].Renewals; got != 1 {
		t.Errorf("an acknowledgement is no renewal: %d", got)
	}

	// A row that was swept and comes back is not the one that a sweeper knows
	// from before: it has a lease.
	if err := f.SweepNode(ctx, store.Node{ID: n.ID, Renewals: 1}); err != nil || len(roster().Nodes) != 0 {
		t.Fatalf("sweep: %v", err)
	}
	n.Renewals, n.Applied = 2, seq
	if err := renew(n, after.Token); err != nil {
		t.Fatal(err)
	}
	if err := f.SweepNode(ctx, store.Node{ID: n.ID, Renewals: 1}); err != nil || len(roster().Nodes) != 1 {
		t.Fatalf("a sweeper who saw the row before has removed it with its new lease (%v)", err)
	}

	// Of two that go by one ID only one can have written the mark of the row.
	one, two := n, n
	one.Renewals, one.Mark, one.Was = 3, "1a", []string{"0a"}
	wantErr(t, "the first with a mark", renew(one, after.Token), nil)
	two.Renewals, two.Mark, two.Was = 3, "2a", []string{"0a"}
	wantErr(t, "the second", renew(two, after.Token), store.ErrCopied)
	wantErr(t, "the second, of another history", renew(two, head.Token), store.ErrHistory)
	one.Renewals, one.Mark, one.Was = 4, "1c", []string{"0a", "1a", "1b"} // 1b never came through
	wantErr(t, "the first again", renew(one, after.Token), nil)
	seq = write(t, f.Store, func(tx *store.Tx) error { return tx.LogChange(store.ChangeNoop, "") })
	after = get(t, f.Store, (*store.Tx).Head)
	second, first := store.Claim{ID: n.ID, Marks: []string{"0a", "2a"}}, store.Claim{ID: n.ID, Marks: []string{"1b", "1c"}}
	if err := f.AcknowledgeNode(ctx, second, seq, after.Token); err != nil || applied() == seq {
		t.Errorf("an acknowledgement of the second: %v, applied %d", err, applied())
	}
	if err := f.AcknowledgeNode(ctx, first, seq, after.Token); err != nil || applied() != seq {
		t.Errorf("an acknowledgement of the first: %v, applied %d", err, applied())
	}
	if err := f.LeaveNode(ctx, second); err != nil || len(roster().Nodes) != 1 {
		t.Errorf("the second leaves: %v", err)
	}
	if err := f.SweepNode(ctx, store.Node{ID: n.ID, Renewals: 4, Mark: "2a"}); err != nil || len(roster().Nodes) != 1 {
		t.Errorf("a sweeper that has seen the second: %v", err)
	}

	// Only who has seen the timeline that is noted may note another.
	if err := f.NoteTimeline(ctx, 99, 100); err != nil || roster().Noted == 100 {
		t.Errorf("a timeline was noted over another one: %v", err)
	}
	noted := roster().Noted
	if err := f.NoteTimeline(ctx, noted, 100); err != nil {
		t.Errorf("note a timeline: %v", err)
	}
	if got := get(t, f.Store, (*store.Tx).Head).Timeline; got != 100 {
		t.Errorf("timeline %d", got)
	}

	if err := f.LeaveNode(ctx, first); err != nil || len(roster().Nodes) != 0 {
		t.Errorf("leave: %v", err)
	}
}
