package keyring

import (
	"strings"

	"github.com/keystile/keystile"
)

// Lengths of what follows the last underscore of a key, in bytes: see the
// specification of tokens.
const (
	randomLen = 33            // encodes the random bytes: who has it has the key
	bodyLen   = randomLen + 6 // with the checksum
	maskedKey = "[key]"
)

// holdsKey tells whether there is a key in a text, of this product or another:
// what people may read later must not open anything. Half-copied keys and such
// with a typing error count, since little is missing to make them whole. They
// are known by a prefix, an underscore and 33 letters and digits or more, of
// all three kinds; one key in 300 lacks digits, and is found only when whole.
func holdsKey(s string) bool {
	return firstWebhookSecret(s) >= 0 || findRun(s, func(begin, end int) bool {
		return prefixBefore(s, begin) != "" && (looksRandom(s[begin:end]) || wholeKey(s, begin, end))
	})
}

// holdsWholeKey tells whether there is a key with its checksum in a text. The
// checksum makes a mistake one in four thousand million, so identifiers that
// other systems made are never taken for keys.
func holdsWholeKey(s string) bool {
	return firstWebhookSecret(s) >= 0 || findRun(s, func(begin, end int) bool { return wholeKey(s, begin, end) })
}

// MaskKeys replaces keys of any product and webhook secrets in a text, and
// whatever is long and random enough to be one: with a part missing, a typing
// error, or no prefix.
func MaskKeys(s string) string {
	s = maskWebhookSecrets(s)
	var b strings.Builder
	kept := 0
	findRun(s, func(begin, end int) bool {
		if looksRandom(s[begin:end]) || wholeKey(s, begin, end) {
			b.WriteString(s[kept:begin])
			b.WriteString(maskedKey)
			kept = end
		}
		return false
	})
	if kept == 0 {
		return s
	}
	b.WriteString(s[kept:])
	return b.String()
}

func maskWebhookSecrets(s string) string {
	var b strings.Builder
	for {
		at := firstWebhookSecret(s)
		if at < 0 {
			if b.Len() == 0 {
				return s
			}
			return b.String() + s
		}
		b.WriteString(s[:at] + maskedKey)
		s = strings.TrimLeft(s[stretchAt(s, at).end:], "=")
	}
}

// firstWebhookSecret is where the first webhook secret, or a good part of one,
// begins in a text; -1 if there is none. It is known by its prefix and what
// follows: 12 characters that look random, or 16 that are no words joined by
// underscores or hyphens. The shortest secret has 32.
func firstWebhookSecret(s string) int {
	const prefix, least, words = "whsec_", 12, 16
	var run stretch
	for from := 0; ; {
		i := strings.Index(s[from:], prefix)
		if i < 0 {
			return -1
		}
		if from += i + len(prefix); from > run.end {
			run = stretchAt(s, from)
		}
		if n := run.end - from; n >= least && from <= run.random || n >= words && from > run.joint {
			return from - len(prefix)
		}
	}
}

// stretch is characters of base64 in a row. There may be a prefix at each sixth
// of them, so what follows one is told by where the last of a kind is, without
// looking at it again.
type stretch struct {
	end    int
	joint  int // the last underscore or hyphen, -1 for none
	random int // what begins here or before it looks random, -1 for nothing
}

func stretchAt(s string, from int) stretch {
	t := stretch{end: from, joint: -1}
	digit, lower, upper := -1, -1, -1
	for ; t.end < len(s) && isBase64(s[t.end]); t.end++ {
		switch c := s[t.end]; {
		case '0' <= c && c <= '9':
			digit = t.end
		case 'a' <= c && c <= 'z':
			lower = t.end
		case 'A' <= c && c <= 'Z':
			upper = t.end
		case c == '_' || c == '-':
			t.joint = t.end
		}
	}
	t.random = min(digit, lower, upper)
	return t
}

// isBase64 tells the characters of both alphabets (RFC 4648, sections 4 and 5).
func isBase64(c byte) bool {
	return isAlphanumeric(c) || c == '+' || c == '/' || c == '-' || c == '_'
}

// findRun calls found with every stretch of letters and digits that is long
// enough to be the random part of a key, until it returns true.
func findRun(s string, found func(begin, end int) bool) bool {
	begin := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && isAlphanumeric(s[i]) {
			continue
		}
		if i-begin >= randomLen && found(begin, i) {
			return true
		}
		begin = i + 1
	}
	return false
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// looksRandom tells whether letters of both cases and digits are mixed in a
// stretch, as they are not in words, hashes in hexadecimal or numbers.
func looksRandom(s string) bool {
	return strings.ContainsAny(s, "0123456789") && strings.ToLower(s) != s && strings.ToUpper(s) != s
}

// prefixBefore is the name that stands before an underscore at the end of
// s[:end], empty if there is none.
func prefixBefore(s string, end int) string {
	if end == 0 || s[end-1] != '_' {
		return ""
	}
	begin := end - 1
	for begin > 0 && ('0' <= s[begin-1] && s[begin-1] <= '9' || 'a' <= s[begin-1] && s[begin-1] <= 'z') {
		begin--
	}
	return strings.TrimLeft(s[begin:end-1], "0123456789")
}

// wholeKey tells whether a stretch begins with the body of a key whose prefix,
// and environment, stand before it.
func wholeKey(s string, begin, end int) bool {
	if end-begin < bodyLen {
		return false
	}
	last := prefixBefore(s, begin)
	if last == "" {
		return false
	}
	key := last + s[begin-1:begin+bodyLen]
	if keystile.KeyInQuery(key) != nil {
		return true
	}
	first := prefixBefore(s, begin-1-len(last))
	return first != "" && keystile.KeyInQuery(first+"_"+key) != nil
}
