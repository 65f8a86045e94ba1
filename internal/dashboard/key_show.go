package dashboard

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

const (
	sourcesShown = 25 // addresses on a key's page
	auditShown   = 20 // entries of its audit trail there
)

// keyPage is all there is to know about a key.
type keyPage struct {
	keyRow

	Permissions keystile.Permissions
	Pair        *pair
	Ending      string // revoke, delete or nothing
	MadeBy      string // address of the list of all that its maker made
	Makes       string // address of the list of all that it made, if it may

	Usage   bool // the reader may see how keys are used
	Chart   chart
	Ranges  []tab
	Sources []keystile.KeySource

	Audit     bool // the reader may see the audit log
	Trail     []trailEntry
	TrailMore string // address of the rest

	Support string
	Created *createdKey
}

// pair is a key and the one that replaces it, side by side.
type pair struct {
	Old, New keystile.Key
	RollBack bool // the reader can undo the rotation
	EndOld   bool // the reader can end the old one
}

func (v *visit) showKey() error {
	if v.r.URL.ForceQuery {
		return v.to(v.r.URL.Path)
	}
	k, err := v.key()
	if err != nil {
		return err
	}
	page, err := v.keyPage(k)
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "key", k.Name, page)
	return nil
}

func (v *visit) keyPage(k keystile.Key) (page keyPage, err error) {
	page.keyRow = v.keyRow(k, []string{"edit", "rotate", "disable", "revoke", "delete", "review"})
	page.Ending = v.ending()
	if page.Permissions, err = v.keyring().KeyPermissions(v.r.Context(), v.actor, k.ID); err != nil {
		return page, err
	}
	if page.Pair, err = v.pair(k); err != nil {
		return page, err
	}
	if p := page.Pair; p != nil && alive(p.Old) && alive(p.New) {
		// There is no third key while two are valid.
		page.Acts = slices.DeleteFunc(page.Acts, func(a string) bool { return a == "rotate" })
	}
	if id := k.CreatedBy.ID; id != "" {
		page.MadeBy = v.base() + "/keys?created_by=" + id
	}
	if page.Permissions.Allow("api.key.create") {
		page.Makes = v.base() + "/keys?created_by=" + k.ID
	}
	if err := v.addUse(&page); err != nil {
		return page, err
	}
	if page.Audit = v.actor.May("api.audit.view"); page.Audit {
		list, err := v.keyring().Audit(v.r.Context(), v.actor, v.workspace.ID, keyring.AuditQuery{Object: k.ID, Limit: auditShown})
		if err != nil {
			return page, err
		}
		for _, e := range list.Data {
			page.Trail = append(page.Trail, trailOf(e))
		}
		if list.NextCursor != "" {
			page.TrailMore = v.base() + "/audit?object=" + k.ID
		}
	}
	page.Support = v.support(k)
	return page, nil
}

func alive(k keystile.Key) bool {
	return k.Status == keystile.StatusActive || k.Status == keystile.StatusDisabled
}

// pair finds the key that replaces this one, or the one that it replaces.
func (v *visit) pair(k keystile.Key) (*pair, error) {
	other := k.ReplacedBy
	if other == "" {
		other = k.Replaces
	}
	if other == "" {
		return nil, nil //nolint:nilnil // most keys have none
	}
	o, err := v.keyring().Key(v.r.Context(), v.actor, other)
	if errors.Is(err, keystile.CodeNotFound) {
		return nil, nil //nolint:nilnil // deleted since
	} else if err != nil {
		return nil, err
	}
	p := &pair{Old: k, New: o}
	if k.ReplacedBy == "" {
		p.Old, p.New = o, k
	}
	both := alive(p.Old) && alive(p.New) && p.Old.ReplacedBy == p.New.ID
	p.EndOld = both && v.ending() != ""
	p.RollBack = both && v.actor.May("api.key.create") && v.actor.May("api.key.delete")
	return p, nil
}

// addUse adds how the key was used, for those who may see it.
func (v *visit) addUse(page *keyPage) (err error) {
	if page.Usage = v.actor.May("api.usage.view"); !page.Usage {
		return nil
	}
	chosen := v.r.URL.Query().Get("range")
	for _, r := range []struct {
		name, title, caption string
		step                 time.Duration
		n                    int
	}{
		{"24h", "24 hours", "Calls in each hour of the last 24 hours", time.Hour, 24},
		{"30d", "30 days", "Calls on each of the last 30 days (UTC)", 24 * time.Hour, 30},
		{"90d", "90 days", "Calls on each of the last 90 days (UTC)", 24 * time.Hour, 90},
	} {
		current := r.name == chosen || (r.name == "24h" && chosen != "30d" && chosen != "90d")
		page.Ranges = append(page.Ranges, tab{r.title, v.keyAt(page.ID) + "?range=" + r.name + "#use", current})
		if !current {
			continue
		}
		steps, err := v.keyring().UsageSeries(v.r.Context(), v.actor, page.ID, r.step, r.n)
		if err != nil {
			return err
		}
		page.Chart = newChart(r.caption, r.step, steps)
	}
	page.Sources, err = v.keyring().Sources(v.r.Context(), v.actor, page.ID, sourcesShown)
	return err
}

// support is what a person sends to whoever helps them: it names everything
// and opens nothing.
func (v *visit) support(k keystile.Key) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	instant := func(name string, t *time.Time) {
		if t != nil {
			line(name, t.UTC().Format(time.RFC3339))
		}
	}
	now := time.Now()
	line("Product", v.door.Profile.Product)
	line("Workspace", v.workspace.ID)
	line("Key ID", k.ID)
	line("Name", k.Name)
	line("Status", string(k.Status))
	line("Environment", k.Environment)
	instant("Created", &k.CreatedAt)
	instant("Disabled", k.DisabledAt)
	instant("Revoked", k.RevokedAt)
	instant("Expires", k.ExpiresAt)
	if k.LastUse != nil {
		instant("Last used", &k.LastUse.At)
	} else {
		line("Last used", "never")
	}
	line("Replaces", k.Replaces)
	line("Replaced by", k.ReplacedBy)
	instant("Copied", &now)
	return b.String()
}

// trailEntry is an entry of the audit log as a key's page shows it.
type trailEntry struct {
	At           time.Time
	What, Who    string
	Reason, From string
	Changed      string // names of the fields
}

func trailOf(e keystile.AuditEntry) trailEntry {
	t := trailEntry{At: e.At, Who: partyName(e.Actor), Reason: e.Reason, From: e.Address}
	_, what, _ := strings.Cut(e.Action, ".")
	what = strings.ReplaceAll(what, "_", " ")
	t.What = capital(what)
	if e.Action == "key.updated" || e.Action == "webhook_secret.updated" {
		names := slices.Sorted(maps.Keys(e.After))
		for name := range e.Before {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		t.Changed = strings.ReplaceAll(strings.Join(names, ", "), "_", " ")
	}
	return t
}
