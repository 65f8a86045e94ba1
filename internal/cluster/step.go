package cluster

import (
	"sort"

	"github.com/keystile/keystile/internal/verify"
)

// step is a piece of the change log as it was applied: changes from first to
// last. What it names was read when last had been committed, or later.
type step struct {
	first, last int64
	token       [16]byte // of last
	batch       verify.Batch
}

// stepBehind is the place of the first step that ends behind seq. There are
// thousands, and each child asks for each change. The caller holds mu.
func (n *Node) stepBehind(seq int64) int {
	return sort.Search(len(n.steps), func(i int) bool { return n.steps[i].last > seq })
}

// keep takes a step into memory. The caller holds mu.
func (n *Node) keep(s step) {
	n.steps = append(n.steps, s)
	n.kept += s.size()
	for n.kept > keepSteps && len(n.steps) > 1 {
		n.kept -= n.steps[0].size()
		n.steps[0] = step{}
		n.steps = n.steps[1:]
	}
}

func (s *step) size() int {
	b := &s.batch
	return 1 + len(b.Workspaces) + len(b.Roles) + len(b.Keys) + len(b.GoneWorkspaces) + len(b.GoneRoles) + len(b.GoneKeys)
}
