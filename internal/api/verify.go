package api

import (
	"bytes"
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

// question reads what is asked, once it is known that the caller may ask: the
// body of a stranger is not worth reading.
func (a *API) question(w http.ResponseWriter, r *http.Request, most int64, into any) (asker, *keystile.Error) {
	if a.open { // on a socket that is open for it, no key is needed
		return asker{everywhere: true}, readJSON(w, r, most, into)
	}
	result, problem := a.door.AuthenticateCheck(r, nil)
	if problem != nil {
		return asker{}, problem
	}
	if _, problem = mayVerify(result); problem != nil {
		return asker{}, problem
	}
	if problem = readJSON(w, r, most, into); problem != nil {
		return asker{}, problem
	}
	// The body may have come seconds later. A key that was taken away meanwhile
	// must not ask any more: whoever took it away was told so.
	if result, problem = a.door.CheckAgain(r, nil); problem != nil {
		return asker{}, problem
	}
	return mayVerify(result)
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

// decide answers one question about a key, which stands at a place in the body.
func (a *API) decide(who asker, at string, q keystile.VerifyRequest, now time.Time) (answered, *keystile.Error) {
	var address netip.Addr
	if q.IP != "" {
		var err error
		if address, err = netip.ParseAddr(q.IP); err != nil {
			return answered{}, field(at+".ip", "It is not an IP address.")
		}
	}
	if q.Key == "" {
		return answered{}, field(at+".key", "It is missing: send the key to check.")
	}
	if len(q.Permission) > maxPermission {
		return answered{}, field(at+".permission", "It is longer than any permission.")
	}
	if detail := a.unknownPermission(q.Permission); detail != "" {
		return answered{}, field(at+".permission", detail)
	}
	index, ok := a.door.ForChecks()
	if !ok {
		return answered{}, entry.Unavailable()
	}
	asked := verify.Query{Secret: q.Key, Permission: q.Permission, Workspace: q.Workspace, Address: address, Now: now}
	result := index.Decide(asked)
	out := answered{result, result.Known() && !who.everywhere && result.WorkspaceID() != who.workspace}
	code := result.Code
	if out.foreign {
		code = keystile.CodeWrongWorkspace
	}
	a.door.Count(result, code, asked, entry.CleanUserAgent(q.UserAgent))
	return out, nil
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

func (a *API) verify(w http.ResponseWriter, r *http.Request) {
	var q keystile.VerifyRequest
	who, problem := a.question(w, r, maxVerifyBody, &q)
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	d, problem := a.decide(who, "body", q, time.Now())
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	writeJSON(w, d.decision())
}

func (a *API) verifyBatch(w http.ResponseWriter, r *http.Request) {
	var q batch
	who, problem := a.question(w, r, maxBatchBody, &q)
	if problem == nil && len(q.Requests) == 0 {
		problem = badBatch()
	}
	if problem != nil {
		a.door.Refuse(w, r, problem)
		return
	}
	now := time.Now()
	answers := make([]answered, len(q.Requests))
	for i, one := range q.Requests {
		if answers[i], problem = a.decide(who, "body.requests["+strconv.Itoa(i)+"]", one, now); problem != nil {
			a.door.Refuse(w, r, problem)
			return
		}
	}
	writeBatch(w, answers)
}

// batch is a [keystile.VerifyBatch] that reads no more than it may have.
type batch struct {
	Requests requests `json:"requests"`
}

type requests []keystile.VerifyRequest

func badBatch() *keystile.Error {
	return field("body.requests", "Send from 1 to 1000 requests.")
}

// UnmarshalJSON stops at one request too many: two megabytes of "{}," would
// take a hundred times the memory.
func (q *requests) UnmarshalJSON(text []byte) error {
	*q = nil
	if text[0] != '[' {
		return json.Unmarshal(text, (*[]keystile.VerifyRequest)(q))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		if len(*q) == maxBatch {
			return badBatch()
		}
		var one keystile.VerifyRequest
		if err := d.Decode(&one); err != nil {
			return err
		}
		*q = append(*q, one)
	}
	return nil
}

// writeBatch writes a [keystile.DecisionBatch] one by one. All at once it could
// be a thousand times the metadata of one key, for a question of a few bytes.
func writeBatch(w http.ResponseWriter, answers []answered) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	before := `{"data":[`
	for _, a := range answers {
		if _, err := io.WriteString(w, before); err != nil {
			return // the client has gone
		}
		if err := encoder.Encode(a.decision()); err != nil {
			return
		}
		before = ","
	}
	_, _ = io.WriteString(w, "]}\n")
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
	permission, workspace, problem := a.forwardQuery(r.URL.RawQuery)
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
	result, problem := a.door.AuthenticateCheck(r, a.door.Profile.Headers)
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
	var problem *keystile.Error
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &problem):
		return problem
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
