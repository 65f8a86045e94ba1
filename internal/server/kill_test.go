package server_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

// TestKill ends the program with kill -9 while it creates and revokes keys.
// Whatever was answered with success holds after the restart.
func TestKill(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(*testing.T) []string{
		"sqlite":   func(t *testing.T) []string { return []string{"--data", t.TempDir()} },
		"postgres": func(t *testing.T) []string { return []string{"--database", pgtest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := store(t)
			created := killWhileCreating(t, flags)
			killWhileRevoking(t, flags, created)
		})
	}
}

const (
	creates = 1000
	clients = 8
)

// race runs clients that take numbers from 0 up to most, until one returns
// false for each of them, and kills the process when so many succeeded.
func race(p *process, most, killAfter int, do func(i int) bool) {
	var next, succeeded atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= most || !do(i) {
					return
				}
				if succeeded.Add(1) == int64(killAfter) {
					p.kill()
				}
			}
		})
	}
	all.Wait()
	p.kill()
}

func killWhileCreating(t *testing.T, flags []string) []keystile.CreatedKey {
	p := serve(t, flags)
	operator := p.admin("key")
	url := p.url + "/v1/workspaces/" + p.tenant(operator) + "/keys"
	var mu sync.Mutex
	var answered []keystile.CreatedKey
	race(p, creates, creates/2, func(int) bool {
		r, err := tryCall(httpClient, "POST", url, bearer(operator), `{"name": "Made in a hurry"}`)
		if err != nil {
			return false // the process is gone
		}
		made := want[keystile.CreatedKey](t, r, http.StatusCreated)
		mu.Lock()
		answered = append(answered, made)
		mu.Unlock()
		return true
	})
	if n := len(answered); n < creates/2 || n == creates {
		t.Fatalf("%d of %d creates were answered; the process was not killed in their midst", n, creates)
	}

	p = serve(t, flags)
	for _, made := range answered {
		if d := p.verify(operator, made.Secret); !d.Valid || d.KeyID != made.Key.ID {
			t.Fatalf("a key that was answered before the kill: %+v", d)
		}
	}
	// Each with its place in the list and in the audit log.
	for _, made := range answered[:20] {
		want[keystile.Key](t, call(t, "GET", p.url+"/v1/keys/"+made.Key.ID, bearer(operator), nil), http.StatusOK)
		log := want[keystile.AuditList](t, call(t, "GET", p.url+"/v1/workspaces/"+made.Key.WorkspaceID+"/audit?object="+made.Key.ID, bearer(operator), nil), http.StatusOK)
		if len(log.Data) != 1 || log.Data[0].Action != "key.created" {
			t.Fatalf("the audit log of a key: %+v", log.Data)
		}
	}
	t.Logf("killed after %d answers", len(answered))
	p.kill()
	return answered
}

func killWhileRevoking(t *testing.T, flags []string, keys []keystile.CreatedKey) {
	p := serve(t, flags)
	operator := p.admin("key")
	revoked := make([]bool, len(keys)) // answered; each index is one client's
	race(p, len(keys), len(keys)/3, func(i int) bool {
		r, err := tryCall(httpClient, "POST", p.url+"/v1/keys/"+keys[i].Key.ID+"/revoke", bearer(operator), nil)
		if err != nil {
			return false
		}
		want[keystile.Key](t, r, http.StatusOK)
		revoked[i] = true
		return true
	})
	p = serve(t, flags)
	n := 0
	for i, key := range keys {
		d := p.verify(operator, key.Secret)
		switch {
		case revoked[i]:
			n++
			if d.Code != keystile.CodeRevoked {
				t.Fatalf("a revoke that was answered before the kill: %+v", d)
			}
		case d.Code != keystile.CodeRevoked && !d.Valid: // not answered: done or not, nothing between
			t.Fatalf("a revoke that was not answered: %+v", d)
		}
	}
	if n < len(keys)/3 || n == len(keys) {
		t.Fatalf("%d of %d revokes were answered; the process was not killed in their midst", n, len(keys))
	}
	t.Logf("killed after %d revokes", n)
}
