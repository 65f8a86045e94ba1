package dashboard_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// IP11: the uses of the workspace's keys over time and by key, with what was
// refused and why, and where one key was used from.
func TestUsageIP11(t *testing.T) {
	s := keystiletest.New(t, keystiletest.FlushInterval(20*time.Millisecond))
	other := s.NewWorkspace("Other", "")
	base := "/w/" + s.Workspace
	b, _ := member(t, s, s.Workspace, "Ada", "viewer")
	b.get(base + "/usage").is(http.StatusOK).shows("No use")

	busy, idle := s.Key(s.Workspace, keystile.CreateKey{Name: "Busy till"}), s.Key(s.Workspace, keystile.CreateKey{Name: "Idle till"})
	foreign := s.Key(other.ID, keystile.CreateKey{Name: "Foreign till"})
	if _, err := s.Operator.DisableKey(t.Context(), idle.Key.ID, keystile.DisableKey{}); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{busy.Secret, busy.Secret, busy.Secret, idle.Secret, foreign.Secret} {
		if _, err := s.Operator.Verify(t.Context(), keystile.VerifyRequest{Key: secret, IP: "203.0.113.9"}); err != nil {
			t.Fatal(err)
		}
	}
	// What was counted is written after a moment, not all of it at once.
	counted := func(p *page) bool {
		return strings.Contains(p.words(), "Uses 4 Accepted 3 Refused 1 (disabled 1)")
	}
	p := b.get(base + "/usage")
	for limit := time.Now().Add(time.Minute); !counted(p) && time.Now().Before(limit); p = b.get(base + "/usage") {
		time.Sleep(20 * time.Millisecond)
	}
	p.shows("Uses 4 Accepted 3 Refused 1 (disabled 1)", "Busy till", "Idle till").lacks("Foreign till", foreign.Key.ID)
	if got := text(p.one("tr", "Busy till")); got != "Busy till "+busy.Key.ID+" 3 3 0 none" {
		t.Errorf("the busy key: %q", got)
	}
	if got := text(p.one("tr", "Idle till")); got != "Idle till "+idle.Key.ID+" 1 0 1 disabled 1" {
		t.Errorf("the idle key: %q", got)
	}
	if bars := p.find("rect"); len(bars) < 2 {
		t.Errorf("%d bars", len(bars))
	}
	for _, c := range []struct {
		span  string
		steps int
	}{{"24h", 24}, {"7d", 7}, {"30d", 30}, {"90d", 90}, {"for ever", 24}} {
		p := b.get(base + "/usage?span=" + strings.ReplaceAll(c.span, " ", "+")).is(http.StatusOK).shows("Uses 4")
		form := "2 Jan 2006" // days are those of UTC
		if c.steps == 24 {
			form += " 15:04 UTC" // which the page puts into the reader's zone
		}
		steps := p.all("th", func(n *html.Node) bool {
			_, err := time.Parse(form, text(n))
			return err == nil
		})
		if len(steps) != c.steps {
			t.Errorf("%s: %d steps", c.span, len(steps))
		}
	}

	p = b.get(base + "/usage?key=" + busy.Key.ID).is(http.StatusOK)
	p.shows("Usage of Busy till", "Uses 3 Accepted 3 Refused 0", "Where it was used from").lacks("Idle till")
	if got := text(p.one("tr", "203.0.113.9")); !strings.Contains(got, "valid 3") {
		t.Errorf("the source: %q", got)
	}
	for _, key := range []string{foreign.Key.ID, "key_0", "nonsense"} {
		b.get(base + "/usage?key=" + key).is(http.StatusNotFound)
	}
	b.get(base + "/usage?cursor=1.2").is(http.StatusUnprocessableEntity)

	// Who may see usage and no keys sees IDs, not names.
	customRole(t, s, s.Workspace, "counter", "api.usage.view")
	counter, _ := member(t, s, s.Workspace, "Cas", "counter")
	counter.get(base+"/usage").is(http.StatusOK).shows(busy.Key.ID).lacks("Busy till", base+"/keys/")
	counter.get(base + "/usage?key=" + busy.Key.ID).is(http.StatusOK).shows("Usage of " + busy.Key.ID).lacks("Busy till")
}
