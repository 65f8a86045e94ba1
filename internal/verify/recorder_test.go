package verify_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// spot is what a Use is one of.
type spot struct {
	key     string
	code    keystile.Code
	address netip.Addr
}

// bySpot fails the test when two uses share one.
func bySpot(t interface{ Fatalf(string, ...any) }, uses []verify.Use) map[spot]verify.Use {
	m := map[spot]verify.Use{}
	for _, u := range uses {
		s := spot{u.KeyID, u.Code, u.Address}
		if _, twice := m[s]; twice {
			t.Fatalf("%v twice in one drain", s)
		}
		m[s] = u
	}
	return m
}

func total(uses []verify.Use) (n int64) {
	for _, u := range uses {
		n += u.Count
	}
	return n
}

func TestUsesBySource(t *testing.T) {
	a, b := mint(t), mint(t)
	k := newKey(2, b)
	k.WorkspaceID = other
	x := newIndex(t, newKey(1, a), k)
	c := verify.NewRecorder()
	ra, rb := decide(x, ask(a)), decide(x, ask(b))
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }

	c.Count(&ra, keystile.CodeValid, address(1), "curl", at(0))
	c.Count(&ra, keystile.CodeValid, address(1), "curl", at(5))
	c.Count(&ra, keystile.CodeValid, netip.AddrFrom16(address(1).As16()), "curl", at(7)) // the same, mapped
	c.Count(&ra, keystile.CodeValid, address(2), "curl", at(1))
	c.Count(&ra, keystile.CodeValid, address(2), "wget", at(2))
	c.Count(&ra, keystile.CodeIPNotAllowed, address(1), "curl", at(3))
	c.Count(&ra, keystile.CodeIPNotAllowed, address(1), "curl", at(4))
	c.Count(&ra, keystile.CodeValid, netip.Addr{}, "", at(6))
	c.Count(&rb, keystile.CodeValid, netip.MustParseAddr("fe80::1%eth0"), "go", at(8))
	c.Count(&rb, keystile.CodeValid, netip.MustParseAddr("fe80::1"), "go", at(9))

	got := bySpot(t, c.Drain())
	want := []verify.Use{
		{keyID(1), acme, keystile.CodeValid, address(1), "curl", 3, at(0), at(7)},
		{keyID(1), acme, keystile.CodeValid, address(2), "wget", 2, at(1), at(2)},
		{keyID(1), acme, keystile.CodeIPNotAllowed, address(1), "curl", 2, at(3), at(4)},
		{keyID(1), acme, keystile.CodeValid, netip.Addr{}, "", 1, at(6), at(6)},
		{keyID(2), other, keystile.CodeValid, netip.MustParseAddr("fe80::1"), "go", 2, at(8), at(9)},
	}
	for _, w := range want {
		if g := got[spot{w.KeyID, w.Code, w.Address}]; g != w {
			t.Errorf("got  %+v\nwant %+v", g, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d uses, want %d", len(got), len(want))
	}
	if again := c.Drain(); len(again) != 0 {
		t.Errorf("drained twice: %+v", again)
	}
	c.Count(&ra, keystile.CodeValid, address(1), "curl", at(20))
	if again := c.Drain(); len(again) != 1 || again[0].Count != 1 || !again[0].First.Equal(at(20)) {
		t.Errorf("after the drain: %+v", again)
	}
}

// The user agent of the last use stays, from whichever place it was counted.
func TestLastUserAgent(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	c := verify.NewRecorder()
	r := decide(x, ask(secret))
	for i, agent := range []string{"a", "b", "b", "a", "a", "c"} {
		c.Count(&r, keystile.CodeValid, address(1), agent, noon.Add(time.Duration(i)*time.Second))
	}
	uses := c.Drain()
	if len(uses) != 1 || uses[0].UserAgent != "c" || uses[0].Count != 6 || !uses[0].Last.Equal(noon.Add(5*time.Second)) {
		t.Errorf("got %+v", uses)
	}
}

func TestUserAgentsAreCutAndCleaned(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	c := verify.NewRecorder()
	for agent, want := range map[string]string{
		"curl/8.5.0":                      "curl/8.5.0",
		"a\r\nb\x00c\x1b[31m\x7f\u0085d":  "abc[31md",
		"zero\u200bwidth\u202eturned":     "zerowidthturned",
		"bad \xff\xfe UTF-8":              "bad  UTF-8",
		strings.Repeat("x", 1000):         strings.Repeat("x", 200),
		strings.Repeat("x", 199) + "ü":    strings.Repeat("x", 199),
		strings.Repeat("x", 198) + "üyyy": strings.Repeat("x", 198) + "ü",
		strings.Repeat("\xbf", 300):       "",
	} {
		for _, code := range []keystile.Code{keystile.CodeValid, keystile.CodeRevoked} {
			r := decide(x, ask(secret))
			c.Count(&r, code, address(1), agent, noon)
			uses := c.Drain()
			if len(uses) != 1 || uses[0].UserAgent != want {
				t.Errorf("%q: %+v", agent, uses)
			} else if got := uses[0].UserAgent; len(got) > 200 || !utf8.ValidString(got) {
				t.Errorf("%q became %q", agent, got)
			}
		}
	}
	// So many that not all can be kept: no count is lost.
	for i := range 5000 {
		r := decide(x, ask(secret))
		c.Count(&r, keystile.CodeValid, address(1), fmt.Sprint("agent ", i), noon)
	}
	if uses := c.Drain(); len(uses) != 1 || uses[0].Count != 5000 {
		t.Errorf("got %+v", uses)
	}
}

func TestManyUsesOfOneKey(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	c := verify.NewRecorder()
	r := decide(x, ask(secret))
	const n = 20000 // some times what a record can count to
	for i := range n {
		c.Count(&r, keystile.CodeValid, address(1), "", noon.Add(time.Duration(i)*time.Millisecond))
	}
	uses := c.Drain()
	if len(uses) != 1 || uses[0].Count != n || !uses[0].First.Equal(noon) || !uses[0].Last.Equal(noon.Add((n-1)*time.Millisecond)) {
		t.Errorf("got %+v", uses)
	}
}

func TestTimesFarApartWithoutADrain(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	c := verify.NewRecorder()
	r := decide(x, ask(secret))
	const day = 24 * time.Hour
	for _, d := range []time.Duration{0, -day / 2, 17 * time.Hour, day, 365 * day, 3 * day, 40 * day, -100 * day, time.Hour} {
		c.Count(&r, keystile.CodeValid, address(1), "", noon.Add(d))
	}
	uses := c.Drain()
	if len(uses) != 1 || uses[0].Count != 9 || !uses[0].First.Equal(noon.Add(-100*day)) || !uses[0].Last.Equal(noon.Add(365*day)) {
		t.Errorf("got %+v", uses)
	}
	// The record keeps 28 bits of a time: this is an hour short of going round.
	late := noon.Add(1<<28*time.Millisecond - time.Hour)
	c.Count(&r, keystile.CodeValid, address(1), "", noon)
	c.Count(&r, keystile.CodeValid, address(1), "", late)
	if uses := c.Drain(); len(uses) != 1 || !uses[0].First.Equal(noon) || !uses[0].Last.Equal(late) {
		t.Errorf("a round later: %+v", uses)
	}
	c.Count(&r, keystile.CodeValid, address(1), "", time.Unix(0, 0))
	c.Count(&r, keystile.CodeValid, address(1), "", time.Unix(-5, 0))
	c.Count(&r, keystile.CodeValid, address(1), "", time.Unix(5, 0))
	if uses := c.Drain(); len(uses) != 1 || uses[0].Count != 3 || !uses[0].Last.Equal(time.Unix(5, 0)) {
		t.Errorf("around 1970: %+v", uses)
	}
}

func TestAddressesOfAKeyAreBounded(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	c := verify.NewRecorder()
	r := decide(x, ask(secret))
	const n = 1000
	for range 2 { // a drain gives back everything that was taken up
		for i := range n {
			c.Count(&r, keystile.CodeValid, address(i), "", noon)
			c.Count(&r, keystile.CodeValid, address(i), "", noon)
		}
		uses := c.Drain()
		all := bySpot(t, uses)
		if len(all) != 65 || total(uses) != 2*n {
			t.Errorf("%d sources with %d uses, want 65 with %d", len(all), total(uses), 2*n)
		}
		if rest := all[spot{keyID(1), keystile.CodeValid, netip.Addr{}}]; rest.Count != 2*(n-64) {
			t.Errorf("%d uses without an address, want %d", rest.Count, 2*(n-64))
		}
	}
}

// sameShard is a key's number; all of them fall into one 64th of the recorder.
func sameShard(n int) int { return 64 * n }

func TestAddressesOfAllKeysAreBounded(t *testing.T) {
	const keys, addresses = 200, 45
	c := verify.NewRecorder()
	x := newIndex(t)
	var n int64
	for i := range keys {
		secret := mint(t)
		x.Apply(verify.Batch{Keys: []verify.Key{newKey(sameShard(i), secret)}})
		r := decide(x, ask(secret))
		for j := range addresses {
			c.Count(&r, keystile.CodeValid, address(j), "", noon)
			n++
		}
	}
	uses := c.Drain()
	if got := total(uses); got != n {
		t.Errorf("%d uses, want %d", got, n)
	}
	// One beside each record, one without address, and the bound.
	if most := 2*keys + 4096; len(uses) > most || len(uses) < 4096 {
		t.Errorf("%d sources, want from 4096 to %d", len(uses), most)
	}
}

func TestMisses(t *testing.T) {
	secret := mint(t)
	x := newIndex(t)
	c := verify.NewRecorder()
	for i := range 5 {
		q := ask(secret)
		if i < 2 {
			q.Secret = "nonsense"
		}
		r := decide(x, q)
		c.Count(&r, r.Code, address(i), "agent", noon)
	}
	got := map[keystile.Code]int64{}
	for _, m := range c.DrainMisses() {
		got[m.Code] += m.Count
	}
	if got[keystile.CodeMalformed] != 2 || got[keystile.CodeUnknown] != 3 || len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if uses := c.Drain(); len(uses) != 0 {
		t.Errorf("drained %+v", uses)
	}
}

func TestRestore(t *testing.T) {
	a, b := mint(t), mint(t)
	x := newIndex(t, newKey(1, a), newKey(2, b))
	c := verify.NewRecorder()
	ra, rb := decide(x, ask(a)), decide(x, ask(b))
	c.Count(&ra, keystile.CodeValid, address(1), "old", noon)
	c.Count(&ra, keystile.CodeRevoked, netip.Addr{}, "", noon)
	failed := c.Drain()
	c.Count(&ra, keystile.CodeValid, address(1), "new", noon.Add(time.Minute))
	c.Count(&rb, keystile.CodeValid, address(1), "", noon)
	c.Restore(append(failed, verify.Use{KeyID: "key_made_up", Count: 1}))
	got := bySpot(t, c.Drain())
	want := verify.Use{keyID(1), acme, keystile.CodeValid, address(1), "new", 2, noon, noon.Add(time.Minute)}
	if u := got[spot{keyID(1), keystile.CodeValid, address(1)}]; u != want {
		t.Errorf("got  %+v\nwant %+v", u, want)
	}
	if len(got) != 3 || got[spot{keyID(1), keystile.CodeRevoked, netip.Addr{}}].Count != 1 {
		t.Errorf("got %+v", got)
	}
}

// A database that is away for long must not fill memory.
func TestRestoredIsBounded(t *testing.T) {
	c := verify.NewRecorder()
	const n, keys = 10_000, 100
	uses := make([]verify.Use, n)
	for i := range uses {
		uses[i] = verify.Use{KeyID: keyID(sameShard(i % keys)), WorkspaceID: acme, Code: keystile.CodeValid, Address: address(i), Count: 1, First: noon, Last: noon}
	}
	c.Restore(uses)
	got := c.Drain()
	if total(got) != n || len(got) > 4096+keys {
		t.Errorf("%d sources with %d uses", len(got), total(got))
	}
	for i := range uses {
		uses[i].KeyID = keyID(1)
	}
	c.Restore(uses)
	if got := c.Drain(); total(got) != n || len(got) > 65 {
		t.Errorf("one key: %d sources with %d uses", len(got), total(got))
	}
}

// TestUsesSurviveWhatHappensToTheirKey counts with results that are older than
// what the index did to their records.
func TestUsesSurviveWhatHappensToTheirKey(t *testing.T) {
	const n = 2000
	secrets := make([]string, n)
	keys := make([]verify.Key, n)
	ids := make([]string, n)
	results := make([]verify.Result, n)
	x := newIndex(t)
	for i := range keys {
		secrets[i] = mint(t)
		keys[i] = newKey(i, secrets[i])
		ids[i] = keys[i].ID
	}
	x.Apply(verify.Batch{Keys: keys})
	for i := range results {
		results[i] = decide(x, ask(secrets[i]))
	}
	c := verify.NewRecorder()
	counted := int64(0)
	countAll := func() {
		counted++
		for _, r := range results {
			c.Count(&r, keystile.CodeValid, address(1), "", noon)
		}
	}
	check := func(name string) {
		t.Helper()
		got := bySpot(t, c.Drain())
		for _, id := range ids {
			if u := got[spot{id, keystile.CodeValid, address(1)}]; u.Count != counted || u.WorkspaceID != acme {
				t.Fatalf("%s: %+v, want %d", name, u, counted)
			}
		}
		if len(got) != n {
			t.Errorf("%s: %d sources", name, len(got))
		}
		counted = 0
	}
	fresh := func() {
		for i := range results {
			results[i] = decide(x, ask(secrets[i]))
		}
	}

	countAll()
	x.Apply(verify.Batch{GoneKeys: ids})
	countAll() // of keys that are gone
	x.Apply(verify.Batch{Keys: keys})
	countAll() // in their former slots
	fresh()
	countAll()
	check("deleted and put back")

	x.Apply(verify.Batch{GoneKeys: ids})
	countAll()
	check("deleted before the first count")

	x.Apply(verify.Batch{Keys: keys})
	fresh()
	countAll()
	var more verify.Batch
	for i := range 3 * n {
		more.Keys = append(more.Keys, newKey(n+i, mint(t)))
	}
	x.Apply(more) // all tables grow
	countAll()
	fresh()
	countAll()
	check("tables grew")

	countAll()
	x = newIndex(t, keys...) // loaded anew
	countAll()
	fresh()
	countAll()
	check("another index")

	// The slots go to other keys, used from the same address.
	x.Apply(verify.Batch{GoneKeys: ids})
	strangers := make([]verify.Key, n)
	tokens := make([]string, n)
	for i := range strangers {
		tokens[i] = mint(t)
		strangers[i] = newKey(100_000+i, tokens[i])
	}
	x.Apply(verify.Batch{Keys: strangers})
	countAll()
	for _, token := range tokens {
		r := decide(x, ask(token))
		c.Count(&r, keystile.CodeValid, address(1), "", noon)
	}
	countAll()
	got := bySpot(t, c.Drain())
	for i := range ids {
		mine, its := got[spot{ids[i], keystile.CodeValid, address(1)}], got[spot{strangers[i].ID, keystile.CodeValid, address(1)}]
		if mine.Count != 2 || its.Count != 1 {
			t.Fatalf("key %d: %d of 2 uses, and %d of 1 of the one that may have its slot", i, mine.Count, its.Count)
		}
	}
}

// TestNoUseIsLost counts, drains and changes the index all at once, and finds
// every use again, at its key, code and address.
func TestNoUseIsLost(t *testing.T) {
	const keys, each = 60, 30_000
	secrets := make([]string, keys)
	all := make([]verify.Key, keys)
	for i := range all {
		secrets[i] = mint(t)
		all[i] = newKey(i, secrets[i])
	}
	x := newIndex(t, all...)
	c := verify.NewRecorder()
	var counting, rest sync.WaitGroup
	var done atomic.Bool
	counted := make([]map[spot]int64, readers)
	for g := range readers {
		counted[g] = map[spot]int64{}
		counting.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 2))
			for i := range each {
				// Mostly the same key from the same address, as in life.
				k, from, code := random.IntN(3), address(1), keystile.CodeValid
				switch random.IntN(10) {
				case 0:
					k = random.IntN(keys)
				case 1:
					from = address(random.IntN(5))
				case 2:
					code = keystile.CodeIPNotAllowed
				}
				r := decide(x, ask(secrets[k]))
				if !r.Known() {
					continue // deleted just now
				}
				c.Count(&r, code, from, "agent", noon.Add(time.Duration(i)*time.Millisecond))
				counted[g][spot{keyID(k), code, from}]++
			}
		})
	}
	found := map[spot]int64{}
	drain := func() {
		for s, u := range bySpot(t, c.Drain()) {
			found[s] += u.Count
			if u.Count <= 0 || u.First.After(u.Last) || u.UserAgent != "agent" || u.WorkspaceID != acme {
				t.Errorf("%+v", u)
			}
		}
	}
	rest.Go(func() { // deletes keys and puts them back, and makes tables grow
		random := rand.New(rand.NewPCG(1, 3))
		for i := 0; !done.Load(); i++ {
			k := random.IntN(keys)
			x.Apply(verify.Batch{GoneKeys: []string{keyID(k)}})
			x.Apply(verify.Batch{Keys: []verify.Key{all[k]}})
			if i%4 == 0 && i < 20_000 {
				x.Apply(verify.Batch{Keys: []verify.Key{newKey(keys+i, mint(t))}})
			}
		}
	})
	rest.Go(func() {
		for !done.Load() {
			drain()
		}
	})
	counting.Wait()
	done.Store(true)
	rest.Wait()
	drain()
	want := map[spot]int64{}
	for _, m := range counted {
		for s, n := range m {
			want[s] += n
		}
	}
	for s, n := range want {
		if found[s] != n {
			t.Errorf("%v: found %d of %d", s, found[s], n)
		}
	}
	if len(found) != len(want) {
		t.Errorf("found %d sources, want %d", len(found), len(want))
	}
}

// TestNoUseOfAHotKeyIsLost has all goroutines count at one record, which comes
// to the end of what it can count to and is drained over and over.
func TestNoUseOfAHotKeyIsLost(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	r := decide(x, ask(secret))
	c := verify.NewRecorder()
	for name, pause := range map[string]time.Duration{"drained often": 0, "drained seldom": 10 * time.Millisecond} {
		const each = 400_000
		var counting, draining sync.WaitGroup
		var done atomic.Bool
		var found int64
		for range readers {
			counting.Go(func() {
				for range each {
					c.Count(&r, keystile.CodeValid, address(1), "", noon)
				}
			})
		}
		draining.Go(func() {
			for !done.Load() {
				found += total(c.Drain())
				time.Sleep(pause)
			}
		})
		counting.Wait()
		done.Store(true)
		draining.Wait()
		if found += total(c.Drain()); found != readers*each {
			t.Errorf("%s: found %d of %d", name, found, readers*each)
		}
	}
}

func TestRecorderAgreesWithAPlainMap(t *testing.T) {
	const n = 12
	secrets := make([]string, n)
	keys := make([]verify.Key, n)
	for i := range keys {
		secrets[i] = mint(t)
		keys[i] = newKey(i, secrets[i])
	}
	f := format(t)
	rapid.Check(t, func(t *rapid.T) {
		x := verify.New(f, 0)
		x.Apply(verify.Batch{Workspaces: workspaces(), Roles: roles(), Keys: keys})
		c := verify.NewRecorder()
		var results []verify.Result
		for _, s := range secrets {
			results = append(results, decide(x, ask(s)))
		}
		type tally struct{ count, last int64 }
		want := map[spot]tally{}
		var kept []verify.Use
		clock := noon
		t.Repeat(map[string]func(*rapid.T){
			"count": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "key")
				from := rapid.SampledFrom([]netip.Addr{{}, address(1), address(1), netip.MustParseAddr("2001:db8::1")}).Draw(t, "address")
				code := rapid.SampledFrom([]keystile.Code{keystile.CodeValid, keystile.CodeValid, keystile.CodeRevoked}).Draw(t, "code")
				clock = clock.Add(time.Duration(rapid.Int64Range(0, 1e8).Draw(t, "ms")) * time.Millisecond)
				s := spot{keyID(i), code, from}
				o := want[s]
				for range rapid.SampledFrom([]int{1, 1, 2, 5000}).Draw(t, "times") {
					c.Count(&results[i], code, from, "", clock)
					o.count++
				}
				o.last = clock.UnixMilli()
				want[s] = o
			},
			"decide": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "key")
				if r := decide(x, ask(secrets[i])); r.Known() {
					results[i] = r
				}
			},
			"delete": func(t *rapid.T) {
				x.Apply(verify.Batch{GoneKeys: []string{keyID(rapid.IntRange(0, n-1).Draw(t, "key"))}})
			},
			"put": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "key")
				x.Apply(verify.Batch{Keys: keys[i : i+1]})
			},
			"drain and restore": func(t *rapid.T) {
				kept = append(kept, c.Drain()...)
				if rapid.Bool().Draw(t, "now") {
					c.Restore(kept)
					kept = nil
				}
			},
			"drain": func(t *rapid.T) {
				c.Restore(kept)
				kept = nil
				got := bySpot(t, c.Drain())
				for s, w := range want {
					if u := got[s]; u.Count != w.count || u.Last.UnixMilli() != w.last {
						t.Fatalf("%v: %d, last at %v; want %d, at %v", s, u.Count, u.Last, w.count, time.UnixMilli(w.last))
					}
				}
				if len(got) != len(want) {
					t.Fatalf("%d sources, want %d", len(got), len(want))
				}
				clear(want)
			},
		})
	})
}

// Two recorders on one index are not meant to be, but must not lose anything.
func TestTwoRecorders(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	r := decide(x, ask(secret))
	a, b := verify.NewRecorder(), verify.NewRecorder()
	for range 10 {
		a.Count(&r, keystile.CodeValid, address(1), "", noon)
		b.Count(&r, keystile.CodeValid, address(1), "", noon)
	}
	if na, nb := total(a.Drain()), total(b.Drain()); na+nb != 20 {
		t.Errorf("%d and %d uses, want 20 together", na, nb)
	}
}

func TestCountAllocatesNothingForTheSameSource(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	c := verify.NewRecorder()
	r, miss := decide(x, ask(secret)), decide(x, ask("none"))
	at := noon
	for name, f := range map[string]func(){
		"known": func() {
			at = at.Add(time.Millisecond)
			c.Count(&r, r.Code, address(1), "Mozilla/5.0 (X11; Linux x86_64)", at)
		},
		"not known": func() { c.Count(&miss, miss.Code, address(1), "agent", noon) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if uses := c.Drain(); !slices.ContainsFunc(uses, func(u verify.Use) bool { return u.Count == 1001 }) {
		t.Errorf("got %+v", uses)
	}
}

// TestHotKeysAreCountedInFull has goroutines meet at some keys, more of them in
// one shard than can be hot, while others count, drain and delete.
func TestHotKeysAreCountedInFull(t *testing.T) {
	const n, each = 20, 20_000
	x := newIndex(t)
	c := verify.NewRecorder()
	results := make([]verify.Result, n)
	for i := range results {
		secret := mint(t)
		x.Apply(verify.Batch{Keys: []verify.Key{newKey(sameShard(i), secret)}})
		results[i] = decide(x, ask(secret))
	}
	from := address(1)
	hot := 0
	for _, r := range results {
		for range 3 { // the first opens the record, the second meets
			c.Meet(r, from, "", noon)
		}
		if r.Hot() {
			hot++
		}
	}
	if hot != 16 {
		t.Errorf("%d keys are hot, want 16", hot)
	}
	later := noon.Add(time.Minute)
	for range each {
		c.Count(&results[0], keystile.CodeValid, from, "", later)
	}
	c.Count(&results[0], keystile.CodeValid, address(2), "", noon)
	x.Apply(verify.Batch{GoneKeys: []string{results[1].KeyID()}})
	uses := bySpot(t, c.Drain())
	if u := uses[spot{results[0].KeyID(), keystile.CodeValid, from}]; u.Count != each+3 || !u.Last.Equal(later) || !u.First.Equal(noon) {
		t.Errorf("%d uses from %v to %v, want %d", u.Count, u.First, u.Last, each+3)
	}
	if len(uses) != n+1 || results[0].Hot() {
		t.Errorf("%d sources, want %d; still hot: %v", len(uses), n+1, results[0].Hot())
	}

	var counting sync.WaitGroup
	var done atomic.Bool
	found := make(chan int64)
	go func() {
		var sum int64
		for !done.Load() {
			sum += total(c.Drain())
			time.Sleep(time.Millisecond)
		}
		found <- sum + total(c.Drain())
	}()
	for range readers {
		counting.Go(func() {
			for i := range each {
				r := results[i%3]
				if i%100 == 0 {
					c.Meet(r, from, "", noon)
				} else {
					c.Count(&r, keystile.CodeValid, from, "", noon)
				}
			}
		})
	}
	counting.Wait()
	done.Store(true)
	if sum := <-found; sum != readers*each {
		t.Errorf("found %d of %d", sum, readers*each)
	}
}
