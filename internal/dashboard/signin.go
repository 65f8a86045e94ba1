package dashboard

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

// start leads to where the person works.
func (v *visit) start() error {
	if !v.known() {
		return v.to("/sign-in")
	}
	seats, everywhere, err := v.keyring().Seats(v.r.Context(), v.session)
	if err != nil {
		return err
	}
	if len(seats) == 1 && !everywhere {
		return v.to("/w/" + seats[0].WorkspaceID + "/")
	}
	if everywhere {
		only, err := v.keyring().OnlyWorkspace(v.r.Context())
		if err != nil {
			return err
		}
		if only != "" {
			return v.to("/w/" + only + "/")
		}
	}
	return v.to("/workspaces")
}

// enterWorkspace leads to the first page of the workspace that the person's
// role opens.
func (v *visit) enterWorkspace() error {
	for _, item := range v.nav() {
		return v.to(item.Path)
	}
	return v.actor.Lacks("api.key.view")
}

// signInPage shows the ways in.
type signInPage struct {
	Next      string
	Again     bool // somebody is signed in and has to show that it is still them
	Passkey   bool
	OpenID    string // path of the way through the provider; "" for none
	Portal    bool   // came from the product
	ReturnURL string
	Near      bool      // the reader is likely to be who runs the server
	Form      *sentForm // that waits for the proof; nil for none
}

// signIn shows the ways in, and those back in for someone whose proof is old.
func (v *visit) signIn() error {
	q := v.r.URL.Query()
	next, again := local(q.Get("next")), v.known() && q.Get("again") != ""
	if v.known() && !again {
		return v.to(next)
	}
	page, err := v.waysIn(next, again)
	if err != nil {
		return err
	}
	title := "Sign in"
	if again {
		title = "Sign in again"
	}
	v.show(http.StatusOK, "sign_in", title, page)
	return nil
}

// waysIn are the ways to sign in, or to prove again who is signed in.
func (v *visit) waysIn(next string, again bool) (signInPage, error) {
	page := signInPage{
		Next: next, Again: again, Passkey: v.passkeys != nil, Near: v.near(),
		Portal: v.session.Kind == keyring.SessionPortal, ReturnURL: v.session.ReturnURL,
	}
	onward := url.Values{"next": {page.Next}}
	if again {
		onward.Set("again", "1")
		own, err := v.keyring().Passkeys(v.r.Context(), v.session)
		if err != nil {
			return page, err
		}
		page.Passkey = page.Passkey && len(own) > 0 && !page.Portal
	}
	if v.provider != nil && (!again || v.session.Person.Subject != "" && !page.Portal) {
		page.OpenID = "/sign-in/openid?" + onward.Encode()
	}
	return page, nil
}

// near tells whether people reach the server by an address of its own machine:
// then they are likely to be who runs it, and commands are of use to them.
func (d *Dashboard) near() bool {
	u, err := url.Parse(d.url)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || strings.HasSuffix(u.Hostname(), ".localhost") || ip != nil && ip.IsLoopback()
}

// sentForm is a form that came without a fresh proof of who sent it. It stays
// in the page, to be sent again after the proof, and is kept nowhere else.
type sentForm struct {
	Action string
	Fields []sentField
	Why    string
	Back   string // where it was filled in
}

type sentField struct{ Name, Value string }

// maxSentForm bounds a form that is sent back in a page, in bytes. It is more
// than people type.
const maxSentForm = 8 << 10

// repeats tells whether the request is a form that can be sent again after a
// sign-in: one of a workspace, or that makes one.
func (v *visit) repeats() bool {
	return v.r.Method == http.MethodPost && (strings.HasPrefix(v.r.URL.Path, "/w/") || v.r.URL.Path == "/workspaces")
}

// askProof shows the ways to sign in beside what was typed.
func (v *visit) askProof(p *keystile.Error) error {
	_ = v.r.ParseForm() //nolint:errcheck // what can be read of it is given back
	form := &sentForm{Action: v.r.URL.RequestURI(), Why: p.Detail, Back: "/"}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(v.r.PostForm)) { //nolint:forbidigo // all of its fields
		if name == "secret" && strings.HasSuffix(v.r.URL.Path, "/webhook-debugger") {
			continue // the receiver's, which stands in no page: it is to be typed again
		}
		for _, value := range v.r.PostForm[name] { //nolint:forbidigo // as above
			form.Fields = append(form.Fields, sentField{name, value})
			size += len(name) + len(value)
		}
	}
	if from, err := url.Parse(v.r.Referer()); err == nil && from.Host == v.r.Host && from.Path != "" {
		form.Back = from.RequestURI()
	}
	if size > maxSentForm {
		form.Fields, form.Action = nil, ""
	}
	again := v.known()
	next := "/account?done=again" // in another tab: the form waits in this one
	if form.Action == "" {
		next = form.Back
	}
	page, err := v.waysIn(next, again)
	if err != nil {
		return err
	}
	page.Form = form
	v.show(p.Status, "sign_in", "Sign in again", page)
	return nil
}

// local keeps a path of our own pages, and nothing that leads elsewhere.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// linkPage is what a link is for.
type linkPage struct {
	keyring.LinkInfo

	OpenID  string // path by which an invitation is accepted at the provider; "" for none
	Passkey bool   // they can add a passkey
	As      string // who is signed in and would join
}

// showLink shows a link's page. Opening does not spend it: mail programs and
// chat previews open links too.
func (v *visit) showLink() error {
	token := v.r.PathValue("token")
	link, err := v.keyring().Link(v.r.Context(), token)
	if err != nil {
		return v.badLink(err)
	}
	page := linkPage{LinkInfo: link, Passkey: v.passkeys != nil && link.Purpose == keyring.LinkInvite}
	if link.Purpose == keyring.LinkInvite && link.Joins {
		if v.provider != nil {
			page.OpenID = "/link/" + token + "/openid"
		}
		if v.session.Kind != keyring.SessionPortal {
			page.As = v.session.Name()
		}
	}
	v.portal = link.Purpose == keyring.SessionPortal
	v.show(http.StatusOK, "link", "Sign in", page)
	return nil
}

// openLink spends a link and signs in.
func (v *visit) openLink() error {
	token, err := v.keyring().OpenLink(v.r.Context(), v.r.PathValue("token"), v.session, entry.Origin(v.r.Context()))
	if err != nil {
		return v.badLink(err)
	}
	s, err := v.keyring().Session(v.r.Context(), token, entry.Origin(v.r.Context()))
	if err != nil {
		return err
	}
	v.session = s
	v.setCookie(token, s)
	return v.to("/")
}

// badLink refuses a link, the same for all that are not good.
func (v *visit) badLink(err error) error {
	if !errors.Is(err, keystile.CodeNotFound) {
		return err
	}
	if err := v.attempt(); err != nil {
		return err
	}
	fixes := []string{"Ask whoever sent it for a new one."}
	if support := v.door.Profile.Branding.SupportEmail; support != "" {
		fixes = append(fixes, "Or write to "+support+".")
	}
	if v.near() {
		fixes = append(fixes, "If you run this server, make one with: keystile admin link")
	}
	e := keystile.NewError(keystile.CodeSessionEnded,
		"This link is not good any more: it was used, its time is over, or it was not copied whole.", fixes...)
	e.Title = "This link does not work"
	return e
}

// signOut ends the session.
func (v *visit) signOut() error {
	stranded, err := v.stranded()
	if err != nil {
		return err
	}
	if stranded && v.r.PostFormValue("confirm") != "stranded" {
		v.show(http.StatusConflict, "sign_out", "You would not get back in", nil)
		return nil
	}
	return v.endOwn()
}

// stranded tells whether somebody came by an invitation and has no other way
// in than another one, though they could have: once their session ends they
// are shut out.
func (v *visit) stranded() (bool, error) {
	if v.session.Kind != keyring.SessionLink || v.session.Person.ID == "" || v.session.Person.Subject != "" || v.passkeys == nil {
		return false, nil
	}
	own, err := v.keyring().Passkeys(v.r.Context(), v.session)
	return err == nil && len(own) == 0, err
}

// endOwn ends the session.
func (v *visit) endOwn() error {
	if err := v.keyring().EndSession(v.r.Context(), v.session); err != nil {
		return err
	}
	return v.left()
}

// left leads away after a session has ended.
func (v *visit) left() error {
	back := v.session.ReturnURL
	v.clearCookie(v.session.Kind == keyring.SessionPortal)
	if back != "" {
		return v.to(back)
	}
	return v.to("/sign-in")
}
