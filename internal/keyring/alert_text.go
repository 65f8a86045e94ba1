package keyring

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// AlertWord names the word of the profile that is an alert's title.
func AlertWord(a keystile.Alert) string {
	switch a.Type {
	case keystile.AlertKeyExposed:
		return "alert_key_exposed"
	case keystile.AlertKeyExpiring:
		return "alert_key_expiring"
	case keystile.AlertKeyExpired:
		return "alert_key_expired"
	case keystile.AlertKeyRotationDue:
		if a.Stage == "overdue" {
			return "alert_key_rotation_overdue"
		}
		return "alert_key_rotation_due"
	case keystile.AlertKeyIdle:
		return "alert_key_idle"
	case keystile.AlertKeyStillUsed:
		return "alert_key_still_used"
	case keystile.AlertKeyStillTried:
		return "alert_key_still_tried"
	case keystile.AlertAuthFailures:
		return "alert_auth_failures"
	case keystile.AlertSecretExposed:
		return "alert_secret_exposed"
	case keystile.AlertSecretExpiring:
		return "alert_secret_expiring"
	case keystile.AlertSecretExpired:
		return "alert_secret_expired"
	case keystile.AlertSecretRotationDue:
		if a.Stage == "overdue" {
			return "alert_secret_rotation_overdue"
		}
		return "alert_secret_rotation_due"
	case keystile.AlertEndpointFailing:
		if a.Stage == endpointFailing {
			return "alert_endpoint_failing"
		}
		return "alert_endpoint_stopped"
	}
	return ""
}

// AlertProse says what an alert is about and what to do. It names one time at
// most, and stands in three pieces so that a page can show that time in its
// reader's zone.
type AlertProse struct {
	Before string
	At     *time.Time // nil for none: then Before is the whole text
	After  string
}

// String is the text for those whose zone is not known: a mail has the time in UTC.
func (p AlertProse) String() string {
	if p.At == nil {
		return p.Before
	}
	return p.Before + p.At.UTC().Format("2 Jan 2006 15:04 UTC") + p.After
}

// AlertText says what an alert is about and what to do, on pages and in mails.
func AlertText(a keystile.Alert) AlertProse {
	at := a.DueAt
	if a.Failures != nil {
		at = &a.Failures.From
	}
	before, after, found := strings.Cut(alertText(a), timePlace)
	if !found {
		at = nil
	}
	return AlertProse{before, at, after}
}

// timePlace stands in the text of an alert where its time belongs. It is in no
// name, since names have no controls.
const timePlace = "\x00"

func alertText(a keystile.Alert) string {
	due := ""
	if a.DueAt != nil {
		due = timePlace
	}
	switch a.Type {
	case keystile.AlertKeyExposed:
		return "It was revoked on " + due + " because others may have it. See from where it was used, and what was done with it."
	case keystile.AlertKeyExpiring:
		return "It ends on " + due + " and has no replacement. Nothing lengthens a key’s life: create another one like it."
	case keystile.AlertKeyExpired:
		return "It ended on " + due + " and has no replacement. If something still needs it, create another one like it."
	case keystile.AlertKeyRotationDue:
		if a.Stage == "overdue" {
			return "It has been older since " + due + " than is recommended. Rotate it: both keys work until the old one ends."
		}
		return "It reaches the recommended age on " + due + ". Rotate it: both keys work until the old one ends."
	case keystile.AlertKeyIdle:
		return "Nobody has used it since " + due + ". What is not needed is better ended."
	case keystile.AlertKeyStillUsed:
		return "It is replaced and ends on " + due + ", and is still in use. Whoever uses it must take the new key before."
	case keystile.AlertKeyStillTried:
		return "It has ended and is still being tried, last on " + due + ". Whoever does so must take another key, or should not have it."
	case keystile.AlertAuthFailures:
		return failuresText(a)
	case keystile.AlertSecretExposed:
		return "It was revoked on " + due + " because others may have it. What it signed does not prove any more who sent it: see that nobody verifies with it."
	case keystile.AlertSecretExpiring:
		return "It ends on " + due + " and has no replacement. Nothing lengthens its life: rotate it, or create another one."
	case keystile.AlertSecretExpired:
		return "It ended on " + due + " and has no replacement. If somebody still verifies with it, create another one."
	case keystile.AlertSecretRotationDue:
		if a.Stage == "overdue" {
			return "It has been older since " + due + " than is recommended. Rotate it: both sign until the old one ends."
		}
		return "It reaches the recommended age on " + due + ". Rotate it: both sign until the old one ends."
	case keystile.AlertEndpointFailing:
		switch a.Stage {
		case endpointFailing:
			return "It has accepted nothing since " + due + ". What is not accepted is tried for nearly three days, and can be sent again after that. See what its receiver answers."
		case string(keystile.EndpointDisabled):
			return "Its receiver answered 410 Gone, so it was disabled. Its events wait. If it was a mistake, resume it, then send again what was given up."
		}
		return "It accepted nothing since " + due + ", so it was paused. Its events wait. When the receiver is back, resume it, then send again what was given up."
	}
	return ""
}

func failuresText(a keystile.Alert) string {
	f := a.Failures
	if f == nil {
		return ""
	}
	s := strconv.FormatInt(f.Total, 10) + " refused keys since " + timePlace + ", at most " + strconv.FormatInt(f.Peak, 10) + " in " + minutes(f.Window) + "; usual is " + strconv.FormatInt(f.Usual, 10) + " at most."
	if a.ClosedAt != nil {
		return s + " It is over."
	}
	return s + " " + failuresCause(f)
}

// failuresCause says what a spike comes from, as far as the outcomes tell.
func failuresCause(f *keystile.AuthFailure) string {
	only := func(codes ...keystile.Code) bool {
		for code, n := range f.Codes {
			if n > 0 && !slices.Contains(codes, code) {
				return false
			}
		}
		return len(f.Codes) > 0
	}
	one := len(f.Keys) == 1 && f.Keys[0].Count == f.Total
	switch {
	case only(keystile.CodeWorkspaceSuspended):
		return "The workspace is suspended: no key of it works until the operator resumes it."
	case one && only(keystile.CodeRevoked, keystile.CodeExpired):
		return "All were of the one key " + f.Keys[0].KeyID + ", which has ended: a program goes on with it. Give it another key."
	case one && only(keystile.CodeDisabled):
		return "All were of the one key " + f.Keys[0].KeyID + ", which is disabled: a program goes on with it. Enable the key, or stop the program."
	case one && only(keystile.CodeIPNotAllowed):
		return "All were of the one key " + f.Keys[0].KeyID + ", from addresses that it is not allowed from: its program has moved, or others have it."
	case only(keystile.CodeRevoked, keystile.CodeExpired, keystile.CodeDisabled):
		return "All were of keys that have ended or are disabled: programs go on with them."
	}
	return "Somebody guesses, or a program goes on with a wrong key."
}

// minutes writes the length of a window as people do.
func minutes(window string) string {
	if d, err := time.ParseDuration(window); err == nil && d%time.Minute == 0 {
		if d == time.Minute {
			return "a minute"
		}
		return strconv.Itoa(int(d/time.Minute)) + " minutes"
	}
	return window
}
