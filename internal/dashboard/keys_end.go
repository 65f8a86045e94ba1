package dashboard

import (
	"slices"
	"strconv"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// namedAtOnce is how many keys are named before they are ended.
const namedAtOnce = 100

// bulkPage asks before many keys are ended.
type bulkPage struct {
	How     string // revoke or delete
	Path    string
	Keys    []keystile.Key
	Count   int    // how many there are, of which as many are named as can be read
	MadeBy  string // ID of the one who made all of them; "" for a selection
	Maker   string // their name
	Did     int    // how many have been ended by forms before this one
	Reasons []string
	Reason  string
	Other   string
	Back    string // the page that it leads back to
	From    string // the name of that page, for the form
	Problem *keystile.Error
}

// More tells whether there are keys that are not named, and Rest how many.
func (p bulkPage) More() bool   { return p.Rest() != "0" }
func (p bulkPage) Rest() string { return number(p.Count - len(p.Keys)) }

// All is how many keys there were before the first was ended.
func (p bulkPage) All() int { return p.Did + p.Count }

// askEndKeys asks before keys are ended that were chosen in the list, or all
// that one person or key has made.
func (v *visit) askEndKeys(how string, did int, problem *keystile.Error) error {
	page := bulkPage{
		How: how, Path: v.base() + "/keys/" + how, MadeBy: v.r.FormValue("made_by"), Did: did, Reasons: v.door.Profile.Keys.Reasons,
		Reason: v.r.PostFormValue("reason"), Other: v.r.PostFormValue("other_reason"),
		Back: v.cameFrom(), From: v.r.FormValue("back"), Problem: problem,
	}
	if page.MadeBy != "" {
		list, err := v.keyring().Keys(v.r.Context(), v.actor, v.workspace.ID, keyring.KeyQuery{Creator: page.MadeBy, Live: true, Limit: namedAtOnce})
		if err != nil {
			return err
		}
		page.Keys = list.Data
		if page.Count, err = v.keyring().Made(v.r.Context(), v.actor, v.workspace.ID, page.MadeBy); err != nil {
			return err
		}
	}
	for _, id := range v.chosen() {
		k, err := v.keyring().Key(v.r.Context(), v.actor, id)
		if err != nil {
			return err
		}
		if k.WorkspaceID != v.workspace.ID {
			return unknownPage()
		}
		page.Keys = append(page.Keys, k)
	}
	page.Count = max(page.Count, len(page.Keys))
	if page.Count == 0 && problem == nil {
		return v.to(withDone(v.cameFrom(), "none"))
	}
	for _, k := range page.Keys {
		page.Maker = partyName(k.CreatedBy)
	}
	v.show(formStatus(page.Problem), "keys_end", v.door.Profile.Word(how+"_selected"), page)
	return nil
}

// chosen are the keys that a form names.
func (v *visit) chosen() []string {
	if v.r.FormValue("made_by") != "" { // parses the form
		return nil
	}
	ids := slices.Clone(v.r.Form["key[]"])
	return ids[:min(len(ids), keyring.MaxLimit+1)]
}

// endKeys ends them. Of all that somebody made it ends the first, and shows how
// many are left.
func (v *visit) endKeys(how string) error {
	ctx, in := v.r.Context(), keystile.RevokeKey{Reason: v.reason()}
	maker, ids := v.r.FormValue("made_by"), v.chosen()
	if maker == "" && len(ids) == 0 {
		return v.to(withDone(v.cameFrom(), "none"))
	}
	var out keyring.Ended
	var err error
	switch {
	case how == "revoke" && maker != "":
		out, err = v.keyring().RevokeMade(ctx, v.actor, v.workspace.ID, maker, in)
	case how == "revoke":
		_, err = v.keyring().RevokeKeys(ctx, v.actor, v.workspace.ID, ids, in)
	case maker != "":
		out, err = v.keyring().DeleteMade(ctx, v.actor, v.workspace.ID, maker)
	default:
		_, err = v.keyring().DeleteKeys(ctx, v.actor, v.workspace.ID, ids)
	}
	before, _ := strconv.Atoi(v.r.PostFormValue("did")) // no number is none
	did := min(max(before, 0), mostCounted) + out.Done
	if problem := v.correctable(err); problem != nil {
		return v.askEndKeys(how, did, problem)
	} else if err != nil {
		return err
	}
	if out.Left > 0 {
		return v.askEndKeys(how, did, nil)
	}
	return v.to(withDone(v.cameFrom(), how+"d_all"))
}

func (v *visit) revokeKeysPage() error { return v.askEndKeys("revoke", 0, nil) }
func (v *visit) deleteKeysPage() error { return v.askEndKeys("delete", 0, nil) }
func (v *visit) revokeKeys() error     { return v.endKeys("revoke") }
func (v *visit) deleteKeys() error     { return v.endKeys("delete") }
