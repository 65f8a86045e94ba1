package entry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// Visit is a request under way: what the door knows of it, and the writer of
// its answer. The request's context leads to it.
type Visit struct {
	http.ResponseWriter
	door   *Door
	begin  time.Time
	id     [1]string // a slice of it is the header
	origin keyring.Origin
	actor  *keyring.Actor // nil where it has no say, as in checks of keys
	route  *string        // the pattern that the request's path has matched
	status int
	secret string // the key of the request itself, once it was looked for
	whole  bool   // it was there to its last byte when it began to be answered

	receipt keyring.Receipt
}

// Origin is where the request came from.
func (v *Visit) Origin() keyring.Origin { return v.origin }

// RequestID names the request in logs, audit entries and errors.
func (v *Visit) RequestID() string { return v.id[0] }

// Began is when the request's headers had arrived.
func (v *Visit) Began() time.Time { return v.begin }

// Refuse answers with a problem.
func (v *Visit) Refuse(problem *keystile.Error) { v.door.refuse(v, v.id[0], problem) }

// WriteHeader implements http.ResponseWriter.
func (v *Visit) WriteHeader(status int) {
	if v.status == 0 {
		v.status = status
		if list := v.receipt.Unreached; len(list) > 0 && status >= 200 && status < 400 {
			v.Header().Set(keystile.UnreachedHeader, unreachedLine(list))
		}
	}
	v.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (v *Visit) Write(b []byte) (int, error) {
	if v.status == 0 {
		v.WriteHeader(http.StatusOK)
	}
	return v.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (v *Visit) Unwrap() http.ResponseWriter { return v.ResponseWriter }

// slow is how long a body may take to arrive before the limit on it is worth
// being lifted for a request that is answered at once.
const slow = time.Second

// Arrived notes that a body has been read to its end, and returns the time.
func (v *Visit) Arrived() time.Time {
	now := time.Now()
	if now.Sub(v.begin) > slow {
		v.unlimit()
	}
	return now
}

// ArrivedWhole tells whether the request was there to its last byte when it began
// to be answered, so that nobody waits for its body.
func (v *Visit) ArrivedWhole() bool { return v.whole }

// unlimit lifts the limit on how long reading may take once there is nothing left
// to read. net/http reads on behind the request to notice that the client has
// gone, and takes a limit that passes meanwhile for that: it would end the
// context of this request and of all that follow on the connection, while the
// answer waits for another node, which may take longer than a body may.
func (v *Visit) unlimit() {
	_ = http.NewResponseController(v.ResponseWriter).SetReadDeadline(time.Time{}) // fails where there is none
}

// visiting is the context of a request.
type visiting struct {
	context.Context

	visit *Visit
}

// Value implements context.Context.
func (c visiting) Value(key any) any {
	if key == (visitKey{}) {
		return c.visit
	}
	return c.Context.Value(key)
}

// body lifts the limit on reading once it has arrived.
type body struct {
	io.ReadCloser

	visit *Visit
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.visit.unlimit()
	}
	return n, err
}

// Direct finds the handler of a request that is answered at once and so often
// that finding its route and making it a context would count; nil for all
// others. It sets the request's pattern.
type Direct func(r *http.Request) func(*Visit, *http.Request)

// Handler wraps everything the server answers: it names the request, finds
// the client's address, keeps a panic from taking the process along, and logs
// the answer by its route, never by its path, which may hold a link's token.
func (d *Door) Handler(next http.Handler, direct Direct) http.Handler {
	// Headers that are the same in every answer share their values. Nobody
	// writes into these: http.Header sets other ones, or copies to add.
	nosniff, noStore := []string{"nosniff"}, []string{"no-store"}
	strict := []string{"max-age=31536000"} // for a year, in seconds (RFC 6797, section 6.1.1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &Visit{ResponseWriter: w, door: d, begin: time.Now(), id: [1]string{newRequestID()}, route: &r.Pattern}
		address, ignored := keystile.ClientAddress(r, d.Trusted)
		v.origin = keyring.Origin{Address: address, UserAgent: CleanUserAgent(r.UserAgent()), RequestID: v.id[0], Receipt: &v.receipt}
		if ignored && d.warned.CompareAndSwap(false, true) {
			d.Log.Warn("a forwarding header came from a peer that is not a trusted proxy and was ignored; "+
				"if it is your proxy, name it with --trusted-proxy", "peer", address.String())
		}
		h := w.Header()
		h["X-Request-Id"] = v.id[:]
		h["X-Content-Type-Options"] = nosniff
		h["Cache-Control"] = noStore
		if d.TLS {
			h["Strict-Transport-Security"] = strict
		}
		defer v.end()
		_, v.whole = w.(interface{ ArrivedWhole() }) // a writer of package lane
		if handle := direct(r); handle != nil {
			handle(v, r)
			return
		}
		r = r.WithContext(visiting{r.Context(), v})
		v.route = &r.Pattern
		if r.Body == http.NoBody {
			v.unlimit()
		}
		r.Body = &body{r.Body, v}
		next.ServeHTTP(v, r)
	})
}

// end is deferred while a request is answered.
func (v *Visit) end() {
	p := recover()
	if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
		v.door.Log.Error("panic while answering", "request_id", v.id[0], "route", *v.route, "panic", p, "stack", string(debug.Stack()))
		if v.status == 0 {
			v.Refuse(keystile.NewError(keystile.CodeInternal, ""))
		}
	}
	v.done(time.Since(v.begin))
	if p == http.ErrAbortHandler { //nolint:errorlint // as above
		panic(p) // or what was cut off would look whole
	}
}

func (v *Visit) done(took time.Duration) {
	status, route := v.status, *v.route
	if status == 0 {
		status = http.StatusOK
	}
	if route == "" {
		route = "none"
	}
	v.door.Observe(route, status, took)
	level := slog.LevelDebug
	if status >= 500 {
		level = slog.LevelError
	}
	if log, ctx := v.door.Log, context.Background(); log.Enabled(ctx, level) {
		var key string
		if v.actor != nil {
			key = v.actor.Party().ID
		}
		log.LogAttrs(ctx, level, "answered", slog.String("request_id", v.id[0]), slog.String("route", route),
			slog.Int("status", status), slog.Float64("seconds", took.Seconds()), slog.String("address", v.origin.Address.String()),
			slog.String("key_id", key))
	}
}

// newRequestID makes 24 hexadecimal digits that no other request has. Nobody
// gains by guessing them, so they need not come from the system each time.
func newRequestID() string {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint32(b[8:], rand.Uint32())
	var digits [24]byte
	hex.Encode(digits[:], b[:])
	return string(digits[:])
}

// maxUserAgent bounds what is kept of a user agent, in bytes.
const maxUserAgent = 200

// CleanUserAgent keeps of a user agent what is fit for logs and tables. Clients
// choose it, and one that puts a key there must not have it stored.
func CleanUserAgent(s string) string {
	if isClean(s) {
		return s
	}
	return cleaned(s)
}

func cleaned(s string) string {
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

// isClean knows most user agents that are kept as they are: printable ASCII
// without an underscore, which is in keys of every kind, and without a stretch
// that could be the random part of one.
func isClean(s string) bool {
	const tooLong = 24 // bytes; less than any random part has
	if len(s) > maxUserAgent {
		return false
	}
	run := 0
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
			if run++; run == tooLong {
				return false
			}
		case c < ' ' || c > '~' || c == '_':
			return false
		default:
			run = 0
		}
	}
	return true
}
