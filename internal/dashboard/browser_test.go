package dashboard_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// public is how people reach the servers of tests about passkeys, which need a
// host name.
const public = "https://keys.example.test"

// browser is somebody's, without JavaScript. It follows no redirect unasked.
type browser struct {
	t       testing.TB
	server  *keystiletest.Server
	client  *http.Client
	header  http.Header             // sent with everything
	cookies map[string]*http.Cookie // by name
}

// newBrowser is of somebody who is not signed in.
func newBrowser(t testing.TB, s *keystiletest.Server) *browser {
	t.Helper()
	b := &browser{t: t, server: s, header: http.Header{}, cookies: map[string]*http.Cookie{}}
	b.client = &http.Client{Jar: b, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return b
}

// Cookies implements http.CookieJar. Those for TLS come back without it, since
// the server of a test stands in for the one behind TLS.
func (b *browser) Cookies(*url.URL) (all []*http.Cookie) {
	for _, c := range b.cookies {
		all = append(all, c)
	}
	return all
}

// SetCookies implements http.CookieJar, and checks each.
func (b *browser) SetCookies(_ *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		if !c.HttpOnly || c.Secure != strings.HasPrefix(c.Name, "__Host-") || c.Path != "/" || c.Domain != "" {
			b.t.Errorf("cookie %s: %+v", c.Name, c)
		}
		if b.cookies[c.Name] = c; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
}

// get loads a page.
func (b *browser) get(path string) *page {
	b.t.Helper()
	return b.send(http.MethodGet, path, nil)
}

// post sends a form of names and values in turn.
func (b *browser) post(path string, pairs ...string) *page {
	b.t.Helper()
	return b.send(http.MethodPost, path, form(pairs...))
}

// done sends a form that leads on, and loads where it leads.
func (b *browser) done(path string, pairs ...string) *page {
	b.t.Helper()
	return b.get(b.post(path, pairs...).is(http.StatusSeeOther).to).is(http.StatusOK)
}

func (b *browser) send(method, path string, form url.Values) *page {
	b.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, b.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.server.URL)
	}
	for name, values := range b.header {
		r.Header[name] = values
	}
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
	p := &page{b.t, method + " " + path, res.StatusCode, res.Header, res.Header.Get("Location"), string(body), root}
	p.sound()
	return p
}

// form is what a form of names and values in turn sends.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// enter opens a link, whole or its token alone, and presses its button.
func (b *browser) enter(link string) *browser {
	b.t.Helper()
	path := "/link/" + link[strings.LastIndex(link, "/")+1:]
	b.get(path).is(http.StatusOK)
	b.post(path).is(http.StatusSeeOther)
	return b
}

// in tells whether somebody is signed in.
func (b *browser) in() bool {
	b.t.Helper()
	return b.get("/account").status == http.StatusOK
}

// token is the session's; "" for none.
func (b *browser) token() string {
	for _, name := range []string{"__Host-keystile", "keystile", "__Host-keystile-portal"} {
		if c, ok := b.cookies[name]; ok {
			return c.Value
		}
	}
	return ""
}

// actor is who is signed in, in a workspace.
func (b *browser) actor(workspace string) keyring.Actor {
	b.t.Helper()
	s, err := b.server.Keyring().Session(context.Background(), b.token(), keyring.Origin{})
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := b.server.Keyring().Enter(context.Background(), s, workspace)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// operator is a browser of someone with the operator's sign-in link.
func operator(t testing.TB, s *keystiletest.Server) *browser {
	t.Helper()
	return newBrowser(t, s).enter(s.SignInLink(""))
}

// admin is a browser of someone with the link that makes an admin of the first
// workspace.
func admin(t testing.TB, s *keystiletest.Server) *browser {
	t.Helper()
	return newBrowser(t, s).enter(s.SignInLink(s.Workspace))
}

// inRole is a browser of someone whom the product has sent, with a role.
func inRole(t testing.TB, s *keystiletest.Server, workspace, role string) *browser {
	t.Helper()
	return newBrowser(t, s).enter(s.MemberLink(workspace, "subject-"+role, role))
}

// member is a browser of a new member of a workspace.
func member(t testing.TB, s *keystiletest.Server, workspace, name, role string) (*browser, keystile.Member) {
	t.Helper()
	m := newMember(t, s, workspace, name, role)
	return newBrowser(t, s).enter(invite(t, s, keyring.Operator("test"), m)), m
}

// newMember makes a member who has no link yet.
func newMember(t testing.TB, s *keystiletest.Server, workspace, name, role string) keystile.Member {
	t.Helper()
	m, _, err := s.Keyring().CreateMember(context.Background(), keyring.Operator("test"), workspace, keystile.CreateMember{
		Person: keystile.Person{Name: name, Email: strings.ReplaceAll(strings.ToLower(name), " ", ".") + "@example.com"}, Role: role,
	}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// invite is the token of a link that lets a member in, made by someone.
func invite(t testing.TB, s *keystiletest.Server, by keyring.Actor, m keystile.Member) string {
	t.Helper()
	token, _, err := s.Keyring().Invite(context.Background(), by, m.ID, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return token
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
