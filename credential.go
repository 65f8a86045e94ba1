package keystile

import (
	"net/http"
	"net/url"
	"strings"
)

// maxCredential is the most bytes of a credential that are worth a look: what
// [VerifyRequest] takes, and far more than any key has.
const maxCredential = 512

// CredentialFrom returns the key that a request carries in one of the accepted
// headers, or the error to answer with. Accepted headers are Authorization,
// with the scheme Bearer (RFC 6750, section 2.1), and any others, with the key
// alone; none given means Authorization and X-API-Key.
//
// Spaces at the edges of a header are none of the sender's doing and ignored;
// inner ones and a second one behind the scheme are told. A header that is not
// accepted is never read for a key. It is only named, when no accepted one is
// there, to whoever put the key in the wrong place.
//
// The key may still be of any form: see [Format.Check].
func CredentialFrom(h http.Header, accept []string) (secret string, problem *Error) {
	if len(accept) == 0 {
		accept = []string{"Authorization", "X-API-Key"}
	}
	var header, value string
	for _, name := range accept {
		for _, line := range h[canonical(name)] {
			line = strings.Trim(line, " \t")
			if line == "" {
				continue
			}
			if value != "" {
				return "", NewError(CodeSeveralCredentials, "")
			}
			header, value = name, line
		}
	}
	switch {
	case value == "":
		return "", absent(h, accept)
	case isAuthorization(header):
		secret, problem = bearer(value)
	default:
		secret, problem = bare(header, value)
	}
	if problem == nil && len(secret) > maxCredential {
		secret, problem = "", NewError(CodeMalformed, "What was sent is far longer than any key.")
	}
	return secret, problem
}

// canonical is the form of a header's name in an http.Header. The two names
// that there nearly always are cost nothing.
func canonical(name string) string {
	switch name {
	case "Authorization":
		return name
	case "X-API-Key":
		return "X-Api-Key"
	}
	return http.CanonicalHeaderKey(name)
}

// bearer reads the value of an Authorization header.
func bearer(value string) (string, *Error) {
	scheme, rest := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		scheme, rest = value[:i], value[i:]
	}
	switch {
	case !strings.EqualFold(scheme, "Bearer"): // any case: RFC 9110, section 11.1
		e := Malformed(HintScheme)
		e.Detail = "The header Authorization does not have the word Bearer and one space before the key."
		e.Fixes = placement("Authorization")
		return "", e
	case rest == "":
		return "", NewError(CodeMissingCredential, "The header Authorization says Bearer, and no key follows.",
			"Check that the setting or variable that should hold the key is not empty.")
	case rest[0] == '\t' || rest[1] == ' ' || rest[1] == '\t': // rest is trimmed, so it goes on behind its space
		e := Malformed(HintWhitespace)
		e.Detail = "There is a tab, or more than one space, between the word Bearer and the key."
		e.Fixes = placement("Authorization")
		return "", e
	}
	key := rest[1:]
	if first, _, inner := strings.Cut(key, " "); inner && strings.EqualFold(first, "Bearer") {
		e := Malformed(HintScheme)
		e.Detail = "The word Bearer is there twice."
		e.Fixes = placement("Authorization")
		return "", e
	}
	return unbroken(key)
}

// bare reads the value of a header that holds the key alone.
func bare(header, value string) (string, *Error) {
	if first, _, inner := strings.Cut(value, " "); inner && (strings.EqualFold(first, "Bearer") || strings.EqualFold(first, "Basic")) {
		e := Malformed(HintScheme)
		e.Detail = "The header " + header + " takes the key alone, without a word before it."
		e.Fixes = placement(header)
		return "", e
	}
	return unbroken(value)
}

// unbroken returns the key unless it looks like several, or has a gap. Proxies
// join the lines of a repeated header with commas (RFC 9110, section 5.3).
func unbroken(key string) (string, *Error) {
	if before, after, ok := strings.Cut(key, ","); ok && before != "" && strings.Trim(after, ", \t") != "" {
		return "", NewError(CodeSeveralCredentials, "")
	}
	if strings.ContainsAny(key, " \t") {
		e := Malformed(HintWhitespace)
		e.Detail = "There is a space or a tab inside the key."
		return "", e
	}
	return key, nil
}

// absent explains that no accepted header holds a key.
func absent(h http.Header, accept []string) *Error {
	var fixes []string
	for _, name := range accept {
		fixes = append(fixes, placement(name)...)
	}
	for _, name := range [...]string{
		"Authorization", "X-Api-Key",
		// What people write from memory:
		"Api-Key", "Apikey", "X-Apikey", "X-Key", "X-Api-Token", "X-Auth-Token", "X-Auth-Key", "X-Access-Token",
		"Authentication", "Authorisation", "X-Authorization", "Bearer",
	} {
		if strings.TrimSpace(h.Get(name)) == "" || isAccepted(accept, name) {
			continue
		}
		e := Malformed(HintScheme)
		e.Detail = "A key in the header " + name + " is not read here."
		e.Fixes = fixes
		return e
	}
	return NewError(CodeMissingCredential, "", fixes...)
}

// placement says how a header carries a key.
func placement(header string) []string {
	if isAuthorization(header) {
		return []string{"Send the key in the header 'Authorization: Bearer YOUR_KEY'."}
	}
	return []string{"Send the key in the header '" + header + ": YOUR_KEY'."}
}

func isAccepted(accept []string, header string) bool {
	for _, name := range accept {
		if strings.EqualFold(name, header) {
			return true
		}
	}
	return false
}

func isAuthorization(header string) bool { return strings.EqualFold(header, "Authorization") }

// KeyInQuery returns the error for a request whose query string holds a key,
// nil if it holds none. The prefix of the product need not be known:
//
//   - In any parameter, what has the form and the checksum of a key is one; the
//     checksum makes a mistake one in four thousand million.
//   - In a parameter that is called after a credential (key, api_key, token,
//     access_token and the like) the form alone is enough, so that a key with a
//     typing error is kept out of the logs too: a prefix, perhaps an
//     environment, and 39 letters and digits or more.
//
// Key IDs and other ids are shorter, and may stand in a URL.
func KeyInQuery(rawQuery string) *Error {
	for rest, more := rawQuery, rawQuery != ""; more; {
		var pair string
		if i := strings.IndexAny(rest, "&;"); i >= 0 {
			pair, rest = rest[:i], rest[i+1:]
		} else {
			pair, more = rest, false
		}
		name, value, _ := strings.Cut(pair, "=")
		value = strings.TrimSpace(unescape(value))
		if isAnyKey(value) || isAnyKey(name) || isKeyForm(value) && isCredentialName(unescape(name)) {
			return NewError(CodeKeyInQuery, "")
		}
	}
	return nil
}

func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// isCredentialName tells whether a parameter is called after a credential,
// however it is spelt: api_key, apiKey, X-API-Key.
func isCredentialName(name string) bool {
	if len(name) > 32 {
		return false
	}
	switch strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(name)) {
	case "key", "apikey", "xapikey", "token", "apitoken", "accesstoken", "authtoken", "authorization", "auth", "bearer", "secret", "apisecret":
		return true
	}
	return false
}

// isKeyForm tells whether s has the form of a key of any product. A scheme
// before it makes it no better.
func isKeyForm(s string) bool {
	if i := strings.LastIndexByte(s, ' '); i >= 0 {
		s = s[i+1:]
	}
	head, body := splitKey(s)
	return head != "" && len(body) >= bodyLen
}

// isAnyKey tells whether s is a well-formed key of any product: form, length
// and checksum.
func isAnyKey(s string) bool {
	if len(s) > MaxTokenLen {
		return false
	}
	head, body := splitKey(s)
	if head == "" || len(body) != bodyLen {
		return false
	}
	sum := checksum(s[:len(s)-sumLen])
	return s[len(s)-sumLen:] == string(sum[:])
}

// splitKey cuts a key of any product behind its last underscore. The head is
// empty when what stands there is no prefix, or no prefix and environment, or
// when the body is more than letters and digits.
func splitKey(s string) (head, body string) {
	i := strings.LastIndexByte(s, '_')
	if i < 0 || !isAlphanumeric(s[i+1:]) {
		return "", ""
	}
	prefix, marker, marked := strings.Cut(s[:i], "_")
	if !isName(prefix) || marked && !isName(marker) {
		return "", ""
	}
	return s[:i], s[i+1:]
}
