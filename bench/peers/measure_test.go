//go:build linux

package main

import (
	"os"
	"path/filepath"
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

func TestWrongCommandLines(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"-nope"}, "flag provided but not defined"},
		{[]string{"-keys", "many"}, "invalid value"},
		{[]string{"-keys", "5"}, "at least 100 keys"},
		{[]string{"-rounds", "0"}, "one round"},
		{[]string{"100"}, "unexpected argument 100"},
	} {
		if _, err := parse(c.arguments); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.arguments, err, c.want)
		}
	}
	page := filepath.Join(t.TempDir(), "page.md")
	if err := (options{out: page}).ready(); err == nil {
		t.Error("a page that is not there is taken")
	}
	for text, ok := range map[string]bool{"no marks": false, markBegin + markEnd: true} {
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (options{out: page}).ready(); (err == nil) != ok {
			t.Errorf("a page with %q: %v", text, err)
		}
		if kept, err := os.ReadFile(page); err != nil || string(kept) != text {
			t.Errorf("the page became %q, %v", kept, err)
		}
	}
}
