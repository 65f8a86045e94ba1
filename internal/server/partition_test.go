package server_test

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

// TestPartitionPolicy: of two servers that are cut off from the database, the
// one that was set to go on checks keys for its time after the lease and no
// longer, and does nothing else; the other refuses, as servers do. A revoke
// elsewhere says which server it has not reached and until when, and after that
// time nobody accepts the key. An agent of the server that goes on does not.
func TestPartitionPolicy(t *testing.T) {
	t.Parallel()
	const stale = 8 * time.Second
	database := pgtest.New(t)
	toStale, throughStale := pgtest.NewLink(t, database)
	toOther, throughOther := pgtest.NewLink(t, database)
	p := pair{a: serve(t, []string{"--database", database})}
	p.b = serve(t, []string{"--database", throughStale}, "--partition", "serve-stale="+stale.String())
	other := serve(t, []string{"--database", throughOther})
	p.operator = p.a.admin("key")
	p.tenant = p.a.tenant(p.operator)
	agent := attach(t, p.a.admin("key", "--role", "replica"), nil, p.b)
	byAgent := func(secret string) (accepted, answered bool) {
		r, err := tryCall(httpClient, "GET", agent.url+"/v1/forward-auth", bearer(secret), nil)
		return err == nil && r.status == http.StatusOK, err == nil && r.status != http.StatusServiceUnavailable
	}
	made, gone, kept, third := p.create(t, p.a, p.b), p.create(t, p.a, p.b), p.create(t, p.a, p.b), p.create(t, p.a, p.b)
	eventually(t, "the agent knows the keys", func() bool { accepted, _ := byAgent(kept.Secret); return accepted })

	toStale.Set(pgtest.Cut)
	toOther.Set(pgtest.Cut)
	deleted := make(chan reply, 1)
	go func() { // takes as long as the revoke
		r, err := tryCall(httpClient, "DELETE", p.a.url+"/v1/keys/"+gone.Key.ID, bearer(p.operator), nil)
		if err != nil {
			t.Error(err)
		}
		deleted <- r
	}()
	said := make(chan string, 1)
	go func() {
		cmd := exec.Command(program(t), "keys", "revoke", "--yes", third.Key.ID)
		cmd.Env = append(environment(), "KEYSTILE_URL="+p.a.url, "KEYSTILE_KEY="+p.operator)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("keystile keys revoke: %v", err)
		}
		said <- string(out)
	}()
	r := call(t, "POST", p.a.url+"/v1/keys/"+made.Key.ID+"/revoke", bearer(p.operator), nil)
	accepts := map[string]bool{}
	accepts["stale"], _ = p.ask(t, p.b, made.Secret)
	asked := time.Now()
	accepts["other"], _ = p.ask(t, other, made.Secret)
	accepts["agent"], _ = byAgent(made.Secret)

	revoked := want[keystile.Key](t, r, http.StatusOK)
	if len(revoked.Unreached) != 1 || revoked.Unreached[0].Node == "" {
		t.Fatalf("the revoke names %+v, want the one server that goes on", revoked.Unreached)
	}
	until := revoked.Unreached[0].Until
	if left := time.Until(until); left <= 0 || left > 2*stale {
		t.Errorf("the revoke says that a server goes on for %s", left)
	}
	if accepts["other"] || accepts["agent"] {
		t.Errorf("P1: after the revoke the key is accepted where nobody said so: %v", accepts)
	}
	if !accepts["stale"] && asked.Before(until.Add(-stale)) {
		t.Error("a server that goes on does not")
	}
	d := <-deleted
	var named []keystile.Unreached
	if err := json.Unmarshal([]byte(d.header.Get(keystile.UnreachedHeader)), &named); d.status != http.StatusNoContent || err != nil || len(named) != 1 ||
		named[0].Node != revoked.Unreached[0].Node {
		t.Errorf("the delete answers %s with %s: %q, %v", d, keystile.UnreachedHeader, d.header.Get(keystile.UnreachedHeader), err)
	}

	if text := <-said; !strings.Contains(text, "not everywhere yet") || !strings.Contains(text, named[0].Node) {
		t.Errorf("keystile keys revoke says %q", text)
	}

	// What it says of itself, as long as it goes on.
	ready := call(t, "GET", p.b.url+"/readyz", nil, nil)
	list := call(t, "GET", p.b.url+"/v1/workspaces", bearer(p.operator), nil)
	if accepted, _ := p.ask(t, p.b, kept.Secret); accepted {
		if ready.status != http.StatusOK || !strings.Contains(string(ready.body), "stale") {
			t.Errorf("readyz of a server that goes on: %s", ready)
		}
		if list.status != http.StatusServiceUnavailable {
			t.Errorf("a server that goes on lists workspaces: %s", list)
		}
	} else {
		t.Log("this machine is so slow that the time is over")
	}
	eventually(t, "it refuses", func() bool {
		accepted, answered := p.ask(t, p.b, made.Secret)
		if accepted && time.Now().After(until) {
			t.Fatal("P1: a server goes on for longer than was said")
		}
		return !answered
	})
	if ready := call(t, "GET", p.b.url+"/readyz", nil, nil); ready.status != http.StatusServiceUnavailable {
		t.Errorf("readyz of a server that refuses: %s", ready)
	}

	// With the database back it knows, and nobody is named any more.
	toStale.Set(pgtest.Up)
	toOther.Set(pgtest.Up)
	eventually(t, "all go on", func() bool {
		b, _ := p.ask(t, p.b, kept.Secret)
		o, _ := p.ask(t, other, kept.Secret)
		g, _ := byAgent(kept.Secret)
		return b && o && g
	})
	if accepted, _ := p.ask(t, p.b, made.Secret); accepted {
		t.Error("P1: the key is accepted after the server has come back")
	}
	r = call(t, "POST", p.a.url+"/v1/keys/"+kept.Key.ID+"/revoke", bearer(p.operator), nil)
	if again := want[keystile.Key](t, r, http.StatusOK); len(again.Unreached) > 0 || r.header.Get(keystile.UnreachedHeader) != "" {
		t.Errorf("with all servers there the revoke names %+v", again.Unreached)
	}
}
