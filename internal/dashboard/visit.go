package dashboard

import (
	"errors"
	"net/http"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

// visit is one request of a person's browser.
type visit struct {
	*Dashboard

	w       http.ResponseWriter
	r       *http.Request
	session keyring.Session // of who is signed in; zero for nobody
	portal  bool            // the page may stand in a frame of the product's, whoever is signed in

	// In a workspace:
	actor     keyring.Actor
	workspace keystile.Workspace
}

// known tells whether somebody is signed in.
func (v *visit) known() bool { return v.session.ID != "" }

func (v *visit) keyring() *keyring.Keyring { return v.door.Keyring }

// address is where the person's browser is; "" when it is not known.
func (v *visit) address() string {
	if a := entry.Origin(v.r.Context()).Address; a.IsValid() {
		return a.Unmap().WithZone("").String()
	}
	return ""
}

// base is the path of the workspace's pages.
func (v *visit) base() string { return "/w/" + v.workspace.ID }

// open serves a page to anyone, and knows who is signed in if somebody is.
func (d *Dashboard) open(serve func(*visit) error) http.Handler {
	return d.openFor(maxForm, serve)
}

// openFor does so and takes a form of so many bytes.
func (d *Dashboard) openFor(most int64, serve func(*visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, most)
		v := &visit{Dashboard: d, w: w, r: r}
		err := v.recognise()
		if err == nil {
			err = serve(v)
		}
		if err != nil {
			v.refuse(err)
		}
	})
}

// signedIn serves a page to whoever is signed in, and leads others to the
// sign-in page.
func (d *Dashboard) signedIn(route route) http.Handler {
	return d.open(func(v *visit) error {
		if !v.known() {
			return v.toSignIn()
		}
		if route.fresh && !v.keyring().Fresh(v.session) {
			return v.signInAgain()
		}
		return route.serve(v)
	})
}

// inside serves a page to whoever has a place in the workspace of the path.
func (d *Dashboard) inside(route route) http.Handler {
	return d.openFor(max(route.most, maxForm), func(v *visit) error {
		if !v.known() {
			return v.toSignIn()
		}
		var err error
		if v.actor, err = v.keyring().Enter(v.r.Context(), v.session, v.r.PathValue("workspace")); err != nil {
			return err
		}
		if v.workspace, err = v.keyring().Home(v.r.Context(), v.actor, v.r.PathValue("workspace")); err != nil {
			return err
		}
		if route.needs != "" && !v.actor.May(route.needs) {
			return v.actor.Lacks(route.needs)
		}
		if route.fresh && !v.keyring().Fresh(v.session) {
			return v.signInAgain()
		}
		return route.serve(v)
	})
}

// recognise finds the session of the browser's cookie.
func (v *visit) recognise() error {
	for _, name := range []string{v.cookieName(false), v.cookieName(true)} {
		c, err := v.r.Cookie(name)
		if err != nil {
			continue
		}
		s, err := v.keyring().Session(v.r.Context(), c.Value, entry.Origin(v.r.Context()))
		if errors.Is(err, keystile.CodeNotFound) {
			continue
		} else if err != nil {
			return err
		}
		v.session = s
		return nil
	}
	return nil
}

// cookieName is that of the cookie that holds the session's token. The prefix
// binds it to this host and to TLS (RFC 6265bis, section 4.1.3.2).
func (d *Dashboard) cookieName(portal bool) string {
	name := "keystile"
	if portal {
		name += "-portal"
	}
	if d.secure {
		return "__Host-" + name
	}
	return name
}

// setCookie keeps a session's token in the browser, until the session ends.
// That of a portal session may be used in a frame of the product's page, and
// is kept apart there from what the browser has for us elsewhere.
func (v *visit) setCookie(token string, s keyring.Session) {
	portal := s.Kind == keyring.SessionPortal
	c := v.cookie(portal) //nolint:gosec // as above
	c.Value, c.Expires = token, s.ExpiresAt
	http.SetCookie(v.w, c)
	v.clearCookie(!portal) // of two the wrong one could count
}

// cookie is the session's cookie without its value.
func (v *visit) cookie(portal bool) *http.Cookie {
	c := &http.Cookie{ //nolint:gosec // Secure wherever there is TLS
		Name: v.cookieName(portal), Path: "/", HttpOnly: true, Secure: v.secure, SameSite: http.SameSiteLaxMode,
	}
	if portal && v.secure && len(v.door.Profile.SignIn.Embed) > 0 {
		c.SameSite, c.Partitioned = http.SameSiteNoneMode, true
	}
	return c
}

// clearCookie takes a session's cookie out of the browser. One that is
// partitioned goes only by a cookie that is so too.
func (v *visit) clearCookie(portal bool) {
	c := v.cookie(portal) //nolint:gosec // as above
	c.MaxAge, c.Expires = -1, time.Unix(1, 0)
	http.SetCookie(v.w, c)
}

// to leads the browser to another page of ours after a form. A form in a dialog
// is sent by our script, which goes there itself: if it followed a redirect,
// the page would be made twice, and where on it to look would be lost.
//
// A change that some servers have not heard of is told of on the page that
// follows.
func (v *visit) to(path string) error {
	path = withUnreached(path, entry.Unreached(v.r.Context()))
	if v.r.Header.Get("Keystile-Dialog") != "" && v.r.Method == http.MethodPost {
		v.w.Header().Set("Location", path)
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}
