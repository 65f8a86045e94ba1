package dashboard_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/dashboard"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// probe would be an element of its own, or an attribute of another, on a page
// that writes it down as it came.
const probe = `x'"><b-probe probe=1 onmouseover=probe()>`

// TestNamesAreNoMarkup: whatever somebody chose as a name, label, reason or
// user agent is text on every page, for whoever reads it.
func TestNamesAreNoMarkup(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.FlushInterval(20*time.Millisecond),
		keystiletest.ProfileText("product: Hostile\nprefix: ho\nthird_parties: [zapier]\n"))
	w := &roleWalk{TB: t, server: s, ours: s.NewWorkspace("W "+probe, "").ID}
	by, ctx := keyring.Operator(probe), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o := w.objects(w.ours, everything)
	described := probe
	role, _, err := s.Keyring().CreateRole(ctx, by, w.ours, keystile.CreateRole{Name: "Hostile", Description: probe, Permissions: []string{"*"}}, keyring.Idempotency{})
	must(err)
	key := s.Key(w.ours, keystile.CreateKey{Name: "K " + probe, Description: probe, Owner: "o-1", Role: role.Name, Metadata: map[string]string{"m": probe}})
	_, err = s.Operator.Verify(ctx, keystile.VerifyRequest{Key: key.Secret, IP: "203.0.113.9", UserAgent: probe})
	must(err)
	over := s.Key(w.ours, keystile.CreateKey{Name: "Over " + probe})
	_, err = s.Keyring().RevokeKey(ctx, by, over.Key.ID, keystile.RevokeKey{Reason: probe})
	must(err)
	secret, _, err := s.Keyring().CreateWebhookSecret(ctx, by, w.ours, keystile.CreateWebhookSecret{Label: "S " + probe, Environment: "production"}, keyring.Idempotency{})
	must(err)
	_, err = s.Keyring().UpdateEndpoint(ctx, by, o.endpoint, keystile.EndpointPatch{Description: &described})
	must(err)
	m, _, err := s.Keyring().CreateMember(ctx, by, w.ours, keystile.CreateMember{Person: keystile.Person{Name: "M " + probe}, Role: "admin"}, keyring.Idempotency{})
	must(err)
	second, _, err := s.Keyring().CreateMember(ctx, by, w.ours, keystile.CreateMember{Person: keystile.Person{Name: "N " + probe}, Role: "viewer"}, keyring.Idempotency{})
	must(err)

	b := newBrowser(t, s)
	b.header.Set("User-Agent", probe)
	b.enter(invite(t, s, by, m))
	o.key, o.role, o.secret, o.member, o.token = key.Key.ID, role.ID, secret.WebhookSecret.ID, m.ID, invite(t, s, by, second)
	seen := 0
	read := func(path string) {
		t.Helper()
		p := b.get(path)
		if !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") { // the export, as a file
			return
		}
		for n := range p.root.Descendants() {
			if n.Type == html.ElementNode && n.Data == "b-probe" {
				t.Errorf("%s makes an element of a name: %s", path, text(n))
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || strings.Contains(a.Key, "probe") {
					t.Errorf("%s makes an attribute of a name: %s", path, a.Key)
				}
			}
		}
		if strings.Contains(text(p.root), probe) {
			seen++
		}
	}
	for _, r := range dashboard.Routes() {
		if strings.HasPrefix(r.Pattern, "GET ") && !strings.Contains(r.Pattern, "/openid") {
			read(w.path(r.Pattern, o))
		}
	}
	for _, path := range []string{
		"/keys?q=" + "%22%3E%3Cb-probe%3E", "/keys/" + over.Key.ID, "/keys?created_by=" + m.Person.ID, "/audit?actor=%22%3E%3Cb-probe%3E", "/usage?key=" + o.key,
		"/webhook-debugger?x=%3Cb-probe%3E", "/keys?done=%3Cb-probe%3E",
	} {
		read("/w/" + w.ours + path)
	}
	read("/sign-in?again=1&next=%22%3E%3Cb-probe%3E")
	if p := b.post("/w/"+w.ours+"/keys", "name", "", "description", probe, "owner", probe, "nonce", probe).is(http.StatusUnprocessableEntity); len(p.find("b-probe")) > 0 {
		t.Error("a form gives back what was typed as markup")
	}
	if seen < 20 {
		t.Errorf("only %d pages have a name on them: this test looks at too little", seen)
	}
}
