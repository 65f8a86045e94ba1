package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/keystile/keystile"
)

func vozagentRows() []row {
	return []row{
		{"VZ2_name_and_description", vozagentCreate},
		{"VZ3_shown_once", vozagentShownOnce},
		{"VZ4_preview", vozagentPreview},
		{"VZ5_masked_preview", vozagentMasked},
		{"VZ6_delete", vozagentDelete},
		{"VZ7_connection_test", vozagentConnection},
		{"VZ7_zapier_app", vozagentZapier},
	}
}

func vozagentCreate(t *testing.T, n *tenant) {
	wantProblem(t, n.call(n.admin, "POST", n.keys(), `{"description": "No name"}`), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
	if k := n.create(keystile.CreateKey{Name: "Zapier Production"}).Key; k.Description != "" {
		t.Errorf("key %+v", k)
	}
	if k := n.create(keystile.CreateKey{Name: "WordPress Plugin", Description: "The shop's blog"}).Key; n.show(k.ID).Description != "The shop's blog" {
		t.Errorf("key %+v", k)
	}
}

func vozagentShownOnce(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Zapier"})
	if !strings.HasPrefix(made.Secret, "gw_") {
		t.Error("the key does not start with gw_")
	}
	n.works(made.Secret)
	n.nowhere(made)
}

func vozagentPreview(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Zapier", Description: "Calls to CRM"})
	for _, k := range n.list("") {
		if k.ID == made.Key.ID && (k.Preview != previewLast(made.Secret, "gw_") || k.Description != "Calls to CRM" || k.CreatedAt.IsZero()) {
			t.Errorf("row %+v", k)
		}
	}
}

func vozagentMasked(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Zapier"})
	// As it is copied from the table, and as clients send it that turn dots
	// into question marks or asterisks.
	preview := made.Key.Preview
	for _, sent := range []string{preview, strings.ReplaceAll(preview, "•", "?"), strings.ReplaceAll(preview, "•", "*")} {
		e := n.refused(sent, keystile.CodeMalformed)
		if e.Title != "Authentication failed" || e.Hint != keystile.HintMaskedPreview || !strings.Contains(e.Detail, "masked preview") {
			t.Errorf("%q: %+v", sent, e)
		}
	}
}

func vozagentDelete(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Old plugin"})
	n.works(made.Secret)
	if r := n.call(n.admin, "DELETE", "/v1/keys/"+made.Key.ID, nil); r.status != http.StatusNoContent || len(r.body) != 0 {
		t.Fatalf("delete: %s", r)
	}
	// At once and for good: it looks like one that was never issued.
	n.refused(made.Secret, keystile.CodeUnknown)
	wantProblem(t, n.call(n.admin, "GET", "/v1/keys/"+made.Key.ID, nil), http.StatusNotFound, keystile.CodeNotFound)
	wantProblem(t, n.call(n.admin, "DELETE", "/v1/keys/"+made.Key.ID, nil), http.StatusNotFound, keystile.CodeNotFound)
	for _, k := range n.list("?status=all") {
		if k.ID == made.Key.ID {
			t.Error("the deleted key is listed")
		}
	}
	if e := n.audited(made.Key.ID, "key.deleted"); e.ObjectName != "Old plugin" {
		t.Errorf("audit entry %+v", e)
	}
}

func vozagentConnection(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Zapier Production", Role: "zapier"})
	self := want[keystile.Self](t, n.me(made.Secret), http.StatusOK)
	if !self.Valid || self.Name != "Zapier Production" || self.WorkspaceName == "" || self.Role != "zapier" || self.KeyID != made.Key.ID ||
		!self.Permissions.Allow("calls.read") || self.Permissions.Allow("agents.read") {
		t.Errorf("me: %+v", self)
	}
	want[keystile.Self](t, call(t, "GET", n.server.URL+"/v1/me", headers("X-API-Key", made.Secret), nil), http.StatusOK)
	if e := wantProblem(t, n.me(n.mint()), http.StatusUnauthorized, keystile.CodeUnknown); e.Title != "Authentication failed" {
		t.Errorf("title %q", e.Title)
	}
}
