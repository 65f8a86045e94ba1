package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

// gauge reads a metric of the process.
func (p *process) gauge(operator, name string) int {
	p.t.Helper()
	text := string(call(p.t, "GET", p.url+"/metrics", bearer(operator), nil).body)
	_, after, found := strings.Cut(text, "\n"+name+" ")
	value, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if !found || err != nil {
		p.t.Fatalf("metric %s: %q, %v", name, value, err)
	}
	return int(n)
}

const memory = "process_resident_memory_bytes"

// wellServed asks, until stopped, about a good key on connections of its own.
// Every answer must be the right one.
func (p *process) wellServed(operator, secret string) (stop func() int) {
	own := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	end, count := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-end:
				own.CloseIdleConnections()
				count <- n
				return
			default:
			}
			r, err := tryCall(own, "POST", p.url+"/v1/verify", bearer(operator), keystile.VerifyRequest{Key: secret})
			if err != nil || r.status != http.StatusOK || !strings.Contains(string(r.body), `"valid":true`) {
				p.t.Errorf("others are not served: %s, %v", r, err)
				<-end
				count <- n
				return
			}
			n++
		}
	}()
	return func() int { close(end); return <-count }
}

// TestWrongKeys sends 100 000 wrong keys, each of its own, and half as many
// claimed addresses for a good one. Neither takes memory nor service from others.
func TestWrongKeys(t *testing.T) {
	t.Parallel()
	p := serve(t, []string{"--data", t.TempDir()}, "--flush-interval", "1h")
	operator := p.admin("key")
	good := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+p.tenant(operator)+"/keys", bearer(operator), `{"name": "Good"}`), http.StatusCreated)
	format, err := keystile.NewFormat("ks")
	if err != nil {
		t.Fatal(err)
	}
	const batches, each = 100, 1000
	flood := func(from, batches int, ask func(n int) keystile.VerifyRequest, code keystile.Code) {
		var all sync.WaitGroup
		for client := range 4 {
			all.Go(func() {
				for b := client; b < batches; b += 4 {
					q := keystile.VerifyBatch{Requests: make([]keystile.VerifyRequest, each)}
					for i := range q.Requests {
						q.Requests[i] = ask(from + b*each + i)
					}
					r, err := tryCall(httpClient, "POST", p.url+"/v1/verify/batch", bearer(operator), q)
					if err != nil { // a connection that was dialled and not used ends after 5 s, maybe as it is taken
						r = call(t, "POST", p.url+"/v1/verify/batch", bearer(operator), q)
					}
					d := want[keystile.DecisionBatch](t, r, http.StatusOK)
					for _, one := range d.Decisions {
						if one.Code != code && (code != keystile.CodeUnknown || one.Code != keystile.CodeMalformed) {
							t.Errorf("%+v, want %s", one, code)
							return
						}
					}
				}
			})
		}
		all.Wait()
	}
	stop := p.wellServed(operator, good.Secret)
	wrong := func(n int) keystile.VerifyRequest {
		secret, err := format.Mint("")
		if err != nil {
			t.Error(err)
		}
		if n%3 == 0 {
			secret = secret[:len(secret)-1] + "?"
		}
		return keystile.VerifyRequest{Key: secret, IP: fmt.Sprintf("2001:db8::%x:%x", n>>16, n&0xffff), UserAgent: "guess/" + strconv.Itoa(n)}
	}
	claimed := func(n int) keystile.VerifyRequest {
		return keystile.VerifyRequest{Key: good.Secret, IP: fmt.Sprintf("2001:db8::%x:%x", n>>16, n&0xffff), UserAgent: strings.Repeat("x", 150) + strconv.Itoa(n)}
	}
	// A first round brings the process to the size that work of this kind takes,
	// between two runs of the collector.
	flood(0, batches/2, wrong, keystile.CodeUnknown)
	flood(0, batches/2, claimed, keystile.CodeValid)
	before := p.gauge(operator, memory)
	flood(batches*each, batches, wrong, keystile.CodeUnknown)
	flood(batches*each, batches/2, claimed, keystile.CodeValid)
	if after := p.gauge(operator, memory); after > before+(24<<20) {
		t.Errorf("memory went from %d to %d MiB", before>>20, after>>20)
	}
	if n := stop(); n == 0 {
		t.Error("nobody else was served meanwhile")
	}
	for range 1000 {
		r := call(t, "GET", p.url+"/v1/forward-auth", bearer(unissued(t)), nil)
		if r.status != http.StatusUnauthorized {
			t.Fatalf("%s", r)
		}
	}
}

// TestSlowClients holds hundreds of connections that send hardly anything, or
// read nothing, while others are served.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	p := serve(t, []string{"--data", t.TempDir()})
	operator := p.admin("key")
	workspace := p.tenant(operator)
	good := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+workspace+"/keys", bearer(operator), `{"name": "Good"}`), http.StatusCreated)
	before, goroutines := p.gauge(operator, memory), p.gauge(operator, "go_goroutines")
	stop := p.wellServed(operator, good.Secret)
	authorization := "Authorization: Bearer " + operator + "\r\nHost: x\r\nContent-Type: application/json\r\n"
	const each = 100
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	hold := func(text string) []net.Conn {
		for range each {
			c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
		}
		return held[len(held)-each:]
	}
	ends := map[string][]net.Conn{
		"nothing sent":       hold(""),
		"half a header":      hold("GET /v1/me HTTP/1.1\r\nHost: x\r\nX-A: "),
		"half of a verify":   hold("POST /v1/verify HTTP/1.1\r\n" + authorization + "Content-Length: 100\r\n\r\n{"),
		"half of a create":   hold("POST /v1/workspaces/" + workspace + "/keys HTTP/1.1\r\n" + authorization + "Content-Length: 100\r\n\r\n{"),
		"chunks without end": hold("POST /v1/verify HTTP/1.1\r\n" + authorization + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"),
		"no key, half sent":  hold("POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{"),
	}
	// Those that never read ask for much, again and again, until nothing more goes in.
	deaf := hold("")
	var asking sync.WaitGroup
	for _, c := range deaf[:20] {
		asking.Go(func() {
			_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
			for range 2000 {
				if _, err := io.WriteString(c, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					return
				}
			}
		})
	}
	asking.Wait()
	for range 20 { // a create is served too
		want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+workspace+"/keys", bearer(operator), `{"name": "More"}`), http.StatusCreated)
	}
	if after := p.gauge(operator, memory); after > before+(96<<20) {
		t.Errorf("%d connections took memory from %d to %d MiB", len(held), before>>20, after>>20)
	}
	// Who sends too slowly is cut off: net/http waits 5 s for headers, 30 s for bodies.
	for name, all := range ends {
		for _, c := range all {
			if err := c.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Fatalf("%s: the connection is still open after two minutes", name)
			}
		}
	}
	if n := stop(); n == 0 {
		t.Error("nobody else was served meanwhile")
	}
	for _, c := range held {
		_ = c.Close()
	}
	eventually(t, "nothing is left of them", func() bool { return p.gauge(operator, "go_goroutines") < goroutines+50 })
}

// TestOversize sends more than a request may have, of everything.
func TestOversize(t *testing.T) {
	t.Parallel()
	p := serve(t, []string{"--data", t.TempDir()})
	operator := p.admin("key")
	keys := "/v1/workspaces/" + p.tenant(operator) + "/keys"
	large := strings.Repeat("x", 10<<20)
	before := p.gauge(operator, memory)
	for _, c := range []struct {
		name, method, path string
		header             http.Header
		body               any
	}{
		{"name of 10 MB", "POST", keys, bearer(operator), `{"name": "` + large + `"}`},
		{"no JSON, 10 MB", "POST", keys, bearer(operator), large},
		{"verify", "POST", "/v1/verify", bearer(operator), `{"key": "` + large + `"}`},
		{"batch", "POST", "/v1/verify/batch", bearer(operator), `{"requests": [{"key": "` + large + `"}]}`},
		{"field name", "PATCH", "/v1/keys/key_x", bearer(operator), `{"` + large + `": 1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 5 {
				r, err := tryCall(httpClient, c.method, p.url+c.path, c.header, c.body)
				if err != nil { // closed while it was sent, which is as good
					if !strings.Contains(err.Error(), "broken pipe") && !strings.Contains(err.Error(), "connection reset") {
						t.Fatal(err)
					}
					continue
				}
				wantProblem(t, r, http.StatusRequestEntityTooLarge, keystile.CodeBodyTooLarge)
			}
		})
	}
	for name, head := range map[string]string{
		"header of 1 MB":      "GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + large[:1<<20],
		"many headers":        "GET /v1/me HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 10_000),
		"path of 1 MB":        "GET /v1/keys/" + large[:1<<20],
		"header name of 1 MB": "GET /v1/me HTTP/1.1\r\nHost: x\r\n" + large[:1<<20],
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, head) // fails when the server has closed already
			status, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatalf("%q, %v", status, err)
			}
			if err == nil && !strings.HasPrefix(status, "HTTP/1.1 431 ") {
				t.Errorf("answered %q", status)
			}
		})
	}
	if after := p.gauge(operator, memory); after > before+(96<<20) {
		t.Errorf("memory went from %d to %d MiB", before>>20, after>>20)
	}
}
