package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
)

// createdKey is a key that was just made, with its secret: shown this once.
type createdKey struct {
	keystile.CreatedKey

	Curl  string // a line that tries it
	Nudge bool   // its name tells nothing
	Close string // path of the page that closing it leads to
}

func (v *visit) created(out keystile.CreatedKey, closing string) *createdKey {
	header := "Authorization: Bearer " + out.Secret
	if v.door.Profile.ShowHeader != "Authorization" {
		header = v.door.Profile.ShowHeader + ": " + out.Secret
	}
	return &createdKey{
		CreatedKey: out, Curl: "curl -H '" + header + "' " + v.url + "/v1/me", Nudge: keyring.TellsLittle(out.Key.Name), Close: closing,
	}
}

// accessForm is what the forms of a new key and of a changed one share.
type accessForm struct {
	Name, Description, Owner, Role, Environment string

	Allowlist string // as typed, one entry a line
	Expires   string // a day, as the browser sends it
	Narrow    bool   // only the permissions that are named
	Chosen    []string

	Roles        []keystile.Role
	Chief        keystile.Role // the one that is chosen
	Environments []profile.Environment
	Permissions  []tick
	Today        string
	More         bool // the part that is folded away holds something
}

// tick is a permission that can be chosen.
type tick struct {
	profile.Permission

	Ticked bool
}

// dayForm is how browsers send days.
const dayForm = "2006-01-02"

// typed reads the fields.
func (v *visit) typed() accessForm {
	form := v.r.PostFormValue
	f := accessForm{
		Name: form("name"), Description: form("description"), Owner: form("owner"), Role: form("role"), Environment: form("environment"),
		Allowlist: form("ip_allowlist"), Expires: form("expires"), Narrow: form("narrow") != "",
	}
	f.Chosen = v.r.Form["permissions[]"]
	f.Chosen = f.Chosen[:min(len(f.Chosen), maxTicks)]
	return f
}

// complete adds what the fields can be chosen from. The role that a key has may
// be left to it by those who can't give it.
func (v *visit) complete(f *accessForm, has ...keystile.Role) error {
	var err error
	if f.Roles, err = v.keyring().RolesToGive(v.r.Context(), v.actor, v.workspace.ID); err != nil {
		return err
	}
	for _, r := range has {
		if !slices.ContainsFunc(f.Roles, func(q keystile.Role) bool { return q.Name == r.Name }) && r.Name != "" {
			f.Roles = append(f.Roles, r)
		}
	}
	p := v.door.Profile
	f.Environments, f.Today = p.Environments, time.Now().UTC().Format(dayForm)
	for i, r := range f.Roles {
		if i == 0 || r.Name == f.Role || (f.Role == "" && r.Default) {
			f.Chief = r
		}
	}
	for _, permission := range p.Permissions {
		if v.actor.May(permission.Name) {
			f.Permissions = append(f.Permissions, tick{Permission: permission})
		}
	}
	for _, chosen := range f.Chosen { // patterns, and what pages don't offer
		if f.Narrow && !slices.ContainsFunc(f.Permissions, func(q tick) bool { return q.Name == chosen }) {
			f.Permissions = append(f.Permissions, tick{Permission: profile.Permission{Name: chosen}})
		}
	}
	for i, permission := range f.Permissions { // unless narrowed, what the role allows
		f.Permissions[i].Ticked = slices.Contains(f.Chosen, permission.Name)
		if !f.Narrow {
			f.Permissions[i].Ticked = f.Chief.Permissions.Allow(permission.Name)
		}
	}
	f.More = f.Allowlist != "" || f.Expires != "" || f.Owner != "" || f.Narrow
	return nil
}

// entries are the lines of an allowlist as typed.
func entries(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' || r == ' ' || r == '\t' })
}

// endOfDay is the instant at which a day that the browser sent is over, in UTC.
func endOfDay(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	t, err := time.Parse(dayForm, s)
	if err != nil {
		return nil, badDay("It is not a day such as 2030-12-31.")
	}
	t = t.AddDate(0, 0, 1)
	return &t, nil
}

// newKeyPage is the form of a new key, with what was wrong with it.
type newKeyPage struct {
	accessForm

	Nonce   string
	Problem *keystile.Error
}

// newKey shows the form of a new key: an empty one, or one that is filled in
// like a key that ends soon.
func (v *visit) newKey() error {
	var f accessForm
	if id := v.r.URL.Query().Get("like"); id != "" {
		k, err := v.keyring().Key(v.r.Context(), v.actor, id)
		if err != nil {
			return err
		}
		if k.WorkspaceID != v.workspace.ID {
			return unknownPage()
		}
		f = accessForm{
			Name: k.Name, Description: k.Description, Owner: k.Owner, Role: k.Role, Environment: k.Environment,
			Allowlist: strings.Join(k.IPAllowlist, "\n"), Narrow: len(k.Permissions) > 0, Chosen: k.Permissions,
		}
	}
	return v.newKeyForm(f, nil)
}

func (v *visit) newKeyForm(f accessForm, problem *keystile.Error) error {
	if err := v.complete(&f); err != nil {
		return err
	}
	v.show(formStatus(problem), "key_new", v.door.Profile.Word("create_title"), newKeyPage{f, newNonce(), problem})
	return nil
}

// createKey makes a key and shows its secret, once: the answer is kept
// nowhere, and sending the form again makes no second key.
func (v *visit) createKey() error {
	f := v.typed()
	in := keystile.CreateKey{
		Name: f.Name, Description: f.Description, Owner: f.Owner, Role: f.Role, Environment: f.Environment, IPAllowlist: entries(f.Allowlist),
	}
	if f.Narrow {
		in.Permissions = append(keystile.Permissions{}, f.Chosen...) // none is refused, not all
	}
	var err error
	in.ExpiresAt, err = endOfDay(f.Expires)
	var out keystile.CreatedKey
	var replayed bool
	if err == nil {
		out, replayed, err = v.keyring().CreateKey(v.r.Context(), v.actor, v.workspace.ID, in, v.once())
	}
	if problem := v.correctable(err); problem != nil {
		return v.newKeyForm(f, problem)
	} else if err != nil {
		return err
	}
	if replayed {
		return v.shownAlready(out.Key)
	}
	page, err := v.keysPage()
	if err != nil {
		return err
	}
	page.Created = v.created(out, v.base()+"/keys")
	v.show(http.StatusCreated, "keys", v.door.Profile.Word("created_title"), page)
	return nil
}

// shownAlready answers a form that was sent again: by a reload, or by going
// back to it.
func (v *visit) shownAlready(k keystile.Key) error {
	v.show(http.StatusOK, "key_again", "Created before", struct {
		Key    keystile.Key
		Rotate bool
	}{k, v.may(k, "rotate")})
	return nil
}
