package keystile

import (
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzCheck holds Check against the same rules written a second time.
func FuzzCheck(f *testing.F) {
	v := readTokenVectors(f) // fails when it holds too few
	var formats []Format
	for _, g := range v.Good {
		formats = append(formats, mustFormat(f, g.Prefix, g.Markers...))
		f.Add(g.Token)
		f.Add(g.PreviewFirst)
		f.Add(g.PreviewLast)
	}
	for _, b := range v.Bad {
		f.Add(b.Text)
	}
	formats = append(formats, Format{})

	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range formats {
			hint, ok := format.Check(text)
			if ok != derivable(format, text) {
				t.Fatalf("%q, format %q: Check says %v, the rules do not", text, format.Prefix(), ok)
			}
			if early, passed := format.Screen(text); ok && !passed || !passed && early != hint {
				t.Fatalf("%q: Screen says %q, %v; Check says %q, %v", text, early, passed, hint, ok)
			}
			found := format.Find([]byte(text))
			if ok {
				if hint != "" {
					t.Fatalf("%q: well formed, with hint %q", text, hint)
				}
				if !slices.Equal(found, [][2]int{{0, len(text)}}) {
					t.Fatalf("%q: Find says %v", text, found)
				}
				again := format.encode(format.Marker(text), [randomSize]byte(tokenRandom(text)))
				if again != text {
					t.Fatalf("%q: its random bytes make %q", text, again)
				}
			} else if !slices.Contains(allHints(), hint) || hint != format.hint(text) {
				t.Fatalf("%q: hint %q, looked for: %q", text, hint, format.hint(text))
			}
			for _, at := range found {
				if !isToken(format, text[at[0]:at[1]]) {
					t.Fatalf("%q: Find says %v", text, at)
				}
			}
			if preview := format.Preview(text, PreviewLast); !utf8.ValidString(preview) || ok && len(preview) >= len(text) {
				t.Fatalf("%q: preview %q", text, preview)
			}
		}
	})
}
