// Package entry is what the API and the dashboard share at the door: who
// knocks, from where, with how much, and how a refusal is told. It decides
// nothing beyond that; the rules are in package keyring.
package entry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

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
	// Decided is told of every key that was checked: how many had an outcome.
	Decided func(outcome keystile.Code, n int)
	// Observe is told of every answer, by route, status and time taken.
	Observe func(route string, status int, took time.Duration)

	warned atomic.Bool
}

type visitKey struct{}

// Origin is where a request came from.
func Origin(ctx context.Context) keyring.Origin { return Of(ctx).origin }

// Of is the visit that a context belongs to.
func Of(ctx context.Context) *Visit {
	if v, ok := ctx.Value(visitKey{}).(*Visit); ok {
		return v
	}
	return &Visit{}
}

// Actor is who sent a request that came through [Door.Guard].
func Actor(ctx context.Context) keyring.Actor {
	if v := Of(ctx); v.actor != nil {
		return *v.actor
	}
	return keyring.Actor{}
}

// Unreached are the servers that the change of a request has not reached.
func Unreached(ctx context.Context) []keystile.Unreached { return Of(ctx).receipt.Unreached }

// RequestID names a request in logs, audit entries and errors.
func RequestID(ctx context.Context) string { return Of(ctx).id[0] }

// Guard lets a request in whose key is valid, and hands its actor on. What
// the actor may do is for the keyring to say.
func (d *Door) Guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, problem := d.Authenticate(r, nil)
		if problem != nil {
			d.Refuse(w, r, problem)
			return
		}
		v := Of(r.Context())
		actor := keyring.KeyActor(result, v.origin)
		v.actor = &actor
		next(w, r)
	}
}

// Authenticate checks the key that a request carries in one of the accepted
// headers, nil meaning all that Keystile knows, and counts its use.
func (d *Door) Authenticate(r *http.Request, accept []string) (verify.Result, *keystile.Error) {
	v := Of(r.Context())
	return d.authenticate(v, r, accept, d.Index, v.begin, true)
}

// Again checks the key of a request once more, which counts as no other use.
func (d *Door) Again(r *http.Request, accept []string) (verify.Result, *keystile.Error) {
	return d.authenticate(Of(r.Context()), r, accept, d.Index, time.Now(), false)
}

// AuthenticateCheck is [Door.Authenticate] for requests that lead to nothing but
// a check of a key.
func (d *Door) AuthenticateCheck(v *Visit, r *http.Request, accept []string) (verify.Result, *keystile.Error) {
	return d.authenticate(v, r, accept, d.ForChecks, v.begin, true)
}

// CheckAgain is [Door.Again] for the same requests, once [Door.AuthenticateCheck]
// has found the key: where it is in the request does not change.
func (d *Door) CheckAgain(v *Visit, now time.Time) (verify.Result, *keystile.Error) {
	return d.check(v, v.secret, d.ForChecks, now, false)
}

// ForChecks is the index that checks of keys are answered from, if there is one.
func (d *Door) ForChecks() (*verify.Index, bool) {
	if d.Checks != nil {
		return d.Checks()
	}
	return d.Index()
}

func (d *Door) authenticate(
	v *Visit, r *http.Request, accept []string, from func() (*verify.Index, bool), now time.Time, counted bool,
) (verify.Result, *keystile.Error) {
	if problem := keystile.KeyInQuery(r.URL.RawQuery); problem != nil {
		return verify.Result{}, problem
	}
	secret, problem := keystile.CredentialFrom(r.Header, accept)
	if problem != nil {
		return verify.Result{}, problem
	}
	v.secret = secret
	return d.check(v, secret, from, now, counted)
}

// check decides about the key that a request to Keystile itself carries.
func (d *Door) check(v *Visit, secret string, from func() (*verify.Index, bool), now time.Time, counted bool) (verify.Result, *keystile.Error) {
	index, ok := from()
	if !ok {
		return verify.Result{}, Unavailable()
	}
	var problem *keystile.Error
	q := verify.Query{Secret: secret, Own: true, Address: v.origin.Address, Now: now}
	var result verify.Result
	index.Decide(&q, &result)
	if counted {
		d.Count(&result, result.Code, &q, v.origin.UserAgent)
	}
	if result.Code != keystile.CodeValid {
		problem = result.Decision().Problem("")
	}
	return result, problem
}

// Decide decides about a key and counts its use. The problem is that this
// node can't answer now.
func (d *Door) Decide(q *verify.Query, userAgent string) (verify.Result, *keystile.Error) {
	index, ok := d.ForChecks()
	if !ok {
		return verify.Result{}, Unavailable()
	}
	var result verify.Result
	index.Decide(q, &result)
	d.Count(&result, result.Code, q, userAgent)
	return result, nil
}

// Count notes a use of a key, with the code that its holder is told.
func (d *Door) Count(r *verify.Result, code keystile.Code, q *verify.Query, userAgent string) {
	d.Decided(code, 1)
	d.Recorder.Count(r, code, q.Address, userAgent, q.Now)
}

// Unavailable is the refusal of a node that may not use its index.
func Unavailable() *keystile.Error {
	return keystile.NewError(keystile.CodeUnavailable,
		"This server has lost touch with the database, and does not answer from what may be out of date.")
}

// Refuse answers a request with a problem. A problem without a request ID gets one.
func (d *Door) Refuse(w http.ResponseWriter, r *http.Request, problem *keystile.Error) {
	d.refuse(w, RequestID(r.Context()), problem)
}

func (d *Door) refuse(w http.ResponseWriter, id string, problem *keystile.Error) {
	p := *problem
	p.RequestID = id
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
