package keystile

import (
	"encoding/json"
	"time"
)

// An EndpointStatus tells whether an endpoint gets its events.
type EndpointStatus string

const (
	EndpointActive   EndpointStatus = "active"
	EndpointPaused   EndpointStatus = "paused"   // by people, or because nothing was accepted for days; events wait
	EndpointDisabled EndpointStatus = "disabled" // the receiver answered 410 Gone; events wait
)

// Endpoint is a URL of a workspace's own that gets events by POST, signed as
// Standard Webhooks says.
type Endpoint struct {
	ID           string         `json:"id" example:"ep_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	WorkspaceID  string         `json:"workspace_id"`
	URL          string         `json:"url" example:"https://example.com/keystile"`
	Description  string         `json:"description,omitempty"`
	EventTypes   []string       `json:"event_types" nullable:"false" doc:"What it gets: types, key.* for a branch, * for all"`
	Status       EndpointStatus `json:"status" enum:"active,paused,disabled"`
	StatusReason string         `json:"status_reason,omitempty" doc:"Why it is not active"`
	FailingSince *time.Time     `json:"failing_since,omitempty" doc:"Since when no attempt has succeeded; absent while they do"`
	LastFailure  *Attempt       `json:"last_failure,omitempty" doc:"The latest attempt that failed, without the answer's body; absent while attempts succeed"`
	AllowRanges  []string       `json:"allow_ranges,omitempty" doc:"Addresses of the operator's network that the operator lets it reach"`
	CreatedAt    time.Time      `json:"created_at"`
	CreatedBy    Party          `json:"created_by"`
	UpdatedAt    time.Time      `json:"updated_at"`
}

// CreateEndpoint says what endpoint to make.
type CreateEndpoint struct {
	URL         string   `json:"url" minLength:"1" maxLength:"500" doc:"Begins with https://"`
	Description string   `json:"description,omitempty" maxLength:"500"`
	EventTypes  []string `json:"event_types" nullable:"false" minItems:"1" maxItems:"100" doc:"Types, key.* for a branch, * for all"`
	AllowRanges []string `json:"allow_ranges,omitempty" maxItems:"20" doc:"Operators: addresses of your own network that it may reach, by http as well"`
}

// EndpointPatch says what to change of an endpoint. Absent fields stay as they are.
type EndpointPatch struct {
	URL         *string   `json:"url,omitempty" minLength:"1" maxLength:"500"`
	Description *string   `json:"description,omitempty" maxLength:"500"`
	EventTypes  *[]string `json:"event_types,omitempty" minItems:"1" maxItems:"100"`
	AllowRanges *[]string `json:"allow_ranges,omitempty" maxItems:"20" doc:"Operators: empty for none"`
}

// CreatedEndpoint is the one answer that carries an endpoint's first secret.
type CreatedEndpoint struct {
	Endpoint      Endpoint            `json:"endpoint"`
	WebhookSecret WebhookSecretRecord `json:"webhook_secret" doc:"The secret's record; rotate it under its own ID"`
	Secret        string              `json:"secret,omitempty" doc:"What its deliveries are signed with, shown this once; absent in the replay of an idempotent request"`
}

// PauseEndpoint says why an endpoint is paused.
type PauseEndpoint struct {
	Reason string `json:"reason,omitempty" maxLength:"200"`
}

// TestDelivery says how to sign a test delivery to an endpoint.
type TestDelivery struct {
	WebhookSecret string `json:"webhook_secret,omitempty" maxLength:"64" doc:"ID of the one secret of the endpoint to sign with; absent: all that are live"`
}

// TestWebhook says where to send a test signed with one of a workspace's own
// webhook secrets.
type TestWebhook struct {
	URL         string   `json:"url" minLength:"1" maxLength:"500" doc:"Begins with https://"`
	AllowRanges []string `json:"allow_ranges,omitempty" maxItems:"20" doc:"Operators: addresses of your own network that the URL may lead to, by http as well"`
}

// TestResult tells what became of a test delivery.
type TestResult struct {
	Delivered bool    `json:"delivered" doc:"The receiver answered with a status from 200 to 299"`
	EventID   string  `json:"event_id" doc:"The webhook-id that it was sent with"`
	Attempt   Attempt `json:"attempt"`
}

// ReplayEvents says which failed deliveries of an endpoint to send again.
type ReplayEvents struct {
	Since time.Time `json:"since" doc:"Those of events that happened at this time or later"`
}

// Replayed tells how many deliveries are sent again.
type Replayed struct {
	Deliveries int `json:"deliveries"`
}

// A DeliveryStatus is what has become of a delivery.
type DeliveryStatus string

const (
	DeliveryPending   DeliveryStatus = "pending"   // to be sent, or to be sent again
	DeliveryDelivered DeliveryStatus = "delivered" // accepted with a status from 200 to 299
	DeliveryFailed    DeliveryStatus = "failed"    // given up; it can be sent again on request
)

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID          string         `json:"id" example:"dlv_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	WorkspaceID string         `json:"workspace_id"`
	EndpointID  string         `json:"endpoint_id"`
	EventID     string         `json:"event_id" doc:"Sent as webhook-id, the same with every attempt"`
	EventType   string         `json:"event_type" example:"key.revoked"`
	EventAt     time.Time      `json:"event_at"`
	Status      DeliveryStatus `json:"status" enum:"pending,delivered,failed"`
	Attempts    int            `json:"attempts" doc:"How often it was tried"`
	LastStatus  int            `json:"last_status,omitempty" doc:"In lists: HTTP status of the latest answer; absent when there was none"`
	LastMS      int64          `json:"last_duration_ms,omitempty" doc:"In lists: how long the latest attempt took, in milliseconds"`
	NextAt      *time.Time     `json:"next_at,omitempty" doc:"When it is tried next, if the endpoint is active"`
	CreatedAt   time.Time      `json:"created_at"`
	UpdatedAt   time.Time      `json:"updated_at"`
}

// DeliveryDetails is a delivery with its attempts and what is sent.
type DeliveryDetails struct {
	Delivery Delivery  `json:"delivery"`
	Log      []Attempt `json:"log" nullable:"false" doc:"The attempts, newest first"`
	// Payload is absent for who may not see events of this type.
	Payload json.RawMessage `json:"payload,omitempty" doc:"The event as it is sent; absent unless your permissions let you see such events"`
}

// Attempt is one try to deliver something.
type Attempt struct {
	At         time.Time `json:"at"`
	DurationMS int64     `json:"duration_ms" doc:"Until the answer was read, in milliseconds"`
	Status     int       `json:"status,omitempty" doc:"HTTP status of the answer; absent when there was none"`
	Address    string    `json:"address,omitempty" doc:"The address and port that was dialled"`
	Error      string    `json:"error,omitempty" doc:"In words, why it was not accepted, or why there was no whole answer"`
	Body       string    `json:"body,omitempty" doc:"The beginning of the answer, 4 KiB at most"`
}
