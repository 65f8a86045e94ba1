package cluster

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// parent is a node without a store that has children.
func parent() *Node {
	end := time.Now()
	n := &Node{
		alone: true, noted: true, times: protocol(), moved: make(chan struct{}), wake: make(chan struct{}, 1),
		children: map[string]*child{}, leave: make(chan struct{}), log: slog.New(slog.DiscardHandler),
	}
	n.usableTo.Store(&end)
	n.reached(1, [16]byte{1}, nil)
	return n
}

// apprentice is a child as the test has it behave.
type apprentice struct {
	t    *testing.T
	node *Node
	id   string
	seq  int64
	last Granted
	// until is when its leases end that don't show the change that it owes.
	until time.Time
}

func (n *Node) attachOne(t *testing.T) *apprentice {
	t.Helper()
	a, err := n.Attach(Caller{Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	return &apprentice{t: t, node: n, id: a.ID, seq: 1}
}

func (a *apprentice) ask() {
	a.t.Helper()
	var err error
	if a.last, err = a.node.Grant(a.id, Speaker{}, a.seq, 0); err != nil {
		a.t.Error(err)
	}
	if a.last.Head <= a.seq && a.last.For > 0 {
		a.until = time.Now().Add(a.last.For)
	}
}

// change applies the next change and tells how long it waits for the children.
func (n *Node) change(t *testing.T) (seq int64, done chan time.Duration) {
	t.Helper()
	seq, done = n.Applied()+1, make(chan time.Duration, 1)
	begin := time.Now()
	n.reached(seq, [16]byte{byte(seq)}, &step{first: seq, last: seq, token: [16]byte{byte(seq)}})
	go func() {
		if _, err := n.waitChildren(t.Context(), seq, true); err != nil {
			t.Error(err)
		}
		done <- time.Since(begin)
	}()
	return seq, done
}

// TestReplicaThatIsLate: a replica that is alive, asks on for leases, and says
// late or never that it shows a change, holds up three changes within five
// minutes. Then it pays: for five minutes it gets no lease, and changes wait for
// it no longer. They never return while it has a lease that does not show them.
func TestReplicaThatIsLate(t *testing.T) {
	for name, lag := range map[string]time.Duration{"never": time.Hour, "late": 8 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := parent()
				honest, liar := n.attachOne(t), n.attachOne(t)
				end := time.Now().Add(9 * time.Minute)
				slow, quick, refused := 0, 0, false
				for time.Now().Before(end) {
					honest.ask()
					liar.ask()
					begin := time.Now()
					seq, done := n.change(t)
					honest.seq = seq
					for waiting := true; waiting; {
						time.Sleep(time.Second)
						honest.ask()
						if time.Since(begin) >= lag {
							liar.seq = seq
						}
						liar.ask()
						if honest.last.For <= 0 {
							t.Fatal("an honest replica gets no lease")
						}
						synctest.Wait()
						select {
						case took := <-done:
							waiting = false
							if liar.seq < seq && time.Now().Before(liar.until) {
								t.Fatalf("change %d has returned, and a replica that does not show it has a lease", seq)
							}
							if took > 3*time.Second {
								slow++
							} else {
								quick++
							}
						default:
						}
					}
					refused = refused || !liar.last.Refused.IsZero()
					for range 10 {
						time.Sleep(time.Second)
						honest.ask()
						if time.Since(begin) >= lag {
							liar.seq = seq
						}
						liar.ask()
					}
				}
				// Nine minutes: two rounds of lateness and of what it costs.
				if !refused || slow > 2*lateTimes || quick < 20 {
					t.Errorf("refused %t; %d changes waited long and %d did not", refused, slow, quick)
				}
				list, _ := n.attached(time.Now())
				if len(list) != 2 || list[0].RefusedUntil == nil && list[1].RefusedUntil == nil {
					t.Errorf("the list does not say who is refused: %+v", list)
				}
				if n.Late() < lateTimes {
					t.Errorf("%d counted", n.Late())
				}
				n.Release(honest.id, Speaker{})
				n.Release(liar.id, Speaker{})
			})
		})
	}
}

// TestReplicasThatAreAllLate: where all are late, it is the server or the network
// that is slow. Then no more than a tenth of them is refused.
func TestReplicasThatAreAllLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := parent()
		var all []*apprentice
		for range 30 {
			all = append(all, n.attachOne(t))
		}
		refused := map[string]bool{}
		for range 20 {
			for _, a := range all {
				a.ask()
			}
			seq, done := n.change(t)
			time.Sleep(5 * time.Second)
			for _, a := range all {
				a.seq = seq
				if a.ask(); !a.last.Refused.IsZero() {
					refused[a.id] = true
				}
			}
			<-done
		}
		if len(refused) == 0 || len(refused) > len(all)/10 {
			t.Errorf("%d of %d are refused", len(refused), len(all))
		}
		for _, a := range all {
			n.Release(a.id, Speaker{})
		}
	})
}

// TestReplicaThatIsRefusedAndGone: nothing is left of it.
func TestReplicaThatIsRefusedAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := parent()
		a, err := n.Attach(Caller{})
		if err != nil {
			t.Fatal(err)
		}
		liar := &apprentice{t: t, node: n, id: a.ID, seq: 1}
		liar.ask()
		_, done := n.change(t)
		for range 12 { // three times 3 s, and the time of the questions
			time.Sleep(time.Second)
			liar.ask()
		}
		if liar.last.Refused.IsZero() {
			t.Error("it gets leases")
		}
		a.Detach()
		if <-done > n.times.wait {
			t.Error("it is waited for too long")
		}
		time.Sleep(n.times.wait)
		synctest.Wait()
		if left := n.Children(); left != 0 {
			t.Errorf("%d replicas are left", left)
		}
	})
}
