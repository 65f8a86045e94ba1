package dashboard_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// page is what a browser was answered.
type page struct {
	t      testing.TB
	what   string // was asked
	status int
	header http.Header
	to     string // where it leads; "" for nowhere
	body   string
	root   *html.Node
}

// sound checks what holds of every page.
func (p *page) sound() {
	p.t.Helper()
	if !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") || p.to != "" {
		return
	}
	if p.header.Get("Cache-Control") != "no-store" {
		p.t.Errorf("%s may be kept: %q", p.what, p.header.Get("Cache-Control"))
	}
	if len(p.body) > 100_000 {
		p.t.Errorf("%s has %d bytes", p.what, len(p.body))
	}
	if strings.Contains(p.body, "<no value>") || strings.Contains(p.body, "ZgotmplZ") {
		p.t.Errorf("%s has a hole: %s", p.what, p.body)
	}
	if n := len(p.find("h1")); n != 1 {
		p.t.Errorf("%s has %d main headings", p.what, n)
	}
	ids := map[string]bool{}
	for n := range p.root.Descendants() {
		if id := attribute(n, "id"); id != "" {
			if ids[id] {
				p.t.Errorf("%s has the id %q twice", p.what, id)
			}
			ids[id] = true
		}
		if n.Type == html.ElementNode && (has(n, "style") || n.Data == "style" || has(n, "onclick")) {
			p.t.Errorf("%s has a style or script that the policy forbids", p.what)
		}
	}
	for n := range p.root.Descendants() {
		for _, name := range []string{"for", "aria-describedby", "aria-labelledby", "data-copy", "form"} {
			for _, id := range strings.Fields(attribute(n, name)) {
				if !ids[id] {
					p.t.Errorf("%s: %s refers to %q, which is not there", p.what, name, id)
				}
			}
		}
	}
}

func (p *page) is(status int) *page {
	p.t.Helper()
	if p.status != status {
		p.t.Fatalf("%s: %d, want %d, to %q: %s", p.what, p.status, status, p.to, p.words())
	}
	return p
}

// shows expects words on the page as people read it.
func (p *page) shows(words ...string) *page {
	p.t.Helper()
	for _, w := range words {
		if !strings.Contains(p.words(), w) {
			p.t.Errorf("%s does not show %q: %s", p.what, w, p.words())
		}
	}
	return p
}

// holds expects texts in the answer: its markup, or where it leads.
func (p *page) holds(texts ...string) *page {
	p.t.Helper()
	for _, s := range texts {
		if !strings.Contains(p.to+p.body, s) {
			p.t.Errorf("%s does not hold %q: %s%s", p.what, s, p.to, p.body)
		}
	}
	return p
}

// lacks expects texts nowhere in the answer.
func (p *page) lacks(texts ...string) *page {
	p.t.Helper()
	for _, s := range texts {
		if strings.Contains(p.to+p.body, s) {
			p.t.Errorf("%s holds %q: %s", p.what, s, p.words())
		}
	}
	return p
}

// words is what the page says, without its menu.
func (p *page) words() string {
	if found := p.find("main"); len(found) > 0 {
		return text(found[0])
	}
	return text(p.root)
}

// find lists the elements of a name whose text has all of these words in it.
func (p *page) find(name string, words ...string) []*html.Node {
	return p.all(name, func(n *html.Node) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text(n), w) })
	})
}

// all lists the elements of a name for which fits holds.
func (p *page) all(name string, fits func(*html.Node) bool) (found []*html.Node) {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name && fits(n) {
			found = append(found, n)
		}
	}
	return found
}

// one is the only element of a name with these words.
func (p *page) one(name string, words ...string) *html.Node {
	p.t.Helper()
	found := p.find(name, words...)
	if len(found) != 1 {
		p.t.Fatalf("%s has %d of <%s> with %q: %s", p.what, len(found), name, words, p.words())
	}
	return found[0]
}

// field is what a form's field holds.
func (p *page) field(name string) string {
	p.t.Helper()
	for n := range p.root.Descendants() {
		if n.Type != html.ElementNode || attribute(n, "name") != name {
			continue
		}
		switch n.Data {
		case "select":
			for o := range n.Descendants() {
				if o.Type == html.ElementNode && has(o, "selected") {
					return attribute(o, "value")
				}
			}
			return ""
		case "textarea":
			return text(n)
		}
		return attribute(n, "value")
	}
	p.t.Fatalf("%s has no field %q", p.what, name)
	return ""
}

// hidden are the fields of the page that people don't see, as a form sends them.
func (p *page) hidden() (pairs []string) {
	for _, n := range p.all("input", func(n *html.Node) bool { return attribute(n, "type") == "hidden" }) {
		pairs = append(pairs, attribute(n, "name"), attribute(n, "value"))
	}
	return pairs
}

// buttons are the names of the buttons in a part of a page.
func buttons(part *html.Node) (names []string) {
	for n := range part.Descendants() {
		if n.Type == html.ElementNode && n.Data == "button" {
			names = append(names, text(n))
		}
	}
	return names
}

// text is what a part of a page says, with single spaces.
func text(n *html.Node) string {
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
