package profile

import (
	"slices"
	"strings"
)

// nearest returns the one of known that a mistyped word most likely means, or
// "" when none is near: a third of its letters may differ, or one.
func nearest(word string, known []string) string {
	best, least := "", max(1, len(word)/3)+1
	for _, k := range known {
		// Words whose lengths differ by more are further apart than that.
		if len(k)-len(word) >= least || len(word)-len(k) >= least {
			continue
		}
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, replace or swap with their
// neighbour until a is b (optimal string alignment). Words differ in length
// by less than a third here, and a is at most a field of a bounded file.
func distance(a, b string) int {
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// instead completes a refusal of word: the known one that was probably meant,
// else all of them.
func instead(word string, known []string, all string) string {
	if k := nearest(word, known); k != "" {
		return "did you mean " + quote(k) + "?"
	}
	return all + " " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}
