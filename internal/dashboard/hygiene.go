package dashboard

import (
	"net/http"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

const (
	findingsEach  = 10 // keys of each kind on the page of all kinds
	findingsAlone = 50 // on the page of one kind
)

// hygienePage is what should be done about a workspace's keys.
type hygienePage struct {
	Findings []finding
	One      bool // only one kind is shown
	Checks   []string
}

// finding is the keys about which the same thing should be done.
type finding struct {
	Kind keyring.Finding
	Rows []findingRow
	Next string // address of more of them
}

// findingRow is a key with the one thing to do about it, if the reader may.
type findingRow struct {
	keystile.Key

	Act string
}

// remedy is the one action that a finding needs.
func (v *visit) remedy(kind keyring.Finding, k keystile.Key) string {
	act := ""
	switch kind {
	case keyring.FindingOverdue, keyring.FindingDue:
		act = "rotate"
	case keyring.FindingExpiring:
		if v.actor.May("api.key.create") {
			return "like"
		}
	case keyring.FindingIdle, keyring.FindingReplaced:
		act = v.ending()
	case keyring.FindingReview:
		act = "review"
	case keyring.FindingWide:
		act = "edit"
	}
	if act == "" || !v.may(k, act) {
		return ""
	}
	return act
}

func (v *visit) showHygiene() error {
	if v.r.URL.ForceQuery {
		return v.to(v.base() + "/hygiene")
	}
	q := v.r.URL.Query()
	page := hygienePage{One: q.Get("finding") != "", Checks: v.checks()}
	kinds, limit := keyring.FindingKinds(), findingsEach
	if page.One {
		kinds, limit = []keyring.Finding{keyring.Finding(q.Get("finding"))}, findingsAlone
	}
	for _, kind := range kinds {
		list, err := v.keyring().Findings(v.r.Context(), v.actor, v.workspace.ID, kind, q.Get("cursor"), limit)
		if err != nil {
			return err
		}
		f := finding{Kind: kind}
		for _, k := range list.Data {
			f.Rows = append(f.Rows, findingRow{k, v.remedy(kind, k)})
		}
		if list.NextCursor != "" {
			f.Next = v.base() + "/hygiene?finding=" + string(kind)
			if page.One {
				f.Next += "&cursor=" + list.NextCursor
			}
		}
		if len(f.Rows) > 0 || page.One {
			page.Findings = append(page.Findings, f)
		}
	}
	v.show(http.StatusOK, "hygiene", v.door.Profile.Word("hygiene_title"), page)
	return nil
}

// checks are what the profile asks to be looked at, in words.
func (v *visit) checks() (list []string) {
	p := v.door.Profile
	for _, e := range p.Environments {
		if e.RotateEvery > 0 {
			list = append(list, "Keys for "+e.Title+" are replaced every "+days(e.RotateEvery)+".")
		}
	}
	for _, c := range []struct {
		text  string
		every time.Duration
	}{
		{"Keys are replaced every ", p.Keys.RotateEvery}, {"Keys count as idle when unused for ", p.Keys.IdleAfter}, {"Keys are reviewed every ", p.Keys.ReviewEvery},
	} {
		if c.every > 0 {
			list = append(list, c.text+days(c.every)+".")
		}
	}
	return list
}
