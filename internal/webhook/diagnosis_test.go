package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"html"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/webhook"
)

const signedAt = 1_800_000_000

// delivery is a webhook on its way, made by a sender that does everything
// right as long as nothing is changed.
type delivery struct {
	secret  string // text of the one that signs
	key     func(text string) []byte
	hash    func() hash.Hash
	content func(id, timestamp, body string) string
	write   func(mac []byte) string // the header webhook-signature

	id, timestamp string
	signed        string // the body as it was signed
	received      string // the body as it arrived
	now           time.Time
	header        func(http.Header)
}

func decoded(text string) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
	if err != nil {
		panic(err)
	}
	return b
}

func newDelivery(secret, body string) *delivery {
	return &delivery{
		secret: secret, key: decoded, hash: sha256.New,
		content: func(id, timestamp, body string) string { return id + "." + timestamp + "." + body },
		write:   func(mac []byte) string { return "v1," + base64.StdEncoding.EncodeToString(mac) },
		id:      "msg_1", timestamp: strconv.Itoa(signedAt), signed: body, received: body,
		now: time.Unix(signedAt+10, 0), header: func(http.Header) {},
	}
}

func (d *delivery) signature() string {
	h := hmac.New(d.hash, d.key(d.secret))
	h.Write([]byte(d.content(d.id, d.timestamp, d.signed)))
	return d.write(h.Sum(nil))
}

func (d *delivery) question(candidates ...webhook.Candidate) webhook.Question {
	h := http.Header{}
	h.Set("webhook-id", d.id)
	h.Set("webhook-timestamp", d.timestamp)
	h.Set("webhook-signature", d.signature())
	d.header(h)
	return webhook.Question{Headers: h, Payload: []byte(d.received), Candidates: candidates, Now: d.now}
}

// secretText makes the secret of a number, so that failures repeat.
func secretText(n int) string {
	sum := sha256.Sum256([]byte{byte(n), byte(n >> 8)})
	return "whsec_" + base64.StdEncoding.EncodeToString(sum[:])
}

// workspace has one secret for each way to be the wrong one.
func workspace() []webhook.Candidate {
	return []webhook.Candidate{
		{ID: "whs_live", Environment: "live", Text: secretText(1)},
		{ID: "whs_before", Environment: "live", Text: secretText(2)},
		{ID: "whs_test", Environment: "test", Text: secretText(3)},
		{ID: "whs_old", Environment: "live", Ended: true, Text: secretText(4)},
	}
}

// spoil is one way to spoil a good delivery.
type spoil struct {
	name  string
	code  keystile.WebhookCode
	hint  keystile.WebhookHint
	apply func(*delivery)
	// The body that it can be seen with; the JSON of the others when empty.
	body string
	// known: which secret was used can be told.
	known bool
}

func set(name string, change func(string) []string) func(*delivery) {
	return func(d *delivery) {
		d.header = func(h http.Header) { h[http.CanonicalHeaderKey(name)] = change(h.Get(name)) }
	}
}

func written(write func([]byte) string) func(*delivery) {
	return func(d *delivery) { d.write = write }
}

func content(of func(id, timestamp, body string) string) func(*delivery) {
	return func(d *delivery) { d.content = of }
}

func received(change func(string) string) func(*delivery) {
	return func(d *delivery) { d.received = change(d.signed) }
}

// again writes JSON anew with the standard library, its keys in order and
// nothing escaped that need not be.
func again(body string) string {
	var v any
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// spaced writes JSON in lines.
func spaced(indent string) func(string) string {
	return func(body string) string {
		var out bytes.Buffer
		if err := json.Indent(&out, []byte(body), "", indent); err != nil {
			panic(err)
		}
		return out.String()
	}
}

func spoils() []spoil {
	std := base64.StdEncoding.EncodeToString
	return []spoil{
		{name: "raw secret with its prefix", code: keystile.WebhookRawSecret, known: true,
			apply: func(d *delivery) { d.key = func(text string) []byte { return []byte(text) } }},
		{name: "raw secret without its prefix", code: keystile.WebhookRawSecret, known: true,
			apply: func(d *delivery) {
				d.key = func(text string) []byte { return []byte(strings.TrimPrefix(text, "whsec_")) }
			}},
		{name: "raw secret from a file", code: keystile.WebhookRawSecret, known: true,
			apply: func(d *delivery) { d.key = func(text string) []byte { return []byte(text + "\n") } }},

		{name: "body alone", code: keystile.WebhookWrongContent, hint: keystile.WebhookHintBodyOnly, known: true,
			apply: content(func(_, _, body string) string { return body })},
		{name: "no id", code: keystile.WebhookWrongContent, hint: keystile.WebhookHintIDMissing, known: true,
			apply: content(func(_, timestamp, body string) string { return timestamp + "." + body })},
		{name: "no timestamp", code: keystile.WebhookWrongContent, hint: keystile.WebhookHintTimestampMissing, known: true,
			apply: content(func(id, _, body string) string { return id + "." + body })},
		{name: "timestamp first", code: keystile.WebhookWrongContent, hint: keystile.WebhookHintOrder, known: true,
			apply: content(func(id, timestamp, body string) string { return timestamp + "." + id + "." + body })},
		{name: "no dots", code: keystile.WebhookWrongContent, hint: keystile.WebhookHintSeparators, known: true,
			apply: content(func(id, timestamp, body string) string { return id + timestamp + body })},
		{name: "lines instead of dots", code: keystile.WebhookWrongContent, hint: keystile.WebhookHintSeparators, known: true,
			apply: content(func(id, timestamp, body string) string { return id + "\n" + timestamp + "\n" + body })},

		{name: "SHA-1", code: keystile.WebhookWrongAlgorithm, hint: keystile.WebhookHintSHA1, known: true,
			apply: func(d *delivery) { d.hash = sha1.New }},
		{name: "SHA-384", code: keystile.WebhookWrongAlgorithm, hint: keystile.WebhookHintSHA384, known: true,
			apply: func(d *delivery) { d.hash = sha512.New384 }},
		{name: "SHA-512", code: keystile.WebhookWrongAlgorithm, hint: keystile.WebhookHintSHA512, known: true,
			apply: func(d *delivery) { d.hash = sha512.New }},
		{name: "Ed25519 alone", code: keystile.WebhookWrongAlgorithm, hint: keystile.WebhookHintEd25519,
			apply: written(func([]byte) string { return "v1a," + std(make([]byte, 64)) })},

		{name: "hexadecimal", code: keystile.WebhookWrongEncoding, hint: keystile.WebhookHintHex, known: true,
			apply: written(func(mac []byte) string { return "v1," + hex.EncodeToString(mac) })},
		{name: "hexadecimal as GitHub has it", code: keystile.WebhookWrongEncoding, hint: keystile.WebhookHintHex, known: true,
			apply: written(func(mac []byte) string { return "sha256=" + hex.EncodeToString(mac) })},
		{name: "hexadecimal as Stripe has it", code: keystile.WebhookWrongEncoding, hint: keystile.WebhookHintHex, known: true,
			apply: written(func(mac []byte) string { return "t=1800000000,v1=" + hex.EncodeToString(mac) })},
		{name: "base64 of URLs", code: keystile.WebhookWrongEncoding, hint: keystile.WebhookHintBase64URL, known: true,
			apply: written(func(mac []byte) string { return "v1," + base64.RawURLEncoding.EncodeToString(mac) })},
		{name: "no version", code: keystile.WebhookWrongEncoding, hint: keystile.WebhookHintNoVersion, known: true, apply: written(std)},

		{name: "written with spaces", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintSpacing, known: true,
			apply: received(spaced("  "))},
		{name: "written with tabs", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintSpacing, known: true,
			apply: received(spaced("\t"))},
		{name: "written without spaces", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintSpacing, known: true,
			apply: received(again), body: "{\n  \"a\": 1.50,\n  \"b\": [\n    true,\n    null,\n    {}\n  ]\n}"},
		{name: "Python's spaces taken away", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintSpacing, known: true,
			apply: received(again), body: `{"a": 1, "b": ["x", "y"]}`},
		{name: "Python's spaces and the last line break taken away", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintSpacing, known: true,
			apply: received(again), body: `{"a": 1, "b": ["x", "y"]}` + "\n"},
		{name: "escapes of PHP taken away", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintEscapes, known: true,
			apply: received(again), body: `{"url":"https:\/\/example.com\/\u017elu\ud83d\udc0e"}`},
		{name: "escapes of Python taken away", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintEscapes, known: true,
			apply: received(again), body: `{"name": "\u017elu\ud83d\udc0e"}`},
		{name: "escapes of Go taken away", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintEscapes, known: true,
			apply: received(again), body: `{"html":"\u003cb\u003e \u0026 so on\u2028"}`},
		{name: "keys no more in order", code: keystile.WebhookBodyReserialized, hint: keystile.WebhookHintKeyOrder, known: true,
			apply: received(func(string) string { return `{"b":1,"a":{"d":2,"c":"ž"}}` }), body: `{"a":{"c":"ž","d":2},"b":1}`},

		{name: "line break added", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintTrailingNewline, known: true,
			apply: received(func(s string) string { return s + "\n" })},
		{name: "line break of Windows added", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintTrailingNewline, known: true,
			apply: received(func(s string) string { return s + "\r\n" })},
		{name: "line break taken away", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintTrailingNewline, known: true,
			apply: received(func(s string) string { return strings.TrimSuffix(s, "\n") }), body: "{\"a\":1}\n"},
		{name: "spaces around it", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintTrimmed, known: true,
			apply: received(func(s string) string { return "  " + s + " \t" })},
		{name: "lines of Windows", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintLineEndings, known: true,
			apply: received(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }), body: "a\nb\nc"},
		{name: "lines of Unix", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintLineEndings, known: true,
			apply: received(func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }), body: "a\r\nb\r\n"},
		{name: "byte order mark added", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintByteOrderMark, known: true,
			apply: received(func(s string) string { return "\ufeff" + s })},
		{name: "byte order mark taken away", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintByteOrderMark, known: true,
			apply: received(func(s string) string { return strings.TrimPrefix(s, "\ufeff") }), body: "\ufeff{}"},
		{name: "UTF-8 read as Latin-1", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintCharset, known: true,
			apply: received(func(string) string { return "na\u00c3\u00afve" }), body: "naïve"},
		{name: "UTF-8 read as Windows-1252", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintCharset, known: true,
			apply: received(func(string) string { return "5 â‚¬" }), body: "5 €"},
		{name: "escaped as a form", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintForm, known: true,
			apply: received(url.QueryEscape)},
		{name: "put into a field of a form", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintForm, known: true,
			apply: received(func(s string) string { return "payload=" + url.QueryEscape(s) })},
		{name: "unescaped as a form", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintForm, known: true,
			apply: received(func(s string) string { u, _ := url.QueryUnescape(s); return u }), body: "a=1+2&b=%C5%BE"},
		{name: "put into quotes", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintQuoted, known: true,
			apply: received(strconv.Quote)},
		{name: "backslashes of a log", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintQuoted, known: true,
			apply: received(func(s string) string { return strings.Trim(strconv.Quote(s), `"`) }), body: "{\"a\":\t1}\n{}"},
		{name: "quotes taken away", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintQuoted, known: true,
			apply: received(func(s string) string { u, _ := strconv.Unquote(s); return u }), body: `"a \"b\""`},
		{name: "escaped as HTML", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintHTML, known: true,
			apply: received(html.EscapeString)},
		{name: "base64", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintBase64Body, known: true,
			apply: received(func(s string) string { return std([]byte(s)) })},
		{name: "an object", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintLost,
			apply: received(func(string) string { return "[object Object]" })},
		{name: "nothing left", code: keystile.WebhookBodyChanged, hint: keystile.WebhookHintLost,
			apply: received(func(string) string { return "" })},

		{name: "no header webhook-id", code: keystile.WebhookMissingHeader, hint: keystile.WebhookHintID,
			apply: set("webhook-id", func(string) []string { return nil })},
		{name: "no header webhook-timestamp", code: keystile.WebhookMissingHeader, hint: keystile.WebhookHintTimestamp,
			apply: set("webhook-timestamp", func(string) []string { return nil })},
		{name: "no header webhook-signature", code: keystile.WebhookMissingHeader, hint: keystile.WebhookHintSignature,
			apply: set("webhook-signature", func(string) []string { return nil })},
		{name: "empty header webhook-signature", code: keystile.WebhookMissingHeader, hint: keystile.WebhookHintSignature,
			apply: set("webhook-signature", func(string) []string { return []string{" "} })},
		{name: "Svix's names", code: keystile.WebhookMissingHeader, hint: keystile.WebhookHintSvixNames,
			apply: func(d *delivery) {
				d.header = func(h http.Header) {
					for _, name := range []string{"Id", "Timestamp", "Signature"} {
						h["Svix-"+name] = h["Webhook-"+name]
						delete(h, "Webhook-"+name)
					}
				}
			}},
		{name: "dot in the id", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintID, known: true,
			apply: func(d *delivery) { d.id = "msg.1" }},
		{name: "id twice", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintRepeated, known: true,
			apply: set("webhook-id", func(s string) []string { return []string{s, s} })},
		{name: "id twice, joined", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintRepeated, known: true,
			apply: set("webhook-id", func(s string) []string { return []string{s + ", " + s} })},
		{name: "timestamp with a sign", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintTimestamp, known: true,
			apply: set("webhook-timestamp", func(s string) []string { return []string{"+" + s} })},
		{name: "timestamp is a date", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintTimestamp, known: true,
			apply: func(d *delivery) { d.timestamp = "2027-01-15T08:00:00Z" }},
		{name: "milliseconds", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintMilliseconds, known: true,
			apply: func(d *delivery) { d.timestamp += "000" }},
		{name: "no signature in it", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintSignature,
			apply: set("webhook-signature", func(string) []string { return []string{"v1,none"} })},
		{name: "cut off", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintSignature,
			apply: set("webhook-signature", func(s string) []string { return []string{s[:20]} })},
		{name: "something broken beside it", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintSignature, known: true,
			apply: set("webhook-signature", func(s string) []string { return []string{"v1,AAAA " + s} })},
		{name: "a version nobody knows", code: keystile.WebhookMalformedHeader, hint: keystile.WebhookHintSignature,
			apply: set("webhook-signature", func(s string) []string { return []string{"v9" + s[2:]} })},

		{name: "too old", code: keystile.WebhookTimestampTooOld, known: true,
			apply: func(d *delivery) { d.now = time.Unix(signedAt+301, 0) }},
		{name: "too new", code: keystile.WebhookTimestampTooNew, known: true,
			apply: func(d *delivery) { d.now = time.Unix(signedAt-301, 0) }},

		{name: "another body", code: keystile.WebhookNoMatch, apply: received(func(s string) string { return s + "!" })},
		{name: "another id", code: keystile.WebhookNoMatch,
			apply: set("webhook-id", func(string) []string { return []string{"msg_2"} })},
		{name: "another secret", code: keystile.WebhookNoMatch, apply: func(d *delivery) { d.secret = secretText(99) }},
	}
}

const body = `{"type":"order.shipped","data":{"id":"o_1","to":"Žižkov","sum":1.50,"url":"https://example.com/a?b=1&c=<2>"}}`

// TestVQ7Spoiled: each way to spoil a good delivery is named, whichever of the
// workspace's secrets signed it, and in front of and behind other signatures.
func TestVQ7Spoiled(t *testing.T) {
	for _, s := range spoils() {
		t.Run(s.name, func(t *testing.T) {
			text := s.body
			if text == "" {
				text = body
			}
			for _, c := range workspace()[:2] {
				d := newDelivery(c.Text, text)
				s.apply(d)
				got := webhook.Diagnose(d.question(workspace()...))
				want := ""
				if s.known {
					want = c.ID
				}
				if got.Valid || got.Code != s.code || got.Hint != s.hint || got.WebhookSecret != want {
					t.Errorf("%s %s %q, want %s %s %q\n%+v", got.Code, got.Hint, got.WebhookSecret, s.code, s.hint, want, got)
				}
				if len(got.Also) > 0 {
					t.Errorf("and %+v", got.Also)
				}
				if got.Detail == "" || len(got.Fixes) == 0 {
					t.Errorf("it does not say what, or what to do: %+v", got)
				}
				if answer := fmt.Sprintf("%+v", got); strings.Contains(answer, c.Text) || strings.Contains(answer, text) && text != "" {
					t.Errorf("it repeats what it was given: %s", answer)
				}
			}
		})
	}
}

// TestVQ7Secrets: whose secret it is, which environment's, and whether it is
// still in use, with what the receiver has and without.
func TestVQ7Secrets(t *testing.T) {
	all := workspace()
	live, before, test, old := all[0], all[1], all[2], all[3]
	stranger := webhook.Candidate{Text: secretText(77)}
	type want struct {
		code keystile.WebhookCode
		hint keystile.WebhookHint
		id   string
	}
	for _, c := range []struct {
		name        string
		signers     []webhook.Candidate
		environment string
		has         string
		want        want
	}{
		{"in use", []webhook.Candidate{live}, "", "", want{keystile.WebhookValid, "", live.ID}},
		{"in use here", []webhook.Candidate{live}, "live", "", want{keystile.WebhookValid, "", live.ID}},
		{"the old one in its overlap", []webhook.Candidate{before}, "live", "", want{keystile.WebhookValid, "", before.ID}},
		{"both in the overlap: the one that stays", []webhook.Candidate{before, live}, "live", "", want{keystile.WebhookValid, "", live.ID}},
		{"of another environment", []webhook.Candidate{test}, "live", "", want{keystile.WebhookWrongEnvironment, "", test.ID}},
		{"of any environment", []webhook.Candidate{test}, "", "", want{keystile.WebhookValid, "", test.ID}},
		{"retired", []webhook.Candidate{old}, "", "", want{keystile.WebhookRetiredSecret, "", old.ID}},
		{"retired and in use", []webhook.Candidate{old, live}, "", "", want{keystile.WebhookValid, "", live.ID}},
		{"of nobody here", []webhook.Candidate{stranger}, "", "", want{keystile.WebhookNoMatch, "", ""}},
		{"of nobody here and in use", []webhook.Candidate{stranger, live}, "", "", want{keystile.WebhookValid, "", live.ID}},

		{"receiver has it", []webhook.Candidate{live}, "live", live.Text, want{keystile.WebhookValid, "", live.ID}},
		{"receiver has the old one of both", []webhook.Candidate{before, live}, "live", before.Text, want{keystile.WebhookValid, "", before.ID}},
		{"receiver still has a retired one", []webhook.Candidate{live}, "live", old.Text, want{keystile.WebhookWrongSecret, keystile.WebhookHintRetired, live.ID}},
		{"receiver has the other one in use", []webhook.Candidate{live}, "live", before.Text, want{keystile.WebhookWrongSecret, keystile.WebhookHintOtherSecret, live.ID}},
		{"receiver has another environment's", []webhook.Candidate{live}, "live", test.Text, want{keystile.WebhookWrongSecret, keystile.WebhookHintOtherEnvironment, live.ID}},
		{"receiver has nobody's", []webhook.Candidate{live}, "", stranger.Text, want{keystile.WebhookWrongSecret, keystile.WebhookHintUnknown, live.ID}},
		{"receiver has the sender's, and nobody here", []webhook.Candidate{stranger}, "", stranger.Text, want{keystile.WebhookForeignSecret, "", ""}},
		{"receiver and sender have a retired one", []webhook.Candidate{old}, "live", old.Text, want{keystile.WebhookRetiredSecret, "", old.ID}},
		{"receiver and sender have another environment's", []webhook.Candidate{test}, "live", test.Text, want{keystile.WebhookWrongEnvironment, "", test.ID}},
		{"sender has a retired one", []webhook.Candidate{old}, "live", live.Text, want{keystile.WebhookRetiredSecret, "", old.ID}},
		{"nothing fits, receiver's or not", []webhook.Candidate{stranger}, "live", live.Text, want{keystile.WebhookNoMatch, "", ""}},

		{"receiver's has a space", []webhook.Candidate{live}, "", live.Text + " ", want{keystile.WebhookMalformedSecret, keystile.WebhookHintWhitespace, ""}},
		{"receiver's is in quotes", []webhook.Candidate{live}, "", `"` + live.Text + `"`, want{keystile.WebhookMalformedSecret, keystile.WebhookHintWhitespace, ""}},
		{"receiver's lacks the prefix", []webhook.Candidate{live}, "", live.Text[6:], want{keystile.WebhookMalformedSecret, keystile.WebhookHintPrefix, ""}},
		{"receiver has the preview", []webhook.Candidate{live}, "", live.Text[:10] + "••••", want{keystile.WebhookMalformedSecret, keystile.WebhookHintMaskedPreview, ""}},
		{"receiver has the ID", []webhook.Candidate{live}, "", "whs_0abc", want{keystile.WebhookMalformedSecret, keystile.WebhookHintSecretID, ""}},
		{"receiver's is cut off", []webhook.Candidate{live}, "", live.Text[:len(live.Text)-3], want{keystile.WebhookMalformedSecret, keystile.WebhookHintBase64, ""}},
		{"receiver's is cut off where base64 may end", []webhook.Candidate{live}, "", live.Text[:6+16], want{keystile.WebhookMalformedSecret, keystile.WebhookHintLength, ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDelivery(c.signers[0].Text, body)
			q := d.question(all...)
			for _, other := range c.signers[1:] {
				e := newDelivery(other.Text, body)
				q.Headers["Webhook-Signature"] = []string{q.Headers["Webhook-Signature"][0] + " " + e.signature()}
			}
			q.Environment, q.Secret = c.environment, c.has
			got := webhook.Diagnose(q)
			if (want{got.Code, got.Hint, got.WebhookSecret}) != c.want || len(got.Also) > 0 || got.Valid != (c.want.code == keystile.WebhookValid) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
	d := newDelivery(live.Text, body)
	if got := webhook.Diagnose(d.question()); got.Code != keystile.WebhookNoSecret || got.Valid {
		t.Errorf("a workspace without secrets: %+v", got)
	}
}

// TestVQ7Several: what is wrong in several ways is told in all of them, what
// must be put right first before what follows from it.
func TestVQ7Several(t *testing.T) {
	all := workspace()
	d := newDelivery(all[3].Text, body)
	d.key = func(text string) []byte { return []byte(text) }
	d.content = func(_, _, body string) string { return body }
	d.hash = sha1.New
	d.write = func(mac []byte) string { return "sha1=" + hex.EncodeToString(mac) }
	d.now = d.now.Add(time.Hour)
	q := d.question(all...)
	q.Environment = "test"
	got := webhook.Diagnose(q)
	codes := []string{string(got.Code)}
	for _, f := range got.Also {
		codes = append(codes, string(f.Code))
		if f.Detail == "" {
			t.Errorf("no words: %+v", f)
		}
	}
	want := "raw_secret wrong_content wrong_algorithm wrong_encoding retired_secret wrong_environment timestamp_too_old"
	if strings.Join(codes, " ") != want || got.WebhookSecret != all[3].ID {
		t.Errorf("%v of %s, want %s", codes, got.WebhookSecret, want)
	}
}

// TestVQ7Property: for any webhook, the diagnosis says valid exactly where the
// verifier that receivers use says so, an unspoiled one is valid, a spoiled one
// is named, and a secret is named only where it signed.
func TestVQ7Property(t *testing.T) {
	all := workspace()
	verifier := keystile.WebhookVerifier{}
	for _, c := range all[:3] {
		s, err := keystile.ParseWebhookSecret(c.Text)
		if err != nil {
			t.Fatal(err)
		}
		verifier.Secrets = append(verifier.Secrets, s)
	}
	value := rapid.Deferred(func() *rapid.Generator[any] { return jsonValue(3) })
	rapid.Check(t, func(t *rapid.T) {
		encoded, err := json.Marshal(map[string]any{"type": "a & b", "data": value.Draw(t, "data"), "z": 1, "ž": "/"})
		if err != nil {
			t.Fatal(err)
		}
		signer := rapid.IntRange(0, 3).Draw(t, "signer")
		list := spoils()
		n := rapid.IntRange(0, len(list)).Draw(t, "spoil")
		d := newDelivery(all[signer].Text, string(encoded))
		d.id = rapid.StringMatching(`[A-Za-z0-9_-]{1,20}`).Draw(t, "id")
		d.now = time.Unix(signedAt+rapid.Int64Range(-299, 299).Draw(t, "age"), 0)
		if n < len(list) {
			if list[n].body != "" {
				d = newDelivery(all[signer].Text, list[n].body)
			}
			list[n].apply(d)
			if d.secret != all[signer].Text {
				signer = -1
			}
		}
		q := d.question(all...)
		got := webhook.Diagnose(q)
		verifier.Now = func() time.Time { return d.now }
		err = verifier.Verify(q.Headers, q.Payload)
		if got.Valid != (err == nil) {
			t.Fatalf("%+v, and the verifier says %v", got, err)
		}
		if got.WebhookSecret != "" && (signer < 0 || got.WebhookSecret != all[signer].ID) {
			t.Fatalf("names %s, signed by %d", got.WebhookSecret, signer)
		}
		switch {
		case n < len(list) && (got.Code != list[n].code || got.Hint != list[n].hint) && signer != 3:
			t.Fatalf("%s: %+v", list[n].name, got)
		case n == len(list) && signer != 3 && !got.Valid:
			t.Fatalf("unspoiled: %+v", got)
		case n == len(list) && signer == 3 && got.Code != keystile.WebhookRetiredSecret:
			t.Fatalf("retired: %+v", got)
		}
	})
}

func jsonValue(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Int32(), func(n int32) any { return n }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](nil),
	)
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.Map(rapid.SliceOfN(jsonValue(depth-1), 0, 4), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(rapid.String(), jsonValue(depth-1), 0, 4), func(m map[string]any) any { return m }),
	)
}

// TestPartOfASignature: the beginning of the right signature gets the very
// answer that noise of its length gets, for whoever learned more from it could
// forge a signature byte by byte.
func TestPartOfASignature(t *testing.T) {
	c := workspace()[0]
	d := newDelivery(c.Text, body)
	h := hmac.New(sha256.New, decoded(c.Text))
	h.Write([]byte(d.content(d.id, d.timestamp, d.signed)))
	good := h.Sum(nil)
	answer := func(mac []byte, write func([]byte) string) string {
		d.write = func([]byte) string { return write(mac) }
		return fmt.Sprintf("%+v", webhook.Diagnose(d.question(workspace()...)))
	}
	for name, write := range map[string]func([]byte) string{
		"as it should be": func(mac []byte) string { return "v1," + base64.StdEncoding.EncodeToString(mac) },
		"hexadecimal":     func(mac []byte) string { return "v1," + hex.EncodeToString(mac) },
		"no version":      hex.EncodeToString,
	} {
		for n := range good {
			noise := bytes.Repeat([]byte{0xa5}, n)
			if a, b := answer(good[:n], write), answer(noise, write); a != b {
				t.Errorf("%s: %d right bytes: %s\nwrong ones: %s", name, n, a, b)
			}
			// As long as a whole one, and right up to its last byte.
			almost := bytes.Clone(good)
			almost[n] ^= 1
			if a, b := answer(almost, write), answer(bytes.Repeat([]byte{0xa5}, len(good)), write); a != b {
				t.Errorf("%s: all right but byte %d: %s\nall wrong: %s", name, n, a, b)
			}
		}
	}
}

// TestBounded: the largest webhook with as many secrets as can be, none of
// which fits, is answered after a bounded amount of work.
func TestBounded(t *testing.T) {
	var many []webhook.Candidate
	for n := range 1000 {
		many = append(many, webhook.Candidate{ID: "whs_" + strconv.Itoa(n), Text: secretText(n + 1000)})
	}
	for name, payload := range map[string]string{
		"text":        strings.Repeat("a", keystile.MaxWebhookPayload),
		"line breaks": strings.Repeat("\n", keystile.MaxWebhookPayload),
		"escapes":     strings.Repeat("%", keystile.MaxWebhookPayload),
		"brackets":    strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"nested":      strings.Repeat(strings.Repeat("[", 90)+"1"+strings.Repeat("]", 90)+",", 1000),
		"numbers":     "[" + strings.Repeat("1,", 100_000) + "1]",
		"controls":    `["` + strings.Repeat(`\u0001`, 40_000) + `"]`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDelivery(secretText(9), payload)
			sizes := []string{d.signature()}
			for _, h := range []func() hash.Hash{sha1.New, sha512.New384, sha512.New} {
				d.hash = h
				sizes = append(sizes, d.signature())
			}
			for _, n := range []int{2, len(many)} {
				q := d.question(many[:n]...)
				q.Headers["Webhook-Signature"] = []string{strings.Join(sizes, " ")}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				got := webhook.Diagnose(q)
				runtime.ReadMemStats(&after)
				if got.Code != keystile.WebhookNoMatch {
					t.Errorf("%d secrets: %+v", n, got)
				}
				// Each variant of the body is made anew, so this counts them too.
				if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 1024 {
					t.Errorf("%d secrets: %d MB allocated one after the other", n, mb)
				}
			}
		})
	}
}

// FuzzDiagnose: whatever comes in, the answer agrees with the verifier's and
// repeats nothing of it.
func FuzzDiagnose(f *testing.F) {
	for _, s := range spoils() {
		text := s.body
		if text == "" {
			text = body
		}
		d := newDelivery(workspace()[0].Text, text)
		s.apply(d)
		h := http.Header(d.question().Headers)
		f.Add(h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature"), "", d.received)
	}
	f.Add("m", "1", "v1,", `"whsec_`, "")
	all := workspace()
	secret, err := keystile.ParseWebhookSecret(all[0].Text)
	if err != nil {
		f.Fatal(err)
	}
	now := func() time.Time { return time.Unix(signedAt, 0) }
	v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{secret}, Now: now}
	f.Fuzz(func(t *testing.T, id, timestamp, signature, has, payload string) {
		q := webhook.Question{
			Headers: http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature}},
			Payload: []byte(payload), Candidates: all[:1], Now: now(), Secret: has,
		}
		got := webhook.Diagnose(q)
		err := v.Verify(q.Headers, q.Payload)
		if got.Valid && err != nil || !got.Valid && err == nil && has == "" {
			t.Errorf("%+v, and the verifier says %v", got, err)
		}
		if got.Detail == "" || !got.Valid && len(got.Fixes) == 0 {
			t.Errorf("no words: %+v", got)
		}
		if errors.Is(err, keystile.ErrWebhookSignature) && got.WebhookSecret != "" && got.Code == keystile.WebhookValid {
			t.Errorf("%+v", got)
		}
	})
}
