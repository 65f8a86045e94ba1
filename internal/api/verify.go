package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
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

// mayVerify finds out who asks. On a socket that is open for it, no key is needed.
func (a *API) mayVerify(r *http.Request) (asker, *keystile.Error) {
	if a.open {
		return asker{everywhere: true}, nil
	}
	result, problem := a.door.Authenticate(r, nil)
	if problem != nil {
		return asker{}, problem
	}
	held := result.Permissions()
	switch {
	case held.Allow("platform.verify"):
		return asker{everywhere: true}, nil
	case held.Allow("api.key.verify"):
		return asker{workspace: result.WorkspaceID()}, nil
	}
	p := keystile.NewError(keystile.CodeInsufficientPermission,
		"The key you sent may not check keys: it lacks the permission api.key.verify.",
		"Use a key with the role verifier of the operator's workspace: keystile admin key --role verifier.",
		"Or a key of the workspace whose role carries api.key.verify.")
	p.Permission = "api.key.verify"
	return asker{}, p
}

// decide answers one question about a key, which stands at a place in the body.
func (a *API) decide(who asker, at string, q keystile.VerifyRequest, now time.Time) (keystile.Decision, *keystile.Error) {
	var address netip.Addr
	if q.IP != "" {
		var err error
		if address, err = netip.ParseAddr(q.IP); err != nil {
			return keystile.Decision{}, field(at+".ip", "It is not an IP address.")
		}
	}
	if q.Key == "" {
		return keystile.Decision{}, field(at+".key", "It is missing: send the key to check.")
	}
	if len(q.Permission) > maxPermission {
		return keystile.Decision{}, field(at+".permission", "It is longer than any permission.")
	}
	index, ok := a.door.Index()
	if !ok {
		return keystile.Decision{}, entry.Unavailable()
	}
	asked := verify.Query{Secret: q.Key, Permission: q.Permission, Workspace: q.Workspace, Address: address, Now: now}
	result := index.Decide(asked)
	userAgent := entry.CleanUserAgent(q.UserAgent)
	if foreign := result.Known() && !who.everywhere && result.WorkspaceID() != who.workspace; foreign {
		// Nothing of another tenant's key but that it is one.
		code := keystile.CodeWrongWorkspace
		a.door.Count(result, code, asked, userAgent)
		p := keystile.NewError(code, "")
		return keystile.Decision{Code: code, Status: code.Status(), Detail: p.Detail, Fixes: p.Fixes}, nil
	}
	a.door.Count(result, result.Code, asked, userAgent)
	return result.Decision(), nil
}

func field(name, detail string) *keystile.Error {
	p := keystile.NewError(keystile.CodeInvalidField, detail)
	p.Fields = []keystile.FieldError{{Field: name, Detail: detail}}
	return p
}

func (a *API) verify(w http.ResponseWriter, r *http.Request) {
	who, problem := a.mayVerify(r)
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	var q keystile.VerifyRequest
	if problem := readJSON(w, r, maxVerifyBody, &q); problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	d, problem := a.decide(who, "body", q, time.Now())
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	writeJSON(w, d)
}

func (a *API) verifyBatch(w http.ResponseWriter, r *http.Request) {
	who, problem := a.mayVerify(r)
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	var q keystile.VerifyBatch
	if problem := readJSON(w, r, maxBatchBody, &q); problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	if n := len(q.Requests); n == 0 || n > maxBatch {
		a.door.Refuse(w, r, field("body.requests", "Send from 1 to 1000 requests."))
		return
	}
	now := time.Now()
	out := keystile.DecisionBatch{Decisions: make([]keystile.Decision, len(q.Requests))}
	for i, one := range q.Requests {
		if out.Decisions[i], problem = a.decide(who, "body.requests["+strconv.Itoa(i)+"]", one, now); problem != nil {
			a.door.Refuse(w, r, problem)
			return
		}
	}
	writeJSON(w, out)
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
func (a *API) forwardAuth(w http.ResponseWriter, r *http.Request) {
	refuse := func(p *keystile.Error) {
		if p.Status != http.StatusForbidden && p.Status != http.StatusServiceUnavailable {
			q := *p
			q.Status = http.StatusUnauthorized
			p = &q
		}
		told := *p
		told.RequestID = entry.RequestID(r.Context())
		w.Header().Set(problemHeader, problemLine(told, a.door.Profile.Unauthorized))
		a.door.Refuse(w, r, p)
	}
	if problem := keystile.KeyInQuery(r.URL.RawQuery); problem != nil {
		refuse(problem)
		return
	}
	permission, workspace, problem := forwardQuery(r.URL.RawQuery)
	if problem != nil {
		refuse(problem)
		return
	}
	secret, problem := keystile.CredentialFrom(r.Header, a.door.Profile.Headers)
	if problem != nil {
		refuse(problem)
		return
	}
	origin := entry.Origin(r.Context())
	result, problem := a.door.Decide(verify.Query{
		Secret: secret, Permission: permission, Workspace: workspace, Address: origin.Address, Now: time.Now(),
	}, origin.UserAgent)
	if problem != nil {
		refuse(problem)
		return
	}
	d := result.Decision()
	if problem := d.Problem(permission); problem != nil {
		refuse(problem)
		return
	}
	h := w.Header()
	h.Set("X-Keystile-Key-Id", d.KeyID)
	h.Set("X-Keystile-Workspace", d.WorkspaceID)
	h.Set("X-Keystile-Role", url.PathEscape(d.Role))
	h.Set("X-Keystile-Environment", d.Environment)
	h.Set("X-Keystile-Permissions", strings.Join(d.Permissions, " "))
	h.Set("X-Keystile-Owner", url.PathEscape(d.Owner))
	w.WriteHeader(http.StatusOK)
}

// forwardQuery reads what a gateway's configuration asks for. A parameter
// that is misspelt, empty or there twice refuses everyone: a check that was
// meant must not quietly be left out.
func forwardQuery(raw string) (permission, workspace string, problem *keystile.Error) {
	wrong := func(detail string) (string, string, *keystile.Error) {
		p := keystile.NewError(keystile.CodeInvalidRequest, detail, "Correct the gateway's configuration: forward-auth takes permission and workspace, each once.")
		p.Status = http.StatusForbidden
		return "", "", p
	}
	if raw == "" {
		return "", "", nil
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
	return permission, workspace, nil
}

// me tells the holder of a key what the key is: the connection test of
// integrations such as Zapier.
func (a *API) me(w http.ResponseWriter, r *http.Request) {
	result, problem := a.door.Authenticate(r, a.door.Profile.Headers)
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

// readJSON reads a body strictly: one object, known fields only, no more than
// most bytes.
func readJSON(w http.ResponseWriter, r *http.Request, most int64, into any) *keystile.Error {
	if !isJSON(r.Header.Get("Content-Type")) {
		return keystile.NewError(keystile.CodeUnsupportedMedia, "")
	}
	body := http.MaxBytesReader(w, r.Body, most)
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			return keystile.NewError(keystile.CodeInvalidRequest, "Something follows the JSON object in the body.")
		}
		return nil
	}
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &tooLarge):
		return keystile.NewError(keystile.CodeBodyTooLarge, "")
	case errors.As(err, &wrongType):
		return field("body."+wrongType.Field, "It must be a "+wrongType.Type.String()+".")
	case errors.As(err, &syntax), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return keystile.NewError(keystile.CodeInvalidRequest, "The body is not one JSON object.")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return field("body."+shorten(strings.Trim(name, `"`)), "There is no such field.")
	}
	return keystile.NewError(keystile.CodeInvalidRequest, "The body could not be read.")
}

// isJSON tells whether a body may be JSON by its Content-Type. Left out is as
// good as said, as on the other routes.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// shorten keeps a name from the request fit for an answer. A name that long
// is no name and may be a secret in the wrong place.
func shorten(name string) string {
	if len(name) > 32 {
		return "…"
	}
	return name
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // fails when the client has gone
}
