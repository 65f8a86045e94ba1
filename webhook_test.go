package keystile_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keystile/keystile"
)

// webhookAt is a time within the tolerance of webhookClock.
var webhookAt = time.Unix(1_800_000_000, 0)

func webhookClock() time.Time { return webhookAt.Add(30 * time.Second) }

func TestWebhookSignedAsSpecified(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	secret, err := keystile.ParseWebhookSecret("whsec_" + base64.StdEncoding.EncodeToString(key))
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(`{"a": 1}`)
	h, err := keystile.SignWebhook("msg_1", webhookAt, payload, secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "msg_1.1800000000.%s", payload)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if got := h.Get("webhook-signature"); got != want {
		t.Errorf("signature %q, want %q", got, want)
	}
	if h.Get("webhook-id") != "msg_1" || h.Get("webhook-timestamp") != "1800000000" {
		t.Errorf("headers %v", h)
	}
}

func TestWebhookVerify(t *testing.T) {
	a, _ := keystile.NewWebhookSecret()
	b, _ := keystile.NewWebhookSecret()
	stranger, _ := keystile.NewWebhookSecret()
	payload := []byte("body")
	sign := func(secrets ...keystile.WebhookSecret) http.Header {
		h, err := keystile.SignWebhook("msg_1", webhookAt, payload, secrets...)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	with := func(h http.Header, name string, values ...string) http.Header {
		h = h.Clone()
		h[http.CanonicalHeaderKey(name)] = values
		return h
	}
	// lower is what a framework may hand over that is not built on net/http.
	lower := func(h http.Header, others ...http.Header) http.Header {
		made := http.Header{}
		for name, values := range h {
			made[strings.ToLower(name)] = values
		}
		for _, other := range others {
			maps.Copy(made, other)
		}
		return made
	}
	good := sign(a)
	signature := good.Get("webhook-signature")
	for _, c := range []struct {
		name    string
		headers http.Header
		payload string
		secrets []keystile.WebhookSecret
		want    error
	}{
		{"one secret", good, "body", []keystile.WebhookSecret{a}, nil},
		{"second of two secrets", sign(b), "body", []keystile.WebhookSecret{a, b}, nil},
		{"two signatures, one known", sign(stranger, a), "body", []keystile.WebhookSecret{a}, nil},
		{"two header lines", with(good, "webhook-signature", sign(stranger).Get("webhook-signature"), signature), "body", []keystile.WebhookSecret{a}, nil},
		{"another version beside it", with(good, "webhook-signature", "v1a,AAAA "+signature), "body", []keystile.WebhookSecret{a}, nil},
		{"two lines, joined on the way", with(good, "webhook-signature", sign(stranger).Get("webhook-signature")+", "+signature), "body", []keystile.WebhookSecret{a}, nil},
		{"two lines, joined without a space", with(good, "webhook-signature", sign(stranger).Get("webhook-signature")+","+signature), "body", []keystile.WebhookSecret{a}, nil},
		{"another version, joined", with(good, "webhook-signature", "v1a,AAAA,"+signature+",v2,x"), "body", []keystile.WebhookSecret{a}, nil},
		{"too many signatures, joined", with(good, "webhook-signature", strings.Repeat("v2,x,", 40)+signature), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"names in lower case", lower(good), "body", []keystile.WebhookSecret{a}, nil},
		{"a name twice, in two cases", lower(good, good), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"spaces between", with(good, "webhook-signature", "  "+signature+"  "), "body", []keystile.WebhookSecret{a}, nil},
		{"other body", good, "bodx", []keystile.WebhookSecret{a}, keystile.ErrWebhookSignature},
		{"other secret", good, "body", []keystile.WebhookSecret{stranger}, keystile.ErrWebhookSignature},
		{"no secret", good, "body", nil, keystile.ErrWebhookSignature},
		{"zero secret", good, "body", []keystile.WebhookSecret{{}}, keystile.ErrWebhookSignature},
		{"other id", with(good, "webhook-id", "msg_2"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookSignature},
		{"id with a dot", with(good, "webhook-id", "msg.1"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"two ids", with(good, "webhook-id", "msg_1", "msg_1"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"no id", with(good, "webhook-id"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"signed timestamp", with(good, "webhook-timestamp", "+1800000000"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"leading zero", with(good, "webhook-timestamp", "01800000000"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"line break after timestamp", with(good, "webhook-timestamp", "1800000000\n"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"milliseconds", with(good, "webhook-timestamp", "1800000000000"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"no signature", with(good, "webhook-signature"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"only another version", with(good, "webhook-signature", "v1a,AAAA"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookSignature},
		{"line break in signature", with(good, "webhook-signature", signature[:10]+"\n"+signature[10:]), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"short signature", with(good, "webhook-signature", "v1,AAAA"), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
		{"too many signatures", with(good, "webhook-signature", strings.Repeat("v2,x ", 40)+signature), "body", []keystile.WebhookSecret{a}, keystile.ErrWebhookHeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := keystile.WebhookVerifier{Secrets: c.secrets, Now: webhookClock}
			if err := v.Verify(c.headers, []byte(c.payload)); !errors.Is(err, c.want) || (err != nil) != (c.want != nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestWebhookSignRefuses what no verifier would accept.
func TestWebhookSignRefuses(t *testing.T) {
	s, _ := keystile.NewWebhookSecret()
	for _, c := range []struct {
		name    string
		id      string
		at      time.Time
		secrets []keystile.WebhookSecret
	}{
		{"no id", "", webhookAt, []keystile.WebhookSecret{s}},
		{"dot in the id", "msg.1", webhookAt, []keystile.WebhookSecret{s}},
		{"long id", strings.Repeat("m", 129), webhookAt, []keystile.WebhookSecret{s}},
		{"no time", "msg_1", time.Time{}, []keystile.WebhookSecret{s}},
		{"time in the year 5138", "msg_1", time.Unix(1e11, 0), []keystile.WebhookSecret{s}},
		{"no secret", "msg_1", webhookAt, nil},
		{"empty secret", "msg_1", webhookAt, []keystile.WebhookSecret{s, {}}},
		{"more secrets than a verifier looks at", "msg_1", webhookAt, slices.Repeat([]keystile.WebhookSecret{s}, 33)},
	} {
		if h, err := keystile.SignWebhook(c.id, c.at, nil, c.secrets...); err == nil || h != nil {
			t.Errorf("%s: %v, %v", c.name, h, err)
		}
	}
}

func TestWebhookTime(t *testing.T) {
	s, _ := keystile.NewWebhookSecret()
	h, err := keystile.SignWebhook("m", webhookAt, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		later     time.Duration
		tolerance time.Duration
		want      error
	}{
		{0, 0, nil},
		{5 * time.Minute, 0, nil},
		{5*time.Minute + time.Second, 0, keystile.ErrWebhookTooOld},
		{-5 * time.Minute, 0, nil},
		{-5*time.Minute - time.Second, 0, keystile.ErrWebhookTooNew},
		{2 * time.Second, time.Second, keystile.ErrWebhookTooOld},
	} {
		v := keystile.WebhookVerifier{
			Secrets: []keystile.WebhookSecret{s}, Tolerance: c.tolerance,
			Now: func() time.Time { return webhookAt.Add(c.later) },
		}
		if err := v.Verify(h, nil); !errors.Is(err, c.want) || (err != nil) != (c.want != nil) {
			t.Errorf("%v later: %v, want %v", c.later, err, c.want)
		}
	}
}

func TestWebhookReplay(t *testing.T) {
	s, _ := keystile.NewWebhookSecret()
	h, err := keystile.SignWebhook("m", webhookAt, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	v := keystile.WebhookVerifier{
		Secrets: []keystile.WebhookSecret{s}, Now: webhookClock,
		Replayed: func(id string, until time.Time) (bool, error) {
			if want := webhookAt.Add(keystile.WebhookTolerance); !until.Equal(want) {
				t.Errorf("until %v, want %v", until, want)
			}
			before := seen[id]
			seen[id] = true
			return before, nil
		},
	}
	if err := v.Verify(h, []byte("forged")); !errors.Is(err, keystile.ErrWebhookSignature) || len(seen) > 0 {
		t.Errorf("a forged webhook: %v, and noted %v", err, seen)
	}
	if err := v.Verify(h, nil); err != nil {
		t.Error(err)
	}
	if err := v.Verify(h, nil); !errors.Is(err, keystile.ErrWebhookReplayed) {
		t.Errorf("the second time: %v", err)
	}
}

func TestWebhookSecretText(t *testing.T) {
	encode := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for text, ok := range map[string]bool{
		encode(24): true, encode(32): true, encode(64): true,
		encode(1): false, encode(23): false, encode(65): false,
		strings.TrimPrefix(encode(32), "whsec_"): false,
		encode(32) + "\n":                        false,
		strings.TrimRight(encode(32), "="):       false,
		"whsec_" + strings.Repeat("-_", 22):      false,
		"whsec_":                                 false,
		"":                                       false,
		"whsec_" + strings.Repeat("!", 44):       false,
		"WHSEC_" + strings.TrimPrefix(encode(32), "wh"): false,
	} {
		s, err := keystile.ParseWebhookSecret(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && len(text) > 10 && strings.Contains(err.Error(), text[6:]) {
			t.Errorf("the error repeats the text: %v", err)
		}
		if _, err := keystile.SignWebhook("m", webhookAt, nil, s); (err == nil) != ok {
			t.Errorf("signing with what %q gave: %v", text, err)
		}
	}
	s, text := keystile.NewWebhookSecret()
	again, err := keystile.ParseWebhookSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	h, err := keystile.SignWebhook("m", webhookAt, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{again}, Now: webhookClock}
	if err := v.Verify(h, nil); err != nil {
		t.Errorf("a new secret does not read back: %v", err)
	}
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s)} {
		if shown != "whsec_…" {
			t.Errorf("printed as %q", shown)
		}
	}
}

// TestWebhookProperty holds for any payload: what was signed verifies, and
// what differs in one byte does not.
func TestWebhookProperty(t *testing.T) {
	s, _ := keystile.NewWebhookSecret()
	v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{s}, Now: webhookClock}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[A-Za-z0-9_-]{1,128}`).Draw(t, "id")
		payload := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		h, err := keystile.SignWebhook(id, webhookAt, payload, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(h, payload); err != nil {
			t.Fatal(err)
		}
		if len(payload) == 0 {
			return
		}
		payload[rapid.IntRange(0, len(payload)-1).Draw(t, "at")] ^= 1
		if err := v.Verify(h, payload); !errors.Is(err, keystile.ErrWebhookSignature) {
			t.Fatalf("a changed payload: %v", err)
		}
	})
}

// FuzzWebhookVerify: whatever stands in the headers, Verify ends without a
// panic, and says yes only to the ID, the time and the body that were signed.
func FuzzWebhookVerify(f *testing.F) {
	s, err := keystile.ParseWebhookSecret("whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	signed, err := keystile.SignWebhook("msg_1", webhookAt, []byte("body"), s)
	if err != nil {
		f.Fatal(err)
	}
	signature := signed.Get("webhook-signature")
	f.Add("msg_1", "1800000000", signature, "", "body")
	f.Add("msg_1", "1800000000", "v1a,x, "+signature, signature, "body")
	f.Add("msg_1.1800000000", "1800000000", "v1,"+signature, "v1,,v1,", "1800000000.body")
	f.Add("msg_1", "+1800000000", signature+"\n", ",,,", "")
	v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{s}, Now: webhookClock}
	f.Fuzz(func(t *testing.T, id, timestamp, first, second, payload string) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {first, second}}
		err := v.Verify(h, []byte(payload))
		same := id == "msg_1" && timestamp == "1800000000" && payload == "body"
		switch {
		case err == nil && !same:
			t.Errorf("accepted %q at %q: %q", id, timestamp, payload)
		case err != nil && same && second == "" && first == signature:
			t.Errorf("refused what was signed: %v", err)
		}
		if h.Get("Webhook-Id") != id || len(h["Webhook-Signature"]) != 2 {
			t.Error("the headers were changed")
		}
	})
}

// FuzzWebhookSecret: every text that is read as a secret is the one text of it.
func FuzzWebhookSecret(f *testing.F) {
	_, text := keystile.NewWebhookSecret()
	f.Add(text)
	f.Add(strings.TrimRight(text, "="))
	f.Add("whsec_" + strings.Repeat("QUFB\n", 10))
	f.Add("whsec_" + strings.Repeat("QUFB", 10) + "QQ==")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := keystile.ParseWebhookSecret(text); err != nil {
			if len(text) > 16 && strings.Contains(err.Error(), text) {
				t.Error("the error repeats the text")
			}
			return
		}
		encoded, _ := strings.CutPrefix(text, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || "whsec_"+base64.StdEncoding.EncodeToString(key) != text || len(key) < 24 || len(key) > 64 {
			t.Errorf("read as a secret: %q", text)
		}
	})
}
