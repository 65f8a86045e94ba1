// Package api is the JSON API: verify, forward-auth and management. Routes
// are in one list (route.go), handlers are thin: they read the request, call
// the keyring and write what it says. No rule and no SQL belongs here.
package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/courier"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

const (
	// maxBody bounds what a management route reads, in bytes. A key with
	// everything at its longest has less than 60 kB.
	maxBody = 128 << 10
	// bodyTimeout is how long a body may take to arrive.
	bodyTimeout = 10 * time.Second
)

// API answers /v1.
type API struct {
	door    *entry.Door
	keyring *keyring.Keyring
	courier *courier.Courier
	// baseURL and docsURL are named to whoever asks for a path that is not there.
	baseURL string
	docsURL string
	node    *cluster.Node
	// Open lets verify be asked without a key of the caller's: on a unix
	// socket that the operator has configured for that.
	open    bool
	mux     *http.ServeMux
	scratch scratch
	batches batches
	json    []string // value of Content-Type
	// Spec is the OpenAPI description, as indented JSON. It is made once, when
	// it is first asked for: anyone may ask, and making it takes milliseconds.
	Spec func() ([]byte, error)
	// types are the types of events with their schemas, made likewise.
	types func() ([]eventType, error)
}

// Options say how the API presents itself.
type Options struct {
	BaseURL string // how clients reach it, without a path
	DocsURL string
	Open    bool // verify needs no key of the caller's
	Node    *cluster.Node
	Courier *courier.Courier
}

// New returns the API behind a door.
func New(d *entry.Door, o Options) *API {
	a := &API{door: d, keyring: d.Keyring, courier: o.Courier, baseURL: o.BaseURL, docsURL: o.DocsURL, open: o.Open, node: o.Node, mux: http.NewServeMux(), json: []string{"application/json"}}
	problemsOnce.Do(useProblems)
	config := huma.DefaultConfig("Keystile", keystile.Version)
	config.Info.Description = "Issue, check, rotate and revoke API keys; sign webhooks."
	config.CreateHooks = nil // no $schema member in answers
	config.DocsPath, config.SchemasPath = "", ""
	config.Transformers = []huma.Transformer{nameUnreached}
	config.RejectUnknownQueryParameters = true
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer":  {Type: "http", Scheme: "bearer", Description: "A key of Keystile in the header Authorization"},
		"api_key": {Type: "apiKey", In: "header", Name: "X-API-Key", Description: "The same key in a header of its own"},
	}
	config.Security = []map[string][]string{{"bearer": {}}, {"api_key": {}}}
	h := huma.NewAPI(config, humago.NewAdapter(guarded{a}, ""))
	a.Spec = sync.OnceValues(func() ([]byte, error) { return indented(h.OpenAPI()) })
	a.types = sync.OnceValues(func() ([]eventType, error) { return eventTypes(h) })
	methods := map[string][]string{}
	for _, r := range a.routes() {
		r.add(a, h, r)
		if r.method != anyMethod {
			methods[r.path] = append(methods[r.path], r.method)
		}
	}
	describeEvents(h)
	for path, allowed := range methods {
		sort.Strings(allowed)
		a.mux.HandleFunc(path, a.methodNotAllowed(strings.Join(allowed, ", ")))
	}
	a.mux.HandleFunc("GET /openapi.json", a.openAPI)
	a.mux.HandleFunc("/", a.UnknownRoute)
	return a
}

// ServeHTTP implements http.Handler for /v1 and /openapi.json.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// The paths that are asked with every request of the product's customers.
const (
	verifyPath  = "/v1/verify"
	batchPath   = "/v1/verify/batch"
	forwardPath = "/v1/forward-auth"
)

// AtOnce tells by method and path whether a request is answered from memory,
// without waiting for anything.
func AtOnce(r *http.Request) bool {
	switch r.URL.Path {
	case verifyPath, batchPath:
		return r.Method == http.MethodPost
	case forwardPath:
		return r.Method != http.MethodConnect
	}
	return false
}

// Direct implements [entry.Direct] for what is answered at once. Its paths in any
// other spelling go the way of all routes, which ends at the same handlers.
func (a *API) Direct(r *http.Request) func(*entry.Visit, *http.Request) {
	if r.URL.RawPath != "" || !AtOnce(r) {
		return nil
	}
	switch r.URL.Path {
	case verifyPath:
		r.Pattern = "POST /v1/verify"
		return a.verify
	case batchPath:
		r.Pattern = "POST /v1/verify/batch"
		return a.verifyBatch
	default:
		r.Pattern = "/v1/forward-auth"
		return a.forwardAuth
	}
}

// nameUnreached adds the servers that a change has not reached to the answer,
// where that is an object. Answers without a body have the header alone.
func nameUnreached(ctx huma.Context, _ string, v any) (any, error) {
	list := entry.Unreached(ctx.Context())
	if len(list) == 0 {
		return v, nil
	}
	switch of := v.(type) {
	case keystile.Key:
		of.Unreached = list
		return of, nil
	case keystile.CreatedKey:
		of.Unreached = list
		return of, nil
	case keystile.Workspace:
		of.Unreached = list
		return of, nil
	case keystile.Role:
		of.Unreached = list
		return of, nil
	case keystile.Member:
		of.Unreached = list
		return of, nil
	}
	return v, nil
}

// indented is a value as JSON with its members in order.
func indented(of any) ([]byte, error) {
	text, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return json.MarshalIndent(v, "", "  ")
}

func (a *API) openAPI(w http.ResponseWriter, r *http.Request) {
	text, err := a.Spec()
	if err != nil {
		a.door.Refuse(w, r, a.door.Problem(r.Context(), err))
		return
	}
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(text)
}

// guarded puts the door's guard before every route that huma adds.
type guarded struct{ api *API }

func (g guarded) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	if strings.Contains(pattern, " /openapi") {
		return // served by openAPI, and in one form
	}
	g.api.mux.HandleFunc(pattern, g.api.door.Guard(func(w http.ResponseWriter, r *http.Request) {
		handler(w, r.WithContext(context.WithValue(r.Context(), apiKey{}, g.api)))
	}))
}

func (g guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.api.mux.ServeHTTP(w, r) }

// UnknownRoute answers for a path that does not exist: with where the API is.
func (a *API) UnknownRoute(w http.ResponseWriter, r *http.Request) {
	fixes := []string{"The API is at " + a.baseURL + "/v1; its description is at " + a.baseURL + "/openapi.json."}
	if a.docsURL != "" {
		fixes = append(fixes, "The documentation is at "+a.docsURL+".")
	}
	fixes = append(fixes, "Check the path for typing errors.")
	a.door.Refuse(w, r, keystile.NewError(keystile.CodeUnknownRoute, "There is nothing at this path.", fixes...))
}

func (a *API) methodNotAllowed(allowed string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allowed)
		a.door.Refuse(w, r, keystile.NewError(keystile.CodeMethodNotAllowed,
			"This path does not take the method of this request. It takes: "+allowed+"."))
	}
}

type apiKey struct{}

// problem is an error of ours in the form that huma writes.
type problem struct{ *told }

// told lets a problem have the members of an Error on the wire, and its method
// of the same name.
type told = keystile.Error

func (p problem) GetStatus() int { return p.Status }

// Schema describes what is written, which is the Error inside.
func (p problem) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[keystile.Error](), true, "")
}

// ContentType is that of RFC 9457.
func (p problem) ContentType(string) string { return "application/problem+json" }

// problemsOnce guards what huma lets be set for the whole process only: what an
// error looks like, and that a name in another case is another name. A filter in
// front of the server must not read other fields than the server does.
var problemsOnce sync.Once //nolint:gochecknoglobals // see above

func useProblems() {
	huma.ValidateStrictCasing = true
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		if ctx == nil {
			return huma.NewError(status, message, errs...)
		}
		p := problemFor(status, message, errs)
		p.RequestID = entry.RequestID(ctx.Context())
		ctx.SetHeader("Cache-Control", "no-store")
		return problem{p}
	}
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return problem{problemFor(status, message, errs)}
	}
}

// problemFor makes our problem of what huma found wrong with a request. It
// never repeats a value, which may be a secret in the wrong place.
func problemFor(status int, message string, errs []error) *keystile.Error {
	var p *keystile.Error
	for _, err := range errs {
		if q, ok := err.(*keystile.Error); ok { //nolint:errorlint // handed in as it is
			return q
		}
	}
	switch status {
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		code := keystile.CodeInvalidField
		if status == http.StatusBadRequest {
			code = keystile.CodeInvalidRequest
		}
		p = keystile.NewError(code, "")
	case http.StatusRequestEntityTooLarge:
		p = keystile.NewError(keystile.CodeBodyTooLarge, "")
	case http.StatusUnsupportedMediaType:
		return keystile.NewError(keystile.CodeUnsupportedMedia, "") // huma's words repeat the header
	case http.StatusRequestTimeout:
		p = keystile.NewError(keystile.CodeTimeout, "")
	case http.StatusInternalServerError:
		p = keystile.NewError(keystile.CodeInternal, "")
	default:
		p = keystile.NewError(keystile.CodeInvalidRequest, message)
	}
	for _, err := range errs {
		detail, ok := err.(*huma.ErrorDetail) //nolint:errorlint // huma hands it in as it is
		if !ok || len(p.Fields) >= 10 {
			continue
		}
		p.Fields = append(p.Fields, keystile.FieldError{Field: place(detail.Location), Detail: sentence(detail.Message)})
	}
	slices.SortStableFunc(p.Fields, func(a, b keystile.FieldError) int { return strings.Compare(a.Field, b.Field) })
	if len(p.Fields) > 0 {
		p.Detail = p.Fields[0].Field + ": " + p.Fields[0].Detail
	}
	return p
}

// phrases say in our words what huma finds wrong. Its own begin with what it
// expected; a rest that follows is kept.
var phrases = []struct{ huma, ours string }{ //nolint:gochecknoglobals // a constant
	{"unexpected property", "There is no such field"},
	{"unknown query parameter", "There is no such parameter"},
	{"expected required property ", "It is missing: "},
	{"expected string to be RFC 3339 date-time", "It must be a time such as 2026-01-31T12:00:00Z"},
	{"expected value to be one of ", "It must be one of "},
	{"expected array length >= ", "The least number of entries is "},
	{"expected array length <= ", "The greatest number of entries is "},
	{"expected length >= ", "It is too short; the least number of characters is "},
	{"expected length <= ", "It is too long; the greatest number of characters is "},
	{"expected number >= ", "The least value is "},
	{"expected number <= ", "The greatest value is "},
	{"expected string to be ", "It must be "},
	{"expected string", "It must be a text"},
	{"expected boolean", "It must be true or false"},
	{"expected integer", "It must be a whole number"},
	{"expected number", "It must be a number"},
	{"expected array", "It must be a list"},
	{"expected object", "It must be an object"},
}

// maxPlace bounds what is said of where a fault is, in bytes: the longest name
// of a field with the longest name in a map is shorter.
const maxPlace = 128

// place is where a fault is. The names of unknown fields are the sender's, and
// may be secrets in the wrong place.
func place(location string) string {
	location = keyring.MaskKeys(location)
	if len(location) > maxPlace {
		location = strings.ToValidUTF8(location[:maxPlace], "") + "…"
	}
	return location
}

// sentence makes a sentence of one of huma's messages.
func sentence(s string) string {
	for _, p := range phrases {
		if rest, ok := strings.CutPrefix(s, p.huma); ok {
			return p.ours + strings.TrimSuffix(rest, " to be present") + "."
		}
	}
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// fail hands an error of a handler to huma.
func fail(ctx context.Context, err error) error {
	a, ok := ctx.Value(apiKey{}).(*API)
	if !ok {
		return err
	}
	p := a.door.Problem(ctx, err)
	headers := http.Header{}
	if p.Status == http.StatusServiceUnavailable {
		headers.Set("Retry-After", "1")
	}
	if p.Status == http.StatusUnauthorized { // the key was taken away since the door let it in
		p.Title = a.door.Profile.Unauthorized
		headers.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	if p.Permission != "" {
		headers.Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+p.Permission+`"`)
	}
	return huma.ErrorWithHeaders(problem{p}, headers)
}

// schema returns the schema of a type of ours, for routes that huma does not serve.
func schema[T any](h huma.API) *huma.Schema {
	return h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}
