package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

type keysImportCmd struct {
	clientFlags
	workspaceFlag
	File string `help:"CSV or JSON lines; - is standard input." required:"" placeholder:"FILE"`
}

// Help is the long help of the verb.
func (c *keysImportCmd) Help() string {
	return `Each line names one key by the unsalted SHA-256 of its secret, in hexadecimal,
and says about it what 'keystile keys create' would. CSV begins with a line of
headings:

  sha256,name,description,role,permissions,environment,expires_at,ip_allowlist,owner

sha256 and name must be there; the others may be left out or empty, and a
heading metadata.NAME adds that entry. Permissions and addresses have spaces
between them; expires_at is RFC 3339. JSON lines have the fields of the API.

Lines that are refused are told on standard error, and the others go on. The
exit status is 1 if there were any. Importing the same file again is safe: what
is there already is refused.`
}

// imported is what --json prints.
type imported struct {
	Keys   []keystile.Key `json:"data"`
	Failed []failedLine   `json:"failed"`
}

type failedLine struct {
	Line   int    `json:"line"` // from 1
	Detail string `json:"detail"`
}

// Run imports line by line.
func (c *keysImportCmd) Run(ctx context.Context, a *app) error {
	in := a.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return usage(fmt.Errorf("cannot read --file: %w", err))
		}
		defer f.Close()
		in = f
	}
	lines, err := importLines(in)
	if err != nil {
		return usage(fmt.Errorf("--file %s: %w", c.File, err))
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	workspace, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	result := imported{Keys: []keystile.Key{}, Failed: []failedLine{}}
	var stopped error
	for line := range lines {
		err := line.err
		if err == nil {
			var made keystile.CreatedKey
			if made, err = client.CreateKey(ctx, workspace, line.key); err == nil {
				result.Keys = append(result.Keys, made.Key)
				continue
			}
		}
		if fatalToImport(line.err, err) {
			fmt.Fprintf(a.stderr, "keystile: stopped at line %d, since the others would fare no better\n", line.number)
			stopped = err
			break
		}
		what := lineDetail(err)
		result.Failed = append(result.Failed, failedLine{line.number, what})
		fmt.Fprintf(a.stderr, "keystile: line %d: %s\n", line.number, what)
	}
	if a.json {
		err = printJSON(a.stdout, result)
	} else {
		_, err = fmt.Fprintf(a.stdout, "%d imported, %d refused.\n", len(result.Keys), len(result.Failed))
	}
	switch {
	case stopped != nil:
		return stopped
	case err != nil:
		return err
	case len(result.Failed) > 0:
		return exitError{code: exitFailed}
	}
	return nil
}

// fatalToImport tells what would be refused for every further line as well.
func fatalToImport(ofLine, err error) bool {
	if ofLine != nil {
		return false
	}
	p, ok := errors.AsType[*keystile.Error](err)
	return !ok || p.Status == 401 || p.Status >= 500 ||
		slices.Contains([]keystile.Code{keystile.CodeInsufficientPermission, keystile.CodeNotFound, keystile.CodeUnknownRoute}, p.Code)
}

// lineDetail is what was wrong with a line, on one line.
func lineDetail(err error) string {
	if p, ok := errors.AsType[*keystile.Error](err); ok {
		return detail(p)
	}
	return oneLine(err)
}

// importLine is one key to import, or why the line cannot be read.
type importLine struct {
	number int // from 1
	key    keystile.CreateKey
	err    error
}

// importLines tells the two forms apart by their first character.
func importLines(in io.Reader) (iter.Seq[importLine], error) {
	r := bufio.NewReader(in)
	if mark, _ := r.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) { // spreadsheets write it
		_, _ = r.Discard(3)
	}
	first, err := r.Peek(1)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("is empty: it must have a line for each key")
	case err != nil:
		return nil, err
	case first[0] == '{':
		return jsonLines(r), nil
	}
	return csvLines(r)
}

// maxLine is the most bytes of a line of JSON: far more than the fields of a
// key can hold.
const maxLine = 1 << 20

func jsonLines(in io.Reader) iter.Seq[importLine] {
	return func(yield func(importLine) bool) {
		s := bufio.NewScanner(in)
		s.Buffer(nil, maxLine)
		number := 0
		for s.Scan() {
			number++
			if len(bytes.TrimSpace(s.Bytes())) == 0 {
				continue
			}
			line := importLine{number: number}
			d := json.NewDecoder(bytes.NewReader(s.Bytes()))
			d.DisallowUnknownFields()
			if err := d.Decode(&line.key); err != nil {
				line.err = errors.New("is not one JSON object with the fields of a key: " + strings.TrimPrefix(err.Error(), "json: "))
			} else if _, err := d.Token(); !errors.Is(err, io.EOF) {
				line.err = errors.New("holds more than one JSON object")
			} else {
				line.err = checkImport(line.key)
			}
			if !yield(line) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(importLine{number: number + 1, err: err})
		}
	}
}

// checkImport refuses a line without a hash: the server would make a new key,
// whose secret nobody sees.
func checkImport(k keystile.CreateKey) error {
	if k.SHA256 == "" {
		return errors.New("has no sha256")
	}
	return nil
}

func csvLines(in io.Reader) (iter.Seq[importLine], error) {
	r := csv.NewReader(in)
	headings, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("the first line must have the headings of the columns: %w", err)
	}
	for i := range headings {
		headings[i] = strings.TrimSpace(headings[i])
		if slices.Contains(headings[:i], headings[i]) {
			return nil, fmt.Errorf("two columns are called %q", headings[i])
		}
		if err := setColumn(&keystile.CreateKey{}, headings[i], ""); err != nil {
			return nil, err
		}
	}
	for _, needed := range []string{"sha256", "name"} {
		if !slices.Contains(headings, needed) {
			return nil, fmt.Errorf("the first line must have the headings of the columns, and there is no %s: see keystile keys import --help", needed)
		}
	}
	return func(yield func(importLine) bool) {
		for {
			cells, err := r.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			line := importLine{err: err}
			switch broken, ok := errors.AsType[*csv.ParseError](err); {
			case ok:
				line.number, line.err = broken.StartLine, broken.Err
			case err == nil:
				line.number, _ = r.FieldPos(0)
				line.key, line.err = csvKey(headings, cells)
			}
			if !yield(line) || line.number == 0 { // 0: reading itself failed
				return
			}
		}
	}, nil
}

func csvKey(headings, cells []string) (k keystile.CreateKey, err error) {
	for i, cell := range cells {
		if err := setColumn(&k, headings[i], strings.TrimSpace(cell)); err != nil {
			return k, err
		}
	}
	return k, checkImport(k)
}

// setColumn puts a cell where its heading says. An empty one changes nothing.
func setColumn(k *keystile.CreateKey, heading, cell string) error {
	switch heading {
	case "sha256":
		k.SHA256 = cell
	case "name":
		k.Name = cell
	case "description":
		k.Description = cell
	case "role":
		k.Role = cell
	case "permissions":
		k.Permissions = strings.Fields(cell)
	case "environment":
		k.Environment = cell
	case "ip_allowlist":
		k.IPAllowlist = strings.Fields(cell)
	case "owner":
		k.Owner = cell
	case "expires_at":
		if cell == "" {
			return nil
		}
		at, err := time.Parse(time.RFC3339, cell)
		if err != nil {
			return errors.New("expires_at is no time such as 2027-01-31T12:00:00Z")
		}
		k.ExpiresAt = &at
	default:
		name, ok := strings.CutPrefix(heading, "metadata.")
		if !ok || name == "" {
			return fmt.Errorf("%q is no heading that is known here; put commas between headings, and see keystile keys import --help", heading)
		}
		if cell == "" {
			return nil
		}
		if k.Metadata == nil {
			k.Metadata = map[string]string{}
		}
		k.Metadata[name] = cell
	}
	return nil
}
