package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/store"
)

// processBehaviours are about more than one process, and about one that is killed.
func processBehaviours() []behaviour {
	return []behaviour{
		{"KilledWriter", killedWriter},
		{"TwoProcesses", twoProcesses},
	}
}

// childVariable makes the test binary a child process: it says what to do.
const childVariable = "KEYSTILE_STORE_TEST_CHILD"

// task is what a child process is to do.
type task struct {
	Do      string
	Options store.Options
	First   int // number of the first key that it writes
	Count   int
}

// runChild is a child process. It prints a line for each thing that is done.
func runChild(text string) int {
	var c task
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Println(err)
		return 2
	}
	ctx := context.Background()
	s, err := store.Open(ctx, c.Options)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	switch c.Do {
	case "hold":
		fmt.Println("open")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
	case "write":
		// Several at a time, so that they share transactions.
		var mu sync.Mutex
		var g sync.WaitGroup
		for worker := range 4 {
			g.Go(func() {
				for n := c.First + worker; n < c.First+c.Count; n += 4 {
					_, err := s.Write(ctx, func(tx *store.Tx) error { return insertLogged(tx, n) })
					mu.Lock()
					if err != nil {
						fmt.Println(err)
					} else {
						fmt.Println(n)
					}
					mu.Unlock()
				}
			})
		}
		g.Wait()
	case "unwritable":
		return unwritable(ctx, s)
	}
	if err := s.Close(); err != nil {
		fmt.Println(err)
		return 2
	}
	return 0
}

// insertLogged adds a key of acme and logs it.
func insertLogged(tx *store.Tx, n int) error {
	if err := tx.InsertKey(key(acme, n)); err != nil {
		return err
	}
	return tx.LogChange(store.ChangeKey, keyID(n))
}

type child struct {
	cmd   *exec.Cmd
	lines chan string
}

func startChild(t testing.TB, do string, o store.Options, numbers ...int) *child {
	t.Helper()
	c := task{Do: do, Options: o}
	if len(numbers) == 2 {
		c.First, c.Count = numbers[0], numbers[1]
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &child{cmd: exec.Command(os.Args[0]), lines: make(chan string, 100_000)}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if _, err := p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			p.lines <- scan.Text()
		}
		_ = p.cmd.Wait()
		close(p.lines)
	}()
	t.Cleanup(p.kill)
	return p
}

// line waits for the next line; false when the child has ended.
func (p *child) line(t testing.TB) (string, bool) {
	t.Helper()
	select {
	case l, ok := <-p.lines:
		return l, ok
	case <-time.After(2 * time.Minute):
		t.Fatal("the child process says nothing")
		return "", false
	}
}

// kill ends the child as a crash would, and waits for its end.
func (p *child) kill() {
	_ = p.cmd.Process.Kill() // fails when it has ended
	for range p.lines {
	}
}

// rest reads the numbers of the lines that are left.
func (p *child) rest(t testing.TB) (numbers []int) {
	t.Helper()
	for {
		l, ok := p.line(t)
		if !ok {
			return numbers
		}
		n, err := strconv.Atoi(l)
		if err != nil {
			t.Errorf("the child process says: %s", l)
			continue
		}
		numbers = append(numbers, n)
	}
}

// checkLog fails unless the keys and the change log tell the same: each key
// has its change, and the log has no gap.
func checkLog(t testing.TB, s *store.Store, atLeast []int) {
	t.Helper()
	read(t, s, func(tx *store.Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		changes, err := tx.ChangesSince(0, 1_000_000)
		if err != nil {
			return err
		}
		logged := map[string]bool{}
		for i, c := range changes {
			if c.Seq != int64(i) {
				t.Fatalf("change %d stands in place %d", c.Seq, i)
			}
			if c.Kind == store.ChangeKey {
				logged[c.ObjectID] = true
			}
		}
		if int64(len(changes)) != head.Seq+1 {
			t.Errorf("%d changes, head %d", len(changes), head.Seq)
		}
		keys, err := tx.Keys(all(), store.KeyFilter{WorkspaceID: acme, Limit: 1_000_000, Now: noon})
		if err != nil {
			return err
		}
		for _, k := range keys {
			if !logged[k.ID] {
				t.Errorf("%s is there without its change", k.ID)
			}
			delete(logged, k.ID)
		}
		if len(logged) > 0 {
			t.Errorf("changes of keys that are not there: %v", logged)
		}
		there := map[string]bool{}
		for _, k := range keys {
			there[k.ID] = true
		}
		for _, n := range atLeast {
			if !there[keyID(n)] {
				t.Errorf("key %d was acknowledged and is lost", n)
			}
		}
		return nil
	})
}

// killedWriter: what a process acknowledged before it was killed is there, and
// nothing is there by half.
func killedWriter(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	if err := f.Close(); err != nil { // so that recovery is the next one's work
		t.Fatal(err)
	}
	const count = 100_000 // more than it gets to
	p := startChild(t, "write", f.options, 0, count)
	var acknowledged []int
	for len(acknowledged) < 200 {
		l, ok := p.line(t)
		if !ok {
			t.Fatal("the child process ended by itself")
		}
		n, err := strconv.Atoi(l)
		if err != nil {
			t.Fatalf("the child process says: %s", l)
		}
		acknowledged = append(acknowledged, n)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	acknowledged = append(acknowledged, p.rest(t)...)
	if len(acknowledged) == count {
		t.Fatal("the child process was not killed in the midst of its writes")
	}
	s := open(t, f.options)
	checkLog(t, s, acknowledged)
	// And it goes on where it was.
	write(t, s, func(tx *store.Tx) error { return insertLogged(tx, count) })
	checkLog(t, s, append(acknowledged, count))
}

// twoProcesses: an admin verb writes beside a server. Neither fails, nothing
// gets lost, and the log is one.
func twoProcesses(t *testing.T, f *fixture) {
	addWorkspaces(t, f.Store)
	const each = 200
	p := startChild(t, "write", f.options, each, each)
	own := make([]int, each)
	var g sync.WaitGroup
	for worker := range 4 {
		g.Go(func() {
			for n := worker; n < each; n += 4 {
				own[n] = n
				if _, err := f.Write(t.Context(), func(tx *store.Tx) error { return insertLogged(tx, n) }); err != nil {
					t.Errorf("write %d: %v", n, err)
				}
			}
		})
	}
	g.Wait()
	theirs := p.rest(t)
	if len(theirs) != each {
		t.Errorf("the child process wrote %d keys of %d", len(theirs), each)
	}
	checkLog(t, f.Store, slices.Concat(own, theirs))
}

// TestWriteFails is a disk that fails while a transaction is written: whether
// it was is not known, so the answer says so. When the disk works again, so
// does the store.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: t.TempDir()}
	s := open(t, o)
	addWorkspaces(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p := startChild(t, "unwritable", o)
	var said []string
	for {
		l, ok := p.line(t)
		if !ok {
			break
		}
		said = append(said, l)
	}
	if got := strings.Join(said, "\n"); got != "unknown outcome\nnot there\nwritten" {
		t.Errorf("the child process says:\n%s", got)
	}
	checkLog(t, open(t, o), []int{1, 3})
}
