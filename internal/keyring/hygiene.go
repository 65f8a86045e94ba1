package keyring

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// Soon is how long before a key's recommended replacement, or its end, it is
// marked.
const Soon = 14 * 24 * time.Hour

// Finding is a kind of thing that should be done about a key.
type Finding string

// The findings, in the order in which they should be seen to.
const (
	FindingOverdue  Finding = "overdue"  // older than the profile recommends
	FindingExpiring Finding = "expiring" // ends within [Soon]
	FindingReplaced Finding = "replaced" // has a replacement and is still valid
	FindingDue      Finding = "due"      // reaches the recommended age within [Soon]
	FindingIdle     Finding = "idle"     // not used for as long as the profile allows
	FindingReview   Finding = "review"   // not reviewed for as long as the profile allows
	FindingWide     Finding = "wide"     // may manage the workspace itself
)

// FindingKinds are all kinds of findings.
func FindingKinds() []Finding {
	return []Finding{FindingOverdue, FindingExpiring, FindingReplaced, FindingDue, FindingIdle, FindingReview, FindingWide}
}

// Findings lists the keys of a workspace about which something of one kind is
// to be done, newest first.
func (k *Keyring) Findings(ctx context.Context, a Actor, workspaceID string, kind Finding, cursor string, n int) (out keystile.List[keystile.Key], err error) {
	if err := checkCursor("key_", cursor); err != nil {
		return out, err
	}
	if !slices.Contains(FindingKinds(), kind) {
		return out, notFound()
	}
	if n, err = limit(n); err != nil {
		return out, err
	}
	err = k.readWithin(ctx, a, workspaceID, "api.key.view", func(tx *store.Tx) error {
		f, ok, err := k.findingFilter(tx, workspaceID, kind)
		if err != nil || !ok {
			out = page[keystile.Key](nil, n, nil)
			return err
		}
		f.Cursor, f.Limit = cursor, n+1
		rows, err := tx.Findings(a.scope(), f)
		if err != nil {
			return err
		}
		out, err = k.presenter(tx).page(rows, n)
		return err
	})
	return out, err
}

// page presents a page of keys that was read with one row more than asked for.
func (p *presenter) page(rows []store.Key, n int) (out keystile.List[keystile.Key], err error) {
	keys := make([]keystile.Key, len(rows))
	for i, r := range rows {
		if keys[i], err = p.key(r); err != nil {
			return out, err
		}
	}
	return page(keys, n, func(v keystile.Key) string { return v.ID }), nil
}

// findingFilter says how the keys of a finding are found. It is not ok when
// the profile asks for nothing of the kind.
func (k *Keyring) findingFilter(tx *store.Tx, workspaceID string, kind Finding) (f store.FindingFilter, ok bool, err error) {
	policy := k.profile.Keys
	f.WorkspaceID, f.Now = workspaceID, k.now()
	switch kind {
	case FindingOverdue:
		f.Kind, f.Ages = store.FindingAge, k.ages(f.Now, 0)
		return f, len(f.Ages) > 0, nil
	case FindingDue:
		f.Kind, f.Ages = store.FindingAge, k.ages(f.Now, Soon)
		return f, len(f.Ages) > 0, nil
	case FindingReplaced:
		f.Kind = store.FindingReplaced
	case FindingExpiring:
		f.Kind, f.Before = store.FindingExpiring, f.Now.Add(Soon)
	case FindingIdle:
		f.Kind, f.Before = store.FindingIdle, f.Now.Add(-policy.IdleAfter)
		return f, policy.IdleAfter > 0, nil
	case FindingReview:
		f.Kind, f.Before = store.FindingReview, f.Now.Add(-policy.ReviewEvery)
		return f, policy.ReviewEvery > 0, nil
	case FindingWide:
		f.Kind = store.FindingWide
		roles, err := k.allRoles(tx, workspaceID)
		if err != nil {
			return f, false, err
		}
		for _, r := range roles {
			if len(r.Permissions.Managing()) > 0 {
				f.RoleIDs = append(f.RoleIDs, r.ID)
			}
		}
	}
	return f, true, nil
}

// ages are the times at which keys were made that are to be replaced now, or
// will have to be within soon.
func (k *Keyring) ages(now time.Time, soon time.Duration) (windows []store.AgeWindow) {
	window := func(every time.Duration) store.AgeWindow {
		w := store.AgeWindow{UpTo: now.Add(-every)}
		if soon > 0 {
			w.After, w.UpTo = w.UpTo, w.UpTo.Add(soon)
		}
		return w
	}
	names := []string{}
	for _, e := range k.profile.Environments {
		names = append(names, e.Name)
		if e.RotateEvery > 0 {
			w := window(e.RotateEvery)
			w.Environment = e.Name
			windows = append(windows, w)
		}
	}
	if every := k.profile.Keys.RotateEvery; every > 0 {
		w := window(every)
		w.Others = names
		windows = append(windows, w)
	}
	return windows
}

// maxExposed is how many suspected exposures stand above the list of keys.
const maxExposed = 3

// Exposed lists the alerts of keys that were revoked because somebody suspected
// that others have them, and that nobody has acknowledged, latest first. It is
// for those who manage keys.
func (k *Keyring) Exposed(ctx context.Context, a Actor, workspaceID string) (out []keystile.Alert, err error) {
	err = k.readWithin(ctx, a, workspaceID, "api.key.view", func(tx *store.Tx) error {
		rows, err := tx.Alerts(a.scope(), store.AlertFilter{WorkspaceID: workspaceID, State: "open", Type: keystile.AlertKeyExposed, Unseen: true, Limit: maxExposed})
		out = rows
		return err
	})
	return out, err
}

// TellsLittle tells whether a key's name says nothing about what uses the key,
// such as "Key 1", "test" or "x".
func TellsLittle(name string) bool {
	said := 0
	for word := range strings.FieldsFuncSeq(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if len([]rune(word)) > 1 && !slices.Contains(emptyWords, word) {
			said++
		}
	}
	return said == 0
}

// emptyWords are those that names of keys are made of which tell nothing.
var emptyWords = []string{ //nolint:gochecknoglobals // a constant list
	"a", "abc", "an", "another", "api", "apikey", "asdf", "bar", "copy", "default", "demo", "example", "first", "foo", "for",
	"key", "keys", "main", "my", "name", "new", "none", "of", "old", "qwerty", "sample", "second", "secret", "temp", "test",
	"testing", "the", "tmp", "token", "untitled", "xx", "xxx",
}
