// Package webhook explains why a webhook does not verify: it tries the mistakes
// that are made again and again, and names the one that explains the signature.
//
// It is a function of what it is given. It keeps nothing, logs nothing, and
// knows no store, no clock and no HTTP server. Nothing in it may compare a part
// of a signature: whoever learns that the first bytes are right finds the next
// one by trying, and forges the whole. Whole signatures are compared, so an
// answer tells no more than a receiver's does.
package webhook

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // to recognise it, never to sign with it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

const (
	// budget bounds what one diagnosis hashes, in bytes: a fraction of a second.
	// It allows a webhook of 100 kB all of what is tried with a dozen secrets;
	// with more it leaves out what is least likely.
	budget = 256 << 20
	// maxCandidates bounds how many secrets are tried. The most likely come first.
	maxCandidates = 100
)

// Candidate is a secret that a webhook may have been signed with.
type Candidate struct {
	ID          string
	Environment string
	Ended       bool   // revoked or expired
	Text        string // the secret, whsec_…
}

// Question is what is to be explained.
type Question struct {
	Headers map[string][]string // names in any case
	Payload []byte
	// Candidates are the workspace's secrets, the newest first.
	Candidates []Candidate
	// Environment is that of the receiver; empty: any.
	Environment string
	// Secret is the one that the receiver has, as it was entered; empty: not told.
	Secret string
	Now    time.Time
}

// key is a candidate that can be tried.
type key struct {
	Candidate

	secret   keystile.WebhookSecret
	bytes    []byte
	entered  bool // it is what the receiver has
	stranger bool // and none of the workspace's
}

// Diagnosis is what was found out.
type Diagnosis struct {
	keystile.WebhookVerdict

	// Proved: the webhook is good, and there is no doubt with which secret the
	// receiver verifies it. While old and new secret both sign there is, unless
	// the receiver's was told.
	Proved bool
}

func conclude(secretID string, findings ...keystile.WebhookFinding) Diagnosis {
	return Diagnosis{WebhookVerdict: keystile.NewWebhookVerdict(secretID, findings...)}
}

// fit is how a signature came to be.
type fit struct {
	key      key
	exact    bool // the verifier accepts it
	mistakes []keystile.WebhookFinding
}

// Diagnose finds out how the webhook was signed, and what of that is wrong.
// Where several secrets fit, the one counts that leaves least to say, and of
// those the newest. It is valid exactly where [keystile.WebhookVerifier] accepts it with
// a secret of the environment that is in use, and that is the receiver's, if
// that was told.
func Diagnose(q Question) Diagnosis {
	keys := q.keys()
	if q.Secret != "" {
		own, problem := readSecret(q.Secret)
		if problem != "" {
			return conclude("", found(keystile.WebhookMalformedSecret, problem))
		}
		own.stranger = true
		if i := slices.IndexFunc(keys, func(k key) bool { return hmac.Equal(k.bytes, own.bytes) }); i >= 0 {
			own = keys[i]
			keys = slices.Delete(keys, i, i+1)
		}
		own.entered = true
		keys = slices.Insert(keys, 0, own)
	}
	keys = keys[:min(len(keys), maxCandidates)]
	headers := readHeaders(q.Headers)
	if len(keys) == 0 {
		return conclude("", append([]keystile.WebhookFinding{found(keystile.WebhookNoSecret, "")}, headers.findings...)...)
	}
	s := search{q: q, headers: headers, keys: keys, left: budget}
	var best *fit
	var wrong []keystile.WebhookFinding
	fits := s.run()
	for _, f := range fits {
		all := q.judge(f, keys[0])
		if best == nil || len(all) < len(wrong) {
			best, wrong = &f, all
		}
	}
	wrong = append(wrong, headers.findings...)
	if best != nil && !best.exact && len(wrong) == 0 {
		// A signature fits, and the verifier refuses what stands beside it.
		wrong = append(wrong, found(keystile.WebhookMalformedHeader, keystile.WebhookHintSignature))
	}
	if best == nil {
		if len(wrong) == 0 && len(headers.versions) > 0 && len(headers.macs) == 0 {
			wrong = append(wrong, headers.unread())
		}
		if len(wrong) == 0 && lost(q.Payload) {
			wrong = append(wrong, found(keystile.WebhookBodyChanged, keystile.WebhookHintLost))
		}
		if len(wrong) == 0 {
			wrong = append(wrong, found(keystile.WebhookNoMatch, ""))
		}
		return conclude("", wrong...)
	}
	if headers.timed {
		if age := q.Now.Sub(headers.at); age > keystile.WebhookTolerance {
			wrong = append(wrong, found(keystile.WebhookTimestampTooOld, ""))
		} else if age < -keystile.WebhookTolerance {
			wrong = append(wrong, found(keystile.WebhookTimestampTooNew, ""))
		}
	}
	d := conclude(best.key.ID, wrong...)
	d.Proved = d.Valid && (q.Secret != "" || len(fits) == 1)
	return d
}

// judge lists what is wrong with a fit: how it was signed, then with what. The
// first key is the receiver's, if that was told.
func (q Question) judge(f fit, has key) []keystile.WebhookFinding {
	all := slices.Clone(f.mistakes)
	foreign := q.Environment != "" && f.key.Environment != q.Environment
	switch {
	case f.key.stranger:
		return append(all, found(keystile.WebhookForeignSecret, ""))
	case has.entered && !f.key.entered && !f.key.Ended && !foreign:
		// What it was signed with is right: the receiver's is not.
		hint := keystile.WebhookHintOtherSecret
		switch {
		case has.stranger:
			hint = keystile.WebhookHintUnknown
		case has.Ended:
			hint = keystile.WebhookHintRetired
		case has.Environment != f.key.Environment:
			hint = keystile.WebhookHintOtherEnvironment
		}
		return append(all, found(keystile.WebhookWrongSecret, hint))
	}
	if f.key.Ended {
		all = append(all, found(keystile.WebhookRetiredSecret, ""))
	}
	if foreign {
		all = append(all, found(keystile.WebhookWrongEnvironment, ""))
	}
	return all
}

func found(code keystile.WebhookCode, hint keystile.WebhookHint) keystile.WebhookFinding {
	return keystile.NewWebhookFinding(code, hint)
}

// keys are the candidates that can be read, the likely ones first.
func (q Question) keys() []key {
	keys := make([]key, 0, len(q.Candidates))
	for _, c := range q.Candidates {
		if secret, err := keystile.ParseWebhookSecret(c.Text); err == nil {
			b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.Text, "whsec_")) // parsed just now
			keys = append(keys, key{Candidate: c, secret: secret, bytes: b})
		}
	}
	rank := func(k key) int {
		r := 0
		if k.Ended {
			r += 2
		}
		if q.Environment != "" && k.Environment != q.Environment {
			r++
		}
		return r
	}
	slices.SortStableFunc(keys, func(a, b key) int { return rank(a) - rank(b) })
	return keys
}

// search tries what may have been signed, the least unusual first.
type search struct {
	q       Question
	headers headers
	keys    []key
	left    int // bytes that may still be hashed
}

// run returns the fits of the first round in which there is one.
func (s *search) run() []fit {
	if fits := s.exact(); len(fits) > 0 {
		return fits
	}
	if len(s.headers.macs) == 0 {
		return nil
	}
	decoded := func(k key) []signer { return []signer{{k.bytes, nil}} }
	standard := contents()[:1]
	rounds := []func() []fit{
		func() []fit { return s.try(decoded, standard, s.q.Payload, nil) },
		func() []fit { return s.try(rawKeys, standard, s.q.Payload, nil) },
		func() []fit { return s.try(decoded, contents()[1:], s.q.Payload, nil) },
		func() []fit {
			for body, finding := range bodies(s.q.Payload) {
				if fits := s.try(decoded, standard, body, &finding); len(fits) > 0 {
					return fits
				}
				if s.left <= 0 {
					break
				}
			}
			return nil
		},
		func() []fit { return s.try(rawKeys, contents()[1:], s.q.Payload, nil) },
	}
	for _, round := range rounds {
		if fits := round(); len(fits) > 0 {
			return fits
		}
	}
	return nil
}

// exact asks the verifier that receivers use, at the time that the webhook
// names.
func (s *search) exact() []fit {
	var fits []fit
	for _, k := range s.keys {
		if !s.spend(len(s.q.Payload)) {
			break
		}
		v := keystile.WebhookVerifier{Secrets: []keystile.WebhookSecret{k.secret}, Now: func() time.Time { return s.headers.at }}
		if v.Verify(s.q.Headers, s.q.Payload) == nil {
			fits = append(fits, fit{key: k, exact: true})
		}
	}
	return fits
}

func (s *search) spend(n int) bool {
	if s.left <= 0 {
		return false
	}
	s.left -= n + 256 // a short body costs the blocks around it
	return true
}

// try tries some ways to use a secret, some contents and a body, each with all
// secrets.
func (s *search) try(signers func(key) []signer, contents []content, body []byte, changed *keystile.WebhookFinding) []fit {
	var fits []fit
	for _, c := range contents {
		for _, k := range s.keys {
			for _, signer := range signers(k) {
				m, ok := s.matches(signer.key, c, body)
				if !ok {
					continue
				}
				f := fit{key: k}
				for _, finding := range []*keystile.WebhookFinding{signer.finding, c.finding, changed, m.algorithm(), m.finding} {
					if finding != nil {
						f.mistakes = append(f.mistakes, *finding)
					}
				}
				fits = append(fits, f)
			}
		}
	}
	return fits
}

// matches tells which of the signatures a key made, if any.
func (s *search) matches(key []byte, c content, body []byte) (mac, bool) {
	for _, size := range s.headers.sizes {
		if !s.spend(len(body)) {
			return mac{}, false
		}
		h := hmac.New(algorithms(size), key)
		c.write(h, s.headers.id, s.headers.timestamp, body)
		want := h.Sum(nil)
		for _, m := range s.headers.macs {
			if hmac.Equal(want, m.bytes) {
				return m, true
			}
		}
	}
	return mac{}, false
}

// algorithms returns the hash whose HMAC has a size, nil for other sizes.
func algorithms(size int) func() hash.Hash {
	switch size {
	case sha256.Size:
		return sha256.New
	case sha1.Size:
		return sha1.New
	case sha512.Size384:
		return sha512.New384
	case sha512.Size:
		return sha512.New
	}
	return nil
}

// signer is a way to make a key of a secret.
type signer struct {
	key     []byte
	finding *keystile.WebhookFinding
}

// rawKeys are what is used by whoever does not decode the secret. A line break
// comes along where it is read from a file.
func rawKeys(k key) []signer {
	raw := found(keystile.WebhookRawSecret, "")
	var signers []signer
	for _, text := range []string{k.Text, strings.TrimPrefix(k.Text, "whsec_")} {
		for _, end := range []string{"", "\n"} {
			signers = append(signers, signer{[]byte(text + end), &raw})
		}
	}
	return signers
}

// content is what is signed of a webhook.
type content struct {
	finding *keystile.WebhookFinding
	write   func(h hash.Hash, id, timestamp string, body []byte)
}

// contents are those that occur, the right one first.
func contents() []content {
	join := func(separator string, parts ...string) func(hash.Hash, string, string, []byte) {
		return func(h hash.Hash, id, timestamp string, body []byte) {
			for i, part := range parts {
				if i > 0 {
					h.Write([]byte(separator))
				}
				switch part {
				case "id":
					h.Write([]byte(id))
				case "timestamp":
					h.Write([]byte(timestamp))
				default:
					h.Write(body)
				}
			}
		}
	}
	wrong := func(hint keystile.WebhookHint) *keystile.WebhookFinding {
		f := found(keystile.WebhookWrongContent, hint)
		return &f
	}
	return []content{
		{nil, join(".", "id", "timestamp", "body")},
		{wrong(keystile.WebhookHintBodyOnly), join("", "body")},
		{wrong(keystile.WebhookHintIDMissing), join(".", "timestamp", "body")},
		{wrong(keystile.WebhookHintTimestampMissing), join(".", "id", "body")},
		{wrong(keystile.WebhookHintOrder), join(".", "timestamp", "id", "body")},
		{wrong(keystile.WebhookHintSeparators), join("", "id", "timestamp", "body")},
		{wrong(keystile.WebhookHintSeparators), join(":", "id", "timestamp", "body")},
		{wrong(keystile.WebhookHintSeparators), join("\n", "id", "timestamp", "body")},
	}
}

// lost tells whether the payload is what programs leave of a body that they
// have read already, or turned into an object.
func lost(payload []byte) bool {
	switch strings.TrimSpace(string(payload[:min(len(payload), 32)])) {
	case "", "undefined", "[object Object]":
		return len(payload) <= 32
	}
	return false
}

// whole tells whether a text is digits alone.
func whole(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n > 0 && strconv.FormatInt(n, 10) == s
}
