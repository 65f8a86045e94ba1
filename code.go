package keystile

import "net/http"

// A Code names the outcome of a check or the cause of an error. Codes are part
// of the wire format: they are never renamed and never reused.
type Code string

// Outcomes of a key check, in the order in which they are decided: the first
// that fails answers.
const (
	CodeValid                  Code = "valid"
	CodeMalformed              Code = "malformed"               // not the form of a key of this product; see Hint
	CodeUnknown                Code = "unknown"                 // well formed, and never issued or deleted
	CodeWorkspaceSuspended     Code = "workspace_suspended"     // the operator suspended the key's workspace
	CodeRevoked                Code = "revoked"                 // for good
	CodeDisabled               Code = "disabled"                // until enabled again
	CodeExpired                Code = "expired"                 // past its expires_at
	CodeIPNotAllowed           Code = "ip_not_allowed"          // the caller's address is on no allowlist, or was not told
	CodeWrongWorkspace         Code = "wrong_workspace"         // belongs to another workspace than the one named
	CodeInsufficientPermission Code = "insufficient_permission" // lacks the permission asked for
)

// Causes of errors beyond the outcome of a key check.
const (
	CodeMissingCredential   Code = "missing_credential"     // no key in the request
	CodeSeveralCredentials  Code = "several_credentials"    // more than one key in the request
	CodeKeyInQuery          Code = "key_in_query"           // a key in the URL, where logs keep it
	CodeInvalidRequest      Code = "invalid_request"        // the body or a parameter cannot be read
	CodeInvalidField        Code = "invalid_field"          // a field's value is refused; see Fields
	CodeNotFound            Code = "not_found"              // no such object, or not yours
	CodeUnknownRoute        Code = "unknown_route"          // no such path in this API
	CodeMethodNotAllowed    Code = "method_not_allowed"     // the path exists with other methods
	CodeConflict            Code = "conflict"               // the object's state does not allow it
	CodeNameTaken           Code = "name_taken"             // a name that must be unique is in use
	CodeInUse               Code = "in_use"                 // something still refers to the object
	CodePlanLimit           Code = "plan_limit"             // the workspace's plan allows no more of these
	CodeExceedsAuthority    Code = "exceeds_authority"      // would hand out more than the caller holds
	CodeIdempotencyMismatch Code = "idempotency_mismatch"   // the Idempotency-Key came with another request before
	CodeBodyTooLarge        Code = "body_too_large"         // the request is larger than the route takes
	CodeUnsupportedMedia    Code = "unsupported_media_type" // the body is not JSON
	CodeSessionEnded        Code = "session_ended"          // the person at the pages is not signed in any more
	CodeTooManyAttempts     Code = "too_many_attempts"      // too many sign-ins were tried from the address
	CodeTimeout             Code = "timeout"                // the request took too long to arrive
	CodeUnknownOutcome      Code = "unknown_outcome"        // the change may or may not have happened; ask again
	CodeUnavailable         Code = "unavailable"            // the server cannot answer now; try again
	CodeMasterKeyMissing    Code = "master_key_missing"     // the server lacks the master key that seals webhook secrets
	CodeStorageFull         Code = "storage_full"           // no space left for the database
	CodeInternal            Code = "internal"               // a fault of the server
)

// Status is the HTTP status that goes with the code: what a product answers to
// the holder of a key it refuses, or what the API answers to a failed request.
// It is 500 for a code this version does not know.
func (c Code) Status() int { return c.definition().status }

// definition is all there is to say about a code: its status, and the words
// that [NewError] uses where its caller has none that fit better.
type definition struct {
	status int
	title  string
	detail string
	fixes  [2]string // an array, since Status is asked on the hot path and must not allocate
}

// definition is the one place where a code gets its meaning.
func (c Code) definition() definition {
	switch c {
	case CodeValid:
		return definition{http.StatusOK, "Valid", "The key is good.", [2]string{}}
	case CodeMalformed:
		return definition{http.StatusUnauthorized, "Malformed key", "What was sent does not have the form of a key.", [2]string{
			"Copy the whole key again from where it was kept when it was created.",
			"If it was not kept, create a new one: a key is shown only once.",
		}}
	case CodeUnknown:
		return definition{http.StatusUnauthorized, "Unknown key", "There is no such key: it was never issued here, or it was deleted.", [2]string{
			"Check that the key belongs to this service and to this installation of it.",
			"Create a new key and use it instead.",
		}}
	case CodeWorkspaceSuspended:
		return definition{http.StatusForbidden, "Workspace suspended", "The workspace that this key belongs to is suspended, so none of its keys is accepted.", [2]string{
			"Ask whoever runs this service what has to happen before it is resumed.",
		}}
	case CodeRevoked:
		return definition{http.StatusUnauthorized, "Key revoked", "This key was revoked, for good.", [2]string{
			"Create a new key and put it wherever this one is used.",
		}}
	case CodeDisabled:
		return definition{http.StatusUnauthorized, "Key disabled", "This key is disabled.", [2]string{
			"Ask someone who manages the keys of its workspace to enable it.",
			"Use another key until then.",
		}}
	case CodeExpired:
		return definition{http.StatusUnauthorized, "Key expired", "This key has expired.", [2]string{
			"Create a new key and put it wherever this one is used.",
		}}
	case CodeIPNotAllowed:
		return definition{http.StatusForbidden, "Address not allowed", "This key may not be used from the address that the request came from.", [2]string{
			"Send the request from an address on the allowlists of the key and of its workspace.",
			"Ask someone who manages the keys of its workspace to add this address.",
		}}
	case CodeWrongWorkspace:
		return definition{http.StatusForbidden, "Wrong workspace", "This key belongs to another workspace than the one that was asked for.", [2]string{
			"Use a key of that workspace.",
		}}
	case CodeInsufficientPermission:
		return definition{http.StatusForbidden, "Permission missing", "This key lacks the permission that the request needs.", [2]string{
			"Use a key whose role carries the permission.",
			"Ask someone who manages the keys of its workspace to give it a role that does.",
		}}

	case CodeMissingCredential:
		return definition{http.StatusUnauthorized, "Key missing", "There is no key in the request.", [2]string{
			"Send the key in the header 'Authorization: Bearer YOUR_KEY'.",
		}}
	case CodeSeveralCredentials:
		return definition{http.StatusBadRequest, "Several keys", "There is more than one key in the request, and no telling which one is meant.", [2]string{
			"Send one key, in one header.",
		}}
	case CodeKeyInQuery:
		return definition{http.StatusBadRequest, "Key in the URL", "There is a key in the URL, where logs and histories keep it.", [2]string{
			"Send the key in a header.",
			"Replace the key by a new one, since the URL may have been logged on its way.",
		}}
	case CodeInvalidRequest:
		return definition{http.StatusBadRequest, "Request not understood", "The request can't be read.", [2]string{
			"Compare the request with the documentation of the API.",
		}}
	case CodeInvalidField:
		return definition{http.StatusUnprocessableEntity, "Value refused", "A value in the request is refused.", [2]string{
			"Correct the fields that the errors name, and send the request again.",
		}}
	case CodeNotFound:
		return definition{http.StatusNotFound, "Not found", "There is no such object, or it belongs to another workspace.", [2]string{
			"Check the id, and that the key you authenticate with belongs to the same workspace.",
		}}
	case CodeUnknownRoute:
		return definition{http.StatusNotFound, "No such path", "The API has no such path.", [2]string{
			"Check the path: all paths of the API begin with /v1/.",
		}}
	case CodeMethodNotAllowed:
		return definition{http.StatusMethodNotAllowed, "Method not allowed", "This path exists, but not with this method.", [2]string{
			"Use one of the methods that the header Allow names.",
		}}
	case CodeConflict:
		return definition{http.StatusConflict, "Conflict", "The state that the object is in does not allow this.", [2]string{
			"Read the object again and decide from its present state.",
		}}
	case CodeNameTaken:
		return definition{http.StatusConflict, "Name taken", "The name is in use, and must be unique.", [2]string{
			"Choose another name.",
		}}
	case CodeInUse:
		return definition{http.StatusConflict, "In use", "Something still refers to the object.", [2]string{
			"Change whatever refers to it first.",
		}}
	case CodePlanLimit:
		return definition{http.StatusForbidden, "Plan limit reached", "The plan of the workspace allows no more of these.", [2]string{
			"Remove the ones that are not needed any more.",
			"Move the workspace to a larger plan.",
		}}
	case CodeExceedsAuthority:
		return definition{http.StatusForbidden, "Beyond your own permissions", "This would hand out more than you hold yourself.", [2]string{
			"Ask someone who holds these permissions to do it.",
			"Leave out what you don't hold.",
		}}
	case CodeIdempotencyMismatch:
		return definition{http.StatusUnprocessableEntity, "Idempotency-Key used before", "This Idempotency-Key came with another request before.", [2]string{
			"Use a new Idempotency-Key for every new request, and the same one only to repeat it.",
		}}
	case CodeBodyTooLarge:
		return definition{http.StatusRequestEntityTooLarge, "Request too large", "The body of the request is larger than this path takes.", [2]string{
			"Send a smaller body.",
		}}
	case CodeUnsupportedMedia:
		return definition{http.StatusUnsupportedMediaType, "Not JSON", "The body of the request is not JSON.", [2]string{
			"Send JSON with the header 'Content-Type: application/json'.",
		}}
	case CodeSessionEnded:
		return definition{http.StatusUnauthorized, "Signed out", "The session has ended.", [2]string{
			"Sign in again.",
		}}
	case CodeTooManyAttempts:
		return definition{http.StatusTooManyRequests, "Too many attempts", "There were too many attempts to sign in from your address.", [2]string{
			"Wait a minute, and try again.",
		}}
	case CodeTimeout:
		return definition{http.StatusRequestTimeout, "Too slow", "The request took too long to arrive.", [2]string{
			"Send the request again.",
		}}
	case CodeUnknownOutcome:
		return definition{http.StatusServiceUnavailable, "Outcome unknown", "The change may have happened or not: the answer was lost on its way.", [2]string{
			"Repeat the request until it succeeds, with the same Idempotency-Key if it had one.",
		}}
	case CodeUnavailable:
		return definition{http.StatusServiceUnavailable, "Not available", "The request can't be answered now.", [2]string{
			"Send it again after the seconds that the header Retry-After names.",
		}}
	case CodeMasterKeyMissing:
		return definition{http.StatusServiceUnavailable, "Master key missing", "The server does not have the master key that webhook secrets are sealed with.", [2]string{
			"Whoever runs this server gives it its master key: in the variable KEYSTILE_MASTER_KEY, in a file with --master-key-file, or by a command with --master-key-command.",
		}}
	case CodeStorageFull:
		return definition{http.StatusInsufficientStorage, "Storage full", "There is no space left for the database.", [2]string{
			"Free or add disk space where the database is kept.",
		}}
	case CodeInternal:
	}
	return definition{http.StatusInternalServerError, "Internal error", "The server made a mistake.", [2]string{
		"Report the request_id to whoever runs this service: it names the request in the log.",
	}}
}

// A Hint narrows CodeMalformed down to what most likely happened. It is found
// from the text alone, before any lookup, so it tells nothing about which keys
// exist and may be shown to anyone.
type Hint string

const (
	HintTruncated     Hint = "truncated"      // the beginning of a key: characters are missing at the end
	HintWhitespace    Hint = "whitespace"     // a space, tab or line break in or around the key
	HintMaskedPreview Hint = "masked_preview" // the masked preview from a list, not the key
	HintKeyID         Hint = "key_id"         // the public Key ID, not the secret
	HintChecksum      Hint = "checksum"       // the right form with a wrong character somewhere
	HintPrefix        Hint = "prefix"         // not a key of this product
	HintScheme        Hint = "scheme"         // the header's name or scheme is not the one expected
)

// definition returns what happened to the key and what to do about it. Both
// are empty without a hint.
func (h Hint) definition() (detail, fix string) {
	switch h {
	case HintTruncated:
		return "The key is incomplete: characters are missing at its end.",
			"Copy the whole key, to its last character."
	case HintWhitespace:
		return "There is a space, a tab or a line break in the key or beside it.",
			"Send the key without any space or line break."
	case HintMaskedPreview:
		return "This is the masked preview of a key, not the key.",
			"Use the key as it was shown once, when it was created; a list has only its preview."
	case HintKeyID:
		return "This is a Key ID, which names a key and opens nothing.",
			"Use the secret that was shown beside the Key ID when the key was created."
	case HintChecksum:
		return "A character of the key is wrong.",
			"Copy the key again instead of typing it."
	case HintPrefix:
		return "This is not a key of this service: its keys begin otherwise.",
			"Check which service and which setting the key was meant for."
	case HintScheme:
		return "The name or the scheme of the header is not the one expected.",
			"Send the key in the header 'Authorization: Bearer YOUR_KEY'."
	}
	return "", ""
}
