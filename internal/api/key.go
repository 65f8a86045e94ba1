package api

import (
	"context"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
	"github.com/keystile/keystile/internal/keyring"
)

// ByID is the input of routes that take nothing but an ID. The parts that inputs
// share are exported because huma does not look into others. The ID has no
// bound here: whatever is none must be answered like one that does not exist.
type ByID struct {
	ID string `path:"id"`
}

// answer is the output of routes that answer with one object.
type answer[T any] struct{ Body T }

func answerWith[T any](v T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{v}, nil
}

// created is the output of routes that make an object.
type created[T any] struct {
	Replayed string `header:"Idempotency-Replayed" doc:"true when this request was answered before"`
	Body     T
}

func createdWith[T any](v T, replayed bool, err error) (*created[T], error) {
	if err != nil {
		return nil, err
	}
	out := &created[T]{Body: v}
	if replayed {
		out.Replayed = "true"
	}
	return out, nil
}

// Idempotent is the part of the input of routes that make an object.
type Idempotent struct {
	Key string `header:"Idempotency-Key" maxLength:"255" pattern:"^[!-~]*$" patternDescription:"printable ASCII without spaces" doc:"Repeating the request with the same value within 24 hours makes nothing new"`
}

func (i Idempotent) of(route string) keyring.Idempotency {
	return keyring.Idempotency{Key: i.Key, Route: route}
}

// Paged is the part of the input of lists.
type Paged struct {
	Cursor string `query:"cursor" maxLength:"64" doc:"next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

type nothing struct{}

type listKeysInput struct {
	ByID
	Paged
	Status  string `query:"status" enum:"active,disabled,revoked,expired,all" default:"all"`
	Query   string `query:"q" maxLength:"100" doc:"Part of the name, description, owner, preview or ID"`
	Creator string `query:"created_by" maxLength:"64" doc:"ID of the key or person that made them"`
}

func (a *API) listKeys(ctx context.Context, in *listKeysInput) (*answer[keystile.List[keystile.Key]], error) {
	return answerWith(a.keyring.Keys(ctx, entry.Actor(ctx), in.ID, keyring.KeyQuery{
		Status: in.Status, Query: in.Query, Creator: in.Creator, Cursor: in.Cursor, Limit: in.Limit,
	}))
}

type createKeyInput struct {
	ByID
	Idempotent
	Body keystile.CreateKey
}

func (a *API) createKey(ctx context.Context, in *createKeyInput) (*created[keystile.CreatedKey], error) {
	return createdWith(a.keyring.CreateKey(ctx, entry.Actor(ctx), in.ID, in.Body, in.of("POST /v1/workspaces/"+in.ID+"/keys")))
}

func (a *API) showKey(ctx context.Context, in *ByID) (*answer[keystile.Key], error) {
	return answerWith(a.keyring.Key(ctx, entry.Actor(ctx), in.ID))
}

type updateKeyInput struct {
	ByID
	Body keystile.KeyPatch
}

func (a *API) updateKey(ctx context.Context, in *updateKeyInput) (*answer[keystile.Key], error) {
	return answerWith(a.keyring.UpdateKey(ctx, entry.Actor(ctx), in.ID, in.Body))
}

func (a *API) deleteKey(ctx context.Context, in *ByID) (*nothing, error) {
	return nil, a.keyring.DeleteKey(ctx, entry.Actor(ctx), in.ID)
}

type revokeKeyInput struct {
	ByID
	Body *keystile.RevokeKey
}

func (a *API) revokeKey(ctx context.Context, in *revokeKeyInput) (*answer[keystile.Key], error) {
	return answerWith(a.keyring.RevokeKey(ctx, entry.Actor(ctx), in.ID, orZero(in.Body)))
}

type disableKeyInput struct {
	ByID
	Body *keystile.DisableKey
}

func (a *API) disableKey(ctx context.Context, in *disableKeyInput) (*answer[keystile.Key], error) {
	return answerWith(a.keyring.DisableKey(ctx, entry.Actor(ctx), in.ID, orZero(in.Body)))
}

func (a *API) enableKey(ctx context.Context, in *ByID) (*answer[keystile.Key], error) {
	return answerWith(a.keyring.EnableKey(ctx, entry.Actor(ctx), in.ID))
}

func (a *API) reviewKey(ctx context.Context, in *ByID) (*answer[keystile.Key], error) {
	return answerWith(a.keyring.ReviewKey(ctx, entry.Actor(ctx), in.ID))
}

type rotateKeyInput struct {
	ByID
	Idempotent
	Body *keystile.RotateKey
}

func (a *API) rotateKey(ctx context.Context, in *rotateKeyInput) (*created[keystile.CreatedKey], error) {
	return createdWith(a.keyring.RotateKey(ctx, entry.Actor(ctx), in.ID, orZero(in.Body), in.of("POST /v1/keys/"+in.ID+"/rotate")))
}

// orZero is the body, or an empty one where it may be left out.
func orZero[T any](body *T) T {
	if body == nil {
		var zero T
		return zero
	}
	return *body
}
