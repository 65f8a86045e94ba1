package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/store"
)

// writerBehaviours are about the transactions that calls share.
func writerBehaviours() []behaviour {
	return []behaviour{
		{"GroupCommit", groupCommit},
		{"FailingCallsAlone", failingCallsAlone},
		{"CancelledContexts", cancelledContexts},
		{"CloseFinishes", closeFinishes},
	}
}

// block holds the writer up until the returned function is called, so that
// calls that come meanwhile are in one queue.
func block(t testing.TB, s *store.Store) (release func()) {
	t.Helper()
	started, released, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var once sync.Once
		_, err := s.Write(context.WithoutCancel(t.Context()), func(*store.Tx) error {
			once.Do(func() { close(started) })
			<-released
			return nil
		})
		wantErr(t, "the call that holds the others up", err, nil)
	}()
	select {
	case <-started:
	case <-time.After(time.Minute):
		t.Fatal("the call that shall hold the others up does not start")
	}
	return func() { close(released); <-ended }
}

// batch hands in calls while the writer is held up and returns what became of each.
func batch(t testing.TB, s *store.Store, n int, call func(i int) (context.Context, func(tx *store.Tx) error)) (seqs []int64, errs []error) {
	t.Helper()
	release := block(t, s)
	seqs, errs = make([]int64, n), make([]error, n)
	var ready, g sync.WaitGroup
	for i := range n {
		ready.Add(1)
		g.Go(func() {
			ctx, fn := call(i)
			ready.Done()
			seqs[i], errs[i] = s.Write(ctx, fn)
		})
	}
	ready.Wait()
	release()
	g.Wait()
	return seqs, errs
}

// groupCommit: calls that wait share a commit. The database itself says how
// many there were.
func groupCommit(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	before := commits(t, f)
	var told, changes atomic.Int64
	f.OnCommit(func(first, last int64) {
		told.Add(1)
		changes.Add(last - first + 1)
	})
	const calls = 200
	seqs, errs := batch(t, f.Store, calls, func(i int) (context.Context, func(tx *store.Tx) error) {
		return t.Context(), func(tx *store.Tx) error { return insertLogged(tx, i) }
	})
	seen := map[int64]bool{}
	numbers := make([]int, calls)
	for i := range calls {
		if errs[i] != nil || seqs[i] < 1 || seqs[i] > calls || seen[seqs[i]] {
			t.Errorf("call %d: change %d, %v", i, seqs[i], errs[i])
		}
		seen[seqs[i]] = true
		numbers[i] = i
	}
	checkLog(t, f.Store, numbers)
	if changes.Load() != calls {
		t.Errorf("OnCommit was told of %d changes, want %d", changes.Load(), calls)
	}
	// How many had queued when the writer was let go is up to the scheduler.
	n := commits(t, f) - before
	if n > calls/4 || n < told.Load() || told.Load() == 0 {
		t.Errorf("%d calls took %d commits; OnCommit was called %d times", calls, n, told.Load())
	}
}

// commits is how many transactions have changed the database, as its own
// files and counters tell: frames of SQLite's log that end a transaction, and
// updates of the head of the change log.
func commits(t testing.TB, f *fixture) (n int64) {
	t.Helper()
	if f.Postgres() {
		// Each backend hands its counters in now and then, by itself.
		db := f.raw(t)
		seq := get(t, f.Store, func(tx *store.Tx) (store.Head, error) { return tx.Head() }).Seq
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			// What this backend wakes up for hands its counters in.
			write(t, f.Store, func(*store.Tx) error { return nil })
			inserted := number(t, db, `SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'changes'`)
			if inserted == seq+1 {
				return number(t, db, `SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'change_head'`)
			}
		}
		t.Fatal("PostgreSQL's counters do not arrive")
	}
	wal, err := os.ReadFile(filepath.Join(f.options.Dir, "keystile.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	// https://www.sqlite.org/fileformat2.html#the_write_ahead_log
	page := int(binary.BigEndian.Uint32(wal[8:]))
	for frame := wal[32:]; len(frame) >= 24+page; frame = frame[24+page:] {
		if binary.BigEndian.Uint32(frame[4:]) != 0 {
			n++
		}
	}
	return n
}

// failingCallsAlone: in one transaction, each call that fails undoes what it
// did and nothing else.
func failingCallsAlone(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	write(t, f.Store, func(tx *store.Tx) error { return insertLogged(tx, 1000) })
	errOwn := errors.New("own")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var commits atomic.Int64
	f.OnCommit(func(int64, int64) { commits.Add(1) })
	const calls = 120
	kinds := []struct {
		name string
		want error
		fn   func(tx *store.Tx) error // after it has inserted its key
	}{
		{"good", nil, func(*store.Tx) error { return nil }},
		{"own error", errOwn, func(*store.Tx) error { return errOwn }},
		{"taken", store.ErrTaken, func(tx *store.Tx) error { return tx.InsertKey(key(acme, 1000)) }},
		{"not found", store.ErrNotFound, func(tx *store.Tx) error { return tx.DeleteKey(all(), "x") }},
		{"no such workspace", errOwn, func(tx *store.Tx) error {
			if err := tx.InsertRole(role("ws_none", 1)); err == nil {
				t.Error("a role in no workspace")
			}
			return errOwn
		}},
		{"cancelled", context.Canceled, nil},
	}
	_, errs := batch(t, f.Store, calls, func(i int) (context.Context, func(tx *store.Tx) error) {
		k := kinds[i%len(kinds)]
		if k.fn == nil {
			return cancelled, func(*store.Tx) error { t.Error("a cancelled call ran"); return nil }
		}
		return t.Context(), func(tx *store.Tx) error {
			if err := insertLogged(tx, i); err != nil {
				return err
			}
			return k.fn(tx)
		}
	})
	var good []int
	for i, err := range errs {
		k := kinds[i%len(kinds)]
		wantErr(t, k.name, err, k.want)
		if k.want == nil {
			good = append(good, i)
		}
	}
	checkLog(t, f.Store, good)
	keys := get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) {
		return tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Limit: 999, Now: noon})
	})
	if len(keys) != len(good)+1 {
		t.Errorf("%d keys are there, want %d", len(keys), len(good)+1)
	}
	if n := commits.Load(); n > calls/8 {
		t.Errorf("%d commits: the calls did not share their transactions", n)
	}
}

func cancelledContexts(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // the hand-over may win against the end of the context
		_, err := f.Write(over, func(*store.Tx) error { t.Error("a cancelled write ran"); return nil })
		wantErr(t, "write", err, context.Canceled)
		err = f.Read(over, func(*store.Tx) error { t.Error("a cancelled read ran"); return nil })
		wantErr(t, "read", err, context.Canceled)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := f.Write(late, func(*store.Tx) error { t.Error("a late write ran"); return nil })
	wantErr(t, "late write", err, context.DeadlineExceeded)
	wantErr(t, "late ping", f.Ping(late), context.DeadlineExceeded)

	// One that ends while the call waits prevents it.
	release := block(t, f.Store)
	waiting, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := f.Write(waiting, func(*store.Tx) error { t.Error("ran after its context had ended"); return nil })
		done <- err
	}()
	cancel()
	release()
	wantErr(t, "cancelled while waiting", <-done, context.Canceled)

	// Once it runs, it is done: nobody is told that it was not.
	running, cancel := context.WithCancel(t.Context())
	seq, err := f.Write(running, func(tx *store.Tx) error {
		cancel()
		return insertLogged(tx, 1)
	})
	if err != nil || seq == 0 {
		t.Errorf("cancelled while running: change %d, %v", seq, err)
	}
	checkLog(t, f.Store, []int{1})

	// A read ends with its context, and its connection is as good as before.
	for range 40 { // more than there are connections
		ctx, cancel := context.WithCancel(t.Context())
		err := f.Read(ctx, func(tx *store.Tx) error {
			cancel()
			_, err := tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Limit: 9, Now: noon})
			return err
		})
		wantErr(t, "cancelled while reading", err, context.Canceled)
	}
	get(t, f.Store, func(tx *store.Tx) (store.Key, error) { return tx.Key(all(), keyID(1)) })
}

// closeFinishes: what was handed in before Close is written, and after it
// everything is refused.
func closeFinishes(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	release := block(t, f.Store)
	const calls = 50
	var ready, g sync.WaitGroup
	var mu sync.Mutex
	var written []int
	for n := range calls {
		ready.Add(1)
		g.Go(func() {
			ready.Done()
			_, err := f.Write(t.Context(), func(tx *store.Tx) error { return insertLogged(tx, n) })
			switch {
			case err == nil:
				mu.Lock()
				written = append(written, n)
				mu.Unlock()
			case !errors.Is(err, store.ErrClosed):
				t.Errorf("write: %v", err)
			}
		})
	}
	ready.Wait()
	g.Go(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	release()
	g.Wait()
	_, err := f.Write(t.Context(), func(*store.Tx) error { t.Error("ran after Close"); return nil })
	wantErr(t, "a write after Close", err, store.ErrClosed)
	wantErr(t, "Close again", f.Close(), nil)
	for what, err := range map[string]error{
		"a read after Close": f.Read(t.Context(), func(*store.Tx) error { return nil }), "a ping after Close": f.Ping(t.Context()),
	} {
		wantErr(t, what, err, store.ErrClosed)
	}
	if len(written) == 0 {
		t.Error("nothing was handed in before Close")
	}
	checkLog(t, open(t, f.options), written)
}
