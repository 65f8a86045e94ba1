package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf16"

	"github.com/keystile/keystile"
)

// problemHeader carries the problem of a refused forward-auth: gateways such
// as nginx drop the body of a refusal and keep its headers.
const problemHeader = "X-Keystile-Problem"

// maxProblemLine bounds the header, in bytes. nginx reads all headers of an
// answer into one buffer of 4 KiB by default, and answers 502 when they do
// not fit.
const maxProblemLine = 1024

// problemLine is a problem as one line of ASCII, which is all that a header may
// hold everywhere (RFC 9110, section 5.5). It is the body's JSON, with less to
// say where that is too long: a reader who needs all of it has the request ID.
func problemLine(p keystile.Error, unauthorizedTitle string) string {
	if p.Status == http.StatusUnauthorized && unauthorizedTitle != "" {
		p.Title = unauthorizedTitle
	}
	p.Fields = nil
	if p.Fixes == nil {
		p.Fixes = []string{}
	}
	for {
		line := asciiJSON(p)
		switch {
		case len(line) <= maxProblemLine:
			return line
		case len(p.Fixes) > 0:
			p.Fixes = p.Fixes[:len(p.Fixes)-1]
		case p.Detail != "" || p.Permission != "":
			p.Detail, p.Permission = "", ""
		default:
			return "" // a title of 60 characters, the most a profile has, fits in any case
		}
	}
}

// asciiJSON writes a problem without anything outside printable ASCII.
func asciiJSON(p keystile.Error) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(p); err != nil {
		return "" // strings and numbers always encode
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(text.String(), "\n") {
		if r >= ' ' && r <= '~' {
			b.WriteRune(r)
			continue
		}
		// Everything left is inside a string. UTF-16, as JSON has it (RFC 8259, section 7).
		for _, unit := range utf16.Encode([]rune{r}) {
			const hex = "0123456789abcdef"
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[unit>>shift&0xf])
			}
		}
	}
	return b.String()
}
