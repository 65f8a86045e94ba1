package entry

import (
	"encoding/json"
	"strings"
	"unicode/utf16"
)

// ASCII writes a value as one line of JSON without anything outside printable
// ASCII, which is all that a header may hold everywhere (RFC 9110, section 5.5).
func ASCII(of any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(of); err != nil {
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
