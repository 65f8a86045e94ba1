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
	CodeTimeout             Code = "timeout"                // the request took too long to arrive
	CodeUnknownOutcome      Code = "unknown_outcome"        // the change may or may not have happened; ask again
	CodeUnavailable         Code = "unavailable"            // the server cannot answer now; try again
	CodeStorageFull         Code = "storage_full"           // no space left for the database
	CodeInternal            Code = "internal"               // a fault of the server
)

// Status is the HTTP status that goes with the code: what a product answers to
// the holder of a key it refuses, or what the API answers to a failed request.
// It is 500 for a code this version does not know.
func (c Code) Status() int {
	switch c {
	case CodeValid:
		return http.StatusOK
	case CodeMalformed, CodeUnknown, CodeRevoked, CodeDisabled, CodeExpired, CodeMissingCredential:
		return http.StatusUnauthorized
	case CodeWorkspaceSuspended, CodeIPNotAllowed, CodeWrongWorkspace, CodeInsufficientPermission,
		CodePlanLimit, CodeExceedsAuthority:
		return http.StatusForbidden
	case CodeSeveralCredentials, CodeKeyInQuery, CodeInvalidRequest:
		return http.StatusBadRequest
	case CodeInvalidField, CodeIdempotencyMismatch:
		return http.StatusUnprocessableEntity
	case CodeNotFound, CodeUnknownRoute:
		return http.StatusNotFound
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case CodeConflict, CodeNameTaken, CodeInUse:
		return http.StatusConflict
	case CodeBodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case CodeTimeout:
		return http.StatusRequestTimeout
	case CodeUnknownOutcome, CodeUnavailable:
		return http.StatusServiceUnavailable
	case CodeStorageFull:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
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
