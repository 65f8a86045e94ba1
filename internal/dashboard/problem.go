package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// problemPage is a refusal as people read it.
type problemPage struct {
	Title, Detail string
	Fixes         []string
	RequestID     string
	Back          navItem // a page that works
	SignIn        string  // where to sign in, and back from there; "" if that is of no use
	Plans         string  // where the plans are; "" if no plan is in the way
}

// refuse shows a page that says what happened and what to do.
func (v *visit) refuse(err error) {
	p := v.door.Problem(v.r.Context(), err)
	if p.Code == keystile.CodeSessionEnded && v.repeats() {
		if err = v.askProof(p); err == nil {
			return
		}
		p = v.door.Problem(v.r.Context(), err)
	}
	page := problemPage{Title: p.Title, Detail: p.Detail, Fixes: p.Fixes, Back: v.back()}
	switch {
	case errors.Is(err, keystile.CodeNotFound):
		page.Title = "Page not found"
		page.Detail = "There is nothing here, or it belongs to a workspace that you are not a member of."
		page.Fixes = []string{"Check the address.", "Choose another workspace, or sign in as someone who is a member."}
	case p.Permission != "" && v.workspace.ID != "" && p.Code == keystile.CodeInsufficientPermission:
		v.explainLack(p, &page)
	case p.Code == keystile.CodePlanLimit && v.workspace.ID != "" && v.actor.May("api.workspace.view"):
		page.Plans = v.base() + "/plans"
	case p.Status >= http.StatusInternalServerError:
		page.RequestID = p.RequestID
	}
	if !v.known() {
		page.SignIn = "/sign-in"
	}
	if p.Code == keystile.CodeSessionEnded && v.known() {
		page.SignIn = signInAgainPath(page.Back.Path)
	}
	v.show(p.Status, "problem", page.Title, page)
}

// back is a page that surely opens: the first of the workspace that the
// person's role allows, else one that is everybody's.
func (v *visit) back() navItem {
	for _, item := range v.nav() {
		if item.Path != v.r.URL.Path || v.r.URL.RawQuery != "" { // a page that does not open may do so without its query
			return item
		}
	}
	if v.known() {
		return navItem{Name: "Your workspaces", Path: "/workspaces"}
	}
	return navItem{}
}

// administratorsNamed is how many a refusal names.
const administratorsNamed = 3

// explainLack says in the words of the pages what somebody may not do, and who
// can help.
func (v *visit) explainLack(p *keystile.Error, page *problemPage) {
	rest, managed := strings.CutPrefix(p.Permission, keystile.ManagementPrefix)
	if !managed {
		page.Title = "Only for the operator"
		return
	}
	noun, action, _ := strings.Cut(rest, ".")
	section := v.managed(noun)
	if noun == "key" {
		section = v.door.Profile.Word("menu")
	}
	page.Title = "You can’t change " + section
	if action == "view" {
		page.Title = "You can’t open " + section
	}
	if v.session.Kind == keyring.SessionPortal && noun == "member" && action != "view" {
		return // whom the product manages
	}
	what := p.Permission
	catalogue := v.door.Profile.PermissionCatalogue()
	if i := slices.IndexFunc(catalogue, func(c keystile.PermissionInfo) bool { return c.Name == p.Permission }); i >= 0 && catalogue[i].Description != "" {
		what = strings.TrimSuffix(catalogue[i].Description, ".") + " (" + p.Permission + ")"
	}
	page.Detail = "Your role in this workspace lacks the permission for it: " + what + "."
	who := ""
	if list, err := v.keyring().Administrators(v.r.Context(), v.actor, v.workspace.ID, administratorsNamed); err != nil {
		v.door.Log.Error("the administrators of a workspace cannot be read", "workspace", v.workspace.ID, "error", err)
	} else if len(list) > 0 {
		names := make([]string, len(list))
		for i, m := range list {
			names[i] = called(m)
		}
		who = ", such as " + strings.Join(names, ", ") + ","
	}
	page.Fixes = []string{"Ask an administrator of the workspace" + who + " for a role that has it."}
}

func unknownPage() error { return keystile.NewError(keystile.CodeNotFound, "") }

func crossOrigin() error {
	return keystile.NewError(keystile.CodeInvalidRequest, "The form was sent from another site, so nothing was done.",
		"Open the page here and fill in the form again.")
}

// toSignIn leads to the sign-in page and back afterwards.
func (v *visit) toSignIn() error {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		return keystile.NewError(keystile.CodeSessionEnded, "You are not signed in any more.", "Sign in, and send the form again.")
	}
	return v.to(signInPath(v.r.URL.RequestURI()))
}

// signInAgain asks for a proof that it is still the same person.
func (v *visit) signInAgain() error {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		return keystile.NewError(keystile.CodeSessionEnded,
			"It has been a while since you signed in, so this needs a fresh sign-in.", "Sign in again, and send the form again.")
	}
	return v.to(signInAgainPath(v.r.URL.RequestURI()))
}

func signInPath(next string) string { return "/sign-in?" + url.Values{"next": {next}}.Encode() }

func signInAgainPath(next string) string {
	return "/sign-in?" + url.Values{"next": {next}, "again": {"1"}}.Encode()
}
