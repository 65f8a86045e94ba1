package webhook

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"unicode/utf16"
)

const (
	// maxJSON is the longest body that is written anew, in bytes: a tree of it
	// takes some fifty times as much.
	maxJSON = 256 << 10
	// maxDepth bounds how far it may be nested.
	maxDepth = 100
	// longest ends what would become too long by its indents, in bytes. Each
	// character becomes six at most, so that only indents do.
	longest = 8 * maxJSON
)

// node is a JSON value that remembers the order of keys and the text of
// numbers.
type node struct {
	kind  byte     // { [ " for a string, 0 for what is written as it was
	text  string   // of a string, or of what is written as it was
	names []string // of an object
	nodes []node   // in an object or array
}

// style is how a library writes JSON where it is not told otherwise.
type style struct {
	comma, colon string // between the parts
	indent       string // of each level; "" for one line
	ascii        bool   // other characters as \uXXXX
	html         bool   // < > & as \uXXXX
	slash        bool   // / as \/
	sorted       bool   // the keys of objects
	newline      bool   // at the end
}

// styles are those of JavaScript, Python, Go, PHP, Ruby and Java, and of
// whoever wants it readable.
func styles() []style {
	var all []style
	for _, spacing := range []style{
		{comma: ",", colon: ":"},
		{comma: ", ", colon: ": "},
		{comma: ",", colon: ": ", indent: "  "},
		{comma: ",", colon: ": ", indent: "    "},
		{comma: ",", colon: ": ", indent: "\t"},
	} {
		for _, escapes := range []style{{}, {ascii: true}, {html: true}, {ascii: true, slash: true}, {slash: true}} {
			s := spacing
			s.ascii, s.html, s.slash = escapes.ascii, escapes.html, escapes.slash
			all = append(all, s)
		}
	}
	all = append(all, style{comma: ",", colon: ":", html: true, newline: true})
	for _, s := range slices.Clone(all) {
		if s.indent == "" && !s.slash {
			s.sorted = true
			all = append(all, s)
		}
	}
	return all
}

// rewritten yields a JSON text as other libraries write it, and whether its
// keys were put in order. Nothing comes of what is no JSON.
func rewritten(payload []byte) iter.Seq2[[]byte, bool] {
	return func(yield func([]byte, bool) bool) {
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber()
		root, ok := read(d, 0)
		if !ok {
			return
		}
		for _, s := range styles() {
			var out strings.Builder
			s.write(&out, root, 0)
			if s.newline {
				out.WriteByte('\n')
			}
			if out.Len() < longest && !yield([]byte(out.String()), s.sorted) {
				return
			}
		}
	}
}

// read reads one value.
func read(d *json.Decoder, depth int) (node, bool) {
	token, err := d.Token()
	if err != nil || depth > maxDepth {
		return node{}, false
	}
	switch t := token.(type) {
	case json.Delim:
		n := node{kind: byte(t)}
		for d.More() {
			if n.kind == '{' {
				name, err := d.Token()
				text, ok := name.(string)
				if err != nil || !ok {
					return node{}, false
				}
				n.names = append(n.names, text)
			}
			child, ok := read(d, depth+1)
			if !ok {
				return node{}, false
			}
			n.nodes = append(n.nodes, child)
		}
		_, err := d.Token() // the closing one
		return n, err == nil
	case string:
		return node{kind: '"', text: t}, true
	case json.Number:
		return node{text: t.String()}, true
	case bool:
		if t {
			return node{text: "true"}, true
		}
		return node{text: "false"}, true
	}
	return node{text: "null"}, true
}

// write writes a value.
func (s style) write(out *strings.Builder, n node, depth int) {
	switch {
	case out.Len() >= longest:
		return
	case n.kind == 0:
		out.WriteString(n.text)
		return
	case n.kind == '"':
		out.WriteString(quote(n.text, s.ascii, s.html, s.slash))
		return
	}
	out.WriteByte(n.kind)
	order := make([]int, len(n.nodes))
	for i := range order {
		order[i] = i
	}
	if s.sorted && n.kind == '{' {
		slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(n.names[a], n.names[b]) })
	}
	for at, i := range order {
		if at > 0 {
			out.WriteString(s.comma)
		}
		s.line(out, depth+1)
		if n.kind == '{' {
			out.WriteString(quote(n.names[i], s.ascii, s.html, s.slash))
			out.WriteString(s.colon)
		}
		s.write(out, n.nodes[i], depth+1)
	}
	if len(n.nodes) > 0 {
		s.line(out, depth)
	}
	out.WriteByte(n.kind + 2) // ASCII has } two behind {, and ] two behind [
}

// line begins a line, where there are lines.
func (s style) line(out *strings.Builder, depth int) {
	if s.indent != "" {
		out.WriteByte('\n')
		for range depth {
			out.WriteString(s.indent)
		}
	}
}

// quote writes a JSON string.
func quote(text string, ascii, html, slash bool) string {
	const hex = "0123456789abcdef"
	var out strings.Builder
	escape := func(u uint16) {
		out.WriteString(`\u`)
		for shift := 12; shift >= 0; shift -= 4 {
			out.WriteByte(hex[u>>shift&15])
		}
	}
	out.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\' || slash && r == '/':
			out.WriteByte('\\')
			out.WriteRune(r)
		case strings.ContainsRune("\b\f\n\r\t", r):
			out.WriteByte('\\')
			out.WriteByte("btn_fr"[r-'\b'])
		case r < ' ' || html && (r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029'):
			escape(uint16(r))
		case ascii && r > 0xffff:
			high, low := utf16.EncodeRune(r)
			escape(uint16(high))
			escape(uint16(low))
		case ascii && r > 0x7e:
			if r == 0x7f {
				out.WriteRune(r)
				continue
			}
			escape(uint16(r))
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}
