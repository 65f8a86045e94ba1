package dashboard_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// browser is somebody's: it keeps cookies, and follows no redirect unasked.
type browser struct {
	t      testing.TB
	server *keystiletest.Server
	client *http.Client
}

func newBrowser(t testing.TB, s *keystiletest.Server) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{t: t, server: s, client: &http.Client{Jar: jar, CheckRedirect: stay}}
}

// page is what a browser was answered.
type page struct {
	t      testing.TB
	what   string // was asked
	status int
	header http.Header
	body   string
	root   *html.Node
}

func (b *browser) get(path string) *page {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, b.server.URL+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.send(r)
}

func (b *browser) post(path string, form url.Values) *page {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.server.URL)
	return b.send(r)
}

func (b *browser) send(r *http.Request) *page {
	b.t.Helper()
	r.Header.Set("Accept", "text/html")
	res, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	root, err := html.Parse(strings.NewReader(string(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	return &page{t: b.t, what: r.Method + " " + r.URL.RequestURI(), status: res.StatusCode, header: res.Header, body: string(body), root: root}
}

// form builds a form's values of names and values in turn.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// done expects that a form led on, and loads where it led.
func (b *browser) done(p *page) *page {
	b.t.Helper()
	if p.status != http.StatusSeeOther {
		b.t.Fatalf("%s: %d, not a redirect: %s", p.what, p.status, p.text("main"))
	}
	return b.get(p.header.Get("Location")).is(http.StatusOK)
}

func (p *page) is(status int) *page {
	p.t.Helper()
	if p.status != status {
		p.t.Fatalf("%s: %d, want %d: %s", p.what, p.status, status, p.text("main"))
	}
	return p
}

// shows expects texts in the page as people read it.
func (p *page) shows(texts ...string) *page {
	p.t.Helper()
	all := p.text("body")
	for _, s := range texts {
		if !strings.Contains(all, s) {
			p.t.Errorf("%s does not show %q: %s", p.what, s, all)
		}
	}
	return p
}

// hides expects texts nowhere in the page.
func (p *page) hides(texts ...string) *page {
	p.t.Helper()
	for _, s := range texts {
		if strings.Contains(p.body, s) {
			p.t.Errorf("%s shows %q: %s", p.what, s, p.text("body"))
		}
	}
	return p
}

// all are the elements of a name for which fits holds.
func (p *page) all(name string, fits func(*html.Node) bool) (found []*html.Node) {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name && (fits == nil || fits(n)) {
			found = append(found, n)
		}
	}
	return found
}

// text is what the first element of a name says, with single spaces.
func (p *page) text(name string) string {
	if found := p.all(name, nil); len(found) > 0 {
		return text(found[0])
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func attribute(n *html.Node, name string) string {
	i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
	if i < 0 {
		return ""
	}
	return n.Attr[i].Val
}

// has tells whether an element carries an attribute, such as disabled.
func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// row is the table's row whose text has s in it.
func (p *page) row(s string) *html.Node {
	p.t.Helper()
	rows := p.all("tr", func(n *html.Node) bool { return strings.Contains(text(n), s) })
	if len(rows) != 1 {
		p.t.Fatalf("%s has %d rows with %q: %s", p.what, len(rows), s, p.text("main"))
	}
	return rows[0]
}

// value is the value of a form's field.
func (p *page) value(name string) string {
	p.t.Helper()
	fields := p.all("input", func(n *html.Node) bool { return attribute(n, "name") == name })
	if len(fields) == 0 {
		p.t.Fatalf("%s has no field %q", p.what, name)
	}
	return attribute(fields[0], "value")
}

// enter opens a link and presses its button.
func (b *browser) enter(token string) *browser {
	b.t.Helper()
	b.get("/link/" + token).is(http.StatusOK)
	b.post("/link/"+token, nil).is(http.StatusSeeOther)
	return b
}

// operator is a browser of someone with the operator's sign-in link.
func operator(t testing.TB, s *keystiletest.Server) *browser {
	t.Helper()
	token, err := s.Keyring().CreateLink(context.Background(), keyring.Operator("test"), "")
	if err != nil {
		t.Fatal(err)
	}
	return newBrowser(t, s).enter(token)
}

// invited makes a member of a workspace, and the token of their invitation.
func invited(t testing.TB, s *keystiletest.Server, workspace, name, role string) (keystile.Member, string) {
	t.Helper()
	ctx, who := context.Background(), keyring.Operator("test")
	m, _, err := s.Keyring().CreateMember(ctx, who, workspace, keystile.CreateMember{
		Person: keystile.Person{Name: name, Email: strings.ReplaceAll(strings.ToLower(name), " ", ".") + "@example.com"}, Role: role,
	}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.Keyring().Invite(ctx, who, m.ID, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return m, token
}

// member is a browser of a new member of a workspace.
func member(t testing.TB, s *keystiletest.Server, workspace, name, role string) (*browser, keystile.Member) {
	t.Helper()
	m, token := invited(t, s, workspace, name, role)
	return newBrowser(t, s).enter(token), m
}

// customRole makes a role of a workspace's own.
func customRole(t testing.TB, s *keystiletest.Server, workspace, name string, permissions ...string) keystile.Role {
	t.Helper()
	r, _, err := s.Keyring().CreateRole(context.Background(), keyring.Operator("test"), workspace,
		keystile.CreateRole{Name: name, Permissions: permissions}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
