package courier

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/keystile/keystile/internal/keyring"
)

// errAddress says that a member's address is none.
var errAddress = errors.New("not an address")

const (
	mailEvery = 2 * time.Second
	// mailTimeout bounds one attempt, from the dialling on: less than the two
	// minutes that the queue gives it.
	mailTimeout = time.Minute
	// mailPause is how long nothing is tried after an attempt that failed by
	// no fault of the one member's address.
	mailPause = 30 * time.Second
)

// MailServer is the server that takes the mails, and as whom.
type MailServer struct {
	Address  string // smtp://host:587 for STARTTLS, smtps://host:465 for TLS from the beginning
	User     string // "" for no authentication
	Password string
	From     string // the sender's address, with a name before it perhaps
	// Roots are the authorities that its certificate may come from; nil for
	// those of the system.
	Roots *x509.CertPool

	host     string
	port     int
	implicit bool // TLS from the beginning
	local    bool // on this machine, where nobody listens in
	from     *netmail.Address
}

// Check reads the settings. Its errors name the flags that give them.
func (s *MailServer) Check() error {
	u, err := url.Parse(s.Address)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("--smtp-server must be smtp://HOST:PORT, with STARTTLS, or smtps://HOST:PORT, such as smtp://mail.example.com:587")
	}
	if u.User != nil {
		return errors.New("--smtp-server holds a user: give it with --smtp-user, and the password in KEYSTILE_SMTP_PASSWORD or with --smtp-password-file")
	}
	s.host, s.implicit, s.port = u.Hostname(), u.Scheme == "smtps", 587
	if s.implicit {
		s.port = 465
	}
	if p := u.Port(); p != "" {
		if s.port, err = strconv.Atoi(p); err != nil || s.port < 1 || s.port > 65535 {
			return errors.New("--smtp-server names a port that is none; 587 is usual, and 465 with smtps")
		}
	}
	ip := net.ParseIP(s.host)
	s.local = s.host == "localhost" || ip != nil && ip.IsLoopback()
	if (s.User == "") != (s.Password == "") {
		return errors.New("--smtp-user and a password go together; give the password in KEYSTILE_SMTP_PASSWORD or with --smtp-password-file")
	}
	if s.from, err = netmail.ParseAddress(s.From); err != nil || strings.ContainsFunc(s.From, isControl) {
		return errors.New("--smtp-from must be the sender's address, such as keys@example.com or \"Example keys <keys@example.com>\"")
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Mailer sends the mails that the keyring has queued.
type Mailer struct {
	keyring *keyring.Keyring
	server  MailServer
	url     string // how people reach the pages
	log     *slog.Logger
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	pause   time.Time // nothing is tried before
}

// NewMailer returns a mailer over a server whose settings were checked.
func NewMailer(k *keyring.Keyring, s MailServer, url string, log *slog.Logger) *Mailer {
	return &Mailer{keyring: k, server: s, url: url, log: log, dial: (&net.Dialer{}).DialContext}
}

// Run sends what is due until ctx ends.
func (m *Mailer) Run(ctx context.Context) {
	t := time.NewTicker(mailEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.Pass(ctx)
		}
	}
}

// Pass sends what is due now.
func (m *Mailer) Pass(ctx context.Context) {
	for ctx.Err() == nil && !time.Now().Before(m.pause) {
		due, ok, err := m.keyring.TakeMail(ctx)
		if err != nil {
			if ctx.Err() == nil {
				m.log.Error("mails of alerts cannot be read", "error", err)
			}
			return
		}
		if !ok {
			return
		}
		m.carry(ctx, due)
	}
}

// carry sends one mail and notes what became of it, which is done even when
// the process is about to end.
func (m *Mailer) carry(ctx context.Context, due keyring.Mail) {
	note := context.WithoutCancel(ctx)
	failure := m.send(ctx, due)
	var err error
	switch {
	case failure == nil:
		err = m.keyring.MailSent(note, due)
	case refused(failure):
		m.log.Warn("the mail server refuses a member's address; their alerts are not mailed", "workspace", due.Workspace.ID)
		err = m.keyring.MailRefused(note, due)
	default:
		m.log.Error("a mail of alerts was not sent and is tried again", "server", m.server.host, "error", cause(failure))
		m.pause = time.Now().Add(mailPause)
		err = m.keyring.MailFailed(note, due)
	}
	if err != nil {
		m.log.Error("what became of a mail cannot be noted; it is sent again, perhaps", "error", err)
	}
}

// refused tells whether the server said for good that it does not take mail to
// the address: no other one says anything about it.
func refused(err error) bool {
	var failed *mail.SendError
	return errors.Is(err, errAddress) || errors.As(err, &failed) && failed.Reason == mail.ErrSMTPRcptTo && failed.ErrorCode() >= 500
}

// cause leaves out whom a mail was for.
func cause(err error) string {
	var failed *mail.SendError
	if errors.As(err, &failed) {
		return fmt.Sprintf("%s (%d)", failed.Reason, failed.ErrorCode())
	}
	return err.Error()
}

// send hands one mail to the server.
func (m *Mailer) send(ctx context.Context, due keyring.Mail) error {
	message, err := m.message(due)
	if err != nil {
		return err
	}
	return m.deliver(ctx, message)
}

// TrialMail sends one mail that says nothing, by a server whose settings were
// checked, to find out whether alerts would arrive. Its errors repeat what the
// server said.
func TrialMail(ctx context.Context, s MailServer, to string) error {
	m := &Mailer{server: s, dial: (&net.Dialer{}).DialContext}
	message, err := m.envelope(to, strings.ToLower(rand.Text()))
	if err != nil {
		return err
	}
	message.Subject("Keystile: a trial mail")
	message.SetBodyString(mail.TypeTextPlain, "This is a trial mail. Alerts of Keystile are sent by the same server.\n")
	return m.deliver(ctx, message)
}

// deliver hands a message to the server.
func (m *Mailer) deliver(ctx context.Context, message *mail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	var conn net.Conn
	client, err := m.client(func(ctx context.Context, network, address string) (net.Conn, error) {
		var err error
		if conn, err = m.dial(ctx, network, address); err != nil || !m.server.implicit {
			return conn, err
		}
		secure := tls.Client(conn, m.tls())
		return secure, secure.HandshakeContext(ctx)
	})
	if err != nil {
		return err
	}
	// A server that stands still, and the end of the process, end it from here.
	defer context.AfterFunc(ctx, func() {
		if conn != nil {
			_ = conn.Close()
		}
	})()
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err == nil {
		err = client.SendWithSMTPClient(session, message)
		if message.IsDelivered() {
			err = nil // the server has it, whatever it said afterwards
		}
		_ = client.CloseWithSMTPClient(session) // nothing depends on how they part
	}
	if conn != nil {
		_ = conn.Close() // the client leaves it open where it fails
	}
	return err
}

func (m *Mailer) tls() *tls.Config {
	return &tls.Config{ServerName: m.server.host, RootCAs: m.server.Roots, MinVersion: tls.VersionTLS12}
}

func (m *Mailer) client(dial mail.DialContextFunc) (*mail.Client, error) {
	policy, auth := mail.TLSMandatory, mail.SMTPAuthAutoDiscover
	switch {
	case m.server.implicit: // go-mail sees no TLS that the dialler has made
		policy, auth = mail.NoTLS, mail.SMTPAuthPlain
	case m.server.local:
		policy, auth = mail.NoTLS, mail.SMTPAuthPlainNoEnc
	}
	options := []mail.Option{
		mail.WithPort(m.server.port), mail.WithTimeout(mailTimeout), mail.WithTLSPolicy(policy),
		mail.WithTLSConfig(m.tls()), mail.WithDialContextFunc(dial),
	}
	if m.server.User != "" {
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(m.server.User), mail.WithPassword(m.server.Password))
	}
	return mail.NewClient(m.server.host, options...)
}
