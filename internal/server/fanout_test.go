package server_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/replica"
)

// The benchmarks of this file start real processes on a real PostgreSQL and
// make the tables of docs/performance.md and docs/scale.md:
//
//	make fanout

// meter is the way from one server to the database, which counts what comes
// back: PostgreSQL ends its answer to every exchange with ReadyForQuery, and
// sends notifications by themselves (its manual, "Message Formats").
type meter struct {
	exchanges, notifications, bytes atomic.Int64
}

// measured puts a meter before a database and returns the URL through it.
func measured(b *testing.B, to string) (*meter, string) {
	b.Helper()
	u, err := url.Parse(to)
	if err != nil {
		b.Fatal(err)
	}
	target := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	m := &meter{}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go m.join(near, target)
		}
	}()
	u.Host = l.Addr().String()
	return m, u.String()
}

func (m *meter) join(near net.Conn, target string) {
	defer near.Close()
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		defer far.Close()
		_, _ = io.Copy(far, near)
	}()
	in, out := bufio.NewReaderSize(far, 64<<10), bufio.NewWriterSize(near, 64<<10)
	for {
		head, err := in.Peek(5)
		if err != nil {
			return
		}
		switch head[0] {
		case 'Z':
			m.exchanges.Add(1)
		case 'A':
			m.notifications.Add(1)
		}
		length := int64(binary.BigEndian.Uint32(head[1:])) + 1
		m.bytes.Add(length)
		if _, err := io.CopyN(out, in, length); err != nil {
			return
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return
			}
		}
	}
}

// nodes starts as many servers on one database, each behind a meter.
func nodes(b *testing.B, count int) (all []*process, meters []*meter, database string) {
	b.Helper()
	database = pgtest.New(b)
	for range count {
		m, through := measured(b, database)
		meters = append(meters, m)
		all = append(all, serve(b, []string{"--database", through}))
	}
	return all, meters, database
}

// revoker makes keys and revokes them at one server.
type revoker struct {
	b        *testing.B
	at       *process
	operator string
	tenant   string
	keys     []keystile.CreatedKey
}

func newRevoker(b *testing.B, at *process) *revoker {
	b.Helper()
	r := &revoker{b: b, at: at, operator: at.admin("key")}
	r.tenant = at.tenant(r.operator)
	return r
}

// stock makes keys that are there to be revoked.
func (r *revoker) stock(count int) {
	r.b.Helper()
	var mu sync.Mutex
	var making sync.WaitGroup
	for worker := range 8 {
		making.Go(func() {
			for i := worker; i < count; i += 8 {
				at, err := tryCall(httpClient, "POST", r.at.url+"/v1/workspaces/"+r.tenant+"/keys", bearer(r.operator), keystile.CreateKey{Name: "key " + strconv.Itoa(i)})
				if err != nil || at.status != http.StatusCreated {
					r.b.Errorf("create: %v, %s", err, at)
					return
				}
				made := want[keystile.CreatedKey](r.b, at, http.StatusCreated)
				mu.Lock()
				r.keys = append(r.keys, made)
				mu.Unlock()
			}
		})
	}
	making.Wait()
	if r.b.Failed() {
		r.b.FailNow()
	}
}

// revoke revokes a key and returns how long that took.
func (r *revoker) revoke(i int) time.Duration {
	begin := time.Now()
	at, err := tryCall(httpClient, "POST", r.at.url+"/v1/keys/"+r.keys[i].Key.ID+"/revoke", bearer(r.operator), nil)
	took := time.Since(begin)
	if err != nil || at.status != http.StatusOK {
		r.b.Errorf("revoke: %v, %s", err, at)
	}
	return took
}

// refused fails unless every server refuses the key.
func (r *revoker) refused(i int, servers []*process) {
	r.b.Helper()
	for n, s := range servers {
		if d := s.verify(r.operator, r.keys[i].Secret); d.Code != keystile.CodeRevoked {
			r.b.Errorf("server %d says of a key whose revoke has returned: %s", n, d.Code)
		}
	}
}

// quantile of times, which it sorts.
func quantile(times []time.Duration, q float64) float64 {
	slices.Sort(times)
	return times[min(int(q*float64(len(times))), len(times)-1)].Seconds() * 1000
}

// bell is the bare round trip that the hint of a change makes: one connection
// notifies, another that listens is told.
type bell struct{ ring, hear *pgx.Conn }

func newBell(b *testing.B, database string) *bell {
	b.Helper()
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(b.Context(), database)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	bl := &bell{connect(), connect()}
	if _, err := bl.hear.Exec(b.Context(), "LISTEN bench_bell"); err != nil {
		b.Fatal(err)
	}
	return bl
}

func (bl *bell) once(b *testing.B) time.Duration {
	begin := time.Now()
	heard := make(chan error, 1)
	go func() {
		_, err := bl.hear.WaitForNotification(b.Context())
		heard <- err
	}()
	if _, err := bl.ring.Exec(b.Context(), "NOTIFY bench_bell, '1'"); err != nil {
		b.Fatal(err)
	}
	if err := <-heard; err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}

// BenchmarkRevoke is how long the call that revokes a key takes, with servers
// that must all have it before it returns, beside the bare NOTIFY round trip of
// the same database in the same run.
func BenchmarkRevoke(b *testing.B) {
	for _, count := range []int{1, 4, 8, 16} {
		b.Run(fmt.Sprintf("nodes=%d", count), func(b *testing.B) {
			servers, _, database := nodes(b, count)
			r, notify := newRevoker(b, servers[0]), newBell(b, database)
			var took, bare []time.Duration
			for b.Loop() {
				if len(took) == len(r.keys) {
					b.StopTimer()
					r.stock(100)
					b.StartTimer()
				}
				bare = append(bare, notify.once(b))
				took = append(took, r.revoke(len(took)))
			}
			r.refused(len(took)-1, servers)
			b.ReportMetric(quantile(took, .5), "p50-ms")
			b.ReportMetric(quantile(took, .99), "p99-ms")
			b.ReportMetric(quantile(took, 1), "max-ms")
			b.ReportMetric(quantile(bare, .5), "notify-p50-ms")
			b.ReportMetric(quantile(bare, .99), "notify-p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkRevokeWithDeadNode revokes once a second after one of four servers
// was killed, until three in a row are as before.
func BenchmarkRevokeWithDeadNode(b *testing.B) {
	for b.Loop() {
		servers, _, _ := nodes(b, 4)
		r := newRevoker(b, servers[0])
		r.stock(100)
		var before []time.Duration
		for i := range 20 {
			before = append(before, r.revoke(i))
		}
		servers[3].kill()
		killed := time.Now()
		type timed struct{ at, took time.Duration }
		var mu sync.Mutex
		var after []timed
		var revoking sync.WaitGroup
		for i := 20; i < 80; i++ {
			revoking.Go(func() {
				at := time.Since(killed)
				took := r.revoke(i)
				mu.Lock()
				after = append(after, timed{at, took})
				mu.Unlock()
			})
			time.Sleep(time.Second)
			mu.Lock()
			quick := 0
			for _, t := range after {
				if t.at > time.Since(killed)-5*time.Second && t.took < time.Second {
					quick++
				}
			}
			mu.Unlock()
			if quick >= 4 {
				break
			}
		}
		revoking.Wait()
		r.refused(20, servers[:3])
		var longest, normal time.Duration
		for _, t := range after {
			longest = max(longest, t.took)
			if t.took > time.Second {
				normal = max(normal, t.at+t.took)
			}
		}
		b.ReportMetric(quantile(before, .5), "before-p50-ms")
		b.ReportMetric(longest.Seconds(), "longest-s")
		b.ReportMetric(normal.Seconds(), "as-before-after-s")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkVerifyWhileRevoking is how many keys a server checks in a second
// while the other one of two revokes 100 keys a second, over how many without,
// in turns of two seconds.
func BenchmarkVerifyWhileRevoking(b *testing.B) {
	servers, _, _ := nodes(b, 2)
	r := newRevoker(b, servers[0])
	r.stock(1)
	good := r.keys[0].Secret
	const turn = 2 * time.Second
	load := func() float64 {
		var count atomic.Int64
		var loading sync.WaitGroup
		begin := time.Now()
		for range 8 {
			loading.Go(func() {
				for time.Since(begin) < turn {
					at, err := tryCall(httpClient, "POST", servers[1].url+"/v1/verify", bearer(r.operator), keystile.VerifyRequest{Key: good})
					if err != nil || at.status != http.StatusOK || !strings.Contains(string(at.body), `"valid":true`) {
						b.Errorf("verify: %v, %s", err, at)
						return
					}
					count.Add(1)
				}
			})
		}
		loading.Wait()
		return float64(count.Load()) / time.Since(begin).Seconds()
	}
	next := 1
	var alone, beside, rate []float64
	for b.Loop() {
		b.StopTimer()
		r.stock(int(turn.Seconds()*100) + 50)
		b.StartTimer()
		alone = append(alone, load())
		stop := make(chan struct{})
		var revoking sync.WaitGroup
		var done atomic.Int64
		revoking.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for next < len(r.keys) {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				i := next
				next++
				revoking.Go(func() {
					r.revoke(i)
					done.Add(1)
				})
			}
		})
		beside = append(beside, load())
		close(stop)
		revoking.Wait()
		rate = append(rate, float64(done.Load())/turn.Seconds())
	}
	b.ReportMetric(median(alone), "verify/s-alone")
	b.ReportMetric(median(beside), "verify/s-beside")
	b.ReportMetric(median(beside)/median(alone), "ratio")
	b.ReportMetric(median(rate), "revoke/s")
	b.ReportMetric(0, "ns/op")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// BenchmarkFanOut counts what a revoke costs the database with more and more
// servers, and what they cost it when nothing happens.
func BenchmarkFanOut(b *testing.B) {
	for _, count := range []int{1, 4, 16, 32} {
		b.Run(fmt.Sprintf("nodes=%d", count), func(b *testing.B) {
			servers, meters, _ := nodes(b, count)
			r := newRevoker(b, servers[0])
			sum := func() (writer, others, notifications, bytes float64) {
				for i, m := range meters {
					if i == 0 {
						writer += float64(m.exchanges.Load())
					} else {
						others += float64(m.exchanges.Load())
					}
					notifications += float64(m.notifications.Load())
					bytes += float64(m.bytes.Load())
				}
				return writer, others, notifications, bytes
			}
			const idle = 10 * time.Second
			w0, o0, _, b0 := sum()
			time.Sleep(idle)
			w1, o1, _, b1 := sum()
			restWriter, restOthers, restBytes := (w1-w0)/idle.Seconds(), (o1-o0)/idle.Seconds(), (b1-b0)/idle.Seconds()
			var took []time.Duration
			var writer, others, notifications, bytes, seconds float64
			for b.Loop() {
				if len(took) == len(r.keys) {
					b.StopTimer()
					r.stock(100)
					time.Sleep(time.Second) // what they owe each other is told
					b.StartTimer()
				}
				begin := time.Now()
				w0, o0, n0, b0 := sum()
				took = append(took, r.revoke(len(took)))
				w1, o1, n1, b1 := sum()
				writer, others, notifications, bytes = writer+w1-w0, others+o1-o0, notifications+n1-n0, bytes+b1-b0
				seconds += time.Since(begin).Seconds()
			}
			n := float64(len(took))
			b.ReportMetric((writer-restWriter*seconds)/n, "exchanges/revoke-here")
			if count > 1 {
				b.ReportMetric((others-restOthers*seconds)/n/float64(count-1), "exchanges/revoke-each-other")
			}
			b.ReportMetric(notifications/n/float64(count), "notifications/revoke-each")
			b.ReportMetric((bytes-restBytes*seconds)/n/float64(count), "B/revoke-each")
			b.ReportMetric((restWriter+restOthers)/float64(count), "idle-exchanges/s-each")
			b.ReportMetric(quantile(took, .5), "p50-ms")
			b.ReportMetric(residentMiB(b, servers[0]), "MiB-each")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkFanOutReplicas is the same for replicas of one server, which are in
// this process, with an index each.
func BenchmarkFanOutReplicas(b *testing.B) {
	for _, count := range []int{0, 10, 100, 1000} {
		b.Run(fmt.Sprintf("replicas=%d", count), func(b *testing.B) {
			s := serve(b, []string{"--data", b.TempDir()})
			r := newRevoker(b, s)
			key := s.admin("key", "--role", "replica")
			base := residentMiB(b, s)
			var mu sync.Mutex
			var verifiers []*replica.Verifier
			var opening sync.WaitGroup
			for worker := range 8 {
				opening.Go(func() {
					for i := worker; i < count; i += 8 {
						v, err := replica.Open(b.Context(), s.url, key, replica.Options{})
						if err != nil {
							b.Errorf("open: %v", err)
							return
						}
						mu.Lock()
						verifiers = append(verifiers, v)
						mu.Unlock()
					}
				})
			}
			opening.Wait()
			if b.Failed() {
				b.FailNow()
			}
			b.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				var closing sync.WaitGroup
				for _, v := range verifiers {
					closing.Go(func() { _ = v.Close(ctx) })
				}
				closing.Wait()
			})
			const idle = 10 * time.Second
			asks0, cpu0 := grants(b, s, r.operator), cpuSeconds(b, s)
			time.Sleep(idle)
			rest, restCPU := (grants(b, s, r.operator)-asks0)/idle.Seconds(), (cpuSeconds(b, s)-cpu0)/idle.Seconds()
			var took []time.Duration
			var asks, seconds float64
			for b.Loop() {
				if len(took) == len(r.keys) {
					b.StopTimer()
					r.stock(20)
					b.StartTimer()
				}
				before, begin := grants(b, s, r.operator), time.Now()
				took = append(took, r.revoke(len(took)))
				asks += grants(b, s, r.operator) - before
				seconds += time.Since(begin).Seconds()
				for _, v := range verifiers {
					d, err := v.Verify(b.Context(), keystile.VerifyRequest{Key: r.keys[len(took)-1].Secret})
					if err == nil && d.Valid {
						b.Fatal("a replica accepts a key whose revoke has returned")
					}
				}
			}
			n := float64(len(took))
			if count > 0 {
				b.ReportMetric((asks-rest*seconds)/n/float64(count), "messages/revoke-each")
				b.ReportMetric(rest/float64(count), "idle-messages/s-each")
				b.ReportMetric((residentMiB(b, s)-base)*1024/float64(count), "KiB-each")
			}
			b.ReportMetric(restCPU*100, "idle-cpu-%")
			b.ReportMetric(quantile(took, .5), "p50-ms")
			b.ReportMetric(quantile(took, .99), "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkRegions is how long a revoke takes whose effect must be far away:
// in ten regions of which each is further off, by replicas of one server there,
// or by a server there of which the database is here. Every piece that is sent
// takes as long one way as the name says.
func BenchmarkRegions(b *testing.B) {
	revoke := func(b *testing.B, r *revoker, accepted func(secret string) bool) {
		var took []time.Duration
		r.stock(b.N)
		for b.Loop() {
			if len(took) == len(r.keys) {
				b.StopTimer()
				r.stock(10)
				b.StartTimer()
			}
			took = append(took, r.revoke(len(took)))
			if accepted(r.keys[len(took)-1].Secret) {
				b.Fatal("a key is accepted whose revoke has returned")
			}
		}
		b.ReportMetric(quantile(took, .5), "p50-ms")
		b.ReportMetric(quantile(took, .99), "p99-ms")
		b.ReportMetric(quantile(took, 1), "max-ms")
		b.ReportMetric(0, "ns/op")
	}
	for _, far := range []time.Duration{15 * time.Millisecond, 75 * time.Millisecond, 150 * time.Millisecond} {
		b.Run(fmt.Sprintf("replicas/far=%s", far), func(b *testing.B) {
			s := serve(b, []string{"--database", pgtest.New(b)})
			r := newRevoker(b, s)
			key := s.admin("key", "--role", "replica")
			var verifiers []*replica.Verifier
			for i := range 10 {
				link, through := pgtest.NewLink(b, s.url)
				link.Slow(far * time.Duration(i+1) / 10)
				v, err := replica.Open(b.Context(), through, key, replica.Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = v.Close(context.Background()) })
				verifiers = append(verifiers, v)
			}
			revoke(b, r, func(secret string) bool {
				return slices.ContainsFunc(verifiers, func(v *replica.Verifier) bool {
					d, err := v.Verify(b.Context(), keystile.VerifyRequest{Key: secret})
					return err == nil && d.Valid
				})
			})
		})
		b.Run(fmt.Sprintf("server/far=%s", far), func(b *testing.B) {
			database := pgtest.New(b)
			here := serve(b, []string{"--database", database})
			link, through := pgtest.NewLink(b, database)
			there := serve(b, []string{"--database", through})
			link.Slow(far)
			r := newRevoker(b, here)
			revoke(b, r, func(secret string) bool { return there.verify(r.operator, secret).Valid })
		})
	}
}

// grants is how often replicas have asked the server for a lease.
func grants(b *testing.B, s *process, operator string) (sum float64) {
	b.Helper()
	for _, m := range grantCount.FindAllStringSubmatch(metricsOf(b, s, operator), -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum
}

var grantCount = regexp.MustCompile(`(?m)^keystile_http_requests_total\{route="POST /v1/replica/\{attachment\}"[^}]*\} (\S+)$`)

// residentMiB is the memory that a process has (proc(5), status).
func residentMiB(b *testing.B, p *process) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// cpuSeconds is what a process has used of the processors (proc(5), schedstat
// counts only its first thread; stat counts all).
func cpuSeconds(b *testing.B, p *process) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var ticks float64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}
