package keystile

import "strings"

// Error is an error of the API as it is on the wire: an RFC 9457 problem with
// three members of our own, code, fixes and hint. [Client] returns it as *Error.
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
