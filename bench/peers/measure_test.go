//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestTableGoesBetweenItsMarks(t *testing.T) {
	rows := []row{{
		name: "one", rate: []float64{3, 1, 2}, p50: []float64{1, 1, 1}, p99: []float64{2, 2, 2}, cpu: []float64{.01, .03, .02},
		ratio: []float64{1, 3, 2}, memory: 5 << 20, accepted: "0",
	}}
	text := table(rows, options{keys: 100, rounds: 3})
	if want := "| one | 2.00 (1.00–3.00) | 0.0200 | 2 | 1.00 | 2.00 | 5 | 0 |\n"; !strings.Contains(text, want) {
		t.Errorf("%q is not in %q", want, text)
	}
	page := "before\n" + markBegin + "old\n" + markEnd + "after\n"
	for range 2 { // writing it again changes nothing
		fresh, err := between(page, text)
		if err != nil || !strings.HasPrefix(fresh, "before\n"+markBegin) || !strings.HasSuffix(fresh, markEnd+"after\n") ||
			strings.Contains(fresh, "old") || strings.Count(fresh, text) != 1 {
			t.Fatalf("%q, %v", fresh, err)
		}
		page = fresh
	}
	if _, err := between("no marks", text); err == nil {
		t.Error("a page without marks was written")
	}
}
