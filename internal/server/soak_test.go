package server_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

var ( //nolint:gochecknoglobals // flags of the test binary
	soakFor  = flag.Duration("soak", 20*time.Second, "for how long TestSoak lets things go wrong")
	soakSeed = flag.Uint64("seed", 0, "of what goes wrong in TestSoak; 0 for a new one")
)

// settling is for how long a server may still refuse what was given back: what
// widens access waits for nobody.
const settling = 25 * time.Second

// fleet is several servers and agents on a primary with a synchronous standby,
// each behind a network of its own.
type fleet struct {
	t                *testing.T
	binary           string
	begin            time.Time
	primary, standby *pgtest.Server
	members          []*member
	operator, tenant string
	replica          string    // key that agents attach with
	via              []*member // servers that changes are asked of

	mu   sync.Mutex
	live map[string]*subject // by secret
	all  []*subject
	done chan struct{}
	work sync.WaitGroup
	asks atomic.Int64
}

// member is a server or an agent.
type member struct {
	name  string
	agent bool
	flags []string
	links []*pgtest.Link
	busy  sync.Mutex // held by the fault that it suffers
	mu    sync.Mutex
	url   string
	now   *process
}

func (m *member) process() *process { m.mu.Lock(); defer m.mu.Unlock(); return m.now }
func (m *member) at() string        { m.mu.Lock(); defer m.mu.Unlock(); return m.url }

// subject is a key under observation.
type subject struct {
	history
	id, secret string
}

func (f *fleet) at() time.Duration { return time.Since(f.begin) }

func newFleet(t *testing.T, binary string, servers, agents int) *fleet {
	t.Helper()
	f := &fleet{t: t, binary: binary, begin: time.Now(), live: map[string]*subject{}, done: make(chan struct{})}
	f.primary, f.standby = pgtest.StartPair(t, true)
	for i := range servers {
		m := &member{name: fmt.Sprintf("server %d", i)}
		var hosts []string
		var last *url.URL
		for _, db := range []*pgtest.Server{f.primary, f.standby} {
			link, through := pgtest.NewLink(t, db.URL("postgres"))
			m.links = append(m.links, link)
			u, err := url.Parse(through)
			if err != nil {
				t.Fatal(err)
			}
			hosts, last = append(hosts, u.Host), u
		}
		last.Host = strings.Join(hosts, ",")
		m.flags = []string{"--database", last.String()}
		f.members = append(f.members, m)
		f.launch(m)
	}
	f.via = f.members[:servers:servers]
	first := f.members[0].process()
	first.store = f.members[0].flags
	f.operator = first.admin("key")
	f.tenant = first.tenant(f.operator)
	f.replica = first.admin("key", "--role", "replica")
	for i := range agents {
		m := &member{name: fmt.Sprintf("agent %d", i), agent: true}
		for j := range servers {
			// Each agent prefers another server.
			link, through := pgtest.NewLink(t, f.members[(i+j)%servers].url)
			m.links = append(m.links, link)
			m.flags = append(m.flags, "--url", through)
		}
		f.members = append(f.members, m)
		f.launch(m)
	}
	return f
}

// lastingAddress is free, and stays so while nobody listens there: systems take
// the ports of outgoing connections from 32768 upwards.
func lastingAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(10000+rand.IntN(20000))) //nolint:gosec // no secret
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("there is no free port between 10000 and 30000")
	return ""
}

// launch starts a member at its address, or at a new one the first time.
func (f *fleet) launch(m *member) {
	f.t.Helper()
	listen := strings.TrimPrefix(m.at(), "http://")
	if listen == "" {
		listen = lastingAddress(f.t)
	}
	words := []string{"serve", "--listen", listen, "--flush-interval", "1s"}
	if m.agent {
		words = []string{"agent", "--listen", listen, "--open"}
	}
	for try := 1; ; try++ {
		cmd := exec.Command(f.binary, append(words, m.flags...)...)
		cmd.Env = append(environment(), "KEYSTILE_KEY="+f.replica)
		p, err := tryStart(f.t, cmd, m.flags)
		if err == nil {
			m.mu.Lock()
			m.now, m.url = p, p.url
			m.mu.Unlock()
			return
		}
		// While the database is away nothing starts; whoever runs it tries again.
		if try == 100 {
			f.t.Errorf("%s: %v", m.name, err)
			return
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// relaunch starts a member that has ended, as soon as that is possible.
func (f *fleet) relaunch(m *member) {
	for {
		listen := strings.TrimPrefix(m.at(), "http://")
		if l, err := net.Listen("tcp", listen); err == nil {
			_ = l.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.launch(m)
}

// ask asks one member about one key and notes what it says.
func (f *fleet) ask(m *member, s *subject) {
	from := f.at()
	r, err := tryCall(quick, "GET", m.at()+"/v1/forward-auth", bearer(s.secret), nil)
	to := f.at()
	if err != nil {
		return // it has ended, or stands still
	}
	f.asks.Add(1)
	switch r.status {
	case http.StatusOK:
		s.add(accepted, from, to)
	case http.StatusUnauthorized, http.StatusForbidden:
		var p keystile.Error
		// A server that is cut off may not know a new key for the rest of its lease.
		if json.Unmarshal(r.body, &p) == nil && p.Code != keystile.CodeUnknown {
			s.add(refused, from, to)
		}
	case http.StatusServiceUnavailable:
	default:
		f.t.Errorf("%s says %s", m.name, r)
	}
}

// quick gives up on a member that stands still.
var quick = &http.Client{Timeout: 3 * time.Second} //nolint:gochecknoglobals // shares connections

// asker asks a member about all keys, again and again.
func (f *fleet) asker(m *member) {
	for {
		f.mu.Lock()
		var subjects []*subject
		for _, s := range f.live {
			subjects = append(subjects, s)
		}
		f.mu.Unlock()
		for _, s := range subjects {
			f.ask(m, s)
			select {
			case <-f.done:
				return
			case <-time.After(3 * time.Millisecond):
			}
		}
		select {
		case <-f.done:
			return
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// insist sends a request to one server after the other until it succeeds, and
// now and then twice at once, and returns when it was sent first and when it
// succeeded; false when the end came before.
func (f *fleet) insist(random *rand.Rand, method, path string, body any) (r reply, from, to time.Duration, ok bool) {
	from = f.at()
	for {
		m := f.via[random.IntN(len(f.via))]
		if random.IntN(8) == 0 {
			go func() { _, _ = tryCall(slow, method, m.at()+path, bearer(f.operator), body) }()
		}
		r, err := tryCall(slow, method, m.at()+path, bearer(f.operator), body)
		if err == nil && r.status < 300 {
			return r, from, f.at(), true
		}
		if err == nil && r.status < 500 && r.status != http.StatusNotFound && r.status != http.StatusConflict {
			f.t.Errorf("%s %s: %s", method, path, r)
		}
		select {
		case <-f.done:
			return r, from, forever, false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// slow waits for a barrier.
var slow = &http.Client{Timeout: 20 * time.Second} //nolint:gochecknoglobals // shares connections

// worker makes keys and takes them away, in every way there is.
func (f *fleet) worker(random *rand.Rand) {
	for !f.over() {
		made, ok := f.create(random)
		if !ok {
			return
		}
		wait := func(most time.Duration) { time.Sleep(rand.N(most)) } //nolint:gosec // no secret
		change := func(begins, ends act, method, path string, body any) bool {
			if f.over() {
				return false
			}
			_, from, to, ok := f.insist(random, method, path, body)
			made.add(begins, from, to)
			if ends == openEnds && ok {
				to += settling
			}
			made.add(ends, from, to)
			return ok
		}
		at := "/v1/keys/" + made.id
		for range random.IntN(3) {
			wait(400 * time.Millisecond)
			if random.IntN(2) == 0 {
				if !change(closeBegins, closeEnds, "POST", at+"/disable", nil) {
					return
				}
				wait(400 * time.Millisecond)
				if !change(openBegins, openEnds, "POST", at+"/enable", nil) {
					return
				}
			} else {
				if !change(closeBegins, closeEnds, "PATCH", at, `{"ip_allowlist": ["203.0.113.0/24"]}`) {
					return
				}
				wait(400 * time.Millisecond)
				if !change(openBegins, openEnds, "PATCH", at, `{"ip_allowlist": []}`) {
					return
				}
			}
		}
		wait(500 * time.Millisecond)
		if !change(closeBegins, closeEnds, "POST", at+"/revoke", nil) {
			return
		}
		wait(time.Second)
		f.mu.Lock()
		delete(f.live, made.secret)
		f.mu.Unlock()
	}
}

// over tells whether the end has come.
func (f *fleet) over() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// create makes a key.
func (f *fleet) create(random *rand.Rand) (*subject, bool) {
	r, _, _, ok := f.insist(random, "POST", "/v1/workspaces/"+f.tenant+"/keys", `{"name": "Key"}`)
	if !ok {
		return nil, false
	}
	var made keystile.CreatedKey
	if err := json.Unmarshal(r.body, &made); err != nil {
		f.t.Errorf("%s: %v", r, err)
		return nil, false
	}
	s := &subject{id: made.Key.ID, secret: made.Secret}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[s.secret] = s
	f.all = append(f.all, s)
	return s, true
}

// harm lets one thing go wrong and be mended again.
func (f *fleet) harm(random *rand.Rand) {
	m := f.members[random.IntN(len(f.members))]
	if !m.busy.TryLock() {
		return
	}
	// So that something goes on: never all at once.
	span := time.Duration(random.Int64N(int64(4 * time.Second)))
	if *soakFor > time.Minute && random.IntN(4) == 0 {
		span += 14 * time.Second // past any lease
	}
	what := random.IntN(7)
	delay := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
	names := [...]string{"kill -9", "SIGSTOP", "stop", "network cut", "network stalled", "network silent", "network slow"}
	f.t.Logf("%7.3f %s: %s for %s", f.at().Seconds(), m.name, names[what], span.Round(time.Millisecond))
	f.work.Go(func() {
		defer m.busy.Unlock()
		rest := func() {
			select {
			case <-f.done:
			case <-time.After(span):
			}
		}
		network := func(s pgtest.LinkState) {
			for _, l := range m.links {
				l.Set(s)
			}
		}
		p := m.process()
		switch what {
		case 0:
			p.kill()
			rest()
			f.relaunch(m)
		case 1:
			_ = p.cmd.Process.Signal(syscall.SIGSTOP)
			rest()
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
		case 2:
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			<-p.ended
			if p.err != nil && !strings.Contains(p.stderr.String(), "context deadline exceeded") {
				f.t.Logf("%s ended with %v", m.name, p.err)
			}
			rest()
			f.relaunch(m)
		case 3, 4, 5:
			network([]pgtest.LinkState{pgtest.Cut, pgtest.Stalled, pgtest.Silent}[what-3])
			rest()
			network(pgtest.Up)
		case 6:
			for _, l := range m.links {
				l.Slow(delay)
			}
			rest()
			for _, l := range m.links {
				l.Slow(0)
			}
		}
	})
}

// failover takes the primary away for good.
func (f *fleet) failover() {
	f.t.Logf("%7.3f the primary dies, the standby takes over", f.at().Seconds())
	f.primary.Stop(f.t)
	f.standby.Promote(f.t)
}

// run lets clients and faults loose, and then judges. It returns how many keys
// could not have behaved as they did.
func (f *fleet) run(seed uint64, span time.Duration, withFailover bool) (bad int) {
	f.t.Helper()
	for i := range 3 {
		f.work.Go(func() { f.worker(rand.New(rand.NewPCG(seed, uint64(i)))) }) //nolint:gosec // no secret
	}
	var askers sync.WaitGroup
	for _, m := range f.members {
		askers.Go(func() { f.asker(m) })
	}
	random := rand.New(rand.NewPCG(seed, 1<<32)) //nolint:gosec // no secret
	failed := !withFailover
	for end := time.Now().Add(span); time.Now().Before(end); {
		time.Sleep(time.Duration(random.Int64N(int64(2500 * time.Millisecond))))
		if !failed && time.Until(end) < span/2 {
			failed = true
			f.failover()
		}
		f.harm(random)
	}
	// What is broken is mended, and everything goes on a little longer: on a slow
	// machine until there is enough to judge.
	time.Sleep(2 * time.Second)
	for end := time.Now().Add(time.Minute); !f.enough() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	close(f.done)
	f.work.Wait()
	askers.Wait()
	ops := 0
	for _, s := range f.all {
		ops += len(s.ops)
		switch s.judge() {
		case porcupine.Illegal:
			bad++
		case porcupine.Unknown:
			f.t.Errorf("the judge did not come to an end with %d steps of a key", len(s.ops))
		}
	}
	f.t.Logf("%d keys, %d steps, %d answers", len(f.all), ops, f.asks.Load())
	return bad
}

// enough tells whether there is anything to judge.
func (f *fleet) enough() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all) >= 5 && f.asks.Load() >= 500
}

// TestSoak: servers and agents die, freeze, lose their networks and their
// database, while keys are made and taken away. No key is accepted after the
// call that took it away has returned, and none refused without a reason.
//
// make soak runs it for 30 minutes. What went wrong and when comes back with
// -seed, as far as the machine keeps time.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d -soak %s", seed, *soakFor)
	f := newFleet(t, program(t), 2, 1)
	if bad := f.run(seed, *soakFor, true); bad > 0 {
		t.Errorf("P1: %d of %d keys could not have behaved so; -seed %d", bad, len(f.all), seed)
	}
	if !f.enough() {
		t.Errorf("only %d keys were made and %d questions answered", len(f.all), f.asks.Load())
	}
}

// TestSoakFindsFaults: a build without the barrier is found out.
func TestSoakFindsFaults(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "keystile")
	if out, err := build(binary, "-tags", "keystile_without_barrier"); err != nil {
		t.Fatalf("building without the barrier: %v\n%s", err, out)
	}
	f := newFleet(t, binary, 2, 0)
	m := f.members[1]
	f.via = f.members[:1]
	bad := 0
	for round := 0; bad == 0 && round < 10; round++ { // a busy machine may get little done in one
		f.done = make(chan struct{})
		for i := range 3 {
			f.work.Go(func() { f.worker(rand.New(rand.NewPCG(uint64(round), uint64(i)))) }) //nolint:gosec // no secret
		}
		f.work.Go(func() { f.asker(m) })
		time.Sleep(2 * time.Second)
		for _, l := range m.links { // it answers from its lease, and hears of nothing
			l.Set(pgtest.Stalled)
		}
		time.Sleep(8 * time.Second)
		for _, l := range m.links {
			l.Set(pgtest.Up)
		}
		close(f.done)
		f.work.Wait()
		for _, s := range f.all {
			if s.judge() == porcupine.Illegal {
				bad++
			}
		}
	}
	if bad == 0 {
		t.Errorf("nothing is found in %d keys", len(f.all))
	}
	t.Logf("%d of %d keys were accepted after their revoke", bad, len(f.all))
}
