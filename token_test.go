package keystile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tokenVectors is testdata/tokens.json. It was made once by a program in
// another language, so it is also an opinion of its own about the format. It
// is never made anew: the format is forever.
type tokenVectors struct {
	Good []struct {
		Name         string   `json:"name"`
		Prefix       string   `json:"prefix"`
		Markers      []string `json:"markers"`
		Marker       string   `json:"marker"`
		RandomHex    string   `json:"random_hex"`
		CRC32Hex     string   `json:"crc32_hex"`
		Token        string   `json:"token"`
		Length       int      `json:"length"`
		SHA256Hex    string   `json:"sha256_hex"`
		PreviewFirst string   `json:"preview_first"`
		PreviewLast  string   `json:"preview_last"`
	} `json:"good"`
	Bad []struct {
		Name    string   `json:"name"`
		Prefix  string   `json:"prefix"`
		Markers []string `json:"markers"`
		Text    string   `json:"text"`
		Hint    Hint     `json:"hint"`
	} `json:"bad"`
}

func readTokenVectors(t testing.TB) tokenVectors {
	t.Helper()
	data, err := os.ReadFile("testdata/tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var v tokenVectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Good) < 10 || len(v.Bad) < 50 {
		t.Fatalf("testdata/tokens.json holds %d good and %d bad tokens: some are missing", len(v.Good), len(v.Bad))
	}
	return v
}

func mustFormat(t testing.TB, prefix string, markers ...string) Format {
	t.Helper()
	f, err := NewFormat(prefix, markers...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustMint(t testing.TB, f Format, marker string) string {
	t.Helper()
	token, err := f.Mint(marker)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func allHints() []Hint {
	return []Hint{HintTruncated, HintWhitespace, HintMaskedPreview, HintKeyID, HintChecksum, HintPrefix, HintScheme}
}

func TestTokenVectorsGood(t *testing.T) {
	for _, v := range readTokenVectors(t).Good {
		t.Run(v.Name, func(t *testing.T) {
			f := mustFormat(t, v.Prefix, v.Markers...)
			random, err := hex.DecodeString(v.RandomHex)
			if err != nil || len(random) != randomSize {
				t.Fatalf("random_hex: %d bytes, %v", len(random), err)
			}
			if got := f.encode(v.Marker, [randomSize]byte(random)); got != v.Token {
				t.Errorf("bytes to token: got %s, want %s", got, v.Token)
			}
			if hint, ok := f.Check(v.Token); !ok || hint != "" {
				t.Errorf("Check: %q, %v", hint, ok)
			}
			if got := hex.EncodeToString(tokenRandom(v.Token)); got != v.RandomHex {
				t.Errorf("token to bytes: got %s, want %s", got, v.RandomHex)
			}
			if got := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(v.Token[:len(v.Token)-sumLen]))); got != v.CRC32Hex {
				t.Errorf("CRC-32: got %s, want %s", got, v.CRC32Hex)
			}
			if digest := Digest(v.Token); hex.EncodeToString(digest[:]) != v.SHA256Hex {
				t.Errorf("Digest: got %x, want %s", digest, v.SHA256Hex)
			}
			if len(v.Token) != v.Length {
				t.Errorf("length: got %d, want %d", len(v.Token), v.Length)
			}
			if got := f.Marker(v.Token); got != v.Marker {
				t.Errorf("Marker: got %q, want %q", got, v.Marker)
			}
			if got := f.Prefix(); got != v.Prefix {
				t.Errorf("Prefix: got %q, want %q", got, v.Prefix)
			}
			if got := f.Preview(v.Token, PreviewFirst); got != v.PreviewFirst {
				t.Errorf("Preview first: got %q, want %q", got, v.PreviewFirst)
			}
			if got := f.Preview(v.Token, PreviewLast); got != v.PreviewLast {
				t.Errorf("Preview last: got %q, want %q", got, v.PreviewLast)
			}
		})
	}
}

// VX6, VZ5, IP12: what is told apart before any lookup.
func TestTokenVectorsBad(t *testing.T) {
	seen := map[Hint]int{}
	for _, v := range readTokenVectors(t).Bad {
		seen[v.Hint]++
		t.Run(v.Name, func(t *testing.T) {
			hint, ok := mustFormat(t, v.Prefix, v.Markers...).Check(v.Text)
			if ok || hint != v.Hint {
				t.Errorf("%q: got %q, %v, want hint %q", v.Text, hint, ok, v.Hint)
			}
		})
	}
	for _, h := range allHints() {
		if seen[h] == 0 {
			t.Errorf("no vector has the hint %q", h)
		}
	}
}

// The specification's example is copied by people who write the format in
// other languages, so it must be one of the vectors.
func TestTokenSpecificationExample(t *testing.T) {
	spec, err := os.ReadFile("docs/spec/token.md")
	if err != nil {
		t.Fatal(err)
	}
	v := readTokenVectors(t).Good[1]
	for _, want := range []string{v.Token, v.RandomHex, v.CRC32Hex, v.SHA256Hex, v.PreviewFirst, v.PreviewLast} {
		if !strings.Contains(string(spec), want) {
			t.Errorf("docs/spec/token.md lacks %q of the vector %q", want, v.Name)
		}
	}
	for _, h := range allHints() {
		if !strings.Contains(string(spec), "`"+string(h)+"`") {
			t.Errorf("docs/spec/token.md lacks the hint %q", h)
		}
	}
}

func TestNewFormatRefuses(t *testing.T) {
	tests := []struct {
		name    string
		prefix  string
		markers []string
		want    string // part of the error
	}{
		{"no prefix", "", nil, "letter a-z"},
		{"a digit first", "1gw", nil, "letter a-z"},
		{"a capital", "Gw", nil, "letter a-z"},
		{"an underscore", "gw_", nil, "letter a-z"},
		{"a letter outside of ASCII", "gwé", nil, "letter a-z"},
		{"an id prefix", "key", nil, "reserved"},
		{"a secret's prefix", "whsec", nil, "reserved"},
		{"16 letters", "sixteenletters12", nil, "shorten it by 1"},
		{"an empty marker", "gw", []string{""}, "letter a-z"},
		{"a marker with an underscore", "gw", []string{"live_eu"}, "letter a-z"},
		{"a marker with a capital", "gw", []string{"live", "Test"}, "letter a-z"},
		{"a marker twice", "gw", []string{"live", "test", "live"}, "twice"},
		{"15 letters in all", "acme", []string{"live", "productions"}, "shorten them by 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := NewFormat(tt.prefix, tt.markers...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got error %v, want one with %q", err, tt.want)
			}
			if f.Prefix() != "" {
				t.Errorf("a format came with the error: %q", f.Prefix())
			}
		})
	}
}

func TestNewFormatReservesIDPrefixes(t *testing.T) {
	for _, p := range []string{"key", "ws", "whsec", "role", "mem", "per", "evt", "aud", "whs", "ep", "dlv", "node", "al"} {
		if _, err := NewFormat(p); err == nil {
			t.Errorf("prefix %q was accepted", p)
		}
	}
	for _, p := range []string{"gw", "vx", "voqo", "keys", "a", "x9"} {
		if _, err := NewFormat(p, "production"); err != nil {
			t.Errorf("prefix %q: %v", p, err)
		}
	}
}

func TestMintRefusesUnknownMarker(t *testing.T) {
	f := mustFormat(t, "gw", "live")
	if token, err := f.Mint("test"); err == nil || token != "" {
		t.Errorf("got %d bytes, error %v", len(token), err)
	}
	if token, err := (Format{}).Mint(""); err == nil || token != "" {
		t.Errorf("empty format: got %d bytes, error %v", len(token), err)
	}
}

func TestMintNeverRepeats(t *testing.T) {
	f := mustFormat(t, "gw")
	seen := map[string]bool{}
	for range 10_000 {
		seen[mustMint(t, f, "")] = true
	}
	if len(seen) != 10_000 {
		t.Errorf("10000 mints made %d keys", len(seen))
	}
}

func TestEmptyFormatKnowsNoKeys(t *testing.T) {
	var f Format
	for _, text := range []string{"", "_", "gw_x", "_" + mustMint(t, mustFormat(t, "gw"), "")[3:]} {
		if hint, ok := f.Check(text); ok || hint != HintPrefix {
			t.Errorf("%q: %q, %v", text, hint, ok)
		}
		if found := f.Find([]byte(text)); found != nil {
			t.Errorf("%q: found %v", text, found)
		}
	}
}

// A key in the wrong place must not be shown by the functions that take a
// well-formed one.
func TestPreviewOfAnotherText(t *testing.T) {
	f := mustFormat(t, "gw", "live")
	other := mustMint(t, mustFormat(t, "vx"), "")
	for _, text := range []string{"", "x", "gw_", other, "gw_test_" + other[3:]} {
		for _, style := range []PreviewStyle{PreviewFirst, PreviewLast, ""} {
			if got := f.Preview(text, style); got != "gw_••••••••" {
				t.Errorf("%q, %q: %q", text, style, got)
			}
		}
		if got := f.Marker(text); got != "" {
			t.Errorf("Marker(%q) = %q", text, got)
		}
	}
}

func TestFind(t *testing.T) {
	f := mustFormat(t, "gw", "live")
	a, b := mustMint(t, f, ""), mustMint(t, f, "live")
	broken := a[:20] + "-" + a[21:]
	typo := a[:20] + strings.Map(func(c rune) rune { return rune(alphabet[(strings.IndexRune(alphabet, c)+1)%62]) }, a[20:21]) + a[21:]
	tests := []struct {
		name string
		text string
		want []string
	}{
		{"nothing", "", nil},
		{"alone", a, []string{a}},
		{"in a line", "key=" + a + "\n", []string{a}},
		{"in quotes, twice", `{"a":"` + a + `","b":"` + b + `"}`, []string{a, b}},
		{"beside bytes that are no text", "\x00" + a + "\xff", []string{a}},
		{"beside letters outside of ASCII", "é" + a + "é", []string{a}},
		{"with a hyphen at either side", "-" + a + "-", []string{a}},
		{"after a prefix that leads nowhere", "gw_ gw_ " + a, []string{a}},
		{"glued to a word before", "x" + a, nil},
		{"glued to a word behind", a + "x", nil},
		{"glued with underscores", "_" + a + " " + a + "_", nil},
		{"glued to itself", a + a, nil},
		{"broken", broken, nil},
		{"with a typing mistake", typo, nil},
		{"broken, then whole", broken + " " + b, []string{b}},
		{"of another product", mustMint(t, mustFormat(t, "vx"), ""), nil},
		{"a marker that is not ours", mustMint(t, mustFormat(t, "gw", "prod"), "prod"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, at := range f.Find([]byte(tt.text)) {
				got = append(got, tt.text[at[0]:at[1]])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("found %d, want %d: %v", len(got), len(tt.want), f.Find([]byte(tt.text)))
			}
		})
	}
}

// A text of prefixes alone is the worst for a search: each could begin a key.
// In quadratic time this would take hours.
func TestFindTakesLinearTime(t *testing.T) {
	f := mustFormat(t, "a")
	for _, unit := range []string{"a_", "a_ ", "a_a", "a"} {
		text := bytes.Repeat([]byte(unit), 8<<20/len(unit))
		if found := f.Find(text); found != nil {
			t.Errorf("%q: found %d keys", unit, len(found))
		}
	}
}

func TestCheckAndDigestAllocateNothing(t *testing.T) {
	v := readTokenVectors(t)
	run := func(name string, f func()) {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	for _, g := range v.Good {
		f := mustFormat(t, g.Prefix, g.Markers...)
		run("Check "+g.Name, func() { f.Check(g.Token) })
		run("Marker "+g.Name, func() { f.Marker(g.Token) })
		run("Digest "+g.Name, func() { Digest(g.Token) })
	}
	for _, b := range v.Bad {
		f := mustFormat(t, b.Prefix, b.Markers...)
		run("Check "+b.Name, func() { f.Check(b.Text) })
		run("Digest "+b.Name, func() { Digest(b.Text) })
	}
}

// anyFormat draws a format, and a key of it with its marker.
func anyFormat(t *rapid.T) (f Format, marker, token string) {
	prefix := rapid.StringMatching(`[a-z][a-z0-9]{0,5}`).Filter(func(s string) bool { return !isReserved(s) }).Draw(t, "prefix")
	markers := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9]{0,7}`), 0, 3, rapid.ID[string]).Draw(t, "markers")
	f, err := NewFormat(prefix, markers...)
	if err != nil {
		t.Fatal(err)
	}
	marker = rapid.SampledFrom(append([]string{""}, markers...)).Draw(t, "marker")
	random := rapid.SliceOfN(rapid.Byte(), randomSize, randomSize).Draw(t, "random")
	return f, marker, f.encode(marker, [randomSize]byte(random))
}

func TestTokenProperties(t *testing.T) {
	t.Run("a minted key is well formed, and nothing else comes back", rapid.MakeCheck(func(t *rapid.T) {
		f, marker, _ := anyFormat(t)
		token, err := f.Mint(marker)
		if err != nil {
			t.Fatal(err)
		}
		if hint, ok := f.Check(token); !ok || hint != "" || !derivable(f, token) {
			t.Fatalf("Check: %q, %v", hint, ok)
		}
		if f.Marker(token) != marker || len(token) > MaxTokenLen {
			t.Fatalf("marker %q, %d bytes", f.Marker(token), len(token))
		}
	}))
	t.Run("no change of one character passes", rapid.MakeCheck(func(t *rapid.T) {
		f, _, token := anyFormat(t)
		at := rapid.IntRange(0, len(token)-1).Draw(t, "at")
		c := rapid.Byte().Filter(func(c byte) bool { return c != token[at] }).Draw(t, "instead")
		if bad := token[:at] + string([]byte{c}) + token[at+1:]; isToken(f, bad) {
			t.Fatalf("accepted %q for %q", bad, token)
		}
	}))
	t.Run("no swap of neighbours passes", rapid.MakeCheck(func(t *rapid.T) {
		f, _, token := anyFormat(t)
		at := rapid.IntRange(0, len(token)-2).Draw(t, "at")
		swapped := token[:at] + token[at+1:at+2] + token[at:at+1] + token[at+2:]
		if swapped != token && isToken(f, swapped) {
			t.Fatalf("accepted %q for %q", swapped, token)
		}
	}))
	t.Run("no character too many or too few passes", rapid.MakeCheck(func(t *rapid.T) {
		f, _, token := anyFormat(t)
		at := rapid.IntRange(0, len(token)-1).Draw(t, "at")
		if bad := token[:at] + token[at+1:]; isToken(f, bad) {
			t.Fatalf("accepted %q for %q", bad, token)
		}
		c := rapid.Byte().Draw(t, "inserted")
		if bad := token[:at] + string([]byte{c}) + token[at:]; isToken(f, bad) {
			t.Fatalf("accepted %q for %q", bad, token)
		}
	}))
	t.Run("a beginning is truncated", rapid.MakeCheck(func(t *rapid.T) {
		f, _, token := anyFormat(t)
		end := rapid.IntRange(len(f.Prefix())+1, len(token)-1).Draw(t, "end")
		if hint, ok := f.Check(token[:end]); ok || hint != HintTruncated {
			t.Fatalf("%q: %q, %v", token[:end], hint, ok)
		}
	}))
	t.Run("white space anywhere is told", rapid.MakeCheck(func(t *rapid.T) {
		f, _, token := anyFormat(t)
		at := rapid.IntRange(0, len(token)).Draw(t, "at")
		space := rapid.SampledFrom([]string{" ", "\t", "\n", "\r\n", "\u00a0", "\u200b", "\u2060", "\ufeff", "\u3000"}).Draw(t, "space")
		if hint, ok := f.Check(token[:at] + space + token[at:]); ok || hint != HintWhitespace {
			t.Fatalf("%q at %d: %q, %v", space, at, hint, ok)
		}
	}))
	t.Run("a preview is told, and shows four characters", rapid.MakeCheck(func(t *rapid.T) {
		f, marker, token := anyFormat(t)
		style := rapid.SampledFrom([]PreviewStyle{PreviewFirst, PreviewLast, ""}).Draw(t, "style")
		preview := f.Preview(token, style)
		if hint, ok := f.Check(preview); ok || hint != HintMaskedPreview {
			t.Fatalf("%q: %q, %v", preview, hint, ok)
		}
		shown := strings.ReplaceAll(strings.TrimPrefix(preview, f.Prefix()+"_"), mask, "")
		if style != PreviewLast && marker != "" {
			shown = strings.TrimPrefix(shown, marker+"_")
		}
		if len(shown) != 4 {
			t.Fatalf("%q shows %q", preview, shown)
		}
	}))
	t.Run("what Find finds is whole and stands alone", rapid.MakeCheck(func(t *rapid.T) {
		f, _, token := anyFormat(t)
		piece := rapid.SampledFrom([]string{token, token + "x", "x" + token, " ", "\n", "\"", "_", f.Prefix() + "_", "é", token[:9]})
		text := strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "text"), "")
		var want [][2]int // every position, tried one by one
		for i := range text {
			end := i + len(token)
			if strings.HasPrefix(text[i:], token) && (i == 0 || !isWord(text[i-1])) && (end == len(text) || !isWord(text[end])) {
				want = append(want, [2]int{i, end})
			}
		}
		if got := f.Find([]byte(text)); !slices.Equal(got, want) {
			t.Fatalf("%q: got %v, want %v", text, got, want)
		}
	}))
}

// A swap of the last random character with the first of the checksum is the
// one that CRC-32 alone does not exclude: both sides of the comparison change.
// For it to pass, crc XOR t must equal crc + d, where t is what the CRC's table
// holds for the two characters and d what the first base62 digit is worth.
// That needs (d+t)/2 to be made of bits of t, which is never the case.
func TestSwapOverTheSeamNeverPasses(t *testing.T) {
	const worth = 62 * 62 * 62 * 62 * 62
	tried := 0
	for last := range int64(5) { // 2^32 < 5 × 62^5: no checksum begins with more
		for first := range int64(5) {
			if last == first {
				continue
			}
			tried++
			table := int64(crc32.IEEETable[alphabet[last]^alphabet[first]])
			half := (last-first)*worth + table
			if half%2 == 0 && half >= 0 && half/2&^table == 0 {
				t.Errorf("%c and %c can be swapped", alphabet[last], alphabet[first])
			}
		}
	}
	if tried != 20 {
		t.Errorf("tried %d pairs", tried)
	}
}

func isToken(f Format, token string) bool {
	_, ok := f.Check(token)
	return ok
}

// tokenRandom is the slow and plain way back from a well-formed token.
func tokenRandom(token string) []byte {
	n := fromBase62(token[len(token)-bodyLen : len(token)-sumLen])
	return n.FillBytes(make([]byte, randomSize))
}

func fromBase62(digits string) *big.Int {
	n := new(big.Int)
	for _, c := range digits {
		n.Mul(n, big.NewInt(62))
		n.Add(n, big.NewInt(int64(strings.IndexRune(alphabet, c))))
	}
	return n
}

// Compiled once, since the fuzzer asks millions of times.
var tokenForm = regexp.MustCompile(`\A([a-z][a-z0-9]*)_(?:([a-z][a-z0-9]*)_)?([0-9A-Za-z]{33})([0-9A-Za-z]{6})\z`)

// derivable is Check written a second time, from the specification and with
// other means.
func derivable(f Format, token string) bool {
	m := tokenForm.FindStringSubmatch(token)
	if m == nil || len(token) > MaxTokenLen {
		return false
	}
	crc := crc32.ChecksumIEEE([]byte(strings.TrimSuffix(token, m[4])))
	return m[1] == f.Prefix() && (m[2] == "" || slices.Contains(f.markers(), m[2])) &&
		fromBase62(m[3]).BitLen() <= 8*randomSize && fromBase62(m[4]).Cmp(big.NewInt(int64(crc))) == 0
}

func BenchmarkCheck(b *testing.B) {
	f := mustFormat(b, "gw", "dev", "staging", "live")
	token := mustMint(b, f, "live")
	for _, bm := range []struct{ name, text string }{
		{"good", token},
		{"checksum", token[:len(token)-2] + token[len(token)-1:] + token[len(token)-2:len(token)-1]},
		{"truncated", token[:20]},
		{"prefix", "sk_live_abcdefghijklmnopqrstuvwxyz0123456789"},
		{"preview", f.Preview(token, PreviewLast)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Check(bm.text)
			}
		})
	}
}

// The floor is SHA-256 of the same bytes without anything around it.
func BenchmarkDigest(b *testing.B) {
	token := mustMint(b, mustFormat(b, "gw", "live"), "live")
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Digest(token)
		}
	})
	b.Run("floor", func(b *testing.B) {
		text := []byte(token)
		for b.Loop() {
			sha256.Sum256(text)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	f := mustFormat(b, "gw", "live")
	text := bytes.Repeat([]byte("The gateway reads gw_url and its key from the environment.\n"), 1<<14)
	text = append(text, mustMint(b, f, "live")...)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if len(f.Find(text)) != 1 {
			b.Fatal("the key was not found")
		}
	}
}

// TestDigestIsSHA256 holds the digest of texts of every length, of those that
// fit into one block and of those that do not, against the standard library's.
func TestDigestIsSHA256(t *testing.T) {
	text := make([]byte, 600)
	for n := range text {
		text[n] = byte(7 * n)
		if got, want := Digest(string(text[:n])), sha256.Sum256(text[:n]); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
	// FIPS 180-4, the example of one block.
	if got := fmt.Sprintf("%x", Digest("abc")); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("abc has %s", got)
	}
}

// TestCheckLooksAtEveryByte puts every byte in every place of a key, and holds
// the answer against the rules written a second time.
func TestCheckLooksAtEveryByte(t *testing.T) {
	f := mustFormat(t, "gw", "live")
	for _, token := range []string{mustMint(t, f, "live"), mustMint(t, f, ""), f.encode("live", [randomSize]byte{})} {
		for at := range len(token) {
			for c := range 256 {
				text := token[:at] + string([]byte{byte(c)}) + token[at+1:]
				hint, ok := f.Check(text)
				if want := derivable(f, text); ok != want || ok != (text == token) {
					t.Fatalf("%q in place %d: %v", byte(c), at, ok)
				}
				if !ok && hint != f.hint(text) {
					t.Fatalf("%q in place %d: hint %q, looked for: %q", byte(c), at, hint, f.hint(text))
				}
			}
		}
	}
}

// Whoever computes a checksum gets past Screen with a text that is no key, and
// not past Check.
func TestCheckSeesWhatPassesScreen(t *testing.T) {
	f := mustFormat(t, "gw", "live", "test")
	token, err := f.Mint("live")
	if err != nil {
		t.Fatal(err)
	}
	head := "gw_live_"
	for name, text := range map[string]string{
		"no digit":       head + "!" + token[len(head)+1:len(token)-sumLen],
		"beyond 2^192":   head + "z" + token[len(head)+1:len(token)-sumLen],
		"a line's break": head + token[len(head):len(head)+30] + "\n00",
	} {
		sum := checksum(strings.NewReplacer("!", "\x00", "\n", "\x00").Replace(text)) // no digit counts for nothing
		text += string(sum[:])
		if hint, ok := f.Screen(text); !ok || hint != "" {
			t.Errorf("%s: %q, %v", name, hint, ok)
		}
		if hint, ok := f.Check(text); ok || !slices.Contains(allHints(), hint) {
			t.Errorf("%s: Check says %q, %v", name, hint, ok)
		}
	}
	sum := checksum("xx" + token[2:len(token)-sumLen])
	for name, text := range map[string]string{
		"another product":   "xx" + token[2:len(token)-sumLen] + string(sum[:]),
		"another marker":    "gw_test_" + token[len(head):],
		"without a marker":  "gw_" + token[len(head):],
		"too long":          "gw_live_0" + token[len(head):],
		"of another length": token[1:],
	} {
		if _, ok := f.Screen(text); ok {
			t.Errorf("%s: %q passed", name, text)
		}
	}
}
