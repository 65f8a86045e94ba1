package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// connections is how many clients ask at once.
const connections = 32

// HTTPOptions say how [HTTP] measures.
type HTTPOptions struct {
	Program  string // path of the keystile binary
	Keys     int    // in the store
	Rounds   int    // 0 for 5
	Requests int    // in each turn, 0 for 20 000; and a 300th of it are batches
	Progress func(string)
}

// HTTPRatios are medians over the rounds.
type HTTPRatios struct {
	// Verify is the processor time of the server for POST /v1/verify, divided
	// by that of a bare net/http server that reads a body of that size and
	// writes the same answer every time; ForwardAuth likewise, without a body.
	Verify, ForwardAuth float64
	// Batch is the processor time of the server for POST /v1/verify/batch with
	// a thousand keys, divided by that of a thousand single decisions in
	// process, counted and with a permission. Batch10 and Batch100 are smaller ones.
	Batch, Batch10, Batch100 float64
	// Socket is Verify on a unix socket, where the caller needs no key, over the
	// same bare server.
	Socket float64
	// The least and the most that a round had.
	VerifySpread, ForwardAuthSpread, BatchSpread [2]float64
}

// median returns the middle of the rounds, the least and the most.
func median(rounds []float64) (middle float64, spread [2]float64) {
	slices.Sort(rounds)
	return rounds[len(rounds)/2], [2]float64{rounds[0], rounds[len(rounds)-1]}
}

const permission = "read" // one of the built-in profile's

// HTTP measures a server process of the program beside a bare one, in turns,
// on a store of its own. It takes about two seconds a round beside the making of keys.
// Where the processor time of a process is not to be had, the error is
// [errors.ErrUnsupported].
func HTTP(ctx context.Context, o HTTPOptions) (ratios HTTPRatios, err error) {
	if o.Rounds <= 0 {
		o.Rounds = 5
	}
	if o.Requests <= 0 {
		o.Requests = 20_000
	}
	if o.Keys <= 0 {
		return ratios, errors.New("measuring needs at least one key")
	}
	if _, err := CPU(os.Getpid()); err != nil {
		return ratios, err
	}
	dir, err := os.MkdirTemp("", "keystile-bench-")
	if err != nil {
		return ratios, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "s")
	s, err := Serve(ctx, o.Program, filepath.Join(dir, "data"), o.Keys, o.Progress, "--verify-socket", socket)
	if err != nil {
		return ratios, err
	}
	defer s.Stop()
	beside := *s
	beside.Network, beside.Address = "unix", socket
	m := measurement{server: s, socket: &beside}
	if m.floor, err = m.bare(ctx, o.Program); err != nil {
		return ratios, err
	}
	defer m.floor.Stop()
	return m.run(ctx, o)
}

// measurement is a server, by its port and by its socket, and the bare one beside it.
type measurement struct {
	server, socket, floor *Server
}

func (m measurement) verify(to []byte, n int) []byte {
	secrets := m.server.Secrets
	return Request(to, "POST", "/v1/verify", m.server.Verifier, `{"key":"`+secrets[scattered(n, len(secrets))]+`","permission":"`+permission+`"}`)
}

func (m measurement) forward(to []byte, n int) []byte {
	secrets := m.server.Secrets
	return Request(to, "GET", "/v1/forward-auth?permission="+permission, secrets[scattered(n, len(secrets))], "")
}

// batch asks for so many keys at once.
func (m measurement) batch(size int) func([]byte, int) []byte {
	return func(to []byte, n int) []byte {
		var body bytes.Buffer
		before := `{"requests":[`
		for i := range size {
			body.WriteString(before + `{"key":"` + m.server.Secrets[scattered(n*size+i, len(m.server.Secrets))] + `","permission":"` + permission + `"}`)
			before = ","
		}
		body.WriteString("]}")
		return Request(to, "POST", "/v1/verify/batch", m.server.Verifier, body.String())
	}
}

// scattered turns 0, 1, 2, … into numbers below n in no order that a cache
// could follow (the multiplier is that of Knuth, volume 3, section 6.4).
func scattered(i, n int) int { return int(uint64(i) * 0x9e3779b97f4a7c15 >> 32 % uint64(n)) }

func good(_ int, a Answer) error {
	if a.Status != http.StatusOK || len(a.Body) > 0 && !bytes.Contains(a.Body, []byte(`"valid":true`)) {
		return wrong(a)
	}
	return nil
}

func goodBatch(size int) func(int, Answer) error {
	return func(_ int, a Answer) error {
		if a.Status != http.StatusOK || bytes.Count(a.Body, []byte(`"valid":true`)) != size {
			return wrong(a)
		}
		return nil
	}
}

func (m measurement) run(ctx context.Context, o HTTPOptions) (HTTPRatios, error) {
	sizes := [...]int{10, 100, 1000}
	var verifies, forwards, sockets []float64
	var batches [len(sizes)][]float64
	decide := newDecider(m.server.Secrets)
	for round := range o.Rounds + 1 { // the first one warms up
		o.Progress(fmt.Sprintf("measuring over HTTP: round %d of %d", max(round, 1), o.Rounds))
		floor := map[string]float64{}
		cost := func(name string, s *Server, request func([]byte, int) []byte) (float64, error) {
			took, err := s.cost(ctx, o.Requests, connections, request, good)
			if s == m.floor {
				floor[name] = float64(took)
			}
			return float64(took) / floor[name], err
		}
		var ratios [5]float64
		for i, turn := range []struct {
			name    string
			server  *Server
			request func([]byte, int) []byte
		}{
			{"verify", m.floor, m.verify}, {"verify", m.server, m.verify}, {"verify", m.socket, m.verify},
			{"forward-auth", m.floor, m.forward}, {"forward-auth", m.server, m.forward},
		} {
			var err error
			if ratios[i], err = cost(turn.name, turn.server, turn.request); err != nil {
				return HTTPRatios{}, fmt.Errorf("%s at %s: %w", turn.name, turn.server.Address, err)
			}
		}
		one, err := decide.cost()
		if err != nil {
			return HTTPRatios{}, err
		}
		var each [len(sizes)]float64
		for i, size := range sizes {
			n := max(1000*o.Requests/300/size, 1)
			many, err := m.server.cost(ctx, n, 1, m.batch(size), goodBatch(size))
			if err != nil {
				return HTTPRatios{}, err
			}
			each[i] = float64(many) / float64(n*size) / float64(one)
		}
		if round > 0 {
			verifies, sockets, forwards = append(verifies, ratios[1]), append(sockets, ratios[2]), append(forwards, ratios[4])
			for i := range each {
				batches[i] = append(batches[i], each[i])
			}
		}
	}
	var out HTTPRatios
	out.Verify, out.VerifySpread = median(verifies)
	out.ForwardAuth, out.ForwardAuthSpread = median(forwards)
	out.Socket, _ = median(sockets)
	out.Batch10, _ = median(batches[0])
	out.Batch100, _ = median(batches[1])
	out.Batch, out.BatchSpread = median(batches[2])
	return out, nil
}

// cost is the processor time that the process takes for a load.
func (s *Server) cost(ctx context.Context, requests, connections int, request func([]byte, int) []byte, check func(int, Answer) error) (time.Duration, error) {
	before, err := CPU(s.PID())
	if err != nil {
		return 0, err
	}
	if err := s.load(requests, request, check).run(ctx, connections); err != nil {
		return 0, err
	}
	after, err := CPU(s.PID())
	return after - before, err
}

// decider makes single decisions in process, on an index of the same keys.
type decider struct {
	index   *verify.Index
	uses    *verify.Recorder
	secrets []string
	next    int
}

func newDecider(secrets []string) *decider {
	format, err := keystile.NewFormat(secrets[0][:strings.IndexByte(secrets[0], '_')])
	if err != nil {
		panic(err) // the server made this key
	}
	d := &decider{index: verify.New(format, len(secrets)), uses: verify.NewRecorder(), secrets: secrets}
	b := verify.Batch{
		Workspaces: []verify.Workspace{{ID: "ws_1"}},
		Roles:      []verify.Role{{ID: "role_1", Name: "service", Permissions: keystile.Permissions{"*"}}},
	}
	for i, secret := range secrets {
		b.Keys = append(b.Keys, verify.Key{
			ID: verify.EncodeID(verify.KeyPrefix, [16]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24), 15: byte(i)}), Digest: keystile.Digest(secret), WorkspaceID: "ws_1", RoleID: "role_1",
		})
	}
	d.index.Apply(b)
	return d
}

// cost is the processor time of one decision.
func (d *decider) cost() (time.Duration, error) {
	const decisions = 500_000
	begin, err := CPU(os.Getpid())
	if err != nil {
		return 0, err
	}
	for range decisions {
		q := verify.Query{Secret: d.secrets[scattered(d.next, len(d.secrets))], Permission: permission, Now: time.Now()}
		var r verify.Result
		d.index.Decide(&q, &r)
		if r.Code != keystile.CodeValid {
			return 0, fmt.Errorf("a decision in process is %s", string(r.Code))
		}
		d.uses.Count(&r, r.Code, q.Address, "", q.Now)
		d.next++
	}
	end, err := CPU(os.Getpid())
	return (end - begin) / decisions, err
}

// floorAnswer is what the bare server writes for a path, as it was recorded.
type floorAnswer struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// bare starts the bare server with the answers that the server gives.
func (m measurement) bare(ctx context.Context, program string) (*Server, error) {
	answers := map[string]floorAnswer{}
	for path, request := range map[string]func([]byte, int) []byte{"/v1/verify": m.verify, "/v1/forward-auth": m.forward} {
		err := m.server.load(1, request, func(n int, a Answer) error {
			answers[path] = floorAnswer{Header: recorded(a.Head), Body: bytes.Clone(a.Body)}
			return good(n, a)
		}).run(ctx, 1)
		if err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(answers)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "bench-floor") //nolint:gosec // the program is the caller's own
	cmd.Env = environment()
	cmd.Stdin = bytes.NewReader(text)
	p, err := Start(ctx, cmd)
	if err != nil {
		return nil, err
	}
	address, err := p.Line(ctx, floorListens)
	if err != nil {
		p.Stop()
		return nil, err
	}
	return &Server{Program: p, Network: "tcp", Address: address}, nil
}

// recorded are the headers of an answer, without those that net/http writes
// for every handler.
func recorded(head []byte) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && name != "Date" && name != "Content-Length" {
			h.Set(name, value)
		}
	}
	return h
}

const floorListens = "The bare server listens on "

// Floor runs the bare server until ctx ends: it reads a body and writes the
// answer for the path, always the same. The answers are read as JSON; where it
// listens is printed. Limits are those of the http.Server that it is given.
func Floor(ctx context.Context, in io.Reader, out io.Writer, newServer func(http.Handler) *http.Server) error {
	answers := map[string]floorAnswer{}
	if err := json.NewDecoder(in).Decode(&answers); err != nil {
		return fmt.Errorf("read the answers of the bare server: %w", err)
	}
	s := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		a := answers[r.URL.Path]
		h := w.Header()
		for name, values := range a.Header {
			h[name] = values
		}
		_, _ = w.Write(a.Body)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, floorListens+l.Addr().String())
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
