package api

import (
	"context"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

type listWorkspacesInput struct {
	Paged
	Query string `query:"q" maxLength:"100" doc:"Part of the name or ID"`
}

func (a *API) listWorkspaces(ctx context.Context, in *listWorkspacesInput) (*answer[keystile.List[keystile.Workspace]], error) {
	return answerWith(a.keyring.Workspaces(ctx, entry.Actor(ctx), in.Query, in.Cursor, in.Limit))
}

type createWorkspaceInput struct {
	Idempotent
	Body keystile.CreateWorkspace
}

func (a *API) createWorkspace(ctx context.Context, in *createWorkspaceInput) (*created[keystile.Workspace], error) {
	return createdWith(a.keyring.CreateWorkspace(ctx, entry.Actor(ctx), in.Body, in.of("POST /v1/workspaces")))
}

func (a *API) showWorkspace(ctx context.Context, in *ByID) (*answer[keystile.Workspace], error) {
	return answerWith(a.keyring.Workspace(ctx, entry.Actor(ctx), in.ID))
}

type updateWorkspaceInput struct {
	ByID
	Body keystile.WorkspacePatch
}

func (a *API) updateWorkspace(ctx context.Context, in *updateWorkspaceInput) (*answer[keystile.Workspace], error) {
	return answerWith(a.keyring.UpdateWorkspace(ctx, entry.Actor(ctx), in.ID, in.Body))
}

func (a *API) deleteWorkspace(ctx context.Context, in *ByID) (*nothing, error) {
	return nil, a.keyring.DeleteWorkspace(ctx, entry.Actor(ctx), in.ID)
}

type createPortalSessionInput struct {
	ByID
	Body keystile.CreatePortalSession
}

func (a *API) createPortalSession(ctx context.Context, in *createPortalSessionInput) (*answer[keystile.PortalSession], error) {
	token, expires, err := a.keyring.CreatePortal(ctx, entry.Actor(ctx), in.ID, in.Body)
	return answerWith(keystile.PortalSession{URL: a.baseURL + "/link/" + token, ExpiresAt: expires}, err)
}

func (a *API) listPlans(ctx context.Context, _ *struct{}) (*answer[keystile.PlanMatrix], error) {
	return answerWith(a.keyring.Plans(entry.Actor(ctx)))
}

type listUsageInput struct {
	ByID
	Cursor string    `query:"cursor" maxLength:"64" doc:"next_cursor of the page before"`
	Limit  int       `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Key    string    `query:"key" maxLength:"64" doc:"Only of this Key ID, with where it was used from"`
	Since  time.Time `query:"since" doc:"Absent: 24 hours ago"`
	Until  time.Time `query:"until" doc:"Absent: now"`
}

func (a *API) listUsage(ctx context.Context, in *listUsageInput) (*answer[keystile.Usage], error) {
	return answerWith(a.keyring.Usage(ctx, entry.Actor(ctx), in.ID, keyring.UsageQuery{
		Key: in.Key, Since: given(in.Since), Until: given(in.Until), Cursor: in.Cursor, Limit: in.Limit,
	}))
}

type listAuditInput struct {
	ByID
	Paged
	Action string    `query:"action" maxLength:"64" doc:"Such as key.revoked, or key.* for all of keys"`
	Object string    `query:"object" maxLength:"100" doc:"ID of what was changed, or a part of its name in upper or lower case"`
	Actor  string    `query:"actor" maxLength:"100" doc:"ID of who changed it, or a part of their name in upper or lower case, or their kind: person, key, operator or system"`
	Since  time.Time `query:"since"`
	Until  time.Time `query:"until"`
}

func (a *API) listAudit(ctx context.Context, in *listAuditInput) (*answer[keystile.AuditList], error) {
	return answerWith(a.keyring.Audit(ctx, entry.Actor(ctx), in.ID, keyring.AuditQuery{
		Action: in.Action, Object: in.Object, Actor: in.Actor,
		Since: given(in.Since), Until: given(in.Until), Cursor: in.Cursor, Limit: in.Limit,
	}))
}

type listAlertsInput struct {
	ByID
	Paged
	State string `query:"state" enum:"open,closed,all" default:"open"`
}

func (a *API) listAlerts(ctx context.Context, in *listAlertsInput) (*answer[keystile.List[keystile.Alert]], error) {
	return answerWith(a.keyring.Alerts(ctx, entry.Actor(ctx), in.ID, keyring.AlertQuery{State: in.State, Cursor: in.Cursor, Limit: in.Limit}))
}

func (a *API) seeAlert(ctx context.Context, in *ByID) (*answer[keystile.Alert], error) {
	return answerWith(a.keyring.AcknowledgeAlert(ctx, entry.Actor(ctx), "", in.ID))
}

// given is a time from the query, nil when it was left out.
func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
