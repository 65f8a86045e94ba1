package keystile

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
)

// Verifier answers about keys. [Client] asks a server; a replica answers in
// the caller's own process.
type Verifier interface {
	// Verify returns an error only when no decision could be made. A refused key
	// is a decision.
	Verify(ctx context.Context, r VerifyRequest) (Decision, error)
}

// MiddlewareOptions says how [Middleware] reads requests and words refusals.
// The zero value is ready for a service that clients reach directly.
type MiddlewareOptions struct {
	// Headers are those that a key is accepted in: Authorization (with the
	// scheme Bearer) or any other (with the key alone). None means
	// Authorization and X-API-Key. A request with more than one key is refused.
	Headers []string

	// TrustedProxies are the proxies whose X-Forwarded-For is believed; see
	// [ClientAddress]. Without them the client is the peer of the connection,
	// and allowlists of keys are held against that.
	TrustedProxies []netip.Prefix

	// Title of every 401, such as "Invalid API Key". Empty: a title for each
	// cause.
	Title string

	// Workspace returns the id of the workspace that the request is about, so
	// that keys of other workspaces are refused. Nil, or an empty answer: keys
	// of any workspace are let in, and the handler must compare
	// [Decision.WorkspaceID] itself.
	Workspace func(*http.Request) string

	// Logger is told why no decision could be made, and once about a forwarding
	// header from a peer that is not trusted. Nil: slog.Default(). No key ever
	// reaches it.
	Logger *slog.Logger
}

// Middleware lets requests through to net/http handlers when they carry a key
// that may do what the route does. What it refuses is answered with an
// [Error]: 401 and 403 for the key, 400 for a request with several keys or
// with one in its URL, and 503 when no decision could be made. It never lets a
// request through without one.
//
// Handlers find the key's identity with [FromContext]. Headers of the request
// that begin with X-Keystile- are removed, since only a gateway in front of the
// handler may set them, and there is none.
type Middleware struct {
	verifier Verifier
	options  MiddlewareOptions
	warned   atomic.Bool // about a forwarding header
}

// NewMiddleware returns a middleware that asks the verifier, which must not be
// nil.
func NewMiddleware(v Verifier, o MiddlewareOptions) *Middleware {
	if v == nil {
		panic("keystile: NewMiddleware needs a Verifier, such as a *Client")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Middleware{verifier: v, options: o}
}

// Require returns the handler of a route that needs the permission: next, for
// requests whose key has it. An empty permission lets every good key in.
//
//	mux.Handle("POST /inventory", keys.Require("inventory.write", create))
func (m *Middleware) Require(permission string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		decision, problem := m.decide(r, permission)
		if problem != nil {
			WriteError(w, problem, m.options.Title)
			return
		}
		// WithContext copies the request, and its header map where one must
		// change: the caller's request is not ours to edit.
		inner := r.WithContext(context.WithValue(r.Context(), decisionKey{}, decision))
		inner.Header = withoutIdentity(r.Header)
		next.ServeHTTP(w, inner)
	})
}

// decide returns the decision that lets the request in, or the error to answer
// it with.
func (m *Middleware) decide(r *http.Request, permission string) (Decision, *Error) {
	if problem := KeyInQuery(r.URL.RawQuery); problem != nil {
		return Decision{}, problem
	}
	secret, problem := CredentialFrom(r.Header, m.options.Headers)
	if problem != nil {
		return Decision{}, problem
	}
	ask := VerifyRequest{Key: secret, Permission: permission, UserAgent: shorten(r.UserAgent())}
	address, forwardedIgnored := ClientAddress(r, m.options.TrustedProxies)
	if address.IsValid() {
		ask.IP = address.String()
	}
	if forwardedIgnored && m.warned.CompareAndSwap(false, true) {
		m.options.Logger.WarnContext(r.Context(), "keystile: ignoring a forwarding header from a peer that is not a trusted proxy; if it is one of yours, name it in TrustedProxies",
			"peer", r.RemoteAddr)
	}
	if m.options.Workspace != nil {
		ask.Workspace = m.options.Workspace(r)
	}

	decision, err := m.verifier.Verify(r.Context(), ask)
	if err != nil {
		if !errors.Is(err, context.Canceled) { // the client has gone: nothing is wrong
			m.options.Logger.ErrorContext(r.Context(), whyUnchecked(err), "error", err)
		}
		return Decision{}, NewError(CodeUnavailable, "The key could not be checked just now.",
			"Send the request again after the seconds that the header Retry-After names.")
	}
	if problem := decision.Problem(permission); problem != nil {
		return Decision{}, problem
	}
	return decision, nil
}

// whyUnchecked is the log's line about a key that could not be checked. An
// error about the verifier's own key would read as one about the caller's.
func whyUnchecked(err error) string {
	if p, ok := errors.AsType[*Error](err); ok && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) {
		return "keystile: refusing every request, since this program's own key, with which it asks about others, was refused: " +
			"give the client a key that may verify, such as one with the role verifier"
	}
	return "keystile: refusing a request, since its key could not be checked"
}

// maxUserAgent is how much of a user agent [VerifyRequest] takes, in bytes.
const maxUserAgent = 512

// shorten cuts a user agent to what may be sent on. The cut may split a
// character, so that comes first.
func shorten(agent string) string {
	if len(agent) > maxUserAgent {
		agent = agent[:maxUserAgent]
	}
	return strings.ToValidUTF8(agent, "")
}

// decisionKey is the context's key for the decision about the request's key.
type decisionKey struct{}

// FromContext returns the decision that let the request in: whose key it is,
// and what it may do. It tells false outside of [Middleware.Require].
func FromContext(ctx context.Context) (Decision, bool) {
	d, ok := ctx.Value(decisionKey{}).(Decision)
	return d, ok
}

// withoutIdentity returns the headers without those that only a gateway may
// set. It copies them only when there are any.
func withoutIdentity(h http.Header) http.Header {
	cleaned, copied := h, false
	for name := range h {
		if !isIdentity(name) {
			continue
		}
		if !copied {
			cleaned, copied = h.Clone(), true
		}
		delete(cleaned, name)
	}
	return cleaned
}

// isIdentity tells whether a header is one of X-Keystile-…. Underscores count
// as hyphens, because CGI and its heirs make both the same variable.
func isIdentity(name string) bool {
	const prefix = "x-keystile-"
	if len(name) < len(prefix) {
		return false
	}
	return strings.EqualFold(strings.ReplaceAll(name[:len(prefix)], "_", "-"), prefix)
}
