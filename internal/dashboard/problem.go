package dashboard

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/keystile/keystile"
)

// problemPage is a refusal as people read it.
type problemPage struct {
	Title, Detail string
	Fixes         []string
	RequestID     string
	Back          string
	Again         string // where to sign in again; "" if that is of no use
}

// refuse shows a page that says what happened and what to do.
func (v *visit) refuse(err error) {
	p := v.door.Problem(v.r.Context(), err)
	page := problemPage{Title: p.Title, Detail: p.Detail, Fixes: p.Fixes, Back: "/"}
	if v.workspace.ID != "" {
		page.Back = v.base() + "/"
	}
	switch {
	case errors.Is(err, keystile.CodeNotFound):
		page.Title = "Page not found"
		page.Detail = "There is nothing here, or it belongs to a workspace that you are not a member of."
		page.Fixes = []string{"Check the address.", "Choose another workspace, or sign in as someone who is a member."}
	case p.Code == keystile.CodeSessionEnded && v.known():
		page.Again = signInAgainPath(page.Back)
		if form, err := url.Parse(v.r.Referer()); err == nil && form.Host == v.r.Host {
			page.Again = signInAgainPath(form.RequestURI()) // where the form is, to fill in once more
		}
	case p.Status >= http.StatusInternalServerError:
		page.RequestID = p.RequestID
	}
	v.show(p.Status, "problem", page.Title, page)
}

func unknownPage() error { return keystile.NewError(keystile.CodeNotFound, "") }

func crossOrigin() error {
	return keystile.NewError(keystile.CodeInvalidRequest, "The form was sent from another site, so nothing was done.",
		"Open the page here and fill in the form again.")
}

// toSignIn leads to the sign-in page and back afterwards.
func (v *visit) toSignIn() error {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		return keystile.NewError(keystile.CodeSessionEnded, "You are not signed in any more. Nothing was done.",
			"Sign in, and fill in the form again.")
	}
	return v.to("/sign-in?" + url.Values{"next": {v.r.URL.RequestURI()}}.Encode())
}

// signInAgain asks for a proof that it is still the same person.
func (v *visit) signInAgain() error {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		return keystile.NewError(keystile.CodeSessionEnded,
			"It has been a while since you signed in, so this needs a fresh sign-in. Nothing was done.",
			"Sign in again, and fill in the form again.")
	}
	return v.to(signInAgainPath(v.r.URL.RequestURI()))
}

func signInAgainPath(next string) string {
	return "/sign-in?" + url.Values{"next": {next}, "again": {"1"}}.Encode()
}
