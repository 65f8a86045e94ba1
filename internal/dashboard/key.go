package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
)

// keysOnPage is how many keys the list shows at once. With all their buttons
// and descriptions they stay well below 100 kB.
const keysOnPage = 30

// keysPage is the list of a workspace's keys.
type keysPage struct {
	Tabs      []tab
	Columns   []string
	Rows      []keyRow
	Any       bool // there is a key, or a filter that may hide one
	Filtered  bool
	Query     string
	Status    string
	Statuses  []string
	Creator   string
	CreatedBy string // name of the creator
	First     string // address of the first page, when this is another
	Next      string // address of the next page
	MayCreate bool
	Bulk      string // what can be done to many: revoke, delete or nothing
	Exposed   []keystile.Alert
	Created   *createdKey
}

// keyRow is a key with what the reader may do about it.
type keyRow struct {
	keystile.Key

	Marks []string // names of words without mark_
	Acts  []string // those of the profile's actions that apply
	Shown bool     // the status has a column of its own
}

// may tells which of the actions a reader can take on a key at all.
func (v *visit) may(k keystile.Key, action string) bool {
	policy, live := v.door.Profile.Keys, k.Status == keystile.StatusActive || k.Status == keystile.StatusDisabled
	switch action {
	case "copy":
		return true
	case "edit":
		return v.actor.May("api.key.update") && live
	case "rotate":
		return v.actor.May("api.key.create") && v.actor.May("api.key.delete") && k.Status == keystile.StatusActive
	case "disable":
		return policy.Disable && v.actor.May("api.key.update") && k.Status == keystile.StatusActive
	case "enable":
		return v.actor.May("api.key.update") && k.Status == keystile.StatusDisabled
	case "revoke":
		return policy.Revoke != profile.RevokeOff && v.actor.May("api.key.delete") && k.Status != keystile.StatusRevoked
	case "delete":
		return policy.Delete && v.actor.May("api.key.delete")
	case "review":
		return policy.ReviewEvery > 0 && v.actor.May("api.key.update") && live
	}
	return false
}

// ending is how keys are ended in this profile, by whoever may.
func (v *visit) ending() string {
	switch policy := v.door.Profile.Keys; {
	case !v.actor.May("api.key.delete"):
	case policy.Revoke != profile.RevokeOff:
		return "revoke"
	case policy.Delete:
		return "delete"
	}
	return ""
}

// marks are what should be known about a key at a glance.
func marks(k keystile.Key, now time.Time) (marks []string) {
	if k.Status != keystile.StatusActive && k.Status != keystile.StatusDisabled {
		return nil
	}
	before := func(t *time.Time, ahead time.Duration) bool { return t != nil && !t.After(now.Add(ahead)) }
	if k.SafeToRevoke {
		marks = append(marks, "safe")
	}
	switch {
	case before(k.RotationDue, 0):
		marks = append(marks, "overdue")
	case before(k.RotationDue, keyring.Soon):
		marks = append(marks, "due")
	}
	if before(k.ExpiresAt, keyring.Soon) {
		marks = append(marks, "expiring")
	}
	if k.Idle {
		marks = append(marks, "idle")
	}
	if before(k.ReviewDue, 0) {
		marks = append(marks, "review")
	}
	return marks
}

func (v *visit) keyRow(k keystile.Key, actions []string) keyRow {
	row := keyRow{Key: k, Marks: marks(k, time.Now()), Shown: slices.Contains(v.door.Profile.Columns, "status")}
	for _, a := range actions {
		if a == "disable" && k.Status == keystile.StatusDisabled {
			a = "enable"
		}
		if v.may(k, a) {
			row.Acts = append(row.Acts, a)
		}
	}
	return row
}

func (v *visit) keysPage() (keysPage, error) {
	p, q := v.door.Profile, v.r.URL.Query()
	page := keysPage{
		Tabs: v.tabs("keys"), Columns: p.Columns, Query: strings.TrimSpace(q.Get("q")), Status: q.Get("status"),
		Creator: q.Get("created_by"), MayCreate: v.actor.May("api.key.create"), Bulk: v.ending(),
		Statuses: []string{"active"},
	}
	for _, offered := range []struct {
		status string
		known  bool
	}{{"disabled", p.Keys.Disable}, {"expired", true}, {"revoked", p.Keys.Revoke == profile.RevokeKeep}} {
		if offered.known {
			page.Statuses = append(page.Statuses, offered.status)
		}
	}
	page.Filtered = page.Query != "" || page.Status != "" || page.Creator != ""
	list, err := v.keyring().Keys(v.r.Context(), v.actor, v.workspace.ID, keyring.KeyQuery{
		Query: page.Query, Status: page.Status, Creator: page.Creator, Unrevoked: p.Keys.Revoke == profile.RevokeHide, Cursor: q.Get("cursor"), Limit: keysOnPage,
	})
	if err != nil {
		return page, err
	}
	for _, k := range list.Data {
		page.Rows = append(page.Rows, v.keyRow(k, p.Actions))
		page.CreatedBy = partyName(k.CreatedBy)
	}
	page.Any = len(page.Rows) > 0 || page.Filtered
	filter := url.Values{}
	for name, value := range map[string]string{"q": page.Query, "status": page.Status, "created_by": page.Creator} {
		if value != "" {
			filter.Set(name, value)
		}
	}
	if q.Get("cursor") != "" {
		page.First = v.base() + "/keys?" + filter.Encode()
	}
	if list.NextCursor != "" {
		filter.Set("cursor", list.NextCursor)
		page.Next = v.base() + "/keys?" + filter.Encode()
	}
	// Whoever may end keys is told of one that others may have.
	if page.Bulk != "" && !page.Filtered {
		page.Exposed, err = v.keyring().Exposed(v.r.Context(), v.actor, v.workspace.ID)
	}
	return page, err
}

func (v *visit) listKeys() error {
	if v.r.URL.ForceQuery { // a form without fields leaves a question mark
		return v.to(v.base() + "/keys")
	}
	page, err := v.keysPage()
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "keys", v.door.Profile.Word("keys_title"), page)
	return nil
}

// key reads the key of the path. One of another workspace is not there, even
// for those who may see every workspace.
func (v *visit) key() (keystile.Key, error) {
	k, err := v.keyring().Key(v.r.Context(), v.actor, v.r.PathValue("key"))
	if err == nil && k.WorkspaceID != v.workspace.ID {
		return keystile.Key{}, unknownPage()
	}
	return k, err
}

// keyAt is the path of a key's own page.
func (v *visit) keyAt(id string) string { return v.base() + "/keys/" + id }

// cameFrom is the page that a form about keys leads back to.
func (v *visit) cameFrom() string {
	switch v.r.FormValue("back") {
	case "hygiene":
		return v.base() + "/hygiene"
	case "alerts":
		return v.base() + "/alerts"
	case "key":
		if id := v.r.PathValue("key"); id != "" {
			return v.keyAt(id)
		}
	}
	return v.base() + "/keys"
}

// keyForm is a form about one key.
type keyForm struct {
	Key     keystile.Key
	Back    string // the page that it leads back to
	From    string // the name of that page, for the form
	Nonce   string
	Problem *keystile.Error
}

func (v *visit) keyForm(k keystile.Key, problem *keystile.Error) keyForm {
	return keyForm{Key: k, Back: v.cameFrom(), From: v.r.FormValue("back"), Nonce: newNonce(), Problem: problem}
}

// formStatus is the status of a form that is shown again with a problem.
func formStatus(problem *keystile.Error) int {
	if problem == nil {
		return http.StatusOK
	}
	return problem.Status
}

// roleTitle is what people call a role.
func (d *Dashboard) roleTitle(name string) string {
	if r, ok := d.door.Profile.Role(name); ok && r.Title != "" {
		return r.Title
	}
	return name
}

// environmentTitle is what people call an environment.
func (d *Dashboard) environmentTitle(name string) string {
	if e, ok := d.door.Profile.Environment(name); ok && e.Title != "" {
		return e.Title
	}
	return name
}

// reasonTitle is what people call a reason: one of those offered by name, or
// somebody's own words.
func (d *Dashboard) reasonTitle(reason string) string {
	if word := d.door.Profile.Word("reason_" + reason); word != "" {
		return word
	}
	return reason
}
