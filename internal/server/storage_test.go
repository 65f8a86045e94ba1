package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
)

// serveOnSmallDisk starts the program with its data on a file system of 4 MiB,
// which only the process and its children see, and returns the way to it from outside.
func serveOnSmallDisk(t *testing.T, flags ...string) (_ *process, disk string) {
	t.Helper()
	dir := t.TempDir()
	const mounted = `mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"`
	for _, how := range []string{"-rm", "-m"} {
		if exec.Command("unshare", how, "sh", "-c", mounted, dir, "true").Run() != nil {
			continue
		}
		arguments := []string{how, "sh", "-c", mounted, dir, program(t), "serve", "--listen", "127.0.0.1:0", "--data", dir}
		p := start(t, exec.Command("unshare", append(arguments, flags...)...), nil)
		p.store = []string{"--data", dir}
		p.within = []string{"nsenter", "-t", strconv.Itoa(p.cmd.Process.Pid), "-m"}
		if how == "-rm" {
			p.within = append(p.within, "-U", "--preserve-credentials")
		}
		return p, fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, dir)
	}
	t.Fatal("no file system of its own can be mounted here: this test needs Linux with mount namespaces (unshare -m as root, or unshare -rm)")
	return nil, ""
}

// fill takes all space that is left in a directory and returns how to free it.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 16; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(bytes.Repeat([]byte{1}, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk: %v", err)
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// TestDiskFull fills the disk under a running server, and frees it again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	p, disk := serveOnSmallDisk(t, "--flush-interval", "200ms")
	operator := p.admin("key")
	workspace := p.tenant(operator)
	keys := p.url + "/v1/workspaces/" + workspace + "/keys"
	create := func() reply {
		return call(t, "POST", keys, headers("Authorization", "Bearer "+operator), `{"name": "One more", "description": "It takes some space"}`)
	}
	first := want[keystile.CreatedKey](t, create(), http.StatusCreated)
	free := fill(t, disk)

	var answered []keystile.CreatedKey
	var refused reply
	for range 5000 { // what the write-ahead log has left
		if refused = create(); refused.status != http.StatusCreated {
			break
		}
		answered = append(answered, want[keystile.CreatedKey](t, refused, http.StatusCreated))
	}
	for range 20 {
		if e := wantProblem(t, refused, http.StatusInsufficientStorage, keystile.CodeStorageFull); len(e.Fixes) == 0 || e.RequestID == "" {
			t.Fatalf("a full disk is told as %s", refused)
		}
		// What takes nothing of the disk goes on.
		for _, made := range append(answered, first) {
			if d := p.verify(operator, made.Secret); !d.Valid {
				t.Fatalf("a key that was answered: %+v", d)
			}
		}
		want[keystile.Key](t, call(t, "GET", p.url+"/v1/keys/"+first.Key.ID, bearer(operator), nil), http.StatusOK)
		if r := call(t, "GET", p.url+"/healthz", nil, nil); r.status != http.StatusOK {
			t.Fatalf("healthz: %s", r)
		}
		refused = call(t, "POST", p.url+"/v1/keys/"+first.Key.ID+"/revoke", bearer(operator), nil)
		if refused.status == http.StatusOK {
			t.Fatal("a revoke was answered with success on a full disk")
		}
		wantProblem(t, refused, http.StatusInsufficientStorage, keystile.CodeStorageFull)
	}
	if d := p.verify(operator, first.Secret); !d.Valid {
		t.Fatalf("a revoke that was refused took effect: %+v", d)
	}

	free()
	eventually(t, "keys can be created again", func() bool { return create().status == http.StatusCreated })
	want[keystile.Key](t, call(t, "POST", p.url+"/v1/keys/"+first.Key.ID+"/revoke", bearer(operator), nil), http.StatusOK)
	if d := p.verify(operator, first.Secret); d.Code != keystile.CodeRevoked {
		t.Errorf("revoked, and %+v", d)
	}
	// Uses that could not be written meanwhile were kept.
	eventually(t, "the uses are counted", func() bool {
		u := want[keystile.Usage](t, call(t, "GET", p.url+"/v1/workspaces/"+workspace+"/usage?key="+first.Key.ID, bearer(operator), nil), http.StatusOK)
		n := int64(0)
		for _, b := range u.Buckets {
			n += b.Total
		}
		return n >= 22
	})
	if err := p.stop(); err != nil {
		t.Errorf("ended with %v: %s", err, p.stderr)
	}
}

// TestDatabaseAway ends PostgreSQL under a running server, for longer than a
// lease, and starts it again.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	database := pgtest.Start(t)
	p := serve(t, []string{"--database", database.URL("postgres")}, "--flush-interval", "200ms")
	operator := p.admin("key")
	workspace := p.tenant(operator)
	keys := p.url + "/v1/workspaces/" + workspace + "/keys"
	create := func() reply { return call(t, "POST", keys, bearer(operator), `{"name": "One more"}`) }
	ask := func(secret string) reply {
		return call(t, "POST", p.url+"/v1/verify", bearer(operator), keystile.VerifyRequest{Key: secret})
	}
	made := want[keystile.CreatedKey](t, create(), http.StatusCreated)
	revoked := want[keystile.CreatedKey](t, create(), http.StatusCreated)
	want[keystile.Key](t, call(t, "POST", p.url+"/v1/keys/"+revoked.Key.ID+"/revoke", bearer(operator), nil), http.StatusOK)

	for range 2 { // it must work more than once
		uses := 0
		database.Stop(t)
		away := time.Now()
		for time.Since(away) < 2*time.Minute {
			r := ask(made.Secret)
			if r.status != http.StatusOK {
				e := wantProblem(t, r, http.StatusServiceUnavailable, keystile.CodeUnavailable)
				if r.header.Get("Retry-After") == "" || e.Detail == "" {
					t.Errorf("the refusal says too little: %s", r)
				}
				break
			}
			if d := want[keystile.Decision](t, r, http.StatusOK); !d.Valid {
				t.Fatalf("a good key: %+v", d)
			}
			uses++
			// A change is refused, and soon.
			r = create()
			if r.status != http.StatusServiceUnavailable {
				t.Fatalf("a create without a database: %s", r)
			}
			if e := r.problem(t); e.Code != keystile.CodeUnavailable && e.Code != keystile.CodeUnknownOutcome {
				t.Fatalf("a create without a database: %s", r)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if uses == 0 {
			t.Error("verify did not go on for a moment") // memory and lease are there for that
		}
		wantProblem(t, ask(revoked.Secret), http.StatusServiceUnavailable, keystile.CodeUnavailable)
		wantProblem(t, call(t, "GET", p.url+"/v1/me", bearer(made.Secret), nil), http.StatusServiceUnavailable, keystile.CodeUnavailable)
		wantProblem(t, call(t, "GET", p.url+"/v1/forward-auth", bearer(made.Secret), nil), http.StatusServiceUnavailable, keystile.CodeUnavailable)
		if r := call(t, "GET", p.url+"/readyz", nil, nil); r.status != http.StatusServiceUnavailable {
			t.Errorf("readyz: %s", r)
		}
		if r := call(t, "GET", p.url+"/healthz", nil, nil); r.status != http.StatusOK {
			t.Errorf("healthz: %s", r)
		}
		database.Start(t)
		eventually(t, "keys are checked again", func() bool { return ask(made.Secret).status == http.StatusOK })
		if d := want[keystile.Decision](t, ask(revoked.Secret), http.StatusOK); d.Code != keystile.CodeRevoked {
			t.Errorf("a revoked key: %+v", d)
		}
		eventually(t, "the server is ready", func() bool { return call(t, "GET", p.url+"/readyz", nil, nil).status == http.StatusOK })
		eventually(t, "keys are created again", func() bool { return create().status == http.StatusCreated })
		eventually(t, "uses while it was away are written", func() bool {
			u := want[keystile.Usage](t, call(t, "GET", p.url+"/v1/workspaces/"+workspace+"/usage?key="+made.Key.ID, bearer(operator), nil), http.StatusOK)
			n := 0
			for _, b := range u.Buckets {
				n += int(b.Total)
			}
			return n >= uses
		})
	}
	if err := p.stop(); err != nil {
		t.Errorf("ended with %v: %s", err, p.stderr)
	}
}
