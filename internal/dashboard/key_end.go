package dashboard

import (
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// callsShown is how many of a key's callers are shown before it is ended.
const callsShown = 5

// endForm asks before a key is ended or disabled.
type endForm struct {
	keyForm

	Reasons []string
	Reason  string // as chosen
	Other   string // as typed
	Usage   bool   // the reader may see how keys are used
	Sources []keystile.KeySource
	Chart   chart
}

func (v *visit) endForm(k keystile.Key, problem *keystile.Error) endForm {
	return endForm{
		keyForm: v.keyForm(k, problem), Reasons: v.door.Profile.Keys.Reasons,
		Reason: v.r.PostFormValue("reason"), Other: v.r.PostFormValue("other_reason"),
	}
}

// reason is why something is done: as chosen, or in the person's own words.
func (v *visit) reason() string {
	if other := strings.TrimSpace(v.r.PostFormValue("other_reason")); other != "" {
		return other
	}
	return v.r.PostFormValue("reason")
}

// revokeKeyPage asks before a key is revoked, and shows its recent calls, so
// that one can choose a quiet moment.
func (v *visit) revokeKeyPage() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	return v.askEnd("revoke", k, nil)
}

// deleteKeyPage asks before a key is deleted.
func (v *visit) deleteKeyPage() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	return v.askEnd("delete", k, nil)
}

// askEnd shows the page that asks; how is revoke or delete.
func (v *visit) askEnd(how string, k keystile.Key, problem *keystile.Error) error {
	page := v.endForm(k, problem)
	if page.Usage = v.actor.May("api.usage.view"); page.Usage {
		var err error
		if page.Sources, err = v.keyring().Sources(v.r.Context(), v.actor, k.ID, callsShown); err != nil {
			return err
		}
		steps, err := v.keyring().UsageSeries(v.r.Context(), v.actor, k.ID, time.Hour, 24)
		if err != nil {
			return err
		}
		page.Chart = newChart("Calls in each hour of the last 24 hours", time.Hour, steps)
	}
	v.show(formStatus(problem), "key_"+how, v.door.Profile.Word(how+"_title"), page)
	return nil
}

func (v *visit) revokeKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	reason := v.reason()
	_, err = v.keyring().RevokeKey(v.r.Context(), v.actor, k.ID, keystile.RevokeKey{Reason: reason})
	if problem := v.correctable(err); problem != nil {
		return v.askEnd("revoke", k, problem)
	} else if err != nil {
		return err
	}
	// What others may have done with the key is what has to be looked at now.
	if reason == keystile.ReasonExposureSuspected {
		return v.to(v.keyAt(k.ID) + "?done=revoked#use")
	}
	return v.to(v.cameFrom() + "?done=revoked")
}

func (v *visit) deleteKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	err = v.keyring().DeleteKey(v.r.Context(), v.actor, k.ID)
	if problem := v.correctable(err); problem != nil {
		return v.askEnd("delete", k, problem)
	} else if err != nil {
		return err
	}
	back := v.base() + "/keys"
	if v.r.FormValue("back") == "hygiene" {
		back = v.base() + "/hygiene"
	}
	return v.to(back + "?done=deleted")
}

// bulkPage asks before many keys are ended.
type bulkPage struct {
	How     string // revoke or delete
	Path    string
	Keys    []keystile.Key
	More    int    // how many more of them there are than are named
	Done    int    // how many were ended before this page
	MadeBy  string // ID of the one who made all of them; "" for a selection
	Maker   string // their name
	Reasons []string
	Reason  string
	Other   string
	Problem *keystile.Error
}

// endKeysPage asks before keys are ended that were chosen in the list, or all
// that one person or key has made.
func (v *visit) endKeysPage(how string) error { return v.askEndKeys(how, 0, nil) }

func (v *visit) askEndKeys(how string, done int, problem *keystile.Error) error {
	page := bulkPage{
		How: how, Path: v.base() + "/keys/" + how, MadeBy: v.r.FormValue("made_by"), Reasons: v.door.Profile.Keys.Reasons,
		Reason: v.r.PostFormValue("reason"), Other: v.r.PostFormValue("other_reason"), Done: done, Problem: problem,
	}
	if page.MadeBy != "" {
		list, err := v.keyring().Keys(v.r.Context(), v.actor, v.workspace.ID, keyring.KeyQuery{Creator: page.MadeBy, Live: true, Limit: 100})
		if err != nil {
			return err
		}
		page.Keys = list.Data
		if list.NextCursor != "" {
			all, err := v.keyring().Made(v.r.Context(), v.actor, v.workspace.ID, page.MadeBy)
			if err != nil {
				return err
			}
			page.More = max(1, all-len(page.Keys))
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
	if len(page.Keys) == 0 && problem == nil {
		page.Problem = v.door.Problem(v.r.Context(), keystile.NewError(keystile.CodeInvalidField, "No key is chosen.",
			"Go back to the list and tick the keys that are meant."))
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

// endKeys ends them.
func (v *visit) endKeys(how string) error {
	ctx, in := v.r.Context(), keystile.RevokeKey{Reason: v.reason()}
	maker, ids := v.r.FormValue("made_by"), v.chosen()
	var ended keyring.Ended
	var err error
	switch {
	case how == "revoke" && maker != "":
		ended, err = v.keyring().RevokeMade(ctx, v.actor, v.workspace.ID, maker, in)
	case how == "revoke":
		_, err = v.keyring().RevokeKeys(ctx, v.actor, v.workspace.ID, ids, in)
	case maker != "":
		ended, err = v.keyring().DeleteMade(ctx, v.actor, v.workspace.ID, maker)
	default:
		_, err = v.keyring().DeleteKeys(ctx, v.actor, v.workspace.ID, ids)
	}
	if problem := v.correctable(err); problem != nil {
		return v.askEndKeys(how, ended.Done, problem)
	} else if err != nil {
		return err
	}
	if ended.Left > 0 {
		return v.askEndKeys(how, ended.Done, nil)
	}
	return v.to(v.base() + "/keys?done=" + how + "d_all")
}

func (v *visit) revokeKeysPage() error { return v.endKeysPage("revoke") }
func (v *visit) deleteKeysPage() error { return v.endKeysPage("delete") }
func (v *visit) revokeKeys() error     { return v.endKeys("revoke") }
func (v *visit) deleteKeys() error     { return v.endKeys("delete") }
