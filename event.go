package keystile

import (
	"strings"
	"time"
)

// Event is what an endpoint gets: something that happened in a workspace. It
// carries no secret. The same event may come more than once, with the same ID.
type Event struct {
	ID          string    `json:"id" example:"evt_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	Type        string    `json:"type" example:"key.revoked"`
	Timestamp   time.Time `json:"timestamp" doc:"When it happened"`
	WorkspaceID string    `json:"workspace_id"`
	Data        EventData `json:"data"`
}

// EventData holds the object that an event is about, as it was right after, or
// right before it was deleted. Exactly the member that [EventType.Object] names
// is there.
type EventData struct {
	Key           *Key                 `json:"key,omitempty"`
	WebhookSecret *WebhookSecretRecord `json:"webhook_secret,omitempty"`
	Workspace     *Workspace           `json:"workspace,omitempty"`
	Role          *Role                `json:"role,omitempty"`
	Member        *Member              `json:"member,omitempty"`
	Endpoint      *Endpoint            `json:"endpoint,omitempty"`
	Alert         *Alert               `json:"alert,omitempty"`
	Subject       *EventSubject        `json:"subject,omitempty"`
}

// EventSubject is what an event is about that has no object on the wire, such
// as a session.
type EventSubject struct {
	ID     string `json:"id,omitempty"`
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     Party  `json:"by" doc:"Who did it"`
}

// EventType describes a type of event.
type EventType struct {
	Type        string `json:"type" example:"key.revoked"`
	Description string `json:"description"`
	Permission  string `json:"permission" doc:"What it takes to subscribe to it"`
	Object      string `json:"object" doc:"The member of data that is there"`
}

// The types of test deliveries, which are sent on request alone.
const (
	EventEndpointTest      = "endpoint.test"
	EventWebhookSecretTest = "webhook_secret.test"
)

// EventTypes is the list of every type of event that an endpoint can get, by
// branch. That a workspace was made or deleted is not among them: it has no
// endpoint then.
func EventTypes() []EventType {
	const (
		keys, members, roles     = "api.key.view", "api.member.view", "api.role.view"
		secrets, usage           = "api.webhook_secret.view", "api.usage.view"
		workspaces, ends, audits = "api.workspace.view", "api.endpoint.view", "api.audit.view"
	)
	return []EventType{
		{"key.created", "A key was created, or made as the replacement of another", keys, "key"},
		{"key.updated", "A key was edited", keys, "key"},
		{"key.rotated", "A key was replaced; replaced_by names the new one", keys, "key"},
		{"key.disabled", "A key was disabled", keys, "key"},
		{"key.enabled", "A disabled key was enabled", keys, "key"},
		{"key.reviewed", "Someone noted that they reviewed a key", keys, "key"},
		{"key.revoked", "A key was revoked", keys, "key"},
		{"key.expired", "A key reached its end", keys, "key"},
		{"key.rolled_back", "A key got its former end back when its replacement was revoked", keys, "key"},
		{"key.deleted", "A key was deleted, by someone or by retention", keys, "key"},
		{string(AlertKeyExposed), "A key was revoked because others may have it", keys, "alert"},
		{string(AlertKeyExpiring), "The end of a key comes near; once for each stage, such as 30d, 7d and 1d before", keys, "alert"},
		{string(AlertKeyRotationDue), "A key comes near the age that the profile recommends, and again when it is past", keys, "alert"},
		{string(AlertKeyIdle), "A key was not used for as long as the profile allows", keys, "alert"},
		{string(AlertKeyStillUsed), "A replaced key is near its end and still in use", keys, "alert"},
		{string(AlertKeyStillTried), "A key that is revoked or expired is still being tried", keys, "alert"},

		{string(AlertAuthFailures), "Far more keys than usual are refused", usage, "alert"},
		{EventAuthFailuresEnded, "No more keys than usual are refused any more", usage, "alert"},

		{"webhook_secret.created", "A webhook secret was created, or made as the replacement of another", secrets, "webhook_secret"},
		{"webhook_secret.updated", "A webhook secret was edited", secrets, "webhook_secret"},
		{"webhook_secret.rotated", "A webhook secret was replaced; replaced_by names the new one", secrets, "webhook_secret"},
		{"webhook_secret.rolled_back", "A webhook secret got its former end back when its replacement was revoked", secrets, "webhook_secret"},
		{"webhook_secret.revoked", "A webhook secret was revoked", secrets, "webhook_secret"},
		{"webhook_secret.expired", "A webhook secret reached its end", secrets, "webhook_secret"},
		{string(AlertSecretExposed), "A webhook secret was revoked because others may have it", secrets, "alert"},
		{string(AlertSecretExpiring), "The end of a webhook secret comes near; once for each stage, such as 30d, 7d and 1d before", secrets, "alert"},
		{string(AlertSecretRotationDue), "A webhook secret comes near the age that the profile recommends, and again when it is past", secrets, "alert"},
		{"webhook_secret.deleted", "A webhook secret was deleted, by someone or by retention", secrets, "webhook_secret"},
		{EventWebhookSecretTest, "Someone asked for a test delivery signed with a webhook secret", secrets, "webhook_secret"},

		{"workspace.updated", "A workspace was renamed, or its plan or allowlist changed", workspaces, "workspace"},
		{"workspace.suspended", "A workspace was suspended", workspaces, "workspace"},
		{"workspace.resumed", "A suspended workspace was resumed", workspaces, "workspace"},

		{"role.created", "A role was created", roles, "role"},
		{"role.updated", "A role was edited", roles, "role"},
		{"role.deleted", "A role was deleted", roles, "role"},

		{"member.invited", "A person was invited", members, "member"},
		{"member.joined", "A person took up their place", members, "subject"},
		{"member.recovered", "A person came back by a link, in place of the passkeys that they had", members, "subject"},
		{"member.updated", "A member got another role", members, "member"},
		{"member.removed", "A member was removed", members, "member"},
		{"member.link_created", "A link was made that lets a member in", members, "subject"},

		{"endpoint.created", "An endpoint was created", ends, "endpoint"},
		{"endpoint.updated", "An endpoint was edited", ends, "endpoint"},
		{string(AlertEndpointFailing), "An endpoint has accepted nothing for half an hour, and again when it is stopped for that", ends, "alert"},
		{"endpoint.paused", "An endpoint was paused, by someone or because nothing was accepted for days", ends, "endpoint"},
		{"endpoint.disabled", "An endpoint was disabled, since its receiver answered 410 Gone", ends, "endpoint"},
		{"endpoint.resumed", "An endpoint was resumed", ends, "endpoint"},
		{"endpoint.deleted", "An endpoint was deleted", ends, "endpoint"},
		{EventEndpointTest, "Someone asked for a test delivery to an endpoint", ends, "endpoint"},

		{"session.began", "Someone signed in", audits, "subject"},
		{"session.ended", "Someone signed out, or was signed out", audits, "subject"},
		{"session.refused", "A sign-in was refused", audits, "subject"},
		{"passkey.added", "A passkey was added", audits, "subject"},
		{"passkey.renamed", "A passkey was renamed", audits, "subject"},
		{"passkey.removed", "A passkey was removed", audits, "subject"},
		{"passkey.refused", "A passkey was refused", audits, "subject"},
		{"link.created", "A link was made that lets someone in", audits, "subject"},
		{"portal.created", "A link was made that lets one of the product's own people in", audits, "subject"},
	}
}

// EventTypeOf finds a type by its name.
func EventTypeOf(name string) (EventType, bool) {
	for _, t := range EventTypes() {
		if t.Type == name {
			return t, true
		}
	}
	return EventType{}, false
}

// EventMatches tells whether a pattern of an endpoint's event_types, such as
// "key.revoked", "key.*" or "*", matches a type.
func EventMatches(pattern, name string) bool {
	branch, ok := strings.CutSuffix(pattern, "*")
	return pattern == name || ok && strings.HasPrefix(name, branch)
}
