package keyring

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// Failed attempts and their spikes. They are counted in windows, per workspace
// where one is known; those of no workspace's keys are the operator's.

const (
	// usualSpan is the time whose windows say what is usual.
	usualSpan = 24 * time.Hour
	// failuresKept is longer by more than two windows of an hour, the longest.
	failuresKept = usualSpan + 3*time.Hour
	// maxFailureSources is how many sources one flush tells apart in a
	// workspace and window.
	maxFailureSources = 100
	// maxSpikes is how many spikes are followed at once.
	maxSpikes = 10_000
	// factsEvery is how often the facts of a spike are brought up to date.
	factsEvery = time.Minute
)

// failed tells whether an outcome is a failed authentication. A key without
// the permission that was asked for has authenticated. A workspace is suspended
// when it is not entitled to its plan any more: nothing else of a plan bears on
// a check, and its people wonder why nothing works.
func failed(code keystile.Code) bool {
	switch code {
	case keystile.CodeMalformed, keystile.CodeUnknown, keystile.CodeRevoked, keystile.CodeDisabled,
		keystile.CodeExpired, keystile.CodeIPNotAllowed, keystile.CodeWrongWorkspace, keystile.CodeWorkspaceSuspended:
		return true
	}
	return false
}

// failuresOf are the failed attempts among the uses of keys.
func (k *Keyring) failuresOf(uses []verify.Use) []store.Failure {
	var all []store.Failure
	for _, u := range uses {
		if failed(u.Code) {
			all = append(all, store.Failure{
				WorkspaceID: u.WorkspaceID, At: k.windowOf(u.Last), Code: u.Code, Source: nameSource(verify.Source(u.Address)), KeyID: u.KeyID, Count: u.Count,
			})
		}
	}
	return fewer(all)
}

// FlushMisses writes the attempts with what is no key, as the operator's.
func (k *Keyring) FlushMisses(ctx context.Context, misses []verify.Miss) error {
	if len(misses) == 0 {
		return nil
	}
	all := make([]store.Failure, len(misses))
	for i, m := range misses {
		all[i] = store.Failure{
			WorkspaceID: OperatorWorkspace, At: k.windowOf(m.Last), Code: m.Code, Source: nameSource(m.Source), Count: m.Count,
		}
	}
	all = fewer(all)
	_, err := k.store.Write(ctx, func(tx *store.Tx) error { return tx.AddFailures(all) })
	return err
}

// windowOf is the beginning of the window that an instant is in.
func (k *Keyring) windowOf(t time.Time) time.Time {
	window := k.profile.Alerts.FailureWindow.Milliseconds()
	ms := t.UnixMilli()
	return time.UnixMilli(ms - ms%window).UTC()
}

// nameSource names where an attempt came from, "" when that is not known.
func nameSource(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

// fewer adds up what is alike and gives up the sources with the fewest
// attempts where there are too many.
func fewer(all []store.Failure) []store.Failure {
	all = sumFailures(all)
	slices.SortStableFunc(all, func(a, b store.Failure) int { return cmp.Compare(b.Count, a.Count) })
	told := map[string]int{}
	for i := range all {
		if told[all[i].WorkspaceID]++; told[all[i].WorkspaceID] > maxFailureSources {
			all[i].Source, all[i].KeyID = "", ""
		}
	}
	return sumFailures(all)
}

func sumFailures(all []store.Failure) []store.Failure {
	at := map[store.Failure]int{}
	var sums []store.Failure
	for _, f := range all {
		n := f.Count
		f.Count = 0
		i, ok := at[f]
		if !ok {
			i = len(sums)
			at[f] = i
			sums = append(sums, f)
		}
		sums[i].Count += n
	}
	return sums
}

// spike is what the windows of a workspace say about failed attempts.
type spike struct {
	usual, threshold int64
	first            time.Time // of the two windows that are judged, the first beyond the threshold
	goesOn           bool
}

// judgeSpike judges the window under way and the one before it. They are a
// spike if one of them has reached the threshold, which is the floor, or a
// multiple of what is usual where that is more. An open alert goes on below
// its own threshold or the present one, whichever is lower: otherwise it could
// close and open again by the same windows.
func judgeSpike(rule profile.Alerts, totals map[time.Time]int64, current time.Time, open int64) (s spike) {
	before := current.Add(-rule.FailureWindow)
	s.usual = usualFailures(totals, before, rule.FailureWindow)
	s.threshold = max(int64(rule.FailureFloor), int64(rule.FailureFactor)*s.usual)
	if open > 0 {
		s.threshold = min(s.threshold, open)
	}
	for _, at := range []time.Time{before, current} {
		if totals[at] >= s.threshold && !s.goesOn {
			s.first, s.goesOn = at, true
		}
	}
	return s
}

// usualFailures is what 9 of 10 windows of the day before an instant did not
// exceed. The empty ones count.
func usualFailures(totals map[time.Time]int64, until time.Time, window time.Duration) int64 {
	windows := int(usualSpan / window)
	var busy []int64
	for at, n := range totals {
		if at.Before(until) && !at.Before(until.Add(-usualSpan)) {
			busy = append(busy, n)
		}
	}
	slices.Sort(busy)
	if i := len(busy) - 1 - windows/10; i >= 0 {
		return busy[i]
	}
	return 0
}

// WatchFailures opens alerts of spikes of failed attempts, brings them up to
// date and closes them. Several nodes may do so at once.
func (k *Keyring) WatchFailures(ctx context.Context) error {
	if k.profile.Alerts.FailureFloor == 0 {
		return nil
	}
	var due []string
	// Looking costs a read; only finding something costs a write.
	if err := k.read(ctx, func(tx *store.Tx) error {
		due = nil
		candidates, err := k.failing(tx)
		if err != nil {
			return err
		}
		for _, ws := range candidates {
			todo, err := k.spikeOf(tx, ws, k.now())
			if err != nil {
				return err
			}
			if todo != nil {
				due = append(due, ws)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, ws := range due {
		if _, err := k.write(ctx, system(), func(c *change) error {
			if _, err := c.Workspace(store.AllWorkspaces(), ws); err != nil {
				return ignoreNotFound(err) // deleted meanwhile
			}
			todo, err := k.spikeOf(c.Tx, ws, c.now)
			if err != nil || todo == nil {
				return err
			}
			return todo(c)
		}); err != nil {
			return err
		}
	}
	return nil
}

// failing are the workspaces that may have a spike, or have had one.
func (k *Keyring) failing(tx *store.Tx) ([]string, error) {
	rule := k.profile.Alerts
	since := k.windowOf(k.now()).Add(-rule.FailureWindow)
	all, err := tx.FailingWorkspaces(store.AllWorkspaces(), since, int64(rule.FailureFloor))
	if err != nil {
		return nil, err
	}
	open, err := tx.OpenAlertsOfType(store.AllWorkspaces(), keystile.AlertAuthFailures, maxSpikes)
	for _, a := range open {
		if !slices.Contains(all, a.WorkspaceID) {
			all = append(all, a.WorkspaceID)
		}
	}
	return all, err
}

// spikeOf finds what is to be done about a workspace's failures, nil for
// nothing.
func (k *Keyring) spikeOf(tx *store.Tx, ws string, now time.Time) (func(*change) error, error) {
	rule, own := k.profile.Alerts, store.OneWorkspace(ws)
	current := k.windowOf(now)
	counts, err := tx.FailureWindows(own, ws, current.Add(-usualSpan-rule.FailureWindow), current.Add(rule.FailureWindow), rule.FailureWindow)
	if err != nil {
		return nil, err
	}
	totals := map[time.Time]int64{}
	for _, w := range counts {
		totals[w.At] += w.Count
	}
	open, err := tx.Alerts(own, store.AlertFilter{WorkspaceID: ws, State: "open", Type: keystile.AlertAuthFailures, Limit: 1})
	if err != nil {
		return nil, err
	}
	a := keystile.Alert{WorkspaceID: ws, Type: keystile.AlertAuthFailures}
	threshold := int64(0)
	if len(open) > 0 {
		a = open[0]
		threshold = a.Failures.Threshold
	}
	s := judgeSpike(rule, totals, current, threshold)
	if a.ID == "" && !s.goesOn {
		return nil, nil //nolint:nilnil // nothing is to be done
	}
	f := keystile.AuthFailure{From: s.first, Window: rule.FailureWindow.String(), Usual: s.usual, Threshold: s.threshold, Codes: map[keystile.Code]int64{}}
	if a.ID != "" {
		f.From, f.Usual, f.Threshold = a.Failures.From, a.Failures.Usual, a.Failures.Threshold
	}
	for _, w := range counts {
		if !w.At.Before(f.From) {
			f.Codes[w.Code] += w.Count
			f.Total += w.Count
			f.Peak, f.LastAt = max(f.Peak, totals[w.At]), w.At
		}
	}
	if a.ID != "" { // what is older than a day is not counted any more
		f.Peak = max(f.Peak, a.Failures.Peak)
		if f.LastAt.IsZero() {
			f.LastAt, f.Total, f.Codes = a.Failures.LastAt, a.Failures.Total, a.Failures.Codes
		}
	}
	if s.goesOn && a.ID != "" && (sameJSON(a.Failures.Codes, f.Codes) || now.Sub(a.UpdatedAt) < factsEvery) {
		return nil, nil //nolint:nilnil // nothing is to be done yet
	}
	if f.Sources, err = tx.FailureSources(own, ws, f.From, false, maxAlertSources); err != nil {
		return nil, err
	}
	if f.Keys, err = tx.FailureSources(own, ws, f.From, true, maxAlertSources); err != nil {
		return nil, err
	}
	return func(c *change) error {
		facts := keystile.AlertFacts{Failures: &f}
		if s.goesOn {
			return c.raise(a, "", facts)
		}
		a.AlertFacts = facts
		return c.closeAlert(a)
	}, nil
}
