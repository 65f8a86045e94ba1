package keyring

import (
	"context"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// SeriesStep counts the uses of a key in one step of a series.
type SeriesStep struct {
	At             time.Time // beginning
	Valid, Refused int64
}

// UsageSeries counts the uses of a key in the last n steps, oldest first. A
// step is an hour or a day (UTC); the last one is under way. It lags by the flush
// interval.
func (k *Keyring) UsageSeries(ctx context.Context, a Actor, keyID string, step time.Duration, n int) (out []SeriesStep, err error) {
	if err := checkID("key_", keyID); err != nil {
		return nil, err
	}
	until := k.now().UTC().Truncate(step).Add(step)
	since := until.Add(-time.Duration(n) * step)
	err = k.read(ctx, func(tx *store.Tx) error {
		key, err := tx.Key(a.scope(), keyID)
		if err != nil {
			return err
		}
		if err := a.need("api.usage.view"); err != nil {
			return err
		}
		sums, err := tx.UsageOverTime(a.scope(), store.UsageFilter{
			WorkspaceID: key.WorkspaceID, KeyID: keyID, Since: since, Until: until,
		}, step)
		out = make([]SeriesStep, n)
		for i := range out {
			out[i].At = since.Add(time.Duration(i) * step)
		}
		for _, sum := range sums {
			if i := int(sum.At.Sub(since) / step); i >= 0 && i < n {
				out[i].Valid = sum.Codes[keystile.CodeValid]
				out[i].Refused = sum.Total - out[i].Valid
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
