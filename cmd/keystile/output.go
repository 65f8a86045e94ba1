package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printJSON writes one value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable writes rows below their headings, aligned.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			if cells[i] = printable(c); c == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// printNone writes that a list is empty, and whether that is for want of a match.
func printNone(w io.Writer, nouns string, narrowed bool) error {
	if narrowed {
		nouns += " that match"
	}
	_, err := fmt.Fprintf(w, "No %s.\n", nouns)
	return err
}

// printFields writes one object, a field a line, without those that are empty.
func printFields(w io.Writer, fields [][2]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		if f[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", f[0], printable(f[1]))
		}
	}
	return t.Flush()
}

// minute is a time for people, in UTC as everywhere in Keystile.
func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

func minutePtr(t *time.Time) string {
	if t == nil {
		return ""
	}
	return minute(*t)
}
