package server

import (
	"context"
	"errors"
	"time"

	"github.com/keystile/keystile/internal/store"
)

// Background work and how often it is done.
const (
	expireEvery = 2 * time.Second
	retainEvery = 15 * time.Minute
	watchEvery  = 2 * time.Second
	outboxEvery = 10 * time.Second
	// settleEvery is for how long uses may be noted only, where there are many.
	settleEvery = time.Minute
	// holdEvery is how often a server looks what master keys it holds, for the
	// others to see.
	holdEvery = 2 * time.Second
)

func every(ctx context.Context, d time.Duration, do func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			do()
		}
	}
}

// flushLoop writes what was counted.
func (s *Server) flushLoop(ctx context.Context) {
	every(ctx, s.config.FlushInterval, func() {
		if err := s.flush(ctx); err != nil && ctx.Err() == nil {
			s.metrics.flushErrors.Inc()
			s.config.Log.Error("writing usage; the counts are kept and tried again", "error", err)
		}
	})
}

func (s *Server) flush(ctx context.Context) error {
	left, err := s.keyring.FlushUses(ctx, s.uses.Drain())
	if len(left) > 0 {
		s.uses.Restore(left)
	}
	misses := s.uses.DrainMisses()
	missed := s.keyring.FlushMisses(ctx, misses)
	if missed != nil {
		s.uses.RestoreMisses(misses)
	}
	return errors.Join(err, missed, s.keyring.FlushSecretUses(ctx))
}

// settleLoop puts the uses that a flush has only noted where pages look for them:
// those first that a server has left that was killed.
func (s *Server) settleLoop(ctx context.Context) {
	settle := func() { s.all(ctx, "settle usage", s.keyring.SettleUses) }
	settle()
	every(ctx, settleEvery, settle)
}

// watchLoop finds what comes due of keys and webhook secrets, and spikes of failed attempts.
func (s *Server) watchLoop(ctx context.Context) {
	every(ctx, watchEvery, func() {
		s.all(ctx, "look for what comes due of keys", s.keyring.WatchKeys)
		s.all(ctx, "look for what comes due of webhook secrets", s.keyring.WatchWebhookSecrets)
		if err := s.keyring.WatchFailures(ctx); err != nil {
			s.background("look for failed attempts", err)
		}
	})
}

// expireLoop stores as a state that keys and webhook secrets have reached their
// end.
func (s *Server) expireLoop(ctx context.Context) {
	every(ctx, expireEvery, func() {
		s.all(ctx, "expire keys", s.keyring.ExpireKeys)
		s.all(ctx, "expire webhook secrets", s.keyring.ExpireWebhookSecrets)
	})
}

// all takes steps until one finds nothing more to do.
func (s *Server) all(ctx context.Context, doing string, step func(context.Context) (int, error)) {
	for ctx.Err() == nil {
		n, err := step(ctx)
		if err != nil {
			s.background(doing, err)
		}
		if err != nil || n == 0 {
			return
		}
	}
}

// holdLoop says in the node's row which master keys this server holds. Reading
// them may take long, and must not hold up a renewal.
func (s *Server) holdLoop(ctx context.Context) {
	every(ctx, holdEvery, func() { s.hold(ctx) })
}

func (s *Server) hold(ctx context.Context) {
	ids, err := s.keyring.HeldMasterKeys(ctx)
	if err != nil && ctx.Err() == nil && len(ids) > 0 {
		s.config.Log.Warn("the master keys can't be read anew; this server goes on with those it holds", "error", err)
	}
	s.node.HoldMasterKeys(ctx, ids)
}

// outboxLoop measures for how long events have been waiting.
func (s *Server) outboxLoop(ctx context.Context) {
	every(ctx, outboxEvery, func() {
		age, err := s.keyring.OldestDue(ctx)
		if err != nil {
			s.background("look into the outbox", err)
			return
		}
		s.metrics.outboxAge.Set(age.Seconds())
	})
}

// retainLoop removes what is old enough to go, step by step.
func (s *Server) retainLoop(ctx context.Context) {
	every(ctx, retainEvery, func() {
		for ctx.Err() == nil {
			n, err := s.keyring.Retain(ctx)
			if err != nil {
				s.background("remove what is old", err)
			}
			if err != nil || n == 0 {
				return
			}
		}
	})
}

func (s *Server) background(doing string, err error) {
	if errors.Is(err, store.ErrClosed) || errors.Is(err, context.Canceled) {
		return
	}
	s.config.Log.Error(doing, "error", err)
}
