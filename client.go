package keystile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Limits of a [Client].
const (
	// verifyTimeout bounds Verify and VerifyBatch, repetitions included: a
	// request of somebody else waits for the answer.
	verifyTimeout = 5 * time.Second
	// callTimeout bounds one try of any call. A revocation may wait 15 s for a
	// server that died before it is sure; see docs/spec/revocation.md.
	callTimeout = 60 * time.Second
	dialTimeout = 3 * time.Second
	// maxAnswer is the most bytes of an answer that are read.
	maxAnswer = 8 << 20
	// idleConnections are kept to the server: every goroutine that verifies at
	// the same time takes one, and the two that net/http keeps by itself make
	// all others dial anew.
	idleConnections = 64
)

// Client calls a Keystile server. It is made by [NewClient] or
// [ClientFromEnv], and safe for use by several goroutines at once.
//
// Its methods return *[Error] when the server answered with an error, or when
// something else answered in its place; errors.Is(err, CodePlanLimit) asks for
// the cause. Any other error means that no answer came: what was asked for may
// have happened or not. Calls that can do no harm twice, verify among them, are
// repeated up to twice when the connection breaks or the server asks for a
// moment (503 with Retry-After); every call is when no connection was made.
//
// It prints as the server's URL, without its key.
type Client struct {
	base string // scheme, host and path, without a slash at the end
	http *http.Client
	// authorize adds the key. It is a function because nothing that prints or
	// dumps a value can look into one.
	authorize func(http.Header)
	unreached func([]Unreached)
}

// A ClientOption changes how [NewClient] makes a client.
type ClientOption func(*Client)

// WithHTTPClient makes the client send its requests with h, for a transport,
// certificates or timeouts of one's own. Redirects are not followed all the
// same: they would carry the key elsewhere.
func WithHTTPClient(h *http.Client) ClientOption {
	return func(c *Client) {
		if h != nil {
			c.http = h
		}
	}
}

// WithUnreached has f called for each change that some servers have not heard
// of, since they have lost the database and were set to go on without it. The
// change is made, and each of them may act on what was before until the time
// that it is named with. F may be called by several goroutines at once.
func WithUnreached(f func([]Unreached)) ClientOption {
	return func(c *Client) { c.unreached = f }
}

// NewClient returns a client of the server at the URL, which authenticates
// with the key. The URL is the server's base, such as
// "https://keys.example.com", or a unix socket, "unix:///run/keystile.sock",
// which alone may go without a key. Nothing is sent yet.
func NewClient(baseURL, key string, options ...ClientOption) (*Client, error) {
	base, err := url.Parse(strings.TrimSpace(baseURL))
	if err != nil || base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.Opaque != "" {
		// Without quoting it: a malformed URL may hold a password.
		return nil, errors.New("keystile: the server's URL can't be used: give one like https://keys.example.com or unix:///run/keystile.sock, without user, password, query or fragment")
	}
	key = strings.TrimSpace(key) // files and variables often end in a line break
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("keystile: the key can't be sent: it holds a space, a line break or a character that keys don't have; copy it again")
	}

	c := &Client{authorize: func(h http.Header) {
		if key != "" {
			h.Set("Authorization", "Bearer "+key)
		}
	}}
	switch {
	case (base.Scheme == "http" || base.Scheme == "https") && base.Host != "":
		if key == "" {
			return nil, errors.New("keystile: the key is empty: give the one that 'keystile admin key' prints, or one made for this program")
		}
		c.base = strings.TrimRight(base.String(), "/")
		c.http = newHTTPClient("")
	case base.Scheme == "unix" && base.Host == "" && base.Path != "":
		c.base = "http://localhost" // a Host header is required, and nobody looks it up
		c.http = newHTTPClient(base.Path)
	default:
		return nil, fmt.Errorf("keystile: the server's URL %q can't be used: give one like https://keys.example.com or unix:///run/keystile.sock", base)
	}
	ours := c.http
	for _, option := range options {
		option(c)
	}
	if base.Scheme == "unix" && c.http != ours {
		return nil, errors.New("keystile: a unix socket can't be reached through another http.Client: leave out WithHTTPClient, or give the URL that it knows the server by")
	}
	own := *c.http // what the caller handed over stays as it is
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &own
	return c, nil
}

// ClientFromEnv returns a client of the server that the variable KEYSTILE_URL
// names, with the key in KEYSTILE_KEY.
func ClientFromEnv(options ...ClientOption) (*Client, error) {
	base := os.Getenv("KEYSTILE_URL")
	if base == "" {
		return nil, errors.New("keystile: the variable KEYSTILE_URL is not set: set it to the URL of your Keystile server, such as https://keys.example.com")
	}
	c, err := NewClient(base, os.Getenv("KEYSTILE_KEY"), options...)
	if err != nil {
		return nil, fmt.Errorf("from KEYSTILE_URL and KEYSTILE_KEY: %w", err)
	}
	return c, nil
}

// newHTTPClient returns one that keeps enough connections for a server that is
// asked on every request. An empty socket means TCP.
func newHTTPClient(socket string) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        idleConnections,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     60 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
	}
	if socket != "" {
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	return &http.Client{Transport: transport, Timeout: callTimeout}
}

// String returns the server's URL.
func (c Client) String() string { return "keystile.Client(" + c.base + ")" }

// GoString is [Client.String], so that %#v shows no more.
func (c Client) GoString() string { return c.String() }

// Verify asks whether a key is good. It is a [Verifier]: a refused key is a
// decision, not an error.
func (c *Client) Verify(ctx context.Context, r VerifyRequest) (Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	return fetch[Decision](ctx, c, call{method: http.MethodPost, path: "/v1/verify", body: r, repeatable: true})
}

// maxBatch is how many keys one request of VerifyBatch may ask about.
const maxBatch = 1000

// VerifyBatch asks about several keys, and returns the decisions in the same
// order. More than 1000 take several requests; an error means that none of the
// decisions can be used.
func (c *Client) VerifyBatch(ctx context.Context, requests []VerifyRequest) ([]Decision, error) {
	decisions := make([]Decision, 0, len(requests))
	for len(requests) > 0 {
		n := min(len(requests), maxBatch)
		answer, err := c.verifySome(ctx, requests[:n])
		if err != nil {
			return nil, err
		}
		decisions, requests = append(decisions, answer...), requests[n:]
	}
	return decisions, nil
}

func (c *Client) verifySome(ctx context.Context, requests []VerifyRequest) ([]Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	answer, err := fetch[DecisionBatch](ctx, c, call{
		method: http.MethodPost, path: "/v1/verify/batch", body: VerifyBatch{Requests: requests}, repeatable: true,
	})
	if err == nil && len(answer.Decisions) != len(requests) {
		err = NewError(CodeInternal, fmt.Sprintf("The server answered %d questions with %d decisions.", len(requests), len(answer.Decisions)))
	}
	return answer.Decisions, err
}

// Me returns what the server knows of the key that the client authenticates
// with: a test of the connection.
func (c *Client) Me(ctx context.Context) (Self, error) {
	return fetch[Self](ctx, c, get("/v1/me", nil))
}
