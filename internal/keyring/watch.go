package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// What comes due of a key, or of a webhook secret, by the clock. Each key has an instant at which it is
// to be looked at next, so that nothing goes through all keys to find the few
// about which something is to be said: a million of them, each used once in
// the idle period, are about eight looks a minute.

// notice is something that is to be said about a key.
type notice struct {
	kind  keystile.AlertType
	stage string
	facts keystile.AlertFacts
}

// quietAfter is for how long nobody must have tried a key that is over before
// the alert of it closes.
const quietAfter = 24 * time.Hour

// A key that has just ended is tried for a moment by what has not heard of it
// yet, and once by somebody who looks whether it is over. Neither is worth an
// alert: it opens when there were triedLeast tries in all, and one of them came
// later than triedGrace after the end. A key that others may have is another
// matter: each try may be theirs.
const (
	triedGrace = 10 * time.Minute
	triedLeast = 3
)

// maxAlertSources is how many sources an alert names.
const maxAlertSources = 10

// watch finds what is to be said about a key now, and when to look again.
type watch struct {
	k     *Keyring
	key   store.Key
	now   time.Time
	tried []keystile.KeySource // who tried it since it was over, latest first

	notices []notice
	next    time.Time // zero for never
}

func (k *Keyring) watch(key store.Key, tried []keystile.KeySource, now time.Time) *watch {
	w := &watch{k: k, key: key, now: now, tried: tried}
	if at := overSince(key, now); !at.IsZero() {
		w.over(at)
		return w
	}
	replaced := k.replaced(key, now)
	if !replaced {
		w.rotation(keystile.AlertKeyRotationDue, key.Environment, key.CreatedAt)
		w.expiring(keystile.AlertKeyExpiring, key.CreatedAt, key.ExpiresAt)
	} else {
		w.stillUsed()
	}
	w.idle()
	// Whatever came before the end is over with it.
	if key.ExpiresAt != nil {
		w.at(*key.ExpiresAt)
	}
	return w
}

// overSince is when a key's life ended, zero while it goes on.
func overSince(key store.Key, now time.Time) time.Time {
	switch {
	case key.Status == keystile.StatusRevoked && key.RevokedAt != nil:
		return *key.RevokedAt
	case key.ExpiresAt != nil && !key.ExpiresAt.After(now):
		return *key.ExpiresAt
	}
	return time.Time{}
}

// replaced tells whether the key that replaces this one is there and alive.
func (k *Keyring) replaced(key store.Key, now time.Time) bool {
	return key.ReplacementStatus == keystile.StatusActive && (key.ReplacementEnd.IsZero() || key.ReplacementEnd.After(now))
}

// at has the key looked at again at an instant, unless that is past.
func (w *watch) at(t time.Time) {
	if t.After(w.now) && (w.next.IsZero() || t.Before(w.next)) {
		w.next = t
	}
}

// since tells whether an instant has come, and has the key looked at then if
// it has not.
func (w *watch) since(t time.Time) bool {
	w.at(t)
	return !t.After(w.now)
}

func (w *watch) say(kind keystile.AlertType, stage string, due time.Time, sources ...keystile.KeySource) {
	w.notices = append(w.notices, notice{kind, stage, keystile.AlertFacts{DueAt: &due, Sources: sources}})
}

// rotation goes by the age that the profile recommends.
func (w *watch) rotation(kind keystile.AlertType, environment string, created time.Time) {
	every := w.k.profile.RotateEvery(environment)
	if every <= 0 {
		return
	}
	due := created.Add(every)
	switch soon, come := w.since(due.Add(-Soon)), w.since(due); {
	case come:
		w.say(kind, "overdue", due)
	case soon:
		w.say(kind, "due", due)
	}
}

// expiring goes by the time that is left.
func (w *watch) expiring(kind keystile.AlertType, created time.Time, ends *time.Time) {
	if ends == nil {
		return
	}
	end, stage := *ends, ""
	for _, before := range w.k.profile.Alerts.Expiring { // the longest first
		if end.Sub(created) > before && w.since(end.Add(-before)) {
			stage = stageOf(before)
		}
	}
	if stage != "" {
		w.say(kind, stage, end)
	}
}

// stageOf names a time that is left, in days where it has whole ones.
func stageOf(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	return hours(d)
}

// idle goes by the last use.
func (w *watch) idle() {
	after := w.k.profile.Keys.IdleAfter
	if after <= 0 || w.key.Status != keystile.StatusActive {
		return
	}
	used := w.key.CreatedAt
	if w.key.LastUse != nil {
		used = w.key.LastUse.At
	}
	if w.since(used.Add(after + time.Millisecond)) {
		w.say(keystile.AlertKeyIdle, "", used)
	}
}

// stillUsed tells of a replaced key that is used in the second half of its
// overlap, once the last quarter of that has begun.
func (w *watch) stillUsed() {
	if w.key.ExpiresAt == nil || w.key.ReplacementMade.IsZero() {
		return
	}
	end := *w.key.ExpiresAt
	overlap := end.Sub(w.key.ReplacementMade)
	if overlap <= 0 || !w.since(end.Add(-overlap/4)) {
		return
	}
	if use := w.key.LastUse; use != nil && use.At.After(end.Add(-overlap/2)) {
		w.say(keystile.AlertKeyStillUsed, "", end, keystile.KeySource{
			KeyID: w.key.ID, Address: use.Address, UserAgent: use.UserAgent, Code: keystile.CodeValid,
			FirstAt: use.At, LastAt: use.At, Count: 1,
		})
	}
	// Something that runs once a night uses it later, perhaps.
	w.at(w.now.Add(max(overlap/16, time.Minute)))
}

// over tells of a key whose life has ended.
func (w *watch) over(ended time.Time) {
	if w.key.Status == keystile.StatusRevoked {
		w.exposed(keystile.AlertKeyExposed, w.key.RevokedReason, ended)
	} else if w.key.ReplacedBy == "" {
		w.expired(keystile.AlertKeyExpired, w.key.CreatedAt, ended)
	}
	if w.stillTried(ended) && !w.since(w.tried[0].LastAt.Add(quietAfter)) {
		w.say(keystile.AlertKeyStillTried, "", w.tried[0].LastAt, w.tried...)
	}
}

// exposed tells for a while of what was revoked because others may have it.
func (w *watch) exposed(kind keystile.AlertType, reason string, revoked time.Time) {
	if reason == keystile.ReasonExposureSuspected && !w.since(revoked.Add(w.k.profile.Alerts.Notice)) {
		w.say(kind, "", revoked)
	}
}

// expired tells for a while of what came to its end, if it was to live so long
// that somebody may still count on it.
func (w *watch) expired(kind keystile.AlertType, created, ended time.Time) {
	stages := w.k.profile.Alerts.Expiring
	if len(stages) > 0 && ended.Sub(created) > stages[len(stages)-1] && !w.since(ended.Add(w.k.profile.Alerts.Notice)) {
		w.say(kind, "", ended)
	}
}

// stillTried tells whether a key that has ended is tried by more than what had
// not heard of its end.
func (w *watch) stillTried(ended time.Time) bool {
	if len(w.tried) == 0 {
		return false
	}
	if w.key.Status == keystile.StatusRevoked && w.key.RevokedReason == keystile.ReasonExposureSuspected {
		return true
	}
	n := int64(0)
	for _, s := range w.tried {
		n += s.Count
	}
	return n >= triedLeast && w.tried[0].LastAt.After(ended.Add(triedGrace))
}

// look opens, moves and closes the alerts about a key, and returns when to
// look at it next.
func (c *change) look(id string) (next time.Time, err error) {
	key, err := c.Key(store.AllWorkspaces(), id)
	if err != nil {
		return next, err
	}
	own := store.OneWorkspace(key.WorkspaceID)
	var tried []keystile.KeySource
	if ended := overSince(key, c.now); !ended.IsZero() {
		if tried, err = c.TriedSources(own, id, ended, maxAlertSources); err != nil {
			return next, err
		}
		if key.Replaces != "" { // which may be due for a replacement again
			if _, err := c.LookAtReplaced(own, id); err != nil {
				return next, err
			}
		}
	}
	return c.follow(c.k.watch(key, tried, c.now), keystile.Alert{WorkspaceID: key.WorkspaceID, KeyID: id, KeyName: key.Name})
}

// follow brings the alerts about a key or webhook secret, which about names, to
// what there is to say of it, and returns when to look at it next.
func (c *change) follow(w *watch, about keystile.Alert) (next time.Time, err error) {
	open, err := c.OpenAlertsAbout(store.OneWorkspace(about.WorkspaceID), about.KeyID+about.WebhookSecretID)
	if err != nil {
		return next, err
	}
	for _, n := range w.notices {
		was := about
		was.Type = n.kind
		for i := range open {
			if open[i].Type == n.kind {
				was, open[i].Type = open[i], ""
			}
		}
		if err := c.raise(was, n.stage, n.facts); err != nil {
			return next, err
		}
	}
	for _, a := range open {
		if a.Type == "" {
			continue // its cause is still there
		}
		if err := c.closeAlert(a); err != nil {
			return next, err
		}
	}
	if w.next.IsZero() {
		return store.NeverLook, nil
	}
	return w.next, nil
}

// raise opens an alert, or brings an open one up to date. It is told of once
// for each stage.
func (c *change) raise(a keystile.Alert, stage string, facts keystile.AlertFacts) error {
	fresh, moved := a.ID == "", a.Stage != stage
	if !fresh && !moved && sameJSON(a.AlertFacts, facts) {
		return nil
	}
	a.Stage, a.AlertFacts, a.UpdatedAt = stage, facts, c.now
	if !fresh && !moved {
		return c.UpdateAlert(store.OneWorkspace(a.WorkspaceID), a)
	}
	if fresh {
		a.ID, a.State, a.OpenedAt = c.k.ids.next("al_", c.now), "open", c.now
		if err := c.InsertAlert(a); err != nil {
			return err
		}
	} else {
		a.AcknowledgedAt, a.AcknowledgedBy = nil, nil
		if err := c.UpdateAlert(store.OneWorkspace(a.WorkspaceID), a); err != nil {
			return err
		}
	}
	if err := c.queueMails(a); err != nil {
		return err
	}
	if a.Type == keystile.AlertKeyExpired || a.Type == keystile.AlertSecretExpired {
		return nil // the change of its state has told of it
	}
	return c.tellAlert(string(a.Type), a)
}

func (c *change) tellAlert(event string, a keystile.Alert) error {
	object := a.KeyID + a.WebhookSecretID + a.EndpointID
	if object == "" {
		object = a.ID
	}
	return c.tell(a.WorkspaceID, event, object, map[string]any{"alert": a})
}

// closeAlert closes an alert whose cause is gone.
func (c *change) closeAlert(a keystile.Alert) error {
	a.State, a.ClosedAt, a.UpdatedAt = "closed", &c.now, c.now
	if err := c.UpdateAlert(store.OneWorkspace(a.WorkspaceID), a); err != nil {
		return err
	}
	if a.Type == keystile.AlertAuthFailures {
		return c.tellAlert(keystile.EventAuthFailuresEnded, a)
	}
	return nil
}

// lookNow looks at a key that has just been changed.
func (c *change) lookNow(id string) error {
	next, err := c.look(id)
	if err != nil {
		return err
	}
	return c.SetLook(store.AllWorkspaces(), id, next)
}

// closeAlertsOf closes the alerts about a key or webhook secret that goes, or
// about an endpoint that somebody sees to.
func (c *change) closeAlertsOf(id string) error {
	open, err := c.OpenAlertsAbout(store.AllWorkspaces(), id)
	for _, a := range open {
		if err == nil {
			err = c.closeAlert(a)
		}
	}
	return err
}

// firstLook is when to look first at a key that is about to be made.
func (k *Keyring) firstLook(key store.Key, now time.Time) time.Time {
	w := k.watch(key, nil, now)
	switch {
	case len(w.notices) > 0:
		return time.Time{}
	case w.next.IsZero():
		return store.NeverLook
	}
	return w.next
}

const (
	// lookChunk is how many keys one step of WatchKeys looks at.
	lookChunk = 100
	// settingRules is the name under which the store remembers what the alerts
	// about keys went by, and settingReview how far a look at all keys has come
	// that began because it has changed.
	settingRules  = "alert_rules"
	settingReview = "alert_review"
)

// noteRules has all keys looked at, step by step, when the profile says
// something else about when they are due than it did.
func (c *change) noteRules() error {
	p := c.k.profile
	every := map[string]string{"": p.Keys.RotateEvery.String()}
	for _, e := range p.Environments {
		every[e.Name] = e.RotateEvery.String()
	}
	rules, err := json.Marshal([]any{every, p.Keys.IdleAfter, p.Alerts.Expiring, p.Alerts.Notice})
	if err != nil {
		return err
	}
	was, err := c.Setting(settingRules)
	switch {
	case errors.Is(err, store.ErrNotFound): // new, and so are all keys
	case err != nil:
		return err
	case was == string(rules):
		return nil
	default:
		if err := c.SetSetting(settingReview, "key_"); err != nil {
			return err
		}
		if _, err := c.LookAtSecrets(store.AllWorkspaces()); err != nil {
			return err
		}
	}
	return c.SetSetting(settingRules, string(rules))
}

// WatchKeys takes one step in looking at keys about which something comes due,
// and returns how many it looked at. Several nodes may do so at once: each
// finds what the others have left.
func (k *Keyring) WatchKeys(ctx context.Context) (n int, err error) {
	// Looking costs a read; only finding something costs a write.
	review := ""
	if err := k.read(ctx, func(tx *store.Tx) error {
		due, err := tx.DueToLook(store.AllWorkspaces(), k.now(), 1)
		if err != nil {
			return err
		}
		n = len(due)
		review, err = tx.Setting(settingReview)
		return ignoreNotFound(err)
	}); err != nil || n == 0 && review == "" {
		return 0, err
	}
	_, err = k.write(ctx, system(), func(c *change) error {
		due, err := c.DueToLook(store.AllWorkspaces(), c.now, lookChunk)
		if err != nil {
			return err
		}
		for _, id := range due {
			if err := c.lookNow(id); err != nil {
				return err
			}
		}
		if n = len(due); n > 0 {
			return nil
		}
		after, err := c.Setting(settingReview)
		if err != nil || after == "" {
			return ignoreNotFound(err)
		}
		if after, err = c.LookAgain(store.AllWorkspaces(), after, lookChunk); err != nil {
			return err
		}
		n = 1
		return c.SetSetting(settingReview, after)
	})
	return n, err
}
