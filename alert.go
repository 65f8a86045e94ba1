package keystile

import "time"

// An AlertType says what an alert is about. It is the type of the event, too,
// that tells of it.
type AlertType string

const (
	AlertKeyExposed     AlertType = "key.exposed"      // revoked because others may have it
	AlertKeyExpiring    AlertType = "key.expiring"     // its end comes near and it has no replacement
	AlertKeyExpired     AlertType = "key.expired"      // its end has come and it had no replacement
	AlertKeyRotationDue AlertType = "key.rotation_due" // its recommended age comes near, or is past
	AlertKeyIdle        AlertType = "key.idle"         // not used for as long as the profile allows
	AlertKeyStillUsed   AlertType = "key.still_used"   // replaced, near its end, and still in use
	AlertKeyStillTried  AlertType = "key.still_tried"  // revoked or expired, and somebody goes on trying it
	AlertAuthFailures   AlertType = "auth.failures"    // far more refused keys than usual

	AlertSecretExposed     AlertType = "webhook_secret.exposed"      // as with keys
	AlertSecretExpiring    AlertType = "webhook_secret.expiring"     // as with keys
	AlertSecretExpired     AlertType = "webhook_secret.expired"      // as with keys
	AlertSecretRotationDue AlertType = "webhook_secret.rotation_due" // as with keys

	AlertEndpointFailing AlertType = "endpoint.failing" // it accepts nothing, and is stopped in the end
)

// EventAuthFailuresEnded is the type of the event that tells of the end of
// what [AlertAuthFailures] is about.
const EventAuthFailuresEnded = "auth.failures_ended"

// AlertTypes returns all types of alerts, the most urgent first.
func AlertTypes() []AlertType {
	return []AlertType{
		AlertKeyExposed, AlertSecretExposed, AlertAuthFailures, AlertEndpointFailing, AlertKeyStillUsed, AlertKeyStillTried,
		AlertKeyExpired, AlertSecretExpired, AlertKeyExpiring, AlertSecretExpiring,
		AlertKeyRotationDue, AlertSecretRotationDue, AlertKeyIdle,
	}
}

// Alert is something that somebody in the workspace should see to. It opens
// once for one cause and closes when that has gone.
type Alert struct {
	ID          string     `json:"id" example:"al_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	WorkspaceID string     `json:"workspace_id"`
	Type        AlertType  `json:"type" enum:"key.exposed,key.expiring,key.expired,key.rotation_due,key.idle,key.still_used,key.still_tried,auth.failures,webhook_secret.exposed,webhook_secret.expiring,webhook_secret.expired,webhook_secret.rotation_due,endpoint.failing"`
	Stage       string     `json:"stage,omitempty" doc:"How far it has come: of key.expiring and webhook_secret.expiring the time left, such as 7d; of key.rotation_due and webhook_secret.rotation_due due or overdue; of endpoint.failing failing, paused or disabled" example:"7d"`
	State       string     `json:"state" enum:"open,closed"`
	OpenedAt    time.Time  `json:"opened_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	ClosedAt    *time.Time `json:"closed_at,omitempty"`
	KeyID       string     `json:"key_id,omitempty" doc:"Absent when it is about no single key"`
	KeyName     string     `json:"key_name,omitempty" doc:"The key's name when the alert opened"`

	WebhookSecretID    string `json:"webhook_secret_id,omitempty" doc:"Absent when it is about no webhook secret"`
	WebhookSecretLabel string `json:"webhook_secret_label,omitempty" doc:"The webhook secret's label when the alert opened"`

	EndpointID  string `json:"endpoint_id,omitempty" doc:"Absent when it is about no endpoint"`
	EndpointURL string `json:"endpoint_url,omitempty" doc:"The endpoint's URL when the alert opened"`

	AlertFacts

	AcknowledgedAt *time.Time `json:"acknowledged_at,omitempty" doc:"When somebody said that they have seen it"`
	AcknowledgedBy *Party     `json:"acknowledged_by,omitempty"`
}

// AlertFacts are what is known about an alert's cause.
type AlertFacts struct {
	DueAt    *time.Time   `json:"due_at,omitempty" doc:"The end, when a rotation is recommended, the last use, or since when nothing was accepted, by the type"`
	Sources  []KeySource  `json:"sources,omitempty" doc:"Who still uses or tries the key, latest first; at most 10"`
	Failures *AuthFailure `json:"failures,omitempty" doc:"With auth.failures"`
	// LastFailure is there for who may see endpoints.
	LastFailure *Attempt `json:"last_failure,omitempty" doc:"With endpoint.failing: the latest attempt, without the answer's body"`
}

// AuthFailure counts the refused keys of a spike. It covers the last day of a
// spike that goes on for longer.
type AuthFailure struct {
	From      time.Time          `json:"from" doc:"Beginning of the window in which it began"`
	LastAt    time.Time          `json:"last_at" doc:"Beginning of the latest window with a failure"`
	Window    string             `json:"window" example:"5m0s" doc:"Length of the windows in which failures are counted"`
	Usual     int64              `json:"usual" doc:"What 9 of 10 windows of the day before did not exceed"`
	Threshold int64              `json:"threshold" doc:"Failures in one window from which on it is a spike"`
	Peak      int64              `json:"peak" doc:"Failures in the worst window"`
	Total     int64              `json:"total"`
	Codes     map[Code]int64     `json:"codes" doc:"Failures by outcome"`
	Sources   []AuthFailureCount `json:"sources,omitempty" doc:"Where most came from, an IPv6 address as its /64; at most 10"`
	Keys      []AuthFailureCount `json:"keys,omitempty" doc:"Key IDs that were tried most; at most 10"`
}

// AuthFailureCount counts failures from one source or of one key.
type AuthFailureCount struct {
	Source string `json:"source,omitempty" example:"2001:db8:1:2::/64"`
	KeyID  string `json:"key_id,omitempty"`
	Count  int64  `json:"count"`
}
