package keystile

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// Error is an error of the API as it is on the wire: an RFC 9457 problem with
// members of our own, code, fixes and hint among them. [Client] returns it as
// *Error, and [NewError] makes one.
type Error struct {
	Type   string `json:"type" doc:"urn:keystile:problem: followed by the code" example:"urn:keystile:problem:plan_limit"`
	Title  string `json:"title" doc:"What happened, in a few words"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail,omitempty" doc:"What happened, for the one who sent the request"`
	Code   Code   `json:"code" doc:"The cause; stable, for programs"`
	Hint   Hint   `json:"hint,omitempty" doc:"What most likely happened to a malformed key"`
	// Permission is the one that the caller lacks, with CodeInsufficientPermission.
	Permission string       `json:"permission,omitempty" doc:"The permission that is missing"`
	Fixes      []string     `json:"fixes" nullable:"false" doc:"What to do about it, best first"`
	Fields     []FieldError `json:"errors,omitempty" doc:"The fields that were refused"`
	RequestID  string       `json:"request_id,omitempty" doc:"Names this request in the server's log"`
}

// FieldError says what is wrong with one field of a request.
type FieldError struct {
	Field  string `json:"field" doc:"Where, such as body.name or query.limit"`
	Detail string `json:"detail" doc:"What is wrong with it"`
}

// problemType is what the code follows in an error's type (RFC 9457, section
// 3.1.1: a URI, which need not lead anywhere).
const problemType = "urn:keystile:problem:"

// NewError returns the error of a code with its type, title and status. An
// empty detail and absent fixes are filled with the code's own words. Neither
// may hold a secret: errors are shown and logged.
func NewError(code Code, detail string, fixes ...string) *Error {
	d := code.definition()
	e := &Error{Type: problemType + string(code), Title: d.title, Status: d.status, Detail: detail, Code: code, Fixes: fixes}
	if e.Detail == "" {
		e.Detail = d.detail
	}
	if len(e.Fixes) == 0 {
		e.Fixes = make([]string, 0, len(d.fixes))
		for _, fix := range d.fixes {
			if fix != "" {
				e.Fixes = append(e.Fixes, fix)
			}
		}
	}
	return e
}

// Malformed returns the error for a text that is not the form of a key, in the
// words of the hint.
func Malformed(hint Hint) *Error {
	detail, fix := hint.definition()
	if fix == "" {
		return NewError(CodeMalformed, "")
	}
	e := NewError(CodeMalformed, detail, fix, "If the key was not kept, create a new one: a key is shown only once.")
	e.Hint = hint
	return e
}

// Problem returns the error to answer the holder of a refused key with, nil
// for a valid one. Permission is the one that was asked for, if any.
func (d Decision) Problem(permission string) *Error {
	if d.Valid {
		return nil
	}
	e := NewError(d.Code, "")
	switch {
	case d.Code == "" || e.Status < http.StatusBadRequest:
		// A verifier that contradicts itself must not become a success.
		return NewError(CodeInternal, "")
	case e.Status == http.StatusInternalServerError && (d.Status == http.StatusUnauthorized || d.Status == http.StatusForbidden):
		// A refusal that only a newer server knows.
		e.Status, e.Title, e.Detail = d.Status, http.StatusText(d.Status), "This key is refused: "+string(d.Code)+"."
	case d.Code == CodeMalformed:
		e = Malformed(d.Hint)
	case d.Code == CodeInsufficientPermission && permission != "":
		e.Permission = permission
		e.Detail = "This key lacks the permission " + permission + "."
	}
	if d.Detail != "" {
		e.Detail = d.Detail
	}
	if len(d.Fixes) > 0 {
		e.Fixes = d.Fixes
	}
	return e
}

// retryAfter is the Retry-After, in seconds, of an answer that names none.
const retryAfter = 1

// WriteError answers a request with e as application/problem+json (RFC 9457),
// never to be stored by caches. A 401 carries WWW-Authenticate and the title
// given here, unless that is empty; a 403 names the missing permission there
// (RFC 6750, section 3); a 503 says when to try again. Headers that are
// already set on w stay.
func WriteError(w http.ResponseWriter, e *Error, unauthorizedTitle string) {
	answer := *e
	if answer.Status == 0 {
		answer.Status = answer.Code.Status()
	}
	if answer.Status == http.StatusUnauthorized && unauthorizedTitle != "" {
		answer.Title = unauthorizedTitle
	}
	if answer.Fixes == nil {
		answer.Fixes = []string{}
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // people read it in a terminal; nosniff keeps browsers from taking it for HTML
	if err := encoder.Encode(answer); err != nil {
		// Strings and numbers always encode. Should that change, say less rather than nothing.
		body.Reset()
		body.WriteString("{}\n")
	}

	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if challenge := answer.challenge(); challenge != "" {
		setAbsent(h, "WWW-Authenticate", challenge)
	}
	if answer.Status == http.StatusServiceUnavailable {
		setAbsent(h, "Retry-After", strconv.Itoa(retryAfter))
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(body.Bytes()) // fails when the client has gone, who then needs no answer
}

func setAbsent(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}

// challenge returns the WWW-Authenticate that RFC 6750, section 3, asks for:
// without an error code when there was no key at all, and otherwise with what
// is wrong. It is empty for errors that another key would not mend.
func (e *Error) challenge() string {
	var code string
	switch {
	case e.Code == CodeMissingCredential && e.Status == http.StatusUnauthorized:
		return "Bearer"
	case e.Code == CodeSeveralCredentials || e.Code == CodeKeyInQuery:
		code = "invalid_request"
	case e.Status == http.StatusUnauthorized:
		code = "invalid_token"
	case e.Code == CodeInsufficientPermission:
		code = "insufficient_scope"
	default:
		return ""
	}
	value := `Bearer error="` + code + `"`
	if e.Detail != "" {
		value += `, error_description="` + quotable(e.Detail) + `"`
	}
	if e.Permission != "" && code == "insufficient_scope" {
		value += `, scope="` + quotable(e.Permission) + `"`
	}
	return value
}

// quotable replaces what RFC 6750, section 3, excludes from the values of a
// challenge: all but printable ASCII, the quote and the backslash.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '\''
		}
		return r
	}, s)
}

// Error implements error. The text carries no secret: details never do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	b.WriteString(": ")
	if e.Detail != "" {
		b.WriteString(e.Detail)
	} else {
		b.WriteString(e.Title)
	}
	for _, f := range e.Fields {
		b.WriteString(" [")
		b.WriteString(f.Field)
		b.WriteString(": ")
		b.WriteString(f.Detail)
		b.WriteString("]")
	}
	return b.String()
}

// Is makes errors.Is(err, keystile.CodePlanLimit) work through [Code.Error].
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && e.Code == c
}

// Error implements error, so that a code can be the target of errors.Is.
func (c Code) Error() string { return string(c) }
