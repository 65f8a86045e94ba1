package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/keystile/keystile"
)

func scanFormat(t testing.TB) keystile.Format {
	t.Helper()
	f, err := keystile.NewFormat("gw", "live", "environments")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mintForScan(t testing.TB, marker string) string {
	t.Helper()
	token, err := scanFormat(t).Mint(marker)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// scanned is what one scan did.
type scanned struct {
	out, warn string
	found     int
	err       error
}

// scan runs scanPaths, and fails the test if one of the keys shows up in what
// it printed or if it printed another number of lines than it says it found.
func scan(t *testing.T, keys []string, opts scanOptions, paths ...string) scanned {
	t.Helper()
	var out, warn bytes.Buffer
	opts.warn = &warn
	found, err := scanPaths(&out, scanFormat(t), paths, opts)
	for _, key := range keys {
		if strings.Contains(out.String()+warn.String()+fmt.Sprint(err), key) {
			t.Error("a whole key was printed")
		}
	}
	if lines := strings.Count(out.String(), "\n"); lines != found {
		t.Errorf("%d lines for %d keys", lines, found)
	}
	return scanned{out.String(), warn.String(), found, err}
}

func preview(t testing.TB, token string) string {
	t.Helper()
	return scanFormat(t).Preview(token, keystile.PreviewFirst)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestScanText(t *testing.T) {
	key, live := mintForScan(t, ""), mintForScan(t, "live")
	keys := []string{key, live}
	utf16le := func(s string) string {
		b := []byte{0xff, 0xfe}
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return string(b)
	}
	utf16be := func(s string) string {
		b := []byte{0xfe, 0xff}
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.BigEndian.AppendUint16(b, u)
		}
		return string(b)
	}
	tests := []struct {
		name string
		text string
		want []string // line:column and the key, in order
	}{
		{"empty", "", nil},
		{"no key", "the prefix is gw_ and gw_live_ is for live\n", nil},
		{"one", key, []string{"1:1 " + key}},
		{"in an .env file", "A=1\nGW_KEY=" + key + "\nB=2\n", []string{"2:8 " + key}},
		{"two in a line, one below", `["` + key + `", "` + live + "\"]\n\n\t" + key, []string{"1:3 " + key, fmt.Sprintf("1:%d %s", 3+len(key)+4, live), "3:2 " + key}},
		{"carriage returns", "a\r\n" + key + "\r\n", []string{"2:1 " + key}},
		{"binary", "\x7fELF\x00\n\x00" + key + "\x00\xff", []string{"2:2 " + key}},
		{"a preview", preview(t, key), nil},
		{"a typing mistake", key[:10] + "-" + key[11:], nil},
		{"part of a longer word", "x" + key + " " + key + "x", nil},
		{"UTF-16, little end first", utf16le("é\n  " + key + "\n"), []string{"2:3 " + key}},
		{"UTF-16, big end first", utf16be("é\n  " + key + "\n"), []string{"2:3 " + key}},
		{"UTF-8 with a byte order mark", "\ufeff" + key, []string{"1:4 " + key}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			writeFile(t, path, tt.text)
			var want strings.Builder
			for _, w := range tt.want {
				at, token, _ := strings.Cut(w, " ")
				fmt.Fprintf(&want, "%s:%s: %s  (gw)\n", path, at, preview(t, token))
			}
			for _, named := range []string{path, dir} {
				got := scan(t, keys, scanOptions{}, named)
				if got.err != nil || got.out != want.String() || got.warn != "" {
					t.Errorf("%v\ngot\n%swant\n%s%s", got.err, got.out, want.String(), got.warn)
				}
			}
		})
	}
}

// A key must be found, once and at the right place, wherever the end of a
// piece cuts through it, its neighbours or nothing. The longest key needs all
// of the overlap; a short one can lie within it and be seen twice.
func TestScanAcrossPieces(t *testing.T) {
	long, short := mintForScan(t, "environments"), mintForScan(t, "")
	if len(long) != keystile.MaxTokenLen {
		t.Fatalf("the key has %d bytes: it must be of the longest", len(long))
	}
	for _, key := range []string{long, short} {
		for _, tail := range []string{"", "-" + strings.Repeat("y", 100)} {
			t.Run(fmt.Sprintf("%d bytes, %d behind", len(key), len(tail)), func(t *testing.T) {
				for start := scanBufferSize - keystile.MaxTokenLen - 4; start < scanBufferSize+4; start++ {
					look := func(text string) scanned {
						// A reader that gives less than asked for, and its end with the last bytes.
						r := iotest.DataErrReader(iotest.HalfReader(strings.NewReader(text)))
						return scan(t, []string{key}, scanOptions{stdin: r}, "-")
					}
					got := look(strings.Repeat("x", start-10) + "\n........ " + key + tail)
					want := fmt.Sprintf("-:2:10: %s  (gw)\n", preview(t, key))
					if got.err != nil || got.out != want {
						t.Fatalf("key at %d: %v\n%s", start, got.err, got.out)
					}
					// Glued to a word it is no key, even if only another piece shows it.
					if got := look(strings.Repeat("x", start) + key + tail); got.found != 0 {
						t.Fatalf("behind a word, at %d: %s", start, got.out)
					}
					if got := look(strings.Repeat(".", start) + key + "x" + tail); got.found != 0 {
						t.Fatalf("before a word, at %d: %s", start, got.out)
					}
				}
			})
		}
	}
}

func TestScanLinesAcrossManyPieces(t *testing.T) {
	key := mintForScan(t, "")
	// Lines of an odd length, so that pieces end everywhere in them.
	line := strings.Repeat("z", 300) + " " + key + "\n"
	n := 5 * scanBufferSize / len(line)
	got := scan(t, []string{key}, scanOptions{stdin: strings.NewReader(strings.Repeat(line, n))}, "-")
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "-:%d:302: %s  (gw)\n", i+1, preview(t, key))
	}
	if got.err != nil || got.found != n || got.out != want.String() {
		t.Errorf("found %d of %d, %v", got.found, n, got.err)
	}
}

func TestScanJSON(t *testing.T) {
	key := mintForScan(t, "live")
	path := filepath.Join(t.TempDir(), "a \"b\".env")
	writeFile(t, path, "\nK="+key+"\n")
	got := scan(t, []string{key}, scanOptions{json: true, style: keystile.PreviewLast}, path)
	digest := keystile.Digest(key)
	var f map[string]any
	decoder := json.NewDecoder(strings.NewReader(got.out))
	if err := decoder.Decode(&f); err != nil || got.err != nil || decoder.More() {
		t.Fatalf("%v, %v: %s", err, got.err, got.out)
	}
	want := map[string]any{
		"path": path, "line": 2.0, "column": 3.0,
		"preview":     scanFormat(t).Preview(key, keystile.PreviewLast),
		"fingerprint": hex.EncodeToString(digest[:])[:12],
	}
	if fmt.Sprint(f) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", f, want)
	}
	if strings.Contains(got.out, hex.EncodeToString(digest[:7])) {
		t.Error("more of the digest than its beginning")
	}
}

func TestScanDirectory(t *testing.T) {
	key := mintForScan(t, "")
	outside := t.TempDir()
	writeFile(t, filepath.Join(outside, "secret"), key)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "deep", "er", "file"), key)
	writeFile(t, filepath.Join(dir, ".env"), key)
	writeFile(t, filepath.Join(dir, ".git", "config"), key)
	writeFile(t, filepath.Join(dir, "sub", ".git", "config"), key)
	writeFile(t, filepath.Join(dir, "worktree", ".git"), "gitdir: "+key)
	for link, target := range map[string]string{
		"link-to-file": filepath.Join(outside, "secret"), "link-to-directory": outside,
		"link-inside": ".env", "link-to-nothing": "nowhere", "link-to-itself": "link-to-itself", "link-up": "..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	// A socket cannot be opened: it must not even be tried. Its path is short
	// because of the limit of about 100 bytes for such paths.
	t.Chdir(dir)
	socket, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	line := func(path string, column int) string {
		return fmt.Sprintf("%s:1:%d: %s  (gw)\n", path, column, preview(t, key))
	}
	tests := []struct {
		name  string
		paths []string
		want  string
	}{
		{"the working directory", []string{"."}, line(".env", 1) + line("deep/er/file", 1) + line("worktree/.git", 9)},
		{"below it", []string{"deep"}, line("deep/er/file", 1)},
		{"several, in the order given", []string{"deep/er", ".env"}, line("deep/er/file", 1) + line(".env", 1)},
		{".git by name", []string{".git"}, line(".git/config", 1)},
		{"a link to a file by name", []string{"link-to-file"}, line("link-to-file", 1)},
		{"a link to a directory by name", []string{"link-to-directory"}, line("link-to-directory/secret", 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := scan(t, []string{key}, scanOptions{}, tt.paths...)
			if got.err != nil || got.warn != "" || got.out != tt.want {
				t.Errorf("%v\n%sgot\n%swant\n%s", got.err, got.warn, got.out, tt.want)
			}
		})
	}
}

func TestScanSaysWhatItCannotRead(t *testing.T) {
	key := mintForScan(t, "")
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	writeFile(t, good, key)

	t.Run("no path at all", func(t *testing.T) {
		if got := scan(t, nil, scanOptions{}); got.err == nil || got.found != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("no such file, and goes on", func(t *testing.T) {
		got := scan(t, []string{key}, scanOptions{}, filepath.Join(dir, "absent"), good)
		if got.found != 1 || got.err == nil || !strings.Contains(got.err.Error(), "1 of the files") ||
			!strings.Contains(got.warn, "absent: no such file") || strings.Count(got.warn, "\n") != 1 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("the reader fails after a key", func(t *testing.T) {
		broken := errors.New("the disk is on fire")
		got := scan(t, []string{key}, scanOptions{stdin: io.MultiReader(strings.NewReader(key+"\n"), iotest.ErrReader(broken))}, "-")
		if got.found != 1 || got.err == nil || !strings.Contains(got.warn, "the disk is on fire") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("no permission", func(t *testing.T) {
		closed := filepath.Join(dir, "tree", "closed")
		writeFile(t, closed, key)
		writeFile(t, filepath.Join(dir, "tree", "open"), key)
		if err := os.Chmod(closed, 0); err != nil {
			t.Fatal(err)
		}
		got := scan(t, []string{key}, scanOptions{}, filepath.Join(dir, "tree"))
		if os.Geteuid() == 0 { // root may read everything
			if got.found != 2 || got.err != nil {
				t.Errorf("%+v", got)
			}
		} else if got.found != 1 || got.err == nil || !strings.Contains(got.warn, "closed: permission denied") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("nobody takes the result", func(t *testing.T) {
		closed, write := io.Pipe()
		closed.Close()
		if _, err := scanPaths(write, scanFormat(t), []string{good}, scanOptions{warn: io.Discard}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("a key and control characters in names", func(t *testing.T) {
		odd := filepath.Join(dir, "odd", key+".txt", "a\x1b[2Jb\n")
		writeFile(t, odd, key)
		got := scan(t, []string{key}, scanOptions{}, filepath.Join(dir, "odd"), odd+"c")
		if got.found != 1 || strings.ContainsRune(got.out+got.warn, '\x1b') || !strings.Contains(got.out, preview(t, key)) {
			t.Errorf("%+v", got)
		}
	})
}

// git runs git in the working directory, without the configuration of whoever
// runs the tests.
func git(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func repository(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1",
		"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com",
		"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
	} {
		t.Setenv(name, value)
	}
	// Set by git for its hooks, under which these tests may run.
	for _, name := range []string{"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX"} {
		t.Setenv(name, "") // restores it at the end
		os.Unsetenv(name)
	}
	git(t, "init", "--quiet")
}

func TestScanStaged(t *testing.T) {
	old, key := mintForScan(t, ""), mintForScan(t, "live")
	keys := []string{old, key}
	line := func(at string) string { return at + ": " + preview(t, key) + "  (gw)\n" }
	commit := func(t *testing.T) { git(t, "add", "-A"); git(t, "commit", "--quiet", "-m", "before") }
	tests := []struct {
		name  string
		setUp func(t *testing.T)
		paths []string
		want  string
	}{
		{"nothing", func(t *testing.T) {}, nil, ""},
		{"the first commit", func(t *testing.T) {
			writeFile(t, "a", "x\ny "+key+"\n")
			git(t, "add", "-A")
		}, nil, line("a:2:3")},
		{"not staged", func(t *testing.T) {
			writeFile(t, "a", "x\n")
			git(t, "add", "-A")
			writeFile(t, "a", key)
			writeFile(t, "b", key)
		}, nil, ""},
		{"only what is new", func(t *testing.T) {
			writeFile(t, "a", "1\n2\n"+old+"\n3\n4\n")
			commit(t)
			writeFile(t, "a", "1\nnew\n2\n"+old+"\n3\nmore\n-- "+key+"\n4\n")
			git(t, "add", "-A")
		}, nil, line("a:7:4")},
		{"what is taken away does not count", func(t *testing.T) {
			writeFile(t, "a", "1\n"+old+"\n")
			writeFile(t, "b", old)
			commit(t)
			writeFile(t, "a", "1\n")
			git(t, "rm", "--quiet", "b")
			git(t, "add", "-A")
		}, nil, ""},
		{"what moves does not count", func(t *testing.T) {
			writeFile(t, "a", "1\n2\n3\n"+old+"\n")
			commit(t)
			git(t, "mv", "a", "b")
		}, nil, ""},
		{"lines that look like the diff's own", func(t *testing.T) {
			writeFile(t, "a", "-- a/x\n-- x\n")
			commit(t)
			writeFile(t, "a", "++ b/wrong\n@@ -1 +1,0 @@\n++ b/wrong "+key+"\ndiff --git\n"+key)
			git(t, "add", "-A")
		}, nil, line("a:3:12") + line("a:5:1")},
		{"binary files and long lines", func(t *testing.T) {
			writeFile(t, "a", "\x00\x01\n\x00"+key+"\x00")
			writeFile(t, "b", strings.Repeat("x", 3*scanBufferSize)+" "+key)
			git(t, "add", "-A")
		}, nil, line("a:2:2") + line(fmt.Sprintf("b:1:%d", 3*scanBufferSize+2))},
		{"names of every kind", func(t *testing.T) {
			for _, name := range []string{"a b", "c\"d", "é", "f\tg", "b/b/h"} {
				writeFile(t, name, key)
			}
			git(t, "add", "-A")
		}, nil, line("a b:1:1") + line("b/b/h:1:1") + line(`c"d:1:1`) + line(`"f\tg":1:1`) + line("é:1:1")},
		{"some paths", func(t *testing.T) {
			writeFile(t, "a", key)
			writeFile(t, "b/c", key)
			git(t, "add", "-A")
		}, []string{"b"}, line("b/c:1:1")},
		{"from a directory below", func(t *testing.T) {
			writeFile(t, "a", key)
			writeFile(t, "b/c", key)
			git(t, "add", "-A")
			t.Chdir("b")
		}, nil, line("a:1:1") + line("b/c:1:1")},
		{"configurations that change diffs", func(t *testing.T) {
			for name, value := range map[string]string{
				"diff.noprefix": "true", "diff.mnemonicPrefix": "true", "color.ui": "always", "diff.external": "false",
				"diff.context": "5", "diff.interHunkContext": "50", "diff.relative": "true", "diff.renames": "false",
				"diff.wsErrorHighlight": "all", "diff.colorMoved": "zebra", "core.quotePath": "true",
				"diff.shout.textconv": "false", "diff.submodule": "log",
			} {
				git(t, "config", name, value)
			}
			writeFile(t, ".gitattributes", "*.no -diff\n*.conv diff=shout\n")
			writeFile(t, "a", "1\n2\n3\n")
			writeFile(t, "moved", "1\n2\n"+old+"\n3\n")
			commit(t)
			git(t, "mv", "moved", "here")
			writeFile(t, "a", "1\nnew\n2\n3\n"+key+"\n")
			writeFile(t, "b/b", key)
			writeFile(t, "é/x.no", key)
			writeFile(t, "y.conv", key)
			git(t, "add", "-A")
			t.Chdir("b")
		}, nil, line("a:5:1") + line("b/b:1:1") + line("y.conv:1:1") + line("é/x.no:1:1")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			repository(t)
			tt.setUp(t)
			got := scan(t, keys, scanOptions{staged: true}, tt.paths...)
			if got.err != nil || got.warn != "" || got.out != tt.want {
				t.Errorf("%v\n%sgot\n%swant\n%s", got.err, got.warn, got.out, tt.want)
			}
		})
	}
	t.Run("outside of a repository", func(t *testing.T) {
		repository(t)
		if err := os.RemoveAll(".git"); err != nil {
			t.Fatal(err)
		}
		got := scan(t, nil, scanOptions{staged: true})
		if got.err == nil || !strings.Contains(got.err.Error(), "not a git repository") || strings.Contains(got.err.Error(), "\n") {
			t.Errorf("%v", got.err)
		}
	})
	t.Run("without git", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		got := scan(t, nil, scanOptions{staged: true})
		if got.err == nil || !strings.Contains(got.err.Error(), "git") {
			t.Errorf("%v", got.err)
		}
	})
	t.Run("nobody takes the result", func(t *testing.T) {
		repository(t)
		writeFile(t, "a", strings.Repeat(key+"\n", 100_000))
		git(t, "add", "-A")
		closed, write := io.Pipe()
		closed.Close()
		if _, err := scanPaths(write, scanFormat(t), nil, scanOptions{staged: true, warn: io.Discard}); err == nil {
			t.Error("no error")
		}
	})
}

func BenchmarkScan(b *testing.B) {
	text := strings.Repeat("The gateway reads gw_url and its key from the environment.\n", 1<<16)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		found, err := scanPaths(io.Discard, scanFormat(b), []string{"-"}, scanOptions{stdin: strings.NewReader(text), warn: io.Discard})
		if found != 0 || err != nil {
			b.Fatal(found, err)
		}
	}
}

// Webhook secrets have no checksum: they are known by their form and length.
func TestScanWebhookSecrets(t *testing.T) {
	_, secret := keystile.NewWebhookSecret()
	shortest := "whsec_" + strings.Repeat("aB3/", 8)
	longest := "whsec_" + strings.Repeat("aB3+", 21) + "aA=="
	key := mintForScan(t, "")
	for name, c := range map[string]struct {
		text string
		want []string // line:column of each
	}{
		"in a file":      {"A=1\nHOOK=" + secret + "\n", []string{"2:6"}},
		"quoted":         {`{"a": "` + shortest + `", "b": "` + longest + `"}`, []string{"1:8", fmt.Sprintf("1:%d", 8+len(shortest)+9)}},
		"beside a key":   {secret + " " + key + "\n" + secret, []string{"1:1", fmt.Sprintf("1:%d", len(secret)+2), "2:1"}},
		"too short":      {shortest[:len(shortest)-4], nil},
		"too long":       {longest[:len(longest)-4] + "aB3+aB3+", nil},
		"the bare form":  {"whsec_ and whsec_… and WHSEC_" + secret[6:], nil},
		"part of a word": {"x" + secret + " my_" + secret, nil},
		"a preview":      {keystile.PreviewWebhookSecret(secret, keystile.PreviewLast), nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			writeFile(t, path, c.text)
			got := scan(t, []string{secret, shortest, longest, key}, scanOptions{}, path)
			var at []string
			for line := range strings.Lines(got.out) {
				fields := strings.Split(strings.TrimPrefix(line, path+":"), ": ")
				at = append(at, fields[0])
			}
			if fmt.Sprint(at) != fmt.Sprint(c.want) || got.err != nil {
				t.Errorf("found at %v, want %v: %v", at, c.want, got.err)
			}
		})
	}
	t.Run("wherever a piece ends", func(t *testing.T) {
		for _, s := range []string{secret, shortest, longest} {
			for shift := range len(s) + 3 {
				text := strings.Repeat(".", scanBufferSize-len(s)-1+shift) + s + "."
				var warn bytes.Buffer
				var out bytes.Buffer
				n, err := scanPaths(&out, scanFormat(t), []string{"-"}, scanOptions{stdin: strings.NewReader(text), warn: &warn})
				if n != 1 || err != nil || !strings.Contains(out.String(), fmt.Sprintf(":1:%d:", scanBufferSize-len(s)+shift)) {
					t.Fatalf("shifted by %d: %d found, %v", shift, n, err)
				}
			}
		}
	})
}
