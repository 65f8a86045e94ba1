package api

import (
	"context"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

func (a *API) listEndpoints(ctx context.Context, in *listInput) (*answer[keystile.List[keystile.Endpoint]], error) {
	return answerWith(a.keyring.Endpoints(ctx, entry.Actor(ctx), in.ID, in.Cursor, in.Limit))
}

type createEndpointInput struct {
	ByID
	Idempotent
	Body keystile.CreateEndpoint
}

func (a *API) createEndpoint(ctx context.Context, in *createEndpointInput) (*created[keystile.CreatedEndpoint], error) {
	return createdWith(a.keyring.CreateEndpoint(ctx, entry.Actor(ctx), in.ID, in.Body, in.of("POST /v1/workspaces/"+in.ID+"/endpoints")))
}

func (a *API) showEndpoint(ctx context.Context, in *ByID) (*answer[keystile.Endpoint], error) {
	return answerWith(a.keyring.Endpoint(ctx, entry.Actor(ctx), in.ID))
}

type updateEndpointInput struct {
	ByID
	Body keystile.EndpointPatch
}

func (a *API) updateEndpoint(ctx context.Context, in *updateEndpointInput) (*answer[keystile.Endpoint], error) {
	return answerWith(a.keyring.UpdateEndpoint(ctx, entry.Actor(ctx), in.ID, in.Body))
}

func (a *API) deleteEndpoint(ctx context.Context, in *ByID) (*nothing, error) {
	return nil, a.keyring.DeleteEndpoint(ctx, entry.Actor(ctx), in.ID)
}

type pauseEndpointInput struct {
	ByID
	Body *keystile.PauseEndpoint
}

func (a *API) pauseEndpoint(ctx context.Context, in *pauseEndpointInput) (*answer[keystile.Endpoint], error) {
	return answerWith(a.keyring.PauseEndpoint(ctx, entry.Actor(ctx), in.ID, orZero(in.Body)))
}

func (a *API) resumeEndpoint(ctx context.Context, in *ByID) (*answer[keystile.Endpoint], error) {
	return answerWith(a.keyring.ResumeEndpoint(ctx, entry.Actor(ctx), in.ID))
}

type testEndpointInput struct {
	ByID
	Body *keystile.TestDelivery
}

func (a *API) testEndpoint(ctx context.Context, in *testEndpointInput) (*answer[keystile.TestResult], error) {
	return answerWith(a.courier.TestEndpoint(ctx, entry.Actor(ctx), in.ID, orZero(in.Body)))
}

type testWebhookSecretInput struct {
	ByID
	Body keystile.TestWebhook
}

func (a *API) testWebhookSecret(ctx context.Context, in *testWebhookSecretInput) (*answer[keystile.TestResult], error) {
	return answerWith(a.courier.TestWebhookSecret(ctx, entry.Actor(ctx), in.ID, in.Body))
}

type replayEventsInput struct {
	ByID
	Body keystile.ReplayEvents
}

func (a *API) replayEvents(ctx context.Context, in *replayEventsInput) (*answer[keystile.Replayed], error) {
	return answerWith(a.keyring.ReplayEvents(ctx, entry.Actor(ctx), in.ID, in.Body))
}

type listDeliveriesInput struct {
	ByID
	Paged
	Status string `query:"status" enum:"pending,delivered,failed,all" default:"all"`
}

func (a *API) listDeliveries(ctx context.Context, in *listDeliveriesInput) (*answer[keystile.List[keystile.Delivery]], error) {
	if in.Status == "all" {
		in.Status = ""
	}
	return answerWith(a.keyring.Deliveries(ctx, entry.Actor(ctx), in.ID, keystile.DeliveryStatus(in.Status), in.Cursor, in.Limit))
}

func (a *API) showDelivery(ctx context.Context, in *ByID) (*answer[keystile.DeliveryDetails], error) {
	return answerWith(a.keyring.Delivery(ctx, entry.Actor(ctx), in.ID))
}

func (a *API) retryDelivery(ctx context.Context, in *ByID) (*answer[keystile.Delivery], error) {
	return answerWith(a.keyring.RetryDelivery(ctx, entry.Actor(ctx), in.ID))
}
