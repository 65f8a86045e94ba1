package dashboard

import (
	"errors"
	"net/http"
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
	return v.lacks("api.key.view")
}

// signIn shows the ways in.
func (v *visit) signIn() error {
	v.show(http.StatusOK, "sign_in", "Sign in", struct {
		Next  string
		Again bool
	}{local(v.r.URL.Query().Get("next")), v.known()})
	return nil
}

// local keeps a path of our own pages, and nothing that leads elsewhere.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// showLink shows a link's page. Opening does not spend it: mail programs and
// chat previews open links too.
func (v *visit) showLink() error {
	link, err := v.keyring().Link(v.r.Context(), v.r.PathValue("token"))
	if err != nil {
		return badLink(err)
	}
	v.show(http.StatusOK, "link", "Sign in", link)
	return nil
}

// openLink spends a link and signs in.
func (v *visit) openLink() error {
	token, err := v.keyring().OpenLink(v.r.Context(), v.r.PathValue("token"), v.session, entry.Origin(v.r.Context()))
	if err != nil {
		return badLink(err)
	}
	if v.session, err = v.keyring().Session(v.r.Context(), token, entry.Origin(v.r.Context())); err != nil {
		return err
	}
	v.setCookie(token, v.session)
	return v.to("/")
}

func badLink(err error) error {
	if !errors.Is(err, keystile.CodeNotFound) {
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
	back := v.session.ReturnURL
	v.clearCookie(v.session.Kind == keyring.SessionPortal)
	if back != "" {
		return v.to(back)
	}
	return v.to("/sign-in")
}
