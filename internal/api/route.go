package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/entry"
)

// anyMethod marks a route that takes every method.
const anyMethod = ""

// route is one row of the list of routes.
type route struct {
	method  string
	path    string
	id      string // operation ID in OpenAPI
	tag     string
	status  int
	who     string // who may enter: the permission that the keyring asks for
	summary string
	add     func(a *API, h huma.API, r route)
}

// routes is the list of everything under /v1.
func (a *API) routes() []route {
	const keys, workspaces, people, logs, checks, nodes = "Keys", "Workspaces", "Roles and members", "Logs", "Checking keys", "Nodes and replicas"
	const webhooks, events = "Webhooks", "Endpoints and events"
	return []route{
		{"POST", "/v1/verify", "verify", checks, 200, "platform.verify, or api.key.verify for keys of the own workspace", "Check a key", byHand(visited(a.verify))},
		{"POST", "/v1/verify/batch", "verifyBatch", checks, 200, "platform.verify, or api.key.verify for keys of the own workspace", "Check up to 1000 keys", byHand(visited(a.verifyBatch))},
		{anyMethod, "/v1/forward-auth", "forwardAuth", checks, 200, "the key that is checked", "Check the key of a request that a gateway holds", byHand(visited(a.forwardAuth))},
		{"GET", "/v1/me", "me", checks, 200, "the key that is asked about", "What the presented key is", byHand(a.me)},

		{"GET", "/v1/workspaces/{id}/keys", "listKeys", keys, 200, "api.key.view", "List keys", typed(a.listKeys)},
		{"POST", "/v1/workspaces/{id}/keys", "createKey", keys, 201, "api.key.create", "Create a key; its secret is in this answer and nowhere else", typed(a.createKey)},
		{"GET", "/v1/keys/{id}", "showKey", keys, 200, "api.key.view", "Show a key", typed(a.showKey)},
		{"PATCH", "/v1/keys/{id}", "updateKey", keys, 200, "api.key.update", "Edit a key", typed(a.updateKey)},
		{"DELETE", "/v1/keys/{id}", "deleteKey", keys, 204, "api.key.delete", "Delete a key for good", typed(a.deleteKey)},
		{"POST", "/v1/keys/{id}/revoke", "revokeKey", keys, 200, "api.key.delete", "Revoke a key; in force everywhere when this returns", typed(a.revokeKey)},
		{"POST", "/v1/keys/{id}/disable", "disableKey", keys, 200, "api.key.update", "Disable a key until it is enabled again", typed(a.disableKey)},
		{"POST", "/v1/keys/{id}/enable", "enableKey", keys, 200, "api.key.update", "Enable a disabled key", typed(a.enableKey)},
		{"POST", "/v1/keys/{id}/rotate", "rotateKey", keys, 201, "api.key.create and api.key.delete", "Replace a key, both valid for an overlap", typed(a.rotateKey)},
		{"POST", "/v1/keys/{id}/review", "reviewKey", keys, 200, "api.key.update", "Note that a key was reviewed", typed(a.reviewKey)},

		{"GET", "/v1/workspaces/{id}/webhook-secrets", "listWebhookSecrets", webhooks, 200, "api.webhook_secret.view; api.endpoint.view for those of an endpoint", "List webhook secrets", typed(a.listWebhookSecrets)},
		{"POST", "/v1/workspaces/{id}/webhook-secrets", "createWebhookSecret", webhooks, 201, "api.webhook_secret.create; api.endpoint.update for that of an endpoint", "Create a webhook secret; it is in this answer and nowhere else", typed(a.createWebhookSecret)},
		{"GET", "/v1/webhook-secrets/{id}", "showWebhookSecret", webhooks, 200, "api.webhook_secret.view; api.endpoint.view for one of an endpoint", "Show all about a webhook secret but the secret", typed(a.showWebhookSecret)},
		{"PATCH", "/v1/webhook-secrets/{id}", "updateWebhookSecret", webhooks, 200, "api.webhook_secret.update; api.endpoint.update for one of an endpoint", "Edit a webhook secret", typed(a.updateWebhookSecret)},
		{"DELETE", "/v1/webhook-secrets/{id}", "deleteWebhookSecret", webhooks, 204, "api.webhook_secret.delete; api.endpoint.update for one of an endpoint", "Delete a webhook secret for good", typed(a.deleteWebhookSecret)},
		{"POST", "/v1/webhook-secrets/{id}/revoke", "revokeWebhookSecret", webhooks, 200, "api.webhook_secret.delete; api.endpoint.update for one of an endpoint", "Revoke a webhook secret; no server signs with it when this returns", typed(a.revokeWebhookSecret)},
		{"POST", "/v1/webhook-secrets/{id}/test", "testWebhookSecret", webhooks, 200, "api.webhook_secret.sign; platform.endpoint.allow for allow_ranges", "Send a test signed with this secret alone to a URL, and wait for the answer", typed(a.testWebhookSecret)},
		{"POST", "/v1/webhook-secrets/{id}/rotate", "rotateWebhookSecret", webhooks, 201, "api.webhook_secret.create and api.webhook_secret.delete; api.endpoint.update for one of an endpoint", "Replace a webhook secret, both signing for an overlap", typed(a.rotateWebhookSecret)},
		{"POST", "/v1/workspaces/{id}/webhooks/sign", "signWebhook", webhooks, 200, "api.webhook_secret.sign", "Sign a webhook of your product", typed(a.signWebhook)},
		{"POST", "/v1/workspaces/{id}/webhooks/verify", "verifyWebhook", webhooks, 200, "api.webhook_secret.view", "Verify a webhook of your product as it was received, and find out why it fails", typed(a.verifyWebhook)},

		{"GET", "/v1/workspaces", "listWorkspaces", workspaces, 200, "api.workspace.view, or platform.workspace.view for all", "List workspaces", typed(a.listWorkspaces)},
		{"POST", "/v1/workspaces", "createWorkspace", workspaces, 201, "platform.workspace.create", "Create a workspace", typed(a.createWorkspace)},
		{"GET", "/v1/workspaces/{id}", "showWorkspace", workspaces, 200, "api.workspace.view", "Show a workspace", typed(a.showWorkspace)},
		{"PATCH", "/v1/workspaces/{id}", "updateWorkspace", workspaces, 200, "api.workspace.update; platform.workspace.update for the plan, platform.workspace.suspend to suspend", "Edit, suspend or resume a workspace", typed(a.updateWorkspace)},
		{"DELETE", "/v1/workspaces/{id}", "deleteWorkspace", workspaces, 204, "platform.workspace.delete", "Delete a workspace with all that is in it", typed(a.deleteWorkspace)},
		{"GET", "/v1/plans", "listPlans", workspaces, 200, "any valid key", "Which plan and which role allows what", typed(a.listPlans)},

		{"GET", "/v1/workspaces/{id}/roles", "listRoles", people, 200, "api.role.view", "List roles", typed(a.listRoles)},
		{"POST", "/v1/workspaces/{id}/roles", "createRole", people, 201, "api.role.create", "Create a role", typed(a.createRole)},
		{"GET", "/v1/roles/{id}", "showRole", people, 200, "api.role.view", "Show a role", typed(a.showRole)},
		{"PATCH", "/v1/roles/{id}", "updateRole", people, 200, "api.role.update", "Edit a role", typed(a.updateRole)},
		{"DELETE", "/v1/roles/{id}", "deleteRole", people, 204, "api.role.delete", "Delete a role that nobody has", typed(a.deleteRole)},
		{"GET", "/v1/workspaces/{id}/members", "listMembers", people, 200, "api.member.view", "List members", typed(a.listMembers)},
		{"POST", "/v1/workspaces/{id}/members", "createMember", people, 201, "api.member.create", "Invite a member", typed(a.createMember)},
		{"GET", "/v1/members/{id}", "showMember", people, 200, "api.member.view", "Show a member", typed(a.showMember)},
		{"PATCH", "/v1/members/{id}", "updateMember", people, 200, "api.member.update", "Give a member another role", typed(a.updateMember)},
		{"DELETE", "/v1/members/{id}", "deleteMember", people, 204, "api.member.delete", "Remove a member", typed(a.deleteMember)},

		{"POST", "/v1/workspaces/{id}/portal-sessions", "createPortalSession", people, 201, "platform.portal", "Create a one-time link that lets one of your own people into the pages of a workspace", typed(a.createPortalSession)},

		{"GET", "/v1/workspaces/{id}/endpoints", "listEndpoints", events, 200, "api.endpoint.view", "List endpoints", typed(a.listEndpoints)},
		{"POST", "/v1/workspaces/{id}/endpoints", "createEndpoint", events, 201, "api.endpoint.create and what it takes to see each type of event named; platform.endpoint.allow for allow_ranges", "Create an endpoint; its first secret is in this answer and nowhere else", typed(a.createEndpoint)},
		{"GET", "/v1/endpoints/{id}", "showEndpoint", events, 200, "api.endpoint.view", "Show an endpoint", typed(a.showEndpoint)},
		{"PATCH", "/v1/endpoints/{id}", "updateEndpoint", events, 200, "api.endpoint.update, and what it takes to see each type of event when the URL or the types change; platform.endpoint.allow for allow_ranges", "Edit an endpoint", typed(a.updateEndpoint)},
		{"DELETE", "/v1/endpoints/{id}", "deleteEndpoint", events, 204, "api.endpoint.delete", "Delete an endpoint with its secrets and deliveries", typed(a.deleteEndpoint)},
		{"POST", "/v1/endpoints/{id}/pause", "pauseEndpoint", events, 200, "api.endpoint.update", "Have events wait", typed(a.pauseEndpoint)},
		{"POST", "/v1/endpoints/{id}/resume", "resumeEndpoint", events, 200, "api.endpoint.update", "Have events sent again, those first that have waited", typed(a.resumeEndpoint)},
		{"POST", "/v1/endpoints/{id}/test", "testEndpoint", events, 200, "api.endpoint.update", "Send a test delivery and wait for the answer", typed(a.testEndpoint)},
		{"POST", "/v1/endpoints/{id}/replay", "replayEvents", events, 200, "api.endpoint.update", "Send failed deliveries again", typed(a.replayEvents)},
		{"GET", "/v1/endpoints/{id}/deliveries", "listDeliveries", events, 200, "api.endpoint.view", "List deliveries", typed(a.listDeliveries)},
		{"GET", "/v1/deliveries/{id}", "showDelivery", events, 200, "api.endpoint.view", "Show a delivery with its attempts, and its payload to who may see such events", typed(a.showDelivery)},
		{"POST", "/v1/deliveries/{id}/retry", "retryDelivery", events, 200, "api.endpoint.update", "Send an event again, whatever became of it", typed(a.retryDelivery)},
		{"GET", "/v1/event-types", "listEventTypes", events, 200, "any valid key", "Every type of event with its JSON schema", typed(a.listEventTypes)},

		{"GET", "/v1/workspaces/{id}/usage", "listUsage", logs, 200, "api.usage.view", "Uses of keys by hour", typed(a.listUsage)},
		{"GET", "/v1/workspaces/{id}/audit", "listAudit", logs, 200, "api.audit.view", "Who changed what, when and from where", typed(a.listAudit)},
		{"GET", "/v1/workspaces/{id}/alerts", "listAlerts", logs, 200, "api.usage.view", "What somebody should see to", typed(a.listAlerts)},
		{"POST", "/v1/alerts/{id}/seen", "seeAlert", logs, 200, "api.usage.view, api.key.update or api.webhook_secret.update", "Note that somebody has seen an alert, which stays open until its cause is gone", typed(a.seeAlert)},

		{"GET", "/v1/nodes", "listNodes", nodes, 200, "platform.nodes", "List the servers of this installation, and how far each has come", typed(a.listNodes)},
		{"GET", "/v1/replica", "replicate", nodes, 200, "platform.replica", "Attach a replica; package replica and keystile agent do so", unlisted(a.replicate)},
		{"POST", "/v1/replica/{attachment}", "grantLease", nodes, 200, "platform.replica", "Give a replica a lease and take what it has counted", unlisted(a.grantLease)},
		{"DELETE", "/v1/replica/{attachment}", "releaseReplica", nodes, 204, "platform.replica", "Note that a replica answers no more", unlisted(a.releaseReplica)},
	}
}

// operation is the row in OpenAPI's terms.
func (r route) operation() huma.Operation {
	most := int64(maxBody)
	if r.id == "signWebhook" || r.id == "verifyWebhook" {
		most = maxPayloadBody
	}
	return huma.Operation{
		Method: r.method, Path: r.path, OperationID: r.id, Tags: []string{r.tag}, Summary: r.summary,
		Description: "Who may: " + r.who + ".", DefaultStatus: r.status,
		MaxBodyBytes: most, BodyReadTimeout: bodyTimeout, RejectUnknownQueryParameters: true,
	}
}

// typed adds a route that huma reads, checks and writes.
func typed[I, O any](handler func(context.Context, *I) (*O, error)) func(*API, huma.API, route) {
	return func(_ *API, h huma.API, r route) {
		huma.Register(h, r.operation(), func(ctx context.Context, in *I) (*O, error) {
			out, err := handler(ctx, in)
			if err != nil {
				return nil, fail(ctx, err)
			}
			return out, nil
		})
	}
}

// byHand adds a route that is asked too often for huma: reading and checking
// by reflection costs more there than everything else.
func byHand(handler http.HandlerFunc) func(*API, huma.API, route) {
	return func(a *API, h huma.API, r route) {
		a.mux.HandleFunc(r.pattern(), handler)
		op := r.operation()
		if op.Method == "" {
			op.Method = http.MethodGet
		}
		describe(h, &op, r)
		h.OpenAPI().AddOperation(&op)
	}
}

// visited makes a handler of one that [API.Direct] hands out.
func visited(handler func(*entry.Visit, *http.Request)) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) { handler(entry.Of(r.Context()), r) }
}

// unlisted adds a route that is no part of the description: what servers and
// replicas of this very program say to each other (docs/spec/revocation.md).
func unlisted(handler http.HandlerFunc) func(*API, huma.API, route) {
	return func(a *API, _ huma.API, r route) { a.mux.HandleFunc(r.pattern(), handler) }
}

func (r route) pattern() string {
	if r.method == anyMethod {
		return r.path
	}
	return r.method + " " + r.path
}

// describe writes into OpenAPI what huma would have found out by itself.
func describe(h huma.API, op *huma.Operation, r route) {
	body := func(s *huma.Schema) *huma.RequestBody {
		return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: s}}}
	}
	answer := func(s *huma.Schema) *huma.Response {
		return &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: s}}}
	}
	ok := &huma.Response{Description: "The key is good", Headers: map[string]*huma.Param{}}
	switch r.id {
	case "verify":
		op.RequestBody, ok = body(schema[keystile.VerifyRequest](h)), answer(schema[keystile.Decision](h))
	case "verifyBatch":
		op.RequestBody, ok = body(schema[keystile.VerifyBatch](h)), answer(schema[keystile.DecisionBatch](h))
	case "me":
		ok = answer(schema[keystile.Self](h))
	case "forwardAuth":
		for name, about := range forwardHeaders {
			ok.Headers[name] = &huma.Param{Description: about, Schema: &huma.Schema{Type: huma.TypeString}}
		}
		for _, name := range []string{"permission", "workspace"} {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "query",
				Description: "Refuse the key unless this fits", Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	refused := &huma.Response{
		Description: "A problem (RFC 9457)",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema[keystile.Error](h)}},
	}
	if r.id == "forwardAuth" {
		refused.Headers = map[string]*huma.Param{problemHeader: {
			Description: "The problem of the body as one line of ASCII JSON, 1024 bytes at most, for gateways that drop the body. What does not fit is left out, the last fixes first.",
			Schema:      &huma.Schema{Type: huma.TypeString},
		}}
	}
	op.Responses = map[string]*huma.Response{strconv.Itoa(r.status): ok, "default": refused}
}
