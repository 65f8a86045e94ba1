package dashboard

import (
	"cmp"
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

	Title    string // name of a word
	Text     keyring.AlertProse
	Name, ID string // of what it is about: a key, a webhook secret, an endpoint; "" for none
	At       string // path of its page; "" when the reader may not see it
	// Act is the one action that it needs, and ActAt the path of its page: an
	// action on what it is about, like for a key like it, log for its
	// log of use, or nothing.
	Act, ActAt string
	See        bool // the reader may say that they have seen it
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
		row, err := v.alertRow(a)
		if err != nil {
			return err
		}
		page.Alerts = append(page.Alerts, row)
	}
	if list.NextCursor != "" {
		page.Next = v.base() + "/alerts?" + url.Values{"state": {state}, "cursor": {list.NextCursor}}.Encode()
	}
	v.show(http.StatusOK, "alerts", v.door.Profile.Word("alerts_title"), page)
	return nil
}

// alertRow is an alert as the reader may see it.
func (v *visit) alertRow(a keystile.Alert) (row alertRow, err error) {
	row = alertRow{Alert: a, Title: keyring.AlertWord(a), Text: keyring.AlertText(a)}
	open := a.ClosedAt == nil
	row.See = open && a.AcknowledgedAt == nil && v.actor.May(keyring.AlertPermission(a))
	if a.WebhookSecretID != "" {
		row.Name, row.ID = cmp.Or(a.WebhookSecretLabel, a.WebhookSecretID), a.WebhookSecretID
		return row, v.alertOfSecret(&row, open)
	}
	if a.EndpointID != "" {
		row.Name, row.ID = cmp.Or(a.EndpointURL, a.EndpointID), a.EndpointID
		return row, v.alertOfEndpoint(&row, open)
	}
	if a.KeyID == "" {
		return row, nil
	}
	row.Name, row.ID, row.At = cmp.Or(a.KeyName, a.KeyID), a.KeyID, v.base()+"/keys/"+a.KeyID
	if !open {
		return row, nil
	}
	row.Act, err = v.alertAct(a)
	switch row.Act {
	case "log":
		row.ActAt = row.At + "#use"
	case "like":
		row.ActAt = v.base() + "/keys/new"
	default:
		row.ActAt = row.At + "/" + row.Act
	}
	return row, err
}

// alertOfSecret says where a webhook secret that an alert is about stands, and
// what it needs.
func (v *visit) alertOfSecret(row *alertRow, open bool) error {
	s, err := v.keyring().WebhookSecret(v.r.Context(), v.actor, row.ID)
	if err != nil {
		if errors.Is(err, keystile.CodeNotFound) || errors.Is(err, keystile.CodeInsufficientPermission) {
			return nil
		}
		return err
	}
	verb := "api.webhook_secret.create"
	switch {
	case s.EndpointID != "" && !v.door.Profile.Endpoints, s.EndpointID == "" && !v.door.Profile.WebhookSecrets:
		return nil // there are no pages of them
	case s.EndpointID != "":
		verb, row.At, row.ActAt = "api.endpoint.update", v.endpointAt(s.EndpointID), v.endpointAt(s.EndpointID)+"/secrets/"+s.ID+"/rotate"
	default:
		row.At, row.ActAt = v.secretAt(s.ID), v.secretAt(s.ID)+"/rotate"
	}
	switch row.Type {
	case keystile.AlertSecretExpiring, keystile.AlertSecretRotationDue:
		if open && v.actor.May(verb) {
			row.Act = "rotate"
		}
	}
	return nil
}

// alertOfEndpoint says where an endpoint that an alert is about stands, and
// offers to resume one that was stopped.
func (v *visit) alertOfEndpoint(row *alertRow, open bool) error {
	if !v.door.Profile.Endpoints {
		return nil // there are no pages of them
	}
	e, err := v.keyring().Endpoint(v.r.Context(), v.actor, row.ID)
	if err != nil {
		if errors.Is(err, keystile.CodeNotFound) || errors.Is(err, keystile.CodeInsufficientPermission) {
			return nil
		}
		return err
	}
	row.At = v.endpointAt(e.ID)
	if open && e.Status != keystile.EndpointActive && v.actor.May("api.endpoint.update") {
		row.Act, row.ActAt = "resume", row.At+"/resume"
	}
	return nil
}

// alertAct is the one action that an alert needs, if the reader may take it.
func (v *visit) alertAct(a keystile.Alert) (string, error) {
	if !v.actor.May("api.key.view") {
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
	}
	if act == "" || !v.may(k, act) {
		return "", nil
	}
	return act, nil
}

// seeAlert notes that somebody has seen an alert.
func (v *visit) seeAlert() error {
	if _, err := v.keyring().AcknowledgeAlert(v.r.Context(), v.actor, v.workspace.ID, v.r.PathValue("alert")); err != nil {
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
