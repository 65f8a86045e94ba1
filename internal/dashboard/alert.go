package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// alertsOnPage is how many alerts a page shows at once.
const alertsOnPage = 20

// alertsPage is what somebody in the workspace should see to.
type alertsPage struct {
	Closed bool // those that are over
	Alerts []alertRow
	Next   string // address of the next page; "" on the last
}

// alertRow is an alert with what the reader may do about it.
type alertRow struct {
	keystile.Alert

	Title string // name of a word
	Text  string
	// Act is the one action that it needs: an action on the key, like for one
	// like it, log for its log of use, or nothing.
	Act string
	See bool // the reader may say that they have seen it
}

func (v *visit) showAlerts() error {
	if v.r.URL.ForceQuery {
		return v.to(v.base() + "/alerts")
	}
	q := v.r.URL.Query()
	page, state := alertsPage{Closed: q.Get("state") == "closed"}, "open"
	if page.Closed {
		state = "closed"
	}
	list, err := v.keyring().Alerts(v.r.Context(), v.actor, v.workspace.ID, keyring.AlertQuery{State: state, Cursor: q.Get("cursor"), Limit: alertsOnPage})
	if err != nil {
		return err
	}
	for _, a := range list.Data {
		row := alertRow{Alert: a, Title: keyring.AlertWord(a), Text: keyring.AlertText(a)}
		if a.ClosedAt == nil {
			if row.Act, err = v.alertAct(a); err != nil {
				return err
			}
			row.See = a.AcknowledgedAt == nil && v.actor.May("api.key.update")
		}
		page.Alerts = append(page.Alerts, row)
	}
	if list.NextCursor != "" {
		page.Next = v.base() + "/alerts?" + url.Values{"state": {state}, "cursor": {list.NextCursor}}.Encode()
	}
	v.show(http.StatusOK, "alerts", v.door.Profile.Word("alerts_title"), page)
	return nil
}

// alertAct is the one action that an alert needs, if the reader may take it.
func (v *visit) alertAct(a keystile.Alert) (string, error) {
	if a.KeyID == "" || !v.actor.May("api.key.view") {
		return "", nil
	}
	k, err := v.keyring().Key(v.r.Context(), v.actor, a.KeyID)
	if err != nil {
		if errors.Is(err, keystile.CodeNotFound) { // it has gone just now
			return "", nil
		}
		return "", err
	}
	act := ""
	switch a.Type {
	case keystile.AlertKeyRotationDue:
		act = "rotate"
	case keystile.AlertKeyIdle:
		act = v.ending()
	case keystile.AlertKeyExpiring, keystile.AlertKeyExpired:
		if v.actor.May("api.key.create") {
			return "like", nil
		}
	case keystile.AlertKeyExposed, keystile.AlertKeyStillUsed, keystile.AlertKeyStillTried:
		return "log", nil
	case keystile.AlertAuthFailures:
	}
	if act == "" || !v.may(k, act) {
		return "", nil
	}
	return act, nil
}

// seeAlert notes that somebody has seen an alert.
func (v *visit) seeAlert() error {
	if err := v.keyring().AcknowledgeAlert(v.r.Context(), v.actor, v.workspace.ID, v.r.PathValue("alert")); err != nil {
		return err
	}
	if v.r.PostFormValue("back") == "keys" { // it stood above the list
		return v.to(v.base() + "/keys?done=seen")
	}
	return v.to(v.base() + "/alerts?done=seen")
}

// unseen counts the alerts that nobody has seen, for the menu.
func (v *visit) unseen() string {
	n, err := v.keyring().UnseenAlerts(v.r.Context(), v.actor, v.workspace.ID)
	switch {
	case err != nil: // the page itself is more than its menu
		v.door.Log.Error("alerts cannot be counted", "error", err)
	case n >= keyring.MostUnseen:
		return strconv.Itoa(keyring.MostUnseen-1) + "+"
	case n > 0:
		return strconv.Itoa(n)
	}
	return ""
}
