package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keystile/keystile"
)

// printJSON writes one value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// tell writes what became of an object: the object itself for programs, a line
// for people.
func (a *app) tell(object any, format string, values ...any) error {
	if a.json {
		return printJSON(a.stdout, object)
	}
	_, err := fmt.Fprintf(a.stdout, format+"\n", values...)
	return err
}

// A listing is how a list is written for people.
type listing[T any] struct {
	nouns    string // what is in it
	narrowed bool   // by a search or a filter
	headings []string
	row      func(T) []string
}

// write writes the objects, at most so many; 0 is all of them.
func (l listing[T]) write(a *app, objects iter.Seq2[T, error], most int) error {
	out := keystile.List[T]{Data: []T{}}
	for o, err := range objects {
		if err != nil {
			return err
		}
		if out.Data = append(out.Data, o); len(out.Data) == most {
			break
		}
	}
	if a.json {
		return printJSON(a.stdout, out)
	}
	if len(out.Data) == 0 {
		nouns := l.nouns
		if l.narrowed {
			nouns += " that match"
		}
		_, err := fmt.Fprintf(a.stdout, "No %s.\n", nouns)
		return err
	}
	rows := [][]string{l.headings}
	for _, o := range out.Data {
		rows = append(rows, l.row(o))
	}
	return printTable(a.stdout, rows)
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
