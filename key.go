package keystile

import "time"

// A KeyStatus is where a key stands in its life.
type KeyStatus string

const (
	StatusActive   KeyStatus = "active"
	StatusDisabled KeyStatus = "disabled" // refused until it is enabled again
	StatusRevoked  KeyStatus = "revoked"  // refused for good; the record is kept
	StatusExpired  KeyStatus = "expired"  // its expires_at has passed
)

// Reasons for revoking or disabling a key that pages offer by name. Any other
// text of at most 200 characters is as good.
const (
	ReasonUnneeded          = "unneeded"
	ReasonOwnershipChanged  = "ownership_changed"
	ReasonExposureSuspected = "exposure_suspected"
	ReasonRotated           = "rotated"
)

// Key is everything about an API key but its secret, which exists nowhere
// after the answer that created it.
type Key struct {
	ID          string    `json:"id" doc:"Public Key ID: safe to log, useless as a credential" example:"key_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	WorkspaceID string    `json:"workspace_id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty" doc:"Where the key is used"`
	Preview     string    `json:"preview" doc:"The prefix and a few characters, to tell keys apart"`
	Status      KeyStatus `json:"status" enum:"active,disabled,revoked,expired"`
	Role        string    `json:"role" doc:"Name of the role that says what the key may do"`
	// Permissions narrows the role; empty means all of the role.
	Permissions Permissions       `json:"permissions,omitempty" doc:"What the key may do of its role; absent: all of it"`
	Environment string            `json:"environment,omitempty"`
	IPAllowlist []string          `json:"ip_allowlist,omitempty" doc:"Addresses and CIDR ranges the key may be used from; absent: anywhere"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Owner       string            `json:"owner,omitempty" doc:"Who or what the key belongs to in your product"`
	CreatedAt   time.Time         `json:"created_at"`
	CreatedBy   Party             `json:"created_by"`
	UpdatedAt   time.Time         `json:"updated_at"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`

	DisabledAt     *time.Time `json:"disabled_at,omitempty"`
	DisabledReason string     `json:"disabled_reason,omitempty"`
	RevokedAt      *time.Time `json:"revoked_at,omitempty"`
	RevokedBy      *Party     `json:"revoked_by,omitempty"`
	RevokedReason  string     `json:"revoked_reason,omitempty"`

	LastUse *LastUse `json:"last_use,omitempty" doc:"Absent until the key is used; lags by up to ten seconds, or a minute and a quarter while many keys are in use"`

	Replaces     string     `json:"replaces,omitempty" doc:"Key ID of the key that this one replaces"`
	ReplacedBy   string     `json:"replaced_by,omitempty" doc:"Key ID of the key that replaces this one"`
	SafeToRevoke bool       `json:"safe_to_revoke,omitempty" doc:"The replacement is in use and this key has been quiet since"`
	RotationDue  *time.Time `json:"rotation_due_at,omitempty" doc:"When the profile recommends a replacement"`
	Idle         bool       `json:"idle,omitempty" doc:"Active, and not used for as long as the profile allows"`
	ReviewedAt   *time.Time `json:"reviewed_at,omitempty"`
	ReviewedBy   *Party     `json:"reviewed_by,omitempty"`
	ReviewDue    *time.Time `json:"review_due_at,omitempty"`
	Imported     bool       `json:"imported,omitempty" doc:"Its hash was imported; Keystile never saw the secret"`
	// Unreached are servers that a change of it has not reached, in the answer
	// of that change and nowhere else.
	Unreached []Unreached `json:"unreached,omitempty" doc:"In the answer of a change: servers that have lost the database and may act on what was before until the time given"`
}

// Party is who did something: a key, a person, the operator at the command
// line, or Keystile itself.
type Party struct {
	Kind string `json:"kind" enum:"key,person,operator,system"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// LastUse is the newest use of a key that has been counted.
type LastUse struct {
	At        time.Time `json:"at"`
	Address   string    `json:"address,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"`
}

// CreateKey says what key to make. Only Name is required.
type CreateKey struct {
	Name        string            `json:"name" minLength:"1" maxLength:"100" doc:"What the key is for"`
	Description string            `json:"description,omitempty" maxLength:"500"`
	Role        string            `json:"role,omitempty" maxLength:"64" doc:"Name of a role; absent: the default role"`
	Permissions Permissions       `json:"permissions,omitempty" maxItems:"100" doc:"Narrows the role; absent: all of it"`
	Environment string            `json:"environment,omitempty" maxLength:"32" doc:"Absent: the first of the profile"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty" doc:"Absent: never"`
	IPAllowlist []string          `json:"ip_allowlist,omitempty" maxItems:"100" doc:"IPv4 and IPv6 addresses and CIDR ranges"`
	Metadata    map[string]string `json:"metadata,omitempty" doc:"At most 50 entries of at most 500 characters, 8 kB in all"`
	Owner       string            `json:"owner,omitempty" maxLength:"200"`
	// SHA256 imports a key issued elsewhere by the unsalted SHA-256 of its
	// secret, 64 hexadecimal digits. It needs the permission platform.key.import.
	SHA256 string `json:"sha256,omitempty" maxLength:"64" doc:"Operators: import a key by the SHA-256 of its secret, in hexadecimal"`
}

// KeyPatch says what to change of a key. Absent fields stay as they are.
type KeyPatch struct {
	Name        *string            `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Description *string            `json:"description,omitempty" maxLength:"500"`
	Role        *string            `json:"role,omitempty" maxLength:"64"`
	Permissions *Permissions       `json:"permissions,omitempty" maxItems:"100" doc:"Narrows the role to these; name at least one"`
	WholeRole   bool               `json:"whole_role,omitempty" doc:"True: take away the narrowing, so that the key has all of its role"`
	ExpiresAt   *time.Time         `json:"expires_at,omitempty" doc:"Only earlier than now set: nothing lengthens a key's life"`
	IPAllowlist *[]string          `json:"ip_allowlist,omitempty" maxItems:"100" doc:"Empty: anywhere"`
	Metadata    *map[string]string `json:"metadata,omitempty" doc:"Replaces all entries; at most 50 of at most 500 characters, 8 kB in all"`
	Owner       *string            `json:"owner,omitempty" maxLength:"200"`
}

// CreatedKey is the one answer that carries a secret.
type CreatedKey struct {
	Key    Key    `json:"key"`
	Secret string `json:"secret,omitempty" doc:"The key itself, shown this once; absent in the replay of an idempotent request and for imported keys"`
	// Replaces is the Key ID of the rotated key, in the answer of a rotation.
	Replaces string `json:"replaces,omitempty" doc:"Key ID of the rotated key"`
	// Pending is true when some node may not know the key for a moment yet.
	Pending bool `json:"pending,omitempty" doc:"Some server may need a moment more before it accepts the key"`
	// Unreached is that of [Key], when a rotation has ended a key.
	Unreached []Unreached `json:"unreached,omitempty" doc:"Servers that have lost the database and may go on accepting the rotated key until the time given"`
}

// RotateKey says how to replace a key.
type RotateKey struct {
	Overlap string `json:"overlap,omitempty" maxLength:"20" example:"24h" doc:"How long the old key stays valid, from 0s to 720h; absent: until it is revoked"`
	Name    string `json:"name,omitempty" maxLength:"100" doc:"Name of the replacement; absent: the same name"`
	// ExpiresAt is the end of the replacement, which may be later than the old key's.
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"End of the replacement; absent: the same end"`
}

// RevokeKey says why a key is revoked.
type RevokeKey struct {
	Reason   string `json:"reason,omitempty" maxLength:"200" doc:"unneeded, ownership_changed, exposure_suspected, rotated or free text"`
	Rollback bool   `json:"rollback,omitempty" doc:"When revoking a replacement: give the replaced key its former end back"`
}

// DisableKey says why a key is disabled.
type DisableKey struct {
	Reason string `json:"reason,omitempty" maxLength:"200" doc:"unneeded, ownership_changed, exposure_suspected, rotated or free text"`
}
