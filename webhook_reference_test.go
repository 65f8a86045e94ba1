package keystile_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/keystile/keystile"
)

// The libraries that our signatures are held against. The first is the
// specification's own for JavaScript; the second, of the company that wrote
// most of the specification, is at the last version with code of its own
// (later ones wrap the first); the third is the specification's own for Go.
func references() []string { return []string{"standardwebhooks", "svix", "go"} }

// A question to one of the libraries: sign or verify.
type question struct {
	Library string        `json:"library"`
	Secret  string        `json:"secret"`
	Now     int64         `json:"now"` // the clock of JavaScript; Go's library has none to set, so it leaves out the time
	Sign    *signQuestion `json:"sign,omitempty"`
	Verify  *verifyAsk    `json:"verify,omitempty"`
}

type signQuestion struct {
	ID        string `json:"id"`
	Timestamp int64  `json:"timestamp"`
	Payload   string `json:"payload"`
}

type verifyAsk struct {
	Headers map[string]string `json:"headers"` // names in lower case
	Payload string            `json:"payload"`
}

type reply struct {
	Signature string `json:"signature"`
	OK        bool   `json:"ok"`
	Error     string `json:"error"`
}

// ask puts the questions to the libraries.
func ask(t *testing.T, questions []question) []reply {
	t.Helper()
	replies := make([]reply, len(questions))
	var elsewhere []question
	var at []int
	for i, q := range questions {
		if q.Library == "go" {
			replies[i] = askGo(t, q)
			continue
		}
		elsewhere, at = append(elsewhere, q), append(at, i)
	}
	dir := filepath.Join("testdata", "webhook")
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: run scripts/tools.sh")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "standardwebhooks")); err != nil {
		t.Fatal("the libraries that signatures are held against are not installed: run scripts/tools.sh")
	}
	input, err := json.Marshal(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "reference.mjs")
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(input)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	var answers []reply
	if err := json.Unmarshal(output, &answers); err != nil || len(answers) != len(elsewhere) {
		t.Fatalf("%d answers to %d questions: %v\n%s", len(answers), len(elsewhere), err, output)
	}
	for i, a := range answers {
		replies[at[i]] = a
	}
	return replies
}

func askGo(t *testing.T, q question) reply {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(q.Secret)
	if err != nil {
		return reply{Error: err.Error()}
	}
	if q.Sign != nil {
		signature, err := w.Sign(q.Sign.ID, time.Unix(q.Sign.Timestamp, 0), []byte(q.Sign.Payload))
		if err != nil {
			t.Fatal(err)
		}
		return reply{Signature: signature}
	}
	if err := w.VerifyIgnoringTimestamp([]byte(q.Verify.Payload), webhookHeader(q.Verify.Headers)); err != nil {
		return reply{Error: err.Error()}
	}
	return reply{OK: true}
}

func webhookHeader(fields map[string]string) http.Header {
	h := http.Header{}
	for name, value := range fields {
		h.Set(name, value)
	}
	return h
}

func mustParse(t *testing.T, text string) keystile.WebhookSecret {
	t.Helper()
	s, err := keystile.ParseWebhookSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// payloads that are JSON, since one of the libraries insists on it.
func payloads() []string {
	return []string{
		`{}`, `{"test": 2432232314}`, "\"\"", "{\"a\":\t1}\r\n", "  [1, 2]\n", `{"name":"Žluťoučký 🐎","n":1.0}`,
		`{"text":"` + strings.Repeat("a.b ", 4096) + `"}`,
	}
}

// TestWebhookReference: what we sign the libraries accept, with one secret and
// with several, and what they sign we accept, in one header and in many.
func TestWebhookReference(t *testing.T) {
	type secret struct {
		keystile.WebhookSecret
		text string
	}
	var secrets []secret
	for range 3 {
		s, text := keystile.NewWebhookSecret()
		secrets = append(secrets, secret{s, text})
	}
	for _, n := range []int{24, 64} { // the shortest and the longest
		text := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n))
		s, err := keystile.ParseWebhookSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret{s, text})
	}
	all := make([]keystile.WebhookSecret, len(secrets))
	for i, s := range secrets {
		all[i] = s.WebhookSecret
	}
	now := webhookAt.Unix()
	id := "msg_2b-Z"

	var theirs, ours []question
	for _, library := range references() {
		for _, s := range secrets {
			for _, payload := range payloads() {
				theirs = append(theirs, question{
					Library: library, Secret: s.text, Now: now,
					Sign: &signQuestion{ID: id, Timestamp: now, Payload: payload},
				})
				for _, signers := range [][]keystile.WebhookSecret{{s.WebhookSecret}, all} {
					h, err := keystile.SignWebhook(id, webhookAt, []byte(payload), signers...)
					if err != nil {
						t.Fatal(err)
					}
					headers := map[string]string{}
					for name := range h {
						headers[strings.ToLower(name)] = h.Get(name)
					}
					ours = append(ours, question{
						Library: library, Secret: s.text, Now: now + 60,
						Verify: &verifyAsk{Headers: headers, Payload: payload},
					})
				}
			}
		}
	}
	for i, got := range ask(t, ours) {
		if !got.OK {
			t.Errorf("%s refuses what we signed: %s: %+v", ours[i].Library, got.Error, ours[i].Verify)
		}
	}
	replies := ask(t, theirs)
	for i, got := range replies {
		q := theirs[i]
		mine, err := keystile.ParseWebhookSecret(q.Secret)
		if err != nil {
			t.Fatal(err)
		}
		h, err := keystile.SignWebhook(q.Sign.ID, webhookAt, []byte(q.Sign.Payload), mine)
		if err != nil {
			t.Fatal(err)
		}
		if want := h.Get("webhook-signature"); got.Signature != want {
			t.Errorf("%s signs %q as %q, we as %q", q.Library, q.Sign.Payload, got.Signature, want)
		}
		// All other signatures of the same payload stand before and behind it.
		lines := []string{got.Signature}
		for j, other := range replies {
			if theirs[j].Sign.Payload == q.Sign.Payload && theirs[j].Library == q.Library && i != j {
				lines = slices.Insert(lines, j%(len(lines)+1), other.Signature)
			}
		}
		for _, values := range [][]string{{got.Signature}, lines, {strings.Join(lines, " ")}, {strings.Join(lines, ", ")}, {strings.Join(lines, ",")}} {
			v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{mine}, Now: webhookClock}
			header := http.Header{
				"Webhook-Id": {q.Sign.ID}, "Webhook-Timestamp": {strconv.FormatInt(now, 10)}, "Webhook-Signature": values,
			}
			if err := v.Verify(header, []byte(q.Sign.Payload)); err != nil {
				t.Errorf("we refuse what %s signed, in %d lines: %v", q.Library, len(values), err)
			}
			if err := v.Verify(header, []byte(q.Sign.Payload+" ")); !errors.Is(err, keystile.ErrWebhookSignature) {
				t.Errorf("another body than %s signed: %v", q.Library, err)
			}
		}
	}
}

// TestWebhookVectors: a published signature, and what must not pass for it.
// The facts are those of the tests of the specification's own libraries; where
// these accept what we refuse, the row says so, and why.
func TestWebhookVectors(t *testing.T) {
	const (
		secret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		id        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
		timestamp = 1614265330
		body      = `{"test": 2432232314}`
		signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
		stranger  = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
	)
	set := func(name, value string) func(map[string]string) {
		return func(h map[string]string) { h[name] = value }
	}
	drop := func(name string) func(map[string]string) {
		return func(h map[string]string) { delete(h, name) }
	}
	none := func(map[string]string) {}
	type row struct {
		name   string
		change func(map[string]string)
		secret string
		later  int64 // seconds from the signature to the clock
		want   error // what we say, nil: good
		// stricter lists the libraries that accept what we refuse.
		stricter []string
		// untimed rows are not put to Go's library, whose clock can't be set.
		untimed bool
	}
	rows := []row{
		{name: "as published", change: none},
		{name: "other version and other signatures beside it",
			change: set("webhook-signature", strings.Join([]string{stranger, "v2," + stranger[3:], signature, stranger}, " "))},
		{name: "no id", change: drop("webhook-id"), want: keystile.ErrWebhookHeader},
		{name: "no timestamp", change: drop("webhook-timestamp"), want: keystile.ErrWebhookHeader},
		{name: "no signature", change: drop("webhook-signature"), want: keystile.ErrWebhookHeader},
		{name: "timestamp is a word", change: set("webhook-timestamp", "hello"), want: keystile.ErrWebhookHeader},
		{name: "signature of something else", change: set("webhook-signature", stranger), want: keystile.ErrWebhookSignature},
		{name: "signature is no base64", change: set("webhook-signature", "v1,dawfeoifkpqwoekfpqoekf"), want: keystile.ErrWebhookHeader},
		{name: "beginning of the signature", change: set("webhook-signature", signature[:8]), want: keystile.ErrWebhookHeader},
		{name: "empty signature", change: set("webhook-signature", "v1,"), want: keystile.ErrWebhookHeader},
		{name: "under another version alone", change: set("webhook-signature", "v2,"+signature[3:]), want: keystile.ErrWebhookSignature},
		{name: "without a version", change: set("webhook-signature", signature[3:]), want: keystile.ErrWebhookSignature},
		{name: "too old", change: none, later: 301, want: keystile.ErrWebhookTooOld, untimed: true},
		{name: "just not too old", change: none, later: 300, untimed: true},
		{name: "too new", change: none, later: -301, want: keystile.ErrWebhookTooNew, untimed: true},
		{name: "just not too new", change: none, later: -300, untimed: true},
		{name: "signed for another time", change: set("webhook-timestamp", "1614265331"), want: keystile.ErrWebhookSignature},
		{name: "signed under another id", change: set("webhook-id", "msg_other"), want: keystile.ErrWebhookSignature},

		// One time has one text: otherwise what was logged or noted is not
		// what was signed.
		{name: "sign before the timestamp", change: set("webhook-timestamp", "+1614265330"),
			want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix", "go"}},
		{name: "zero before the timestamp", change: set("webhook-timestamp", "01614265330"),
			want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix", "go"}},
		{name: "words behind the timestamp", change: set("webhook-timestamp", "1614265330 or so"),
			want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix"}},
		{name: "line break behind the timestamp", change: set("webhook-timestamp", "1614265330\n"),
			want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix"}},
		{name: "fraction of a second", change: set("webhook-timestamp", "1614265330.5"),
			want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix"}},
		// What stands behind a signature belongs to it.
		{name: "a third part", change: set("webhook-signature", signature+",v1"),
			want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix", "go"}},
		{name: "line break behind the signature", change: set("webhook-signature", signature+"\n"), want: keystile.ErrWebhookHeader},
		{name: "signature without padding", change: set("webhook-signature", strings.TrimRight(signature, "=")), want: keystile.ErrWebhookHeader},
		{name: "broken signature beside the good one", change: set("webhook-signature", "v1,AAAA "+signature),
			want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix", "go"}},

		// Headers of another name are another protocol; see the diagnosis.
		{name: "names that Svix uses", change: func(h map[string]string) {
			for _, name := range slices.Collect(maps.Keys(h)) {
				h["svix-"+strings.TrimPrefix(name, "webhook-")] = h[name]
				delete(h, name)
			}
		}, want: keystile.ErrWebhookHeader, stricter: []string{"svix"}},
	}
	good := map[string]string{
		"webhook-id": id, "webhook-timestamp": strconv.Itoa(timestamp), "webhook-signature": signature,
	}
	// The secret that the row names is that of sender and receiver alike.
	resigned := func(text string, key []byte, what string, stricter ...string) row {
		w, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.Sign(id, time.Unix(timestamp, 0), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return row{name: what, change: set("webhook-signature", s), secret: text, want: keystile.ErrWebhookSignature, stricter: stricter}
	}
	whole, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	rows = append(rows,
		// Secrets that we do not read at all, so that nothing verifies with
		// them: the specification asks for 24 to 64 bytes, and with one byte
		// there are 256 secrets to try.
		resigned("whsec_AA==", []byte{0}, "secret of one byte", "standardwebhooks", "svix", "go"),
		resigned(strings.TrimPrefix(secret, "whsec_"), whole, "secret without its prefix", "standardwebhooks", "svix", "go"),
		resigned(secret+"\n", whole, "secret with a line break behind it", "standardwebhooks", "svix", "go"),
	)
	// A dot in an ID makes two webhooks of one signature: what was signed as
	// the body's beginning comes back as the time, and the time as part of the
	// ID. So whoever has a say in the body could make it fresh again.
	h, err := keystile.SignWebhook("msg_1", time.Unix(timestamp-1e6, 0), []byte(strconv.Itoa(timestamp)+"."+body), mustParse(t, secret))
	if err != nil {
		t.Fatal(err)
	}
	rows = append(rows, row{name: "dot in the id", change: func(fields map[string]string) {
		fields["webhook-id"] = "msg_1." + h.Get("webhook-timestamp")
		fields["webhook-signature"] = h.Get("webhook-signature")
	}, want: keystile.ErrWebhookHeader, stricter: []string{"standardwebhooks", "svix", "go"}})

	var questions []question
	for _, r := range rows {
		headers := maps.Clone(good)
		r.change(headers)
		text := secret
		var secrets []keystile.WebhookSecret
		if r.secret != "" {
			text = r.secret
		}
		if s, err := keystile.ParseWebhookSecret(text); err == nil {
			secrets = append(secrets, s)
		}
		if (len(secrets) == 0) != (r.secret != "") {
			t.Errorf("%s: read as %d secrets", r.name, len(secrets))
		}
		v := keystile.WebhookVerifier{
			Secrets: secrets,
			Now:     func() time.Time { return time.Unix(timestamp+r.later, 0) },
		}
		if err := v.Verify(webhookHeader(headers), []byte(body)); !errors.Is(err, r.want) || (err != nil) != (r.want != nil) {
			t.Errorf("%s: %v, want %v", r.name, err, r.want)
		}
		for _, library := range references() {
			questions = append(questions, question{
				Library: library, Secret: text, Now: timestamp + r.later,
				Verify: &verifyAsk{Headers: headers, Payload: body},
			})
		}
	}
	for i, got := range ask(t, questions) {
		r, library := rows[i/len(references())], questions[i].Library
		if library == "go" && r.untimed {
			continue
		}
		if want := r.want == nil || slices.Contains(r.stricter, library); got.OK != want {
			t.Errorf("%s: %s accepts it: %v, and the table says %v (%s)", r.name, library, got.OK, want, got.Error)
		}
	}
}
