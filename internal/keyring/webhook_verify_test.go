package keyring_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
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

// TestDiagnosesAreShared: one workspace that asks all the time holds up itself,
// and another one no longer than for one of its own.
func TestDiagnosesAreShared(t *testing.T) {
	t.Parallel()
	k := ring(t, store.Options{Dir: t.TempDir()})
	_, busy, err := k.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := k.CreateWorkspace(t.Context(), operator(), keystile.CreateWorkspace{Name: "Other"}, keyring.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	_, secret := keystile.NewWebhookSecret()
	// Signed otherwise than anybody looks for, so that all is tried.
	in := keystile.VerifyWebhookRequest{Payload: `{"text": "` + strings.Repeat("x", 100_000) + `"}`, Secret: secret, Headers: map[string]string{
		"webhook-id": "msg_1", "webhook-timestamp": "1795284086", "webhook-signature": "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	}}
	const many = 20
	end := k.Diagnosing()
	var answered atomic.Int64
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			if _, err := k.VerifyWebhook(t.Context(), operator(), busy, in); err != nil {
				t.Error(err)
			}
			answered.Add(1)
		})
	}
	await := func(workspaceID string, n int) {
		for k.AskingFor(workspaceID) < n && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	await(busy, many)
	all.Go(func() {
		if _, err := k.VerifyWebhook(t.Context(), operator(), other.ID, in); err != nil {
			t.Error(err)
		}
		if n := answered.Load(); n > many/2 {
			t.Errorf("it had to wait for %d of the %d of another workspace", n, many)
		}
	})
	await(other.ID, 1)
	end()
	all.Wait()
	if k.AskingFor(busy) != 0 || k.AskingFor(other.ID) != 0 {
		t.Error("somebody is waiting still")
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
