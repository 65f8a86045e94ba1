package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

func secretBehaviours() []behaviour {
	return []behaviour{
		{"WebhookSecretKept", secretKept},
		{"WebhookSecretList", secretList},
		{"WebhookSecretCount", secretCount},
		{"WebhookSecretUse", secretUse},
		{"WebhookSecretReseal", secretReseal},
	}
}

func webhookSecret(wsID string, n int) store.WebhookSecret {
	return store.WebhookSecret{WebhookSecretRecord: keystile.WebhookSecretRecord{
		ID: id("whs_", n), WorkspaceID: wsID, Label: fmt.Sprintf("secret %d", n), Environment: "production", Algorithm: "hmac-sha256",
		Preview: "whsec_…", Status: keystile.StatusActive, CreatedAt: noon, UpdatedAt: noon,
		CreatedBy: keystile.Party{Kind: "key", ID: keyID(1), Name: "ops"},
	}, MasterKey: "older", Sealed: []byte{0, 1, 0xff}}
}

// addSecrets adds one active, one due and one revoked webhook secret of acme.
func addSecrets(tx *store.Tx) error {
	due, revoked := webhookSecret(acme, 2), webhookSecret(acme, 3)
	due.ExpiresAt = at(ago(day))
	revoked.Status = keystile.StatusRevoked
	if err := errors.Join(tx.InsertWebhookSecret(webhookSecret(acme, 1)), tx.InsertWebhookSecret(due), tx.InsertWebhookSecret(revoked)); err != nil {
		return err
	}
	revoked.RevokedAt, revoked.RevokedBy = at(ago(day)), &keystile.Party{Kind: "operator"}
	return tx.UpdateWebhookSecret(all(), revoked)
}

func getSecret(t testing.TB, f *fixture, n int) store.WebhookSecret {
	t.Helper()
	return get(t, f.Store, func(tx *store.Tx) (store.WebhookSecret, error) { return tx.WebhookSecret(all(), id("whs_", n)) })
}

func secretKept(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	s := webhookSecret(acme, 1)
	s.EndpointID, s.ExpiresAt, s.Replaces = "ep_1", at(noon.Add(day)), id("whs_", 9)
	write(t, f.Store, func(tx *store.Tx) error { return tx.InsertWebhookSecret(s) })
	if got := getSecret(t, f, 1); !reflect.DeepEqual(got, s) {
		t.Errorf("kept %+v, want %+v", got, s)
	}
	s.Label, s.Status, s.UpdatedAt, s.ExpiresAt, s.FormerEnd = "other", keystile.StatusRevoked, noon.Add(time.Second), at(noon.Add(time.Hour)), 77
	s.RevokedAt, s.RevokedBy, s.RevokedReason = at(noon), &keystile.Party{Kind: "person", ID: "per_1", Name: "Ann"}, "rotated"
	r := webhookSecret(acme, 2)
	r.ExpiresAt = at(noon.Add(day))
	s.ReplacedBy = r.ID
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.InsertWebhookSecret(r), tx.UpdateWebhookSecret(all(), s))
	})
	s.ReplacementStatus, s.ReplacementEnd = keystile.StatusActive, noon.Add(day)
	if got := getSecret(t, f, 1); !reflect.DeepEqual(got, s) {
		t.Errorf("kept %+v, want %+v", got, s)
	}
	write(t, f.Store, func(tx *store.Tx) error { return tx.DeleteWebhookSecret(all(), r.ID) })
	if got := getSecret(t, f, 1); got.ReplacedBy != "" || got.ReplacementStatus != "" {
		t.Errorf("refers to a secret that is gone: %+v", got)
	}
}

func secretList(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		staging, endpoint := webhookSecret(acme, 4), webhookSecret(acme, 5)
		staging.Environment, endpoint.EndpointID = "staging", "ep_1"
		return errors.Join(addSecrets(tx), tx.InsertWebhookSecret(staging), tx.InsertWebhookSecret(endpoint))
	})
	for name, c := range map[string]struct {
		f    store.SecretFilter
		want []int
	}{
		"all":         {store.SecretFilter{}, []int{4, 3, 2, 1}},
		"active":      {store.SecretFilter{Status: keystile.StatusActive}, []int{4, 1}},
		"revoked":     {store.SecretFilter{Status: keystile.StatusRevoked}, []int{3}},
		"expired":     {store.SecretFilter{Status: keystile.StatusExpired}, []int{2}},
		"environment": {store.SecretFilter{Environment: "staging"}, []int{4}},
		"endpoint":    {store.SecretFilter{EndpointID: "ep_1"}, []int{5}},
		"cursor":      {store.SecretFilter{Cursor: id("whs_", 3)}, []int{2, 1}},
		"limit":       {store.SecretFilter{Limit: 2}, []int{4, 3}},
	} {
		c.f.WorkspaceID, c.f.Now = acme, noon
		if c.f.Limit == 0 {
			c.f.Limit = 9
		}
		var got, want []string
		for _, s := range get(t, f.Store, func(tx *store.Tx) ([]store.WebhookSecret, error) { return tx.WebhookSecrets(all(), c.f) }) {
			got = append(got, s.ID)
		}
		for _, n := range c.want {
			want = append(want, id("whs_", n))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func secretCount(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	write(t, f.Store, func(tx *store.Tx) error {
		old, fresh, endpoint := webhookSecret(acme, 4), webhookSecret(acme, 5), webhookSecret(acme, 6)
		endpoint.EndpointID = "ep_1"
		old.ReplacedBy = fresh.ID
		return errors.Join(addSecrets(tx), tx.InsertWebhookSecret(old), tx.InsertWebhookSecret(fresh), tx.InsertWebhookSecret(endpoint),
			tx.UpdateWebhookSecret(all(), old))
	})
	count := func() int {
		return get(t, f.Store, func(tx *store.Tx) (int, error) { return tx.CountWebhookSecrets(all(), acme, noon) })
	}
	if n := count(); n != 2 {
		t.Errorf("%d count, want 2: one by itself, and one with the one it replaces", n)
	}
	write(t, f.Store, func(tx *store.Tx) error {
		fresh := webhookSecret(acme, 5)
		fresh.ExpiresAt = at(noon)
		return tx.UpdateWebhookSecret(all(), fresh)
	})
	if n := count(); n != 2 {
		t.Errorf("%d count, want 2: the replacement has expired, so the old one counts", n)
	}
}

func secretUse(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	write(t, f.Store, addSecrets)
	for _, u := range []store.SecretUse{
		{Signed: noon}, {Verified: noon.Add(time.Hour)}, {Signed: ago(time.Hour), Verified: noon}, {},
	} {
		u.ID = id("whs_", 1)
		write(t, f.Store, func(tx *store.Tx) error {
			return tx.AddSecretUses([]store.SecretUse{u, {ID: "whs_gone", Signed: noon}})
		})
	}
	s := getSecret(t, f, 1)
	if s.LastSignedAt == nil || !s.LastSignedAt.Equal(noon) || s.LastVerifiedAt == nil || !s.LastVerifiedAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("signed %v, verified %v", s.LastSignedAt, s.LastVerifiedAt)
	}
	for _, row := range f.dump(t) {
		if row == fmt.Sprintf("webhook_secret_use [whs_gone %d 0]", noon.UnixMilli()) {
			t.Error("the use of a secret is kept that is not there")
		}
	}
	write(t, f.Store, func(tx *store.Tx) error { return tx.DeleteWebhookSecret(all(), id("whs_", 1)) })
	if n := len(texts(t, f.raw(t), `SELECT webhook_secret_id FROM webhook_secret_use`)); n != 0 {
		t.Errorf("%d rows of use after the secret is gone", n)
	}
}

func secretReseal(t *testing.T, f *fixture) {
	addKeys(t, f.Store, 1)
	write(t, f.Store, addSecrets)
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(tx.Reseal(all(), id("whs_", 1), "newer", []byte("anew")), tx.Reseal(all(), id("whs_", 3), "", nil))
	})
	if s := getSecret(t, f, 1); s.MasterKey != "newer" || string(s.Sealed) != "anew" {
		t.Errorf("under %q: %q", s.MasterKey, s.Sealed)
	}
	live, sealed := map[string]int64{}, map[string]int64{}
	get(t, f.Store, func(tx *store.Tx) (n int, err error) { live, sealed, err = tx.SealedUnder(); return 0, err })
	if want := map[string]int64{"newer": 1, "older": 1}; !reflect.DeepEqual(sealed, want) || !reflect.DeepEqual(live, want) {
		t.Errorf("live %v, all %v", live, sealed)
	}
	rest := get(t, f.Store, func(tx *store.Tx) ([]store.WebhookSecret, error) { return tx.NextSealed(all(), "newer", "", 9) })
	if len(rest) != 1 || rest[0].ID != id("whs_", 2) {
		t.Errorf("left: %+v", rest)
	}
}
