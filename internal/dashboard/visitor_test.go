package dashboard_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/keystile/keystile/keystiletest"
)

// visitor is someone at the pages, without JavaScript.
type visitor struct {
	t    testing.TB
	url  string
	http *http.Client
}

// sheet is a page as a visitor got it.
type sheet struct {
	t      testing.TB
	asked  string
	status int
	head   http.Header
	source string
	tree   *html.Node
}

// visit comes in through a link, and answers for whom it was made.
func visit(t testing.TB, s *keystiletest.Server, link string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, url: s.URL, http: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
	v.send(strings.TrimPrefix(link, s.URL), nil, url.Values{}).wants(http.StatusSeeOther)
	return v
}

// admin is a visitor who may do everything in the first workspace.
func admin(t testing.TB, s *keystiletest.Server) *visitor {
	t.Helper()
	return visit(t, s, s.SignInLink(s.Workspace))
}

// inRole is a visitor with a role in a workspace.
func inRole(t testing.TB, s *keystiletest.Server, workspace, role string) *visitor {
	t.Helper()
	return visit(t, s, s.MemberLink(workspace, "subject-"+role, role))
}

// open loads a page.
func (v *visitor) open(path string) *sheet {
	v.t.Helper()
	return v.send(path, nil, nil)
}

// post sends a form of names and values in turn.
func (v *visitor) post(path string, pairs ...string) *sheet {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return v.send(path, nil, form)
}

// done sends a form that leads on, and loads where it leads.
func (v *visitor) done(path string, pairs ...string) *sheet {
	v.t.Helper()
	return v.open(v.post(path, pairs...).wants(http.StatusSeeOther).head.Get("Location")).wants(http.StatusOK)
}

// send gets a page, or posts a form if there is one.
func (v *visitor) send(path string, head http.Header, form url.Values) *sheet {
	v.t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.url+path, body)
	if err != nil {
		v.t.Fatal(err)
	}
	for name, values := range head {
		r.Header[name] = values
	}
	r.Header.Set("Accept", "text/html")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", v.url)
	}
	answer, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer answer.Body.Close()
	source, err := io.ReadAll(answer.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	tree, err := html.Parse(strings.NewReader(string(source)))
	if err != nil {
		v.t.Fatal(err)
	}
	p := &sheet{v.t, method + " " + path, answer.StatusCode, answer.Header, string(source), tree}
	p.sound()
	return p
}

// sound checks what holds of every page.
func (p *sheet) sound() {
	p.t.Helper()
	if !strings.HasPrefix(p.head.Get("Content-Type"), "text/html") || p.status == http.StatusSeeOther {
		return
	}
	if p.head.Get("Cache-Control") != "no-store" {
		p.t.Errorf("%s may be kept: %q", p.asked, p.head.Get("Cache-Control"))
	}
	if len(p.source) > 100_000 {
		p.t.Errorf("%s has %d bytes", p.asked, len(p.source))
	}
	if strings.Contains(p.source, "<no value>") || strings.Contains(p.source, "ZgotmplZ") {
		p.t.Errorf("%s has a hole: %s", p.asked, p.source)
	}
	if n := len(p.find("h1")); n != 1 {
		p.t.Errorf("%s has %d main headings", p.asked, n)
	}
	ids := map[string]bool{}
	for n := range p.tree.Descendants() {
		if id := value(n, "id"); id != "" {
			if ids[id] {
				p.t.Errorf("%s has the id %q twice", p.asked, id)
			}
			ids[id] = true
		}
		if n.Type == html.ElementNode && (value(n, "style") != "" || n.Data == "style" || value(n, "onclick") != "") {
			p.t.Errorf("%s has a style or script that the policy forbids", p.asked)
		}
	}
	for n := range p.tree.Descendants() {
		for _, name := range []string{"for", "aria-describedby", "aria-labelledby", "data-copy", "form"} {
			if id := value(n, name); id != "" && !ids[id] {
				p.t.Errorf("%s: %s refers to %q, which is not there", p.asked, name, id)
			}
		}
	}
}

func (p *sheet) wants(status int) *sheet {
	p.t.Helper()
	if p.status != status {
		p.t.Fatalf("%s: %d, want %d: %s", p.asked, p.status, status, p.words())
	}
	return p
}

// find lists elements of a name whose text has all of these words in it.
func (p *sheet) find(name string, words ...string) (found []*html.Node) {
	for n := range p.tree.Descendants() {
		if n.Type == html.ElementNode && n.Data == name && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said(n), w) }) {
			found = append(found, n)
		}
	}
	return found
}

// one is the only element of a name with these words.
func (p *sheet) one(name string, words ...string) *html.Node {
	p.t.Helper()
	found := p.find(name, words...)
	if len(found) != 1 {
		p.t.Fatalf("%s has %d of <%s> with %q: %s", p.asked, len(found), name, words, p.words())
	}
	return found[0]
}

// says expects words on the page.
func (p *sheet) says(words ...string) *sheet {
	p.t.Helper()
	for _, w := range words {
		if !strings.Contains(p.words(), w) {
			p.t.Errorf("%s does not say %q: %s", p.asked, w, p.words())
		}
	}
	return p
}

// lacks expects words nowhere in the page, its markup included.
func (p *sheet) lacks(words ...string) *sheet {
	p.t.Helper()
	for _, w := range words {
		if strings.Contains(p.source, w) {
			p.t.Errorf("%s holds %q: %s", p.asked, w, p.words())
		}
	}
	return p
}

// words is what the page says.
func (p *sheet) words() string {
	if found := p.find("main"); len(found) > 0 {
		return said(found[0])
	}
	return said(p.tree)
}

// buttons are the names of the buttons in a part of the page.
func buttons(part *html.Node) (names []string) {
	for n := range part.Descendants() {
		if n.Type == html.ElementNode && n.Data == "button" {
			names = append(names, said(n))
		}
	}
	return names
}

// said is the text of a part of a page, with single spaces.
func said(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
		if d.Type == html.ElementNode && d.Data != "code" {
			b.WriteString(" ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func value(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// field is what a form's field holds.
func (p *sheet) field(name string) string {
	p.t.Helper()
	for n := range p.tree.Descendants() {
		if n.Type != html.ElementNode || value(n, "name") != name {
			continue
		}
		switch n.Data {
		case "select":
			for o := range n.Descendants() {
				if o.Type == html.ElementNode && slices.ContainsFunc(o.Attr, func(a html.Attribute) bool { return a.Key == "selected" }) {
					return value(o, "value")
				}
			}
			return ""
		case "textarea":
			return said(n)
		}
		return value(n, "value")
	}
	p.t.Fatalf("%s has no field %q", p.asked, name)
	return ""
}
