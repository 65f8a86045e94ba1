package keyring

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// SignWebhook signs a payload for a workspace: with all active secrets of an
// environment, or with one secret alone. What is active is read from the store
// at this moment, so that a revoked or expired secret signs on no node.
func (k *Keyring) SignWebhook(ctx context.Context, a Actor, workspaceID string, in keystile.SignRequest) (out keystile.Signed, err error) {
	if len(in.Payload) > keystile.MaxWebhookPayload {
		return out, keystile.NewError(keystile.CodeBodyTooLarge, "The payload is larger than 1 MiB, which is the most that is signed.")
	}
	if in.Environment != "" && in.WebhookSecret != "" {
		return out, badField("body.webhook_secret", "Name an environment or one secret, not both.")
	}
	now := k.now()
	if in.ID == "" {
		in.ID = k.ids.next("msg_", now)
	}
	var live []liveSecret
	if err := k.readWithin(ctx, a, workspaceID, "api.webhook_secret.sign", func(tx *store.Tx) error {
		f := store.SecretFilter{WorkspaceID: workspaceID}
		if in.WebhookSecret == "" {
			if f.Environment, err = k.secretEnvironment(in.Environment); err != nil {
				return err
			}
		}
		live, err = k.liveSecrets(tx, f, in.WebhookSecret, now)
		return err
	}); err != nil {
		return out, err
	}
	opened := make([]keystile.WebhookSecret, len(live))
	for i, s := range live {
		opened[i] = s.secret
		out.WebhookSecrets = append(out.WebhookSecrets, s.id)
	}
	h, err := keystile.SignWebhook(in.ID, now, []byte(in.Payload), opened...)
	if err != nil {
		return keystile.Signed{}, badField("body.id", "It must have 1 to 128 of the characters A-Z a-z 0-9 _ - and no other.")
	}
	k.uses.signed(now, live)
	out.Headers = keystile.WebhookHeaders{
		ID: h.Get(keystile.WebhookIDHeader), Timestamp: h.Get(keystile.WebhookTimestampHeader), Signature: h.Get(keystile.WebhookSignatureHeader),
	}
	return out, nil
}

// SecretsOfEndpoint opens the active secrets of an endpoint for a delivery that
// is to be signed now, oldest first, and notes that they sign. With only, it is
// that one alone; it may be one of the workspace's own then, if endpointID is
// empty. It fails with [keystile.CodeConflict] when there is none.
func (k *Keyring) SecretsOfEndpoint(ctx context.Context, workspaceID, endpointID, only string) ([]keystile.WebhookSecret, error) {
	var live []liveSecret
	now := k.now()
	if err := problemOf(k.withKeys(ctx, func() error {
		return k.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
			live, err = k.liveSecrets(tx, store.SecretFilter{WorkspaceID: workspaceID, EndpointID: endpointID}, only, now)
			return err
		})
	})); err != nil {
		return nil, err
	}
	opened := make([]keystile.WebhookSecret, len(live))
	for i, s := range live {
		opened[i] = s.secret
	}
	k.uses.signed(now, live)
	return opened, nil
}

// liveSecret is a webhook secret that may sign.
type liveSecret struct {
	id     string
	secret keystile.WebhookSecret
}

// liveSecrets opens what signs at this moment, oldest first: all active
// secrets of a filter, or one of its workspace and endpoint.
func (k *Keyring) liveSecrets(tx *store.Tx, f store.SecretFilter, only string, now time.Time) (live []liveSecret, err error) {
	scope := store.OneWorkspace(f.WorkspaceID)
	var rows []store.WebhookSecret
	if only != "" {
		s, err := tx.WebhookSecret(scope, only)
		if err != nil {
			return nil, err
		}
		if s.EndpointID != f.EndpointID {
			return nil, store.ErrNotFound
		}
		if secretEnded(&s, now); s.Status != keystile.StatusActive {
			return nil, keystile.NewError(keystile.CodeConflict, "The webhook secret is "+string(s.Status)+", so it signs nothing.",
				"Name another one, or create one.")
		}
		rows = []store.WebhookSecret{s}
	} else {
		if f.EndpointID != "" {
			rows, err = tx.SigningSecrets(scope, f.EndpointID, now, maxSigning)
		} else {
			f.Status, f.Now, f.Limit = keystile.StatusActive, now, maxSigning
			rows, err = tx.WebhookSecrets(scope, f)
		}
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			fix := "Create a webhook secret for this environment first."
			if f.EndpointID != "" {
				fix = "Create a webhook secret for this endpoint: POST /v1/workspaces/" + f.WorkspaceID + "/webhook-secrets with its ID as endpoint."
			}
			return nil, keystile.NewError(keystile.CodeConflict, "There is no active webhook secret to sign with.", fix)
		}
	}
	for _, s := range slices.Backward(rows) {
		opened, err := k.open(s)
		if err != nil {
			return nil, err
		}
		live = append(live, liveSecret{s.ID, opened})
	}
	return live, nil
}

// secretUses notes in memory when webhook secrets were used, as uses of keys
// are counted: writing each down would cost more than signing.
type secretUses struct {
	mu   sync.Mutex
	uses map[string]store.SecretUse // by ID
}

// signed notes that secrets have signed.
func (u *secretUses) signed(at time.Time, live []liveSecret) {
	for _, s := range live {
		u.add(store.SecretUse{ID: s.id, Signed: at})
	}
}

// add notes the newer times.
func (u *secretUses) add(use store.SecretUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.uses == nil {
		u.uses = map[string]store.SecretUse{}
	}
	known := u.uses[use.ID]
	known.ID = use.ID
	if use.Signed.After(known.Signed) {
		known.Signed = use.Signed
	}
	if use.Verified.After(known.Verified) {
		known.Verified = use.Verified
	}
	u.uses[use.ID] = known
}

func (u *secretUses) drain() (uses []store.SecretUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, use := range u.uses {
		uses = append(uses, use)
	}
	u.uses = nil
	return uses
}

// FlushSecretUses writes when webhook secrets were last used. What could not
// be written is kept for the next time.
func (k *Keyring) FlushSecretUses(ctx context.Context) error {
	uses := k.uses.drain()
	for len(uses) > 0 {
		n := min(len(uses), flushChunk)
		if _, err := k.store.Write(ctx, func(tx *store.Tx) error { return tx.AddSecretUses(uses[:n]) }); err != nil {
			for _, u := range uses {
				k.uses.add(u)
			}
			return err
		}
		uses = uses[n:]
	}
	return nil
}
