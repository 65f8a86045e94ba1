package dashboard_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
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
	developer.get(base+"/keys").shows("Mobile app was revoked for suspected exposure").one("a", "Alerts", "1", "new")
	inRole(t, s, s.Workspace, "viewer").get(base + "/alerts").is(http.StatusOK).lacks("Mark as seen")

	alert := exposure(t, s, s.Workspace, "Another")
	developer.done(base+"/alerts/"+alert+"/seen").shows("Noted.", "Another", "Mobile app").one("a", "Alerts", "1", "new")
	developer.get(base + "/keys").shows("Mobile app was revoked").lacks("Another was revoked")
	developer.post(base + "/alerts/al_none/seen").is(http.StatusNotFound)
	// The other workspace's people reach neither.
	other := s.NewWorkspace("Other", "").ID
	inRole(t, s, other, "admin").post("/w/" + other + "/alerts/" + alert + "/seen").is(http.StatusNotFound)
	v.get(base + "/alerts?state=closed").is(http.StatusOK).shows("None yet")
}
