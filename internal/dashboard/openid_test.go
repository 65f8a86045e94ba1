package dashboard_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

const (
	clientID     = "keystile"
	clientSecret = "a secret of the test's"
	back         = "/sign-in/openid/callback"
)

// realProvider starts npm's oidc-provider as a process and returns its issuer.
func realProvider(t *testing.T) string {
	t.Helper()
	install := exec.Command(filepath.Join("..", "..", "scripts", "npm.sh"), "oidc-provider", "8.8.1")
	var errors bytes.Buffer
	install.Stderr = &errors
	directory, err := install.Output()
	if err != nil {
		t.Fatalf("scripts/npm.sh: %v\n%s", err, errors.String())
	}
	cmd := exec.Command("node", filepath.Join("testdata", "provider.mjs"), strings.TrimSpace(string(directory)), clientID, clientSecret, public+back)
	cmd.Stderr = io.Discard
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	issuer := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "http://") {
				issuer <- lines.Text()
			}
		}
	}()
	select {
	case s := <-issuer:
		return s
	case <-time.After(time.Minute):
		t.Fatal("the provider does not listen after a minute")
		return ""
	}
}

// away goes to the provider once it is known, and returns where it is sent.
func (g *browser) away(path string) *url.URL {
	g.t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		r := g.get(path)
		if r.status == http.StatusServiceUnavailable && time.Since(begin) < time.Minute {
			continue
		}
		r.is(http.StatusSeeOther)
		u, err := url.Parse(r.to)
		if err != nil || u.Host == "" {
			g.t.Fatalf("sent to %q", r.to)
		}
		return u
	}
}

// account is somebody's browser at the provider.
type account struct {
	t      *testing.T
	client *http.Client
	login  string
	asked  int // how often the provider has asked for the password
}

func newAccount(t *testing.T, login string) *account {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &account{t: t, login: login, client: &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), public) {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

var action = regexp.MustCompile(`action="([^"]+)"`)

// consent goes through the provider's pages and returns the path back.
func (a *account) consent(to *url.URL) string {
	a.t.Helper()
	res, err := a.client.Get(to.String())
	for range 5 {
		if err != nil {
			a.t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			a.t.Fatal(err)
		}
		if path, ok := strings.CutPrefix(res.Header.Get("Location"), public); ok {
			return path
		}
		m := action.FindSubmatch(body)
		if m == nil {
			a.t.Fatalf("the provider says %d: %s", res.StatusCode, body)
		}
		next, err := res.Request.URL.Parse(string(m[1]))
		if err != nil {
			a.t.Fatal(err)
		}
		form := url.Values{"prompt": {"consent"}}
		if bytes.Contains(body, []byte(`name="password"`)) {
			form = url.Values{"prompt": {"login"}, "login": {a.login}, "password": {"any"}}
			a.asked++
		}
		res, err = a.client.PostForm(next.String(), form)
		if err != nil {
			a.t.Fatal(err)
		}
	}
	a.t.Fatal("the provider goes round in circles")
	return ""
}

// TestOpenIDProvider: signing in at a certified provider, an invitation
// accepted there, and the proof that a sensitive page asks for again.
func TestOpenIDProvider(t *testing.T) {
	t.Parallel()
	issuer := realProvider(t)
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.OpenID(issuer, clientID, clientSecret))
	g, ada := newBrowser(t, s), newAccount(t, "ada")

	g.get("/sign-in").is(http.StatusOK).holds("Sign in with single sign-on")
	to := g.away("/sign-in/openid?next=/account")
	if q := to.Query(); q.Get("code_challenge_method") != "S256" || q.Get("redirect_uri") != public+back || q.Get("response_type") != "code" || len(q.Get("state")) < 40 || len(q.Get("nonce")) < 40 {
		t.Errorf("asked for %s", to)
	}
	stranger := g.get(ada.consent(to)).is(http.StatusForbidden).holds("Ask an administrator of your workspace for an invitation")
	if g.in() {
		t.Error("a stranger is in")
	}
	// Somebody known who has lost their place is told the same.
	gone, err := s.Operator.CreateMember(t.Context(), s.Workspace, keystile.CreateMember{Person: keystile.Person{Issuer: issuer, Subject: "gone"}, Role: "viewer"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Operator.DeleteMember(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	requestID := regexp.MustCompile(`[0-9a-f]{24}`)
	same := g.get(newAccount(t, "gone").consent(g.away("/sign-in/openid"))).is(http.StatusForbidden)
	if requestID.ReplaceAllString(same.body, "") != requestID.ReplaceAllString(stranger.body, "") {
		t.Errorf("whom one knows can be told:\n%s\n%s", same.body, stranger.body)
	}
	wantAudited(t, s, keyring.OperatorWorkspace, "session.refused nobody known oidc no place in any workspace")

	// An invitation gives its place to whoever signs in.
	token := invite(t, s, keyring.Operator("test"), newMember(t, s, s.Workspace, "Ada of the invitation", "admin"))
	g.get("/link/" + token).is(http.StatusOK).holds("/link/" + token + "/openid")
	g.get(ada.consent(g.away("/link/" + token + "/openid"))).is(http.StatusSeeOther).holds("/")
	g.get("/account").is(http.StatusOK).holds("Signed in as Name of ada", "Single sign-on")
	g.get("/w/" + s.Workspace + "/keys").is(http.StatusOK)
	newBrowser(t, s).post("/link/" + token).is(http.StatusUnauthorized)
	m := place(t, s, s.Workspace, "Ada of the invitation")
	if m.Person.Issuer != issuer || m.Person.Subject != "ada" || m.Status != "active" {
		t.Errorf("the member is %+v", m)
	}
	wantAudited(t, s, s.Workspace, "member.joined Ada of the invitation", "session.began Ada of the invitation  oidc")

	// The e-mail address is everyone's at this provider, and identifies nobody.
	eve := newBrowser(t, s)
	eve.get(newAccount(t, "eve").consent(eve.away("/sign-in/openid"))).is(http.StatusForbidden)

	// Whoever is named by issuer and subject needs no link.
	if _, err := s.Operator.CreateMember(t.Context(), s.Workspace, keystile.CreateMember{Person: keystile.Person{Issuer: issuer, Subject: "bob", Name: "Bob"}, Role: "viewer"}); err != nil {
		t.Fatal(err)
	}
	bob := newBrowser(t, s)
	bob.get(newAccount(t, "bob").consent(bob.away("/sign-in/openid?next=/workspaces"))).is(http.StatusSeeOther).holds("/workspaces")
	if place(t, s, s.Workspace, "Bob").Status != "active" {
		t.Error("Bob is still invited")
	}

	// Again: the provider asks anew, whatever it remembers.
	g.post("/sign-out").is(http.StatusSeeOther)
	asked := ada.asked
	g.get(ada.consent(g.away("/sign-in/openid"))).is(http.StatusSeeOther)
	if ada.asked != asked {
		t.Error("the provider asks for the password though it knows Ada")
	}
	before := g.token()
	g.get("/sign-in?again=1&next=/account/passkeys/new").is(http.StatusOK).holds("/sign-in/openid?again=1&amp;next=%2Faccount%2Fpasskeys%2Fnew")
	to = g.away("/sign-in/openid?again=1&next=/account/passkeys/new")
	if to.Query().Get("prompt") != "login" || to.Query().Get("max_age") != "0" {
		t.Errorf("asked for %s", to)
	}
	g.get(ada.consent(to)).is(http.StatusSeeOther).holds("/account/passkeys/new")
	if ada.asked != asked+1 {
		t.Errorf("the provider has asked %d times more", ada.asked-asked)
	}
	if g.token() == before {
		t.Error("the token stays the same over a new proof")
	}
	g.get("/account/passkeys/new").is(http.StatusOK)
	d := newDevice()
	g.add(d).is(http.StatusSeeOther)
	newBrowser(t, s).signIn(d).is(http.StatusSeeOther)
}

// liar is a provider that answers as the test says.
type liar struct {
	t      testing.TB
	issuer string
	key    *ecdsa.PrivateKey
	claims map[string]any // over what would be right
	nonce  string         // of the question
	proof  string         // PKCE challenge of the question
}

func newLiar(t testing.TB) *liar {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{t: t, key: key}
	keys := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: oidc.ES256}}, Algorithms: []string{oidc.ES256}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": l.issuer, "authorization_endpoint": l.issuer + "/auth", "token_endpoint": l.issuer + "/token", "jwks_uri": l.issuer + "/keys",
			"id_token_signing_alg_values_supported": []string{oidc.ES256}, "authorization_response_iss_parameter_supported": true,
		})
	})
	mux.HandleFunc("/token", l.token)
	mux.Handle("/", keys)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	l.issuer = server.URL
	keys.SetIssuer(server.URL)
	return l
}

func (l *liar) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	w.Header().Set("Content-Type", "application/json")
	if unescaped, _ := url.QueryUnescape(secret); id != clientID || unescaped != clientSecret || r.PostFormValue("code") != "good" ||
		base64.RawURLEncoding.EncodeToString(sum[:]) != l.proof {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	now := time.Now()
	claims := map[string]any{
		"iss": l.issuer, "aud": clientID, "sub": "ada", "nonce": l.nonce,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "auth_time": now.Unix(),
	}
	maps.Copy(claims, l.claims)
	text, err := json.Marshal(claims)
	if err != nil {
		l.t.Error(err)
	}
	key := l.key
	if claims["sub"] == "forged" {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": "unused", "token_type": "Bearer", "id_token": oidctest.SignIDToken(key, "k", oidc.ES256, string(text)),
	})
}

// answer takes a question and returns the query of the way back.
func (l *liar) answer(question *url.URL) url.Values {
	l.nonce, l.proof = question.Query().Get("nonce"), question.Query().Get("code_challenge")
	return url.Values{"code": {"good"}, "state": {question.Query().Get("state")}, "iss": {l.issuer}}
}

// TestOpenIDLies: whatever is not the answer of this provider to this question
// of this browser lets nobody in.
func TestOpenIDLies(t *testing.T) {
	t.Parallel()
	l := newLiar(t)
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.OpenID(l.issuer, clientID, clientSecret),
		keystiletest.TrustedProxy("127.0.0.0/8"))
	hosts := 0
	// Each guest has an address of their own, and so tries of their own.
	guestOf := func(t *testing.T) *browser {
		t.Helper()
		g := newBrowser(t, s)
		hosts++
		g.header.Set("X-Forwarded-For", "192.0.2."+strconv.Itoa(hosts))
		return g
	}
	for _, subject := range []string{"ada", "forged"} {
		if _, err := s.Operator.CreateMember(t.Context(), s.Workspace, keystile.CreateMember{
			Person: keystile.Person{Issuer: l.issuer, Subject: subject}, Role: "admin"}); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	for _, test := range []struct {
		name   string
		claims map[string]any
		query  url.Values // over the right one
		path   string
		status int
		why    string
	}{
		{name: "the truth", status: http.StatusSeeOther},
		{name: "wrong issuer in the token", claims: map[string]any{"iss": "https://elsewhere.example"}, why: "the token does not hold"},
		{name: "wrong issuer in the answer", query: url.Values{"iss": {"https://elsewhere.example"}}, why: "wrong issuer"},
		{name: "no issuer in the answer", query: url.Values{"iss": {""}}, why: "wrong issuer"},
		{name: "for another client", claims: map[string]any{"aud": "another"}, why: "the token does not hold"},
		{name: "for several, issued to another", claims: map[string]any{"aud": []string{clientID, "another"}, "azp": "another"}, why: "issued to another party"},
		{name: "expired", claims: map[string]any{"exp": now.Add(-time.Hour).Unix()}, why: "the token does not hold"},
		{name: "signed by another", claims: map[string]any{"sub": "forged"}, why: "the token does not hold"},
		{name: "wrong nonce", claims: map[string]any{"nonce": "of another sign-in"}, why: "wrong nonce"},
		{name: "no nonce", claims: map[string]any{"nonce": ""}, why: "wrong nonce"},
		{name: "nobody", claims: map[string]any{"sub": ""}, why: "unreadable claims"},
		{name: "bad code", query: url.Values{"code": {"bad"}}, why: "the code was not taken"},
		{name: "refused", query: url.Values{"error": {"access_denied"}, "code": {""}}, why: "the provider refused"},
		{name: "wrong state", query: url.Values{"state": {strings.Repeat("A", 43)}}, status: http.StatusUnauthorized, why: "state"},
		{name: "no state", query: url.Values{"state": {""}}, status: http.StatusUnauthorized, why: "state"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := guestOf(t)
			q := l.answer(g.away("/sign-in/openid?next=/account"))
			l.claims = test.claims
			maps.Copy(q, test.query)
			status := test.status
			if status == 0 {
				status = http.StatusForbidden
			}
			g.get(back + "?" + q.Encode()).is(status)
			if in := g.in(); in != (status == http.StatusSeeOther) {
				t.Errorf("in: %v", in)
			}
			if test.why != "" {
				wantAudited(t, s, keyring.OperatorWorkspace, "session.refused nobody known oidc "+test.why)
			}
		})
	}
	l.claims = nil

	t.Run("replayed", func(t *testing.T) {
		g := guestOf(t)
		q := l.answer(g.away("/sign-in/openid"))
		ceremony := g.cookies["__Host-keystile-oidc"]
		g.get(back + "?" + q.Encode()).is(http.StatusSeeOther)
		thief := guestOf(t)
		thief.get(back + "?" + q.Encode()).is(http.StatusUnauthorized)
		thief.cookies[ceremony.Name] = ceremony
		thief.get(back + "?" + q.Encode()).is(http.StatusUnauthorized).holds("Begin again")
	})
	t.Run("another browser's question", func(t *testing.T) {
		attacker, victim := guestOf(t), guestOf(t)
		q := l.answer(attacker.away("/sign-in/openid"))
		victim.away("/sign-in/openid")
		victim.get(back + "?" + q.Encode()).is(http.StatusUnauthorized)
		if victim.in() {
			t.Error("the victim is signed in as the attacker")
		}
	})
	t.Run("old proof is no fresh session", func(t *testing.T) {
		for name, claims := range map[string]map[string]any{
			"old": {"auth_time": now.Add(-2 * time.Hour).Unix()}, "unsaid": {"auth_time": nil},
		} {
			t.Run(name, func(t *testing.T) {
				g := guestOf(t)
				l.claims = claims
				g.get(back + "?" + l.answer(g.away("/sign-in/openid")).Encode()).is(http.StatusSeeOther)
				keys := "/w/" + s.Workspace + "/keys"
				g.get(keys).is(http.StatusOK)
				g.get(keys + "/new").is(http.StatusSeeOther).holds("/sign-in?again=1&next=" + url.QueryEscape(keys+"/new"))
				g.post(keys, "name", "x").is(http.StatusUnauthorized).holds("fresh sign-in")
				g.post("/account/passkeys/options").is(http.StatusUnauthorized)
				again := "/sign-in/openid?again=1&next=" + url.QueryEscape(keys+"/new")
				g.get(back + "?" + l.answer(g.away(again)).Encode()).is(http.StatusForbidden) // lies again
				g.get(keys + "/new").is(http.StatusSeeOther)
				l.claims = nil
				g.get(back + "?" + l.answer(g.away(again)).Encode()).is(http.StatusSeeOther).holds(keys + "/new")
				g.get(keys + "/new").is(http.StatusOK)
			})
		}
	})
	t.Run("an invitation that is over", func(t *testing.T) {
		g := guestOf(t)
		l.claims = map[string]any{"sub": "newcomer"}
		token := invite(t, s, keyring.Operator("test"), newMember(t, s, s.Workspace, "Newcomer", "viewer"))
		q := l.answer(g.away("/link/" + token + "/openid"))
		guestOf(t).enter(token) // meanwhile
		g.get(back + "?" + q.Encode()).is(http.StatusForbidden)
		g.get("/link/nonsense/openid").is(http.StatusUnauthorized)
	})
}

// TestOpenIDProviderDown: the server starts, other ways work, and the way
// through the provider opens when it is there.
func TestOpenIDProviderDown(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(http.NotFoundHandler())
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.OpenID(down.URL, clientID, ""))
	defer down.Close()
	g := newBrowser(t, s)
	g.get("/sign-in/openid").is(http.StatusServiceUnavailable).holds("cannot be reached")
	g.enter(s.SignInLink(""))
	if !g.in() {
		t.Error("a link does not work while the provider is down")
	}
	without := keystiletest.New(t, keystiletest.PublicURL(public))
	g = newBrowser(t, without)
	g.get("/sign-in/openid").is(http.StatusNotFound)
	g.get(back).is(http.StatusNotFound)
	if strings.Contains(g.get("/sign-in").body, "single sign-on") {
		t.Error("offers what there is not")
	}
}

// A page of another site, or an address in a mail, makes nobody accept an
// invitation at the provider, who would vouch without asking: only the link's
// own page leads there.
func TestInvitationIsAcceptedOnItsPageOnly(t *testing.T) {
	t.Parallel()
	l := newLiar(t)
	s := keystiletest.New(t, keystiletest.PublicURL(public), keystiletest.OpenID(l.issuer, clientID, clientSecret))
	path := "/link/" + invite(t, s, keyring.Operator("test"), newMember(t, s, s.Workspace, "Ada", "viewer"))
	g := newBrowser(t, s)
	g.away(path + "/openid") // the provider is known from here on
	for _, site := range []string{"cross-site", "same-site", "none"} {
		g := newBrowser(t, s)
		g.header.Set("Sec-Fetch-Site", site)
		g.get(path + "/openid").is(http.StatusSeeOther).holds(path)
		if len(g.cookies) > 0 {
			t.Errorf("%s: a sign-in is under way", site)
		}
	}
	g.header.Set("Sec-Fetch-Site", "same-origin")
	g.away(path + "/openid")
}
