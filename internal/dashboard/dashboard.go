// Package dashboard serves the pages that people see. It calls the keyring as
// the API does; no rule and no SQL belongs here.
package dashboard

import (
	"embed"
	"errors"
	"html/template"
	"net/http"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

//go:embed templates/*.html
var files embed.FS

// Dashboard serves the sign-in link. The pages behind it come later; until
// then it leads to a plain page that says so.
type Dashboard struct {
	door      *entry.Door
	templates *template.Template
	mux       *http.ServeMux
}

// New returns the pages behind a door.
func New(d *entry.Door) (*Dashboard, error) {
	t, err := template.ParseFS(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	p := &Dashboard{door: d, templates: t, mux: http.NewServeMux()}
	p.mux.HandleFunc("GET /link/{token}", p.openLink)
	p.mux.HandleFunc("POST /link/{token}", p.useLink)
	return p, nil
}

// ServeHTTP implements http.Handler for /link/.
func (p *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// page is what the one template shows.
type page struct {
	Product string
	Title   string
	Text    string
	Button  string // label of the button that posts the form; "" for none
}

// openLink shows a link's page. Opening does not spend it: mail programs and
// chat previews open links too.
func (p *Dashboard) openLink(w http.ResponseWriter, r *http.Request) {
	if err := p.door.Keyring.CheckLink(r.Context(), r.PathValue("token")); err != nil {
		p.refuse(w, r, err)
		return
	}
	p.show(w, http.StatusOK, page{
		Title: "Sign in", Text: "This link signs you in once. It is good for 15 minutes from when it was made.", Button: "Sign in",
	})
}

// useLink spends a link.
func (p *Dashboard) useLink(w http.ResponseWriter, r *http.Request) {
	if err := p.door.Keyring.SpendLink(r.Context(), r.PathValue("token"), entry.Origin(r.Context())); err != nil {
		p.refuse(w, r, err)
		return
	}
	p.show(w, http.StatusOK, page{
		Title: "You are in, and there is nothing to see yet",
		Text: "This version of Keystile has no dashboard. Everything works through the API and the command line: " +
			"try “keystile keys list”, or open /openapi.json.",
	})
}

func (p *Dashboard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, keystile.CodeNotFound) {
		p.show(w, http.StatusNotFound, page{
			Title: "This link is not good any more",
			Text:  "It was used, it is older than 15 minutes, or it was not copied whole. Make a new one with “keystile admin link”.",
		})
		return
	}
	problem := p.door.Problem(r.Context(), err)
	p.show(w, problem.Status, page{Title: problem.Title, Text: problem.Detail})
}

func (p *Dashboard) show(w http.ResponseWriter, status int, v page) {
	v.Product = p.door.Profile.Product
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer") // the address holds the link's token
	w.WriteHeader(status)
	_ = p.templates.ExecuteTemplate(w, "link.html", v) // fails when the client has gone
}
