package keystile

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Signed webhooks as Standard Webhooks 1.0.0 has them
// (https://github.com/standard-webhooks/standard-webhooks): HMAC-SHA256 over
// "id.timestamp.payload" under the name v1.

// Headers of a signed webhook.
const (
	WebhookIDHeader        = "Webhook-Id"
	WebhookTimestampHeader = "Webhook-Timestamp"
	WebhookSignatureHeader = "Webhook-Signature"
)

const (
	webhookSecretPrefix = "whsec_"
	webhookVersion      = "v1"
	minWebhookSecret    = 24 // bytes
	maxWebhookSecret    = 64 // bytes
	newWebhookSecret    = 32 // bytes; as long as the MAC itself
	maxWebhookID        = 128
	// maxSignatures bounds the work that a request can ask for. A rotation
	// needs two.
	maxSignatures = 32
	// WebhookTolerance is how far the timestamp may be from the receiver's
	// clock, either way, where nothing else is said.
	WebhookTolerance = 5 * time.Minute
)

// WebhookSecret signs and verifies webhooks. The zero value does neither.
// Printed in whatever way, it does not show what it holds.
type WebhookSecret struct{ key []byte }

// NewWebhookSecret makes a secret and its text, "whsec_" and base64, which is
// what sender and receiver keep.
func NewWebhookSecret() (WebhookSecret, string) {
	key := make([]byte, newWebhookSecret)
	_, _ = rand.Read(key) // never fails: it ends the program instead
	return WebhookSecret{key}, webhookSecretPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseWebhookSecret reads the text of a secret: "whsec_" and the standard
// base64, with padding, of 24 to 64 bytes. The error does not repeat the text.
func ParseWebhookSecret(text string) (WebhookSecret, error) {
	encoded, ok := strings.CutPrefix(text, webhookSecretPrefix)
	if !ok {
		return WebhookSecret{}, errors.New("keystile: a webhook secret begins with whsec_")
	}
	key, err := strictBase64(encoded)
	if err != nil {
		return WebhookSecret{}, errors.New("keystile: what follows whsec_ is not base64; copy the secret again, whole")
	}
	if len(key) < minWebhookSecret || len(key) > maxWebhookSecret {
		return WebhookSecret{}, fmt.Errorf("keystile: a webhook secret has %d to %d bytes, this one has %d",
			minWebhookSecret, maxWebhookSecret, len(key))
	}
	return WebhookSecret{key}, nil
}

// String hides the secret from everything that prints.
func (WebhookSecret) String() string { return webhookSecretPrefix + "…" }

// GoString does so for %#v.
func (s WebhookSecret) GoString() string { return s.String() }

// strictBase64 decodes standard base64. The library's decoder skips line
// breaks, so that two texts would mean the same.
func strictBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line break in base64")
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// sign returns the MAC of a webhook.
func (s WebhookSecret) sign(id, timestamp string, payload []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(id))
	mac.Write([]byte{'.'})
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(payload)
	return mac.Sum(nil)
}

// SignWebhook returns the headers of a webhook: its ID, the time in whole
// seconds, and one signature for each secret, so that during a rotation the
// receiver may have either. The ID names the message, the same one when it is
// sent again; it has 1 to 128 of the characters A-Z a-z 0-9 _ - and no dot,
// which would make it ambiguous what was signed.
func SignWebhook(id string, at time.Time, payload []byte, secrets ...WebhookSecret) (http.Header, error) {
	if !isWebhookID(id) {
		return nil, errors.New("keystile: the id of a webhook has 1 to 128 of the characters A-Z a-z 0-9 _ -")
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	if _, ok := parseWebhookTime(timestamp); !ok {
		return nil, errors.New("keystile: a webhook needs the time at which it is signed")
	}
	if len(secrets) == 0 || len(secrets) > maxSignatures {
		return nil, fmt.Errorf("keystile: a webhook is signed with 1 to %d secrets", maxSignatures)
	}
	signatures := make([]string, len(secrets))
	for i, s := range secrets {
		if len(s.key) == 0 {
			return nil, errors.New("keystile: an empty webhook secret signs nothing; use ParseWebhookSecret")
		}
		signatures[i] = webhookVersion + "," + base64.StdEncoding.EncodeToString(s.sign(id, timestamp, payload))
	}
	return http.Header{
		WebhookIDHeader:        {id},
		WebhookTimestampHeader: {timestamp},
		WebhookSignatureHeader: {strings.Join(signatures, " ")},
	}, nil
}

func isWebhookID(id string) bool {
	if id == "" || len(id) > maxWebhookID {
		return false
	}
	for _, c := range []byte(id) {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// Reasons why a webhook is not accepted, for errors.Is.
var (
	ErrWebhookHeader    = errors.New("keystile: a header of the webhook is missing, repeated or malformed")
	ErrWebhookTooOld    = errors.New("keystile: the webhook was signed too long ago")
	ErrWebhookTooNew    = errors.New("keystile: the webhook was signed in the future; compare the clocks")
	ErrWebhookSignature = errors.New("keystile: no signature of the webhook fits; check that the secret is the current one and that the body is the one received, byte for byte")
	ErrWebhookReplayed  = errors.New("keystile: the webhook was accepted before")
)

// WebhookVerifier tells webhooks that were signed with one of its secrets from
// all others. It may be used by any number of goroutines once it is set up.
type WebhookVerifier struct {
	// Secrets are those to accept: one, or both during a rotation.
	Secrets []WebhookSecret
	// Tolerance is how far the timestamp may be from the clock, either way;
	// 0 means [WebhookTolerance].
	Tolerance time.Duration
	// Replayed, if set, is asked last, about a webhook that is good otherwise:
	// it notes the ID and tells whether it was noted before, in one step, since
	// two deliveries of one webhook may arrive together. Once until has passed
	// it may forget the ID: the timestamp alone refuses the webhook then.
	//
	// A sender that got no answer, or a failure, sends the webhook again under
	// the same ID. So a receiver that fails after Verify must make its guard
	// forget the ID, and one that is asked again about what it has done answers
	// [ErrWebhookReplayed] with success, or it will be asked once more.
	Replayed func(id string, until time.Time) (bool, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verify returns nil if the headers carry a good signature of the payload, the
// body as it was received, byte for byte. The case of the headers' names does
// not matter. Signatures may stand in one header, separated by spaces, or in
// several, which a proxy may have joined with commas (RFC 9110, 5.3); those of
// other versions than v1 are passed over. The errors are those named
// ErrWebhook…, and what Replayed says.
//
// It is stricter than the specification's own libraries where they read one
// text in several ways: a timestamp is digits without sign, leading zero or
// anything behind them, a header that may be there once is there once, and
// whatever stands under v1 is the whole base64 of a MAC.
func (v *WebhookVerifier) Verify(h http.Header, payload []byte) error {
	id, okID := single(h, WebhookIDHeader)
	timestamp, okTime := single(h, WebhookTimestampHeader)
	if !okID || !okTime || !isWebhookID(id) {
		return ErrWebhookHeader
	}
	at, ok := parseWebhookTime(timestamp)
	if !ok {
		return ErrWebhookHeader
	}
	presented, err := webhookSignatures(headerValues(h, WebhookSignatureHeader))
	if err != nil {
		return err
	}
	tolerance, now := v.Tolerance, time.Now
	if tolerance <= 0 {
		tolerance = WebhookTolerance
	}
	if v.Now != nil {
		now = v.Now
	}
	switch age := now().Sub(at); {
	case age > tolerance:
		return ErrWebhookTooOld
	case age < -tolerance:
		return ErrWebhookTooNew
	}
	good := false
	for _, s := range v.Secrets {
		if len(s.key) == 0 {
			continue
		}
		want := s.sign(id, timestamp, payload)
		for _, have := range presented {
			// All are compared, each in constant time: which one fits is not told.
			if hmac.Equal(want, have) {
				good = true
			}
		}
	}
	if !good {
		return ErrWebhookSignature
	}
	if v.Replayed != nil {
		seen, err := v.Replayed(id, at.Add(tolerance))
		if err != nil {
			return err
		}
		if seen {
			return ErrWebhookReplayed
		}
	}
	return nil
}

// headerValues returns the lines of a header. [http.Header.Values] finds only
// names in canonical form, and frameworks that are not built on net/http hand
// over maps with names in lower case.
func headerValues(h http.Header, name string) []string {
	var values []string
	for k, v := range h {
		if http.CanonicalHeaderKey(k) == name {
			values = append(values, v...)
		}
	}
	return values
}

// single returns the value of a header that is there once.
func single(h http.Header, name string) (string, bool) {
	values := headerValues(h, name)
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

// parseWebhookTime reads Unix seconds: digits alone, without sign, space or
// leading zero, so that one time has one text.
func parseWebhookTime(s string) (time.Time, bool) {
	if s == "" || len(s) > 11 || s[0] == '0' {
		return time.Time{}, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0), err == nil
}

// webhookSignatures reads the MACs of version 1 from the lines of the header.
func webhookSignatures(lines []string) ([][]byte, error) {
	var macs [][]byte
	n := 0
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, " ") {
			// An entry is a version and a signature; where lines were joined,
			// a comma follows, and with no space behind it the next entry.
			for rest := strings.TrimSuffix(entry, ","); rest != ""; {
				var version, encoded string
				version, rest, _ = strings.Cut(rest, ",")
				encoded, rest, _ = strings.Cut(rest, ",")
				if n++; n > maxSignatures {
					return nil, ErrWebhookHeader
				}
				if version != webhookVersion {
					continue
				}
				mac, err := strictBase64(encoded)
				if err != nil || len(mac) != sha256.Size {
					return nil, ErrWebhookHeader
				}
				macs = append(macs, mac)
			}
		}
	}
	if n == 0 {
		return nil, ErrWebhookHeader
	}
	return macs, nil
}
