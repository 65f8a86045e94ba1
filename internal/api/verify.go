package api

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/verify"
)

// The routes of this file are asked with every request of the product's own
// customers. They are served from memory and by hand.

const (
	maxVerifyBody = 8 << 10 // bytes; all fields at their longest have 1.7 kB
	maxBatchBody  = 2 << 20 // bytes
	maxBatch      = 1000
	maxPermission = 128 // bytes
)

// asker is who wants a key checked, and whose keys it may ask about.
type asker struct {
	everywhere bool
	workspace  string
}

// question reads what is asked, once it is known that the caller may ask: the
// body of a stranger is not worth reading.
func (a *API) question(v *entry.Visit, r *http.Request, read func() *keystile.Error) (who asker, now time.Time, problem *keystile.Error) {
	if a.open { // on a socket that is open for it, no key is needed
		problem = read()
		return asker{everywhere: true}, v.Arrived(), problem
	}
	result, problem := a.door.AuthenticateCheck(v, r, nil)
	if problem != nil {
		return who, now, problem
	}
	if who, problem = mayVerify(result); problem != nil {
		return who, now, problem
	}
	if problem = read(); problem != nil {
		return who, now, problem
	}
	if now = v.Arrived(); v.ArrivedWhole() {
		return who, now, nil
	}
	// The body may have come seconds later. A key that was taken away meanwhile
	// must not ask any more: whoever took it away was told so.
	if result, problem = a.door.CheckAgain(v, now); problem != nil {
		return who, now, problem
	}
	who, problem = mayVerify(result)
	return who, now, problem
}

// mayVerify tells whose keys the holder of a key may ask about.
func mayVerify(r verify.Result) (asker, *keystile.Error) {
	held := r.Permissions()
	switch {
	case held.Allow("platform.verify"):
		return asker{everywhere: true}, nil
	case held.Allow("api.key.verify"):
		return asker{workspace: r.WorkspaceID()}, nil
	}
	p := keystile.NewError(keystile.CodeInsufficientPermission,
		"The key you sent may not check keys: it lacks the permission api.key.verify.",
		"Use a key with the role verifier of the operator's workspace: keystile admin key --role verifier.",
		"Or a key of the workspace whose role carries api.key.verify.")
	p.Permission = "api.key.verify"
	return asker{}, p
}

// answered is what was decided about a key, until it is written.
type answered struct {
	verify.Result
	foreign bool // the key of another tenant than the asker
}

// decision is what the asker is told: nothing of another tenant's key but that
// it is one.
func (a answered) decision() keystile.Decision {
	if !a.foreign {
		return a.Decision()
	}
	p := keystile.NewError(keystile.CodeWrongWorkspace, "")
	return keystile.Decision{Code: p.Code, Status: p.Status, Detail: p.Detail, Fixes: p.Fixes}
}

// asks puts a question as the index takes it.
func asks(n int, q *keystile.VerifyRequest, asked *verify.Query) *keystile.Error {
	asked.Address = netip.Addr{}
	if q.IP != "" {
		var err error
		if asked.Address, err = netip.ParseAddr(q.IP); err != nil {
			return field(placeOf(n, "ip"), "It is not an IP address.")
		}
	}
	if q.Key == "" {
		return field(placeOf(n, "key"), "It is missing: send the key to check.")
	}
	if len(q.Permission) > maxPermission {
		return field(placeOf(n, "permission"), "It is longer than any permission.")
	}
	asked.Secret, asked.Permission, asked.Workspace = q.Key, q.Permission, q.Workspace
	return nil
}

// decide answers the only question of a body.
func (a *API) decide(who asker, q *keystile.VerifyRequest, now time.Time) (out answered, problem *keystile.Error) {
	asked := verify.Query{Now: now}
	if problem = asks(single, q, &asked); problem != nil {
		return out, problem
	}
	if detail := a.unknownPermission(q.Permission); detail != "" {
		return out, field(placeOf(single, "permission"), detail)
	}
	index, ok := a.door.ForChecks()
	if !ok {
		return out, entry.Unavailable()
	}
	code := out.decide(index, who, &asked)
	a.door.Decided(code, 1)
	a.door.Recorder.Count(&out.Result, code, asked.Address, entry.CleanUserAgent(q.UserAgent), now)
	return out, nil
}

// decideAll answers the questions of a batch, all of which must be in order, and
// with as little as can be that is done for each of them.
func (a *API) decideAll(who asker, all []keystile.VerifyRequest, out []answered, now time.Time) *keystile.Error {
	index, ok := a.door.ForChecks()
	if !ok {
		return entry.Unavailable()
	}
	asked := verify.Query{Now: now}
	var same keystile.Code
	many := 0
	defer func() { a.door.Decided(same, many) }()
	for i := range all {
		q := &all[i]
		if problem := asks(i, q, &asked); problem != nil {
			return problem
		}
		if i == 0 || q.Permission != all[i-1].Permission {
			if detail := a.unknownPermission(q.Permission); detail != "" {
				return field(placeOf(i, "permission"), detail)
			}
		}
		code := out[i].decide(index, who, &asked)
		if code != same {
			a.door.Decided(same, many)
			same, many = code, 0
		}
		many++
		a.door.Recorder.Count(&out[i].Result, code, asked.Address, entry.CleanUserAgent(q.UserAgent), now)
	}
	return nil
}

// decide decides about a key, and returns the code that the asker is told.
func (a *answered) decide(index *verify.Index, who asker, q *verify.Query) keystile.Code {
	index.Decide(q, &a.Result)
	a.foreign = a.Known() && !who.everywhere && a.WorkspaceID() != who.workspace
	if a.foreign {
		return keystile.CodeWrongWorkspace
	}
	return a.Code
}

// single is the number of a question that is the only one.
const single = -1

// placeOf names a field of the n-th question.
func placeOf(n int, name string) string {
	if n == single {
		return "body." + name
	}
	return "body.requests[" + strconv.Itoa(n) + "]." + name
}

// unknownPermission says what is wrong with a permission that was asked for; ""
// when there is one of that name, or none was asked for. A role with "*" would
// carry a misspelt name like any other.
func (a *API) unknownPermission(name string) string {
	p := a.door.Profile
	if name == "" || p.PermissionKnown(name) {
		return ""
	}
	if near := p.NearestPermission(name); near != "" {
		return "The product has no permission of this name. Did you mean " + near + "?"
	}
	return "The product has no permission of this name."
}

func field(name, detail string) *keystile.Error {
	p := keystile.NewError(keystile.CodeInvalidField, detail)
	p.Fields = []keystile.FieldError{{Field: name, Detail: detail}}
	return p
}

func (a *API) verify(v *entry.Visit, r *http.Request) {
	var q keystile.VerifyRequest
	who, now, problem := a.question(v, r, func() *keystile.Error { return read(a, v, r, maxVerifyBody, &q, (*scanner).request) })
	if problem != nil {
		v.Refuse(problem)
		return
	}
	d, problem := a.decide(who, &q, now)
	if problem != nil {
		v.Refuse(problem)
		return
	}
	a.writeDecision(v, &d)
}

func (a *API) verifyBatch(v *entry.Visit, r *http.Request) {
	work := a.batches.take()
	defer a.batches.put(work)
	q := batch{work.requests}
	who, now, problem := a.question(v, r, func() *keystile.Error { return read(a, v, r, maxBatchBody, &q, (*scanner).batch) })
	work.requests = q.Requests
	if problem == nil && len(q.Requests) == 0 {
		problem = badBatch()
	}
	if problem != nil {
		v.Refuse(problem)
		return
	}
	answers := work.room(len(q.Requests))
	// All is decided before any of it is written: a client who reads slowly must
	// not have keys checked later than it was found to be let in.
	if problem = a.decideAll(who, q.Requests, answers, now); problem != nil {
		v.Refuse(problem)
		return
	}
	a.writeDecisions(v, answers)
}

// forwardHeaders are what a gateway may hand on about a good key.
var forwardHeaders = map[string]string{ //nolint:gochecknoglobals // a constant
	"X-Keystile-Key-Id":      "Public Key ID",
	"X-Keystile-Workspace":   "ID of the workspace",
	"X-Keystile-Role":        "Name of the role, percent-encoded",
	"X-Keystile-Environment": "Environment, if the product has any",
	"X-Keystile-Permissions": "Permissions, separated by spaces",
	"X-Keystile-Owner":       "Owner, percent-encoded",
}

// forwardAuth answers a gateway that holds a request: 200, 401 or 403, since
// gateways turn the rest into errors of their own. Only a node that may not
// answer at all says 503, which is an error of its own.
func (a *API) forwardAuth(v *entry.Visit, r *http.Request) {
	result, permission, problem := a.forwarded(v, r)
	if problem == nil && result.Code != keystile.CodeValid {
		problem = result.Decision().Problem(permission)
	}
	if problem != nil {
		a.refuseForwarded(v, problem)
		return
	}
	h, values := v.Header(), [...]string{
		result.KeyID(), result.WorkspaceID(), url.PathEscape(result.RoleName()), result.Environment(),
		strings.Join(result.Permissions(), " "), url.PathEscape(result.Owner()),
	}
	for i, name := range [...]string{
		"X-Keystile-Key-Id", "X-Keystile-Workspace", "X-Keystile-Role", "X-Keystile-Environment",
		"X-Keystile-Permissions", "X-Keystile-Owner",
	} {
		h[name] = values[i : i+1 : i+1]
	}
	v.WriteHeader(http.StatusOK)
}

// forwarded decides about the key of a request that a gateway holds.
func (a *API) forwarded(v *entry.Visit, r *http.Request) (result verify.Result, permission string, problem *keystile.Error) {
	if problem := keystile.KeyInQuery(r.URL.RawQuery); problem != nil {
		return result, "", problem
	}
	permission, workspace, problem := a.forwardQuery(r.URL.RawQuery)
	if problem != nil {
		return result, "", problem
	}
	secret, problem := keystile.CredentialFrom(r.Header, a.door.Profile.Headers)
	if problem != nil {
		return result, "", problem
	}
	origin := v.Origin()
	result, problem = a.door.Decide(&verify.Query{
		Secret: secret, Permission: permission, Workspace: workspace, Address: origin.Address, Now: v.Began(),
	}, origin.UserAgent)
	return result, permission, problem
}

func (a *API) refuseForwarded(v *entry.Visit, p *keystile.Error) {
	if p.Status != http.StatusForbidden && p.Status != http.StatusServiceUnavailable {
		q := *p
		q.Status = http.StatusUnauthorized
		p = &q
	}
	told := *p
	told.RequestID = v.RequestID()
	v.Header().Set(problemHeader, problemLine(told, a.door.Profile.Unauthorized))
	v.Refuse(p)
}

// forwardQuery reads what a gateway's configuration asks for. A parameter or
// permission that is misspelt, empty or there twice refuses everyone: a check that was
// meant must not quietly be left out.
func (a *API) forwardQuery(raw string) (permission, workspace string, problem *keystile.Error) {
	wrong := func(detail string) (string, string, *keystile.Error) {
		p := keystile.NewError(keystile.CodeInvalidRequest, detail, "Correct the gateway's configuration: forward-auth takes permission and workspace, each once.")
		p.Status = http.StatusForbidden
		return "", "", p
	}
	if raw == "" {
		return "", "", nil
	}
	// What most gateways ask, without a list of parameters being made of it.
	if name, ok := strings.CutPrefix(raw, "permission="); ok && len(name) <= maxPermission &&
		!strings.ContainsAny(name, "&;%+*") && a.door.Profile.PermissionKnown(name) {
		return name, "", nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return wrong("The query of the forward-auth address can't be read.")
	}
	for name, all := range values {
		if len(all) != 1 || all[0] == "" {
			return wrong("The forward-auth address has a parameter without a value, or more than once.")
		}
		switch name {
		case "permission":
			permission = all[0]
		case "workspace":
			workspace = all[0]
		default:
			return wrong("The forward-auth address has a parameter that does not exist.")
		}
	}
	if len(permission) > maxPermission {
		return wrong("The forward-auth address names a permission that is longer than any.")
	}
	if detail := a.unknownPermission(permission); detail != "" {
		// Not 422, of which a gateway would make an error of its own.
		p := keystile.NewError(keystile.CodeInvalidField, "The forward-auth address names a permission. "+detail,
			"Correct the permission in the gateway's configuration.")
		p.Status = http.StatusForbidden
		return "", "", p
	}
	return permission, workspace, nil
}

// me tells the holder of a key what the key is: the connection test of
// integrations such as Zapier.
func (a *API) me(w http.ResponseWriter, r *http.Request) {
	result, problem := a.door.AuthenticateCheck(entry.Of(r.Context()), r, a.door.Profile.Headers)
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	self, err := a.keyring.Self(r.Context(), keyring.KeyActor(result, entry.Origin(r.Context())), result.Decision())
	if err != nil {
		a.door.Refuse(w, r, a.door.Problem(r.Context(), err))
		return
	}
	writeJSON(w, self)
}
