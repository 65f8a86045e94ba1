package server_test

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/keystiletest"
)

// newMasterKey is the text of a master key.
func newMasterKey(t testing.TB) seal.MasterKey {
	t.Helper()
	k, err := seal.NewMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keyFile writes a file with master keys and returns its path.
func keyFile(t testing.TB, path string, keys ...seal.MasterKey) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "keys")
	}
	text := "# test\n"
	for _, k := range keys {
		text += k.Text() + "\n"
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// signer drives the webhook secrets of a server.
type signer struct {
	testing.TB
	url, operator, workspace string
}

func newSigner(t testing.TB, p *process) signer {
	t.Helper()
	operator := p.admin("key", "--expires", "720h")
	return signer{t, p.url, operator, p.tenant(operator)}
}

func (s signer) at(p *process) signer { s.url = p.url; return s }

func (s signer) tryCreate(environment string) reply {
	s.Helper()
	return call(s, "POST", s.url+"/v1/workspaces/"+s.workspace+"/webhook-secrets", bearer(s.operator), keystile.CreateWebhookSecret{Label: "Consumer", Environment: environment})
}

func (s signer) create(environment string) keystile.CreatedWebhookSecret {
	s.Helper()
	return want[keystile.CreatedWebhookSecret](s, s.tryCreate(environment), http.StatusCreated)
}

func (s signer) trySign(made keystile.CreatedWebhookSecret) reply {
	s.Helper()
	return call(s, "POST", s.url+"/v1/workspaces/"+made.WebhookSecret.WorkspaceID+"/webhooks/sign", bearer(s.operator),
		keystile.SignRequest{Payload: "payload", WebhookSecret: made.WebhookSecret.ID})
}

// signs fails unless the server signs with a secret, and a receiver agrees.
func (s signer) signs(made keystile.CreatedWebhookSecret) {
	s.Helper()
	signed := want[keystile.Signed](s, s.trySign(made), http.StatusOK)
	secret, err := keystile.ParseWebhookSecret(made.Secret)
	if err != nil {
		s.Fatal(err)
	}
	h := http.Header{}
	h.Set("webhook-id", signed.Headers.ID)
	h.Set("webhook-timestamp", signed.Headers.Timestamp)
	h.Set("webhook-signature", signed.Headers.Signature)
	v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{secret}}
	if err := v.Verify(h, []byte("payload")); err != nil {
		s.Errorf("signed with %s: %v", made.WebhookSecret.ID, err)
	}
}

func (s signer) revoke(made keystile.CreatedWebhookSecret) {
	s.Helper()
	want[keystile.WebhookSecretRecord](s, call(s, "POST", s.url+"/v1/webhook-secrets/"+made.WebhookSecret.ID+"/revoke", bearer(s.operator), nil), http.StatusOK)
}

// fails starts a server that must not start, and returns its one line.
func fails(t testing.TB, variables []string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command(program(t), append([]string{"serve", "--listen", "127.0.0.1:0"}, arguments...)...)
	cmd.Env = append(environment(), variables...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	last := lines[len(lines)-1]
	if err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.HasPrefix(last, "keystile: ") || strings.Contains(stdout.String(), "listens") {
		t.Fatalf("started, or did not fail as it should: %v\n%s%s", err, &stdout, &stderr)
	}
	return last
}

// with runs the program with variables set, as start takes it.
func with(t testing.TB, variables []string, store []string, flags ...string) *process {
	t.Helper()
	words := append(variables, program(t), "serve", "--listen", "127.0.0.1:0")
	return start(t, exec.Command("env", append(append(words, store...), flags...)...), store)
}

// TestMasterKeySources: a file beside SQLite by default, made once and for its
// owner alone; a file, a variable or a command for both databases.
func TestMasterKeySources(t *testing.T) {
	t.Parallel()
	key := newMasterKey(t)
	t.Run("default file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		store := []string{"--data", dir}
		p := serve(t, store)
		s := newSigner(t, p)
		made := s.create("production")
		file := filepath.Join(dir, "master.key")
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		if !p.says("WARN", "back this file up", file) {
			t.Errorf("the start does not say that it made a key: %s", p.stderr)
		}
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p.end()
		p = serve(t, store)
		s.at(p).signs(made)
		after, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("the second start changed the file, %v", err)
		}
		if log := p.stderr.String(); strings.Contains(log, "made a master key") || strings.Contains(log, "can read") {
			t.Errorf("the second start says what is not so: %s", log)
		}
		p.end()
		if runtime.GOOS != "windows" {
			if err := os.Chmod(file, 0o604); err != nil {
				t.Fatal(err)
			}
			p = serve(t, store)
			if !p.says("everyone on this machine can read the master key file") {
				t.Errorf("no warning: %s", p.stderr)
			}
			p.end()
		}

		t.Log("the file is gone: keys go on, nothing is made in its place")
		if err := os.Rename(file, file+".aside"); err != nil {
			t.Fatal(err)
		}
		p = serve(t, store)
		s = s.at(p)
		for _, r := range []reply{s.trySign(made), s.tryCreate("production")} {
			wantProblem(t, r, http.StatusServiceUnavailable, keystile.CodeMasterKeyMissing)
		}
		if d := p.verify(s.operator, s.operator); d.Code == keystile.CodeUnknown {
			t.Errorf("a key: %+v", d)
		}
		if !p.says("the master key is missing") {
			t.Errorf("no warning: %s", p.stderr)
		}
		if err := os.Rename(file+".aside", file); err != nil {
			t.Fatal(err)
		}
		s.signs(made) // without another start
		p.end()

		t.Log("another key")
		keyFile(t, file, newMasterKey(t))
		if line := fails(t, nil, store...); !strings.Contains(line, "wrong master key") || !strings.Contains(line, "--lost") {
			t.Error(line)
		}
	})
	for name, source := range databaseFlags() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := source(t)
			file := keyFile(t, "", key)
			var made []keystile.CreatedWebhookSecret
			var s signer
			for _, p := range []func() *process{
				func() *process { return serve(t, store, "--master-key-file", file) },
				func() *process { return with(t, []string{"KEYSTILE_MASTER_KEY=" + key.Text()}, store) },
				func() *process { return with(t, []string{"KEYSTILE_MASTER_KEY_FILE=" + file}, store) },
				func() *process { return serve(t, store, "--master-key-command", "cat '"+file+"'") },
				func() *process { return with(t, []string{"KEYSTILE_MASTER_KEY_COMMAND=echo " + key.Text()}, store) },
			} {
				p := p()
				if s.operator == "" {
					s = newSigner(t, p)
				}
				s = s.at(p)
				made = append(made, s.create("staging"))
				for _, m := range made {
					s.signs(m)
				}
				if strings.Contains(p.stderr.String(), key.Text()) {
					t.Error("the log holds the master key")
				}
				p.end()
			}
			if name == "sqlite" {
				if _, err := os.Stat(filepath.Join(store[1], "master.key")); err == nil {
					t.Error("a key was made where one was named")
				}
			}

			t.Log("wrong ones")
			other := newMasterKey(t)
			for what, c := range map[string]struct {
				variables, flags []string
				says             string
			}{
				"another key":  {nil, []string{"--master-key-file", keyFile(t, "", other)}, "wrong master key"},
				"another, var": {[]string{"KEYSTILE_MASTER_KEY=" + other.Text()}, nil, "wrong master key"},
				"no key":       {[]string{"KEYSTILE_MASTER_KEY=hunter2hunter2"}, nil, "base64 of 32 random bytes"},
				"two sources":  {[]string{"KEYSTILE_MASTER_KEY=" + key.Text()}, []string{"--master-key-file", file}, "exclude each other"},
				"no file":      {nil, []string{"--master-key-file", file + ".none"}, "no such file"},
				"empty file":   {nil, []string{"--master-key-file", keyFile(t, "")}, "0 master keys"},
				"exit 3":       {nil, []string{"--master-key-command", "exit 3"}, "exit status 3"},
				"prints more":  {nil, []string{"--master-key-command", "yes " + key.Text()}, "more than master keys"},
			} {
				line := fails(t, c.variables, append(append([]string{}, store...), c.flags...)...)
				if !strings.Contains(line, c.says) {
					t.Errorf("%s: %s", what, line)
				}
				for _, secret := range []string{key.Text(), other.Text(), "hunter2"} {
					if strings.Contains(line, secret) {
						t.Errorf("%s: the message repeats a key", what)
					}
				}
			}
			p := with(t, []string{"KEYSTILE_MASTER_KEY=" + other.Text() + " " + key.Text()}, store) // older ones behind
			s.at(p).signs(made[0])
			s.at(p).signs(s.at(p).create("staging"))
			p.end()
			p = serve(t, store, "--master-key-file", file) // that key does not seal before a rotation
			p.end()
		})
	}
}

// TestNoMasterKey: with PostgreSQL none is made. Keys are served, and webhook
// secrets refused with the way out.
func TestNoMasterKey(t *testing.T) {
	t.Parallel()
	store := []string{"--database", pgtest.New(t)}
	p := serve(t, store)
	s := newSigner(t, p)
	if !p.says("no master key") {
		t.Error(p.stderr)
	}
	made := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+s.workspace+"/keys", bearer(s.operator), `{"name": "k"}`), http.StatusCreated)
	if d := p.verify(s.operator, made.Secret); !d.Valid {
		t.Errorf("%+v", d)
	}
	e := wantProblem(t, s.tryCreate("production"), http.StatusServiceUnavailable, keystile.CodeMasterKeyMissing)
	for _, way := range []string{"KEYSTILE_MASTER_KEY", "--master-key-file", "--master-key-command"} {
		if !strings.Contains(strings.Join(e.Fixes, " "), way) {
			t.Errorf("does not name %s: %v", way, e.Fixes)
		}
	}
	if l := want[keystile.List[keystile.WebhookSecretRecord]](t, call(t, "GET", p.url+"/v1/workspaces/"+s.workspace+"/webhook-secrets", bearer(s.operator), nil), http.StatusOK); len(l.Data) != 0 {
		t.Errorf("%+v", l)
	}
	if status, _, stderr := command(t, append([]string{"admin", "rotate-master-key"}, store...)...); status != 2 || !strings.Contains(stderr, "no master key is named") {
		t.Errorf("%d %s", status, stderr)
	}
	p.end()

	key := newMasterKey(t)
	one := serve(t, store, "--master-key-file", keyFile(t, "", key))
	secret := s.at(one).create("production")
	if line := fails(t, nil, append(store, "--master-key-file", keyFile(t, "", newMasterKey(t)))...); !strings.Contains(line, "wrong master key") {
		t.Error(line)
	}
	none := serve(t, store) // a node that was forgotten
	wantProblem(t, s.at(none).trySign(secret), http.StatusServiceUnavailable, keystile.CodeMasterKeyMissing)
	if !none.says(key.ID()) {
		t.Errorf("does not say which key it lacks: %s", none.stderr)
	}
}

// TestTwoNodesSign: what one node creates the other signs with, and what one
// revokes signs nowhere when the answer is there.
func TestTwoNodesSign(t *testing.T) {
	t.Parallel()
	store := []string{"--database", pgtest.New(t)}
	file := keyFile(t, "", newMasterKey(t))
	a, b := serve(t, store, "--master-key-file", file), serve(t, store, "--master-key-file", file)
	s := newSigner(t, a)
	for range 20 {
		made := s.at(a).create("production")
		s.at(b).signs(made)
		s.at(a).revoke(made)
		wantProblem(t, s.at(b).trySign(made), http.StatusConflict, keystile.CodeConflict)
	}
	old := s.at(a).create("staging")
	fresh := want[keystile.CreatedWebhookSecret](t, call(t, "POST", b.url+"/v1/webhook-secrets/"+old.WebhookSecret.ID+"/rotate", bearer(s.operator), nil), http.StatusCreated)
	signed := want[keystile.Signed](t, call(t, "POST", a.url+"/v1/workspaces/"+s.workspace+"/webhooks/sign", bearer(s.operator),
		keystile.SignRequest{Payload: "p", Environment: "staging"}), http.StatusOK)
	if fmt.Sprint(signed.WebhookSecrets) != fmt.Sprint([]string{old.WebhookSecret.ID, fresh.WebhookSecret.ID}) || strings.Count(signed.Headers.Signature, "v1,") != 2 {
		t.Errorf("%+v", signed)
	}
}

// fill makes webhook secrets in many workspaces: an environment holds 32.
func (s signer) fill(n int) (all []keystile.CreatedWebhookSecret) {
	s.Helper()
	for len(all) < n {
		s.workspace = want[keystile.Workspace](s, call(s, "POST", s.url+"/v1/workspaces", bearer(s.operator), `{"name": "Tenant"}`), http.StatusCreated).ID
		var mu sync.Mutex
		var clients sync.WaitGroup
		for _, environment := range []string{"production", "staging", "development"} {
			clients.Go(func() {
				for range 32 {
					made := s.create(environment)
					mu.Lock()
					all = append(all, made)
					mu.Unlock()
				}
			})
		}
		clients.Wait()
	}
	return all
}

// TestRotateMasterKey seals everything anew beside servers that create and sign
// meanwhile, without one failure.
func TestRotateMasterKey(t *testing.T) {
	t.Parallel()
	for name, source := range databaseFlags() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := source(t)
			var flags []string
			old, file := newMasterKey(t), filepath.Join(store[1], "master.key")
			if name == "postgres" {
				file = keyFile(t, "", old)
				flags = []string{"--master-key-file", file}
			}
			servers := []*process{serve(t, store, flags...)}
			if name == "postgres" {
				servers = append(servers, serve(t, store, flags...))
			}
			s := newSigner(t, servers[0])
			all := s.fill(200)
			var stop atomic.Bool
			var done atomic.Int64
			var clients sync.WaitGroup
			for i := range 4 {
				clients.Go(func() {
					c := s.at(servers[i%len(servers)])
					for n := i; !stop.Load(); n++ {
						c.signs(all[n%len(all)])
						made := c.create("development")
						c.signs(made)
						if r := call(t, "DELETE", c.url+"/v1/webhook-secrets/"+made.WebhookSecret.ID, bearer(c.operator), nil); r.status != http.StatusNoContent {
							t.Errorf("delete: %s", r)
						}
						done.Add(1)
					}
				})
			}
			eventually(t, "there is work", func() bool { return done.Load() > 4 })
			rotate := func() string {
				t.Helper()
				if name == "postgres" {
					box, err := seal.Source{File: file}.Read(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					keyFile(t, file, append([]seal.MasterKey{newMasterKey(t)}, box.Keys()...)...)
				}
				stdout, _ := succeed(t, append(append([]string{"admin", "rotate-master-key"}, store...), flags...)...)
				return stdout
			}
			for range 3 {
				at := done.Load()
				if out := rotate(); !strings.Contains(out, "Sealed anew") {
					t.Error(out)
				}
				eventually(t, "there is work after a rotation", func() bool { return done.Load() > at+8 })
			}
			stop.Store(true)
			clients.Wait()
			box, err := seal.Source{File: file}.Read(t.Context())
			if err != nil || len(box.Keys()) != 4 {
				t.Fatalf("%d keys, %v", len(box.Keys()), err)
			}
			if under := sealedUnder(t, store); len(under) != 1 || under[box.Newest()] != len(all) {
				t.Errorf("sealed under %v, want %d under %s", under, len(all), box.Newest())
			}
			for _, p := range servers {
				p.end()
			}
			// The newest key alone opens everything.
			keyFile(t, file, box.Keys()[0])
			s = s.at(serve(t, store, flags...))
			for _, made := range all {
				s.signs(made)
			}
			audit := want[keystile.AuditList](t, call(t, "GET", s.url+"/v1/workspaces/ws_operator/audit?action=master_key.rotated", bearer(s.operator), nil), http.StatusOK)
			if len(audit.Data) != 3 || audit.Data[0].After["id"] != box.Newest() {
				t.Errorf("audit: %+v", audit.Data)
			}
			if name == "postgres" {
				if status, _, stderr := command(t, append(append([]string{"admin", "rotate-master-key"}, store...), flags...)...); status != 2 || !strings.Contains(stderr, "put a new one before it") {
					t.Errorf("%d %s", status, stderr)
				}
			}
		})
	}
}

// TestRotateMasterKeyServersLack: a rotation names the servers that lack the new
// key, and changes nothing; forced, it goes on, and who lacks it is counted as a
// risk.
func TestRotateMasterKeyServersLack(t *testing.T) {
	t.Parallel()
	store := []string{"--database", pgtest.New(t)}
	old, next := newMasterKey(t), newMasterKey(t)
	had, has := keyFile(t, "", old), keyFile(t, "", next, old)
	p := serve(t, store, "--master-key-file", had)
	serve(t, store, "--master-key-file", has)
	operator := p.admin("key")
	rotate := append([]string{"admin", "rotate-master-key", "--master-key-file", has}, store...)
	status, _, stderr := command(t, rotate...)
	var lacks keystile.Node
	for _, n := range want[keystile.List[keystile.Node]](t, call(t, "GET", p.url+"/v1/nodes", bearer(operator), nil), http.StatusOK).Data {
		if !slices.Contains(n.MasterKeys, old.ID()) {
			t.Errorf("a server says that it holds %v", n.MasterKeys)
		}
		if n.Self {
			lacks = n
		} else if strings.Contains(stderr, n.ID) {
			t.Errorf("a server is named that holds the key: %s", stderr)
		}
	}
	if status != 2 || !strings.Contains(stderr, lacks.ID) || !strings.Contains(stderr, "nothing was changed") {
		t.Fatalf("%d %s", status, stderr)
	}
	risky := func() bool {
		return strings.Contains(string(call(t, "GET", p.url+"/readyz", nil, nil).body), "without the master key in use: 1")
	}
	if risky() {
		t.Error("a risk that is none")
	}
	succeed(t, append(rotate, "--force")...)
	if !risky() {
		t.Error("readyz does not say that a server lacks the key in use")
	}
	keyFile(t, had, next, old)
	eventually(t, "the server has noticed its new key", func() bool { return !risky() })
}

// sealedUnder counts webhook secrets by the master key in the row, and fails
// when the sealed text is under another one.
func sealedUnder(t testing.TB, store []string) map[string]int {
	t.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(store[1], "keystile.db")+"?_pragma=busy_timeout(10000)"
	if store[0] == "--database" {
		driver, source = "pgx", store[1]
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT id, master_key, sealed FROM webhook_secrets`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	under := map[string]int{}
	for rows.Next() {
		var id, key string
		var sealed []byte
		if err := rows.Scan(&id, &key, &sealed); err != nil {
			t.Fatal(err)
		}
		if is, err := seal.KeyOf(sealed); key != "" && (err != nil || is != key) {
			t.Errorf("%s is under %s, and its row says %s, %v", id, is, key, err)
		}
		under[key]++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return under
}

// TestKillRotateMasterKey ends a rotation with kill -9 at many moments. Nothing
// is lost at any of them, and the next run goes on.
func TestKillRotateMasterKey(t *testing.T) {
	t.Parallel()
	for name, source := range databaseFlags() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := source(t)
			file, flags := filepath.Join(store[1], "master.key"), []string(nil)
			if name == "postgres" {
				file = keyFile(t, "", newMasterKey(t))
				flags = []string{"--master-key-file", file}
			}
			p := serve(t, store, flags...)
			s := newSigner(t, p)
			all := s.fill(300)
			arguments := append(append([]string{"admin", "rotate-master-key"}, store...), flags...)
			box := func() *seal.Box {
				t.Helper()
				b, err := seal.Source{File: file}.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			// ready sees to it that there is something to do.
			ready := func() {
				t.Helper()
				if b := box(); name == "postgres" && sealedUnder(t, store)[b.Newest()] == len(all) {
					keyFile(t, file, append([]seal.MasterKey{newMasterKey(t)}, b.Keys()...)...)
				}
			}
			ready()
			began := time.Now()
			succeed(t, arguments...)
			whole := time.Since(began)
			const tries = 10
			partly := 0
			for i := range tries {
				ready()
				cmd := exec.Command(program(t), arguments...)
				cmd.Env = environment()
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan struct{})
				go func() { _ = cmd.Wait(); close(ended) }()
				if i < tries/2 {
					<-time.After(whole * time.Duration(i+1) / (tries / 2))
				} else { // in the midst of sealing, for certain
					for done := false; !done && len(sealedUnder(t, store)) < 2; {
						select {
						case <-ended:
							done = true
						default:
						}
					}
				}
				_ = cmd.Process.Signal(os.Kill)
				<-ended
				if len(sealedUnder(t, store)) > 1 {
					partly++
				}
				for n := i; n < len(all); n += 10 {
					s.signs(all[n])
				}
				b := box()
				for id := range sealedUnder(t, store) {
					if !b.Holds(id) {
						t.Fatalf("the file lacks the key %s", id)
					}
				}
				if i%2 == 1 { // otherwise the next meets what this one left
					ready()
					succeed(t, arguments...)
				}
			}
			if partly == 0 {
				t.Error("no kill came between two keys")
			}
			t.Logf("killed %d times in %v, %d times between two keys", tries, whole, partly)
			ready()
			succeed(t, arguments...)
			if under := sealedUnder(t, store); len(under) != 1 || under[box().Newest()] != len(all) {
				t.Errorf("sealed under %v", under)
			}
			p.end()
			s = s.at(serve(t, store, flags...))
			for _, made := range all {
				s.signs(made)
			}
		})
	}
}

// TestMasterKeyAndBackup: no backup holds a master key, and a restore needs the
// one of then. Without it the secrets can be given up, and nothing else is lost.
func TestMasterKeyAndBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := []string{"--data", dir}
	p := serve(t, store)
	s := newSigner(t, p)
	made, later := s.create("production"), s.create("staging")
	file := filepath.Join(t.TempDir(), "backup.db")
	succeed(t, append([]string{"backup", file}, store...)...)
	kept := filepath.Join(dir, "master.key")
	box, err := seal.Source{File: kept}.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(box.Keys()[0].Text())
	if err != nil {
		t.Fatal(err)
	}
	random, err := base64.StdEncoding.DecodeString(made.Secret[6:])
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{box.Keys()[0].Text(), string(raw), made.Secret[6:40], string(random)}
	inFiles(t, filepath.Dir(file), forms...)

	t.Log("into the same store: what was revoked since stays so, and a rotation since does no harm")
	s.revoke(later)
	succeed(t, append([]string{"admin", "rotate-master-key"}, store...)...)
	p.end()
	succeed(t, append([]string{"restore", "--yes", file}, store...)...)
	p = serve(t, store)
	s.at(p).signs(made)
	wantProblem(t, s.at(p).trySign(later), http.StatusConflict, keystile.CodeConflict)
	if !p.says("rotate-master-key") {
		t.Error("the start does not say that a newer key waits")
	}
	s.at(p).signs(s.at(p).create("staging"))
	succeed(t, append([]string{"admin", "rotate-master-key"}, store...)...)
	s.at(p).signs(made)
	p.end()

	for name, source := range databaseFlags() {
		t.Run("elsewhere, "+name, func(t *testing.T) {
			t.Parallel()
			store := source(t)
			succeed(t, append([]string{"restore", "--yes", file}, store...)...)
			var flags []string
			if name == "postgres" {
				flags = []string{"--master-key-file", kept}
			} else if err := os.Link(kept, filepath.Join(store[1], "master.key")); err != nil {
				t.Fatal(err)
			}
			p := serve(t, store, flags...)
			s := s.at(p)
			s.TB = t
			s.signs(made)
			s.signs(later)
			p.end()

			t.Log("the key is lost")
			other := []string{"--master-key-file", keyFile(t, "", newMasterKey(t))}
			if line := fails(t, nil, append(store, other...)...); !strings.Contains(line, box.Keys()[0].ID()) {
				t.Error(line)
			}
			lost := append(append([]string{"admin", "rotate-master-key", "--lost"}, store...), other...)
			if status, _, stderr := command(t, lost...); status != 2 || !strings.Contains(stderr, "--yes") {
				t.Errorf("%d %s", status, stderr)
			}
			if _, stderr := succeed(t, append(lost, "--yes")...); !strings.Contains(stderr, "2 webhook secrets can't be opened") {
				t.Error(stderr)
			}
			p = serve(t, store, other...)
			s = s.at(p)
			is := want[keystile.WebhookSecretRecord](t, call(t, "GET", p.url+"/v1/webhook-secrets/"+made.WebhookSecret.ID, bearer(s.operator), nil), http.StatusOK)
			if is.Status != keystile.StatusRevoked || is.RevokedReason != "master_key_lost" {
				t.Errorf("%+v", is)
			}
			wantProblem(t, s.trySign(made), http.StatusConflict, keystile.CodeConflict)
			s.signs(s.create("production"))
			p.end()
		})
	}
}

// TestSealedRows: what someone changes in the database opens nothing. A sealed
// text that is moved to another record, or cut, signs nowhere, and a rotation
// says which those are and goes on.
func TestSealedRows(t *testing.T) {
	t.Parallel()
	for name, source := range databaseFlags() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := source(t)
			flags := []string{"--master-key-file", keyFile(t, "", newMasterKey(t))}
			p := serve(t, store, flags...)
			s := newSigner(t, p)
			good, moved, cut := s.create("production"), s.create("production"), s.create("staging")
			driver, at := "sqlite", "file:"+filepath.Join(store[1], "keystile.db")+"?_pragma=busy_timeout(10000)"
			if name == "postgres" {
				driver, at = "pgx", store[1]
			}
			db, err := sql.Open(driver, at)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, q := range [][]any{
				{`UPDATE webhook_secrets SET sealed = (SELECT sealed FROM webhook_secrets WHERE id = $2) WHERE id = $1`, moved.WebhookSecret.ID, good.WebhookSecret.ID},
				{`UPDATE webhook_secrets SET sealed = SUBSTR(sealed, 1, 40) WHERE id = $1`, cut.WebhookSecret.ID},
			} {
				if _, err := db.ExecContext(t.Context(), q[0].(string), q[1:]...); err != nil {
					t.Fatal(err)
				}
			}
			s.signs(good)
			for _, bad := range []keystile.CreatedWebhookSecret{moved, cut} {
				r := s.trySign(bad)
				wantProblem(t, r, http.StatusInternalServerError, keystile.CodeInternal)
				if strings.Contains(string(r.body), "seal") {
					t.Errorf("tells a caller what the log alone should: %s", r)
				}
				eventually(t, "the log says which it is", func() bool { return strings.Contains(p.stderr.String(), bad.WebhookSecret.ID) })
			}
			box, err := seal.Source{File: flags[1]}.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			keyFile(t, flags[1], newMasterKey(t), box.Keys()[0])
			_, stderr := succeed(t, append(append([]string{"admin", "rotate-master-key"}, store...), flags...)...)
			if !strings.Contains(stderr, "damaged") || !strings.Contains(stderr, moved.WebhookSecret.ID) || !strings.Contains(stderr, cut.WebhookSecret.ID) || strings.Contains(stderr, good.WebhookSecret.ID) {
				t.Error(stderr)
			}
			s.signs(good)
		})
	}
}

// TestRetainWebhookSecrets: records of revoked webhook secrets go when those of
// keys do.
func TestRetainWebhookSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.Dir(dir), keystiletest.ProfileText("product: X\nprefix: xx\nretention:\n  revoked_keys: 30d\n"))
	n := &tenant{T: t, server: s, dir: dir, id: s.Workspace, admin: s.Key(s.Workspace, keystile.CreateKey{Name: "Admin", Role: "admin"}).Secret}
	old, late, live := n.hook("old", "production"), n.hook("late", "production"), n.hook("live", "production")
	for _, made := range []keystile.CreatedWebhookSecret{old, late} {
		want[keystile.WebhookSecretRecord](t, n.call(n.admin, "POST", "/v1/webhook-secrets/"+made.WebhookSecret.ID+"/revoke", nil), http.StatusOK)
	}
	n.sql(`UPDATE webhook_secrets SET revoked_at = ? WHERE id = ?`, time.Now().AddDate(0, 0, -31).UnixMilli(), old.WebhookSecret.ID)
	for {
		gone, err := s.Keyring().Retain(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if gone == 0 {
			break
		}
	}
	wantProblem(t, n.call(n.admin, "GET", "/v1/webhook-secrets/"+old.WebhookSecret.ID, nil), http.StatusNotFound, keystile.CodeNotFound)
	for _, made := range []keystile.CreatedWebhookSecret{late, live} {
		want[keystile.WebhookSecretRecord](t, n.call(n.admin, "GET", "/v1/webhook-secrets/"+made.WebhookSecret.ID, nil), http.StatusOK)
	}
	if e := n.audited(old.WebhookSecret.ID, "webhook_secret.deleted"); e.Reason != "retention" || e.Actor.Kind != "system" {
		t.Errorf("%+v", e)
	}
}
