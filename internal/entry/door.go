// Package entry is what the API and the dashboard share at the door: who
// knocks, from where, with how much, and how a refusal is told. It decides
// nothing beyond that; the rules are in package keyring.
package entry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/verify"
)

// Door is the entrance that all requests come through.
type Door struct {
	// Index is the index if this node may use it now, and Checks if it may for
	// nothing but checks of keys; nil: where Index is.
	Index    func() (*verify.Index, bool)
	Checks   func() (*verify.Index, bool)
	Recorder *verify.Recorder
	Keyring  *keyring.Keyring
	Profile  *profile.Profile
	Trusted  []netip.Prefix // proxies whose forwarding headers count
	Log      *slog.Logger
	TLS      bool // people reach the server by it alone
	// Look adds to a list of nodes what this process knows better than their rows.
	Look func([]keystile.Node)
	// Decided is told of every key that was checked.
	Decided func(keystile.Code)
	// Observe is told of every answer, by route, status and time taken.
	Observe func(route string, status int, took time.Duration)

	warned atomic.Bool
}

// request is what the door knows of a request under way.
type request struct {
	id      string
	origin  keyring.Origin
	actor   keyring.Actor
	receipt keyring.Receipt
}

type requestKey struct{}

// Origin is where a request came from.
func Origin(ctx context.Context) keyring.Origin { return of(ctx).origin }

// Actor is who sent a request that came through [Door.Guard].
func Actor(ctx context.Context) keyring.Actor { return of(ctx).actor }

// Unreached are the servers that the change of a request has not reached.
func Unreached(ctx context.Context) []keystile.Unreached { return of(ctx).receipt.Unreached }

// RequestID names a request in logs, audit entries and errors.
func RequestID(ctx context.Context) string { return of(ctx).id }

func of(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

// maxUserAgent bounds what is kept of a user agent, in bytes.
const maxUserAgent = 200

// CleanUserAgent keeps of a user agent what is fit for logs and tables. Clients
// choose it, and one that puts a key there must not have it stored.
func CleanUserAgent(s string) string {
	s = keyring.MaskKeys(s) // before it is cut, which would leave most of a key
	if len(s) > maxUserAgent {
		s = s[:maxUserAgent]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' || (r >= 0x80 && r < 0xa0) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// Handler wraps everything the server answers: it names the request, finds
// the client's address, keeps a panic from taking the process along, and logs
// the answer by its route, never by its path, which may hold a link's token.
func (d *Door) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		in := &request{id: newRequestID()}
		address, ignored := keystile.ClientAddress(r, d.Trusted)
		in.origin = keyring.Origin{Address: address, UserAgent: CleanUserAgent(r.UserAgent()), RequestID: in.id, Receipt: &in.receipt}
		if ignored && d.warned.CompareAndSwap(false, true) {
			d.Log.Warn("a forwarding header came from a peer that is not a trusted proxy and was ignored; "+
				"if it is your proxy, name it with --trusted-proxy", "peer", address.String())
		}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, in))
		h := w.Header()
		h.Set("X-Request-Id", in.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if d.TLS {
			h.Set("Strict-Transport-Security", "max-age=31536000") // for a year, in seconds (RFC 6797, section 6.1.1)
		}
		out := &response{ResponseWriter: w, receipt: &in.receipt}
		r.Body = newBody(out, r.Body)
		defer func() {
			p := recover()
			if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
				d.Log.Error("panic while answering", "request_id", in.id, "route", r.Pattern, "panic", p, "stack", string(debug.Stack()))
				if out.status == 0 {
					d.Refuse(out, r, keystile.NewError(keystile.CodeInternal, ""))
				}
			}
			d.done(r, in, out, time.Since(begin))
			if p == http.ErrAbortHandler { //nolint:errorlint // as above
				panic(p) // or what was cut off would look whole
			}
		}()
		next.ServeHTTP(out, r)
	})
}

func (d *Door) done(r *http.Request, in *request, out *response, took time.Duration) {
	status := out.status
	if status == 0 {
		status = http.StatusOK
	}
	route := r.Pattern
	if route == "" {
		route = "none"
	}
	d.Observe(route, status, took)
	level := slog.LevelDebug
	if status >= 500 {
		level = slog.LevelError
	}
	if !d.Log.Enabled(r.Context(), level) {
		return
	}
	d.Log.LogAttrs(r.Context(), level, "answered", slog.String("request_id", in.id), slog.String("route", route),
		slog.Int("status", status), slog.Float64("seconds", took.Seconds()), slog.String("address", in.origin.Address.String()),
		slog.String("key_id", in.actor.Party().ID))
}

// Guard lets a request in whose key is valid, and hands its actor on. What
// the actor may do is for the keyring to say.
func (d *Door) Guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, problem := d.Authenticate(r, nil)
		if problem != nil {
			d.Refuse(w, r, problem)
			return
		}
		in := of(r.Context())
		in.actor = keyring.KeyActor(result, in.origin)
		next(w, r)
	}
}

// Authenticate checks the key that a request carries in one of the accepted
// headers, nil meaning all that Keystile knows, and counts its use.
func (d *Door) Authenticate(r *http.Request, accept []string) (verify.Result, *keystile.Error) {
	return d.authenticate(r, accept, d.Index, d.Count)
}

// Again checks the key of a request once more, which counts as no other use.
func (d *Door) Again(r *http.Request, accept []string) (verify.Result, *keystile.Error) {
	return d.authenticate(r, accept, d.Index, uncounted)
}

// AuthenticateCheck and CheckAgain are [Door.Authenticate] and [Door.Again] for
// requests that lead to nothing but a check of a key.
func (d *Door) AuthenticateCheck(r *http.Request, accept []string) (verify.Result, *keystile.Error) {
	return d.authenticate(r, accept, d.ForChecks, d.Count)
}

// CheckAgain is described at AuthenticateCheck.
func (d *Door) CheckAgain(r *http.Request, accept []string) (verify.Result, *keystile.Error) {
	return d.authenticate(r, accept, d.ForChecks, uncounted)
}

// ForChecks is the index that checks of keys are answered from, if there is one.
func (d *Door) ForChecks() (*verify.Index, bool) {
	if d.Checks != nil {
		return d.Checks()
	}
	return d.Index()
}

func uncounted(verify.Result, keystile.Code, verify.Query, string) {}

func (d *Door) authenticate(
	r *http.Request, accept []string, from func() (*verify.Index, bool), count func(verify.Result, keystile.Code, verify.Query, string),
) (verify.Result, *keystile.Error) {
	if problem := keystile.KeyInQuery(r.URL.RawQuery); problem != nil {
		return verify.Result{}, problem
	}
	secret, problem := keystile.CredentialFrom(r.Header, accept)
	if problem != nil {
		return verify.Result{}, problem
	}
	index, ok := from()
	if !ok {
		return verify.Result{}, Unavailable()
	}
	in := of(r.Context())
	q := verify.Query{Secret: secret, Own: true, Address: in.origin.Address, Now: time.Now()}
	result := index.Decide(q)
	count(result, result.Code, q, in.origin.UserAgent)
	if result.Code != keystile.CodeValid {
		problem = result.Decision().Problem("")
	}
	return result, problem
}

// Decide decides about a key and counts its use. The problem is that this
// node can't answer now.
func (d *Door) Decide(q verify.Query, userAgent string) (verify.Result, *keystile.Error) {
	index, ok := d.ForChecks()
	if !ok {
		return verify.Result{}, Unavailable()
	}
	result := index.Decide(q)
	d.Count(result, result.Code, q, userAgent)
	return result, nil
}

// Count notes a use of a key, with the code that its holder is told.
func (d *Door) Count(r verify.Result, code keystile.Code, q verify.Query, userAgent string) {
	d.Decided(code)
	d.Recorder.Count(r, code, q.Address, userAgent, q.Now)
}

// Unavailable is the refusal of a node that may not use its index.
func Unavailable() *keystile.Error {
	return keystile.NewError(keystile.CodeUnavailable,
		"This server has lost touch with the database, and does not answer from what may be out of date.")
}

// Refuse answers a request with a problem. A problem without a request ID gets one.
func (d *Door) Refuse(w http.ResponseWriter, r *http.Request, problem *keystile.Error) {
	p := *problem
	p.RequestID = RequestID(r.Context())
	keystile.WriteError(w, &p, d.Profile.Unauthorized)
}

// Problem turns any error into one that may leave the process: a problem as
// it is, and everything else as an internal error whose cause stays in the log.
func (d *Door) Problem(ctx context.Context, err error) *keystile.Error {
	var problem *keystile.Error
	if !errors.As(err, &problem) {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			problem = keystile.NewError(keystile.CodeTimeout, "The request ended before it was answered.")
		} else {
			d.Log.Error("internal error", "request_id", RequestID(ctx), "error", err)
			problem = keystile.NewError(keystile.CodeInternal, "")
		}
	} else if problem.Status >= 500 {
		d.Log.Error("request failed", "request_id", RequestID(ctx), "error", err)
	}
	p := *problem
	p.RequestID = RequestID(ctx)
	return &p
}

func newRequestID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return hex.EncodeToString(b[:])
}

// body lifts the limit on how long reading may take once there is nothing left
// to read. net/http reads on behind the request to notice that the client has
// gone, and takes a limit that passes meanwhile for that: it would end the
// context of this request and of all that follow on the connection, while the
// answer waits for another node, which may take longer than a body may.
type body struct {
	io.ReadCloser

	arrived func()
}

func newBody(w http.ResponseWriter, of io.ReadCloser) *body {
	b := &body{ReadCloser: of, arrived: func() {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // fails where there is none
	}}
	if of == http.NoBody {
		b.arrived()
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.arrived()
	}
	return n, err
}

// response notes the status of an answer, and has it name the servers that a
// change did not reach.
type response struct {
	http.ResponseWriter
	status  int
	receipt *keyring.Receipt
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		if list := w.receipt.Unreached; len(list) > 0 && status >= 200 && status < 400 {
			w.Header().Set(keystile.UnreachedHeader, unreachedLine(list))
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// maxUnreachedLine bounds the header, in bytes: proxies take 4 KiB of all
// headers together. A server takes some 130.
const maxUnreachedLine = 2048

// unreachedLine is the header that names servers, as JSON in ASCII, those that
// go on for longest first and as many as fit.
func unreachedLine(list []keystile.Unreached) string {
	line := ASCII(list)
	for len(line) > maxUnreachedLine {
		list = list[:len(list)-1]
		line = ASCII(list)
	}
	return line
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
