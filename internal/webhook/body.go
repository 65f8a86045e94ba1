package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"html"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"github.com/keystile/keystile"
)

// bodies yields what may have been signed where the payload is what arrived:
// each way in which bodies are changed, undone. None is the payload itself.
func bodies(payload []byte) iter.Seq2[[]byte, keystile.WebhookFinding] {
	text := string(payload)
	return func(yield func([]byte, keystile.WebhookFinding) bool) {
		more := true
		changed := func(hint keystile.WebhookHint, variants ...string) {
			for _, v := range variants {
				if more && v != text {
					more = yield([]byte(v), found(keystile.WebhookBodyChanged, hint))
				}
			}
		}
		changed(keystile.WebhookHintTrailingNewline, text+"\n", strings.TrimSuffix(text, "\n"), strings.TrimRight(text, "\r\n"), text+"\r\n")
		changed(keystile.WebhookHintTrimmed, strings.TrimSpace(text))
		lf := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
		crlf := strings.ReplaceAll(lf, "\n", "\r\n")
		changed(keystile.WebhookHintLineEndings, lf, crlf, strings.TrimRight(lf, "\n"), strings.TrimRight(crlf, "\r\n"), lf+"\n", crlf+"\r\n")
		changed(keystile.WebhookHintByteOrderMark, strings.TrimPrefix(text, "\ufeff"), "\ufeff"+text)
		if more && json.Valid(payload) && len(payload) <= maxJSON {
			compact := compacted(payload)
			// The second time the line break at its end was lost as well.
			for _, end := range []string{"", "\n"} {
				for variant, sorted := range rewritten(payload) {
					hint := keystile.WebhookHintEscapes
					switch {
					case sorted:
						hint = keystile.WebhookHintKeyOrder
					case bytes.Equal(compacted(variant), compact):
						hint = keystile.WebhookHintSpacing
					}
					variant = append(variant, end...)
					if bytes.Equal(variant, payload) {
						continue
					}
					if more = yield(variant, found(keystile.WebhookBodyReserialized, hint)); !more {
						return
					}
				}
			}
		}
		if !more {
			return
		}
		changed(keystile.WebhookHintQuoted, quoted(text)...)
		changed(keystile.WebhookHintCharset, misread(text)...)
		changed(keystile.WebhookHintForm, formed(text)...)
		changed(keystile.WebhookHintHTML, html.UnescapeString(text), html.EscapeString(text))
		if b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
			changed(keystile.WebhookHintBase64Body, string(b))
		}
		changed(keystile.WebhookHintBase64Body, base64.StdEncoding.EncodeToString(payload))
	}
}

func compacted(b []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return b
	}
	return out.Bytes()
}

// quoted are the texts that one in quotes, or in backslashes alone, stands
// for, and the one that stands for it.
func quoted(text string) []string {
	var list []string
	var s string
	trimmed := strings.TrimSpace(text)
	if json.Unmarshal([]byte(trimmed), &s) == nil {
		list = append(list, s)
	}
	if json.Unmarshal([]byte(`"`+trimmed+`"`), &s) == nil {
		list = append(list, s)
	}
	for _, of := range []string{trimmed, `"` + trimmed + `"`} { // as Go writes it
		if s, err := strconv.Unquote(of); err == nil {
			list = append(list, s)
		}
	}
	if n := len(trimmed); n >= 2 && (trimmed[0] == '\'' || trimmed[0] == '"') && trimmed[n-1] == trimmed[0] {
		list = append(list, trimmed[1:n-1])
	}
	return append(list, quote(text, false, false, false), strconv.Quote(text))
}

// misread are the texts in other character sets that read as this one: UTF-8
// taken for Latin-1 or Windows-1252, and Latin-1 that came as UTF-8.
func misread(text string) []string {
	var list []string
	for _, windows := range []bool{false, true} {
		out := make([]byte, 0, len(text))
		for _, r := range text {
			b, ok := singleByte(r, windows)
			if !ok {
				out = nil
				break
			}
			out = append(out, b)
		}
		if out != nil {
			list = append(list, string(out))
		}
	}
	var twice strings.Builder
	for _, b := range []byte(text) {
		twice.WriteRune(rune(b))
	}
	return append(list, twice.String())
}

// windows1252 are the characters that Windows-1252 has where Latin-1 has
// controls, from 0x80 on (https://encoding.spec.whatwg.org/#windows-1252).
const windows1252 = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"

func singleByte(r rune, windows bool) (byte, bool) {
	if windows {
		at := 0
		for _, w := range windows1252 {
			if w == r {
				return byte(0x80 + at), true
			}
			at++
		}
	}
	return byte(r), r < 0x100
}

// formed are the texts that one escaped as a form stands for, or the value of
// one of its fields, and the ones that stand for it.
func formed(text string) []string {
	var list []string
	for _, unescape := range []func(string) (string, error){url.QueryUnescape, url.PathUnescape} {
		if s, err := unescape(text); err == nil {
			list = append(list, s)
			if _, value, ok := strings.Cut(s, "="); ok {
				list = append(list, value)
			}
		}
	}
	var plus strings.Builder
	for i, pair := range strings.Split(text, "&") {
		if i > 0 {
			plus.WriteByte('&')
		}
		name, value, ok := strings.Cut(pair, "=")
		plus.WriteString(url.QueryEscape(name))
		if ok {
			plus.WriteString("=" + url.QueryEscape(value))
		}
	}
	return append(list, plus.String(), strings.ReplaceAll(plus.String(), "+", "%20"), url.QueryEscape(text))
}
