package stream

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// NewClient returns a client that gives up connecting, and not the one answer
// that lasts.
func NewClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 10 * time.Second,
		IdleConnTimeout:       time.Minute,
	}}
}

// refused is an answer of a server that trying again does not change.
type refused struct{ problem *keystile.Error }

func (r refused) Error() string { return r.problem.Error() }

// otherVersion says that the server means something else by what it says, so
// that a key could be let in that it refuses.
func otherVersion(version string, protocol int) *keystile.Error {
	fix := "Update the program that the replica is part of, or the agent, to that version."
	if protocol < Protocol {
		fix = "Update the server first, and then its replicas."
	}
	return keystile.NewError(keystile.CodeInvalidRequest, "The server, version "+strconv.Quote(version)+", is of another version than this replica: they don't understand each other.", fix)
}

// attachment is a conversation, for short requests beside it: its address, and the
// marks that may have been left there, the newest first.
type attachment struct {
	at    string
	marks []string
}

// marksKept is how many marks without an answer a replica remembers: they are left
// every 200 ms at most, so that its lease is over by then.
const marksKept = 64

// mark adds a new mark.
func (a *attachment) mark() {
	random := make([]byte, MarkLength/2)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the program first
	a.marks = append([]string{hex.EncodeToString(random)}, a.marks[:min(len(a.marks), marksKept)]...)
}

// call sends a short request.
func (r *Replica) call(ctx context.Context, method string, a attachment, body, into any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.at, reader)
	if err != nil {
		return err
	}
	request.Header.Set(MarksHeader, strings.Join(a.marks, " "))
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := r.send(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer))
		return err
	}
	return json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(into)
}

// send sends a request with the key and makes an error of any answer that is
// no success.
func (r *Replica) send(request *http.Request) (*http.Response, error) {
	request.Header.Set("Authorization", "Bearer "+r.options.Key)
	request.Header.Set("User-Agent", "keystile-replica/"+keystile.Version)
	answer, err := r.options.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	problem := &keystile.Error{Status: answer.StatusCode, Title: http.StatusText(answer.StatusCode)}
	_ = json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(problem) // something else may have answered
	problem.Status = answer.StatusCode
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, refused{problem}
	case http.StatusBadRequest, http.StatusNotFound:
		if request.Method == http.MethodGet {
			return nil, refused{problem}
		}
	}
	return nil, problem
}
