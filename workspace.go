package keystile

import "time"

// Workspace is a tenant: a customer of the SaaS product.
type Workspace struct {
	ID              string    `json:"id" example:"ws_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	Name            string    `json:"name"`
	Plan            string    `json:"plan" doc:"Name of the plan that limits it"`
	Suspended       bool      `json:"suspended" doc:"All of its keys are refused"`
	SuspendedReason string    `json:"suspended_reason,omitempty"`
	IPAllowlist     []string  `json:"ip_allowlist,omitempty" doc:"Where its keys may be used from; absent: anywhere"`
	CreatedAt       time.Time `json:"created_at"`
	UpdatedAt       time.Time `json:"updated_at"`
	Operator        bool      `json:"operator,omitempty" doc:"The operator's own workspace"`
	ActiveKeys      int       `json:"active_keys" doc:"Keys that count against the plan"`
	// Unreached are servers that a change of it has not reached, in the answer
	// of that change and nowhere else.
	Unreached []Unreached `json:"unreached,omitempty" doc:"In the answer of a change: servers that have lost the database and may act on what was before until the time given"`
}

// CreateWorkspace says what workspace to make.
type CreateWorkspace struct {
	Name string `json:"name" minLength:"1" maxLength:"100"`
	Plan string `json:"plan,omitempty" maxLength:"32" doc:"Absent: the profile's default plan"`
}

// WorkspacePatch says what to change of a workspace. Plan and Suspended are
// for the operator.
type WorkspacePatch struct {
	Name            *string   `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Plan            *string   `json:"plan,omitempty" maxLength:"32"`
	Suspended       *bool     `json:"suspended,omitempty"`
	SuspendedReason *string   `json:"suspended_reason,omitempty" maxLength:"200"`
	IPAllowlist     *[]string `json:"ip_allowlist,omitempty" maxItems:"100" doc:"Empty: anywhere"`
}

// Role is a named set of permissions, built into the profile or made by a
// workspace. Members and keys both have one.
type Role struct {
	ID          string      `json:"id" example:"role_developer" doc:"role_ and the name, when built in"`
	WorkspaceID string      `json:"workspace_id,omitempty" doc:"Absent when every workspace has it"`
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Permissions Permissions `json:"permissions" nullable:"false"`
	BuiltIn     bool        `json:"built_in"`
	Default     bool        `json:"default,omitempty" doc:"New keys get it when none is named"`
	CreatedAt   *time.Time  `json:"created_at,omitempty"`
	UpdatedAt   *time.Time  `json:"updated_at,omitempty"`
	// Unreached are servers that a change of it has not reached, in the answer
	// of that change and nowhere else.
	Unreached []Unreached `json:"unreached,omitempty" doc:"In the answer of a change: servers that have lost the database and may act on what was before until the time given"`
}

// CreateRole says what role to make.
type CreateRole struct {
	Name        string      `json:"name" minLength:"1" maxLength:"64" doc:"Unique in the workspace"`
	Description string      `json:"description,omitempty" maxLength:"500"`
	Permissions Permissions `json:"permissions" nullable:"false" minItems:"1" maxItems:"100"`
}

// RolePatch says what to change of a role.
type RolePatch struct {
	Name        *string      `json:"name,omitempty" minLength:"1" maxLength:"64"`
	Description *string      `json:"description,omitempty" maxLength:"500"`
	Permissions *Permissions `json:"permissions,omitempty" minItems:"1" maxItems:"100"`
}

// Member is a person in a workspace, with a role.
type Member struct {
	ID          string    `json:"id" example:"mem_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	WorkspaceID string    `json:"workspace_id"`
	Person      Person    `json:"person"`
	Role        string    `json:"role"`
	Status      string    `json:"status" enum:"invited,active"`
	CreatedAt   time.Time `json:"created_at"`
	InvitedBy   Party     `json:"invited_by"`
	// Unreached are servers that a change of it has not reached, in the answer
	// of that change and nowhere else.
	Unreached []Unreached `json:"unreached,omitempty" doc:"In the answer of a change: servers that have lost the database and may act on what was before until the time given"`
}

// Person is who signs in. Issuer and Subject identify, as in OpenID Connect;
// an e-mail address never does.
type Person struct {
	ID      string `json:"id,omitempty" example:"per_0ktv3m2a8s0c5f9b1d7e6g4h2j"`
	Name    string `json:"name,omitempty" maxLength:"100"`
	Email   string `json:"email,omitempty" maxLength:"254" doc:"To write to, not to sign in with"`
	Issuer  string `json:"issuer,omitempty" maxLength:"200" doc:"Whose subject it is; absent: your product"`
	Subject string `json:"subject,omitempty" maxLength:"200" doc:"The person's identifier at the issuer"`
}

// CreateMember invites a person into a workspace.
type CreateMember struct {
	Person Person `json:"person"`
	Role   string `json:"role" minLength:"1" maxLength:"64"`
}

// MemberPatch changes a member's role.
type MemberPatch struct {
	Role *string `json:"role,omitempty" minLength:"1" maxLength:"64"`
}

// CreatePortalSession asks for a link that lets one of the product's own people
// into the pages of one workspace.
type CreatePortalSession struct {
	Person    Person `json:"person" doc:"Whom your product has signed in; the subject is the ID that it has for them"`
	Role      string `json:"role" minLength:"1" maxLength:"64" doc:"What they may do; it becomes their role in the workspace"`
	ReturnURL string `json:"return_url,omitempty" maxLength:"500" doc:"Where the pages lead back to"`
	ExpiresIn string `json:"expires_in,omitempty" maxLength:"20" example:"30m" doc:"How long the session lasts, from 1m to 24h; absent: 1h"`
}

// PortalSession is a link that opens a portal session, once.
type PortalSession struct {
	URL       string    `json:"url" doc:"Send the person's browser there; good once"`
	ExpiresAt time.Time `json:"expires_at" doc:"Until when the link can be opened"`
}

// Plan limits what a workspace may have. A limit of -1 means no limit.
type Plan struct {
	Name     string         `json:"name"`
	Title    string         `json:"title"`
	Default  bool           `json:"default,omitempty"`
	Limits   map[string]int `json:"limits" doc:"Limits by noun: active_keys, members, custom_roles, webhook_secrets, endpoints; -1: none"`
	Features []string       `json:"features,omitempty" doc:"What the plan includes beyond numbers"`
}

// PlanMatrix shows which plan and which role allows what.
type PlanMatrix struct {
	Plans       []Plan           `json:"data" nullable:"false"`
	Roles       []Role           `json:"roles" nullable:"false" doc:"The built-in roles"`
	Permissions []PermissionInfo `json:"permissions" nullable:"false" doc:"Every permission that a role can carry"`
}

// PermissionInfo describes one permission.
type PermissionInfo struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// AuditEntry says who did what, when and from where. Before and After hold
// the fields that changed, never a secret.
type AuditEntry struct {
	ID          string         `json:"id"`
	WorkspaceID string         `json:"workspace_id"`
	At          time.Time      `json:"at"`
	Actor       Party          `json:"actor"`
	Action      string         `json:"action" example:"key.revoked"`
	ObjectKind  string         `json:"object_kind" example:"key"`
	ObjectID    string         `json:"object_id"`
	ObjectName  string         `json:"object_name,omitempty"`
	Address     string         `json:"address,omitempty"`
	UserAgent   string         `json:"user_agent,omitempty"`
	RequestID   string         `json:"request_id,omitempty"`
	Reason      string         `json:"reason,omitempty"`
	Before      map[string]any `json:"before,omitempty"`
	After       map[string]any `json:"after,omitempty"`
}

// UsageBucket counts the uses of one key in one hour (UTC), by outcome.
type UsageBucket struct {
	KeyID string         `json:"key_id"`
	Hour  time.Time      `json:"hour" doc:"Beginning of the hour, UTC"`
	Codes map[Code]int64 `json:"codes" doc:"Uses by outcome"`
	Total int64          `json:"total"`
}

// KeySource is an address that a key was used from.
type KeySource struct {
	KeyID     string    `json:"key_id"`
	Address   string    `json:"address"`
	UserAgent string    `json:"user_agent,omitempty"`
	Code      Code      `json:"code" doc:"Outcome of these uses"`
	FirstAt   time.Time `json:"first_at"`
	LastAt    time.Time `json:"last_at"`
	Count     int64     `json:"count"`
}

// Usage is the answer about the uses of a workspace's keys.
type Usage struct {
	Buckets    []UsageBucket `json:"data" nullable:"false"`
	Sources    []KeySource   `json:"sources,omitempty" doc:"Where one key was used from; only when key= names it"`
	NextCursor string        `json:"next_cursor,omitempty"`
}

// AuditList is a page of an audit log. A search for an action or a name looks at
// 20,000 entries for each page at most, so that a page may hold few entries or
// none, and NextCursor goes on all the same.
type AuditList struct {
	Data          []AuditEntry `json:"data" nullable:"false"`
	NextCursor    string       `json:"next_cursor,omitempty"`
	SearchedUntil *time.Time   `json:"searched_until,omitempty" doc:"How far back the search has looked, where it ended before it had found a whole page; next_cursor goes on from there"`
}

// List is a page of a longer list. NextCursor continues it, and is empty on
// the last page.
type List[T any] struct {
	Data       []T    `json:"data" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty"`
}
