package keyring

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// maxSources is how many addresses are shown of one key's uses.
const maxSources = 200

// MaxLooked is how many entries of the audit log one page of a search looks at.
const MaxLooked = 20_000

// AuditQuery says which entries of the audit log to list.
type AuditQuery struct {
	Action       string // such as key.revoked, or key.* for all of keys
	Object       string // ID, or a part of the name in any case
	Actor        string // ID, or a part of the name in any case, or the kind
	Since, Until *time.Time
	Cursor       string
	Limit        int // 1 to MaxLimit; 0 means DefaultLimit
}

// Audit lists the audit log of a workspace, newest first. That of a deleted
// one stays, for who may act everywhere.
//
// A search for an action or a name looks at a bounded part of the log. Where it
// ends there with less than a page, the answer says so and has a cursor to go on.
func (k *Keyring) Audit(ctx context.Context, a Actor, workspaceID string, q AuditQuery) (out keystile.AuditList, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, err
	}
	if err := checkCursor("aud_", q.Cursor); err != nil {
		return out, err
	}
	f := store.AuditFilter{WorkspaceID: workspaceID, Cursor: q.Cursor, Look: MaxLooked}
	for _, t := range []struct {
		field, in string
		into      *string
	}{{"query.action", q.Action, &f.Action}, {"query.object", q.Object, &f.Object}, {"query.actor", q.Actor, &f.Actor}} {
		if *t.into, err = text(t.field, t.in, maxName); err != nil {
			return out, err
		}
	}
	if q.Since != nil {
		f.Since, f.First = *q.Since, auditID(*q.Since)
	}
	if q.Until != nil {
		f.Until = *q.Until
		if last := auditID(q.Until.Add(clockSlack)); f.Cursor == "" || last < f.Cursor {
			f.Cursor = last
		}
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
		found, err := tx.Audit(a.scope(), f)
		list := page(found.Entries, n, func(e keystile.AuditEntry) string { return e.ID })
		out = keystile.AuditList{Data: list.Data, NextCursor: list.NextCursor}
		if out.NextCursor == "" && found.Stopped != "" {
			out.NextCursor, out.SearchedUntil = found.Stopped, &found.StoppedAt
		}
		return err
	})
	return out, err
}

// clockSlack is by how much an entry's ID may be later than the entry: IDs
// never go back, and clocks do.
const clockSlack = 24 * time.Hour

// auditID is the least ID that an entry of a time may have.
func auditID(at time.Time) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, at.UnixMilli()))<<16)
	return verify.EncodeID("aud_", id)
}

// logged fails unless the workspace is there, or was and the actor may know.
func logged(tx *store.Tx, a Actor, workspaceID string) error {
	_, err := tx.Workspace(a.scope(), workspaceID)
	if !errors.Is(err, store.ErrNotFound) || !a.Everywhere() {
		return err
	}
	found, err := tx.Audit(a.scope(), store.AuditFilter{WorkspaceID: workspaceID, Limit: 1})
	if err == nil && len(found.Entries) == 0 {
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
	err = k.readUsage(ctx, a, workspaceID, q.Key, func(tx *store.Tx) error {
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

// UsageStep sums the uses that began in one step of time.
type UsageStep = store.UsageStep

// KeyUsage sums the uses of one key.
type KeyUsage = store.KeyUsage

// UsageOverTime sums the uses of a workspace's keys, or of one key, by steps
// of an hour or a day (UTC), oldest first. Steps without a use are left out.
// Until excluded, at most 400 days are looked at.
func (k *Keyring) UsageOverTime(ctx context.Context, a Actor, workspaceID, keyID string, since, until time.Time, step time.Duration) (out []UsageStep, err error) {
	if err := checkSpan(since, until); err != nil {
		return nil, err
	}
	if step != time.Hour && step != 24*time.Hour {
		return nil, badField("query.step", "It must be an hour or a day.")
	}
	err = k.readUsage(ctx, a, workspaceID, keyID, func(tx *store.Tx) error {
		out, err = tx.UsageOverTime(a.scope(), store.UsageFilter{WorkspaceID: workspaceID, KeyID: keyID, Since: since, Until: until}, step)
		return err
	})
	return out, err
}

// UsageByKey sums the uses of a workspace's keys over a span, the most used
// first. The names of the keys are there for who may see keys.
func (k *Keyring) UsageByKey(ctx context.Context, a Actor, workspaceID string, since, until time.Time, cursor string, n int) (out keystile.List[KeyUsage], err error) {
	if err := checkSpan(since, until); err != nil {
		return out, err
	}
	if n, err = limit(n); err != nil {
		return out, err
	}
	f := store.UsageFilter{WorkspaceID: workspaceID, Since: since, Until: until, Limit: n + 1}
	var below int64
	if cursor != "" {
		total, key, ok := strings.Cut(cursor, ".")
		below, err = strconv.ParseInt(total, 10, 64)
		if !ok || err != nil || checkID("key_", key) != nil {
			return out, badField("query.cursor", "This is not a cursor that a page of this list gave out.")
		}
		f.CursorKey = key
	}
	err = k.readUsage(ctx, a, workspaceID, "", func(tx *store.Tx) error {
		rows, err := tx.UsageByKey(a.scope(), f, below)
		out = page(rows, n, func(u KeyUsage) string { return strconv.FormatInt(u.Total, 10) + "." + u.KeyID })
		if !a.May("api.key.view") {
			for i := range out.Data {
				out.Data[i].Name = ""
			}
		}
		return err
	})
	return out, err
}

func checkSpan(since, until time.Time) error {
	if !since.Before(until) || until.Sub(since) > 400*24*time.Hour {
		return badField("query.since", "It must be before the end, and at most 400 days before it.")
	}
	return nil
}

// readUsage runs fn for who may see the usage of a workspace, and of one key
// if one is named.
func (k *Keyring) readUsage(ctx context.Context, a Actor, workspaceID, keyID string, fn func(tx *store.Tx) error) error {
	if err := checkID("ws_", workspaceID); err != nil {
		return err
	}
	return k.read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Workspace(a.scope(), workspaceID); err != nil {
			return err
		}
		if keyID != "" {
			if err := checkID("key_", keyID); err != nil {
				return err
			}
			if _, err := tx.Key(store.OneWorkspace(workspaceID), keyID); err != nil {
				return err
			}
		}
		if err := a.need("api.usage.view"); err != nil {
			return err
		}
		return fn(tx)
	})
}
