package dashboard

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

const day = 24 * time.Hour

// span is a stretch of time that usage is shown of.
type span struct {
	Name, Title string
	Length      time.Duration
	Step        time.Duration // an hour or a day
}

// spans are those that the page offers. The first is shown unasked.
func spans() []span {
	return []span{
		{"24h", "Last 24 hours", day, time.Hour},
		{"7d", "Last 7 days", 7 * day, day},
		{"30d", "Last 30 days", 30 * day, day},
		{"90d", "Last 90 days", 90 * day, day},
	}
}

// usagePage shows how keys are used, over time and by key.
type usagePage struct {
	Spans   []span
	Span    span
	Key     *keystile.Key // the one that it is about; nil for all
	Total   keyUsageRow
	Steps   []stepRow // newest first
	Chart   chart
	Keys    []keyUsageRow
	Next    string // address of the next page of keys; "" on the last
	Sources []keystile.KeySource
	MayKeys bool
	AllKeys string // address of the page about all keys
}

// stepRow is what happened in one step of time.
type stepRow struct {
	At time.Time
	outcome
}

// keyUsageRow is what happened to one key.
type keyUsageRow struct {
	ID, Name string
	Path     string // of its usage over time
	outcome
}

// outcome counts uses that were let in and those that were not.
type outcome struct {
	Total, Accepted, Refused int64
	Failures                 []failure // the most frequent first
}

type failure struct {
	Code keystile.Code
	N    int64
}

func outcomeOf(codes map[keystile.Code]int64) (o outcome) {
	for code, n := range codes {
		o.Total += n
		if code == keystile.CodeValid {
			o.Accepted += n
			continue
		}
		o.Refused += n
		o.Failures = append(o.Failures, failure{code, n})
	}
	slices.SortFunc(o.Failures, func(a, b failure) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Code, b.Code)) })
	return o
}

func (v *visit) showUsage() error {
	q := v.r.URL.Query()
	page := usagePage{Spans: spans(), MayKeys: v.actor.May("api.key.view")}
	i := max(0, slices.IndexFunc(page.Spans, func(s span) bool { return s.Name == q.Get("span") }))
	page.Span = page.Spans[i]
	page.AllKeys = v.usageAddress(page.Span, "", "")
	until := time.Now().UTC().Truncate(page.Span.Step).Add(page.Span.Step)
	since := until.Add(-page.Span.Length)

	steps, err := v.keyring().UsageOverTime(v.r.Context(), v.actor, v.workspace.ID, q.Get("key"), since, until, page.Span.Step)
	if err != nil {
		return err
	}
	page.over(steps, since, until)
	if q.Get("key") == "" {
		err = v.usageByKey(&page, since, until, q.Get("cursor"))
	} else {
		err = v.usageOfKey(&page, q.Get("key"), since, until)
	}
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "usage", v.door.Profile.Word("usage_title"), page)
	return nil
}

func (v *visit) usageAddress(s span, key, cursor string) string {
	q := url.Values{"span": {s.Name}}
	if key != "" {
		q.Set("key", key)
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return v.base() + "/usage?" + q.Encode()
}

// over fills in the steps of time, those without a use as well.
func (p *usagePage) over(steps []keyring.UsageStep, since, until time.Time) {
	found := map[time.Time]outcome{}
	sum := map[keystile.Code]int64{}
	for _, s := range steps {
		found[s.At.UTC()] = outcomeOf(s.Codes)
		for code, n := range s.Codes {
			sum[code] += n
		}
	}
	p.Total.outcome = outcomeOf(sum)
	for at := since; at.Before(until); at = at.Add(p.Span.Step) {
		p.Steps = append(p.Steps, stepRow{at, found[at]})
	}
	series := make([]keyring.SeriesStep, len(p.Steps))
	for i, s := range p.Steps {
		series[i] = keyring.SeriesStep{At: s.At, Valid: s.Accepted, Refused: s.Refused}
	}
	p.Chart = newChart(p.Span.Title, p.Span.Step, series)
	slices.Reverse(p.Steps)
}

func (v *visit) usageByKey(page *usagePage, since, until time.Time, cursor string) error {
	keys, err := v.keyring().UsageByKey(v.r.Context(), v.actor, v.workspace.ID, since, until, cursor, 0)
	if err != nil {
		return err
	}
	for _, u := range keys.Data {
		page.Keys = append(page.Keys, keyUsageRow{u.KeyID, u.Name, v.usageAddress(page.Span, u.KeyID, ""), outcomeOf(u.Codes)})
	}
	if keys.NextCursor != "" {
		page.Next = v.usageAddress(page.Span, "", keys.NextCursor)
	}
	return nil
}

// usageOfKey says where one key was used from as well.
func (v *visit) usageOfKey(page *usagePage, id string, since, until time.Time) error {
	page.Key = &keystile.Key{ID: id}
	if page.MayKeys {
		key, err := v.keyring().Key(v.r.Context(), v.actor, id)
		if err != nil {
			return err
		}
		page.Key = &key
	}
	usage, err := v.keyring().Usage(v.r.Context(), v.actor, v.workspace.ID, keyring.UsageQuery{Key: id, Since: &since, Until: &until, Limit: 1})
	page.Sources = usage.Sources
	return err
}
