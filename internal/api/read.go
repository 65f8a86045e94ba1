package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/keystile/keystile"
)

// scratch is memory for bodies and answers, handed from request to request.
type scratch struct{ pool sync.Pool }

// maxScratch bounds what is kept for the next request, in bytes: about what a
// batch and its answer take.
const maxScratch = 1 << 20

func (s *scratch) take() *bytes.Buffer {
	if b, ok := s.pool.Get().(*bytes.Buffer); ok {
		b.Reset()
		return b
	}
	return &bytes.Buffer{}
}

func (s *scratch) put(b *bytes.Buffer) {
	if b.Cap() <= maxScratch {
		s.pool.Put(b)
	}
}

// work is memory for the questions of a batch and what was decided about them.
type work struct {
	requests requests
	answers  []answered
}

// room is for n answers.
func (w *work) room(n int) []answered {
	if cap(w.answers) < n {
		w.answers = make([]answered, max(n, 64))
	}
	w.answers = w.answers[:n]
	return w.answers
}

// batches hands work from batch to batch.
type batches struct{ pool sync.Pool }

func (b *batches) take() *work {
	if w, ok := b.pool.Get().(*work); ok {
		return w
	}
	return &work{}
}

// put forgets what is in it: keys, and the index that they were found in.
func (b *batches) put(w *work) {
	clear(w.requests)
	clear(w.answers)
	w.requests, w.answers = w.requests[:0], w.answers[:0]
	b.pool.Put(w)
}

// read reads a body of at most so many bytes. What scan does not take, which is
// all that is wrong or unusual, is read by encoding/json from the beginning: it
// alone says what is accepted and what is wrong.
func read[T any](a *API, w http.ResponseWriter, r *http.Request, most int64, into *T, scan func(*scanner, *T)) *keystile.Error {
	if !isJSON(r.Header) {
		return keystile.NewError(keystile.CodeUnsupportedMedia, "")
	}
	if r.ContentLength < 0 || r.ContentLength > most {
		return decode(w, r.Body, most, into)
	}
	buffer := a.scratch.take()
	defer a.scratch.put(buffer)
	_, err := buffer.ReadFrom(r.Body) // no more than its length, which net/http sees to
	s := scanner{text: buffer.String()}
	if err == nil {
		if scan(&s, into); s.done() {
			return nil
		}
	}
	*into = *new(T)
	return decode(w, io.NopCloser(io.MultiReader(strings.NewReader(s.text), r.Body)), most, into)
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
			if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field == "" {
				return field("body.requests", "Each entry must be an object.")
			}
			return err
		}
		*q = append(*q, one)
	}
	return nil
}

// readJSON reads a body strictly: one object, known fields only, no more than
// most bytes.
func readJSON(w http.ResponseWriter, r *http.Request, most int64, into any) *keystile.Error {
	if !isJSON(r.Header) {
		return keystile.NewError(keystile.CodeUnsupportedMedia, "")
	}
	return decode(w, r.Body, most, into)
}

func decode(w http.ResponseWriter, body io.ReadCloser, most int64, into any) *keystile.Error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, body, most))
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
		if wrongType.Field == "" {
			return keystile.NewError(keystile.CodeInvalidRequest, "The body is not one JSON object.")
		}
		return field("body."+wrongType.Field, "It must be "+kindOf(wrongType.Type)+".")
	case errors.As(err, &syntax), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return keystile.NewError(keystile.CodeInvalidRequest, "The body is not one JSON object.")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return field("body."+shorten(strings.Trim(name, `"`)), "There is no such field.")
	}
	return keystile.NewError(keystile.CodeInvalidRequest, "The body could not be read.")
}

// kindOf is what JSON has for a type, in the words of the other routes.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// isJSON tells whether a body may be JSON by its Content-Type. Left out is as
// good as said, as on the other routes.
func isJSON(h http.Header) bool {
	var contentType string
	if given := h["Content-Type"]; len(given) > 0 {
		contentType = given[0]
	}
	if contentType == "" || contentType == "application/json" {
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
