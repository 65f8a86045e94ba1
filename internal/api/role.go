package api

import (
	"context"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

type listInput struct {
	ByID
	Paged
}

func (a *API) listRoles(ctx context.Context, in *listInput) (*answer[keystile.List[keystile.Role]], error) {
	return answerWith(a.keyring.Roles(ctx, entry.Actor(ctx), in.ID, in.Cursor, in.Limit))
}

type createRoleInput struct {
	ByID
	Idempotent
	Body keystile.CreateRole
}

func (a *API) createRole(ctx context.Context, in *createRoleInput) (*created[keystile.Role], error) {
	return createdWith(a.keyring.CreateRole(ctx, entry.Actor(ctx), in.ID, in.Body, in.of("POST /v1/workspaces/"+in.ID+"/roles")))
}

func (a *API) showRole(ctx context.Context, in *ByID) (*answer[keystile.Role], error) {
	return answerWith(a.keyring.Role(ctx, entry.Actor(ctx), in.ID))
}

type updateRoleInput struct {
	ByID
	Body keystile.RolePatch
}

func (a *API) updateRole(ctx context.Context, in *updateRoleInput) (*answer[keystile.Role], error) {
	return answerWith(a.keyring.UpdateRole(ctx, entry.Actor(ctx), in.ID, in.Body))
}

func (a *API) deleteRole(ctx context.Context, in *ByID) (*nothing, error) {
	return nil, a.keyring.DeleteRole(ctx, entry.Actor(ctx), in.ID)
}

func (a *API) listMembers(ctx context.Context, in *listInput) (*answer[keystile.List[keystile.Member]], error) {
	return answerWith(a.keyring.Members(ctx, entry.Actor(ctx), in.ID, in.Cursor, in.Limit))
}

type createMemberInput struct {
	ByID
	Idempotent
	Body keystile.CreateMember
}

func (a *API) createMember(ctx context.Context, in *createMemberInput) (*created[keystile.Member], error) {
	return createdWith(a.keyring.CreateMember(ctx, entry.Actor(ctx), in.ID, in.Body, in.of("POST /v1/workspaces/"+in.ID+"/members")))
}

func (a *API) showMember(ctx context.Context, in *ByID) (*answer[keystile.Member], error) {
	return answerWith(a.keyring.Member(ctx, entry.Actor(ctx), in.ID))
}

type updateMemberInput struct {
	ByID
	Body keystile.MemberPatch
}

func (a *API) updateMember(ctx context.Context, in *updateMemberInput) (*answer[keystile.Member], error) {
	return answerWith(a.keyring.UpdateMember(ctx, entry.Actor(ctx), in.ID, in.Body))
}

func (a *API) deleteMember(ctx context.Context, in *ByID) (*nothing, error) {
	return nil, a.keyring.DeleteMember(ctx, entry.Actor(ctx), in.ID)
}
