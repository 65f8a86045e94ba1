//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile/internal/bench"
)

const (
	connections = 32
	turn        = 1200 * time.Millisecond // about what one peer is measured for in a round
	least       = 200                     // requests in a turn
	wrongEvery  = 100                     // one request in so many has a key that is none
)

// row is what was measured of a peer, one entry for each round.
type row struct {
	name     string
	rate     []float64 // requests a second
	p50, p99 []float64 // milliseconds
	cpu      []float64 // seconds for 1000 requests
	ratio    []float64 // of cpu to that of the first peer in the same round
	memory   int64     // bytes
	accepted string    // for how long a revoked key still was
}

// load is so many requests to a peer, with checked answers.
func (s *stage) load(p peer, n int) bench.Load {
	keys := s.server.Secrets
	pick := func(i int) (key string, good bool) {
		key = keys[uint64(i)*0x9e3779b97f4a7c15>>32%uint64(len(keys))]
		if i%wrongEvery != wrongEvery-1 {
			return key, true
		}
		last := byte('0')
		if key[len(key)-1] == last {
			last = '1'
		}
		return key[:len(key)-1] + string(last), false
	}
	return bench.Load{
		Network: "tcp", Address: p.address, Connections: connections, Requests: n,
		Request: func(to []byte, i int) []byte {
			key, _ := pick(i)
			return p.request(to, key)
		},
		Check: func(i int, a bench.Answer) error {
			_, good := pick(i)
			refused := p.refuses != nil && p.refuses(a)
			if p.refuses != nil && refused == good || !refused && a.Status != http.StatusOK {
				return fmt.Errorf("%s answered wrongly: status %d, %.200s", p.name, a.Status, a.Body)
			}
			return nil
		},
	}
}

func (s *stage) cpu(p peer) (total time.Duration, err error) {
	for _, pid := range p.pids {
		one, err := bench.CPU(pid)
		if err != nil {
			return 0, err
		}
		total += one
	}
	return total, nil
}

// measure gives each peer its load, in turns.
func (s *stage) measure(peers []peer, rounds int) ([]row, error) {
	rows, counts := make([]row, len(peers)), make([]int, len(peers))
	for i, p := range peers {
		rows[i].name = p.name
		counts[i] = least
		for range 2 { // the first requests of all are slower
			l, err := s.load(p, counts[i]).Run(s.ctx)
			if err != nil {
				return nil, err
			}
			counts[i] = max(least, int(float64(counts[i])*turn.Seconds()/l.Elapsed.Seconds()))
		}
	}
	for round := range rounds {
		s.say(fmt.Sprintf("measuring: round %d of %d", round+1, rounds))
		for i, p := range peers {
			before, err := s.cpu(p)
			if err != nil {
				return nil, err
			}
			l, err := s.load(p, counts[i]).Run(s.ctx)
			if err != nil {
				return nil, err
			}
			after, err := s.cpu(p)
			if err != nil {
				return nil, err
			}
			r, n := &rows[i], float64(counts[i])
			r.rate = append(r.rate, n/l.Elapsed.Seconds())
			r.p50, r.p99 = append(r.p50, 1e3*l.P50.Seconds()), append(r.p99, 1e3*l.P99.Seconds())
			r.cpu = append(r.cpu, 1000*(after-before).Seconds()/n)
			r.ratio = append(r.ratio, r.cpu[round]/rows[0].cpu[round])
		}
	}
	for i, p := range peers {
		for _, pid := range p.pids {
			m, err := bench.Memory(pid)
			if err != nil {
				return nil, err
			}
			rows[i].memory += m
		}
	}
	return rows, nil
}

const (
	watched = 15 * time.Second // for how long a revoked key is tried at most
	quiet   = time.Second      // without being accepted, which is taken for the end
)

// forget takes a key away from each peer and finds out for how long it is still
// accepted once that was said to be done, on a connection that was there before.
func (s *stage) forget(peers []peer, rows []row) error {
	for i, p := range peers {
		if p.revoke == nil {
			rows[i].accepted = "–"
			continue
		}
		s.say("revoking a key: " + p.name)
		key := s.server.Secrets[i]
		// Unix nanoseconds: when it was said to be done, and when the last request
		// that was accepted was sent.
		var done, last atomic.Int64
		var sent time.Time
		ended := errors.New("it is over")
		revoked := make(chan error, 1)
		go func() {
			err := wait(s.ctx, 200*time.Millisecond)
			if err == nil {
				err = p.revoke(s.ctx, i)
			}
			done.Store(time.Now().UnixNano())
			revoked <- err
		}()
		for {
			_, err := bench.Load{
				Network: "tcp", Address: p.address, Connections: 1, Requests: 1 << 40,
				Request: func(to []byte, _ int) []byte {
					sent = time.Now()
					return p.request(to, key)
				},
				Check: func(_ int, a bench.Answer) error {
					now := time.Now()
					if !p.refuses(a) {
						last.Store(sent.UnixNano())
					}
					over := done.Load()
					if over > 0 && now.Sub(time.Unix(0, max(over, last.Load()))) > quiet || over > 0 && now.Sub(time.Unix(0, over)) > watched {
						return ended
					}
					return nil
				},
			}.Run(s.ctx)
			if errors.Is(err, ended) {
				break
			}
			if s.ctx.Err() != nil {
				return s.ctx.Err()
			}
			// The peer has closed the connection, as nginx does when it reloads.
		}
		if err := <-revoked; err != nil {
			return fmt.Errorf("%s: revoke: %w", p.name, err)
		}
		switch after := time.Duration(last.Load() - done.Load()); {
		case after <= 0:
			rows[i].accepted = "0"
		case after >= watched-quiet:
			rows[i].accepted = "more than " + watched.String()
		default:
			rows[i].accepted = fmt.Sprintf("%.0f ms", 1e3*after.Seconds())
		}
	}
	return nil
}

func median(values []float64) (middle, least, most float64) {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]
}

// table is the result as Markdown.
func table(rows []row, o options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s on %s with `go run ./bench/peers -keys %d -rounds %d`: %d keys each, %d connections from one client thread on the same machine, one request in %d with a wrong key, all answers checked, medians of %d rounds in turns, the least and the most round in brackets. Processor time and memory are those of all processes that the row needs, its database included.\n\n",
		time.Now().UTC().Format(time.DateOnly), machine(), o.keys, o.rounds, o.keys, connections, wrongEvery, o.rounds)
	b.WriteString("| what | processor time, hello = 1 | processor seconds per 1000 requests | requests/s | p50 ms | p99 ms | memory MiB | a revoked key is still accepted for |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		ratio, least, most := median(r.ratio)
		cpu, _, _ := median(r.cpu)
		rate, _, _ := median(r.rate)
		p50, _, _ := median(r.p50)
		p99, _, _ := median(r.p99)
		fmt.Fprintf(&b, "| %s | %.2f (%.2f–%.2f) | %.4f | %.0f | %.2f | %.2f | %d | %s |\n", r.name, ratio, least, most, cpu, rate, p50, p99, r.memory>>20, r.accepted)
	}
	return b.String()
}

// machine is what the figures were taken on.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := bytes.Cut(text, []byte("model name")); ok {
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			_, name, _ := strings.Cut(string(line), ": ")
			model = name
		}
	}
	return fmt.Sprintf("%d processors (%s), %s", runtime.NumCPU(), model, runtime.Version())
}

// Marks between which the table stands in the page.
const (
	markBegin = "<!-- bench/peers writes what follows -->\n"
	markEnd   = "<!-- bench/peers ends here -->\n"
)

func write(o options, text string) error {
	if o.out == "-" {
		fmt.Fprint(os.Stdout, text)
		return nil
	}
	old, err := os.ReadFile(o.out)
	if err != nil {
		return err
	}
	fresh, err := between(string(old), text)
	if err != nil {
		return fmt.Errorf("%s: %w", o.out, err)
	}
	fmt.Fprintln(os.Stderr, "written into "+o.out)
	return os.WriteFile(o.out, []byte(fresh), 0o644) //nolint:gosec // a page that everyone may read
}

// between replaces what stands between the marks.
func between(old, text string) (string, error) {
	before, rest, ok := strings.Cut(old, markBegin)
	_, after, ended := strings.Cut(rest, markEnd)
	if !ok || !ended {
		return "", fmt.Errorf("the marks are missing between which the table goes: %q and %q", markBegin, markEnd)
	}
	return before + markBegin + "\n" + text + "\n" + markEnd + after, nil
}
