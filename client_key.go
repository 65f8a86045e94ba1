package keystile

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ListKeys says which keys to list. The zero value asks for the first page of
// those that the server lists by default.
type ListKeys struct {
	Status  string // active, disabled, revoked, expired or all; empty: all
	Query   string // part of a name, description, owner, preview or Key ID
	Creator string // id of the key or person that made them
	Cursor  string // NextCursor of the page before
	Limit   int    // keys a page, at most 200; 0: 50
}

func (o ListKeys) query() url.Values {
	q := url.Values{}
	set(q, "status", o.Status)
	set(q, "q", o.Query)
	set(q, "created_by", o.Creator)
	setPage(q, o.Cursor, o.Limit)
	return q
}

// CreateKey makes a key in the workspace. The answer alone carries its secret.
//
// When the connection breaks, the call is repeated under the same
// Idempotency-Key, and makes no second key. Should the first try have made the
// key, its secret is lost with that answer: then CreateKey returns the key
// without it, and an error that is [CodeUnknownOutcome]. Such a key is best
// deleted.
func (c *Client) CreateKey(ctx context.Context, workspaceID string, k CreateKey) (CreatedKey, error) {
	return c.issue(ctx, object("/v1/workspaces/%s/keys", workspaceID), k, k.SHA256 == "")
}

// issue makes a call whose answer alone carries a secret, unless the key was
// imported, and tells when that answer was lost.
func (c *Client) issue(ctx context.Context, path string, body any, secret bool) (CreatedKey, error) {
	var created CreatedKey
	replayed, err := c.do(ctx, call{method: http.MethodPost, path: path, body: body, once: true}, &created)
	if err != nil {
		return CreatedKey{}, err
	}
	if secret && replayed && created.Secret == "" {
		return created, NewError(CodeUnknownOutcome, "The key "+created.Key.ID+" was made, but the answer with its secret was lost on its way.",
			"Delete the key "+created.Key.ID+" and make another: its secret exists nowhere.")
	}
	return created, nil
}

// Keys returns a page of the workspace's keys.
func (c *Client) Keys(ctx context.Context, workspaceID string, o ListKeys) (List[Key], error) {
	return fetch[List[Key]](ctx, c, get(object("/v1/workspaces/%s/keys", workspaceID), o.query()))
}

// AllKeys returns the workspace's keys, page by page as they are taken. It ends
// with the first error.
func (c *Client) AllKeys(ctx context.Context, workspaceID string, o ListKeys) iter.Seq2[Key, error] {
	return all(o.Cursor, "keys", func(cursor string) (List[Key], error) {
		o.Cursor = cursor
		return c.Keys(ctx, workspaceID, o)
	})
}

// Key returns one key.
func (c *Client) Key(ctx context.Context, id string) (Key, error) {
	return fetch[Key](ctx, c, get(object("/v1/keys/%s", id), nil))
}

// UpdateKey changes a key and returns it as it is then.
func (c *Client) UpdateKey(ctx context.Context, id string, p KeyPatch) (Key, error) {
	return fetch[Key](ctx, c, call{method: http.MethodPatch, path: object("/v1/keys/%s", id), body: p})
}

// DeleteKey removes a key for good. When it returns nil, no server accepts the
// key any more.
func (c *Client) DeleteKey(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: object("/v1/keys/%s", id)}, nil)
	return err
}

// RevokeKey ends a key for good and keeps its record. When it returns without
// an error, no server accepts the key any more; after any other error than an
// [*Error] it is not known whether one does, so repeat it.
func (c *Client) RevokeKey(ctx context.Context, id string, r RevokeKey) (Key, error) {
	// Revoking what is revoked runs the whole barrier again, so a repetition is
	// as good as the first try; rolling back twice is another matter.
	return fetch[Key](ctx, c, call{method: http.MethodPost, path: object("/v1/keys/%s/revoke", id), body: r, repeatable: !r.Rollback})
}

// DisableKey makes every server refuse a key until [Client.EnableKey].
func (c *Client) DisableKey(ctx context.Context, id string, d DisableKey) (Key, error) {
	return fetch[Key](ctx, c, call{method: http.MethodPost, path: object("/v1/keys/%s/disable", id), body: d, repeatable: true})
}

// EnableKey lets a disabled key in again.
func (c *Client) EnableKey(ctx context.Context, id string) (Key, error) {
	return fetch[Key](ctx, c, call{method: http.MethodPost, path: object("/v1/keys/%s/enable", id)})
}

// RotateKey makes a replacement with the same role, restrictions and
// environment, and gives the old key an end. The answer alone carries the
// replacement's secret; what happens when it is lost is as with
// [Client.CreateKey].
func (c *Client) RotateKey(ctx context.Context, id string, r RotateKey) (CreatedKey, error) {
	return c.issue(ctx, object("/v1/keys/%s/rotate", id), r, true)
}

// ReviewKey records that the caller has reviewed a key.
func (c *Client) ReviewKey(ctx context.Context, id string) (Key, error) {
	return fetch[Key](ctx, c, call{method: http.MethodPost, path: object("/v1/keys/%s/review", id)})
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setTime(q url.Values, name string, t time.Time) {
	if !t.IsZero() {
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

func setPage(q url.Values, cursor string, limit int) {
	set(q, "cursor", cursor)
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
}
