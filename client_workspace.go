package keystile

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Page names a page of a list. The zero value is the first one.
type Page struct {
	Cursor string // NextCursor of the page before
	Limit  int    // objects a page, at most 200; 0: 50
}

func (p Page) query() url.Values {
	q := url.Values{}
	setPage(q, p.Cursor, p.Limit)
	return q
}

// CreateWorkspace makes a workspace.
func (c *Client) CreateWorkspace(ctx context.Context, w CreateWorkspace) (Workspace, error) {
	return fetch[Workspace](ctx, c, call{method: http.MethodPost, path: "/v1/workspaces", body: w, once: true})
}

// ListWorkspaces says which workspaces to list. The zero value asks for the
// first page of all.
type ListWorkspaces struct {
	Query  string // part of a name or id
	Cursor string // NextCursor of the page before
	Limit  int    // workspaces a page, at most 200; 0: 50
}

// Workspaces returns a page of the workspaces that the caller may see.
func (c *Client) Workspaces(ctx context.Context, o ListWorkspaces) (List[Workspace], error) {
	q := url.Values{}
	set(q, "q", o.Query)
	setPage(q, o.Cursor, o.Limit)
	return fetch[List[Workspace]](ctx, c, get("/v1/workspaces", q))
}

// AllWorkspaces returns the workspaces that the caller may see, page by page as
// they are taken. It ends with the first error.
func (c *Client) AllWorkspaces(ctx context.Context, o ListWorkspaces) iter.Seq2[Workspace, error] {
	return all(o.Cursor, "workspaces", func(cursor string) (List[Workspace], error) {
		o.Cursor = cursor
		return c.Workspaces(ctx, o)
	})
}

// Workspace returns one workspace.
func (c *Client) Workspace(ctx context.Context, id string) (Workspace, error) {
	return fetch[Workspace](ctx, c, get(object("/v1/workspaces/%s", id), nil))
}

// UpdateWorkspace changes a workspace and returns it as it is then.
func (c *Client) UpdateWorkspace(ctx context.Context, id string, p WorkspacePatch) (Workspace, error) {
	return fetch[Workspace](ctx, c, call{method: http.MethodPatch, path: object("/v1/workspaces/%s", id), body: p})
}

// DeleteWorkspace removes a workspace and all that is in it.
func (c *Client) DeleteWorkspace(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: object("/v1/workspaces/%s", id)}, nil)
	return err
}

// Roles returns a page of the roles that a workspace has, built-in ones
// included.
func (c *Client) Roles(ctx context.Context, workspaceID string, p Page) (List[Role], error) {
	return fetch[List[Role]](ctx, c, get(object("/v1/workspaces/%s/roles", workspaceID), p.query()))
}

// CreateRole makes a role in the workspace.
func (c *Client) CreateRole(ctx context.Context, workspaceID string, r CreateRole) (Role, error) {
	return fetch[Role](ctx, c, call{method: http.MethodPost, path: object("/v1/workspaces/%s/roles", workspaceID), body: r, once: true})
}

// Role returns one role.
func (c *Client) Role(ctx context.Context, id string) (Role, error) {
	return fetch[Role](ctx, c, get(object("/v1/roles/%s", id), nil))
}

// UpdateRole changes a role of a workspace, and with it at once what every key
// and member that has it may do.
func (c *Client) UpdateRole(ctx context.Context, id string, p RolePatch) (Role, error) {
	return fetch[Role](ctx, c, call{method: http.MethodPatch, path: object("/v1/roles/%s", id), body: p})
}

// DeleteRole removes a role that nobody has.
func (c *Client) DeleteRole(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: object("/v1/roles/%s", id)}, nil)
	return err
}

// Members returns a page of a workspace's members.
func (c *Client) Members(ctx context.Context, workspaceID string, p Page) (List[Member], error) {
	return fetch[List[Member]](ctx, c, get(object("/v1/workspaces/%s/members", workspaceID), p.query()))
}

// CreateMember invites a person into the workspace.
func (c *Client) CreateMember(ctx context.Context, workspaceID string, m CreateMember) (Member, error) {
	return fetch[Member](ctx, c, call{method: http.MethodPost, path: object("/v1/workspaces/%s/members", workspaceID), body: m, once: true})
}

// Member returns one member.
func (c *Client) Member(ctx context.Context, id string) (Member, error) {
	return fetch[Member](ctx, c, get(object("/v1/members/%s", id), nil))
}

// UpdateMember changes a member's role.
func (c *Client) UpdateMember(ctx context.Context, id string, p MemberPatch) (Member, error) {
	return fetch[Member](ctx, c, call{method: http.MethodPatch, path: object("/v1/members/%s", id), body: p})
}

// DeleteMember takes a person out of the workspace. Keys the person made stay.
func (c *Client) DeleteMember(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: object("/v1/members/%s", id)}, nil)
	return err
}

// CreatePortalSession makes a link that lets one of your own people, whom your
// product has signed in, into the pages of the workspace, once. It takes a key
// with the permission platform.portal. Lead the person's browser to its URL.
func (c *Client) CreatePortalSession(ctx context.Context, workspaceID string, p CreatePortalSession) (PortalSession, error) {
	return fetch[PortalSession](ctx, c, call{method: http.MethodPost, path: object("/v1/workspaces/%s/portal-sessions", workspaceID), body: p, repeatable: true})
}

// ListUsage says which usage to return. The zero value asks for all keys in the
// last 24 hours.
type ListUsage struct {
	Key    string    // Key ID; with it, the answer says where the key was used from
	Since  time.Time // zero: 24 hours ago
	Until  time.Time // zero: now
	Cursor string    // NextCursor of the page before
	Limit  int       // buckets a page, at most 200; 0: 50
}

// Usage returns how often the workspace's keys were used, by key, hour and
// outcome.
func (c *Client) Usage(ctx context.Context, workspaceID string, o ListUsage) (Usage, error) {
	q := url.Values{}
	set(q, "key", o.Key)
	setTime(q, "since", o.Since)
	setTime(q, "until", o.Until)
	setPage(q, o.Cursor, o.Limit)
	return fetch[Usage](ctx, c, get(object("/v1/workspaces/%s/usage", workspaceID), q))
}

// ListAudit says which audit entries to return. The zero value asks for the
// newest.
type ListAudit struct {
	Action string    // such as key.revoked, or key.* for all that happens to keys
	Object string    // id of what was acted on, or a part of its name
	Actor  string    // id of who acted, or a part of their name
	Since  time.Time // zero: from the beginning
	Until  time.Time // zero: now
	Cursor string    // NextCursor of the page before
	Limit  int       // entries a page, at most 200; 0: 50
}

// Audit returns a page of the workspace's audit log, newest first.
func (c *Client) Audit(ctx context.Context, workspaceID string, o ListAudit) (AuditList, error) {
	q := url.Values{}
	set(q, "action", o.Action)
	set(q, "object", o.Object)
	set(q, "actor", o.Actor)
	setTime(q, "since", o.Since)
	setTime(q, "until", o.Until)
	setPage(q, o.Cursor, o.Limit)
	return fetch[AuditList](ctx, c, get(object("/v1/workspaces/%s/audit", workspaceID), q))
}

// ListAlerts says which alerts to return. The zero value asks for the open ones.
type ListAlerts struct {
	State  string // open, closed or all; empty: open
	Cursor string // NextCursor of the page before
	Limit  int    // alerts a page, at most 200; 0: 50
}

// Alerts returns a page of the workspace's alerts, newest first.
func (c *Client) Alerts(ctx context.Context, workspaceID string, o ListAlerts) (List[Alert], error) {
	q := url.Values{}
	set(q, "state", o.State)
	setPage(q, o.Cursor, o.Limit)
	return fetch[List[Alert]](ctx, c, get(object("/v1/workspaces/%s/alerts", workspaceID), q))
}

// AllAlerts returns the workspace's alerts, newest first, page by page as they
// are taken. It ends with the first error.
func (c *Client) AllAlerts(ctx context.Context, workspaceID string, o ListAlerts) iter.Seq2[Alert, error] {
	return all(o.Cursor, "alerts", func(cursor string) (List[Alert], error) {
		o.Cursor = cursor
		return c.Alerts(ctx, workspaceID, o)
	})
}

// SeeAlert notes that somebody has seen an alert, and returns it. It stays open
// until its cause is gone, and counts as unseen again at its next stage.
func (c *Client) SeeAlert(ctx context.Context, id string) (Alert, error) {
	return fetch[Alert](ctx, c, call{method: http.MethodPost, path: object("/v1/alerts/%s/seen", id), repeatable: true})
}

// Plans returns which plan and which role allows what.
func (c *Client) Plans(ctx context.Context) (PlanMatrix, error) {
	return fetch[PlanMatrix](ctx, c, get("/v1/plans", nil))
}
