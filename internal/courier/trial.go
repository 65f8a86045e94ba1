package courier

import (
	"context"
	"errors"
	"strconv"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// TestEndpoint sends a test delivery to an endpoint and waits for what becomes
// of it, 10 seconds at most. It is tried once.
func (c *Courier) TestEndpoint(ctx context.Context, a keyring.Actor, id string, in keystile.TestDelivery) (keystile.TestResult, error) {
	return c.trial(ctx, a, func() (keyring.TestRound, error) { return c.keyring.TestEndpoint(ctx, a, id, in) })
}

// TestWebhookSecret sends a test webhook to a URL, signed with one of a
// workspace's own secrets, and waits likewise.
func (c *Courier) TestWebhookSecret(ctx context.Context, a keyring.Actor, id string, in keystile.TestWebhook) (keystile.TestResult, error) {
	return c.trial(ctx, a, func() (keyring.TestRound, error) { return c.keyring.TestWebhookSecret(ctx, a, id, in) })
}

// trial sends one test. Each holds up a request, and could be asked for again
// and again to bother somebody: an actor's workspace has one at a time.
func (c *Courier) trial(ctx context.Context, a keyring.Actor, prepare func() (keyring.TestRound, error)) (out keystile.TestResult, err error) {
	if !c.begin(a.Workspace()) {
		return out, keystile.NewError(keystile.CodeConflict, "A test delivery is under way already.", "Wait until it is answered, 10 seconds at most.")
	}
	defer c.done(a.Workspace())
	t, err := prepare()
	if err != nil {
		return out, err
	}
	l, err := newLine(t.URL, t.AllowRanges)
	if err != nil {
		return out, err
	}
	defer l.close()
	within, cancel := context.WithTimeout(ctx, testLimit)
	defer cancel()
	o := l.post(within, t.URL, t.EventID, t.Payload, t.Secrets)
	if o.Status == 0 && errors.Is(within.Err(), context.DeadlineExceeded) {
		o.Error = "No answer within " + strconv.Itoa(int(testLimit.Seconds())) + " seconds, which is all that a test has."
	}
	if o.delivered && t.Alone != "" {
		if err := c.keyring.TestAccepted(context.WithoutCancel(ctx), t.Alone); err != nil {
			c.trouble("note that a test was accepted", err)
		}
	}
	return keystile.TestResult{Delivered: o.delivered, EventID: t.EventID, Attempt: o.Attempt}, ctx.Err()
}

func (c *Courier) begin(workspace string) bool {
	c.tests.Lock()
	defer c.tests.Unlock()
	if c.testing[workspace] || len(c.testing) >= testsAtOnce {
		return false
	}
	c.testing[workspace] = true
	return true
}

func (c *Courier) done(workspace string) {
	c.tests.Lock()
	defer c.tests.Unlock()
	delete(c.testing, workspace)
}
