package keystile

import "time"

// VerifyRequest asks whether a key is good.
type VerifyRequest struct {
	Key string `json:"key" maxLength:"512" doc:"The key as the caller presented it"`
	// Permission asks whether the key may do something as well.
	Permission string `json:"permission,omitempty" maxLength:"128" doc:"Refuse unless the key carries it"`
	// Workspace refuses the key of any other workspace. Keys of the operator's own,
	// ws_operator, are refused unless it is named here.
	Workspace string `json:"workspace,omitempty" maxLength:"64" doc:"Refuse unless the key belongs to it; keys of ws_operator are refused unless it is named"`
	// IP is the address of whoever presented the key. A key or workspace with
	// an allowlist is refused without it.
	IP string `json:"ip,omitempty" maxLength:"64" doc:"Address of whoever presented the key"`
	// UserAgent is kept with the key's last use.
	UserAgent string `json:"user_agent,omitempty" maxLength:"512" doc:"User agent of whoever presented the key, for its last use"`
}

// Decision is the answer about a key. What a refused key belongs to is told
// only where the asker is entitled to know.
type Decision struct {
	Valid       bool              `json:"valid"`
	Code        Code              `json:"code"`
	Hint        Hint              `json:"hint,omitempty"`
	Status      int               `json:"status" doc:"HTTP status to answer the key's holder with"`
	Detail      string            `json:"detail,omitempty" doc:"The refusal in words, for the key's holder"`
	Fixes       []string          `json:"fixes,omitempty" doc:"What the key's holder can do about it"`
	KeyID       string            `json:"key_id,omitempty"`
	WorkspaceID string            `json:"workspace_id,omitempty"`
	Role        string            `json:"role,omitempty"`
	Permissions Permissions       `json:"permissions,omitempty" doc:"What the key may do"`
	Environment string            `json:"environment,omitempty"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// VerifyBatch asks about up to 1000 keys at once.
type VerifyBatch struct {
	Requests []VerifyRequest `json:"requests" minItems:"1" maxItems:"1000" nullable:"false"`
}

// DecisionBatch answers a VerifyBatch, in its order.
type DecisionBatch struct {
	Decisions []Decision `json:"data" nullable:"false"`
}

// Self is what a key may know about itself.
type Self struct {
	Decision
	Name          string `json:"name,omitempty"`
	Preview       string `json:"preview,omitempty"`
	WorkspaceName string `json:"workspace_name,omitempty"`
}
