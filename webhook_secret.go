package keystile

import "time"

// WebhookHMACSHA256 is the algorithm of a webhook secret whose signatures
// Standard Webhooks calls v1. There is no other one yet.
const WebhookHMACSHA256 = "hmac-sha256"

// PreviewWebhookSecret returns what may be shown of the text of a webhook
// secret to tell it from others: its prefix, and its first or last four
// characters, never both. Of a text that is none it shows the prefix alone.
func PreviewWebhookSecret(text string, style PreviewStyle) string {
	if _, err := ParseWebhookSecret(text); err != nil {
		return webhookSecretPrefix + mask
	}
	if style == PreviewLast {
		return webhookSecretPrefix + mask + text[len(text)-4:]
	}
	return text[:len(webhookSecretPrefix)+4] + mask
}

// WebhookSecretRecord is everything about a webhook secret but the secret,
// which is shown once and sealed after that.
type WebhookSecretRecord struct {
	ID          string    `json:"id" doc:"Public ID, safe to log" example:"whs_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	WorkspaceID string    `json:"workspace_id"`
	EndpointID  string    `json:"endpoint_id,omitempty" doc:"The endpoint whose deliveries it signs; absent: the product's own webhooks"`
	Label       string    `json:"label" doc:"Who verifies with it"`
	Environment string    `json:"environment,omitempty" doc:"Consumer environment whose webhooks it signs"`
	Algorithm   string    `json:"algorithm" enum:"hmac-sha256" doc:"hmac-sha256: signatures named v1"`
	Preview     string    `json:"preview" doc:"whsec_ and a few characters, to tell secrets apart"`
	Status      KeyStatus `json:"status" enum:"active,revoked,expired"`
	CreatedAt   time.Time `json:"created_at"`
	CreatedBy   Party     `json:"created_by"`
	UpdatedAt   time.Time `json:"updated_at"`

	ExpiresAt     *time.Time `json:"expires_at,omitempty" doc:"From then on it signs nothing"`
	RevokedAt     *time.Time `json:"revoked_at,omitempty"`
	RevokedBy     *Party     `json:"revoked_by,omitempty"`
	RevokedReason string     `json:"revoked_reason,omitempty"`

	LastSignedAt   *time.Time `json:"last_signed_at,omitempty" doc:"When Keystile last signed with it; lags by up to ten seconds"`
	LastVerifiedAt *time.Time `json:"last_verified_at,omitempty" doc:"When Keystile last verified a webhook that only this secret accounts for; lags by up to ten seconds"`

	Replaces    string     `json:"replaces,omitempty" doc:"ID of the secret that this one replaces"`
	ReplacedBy  string     `json:"replaced_by,omitempty" doc:"ID of the secret that replaces this one"`
	RotationDue *time.Time `json:"rotation_due_at,omitempty" doc:"When the profile recommends a replacement"`
	// SafeToRevoke is evidence, not a promise: what receivers verify by
	// themselves is not seen here.
	SafeToRevoke bool `json:"safe_to_revoke,omitempty" doc:"A signature of the replacement was verified, and none of this secret since"`
}

// CreateWebhookSecret says what webhook secret to make.
type CreateWebhookSecret struct {
	Label       string `json:"label" minLength:"1" maxLength:"100" doc:"Who verifies with it, such as the consumer's service"`
	Environment string `json:"environment,omitempty" maxLength:"32" doc:"Consumer environment; may be left out where the profile has only one, or none"`
	// Endpoint makes it a secret of that endpoint, which has no environment.
	Endpoint  string     `json:"endpoint,omitempty" maxLength:"64" doc:"ID of an endpoint whose deliveries it signs, which takes api.endpoint.update; absent: the product's own webhooks"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Absent: never"`
}

// CreatedWebhookSecret is the one answer that carries a webhook secret.
type CreatedWebhookSecret struct {
	WebhookSecret WebhookSecretRecord `json:"webhook_secret"`
	Secret        string              `json:"secret,omitempty" doc:"The secret itself, whsec_ and base64, shown this once; absent in the replay of an idempotent request"`
	// Replaces is the ID of the rotated secret, in the answer of a rotation.
	Replaces string `json:"replaces,omitempty" doc:"ID of the rotated secret"`
}

// WebhookSecretPatch says what to change of a webhook secret. Absent fields
// stay as they are.
type WebhookSecretPatch struct {
	Label     *string    `json:"label,omitempty" minLength:"1" maxLength:"100"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Only earlier than now set: nothing lengthens a secret's life"`
}

// RotateWebhookSecret says how to replace a webhook secret. While both are
// active, both sign.
type RotateWebhookSecret struct {
	Overlap string `json:"overlap,omitempty" maxLength:"20" example:"24h" doc:"How long the old secret goes on signing beside the new one, from 0s to 720h; absent: until it is revoked"`
	Label   string `json:"label,omitempty" maxLength:"100" doc:"Label of the replacement; absent: the same label"`
}

// RevokeWebhookSecret says why a webhook secret is revoked.
type RevokeWebhookSecret struct {
	Reason   string `json:"reason,omitempty" maxLength:"200" doc:"unneeded, ownership_changed, exposure_suspected, rotated or free text"`
	Rollback bool   `json:"rollback,omitempty" doc:"When revoking a replacement: give the replaced secret its former end back"`
}

// MaxWebhookPayload is how many bytes a payload may have that Keystile signs
// or verifies.
const MaxWebhookPayload = 1 << 20

// SignRequest asks for the headers of one webhook. It names an environment,
// whose active secrets all sign, or one secret, which signs alone.
type SignRequest struct {
	Payload       string `json:"payload" doc:"The body exactly as it will be sent, at most 1 MiB of UTF-8"`
	Environment   string `json:"environment,omitempty" maxLength:"32" doc:"All active secrets of it sign; may be left out where the profile has only one, or none"`
	WebhookSecret string `json:"webhook_secret,omitempty" maxLength:"64" doc:"ID of the one secret that signs, instead of an environment: to try a new one"`
	ID            string `json:"id,omitempty" maxLength:"128" pattern:"^[A-Za-z0-9_-]*$" patternDescription:"letters, digits, _ and -" doc:"ID of the message, the same when it is sent again; absent: a new one"`
}

// Signed is a signed webhook: what to send beside the payload.
type Signed struct {
	Headers WebhookHeaders `json:"headers" doc:"Send them with the payload, byte for byte"`
	// WebhookSecrets are the IDs of those that signed, oldest first.
	WebhookSecrets []string `json:"webhook_secrets" nullable:"false" doc:"IDs of the secrets that signed, one signature each, oldest first"`
}

// WebhookHeaders are the headers of a signed webhook.
type WebhookHeaders struct {
	ID        string `json:"webhook-id"`
	Timestamp string `json:"webhook-timestamp" doc:"Unix seconds"`
	Signature string `json:"webhook-signature" doc:"One signature for each secret, separated by spaces"`
}
