package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

// process is the program itself, serving.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	url    string
	stderr *buffer
	ended  chan struct{} // closed when it has ended; then err says how
	err    error
	store  []string // flags that name its store
	within []string // command that runs another where the process lives, if that is elsewhere
	stdout buffer
}

func (p *process) printed(line string) { _, _ = p.stdout.Write([]byte(line + "\n")) }

// buffer is what several goroutines may write to.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// says waits until the log has all words: what a program wrote before it said
// that it listens may still be on its way here. After half a minute they are missing.
func (p *process) says(words ...string) bool {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		log := p.stderr.String()
		missing := slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(log, w) })
		if !missing || time.Now().After(end) {
			return !missing
		}
	}
}

// serve starts the program on a store and waits until it says where it listens.
func serve(t testing.TB, store []string, flags ...string) *process {
	t.Helper()
	return serveBy(t, program(t), store, flags...)
}

// serveBy is serve with another build of the program.
func serveBy(t testing.TB, binary string, store []string, flags ...string) *process {
	t.Helper()
	arguments := append([]string{"serve", "--listen", "127.0.0.1:0"}, store...)
	return start(t, exec.Command(binary, append(arguments, flags...)...), store)
}

// start starts a command that becomes the program.
func start(t testing.TB, cmd *exec.Cmd, store []string) *process {
	t.Helper()
	p, err := tryStart(t, cmd, store)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tryStart is start for a program that may not come up.
func tryStart(t testing.TB, cmd *exec.Cmd, store []string) (*process, error) {
	t.Helper()
	p := &process{t: t, cmd: cmd, stderr: &buffer{}, ended: make(chan struct{}), store: store}
	if p.cmd.Env == nil {
		p.cmd.Env = environment()
	}
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(p.kill)
	listens := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.printed(lines.Text())
			if url, ok := strings.CutPrefix(lines.Text(), "Keystile listens on "); ok && strings.HasPrefix(url, "http") {
				listens <- url
			}
		}
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	select {
	case p.url = <-listens:
	case <-p.ended:
		return nil, fmt.Errorf("the program ended while it started: %w\n%s", p.err, p.stderr)
	case <-time.After(60 * time.Second):
		return nil, fmt.Errorf("the program does not listen after a minute\n%s", p.stderr)
	}
	return p, nil
}

// environment leaves out what would change how the program runs.
func environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KEYSTILE_") && !strings.HasPrefix(v, "GOGC=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// kill ends the process as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails when it has ended
	<-p.ended
}

// stop ends the process in good order, within a minute, and returns how it ended.
func (p *process) stop() error {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Fatalf("the program goes on a minute after it was told to stop\n%s", p.stderr)
	}
	return p.err
}

// admin runs one of the program's admin verbs on the store and returns what it prints.
func (p *process) admin(arguments ...string) string {
	p.t.Helper()
	words := append(slices.Clone(p.within), program(p.t), "admin")
	words = append(append(words, arguments...), p.store...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = environment()
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("keystile admin %s: %v\n%s", strings.Join(arguments, " "), err, errors.String())
	}
	return strings.TrimSpace(string(out))
}

// tenant is the first workspace, which a new store has.
func (p *process) tenant(operator string) string {
	p.t.Helper()
	list := want[keystile.List[keystile.Workspace]](p.t, call(p.t, "GET", p.url+"/v1/workspaces", bearer(operator), nil), http.StatusOK)
	for _, w := range list.Data {
		if !w.Operator {
			return w.ID
		}
	}
	p.t.Fatal("there is no workspace")
	return ""
}

// verify asks about a key, with a caller's key that may.
func (p *process) verify(caller, key string) keystile.Decision {
	p.t.Helper()
	return want[keystile.Decision](p.t, call(p.t, "POST", p.url+"/v1/verify", bearer(caller), keystile.VerifyRequest{Key: key}), http.StatusOK)
}
