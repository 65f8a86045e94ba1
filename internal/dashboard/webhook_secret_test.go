package dashboard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// createSecret makes a webhook secret at the pages and returns its text and ID.
func createSecret(v *browser, s *keystiletest.Server, label, environment string) (secret, id string) {
	v.t.Helper()
	path := "/w/" + s.Workspace + "/webhook-secrets"
	form := v.get(path + "/new").is(http.StatusOK)
	shown := v.post(path, "nonce", form.field("nonce"), "label", label, "environment", environment).is(http.StatusCreated)
	return text(shown.one("output")), webhookSecrets(v.t, s)[0].ID
}

// inMarkup is a secret as templates write it.
func inMarkup(secret string) string { return strings.ReplaceAll(secret, "+", "&#43;") }

// webhookSecrets are those of the first workspace, newest first.
func webhookSecrets(t testing.TB, s *keystiletest.Server) []keystile.WebhookSecretRecord {
	t.Helper()
	list, err := s.Operator.WebhookSecrets(t.Context(), s.Workspace, keystile.ListWebhookSecrets{Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	return list.Data
}

// signed is a webhook as a consumer receives it.
func signed(t testing.TB, s *keystiletest.Server, in keystile.SignRequest) (lines string) {
	t.Helper()
	out, err := s.Operator.SignWebhook(t.Context(), s.Workspace, in)
	if err != nil {
		t.Fatal(err)
	}
	return "Content-Type: application/json\nWebhook-Id: " + out.Headers.ID + "\nWebhook-Timestamp: " + out.Headers.Timestamp +
		"\nWebhook-Signature: " + out.Headers.Signature
}

// A webhook secret is shown once, under Developer Tools, for one consumer
// environment.
func TestSecretShownOnceVQ3(t *testing.T) {
	t.Parallel()
	s := product(t, "voqo")
	v := admin(t, s)
	path := "/w/" + s.Workspace + "/webhook-secrets"
	v.get("/w/"+s.Workspace+"/keys").holds(`href="`+path+`"`, "Developer Tools")
	v.get(path).is(http.StatusOK).shows("No webhook secrets yet", "Create webhook secret")

	form := v.get(path+"/new").is(http.StatusOK).shows("Label", "Consumer environment", "Production", "Staging")
	sent := []string{"nonce", form.field("nonce"), "label", "Order service", "environment", "staging"}
	shown := v.post(path, sent...).is(http.StatusCreated)
	dialog, secret := shown.one("dialog"), text(shown.one("output"))
	if _, err := keystile.ParseWebhookSecret(secret); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{secret, "Order service", "Copy", "Done", "only time"} {
		if !strings.Contains(text(dialog), words) {
			t.Errorf("the dialog does not say %q: %s", words, text(dialog))
		}
	}
	if !strings.Contains(attribute(dialog, "data-uncopied"), "not copied yet") || strings.Count(shown.body, inMarkup(secret)) != 1 {
		t.Errorf("closing asks %q; the secret is there %d times", attribute(dialog, "data-uncopied"), strings.Count(shown.body, inMarkup(secret)))
	}
	all := webhookSecrets(t, s)
	if len(all) != 1 || all[0].Environment != "staging" || all[0].Label != "Order service" {
		t.Fatalf("%+v", all)
	}
	at := path + "/" + all[0].ID
	v.post(path, sent...).is(http.StatusOK).lacks(secret, inMarkup(secret)).shows("created before", "Order service", all[0].ID)
	if n := len(webhookSecrets(t, s)); n != 1 {
		t.Errorf("%d webhook secrets", n)
	}
	for _, again := range []string{path, at, at + "/edit", at + "/rotate", at + "/revoke", at + "/delete", "/w/" + s.Workspace + "/audit"} {
		v.get(again).is(http.StatusOK).lacks(secret, inMarkup(secret))
	}
	v.get(path).shows("Order service", "Staging", all[0].Preview, "Active", "Last signed", "Last verified", "Never")
	v.get(at).shows("Support details", s.Workspace, all[0].ID, "Created", "Audit trail")
	v.get("/w/"+s.Workspace+"/audit?action=webhook_secret.created").shows("Webhook secret: all", "Webhook secret created", "Order service")
	v.get(path + "?environment=production").shows("Nothing found").lacks("Order service")
	v.get(path + "?environment=staging&status=active").shows("Order service")
	v.get(path + "?").is(http.StatusSeeOther)

	// What is wrong with the form is said, and what was typed stays.
	for name, in := range map[string][]string{
		"A label is required":             {"label", " ", "environment", "staging"},
		"Name the environment":            {"label", "Kept as typed"},
		"There is no environment of this": {"label", "Kept as typed", "environment", "moon"},
		"is not a day":                    {"label", "Kept as typed", "environment", "staging", "expires", "tomorrow"},
		"It must be later than now":       {"label", "Kept as typed", "environment", "staging", "expires", "2020-01-01"},
	} {
		p := v.post(path, append(in, "nonce", name)...)
		if p.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d: %s", name, p.status, p.words())
		}
		if in[1] != " " {
			p.holds(`value="Kept as typed"`)
		}
	}
	if n := len(webhookSecrets(t, s)); n != 1 {
		t.Errorf("%d webhook secrets after forms with mistakes", n)
	}
}

// Replacement first, both side by side with their evidence, then the old one is
// revoked with a reason; or the rotation is rolled back.
func TestRotateSecretVQ4_VQ5(t *testing.T) {
	t.Parallel()
	s := product(t, "voqo", keystiletest.FlushInterval(5*time.Millisecond))
	v := admin(t, s)
	list := "/w/" + s.Workspace + "/webhook-secrets"
	secret, id := createSecret(v, s, "Order service", "production")
	old := list + "/" + id
	v.get(old+"/rotate").is(http.StatusOK).shows("Until it is revoked", "One day", "Both sign until")
	form := []string{"nonce", v.get(old + "/rotate").field("nonce"), "overlap", ""}
	shown := v.post(old+"/rotate", form...).is(http.StatusCreated)
	fresh := text(shown.one("output"))
	shown.lacks(secret, inMarkup(secret)).shows("Old secret", "Replacement", "Last signed", "Last verified")
	v.post(old+"/rotate", form...).is(http.StatusOK).lacks(fresh, inMarkup(fresh)).shows("created before")
	next := webhookSecrets(t, s)[0].ID
	// There is no third while two are in use.
	v.post(old+"/rotate", "nonce", "again", "overlap", "").is(http.StatusConflict).shows("has a replacement already")
	v.get(old).shows("Replaced", "counts as safe to revoke once", "Revoke the old secret", "Roll back").lacks(secret, inMarkup(secret), fresh, inMarkup(fresh))

	// Moving is seen: a consumer verifies with the replacement.
	body := `{"a":1}`
	alone := signed(t, s, keystile.SignRequest{Payload: body, WebhookSecret: next})
	v.post("/w/"+s.Workspace+"/webhook-debugger", "headers", alone, "body", body, "secret", fresh).is(http.StatusOK).
		shows("The webhook is good", "Order service").lacks(fresh, inMarkup(fresh))
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(v.get(old).words(), "Safe to revoke") {
		if time.Now().After(deadline) {
			t.Fatal(v.get(old).words())
		}
		time.Sleep(5 * time.Millisecond)
	}
	v.get(list).shows("Safe to revoke")

	// Rolling back takes the replacement away, and gives the old one its end back.
	v.get(list + "/" + next + "/rollback").is(http.StatusOK).shows("signs nothing from now on")
	v.done(list + "/" + next + "/rollback").shows("Rolled back")
	if all := webhookSecrets(t, s); all[0].Status != keystile.StatusRevoked || all[1].Status != keystile.StatusActive {
		t.Fatalf("%+v", all)
	}
	v.post(old + "/rollback").is(http.StatusUnprocessableEntity).shows("replaces no other")

	// Revoked with a reason, which is kept and shown.
	v.get(old+"/revoke").is(http.StatusOK).shows("No longer needed", "Ownership changed", "Exposure suspected", "refuse every webhook")
	v.done(old+"/revoke", "reason", "ownership_changed").shows("signs nothing from now on", "Revoked", "Ownership changed")
	v.get(list).shows("Ownership changed")
	v.post(old+"/rotate", "nonce", "late", "overlap", "").is(http.StatusConflict).shows("revoked")
	v.post(old+"/edit", "label", "Late", "expires", "2099-01-01").is(http.StatusConflict).shows("revoked")
	v.done(old + "/delete").shows("Deleted").lacks(id)
	v.get(old).is(http.StatusNotFound)
}

// A label and an earlier end can be given, a later one can't.
func TestEditSecret(t *testing.T) {
	t.Parallel()
	s := product(t, "voqo")
	v := admin(t, s)
	_, id := createSecret(v, s, "Order service", "production")
	at := "/w/" + s.Workspace + "/webhook-secrets/" + id
	v.get(at + "/edit").is(http.StatusOK).holds(`value="Order service"`)
	v.done(at+"/edit", "label", "Orders & <parcels>").shows("Saved", "Orders & <parcels>", "Updated: label")
	year := time.Now().AddDate(1, 0, 0).UTC().Format("2006-01-02")
	later := time.Now().AddDate(2, 0, 0).UTC().Format("2006-01-02")
	v.done(at+"/edit", "label", "Orders", "expires", year).shows("Saved")
	day := webhookSecrets(t, s)[0].ExpiresAt.Format("2006-01-02")
	v.post(at+"/edit", "label", "Orders", "expires", later).is(http.StatusUnprocessableEntity).shows("later than the end")
	v.post(at+"/edit", "label", "Orders", "expires", "").is(http.StatusUnprocessableEntity).shows("can't be taken away")
	v.post(at+"/edit", "label", "", "expires", day).is(http.StatusUnprocessableEntity).shows("A label is required")
	if got := webhookSecrets(t, s)[0]; got.Label != "Orders" || got.ExpiresAt.Format("2006-01-02") != day {
		t.Errorf("%+v", got)
	}
}

// Where the product sends no webhooks, its pages know nothing of them.
func TestNoWebhooks(t *testing.T) {
	t.Parallel()
	s := product(t, "voxum")
	v := admin(t, s)
	v.get("/w/" + s.Workspace + "/keys").lacks("Webhook")
	for _, path := range []string{"/webhook-secrets", "/webhook-secrets/new", "/webhook-debugger"} {
		v.get("/w/" + s.Workspace + path).is(http.StatusNotFound)
	}
	v.post("/w/"+s.Workspace+"/webhook-secrets", "label", "x", "environment", "production").is(http.StatusNotFound)
}

// Whoever sees webhook secrets and no keys finds them.
func TestSecretsAlone(t *testing.T) {
	t.Parallel()
	s := product(t, "voqo")
	role := customRole(t, s, s.Workspace, "Integrator", "api.webhook_secret.view")
	v := inRole(t, s, s.Workspace, role.ID)
	list := "/w/" + s.Workspace + "/webhook-secrets"
	if to := v.get("/w/" + s.Workspace + "/").is(http.StatusSeeOther).to; !strings.HasSuffix(to, list) {
		t.Errorf("led to %s", to)
	}
	v.get(list).is(http.StatusOK).holds("Developer Tools").lacks("/keys\"", list+"/new")
}

// A page with many webhook secrets leads on to the rest.
func TestPageSecrets(t *testing.T) {
	t.Parallel()
	s := product(t, "ipaware") // without a limit in its larger plan
	ws := s.NewWorkspace("Many", "enterprise")
	for range 31 {
		if _, err := s.Operator.CreateWebhookSecret(t.Context(), ws.ID, keystile.CreateWebhookSecret{Label: "Consumer", Environment: "production"}); err != nil {
			t.Fatal(err)
		}
	}
	v := operator(t, s)
	list := "/w/" + ws.ID + "/webhook-secrets"
	p := v.get(list).is(http.StatusOK).shows("Next page")
	if n := len(p.find("tr")); n != 31 {
		t.Errorf("%d rows", n)
	}
	next := attribute(p.one("a", "Next page"), "href")
	if n := len(v.get(next).shows("First page").find("tr")); n != 2 {
		t.Errorf("%d rows on the second page", n)
	}
}

// TestDebuggerVQ7 enters webhooks as people have them.
func TestDebuggerVQ7(t *testing.T) {
	t.Parallel()
	s := product(t, "voqo")
	v := admin(t, s)
	at := "/w/" + s.Workspace + "/webhook-debugger"
	secret, id := createSecret(v, s, "Order service", "production")
	other, _ := createSecret(v, s, "Order service, test", "staging")
	body := "{\n  \"type\": \"order.shipped\",\n  \"note\": \"é\"\n}"
	lines := signed(t, s, keystile.SignRequest{Payload: body, Environment: "production"})
	crlf := strings.ReplaceAll(body, "\n", "\r\n")
	windows := signed(t, s, keystile.SignRequest{Payload: crlf, Environment: "production"})
	var fields = map[string]any{}
	for line := range strings.SplitSeq(lines, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		fields[name] = []string{value}
	}
	object, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	v.get("/w/" + s.Workspace + "/webhook-secrets").holds(`href="` + at + `"`)
	v.get(at).is(http.StatusOK).shows("Headers", "Body", "Consumer environment", "not kept")
	v.post(at).is(http.StatusUnprocessableEntity).shows("no webhook to look at yet", "Paste the headers").lacks("The webhook does not verify")
	old := strings.Replace(lines, "Webhook-Timestamp: 1", "Webhook-Timestamp: 1000000000\nX-Was: 1", 1)
	for _, c := range []struct {
		name string
		form []string
		want []string
	}{
		{"as it came", []string{"headers", lines, "body", body}, []string{"The webhook is good", "Order service", "Active", "Production"}},
		{"as browsers send it", []string{"headers", strings.ReplaceAll(lines, "\n", "\r\n"), "body", crlf}, []string{"The webhook is good"}},
		{"signed with CRLF", []string{"headers", windows, "body", crlf}, []string{"The webhook is good"}},
		{"in its environment", []string{"headers", lines, "body", body, "environment", "production"}, []string{"The webhook is good"}},
		{"with the consumer's secret", []string{"headers", lines, "body", body, "secret", secret}, []string{"The webhook is good"}},
		{"as curl shows it", []string{"headers", "> POST /hooks HTTP/1.1\n> " + strings.ReplaceAll(lines, "\n", "\n> ") + "\n>", "body", body}, []string{"The webhook is good"}},
		{"a whole request", []string{"headers", "POST /hooks HTTP/1.1\n" + lines + "\n\n" + body, "body", ""}, []string{"The webhook is good"}},
		{"headers as an object", []string{"headers", string(object), "body", body}, []string{"The webhook is good"}},
		{"in another environment", []string{"headers", lines, "body", body, "environment", "staging"}, []string{"does not verify", "another consumer environment", "Order service", "wrong_environment"}},
		{"with another environment's secret", []string{"headers", lines, "body", body, "secret", other}, []string{"does not verify", "that of another environment", "wrong_secret"}},
		{"with an ID for a secret", []string{"headers", lines, "body", body, "secret", id}, []string{"does not verify", "ID of a secret"}},
		{"written anew", []string{"headers", lines, "body", `{"type":"order.shipped","note":"\u00e9"}`}, []string{"does not verify", "parsed and written again", "raw body"}},
		{"a line break behind it", []string{"headers", lines, "body", crlf + "\r\n"}, []string{"does not verify", "line break at the end"}},
		{"another body", []string{"headers", lines, "body", "{}"}, []string{"does not verify", "No signature fits"}},
		{"without a signature", []string{"headers", lines[:strings.Index(lines, "Webhook-Signature")], "body", body}, []string{"The header webhook-signature is missing"}},
		{"an old time in it", []string{"headers", old, "body", body}, []string{"does not verify"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := v.post(at, c.form...).is(http.StatusOK).shows(c.want...).lacks(secret, inMarkup(secret), other, inMarkup(other))
			for i := 0; i+1 < len(c.form); i += 2 {
				if c.form[i] == "body" && c.form[i+1] != "" {
					if got := p.field("body"); got != strings.Join(strings.Fields(c.form[i+1]), " ") { // as the test reads fields
						t.Errorf("the body comes back as %q", got)
					}
				}
			}
		})
	}
	v.post(at, "headers", lines, "body", body, "environment", "moon").is(http.StatusUnprocessableEntity).shows("There is no environment")
	v.post(at, "headers", lines, "body", body+"<script>alert(1)</script>").is(http.StatusOK).lacks("<script>alert")
	// A long one is looked into, and not filled in again; a longer one is not.
	long := `{"text":"` + strings.Repeat(`\"`, 30<<10) + `"}`
	v.post(at, "headers", signed(t, s, keystile.SignRequest{Payload: long, Environment: "production"}), "body", long).
		is(http.StatusOK).shows("The webhook is good", "too long to be filled in again")
	for _, n := range []int{64<<10 + 1, 1 << 20} {
		v.post(at, "headers", lines, "body", strings.Repeat("a", n)).is(http.StatusRequestEntityTooLarge).shows("up to 64 kB", "POST /v1/workspaces/")
	}

	// A secret that was left behind after a rotation is known for what it is.
	if _, err := s.Operator.RevokeWebhookSecret(t.Context(), id, keystile.RevokeWebhookSecret{Reason: keystile.ReasonRotated}); err != nil {
		t.Fatal(err)
	}
	v.post(at, "headers", lines, "body", body).is(http.StatusOK).shows("revoked or expired", "Order service", "Revoked")
}

// VQ4: a secret of the product is tried at a consumer, signed alone. That it is
// accepted is evidence for a rotation.
func TestTestSecretVQ4(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	var status atomic.Int32
	status.Store(503)
	consumer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(consumer.Close)
	made, err := s.Operator.CreateWebhookSecret(t.Context(), s.Workspace, keystile.CreateWebhookSecret{Label: "Shop", Environment: "production"})
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := s.Operator.RotateWebhookSecret(t.Context(), made.WebhookSecret.ID, keystile.RotateWebhookSecret{})
	if err != nil {
		t.Fatal(err)
	}
	v, at := operator(t, s), "/w/"+s.Workspace+"/webhook-secrets/"
	test := at + fresh.WebhookSecret.ID + "/test"
	v.get(at + fresh.WebhookSecret.ID).is(http.StatusOK).holds(`action="` + test + `"`)
	v.get(test).is(http.StatusOK).shows("Shop", "signed with this secret alone")
	v.post(test, "url", consumer.URL).is(http.StatusUnprocessableEntity).shows("private network", "allow_ranges")
	v.post(test, "url", consumer.URL, "ranges", "127.0.0.1").is(http.StatusOK).shows("Not accepted.", "status 503")
	v.get(at + made.WebhookSecret.ID).lacks("Safe to revoke")
	status.Store(204)
	v.post(test, "url", consumer.URL, "ranges", "127.0.0.1").is(http.StatusOK).shows("Accepted.", "status 204")
	v.get(at + made.WebhookSecret.ID).shows("Safe to revoke")
	// Others are told whom to ask.
	inRole(t, s, s.Workspace, "developer").post(test, "url", consumer.URL).is(http.StatusUnprocessableEntity).shows("ask whoever runs").lacks("allow_ranges")
}
