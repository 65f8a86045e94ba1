package dashboard

import (
	"strings"
	"time"

	"github.com/keystile/keystile"
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
	back := withDone(v.cameFrom(), "revoked")
	if strings.HasPrefix(back, v.base()+"/keys?") { // which offers a replacement
		back += "&key=" + k.ID
	}
	return v.to(back)
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
	back := v.cameFrom()
	if back == v.keyAt(k.ID) { // which is gone
		back = v.base() + "/keys"
	}
	return v.to(withDone(back, "deleted"))
}
