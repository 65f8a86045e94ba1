package keyring

import (
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

// Alerts lists the alerts of a workspace, newest first. The names of keys are
// there for who may see keys.
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
		if !a.May("api.key.view") {
			for i := range rows {
				rows[i].KeyName = ""
			}
		}
		out = page(rows, n, func(v keystile.Alert) string { return v.ID })
		return err
	})
	return out, err
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
// its cause is gone; when that gets worse, the note goes.
func (k *Keyring) AcknowledgeAlert(ctx context.Context, a Actor, workspaceID, id string) error {
	if err := checkID("ws_", workspaceID); err != nil {
		return err
	}
	if err := checkID("al_", id); err != nil {
		return err
	}
	_, err := k.write(ctx, a, func(c *change) error {
		alert, err := c.Alert(a.scope(), id)
		if err == nil && alert.WorkspaceID != workspaceID {
			err = store.ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := a.need("api.usage.view", "api.key.update"); err != nil {
			return err
		}
		if alert.ClosedAt != nil || alert.AcknowledgedAt != nil {
			return nil
		}
		who := c.actor.party
		alert.AcknowledgedAt, alert.AcknowledgedBy = &c.now, &who
		if err := c.UpdateAlert(a.scope(), alert); err != nil {
			return err
		}
		return c.record(entry{workspaceID: workspaceID, action: "alert.acknowledged", kind: store.ChangeAlert,
			objectID: alert.ID, objectName: alert.KeyName, reason: string(alert.Type)})
	})
	return err
}
