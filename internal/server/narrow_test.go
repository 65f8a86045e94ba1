package server_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

// narrowing is a change that takes something away, and who was let in before.
type narrowing struct {
	name, method, path, body string
	key                      keystile.CreatedKey // none where the change is of no concern to the index
	permission               string              // that the key is asked for
	code                     keystile.Code
	until                    time.Time // from when the code is the answer
}

// narrowings are all changes that take something away, each ready to be made.
func narrowings(t *testing.T, at *process, operator string) []narrowing {
	t.Helper()
	const allow, elsewhere = "api.key.view", `["192.0.2.0/24"]`
	workspace := func() string {
		t.Helper()
		return want[keystile.Workspace](t, call(t, "POST", at.url+"/v1/workspaces", bearer(operator), `{"name": "Workspace"}`), http.StatusCreated).ID
	}
	home := workspace()
	role := func(name string) string {
		t.Helper()
		return want[keystile.Role](t, call(t, "POST", at.url+"/v1/workspaces/"+home+"/roles", bearer(operator),
			`{"name": "`+name+`", "permissions": ["api.key.view", "api.usage.view"]}`), http.StatusCreated).ID
	}
	key := func(workspace, role string) keystile.CreatedKey {
		t.Helper()
		return want[keystile.CreatedKey](t, call(t, "POST", at.url+"/v1/workspaces/"+workspace+"/keys", bearer(operator),
			keystile.CreateKey{Name: "Key", Role: role}), http.StatusCreated)
	}
	clerk := role("Clerk")
	want[keystile.Role](t, call(t, "POST", at.url+"/v1/workspaces/"+home+"/roles", bearer(operator),
		`{"name": "Less", "permissions": ["api.usage.view"]}`), http.StatusCreated)
	member := want[keystile.Member](t, call(t, "POST", at.url+"/v1/workspaces/"+home+"/members", bearer(operator),
		`{"person": {"name": "Ada"}, "role": "viewer"}`), http.StatusCreated)
	other := want[keystile.Member](t, call(t, "POST", at.url+"/v1/workspaces/"+home+"/members", bearer(operator),
		`{"person": {"name": "Bob"}, "role": "admin"}`), http.StatusCreated)
	var all []narrowing
	of := func(name, method, suffix, body string, code keystile.Code) {
		k := key(home, "Clerk")
		all = append(all, narrowing{name: name, method: method, path: "/v1/keys/" + k.Key.ID + suffix, body: body, key: k, permission: allow, code: code})
	}
	of("revoke", "POST", "/revoke", "", keystile.CodeRevoked)
	of("disable", "POST", "/disable", "", keystile.CodeDisabled)
	of("delete", "DELETE", "", "", keystile.CodeUnknown)
	of("rotate at once", "POST", "/rotate", `{"overlap": "0s"}`, keystile.CodeRevoked)
	of("allowlist of a key", "PATCH", "", `{"ip_allowlist": `+elsewhere+`}`, keystile.CodeIPNotAllowed)
	of("permissions of a key", "PATCH", "", `{"permissions": ["api.usage.view"]}`, keystile.CodeInsufficientPermission)
	of("role of a key", "PATCH", "", `{"role": "Less"}`, keystile.CodeInsufficientPermission)
	of("an earlier end", "PATCH", "", "", keystile.CodeExpired) // everyNarrowing says which
	more := role("More")
	all = append(all, narrowing{
		name: "a role edited", method: "PATCH", path: "/v1/roles/" + more, body: `{"permissions": ["api.usage.view"]}`,
		key: key(home, "More"), permission: allow, code: keystile.CodeInsufficientPermission,
	})
	for name, c := range map[string]struct {
		method, body string
		code         keystile.Code
	}{
		"workspace suspended":      {"PATCH", `{"suspended": true}`, keystile.CodeWorkspaceSuspended},
		"allowlist of a workspace": {"PATCH", `{"ip_allowlist": ` + elsewhere + `}`, keystile.CodeIPNotAllowed},
		"workspace deleted":        {"DELETE", "", keystile.CodeUnknown},
	} {
		ws := workspace()
		all = append(all, narrowing{name: name, method: c.method, path: "/v1/workspaces/" + ws, body: c.body, key: key(ws, ""), code: c.code})
	}
	// What no index knows, and every request asks the database for: whoever makes
	// these is told no sooner either.
	return append(all,
		narrowing{name: "member removed", method: "DELETE", path: "/v1/members/" + member.ID},
		narrowing{name: "role of a member", method: "PATCH", path: "/v1/members/" + other.ID, body: `{"role": "viewer"}`},
		narrowing{name: "plan lowered", method: "PATCH", path: "/v1/workspaces/" + home, body: `{"plan": "standard"}`},
		narrowing{name: "role deleted", method: "DELETE", path: "/v1/roles/" + role("Unused")},
		narrowing{name: "a role renamed", method: "PATCH", path: "/v1/roles/" + clerk, body: `{"name": "Clerks"}`},
	)
}

// TestEveryNarrowing: each change that takes something away is answered when
// whoever is cut off has heard of it, and no sooner: another server, or a replica.
func TestEveryNarrowing(t *testing.T) {
	t.Parallel()
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		database := pgtest.New(t)
		network, through := pgtest.NewLink(t, database)
		a, b := serve(t, []string{"--database", database}), serve(t, []string{"--database", through})
		everyNarrowing(t, a, b, network)
	})
	t.Run("replica", func(t *testing.T) {
		t.Parallel()
		a := serve(t, []string{"--data", t.TempDir()})
		network, through := pgtest.NewLink(t, a.url)
		everyNarrowing(t, a, attach(t, a.admin("key", "--role", "replica"), nil, &process{url: through}), network)
	})
}

// everyNarrowing makes the changes at a, of which b hears through the network.
func everyNarrowing(t *testing.T, a, b *process, network *pgtest.Link) {
	operator := a.admin("key")
	all := narrowings(t, a, operator)
	// ask tells the code, or "" where there is no answer.
	ask := func(at *process, c *narrowing) keystile.Code {
		r, err := tryCall(httpClient, "POST", at.url+"/v1/verify", bearer(operator),
			keystile.VerifyRequest{Key: c.key.Secret, Permission: c.permission, IP: "198.51.100.7"})
		if err != nil || r.status == http.StatusServiceUnavailable {
			return ""
		}
		return want[keystile.Decision](t, r, http.StatusOK).Code
	}
	for i := range all {
		if c := &all[i]; c.code != "" {
			eventually(t, c.name+": the key is known", func() bool { return ask(b, c) == keystile.CodeValid })
		}
	}
	for i := range all {
		if c := &all[i]; c.code == keystile.CodeExpired {
			c.until = time.Now().Add(8 * time.Second).UTC().Truncate(time.Millisecond)
			c.body = fmt.Sprintf(`{"expires_at": %q}`, c.until.Format(time.RFC3339Nano))
		}
	}
	network.Set(pgtest.Stalled)
	stalled := time.Now()
	var returned atomic.Int32
	var up atomic.Bool
	var changes sync.WaitGroup
	change := func(c *narrowing, again bool) {
		var body any
		if c.body != "" {
			body = c.body
		}
		r, err := tryCall(httpClient, c.method, a.url+c.path, bearer(operator), body)
		early := !up.Load() && time.Since(stalled) < 10*time.Second // no lease of before is over
		returned.Add(1)
		if err != nil || again && r.status != http.StatusNotFound || !again && r.status >= 300 {
			t.Errorf("%s: %v, %s", c.name, err, r)
			return
		}
		if early {
			t.Errorf("%s (again: %t): it has returned, and nobody can have heard of it", c.name, again)
		}
		if c.code == "" {
			return
		}
		time.Sleep(time.Until(c.until))
		if got := ask(b, c); got != c.code && got != "" {
			t.Errorf("P1: %s has returned, and the other one says %q, want %q", c.name, got, c.code)
		}
	}
	for i := range all {
		changes.Go(func() { change(&all[i], false) })
	}
	accepted := 0
	for i := range all {
		c := &all[i]
		if c.code != "" && c.until.IsZero() {
			eventually(t, c.name+" is in force where it was made", func() bool { return ask(a, c) == c.code })
			if ask(b, c) == keystile.CodeValid {
				accepted++
			}
			if c.method == http.MethodDelete { // who repeats it is told no sooner that it is gone
				changes.Go(func() { change(c, true) })
			}
		}
	}
	time.Sleep(200 * time.Millisecond) // for those who would return at once
	t.Logf("%d changes, of which the other one knows nothing of %d after %s, and %d have returned", len(all), accepted, time.Since(stalled), returned.Load())
	up.Store(true)
	network.Set(pgtest.Up)
	changes.Wait()
}
