// Package bench measures Keystile beside what the hardware asks for. What
// stands in a ratio was measured in one run, in turns, on one machine.
package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Load is requests to one address over connections that stay open, each of
// which sends the next request when it has the answer to the last.
type Load struct {
	Network     string // "tcp" or "unix"
	Address     string
	Connections int
	Requests    int // in all
	// Request appends the n-th request, head and body, from 0.
	Request func(to []byte, n int) []byte
	// Check says what is wrong with the n-th answer. Like Request it is called
	// by several goroutines.
	Check func(n int, a Answer) error
}

// Answer is an HTTP answer. Head and Body are good until the next one.
type Answer struct {
	Status int
	Head   []byte // from the status line to the empty one
	Body   []byte
}

// Latencies is what a load took.
type Latencies struct {
	Elapsed  time.Duration
	P50, P99 time.Duration // from the request's first byte to the answer's last
}

// Run sends the load. The first answer that is wrong ends it.
func (l Load) Run(ctx context.Context) (Latencies, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	took := make([][]time.Duration, l.Connections)
	var all sync.WaitGroup
	begin := time.Now()
	for i := range took {
		all.Go(func() {
			var err error
			if took[i], err = l.connection(ctx, &next); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	out := Latencies{Elapsed: time.Since(begin)}
	if err := context.Cause(ctx); err != nil {
		return out, err
	}
	sorted := slices.Concat(took...)
	slices.Sort(sorted)
	if len(sorted) > 0 {
		out.P50, out.P99 = sorted[len(sorted)/2], sorted[len(sorted)*99/100]
	}
	return out, nil
}

// connection sends requests until there are none left.
func (l Load) connection(ctx context.Context, next *atomic.Int64) (took []time.Duration, err error) {
	c, err := new(net.Dialer).DialContext(ctx, l.Network, l.Address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	var request []byte
	in := answers{from: c}
	for {
		n := int(next.Add(1) - 1)
		if n >= l.Requests {
			return took, nil
		}
		request = l.Request(request[:0], n)
		begin := time.Now()
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		a, err := in.next()
		if err != nil {
			return nil, fmt.Errorf("read the answer to request %d: %w", n, err)
		}
		took = append(took, time.Since(begin))
		if err := l.Check(n, a); err != nil {
			return nil, err
		}
	}
}

// answers reads answers from one connection. It knows as much of HTTP/1.1 as
// the servers need that are measured (RFC 9112, sections 6 and 7): it must cost
// less than they do.
type answers struct {
	from io.Reader
	text []byte // what was read
	used int    // of it, by the answer before
	body []byte // put together from chunks
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 20

func (r *answers) more() error {
	if len(r.text) > maxAnswer {
		return errors.New("the answer is larger than any that is asked for")
	}
	r.text = slices.Grow(r.text, 4<<10)
	n, err := r.from.Read(r.text[len(r.text):cap(r.text)])
	r.text = r.text[:len(r.text)+n]
	if n > 0 {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// until reads until a mark behind a place, and returns where it ends.
func (r *answers) until(mark string, from int) (int, error) {
	for {
		if i := bytes.Index(r.text[from:], []byte(mark)); i >= 0 {
			return from + i + len(mark), nil
		}
		if err := r.more(); err != nil {
			return 0, err
		}
	}
}

func (r *answers) next() (Answer, error) {
	r.text = append(r.text[:0], r.text[r.used:]...)
	r.used = 0
	head, err := r.until("\r\n\r\n", 0)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{}
	if head < len("HTTP/1.1 200") || string(r.text[:len("HTTP/1.")]) != "HTTP/1." {
		return a, errors.New("this is no answer of HTTP/1.1")
	}
	if a.Status, err = strconv.Atoi(string(r.text[9:12])); err != nil {
		return a, errors.New("the answer has no status")
	}
	if length, ok := header(r.text[:head], "Content-Length"); ok {
		size, err := strconv.Atoi(string(length))
		if err != nil || size < 0 || size > maxAnswer {
			return a, errors.New("the answer's length is no length")
		}
		for len(r.text) < head+size {
			if err := r.more(); err != nil {
				return a, err
			}
		}
		r.used = head + size
		a.Head, a.Body = r.text[:head], r.text[head:r.used]
		return a, nil
	}
	if _, ok := header(r.text[:head], "Transfer-Encoding"); !ok {
		return a, errors.New("the answer does not say how long it is")
	}
	if err := r.chunks(head); err != nil {
		return a, err
	}
	a.Head, a.Body = r.text[:head], r.body
	return a, nil
}

// chunks puts a body together.
func (r *answers) chunks(at int) error {
	r.body = r.body[:0]
	for {
		line, err := r.until("\r\n", at)
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(r.text[at:line-2]), 16, 31)
		if err != nil {
			return errors.New("a chunk of the answer does not say how long it is")
		}
		end := line + int(size) + 2
		for len(r.text) < end {
			if err := r.more(); err != nil {
				return err
			}
		}
		r.body = append(r.body, r.text[line:end-2]...)
		if size == 0 {
			r.used = end
			return nil
		}
		at = end
	}
}

// header finds the value of a header. Names are compared without their case.
func header(head []byte, name string) ([]byte, bool) {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name)+1:]), true
		}
	}
	return nil, false
}
