package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	textunicode "golang.org/x/text/encoding/unicode"

	"github.com/keystile/keystile"
)

type scanCmd struct {
	Config string   `help:"Profile of the product, for its prefix. Without it a built-in one." env:"KEYSTILE_CONFIG" placeholder:"FILE"`
	Staged bool     `help:"Look at the lines that the next git commit adds, as a pre-commit hook does; paths narrow them down."`
	Paths  []string `arg:"" optional:"" name:"path" help:"Files and directories to look into; - is standard input."`
}

func (c *scanCmd) Help() string {
	return `Finds keys of this product by their prefix and checksum, and webhook secrets of
any product (whsec_…) by their form, without a network.
Directories are searched to their depths, except for .git and without following
symbolic links. Neither is ever printed whole; the fingerprint in --json is the
beginning of its SHA-256.

The exit status is 1 if there were any, 0 if there were none, and 2 if there were
none but not everything could be read.

As a pre-commit hook: keystile scan --staged`
}

type scanOptions struct {
	staged bool                  // look at what is staged in git; paths narrow it down
	json   bool                  // one JSON object a finding instead of a line of text
	style  keystile.PreviewStyle // what to show of a key: as the lists of the product do
	stdin  io.Reader             // what the path "-" means
	warn   io.Writer             // gets a line for each file that cannot be read
}

// finding is a key in a file, as --json prints it. It must not hold the key,
// nor all of its digest: who has that can try texts against it offline.
type finding struct {
	Path        string `json:"path"`
	Line        int    `json:"line"`   // from 1
	Column      int64  `json:"column"` // from 1, in bytes
	Preview     string `json:"preview"`
	Fingerprint string `json:"fingerprint"` // first 12 hexadecimal digits of the digest
}

// scanPaths writes where keys of the format occur to w, and returns how many
// it found. The error says that it could not look everywhere; what it found
// until then counts all the same.
func scanPaths(w io.Writer, f keystile.Format, paths []string, opts scanOptions) (found int, err error) {
	s := &scanner{format: f, out: w, opts: opts, buf: make([]byte, scanBufferSize)}
	if opts.staged {
		err = s.scanStaged(paths)
		return s.found, err
	}
	if len(paths) == 0 {
		return 0, errors.New("nothing to look into: name files or directories, - for standard input, or --staged")
	}
	for _, path := range paths {
		if err := s.scanPath(path); err != nil {
			return s.found, err
		}
	}
	if s.unread > 0 {
		return s.found, fmt.Errorf("%d of the files or directories could not be read, so keys in them were missed", s.unread)
	}
	return s.found, nil
}

// A file is read in pieces of this size, so that its own size does not matter.
const scanBufferSize = 256 << 10

// scanner is one run of scanPaths. Its methods return an error when there is
// no point in going on; a file that cannot be read is not such a case.
type scanner struct {
	format keystile.Format
	out    io.Writer
	opts   scanOptions
	buf    []byte
	found  int
	unread int
}

func (s *scanner) scanPath(path string) error {
	if path == "-" {
		return s.scanStream(path, s.opts.stdin)
	}
	info, err := os.Stat(path) // a link that someone names is meant to be followed
	if err != nil {
		s.skip(path, err)
		return nil
	}
	if info.IsDir() {
		return s.scanDirectory(path)
	}
	file, err := os.Open(path)
	return s.scanFile(path, file, err)
}

// scanDirectory reads through an os.Root, so that no link leads out even if
// someone puts it there meanwhile. Links that stay inside lead to files that
// are found anyway; pipes, sockets and devices are left alone.
func (s *scanner) scanDirectory(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		s.skip(path, err)
		return nil
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		full := filepath.Join(path, filepath.FromSlash(name))
		switch {
		case err != nil:
			s.skip(full, err)
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case entry.Type().IsRegular():
			file, err := root.Open(filepath.FromSlash(name))
			return s.scanFile(full, file, err)
		}
		return nil
	})
}

// scanFile takes what opening the file returned.
func (s *scanner) scanFile(path string, file *os.File, err error) error {
	if err != nil {
		s.skip(path, err)
		return nil
	}
	defer file.Close()
	return s.scanStream(path, file)
}

func (s *scanner) scanStream(path string, r io.Reader) error {
	// Windows PowerShell writes UTF-16 when output is sent to a file.
	head := bufio.NewReader(r)
	r = head
	if mark, _ := head.Peek(2); string(mark) == "\xff\xfe" || string(mark) == "\xfe\xff" {
		r = textunicode.UTF16(textunicode.LittleEndian, textunicode.UseBOM).NewDecoder().Reader(head)
	}

	// The last bytes of a piece are looked at again with the next one: the
	// longest secret that ends with the piece and the byte before it, since only
	// the bytes beside one tell that it ends there.
	const overlap = max(keystile.MaxTokenLen, maxWebhookSecretLen) + 1
	at := position{line: 1}
	for base, kept := int64(0), 0; ; {
		n, err := io.ReadFull(r, s.buf[kept:])
		text := s.buf[:kept+n]
		last := err != nil
		for _, key := range s.find(text) {
			start, end := base+int64(key[0]), base+int64(key[1])
			unsure := key[0] == 0 && base > 0 || key[1] == len(text) && !last
			if unsure || start < at.offset {
				continue // comes again with the next piece, or came with the one before
			}
			at.advance(text[at.offset-base : key[0]])
			if err := s.report(path, at.line, start-at.lineStart+1, string(text[key[0]:key[1]])); err != nil {
				return err
			}
			at.offset = end // a key has no line break
		}
		if last {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				s.skip(path, err)
			}
			return nil
		}
		next := base + int64(len(text)-overlap)
		if at.offset < next {
			at.advance(text[at.offset-base : next-base])
		}
		base, kept = next, copy(s.buf, text[len(text)-overlap:])
	}
}

// maxWebhookSecretLen is the longest text of a webhook secret: whsec_ and the
// base64 of 64 bytes.
const maxWebhookSecretLen = len("whsec_") + 88

// webhookSecretForm is what a webhook secret looks like. It has no checksum, so
// its length in bytes is all there is to check beside that.
var webhookSecretForm = regexp.MustCompile(`whsec_[A-Za-z0-9+/]+={0,2}`) //nolint:gochecknoglobals // a constant

// find returns where keys of the product and webhook secrets occur in a text, in
// order. Like a key, a webhook secret stands alone.
func (s *scanner) find(text []byte) [][2]int {
	found := s.format.Find(text)
	if !bytes.Contains(text, []byte("whsec_")) {
		return found
	}
	for _, at := range webhookSecretForm.FindAllIndex(text, -1) {
		joined := func(i int) bool { return i >= 0 && i < len(text) && (text[i] == '_' || isAlphanumeric(text[i])) }
		if joined(at[0]-1) || joined(at[1]) {
			continue
		}
		if _, err := keystile.ParseWebhookSecret(string(text[at[0]:at[1]])); err == nil {
			found = append(found, [2]int{at[0], at[1]})
		}
	}
	slices.SortFunc(found, func(a, b [2]int) int { return a[0] - b[0] })
	return found
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// preview is what may be shown of what was found, and what it begins with.
func (s *scanner) preview(token string) (preview, prefix string) {
	if strings.HasPrefix(token, "whsec_") {
		return keystile.PreviewWebhookSecret(token, s.opts.style), "whsec"
	}
	return s.format.Preview(token, s.opts.style), s.format.Prefix()
}

// position counts lines in a stream.
type position struct {
	offset    int64 // of the byte that comes next
	lineStart int64 // offset of the first byte of its line
	line      int
}

func (p *position) advance(text []byte) {
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		p.line += bytes.Count(text, []byte{'\n'})
		p.lineStart = p.offset + int64(i) + 1
	}
	p.offset += int64(len(text))
}

// scanStaged looks at the lines that the next commit adds. Keys that were
// committed before do not stop other changes to the same file.
func (s *scanner) scanStaged(paths []string) error {
	// Outside of a repository, git diff explains all of its options instead.
	if out, err := exec.Command("git", "rev-parse", "--git-dir").CombinedOutput(); err != nil {
		return gitError(out, err)
	}
	// The options undo whatever the user's configuration says about diffs.
	args := []string{
		"-c", "diff.relative=false", "diff", "--cached",
		"--unified=0", "--inter-hunk-context=0", "--text", "--no-color", "--no-ext-diff", "--no-textconv",
		"--find-renames", "--ignore-submodules", "--src-prefix=a/", "--dst-prefix=b/", "--",
	}
	git := exec.Command("git", append(args, paths...)...)
	var complaint bytes.Buffer
	git.Stderr = &complaint
	diff, err := git.StdoutPipe()
	if err != nil {
		return err
	}
	if err := git.Start(); err != nil {
		return gitError(nil, err)
	}
	scanErr := s.scanDiff(diff)
	diff.Close() // ends git when scanDiff has not read to the end
	if err := git.Wait(); err != nil && scanErr == nil {
		return gitError(complaint.Bytes(), err)
	}
	return scanErr
}

func gitError(output []byte, err error) error {
	line, _, _ := strings.Cut(string(output), "\n")
	if errors.Is(err, exec.ErrNotFound) || line == "" {
		line = err.Error()
	}
	return fmt.Errorf("git cannot say what is staged: %s", line)
}

// scanDiff reads a diff without context lines. A header says how many added
// lines follow, so no text in a file can pass for the diff's own.
func (s *scanner) scanDiff(r io.Reader) error {
	lines := bufio.NewReaderSize(r, scanBufferSize)
	var path string
	var added, number int
	for {
		line, err := lines.ReadBytes('\n')
		switch {
		case added > 0 && len(line) > 0 && line[0] == '+':
			for _, key := range s.find(line[1:]) {
				if err := s.report(path, number, int64(key[0])+1, string(line[1+key[0]:1+key[1]])); err != nil {
					return err
				}
			}
			added--
			number++
		case bytes.HasPrefix(line, []byte("+++ ")):
			path = diffPath(string(line[len("+++ "):]))
		case bytes.HasPrefix(line, []byte("@@ ")):
			if number, added, err = hunkRange(string(line)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the diff from git: %w", err)
		}
	}
}

// hunkRange reads "@@ -12,0 +13,2 @@": 2 lines from line 13 on are new. Without
// a comma it is one line.
func hunkRange(header string) (first, count int, err error) {
	fields := strings.Fields(header)
	if len(fields) < 3 {
		return 0, 0, errors.New("git printed a diff that cannot be read: " + strings.TrimSpace(header))
	}
	start, length, ok := strings.Cut(fields[2], ",")
	if !ok {
		length = "1"
	}
	first, firstErr := strconv.Atoi(start) // takes the plus sign
	count, countErr := strconv.Atoi(length)
	return first, count, errors.Join(firstErr, countErr)
}

// diffPath reads the name behind "+++ ": quoted like a C string when it holds
// control characters or quotes, followed by a tab when it holds spaces.
func diffPath(s string) string {
	s = strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\t")
	if name, err := strconv.Unquote(s); err == nil {
		s = name
	}
	return strings.TrimPrefix(s, "b/")
}

func (s *scanner) report(path string, line int, column int64, token string) error {
	s.found++
	digest := keystile.Digest(token)
	preview, prefix := s.preview(token)
	f := finding{
		Path: s.masked(path), Line: line, Column: column,
		Preview: preview, Fingerprint: hex.EncodeToString(digest[:6]),
	}
	var err error
	if s.opts.json {
		err = json.NewEncoder(s.out).Encode(f)
	} else {
		_, err = fmt.Fprintf(s.out, "%s:%d:%d: %s  (%s)\n", printable(f.Path), f.Line, f.Column, f.Preview, prefix)
	}
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// skip says that path, or the rest of it, could not be read.
func (s *scanner) skip(path string, err error) {
	s.unread++
	// The error's own path is missing its directory or says the same again.
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	fmt.Fprintf(s.opts.warn, "keystile scan: cannot read %s: %v\n", printable(s.masked(path)), err)
}

// masked hides keys in the name of a file.
func (s *scanner) masked(path string) string {
	for _, key := range slices.Backward(s.find([]byte(path))) {
		preview, _ := s.preview(path[key[0]:key[1]])
		path = path[:key[0]] + preview + path[key[1]:]
	}
	return path
}

// printable keeps names of files from moving the terminal's cursor.
func printable(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(path)
	}
	return path
}

func (c *scanCmd) Run(app *app) error {
	product, err := app.profile()
	if err != nil {
		return usage(err)
	}
	found, err := scanPaths(app.stdout, product.Format(), c.Paths, scanOptions{
		staged: c.Staged, json: app.json, style: product.Preview, stdin: app.stdin, warn: app.stderr,
	})
	if found > 0 {
		return exitError{exitFailed, err}
	}
	return usage(err)
}
