package bench

import "slices"

// series are measurements of one thing.
type series struct{ all []float64 }

func (s *series) add(v float64) { s.all = append(s.all, v) }

// at returns the value that a share of all is below.
func (s *series) at(share float64) float64 {
	if len(s.all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.all))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

func (s *series) median() float64 { return s.at(0.5) }

// undisturbed is what the least twentieth does not exceed. A processor that shares
// its core with somebody else's is slower for some tenths of a second, and what
// has much to do in a row is slowed down more than what waits: by half, and by a
// sixth. A median says how busy the neighbour was.
func (s *series) undisturbed() float64 { return s.at(0.05) }

// spread returns the quarters: half of all lies between them.
func (s *series) spread() [2]float64 { return [2]float64{s.at(0.25), s.at(0.75)} }
