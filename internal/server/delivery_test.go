package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/seal"
)

// inbox is a receiver of events about keys. It counts how often each comes.
type inbox struct {
	*httptest.Server
	mu   sync.Mutex
	keys map[string]int // requests about a key's creation, by Key ID
}

// newInbox takes so long for every answer.
func newInbox(t *testing.T, takes time.Duration) *inbox {
	t.Helper()
	b := &inbox{keys: map[string]int{}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e keystile.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || e.Data.Key == nil {
			return // cut short
		}
		b.mu.Lock()
		b.keys[e.Data.Key.ID]++
		b.mu.Unlock()
		time.Sleep(takes)
	}))
	t.Cleanup(b.Close)
	return b
}

// count is how many keys were heard of, and how many requests there were.
func (b *inbox) count() (keys, requests int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.keys {
		requests += n
	}
	return len(b.keys), requests
}

// lacks is how many of the keys were not heard of.
func (b *inbox) lacks(ids []string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if b.keys[id] == 0 {
			n++
		}
	}
	return n
}

// eventsTo makes an endpoint that is told of new keys.
func (b *inbox) eventsTo(t *testing.T, p *process, operator, tenant string) keystile.Endpoint {
	t.Helper()
	return want[keystile.CreatedEndpoint](t, call(t, "POST", p.url+"/v1/workspaces/"+tenant+"/endpoints", bearer(operator), keystile.CreateEndpoint{
		URL: b.URL, EventTypes: []string{"key.created"}, AllowRanges: []string{"127.0.0.1"},
	}), http.StatusCreated).Endpoint
}

// masterKey is the flags for a file with a master key.
func masterKey(t *testing.T) []string {
	t.Helper()
	key, err := seal.NewMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(path, []byte(key.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--master-key-file", path}
}

// patience is for how long a test waits for the claims of a dead node to end
// as well, on the slowest machine.
const patience = 3 * time.Minute

func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after %s: %s", patience, what)
		}
	}
}

// TestKillDuringDelivery ends the program with kill -9 while it delivers, three
// times. Every event of a change that was answered with success arrives.
func TestKillDuringDelivery(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(*testing.T) []string{
		"sqlite":   func(t *testing.T) []string { return []string{"--data", t.TempDir()} },
		"postgres": func(t *testing.T) []string { return []string{"--database", pgtest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags, secret := store(t), []string(nil)
			if name == "postgres" {
				secret = masterKey(t)
			}
			b := newInbox(t, 5*time.Millisecond)
			p := serve(t, flags, secret...)
			operator := p.admin("key")
			tenant := p.tenant(operator)
			b.eventsTo(t, p, operator, tenant)
			var mu sync.Mutex
			var answered []string
			for round := range 3 {
				if round > 0 {
					p = serve(t, flags, secret...)
				}
				url := p.url + "/v1/workspaces/" + tenant + "/keys"
				race(p, 300, 150, func(i int) bool {
					r, err := tryCall(httpClient, "POST", url, bearer(operator), fmt.Sprintf(`{"name": "Key %d"}`, i))
					if err != nil {
						return false // the process is gone
					}
					made := want[keystile.CreatedKey](t, r, http.StatusCreated)
					mu.Lock()
					answered = append(answered, made.Key.ID)
					mu.Unlock()
					return true
				})
			}
			before := b.lacks(answered)
			if before == 0 {
				t.Log("everything had arrived when the last process was killed")
			}
			p = serve(t, flags, secret...)
			within(t, "every event arrived", func() bool { return b.lacks(answered) == 0 })
			keys, requests := b.count()
			t.Logf("%d changes answered, %d events missing at the last kill; %d heard of, with %d requests", len(answered), before, keys, requests)
			// An attempt that was under way is repeated: eight at a kill, and those
			// whose outcome was not written yet.
			if requests-keys > 3*(8+200) {
				t.Errorf("%d events came again", requests-keys)
			}
			if err := p.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTwoProcessesDeliver: two processes share the work, each event is sent
// once; what one of them leaves behind when it is killed, the other sends.
func TestTwoProcessesDeliver(t *testing.T) {
	t.Parallel()
	flags, secret := []string{"--database", pgtest.New(t)}, masterKey(t)
	a, b := serve(t, flags, secret...), serve(t, flags, secret...)
	operator := a.admin("key")
	tenant := a.tenant(operator)
	var boxes []*inbox
	for range 4 {
		box := newInbox(t, 0)
		box.eventsTo(t, a, operator, tenant)
		boxes = append(boxes, box)
	}
	create := func(p *process, n int) (ids []string) {
		t.Helper()
		for i := range n {
			made := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+tenant+"/keys", bearer(operator), fmt.Sprintf(`{"name": "Key %d"}`, i)), http.StatusCreated)
			ids = append(ids, made.Key.ID)
		}
		return ids
	}
	var all []string
	var both sync.WaitGroup
	var mu sync.Mutex
	for _, p := range []*process{a, b} {
		both.Go(func() {
			ids := create(p, 60)
			mu.Lock()
			all = append(all, ids...)
			mu.Unlock()
		})
	}
	both.Wait()
	for i, box := range boxes {
		within(t, "every event arrived", func() bool { return box.lacks(all) == 0 })
		if keys, requests := box.count(); requests != keys {
			t.Errorf("endpoint %d: %d events came with %d requests", i, keys, requests)
		}
	}

	// One of them dies with work of its own.
	slow := newInbox(t, 50*time.Millisecond)
	slow.eventsTo(t, a, operator, tenant)
	last := create(a, 100)
	a.kill()
	if slow.lacks(last) == 0 {
		t.Log("nothing was left when the process was killed")
	}
	within(t, "the other process took over", func() bool { return slow.lacks(last) == 0 })
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// TestEndDuringDelivery: a process that is told to end finishes the attempts
// under way, so that none is repeated, and leaves the rest at once.
func TestEndDuringDelivery(t *testing.T) {
	t.Parallel()
	flags := []string{"--data", t.TempDir()}
	b := newInbox(t, 300*time.Millisecond)
	p := serve(t, flags)
	operator := p.admin("key")
	tenant := p.tenant(operator)
	b.eventsTo(t, p, operator, tenant)
	var ids []string
	for i := range 40 {
		made := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+tenant+"/keys", bearer(operator), fmt.Sprintf(`{"name": "Key %d"}`, i)), http.StatusCreated)
		ids = append(ids, made.Key.ID)
	}
	eventually(t, "attempts are under way", func() bool { n, _ := b.count(); return n > 0 })
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if n, _ := b.count(); n == len(ids) {
		t.Log("everything was sent before the end")
	}
	serve(t, flags)
	within(t, "the rest arrived", func() bool { return b.lacks(ids) == 0 })
	time.Sleep(500 * time.Millisecond)
	if keys, requests := b.count(); keys != requests {
		t.Errorf("%d events came with %d requests", keys, requests)
	}
}
