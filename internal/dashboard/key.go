package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
)

// keyRow is a key with what the reader may do about it.
type keyRow struct {
	keystile.Key

	Marks []string // names of words without mark_
	Acts  []string // those of the profile's actions that apply
	More  []string // those of them that a menu holds
	Shown bool     // the status has a column of its own
	Ends  bool     // the reader can end it
	Twin  *twin
}

// twin is the other key of a rotation that is under way: both are live.
type twin struct {
	keystile.Key

	New bool // it is the replacement
}

// may tells which of the actions a reader can take on a key at all.
func (v *visit) may(k keystile.Key, action string) bool {
	policy, live := v.door.Profile.Keys, k.Status == keystile.StatusActive || k.Status == keystile.StatusDisabled
	switch action {
	case "copy":
		return true
	case "like":
		return v.actor.May("api.key.create") && !alive(k)
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

// twin finds the live key that replaces this one, or that this one replaces. At
// holds keys that are at hand already.
func (v *visit) twin(k keystile.Key, at []keystile.Key) (*twin, error) {
	for _, other := range []struct {
		id  string
		new bool
	}{{k.ReplacedBy, true}, {k.Replaces, false}} {
		if other.id == "" || !alive(k) {
			continue
		}
		i := slices.IndexFunc(at, func(q keystile.Key) bool { return q.ID == other.id })
		if i < 0 {
			found, err := v.keyring().Key(v.r.Context(), v.actor, other.id)
			if errors.Is(err, keystile.CodeNotFound) {
				continue // deleted since
			} else if err != nil {
				return nil, err
			}
			at, i = []keystile.Key{found}, 0
		}
		if q := at[i]; alive(q) && (other.new || q.ReplacedBy == k.ID) {
			return &twin{q, other.new}, nil
		}
	}
	return nil, nil //nolint:nilnil // most keys have none
}

func (v *visit) keyRow(k keystile.Key, actions []string, t *twin) keyRow {
	row := keyRow{Key: k, Marks: marks(k, time.Now()), Shown: slices.Contains(v.door.Profile.Columns, "status"), Twin: t}
	row.Ends = v.ending() != "" && v.may(k, v.ending())
	if t != nil {
		mark := "replacement"
		if t.New {
			mark = "replaced"
		}
		row.Marks = slices.Insert(row.Marks, 0, mark)
	}
	for _, a := range actions {
		if a == "disable" && k.Status == keystile.StatusDisabled {
			a = "enable"
		}
		// There is no third key while two are valid.
		if v.may(k, a) && (a != "rotate" || t == nil) {
			row.Acts = append(row.Acts, a)
		}
	}
	return row
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
	back := v.r.FormValue("back")
	switch back {
	case "hygiene":
		return v.base() + "/hygiene"
	case "alerts":
		return v.base() + "/alerts"
	case "key":
		if id := v.r.PathValue("key"); id != "" {
			return v.keyAt(id)
		}
	}
	if query, ok := strings.CutPrefix(back, "keys?"); ok {
		if q, err := url.ParseQuery(query); err == nil {
			return v.listAt(q)
		}
	}
	return v.base() + "/keys"
}

// listAt is the address of the list with the search, the filter and the page
// that a query names, and with nothing else.
func (v *visit) listAt(q url.Values) string {
	kept := url.Values{}
	for _, name := range []string{"q", "status", "created_by", "cursor", "trail"} {
		if s := q.Get(name); s != "" {
			kept.Set(name, s)
		}
	}
	if len(kept) == 0 {
		return v.base() + "/keys"
	}
	return v.base() + "/keys?" + kept.Encode()
}

// withDone is an address with what was done before it is gone to.
func withDone(at, name string) string {
	sign := "?"
	if strings.Contains(at, "?") {
		sign = "&"
	}
	return at + sign + "done=" + name
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
