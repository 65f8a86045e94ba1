package keyring

import (
	"context"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/webhook"
)

const (
	// maxTried is how many secrets of each kind, in use and ended, a webhook is
	// held against.
	maxTried = 50
	// maxHeaders bounds what is read of a webhook's headers, in bytes.
	maxHeaders = 64 << 10
)

// VerifyWebhook tells whether a webhook is one of the workspace's own, and
// what happened to it where it is not. Nothing of what it is given is kept.
//
// It takes the permission to see webhook secrets and no more: the answer is
// the one that every receiver gets by itself, about whole signatures only (see
// package webhook), so nothing can be forged with it; beside that it names a
// secret by its ID, which whoever has this permission sees in the list.
func (k *Keyring) VerifyWebhook(ctx context.Context, a Actor, workspaceID string, in keystile.VerifyWebhookRequest) (out keystile.WebhookVerdict, err error) {
	if len(in.Payload) > keystile.MaxWebhookPayload {
		return out, keystile.NewError(keystile.CodeBodyTooLarge, "The payload is larger than 1 MiB, which is the most that is verified.")
	}
	q := webhook.Question{
		Headers: map[string][]string{}, Payload: []byte(in.Payload), Environment: in.Environment, Secret: in.Secret, Now: k.now(),
	}
	size := 0
	for name, value := range in.Headers {
		q.Headers[name] = []string{value}
		size += len(name) + len(value)
	}
	if size > maxHeaders {
		return out, badField("body.headers", "These are more than 64 kB. The three whose names begin with webhook- are enough.")
	}
	if err := k.readWithin(ctx, a, workspaceID, "api.webhook_secret.view", func(tx *store.Tx) error {
		if _, ok := k.profile.Environment(in.Environment); in.Environment != "" && !ok {
			return badField("body.environment", "There is no environment of this name. There is: "+k.environments()+".")
		}
		q.Candidates, err = k.candidates(tx, workspaceID)
		return err
	}); err != nil {
		return out, err
	}
	leave, err := k.diagnoses.enter(ctx, workspaceID)
	if err != nil {
		return out, err
	}
	defer leave()
	d := webhook.Diagnose(q)
	if d.Proved {
		k.uses.add(store.SecretUse{ID: d.WebhookSecret, Verified: q.Now})
	}
	return d.WebhookVerdict, nil
}

// candidates opens the secrets that a webhook of the workspace may have been
// signed with: those in use and those that ended, the newest of each first.
func (k *Keyring) candidates(tx *store.Tx, workspaceID string) (list []webhook.Candidate, err error) {
	now := k.now()
	for _, status := range []keystile.KeyStatus{keystile.StatusActive, keystile.StatusExpired, keystile.StatusRevoked} {
		rows, err := tx.WebhookSecrets(store.OneWorkspace(workspaceID), store.SecretFilter{
			WorkspaceID: workspaceID, Status: status, Limit: maxTried, Now: now,
		})
		if err != nil {
			return nil, err
		}
		for _, s := range rows {
			text, err := k.openText(s)
			if err != nil && status != keystile.StatusActive {
				continue // sealed under a master key that is gone, which live ones are not
			} else if err != nil {
				return nil, err
			}
			list = append(list, webhook.Candidate{
				ID: s.ID, Environment: s.Environment, Ended: status != keystile.StatusActive, Text: text,
			})
		}
	}
	return list, nil
}
