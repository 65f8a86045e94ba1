package keystile_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keystile/keystile"
)

// constants returns the values of the string constants of a type in a file of
// this package, so that one added there cannot be forgotten here.
func constants(t *testing.T, path, typeName string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if ident, ok := spec.Type.(*ast.Ident); ok && ident.Name == typeName {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
		return true
	})
	if len(values) == 0 {
		t.Fatalf("%s has no constant of type %s", path, typeName)
	}
	return values
}

func TestEveryCodeIsDefined(t *testing.T) {
	fallback := keystile.NewError("no such code", "")
	if fallback.Status != http.StatusInternalServerError {
		t.Errorf("an unknown code has status %d, want 500", fallback.Status)
	}
	titles := map[string]string{}
	for _, name := range constants(t, "code.go", "Code") {
		code := keystile.Code(name)
		e := keystile.NewError(code, "")
		if code != keystile.CodeInternal && e.Title == fallback.Title {
			t.Errorf("%s has no definition", code)
		}
		if other, twice := titles[e.Title]; twice {
			t.Errorf("%s and %s have the same title %q", code, other, e.Title)
		}
		titles[e.Title] = name
		if e.Type != "urn:keystile:problem:"+name || e.Code != code || e.Status != code.Status() || e.Detail == "" {
			t.Errorf("%s: %+v", code, e)
		}
		if code != keystile.CodeValid && len(e.Fixes) == 0 {
			t.Errorf("%s says nothing to do about it", code)
		}
	}
}

func TestEveryHintIsExplained(t *testing.T) {
	plain := keystile.Malformed("")
	details := map[string]string{plain.Detail: "no hint"}
	for _, name := range constants(t, "code.go", "Hint") {
		e := keystile.Malformed(keystile.Hint(name))
		if other, twice := details[e.Detail]; twice {
			t.Errorf("%s is explained as %s is", name, other)
		}
		details[e.Detail] = name
		if e.Code != keystile.CodeMalformed || string(e.Hint) != name || len(e.Fixes) < 2 || e.Fixes[0] == plain.Fixes[0] {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if other := keystile.Malformed("of a newer server"); other.Hint != "" || other.Detail != plain.Detail {
		t.Errorf("an unknown hint: %+v", other)
	}
}

func TestNewErrorTakesBetterWords(t *testing.T) {
	e := keystile.NewError(keystile.CodePlanLimit, "Two keys are all.", "Revoke one.", "Pay.")
	if e.Detail != "Two keys are all." || !slices.Equal(e.Fixes, []string{"Revoke one.", "Pay."}) {
		t.Errorf("got %+v", e)
	}
}

func TestDecisionProblem(t *testing.T) {
	tests := map[string]struct {
		decision   keystile.Decision
		want       keystile.Code
		status     int
		permission string
		detail     string
		fix        string
	}{
		"revoked":          {keystile.Decision{Code: keystile.CodeRevoked}, keystile.CodeRevoked, 401, "", "revoked", "Create a new key"},
		"IP12 Key ID":      {keystile.Decision{Code: keystile.CodeMalformed, Hint: keystile.HintKeyID}, keystile.CodeMalformed, 401, "", "Key ID", "secret"},
		"VZ5 preview":      {keystile.Decision{Code: keystile.CodeMalformed, Hint: keystile.HintMaskedPreview}, keystile.CodeMalformed, 401, "", "masked preview", "the key as it was shown"},
		"permission":       {keystile.Decision{Code: keystile.CodeInsufficientPermission}, keystile.CodeInsufficientPermission, 403, "inventory.write", "inventory.write", "role"},
		"verifier's words": {keystile.Decision{Code: keystile.CodeIPNotAllowed, Detail: "192.0.2.1 is not allowed.", Fixes: []string{"Add it."}}, keystile.CodeIPNotAllowed, 403, "", "192.0.2.1 is not allowed.", "Add it."},
		"no code":          {keystile.Decision{}, keystile.CodeInternal, 500, "", "", ""},
		"newer server":     {keystile.Decision{Code: "asleep", Status: 403}, "asleep", 403, "", "refused: asleep", ""},
		"contradiction":    {keystile.Decision{Code: keystile.CodeValid}, keystile.CodeInternal, 500, "", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := test.decision.Problem("inventory.write")
			if e == nil {
				t.Fatal("a refusal gave no error")
			}
			if e.Code != test.want || e.Status != test.status || e.Permission != test.permission {
				t.Errorf("got %+v", e)
			}
			if !strings.Contains(e.Detail, test.detail) || !strings.Contains(e.Fixes[0], test.fix) {
				t.Errorf("detail %q, fixes %q", e.Detail, e.Fixes)
			}
		})
	}
	if e := (keystile.Decision{Valid: true, Code: keystile.CodeValid}).Problem(""); e != nil {
		t.Errorf("a valid key gave %v", e)
	}
}

func TestWriteError(t *testing.T) {
	permission := keystile.NewError(keystile.CodeInsufficientPermission, "")
	permission.Permission = "inventory.write"
	odd := keystile.NewError(keystile.CodeInsufficientPermission, `"ü`+"\n\\")
	odd.Permission = `a"b`
	tests := map[string]struct {
		problem    *keystile.Error
		title      string
		status     int
		wantTitle  string
		challenge  string
		retryAfter string
	}{
		"missing":    {keystile.NewError(keystile.CodeMissingCredential, ""), "Invalid API Key", 401, "Invalid API Key", "Bearer", ""},
		"revoked":    {keystile.NewError(keystile.CodeRevoked, "Gone."), "Unauthorized", 401, "Unauthorized", `Bearer error="invalid_token", error_description="Gone."`, ""},
		"own title":  {keystile.NewError(keystile.CodeExpired, "Old."), "", 401, "Key expired", `Bearer error="invalid_token", error_description="Old."`, ""},
		"permission": {permission, "Unauthorized", 403, "Permission missing", `Bearer error="insufficient_scope", error_description="This key lacks the permission that the request needs.", scope="inventory.write"`, ""},
		"odd text":   {odd, "", 403, "Permission missing", `Bearer error="insufficient_scope", error_description="''''", scope="a'b"`, ""},
		"address":    {keystile.NewError(keystile.CodeIPNotAllowed, ""), "Unauthorized", 403, "Address not allowed", "", ""},
		"several":    {keystile.NewError(keystile.CodeSeveralCredentials, "Two."), "Unauthorized", 400, "Several keys", `Bearer error="invalid_request", error_description="Two."`, ""},
		"busy":       {keystile.NewError(keystile.CodeUnavailable, ""), "Unauthorized", 503, "Not available", "", "1"},
		"no status":  {&keystile.Error{Code: keystile.CodeNotFound, Title: "T"}, "", 404, "T", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := *test.problem
			w := httptest.NewRecorder()
			keystile.WriteError(w, test.problem, test.title)
			if w.Code != test.status {
				t.Errorf("status %d, want %d", w.Code, test.status)
			}
			for name, want := range map[string]string{
				"Content-Type":           "application/problem+json",
				"Cache-Control":          "no-store",
				"X-Content-Type-Options": "nosniff",
				"WWW-Authenticate":       test.challenge,
				"Retry-After":            test.retryAfter,
				"Content-Length":         strconv.Itoa(w.Body.Len()),
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			var body keystile.Error
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if body.Title != test.wantTitle || body.Status != test.status || body.Code != test.problem.Code || body.Fixes == nil {
				t.Errorf("body %+v", body)
			}
			if test.problem.Title != before.Title || test.problem.Status != before.Status {
				t.Error("the error was changed by writing it")
			}
		})
	}

	w := httptest.NewRecorder()
	w.Header().Set("Retry-After", "30")
	w.Header().Set("WWW-Authenticate", "Bearer realm=x")
	keystile.WriteError(w, keystile.NewError(keystile.CodeUnavailable, "<a> & b"), "")
	if w.Header().Get("Retry-After") != "30" || w.Header().Get("WWW-Authenticate") != "Bearer realm=x" {
		t.Errorf("headers that were set did not stay: %v", w.Header())
	}
	if !strings.Contains(w.Body.String(), "<a> & b") {
		t.Errorf("not for people to read: %s", w.Body)
	}
}

func TestErrorText(t *testing.T) {
	e := keystile.NewError(keystile.CodeInvalidField, "Two fields are refused.")
	e.Fields = []keystile.FieldError{{Field: "body.name", Detail: "is empty"}, {Field: "body.role", Detail: "is unknown"}}
	if got, want := e.Error(), "invalid_field: Two fields are refused. [body.name: is empty] [body.role: is unknown]"; got != want {
		t.Errorf("got %s", got)
	}
	if got := (&keystile.Error{Code: "x", Title: "T"}).Error(); got != "x: T" {
		t.Errorf("got %s", got)
	}
	var err error = e
	if !errors.Is(err, keystile.CodeInvalidField) || errors.Is(err, keystile.CodeNotFound) {
		t.Error("errors.Is does not go by the code")
	}
}
