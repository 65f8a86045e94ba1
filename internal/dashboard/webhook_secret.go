package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
)

// webhooks serves a page only where the product sends webhooks at all.
func webhooks(serve func(*visit) error) func(*visit) error {
	return func(v *visit) error {
		if !v.door.Profile.WebhookSecrets {
			return unknownPage()
		}
		return serve(v)
	}
}

// secretsPage is the list of a workspace's webhook secrets.
type secretsPage struct {
	Tabs         []tab
	Rows         []secretRow
	Filtered     bool
	Status       string
	Environment  string
	Environments []profile.Environment
	First, Next  string // addresses of other pages of the list
	MayCreate    bool
	Created      *createdSecret
}

// secretRow is a webhook secret with what the reader may do about it.
type secretRow struct {
	keystile.WebhookSecretRecord

	Marks []string // names of words without mark_
	Acts  []string
}

// createdSecret is a webhook secret that was just made: shown this once.
type createdSecret struct {
	keystile.CreatedWebhookSecret

	Close string // path of the page that closing it leads to
}

func (v *visit) secretRow(s keystile.WebhookSecretRecord) secretRow {
	row, now := secretRow{WebhookSecretRecord: s}, time.Now()
	before := func(t *time.Time, ahead time.Duration) bool { return t != nil && !t.After(now.Add(ahead)) }
	live := s.Status == keystile.StatusActive
	may := func(verb string) bool { return v.actor.May("api.webhook_secret." + verb) }
	if live {
		switch {
		case s.SafeToRevoke:
			row.Marks = append(row.Marks, "safe")
		case s.ReplacedBy != "":
			row.Marks = append(row.Marks, "replaced")
		}
		switch {
		case before(s.RotationDue, 0):
			row.Marks = append(row.Marks, "overdue")
		case before(s.RotationDue, keyring.Soon):
			row.Marks = append(row.Marks, "due")
		}
		if before(s.ExpiresAt, keyring.Soon) {
			row.Marks = append(row.Marks, "expiring")
		}
	}
	for _, act := range []struct {
		name string
		ok   bool
	}{
		{"edit", live && may("update")},
		{"rotate", live && may("create") && may("delete")},
		{"revoke", s.Status != keystile.StatusRevoked && may("delete")},
		{"delete", !live && may("delete")}, // what still signs is revoked first, which says why
	} {
		if act.ok {
			row.Acts = append(row.Acts, act.name)
		}
	}
	return row
}

func (v *visit) secretsPage() (secretsPage, error) {
	q := v.r.URL.Query()
	page := secretsPage{
		Tabs: v.tabs("secrets"), Status: q.Get("status"), Environment: q.Get("environment"),
		Environments: v.door.Profile.Environments, MayCreate: v.actor.May("api.webhook_secret.create"),
	}
	page.Filtered = page.Status != "" || page.Environment != ""
	list, err := v.keyring().WebhookSecrets(v.r.Context(), v.actor, v.workspace.ID, keyring.WebhookSecretQuery{
		Environment: page.Environment, Status: page.Status, Cursor: q.Get("cursor"), Limit: keysOnPage,
	})
	if err != nil {
		return page, err
	}
	for _, s := range list.Data {
		page.Rows = append(page.Rows, v.secretRow(s))
	}
	filter := url.Values{}
	for name, value := range map[string]string{"status": page.Status, "environment": page.Environment} {
		if value != "" {
			filter.Set(name, value)
		}
	}
	if q.Get("cursor") != "" {
		page.First = v.secretsAt() + "?" + filter.Encode()
	}
	if list.NextCursor != "" {
		filter.Set("cursor", list.NextCursor)
		page.Next = v.secretsAt() + "?" + filter.Encode()
	}
	return page, nil
}

// secretsAt is the path of the list.
func (v *visit) secretsAt() string { return v.base() + "/webhook-secrets" }

func (v *visit) secretAt(id string) string { return v.secretsAt() + "/" + id }

func (v *visit) listSecrets() error {
	if v.r.URL.ForceQuery {
		return v.to(v.secretsAt())
	}
	page, err := v.secretsPage()
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "secrets", v.door.Profile.Word("secrets_title"), page)
	return nil
}

// secret reads the webhook secret of the path: one of this workspace's own.
// Those of endpoints belong to the endpoint's page.
func (v *visit) secret() (keystile.WebhookSecretRecord, error) {
	s, err := v.keyring().WebhookSecret(v.r.Context(), v.actor, v.r.PathValue("secret"))
	if err == nil && (s.WorkspaceID != v.workspace.ID || s.EndpointID != "") {
		return keystile.WebhookSecretRecord{}, unknownPage()
	}
	return s, err
}

// newSecretPage is the form of a new webhook secret.
type newSecretPage struct {
	Label, Environment, Expires, Today string

	Environments []profile.Environment
	Nonce        string
	Problem      *keystile.Error
}

func (v *visit) newSecret() error { return v.newSecretForm(nil) }

func (v *visit) newSecretForm(problem *keystile.Error) error {
	form := v.r.PostFormValue
	v.show(formStatus(problem), "secret_new", v.door.Profile.Word("secret_create_title"), newSecretPage{
		Label: form("label"), Environment: form("environment"), Expires: form("expires"), Today: time.Now().UTC().Format(dayForm),
		Environments: v.door.Profile.Environments, Nonce: newNonce(), Problem: problem,
	})
	return nil
}

// createSecret makes a webhook secret and shows it, once, as createKey does.
func (v *visit) createSecret() error {
	in := keystile.CreateWebhookSecret{Label: v.r.PostFormValue("label"), Environment: v.r.PostFormValue("environment")}
	var err error
	in.ExpiresAt, err = endOfDay(v.r.PostFormValue("expires"))
	var out keystile.CreatedWebhookSecret
	var replayed bool
	if err == nil {
		out, replayed, err = v.keyring().CreateWebhookSecret(v.r.Context(), v.actor, v.workspace.ID, in, v.once())
	}
	if problem := v.correctable(err); problem != nil {
		return v.newSecretForm(problem)
	} else if err != nil {
		return err
	}
	if replayed {
		return v.secretShownAlready(out.WebhookSecret)
	}
	page, err := v.secretsPage()
	if err != nil {
		return err
	}
	page.Created = &createdSecret{out, v.secretsAt()}
	v.show(http.StatusCreated, "secrets", v.door.Profile.Word("secret_created_title"), page)
	return nil
}

func (v *visit) secretShownAlready(s keystile.WebhookSecretRecord) error {
	v.show(http.StatusOK, "secret_again", "Created before", v.secretRow(s))
	return nil
}

// secretPage is all there is to know about a webhook secret.
type secretPage struct {
	secretRow

	Pair      *secretPair
	Audit     bool // the reader may see the audit log
	Trail     []trailEntry
	TrailMore string
	Support   string
	Created   *createdSecret
}

// secretPair is a webhook secret and the one that replaces it, side by side.
type secretPair struct {
	Old, New keystile.WebhookSecretRecord
	Both     bool // both sign
	RollBack bool // the reader can undo the rotation
	EndOld   bool // the reader can end the old one
}

func (v *visit) showSecret() error {
	if v.r.URL.ForceQuery {
		return v.to(v.r.URL.Path)
	}
	s, err := v.secret()
	if err != nil {
		return err
	}
	page, err := v.secretPage(s)
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "secret", s.Label, page)
	return nil
}

func (v *visit) secretPage(s keystile.WebhookSecretRecord) (page secretPage, err error) {
	page.secretRow = v.secretRow(s)
	if page.Pair, err = v.secretPair(s); err != nil {
		return page, err
	}
	if p := page.Pair; p != nil && p.Both {
		// There is no third one while two are in use.
		page.Acts = slices.DeleteFunc(page.Acts, func(a string) bool { return a == "rotate" })
	}
	if page.Audit = v.actor.May("api.audit.view"); page.Audit {
		list, err := v.keyring().Audit(v.r.Context(), v.actor, v.workspace.ID, keyring.AuditQuery{Object: s.ID, Limit: auditShown})
		if err != nil {
			return page, err
		}
		for _, e := range list.Data {
			page.Trail = append(page.Trail, trailOf(e))
		}
		if list.NextCursor != "" {
			page.TrailMore = v.base() + "/audit?object=" + s.ID
		}
	}
	if s.Status == keystile.StatusActive && v.actor.May("api.webhook_secret.sign") {
		page.Acts = append(page.Acts, "test")
	}
	page.Support = v.secretSupport(s)
	return page, nil
}

// secretPair finds the secret that replaces this one, or the one that it
// replaces.
func (v *visit) secretPair(s keystile.WebhookSecretRecord) (*secretPair, error) {
	other := s.ReplacedBy
	if other == "" {
		other = s.Replaces
	}
	if other == "" {
		return nil, nil //nolint:nilnil // most have none
	}
	o, err := v.keyring().WebhookSecret(v.r.Context(), v.actor, other)
	if errors.Is(err, keystile.CodeNotFound) {
		return nil, nil //nolint:nilnil // deleted since
	} else if err != nil {
		return nil, err
	}
	p := &secretPair{Old: s, New: o}
	if s.ReplacedBy == "" {
		p.Old, p.New = o, s
	}
	p.Both = p.Old.Status == keystile.StatusActive && p.New.Status == keystile.StatusActive && p.Old.ReplacedBy == p.New.ID
	p.EndOld = p.Both && v.actor.May("api.webhook_secret.delete")
	p.RollBack = p.EndOld && v.actor.May("api.webhook_secret.create")
	return p, nil
}

// secretSupport is what a person sends to whoever helps them: it names
// everything and holds no secret.
func (v *visit) secretSupport(s keystile.WebhookSecretRecord) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	instant := func(name string, t *time.Time, without string) {
		if t != nil {
			line(name, t.UTC().Format(time.RFC3339))
		} else {
			line(name, without)
		}
	}
	now := time.Now()
	line("Product", v.door.Profile.Product)
	line("Workspace", v.workspace.ID)
	line("Webhook secret", s.ID)
	line("Label", s.Label)
	line("Environment", s.Environment)
	line("Algorithm", s.Algorithm)
	line("Status", string(s.Status))
	instant("Created", &s.CreatedAt, "")
	instant("Expires", s.ExpiresAt, "")
	instant("Revoked", s.RevokedAt, "")
	instant("Last signed", s.LastSignedAt, "never")
	instant("Last verified here", s.LastVerifiedAt, "never")
	line("Replaces", s.Replaces)
	line("Replaced by", s.ReplacedBy)
	instant("Copied", &now, "")
	return b.String()
}
