// Package replica verifies keys in the caller's own process, without asking
// anyone. A [Verifier] attaches to a Keystile server, holds a copy of its index
// and hears of each change. When a call that revokes a key has returned, no
// Verifier accepts it: the server waits for each of them, or until its lease is
// over, which is 15 s at most. A Verifier that loses its server goes on for the
// rest of its lease, at most 12 s, and then refuses to answer.
//
// It holds the digests of all keys of the installation, never a key, and takes
// about 110 bytes of memory for each. Besides the standard library it needs
// nothing.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/stream"
)

// Options say how a [Verifier] attaches. The zero value is ready.
type Options struct {
	// More are URLs of other servers of the same installation, tried in turn
	// when one can't be reached or ends.
	More []string
	// HTTP sends the requests, for a transport or certificates of one's own.
	// Its Timeout must be 0: one answer lasts as long as the attachment. Nil: a
	// client with timeouts for connecting.
	HTTP *http.Client
	// Logger is told of attachments that break. Nil: slog.Default().
	Logger *slog.Logger
}

// Verifier is a [keystile.Verifier] in this process. It may be used by any
// number of goroutines.
type Verifier struct{ replica *stream.Replica }

// Open attaches to the server at the URL with a key whose role carries
// platform.replica, such as the role replica of the operator's workspace. It
// returns when the Verifier can answer: loading ten million keys takes about
// as long as a server takes to start. It fails when ctx ends before, and at
// once when the server refuses the key.
func Open(ctx context.Context, url, key string, o Options) (*Verifier, error) {
	client := o.HTTP
	if client == nil {
		client = stream.NewClient()
	}
	if client.Timeout != 0 {
		return nil, errors.New("keystile: the http.Client of a replica must have no Timeout: it would end the attachment")
	}
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	r, err := stream.Open(ctx, stream.Options{URLs: append([]string{url}, o.More...), Key: key, HTTP: client, Log: log})
	if err != nil {
		return nil, err
	}
	return &Verifier{r}, nil
}

// OpenFromEnv is [Open] with the URL, or several separated by commas, in
// KEYSTILE_URL and the key in KEYSTILE_KEY.
func OpenFromEnv(ctx context.Context, o Options) (*Verifier, error) {
	urls := strings.Split(os.Getenv("KEYSTILE_URL"), ",")
	if urls[0] == "" {
		return nil, errors.New("keystile: the variable KEYSTILE_URL is not set: set it to the URL of your Keystile server, such as https://keys.example.com")
	}
	o.More = append(urls[1:len(urls):len(urls)], o.More...)
	return Open(ctx, urls[0], os.Getenv("KEYSTILE_KEY"), o)
}

// Verify tells whether a key is good, from memory. It fails with
// [keystile.CodeUnavailable] while the Verifier has no lease, and with
// [keystile.CodeInvalidField] for a question that makes no sense.
func (v *Verifier) Verify(ctx context.Context, r keystile.VerifyRequest) (keystile.Decision, error) {
	return v.replica.Verify(ctx, r)
}

// Ready tells whether the Verifier can answer now.
func (v *Verifier) Ready() bool {
	_, ok := v.replica.Index()
	return ok
}

// Close stops answering, sends the uses that were counted, and tells the server
// that it need not wait for this Verifier any more.
func (v *Verifier) Close(ctx context.Context) error { return v.replica.Close(ctx) }
