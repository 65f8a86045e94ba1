package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/keystile/keystile/internal/store"
)

// Options say what [Run] measures.
type Options struct {
	Program  string // path of the keystile binary
	Keys     int
	Database string // PostgreSQL server to make a database of its own on; empty: none
	// Singles leaves out what takes long or does not depend on the number of
	// keys: HTTP, writes, and checks beside changes.
	Singles bool
	// InProcess leaves out all that needs a store or a server.
	InProcess bool
	// Quick measures once what is otherwise measured several times: for a look.
	Quick    bool
	Progress func(string)
}

// rounds returns how many rounds to take of what has n of them.
func (o Options) rounds(n int) int {
	if o.Quick {
		return 1
	}
	return n
}

// Report is what was measured. Times of single checks are those of the least
// disturbed twentieth of the batches, and all others medians; Spread has the
// quarters, between which half of the rounds or batches lie.
type Report struct {
	Keys       int       `json:"keys"`
	At         time.Time `json:"at"`
	GoVersion  string    `json:"go"`
	OS         string    `json:"os"`
	Arch       string    `json:"arch"`
	CPU        string    `json:"cpu,omitempty"`
	Processors int       `json:"processors"`

	// Nanoseconds of one check. The floor is the SHA-256 of the key, as package
	// crypto/sha256 has it, and one random line of memory. Verify is that of a valid key that was
	// used before; First is that of one that was not since uses were written last.
	Floor     float64 `json:"floor_ns"`
	Verify    float64 `json:"verify_ns"`
	First     float64 `json:"first_use_ns"`
	Unknown   float64 `json:"unknown_ns"`
	Malformed float64 `json:"malformed_ns"`

	Allocs      float64 `json:"allocs"` // objects on the heap for each check
	BytesPerKey float64 `json:"bytes_per_key"`
	// TwoCores is how often as many checks of one key two processors make as one.
	TwoCores float64 `json:"hot_two_cores_ratio"`
	// Collector is the collector's processor time under load, divided by that
	// with an empty index.
	Collector float64 `json:"collector_ratio"`

	// Processor time of the server for a request, divided by that of a bare one;
	// for a batch of 1000, by that of as many checks in process. 0: not measured.
	HTTP        float64 `json:"http_cpu_ratio"`
	ForwardAuth float64 `json:"forward_auth_cpu_ratio"`
	Batch       float64 `json:"batch_ratio"`
	Batch10     float64 `json:"batch_10_ratio"`
	Batch100    float64 `json:"batch_100_ratio"`
	Socket      float64 `json:"socket_cpu_ratio"` // verify on a unix socket

	// Start is how long the server takes until it answers, on a store with that
	// many keys, and Scan how long reading the same rows takes. Memory is what it
	// has then, in bytes.
	Start         float64 `json:"start_seconds"`
	Scan          float64 `json:"scan_seconds"`
	Memory        int64   `json:"server_bytes"`
	PostgresStart float64 `json:"postgres_start_seconds,omitempty"`
	PostgresScan  float64 `json:"postgres_scan_seconds,omitempty"`

	Creates float64 `json:"creates_per_second,omitempty"` // of 32 clients
	Bare    float64 `json:"bare_transactions_per_second,omitempty"`
	// Nanoseconds that 99 of 100 checks stay below: in quiet, and with so many
	// changes a second beside them.
	Quiet   float64 `json:"p99_ns,omitempty"`
	Busy    float64 `json:"p99_changing_ns,omitempty"`
	Changes float64 `json:"changes_per_second,omitempty"`

	Spread map[string][2]float64 `json:"spread"`

	samples map[string]*series // of each cost, for benchstat
}

// Run measures, in a temporary directory that it removes, also when ctx ends.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if o.Keys < 1 {
		return nil, errors.New("measuring needs at least one key")
	}
	dir, err := os.MkdirTemp("", "keystile-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary directory, which TMPDIR says where to: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = &Report{
		Keys: o.Keys, At: time.Now().UTC().Truncate(time.Second), GoVersion: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		CPU: processor(), Processors: runtime.NumCPU(), Spread: map[string][2]float64{}, samples: map[string]*series{},
	}
	steps := []func(context.Context, Options, string) error{r.inProcess}
	if !o.InProcess {
		steps = append(steps, r.atStart)
	}
	if !o.InProcess && !o.Singles {
		steps = append(steps, r.writing, r.overHTTP)
	}
	for _, step := range steps {
		if err := step(ctx, o, dir); err != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
	}
	return r, nil
}

// Reach tries whether a database can be made on a PostgreSQL server, and dropped:
// what would be found out after minutes otherwise.
func Reach(ctx context.Context, server string) error {
	_, drop, err := store.ScratchDatabase(ctx, server)
	if err != nil {
		return err
	}
	return drop(ctx)
}

// inProcess measures the index.
func (r *Report) inProcess(ctx context.Context, o Options, _ string) error {
	o.Progress("measuring the collector with an empty index")
	empty, err := newCheck(0)
	if err != nil {
		return err
	}
	var without, with series
	round := func(c *check, into *series) error {
		for range o.rounds(5) {
			took, err := c.collector(ctx)
			if err != nil {
				return err
			}
			into.add(took)
		}
		return nil
	}
	if err := round(empty, &without); err != nil {
		return err
	}
	o.Progress(fmt.Sprintf("filling an index with %d keys", o.Keys))
	c, err := newCheck(o.Keys)
	if err != nil {
		return err
	}
	if err := c.fill(ctx, o.Keys, o.Progress); err != nil {
		return err
	}
	r.BytesPerKey = float64(c.index.Bytes()) / float64(o.Keys)
	o.Progress(fmt.Sprintf("measuring the collector with %d keys", o.Keys))
	if err := round(c, &with); err != nil {
		return err
	}
	c.layFloor()
	var s singles
	o.Progress("measuring single checks")
	if err := c.single(ctx, o.rounds(turns), &s); err != nil {
		return err
	}
	r.Floor = s.floor.undisturbed()
	r.Verify, r.First = s.again.undisturbed(), s.first.undisturbed()
	r.Unknown, r.Malformed = s.unknown.undisturbed(), s.malformed.undisturbed()
	for name, one := range map[string]*series{
		"floor_ns": &s.floor, "verify_ns": &s.again, "first_use_ns": &s.first, "unknown_ns": &s.unknown, "malformed_ns": &s.malformed,
	} {
		r.keep(name, one)
	}
	if r.Allocs, err = c.allocations(); err != nil {
		return err
	}
	if r.Processors > 1 {
		o.Progress("measuring one key on two processors")
		var hot series
		if err := c.hot(ctx, o.rounds(9), &hot); err != nil {
			return err
		}
		r.TwoCores = hot.median()
		r.keep("hot_two_cores_ratio", &hot)
	}
	// Once more without the keys, so that what the machine does meanwhile
	// counts on both sides.
	c = nil
	if err := round(empty, &without); err != nil {
		return err
	}
	r.Collector = with.median() / without.median()
	r.Spread["collector_ratio"] = [2]float64{with.at(0.25) / without.median(), with.at(0.75) / without.median()}
	return nil
}

// keep notes the spread of a cost, and all of it for benchstat.
func (r *Report) keep(name string, s *series) {
	r.Spread[name] = s.spread()
	r.samples[name] = s
}

// atStart measures starts of the server.
func (r *Report) atStart(ctx context.Context, o Options, dir string) error {
	rounds := o.rounds(3)
	if o.Keys > 2_000_000 {
		rounds = o.rounds(2)
	}
	s, err := starts(ctx, o.Program, store.Options{Dir: filepath.Join(dir, "start")}, o.Keys, rounds, o.Progress)
	if err != nil {
		return err
	}
	r.Start, r.Scan, r.Memory = s.server.at(0), s.scan.at(0), s.memory
	r.keep("start_seconds", &s.server)
	r.keep("scan_seconds", &s.scan)
	if err := os.RemoveAll(filepath.Join(dir, "start")); err != nil || o.Database == "" {
		return err
	}
	own, drop, err := store.ScratchDatabase(ctx, o.Database)
	if err != nil {
		return err
	}
	defer func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_ = drop(limited)
	}()
	if s, err = starts(ctx, o.Program, store.Options{URL: own}, o.Keys, rounds, o.Progress); err != nil {
		return err
	}
	r.PostgresStart, r.PostgresScan = s.server.at(0), s.scan.at(0)
	r.keep("postgres_start_seconds", &s.server)
	r.keep("postgres_scan_seconds", &s.scan)
	return nil
}

// writing measures what is written, and checks beside it.
func (r *Report) writing(ctx context.Context, o Options, dir string) (err error) {
	own := filepath.Join(dir, "write")
	d, err := open(ctx, store.Options{Dir: own, Serve: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close(ctx)) }()
	o.Progress("measuring writes")
	w, err := d.measureWrites(ctx, dir, o.rounds(3))
	if err != nil {
		return err
	}
	r.Creates, r.Bare = w.creates.median(), w.bare.median()
	r.keep("creates_per_second", &w.creates)
	r.keep("bare_transactions_per_second", &w.bare)
	o.Progress("measuring checks beside changes")
	p, err := d.measureChanging(ctx, o.rounds(3))
	if err != nil {
		return err
	}
	r.Quiet, r.Busy, r.Changes = p.quiet.median(), p.busy.median(), p.perSecond.median()
	r.keep("p99_ns", &p.quiet)
	r.keep("p99_changing_ns", &p.busy)
	return nil
}

// httpKeys is how many keys the server has that is measured over HTTP: they are
// made through its API, and how many there are makes little difference there.
const httpKeys = 10_000

func (r *Report) overHTTP(ctx context.Context, o Options, _ string) error {
	h := HTTPOptions{Program: o.Program, Keys: min(o.Keys, httpKeys), Rounds: o.rounds(5), Progress: o.Progress}
	if o.Quick {
		h.Requests = 4000
	}
	ratios, err := HTTP(ctx, h)
	if errors.Is(err, errors.ErrUnsupported) {
		o.Progress("not measured over HTTP: " + err.Error())
		return nil
	}
	r.HTTP, r.ForwardAuth, r.Socket = ratios.Verify, ratios.ForwardAuth, ratios.Socket
	r.Batch, r.Batch10, r.Batch100 = ratios.Batch, ratios.Batch10, ratios.Batch100
	r.Spread["http_cpu_ratio"], r.Spread["forward_auth_cpu_ratio"], r.Spread["batch_ratio"] = ratios.VerifySpread, ratios.ForwardAuthSpread, ratios.BatchSpread
	return err
}
