package webhook

import (
	"crypto/sha1" //nolint:gosec // for its size
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// maxEntries bounds how many signatures are looked at, as the verifier does.
const maxEntries = 32

// headers are those of a webhook, read as kindly as can be.
type headers struct {
	id, timestamp string
	at            time.Time
	timed         bool // at is a time that the verifier would read, or could have meant
	macs          []mac
	sizes         []int                     // of the MACs, each once
	versions      []string                  // of signatures that are not read here, such as v1a
	findings      []keystile.WebhookFinding // what is wrong with them
}

// mac is a signature that may be one.
type mac struct {
	bytes   []byte
	finding *keystile.WebhookFinding // how it is written, where that is wrong
}

// algorithm is what to say about how it was made.
func (m mac) algorithm() *keystile.WebhookFinding {
	var hint keystile.WebhookHint
	switch len(m.bytes) {
	case sha1.Size:
		hint = keystile.WebhookHintSHA1
	case sha512.Size384:
		hint = keystile.WebhookHintSHA384
	case sha512.Size:
		hint = keystile.WebhookHintSHA512
	default:
		return nil
	}
	f := found(keystile.WebhookWrongAlgorithm, hint)
	return &f
}

// values are the lines of a header, its name in any case.
func values(h http.Header, name string) []string {
	var lines []string
	for k, v := range h {
		if http.CanonicalHeaderKey(k) == http.CanonicalHeaderKey(name) {
			lines = append(lines, v...)
		}
	}
	return lines
}

func readHeaders(h http.Header) headers {
	var out headers
	out.id = out.one(h, keystile.WebhookHintID)
	out.timestamp = out.one(h, keystile.WebhookHintTimestamp)
	if out.id != "" && !isID(out.id) {
		out.add(keystile.WebhookMalformedHeader, keystile.WebhookHintID)
	}
	if out.timestamp != "" {
		out.time()
	}
	lines := values(h, keystile.WebhookSignatureHeader)
	if strings.TrimSpace(strings.Join(lines, "")) == "" {
		out.add(keystile.WebhookMissingHeader, keystile.WebhookHintSignature)
	}
	if len(out.findings) > 0 && out.svix(h) {
		out.findings = []keystile.WebhookFinding{found(keystile.WebhookMissingHeader, keystile.WebhookHintSvixNames)}
		return out
	}
	out.signatures(lines)
	return out
}

func (h *headers) add(code keystile.WebhookCode, hint keystile.WebhookHint) {
	h.findings = append(h.findings, found(code, hint))
}

// one reads a header that should be there once.
func (h *headers) one(from http.Header, name keystile.WebhookHint) string {
	lines := values(from, string(name))
	if len(lines) > 1 {
		h.add(keystile.WebhookMalformedHeader, keystile.WebhookHintRepeated)
		slices.Sort(lines) // in which order they came is not known
	}
	if len(lines) == 0 || lines[0] == "" {
		h.add(keystile.WebhookMissingHeader, name)
		return ""
	}
	value := strings.TrimSpace(lines[0])
	if first, second, joined := strings.Cut(value, ","); joined && strings.TrimSpace(first) == strings.TrimSpace(second) {
		h.add(keystile.WebhookMalformedHeader, keystile.WebhookHintRepeated)
		return strings.TrimSpace(first)
	}
	if value != lines[0] {
		h.add(keystile.WebhookMalformedHeader, name)
	}
	return value
}

// svix tells whether all headers that count are there under Svix's own names.
func (h *headers) svix(from http.Header) bool {
	for _, name := range []string{"svix-id", "svix-timestamp", "svix-signature"} {
		if len(values(from, name)) == 0 {
			return false
		}
	}
	return true
}

// time reads the timestamp as the verifier does, and says what is wrong where
// that would not. Libraries that are less strict sign the number that they
// read.
func (h *headers) time() {
	if n, ok := whole(strings.TrimLeft(h.timestamp, "+0")); ok && h.timestamp != strconv.FormatInt(n, 10) {
		h.add(keystile.WebhookMalformedHeader, keystile.WebhookHintTimestamp)
		h.timestamp, h.at, h.timed = strconv.FormatInt(n, 10), time.Unix(n, 0), true
		return
	}
	n, ok := whole(h.timestamp)
	switch {
	case ok && n < 1e11:
		h.at, h.timed = time.Unix(n, 0), true
	case ok && n < 1e14:
		h.at, h.timed = time.UnixMilli(n), true
		h.add(keystile.WebhookMalformedHeader, keystile.WebhookHintMilliseconds)
	default:
		h.add(keystile.WebhookMalformedHeader, keystile.WebhookHintTimestamp)
	}
}

func isID(id string) bool {
	return len(id) <= 128 && strings.Trim(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-") == "" &&
		!strings.ContainsFunc(id, func(r rune) bool { return r > 'z' })
}

// signatures reads all that may be one: "v1," and base64 as it should be, and
// as others write it: in hexadecimal, as "sha256=…", as "t=…,v1=…".
func (h *headers) signatures(lines []string) {
	n := 0
	for _, line := range lines {
		version := ""
		for word := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;\"'", r) }) {
			if n++; n > 2*maxEntries {
				return
			}
			if isVersion(word) {
				version = word
				continue
			}
			name, value := version, word
			if before, after, named := strings.Cut(word, "="); named && after != "" && strings.Trim(after, "=") != "" {
				name, value = "="+before, after // as other senders write it
			}
			version = ""
			if name != "" && name != "v1" && name[0] == 'v' {
				h.versions = append(h.versions, name)
				continue
			}
			h.mac(name, value)
		}
		if version != "" && version != "v1" {
			h.versions = append(h.versions, version)
		}
	}
	for _, m := range h.macs {
		if !slices.Contains(h.sizes, len(m.bytes)) {
			h.sizes = append(h.sizes, len(m.bytes))
		}
	}
	if len(h.macs) == 0 && len(h.versions) == 0 && len(h.findings) == 0 {
		h.add(keystile.WebhookMalformedHeader, keystile.WebhookHintSignature)
	}
}

// isVersion tells names such as v1 and v1a.
func isVersion(s string) bool {
	return len(s) >= 2 && len(s) <= 4 && s[0] == 'v' && s[1] >= '0' && s[1] <= '9'
}

// mac adds what a text may stand for. Digits and the letters a to f alone may be
// hexadecimal as well as base64.
func (h *headers) mac(version, text string) {
	add := func(b []byte, err error, hint keystile.WebhookHint) {
		if err != nil || algorithms(len(b)) == nil {
			return
		}
		m := mac{bytes: b}
		if hint == "" && version != "v1" {
			hint = keystile.WebhookHintNoVersion
		}
		if hint != "" {
			f := found(keystile.WebhookWrongEncoding, hint)
			m.finding = &f
		}
		h.macs = append(h.macs, m)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	add(b, err, "")
	if err != nil {
		b, err = base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "=")))
		add(b, err, keystile.WebhookHintBase64URL)
	}
	b, err = hex.DecodeString(text)
	add(b, err, keystile.WebhookHintHex)
}

// unread says what is wrong where all signatures are of versions that are not
// made with a secret.
func (h *headers) unread() keystile.WebhookFinding {
	if slices.Contains(h.versions, "v1a") {
		return found(keystile.WebhookWrongAlgorithm, keystile.WebhookHintEd25519)
	}
	return found(keystile.WebhookMalformedHeader, keystile.WebhookHintSignature)
}
