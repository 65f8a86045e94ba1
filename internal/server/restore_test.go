package server_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/store"
)

// databaseFlags make the flags that name a new, empty store of each database.
func databaseFlags() map[string]func(testing.TB) []string {
	return map[string]func(testing.TB) []string{
		"sqlite":   func(t testing.TB) []string { return []string{"--data", t.TempDir()} },
		"postgres": func(t testing.TB) []string { return []string{"--database", pgtest.New(t)} },
	}
}

// end is stop, where anything but good order fails the test.
func (p *process) end() {
	p.t.Helper()
	if err := p.stop(); err != nil {
		p.t.Fatalf("the server did not end in good order: %v\n%s", err, p.stderr)
	}
}

// command runs the program to its end.
func command(t testing.TB, arguments ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(program(t), arguments...)
	cmd.Env = environment()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String(), errs.String()
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, out.String(), errs.String()
}

func succeed(t testing.TB, arguments ...string) (stdout, stderr string) {
	t.Helper()
	status, stdout, stderr := command(t, arguments...)
	if status != 0 {
		t.Fatalf("keystile %s: status %d: %s", strings.Join(arguments[:1], " "), status, stderr)
	}
	return stdout, stderr
}

// TestRestore makes a backup beside a running server, takes keys away in every
// way there is, and restores: into a new store of either database all keys are
// as they were, and the output says what may be back; into the same store, or
// a second time, what was taken away stays away.
func TestRestore(t *testing.T) {
	t.Parallel()
	for from, source := range databaseFlags() {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			flags := source(t)
			p := serve(t, flags)
			operator := p.admin("key", "--expires", "720h")
			s := newScene(t, p, operator)
			file := filepath.Join(t.TempDir(), "backup.db")
			succeed(t, append([]string{"backup", file}, flags...)...)
			inFiles(t, filepath.Dir(file), s.secrets()...)
			s.takeAway(t, p, operator)
			late := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+s.workspace+"/keys", bearer(operator), `{"name": "Late"}`), http.StatusCreated)

			status, stdout, stderr := command(t, append([]string{"restore", "--yes", file}, flags...)...)
			if status != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "stop them all") {
				t.Errorf("restore beside a server: status %d, %q, %q", status, stdout, stderr)
			}
			if d := p.verify(operator, late.Secret); !d.Valid {
				t.Errorf("the refused restore changed something: %+v", d)
			}
			p.end()

			if _, stderr := succeed(t, append([]string{"restore", "--yes", file}, flags...)...); stderr != "" {
				t.Errorf("restore into the same store warns: %s", stderr)
			}
			p = serve(t, flags)
			s.check(t, p, operator, true)
			if d := p.verify(operator, late.Secret); d.Code != keystile.CodeUnknown {
				t.Errorf("a key made after the backup: %+v", d)
			}
			p.end()

			for to, target := range databaseFlags() {
				t.Run("to "+to, func(t *testing.T) {
					t.Parallel()
					flags := target(t)
					if _, stderr := succeed(t, append([]string{"restore", "--yes", file}, flags...)...); !strings.Contains(stderr, "may be valid again") {
						t.Errorf("restore into a new store does not warn: %q", stderr)
					}
					p := serve(t, flags)
					s.check(t, p, operator, false)
					s.takeAway(t, p, operator)
					s.check(t, p, operator, true)
					p.end()
					succeed(t, append([]string{"restore", "--yes", file}, flags...)...)
					p = serve(t, flags)
					s.check(t, p, operator, true)
				})
			}
		})
	}
}

// scene is keys of every kind, and what becomes of them.
type scene struct {
	workspace, role, suspended string
	keys                       map[string]keystile.CreatedKey
}

func newScene(t *testing.T, p *process, operator string) *scene {
	s := &scene{workspace: p.tenant(operator), keys: map[string]keystile.CreatedKey{}}
	s.suspended = want[keystile.Workspace](t, call(t, "POST", p.url+"/v1/workspaces", bearer(operator), `{"name": "Second"}`), http.StatusCreated).ID
	s.role = want[keystile.Role](t, call(t, "POST", p.url+"/v1/workspaces/"+s.workspace+"/roles", bearer(operator),
		`{"name": "Clerk", "permissions": ["api.key.view", "api.usage.view"]}`), http.StatusCreated).ID
	for name, body := range map[string]string{
		"kept": `{"name": "kept"}`, "revoked": `{"name": "r"}`, "disabled": `{"name": "d"}`, "deleted": `{"name": "x"}`,
		"rotated": `{"name": "o"}`, "allowed": `{"name": "a"}`, "clerk": `{"name": "c", "role": "Clerk"}`,
	} {
		s.keys[name] = want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+s.workspace+"/keys", bearer(operator), body), http.StatusCreated)
	}
	s.keys["suspended"] = want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+s.suspended+"/keys", bearer(operator), `{"name": "s"}`), http.StatusCreated)
	return s
}

func (s *scene) secrets() (all []string) {
	for _, k := range s.keys {
		all = append(all, k.Secret)
	}
	return all
}

func (s *scene) takeAway(t *testing.T, p *process, operator string) {
	for _, c := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"POST", "/v1/keys/" + s.keys["revoked"].Key.ID + "/revoke", nil, http.StatusOK},
		{"POST", "/v1/keys/" + s.keys["disabled"].Key.ID + "/disable", nil, http.StatusOK},
		{"DELETE", "/v1/keys/" + s.keys["deleted"].Key.ID, nil, http.StatusNoContent},
		{"POST", "/v1/keys/" + s.keys["rotated"].Key.ID + "/rotate", `{"overlap": "0s"}`, http.StatusCreated},
		{"PATCH", "/v1/keys/" + s.keys["allowed"].Key.ID, `{"ip_allowlist": ["192.0.2.0/24"]}`, http.StatusOK},
		{"PATCH", "/v1/roles/" + s.role, `{"permissions": ["api.usage.view"]}`, http.StatusOK},
		{"PATCH", "/v1/workspaces/" + s.suspended, `{"suspended": true}`, http.StatusOK},
	} {
		if r := call(t, c.method, p.url+c.path, bearer(operator), c.body); r.status != c.status {
			t.Fatalf("%s %s: %s", c.method, c.path, r)
		}
	}
}

func (s *scene) check(t *testing.T, p *process, operator string, takenAway bool) {
	t.Helper()
	codes := map[string]keystile.Code{
		"kept": keystile.CodeValid, "revoked": keystile.CodeRevoked, "disabled": keystile.CodeDisabled, "deleted": keystile.CodeUnknown,
		"rotated": keystile.CodeRevoked, "allowed": keystile.CodeIPNotAllowed, "clerk": keystile.CodeInsufficientPermission, "suspended": keystile.CodeWorkspaceSuspended,
	}
	for name, code := range codes {
		if !takenAway {
			code = keystile.CodeValid
		}
		d := want[keystile.Decision](t, call(t, "POST", p.url+"/v1/verify", bearer(operator), keystile.VerifyRequest{
			Key: s.keys[name].Secret, IP: "198.51.100.7", Permission: map[string]string{"clerk": "api.key.view"}[name],
		}), http.StatusOK)
		if d.Code != code {
			t.Errorf("the key %s is %s, want %s", name, d.Code, code)
		}
	}
}

// TestBackupUnderLoad makes backups while keys are created. Whatever was
// answered before a backup began is in it.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	for name, source := range databaseFlags() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := source(t)
			p := serve(t, flags)
			operator := p.admin("key", "--expires", "720h")
			url := p.url + "/v1/workspaces/" + p.tenant(operator) + "/keys"
			var mu sync.Mutex
			var answered []string
			var stop atomic.Bool
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for !stop.Load() {
						made := want[keystile.CreatedKey](t, call(t, "POST", url, bearer(operator), `{"name": "Busy"}`), http.StatusCreated)
						mu.Lock()
						answered = append(answered, made.Secret)
						mu.Unlock()
					}
				})
			}
			so := func() []string {
				mu.Lock()
				defer mu.Unlock()
				return append([]string(nil), answered...)
			}
			for deadline := time.Now().Add(2 * time.Minute); len(so()) < 50 && time.Now().Before(deadline); {
				<-time.After(10 * time.Millisecond)
			}
			before := so()
			file := filepath.Join(t.TempDir(), "backup.db")
			succeed(t, append([]string{"backup", file}, flags...)...)
			during := len(so()) - len(before)
			stop.Store(true)
			all.Wait()
			p.end()
			if len(before) < 50 || during == 0 {
				t.Fatalf("%d keys before the backup and %d during it: there was no load", len(before), during)
			}
			flags = []string{"--data", t.TempDir()}
			succeed(t, append([]string{"restore", "--yes", file}, flags...)...)
			p = serve(t, flags)
			for _, secret := range before {
				if d := p.verify(operator, secret); !d.Valid {
					t.Fatalf("a key that was answered before the backup: %+v", d)
				}
			}
			t.Logf("%d keys before the backup, %d during it", len(before), during)
		})
	}
}

// TestKillRestore ends a restore with kill -9 at many moments. The store is the
// old or the new one afterwards, whole, and the next restore works. On
// PostgreSQL the first of them meets the row of a server that was killed.
func TestKillRestore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, source := range databaseFlags() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Two stores of different lines, told apart by their keys.
			files := map[int]string{}
			for _, n := range []int{1, 2} {
				flags := []string{"--data", t.TempDir()}
				p := serve(t, flags)
				for range n {
					p.admin("key")
				}
				p.end()
				files[n] = filepath.Join(t.TempDir(), "backup.db")
				succeed(t, append([]string{"backup", files[n]}, flags...)...)
			}
			flags := source(t)
			serve(t, flags).kill()
			start := time.Now()
			succeed(t, append([]string{"restore", "--yes", files[1]}, flags...)...)
			if flags[0] == "--database" && time.Since(start) < 15*time.Second {
				t.Error("the restore did not wait for the lease of a server that was killed")
			}
			start = time.Now()
			succeed(t, append([]string{"restore", "--yes", files[1]}, flags...)...)
			whole := time.Since(start)
			o := store.Options{Dir: flags[1]}
			if flags[0] == "--database" {
				o = store.Options{URL: flags[1]}
			}
			now, seen := 1, map[bool]int{}
			const tries = 12
			for i := range tries {
				next := 3 - now
				cmd := exec.Command(program(t), append([]string{"restore", "--yes", files[next]}, flags...)...)
				cmd.Env = environment()
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				<-time.After(whole * time.Duration(i+1) / tries)
				_ = cmd.Process.Signal(os.Kill)
				_ = cmd.Wait()
				s, err := store.Open(ctx, o)
				if err != nil {
					t.Fatalf("after a kill: %v", err)
				}
				var keys int
				err = s.Read(ctx, func(tx *store.Tx) (err error) {
					keys, err = tx.CountKeys()
					return err
				})
				if err = errors.Join(err, s.Close()); err != nil || (keys != now && keys != next) {
					t.Fatalf("after a kill: %d keys, %v; want %d or %d", keys, err, now, next)
				}
				seen[keys == next]++
				now = keys
			}
			t.Logf("killed %d times: %d times old, %d times new", tries, seen[false], seen[true])
			succeed(t, append([]string{"restore", "--yes", files[3-now]}, flags...)...)
			p := serve(t, flags)
			p.admin("key")
			p.end()
		})
	}
}
