package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// update rewrites what TestHelp and TestReference compare with.
var update = flag.Bool("update", false, "write testdata/help and docs/cli.md anew")

// verbs lists every verb and group of verbs that is not hidden.
func verbs(t *testing.T) []*kong.Node {
	t.Helper()
	var c cli
	parser, err := newParser(t.Context(), &c, &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var all []*kong.Node
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		all = append(all, n)
		for _, child := range n.Children {
			if !child.Hidden {
				walk(child)
			}
		}
	}
	walk(parser.Model.Node)
	return all
}

// TestHelp holds the help of every verb against a file.
func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	const dir = "testdata/help"
	want := map[string]bool{}
	for _, verb := range verbs(t) {
		words := strings.Fields(verb.FullPath())
		name := strings.Join(words, "-") + ".txt"
		want[name] = true
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			status := run(context.Background(), append(words[1:len(words):len(words)], "--help"), &app{stdout: &out, stderr: &errs})
			if status != 0 || errs.Len() > 0 {
				t.Fatalf("status %d, stderr %q", status, &errs)
			}
			compare(t, filepath.Join(dir, name), out.String())
		})
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !want[f.Name()] {
			t.Errorf("%s is of no verb: remove it", f.Name())
		}
	}
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what it was; if that is meant, run go test ./cmd/keystile -update\n%s", path, got)
	}
}

// TestReference keeps the reference in docs/cli.md as the flags are.
func TestReference(t *testing.T) {
	const path, begin, end = "../../docs/cli.md", "<!-- verbs: written by go test ./cmd/keystile -update -->\n", "<!-- end of verbs -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks around the verbs", path)
	}
	var b strings.Builder
	for _, verb := range verbs(t) {
		if verb.Leaf() {
			describe(&b, verb)
		}
	}
	compare(t, path, before+begin+b.String()+end+after)
}

func describe(b *strings.Builder, verb *kong.Node) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n", verb.FullPath(), verb.Help)
	if verb.Detail != "" {
		fmt.Fprintf(b, "\n```text\n%s\n```\n", verb.Detail)
	}
	b.WriteString("\n| argument or flag | variable | meaning |\n|---|---|---|\n")
	row := func(name, variable, help string) {
		code := func(s string) string {
			if s == "" {
				return ""
			}
			return "`" + s + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", code(name), code(variable), strings.ReplaceAll(help, "|", `\|`))
	}
	for _, p := range verb.Positional {
		row(p.Summary(), "", p.Help)
	}
	for _, f := range verb.Flags {
		name := "--" + f.Name
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
		}
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		help := f.Help
		if f.Required {
			help += " Required."
		}
		row(name, strings.Join(f.Envs, ", "), help)
	}
	if len(verb.Flags) == 0 && len(verb.Positional) == 0 {
		b.WriteString("| none | | |\n")
	}
}
