package profile

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxTokens bounds names, values and marks. The largest example has under
	// 400; the parser takes seconds for the 90 000 that maxSize has room for.
	maxTokens = 20_000
	// maxDepth bounds lists and mappings within each other on one line. A
	// profile needs four; the parser's time and memory grow with the square,
	// and 64 KiB of braces keep it busy for minutes.
	maxDepth = 8
	maxList  = 500 // entries in one list
	maxText  = 500 // characters in one text
)

// file is a profile's file while it is read: it knows on which line each
// value stands, so that whatever is found wrong later can say where.
type file struct {
	name  string
	lines map[string]int // by path, such as roles[2].permissions
}

// read decodes the file over what p already holds: values that the file
// leaves out stay, lists it gives replace theirs, words are laid over words.
// It checks the form alone; [file.check] checks the meaning.
func read(name string, data []byte, p *Profile) (*file, error) {
	f := &file{name: name, lines: map[string]int{"": 1}}
	root, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	return f, f.decode("", root, reflect.ValueOf(p).Elem())
}

// fault says what is wrong with the value at path, as one line.
func (f *file) fault(path, format string, args ...any) error {
	return f.faultAt(path, path, format, args...)
}

// faultAt is fault with the line of another path: that of an entry, say, for
// a fault which names the list.
func (f *file) faultAt(at, path, format string, args ...any) error {
	line, found := f.lines[at]
	for !found { // what is missing is missed in the value around it
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
		line, found = f.lines[at]
	}
	return f.faultIn(line, path, format, args...)
}

func (f *file) faultIn(line int, path, format string, args ...any) error {
	if path != "" {
		path += ": "
	}
	return fmt.Errorf("%s:%d: %s%s", f.name, line, path, fmt.Sprintf(format, args...))
}

// parse returns the root of the only document.
func (f *file) parse(data []byte) (ast.Node, error) {
	if len(data) > maxSize {
		return nil, f.fault("", "the file has more than %d KiB; a profile is far smaller: check the path", maxSize>>10)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if i := invalidUTF8(data); i >= 0 {
		return nil, f.faultIn(1+bytes.Count(data[:i], []byte("\n")), "", "not UTF-8 text; save the file as UTF-8")
	}
	tokens := lexer.Tokenize(string(data))
	if len(tokens) > maxTokens {
		return nil, f.fault("", "the file has more than %d names, values and marks; a profile is far smaller: check the path", maxTokens)
	}
	if line := tooDeep(tokens); line > 0 {
		return nil, f.faultIn(line, "", "lists and mappings within each other more than %d deep; a profile needs four", maxDepth)
	}
	// The parser's own search for duplicates takes quadratic time; decode has another.
	doc, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, f.syntax(err)
	}
	var root ast.Node
	for _, d := range doc.Docs {
		if d.Body == nil {
			continue
		}
		if root != nil {
			return nil, f.faultIn(lineOf(d.Body), "", "a second document begins here; put one profile in a file")
		}
		root = d.Body
	}
	if root == nil || root.Type() == ast.NullType {
		return nil, f.fault("", "the file is empty; a profile needs at least product and prefix")
	}
	return root, nil
}

// syntax makes one line of the parser's error, which is several.
func (f *file) syntax(err error) error {
	line, message := 1, err.Error()
	var at yaml.Error
	if errors.As(err, &at) {
		message = at.GetMessage()
		if t := at.GetToken(); t != nil && t.Position != nil {
			line = max(1, t.Position.Line)
		}
	}
	return f.faultIn(line, "", "not YAML: %s; check indentation, colons and quotes here", cut(strings.Join(strings.Fields(message), " ")))
}

// tooDeep returns the line on which more than maxDepth lists and mappings are
// open within each other, or 0. Nesting by indentation needs none of this:
// each level takes more of the bounded file than the one before.
func tooDeep(tokens token.Tokens) int {
	flow, marks, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, marks = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			marks++ // "- - - x" opens three lists
		}
		if flow+marks > maxDepth {
			return line
		}
	}
	return 0
}

// A presetter fills what its zero value would say wrongly, before the file's
// own values are decoded over it.
type presetter interface{ preset() }

// decode sets v to what the node says. The type of v says what is taken:
// structs by their yaml tags, and nothing that is not in them.
func (f *file) decode(path string, n ast.Node, v reflect.Value) error {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return f.fault(path, "has no value; give one (in quotes if it begins with #), or take the line out")
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return f.fault(path, "anchors, aliases and tags (%s) are not taken; write the value out", n.GetToken().Value)
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		return f.decodeDuration(path, n, v)
	}
	switch v.Kind() {
	case reflect.Struct:
		return f.decodeStruct(path, n, v)
	case reflect.Map:
		return f.decodeMap(path, n, v)
	case reflect.Slice:
		return f.decodeList(path, n, v)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return f.fault(path, "must be true or false, not %s", describe(n))
		}
		v.SetBool(b.Value)
	case reflect.Int:
		i, ok := n.(*ast.IntegerNode)
		u, positive := uint64(0), false
		if ok {
			u, positive = i.Value.(uint64)
		}
		if !positive || u > 1e9 {
			return f.fault(path, "must be a whole number from 0 to 1000000000, not %s", describe(n))
		}
		v.SetInt(int64(u))
	default:
		s, err := f.text(path, n)
		if err != nil {
			return err
		}
		v.SetString(s)
	}
	return nil
}

func (f *file) decodeStruct(path string, n ast.Node, v reflect.Value) error {
	if s, ok := v.Addr().Interface().(presetter); ok {
		s.preset()
	}
	known := fields(v.Type())
	return f.entries(path, n, func(name, path string, value ast.Node) error {
		i, ok := known[name]
		if !ok {
			names := make([]string, 0, len(known))
			for k := range known {
				names = append(names, k)
			}
			return f.fault(path, "unknown field; %s", instead(name, names, "the fields here are"))
		}
		return f.decode(path, value, v.Field(i))
	})
}

// fields returns the fields of a struct of a profile by the names they have
// in the file, with their indices in the struct.
func fields(t reflect.Type) map[string]int {
	named := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			named[name] = i
		}
	}
	return named
}

func (f *file) decodeMap(path string, n ast.Node, v reflect.Value) error {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	return f.entries(path, n, func(name, path string, value ast.Node) error {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := f.decode(path, value, item); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(name), item)
		return nil
	})
}

// entries calls do for each entry of a mapping, with the entry's path.
func (f *file) entries(path string, n ast.Node, do func(name, path string, value ast.Node) error) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return f.fault(path, "must be a mapping of names to values, not %s", describe(n))
	}
	first := make(map[string]int)
	for i := m.MapRange(); i.Next(); {
		line := lineOf(i.Key())
		key, ok := i.Key().(*ast.StringNode)
		if !ok {
			return f.faultIn(line, path, "%s is no field; a field is a plain name, a colon and a value", quote(i.Key().GetToken().Value))
		}
		at := key.Value
		if !isName(at) || len(at) > 60 {
			at = quote(at) // it is no field, and might hold a line break
		}
		if path != "" {
			at = path + "." + at
		}
		if line, twice := first[key.Value]; twice {
			return f.faultIn(lineOf(key), at, "given twice, first on line %d; keep one", line)
		}
		first[key.Value] = line
		f.lines[at] = line
		if err := do(key.Value, at, i.Value()); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) decodeList(path string, n ast.Node, v reflect.Value) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return f.fault(path, "must be a list, not %s; begin each entry with a dash", describe(n))
	}
	if len(seq.Values) > maxList {
		return f.fault(path, "has more than %d entries; remove some", maxList)
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, value := range seq.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		f.lines[at] = lineOf(value)
		item := list.Index(i)
		if err := f.decode(at, value, item); err != nil {
			return err
		}
		if item.Kind() != reflect.String {
			continue
		}
		if item.String() == "" {
			return f.fault(at, "empty; give it a value, or take the entry out")
		}
		for j := range i {
			if list.Index(j).String() == item.String() {
				return f.faultAt(at, path, "%s is given twice; keep one", quote(item.String()))
			}
		}
	}
	v.Set(list)
	return nil
}

func (f *file) decodeDuration(path string, n ast.Node, v reflect.Value) error {
	s, isText := n.(*ast.StringNode)
	var length time.Duration
	var ok bool
	switch {
	case isText:
		length, ok = parseDuration(strings.TrimSpace(s.Value))
	case n.Type() == ast.IntegerType:
		// Zero needs no unit; any other number would leave it to be guessed.
		ok = n.GetToken().Value == "0"
	}
	if !ok {
		return f.fault(path, `must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not %s`, describe(n))
	}
	v.SetInt(int64(length))
	return nil
}

// text returns a text of one line, without the spaces around it.
func (f *file) text(path string, n ast.Node) (string, error) {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	case ast.ScalarNode:
		written := n.GetToken().Value
		return "", f.fault(path, "must be text, not %s; put it in quotes: %s", describe(n), quote(written))
	default:
		return "", f.fault(path, "must be text, not %s", describe(n))
	}
	s = strings.TrimSpace(s)
	switch {
	case utf8.RuneCountInString(s) > maxText:
		return "", f.fault(path, "has more than %d characters; shorten it", maxText)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", f.fault(path, "must be one line without control characters, not %s", quote(s))
	}
	return s, nil
}

// describe names what a node is, in the words of one who writes YAML.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return quote(n.Value)
	case *ast.LiteralNode:
		return quote(n.Value.Value)
	case *ast.BoolNode:
		return strconv.FormatBool(n.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		return "the number " + cut(n.GetToken().Value)
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	return quote(n.GetToken().Value)
}

// lineOf returns the line on which a node begins, from 1.
func lineOf(n ast.Node) int {
	// A list's or mapping's own token may stand behind its first entry.
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0].Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return max(1, t.Position.Line)
	}
	return 1
}

// quote puts quotes around what the file says, cut to what one can read.
func quote(s string) string { return strconv.Quote(cut(s)) }

// cut shortens s to 60 characters.
func cut(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return s
}

// invalidUTF8 returns where data stops being UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// oneOf checks that a value is among those known.
func (f *file) oneOf(path, value string, known []string) error {
	if slices.Contains(known, value) {
		return nil
	}
	return f.fault(path, "unknown value %s; %s", quote(value), instead(value, known, "it can be"))
}
