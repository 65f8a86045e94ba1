package dashboard

import (
	"errors"
	"net/http"
	"net/url"
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
}

// signIn shows the ways in, and those back in for someone whose proof is old.
func (v *visit) signIn() error {
	q := v.r.URL.Query()
	page := signInPage{
		Next: local(q.Get("next")), Again: v.known() && q.Get("again") != "",
		Passkey: v.passkeys != nil,
		Portal:  v.session.Kind == keyring.SessionPortal, ReturnURL: v.session.ReturnURL,
	}
	if v.known() && !page.Again {
		return v.to(page.Next)
	}
	onward := url.Values{"next": {page.Next}}
	title := "Sign in"
	if page.Again {
		title = "Sign in again"
		onward.Set("again", "1")
		own, err := v.keyring().Passkeys(v.r.Context(), v.session)
		if err != nil {
			return err
		}
		page.Passkey = page.Passkey && len(own) > 0 && !page.Portal
	}
	if v.provider != nil && (!page.Again || v.session.Person.Subject != "" && !page.Portal) {
		page.OpenID = "/sign-in/openid?" + onward.Encode()
	}
	v.show(http.StatusOK, "sign_in", title, page)
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

	OpenID string // path by which an invitation is accepted at the provider; "" for none
	As     string // who is signed in and would join
}

// showLink shows a link's page. Opening does not spend it: mail programs and
// chat previews open links too.
func (v *visit) showLink() error {
	token := v.r.PathValue("token")
	link, err := v.keyring().Link(v.r.Context(), token)
	if err != nil {
		return v.badLink(err)
	}
	page := linkPage{LinkInfo: link}
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
	return keystile.NewError(keystile.CodeSessionEnded,
		"This link is not good any more: it was used, its time is over, or it was not copied whole.",
		"Ask whoever sent it for a new one. The operator makes one with: keystile admin link")
}

// signOut ends the session.
func (v *visit) signOut() error {
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
