package keystile

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// call is one call of the API, however often it is sent.
type call struct {
	method string
	path   string // escaped
	query  url.Values
	body   any // nil: none

	// repeatable tells that sending it twice does what sending it once does.
	repeatable bool
	// once makes sending it twice do so: with an Idempotency-Key.
	once bool
}

func get(path string, query url.Values) call {
	return call{method: http.MethodGet, path: path, query: query, repeatable: true}
}

// object returns the path of one object, which path has a %s for. An id that
// is empty or a path of its own would lead to another route.
func object(path, id string) string {
	if id == "" || strings.Trim(id, ".") == "" {
		id = "-" // no id is that short: the answer is not_found
	}
	return fmt.Sprintf(path, url.PathEscape(id))
}

const (
	maxTries = 3 // the first included
	// maxWait is the longest Retry-After that is waited for. The caller can
	// decide better about more.
	maxWait = 5 * time.Second
	// firstWait is the mean wait before the first repetition of a broken call;
	// each further one is four times as long.
	firstWait = 100 * time.Millisecond
)

// fetch makes the call and returns what the answer holds.
func fetch[T any](ctx context.Context, c *Client, call call) (T, error) {
	var answer T
	_, err := c.do(ctx, call, &answer)
	if err != nil {
		var none T
		return none, err
	}
	return answer, nil
}

// do makes the call, repeating it where that is safe, and decodes the answer
// into out, unless that is nil. It tells whether the server replayed the answer
// of an earlier try.
func (c *Client) do(ctx context.Context, call call, out any) (replayed bool, err error) {
	var body []byte
	if call.body != nil {
		if body, err = json.Marshal(call.body); err != nil {
			return false, fmt.Errorf("keystile: %s %s: %w", call.method, call.path, err)
		}
	}
	header := http.Header{
		"Accept":     {"application/json"},
		"User-Agent": {"keystile-go/" + Version},
	}
	if call.body != nil {
		header.Set("Content-Type", "application/json")
	}
	if call.once {
		header.Set("Idempotency-Key", rand.Text())
	}
	c.authorize(header)

	for try := 1; ; try++ {
		answer, err := c.send(ctx, call, header, body)
		if err == nil {
			err = answer.decode(out)
		}
		if err == nil {
			c.tellUnreached(answer)
			return answer.replayed, nil
		}
		wait, again := call.again(ctx, err, answer, try)
		if !again {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(wait):
		}
	}
}

// answer is what came back, read to its end.
type answer struct {
	status     int
	media      string // Content-Type without parameters
	retryAfter string
	replayed   bool
	unreached  string
	body       []byte
	from       string // who was asked, for errors
	location   string // of a redirect
}

// send makes one try. An error means that no whole answer came.
func (c *Client) send(ctx context.Context, call call, header http.Header, body []byte) (*answer, error) {
	target := c.base + call.path
	if len(call.query) > 0 {
		target += "?" + call.query.Encode()
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, call.method, target, reader)
	if err != nil {
		return nil, fmt.Errorf("keystile: %s %s: %w", call.method, call.path, err)
	}
	request.Header = header.Clone() // a cookie jar would add to it at every try
	response, err := c.http.Do(request)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // its method and URL stand in ours already
		}
		return nil, fmt.Errorf("keystile: %s %s%s: %w", call.method, c.base, call.path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("keystile: %s %s%s: the answer broke off: %w", call.method, c.base, call.path, err)
	}
	media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	return &answer{
		status:     response.StatusCode,
		media:      media,
		retryAfter: response.Header.Get("Retry-After"),
		replayed:   response.Header.Get("Idempotency-Replayed") == "true",
		unreached:  response.Header.Get(UnreachedHeader),
		body:       text,
		from:       c.base,
		location:   response.Header.Get("Location"),
	}, nil
}

// tellUnreached hands on which servers a change has not reached. That there are
// some counts, even where nothing can be read of them.
func (c *Client) tellUnreached(a *answer) {
	if c.unreached == nil || a.unreached == "" {
		return
	}
	var list []Unreached
	_ = json.Unmarshal([]byte(a.unreached), &list) // what can't be read is an empty list
	c.unreached(list)
}

// decode reads the answer into out, or returns the error that it carries.
func (a *answer) decode(out any) error {
	if len(a.body) > maxAnswer {
		return a.foreign(fmt.Sprintf("answered with more than %d MiB", maxAnswer>>20))
	}
	isJSON := a.media == "application/json" || strings.HasSuffix(a.media, "+json")
	if a.status < 200 || a.status > 299 {
		var problem Error
		if isJSON && json.Unmarshal(a.body, &problem) == nil && problem.Code != "" {
			problem.Status = a.status
			return &problem
		}
		return a.foreign("answered " + a.statusText())
	}
	if out == nil || a.status == http.StatusNoContent {
		return nil
	}
	if !isJSON {
		return a.foreign("answered " + a.statusText() + " without JSON")
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return a.foreign("answered with JSON of another shape than this version of the client reads")
	}
	return nil
}

// foreign is the error for an answer that Keystile did not give.
func (a *answer) foreign(what string) *Error {
	code := CodeUnavailable
	if a.status == http.StatusNotFound {
		code = CodeUnknownRoute
	}
	detail := a.from + " " + what
	if to, err := url.Parse(a.location); err == nil && to.Host != "" && a.status >= 300 && a.status <= 399 {
		detail += ", a redirect to " + to.Scheme + "://" + to.Host + ", which is not followed since it would carry the key there"
	}
	e := NewError(code, detail+".",
		"Check that the URL leads to a Keystile server, and what proxies stand before it.")
	e.Status = a.status
	return e
}

func (a *answer) statusText() string {
	return strings.TrimSpace(strconv.Itoa(a.status) + " " + http.StatusText(a.status))
}

// again tells whether the call that failed may be sent once more, and after
// which wait. The answer is nil when none came.
//
// A create is repeated even when the server may have received it, under the
// same Idempotency-Key, and net/http itself does so too. The secret of a key
// whose first answer was lost is lost either way, but then the caller learns of
// it; see [Client.CreateKey].
func (c call) again(ctx context.Context, failure error, a *answer, try int) (time.Duration, bool) {
	if try == maxTries || ctx.Err() != nil {
		return 0, false
	}
	harmless := c.repeatable || c.once
	if a != nil {
		// Of these a Keystile server says that it did nothing; a proxy does not say.
		harmless = harmless || errors.Is(failure, CodeUnavailable) && strings.HasSuffix(a.media, "problem+json")
		wait, ok := parseRetryAfter(a.retryAfter)
		return wait, harmless && ok && a.status == http.StatusServiceUnavailable
	}
	if dial, ok := errors.AsType[*net.OpError](failure); ok && dial.Op == "dial" {
		harmless = true
	}
	// What took too long, or has the wrong certificate, will again.
	if slow, ok := errors.AsType[net.Error](failure); ok && slow.Timeout() {
		return 0, false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](failure); ok {
		return 0, false
	}
	mean := firstWait << (2 * (try - 1))
	return mean/2 + mathrand.N(mean), harmless
}

// all returns what the pages of a list hold, from the first cursor on. It ends
// with the first error.
func all[T any](cursor, plural string, page func(cursor string) (List[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for cursor := cursor; ; {
			list, err := page(cursor)
			if err != nil {
				yield(none, err)
				return
			}
			for _, one := range list.Data {
				if !yield(one, nil) {
					return
				}
			}
			switch list.NextCursor {
			case "":
				return
			case cursor:
				yield(none, NewError(CodeInternal, "The server's list of "+plural+" does not go on: a page leads to itself."))
				return
			}
			cursor = list.NextCursor
		}
	}
}

// parseRetryAfter reads the seconds or the date (RFC 9110, section 10.2.3). It
// tells false when there is none, or when it is further off than maxWait.
func parseRetryAfter(value string) (time.Duration, bool) {
	if seconds, err := strconv.Atoi(value); err == nil {
		wait := time.Duration(seconds) * time.Second
		return wait, seconds >= 0 && seconds <= int(maxWait/time.Second)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	wait := max(0, time.Until(date))
	return wait, wait <= maxWait
}
