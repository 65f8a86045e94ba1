package courier_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	_ "github.com/jackc/pgx/v5/stdlib" // to look into the database
	_ "modernc.org/sqlite"             // as above

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/courier"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/pgtest"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

const (
	smtpHost     = "mail.test" // not this machine's name: STARTTLS is required
	smtpUser     = "keystile"
	smtpPassword = "correct horse battery staple"
)

// smtpServer is a real SMTP server that does as it is told.
type smtpServer struct {
	t       testing.TB
	server  *smtp.Server
	address string
	roots   *x509.CertPool

	mu      sync.Mutex
	letters []letter
	tries   int              // mails that were begun
	refuse  map[string]error // by recipient
	fail    error            // of every mail, after its data
	hang    bool             // says nothing more once it has the data
	clear   bool             // a mail or password came without TLS
}

// letter is a mail as it arrived.
type letter struct {
	from string
	to   []string
	raw  string
	user string
}

func newSMTP(t testing.TB, change ...func(*smtpServer)) *smtpServer {
	t.Helper()
	s := &smtpServer{t: t, refuse: map[string]error{}}
	cert, roots := selfSigned(t, smtpHost)
	s.roots = roots
	s.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &smtpSession{server: s, conn: c}, nil }))
	s.server.Domain, s.server.TLSConfig = smtpHost, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	for _, f := range change {
		f(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = s.server.Close(); <-ended })
	return s
}

func selfSigned(t testing.TB, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// set changes what the server does.
func (s *smtpServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// got are the mails that arrived, in the order of their recipients.
func (s *smtpServer) got() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.letters)
	slices.SortStableFunc(all, func(a, b letter) int { return strings.Compare(a.to[0], b.to[0]) })
	return all
}

type smtpSession struct {
	server *smtpServer
	conn   *smtp.Conn
	letter letter
}

func (s *smtpSession) secure() {
	if _, ok := s.conn.TLSConnectionState(); !ok {
		s.server.set(func() { s.server.clear = true })
	}
}

func (s *smtpSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *smtpSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		s.secure()
		if user != smtpUser || password != smtpPassword {
			return &smtp.SMTPError{Code: 535, Message: "no"}
		}
		s.letter.user = user
		return nil
	}), nil
}

func (s *smtpSession) Mail(from string, _ *smtp.MailOptions) error {
	s.secure()
	s.server.set(func() { s.server.tries++ })
	s.letter.from = from
	return nil
}

func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.letter.to = append(s.letter.to, to)
	return s.server.refuse[to]
}

func (s *smtpSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	fail, hang := s.server.fail, s.server.hang
	s.server.mu.Unlock()
	if hang {
		_, _ = io.Copy(io.Discard, s.conn.Conn()) // until the other side goes
		return errors.New("gone")
	}
	if fail != nil {
		return fail
	}
	s.letter.raw = string(raw)
	s.server.set(func() { s.server.letters = append(s.server.letters, s.letter) })
	return nil
}

func (s *smtpSession) Reset()        { s.letter = letter{user: s.letter.user} }
func (s *smtpSession) Logout() error { return nil }

// text is a mail's text as people read it, with its headers.
func (l letter) text(t testing.TB) (mail.Header, string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(l.raw))
	if err != nil {
		t.Fatalf("%v\n%s", err, l.raw)
	}
	r := m.Body
	switch m.Header.Get("Content-Transfer-Encoding") {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return m.Header, string(body)
}

func subject(t testing.TB, h mail.Header) string {
	t.Helper()
	s, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// house is a keyring with a mailer.
type house struct {
	*keyring.Keyring

	t         *testing.T
	db        *sql.DB
	smtp      *smtpServer
	mailer    *courier.Mailer
	log       *bytes.Buffer
	workspace string
}

// inHouse runs a test on both databases.
func inHouse(t *testing.T, test func(h *house), change ...func(*courier.MailServer, *smtpServer)) {
	t.Parallel()
	for name, options := range map[string]func() store.Options{
		"sqlite":   func() store.Options { return store.Options{Dir: t.TempDir()} },
		"postgres": func() store.Options { return store.Options{URL: pgtest.New(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options())
			s := courier.MailServer{
				Address: "smtp://" + smtpHost, User: smtpUser, Password: smtpPassword, From: "Test keys <keys@example.com>", Roots: h.smtp.roots,
			}
			for _, f := range change {
				f(&s, h.smtp)
			}
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			h.mailer = courier.NewMailer(h.Keyring, s, "https://keys.example.com", slog.New(slog.NewTextHandler(h.log, nil)))
			h.mailer.DialTo(h.smtp.address)
			test(h)
		})
	}
}

func newHouse(t *testing.T, o store.Options) *house {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	p, err := profile.Parse("test", []byte("product: Tést\nprefix: tt\nbranding: {support_email: help@example.com}\nwords: {alert_key_exposed: Leaked}\n"))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, smtp: newSMTP(t), log: &bytes.Buffer{}}
	h.Keyring = keyring.New(s, p, func(context.Context, int64, bool) (bool, []keystile.Unreached, error) { return false, nil, nil })
	h.MailAlerts()
	if _, h.workspace, err = h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	driver, source := "pgx", o.URL
	if source == "" {
		driver, source = "sqlite", "file:"+filepath.Join(o.Dir, "keystile.db")+"?_pragma=busy_timeout(10000)"
	}
	if h.db, err = sql.Open(driver, source); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close() })
	return h
}

func root() keyring.Actor { return keyring.Operator("test") }

// member is an active one of a workspace.
func (h *house) member(workspace, subject, email, role string) keystile.Member {
	h.t.Helper()
	m, _, err := h.CreateMember(h.t.Context(), root(), workspace, keystile.CreateMember{
		Person: keystile.Person{Name: subject, Email: email, Issuer: "https://id.example", Subject: subject}, Role: role,
	}, keyring.Idempotency{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.sql(`UPDATE members SET status = 'active' WHERE id = $1`, m.ID)
	return m
}

// exposed makes a key and revokes it for suspected exposure.
func (h *house) exposed(workspace, name string) keystile.CreatedKey {
	h.t.Helper()
	k, _, err := h.CreateKey(h.t.Context(), root(), workspace, keystile.CreateKey{Name: name}, keyring.Idempotency{})
	if err == nil {
		_, err = h.RevokeKey(h.t.Context(), root(), k.Key.ID, keystile.RevokeKey{Reason: keystile.ReasonExposureSuspected})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

func (h *house) sql(statement string, args ...any) {
	h.t.Helper()
	if _, err := h.db.ExecContext(h.t.Context(), statement, args...); err != nil {
		h.t.Fatal(err)
	}
}

// pass lets all waiting be over and sends what is due.
func (h *house) pass() {
	h.t.Helper()
	h.sql(`UPDATE alert_mails SET next_at = 0, taken_till = 0 WHERE state = 0`)
	h.mailer.Resume()
	h.mailer.Pass(h.t.Context())
	h.smtp.mu.Lock()
	defer h.smtp.mu.Unlock()
	if h.smtp.clear {
		h.t.Error("something travelled in the clear")
	}
}

// to are the recipients of all mails so far, sorted.
func (h *house) to(want ...string) []letter {
	h.t.Helper()
	h.pass()
	all, got := h.smtp.got(), []string{}
	for _, l := range all {
		got = append(got, strings.Join(l.to, "+"))
	}
	if !slices.Equal(got, want) {
		h.t.Fatalf("mails to %q, want %q\n%s", got, want, h.log)
	}
	return all
}

// waiting expects so many mails in a state: 0 waits, 1 sent, 2 dropped.
func (h *house) waiting(state, want int) {
	h.t.Helper()
	var n int
	if err := h.db.QueryRowContext(h.t.Context(), `SELECT COUNT(*) FROM alert_mails WHERE state = $1`, state).Scan(&n); err != nil || n != want {
		h.t.Errorf("%d mails in state %d, want %d, %v", n, state, want, err)
	}
}

// TestMail: those who may manage keys get one mail for an alert, in the
// profile's words, with its link and without a secret (IP14).
func TestMail(t *testing.T) {
	inHouse(t, func(h *house) {
		other, _, err := h.CreateWorkspace(t.Context(), root(), keystile.CreateWorkspace{Name: "Other"}, keyring.Idempotency{})
		if err != nil {
			t.Fatal(err)
		}
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		h.member(h.workspace, "bob", "bob@example.org", "developer")
		h.member(h.workspace, "eve", "eve@example.org", "viewer")
		h.member(h.workspace, "nomail", "", "admin")
		h.member(other.ID, "carl", "carl@other.example", "admin")
		// The same person has another address elsewhere, which is not for here.
		h.member(other.ID, "bob", "bob@other.example", "admin")
		h.member(other.ID, "nomail", "nomail@other.example", "admin")
		invited := h.member(h.workspace, "new", "new@example.org", "admin")
		h.sql(`UPDATE members SET status = 'invited' WHERE id = $1`, invited.ID)

		k := h.exposed(h.workspace, "Größe 7")
		all := h.to("ann@example.org", "bob@example.org")
		for _, l := range all {
			head, body := l.text(t)
			if l.from != "keys@example.com" || l.user != smtpUser {
				t.Errorf("from %q by %q", l.from, l.user)
			}
			if s := subject(t, head); s != "[Tést] Leaked: Größe 7" {
				t.Errorf("subject %q", s)
			}
			for name, want := range map[string]string{"To": "<" + l.to[0] + ">", "Auto-Submitted": "auto-generated", "Bcc": "", "Cc": ""} {
				if got := head.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if !strings.HasPrefix(head.Get("Content-Type"), "text/plain") || !strings.Contains(head.Get("From"), "<keys@example.com>") {
				t.Errorf("%v", head)
			}
			for _, want := range []string{
				"Leaked: Größe 7", "others may have it", "https://keys.example.com/w/" + h.workspace + "/alerts",
				"https://keys.example.com/w/" + h.workspace + "/keys/" + k.Key.ID, "because you may see to it", "help@example.com", "Default",
			} {
				if !strings.Contains(body, want) {
					t.Errorf("the mail lacks %q:\n%s", want, body)
				}
			}
			if strings.Contains(l.raw, k.Secret) || strings.Contains(body, k.Secret[len(k.Secret)-30:]) {
				t.Error("the mail holds the key")
			}
		}
		h.to("ann@example.org", "bob@example.org") // once and for all
		h.waiting(1, 2)
		h.exposed(other.ID, "Theirs")
		h.to("ann@example.org", "bob@example.org", "bob@other.example", "carl@other.example", "nomail@other.example")
	})
}

// TestMailTogether: what waits for a member goes in one mail, however much it
// is; what is over by then, or for whom it is not any more, is left out.
func TestMailTogether(t *testing.T) {
	inHouse(t, func(h *house) {
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		bob := h.member(h.workspace, "bob", "bob@example.org", "admin")
		carl := h.member(h.workspace, "carl", "carl@example.org", "admin")
		gone := h.exposed(h.workspace, "Gone again")
		for range 24 {
			h.exposed(h.workspace, "Key")
		}
		if err := h.DeleteKey(t.Context(), root(), gone.Key.ID); err != nil {
			t.Fatal(err)
		}
		if err := h.DeleteMember(t.Context(), root(), bob.ID); err != nil {
			t.Fatal(err)
		}
		viewer := "viewer"
		if _, err := h.UpdateMember(t.Context(), root(), carl.ID, keystile.MemberPatch{Role: &viewer}); err != nil {
			t.Fatal(err)
		}
		head, body := h.to("ann@example.org")[0].text(t)
		if s := subject(t, head); s != "[Tést] Alerts (25): Default" {
			t.Errorf("subject %q", s)
		}
		if n := strings.Count(body, "Leaked: Key"); n != 20 || !strings.Contains(body, "+ 5\r\n") {
			t.Errorf("%d alerts in the mail:\n%s", n, body)
		}
		h.waiting(0, 0)
		h.waiting(1, 25)
	})
}

// TestMailFlood: whoever may revoke keys can't have all others mailed without
// end. Beyond ten mails in an hour what comes waits, and goes in one.
func TestMailFlood(t *testing.T) {
	inHouse(t, func(h *house) {
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		var want []string
		for i := range 13 {
			h.exposed(h.workspace, fmt.Sprintf("Key%d", i))
			if i < 10 {
				want = append(want, "ann@example.org")
			}
			h.to(want...)
		}
		h.waiting(0, 3)
		h.sql(`UPDATE alert_mails SET next_at = next_at - 3601000 WHERE state = 1`)
		head, body := h.to(append(want, "ann@example.org")...)[10].text(t)
		if s := subject(t, head); s != "[Tést] Alerts (3): Default" {
			t.Errorf("subject %q\n%s", s, body)
		}
		h.waiting(0, 0)
	})
}

// TestMailLinks: the only links in a mail are those to the own pages, whatever
// names and user agents hold.
func TestMailLinks(t *testing.T) {
	inHouse(t, func(h *house) {
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		name := "Renew at https://evil.example/x or www.evil.example, evil.example, a@evil.example, \u4f8b\u3002evil"
		k := h.exposed(h.workspace, name)
		if _, err := h.FlushUses(t.Context(), []verify.Use{{KeyID: k.Key.ID, WorkspaceID: h.workspace, Code: keystile.CodeRevoked,
			UserAgent: "curl/8.5.0 http://192.0.2.7/y evil.example", Count: 9, First: time.Now(), Last: time.Now()}}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.WatchKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, body := h.to("ann@example.org")[0].text(t)
		if !strings.Contains(body, "curl/8.5.0 http[:]//192.0.2.7/y evil[.]example") {
			t.Errorf("the user agent is not there:\n%s", body)
		}
		for _, word := range strings.Fields(body) {
			if strings.Contains(word, "evil.example") || strings.Contains(word, "\u3002evil") ||
				strings.Contains(word, "://") && !strings.HasPrefix(word, "https://keys.example.com/") {
				t.Errorf("%q may become a link", word)
			}
		}
	})
}

// TestMailServerFails: whatever a mail server does wrong, no mail is lost
// before its time, none comes twice, and nothing travels in the clear.
func TestMailServerFails(t *testing.T) {
	inHouse(t, func(h *house) {
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		h.member(h.workspace, "bob", "bob@example.org", "admin")
		h.exposed(h.workspace, "Key")
		for name, wrong := range map[string]struct{ on, off func() }{
			"after the data": {func() { h.smtp.fail = &smtp.SMTPError{Code: 451, Message: "later"} }, func() { h.smtp.fail = nil }},
			"for good":       {func() { h.smtp.fail = &smtp.SMTPError{Code: 554, Message: "no"} }, func() { h.smtp.fail = nil }},
			"greylisted": {
				func() {
					h.smtp.refuse["ann@example.org"] = &smtp.SMTPError{Code: 450, Message: "later"}
					h.smtp.refuse["bob@example.org"] = &smtp.SMTPError{Code: 450}
				},
				func() { clear(h.smtp.refuse) },
			},
		} {
			h.smtp.set(wrong.on)
			h.to()
			if !strings.Contains(h.log.String(), "tried again") || strings.Contains(h.log.String(), "example.org") {
				t.Errorf("%s: the log says %s", name, h.log)
			}
			h.smtp.set(wrong.off)
			h.waiting(0, 2)
		}
		// It waits before it tries again, for all members.
		h.smtp.set(func() { h.smtp.fail, h.smtp.tries = &smtp.SMTPError{Code: 451}, 0 })
		h.pass()
		h.mailer.Pass(t.Context())
		h.smtp.set(func() {
			if h.smtp.tries != 1 {
				t.Errorf("%d attempts in a row", h.smtp.tries)
			}
			h.smtp.fail = nil
		})
		// One address that the server does not take is nobody else's problem.
		h.smtp.set(func() { h.smtp.refuse["ann@example.org"] = &smtp.SMTPError{Code: 550, Message: "no such user"} })
		h.to("bob@example.org")
		h.waiting(2, 1)
		h.smtp.set(func() { clear(h.smtp.refuse) })
		h.to("bob@example.org") // ann's is given up
		// And what could not be sent for three days is.
		h.exposed(h.workspace, "Another")
		h.sql(`UPDATE alert_mails SET created_at = created_at - 259300000 WHERE state = 0`)
		h.to("bob@example.org")
		h.waiting(0, 0)
	})
}

// TestMailNeedsTLS: without STARTTLS, or with a certificate that nobody vouches
// for, neither a password nor a mail leaves the machine.
func TestMailNeedsTLS(t *testing.T) {
	for name, change := range map[string]func(*courier.MailServer, *smtpServer){
		"not offered": func(_ *courier.MailServer, s *smtpServer) {
			s.server.TLSConfig = nil
			s.server.AllowInsecureAuth = true
		},
		"other certificate": func(m *courier.MailServer, _ *smtpServer) { m.Roots = x509.NewCertPool() },
		"other name":        func(m *courier.MailServer, _ *smtpServer) { m.Address = "smtp://elsewhere.test" },
		"wrong password":    func(m *courier.MailServer, _ *smtpServer) { m.Password = "wrong" },
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(h *house) {
				h.member(h.workspace, "ann", "ann@example.org", "admin")
				h.exposed(h.workspace, "Key")
				h.to()
				h.waiting(0, 1)
				if strings.Contains(h.log.String(), "wrong\"") || strings.Contains(h.log.String(), smtpPassword) {
					t.Errorf("the log holds the password: %s", h.log)
				}
				h.smtp.set(func() {
					if h.smtp.tries != 0 {
						t.Error("a mail was begun")
					}
				})
			}, change)
		})
	}
}

// TestMailImplicitTLS: a server that speaks TLS from the beginning.
func TestMailImplicitTLS(t *testing.T) {
	inHouse(t, func(h *house) {
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		h.exposed(h.workspace, "Key")
		behind := h.smtp.server.TLSConfig
		l, err := tls.Listen("tcp", "127.0.0.1:0", behind)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = h.smtp.server.Serve(l) }() // ends with the server
		h.mailer.DialTo(l.Addr().String())
		h.to("ann@example.org")
	}, func(m *courier.MailServer, _ *smtpServer) { m.Address = "smtps://" + smtpHost })
}

// TestTrialMail: a trial goes the way that alerts go, and what the server says
// against it is told.
func TestTrialMail(t *testing.T) {
	t.Parallel()
	server := newSMTP(t, func(s *smtpServer) { s.server.AllowInsecureAuth = true })
	m := courier.MailServer{Address: "smtp://" + server.address, User: smtpUser, Password: smtpPassword, From: "Test keys <keys@example.com>"}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	if err := courier.TrialMail(t.Context(), m, "ann@example.org"); err != nil {
		t.Fatal(err)
	}
	got := server.got()
	if len(got) != 1 || strings.Join(got[0].to, " ") != "ann@example.org" || !strings.Contains(got[0].raw, "trial mail") {
		t.Errorf("%+v", got)
	}
	server.set(func() {
		server.refuse["bob@example.org"] = &smtp.SMTPError{Code: 550, Message: "No such user here"}
	})
	if err := courier.TrialMail(t.Context(), m, "bob@example.org"); err == nil || !strings.Contains(err.Error(), "No such user here") {
		t.Errorf("a refused address: %v", err)
	}
	m.Password = "wrong"
	if err := courier.TrialMail(t.Context(), m, "ann@example.org"); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong password: %v", err)
	}
}

// TestMailHangs: a server that says nothing any more holds nobody up for longer
// than the process wants to run, and the mail is still there afterwards.
func TestMailHangs(t *testing.T) {
	inHouse(t, func(h *house) {
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		h.exposed(h.workspace, "Key")
		h.smtp.set(func() { h.smtp.hang = true })
		h.sql(`UPDATE alert_mails SET next_at = 0`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); h.mailer.Pass(ctx) }()
		for begun := 0; begun == 0; {
			time.Sleep(5 * time.Millisecond)
			h.smtp.set(func() { begun = h.smtp.tries })
		}
		cancel()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatal("the mailer hangs with its server")
		}
		h.smtp.set(func() { h.smtp.hang = false })
		h.to("ann@example.org")
	})
}

// TestMailHeaders: names and addresses that someone has put into the database
// by another way make no header.
func TestMailHeaders(t *testing.T) {
	inHouse(t, func(h *house) {
		h.member(h.workspace, "ann", "ann@example.org", "admin")
		bad := h.member(h.workspace, "bad", "bad@example.org", "admin")
		h.exposed(h.workspace, "Key")
		const inject = "\r\nBcc: evil@example.net\r\n\r\nBody"
		h.sql(`UPDATE alerts SET key_name = $1`, "x"+inject)
		h.sql(`UPDATE workspaces SET name = $1`, "y"+inject)
		h.sql(`UPDATE members SET email = $1 WHERE id = $2`, "bad@example.org"+inject, bad.ID)
		l := h.to("ann@example.org")[0]
		head, body := l.text(t)
		if head.Get("Bcc") != "" || len(l.to) != 1 || !strings.HasPrefix(body, "y Bcc: evil@example[.]net Body · Tést") {
			t.Errorf("%v\n%s", head, body)
		}
		h.waiting(0, 0)
	})
}

// TestMailSettings: what cannot be meant is told by the flag's name.
func TestMailSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		server courier.MailServer
		says   string
	}{
		{courier.MailServer{Address: "mail.example.com:587", From: "a@example.com"}, "--smtp-server"},
		{courier.MailServer{Address: "http://mail.example.com", From: "a@example.com"}, "--smtp-server"},
		{courier.MailServer{Address: "smtp://", From: "a@example.com"}, "--smtp-server"},
		{courier.MailServer{Address: "smtp://mail.example.com:0", From: "a@example.com"}, "--smtp-server"},
		{courier.MailServer{Address: "smtp://a:secret@mail.example.com", From: "a@example.com"}, "--smtp-user"},
		{courier.MailServer{Address: "smtp://mail.example.com", User: "a", From: "a@example.com"}, "KEYSTILE_SMTP_PASSWORD"},
		{courier.MailServer{Address: "smtp://mail.example.com", Password: "a", From: "a@example.com"}, "--smtp-user"},
		{courier.MailServer{Address: "smtp://mail.example.com"}, "--smtp-from"},
		{courier.MailServer{Address: "smtp://mail.example.com", From: "a@example.com\r\nBcc: b@example.com"}, "--smtp-from"},
	} {
		err := c.server.Check()
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want something about %s", c.server, err, c.says)
		}
	}
}
