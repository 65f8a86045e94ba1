package webhook

import (
	"encoding/base64"
	"strings"
	"unicode"

	"github.com/keystile/keystile"
)

// readSecret reads what a receiver has, and says what is wrong with it.
func readSecret(text string) (key, keystile.WebhookHint) {
	secret, err := keystile.ParseWebhookSecret(text)
	if err == nil {
		b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_")) // parsed just now
		return key{Candidate: Candidate{Text: text}, secret: secret, bytes: b}, ""
	}
	loose := func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune("\"'`“”‘’", r)
	}
	switch {
	case strings.ContainsAny(text, "•…*●") || strings.Contains(text, "..."):
		return key{}, keystile.WebhookHintMaskedPreview
	case strings.ContainsFunc(text, loose):
		return key{}, keystile.WebhookHintWhitespace
	case strings.HasPrefix(text, "whs_"):
		return key{}, keystile.WebhookHintSecretID
	case !strings.HasPrefix(text, "whsec_"):
		return key{}, keystile.WebhookHintPrefix
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(text, "whsec_")); err != nil {
		return key{}, keystile.WebhookHintBase64
	}
	return key{}, keystile.WebhookHintLength
}
