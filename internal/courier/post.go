package courier

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keystile/keystile"
)

// Limits of one attempt.
const (
	dialTimeout   = 5 * time.Second // the name's lookup included
	tlsTimeout    = 5 * time.Second
	headerTimeout = 15 * time.Second // from the request's end to the answer's header
	attemptLimit  = 20 * time.Second
	// bodyTimeout is for how long an answer's body is waited for, which
	// decides about nothing.
	bodyTimeout = 2 * time.Second
	maxBody     = 4 << 10  // bytes of an answer that are kept
	maxHeader   = 32 << 10 // bytes of an answer's header
	// idleTimeout closes connections that might be closed by the receiver just
	// when the next delivery begins.
	idleTimeout = 2 * time.Second
)

// line is the way to one endpoint. Its connections are nobody else's: they
// were made under this endpoint's guard.
type line struct {
	client *http.Client
	close  func()
}

// newLine makes the way to a URL. Environment variables that name proxies
// don't count: a proxy would do the dialling, and no guard would see where to.
func newLine(to string, ranges []string) (*line, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, errors.New("courier: the endpoint's URL cannot be read")
	}
	g, err := newGuard(u.Scheme == "https", ranges)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		Proxy: nil, DialContext: g.dialer().DialContext, DisableCompression: true,
		TLSHandshakeTimeout: tlsTimeout, ResponseHeaderTimeout: headerTimeout, IdleConnTimeout: idleTimeout,
		MaxResponseHeaderBytes: maxHeader, MaxIdleConnsPerHost: perEndpoint, MaxConnsPerHost: 2 * perEndpoint,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		Protocols:       new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return &line{
		client: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		close:  t.CloseIdleConnections,
	}, nil
}

// outcome is what became of an attempt.
type outcome struct {
	keystile.Attempt
	delivered, gone bool
	retryAfter      time.Duration
}

// post sends an event and waits for the answer. Only a status from 200 to 299
// means that it was accepted.
func (l *line) post(ctx context.Context, to, id string, payload []byte, secrets []keystile.WebhookSecret) (o outcome) {
	begun := time.Now()
	o.At = begun.UTC().Truncate(time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	var dialled address // what a name means inside is nobody's business outside, and never in it
	err := l.exchange(dialled.within(ctx), cancel, to, id, payload, secrets, &o)
	o.DurationMS = time.Since(begun).Milliseconds()
	o.Address = dialled.last()
	o.delivered = o.Status >= 200 && o.Status <= 299
	o.gone = o.Status == http.StatusGone
	switch {
	case err != nil:
		o.Error = explain(err)
	case o.Status >= 300 && o.Status <= 399:
		o.Error = "The receiver redirects. Redirects are not followed: give the endpoint the URL that they lead to."
	case !o.delivered:
		o.Error = refusal(o.Status)
	}
	return o
}

// refusal says for people what a status other than 2xx or 3xx means here.
func refusal(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "The receiver does not let it in: it may check with another secret, or want a login, which webhooks have none of."
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "There is nothing at this URL that takes POST requests."
	case http.StatusGone:
		return "The receiver says that it is gone for good."
	case http.StatusRequestEntityTooLarge:
		return "The receiver takes no requests of this size."
	case http.StatusTooManyRequests:
		return "The receiver gets too many requests."
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "The receiver is not there: what stands before it answers in its place."
	}
	if status >= 500 {
		return "The receiver has failed; its own log says why."
	}
	return "The receiver does not accept it."
}

func (l *line) exchange(ctx context.Context, cancel func(), to, id string, payload []byte, secrets []keystile.WebhookSecret, o *outcome) error {
	h, err := keystile.SignWebhook(id, time.Now(), payload, secrets...)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	// Without this, Go sends a request again that met a connection about to
	// close. That would be an attempt that nobody sees.
	request.GetBody = nil
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Keystile/"+keystile.Version)
	request.Header = h
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	o.Status = response.StatusCode
	o.retryAfter = retryAfter(response.Header, time.Now())
	enough := time.AfterFunc(bodyTimeout, cancel)
	defer enough.Stop()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1)) // one more tells whether it ends there
	o.Body = readable(body[:min(len(body), maxBody)])
	if errors.Is(err, context.Canceled) {
		return errSlowBody
	}
	return err
}

var errSlowBody = errors.New("the rest of the answer's body did not come in time")

// readable makes text of whatever a receiver answers, as both databases take it.
func readable(body []byte) string {
	s := strings.ReplaceAll(strings.ToValidUTF8(string(body), "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > maxBody {
		s = strings.ToValidUTF8(s[:maxBody], "")
	}
	return s
}

// address notes what is dialled. Two may be at once, over IPv4 and IPv6.
type address struct {
	mu   sync.Mutex
	text string
}

func (a *address) note(text string) {
	a.mu.Lock()
	a.text = text
	a.mu.Unlock()
}

func (a *address) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text
}

// within is a context whose dialler and connections are noted.
func (a *address) within(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(context.WithValue(ctx, dialledKey{}, a), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { a.note(i.Conn.RemoteAddr().String()) },
	})
}

// explain says for people why there was no whole answer.
func explain(err error) string {
	var dns *net.DNSError
	var unknown *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // its method and URL say nothing new
	}
	var op *net.OpError
	dialling := errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.Is(err, errForbidden):
		return "The address was not dialled: " + errForbidden.Error() + ". Endpoints are on the internet; an operator can allow another range for one of them."
	case errors.As(err, &dns) && dns.IsNotFound:
		return "The name of the host is not known."
	case errors.As(err, &dns):
		return "The name of the host could not be looked up."
	case errors.Is(err, http.ErrSchemeMismatch):
		return "TLS failed: the receiver speaks HTTP without TLS at this port."
	case errors.As(err, &unknown), errors.As(err, &record), errors.As(err, &alert):
		return "TLS failed: " + clip(err.Error()) + "."
	case errors.Is(err, errSlowBody):
		return "The answer's body did not come within " + strconv.Itoa(int(bodyTimeout.Seconds())) + " seconds; its beginning is kept."
	case errors.As(err, &timeout) && timeout.Timeout() && dialling:
		return "No connection within " + strconv.Itoa(int(dialTimeout.Seconds())) + " seconds."
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "No answer in time: TLS has " + strconv.Itoa(int(tlsTimeout.Seconds())) + " seconds, the answer " + strconv.Itoa(int(headerTimeout.Seconds())) + "."
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "The receiver closed the connection before its answer was whole."
	}
	return "The connection failed: " + clip(err.Error()) + "."
}

// clip bounds a text that may repeat what a receiver sent.
func clip(s string) string {
	const most = 200
	s = readable([]byte(s))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
