package server_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/keystiletest"
)

// openAlerts lists the open alerts of a workspace.
func openAlerts(t testing.TB, url, key, workspace string) []keystile.Alert {
	t.Helper()
	return want[keystile.List[keystile.Alert]](t, call(t, "GET", url+"/v1/workspaces/"+workspace+"/alerts", bearer(key), nil), http.StatusOK).Data
}

// TestAlertsOverHTTP_IP11 tries keys of several kinds of wrong, over all ways
// to have one checked, on two nodes of one database: their failures add up.
func TestAlertsOverHTTP_IP11(t *testing.T) {
	t.Parallel()
	const text = "product: Test\nprefix: tt\nalerts: {failure_floor: 30}\n"
	options := []keystiletest.Option{
		keystiletest.ProfileText(text), keystiletest.FlushInterval(20 * time.Millisecond),
		keystiletest.TrustedProxy("127.0.0.1"), keystiletest.Database(pgtest.New(t)),
	}
	one, two := keystiletest.New(t, options...), keystiletest.New(t, options...)
	ours, theirs := one.NewWorkspace("Ours", "").ID, one.NewWorkspace("Theirs", "").ID
	admin := one.Key(ours, keystile.CreateKey{Name: "Admin", Role: "admin"}).Secret
	foreign := one.Key(theirs, keystile.CreateKey{Name: "Admin", Role: "admin"}).Secret
	revoked, narrow := one.Key(ours, keystile.CreateKey{Name: "Revoked"}), one.Key(ours, keystile.CreateKey{Name: "Narrow", IPAllowlist: []string{"192.0.2.7"}})
	want[keystile.Key](t, call(t, "POST", one.URL+"/v1/keys/"+revoked.Key.ID+"/revoke", bearer(admin), keystile.RevokeKey{Reason: keystile.ReasonExposureSuspected}), http.StatusOK)
	if open := openAlerts(t, one.URL, admin, ours); len(open) != 1 || open[0].Type != keystile.AlertKeyExposed {
		t.Fatalf("open before anything happened: %+v", open)
	}
	from := func(key, address string) http.Header {
		h := bearer(key)
		h.Set("X-Forwarded-For", address)
		return h
	}
	for i, s := range []*keystiletest.Server{one, two} {
		for n := range 20 {
			address := fmt.Sprintf("2001:db8:%x:1::%x", i, n)
			wantProblem(t, call(t, "GET", s.URL+"/v1/forward-auth", from(revoked.Secret, address), nil), http.StatusUnauthorized, keystile.CodeRevoked)
			wantProblem(t, call(t, "GET", s.URL+"/v1/me", from(narrow.Secret, address), nil), http.StatusForbidden, keystile.CodeIPNotAllowed)
			d := want[keystile.Decision](t, call(t, "POST", s.URL+"/v1/verify", bearer(s.OperatorKey), keystile.VerifyRequest{Key: unissued(t), IP: address}), http.StatusOK)
			if d.Valid {
				t.Fatalf("%+v", d)
			}
		}
	}
	var failures *keystile.AuthFailure
	eventually(t, "a spike opens an alert that counts what both nodes have seen", func() bool {
		for _, a := range openAlerts(t, two.URL, admin, ours) {
			if a.Type == keystile.AlertAuthFailures {
				failures = a.Failures
			}
		}
		return failures != nil
	})
	if failures.Threshold != 30 || failures.Usual != 0 || failures.Peak < 30 || failures.Total > 80 {
		t.Errorf("%+v", failures)
	}
	for _, s := range failures.Sources {
		if s.Source != "2001:db8:0:1::/64" && s.Source != "2001:db8:1:1::/64" {
			t.Errorf("a source %+v", s)
		}
	}
	for _, k := range failures.Keys {
		if k.KeyID != revoked.Key.ID && k.KeyID != narrow.Key.ID {
			t.Errorf("a key %+v", k)
		}
	}
	// The one that is tried although it is revoked has an alert of its own.
	eventually(t, "the revoked key's own alert names its sources", func() bool {
		return slices.ContainsFunc(openAlerts(t, one.URL, admin, ours), func(a keystile.Alert) bool {
			return a.Type == keystile.AlertKeyStillTried && a.KeyID == revoked.Key.ID && len(a.Sources) > 0
		})
	})
	// Those of no key are the operator's business.
	eventually(t, "the operator is told of unknown keys", func() bool {
		return slices.ContainsFunc(openAlerts(t, one.URL, one.OperatorKey, "ws_operator"), func(a keystile.Alert) bool {
			return a.Type == keystile.AlertAuthFailures && len(a.Failures.Sources) > 0 && len(a.Failures.Keys) == 0
		})
	})
	// And nobody else's.
	if open := openAlerts(t, one.URL, foreign, theirs); len(open) != 0 {
		t.Errorf("another workspace: %+v", open)
	}
	wantProblem(t, call(t, "GET", one.URL+"/v1/workspaces/"+ours+"/alerts", bearer(foreign), nil), http.StatusNotFound, keystile.CodeNotFound)
	wantProblem(t, call(t, "GET", one.URL+"/v1/workspaces/ws_operator/alerts", bearer(admin), nil), http.StatusNotFound, keystile.CodeNotFound)
	plain := one.Key(ours, keystile.CreateKey{Name: "Plain"}).Secret
	wantProblem(t, call(t, "GET", one.URL+"/v1/workspaces/"+ours+"/alerts", bearer(plain), nil), http.StatusForbidden, keystile.CodeInsufficientPermission)
	l, err := one.Client(admin).Alerts(t.Context(), ours, keystile.ListAlerts{State: "all", Limit: 1})
	if err != nil || len(l.Data) != 1 || l.NextCursor == "" {
		t.Errorf("the client: %+v, %v", l, err)
	}
	wantProblem(t, call(t, "GET", one.URL+"/v1/workspaces/"+ours+"/alerts?state=shut", bearer(admin), nil), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
}

// relay is a mail server that keeps the mails' recipients, and stands still
// once it has a mail for as long as it is told to.
type relay struct {
	net.Listener

	mu    sync.Mutex
	still chan struct{} // until it is closed
	begun int
	mails []string
}

func newRelay(t *testing.T) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r := &relay{Listener: l, still: make(chan struct{})}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

// serve speaks as much of SMTP (RFC 5321) as a mail takes.
func (r *relay) serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	say := func(s string) { _, _ = fmt.Fprint(conn, s+"\r\n") } // fails when the other side has gone
	say("220 relay")
	to, data := "", false
	for lines.Scan() {
		line := lines.Text()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case data && line == ".":
			data = false
			r.mu.Lock()
			r.begun++
			still := r.still
			r.mu.Unlock()
			<-still
			r.mu.Lock()
			r.mails = append(r.mails, to)
			r.mu.Unlock()
			say("250 taken")
		case data:
		case verb == "DATA":
			data = true
			say("354 go on")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			if verb == "RCPT" {
				to = line
			}
			say("250 ok")
		}
	}
}

// TestKillWhileMailing ends the program with kill -9 while the mail server
// thinks about a mail: it is sent after the restart.
func TestKillWhileMailing(t *testing.T) {
	t.Parallel()
	relay := newRelay(t)
	dir := t.TempDir()
	flags := []string{"--public-url", "https://keys.example.com", "--smtp-server", "smtp://" + relay.Addr().String(), "--smtp-from", "keys@example.com"}
	p := serve(t, []string{"--data", dir}, flags...)
	operator := p.admin("key")
	workspace := p.tenant(operator)
	want[keystile.Member](t, call(t, "POST", p.url+"/v1/workspaces/"+workspace+"/members", bearer(operator), keystile.CreateMember{
		Person: keystile.Person{Name: "Ann", Email: "ann@example.org"}, Role: "admin",
	}), http.StatusCreated)
	query := func(statement string) {
		t.Helper()
		(&tenant{T: t, dir: dir}).sql(statement)
	}
	query(`UPDATE members SET status = 'active'`)
	key := want[keystile.CreatedKey](t, call(t, "POST", p.url+"/v1/workspaces/"+workspace+"/keys", bearer(operator), `{"name": "Leaked"}`), http.StatusCreated)
	want[keystile.Key](t, call(t, "POST", p.url+"/v1/keys/"+key.Key.ID+"/revoke", bearer(operator), `{"reason": "exposure_suspected"}`), http.StatusOK)
	eventually(t, "the mail is on its way", func() bool {
		relay.mu.Lock()
		defer relay.mu.Unlock()
		return relay.begun == 1
	})
	p.kill()
	relay.mu.Lock()
	old := relay.still
	relay.still = make(chan struct{})
	close(relay.still)
	relay.mu.Unlock()
	query(`UPDATE alert_mails SET taken_till = 0`) // two minutes pass
	serve(t, []string{"--data", dir}, flags...)
	eventually(t, "the mail arrives after the restart", func() bool {
		relay.mu.Lock()
		defer relay.mu.Unlock()
		return len(relay.mails) == 1 && relay.mails[0] == "RCPT TO:<ann@example.org>"
	})
	close(old)
}
