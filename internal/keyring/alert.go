package keyring

import (
	"cmp"
	"context"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// MostUnseen is as far as [Keyring.UnseenAlerts] counts.
const MostUnseen = 100

// AlertQuery says which alerts to list.
type AlertQuery struct {
	State  string             // open, closed or all; "" means open
	Type   keystile.AlertType // "" for all
	Cursor string
	Limit  int // 1 to MaxLimit; 0 means DefaultLimit
}

// Alerts lists the alerts of a workspace, newest first. The names of keys,
// webhook secrets and endpoints are there for who may see those.
func (k *Keyring) Alerts(ctx context.Context, a Actor, workspaceID string, q AlertQuery) (out keystile.List[keystile.Alert], err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, err
	}
	if err := checkCursor("al_", q.Cursor); err != nil {
		return out, err
	}
	f := store.AlertFilter{WorkspaceID: workspaceID, Type: q.Type, Cursor: q.Cursor}
	switch q.State {
	case "", "open":
		f.State = "open"
	case "closed":
		f.State = "closed"
	case "all":
	default:
		return out, badField("query.state", "It must be open, closed or all.")
	}
	n, err := limit(q.Limit)
	if err != nil {
		return out, err
	}
	f.Limit = n + 1
	err = k.readUsage(ctx, a, workspaceID, "", func(tx *store.Tx) error {
		rows, err := tx.Alerts(a.scope(), f)
		for i := range rows {
			rows[i] = nameless(rows[i], a.May)
		}
		out = page(rows, n, func(v keystile.Alert) string { return v.ID })
		return err
	})
	return out, err
}

// nameless is an alert without what may not be seen of it.
func nameless(a keystile.Alert, may func(permission string) bool) keystile.Alert {
	if !may("api.key.view") {
		a.KeyName = ""
	}
	if !may("api.webhook_secret.view") {
		a.WebhookSecretLabel = ""
	}
	if !may("api.endpoint.view") {
		a.EndpointURL, a.LastFailure = "", nil
	}
	return a
}

// UnseenAlerts counts the open alerts of a workspace that nobody has
// acknowledged, as far as [MostUnseen]. Who may not see alerts sees none.
func (k *Keyring) UnseenAlerts(ctx context.Context, a Actor, workspaceID string) (n int, err error) {
	if !a.May("api.usage.view") {
		return 0, nil
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		n, err = tx.CountUnseenAlerts(a.scope(), workspaceID, MostUnseen)
		return err
	})
	return n, err
}

// AcknowledgeAlert notes that someone has seen an alert. It stays open until
// its cause is gone; when that gets worse, the note goes. That takes whoever is
// mailed of such alerts. What is closed, or was seen before, stays as it is. With
// a workspace the alert must be one of it.
func (k *Keyring) AcknowledgeAlert(ctx context.Context, a Actor, workspaceID, id string) (out keystile.Alert, err error) {
	if err := checkID("al_", id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		alert, err := c.Alert(a.scope(), id)
		if err == nil && workspaceID != "" && alert.WorkspaceID != workspaceID {
			err = store.ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := a.need(AlertPermission(alert), "api.usage.view"); err != nil {
			return err
		}
		if alert.ClosedAt == nil && alert.AcknowledgedAt == nil {
			who := c.actor.party
			alert.AcknowledgedAt, alert.AcknowledgedBy = &c.now, &who
			if err = c.UpdateAlert(a.scope(), alert); err == nil {
				err = c.record(entry{workspaceID: alert.WorkspaceID, action: "alert.acknowledged", kind: store.ChangeAlert,
					objectID: alert.ID, objectName: cmp.Or(alert.KeyName, alert.WebhookSecretLabel, alert.EndpointURL), reason: string(alert.Type)})
			}
		}
		out = nameless(alert, a.May)
		return err
	})
	return out, err
}

// AlertPermission is what it takes to see to an alert: its holders are mailed,
// and may say that they have seen it.
func AlertPermission(a keystile.Alert) string {
	switch {
	case a.WebhookSecretID != "":
		return "api.webhook_secret.update"
	case a.EndpointID != "":
		return "api.endpoint.update"
	}
	return "api.key.update"
}
