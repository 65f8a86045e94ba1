package keystile

// VerifyWebhookRequest asks whether a webhook, as it was received, is one of
// the workspace's, and if not, what happened to it.
type VerifyWebhookRequest struct {
	Payload string            `json:"payload" doc:"The body exactly as it was received, at most 1 MiB of UTF-8"`
	Headers map[string]string `json:"headers" doc:"The headers as they were received, names in any case; several lines of one joined with a comma"`
	// Environment refuses what was signed for any other one.
	Environment string `json:"environment,omitempty" maxLength:"32" doc:"Consumer environment that received it; absent: any"`
	// Secret asks whether the receiver has the right one.
	Secret string `json:"secret,omitempty" maxLength:"256" doc:"The secret that the receiver has, to hold against the workspace's; never kept"`
}

// WebhookVerdict says whether a webhook is good, and if not, why.
type WebhookVerdict struct {
	Valid bool        `json:"valid"`
	Code  WebhookCode `json:"code"`
	Hint  WebhookHint `json:"hint,omitempty"`
	// WebhookSecret is set only where a signature by this very secret fits.
	WebhookSecret string   `json:"webhook_secret,omitempty" doc:"ID of the workspace's secret that the webhook was signed with, where one fits"`
	Detail        string   `json:"detail" doc:"What was found, in words"`
	Fixes         []string `json:"fixes" nullable:"false" doc:"What to do about it, best first"`
	// Also is what is wrong beside that.
	Also []WebhookFinding `json:"also,omitempty" doc:"What is wrong beside that"`
}

// WebhookFinding is one thing that is wrong with a webhook.
type WebhookFinding struct {
	Code   WebhookCode `json:"code"`
	Hint   WebhookHint `json:"hint,omitempty"`
	Detail string      `json:"detail"`
}

// A WebhookCode names what was found about a webhook. Like [Code], it is part
// of the wire format.
type WebhookCode string

// What may be found about a webhook.
const (
	WebhookValid            WebhookCode = "valid"
	WebhookMalformedSecret  WebhookCode = "malformed_secret"  // the receiver's secret is no secret; see the hint
	WebhookNoSecret         WebhookCode = "no_secret"         // the workspace has none, and none was given
	WebhookRawSecret        WebhookCode = "raw_secret"        // signed with the secret's text instead of the bytes that it stands for
	WebhookWrongContent     WebhookCode = "wrong_content"     // something else than id, timestamp and body was signed; see the hint
	WebhookWrongAlgorithm   WebhookCode = "wrong_algorithm"   // not HMAC-SHA256; see the hint
	WebhookWrongEncoding    WebhookCode = "wrong_encoding"    // the right signature, written otherwise; see the hint
	WebhookBodyReserialized WebhookCode = "body_reserialized" // the body was parsed and written again; see the hint
	WebhookBodyChanged      WebhookCode = "body_changed"      // the body was changed on its way; see the hint
	WebhookWrongSecret      WebhookCode = "wrong_secret"      // a good webhook, and the receiver has another secret; see the hint
	WebhookForeignSecret    WebhookCode = "foreign_secret"    // signed with the receiver's secret, which is none of the workspace's
	WebhookRetiredSecret    WebhookCode = "retired_secret"    // signed with a secret that is revoked or expired
	WebhookWrongEnvironment WebhookCode = "wrong_environment" // signed for another consumer environment
	WebhookMissingHeader    WebhookCode = "missing_header"    // see the hint
	WebhookMalformedHeader  WebhookCode = "malformed_header"  // see the hint
	WebhookTimestampTooOld  WebhookCode = "timestamp_too_old" // signed longer ago than the tolerance
	WebhookTimestampTooNew  WebhookCode = "timestamp_too_new" // signed in the future
	WebhookNoMatch          WebhookCode = "no_match"          // no signature fits, whatever was tried
)

// A WebhookHint tells more about a finding.
type WebhookHint string

// Hints, by the codes that they come with.
const (
	// With WebhookMissingHeader and WebhookMalformedHeader, the header.
	WebhookHintID        WebhookHint = "webhook-id"
	WebhookHintTimestamp WebhookHint = "webhook-timestamp"
	WebhookHintSignature WebhookHint = "webhook-signature"
	// Also with WebhookMissingHeader.
	WebhookHintSvixNames WebhookHint = "svix_names" // the headers are there under the names svix-…
	// Also with WebhookMalformedHeader.
	WebhookHintMilliseconds WebhookHint = "milliseconds" // the timestamp
	WebhookHintRepeated     WebhookHint = "repeated"     // the ID or the timestamp

	// With WebhookMalformedSecret.
	WebhookHintWhitespace    WebhookHint = "whitespace"     // spaces, line breaks or quotes in it or beside it
	WebhookHintPrefix        WebhookHint = "prefix"         // does not begin with whsec_
	WebhookHintMaskedPreview WebhookHint = "masked_preview" // the preview from a list
	WebhookHintSecretID      WebhookHint = "secret_id"      // the ID, which signs nothing
	WebhookHintBase64        WebhookHint = "base64"         // no base64 behind the prefix
	WebhookHintLength        WebhookHint = "length"         // not 24 to 64 bytes

	// With WebhookWrongContent: what was signed.
	WebhookHintBodyOnly         WebhookHint = "body_only"
	WebhookHintIDMissing        WebhookHint = "id_missing"
	WebhookHintTimestampMissing WebhookHint = "timestamp_missing"
	WebhookHintOrder            WebhookHint = "order"      // the timestamp before the ID
	WebhookHintSeparators       WebhookHint = "separators" // other ones than dots, or none

	// With WebhookWrongAlgorithm.
	WebhookHintSHA1    WebhookHint = "sha1"
	WebhookHintSHA384  WebhookHint = "sha384"
	WebhookHintSHA512  WebhookHint = "sha512"
	WebhookHintEd25519 WebhookHint = "v1a" // the asymmetric one of Standard Webhooks

	// With WebhookWrongEncoding: how the signature is written.
	WebhookHintHex       WebhookHint = "hex"
	WebhookHintBase64URL WebhookHint = "base64url" // or without its padding
	WebhookHintNoVersion WebhookHint = "no_version"

	// With WebhookBodyReserialized: what is different.
	WebhookHintSpacing  WebhookHint = "spacing"
	WebhookHintEscapes  WebhookHint = "escapes"
	WebhookHintKeyOrder WebhookHint = "key_order"

	// With WebhookBodyChanged: by what.
	WebhookHintTrailingNewline WebhookHint = "trailing_newline"
	WebhookHintTrimmed         WebhookHint = "trimmed"
	WebhookHintLineEndings     WebhookHint = "line_endings"
	WebhookHintByteOrderMark   WebhookHint = "byte_order_mark"
	WebhookHintCharset         WebhookHint = "charset"
	WebhookHintForm            WebhookHint = "form"
	WebhookHintQuoted          WebhookHint = "quoted"
	WebhookHintHTML            WebhookHint = "html"
	WebhookHintBase64Body      WebhookHint = "base64_body"
	WebhookHintLost            WebhookHint = "lost"

	// With WebhookWrongSecret: what the receiver has instead.
	WebhookHintRetired          WebhookHint = "retired"
	WebhookHintOtherEnvironment WebhookHint = "other_environment"
	WebhookHintOtherSecret      WebhookHint = "other_secret"
	WebhookHintUnknown          WebhookHint = "unknown"
)

// NewWebhookFinding returns a finding with its words.
func NewWebhookFinding(code WebhookCode, hint WebhookHint) WebhookFinding {
	detail, _ := code.definition(hint)
	return WebhookFinding{Code: code, Hint: hint, Detail: detail}
}

// NewWebhookVerdict returns the verdict that findings amount to, the first of
// which counts most; without any the webhook is good. The secret's ID is that
// of the one that fits, if any.
func NewWebhookVerdict(secretID string, findings ...WebhookFinding) WebhookVerdict {
	first := NewWebhookFinding(WebhookValid, "")
	var also []WebhookFinding
	if len(findings) > 0 {
		first, also = findings[0], findings[1:]
	}
	_, fixes := first.Code.definition(first.Hint)
	if fixes == nil {
		fixes = []string{}
	}
	return WebhookVerdict{
		Valid: first.Code == WebhookValid, Code: first.Code, Hint: first.Hint, WebhookSecret: secretID,
		Detail: first.Detail, Fixes: fixes, Also: also,
	}
}

// definition is the one place where a code gets its words: what was found,
// and what to do about it.
func (c WebhookCode) definition(h WebhookHint) (detail string, fixes []string) {
	const rawBody = "Verify the body as it arrived, before anything parses it: in most frameworks the raw body has to be asked for."
	switch c {
	case WebhookValid:
		return "The signature fits, the secret is in use and the time is right.", nil
	case WebhookMalformedSecret:
		return malformedSecret(h)
	case WebhookNoSecret:
		return "The workspace has no webhook secret that this could have been signed with.", []string{
			"Create a webhook secret for this consumer environment, and give it to the consumer.",
		}
	case WebhookRawSecret:
		return "The text of the secret was used as the key. The key is what follows whsec_, decoded from base64.", []string{
			"Decode what follows whsec_ from base64, and use these bytes as the key.",
			"Or use a library for Standard Webhooks, which does so.",
		}
	case WebhookWrongContent:
		return wrongContent(h), []string{
			"Sign and verify the ID, a dot, the timestamp, a dot and the body, in this order.",
		}
	case WebhookWrongAlgorithm:
		if h == WebhookHintEd25519 {
			return "There is only a signature named v1a, which is made with Ed25519. Secrets that begin with whsec_ make those named v1.", []string{
				"Look for the signature named v1, or let the sender add one.",
			}
		}
		return "The signature was made with " + algorithmName(h) + ". Standard Webhooks uses HMAC-SHA256.", []string{
			"Use HMAC with SHA-256.",
		}
	case WebhookWrongEncoding:
		return wrongEncoding(h), []string{
			"Write the signature as 'v1,' and the standard base64 of the HMAC, with padding, and compare it as such.",
		}
	case WebhookBodyReserialized:
		return "The body was parsed and written again: it means the same and is not what was signed. " + reserialized(h), []string{
			rawBody, "Sign the very bytes that are sent.",
		}
	case WebhookBodyChanged:
		return bodyChanged(h), []string{rawBody, "Look for what stands between sender and receiver: a proxy, a gateway, middleware."}
	case WebhookWrongSecret:
		return wrongSecret(h)
	case WebhookForeignSecret:
		return "This was signed with the secret you entered, and that is none of this workspace's: it was deleted, or belongs elsewhere.", []string{
			"Create a webhook secret here and give it to sender and consumer, or look into the workspace that the secret is from.",
		}
	case WebhookRetiredSecret:
		return "This was signed with a secret that is revoked or expired.", []string{
			"Sign with a secret that is in use.",
			"If it was replaced, put its replacement wherever the old one is still left.",
		}
	case WebhookWrongEnvironment:
		return "This was signed with the secret of another consumer environment.", []string{
			"Send the webhooks of each environment to its own consumer, and give each its own secret.",
		}
	case WebhookMissingHeader:
		return missingHeader(h)
	case WebhookMalformedHeader:
		return malformedHeader(h)
	case WebhookTimestampTooOld:
		return "It was signed more than five minutes ago, so a receiver refuses it now: it may have been recorded and sent again.", []string{
			"If you look into it later than it came, this is as it should be: nothing else is wrong.",
			"If the receiver refused it at once, its clock is ahead or the sender's is behind: set both by a time server.",
			"If it waited in a queue, verify before queueing, or sign again when it is sent again.",
		}
	case WebhookTimestampTooNew:
		return "It was signed more than five minutes in the future: two clocks differ.", []string{
			"Set the clocks of sender and receiver by a time server.",
		}
	case WebhookNoMatch:
		return "No signature fits: not with any secret tried, not with any mistake that is looked for.", []string{
			"Check that headers and body are of the same webhook, and complete: one changed character is enough.",
			"Enter the secret that the consumer has, to see whether it is one of this workspace's.",
			rawBody,
		}
	}
	return "", nil
}

func malformedSecret(h WebhookHint) (string, []string) {
	again := "A secret is shown once. If it was not kept, rotate it and use its replacement."
	switch h {
	case WebhookHintWhitespace:
		return "There are spaces, line breaks or quotes in the secret or beside it.", []string{
			"Set the secret without them, also where it comes from a file or an environment variable.", again,
		}
	case WebhookHintPrefix:
		return "The secret does not begin with whsec_.", []string{"Copy the whole secret, with whsec_.", again}
	case WebhookHintMaskedPreview:
		return "This is the preview of a secret, not the secret.", []string{"Use the secret as it was shown when it was created.", again}
	case WebhookHintSecretID:
		return "This is the ID of a secret, which signs nothing.", []string{"Use the secret that was shown when it was created.", again}
	case WebhookHintLength:
		return "What follows whsec_ stands for fewer than 24 bytes or more than 64: the secret is cut off, or something is glued to it.",
			[]string{"Copy the whole secret, and nothing else.", again}
	}
	return "What follows whsec_ is not base64: a character is missing or wrong.", []string{"Copy the whole secret again.", again}
}

func wrongContent(h WebhookHint) string {
	switch h {
	case WebhookHintBodyOnly:
		return "The body alone was signed, without the ID and the timestamp."
	case WebhookHintIDMissing:
		return "The timestamp and the body were signed, without the ID."
	case WebhookHintTimestampMissing:
		return "The ID and the body were signed, without the timestamp."
	case WebhookHintOrder:
		return "The timestamp was signed before the ID; the ID comes first."
	}
	return "ID, timestamp and body were signed without the dots between them."
}

func algorithmName(h WebhookHint) string {
	switch h {
	case WebhookHintSHA1:
		return "HMAC-SHA1"
	case WebhookHintSHA384:
		return "HMAC-SHA384"
	}
	return "HMAC-SHA512"
}

func wrongEncoding(h WebhookHint) string {
	switch h {
	case WebhookHintHex:
		return "The signature is right and written in hexadecimal. Standard Webhooks writes base64."
	case WebhookHintBase64URL:
		return "The signature is right and written in the base64 of URLs or without padding. Standard Webhooks writes standard base64 with padding."
	}
	return "The signature is right and does not stand behind 'v1,', which names its version."
}

func reserialized(h WebhookHint) string {
	switch h {
	case WebhookHintSpacing:
		return "Spaces and line breaks between the parts differ."
	case WebhookHintKeyOrder:
		return "The keys of objects are in another order."
	}
	return "Characters are escaped in another way."
}

func bodyChanged(h WebhookHint) string {
	switch h {
	case WebhookHintTrailingNewline:
		return "There is a line break at the end of the body that was not signed, or one that was signed is missing."
	case WebhookHintTrimmed:
		return "The spaces around the body were not signed."
	case WebhookHintLineEndings:
		return "The line breaks of the body were changed between LF and CRLF."
	case WebhookHintByteOrderMark:
		return "A byte order mark was put before the body, or taken away."
	case WebhookHintCharset:
		return "The body was read in another character set than it was written in."
	case WebhookHintForm:
		return "The body was escaped or unescaped the way forms are, with % and +."
	case WebhookHintQuoted:
		return "The body was put into quotes with backslashes, or taken out of them, as logs and programs write text."
	case WebhookHintHTML:
		return "The body was escaped or unescaped as HTML."
	case WebhookHintBase64Body:
		return "The body was encoded in base64 on its way, as some gateways do."
	}
	return "The body is empty, or stands for an object that a program had made of it: the text that was signed is lost."
}

func wrongSecret(h WebhookHint) (string, []string) {
	const good = "The webhook is signed with the workspace's secret, and the consumer has another one: "
	replace := "Put the secret that is in use into the consumer. If it was not kept, rotate it and use its replacement."
	switch h {
	case WebhookHintRetired:
		return good + "an old one that is revoked or expired.", []string{
			replace, "Look for the old secret in every deployment of the consumer: one was left behind.",
		}
	case WebhookHintOtherEnvironment:
		return good + "that of another environment.", []string{"Give the consumer the secret of its own environment."}
	case WebhookHintOtherSecret:
		return good + "one that is in use and did not sign this webhook.", []string{
			replace, "Or let the sender sign with all secrets of the environment, as it does when it names none.",
		}
	}
	return good + "none of this workspace's.", []string{replace}
}

func missingHeader(h WebhookHint) (string, []string) {
	if h == WebhookHintSvixNames {
		return "The headers have the names that begin with svix-. Keystile's begin with webhook-.", []string{
			"If these are webhooks of another sender, verify them with that sender's secret and library.",
			"If a program renames the headers, let it leave them as they are.",
		}
	}
	return "The header " + string(h) + " is missing.", []string{
		"Hand all three headers over: webhook-id, webhook-timestamp and webhook-signature.",
		"If they don't arrive, let proxies and gateways pass them on.",
	}
}

func malformedHeader(h WebhookHint) (string, []string) {
	asSent := "Hand the headers over as they arrived."
	switch h {
	case WebhookHintID:
		return "The header webhook-id is not 1 to 128 letters, digits, _ and -. With a dot in it, it would not be clear what was signed.",
			[]string{"Use IDs of these characters.", asSent}
	case WebhookHintTimestamp:
		return "The header webhook-timestamp is not a number of whole seconds: digits alone, without a sign, spaces or zeros before them.",
			[]string{"Send the time as Unix seconds.", asSent}
	case WebhookHintMilliseconds:
		return "The header webhook-timestamp is in milliseconds; it has to be in seconds.", []string{"Send the time as Unix seconds."}
	case WebhookHintRepeated:
		return "The ID or the timestamp is there more than once, and no telling which one was signed.",
			[]string{"Send each once, and let nothing on the way add another."}
	}
	return "The header webhook-signature is not a list of signatures such as 'v1,' and base64, separated by spaces.",
		[]string{"Write each signature as 'v1,' and the standard base64 of 32 bytes, with padding.", asSent}
}
