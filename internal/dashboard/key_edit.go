package dashboard

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/keystile/keystile"
)

// editPage is the form that changes a key.
type editPage struct {
	accessForm
	keyForm

	Version string // of the key as the form shows it
	LastDay string // the key's present end
}

// asForm are a key's fields as the form shows them.
func asForm(k keystile.Key) accessForm {
	f := accessForm{
		Name: k.Name, Description: k.Description, Owner: k.Owner, Role: k.Role, Environment: k.Environment,
		Allowlist: strings.Join(k.IPAllowlist, "\n"), Narrow: len(k.Permissions) > 0, Chosen: k.Permissions,
	}
	if k.ExpiresAt != nil {
		f.Expires = k.ExpiresAt.Format(dayForm)
	}
	return f
}

func version(k keystile.Key) string { return strconv.FormatInt(k.UpdatedAt.UnixMilli(), 36) }

func (v *visit) editKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	return v.editForm(k, asForm(k), nil)
}

func (v *visit) editForm(k keystile.Key, f accessForm, problem *keystile.Error) error {
	allowed, err := v.keyring().KeyPermissions(v.r.Context(), v.actor, k.ID)
	if err != nil {
		return err
	}
	if err := v.complete(&f, keystile.Role{Name: k.Role, Permissions: allowed}); err != nil {
		return err
	}
	page := editPage{accessForm: f, keyForm: v.keyForm(k, problem), Version: version(k)}
	if k.ExpiresAt != nil {
		page.LastDay = k.ExpiresAt.Format(dayForm)
	}
	v.show(formStatus(problem), "key_edit", v.door.Profile.Word("edit_title"), page)
	return nil
}

// saveKey changes what the form says differs from the key, and nothing else.
func (v *visit) saveKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	f := v.typed()
	if v.r.PostFormValue("version") != version(k) {
		return v.editForm(k, f, v.door.Problem(v.r.Context(), keystile.NewError(keystile.CodeConflict,
			"Somebody changed the key since you opened the form. Nothing was saved.",
			"Compare what you typed with the key's page, and save again.")))
	}
	patch, err := patchOf(asForm(k), f)
	if err == nil && reaches(patch) && !v.keyring().Fresh(v.session) {
		return v.signInAgain()
	}
	if err == nil {
		_, err = v.keyring().UpdateKey(v.r.Context(), v.actor, k.ID, patch)
	}
	if problem := v.correctable(err); problem != nil {
		return v.editForm(k, f, problem)
	} else if err != nil {
		return err
	}
	return v.to(withDone(v.cameFrom(), "saved"))
}

// reaches tells whether a change is to what a key opens, or from where. That
// can make more of it, and then hands out access as a new key does.
func reaches(p keystile.KeyPatch) bool {
	return p.Role != nil || p.Permissions != nil || p.WholeRole || p.IPAllowlist != nil
}

// patchOf is what differs between the form as shown and as sent.
func patchOf(was, is accessForm) (patch keystile.KeyPatch, err error) {
	for _, field := range []struct {
		was, is string
		into    **string
	}{{was.Name, is.Name, &patch.Name}, {was.Description, is.Description, &patch.Description}, {was.Owner, is.Owner, &patch.Owner}, {was.Role, is.Role, &patch.Role}} {
		if field.was != field.is {
			*field.into = &field.is
		}
	}
	if list := entries(is.Allowlist); !slices.Equal(list, entries(was.Allowlist)) {
		list = append([]string{}, list...)
		patch.IPAllowlist = &list
	}
	switch {
	case was.Narrow && !is.Narrow:
		patch.WholeRole = true
	case is.Narrow && (!was.Narrow || !slices.Equal(was.Chosen, is.Chosen)):
		chosen := append(keystile.Permissions{}, is.Chosen...)
		patch.Permissions = &chosen
	}
	if is.Expires != was.Expires {
		if is.Expires == "" {
			return patch, badDay("The end of a key can't be taken away: nothing lengthens a key's life.", "Create a new key instead.")
		}
		patch.ExpiresAt, err = endOfDay(is.Expires)
	}
	return patch, err
}

// disableKeyPage asks before a key is disabled.
func (v *visit) disableKeyPage() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "key_disable", v.door.Profile.Word("disable_title"), v.endForm(k, nil))
	return nil
}

func (v *visit) disableKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	_, err = v.keyring().DisableKey(v.r.Context(), v.actor, k.ID, keystile.DisableKey{Reason: v.reason()})
	if problem := v.correctable(err); problem != nil {
		v.show(problem.Status, "key_disable", v.door.Profile.Word("disable_title"), v.endForm(k, problem))
		return nil
	} else if err != nil {
		return err
	}
	return v.to(withDone(v.cameFrom(), "disabled"))
}

func (v *visit) enableKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	if _, err := v.keyring().EnableKey(v.r.Context(), v.actor, k.ID); err != nil {
		return err
	}
	return v.to(withDone(v.cameFrom(), "enabled"))
}

func (v *visit) reviewKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	if _, err := v.keyring().ReviewKey(v.r.Context(), v.actor, k.ID); err != nil {
		return err
	}
	return v.to(withDone(v.cameFrom(), "reviewed"))
}
