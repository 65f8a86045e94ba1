package dashboard_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// device is an authenticator with one passkey.
type device struct {
	auth virtualwebauthn.Authenticator
	key  virtualwebauthn.Credential
	rp   virtualwebauthn.RelyingParty
}

func newDevice() *device {
	// The package drops leading zeros of a public key's coordinates, which real
	// authenticators don't: one key of 128 would be refused, and rightly so.
	const whole = 77 // bytes of a P-256 key in COSE form
	key := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	for len(key.Key.AttestationData()) != whole {
		key = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	return &device{
		auth: virtualwebauthn.NewAuthenticator(), key: key,
		rp: virtualwebauthn.RelyingParty{ID: "keys.example.test", Name: "Keystile", Origin: public},
	}
}

// make answers the options of a new passkey.
func (d *device) make(t testing.TB, options string) string {
	t.Helper()
	o, err := virtualwebauthn.ParseAttestationOptions(options)
	if err != nil {
		t.Fatalf("%v: %s", err, options)
	}
	var raw struct {
		PublicKey struct {
			User struct {
				ID string `json:"id"`
			} `json:"user"`
		} `json:"publicKey"`
	}
	if err := json.Unmarshal([]byte(options), &raw); err != nil {
		t.Fatal(err)
	}
	if d.auth.Options.UserHandle, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(raw.PublicKey.User.ID, "=")); err != nil {
		t.Fatal(err)
	}
	return virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.key, *o)
}

// sign answers the options of a sign-in, with a counter that goes up.
func (d *device) sign(t testing.TB, options string) string {
	t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(options)
	if err != nil {
		t.Fatalf("%v: %s", err, options)
	}
	d.key.Counter++
	return virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.key, *o)
}

// add makes a passkey of the device for whoever is signed in.
func (b *browser) add(d *device, pairs ...string) *page {
	b.t.Helper()
	options := b.post("/account/passkeys/options", pairs...).is(http.StatusOK).body
	return b.post("/account/passkeys", append(pairs, "credential", d.make(b.t, options), "name", "Laptop")...)
}

// signIn signs in with the device's passkey.
func (b *browser) signIn(d *device) *page {
	b.t.Helper()
	options := b.post("/sign-in/passkey/options").is(http.StatusOK).body
	return b.post("/sign-in/passkey", "credential", d.sign(b.t, options), "next", "/account")
}

// audited are the actions in a workspace's audit log, newest first.
func audited(t testing.TB, s *keystiletest.Server, workspace string) string {
	t.Helper()
	l, err := s.Operator.Audit(context.Background(), workspace, keystile.ListAudit{Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, e := range l.Data {
		b.WriteString(e.Action + " " + e.Actor.Name + " " + e.ObjectName + " " + e.Reason + "\n")
	}
	return b.String()
}

func wantAudited(t testing.TB, s *keystiletest.Server, workspace string, patterns ...string) {
	t.Helper()
	log := audited(t, s, workspace)
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)^" + p).MatchString(log) {
			t.Errorf("no entry %q in:\n%s", p, log)
		}
	}
}
