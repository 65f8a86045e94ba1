package keyring

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// maxSources is how many addresses are shown of one key's uses.
const maxSources = 200

// AuditQuery says which entries of the audit log to list.
type AuditQuery struct {
	Action       string // such as key.revoked, or key.* for all of keys
	Object       string // ID
	Actor        string // ID
	Since, Until *time.Time
	Cursor       string
	Limit        int // 1 to MaxLimit; 0 means DefaultLimit
}

// Audit lists the audit log of a workspace, newest first. That of a deleted
// one stays, for who may act everywhere.
func (k *Keyring) Audit(ctx context.Context, a Actor, workspaceID string, q AuditQuery) (out keystile.List[keystile.AuditEntry], err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, err
	}
	if err := checkCursor("aud_", q.Cursor); err != nil {
		return out, err
	}
	f := store.AuditFilter{WorkspaceID: workspaceID, Cursor: q.Cursor}
	for _, t := range []struct {
		field, in string
		into      *string
	}{{"query.action", q.Action, &f.Action}, {"query.object", q.Object, &f.ObjectID}, {"query.actor", q.Actor, &f.ActorID}} {
		if *t.into, err = text(t.field, t.in, maxName); err != nil {
			return out, err
		}
	}
	if q.Since != nil {
		f.Since = *q.Since
	}
	if q.Until != nil {
		f.Until = *q.Until
	}
	n, err := limit(q.Limit)
	if err != nil {
		return out, err
	}
	f.Limit = n + 1
	err = k.read(ctx, func(tx *store.Tx) error {
		if err := logged(tx, a, workspaceID); err != nil {
			return err
		}
		if err := a.need("api.audit.view"); err != nil {
			return err
		}
		rows, err := tx.Audit(a.scope(), f)
		out = page(rows, n, func(e keystile.AuditEntry) string { return e.ID })
		return err
	})
	return out, err
}

// logged fails unless the workspace is there, or was and the actor may know.
func logged(tx *store.Tx, a Actor, workspaceID string) error {
	_, err := tx.Workspace(a.scope(), workspaceID)
	if !errors.Is(err, store.ErrNotFound) || !a.Everywhere() {
		return err
	}
	rows, err := tx.Audit(a.scope(), store.AuditFilter{WorkspaceID: workspaceID, Limit: 1})
	if err == nil && len(rows) == 0 {
		return store.ErrNotFound
	}
	return err
}

// UsageQuery says which usage to list.
type UsageQuery struct {
	Key          string     // ID, "" for all keys
	Since, Until *time.Time // absent: the last 24 hours, until now
	Cursor       string
	Limit        int // 1 to MaxLimit; 0 means DefaultLimit
}

// Usage lists the uses of a workspace's keys by hour, newest first. It lags
// by the flush interval.
func (k *Keyring) Usage(ctx context.Context, a Actor, workspaceID string, q UsageQuery) (out keystile.Usage, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, err
	}
	now := k.now().UTC()
	f := store.UsageFilter{WorkspaceID: workspaceID, KeyID: q.Key, Since: now.Add(-24 * time.Hour).Truncate(time.Hour), Until: now.Add(time.Hour)}
	if q.Since != nil {
		f.Since = *q.Since
	}
	if q.Until != nil {
		f.Until = *q.Until
	}
	if q.Cursor != "" {
		hour, key, ok := strings.Cut(q.Cursor, ".")
		ms, err := strconv.ParseInt(hour, 10, 64)
		if !ok || err != nil || checkID("key_", key) != nil {
			return out, badField("query.cursor", "This is not a cursor that a page of this list gave out.")
		}
		f.CursorHour, f.CursorKey = time.UnixMilli(ms), key
	}
	n, err := limit(q.Limit)
	if err != nil {
		return out, err
	}
	f.Limit = n + 1
	err = k.read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Workspace(a.scope(), workspaceID); err != nil {
			return err
		}
		if q.Key != "" {
			if err := checkID("key_", q.Key); err != nil {
				return err
			}
			if _, err := tx.Key(store.OneWorkspace(workspaceID), q.Key); err != nil {
				return err
			}
		}
		if err := a.need("api.usage.view"); err != nil {
			return err
		}
		rows, err := tx.Usage(a.scope(), f)
		if err != nil {
			return err
		}
		p := page(rows, n, func(b keystile.UsageBucket) string {
			return strconv.FormatInt(b.Hour.UnixMilli(), 10) + "." + b.KeyID
		})
		out.Buckets, out.NextCursor = p.Data, p.NextCursor
		if q.Key != "" {
			out.Sources, err = tx.Sources(a.scope(), q.Key, maxSources)
		}
		return err
	})
	return out, err
}

// SeriesStep counts the uses of a key in one step of a series.
type SeriesStep struct {
	At             time.Time // beginning
	Valid, Refused int64
}

// UsageSeries counts the uses of a key in the last n steps, oldest first. A
// step is of whole hours; the last one is under way. It lags by the flush
// interval.
func (k *Keyring) UsageSeries(ctx context.Context, a Actor, keyID string, step time.Duration, n int) (out []SeriesStep, err error) {
	if err := checkID("key_", keyID); err != nil {
		return nil, err
	}
	until := k.now().UTC().Truncate(step).Add(step)
	since := until.Add(-time.Duration(n) * step)
	err = k.read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Key(a.scope(), keyID); err != nil {
			return err
		}
		if err := a.need("api.usage.view"); err != nil {
			return err
		}
		points, err := tx.UsageSeries(a.scope(), keyID, since, until, step)
		out = make([]SeriesStep, n)
		for i := range out {
			out[i].At = since.Add(time.Duration(i) * step)
		}
		for _, p := range points {
			if p.Step >= 0 && p.Step < n {
				out[p.Step].Valid, out[p.Step].Refused = p.Valid, p.Refused
			}
		}
		return err
	})
	return out, err
}

// Sources lists where a key was used from, latest first, at most n.
func (k *Keyring) Sources(ctx context.Context, a Actor, keyID string, n int) (out []keystile.KeySource, err error) {
	if err := checkID("key_", keyID); err != nil {
		return nil, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Key(a.scope(), keyID); err != nil {
			return err
		}
		if err := a.need("api.usage.view"); err != nil {
			return err
		}
		out, err = tx.Sources(a.scope(), keyID, min(n, maxSources))
		return err
	})
	return out, err
}
