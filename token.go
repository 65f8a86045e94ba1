package keystile

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unsafe"
)

// MaxTokenLen is the most bytes a key can have: as many as SHA-256 takes in
// one 64-byte block beside its own padding (FIPS 180-4, section 5.1.1: one
// byte of padding and eight of length).
const MaxTokenLen = 55

const (
	alphabet   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	randomSize = 24 // bytes: 192 bits, so that no pepper and no slow hash is needed
	randomLen  = 33 // base62 digits that hold 24 bytes
	sumLen     = 6  // base62 digits that hold 4 bytes
	bodyLen    = randomLen + sumLen

	// maxRandom is 24 bytes of 0xff. The alphabet is in ASCII order, so comparing
	// digits of one length as text compares the numbers.
	maxRandom = "2lFA6LboL2xx0ldQH2K1TdSrwuqMMiME3"

	mask = "••••••••"
)

// A Format describes the keys of one product. It is made by [NewFormat]; the
// zero Format knows no keys. docs/spec/token.md specifies what it reads and
// writes, for those who do so in another language.
type Format struct {
	shape *shape // nil: no keys
}

// NewFormat returns the format of the keys that begin with prefix, an
// underscore and, where a key names its environment, one of the markers and
// another underscore. Keys without a marker are always part of the format,
// so that a product can begin to use markers with keys already issued; a
// marker that keys carry must stay.
//
// Prefix and markers are a letter a-z followed by letters a-z and digits. No
// prefix may be one that an id of Keystile begins with, and no key may have
// more than [MaxTokenLen] bytes: 15 for the prefix, or 14 for prefix and
// marker together.
func NewFormat(prefix string, markers ...string) (Format, error) {
	if !isName(prefix) {
		return Format{}, fmt.Errorf("key prefix %q: use a letter a-z followed by letters a-z and digits", prefix)
	}
	if isReserved(prefix) {
		return Format{}, fmt.Errorf("key prefix %q is reserved, since keys could be taken for something else: choose another", prefix)
	}
	s := &shape{head: prefix + "_"}
	if over := len(s.head) + bodyLen - MaxTokenLen; over > 0 {
		return Format{}, fmt.Errorf("key prefix %q makes keys longer than %d bytes: shorten it by %d", prefix, MaxTokenLen, over)
	}
	for _, m := range markers {
		if !isName(m) {
			return Format{}, fmt.Errorf("environment marker %q: use a letter a-z followed by letters a-z and digits", m)
		}
		if slices.Contains(s.markers, m) {
			return Format{}, fmt.Errorf("environment marker %q is given twice: a marker must tell one environment", m)
		}
		if over := len(s.head) + len(m) + 1 + bodyLen - MaxTokenLen; over > 0 {
			return Format{}, fmt.Errorf("key prefix %q and environment marker %q make keys longer than %d bytes: shorten them by %d",
				prefix, m, MaxTokenLen, over)
		}
		s.markers = append(s.markers, m)
	}
	s.heads = append(s.heads, newHead(s.head))
	for _, m := range s.markers {
		s.heads = append(s.heads, newHead(s.head+m+"_"))
	}
	s.sums.fill()
	return Format{s}, nil
}

func (f Format) head() string {
	if f.shape == nil {
		return ""
	}
	return f.shape.head
}

func (f Format) markers() []string {
	if f.shape == nil {
		return nil
	}
	return f.shape.markers
}

// Prefix returns the prefix without its underscore.
func (f Format) Prefix() string { return strings.TrimSuffix(f.head(), "_") }

// Mint makes a new key. The marker is one of the format's or empty for none;
// another one is the only error. All that is secret comes from crypto/rand.
func (f Format) Mint(marker string) (string, error) {
	if f.head() == "" {
		return "", errors.New("this format is empty: make one with NewFormat")
	}
	if marker != "" && !slices.Contains(f.markers(), marker) {
		return "", fmt.Errorf("environment marker %q is not one of %q", marker, f.markers())
	}
	var random [randomSize]byte
	rand.Read(random[:]) // never fails: it ends the program instead
	return f.encode(marker, random), nil
}

// encode is what Mint does once the random bytes are drawn.
func (f Format) encode(marker string, random [randomSize]byte) string {
	var n [randomSize / 8]uint64
	for i := range n {
		n[i] = binary.BigEndian.Uint64(random[8*i:])
	}
	var digits [randomLen]byte
	for i := randomLen - 1; i >= 0; i-- {
		var digit uint64
		for j := range n {
			n[j], digit = bits.Div64(digit, n[j], uint64(len(alphabet)))
		}
		digits[i] = alphabet[digit]
	}

	token := make([]byte, 0, MaxTokenLen)
	token = append(token, f.head()...)
	if marker != "" {
		token = append(token, marker...)
		token = append(token, '_')
	}
	token = append(token, digits[:]...)
	sum := checksum(string(token))
	return string(append(token, sum[:]...))
}

// Check tells whether token is well formed: a key that [Format.Mint] could
// have made. If not, the hint says what most likely happened to it. Both come
// from the text alone, so they tell nothing about which keys exist. Check
// allocates nothing and takes time in proportion to the text at most.
func (f Format) Check(token string) (Hint, bool) {
	if hint, ok := f.Screen(token); !ok {
		return hint, false
	}
	if !f.Confirm(token) {
		return f.hint(token), false
	}
	return "", true
}

// Screen is the part of [Format.Check] that belongs before a lookup. It leaves
// out whether the digits are some and stand for 24 bytes, which what is found
// shows as well. It passes every well-formed token. Of other texts that begin
// like one, it passes one in four billion, and whoever wants to can make one: so
// [Format.Confirm] has the last word on a text that was not found. The hint is
// that of Check.
func (f Format) Screen(token string) (Hint, bool) {
	h, body := f.shape.of(token)
	switch {
	case h == nil:
		return f.hint(token), false
	case f.shape.sumUp(h, body):
		return "", true
	case areDigits(body): // what hint would say, without looking for it
		return HintChecksum, false
	}
	return f.hint(token), false
}

// Confirm tells whether a token that passed [Format.Screen] is well formed.
func (f Format) Confirm(token string) bool {
	h, body := f.shape.of(token)
	// Without the bound, texts would pass that stand for no 24 bytes.
	return h != nil && areDigits(body) && string(body[:randomLen]) <= maxRandom
}

// Marker returns the environment marker of a well-formed token, empty when it
// has none or is not of this format.
func (f Format) Marker(token string) string {
	body, ok := f.parse(token)
	if !ok || body == len(f.head()) {
		return ""
	}
	return token[len(f.head()) : body-1]
}

// Digest returns the SHA-256 of the whole key, which is what is stored in its
// place. It allocates nothing.
func Digest(token string) [32]byte { return sha256.Sum256(bytesOf(token)) }

// A PreviewStyle says which characters of a key its preview shows.
type PreviewStyle string

const (
	PreviewFirst PreviewStyle = "first" // prefix, marker and the first four characters after them
	PreviewLast  PreviewStyle = "last"  // prefix and the last four characters
)

// Preview returns what may be shown of a well-formed token to tell it from
// others: "gw_live_0aB3••••••••" or "gw_••••••••x9Zk", never both ends. A style
// other than PreviewLast is taken for PreviewFirst. Of a token that is not of
// this format it shows nothing.
func (f Format) Preview(token string, style PreviewStyle) string {
	body, ok := f.parse(token)
	switch {
	case !ok:
		return f.head() + mask
	case style == PreviewLast:
		return f.head() + mask + token[len(token)-4:]
	}
	return token[:body+4] + mask
}

// Find returns where well-formed tokens occur in text, as pairs of the first
// byte and the one behind the last, in order. A token stands alone: no letter,
// digit or underscore touches it. Find takes time in proportion to the text.
func (f Format) Find(text []byte) [][2]int {
	if f.head() == "" {
		return nil
	}
	var found [][2]int
	head := []byte(f.head())
	for from := 0; ; {
		i := bytes.Index(text[from:], head)
		if i < 0 {
			return found
		}
		start := from + i
		from = start + len(head)
		if start > 0 && isWord(text[start-1]) {
			continue
		}
		end := from
		for end < len(text) && end-start <= MaxTokenLen && isWord(text[end]) {
			end++
		}
		from = end
		if end-start > MaxTokenLen {
			continue
		}
		if _, ok := f.parse(string(text[start:end])); ok {
			found = append(found, [2]int{start, end})
		}
	}
}

// parse tells whether token is well formed, and where its random digits begin.
func (f Format) parse(token string) (body int, ok bool) {
	h, digits := f.shape.of(token)
	return len(token) - bodyLen, h != nil && f.shape.sumUp(h, digits) && f.Confirm(token)
}

// bytesOf returns the bytes of s, to be read only. A conversion would copy them
// to the heap, which costs as much as the hash (Go 1.26 cannot see that sha256
// and crc32 leave them alone).
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// hint says what most likely happened to a text that is not well formed. First
// come the texts that are no key of this product at all; of the others, what
// is surely wrong goes before what is guessed.
func (f Format) hint(text string) Hint {
	core := strings.TrimFunc(text, func(r rune) bool { return isInvisible(r) || isQuote(r) })
	rest, ours := cutLoose(core, f.head())
	if !ours || f.head() == "" {
		if _, ok := cutLoose(core, "key_"); ok {
			return HintKeyID
		}
		if namesScheme(core) {
			return HintScheme
		}
		return HintPrefix
	}
	if isMasked(rest) {
		return HintMaskedPreview
	}
	if strings.IndexFunc(text, isInvisible) >= 0 {
		return HintWhitespace
	}
	for _, m := range f.markers() {
		if tail, ok := cutLoose(rest, m); ok && strings.HasPrefix(tail, "_") {
			rest = tail[1:]
			break
		}
	}
	// A marker of some other installation makes it someone else's key. With the
	// length of a body, an underscore is rather a wrong character in it; further
	// behind it is rather something glued on, such as the key pasted twice.
	if i := strings.IndexByte(rest, '_'); i > 0 && len(f.head())+i+1+bodyLen <= MaxTokenLen && len(rest) != bodyLen {
		return HintPrefix
	}
	if len(rest) < bodyLen && isAlphanumeric(rest) {
		return HintTruncated
	}
	return HintChecksum
}

// namesScheme tells whether text begins with an authentication scheme or a
// header's name, which belong into the request and not into the key.
func namesScheme(text string) bool {
	for _, scheme := range [...]string{"bearer", "basic"} {
		if rest, ok := cutLoose(text, scheme); ok && len(text)-len(rest) > len(scheme) {
			return true
		}
	}
	for _, header := range [...]string{"authorization:", "x-api-key:"} {
		if _, ok := cutLoose(text, header); ok {
			return true
		}
	}
	return false
}

// isMasked tells whether text holds characters that stand for hidden ones. A
// client that cannot put "•" into a header sends "?" in its place.
func isMasked(text string) bool {
	for i, r := range text {
		switch r {
		case '•', '…', '*', '●', '·', '∙', '⋯':
			return true
		case '.', '?':
			if tail := text[i:]; strings.HasPrefix(tail, "...") || strings.HasPrefix(tail, "???") {
				return true
			}
		}
	}
	return false
}

// cutLoose cuts head, which is in lower case, from the beginning of text. It
// takes no notice of the case of letters A-Z, since keyboards of phones begin
// with a capital, nor of invisible characters, those behind the head included.
func cutLoose(text, head string) (rest string, ok bool) {
	for i, r := range text {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		switch {
		case isInvisible(r):
		case head == "":
			return text[i:], true
		case r != rune(head[0]):
			return text, false
		default:
			head = head[1:]
		}
	}
	return "", head == ""
}

// isInvisible tells spaces, controls (line breaks, tabs) and format characters
// (zero-width spaces and joiners, byte order marks, soft hyphens, direction
// marks): all that pasting adds without being seen.
func isInvisible(r rune) bool {
	if r < 0x7f { // most text is ASCII, and a flood of wrong keys passes here
		return r <= ' '
	}
	return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
}

func isQuote(r rune) bool {
	switch r {
	case '"', '\'', '`', '“', '”', '„', '‘', '’', '‚', '«', '»', '<', '>':
		return true
	}
	return false
}

func isWord(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '_'
}

func isAlphanumeric(s string) bool {
	for i := range len(s) {
		if !isWord(s[i]) || s[i] == '_' {
			return false
		}
	}
	return true
}

// isName tells whether s can be a prefix or a marker: [a-z][a-z0-9]*.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return s != ""
}

// isReserved tells the prefixes of ids and of webhook secrets, for which a key
// could be taken.
func isReserved(prefix string) bool {
	switch prefix {
	case "al", "aud", "dlv", "ep", "evt", "key", "mem", "node", "per", "req", "role", "ses", "whs", "whsec", "ws":
		return true
	}
	return false
}
