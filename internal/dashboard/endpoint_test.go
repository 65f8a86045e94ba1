package dashboard_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// theEndpoint is the only one of the first workspace.
func theEndpoint(t testing.TB, s *keystiletest.Server) keystile.Endpoint {
	t.Helper()
	list, err := s.Operator.Endpoints(t.Context(), s.Workspace, keystile.ListEndpoints{})
	if err != nil || len(list.Data) != 1 {
		t.Fatalf("%d endpoints, %v", len(list.Data), err)
	}
	return list.Data[0]
}

// delivered waits until an endpoint has so many deliveries of a status, and
// returns the newest, if there is one.
func delivered(t testing.TB, s *keystiletest.Server, id, status string, n int) keystile.Delivery {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		list, err := s.Operator.Deliveries(t.Context(), id, keystile.ListDeliveries{Status: status})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Data) == n {
			return append(list.Data, keystile.Delivery{})[0]
		}
		if time.Now().After(end) {
			t.Fatalf("%d deliveries are %s, want %d", len(list.Data), status, n)
		}
	}
}

// An endpoint's whole life at the pages: made with its secret shown once,
// tested, paused, resumed, rotated, what failed sent again, deleted.
func TestEndpointAtThePages(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	var status atomic.Int32
	status.Store(200)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, "<b>said the receiver</b>")
	}))
	t.Cleanup(receiver.Close)
	v := operator(t, s) // who alone may let it reach this machine
	base := "/w/" + s.Workspace
	path := base + "/endpoints"
	v.get(base + "/keys").holds(`href="` + path + `"`)
	v.get(path).is(http.StatusOK).shows("No endpoints yet", "Create endpoint")
	form := v.get(path+"/new").is(http.StatusOK).shows("URL", "Events", "key.revoked", "A key was revoked", "member.*")

	// What is wrong is said, and what was typed stays.
	for words, in := range map[string][]string{
		"must begin with https://": {"url", "http://example.com/typed", "types[]", "key.*"},
		"names no type":            {"url", "https://example.com/typed"},
		"no such type of event":    {"url", "https://example.com/typed", "types[]", "nothing"},
		"private network":          {"url", "https://10.0.0.1/typed", "types[]", "key.*"},
		"too wide":                 {"url", "https://example.com/typed", "types[]", "key.*", "ranges", "0.0.0.0/0"},
	} {
		v.post(path, append(in, "nonce", words, "description", "As typed")...).is(http.StatusUnprocessableEntity).shows(words).holds(`value="As typed"`, "/typed")
	}
	sent := []string{"nonce", form.field("nonce"), "url", receiver.URL + "/hook", "description", "Our receiver", "types[]", "key.created", "types[]", "endpoint.*", "ranges", "127.0.0.0/8\n::1"}
	shown := v.post(path, sent...).is(http.StatusCreated)
	secret := text(shown.one("output"))
	if _, err := keystile.ParseWebhookSecret(secret); err != nil {
		t.Fatal(err)
	}
	e := theEndpoint(t, s)
	at := path + "/" + e.ID
	v.post(path, sent...).is(http.StatusSeeOther)
	theEndpoint(t, s) // and no second one
	for _, again := range []string{path, at, at + "/edit", at + "/test", at + "/pause", at + "/delete", base + "/audit"} {
		v.get(again).is(http.StatusOK).lacks(secret, inMarkup(secret))
	}
	v.get(path).shows(receiver.URL+"/hook", "Our receiver", "key.created", "endpoint.*", "Active")
	delivered(t, s, e.ID, "delivered", 1)
	v.get(at).shows("endpoint.created", "Delivered", "127.0.0.0/8", "Send failed again")

	// A test, which tells what the receiver said.
	v.get(at+"/test").is(http.StatusOK).shows("All active secrets", "alone")
	v.post(at+"/test").is(http.StatusOK).shows("Delivered.", "status 200", "said the receiver").lacks("<b>said")
	status.Store(418)
	v.post(at+"/test").is(http.StatusOK).shows("Not delivered.", "status 418")
	v.post(at+"/test", "secret", "nonsense").is(http.StatusNotFound)

	// What fails is shown with its attempts and is sent again on request.
	status.Store(410)
	s.Key(s.Workspace, keystile.CreateKey{Name: "Told of"})
	failed := delivered(t, s, e.ID, "failed", 1)
	v.get(at).shows("Disabled", "410 Gone", "Resume", "accepted nothing since", "gone for good")
	v.get(at+"?status=failed").shows("410", " ms")
	v.get(at + "?status=failed").shows("key.created").lacks("endpoint.created")
	one := base + "/deliveries/" + failed.ID
	v.get(one).shows("Failed", "status 410", "said the receiver", "127.0.0.1:", failed.EventID, "Told of", "Send again").lacks("<b>said", secret)
	status.Store(200)
	v.get(at + "/resume").is(http.StatusOK).shows("Also send again what failed since")
	v.post(at+"/resume", "replay", "1").is(http.StatusSeeOther)
	delivered(t, s, e.ID, "failed", 0)
	eventuallyAt(v, one, "Delivered")
	v.get(at).lacks("accepted nothing since")
	v.get(at + "/resume").is(http.StatusOK).lacks("Also send again")
	v.post(one + "/retry").is(http.StatusSeeOther)
	v.get(at + "/replay").is(http.StatusOK).shows("is sent again")
	v.post(at+"/replay", "since", "x").is(http.StatusUnprocessableEntity).shows("Say since when")
	v.post(at+"/replay", "since", "2026-01-02T03:04").is(http.StatusSeeOther)
	v.post(at+"/replay", "since", "2026-01-02T03:04:05").is(http.StatusSeeOther)
	delivered(t, s, e.ID, "failed", 0)
	eventuallyAt(v, one, "Delivered")

	// Paused, and edited meanwhile.
	v.post(at+"/pause", "reason", "holidays").is(http.StatusSeeOther)
	v.get(path).shows("Paused", "holidays")
	v.get(at+"/edit").is(http.StatusOK).holds(`value="`+receiver.URL+`/hook"`, `value="endpoint.*" checked`)
	v.post(at+"/edit", "url", e.URL, "description", "Edited", "types[]", "*", "ranges", "127.0.0.0/8\n::1").is(http.StatusSeeOther)
	if e = theEndpoint(t, s); e.Description != "Edited" || strings.Join(e.EventTypes, " ") != "*" || e.Status != keystile.EndpointPaused {
		t.Errorf("%+v", e)
	}
	v.post(at+"/edit", "url", "x", "description", "Edited", "types[]", "*").is(http.StatusUnprocessableEntity).holds(`value="x"`)

	// Its secrets.
	secrets, err := s.Operator.WebhookSecrets(t.Context(), s.Workspace, keystile.ListWebhookSecrets{Endpoint: e.ID})
	if err != nil || len(secrets.Data) != 1 {
		t.Fatalf("%v, %v", secrets, err)
	}
	of := at + "/secrets/" + secrets.Data[0].ID
	v.get(of + "/rotate").is(http.StatusOK).shows(secrets.Data[0].Preview)
	rotated := v.post(of+"/rotate", "nonce", "once").is(http.StatusCreated)
	if fresh := text(rotated.one("output")); fresh == secret || !strings.HasPrefix(fresh, "whsec_") {
		t.Errorf("rotated to %q", fresh)
	}
	v.post(of+"/rotate", "nonce", "again").is(http.StatusConflict)
	v.get(at).lacks("Rotate", "Safe to revoke") // there is no third one
	// A test that the new one alone signs, and that is accepted, is evidence.
	newer, err := s.Operator.WebhookSecrets(t.Context(), s.Workspace, keystile.ListWebhookSecrets{Endpoint: e.ID})
	if err != nil || len(newer.Data) != 2 {
		t.Fatalf("%v, %v", newer, err)
	}
	status.Store(401)
	v.post(at+"/test", "secret", newer.Data[0].ID).is(http.StatusOK).shows("Not delivered.", "may check with another secret")
	status.Store(200)
	v.post(at + "/test").is(http.StatusOK).shows("Delivered.")
	v.get(at).lacks("Safe to revoke")
	v.post(at+"/test", "secret", newer.Data[0].ID).is(http.StatusOK).shows("Delivered.")
	v.get(at).shows("Safe to revoke")
	v.get(of + "/revoke").is(http.StatusOK)
	v.post(of+"/revoke", "reason", "unneeded").is(http.StatusSeeOther)
	v.get(at).shows("Revoked", "Rotate")
	v.get(at + "/secrets/new").is(http.StatusOK).shows("Another secret of the endpoint")
	v.post(at+"/secrets/new", "nonce", "a").is(http.StatusUnprocessableEntity).shows("label is required")
	if more := text(v.post(at+"/secrets/new", "nonce", "b", "label", "Second receiver").is(http.StatusCreated).one("output")); !strings.HasPrefix(more, "whsec_") {
		t.Errorf("another secret is %q", more)
	}
	v.get(at).shows("Second receiver")
	v.get(base + "/webhook-secrets/" + secrets.Data[0].ID).is(http.StatusNotFound) // an endpoint's is no secret of the product's
	v.get(at + "/secrets/nonsense/rotate").is(http.StatusNotFound)

	v.get(at + "/delete").is(http.StatusOK).shows("cannot be undone")
	v.post(at + "/delete").is(http.StatusSeeOther)
	for _, gone := range []string{at, at + "/edit", one} {
		v.get(gone).is(http.StatusNotFound)
	}
	v.get(path).shows("No endpoints yet")
}

// eventuallyAt waits until a page says something.
func eventuallyAt(v *browser, path, words string) {
	v.t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(v.get(path).words(), words); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			v.t.Fatalf("%s does not say %q", path, words)
		}
	}
}

// A product without endpoints has none of their pages.
func TestNoEndpointsAtThePages(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.ProfileText("product: P\nprefix: pp\nendpoints: false\n"))
	v := admin(t, s)
	base := "/w/" + s.Workspace
	v.get(base + "/keys").is(http.StatusOK).lacks(base + "/endpoints")
	for _, path := range []string{"/endpoints", "/endpoints/new", "/endpoints/x", "/endpoints/x/edit", "/deliveries/x"} {
		v.get(base + path).is(http.StatusNotFound)
	}
}
