package dashboard

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

// How many sign-ins an address may try. People behind one address share it,
// so what succeeds is given back.
const (
	attemptBurst = 30
	attemptEvery = 4 * time.Second // one more
	// maxAddresses bounds the table: 4 MB at most, whatever addresses come.
	maxAddresses = 20_000
)

// attempts counts what each address has tried of late.
type attempts struct {
	mu    sync.Mutex
	spent map[netip.Prefix]spent
}

// spent is how much an address has used up, at a time.
type spent struct {
	tries float64
	at    time.Time
}

func (s spent) now(now time.Time) float64 {
	return max(0, s.tries-now.Sub(s.at).Seconds()/attemptEvery.Seconds())
}

// network is what counts as one address: of IPv6, what a household has.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() && !a.Is4In6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Prefix for an address that is not known
	return p
}

// take counts a try, and tells how long to wait when there were too many.
func (t *attempts) take(a netip.Addr, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := network(a)
	tries := t.spent[n].now(now)
	if tries+1 > attemptBurst {
		return time.Duration((tries + 1 - attemptBurst) * float64(attemptEvery))
	}
	if _, known := t.spent[n]; !known && len(t.spent) >= maxAddresses {
		t.forget(now)
		if len(t.spent) >= maxAddresses { // a flood from everywhere: one account for all who are new
			n = netip.Prefix{}
			if tries = t.spent[n].now(now); tries+1 > attemptBurst {
				return attemptEvery
			}
		}
	}
	t.spent[n] = spent{tries + 1, now}
	return 0
}

// forget drops the addresses that have nothing used up any more.
func (t *attempts) forget(now time.Time) {
	for n, s := range t.spent {
		if s.now(now) == 0 {
			delete(t.spent, n)
		}
	}
}

// back returns n tries.
func (t *attempts) back(a netip.Addr, n float64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := network(a)
	if left := t.spent[at].now(now) - n; left > 0 {
		t.spent[at] = spent{left, now}
	} else {
		delete(t.spent, at)
	}
}

// attempt counts a step of a sign-in, and refuses it when there were too many.
func (v *visit) attempt() error {
	wait := v.attempts.take(entry.Origin(v.r.Context()).Address, time.Now())
	if wait == 0 {
		return nil
	}
	v.w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
	return keystile.NewError(keystile.CodeTooManyAttempts, "")
}

// succeeded gives back what the steps of a sign-in have used up.
func (v *visit) succeeded() {
	v.attempts.back(entry.Origin(v.r.Context()).Address, 2, time.Now())
}

// evenly serves a step of a sign-in so that every refusal takes the same time,
// whether there was a signature to check or not.
func evenly(serve func(*visit) error) func(*visit) error {
	return func(v *visit) error {
		begin := time.Now()
		err := serve(v)
		if err == nil {
			return nil
		}
		select {
		case <-v.r.Context().Done():
		case <-time.After(refusalTime - time.Since(begin)):
		}
		return err
	}
}

// refusalTime is longer than checking a signature and writing to the audit log take.
const refusalTime = 250 * time.Millisecond
