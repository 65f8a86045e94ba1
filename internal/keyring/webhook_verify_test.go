package keyring_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/store"
)

// TestDiagnosesTakeTurns: however many ask at once why a webhook fails, each
// of which may cost most of a second, some processors are left for the keys.
// Who waits may give up.
func TestDiagnosesTakeTurns(t *testing.T) {
	t.Parallel()
	k := ring(t, store.Options{Dir: t.TempDir()})
	_, only, err := k.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context) error {
		_, err := k.VerifyWebhook(ctx, operator(), only, keystile.VerifyWebhookRequest{Payload: "{}"})
		return err
	}
	end := k.Diagnosing()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ask(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more was explained: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- ask(t.Context()) }()
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSecretsOfNoEndpoint: what is no ID of an endpoint does not reach the
// database, which may not take it for text.
func TestSecretsOfNoEndpoint(t *testing.T) {
	eachDatabase(t, func(t *testing.T, o store.Options) {
		k := ring(t, o)
		_, only, err := k.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a\x00b", "\xff", "ep_", only} {
			if _, err := k.WebhookSecrets(t.Context(), operator(), only, keyring.WebhookSecretQuery{Endpoint: id}); !errors.Is(err, keystile.CodeNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})
}
