package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// data is an open store with the rules and the index of a server.
type data struct {
	store     *store.Store
	keyring   *keyring.Keyring
	node      *cluster.Node
	workspace string
	leave     context.CancelFunc
}

// open opens a store, which is made if need be, and loads its index.
func open(ctx context.Context, o store.Options) (d *data, err error) {
	p, err := profile.Load("")
	if err != nil {
		return nil, err
	}
	d = &data{}
	if d.store, err = store.Open(ctx, o); err != nil {
		return nil, err
	}
	d.keyring = keyring.New(d.store, p, func(ctx context.Context, seq int64, narrows bool) (bool, []keystile.Unreached, error) {
		return d.node.Barrier(ctx, seq, narrows)
	})
	running, leave := context.WithCancel(context.WithoutCancel(ctx))
	d.leave = leave
	if d.node, err = cluster.NewNode(d.store, p.Format(), d.keyring.BuiltInRoles(keyring.OperatorWorkspace), "bench", slog.New(slog.DiscardHandler)); err == nil {
		err = d.node.Start(running)
	}
	if err == nil {
		_, d.workspace, err = d.keyring.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	return d, nil
}

func (d *data) close(ctx context.Context) error {
	d.leave()
	var err error
	if d.node != nil {
		err = d.node.Leave(context.WithoutCancel(ctx))
	}
	return errors.Join(err, d.store.Close())
}

// start is how long a server takes to start, and how long the bare scan of the
// same rows.
type start struct {
	server, scan series
	memory       int64 // of the server once it has started, bytes
}

// starts measures the start of the program on a store with n keys, which it
// makes first.
func starts(ctx context.Context, program string, o store.Options, n, rounds int, tell func(string)) (out start, err error) {
	d, err := open(ctx, o)
	if err != nil {
		return out, err
	}
	began := time.Now()
	err = d.store.FillKeys(ctx, d.workspace, d.keyring.BuiltInRoles(d.workspace)[0].ID, n, func(done int) {
		tell(fmt.Sprintf("filling a store: %d of %d keys%s", done, n, left(began, done, n)))
	})
	if err = errors.Join(err, d.close(ctx)); err != nil {
		return out, err
	}
	for round := range rounds {
		tell(fmt.Sprintf("starting a server: %d of %d", round+1, rounds))
		took, err := scan(ctx, o, n)
		if err != nil {
			return out, err
		}
		out.scan.add(took.Seconds())
		if took, out.memory, err = launch(ctx, program, o); err != nil {
			return out, err
		}
		out.server.add(took.Seconds())
	}
	return out, nil
}

// left says how much longer something takes of which a part is done, unless
// that is less than two seconds.
func left(began time.Time, done, of int) string {
	rest := time.Duration(float64(time.Since(began)) * float64(of-done) / float64(max(done, 1))).Round(time.Second)
	if rest < 2*time.Second {
		return ""
	}
	return fmt.Sprintf(", about %s left", rest)
}

// scan reads all rows and does nothing with them.
func scan(ctx context.Context, o store.Options, n int) (took time.Duration, err error) {
	s, err := store.Open(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	began := time.Now()
	found, err := s.ScanKeys(ctx)
	if err == nil && found < n {
		err = fmt.Errorf("the scan found %d of %d keys", found, n)
	}
	return time.Since(began), err
}

// launch starts the program's server and returns how long it took until it
// answers, and the memory it has then.
func launch(ctx context.Context, program string, o store.Options) (took time.Duration, memory int64, err error) {
	args := []string{"serve", "--listen", "127.0.0.1:0", "--log-level", "warn"}
	if o.URL != "" {
		args = append(args, "--database", o.URL)
	} else {
		args = append(args, "--data", o.Dir)
	}
	cmd := exec.Command(program, args...) //nolint:gosec // the program is the caller's own
	cmd.Env = environment()
	began := time.Now()
	p, err := Start(ctx, cmd)
	if err != nil {
		return 0, 0, err
	}
	defer p.Stop()
	if _, err := p.Line(ctx, "Keystile listens on http://"); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	memory, err = Memory(p.PID())
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return took, memory, err
}

// writes are how many keys are made a second, and how many bare transactions.
type writes struct{ creates, bare series }

const (
	writers  = 32
	writeFor = time.Second
)

// measureWrites measures what 32 clients create beside what one of them could
// write without Keystile.
func (d *data) measureWrites(ctx context.Context, dir string, rounds int) (w writes, err error) {
	for round := range rounds {
		own := filepath.Join(dir, fmt.Sprint("bare", round))
		if err := os.Mkdir(own, 0o700); err != nil {
			return w, err
		}
		bare, err := store.BareTransactions(ctx, own, writeFor)
		if err != nil {
			return w, err
		}
		w.bare.add(bare)
		n, began := atomic.Int64{}, time.Now()
		failed := together(writers, func() error {
			for time.Since(began) < writeFor {
				if err := d.create(ctx, nil); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
		if failed != nil {
			return w, failed
		}
		w.creates.add(float64(n.Load()) / time.Since(began).Seconds())
	}
	return w, nil
}

// together runs f in n goroutines and returns their first error.
func together(n int, f func() error) error {
	failed := make(chan error, n)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := f(); err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

func (d *data) create(ctx context.Context, out *keystile.CreatedKey) error {
	made, _, err := d.keyring.CreateKey(ctx, keyring.Operator("bench"), d.workspace, keystile.CreateKey{Name: "Service"}, keyring.Idempotency{})
	if out != nil {
		*out = made
	}
	return err
}

// changing is the 99th percentile of the time of a check, in nanoseconds: in
// quiet, and while keys are created, rotated and revoked.
type changing struct {
	quiet, busy series
	perSecond   series // changes there were
}

// changesAsked is how many changes are asked for in a second.
const changesAsked = 1000

// measureChanging checks keys one after the other, and does so again with
// changes beside it.
func (d *data) measureChanging(ctx context.Context, rounds int) (out changing, err error) {
	var secrets []string
	for range 256 {
		var made keystile.CreatedKey
		if err := d.create(ctx, &made); err != nil {
			return out, err
		}
		secrets = append(secrets, made.Secret)
	}
	recorder := verify.NewRecorder()
	for range rounds {
		quiet, err := d.percentile(ctx, recorder, secrets)
		if err != nil {
			return out, err
		}
		out.quiet.add(quiet)

		changes, stop := context.WithCancel(ctx)
		changed := atomic.Int64{}
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- d.change(changes, &changed) }()
		busy, err := d.percentile(ctx, recorder, secrets)
		took := time.Since(began)
		stop()
		if err := errors.Join(err, <-ended); err != nil {
			return out, err
		}
		out.busy.add(busy)
		out.perSecond.add(float64(changed.Load()) / took.Seconds())
	}
	return out, nil
}

// percentile times checks one by one.
func (d *data) percentile(ctx context.Context, recorder *verify.Recorder, secrets []string) (float64, error) {
	const during, width = time.Second, 10 // width of a class in nanoseconds
	var classes [10_000]int
	n := 0
	var r verify.Result
	index, ok := d.node.Index()
	if !ok {
		return 0, errors.New("the node does not answer")
	}
	for began := time.Now(); time.Since(began) < during && ctx.Err() == nil; {
		for _, s := range secrets {
			now := time.Now()
			index.Decide(&verify.Query{Secret: s, Permission: permission, Address: from(), Now: now}, &r)
			recorder.Count(&r, r.Code, from(), agent, now)
			classes[min(int(time.Since(now))/width, len(classes)-1)]++
			n++
			if r.Code != keystile.CodeValid {
				return 0, fmt.Errorf("a check said %s", string(r.Code))
			}
		}
	}
	recorder.Drain()
	for i, above := 0, n; i < len(classes); i++ {
		if above -= classes[i]; above*100 <= n {
			return float64((i + 1) * width), ctx.Err()
		}
	}
	return 0, ctx.Err()
}

// change makes changes at an even pace until ctx ends: each key is created,
// rotated, and then both are revoked.
func (d *data) change(ctx context.Context, changed *atomic.Int64) error {
	var turn atomic.Int64
	began := time.Now()
	actor := keyring.Operator("bench")
	background := context.WithoutCancel(ctx)
	return together(writers, func() error {
		for {
			at := time.NewTimer(time.Until(began.Add(time.Duration(turn.Add(4)) * time.Second / changesAsked)))
			select {
			case <-ctx.Done():
				at.Stop()
				return nil
			case <-at.C:
			}
			var made keystile.CreatedKey
			if err := d.create(background, &made); err != nil {
				return err
			}
			next, _, err := d.keyring.RotateKey(background, actor, made.Key.ID, keystile.RotateKey{Overlap: "1h"}, keyring.Idempotency{})
			if err != nil {
				return err
			}
			for _, id := range []string{made.Key.ID, next.Key.ID} {
				if _, err := d.keyring.RevokeKey(background, actor, id, keystile.RevokeKey{}); err != nil {
					return err
				}
			}
			changed.Add(4)
		}
	})
}
