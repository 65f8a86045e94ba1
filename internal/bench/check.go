package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pages"
	"github.com/keystile/keystile/internal/verify"
)

const (
	workspaceID, roleID = "ws_bench", "role_bench"
	agent               = "bench/1.0"

	// batch is how many checks are timed at a time: less than a tenth of a
	// millisecond, so that most batches run without another process in between.
	batch = 256
	// turns is how many batches of each kind there are.
	turns = 1024
	// chunk is how many keys are put into the index at a time.
	chunk = 4096
)

// check measures checks within the process.
type check struct {
	n        uint64 // keys
	secrets  secrets
	index    *verify.Index
	recorder *verify.Recorder
	lines    *pages.Array[line] // as many as keys, for the floor
	zero     byte               // that the compiler does not know to be 0
	sum      uint64
}

// A line is one line of the processor's cache.
type line [8]uint64

// keyID scatters numbers over all IDs.
func keyID(number uint64) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], bits.Reverse64(number))
	binary.BigEndian.PutUint64(id[8:], number*0x9e3779b97f4a7c15)
	return verify.EncodeID(verify.KeyPrefix, id)
}

// newCheck returns an index without keys.
func newCheck(capacity int) (*check, error) {
	format, err := keystile.NewFormat(prefix, marker)
	if err != nil {
		return nil, err
	}
	c := &check{secrets: secrets{seed: rand.Uint64()}, index: verify.New(format, capacity), recorder: verify.NewRecorder()}
	c.index.Apply(verify.Batch{
		Workspaces: []verify.Workspace{{ID: workspaceID}},
		Roles:      []verify.Role{{ID: roleID, Name: "writer", Permissions: keystile.Permissions{"read", "write"}}},
	})
	return c, nil
}

// fill puts n keys into the index.
func (c *check) fill(ctx context.Context, n int, tell func(string)) error {
	c.n = uint64(n)
	keys := make([]verify.Key, 0, chunk)
	for number := range c.n {
		keys = append(keys, verify.Key{
			ID: keyID(number), Digest: c.secrets.digest(number), WorkspaceID: workspaceID, RoleID: roleID, Environment: marker,
		})
		if len(keys) == cap(keys) || number == c.n-1 {
			c.index.Apply(verify.Batch{Keys: keys})
			keys = keys[:0]
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if number%(1<<20) == 1<<20-1 {
				tell(fmt.Sprintf("filling an index: %d of %d keys", number, n))
			}
		}
	}
	if c.index.Len() != n {
		return fmt.Errorf("the index has %d keys instead of %d", c.index.Len(), n)
	}
	return nil
}

// layFloor makes a line of memory for each key.
func (c *check) layFloor() {
	c.lines = pages.Make[line](1, int(c.n))[0]
	for i := range c.lines.Of {
		c.lines.Of[i][0] = uint64(i)
	}
}

// floor is what no check can do without: the SHA-256 of the key, and one line
// of memory where the hash says. Each begins when the one before has ended.
func (c *check) floor(texts []string) {
	lines := c.lines.Of
	for i := range texts {
		d := keystile.Digest(texts[i+int(c.sum&uint64(c.zero))])
		at, _ := bits.Mul64(binary.LittleEndian.Uint64(d[:]), uint64(len(lines)))
		c.sum += lines[at][0]
	}
}

// checks checks each text as the server does for a request, whose time and
// address it knows: the decision, with a permission, and counting the use.
// Each begins when the one before has its record.
func (c *check) checks(texts []string, want keystile.Code, now time.Time) error {
	from := from()
	q, r := verify.Query{Permission: permission, Address: from, Now: now}, verify.Result{}
	at := 0
	for i := range texts {
		q.Secret = texts[i+at]
		c.index.Decide(&q, &r)
		c.recorder.Count(&r, r.Code, from, agent, now)
		if r.Code != want {
			return fmt.Errorf("a check said %s instead of %s", string(r.Code), string(want))
		}
		at = len(r.WorkspaceID()) & int(c.zero)
	}
	return nil
}

// from is whom the keys are presented by.
func from() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 1}) }

// singles are the costs of single checks in nanoseconds.
type singles struct {
	floor     series
	first     series // of a valid key that was not used since uses were written last
	again     series // of one that was
	unknown   series
	malformed series
}

// single measures single checks: a batch of each kind in turn, and all of them
// once more, with keys that were used by then.
func (c *check) single(ctx context.Context, turns int, s *singles) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	seed := rand.Uint64()
	var texts texts
	for pass := range 2 {
		random := rand.New(rand.NewPCG(seed, 0))
		for i := range turns {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for j := range batch {
				texts.valid[j] = random.Uint64N(c.n)
				texts.unknown[j] = c.n + uint64(i*batch+j)
			}
			valid, unknown, malformed := c.secrets.make(&texts)
			now := time.Now()
			into := &s.first
			if pass == 1 {
				into = &s.again
			}
			steps := []step{
				{&s.floor, func() error { c.floor(valid); return nil }},
				{into, func() error { return c.checks(valid, keystile.CodeValid, now) }},
				{&s.unknown, func() error { return c.checks(unknown, keystile.CodeUnknown, now) }},
				{&s.malformed, func() error { return c.checks(malformed, keystile.CodeMalformed, now) }},
			}
			if i%2 == 1 { // whoever comes second finds the texts nearer
				steps[0], steps[1] = steps[1], steps[0]
			}
			for _, one := range steps {
				began := spent()
				if err := one.do(); err != nil {
					return err
				}
				one.into.add(float64((spent() - began).Nanoseconds()) / batch)
			}
		}
	}
	c.recorder.Drain()
	return nil
}

type step struct {
	into *series
	do   func() error
}

// hot returns how much more checks of one key two processors make than one: two
// times what a check costs alone, over what it costs while the other does the
// same. It is taken from the time that the processors spend, since others may
// use them too.
func (c *check) hot(ctx context.Context, rounds int, into *series) error {
	const each = 200_000
	text := c.secrets.texts([]uint64{0})[0]
	same := slices.Repeat([]string{text}, 1000)
	for range rounds {
		var cost []float64
		for _, goroutines := range []int{1, 2} {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			took, failed := make([]time.Duration, goroutines), make([]error, goroutines)
			var all sync.WaitGroup
			for g := range goroutines {
				all.Go(func() {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					own := *c // the sums of the floor
					began, now := spent(), time.Now()
					for done := 0; done < each && failed[g] == nil; done += len(same) {
						failed[g] = own.checks(same, keystile.CodeValid, now)
					}
					took[g] = spent() - began
				})
			}
			all.Wait()
			var sum time.Duration
			for g := range goroutines {
				if failed[g] != nil {
					return failed[g]
				}
				sum += took[g]
			}
			cost = append(cost, float64(sum)/float64(goroutines))
		}
		into.add(2 * cost[0] / cost[1])
	}
	c.recorder.Drain()
	return nil
}

// allocations returns how many objects a check puts on the heap, of a valid, an
// unknown and a malformed key alike.
func (c *check) allocations() (float64, error) {
	var t texts
	for j := range batch {
		t.valid[j], t.unknown[j] = uint64(j)%c.n, c.n+uint64(j)
	}
	valid, unknown, malformed := c.secrets.make(&t)
	now := time.Now()
	const rounds = 50
	var before uint64
	for round := range rounds + 1 {
		if round == 1 { // what is counted first has taken its place
			before = objects()
		}
		err := c.checks(valid, keystile.CodeValid, now)
		if err == nil {
			err = c.checks(unknown, keystile.CodeUnknown, now)
		}
		if err == nil {
			err = c.checks(malformed, keystile.CodeMalformed, now)
		}
		if err != nil {
			return 0, err
		}
	}
	return float64(objects()-before) / (rounds * 3 * batch), nil
}
