package dashboard

import (
	"net/http"
	"time"

	"github.com/keystile/keystile"
)

// secretForm is a form about one webhook secret.
type secretForm struct {
	Secret  keystile.WebhookSecretRecord
	Back    string // path of the page that it leads back to
	Nonce   string
	Problem *keystile.Error

	Label, Expires, Today string // as typed
	Overlap               string
	Overlaps              []overlap
	Reasons               []string
	Reason, Other         string
}

// askSecret shows a form about the secret of the path, empty or with what is
// wrong with it.
func (v *visit) askSecret(name, title string, s keystile.WebhookSecretRecord, problem *keystile.Error) error {
	form := v.r.PostFormValue
	page := secretForm{
		Secret: s, Back: v.secretAt(s.ID), Nonce: newNonce(), Problem: problem,
		Label: form("label"), Expires: form("expires"), Today: time.Now().UTC().Format(dayForm),
		Overlap: form("overlap"), Overlaps: v.overlaps(),
		Reasons: v.door.Profile.Keys.Reasons, Reason: form("reason"), Other: form("other_reason"),
	}
	if v.r.Method == http.MethodGet {
		page.Label = s.Label
		if s.ExpiresAt != nil {
			page.Expires = s.ExpiresAt.Format(dayForm)
		}
	}
	v.show(formStatus(problem), name, v.door.Profile.Word(title), page)
	return nil
}

// asking is the page that asks before something is done to a webhook secret.
func asking(name, title string) func(*visit) error {
	return webhooks(func(v *visit) error {
		s, err := v.secret()
		if err != nil {
			return err
		}
		return v.askSecret(name, title, s, nil)
	})
}

// doing does it, and leads to the page of the secret that do names; none: the
// list.
func doing(name, title, done string, do func(*visit, keystile.WebhookSecretRecord) (id string, err error)) func(*visit) error {
	return webhooks(func(v *visit) error {
		s, err := v.secret()
		if err != nil {
			return err
		}
		id, err := do(v, s)
		if problem := v.correctable(err); problem != nil {
			return v.askSecret(name, title, s, problem)
		} else if err != nil {
			return err
		}
		if id == "" {
			return v.to(v.secretsAt() + "?done=" + done)
		}
		return v.to(v.secretAt(id) + "?done=" + done)
	})
}

// saveSecret changes what the form says differs from the secret.
func saveSecret(v *visit, s keystile.WebhookSecretRecord) (string, error) {
	var patch keystile.WebhookSecretPatch
	if label := v.r.PostFormValue("label"); label != s.Label {
		patch.Label = &label
	}
	var was string
	if s.ExpiresAt != nil {
		was = s.ExpiresAt.Format(dayForm)
	}
	if is := v.r.PostFormValue("expires"); is != was {
		if is == "" {
			return "", keystile.NewError(keystile.CodeInvalidField, "The end of a webhook secret can't be taken away: nothing lengthens its life.",
				"Rotate it instead.")
		}
		var err error
		if patch.ExpiresAt, err = endOfDay(is); err != nil {
			return "", err
		}
	}
	_, err := v.keyring().UpdateWebhookSecret(v.r.Context(), v.actor, s.ID, patch)
	return s.ID, err
}

// rotateSecret makes the replacement and shows it, once, beside the old one.
func (v *visit) rotateSecret() error {
	s, err := v.secret()
	if err != nil {
		return err
	}
	out, replayed, err := v.keyring().RotateWebhookSecret(v.r.Context(), v.actor, s.ID,
		keystile.RotateWebhookSecret{Overlap: v.r.PostFormValue("overlap")}, v.once())
	if problem := v.correctable(err); problem != nil {
		return v.askSecret("secret_rotate", "secret_rotate_title", s, problem)
	} else if err != nil {
		return err
	}
	if replayed {
		return v.secretShownAlready(out.WebhookSecret)
	}
	page, err := v.secretPage(out.WebhookSecret)
	if err != nil {
		return err
	}
	page.Created = &createdSecret{out, v.secretAt(out.WebhookSecret.ID)}
	v.show(http.StatusCreated, "secret", v.door.Profile.Word("secret_created_title"), page)
	return nil
}

func revokeSecret(v *visit, s keystile.WebhookSecretRecord) (string, error) {
	_, err := v.keyring().RevokeWebhookSecret(v.r.Context(), v.actor, s.ID, keystile.RevokeWebhookSecret{Reason: v.reason()})
	return s.ID, err
}

// rollBackSecret revokes a replacement and gives the secret that it replaces
// its former end back.
func rollBackSecret(v *visit, s keystile.WebhookSecretRecord) (string, error) {
	_, err := v.keyring().RevokeWebhookSecret(v.r.Context(), v.actor, s.ID,
		keystile.RevokeWebhookSecret{Reason: "Rotation rolled back", Rollback: true})
	return s.Replaces, err
}

func deleteSecret(v *visit, s keystile.WebhookSecretRecord) (string, error) {
	return "", v.keyring().DeleteWebhookSecret(v.r.Context(), v.actor, s.ID)
}

// secretTest is the form that sends a test signed with one webhook secret.
type secretTest struct {
	Secret      keystile.WebhookSecretRecord
	URL, Ranges string // as typed
	MayAllow    bool   // the reader may open the operator's network
	Back        string
	Result      *keystile.TestResult
	Problem     *keystile.Error
}

// testSecretPage asks where to send a test.
func (v *visit) testSecretPage() error { return v.secretTestForm(nil, nil) }

func (v *visit) secretTestForm(result *keystile.TestResult, problem *keystile.Error) error {
	s, err := v.secret()
	if err != nil {
		return err
	}
	v.show(formStatus(problem), "secret_test", v.door.Profile.Word("secret_test_title"), secretTest{
		Secret: s, URL: v.r.PostFormValue("url"), Ranges: v.r.PostFormValue("ranges"), MayAllow: v.actor.May("platform.endpoint.allow"),
		Back: v.secretAt(s.ID), Result: result, Problem: problem,
	})
	return nil
}

// testSecret sends a test and shows what became of it.
func (v *visit) testSecret() error {
	s, err := v.secret()
	if err != nil {
		return err
	}
	result, err := v.courier.TestWebhookSecret(v.r.Context(), v.actor, s.ID, keystile.TestWebhook{URL: v.r.PostFormValue("url"), AllowRanges: v.rangesTyped()})
	if problem := v.correctable(err); problem != nil {
		return v.secretTestForm(nil, problem)
	} else if err != nil {
		return err
	}
	return v.secretTestForm(&result, nil)
}
