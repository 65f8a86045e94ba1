package dashboard_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	_ "modernc.org/sqlite" // to look into the database

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/dashboard"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// What stands in every name of the two workspaces, and nowhere else.
const (
	ours   = "OURS7301"
	theirs = "THEIRS4286"
)

// Who walks. All but the last four are at home in our workspace.
const (
	everyone  = "admin developer viewer service portal link operator verifier foreigner nobody"
	known     = "admin developer viewer service portal link operator verifier foreigner" // signed in
	operators = "link operator"
	admins    = "admin link operator"
	makers    = "admin developer portal link operator" // the portal's session has the role developer
	viewers   = "admin developer viewer portal link operator"
)

// walkRow says who may open a route, and what a form sends. It is written down
// here a second time on purpose: a change of the rules must show.
type walkRow struct {
	may  string // names of walkers
	form func(o objects) []string
	// hidden: what the form's page holds besides is sent along.
	hidden bool
	// session: it ends or changes the walker's session, so each needs one of its own.
	session bool
	// status for those who may, where it is neither that of a page nor, for a
	// form, that of a way on to one; and for nobody, where it is yet another.
	status, nobody int
}

func walkRows() map[string]walkRow {
	page := func(may string) walkRow { return walkRow{may: may} }
	sends := func(may string, pairs ...string) walkRow {
		return walkRow{may: may, form: func(objects) []string { return pairs }}
	}
	shown := func(may string, pairs ...string) walkRow { // what it makes, once
		row := sends(may, pairs...)
		row.status = http.StatusCreated
		return row
	}
	none := func(objects) []string { return nil }
	const w = "/w/{workspace}"
	return map[string]walkRow{
		"GET /{$}":           {may: everyone, status: http.StatusSeeOther},
		"GET /sign-in":       {may: everyone, status: http.StatusSeeOther, nobody: http.StatusOK},
		"GET /link/{token}":  page(everyone),
		"POST /link/{token}": {may: everyone, form: none, session: true},
		"POST /sign-out":     {may: known, form: none, session: true},

		// At an address without a name there are no passkeys, and there is no provider.
		"POST /sign-in/passkey/options":  {may: everyone, form: none, status: http.StatusConflict},
		"POST /sign-in/passkey":          {may: everyone, form: none, status: http.StatusConflict},
		"GET /sign-in/openid":            {may: everyone, status: http.StatusNotFound},
		"GET /sign-in/openid/callback":   {may: everyone, status: http.StatusNotFound},
		"GET /link/{token}/openid":       {may: everyone, status: http.StatusNotFound},
		"GET /account/passkeys/new":      page(known), // says so
		"POST /account/passkeys/options": {may: known, form: none, status: http.StatusConflict},
		"POST /account/passkeys":         {may: known, form: none, status: http.StatusConflict},
		// Nobody's, by an ID that is of nothing.
		"POST /account/passkeys/{id}":        {may: known, form: func(objects) []string { return []string{"name", "Mine"} }, status: http.StatusNotFound},
		"GET /account/passkeys/{id}/remove":  {may: known, status: http.StatusNotFound},
		"POST /account/passkeys/{id}/remove": {may: known, form: none, status: http.StatusNotFound},
		"POST /account/sessions/{id}/end":    {may: known, form: none, status: http.StatusNotFound},
		"GET /account":                       page(known),
		"POST /account/sign-out-everywhere":  {may: known, form: none, session: true},

		"GET /workspaces":     page(known),
		"GET /servers":        page(operators),
		"GET /workspaces/new": page(operators),
		"POST /workspaces":    sends(operators, "name", "Another"),

		"GET " + w + "/{$}": {may: viewers, status: http.StatusSeeOther},

		"GET " + w + "/keys":            page(viewers),
		"GET " + w + "/keys/new":        page(makers),
		"POST " + w + "/keys":           shown(makers, "name", "A key", "role", "service"),
		"GET " + w + "/keys/revoke":     {may: makers},
		"POST " + w + "/keys/revoke":    {may: makers, form: func(o objects) []string { return []string{"key[]", o.key} }},
		"GET " + w + "/keys/delete":     {may: makers},
		"POST " + w + "/keys/delete":    {may: makers, form: func(o objects) []string { return []string{"key[]", o.key} }},
		"GET " + w + "/keys/{key}":      page(viewers),
		"GET " + w + "/keys/{key}/edit": page(makers),
		"POST " + w + "/keys/{key}/edit": {may: makers, hidden: true, form: func(objects) []string {
			return []string{"name", "Edited", "role", "service"}
		}},
		"GET " + w + "/keys/{key}/rotate":   page(makers),
		"POST " + w + "/keys/{key}/rotate":  shown(makers),
		"GET " + w + "/keys/{key}/rollback": page(makers),
		// The key replaces no other.
		"POST " + w + "/keys/{key}/rollback":                          {may: makers, form: func(objects) []string { return nil }, status: http.StatusUnprocessableEntity},
		"GET " + w + "/keys/{key}/revoke":                             page(makers),
		"POST " + w + "/keys/{key}/revoke":                            sends(makers, "reason", "unneeded"),
		"GET " + w + "/keys/{key}/delete":                             page(makers),
		"POST " + w + "/keys/{key}/delete":                            sends(makers),
		"GET " + w + "/keys/{key}/disable":                            page(makers),
		"POST " + w + "/keys/{key}/disable":                           sends(makers),
		"POST " + w + "/keys/{key}/enable":                            sends(makers),
		"POST " + w + "/keys/{key}/review":                            sends(makers),
		"GET " + w + "/webhook-secrets":                               page(viewers),
		"GET " + w + "/webhook-secrets/new":                           page(makers),
		"POST " + w + "/webhook-secrets":                              shown(makers, "label", "A consumer", "environment", "production"),
		"GET " + w + "/webhook-secrets/{secret}":                      page(viewers),
		"GET " + w + "/webhook-secrets/{secret}/edit":                 page(makers),
		"POST " + w + "/webhook-secrets/{secret}/edit":                sends(makers, "label", "Edited"),
		"GET " + w + "/webhook-secrets/{secret}/rotate":               page(makers),
		"POST " + w + "/webhook-secrets/{secret}/rotate":              shown(makers),
		"GET " + w + "/webhook-secrets/{secret}/rollback":             page(makers),
		"POST " + w + "/webhook-secrets/{secret}/rollback":            {may: makers, form: none, status: http.StatusUnprocessableEntity}, // it replaces no other
		"GET " + w + "/webhook-secrets/{secret}/revoke":               page(makers),
		"POST " + w + "/webhook-secrets/{secret}/revoke":              sends(makers, "reason", "unneeded"),
		"GET " + w + "/webhook-secrets/{secret}/test":                 page(makers),
		"POST " + w + "/webhook-secrets/{secret}/test":                {may: makers, form: func(objects) []string { return []string{"url", "https://192.0.2.1/"} }, status: http.StatusOK}, // nobody's address
		"GET " + w + "/webhook-secrets/{secret}/delete":               page(makers),
		"POST " + w + "/webhook-secrets/{secret}/delete":              sends(makers),
		"GET " + w + "/endpoints":                                     page(viewers),
		"GET " + w + "/endpoints/new":                                 page(makers),
		"POST " + w + "/endpoints":                                    shown(makers, "url", "https://example.com/x", "types[]", "key.created"),
		"GET " + w + "/endpoints/{endpoint}":                          page(viewers),
		"GET " + w + "/endpoints/{endpoint}/edit":                     page(makers),
		"POST " + w + "/endpoints/{endpoint}/edit":                    sends(makers, "url", "http://127.0.0.1:1/", "description", "Edited", "types[]", "key.created", "ranges", "127.0.0.1"),
		"GET " + w + "/endpoints/{endpoint}/test":                     page(makers),
		"POST " + w + "/endpoints/{endpoint}/test":                    {may: makers, form: none, status: http.StatusOK},
		"GET " + w + "/endpoints/{endpoint}/pause":                    page(makers),
		"POST " + w + "/endpoints/{endpoint}/pause":                   sends(makers, "reason", "maintenance"),
		"GET " + w + "/endpoints/{endpoint}/resume":                   page(makers),
		"POST " + w + "/endpoints/{endpoint}/resume":                  sends(makers),
		"GET " + w + "/endpoints/{endpoint}/replay":                   page(makers),
		"POST " + w + "/endpoints/{endpoint}/replay":                  sends(makers, "since", "2026-01-02T03:04"),
		"GET " + w + "/endpoints/{endpoint}/delete":                   page(makers),
		"POST " + w + "/endpoints/{endpoint}/delete":                  sends(makers),
		"GET " + w + "/endpoints/{endpoint}/secrets/new":              page(makers),
		"POST " + w + "/endpoints/{endpoint}/secrets/new":             shown(makers, "label", "A receiver"),
		"GET " + w + "/endpoints/{endpoint}/secrets/{signer}/rotate":  page(makers),
		"POST " + w + "/endpoints/{endpoint}/secrets/{signer}/rotate": shown(makers),
		"GET " + w + "/endpoints/{endpoint}/secrets/{signer}/revoke":  page(makers),
		"POST " + w + "/endpoints/{endpoint}/secrets/{signer}/revoke": sends(makers, "reason", "unneeded"),
		"GET " + w + "/deliveries/{delivery}":                         page(viewers),
		"POST " + w + "/deliveries/{delivery}/retry":                  sends(makers),
		"GET " + w + "/webhook-debugger":                              page(viewers),
		"POST " + w + "/webhook-debugger":                             {may: viewers, form: func(objects) []string { return []string{"headers", "webhook-id: m", "body", "{}"} }, status: http.StatusOK},

		"GET " + w + "/hygiene":             page(viewers),
		"GET " + w + "/integrations":        page(viewers + " service"), // how to connect is no secret
		"GET " + w + "/integrations/zapier": page(viewers + " service"),

		"GET " + w + "/members":                  page(viewers),
		"GET " + w + "/members/new":              page(admins),
		"POST " + w + "/members":                 shown(admins, "name", "Somebody", "role", "viewer"),
		"GET " + w + "/members/{member}/role":    page(admins),
		"POST " + w + "/members/{member}/role":   sends(admins, "role", "viewer"),
		"GET " + w + "/members/{member}/link":    page(admins),
		"POST " + w + "/members/{member}/link":   shown(admins),
		"GET " + w + "/members/{member}/remove":  page(admins),
		"POST " + w + "/members/{member}/remove": sends(admins, "keys", "keep"),

		"GET " + w + "/roles":                page(viewers),
		"GET " + w + "/roles/new":            page(admins),
		"POST " + w + "/roles":               {may: admins, form: func(o objects) []string { return []string{"name", o.unique, "permission", "read"} }},
		"GET " + w + "/roles/{role}/edit":    page(admins),
		"POST " + w + "/roles/{role}/edit":   {may: admins, form: func(o objects) []string { return []string{"name", o.unique, "permission", "write"} }},
		"GET " + w + "/roles/{role}/delete":  page(admins),
		"POST " + w + "/roles/{role}/delete": sends(admins),

		"GET " + w + "/settings":          page(viewers),
		"POST " + w + "/settings":         sends(admins, "name", "Ours "+ours),
		"GET " + w + "/settings/plan":     page(operators),
		"POST " + w + "/settings/plan":    sends(operators, "plan", "standard"),
		"GET " + w + "/settings/suspend":  page(operators),
		"POST " + w + "/settings/suspend": sends(operators, "reason", "unpaid"),
		"POST " + w + "/settings/resume":  sends(operators),

		"GET " + w + "/plans":                page(viewers),
		"GET " + w + "/usage":                page(viewers),
		"GET " + w + "/alerts":               page(viewers),
		"POST " + w + "/alerts/{alert}/seen": {may: makers, form: none},
		"GET " + w + "/audit":                page(viewers),
		"GET " + w + "/audit/export":         page(viewers),
	}
}

// objects are what paths and forms name, made anew for each step.
type objects struct {
	workspace, key, secret, member, role, alert, token, unique string
	endpoint, signer, delivery                                 string
}

// walk is the test's two workspaces and all who walk.
type roleWalk struct {
	testing.TB

	server       *keystiletest.Server
	ours, theirs string // workspaces
	made         int
	walkers      []walker

	lastSecret, lastEndpoint string // of ours
}

// walker is somebody with a browser.
type walker struct {
	name    string
	enter   func() *browser // signs in anew
	browser *browser
}

func newRoleWalk(t *testing.T, options ...keystiletest.Option) *roleWalk {
	s := keystiletest.New(t, append(options, keystiletest.ProfileText("product: Walk\nprefix: wk\nthird_parties: [zapier]\n"))...)
	w := &roleWalk{TB: t, server: s}
	w.ours = s.NewWorkspace("Ours "+ours, "").ID
	w.theirs = s.NewWorkspace("Theirs "+theirs, "").ID
	at := func(name, workspace, mark, role string) {
		n := 0
		w.walkers = append(w.walkers, walker{name: name, enter: func() *browser {
			n++
			b, _ := member(t, s, workspace, fmt.Sprint(name, mark, n), role)
			return b
		}})
	}
	for _, role := range []string{"admin", "developer", "viewer", "service"} {
		at(role, w.ours, ours, role)
	}
	ctx := context.Background()
	w.walkers = append(w.walkers,
		walker{name: "portal", enter: func() *browser {
			w.made++ // somebody else each time
			token, _, err := s.Keyring().CreatePortal(ctx, keyring.Operator("test"), w.ours,
				keystile.CreatePortalSession{Person: keystile.Person{Subject: fmt.Sprint("u-", w.made), Name: "portal " + ours}, Role: "developer"})
			if err != nil {
				t.Fatal(err)
			}
			return newBrowser(t, s).enter(token)
		}},
		walker{name: "link", enter: func() *browser { return operator(t, s) }},
	)
	at("operator", keyring.OperatorWorkspace, "", "operator")
	at("verifier", keyring.OperatorWorkspace, "", "verifier")
	at("foreigner", w.theirs, theirs, "admin")
	w.walkers = append(w.walkers, walker{name: "nobody", enter: func() *browser { return newBrowser(t, s) }})
	for i := range w.walkers {
		w.walkers[i].browser = w.walkers[i].enter()
	}
	return w
}

// objects makes what a pattern's path and form may name, in a workspace.
func (w *roleWalk) objects(workspace, pattern string) objects {
	w.Helper()
	mark := ours
	if workspace == w.theirs {
		mark = theirs
	}
	w.made++
	name := fmt.Sprintf("%s %d", mark, w.made)
	o := objects{workspace: workspace, unique: "Unique " + name}
	if strings.Contains(pattern, "{key}") || strings.Contains(pattern, "/keys/") {
		o.key = w.server.Key(workspace, keystile.CreateKey{Name: "Key " + name}).Key.ID
	}
	if strings.Contains(pattern, "{secret}") {
		s, _, err := w.server.Keyring().CreateWebhookSecret(context.Background(), keyring.Operator("test"), workspace,
			keystile.CreateWebhookSecret{Label: "Consumer " + name, Environment: "production"}, keyring.Idempotency{})
		if err != nil {
			w.Fatal(err)
		}
		o.secret = s.WebhookSecret.ID
		if workspace == w.ours { // only so many may be active
			w.lastSecret = w.instead(w.lastSecret, o.secret, w.server.Keyring().DeleteWebhookSecret)
		}
	}
	if strings.Contains(pattern, "{endpoint}") || strings.Contains(pattern, "{delivery}") {
		made, _, err := w.server.Keyring().CreateEndpoint(context.Background(), keyring.Operator("test"), workspace, keystile.CreateEndpoint{
			URL: "http://127.0.0.1:1/", Description: "Receiver " + name, EventTypes: []string{"key.created"}, AllowRanges: []string{"127.0.0.1"},
		}, keyring.Idempotency{})
		if err != nil {
			w.Fatal(err)
		}
		o.endpoint, o.signer = made.Endpoint.ID, made.WebhookSecret.ID
		// Each that stays gets a delivery for each key that is made from now on.
		if workspace == w.ours {
			w.lastEndpoint = w.instead(w.lastEndpoint, o.endpoint, w.server.Keyring().DeleteEndpoint)
		}
	}
	if strings.Contains(pattern, "{delivery}") {
		w.server.Key(workspace, keystile.CreateKey{Name: "Told " + name})
		for end := time.Now().Add(time.Minute); o.delivery == ""; time.Sleep(5 * time.Millisecond) {
			list, err := w.server.Keyring().Deliveries(context.Background(), keyring.Operator("test"), o.endpoint, "", "", 1)
			if err != nil {
				w.Fatal(err)
			}
			if len(list.Data) > 0 {
				o.delivery = list.Data[0].ID
			} else if time.Now().After(end) {
				w.Fatal("no delivery was made")
			}
		}
	}
	if strings.Contains(pattern, "{member}") {
		m := newMember(w, w.server, workspace, "Member "+name, "viewer")
		o.member = m.ID
	}
	if strings.Contains(pattern, "{role}") {
		o.role = customRole(w, w.server, workspace, "Role "+name, "read").ID
	}
	if strings.Contains(pattern, "{alert}") {
		o.alert = exposure(w, w.server, workspace, "Exposed "+name)
	}
	if strings.Contains(pattern, "{token}") {
		o.token = w.server.SignInLink(workspace)[len(w.server.URL+"/link/"):]
	}
	return o
}

// instead deletes what was made before, if it is still there, and returns what
// is there now.
func (w *roleWalk) instead(before, now string, remove func(context.Context, keyring.Actor, string) error) string {
	w.Helper()
	if before == "" {
		return now
	}
	if err := remove(context.Background(), keyring.Operator("test"), before); err != nil && !errors.Is(err, keystile.CodeNotFound) {
		w.Fatal(err)
	}
	return now
}

// everything names an object for each parameter there is.
const everything = "{key} {secret} {endpoint} {delivery} {member} {role} {alert}"

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// path fills in a pattern's path. The query is for routes that need one.
func (w *roleWalk) path(pattern string, o objects) string {
	_, path, _ := strings.Cut(pattern, " ")
	path = parameter.ReplaceAllStringFunc(path, func(p string) string {
		switch p {
		case "{$}":
			return ""
		case "{workspace}":
			return o.workspace
		case "{key}":
			return o.key
		case "{secret}":
			return o.secret
		case "{endpoint}":
			return o.endpoint
		case "{signer}":
			return o.signer
		case "{delivery}":
			return o.delivery
		case "{member}":
			return o.member
		case "{role}":
			return o.role
		case "{alert}":
			return o.alert
		case "{id}":
			return "none"
		case "{token}":
			return o.token
		}
		w.Fatalf("%s: the walk does not know what to put for %s; say so in objects", pattern, p)
		return ""
	})
	switch {
	case strings.HasSuffix(path, "/audit/export"):
		path += "?format=csv"
	case strings.HasPrefix(pattern, "GET ") && (strings.HasSuffix(path, "/keys/revoke") || strings.HasSuffix(path, "/keys/delete")):
		path += "?key[]=" + o.key
	}
	return path
}

// send sends what the row of a route says.
func (w *roleWalk) send(b *browser, pattern string, row walkRow, o objects) *page {
	path := w.path(pattern, o)
	if strings.HasPrefix(pattern, http.MethodGet+" ") {
		return b.get(path)
	}
	in := row.form(o)
	if row.hidden {
		in = append(in, b.get(path).hidden()...)
	}
	w.made++
	return b.post(path, append(in, "nonce", fmt.Sprint("walk ", w.made))...)
}

// TestEveryRouteAsEveryone_P4_IP7 opens every page and sends every form as
// every role, as a member from the portal, as an operator and as someone of
// another workspace. Nothing of another workspace leaks or changes, every
// refusal is a page that says what to do, and nothing fails.
func TestEveryRouteAsEveryone_P4_IP7(t *testing.T) {
	t.Parallel()
	w := newRoleWalk(t)
	rows := walkRows()
	foreign := w.objects(w.theirs, everything)
	before := w.audit(w.theirs)
	for _, route := range dashboard.Routes() {
		row, ok := rows[route.Pattern]
		if !ok || strings.HasPrefix(route.Pattern, "POST ") && row.form == nil {
			t.Errorf("%s: the walk does not know this route; add a row to walkRows that says who may and what its form sends", route.Pattern)
			continue
		}
		for i, who := range w.walkers {
			b := who.browser
			if row.session { // and theirs elsewhere
				b = who.enter()
			}
			p := w.send(b, route.Pattern, row, w.objects(w.ours, route.Pattern))
			w.judge(route, row, who.name, p)
			if !strings.Contains(route.Pattern, "{token}") { // whoever has a link may use it
				w.leaks(who.name, p)
			}
			if row.session {
				w.walkers[i].browser = who.enter()
			}
			if row.session || !route.Member {
				continue
			}
			// Another workspace by its own path, and its objects by ours.
			if !slices.Contains(strings.Fields("link operator foreigner"), who.name) {
				w.hidden(who.name, w.send(b, route.Pattern, row, foreign))
			}
			if route.Pattern != w.pathWithoutObjects(route.Pattern) {
				mixed := foreign
				mixed.workspace = w.ours
				if who.name == "foreigner" { // whose own objects these are
					mixed = w.objects(w.ours, route.Pattern)
					mixed.workspace = w.theirs
				}
				w.hidden(who.name, w.send(b, route.Pattern, row, mixed))
			}
		}
	}
	if after := w.audit(w.theirs); !slices.Equal(before, after) {
		t.Errorf("something was done in the other workspace:\n%v\nbefore:\n%v", after, before)
	}
}

// pathWithoutObjects is a pattern that names a workspace alone.
func (w *roleWalk) pathWithoutObjects(pattern string) string {
	for _, p := range []string{"{key}", "{secret}", "{endpoint}", "{signer}", "{delivery}", "{member}", "{role}"} {
		pattern = strings.ReplaceAll(pattern, p, "")
	}
	return pattern
}

// judge holds an answer against who may.
func (w *roleWalk) judge(route dashboard.Route, row walkRow, who string, p *page) {
	w.Helper()
	if p.status >= http.StatusInternalServerError {
		w.Errorf("%s: %s: %d: %s", who, p.what, p.status, p.words())
		return
	}
	if slices.Contains(strings.Fields(row.may), who) {
		want := row.status
		switch {
		case row.nobody != 0 && who == "nobody":
			want = row.nobody
		case want != 0:
		case strings.HasPrefix(route.Pattern, "GET "):
			want = http.StatusOK
		default:
			want = http.StatusSeeOther
		}
		if p.status != want || strings.HasPrefix(p.to, "/sign-in") && route.Member {
			w.Errorf("%s may, and %s: %d, want %d, to %q: %s", who, p.what, p.status, want, p.to, p.words())
		}
		return
	}
	if who == "nobody" && strings.HasPrefix(p.what, "GET ") {
		if p.status != http.StatusSeeOther || !strings.HasPrefix(p.header.Get("Location"), "/sign-in?next=") {
			w.Errorf("nobody: %s: %d to %q", p.what, p.status, p.header.Get("Location"))
		}
		return
	}
	want := http.StatusForbidden
	switch {
	case who == "nobody":
		want = http.StatusUnauthorized
	case route.Member && (who == "foreigner" || who == "verifier"):
		want = http.StatusNotFound
	}
	if p.status != want {
		w.Errorf("%s may not, and %s: %d, want %d: %s", who, p.what, p.status, want, p.words())
	}
	w.refusal(who, p)
}

// refusal: a page that says what happened, what to do, and leads on.
func (w *roleWalk) refusal(who string, p *page) {
	w.Helper()
	if !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") {
		w.Errorf("%s: %s is refused with no page: %s", who, p.what, p.body)
		return
	}
	main := p.find("main")
	if len(main) != 1 || text(p.one("h1")) == "" {
		w.Errorf("%s: %s: a refusal without a title: %s", who, p.what, p.body)
		return
	}
	inside := func(n *html.Node) bool {
		for ; n != nil; n = n.Parent {
			if n == main[0] {
				return true
			}
		}
		return false
	}
	if len(p.all("li", inside)) == 0 || len(p.all("a", inside)) == 0 {
		w.Errorf("%s: %s: a refusal that does not say what to do: %s", who, p.what, p.words())
	}
}

// hidden: what is another workspace's is not there, or not permitted.
func (w *roleWalk) hidden(who string, p *page) {
	w.Helper()
	w.leaks(who, p)
	switch {
	case who == "nobody" && p.status == http.StatusSeeOther:
	case who == "nobody" && p.status == http.StatusUnauthorized, p.status == http.StatusNotFound, p.status == http.StatusForbidden:
		w.refusal(who, p)
	default:
		w.Errorf("%s: %s, which is another workspace's: %d: %s", who, p.what, p.status, p.words())
	}
}

// leaks: an answer holds no word of a workspace that the walker is not in.
func (w *roleWalk) leaks(who string, p *page) {
	w.Helper()
	all := p.body + fmt.Sprint(p.header)
	if begin, rest, ok := strings.Cut(all, `id="sent-form"`); ok { // what the walker has sent is given back
		_, end, _ := strings.Cut(rest, "</form>")
		all = begin + end
	}
	for mark, in := range map[string]string{
		theirs: "foreigner link operator", ours: "admin developer viewer service portal link operator",
	} {
		if i := strings.Index(all, mark); i >= 0 && !slices.Contains(strings.Fields(in), who) {
			w.Errorf("%s: %s: %d leaks %s: %s", who, p.what, p.status, mark, all[max(0, i-200):min(len(all), i+200)])
		}
	}
}

// audit is what was done in a workspace, but that those who are at home there
// sign in and out, and what the test itself did.
func (w *roleWalk) audit(workspace string) (ids []string) {
	w.Helper()
	mark := ours
	if workspace == w.theirs {
		mark = theirs
	}
	q := keyring.AuditQuery{Limit: keyring.MaxLimit}
	for {
		list, err := w.server.Keyring().Audit(context.Background(), keyring.Operator("test"), workspace, q)
		if err != nil {
			w.Fatal(err)
		}
		for _, e := range list.Data {
			own := strings.Contains(e.Actor.Name, mark) && (e.Action == "member.joined" || e.Action == "session.began" || e.Action == "session.ended")
			if !own && e.Actor.Name != "test" && e.Actor.Name != "keystiletest" {
				ids = append(ids, e.ID+" "+e.Action)
			}
		}
		if q.Cursor = list.NextCursor; q.Cursor == "" {
			return ids
		}
	}
}

// freshRoutes are those that ask for a fresh sign-in: what hands out access or
// takes it away for good. What is urgent, such as revoking, is not among them.
func freshRoutes() []string {
	return []string{
		"GET /account/passkeys/new",
		"POST /account/passkeys/options",
		"POST /account/passkeys",
		"GET /account/passkeys/{id}/remove",
		"POST /account/passkeys/{id}/remove",
		"GET /workspaces/new",
		"POST /workspaces",
		"GET /w/{workspace}/keys/new",
		"POST /w/{workspace}/keys",
		"GET /w/{workspace}/keys/delete",
		"POST /w/{workspace}/keys/delete",
		"GET /w/{workspace}/webhook-secrets/new",
		"POST /w/{workspace}/webhook-secrets",
		"GET /w/{workspace}/webhook-secrets/{secret}/rotate",
		"POST /w/{workspace}/webhook-secrets/{secret}/rotate",
		"GET /w/{workspace}/webhook-secrets/{secret}/delete",
		"POST /w/{workspace}/webhook-secrets/{secret}/delete",
		"GET /w/{workspace}/keys/{key}/rotate",
		"POST /w/{workspace}/keys/{key}/rotate",
		"GET /w/{workspace}/keys/{key}/delete",
		"POST /w/{workspace}/keys/{key}/delete",
		"POST /w/{workspace}/keys/{key}/enable",
		"GET /w/{workspace}/endpoints/new",
		"POST /w/{workspace}/endpoints",
		"GET /w/{workspace}/endpoints/{endpoint}/edit",
		"POST /w/{workspace}/endpoints/{endpoint}/edit",
		"GET /w/{workspace}/endpoints/{endpoint}/delete",
		"POST /w/{workspace}/endpoints/{endpoint}/delete",
		"GET /w/{workspace}/endpoints/{endpoint}/secrets/new",
		"POST /w/{workspace}/endpoints/{endpoint}/secrets/new",
		"GET /w/{workspace}/endpoints/{endpoint}/secrets/{signer}/rotate",
		"POST /w/{workspace}/endpoints/{endpoint}/secrets/{signer}/rotate",
		"GET /w/{workspace}/members/new",
		"POST /w/{workspace}/members",
		"GET /w/{workspace}/members/{member}/role",
		"POST /w/{workspace}/members/{member}/role",
		"GET /w/{workspace}/members/{member}/link",
		"POST /w/{workspace}/members/{member}/link",
		"GET /w/{workspace}/members/{member}/remove",
		"POST /w/{workspace}/members/{member}/remove",
		"GET /w/{workspace}/roles/new",
		"POST /w/{workspace}/roles",
		"GET /w/{workspace}/roles/{role}/edit",
		"POST /w/{workspace}/roles/{role}/edit",
		"GET /w/{workspace}/roles/{role}/delete",
		"POST /w/{workspace}/roles/{role}/delete",
		"POST /w/{workspace}/settings/resume",
		"GET /w/{workspace}/settings/plan",
		"POST /w/{workspace}/settings/plan",
	}
}

// openDatabase looks into a server's database beside it.
func openDatabase(t testing.TB, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "keystile.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// age makes the last proof of everyone who is signed in by name an old one.
func age(db *sql.DB) error {
	_, err := db.Exec(`UPDATE sessions SET fresh_at = fresh_at - 7200000 WHERE person_id <> ''`)
	return err
}

// TestEveryRouteWithAnOldSession: what hands out or takes away access asks for
// a fresh sign-in, on the page and on its form, and does nothing until then.
func TestEveryRouteWithAnOldSession(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newRoleWalk(t, keystiletest.Dir(dir))
	if err := age(openDatabase(t, dir)); err != nil {
		t.Fatal(err)
	}
	o := w.objects(w.ours, everything)
	before := w.audit(w.ours)
	rows := walkRows()
	asks := freshRoutes()
	for _, route := range dashboard.Routes() {
		if slices.Contains(asks, route.Pattern) != route.Fresh {
			t.Errorf("%s asks for a fresh sign-in: %v; if that is right, say so in freshRoutes", route.Pattern, route.Fresh)
		}
		if !route.Fresh {
			continue
		}
		i := slices.IndexFunc(w.walkers, func(v walker) bool { return v.name == "operator" })
		p := w.send(w.walkers[i].browser, route.Pattern, rows[route.Pattern], o)
		if strings.HasPrefix(route.Pattern, "GET ") {
			if to := p.header.Get("Location"); p.status != http.StatusSeeOther || !strings.Contains(to, "again=1") {
				t.Errorf("%s: %d to %q", p.what, p.status, to)
			}
			continue
		}
		if p.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", p.what, p.status)
		}
		w.refusal("operator", p)
	}
	// On the settings' page what asks is what changes who may come in from where.
	i := slices.IndexFunc(w.walkers, func(v walker) bool { return v.name == "operator" })
	b, settings := w.walkers[i].browser, "/w/"+w.ours+"/settings"
	p := b.post(settings, "name", "Ours "+ours, "ip_allowlist", "127.0.0.0/8").is(http.StatusUnauthorized).shows("fresh sign-in")
	if p.field("ip_allowlist") != "127.0.0.0/8" {
		t.Error("what was typed is gone")
	}
	p.one("button", "Continue")
	if after := w.audit(w.ours); !slices.Equal(before, after) {
		t.Errorf("something was done with an old session: %v, before %v", after, before)
	}
}
