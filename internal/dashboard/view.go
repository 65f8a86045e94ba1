package dashboard

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

//go:embed templates
var templates embed.FS

// pages are the templates by name, each with the layout around it. A page gets
// its own copy of the layout and the parts when it is first shown: copies for
// all of them are most of what a server would do when it starts.
type pages map[string]func() (*template.Template, error)

// newPages reads the templates. Those in part/ are parts
// that every page may use.
func (d *Dashboard) newPages() (pages, error) {
	functions := template.FuncMap{
		"word":    d.door.Profile.Word,
		"asset":   func(name string) string { return d.assets.names[name] },
		"instant": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"date":    func(t time.Time) string { return t.UTC().Format("2 Jan 2006") },
		"join":    strings.Join,
		"has":     func(list []string, s string) bool { return slices.Contains(list, s) },
		"party":   partyName,
		"means":   d.permissionMeaning,
		"program": program,
		"role":    d.roleTitle,
		"plan":    d.planTitle,
		"place":   d.environmentTitle,
		"reason":  d.reasonTitle,
		"act":     newAct,
		"faults":  d.faults,
		"fault":   d.fault,
		"number":  number,
	}
	common, err := template.New("").Funcs(functions).ParseFS(templates, "templates/part/*.html")
	if err != nil {
		return nil, err
	}
	// What cannot be read is told now.
	if _, err := template.New("").Funcs(functions).ParseFS(templates, "templates/*.html"); err != nil {
		return nil, err
	}
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		return nil, err
	}
	all := pages{}
	for _, file := range files {
		all[strings.TrimSuffix(strings.TrimPrefix(file, "templates/"), ".html")] = sync.OnceValues(func() (*template.Template, error) {
			own, err := common.Clone()
			if err != nil {
				return nil, err
			}
			return own.ParseFS(templates, file)
		})
	}
	return all, nil
}

// view is what the layout shows around a page.
type view struct {
	Product      string
	Logo         string
	SupportEmail string
	DocsURL      string
	Title        string
	Known        bool            // somebody is signed in
	Session      keyring.Session // whose
	Workspace    keystile.Workspace
	Base         string // path of the workspace's pages
	Path         string // of this page
	Nav          []navItem
	Once         bool   // whoever is signed in came by a link, and has no other way in yet
	Embedded     bool   // in a frame of the product's page, perhaps
	Done         string // what the form before this page has done
	Unreached    unreached
	Places       []keyring.Seat
	Everywhere   bool // and all the others
	Page         any
}

type navItem struct {
	Name, Path string
	Current    bool
	Unseen     string // how many alerts nobody has seen; "" for none
}

// nav is the menu of a workspace: the pages that the person's role opens.
func (v *visit) nav() []navItem {
	if v.workspace.ID == "" {
		return nil
	}
	var items []navItem
	for _, item := range []struct{ name, path, needs string }{
		{v.door.Profile.Word("menu"), "/keys", "api.key.view"},
		{v.door.Profile.Word("menu"), "/webhook-secrets", "api.webhook_secret.view"}, // for those who see no keys
		{v.door.Profile.Word("menu"), "/endpoints", "api.endpoint.view"},             // and no webhook secrets
		{v.door.Profile.Word("hygiene_title"), "/hygiene", "api.key.view"},
		{v.door.Profile.Word("alerts_title"), "/alerts", "api.usage.view"},
		{v.door.Profile.Word("usage_title"), "/usage", "api.usage.view"},
		{v.door.Profile.Word("audit_title"), "/audit", "api.audit.view"},
		{v.door.Profile.Word("members_title"), "/members", "api.member.view"},
		{v.door.Profile.Word("roles_title"), "/roles", "api.role.view"},
		{v.door.Profile.Word("plans_title"), "/plans", "api.workspace.view"},
		{v.door.Profile.Word("settings_title"), "/settings", "api.workspace.view"},
	} {
		first := item.name != v.door.Profile.Word("menu") || len(items) == 0 // the entry that leads to the tabs
		offered := (item.path != "/webhook-secrets" || v.door.Profile.WebhookSecrets) && (item.path != "/endpoints" || v.door.Profile.Endpoints)
		if v.actor.May(item.needs) && first && offered {
			at := v.base() + item.path
			unseen := ""
			if item.path == "/alerts" {
				unseen = v.unseen()
			}
			items = append(items, navItem{item.name, at, v.r.URL.Path == at || strings.HasPrefix(v.r.URL.Path, at+"/") ||
				item.name == v.door.Profile.Word("menu") && v.amongTabs(), unseen})
		}
	}
	return items
}

// show writes a page.
func (v *visit) show(status int, name, title string, page any) {
	p := v.door.Profile
	before := v.r.URL.Query().Get("done")
	if status >= http.StatusBadRequest {
		before = "" // what was done before is no part of a refusal
	}
	data := view{
		Product: p.Product, Logo: p.Branding.Logo, SupportEmail: p.Branding.SupportEmail, DocsURL: p.Branding.DocsURL,
		Title: title, Known: v.known(), Session: v.session, Workspace: v.workspace, Path: v.r.URL.Path, Nav: v.nav(),
		Unreached: v.unreached(),
		Once:      v.cameOnce(), Embedded: v.session.Kind == keyring.SessionPortal, Done: done(before), Page: page,
	}
	if v.workspace.ID != "" {
		data.Base = v.base()
	}
	if err := v.surround(&data); err != nil {
		v.door.Log.Error("what stands around a page cannot be read", "page", name, "error", err)
	}
	var out bytes.Buffer // a page is whole or not there
	whole, err := v.pages[name]()
	if err == nil {
		err = whole.ExecuteTemplate(&out, "layout", data)
	}
	if err != nil {
		v.door.Log.Error("a page cannot be made", "page", name, "error", err)
		http.Error(v.w, "This page cannot be shown. The server's log says why.", http.StatusInternalServerError)
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", v.contentPolicy())
	h.Set("Referrer-Policy", "same-origin") // the address of a link holds its token
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	v.w.WriteHeader(status)
	_, _ = out.WriteTo(v.w) // fails when the client has gone
}

// surround adds where else the person can go.
func (v *visit) surround(data *view) (err error) {
	if v.workspace.ID == "" {
		return nil
	}
	if data.Places, data.Everywhere, err = v.keyring().Seats(v.r.Context(), v.session); err != nil {
		return err
	}
	data.Places = data.Places[:min(len(data.Places), placesShown)]
	return nil
}

// placesShown is how many workspaces the switcher lists. The page of
// workspaces has them all.
const placesShown = 12

// cameOnce tells whether somebody came by a link, which works once, and has no
// passkey to come again by. Their own pages say so anyway.
func (v *visit) cameOnce() bool {
	if v.session.Kind != keyring.SessionLink || v.passkeys == nil || strings.HasPrefix(v.r.URL.Path, "/account") ||
		v.r.URL.Path == "/sign-out" || v.session.Person.Subject != "" {
		return false
	}
	own, err := v.keyring().Passkeys(v.r.Context(), v.session)
	return err == nil && len(own) == 0 // a page is worth more than this hint
}

// contentPolicy lets a page load what is ours and nothing else.
func (v *visit) contentPolicy() string {
	images, frames := "'self'", "'none'"
	if u, err := url.Parse(v.door.Profile.Branding.Logo); err == nil && u.Host != "" {
		images += " " + u.Scheme + "://" + u.Host
	}
	if embed := v.door.Profile.SignIn.Embed; len(embed) > 0 && (v.session.Kind == keyring.SessionPortal || !v.known() || v.portal) {
		frames = strings.Join(embed, " ")
	}
	forms := "'self'"
	// Browsers hold the address that a form's answer leads to against this too.
	if u, err := url.Parse(v.session.ReturnURL); err == nil && u.Host != "" {
		forms += " " + u.Scheme + "://" + u.Host
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action " + forms + "; base-uri 'none'; " +
		"img-src " + images + "; frame-ancestors " + frames
}

// done is what a form has done, as a page says it. The address only names it.
func done(name string) string {
	switch name {
	case "created":
		return "Created."
	case "saved":
		return "Saved."
	case "revoked":
		return "Revoked. It is refused from now on."
	case "deleted":
		return "Deleted."
	case "disabled":
		return "Disabled. It is refused until it is enabled again."
	case "enabled":
		return "Enabled."
	case "rotated":
		return "Rotated."
	case "rolled_back":
		return "Rolled back: the replacement is revoked, and this key goes on."
	case "revoked_all":
		return "Revoked. All of them are refused from now on."
	case "none":
		return "No key was chosen. Tick the keys that are meant first."
	case "deleted_all":
		return "Deleted. All of them are refused from now on."
	case "ended":
		return "Ended."
	case "invited":
		return "Invited."
	case "removed":
		return "Removed."
	case "suspended":
		return "Suspended. All keys of the workspace are refused from now on."
	case "resumed":
		return "Resumed. Keys are accepted again."
	case "passkey":
		return "Passkey added. Sign in with it from now on."
	case "secret_revoked":
		return "Revoked. It signs nothing from now on."
	case "secret_rolled_back":
		return "Rolled back: the replacement is revoked, and this secret goes on signing."
	case "seen":
		return "Noted. It closes when its cause is gone."
	case "paused":
		return "Paused. Events wait until it is resumed."
	case "active":
		return "Resumed. What has waited is sent now."
	case "queued":
		return "It is sent again now."
	case "replayed":
		return "What failed is sent again now."
	case "again":
		return "Signed in. Go back to the tab with your form, and press Continue there."
	case "reviewed":
		return "Review noted."
	}
	return ""
}

// number writes a number that is not negative as people do: 12,345.
func number(n any) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
