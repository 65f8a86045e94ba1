package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	startTimeout = 15 * time.Minute // ten million keys on a busy machine
	stopTimeout  = 30 * time.Second
)

// Program is a process that is measured.
type Program struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	lines chan string   // what it prints
	said  tail
}

// Start starts a program. It ends with ctx, or by [Program.Stop].
func Start(ctx context.Context, cmd *exec.Cmd) (*Program, error) {
	p := &Program{cmd: cmd, ended: make(chan struct{}), lines: make(chan string, 64)}
	cmd.Stderr = &p.said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		text := bufio.NewScanner(out)
		for text.Scan() {
			select {
			case p.lines <- text.Text():
			default: // nobody waits for that much
			}
		}
		_ = cmd.Wait()
		close(p.ended)
	}()
	context.AfterFunc(ctx, p.end)
	return p, nil
}

// PID is the ID of the process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Line waits until the program prints a line that begins like this, and
// returns the rest.
func (p *Program) Line(ctx context.Context, begin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		select {
		case line := <-p.lines:
			if rest, ok := strings.CutPrefix(line, begin); ok {
				return rest, nil
			}
		case <-p.ended:
			return "", fmt.Errorf("%s ended while it started: %s", filepath.Base(p.cmd.Path), p.said.String())
		case <-ctx.Done():
			return "", fmt.Errorf("%s does not say %q: %w", filepath.Base(p.cmd.Path), begin, ctx.Err())
		}
	}
}

func (p *Program) end() { _ = p.cmd.Process.Signal(os.Interrupt) }

// Said is the end of what the program has written about itself.
func (p *Program) Said() string { return p.said.String() }

// Stop ends the program in order, and by force when that takes too long.
func (p *Program) Stop() {
	p.end()
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// tail keeps the end of what a program says about itself.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - 4<<10; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// Server is a Keystile server on a store of its own.
type Server struct {
	*Program
	Network   string // "tcp" or "unix"
	Address   string // host and port, or the path of a socket
	Operator  string // key that may do everything
	Verifier  string // key that may check every key
	Workspace string
	Secrets   []string // of the keys in the workspace
	IDs       []string // theirs
}

// Serve starts the program's server on an empty directory, with further flags,
// and makes keys.
func Serve(ctx context.Context, program, dir string, keys int, progress func(string), flags ...string) (s *Server, err error) {
	//nolint:gosec // the program is the caller's own
	serve := exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", dir, "--log-level", "warn"}, flags...)...)
	serve.Env = environment()
	s = &Server{Network: "tcp"}
	if s.Program, err = Start(ctx, serve); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	url, err := s.Line(ctx, "Keystile listens on http://")
	if err != nil {
		return nil, err
	}
	s.Address = url
	for role, key := range map[string]*string{"operator": &s.Operator, "verifier": &s.Verifier} {
		admin := exec.CommandContext(ctx, program, "admin", "key", "--role", role, "--data", dir) //nolint:gosec // as above
		admin.Env = environment()
		out, err := admin.Output()
		if err != nil {
			return nil, fmt.Errorf("make a key with the role %s: %w", role, err)
		}
		*key = strings.TrimSpace(string(out))
	}
	if s.Workspace, err = s.tenant(ctx); err != nil {
		return nil, err
	}
	return s, s.fill(ctx, keys, progress)
}

// environment leaves out what would change how the program runs.
func environment() (kept []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KEYSTILE_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// tenant is the one workspace that a new store has beside the operator's.
func (s *Server) tenant(ctx context.Context) (string, error) {
	var list struct {
		Data []struct {
			ID       string `json:"id"`
			Operator bool   `json:"operator"`
		} `json:"data"`
	}
	_, err := s.Call(ctx, "GET", "/v1/workspaces", "", &list)
	for _, w := range list.Data {
		if !w.Operator {
			return w.ID, err
		}
	}
	return "", errors.Join(err, errors.New("the server has no workspace"))
}

// Call sends one request with the operator's key and reads the JSON that
// comes back.
func (s *Server) Call(ctx context.Context, method, path, body string, into any) (Answer, error) {
	var answer Answer
	err := s.load(1, func(to []byte, _ int) []byte { return Request(to, method, path, s.Operator, body) },
		func(_ int, a Answer) error {
			answer = Answer{Status: a.Status, Head: append([]byte{}, a.Head...), Body: append([]byte{}, a.Body...)}
			if a.Status >= http.StatusMultipleChoices {
				return wrong(a)
			}
			if into == nil {
				return nil
			}
			return json.Unmarshal(a.Body, into)
		}).run(ctx, 1)
	return answer, err
}

func (s *Server) load(n int, request func([]byte, int) []byte, check func(int, Answer) error) Load {
	return Load{Network: s.Network, Address: s.Address, Connections: connections, Requests: n, Request: request, Check: check}
}

func (l Load) run(ctx context.Context, connections int) error {
	l.Connections = connections
	_, err := l.Run(ctx)
	return err
}

// fill makes keys through the API.
func (s *Server) fill(ctx context.Context, keys int, progress func(string)) error {
	s.Secrets, s.IDs = make([]string, keys), make([]string, keys)
	const step = 5000
	for from := 0; from < keys; from += step {
		progress(fmt.Sprintf("making keys: %d of %d", from, keys))
		err := s.load(min(step, keys-from), func(to []byte, n int) []byte {
			return Request(to, "POST", "/v1/workspaces/"+s.Workspace+"/keys", s.Operator, `{"name":"Service `+strconv.Itoa(from+n)+`"}`)
		}, func(n int, a Answer) error {
			var made struct {
				Secret string `json:"secret"`
				Key    struct {
					ID string `json:"id"`
				} `json:"key"`
			}
			if err := json.Unmarshal(a.Body, &made); a.Status != http.StatusCreated || err != nil || made.Secret == "" {
				return wrong(a)
			}
			s.Secrets[from+n], s.IDs[from+n] = made.Secret, made.Key.ID
			return nil
		}).run(ctx, connections)
		if err != nil {
			return fmt.Errorf("make keys: %w", err)
		}
	}
	return nil
}

// Request appends a request with a key and, unless it is empty, a JSON body.
func Request(to []byte, method, path, key, body string) []byte {
	to = append(to, method...)
	to = append(to, ' ')
	to = append(to, path...)
	to = append(to, " HTTP/1.1\r\nHost: keys.example.com\r\nUser-Agent: keystile-bench\r\nAccept: */*\r\nAuthorization: Bearer "...)
	to = append(to, key...)
	if body != "" {
		to = append(to, "\r\nContent-Type: application/json\r\nContent-Length: "...)
		to = strconv.AppendInt(to, int64(len(body)), 10)
	}
	to = append(to, "\r\n\r\n"...)
	return append(to, body...)
}

// wrong is the error for an answer that is not the one that must come.
func wrong(a Answer) error {
	return fmt.Errorf("the answer is wrong: status %d, %.300s", a.Status, a.Body)
}
