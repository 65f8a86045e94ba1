package dashboard_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/verify"
	"github.com/keystile/keystile/keystiletest"
)

// exposure makes a key, revokes it for suspected exposure, and returns the ID
// of the alert that this opens.
func exposure(t testing.TB, s *keystiletest.Server, workspace, name string) string {
	t.Helper()
	ctx, who := context.Background(), keyring.Operator("test")
	key := s.Key(workspace, keystile.CreateKey{Name: name}).Key
	if _, err := s.Keyring().RevokeKey(ctx, who, key.ID, keystile.RevokeKey{Reason: keystile.ReasonExposureSuspected}); err != nil {
		t.Fatal(err)
	}
	list, err := s.Keyring().Alerts(ctx, who, workspace, keyring.AlertQuery{Type: keystile.AlertKeyExposed})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list.Data {
		if a.KeyID == key.ID {
			return a.ID
		}
	}
	t.Fatalf("the exposure of %s opened no alert", key.ID)
	return ""
}

// IP14: a suspected exposure opens an alert that leads to the key's log of
// use, stands above the list of keys and counts in the menu, until somebody
// says that they have seen it.
func TestExposureAlertIP14(t *testing.T) {
	s := product(t, "ipaware", keystiletest.FlushInterval(20*time.Millisecond))
	v := admin(t, s)
	base := "/w/" + s.Workspace
	v.get(base + "/alerts").is(http.StatusOK).shows("Nothing to see to")
	secret, id := create(v, s, "Mobile app")
	use(t, s, secret, id)
	if at := v.post(base+"/keys/"+id+"/revoke", "reason", "exposure_suspected"); at.status != http.StatusSeeOther {
		t.Fatalf("revoke: %d", at.status)
	}
	developer := inRole(t, s, s.Workspace, "developer")
	p := developer.get(base+"/alerts").is(http.StatusOK).shows("Exposure suspected: Mobile app", "others may have it")
	p.one("a", "Alerts", "1", "new")
	if at := attribute(p.one("a", "See the log of use"), "href"); at != base+"/keys/"+id+"#use" {
		t.Errorf("the alert leads to %q", at)
	}
	list := developer.get(base + "/keys").shows("Mobile app was revoked for suspected exposure")
	list.one("a", "Alerts", "1", "new")
	inRole(t, s, s.Workspace, "viewer").get(base + "/alerts").is(http.StatusOK).lacks("Mark as seen")

	alert := exposure(t, s, s.Workspace, "Another")
	developer.done(base+"/alerts/"+alert+"/seen").shows("Noted.", "Another", "Mobile app").one("a", "Alerts", "1", "new")
	developer.get(base + "/keys").shows("Mobile app was revoked").lacks("Another was revoked")
	// It goes from above the list for whoever may manage keys, and that is kept.
	above := list.one("form", "Mobile app was revoked")
	developer.done(attribute(above, "action"), "back", "keys").lacks("was revoked for suspected exposure").shows("Noted")
	wantAudited(t, s, s.Workspace, "alert.acknowledged Someone in developer Mobile app")
	developer.post(base + "/alerts/al_none/seen").is(http.StatusNotFound)
	// The other workspace's people reach neither.
	other := s.NewWorkspace("Other", "").ID
	inRole(t, s, other, "admin").post("/w/" + other + "/alerts/" + alert + "/seen").is(http.StatusNotFound)
	v.get(base + "/alerts?state=closed").is(http.StatusOK).shows("None yet")
}

// IP10, VQ9: each alert has the one action that it needs, for who may take it;
// the form leads back to the alerts, and what is done closes the alert.
func TestAlertActions(t *testing.T) {
	dir := t.TempDir()
	s := product(t, "ipaware", keystiletest.Dir(dir))
	v, base := admin(t, s), "/w/"+s.Workspace
	end := time.Now().Add(5 * day)
	old, ends := s.Key(s.Workspace, keystile.CreateKey{Name: "Old"}).Key, s.Key(s.Workspace, keystile.CreateKey{Name: "Ends", ExpiresAt: &end, Environment: "development"}).Key
	idle := s.Key(s.Workspace, keystile.CreateKey{Name: "Idle", Environment: "development"}).Key
	rewrite(t, dir, `UPDATE keys SET created_at = $1, look_at = 0 WHERE id = $2`, time.Now().Add(-91*day).UnixMilli(), old.ID)
	rewrite(t, dir, `INSERT INTO key_use (key_id, at, address, user_agent) VALUES ($1, $2, '', '')`, old.ID, time.Now().UnixMilli())
	rewrite(t, dir, `UPDATE keys SET created_at = $1, look_at = 0 WHERE id = $2`, time.Now().Add(-50*day).UnixMilli(), ends.ID)
	rewrite(t, dir, `UPDATE keys SET created_at = $1, look_at = 0 WHERE id = $2`, time.Now().Add(-120*day).UnixMilli(), idle.ID)
	var list *page
	for limit := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if list = v.get(base + "/alerts").is(http.StatusOK); len(list.find("section", "Old")) > 0 && len(list.find("section", "Ends")) > 0 && len(list.find("section", "Idle")) > 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("alerts are missing after a minute: %s", list.words())
		}
	}
	for name, c := range map[string]struct{ title, button, leads string }{
		"Old":  {"Rotation overdue: Old", "Rotate", base + "/keys/" + old.ID + "/rotate"},
		"Ends": {"Expires soon: Ends", "Create New Key", base + "/keys/new"},
		"Idle": {"Idle: Idle", "Revoke", base + "/keys/" + idle.ID + "/revoke"},
	} {
		section := list.one("section", c.title, c.button)
		found := false
		for n := range section.Descendants() {
			found = found || n.Data == "form" && attribute(n, "action") == c.leads && attribute(n, "method") == "get"
		}
		if !found {
			t.Errorf("%s leads not to %s", name, c.leads)
		}
	}
	// A viewer reads them, and can do nothing about them.
	for _, button := range inRole(t, s, s.Workspace, "viewer").get(base + "/alerts").is(http.StatusOK).shows("Rotation overdue: Old").find("main") {
		for n := range button.Descendants() {
			if n.Data == "button" {
				t.Errorf("a viewer has the button %q", text(n))
			}
		}
	}
	p := v.get(base + "/keys/" + idle.ID + "/revoke?back=alerts").is(http.StatusOK)
	v.done(base+"/keys/"+idle.ID+"/revoke", append(p.hidden(), "reason", "unneeded")...)
	v.get(base+"/alerts").shows("Old", "Ends").lacks("Idle: Idle")
	v.get(base+"/alerts?state=closed").is(http.StatusOK).shows("Idle: Idle", "Closed")
}

// An endpoint that was stopped is an alert, which leads to its page and to what
// starts it again, and closes with that.
func TestAlertOfStoppedEndpoint(t *testing.T) {
	s := keystiletest.New(t)
	v, base := admin(t, s), "/w/"+s.Workspace
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	t.Cleanup(receiver.Close)
	made, err := s.Operator.CreateEndpoint(t.Context(), s.Workspace, keystile.CreateEndpoint{URL: receiver.URL, EventTypes: []string{"key.*"}, AllowRanges: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Key(s.Workspace, keystile.CreateKey{Name: "Any"})
	at := base + "/endpoints/" + made.Endpoint.ID
	for limit := time.Now().Add(time.Minute); len(v.get(base+"/alerts").is(http.StatusOK).find("section", "Endpoint stopped")) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("no alert after a minute")
		}
	}
	v.get(base+"/alerts").holds(`href="`+at+`"`, `action="`+at+`/resume"`).shows(receiver.URL, "410 Gone")
	inRole(t, s, s.Workspace, "viewer").get(base + "/alerts").is(http.StatusOK).shows("Endpoint stopped").lacks("Resume")
	v.done(at+"/resume", v.get(at+"/resume?back=alerts").is(http.StatusOK).hidden()...)
	v.get(base + "/alerts").shows("Nothing to see to")
}

// IP11: the operator's people see attempts with what is no key; a tenant's do not.
func TestAlertOfUnknownKeysIP11(t *testing.T) {
	s := product(t, "ipaware")
	if err := s.Keyring().FlushMisses(t.Context(), []verify.Miss{
		{Code: keystile.CodeUnknown, Source: verify.Source(netip.MustParseAddr("2001:db8:7::1")), Count: 500, Last: time.Now()},
	}); err != nil {
		t.Fatal(err)
	}
	v := operator(t, s)
	for limit := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		p := v.get("/w/ws_operator/alerts").is(http.StatusOK)
		if len(p.find("section", "Failed authentication")) == 1 {
			p.shows("500 refused keys since", "usual is 0 at most", "unknown 500", "2001:db8:7::/64")
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("no alert after a minute: %s", p.words())
		}
	}
	admin(t, s).get("/w/" + s.Workspace + "/alerts").is(http.StatusOK).shows("Nothing to see to")
	inRole(t, s, s.Workspace, "admin").get("/w/ws_operator/alerts").is(http.StatusNotFound)
}
