package cluster

import (
	"testing"
	"time"

	"github.com/keystile/keystile/internal/verify"
)

// BenchmarkAcknowledgements is what a change costs a server that has a thousand
// replicas and remembers as many changes as it does: it hands the change to each
// of them, and takes the word of each that it shows it.
func BenchmarkAcknowledgements(b *testing.B) {
	end := time.Now()
	n := &Node{alone: true, noted: true, times: protocol(), moved: make(chan struct{}), children: map[string]*child{}, leave: make(chan struct{}), wake: make(chan struct{}, 1)}
	n.usableTo.Store(&end)
	seq := int64(0)
	change := func() {
		seq++
		token := [16]byte{byte(seq), byte(seq >> 8), byte(seq >> 16), 1}
		n.reached(seq, token, &step{first: seq, last: seq, token: token, batch: verify.Batch{GoneKeys: []string{"key_1"}}})
	}
	change()
	var all []*Attachment
	for range 1000 {
		a, err := n.Attach(Caller{})
		if err != nil {
			b.Fatal(err)
		}
		a.seq = seq
		all = append(all, a)
	}
	for range keepSteps {
		change()
	}
	for _, a := range all {
		a.seq = seq
		if _, err := n.Grant(a.ID, Speaker{}, seq, 0); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		change()
		for _, a := range all {
			if _, _, _, err := a.Next(b.Context(), time.Minute); err != nil {
				b.Fatal(err)
			}
			if _, err := n.Grant(a.ID, Speaker{}, seq, 0); err != nil {
				b.Fatal(err)
			}
		}
		if n.Reported() != seq {
			b.Fatal("they have all said so")
		}
	}
}
