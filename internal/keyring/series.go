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
