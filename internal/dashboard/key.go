package dashboard

import (
	"net/http"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// keysPage is the list of a workspace's keys.
type keysPage struct {
	Columns    []string
	Keys       []keystile.Key
	NextCursor string
	Query      string
	Status     string
	MayCreate  bool
	Created    *createdKey
}

// createdKey is a key that was just made, with its secret: shown this once.
type createdKey struct {
	keystile.CreatedKey

	Header string // the line that a request carries it in
	URL    string
}

func (v *visit) keysPage() (keysPage, error) {
	q := v.r.URL.Query()
	page := keysPage{
		Columns: v.door.Profile.Columns, Query: q.Get("q"), Status: q.Get("status"), MayCreate: v.actor.May("api.key.create"),
	}
	list, err := v.keyring().Keys(v.r.Context(), v.actor, v.workspace.ID, keyring.KeyQuery{
		Query: page.Query, Status: page.Status, Cursor: q.Get("cursor"),
	})
	page.Keys, page.NextCursor = list.Data, list.NextCursor
	return page, err
}

func (v *visit) listKeys() error {
	page, err := v.keysPage()
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "keys", v.door.Profile.Word("keys_title"), page)
	return nil
}

// newKeyPage is the form of a new key, with what was wrong with it.
type newKeyPage struct {
	Roles        []keystile.Role
	Environments []string
	In           keystile.CreateKey
	Nonce        string
	Problem      *keystile.Error
}

func (v *visit) newKey() error { return v.keyForm(keystile.CreateKey{}, nil) }

func (v *visit) keyForm(in keystile.CreateKey, problem *keystile.Error) error {
	roles, err := v.keyring().Roles(v.r.Context(), v.actor, v.workspace.ID, "", keyring.MaxLimit)
	if err != nil {
		return err
	}
	page := newKeyPage{Roles: roles.Data, In: in, Nonce: newNonce(), Problem: problem}
	for _, e := range v.door.Profile.Environments {
		page.Environments = append(page.Environments, e.Name)
	}
	status := http.StatusOK
	if problem != nil {
		status = problem.Status
	}
	v.show(status, "key_new", v.door.Profile.Word("create_title"), page)
	return nil
}

// createKey makes a key and shows its secret, once: the answer is kept
// nowhere, and sending the form again makes no second key.
func (v *visit) createKey() error {
	form := v.r.PostFormValue
	in := keystile.CreateKey{Name: form("name"), Description: form("description"), Role: form("role"), Environment: form("environment")}
	out, replayed, err := v.keyring().CreateKey(v.r.Context(), v.actor, v.workspace.ID, in, v.once())
	if problem := v.correctable(err); problem != nil {
		return v.keyForm(in, problem)
	} else if err != nil {
		return err
	}
	if replayed {
		return v.to(v.base() + "/keys?done=created")
	}
	page, err := v.keysPage()
	if err != nil {
		return err
	}
	page.Created = &createdKey{CreatedKey: out, URL: v.url}
	v.show(http.StatusCreated, "keys", v.door.Profile.Word("created_title"), page)
	return nil
}
