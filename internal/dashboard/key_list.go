package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
)

const (
	// mostCounted is how far the keys of a list are counted.
	mostCounted = 100_000
	// ended is what the cursor of a page begins with on which keys are over.
	ended = "ended."
	// trailLength is how many pages back one can go.
	trailLength = 50
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
	CreatedBy string        // name of the creator
	First     string        // address of the first page, when this is another
	Before    string        // address of the page before this one
	Next      string        // address of the next page
	Here      string        // this page, for forms that lead back to it
	Count     string        // how many there are in all; "" where counting is not cheap
	Ended     *keystile.Key // the one that was ended just now
	MayCreate bool
	Choice    bool   // there are some on this page that can be ended
	Bulk      string // what can be done to many: revoke, delete or nothing
	Exposed   []keystile.Alert
	MaySee    bool // the reader may say that they have seen those
	Created   *createdKey
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
	query := keyring.KeyQuery{
		Query: page.Query, Status: page.Status, Creator: page.Creator, Unrevoked: p.Keys.Revoke == profile.RevokeHide,
	}
	cursor := q.Get("cursor")
	keys, next, err := v.listed(query, cursor)
	if err != nil {
		return page, err
	}
	for _, k := range keys {
		t, err := v.twin(k, keys)
		if err != nil {
			return page, err
		}
		row := v.keyRow(k, p.Actions, t).fold(len(p.Actions))
		page.Rows = append(page.Rows, row)
		page.Choice = page.Choice || row.Ends
		page.CreatedBy = partyName(k.CreatedBy)
	}
	page.Any = len(page.Rows) > 0 || page.Filtered
	if page.Count, err = v.count(query, len(keys), cursor == "" && next == ""); err != nil {
		return page, err
	}
	page.turn(v, q, cursor, next)
	if err := v.addEnded(&page, q.Get("key")); err != nil {
		return page, err
	}
	// Whoever may end keys is told of one that others may have.
	if page.Bulk != "" && !page.Filtered {
		page.MaySee = v.actor.May("api.usage.view") && v.actor.May("api.key.update")
		page.Exposed, err = v.keyring().Exposed(v.r.Context(), v.actor, v.workspace.ID)
	}
	return page, err
}

// act is a button of a row: a form that asks, or that does what needs no asking.
type act struct {
	Base, Key, What string
	Back            string // the page that it leads back to
	Row             int
}

func newAct(base, key, what, back string, row int) act { return act{base, key, what, back, row} }

// fold puts what is neither urgent nor about the secret into a menu, where a
// row would have more buttons than a line holds.
func (r keyRow) fold(actions int) keyRow {
	if actions <= 3 {
		return r
	}
	acts := r.Acts
	r.Acts = nil
	for _, a := range acts {
		if a == "edit" || a == "disable" || a == "enable" {
			r.More = append(r.More, a)
		} else {
			r.Acts = append(r.Acts, a)
		}
	}
	return r
}

// listed reads a page of keys. Where no status is asked for, those that are over
// stand behind those that are not, each the newest first. A key that ends while
// one turns pages is seen twice, then, and none is left out.
func (v *visit) listed(query keyring.KeyQuery, cursor string) (keys []keystile.Key, next string, err error) {
	ctx := v.r.Context()
	query.Limit = keysOnPage
	if query.Status != "" {
		query.Cursor = cursor
		list, err := v.keyring().Keys(ctx, v.actor, v.workspace.ID, query)
		return list.Data, list.NextCursor, err
	}
	cursor, over := strings.CutPrefix(cursor, ended)
	if query.Cursor = cursor; !over {
		query.Live = true
		list, err := v.keyring().Keys(ctx, v.actor, v.workspace.ID, query)
		if err != nil || list.NextCursor != "" {
			return list.Data, list.NextCursor, err
		}
		keys = list.Data
		query.Live, query.Cursor, query.Limit = false, "", max(keysOnPage-len(keys), 1)
	}
	query.Over = true
	list, err := v.keyring().Keys(ctx, v.actor, v.workspace.ID, query)
	switch {
	case err != nil:
		return nil, "", err
	case len(keys) == keysOnPage && len(list.Data) > 0: // there is no room for them
		return keys, ended, nil
	case list.NextCursor != "":
		next = ended + list.NextCursor
	}
	return append(keys, list.Data...), next, nil
}

// count says how many keys a list has in all. A search looks at each, so that
// counting what it finds is not done unless all of it is there.
func (v *visit) count(query keyring.KeyQuery, shown int, whole bool) (string, error) {
	n := shown
	if !whole {
		if query.Query != "" {
			return "", nil
		}
		var err error
		if n, err = v.keyring().CountKeys(v.r.Context(), v.actor, v.workspace.ID, query, mostCounted); err != nil {
			return "", err
		}
	}
	return manyKeys(n), nil
}

// manyKeys says a number of keys that was counted as far as mostCounted.
func manyKeys(n int) string {
	switch {
	case n == 1:
		return "1 key"
	case n >= mostCounted:
		return "More than " + number(n-1) + " keys"
	}
	return number(n) + " keys"
}

// turn adds the addresses of the pages around this one. Keys are read from a
// cursor on, so the way back is the trail of cursors by which one came.
func (p *keysPage) turn(v *visit, q url.Values, cursor, next string) {
	here := url.Values{"q": {p.Query}, "status": {p.Status}, "created_by": {p.Creator}, "cursor": {cursor}, "trail": {q.Get("trail")}}
	if _, query, ok := strings.Cut(v.listAt(here), "?"); ok {
		p.Here = "keys?" + query
	}
	trail := strings.Split(q.Get("trail"), ",")
	if next != "" {
		here.Set("cursor", next)
		if trail = append(trail, cursor); cursor == "" {
			trail = nil
		}
		here.Set("trail", strings.Join(trail[max(0, len(trail)-trailLength):], ","))
		p.Next = v.listAt(here)
	}
	if cursor == "" {
		return
	}
	trail = strings.Split(q.Get("trail"), ",")
	here.Set("cursor", trail[len(trail)-1])
	here.Set("trail", strings.Join(trail[:len(trail)-1], ","))
	p.Before = v.listAt(here)
	here.Del("cursor")
	here.Del("trail")
	p.First = v.listAt(here)
}

// addEnded adds the key that was ended just now, so that a replacement can be
// made of it.
func (v *visit) addEnded(page *keysPage, id string) error {
	if id == "" || !page.MayCreate {
		return nil
	}
	k, err := v.keyring().Key(v.r.Context(), v.actor, id)
	if errors.Is(err, keystile.CodeNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if k.WorkspaceID == v.workspace.ID && k.Status == keystile.StatusRevoked {
		page.Ended = &k
	}
	return nil
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
