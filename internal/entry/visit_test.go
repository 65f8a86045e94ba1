package entry

import (
	"testing"

	"pgregory.net/rapid"
)

// What is kept without a closer look is what a closer look would keep.
func TestCleanUserAgentsStayAsTheyAre(t *testing.T) {
	for _, usual := range []string{"", "curl/8.5.0", "Go-http-client/1.1", "python-requests/2.31.0", "Mozilla/5.0 (X11; Linux x86-64) Firefox/130"} {
		if !isClean(usual) {
			t.Errorf("%q takes the long way", usual)
		}
	}
	piece := rapid.OneOf(rapid.StringMatching(`[ -~]{0,250}`), rapid.String(), rapid.StringMatching(`[a-z]{2,4}[A-Za-z0-9]{30,45}`),
		rapid.SampledFrom([]string{"whsec_", "ks_", "gw_live_", " ", "\u202e", "\x7f"}), rapid.StringMatching(`[A-Za-z0-9+/]{20,50}=?`))
	rapid.Check(t, func(t *rapid.T) {
		s := piece.Draw(t, "a") + piece.Draw(t, "b")
		if isClean(s) && cleaned(s) != s {
			t.Fatalf("%q would be kept as %q", s, cleaned(s))
		}
	})
}
