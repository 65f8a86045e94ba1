package keystile

import (
	"context"
	"iter"
	"net/http"
	"net/url"
)

// ListEndpoints says which endpoints to list. The zero value asks for the
// first page.
type ListEndpoints struct {
	Cursor string // NextCursor of the page before
	Limit  int    // endpoints a page, at most 200; 0: 50
}

// ListDeliveries says which deliveries to list. The zero value asks for the
// first page of all.
type ListDeliveries struct {
	Status string // pending, delivered, failed or all; empty: all
	Cursor string // NextCursor of the page before
	Limit  int    // deliveries a page, at most 200; 0: 50
}

// CreateEndpoint makes an endpoint in the workspace. The answer alone carries
// its first secret; what happens when that answer is lost is as with
// [Client.CreateKey].
func (c *Client) CreateEndpoint(ctx context.Context, workspaceID string, e CreateEndpoint) (CreatedEndpoint, error) {
	var created CreatedEndpoint
	replayed, err := c.do(ctx, call{method: http.MethodPost, path: object("/v1/workspaces/%s/endpoints", workspaceID), body: e, once: true}, &created)
	if err != nil {
		return CreatedEndpoint{}, err
	}
	if replayed && created.Secret == "" {
		return created, NewError(CodeUnknownOutcome, "The endpoint "+created.Endpoint.ID+" was made, but the answer with its secret was lost on its way.",
			"Rotate the webhook secret "+created.WebhookSecret.ID+": it is not shown again.")
	}
	return created, nil
}

// Endpoints returns a page of the workspace's endpoints, newest first.
func (c *Client) Endpoints(ctx context.Context, workspaceID string, o ListEndpoints) (List[Endpoint], error) {
	q := url.Values{}
	setPage(q, o.Cursor, o.Limit)
	return fetch[List[Endpoint]](ctx, c, get(object("/v1/workspaces/%s/endpoints", workspaceID), q))
}

// AllEndpoints returns the workspace's endpoints, page by page as they are taken.
// It ends with the first error.
func (c *Client) AllEndpoints(ctx context.Context, workspaceID string, o ListEndpoints) iter.Seq2[Endpoint, error] {
	return all(o.Cursor, "endpoints", func(cursor string) (List[Endpoint], error) {
		o.Cursor = cursor
		return c.Endpoints(ctx, workspaceID, o)
	})
}

// Endpoint returns one endpoint.
func (c *Client) Endpoint(ctx context.Context, id string) (Endpoint, error) {
	return fetch[Endpoint](ctx, c, get(object("/v1/endpoints/%s", id), nil))
}

// UpdateEndpoint changes an endpoint and returns it as it is then.
func (c *Client) UpdateEndpoint(ctx context.Context, id string, p EndpointPatch) (Endpoint, error) {
	return fetch[Endpoint](ctx, c, call{method: http.MethodPatch, path: object("/v1/endpoints/%s", id), body: p})
}

// DeleteEndpoint removes an endpoint with its secrets and deliveries.
func (c *Client) DeleteEndpoint(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: object("/v1/endpoints/%s", id)}, nil)
	return err
}

// PauseEndpoint has events wait until the endpoint is resumed.
func (c *Client) PauseEndpoint(ctx context.Context, id string, p PauseEndpoint) (Endpoint, error) {
	return fetch[Endpoint](ctx, c, call{method: http.MethodPost, path: object("/v1/endpoints/%s/pause", id), body: p, repeatable: true})
}

// ResumeEndpoint has events sent again, those first that have waited.
func (c *Client) ResumeEndpoint(ctx context.Context, id string) (Endpoint, error) {
	return fetch[Endpoint](ctx, c, call{method: http.MethodPost, path: object("/v1/endpoints/%s/resume", id), repeatable: true})
}

// TestEndpoint sends a test delivery and tells what became of it, after 10
// seconds at most. That nothing was delivered is no error.
func (c *Client) TestEndpoint(ctx context.Context, id string, t TestDelivery) (TestResult, error) {
	return fetch[TestResult](ctx, c, call{method: http.MethodPost, path: object("/v1/endpoints/%s/test", id), body: t})
}

// TestWebhookSecret sends a test that is signed with one of the workspace's own
// webhook secrets alone, and tells what became of it, after 10 seconds at most.
func (c *Client) TestWebhookSecret(ctx context.Context, id string, t TestWebhook) (TestResult, error) {
	return fetch[TestResult](ctx, c, call{method: http.MethodPost, path: object("/v1/webhook-secrets/%s/test", id), body: t})
}

// ReplayEvents has the failed deliveries to an endpoint sent again of events
// that happened since an instant.
func (c *Client) ReplayEvents(ctx context.Context, id string, r ReplayEvents) (Replayed, error) {
	return fetch[Replayed](ctx, c, call{method: http.MethodPost, path: object("/v1/endpoints/%s/replay", id), body: r})
}

// Deliveries returns a page of the deliveries to an endpoint, newest first.
func (c *Client) Deliveries(ctx context.Context, endpointID string, o ListDeliveries) (List[Delivery], error) {
	q := url.Values{}
	set(q, "status", o.Status)
	setPage(q, o.Cursor, o.Limit)
	return fetch[List[Delivery]](ctx, c, get(object("/v1/endpoints/%s/deliveries", endpointID), q))
}

// AllDeliveries returns the deliveries to an endpoint, page by page as they are
// taken. It ends with the first error.
func (c *Client) AllDeliveries(ctx context.Context, endpointID string, o ListDeliveries) iter.Seq2[Delivery, error] {
	return all(o.Cursor, "deliveries", func(cursor string) (List[Delivery], error) {
		o.Cursor = cursor
		return c.Deliveries(ctx, endpointID, o)
	})
}

// Delivery returns a delivery with its attempts.
func (c *Client) Delivery(ctx context.Context, id string) (DeliveryDetails, error) {
	return fetch[DeliveryDetails](ctx, c, get(object("/v1/deliveries/%s", id), nil))
}

// RetryDelivery has an event sent again at once, whatever has become of it.
func (c *Client) RetryDelivery(ctx context.Context, id string) (Delivery, error) {
	return fetch[Delivery](ctx, c, call{method: http.MethodPost, path: object("/v1/deliveries/%s/retry", id), repeatable: true})
}
