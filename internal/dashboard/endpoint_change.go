package dashboard

import (
	"net/http"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// endpointAsk is a form about one endpoint.
type endpointAsk struct {
	Endpoint keystile.Endpoint
	Secret   keystile.WebhookSecretRecord // the one that the path names, if it does
	Secrets  []keystile.WebhookSecretRecord
	Back     string // path of the page that it leads back to
	Nonce    string
	Overlaps []overlap
	Overlap  string
	Reason   string // as typed
	Since    string // as typed, or what is proposed
	Now      string
	Label    string
	Result   *keystile.TestResult
	Problem  *keystile.Error
}

// askEndpoint shows a form about an endpoint, empty or with what is wrong with it.
func (v *visit) askEndpoint(name, title string, page endpointAsk) error {
	form := v.r.PostFormValue
	page.Back, page.Nonce, page.Now = v.endpointAt(page.Endpoint.ID), newNonce(), time.Now().UTC().Format(minuteForm)
	page.Overlaps, page.Overlap, page.Reason, page.Since, page.Label = v.overlaps(), form("overlap"), form("reason"), form("since"), form("label")
	if page.Since == "" {
		page.Since = page.Now
		if e := page.Endpoint; e.FailingSince != nil {
			page.Since = failedSince(e).Format(minuteForm)
		}
	}
	v.show(formStatus(page.Problem), name, v.door.Profile.Word(title), page)
	return nil
}

// askingEndpoint is the page that asks before something is done to an endpoint.
func askingEndpoint(name, title string) func(*visit) error {
	return endpoints(func(v *visit) error {
		e, err := v.endpoint()
		if err != nil {
			return err
		}
		return v.askEndpoint(name, title, endpointAsk{Endpoint: e})
	})
}

// doingEndpoint does it, and leads back to the endpoint, or to the list when it is gone.
func doingEndpoint(name, title, done string, do func(*visit, keystile.Endpoint) error) func(*visit) error {
	return endpoints(func(v *visit) error {
		e, err := v.endpoint()
		if err != nil {
			return err
		}
		err = do(v, e)
		if problem := v.correctable(err); problem != nil {
			return v.askEndpoint(name, title, endpointAsk{Endpoint: e, Problem: problem})
		} else if err != nil {
			return err
		}
		if done == "deleted" {
			return v.to(v.endpointsAt() + "?done=" + done)
		}
		return v.to(v.endpointAt(e.ID) + "?done=" + done)
	})
}

func pauseEndpoint(v *visit, e keystile.Endpoint) error {
	_, err := v.keyring().PauseEndpoint(v.r.Context(), v.actor, e.ID, keystile.PauseEndpoint{Reason: v.r.PostFormValue("reason")})
	return err
}

// resumeEndpoint has events sent again, and with a tick in the form also those
// that failed since it has been failing.
func resumeEndpoint(v *visit, e keystile.Endpoint) error {
	if _, err := v.keyring().ResumeEndpoint(v.r.Context(), v.actor, e.ID); err != nil {
		return err
	}
	if e.FailingSince == nil || v.r.PostFormValue("replay") == "" {
		return nil
	}
	_, err := v.keyring().ReplayEvents(v.r.Context(), v.actor, e.ID, keystile.ReplayEvents{Since: failedSince(e)})
	return err
}

// failedSince is from when on events may have failed at an endpoint that is
// failing: those that happened an hour before the first attempt that did are
// not all sent yet then.
func failedSince(e keystile.Endpoint) time.Time { return e.FailingSince.Add(-time.Hour) }

func deleteEndpoint(v *visit, e keystile.Endpoint) error {
	return v.keyring().DeleteEndpoint(v.r.Context(), v.actor, e.ID)
}

// minuteForm is how browsers send dates with times.
const minuteForm = "2006-01-02T15:04"

// replayEvents sends again what failed since a time.
func replayEvents(v *visit, e keystile.Endpoint) error {
	typed := v.r.PostFormValue("since")
	since, err := time.Parse(minuteForm, typed)
	if err != nil { // with seconds, which a browser sends where they were typed
		since, err = time.Parse(minuteForm+":05", typed)
	}
	if err != nil {
		return keystile.NewError(keystile.CodeInvalidField, "Say since when.", "Choose a date and a time.")
	}
	_, err = v.keyring().ReplayEvents(v.r.Context(), v.actor, e.ID, keystile.ReplayEvents{Since: since})
	return err
}

func (v *visit) editEndpoint() error {
	e, err := v.endpoint()
	if err != nil {
		return err
	}
	return v.endpointFormPage("endpoint_edit_title", endpointForm{
		Endpoint: e, URL: e.URL, Description: e.Description, Ranges: strings.Join(e.AllowRanges, "\n"),
	}, e.EventTypes)
}

// saveEndpoint changes what the form says differs from the endpoint.
func (v *visit) saveEndpoint() error {
	e, err := v.endpoint()
	if err != nil {
		return err
	}
	var patch keystile.EndpointPatch
	to, description, types, ranges := v.r.PostFormValue("url"), v.r.PostFormValue("description"), v.eventsTicked(), v.rangesTyped()
	if to != e.URL {
		patch.URL = &to
	}
	if description != e.Description {
		patch.Description = &description
	}
	if strings.Join(types, " ") != strings.Join(e.EventTypes, " ") {
		patch.EventTypes = &types
	}
	if v.actor.May("platform.endpoint.allow") && strings.Join(ranges, " ") != strings.Join(e.AllowRanges, " ") {
		patch.AllowRanges = &ranges
	}
	_, err = v.keyring().UpdateEndpoint(v.r.Context(), v.actor, e.ID, patch)
	if problem := v.correctable(err); problem != nil {
		return v.endpointFormPage("endpoint_edit_title", endpointForm{
			Endpoint: e, URL: to, Description: description, Ranges: v.r.PostFormValue("ranges"), Problem: problem,
		}, types)
	} else if err != nil {
		return err
	}
	return v.to(v.endpointAt(e.ID) + "?done=saved")
}

// testEndpointPage asks which secret signs a test.
func (v *visit) testEndpointPage() error { return v.testForm(nil, nil) }

func (v *visit) testForm(result *keystile.TestResult, problem *keystile.Error) error {
	e, err := v.endpoint()
	if err != nil {
		return err
	}
	secrets, err := v.keyring().WebhookSecrets(v.r.Context(), v.actor, v.workspace.ID,
		keyring.WebhookSecretQuery{Endpoint: e.ID, Status: string(keystile.StatusActive), Limit: keysOnPage})
	if err != nil {
		return err
	}
	return v.askEndpoint("endpoint_test", "endpoint_test_title", endpointAsk{Endpoint: e, Secrets: secrets.Data, Result: result, Problem: problem})
}

// testEndpoint sends a test and shows what became of it.
func (v *visit) testEndpoint() error {
	e, err := v.endpoint()
	if err != nil {
		return err
	}
	result, err := v.courier.TestEndpoint(v.r.Context(), v.actor, e.ID, keystile.TestDelivery{WebhookSecret: v.r.PostFormValue("secret")})
	if problem := v.correctable(err); problem != nil {
		return v.testForm(nil, problem)
	} else if err != nil {
		return err
	}
	return v.testForm(&result, nil)
}

// createSigner makes another secret of an endpoint and shows it, once.
func (v *visit) createSigner() error {
	e, err := v.endpoint()
	if err != nil {
		return err
	}
	out, replayed, err := v.keyring().CreateWebhookSecret(v.r.Context(), v.actor, v.workspace.ID,
		keystile.CreateWebhookSecret{Label: v.r.PostFormValue("label"), Endpoint: e.ID}, v.once())
	if problem := v.correctable(err); problem != nil {
		return v.askEndpoint("endpoint_secret", "signer_create_title", endpointAsk{Endpoint: e, Problem: problem})
	} else if err != nil {
		return err
	}
	if replayed {
		return v.to(v.endpointAt(e.ID))
	}
	return v.endpointPage(http.StatusCreated, e, &createdSecret{out, v.endpointAt(e.ID)})
}

// signer reads the secret of the endpoint that the path names.
func (v *visit) signer() (keystile.Endpoint, keystile.WebhookSecretRecord, error) {
	e, err := v.endpoint()
	if err != nil {
		return e, keystile.WebhookSecretRecord{}, err
	}
	s, err := v.keyring().WebhookSecret(v.r.Context(), v.actor, v.r.PathValue("signer"))
	if err == nil && s.EndpointID != e.ID {
		return e, keystile.WebhookSecretRecord{}, unknownPage()
	}
	return e, s, err
}

// askingSigner is the page that asks before something is done to a secret of
// an endpoint.
func askingSigner(name, title string) func(*visit) error {
	return endpoints(func(v *visit) error {
		e, s, err := v.signer()
		if err != nil {
			return err
		}
		return v.askEndpoint(name, title, endpointAsk{Endpoint: e, Secret: s})
	})
}

// rotateSigner makes the replacement of a secret and shows it, once.
func (v *visit) rotateSigner() error {
	e, s, err := v.signer()
	if err != nil {
		return err
	}
	out, replayed, err := v.keyring().RotateWebhookSecret(v.r.Context(), v.actor, s.ID,
		keystile.RotateWebhookSecret{Overlap: v.r.PostFormValue("overlap")}, v.once())
	if problem := v.correctable(err); problem != nil {
		return v.askEndpoint("endpoint_rotate", "secret_rotate_title", endpointAsk{Endpoint: e, Secret: s, Problem: problem})
	} else if err != nil {
		return err
	}
	if replayed {
		return v.to(v.endpointAt(e.ID))
	}
	return v.endpointPage(http.StatusCreated, e, &createdSecret{out, v.endpointAt(e.ID)})
}

func (v *visit) revokeSigner() error {
	e, s, err := v.signer()
	if err != nil {
		return err
	}
	_, err = v.keyring().RevokeWebhookSecret(v.r.Context(), v.actor, s.ID, keystile.RevokeWebhookSecret{Reason: v.r.PostFormValue("reason")})
	if problem := v.correctable(err); problem != nil {
		return v.askEndpoint("endpoint_revoke", "secret_revoke_title", endpointAsk{Endpoint: e, Secret: s, Problem: problem})
	} else if err != nil {
		return err
	}
	return v.to(v.endpointAt(e.ID) + "?done=secret_revoked")
}
