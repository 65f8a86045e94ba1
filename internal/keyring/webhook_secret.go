package keyring

import (
	"context"
	"strconv"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

const (
	secretIDPrefix = "whs_"
	// maxSigning is how many secrets of one environment, or endpoint, may be
	// active: every one adds a signature to each webhook, and receivers bound
	// how many they look at.
	maxSigning = 32
)

// secretPermission is what something about a webhook secret takes. The secrets
// of an endpoint are a part of the endpoint.
func secretPermission(endpointID, verb string) string {
	switch {
	case endpointID == "":
		return "api.webhook_secret." + verb
	case verb == "view":
		return "api.endpoint.view"
	}
	return "api.endpoint.update"
}

// CreateWebhookSecret makes a webhook secret of a workspace. The answer is the
// only one that will ever hold it. Replayed is true when an idempotent request
// was seen before; then there is no secret.
func (k *Keyring) CreateWebhookSecret(ctx context.Context, a Actor, workspaceID string, in keystile.CreateWebhookSecret, idem Idempotency) (out keystile.CreatedWebhookSecret, replayed bool, err error) {
	if err := checkID("ws_", workspaceID); err != nil {
		return out, false, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		ws, err := c.Workspace(a.scope(), workspaceID)
		if err != nil {
			return err
		}
		if in.Endpoint != "" {
			if err := checkID("ep_", in.Endpoint); err != nil {
				return err
			}
			if _, err := c.Tx.Endpoint(store.OneWorkspace(ws.ID), in.Endpoint); err != nil {
				return err
			}
		}
		if err := a.need(secretPermission(in.Endpoint, "create")); err != nil {
			return err
		}
		out, replayed, err = once(c, idem, in, withoutWebhookSecret, func() (keystile.CreatedWebhookSecret, error) {
			return c.createSecret(ws, in)
		})
		return err
	})
	if err != nil {
		return keystile.CreatedWebhookSecret{}, false, err
	}
	return out, replayed, nil
}

func withoutWebhookSecret(v keystile.CreatedWebhookSecret) keystile.CreatedWebhookSecret {
	v.Secret = ""
	return v
}

func (c *change) createSecret(ws keystile.Workspace, in keystile.CreateWebhookSecret) (out keystile.CreatedWebhookSecret, err error) {
	s := c.newSecret(ws.ID)
	if s.Label, err = requiredLabel(in.Label); err != nil {
		return out, err
	}
	if s.ExpiresAt, err = end("body.expires_at", in.ExpiresAt, c.now); err != nil {
		return out, err
	}
	if s.EndpointID = in.Endpoint; s.EndpointID != "" {
		if in.Environment != "" {
			return out, badField("body.environment", "The secret of an endpoint has no environment. Leave it out.")
		}
		return c.insertSecret(s)
	}
	if s.Environment, err = c.k.secretEnvironment(in.Environment); err != nil {
		return out, err
	}
	if out, err = c.insertSecret(s); err != nil {
		return out, err
	}
	return out, c.withinSecretLimit(ws, 0)
}

// requiredLabel checks a label, which must not be empty.
func requiredLabel(s string) (string, error) {
	s, err := text("body.label", s, maxName)
	if err == nil && s == "" {
		return "", badField("body.label", "A label is required. Say who verifies with the secret.")
	}
	return s, err
}

// secretEnvironment checks the environment that is named for a webhook secret
// or for signing. Unlike a key it gets none by default where there are
// several: a webhook that is signed for the wrong one is refused far away.
func (k *Keyring) secretEnvironment(name string) (string, error) {
	all := k.profile.Environments
	switch {
	case name == "" && len(all) > 1:
		return "", badField("body.environment", "Name the environment of those who verify: "+k.environments()+".")
	case name == "" && len(all) == 1:
		return all[0].Name, nil
	case name != "":
		if _, ok := k.profile.Environment(name); !ok {
			return "", badField("body.environment", "There is no environment of this name. There is: "+k.environments()+".")
		}
	}
	return name, nil
}

// newSecret begins the record of a webhook secret.
func (c *change) newSecret(workspaceID string) (s store.WebhookSecret) {
	s.ID = c.k.ids.next(secretIDPrefix, c.now)
	s.WorkspaceID, s.Status, s.Algorithm = workspaceID, keystile.StatusActive, keystile.WebhookHMACSHA256
	s.CreatedAt, s.UpdatedAt, s.CreatedBy = c.now, c.now, c.actor.party
	return s
}

// insertSecret mints the secret of a record, seals it and adds it.
func (c *change) insertSecret(s store.WebhookSecret) (out keystile.CreatedWebhookSecret, err error) {
	_, out.Secret = keystile.NewWebhookSecret()
	s.Preview = keystile.PreviewWebhookSecret(out.Secret, c.k.profile.Preview)
	if s.MasterKey, s.Sealed, err = c.seal(out.Secret, s.WorkspaceID, s.ID); err != nil {
		return keystile.CreatedWebhookSecret{}, err
	}
	if err := c.InsertWebhookSecret(s); err != nil {
		return keystile.CreatedWebhookSecret{}, err
	}
	if err := c.fewSign(s); err != nil {
		return keystile.CreatedWebhookSecret{}, err
	}
	out.WebhookSecret, out.Replaces = c.k.presentSecret(s, c.now), s.Replaces
	return out, c.recordSecret("webhook_secret.created", "", nil, &s)
}

// fewSign fails if more secrets are active beside one than can sign.
func (c *change) fewSign(s store.WebhookSecret) error {
	active, err := c.WebhookSecrets(store.OneWorkspace(s.WorkspaceID), store.SecretFilter{
		WorkspaceID: s.WorkspaceID, EndpointID: s.EndpointID, Environment: s.Environment,
		Status: keystile.StatusActive, Limit: maxSigning + 1, Now: c.now,
	})
	if err != nil || len(active) <= maxSigning {
		return err
	}
	return keystile.NewError(keystile.CodeConflict,
		"There are "+strconv.Itoa(maxSigning)+" active webhook secrets in this environment, and each adds a signature to every webhook. There can't be more.",
		"Revoke those that nobody verifies with any more.")
}

// withinSecretLimit fails if the workspace now has more webhook secrets than
// its plan allows, and than it had before. It is called after the change.
func (c *change) withinSecretLimit(ws keystile.Workspace, before int) error {
	most := c.k.planOf(ws).Limits.WebhookSecrets
	if most < 0 || ws.Operator {
		return nil
	}
	n, err := c.CountWebhookSecrets(store.OneWorkspace(ws.ID), ws.ID, c.now)
	if err != nil {
		return err
	}
	if n > most && n > before {
		return planLimit(c.k.planOf(ws), "webhook secret", most, "Revoke webhook secrets that nobody verifies with any more.")
	}
	return nil
}

// presentSecret is a webhook secret as on the wire: with what the clock and the
// profile say.
func (k *Keyring) presentSecret(s store.WebhookSecret, now time.Time) keystile.WebhookSecretRecord {
	secretEnded(&s, now)
	w := s.WebhookSecretRecord
	replaced := secretReplaced(s, now)
	if every := k.profile.RotateEvery(w.Environment); every > 0 && w.Status == keystile.StatusActive && !replaced {
		due := w.CreatedAt.Add(every)
		w.RotationDue = &due
	}
	var verified time.Time
	if w.LastVerifiedAt != nil {
		verified = *w.LastVerifiedAt
	}
	w.SafeToRevoke = replaced && w.Status == keystile.StatusActive && s.ReplacementVerified.After(verified) && now.Sub(verified) > quiet
	return w
}

// secretEnded lets the status say what the clock says.
func secretEnded(s *store.WebhookSecret, now time.Time) {
	if s.Status == keystile.StatusActive && s.ExpiresAt != nil && !s.ExpiresAt.After(now) {
		s.Status = keystile.StatusExpired
	}
}

// recordSecret records a change of a webhook secret.
func (c *change) recordSecret(action, reason string, before, after *store.WebhookSecret) error {
	e := entry{action: action, kind: store.ChangeWebhookSecret, reason: reason}
	for _, side := range []struct {
		secret *store.WebhookSecret
		into   *any
	}{{before, &e.before}, {after, &e.after}} {
		if side.secret == nil {
			continue
		}
		wire := c.k.presentSecret(*side.secret, c.now)
		*side.into = wire
		e.workspaceID, e.objectID, e.objectName = wire.WorkspaceID, wire.ID, wire.Label
	}
	return c.record(e)
}

// saveSecret writes a changed webhook secret with its record.
func (c *change) saveSecret(action, reason string, before, after *store.WebhookSecret) error {
	after.UpdatedAt = c.after(before.UpdatedAt)
	if err := c.UpdateWebhookSecret(c.actor.scope(), *after); err != nil {
		return err
	}
	if err := c.recordSecret(action, reason, before, after); err != nil {
		return err
	}
	return c.lookAtSecretNow(after.ID)
}

// WebhookSecret shows all about a webhook secret but the secret.
func (k *Keyring) WebhookSecret(ctx context.Context, a Actor, id string) (out keystile.WebhookSecretRecord, err error) {
	if err := checkID(secretIDPrefix, id); err != nil {
		return out, err
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		s, err := tx.WebhookSecret(a.scope(), id)
		if err != nil {
			return err
		}
		out = k.presentSecret(s, k.now())
		return a.need(secretPermission(s.EndpointID, "view"))
	})
	if err != nil {
		return keystile.WebhookSecretRecord{}, err
	}
	return out, nil
}

// WebhookSecretQuery says which webhook secrets to list.
type WebhookSecretQuery struct {
	Endpoint    string // ID of the endpoint whose secrets to list; "" for the workspace's own
	Environment string // "" for all
	Status      string // active, revoked, expired, all; "" means all
	Cursor      string
	Limit       int // 1 to MaxLimit; 0 means DefaultLimit
}

// WebhookSecrets lists the webhook secrets of a workspace, newest first.
func (k *Keyring) WebhookSecrets(ctx context.Context, a Actor, workspaceID string, q WebhookSecretQuery) (out keystile.List[keystile.WebhookSecretRecord], err error) {
	if q.Endpoint != "" {
		if err := checkID("ep_", q.Endpoint); err != nil {
			return out, err
		}
	}
	f := store.SecretFilter{WorkspaceID: workspaceID, EndpointID: q.Endpoint, Cursor: q.Cursor, Now: k.now()}
	if f.Environment, err = text("query.environment", q.Environment, maxName); err != nil {
		return out, err
	}
	switch q.Status {
	case "", "all":
	case "active", "revoked", "expired":
		f.Status = keystile.KeyStatus(q.Status)
	default:
		return out, badField("query.status", "It must be active, revoked, expired or all.")
	}
	if err := checkCursor(secretIDPrefix, q.Cursor); err != nil {
		return out, err
	}
	n, err := limit(q.Limit)
	if err != nil {
		return out, err
	}
	f.Limit = n + 1
	err = k.readWithin(ctx, a, workspaceID, secretPermission(q.Endpoint, "view"), func(tx *store.Tx) error {
		rows, err := tx.WebhookSecrets(a.scope(), f)
		if err != nil {
			return err
		}
		list := make([]keystile.WebhookSecretRecord, len(rows))
		for i, s := range rows {
			list[i] = k.presentSecret(s, f.Now)
		}
		out = page(list, n, func(s keystile.WebhookSecretRecord) string { return s.ID })
		return nil
	})
	return out, err
}

// changeSecret runs fn on a webhook secret that the actor may see and has the
// permissions for.
func (k *Keyring) changeSecret(ctx context.Context, a Actor, id string, verbs []string, fn func(c *change, s *store.WebhookSecret) error) (out keystile.WebhookSecretRecord, err error) {
	if err := checkID(secretIDPrefix, id); err != nil {
		return out, err
	}
	_, err = k.write(ctx, a, func(c *change) error {
		s, err := c.secretFor(id, verbs...)
		if err != nil {
			return err
		}
		if err := fn(c, &s); err != nil {
			return err
		}
		out = k.presentSecret(s, c.now)
		return nil
	})
	if err != nil {
		return keystile.WebhookSecretRecord{}, err
	}
	return out, nil
}

// secretFor reads a webhook secret and fails unless the actor may touch it.
func (c *change) secretFor(id string, verbs ...string) (store.WebhookSecret, error) {
	s, err := c.WebhookSecret(c.actor.scope(), id)
	if err != nil {
		return s, err
	}
	for _, verb := range verbs {
		if err := c.actor.need(secretPermission(s.EndpointID, verb)); err != nil {
			return s, err
		}
	}
	return s, c.expireSecret(&s)
}

// expireSecret stores as a state that a webhook secret has reached its end, if
// it has. Signing does not wait for it.
func (c *change) expireSecret(s *store.WebhookSecret) error {
	before := *s
	if secretEnded(s, c.now); s.Status == before.Status {
		return nil
	}
	who := c.actor
	c.actor = system()
	defer func() { c.actor = who }()
	return c.saveSecret("webhook_secret.expired", "", &before, s)
}

// UpdateWebhookSecret edits a webhook secret.
func (k *Keyring) UpdateWebhookSecret(ctx context.Context, a Actor, id string, in keystile.WebhookSecretPatch) (keystile.WebhookSecretRecord, error) {
	return k.changeSecret(ctx, a, id, []string{"update"}, func(c *change, s *store.WebhookSecret) (err error) {
		if in == (keystile.WebhookSecretPatch{}) {
			return nil
		}
		before := *s
		if in.Label != nil {
			if s.Label, err = requiredLabel(*in.Label); err != nil {
				return err
			}
		}
		if in.ExpiresAt != nil {
			if s.Status != keystile.StatusActive {
				return secretOver(s.Status)
			}
			at, err := end("body.expires_at", in.ExpiresAt, c.now)
			if err != nil {
				return err
			}
			if s.ExpiresAt != nil && at.After(*s.ExpiresAt) {
				return badField("body.expires_at", "It is later than the end the secret has. Nothing lengthens a secret's life; rotate it or create a new one.")
			}
			s.ExpiresAt = at
			// Rolling a rotation back must not undo this.
			if s.ReplacedBy != "" && (s.FormerEnd == 0 || at.UnixMilli() < s.FormerEnd) {
				s.FormerEnd = at.UnixMilli()
			}
		}
		return c.saveSecret("webhook_secret.updated", "", &before, s)
	})
}

// secretOver says that a webhook secret's life has ended.
func secretOver(s keystile.KeyStatus) error {
	return keystile.NewError(keystile.CodeConflict, "The webhook secret is "+string(s)+", which is final.",
		"Create a new webhook secret.")
}

// DeleteWebhookSecret removes a webhook secret for good. The audit log keeps
// its ID and label.
func (k *Keyring) DeleteWebhookSecret(ctx context.Context, a Actor, id string) error {
	_, err := k.changeSecret(ctx, a, id, []string{"delete"}, func(c *change, s *store.WebhookSecret) error {
		return c.deleteSecret(s, "")
	})
	return err
}

func (c *change) deleteSecret(s *store.WebhookSecret, reason string) error {
	if err := c.recordSecret("webhook_secret.deleted", reason, s, nil); err != nil {
		return err
	}
	if err := c.closeAlertsOf(s.ID); err != nil {
		return err
	}
	return c.Tx.DeleteWebhookSecret(c.actor.scope(), s.ID)
}
