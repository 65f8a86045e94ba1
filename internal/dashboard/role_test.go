package dashboard_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// ticks are the permissions of a picker: ticked, free or locked.
func ticks(p *page) map[string]string {
	all := map[string]string{}
	for _, n := range p.all("input", func(n *html.Node) bool { return attribute(n, "name") == "permission" }) {
		state := "free"
		if has(n, "checked") {
			state = "ticked"
		}
		if has(n, "disabled") {
			state = "locked"
		}
		all[attribute(n, "value")] = state
	}
	return all
}

// IP6, IP7: custom roles are made of permissions with a picker, edited, and
// deleted when nobody has them.
func TestCustomRoleIP6_IP7(t *testing.T) {
	s := keystiletest.New(t, keystiletest.Profile(filepath.Join("..", "..", "examples", "ipaware.yaml")))
	base := "/w/" + s.Workspace
	admin, _ := member(t, s, s.Workspace, "Ada", "admin")

	p := admin.get(base + "/roles/new").is(http.StatusOK)
	offered := ticks(p)
	for _, want := range []string{"*", "ip.*", "ip.lookup", "reports.view", "api.*", "api.key.*", "api.key.create", "api.key.update", "api.key.delete", "api.key.view"} {
		if offered[want] != "free" {
			t.Errorf("%s is %q", want, offered[want])
		}
	}
	in := []string{"nonce", p.field("nonce"), "name", "Auditor", "description", "Looks and touches not",
		"permission", "api.key.view", "permission", "api.key.*", "permission", "reports.view"}
	admin.done(base+"/roles", in...).shows("Created.", "Auditor", "Looks and touches not")
	admin.done(base+"/roles", in...) // sent twice, made once
	made := admin.get(base+"/roles").one("tr", "Auditor")
	if got := text(made); !strings.Contains(got, "api.key.* (all of API Keys) reports.view Custom") {
		t.Errorf("the row %q", got) // api.key.view is in api.key.*
	}
	edit := attribute(forms(made)[0], "action")
	p = admin.get(edit).is(http.StatusOK)
	if got := ticks(p); got["api.key.*"] != "ticked" || got["reports.view"] != "ticked" || got["api.key.view"] != "free" {
		t.Errorf("ticked: %v", got)
	}
	admin.done(edit, "name", "Reader", "permission", "rules.view").shows("Saved.", "Reader").lacks("Auditor")

	reader, m := member(t, s, s.Workspace, "Rea", "Reader")
	remove := strings.TrimSuffix(edit, "/edit") + "/delete"
	admin.get(remove).is(http.StatusOK)
	admin.post(remove).is(http.StatusConflict).shows("1 members have this role", "another role first")
	admin.done(base+"/members/"+m.ID+"/role", "role", "viewer")
	reader.get(base+"/roles").is(http.StatusOK).lacks("Create role", "/edit")
	admin.done(remove).shows("Deleted.").lacks("Reader")
	admin.get(remove).is(http.StatusNotFound)
	admin.get(base + "/roles/role_viewer/edit").is(http.StatusConflict).shows("built in")

	for _, c := range []struct {
		name string
		in   []string
		code int
		says string
	}{
		{"no permission", []string{"name", "Empty"}, http.StatusUnprocessableEntity, "names no permission"},
		{"no name", []string{"permission", "rules.view"}, http.StatusUnprocessableEntity, "name is required"},
		{"a built-in name", []string{"name", "Admin", "permission", "rules.view"}, http.StatusConflict, "built-in role has this name"},
		{"power over all", []string{"name", "King", "permission", "platform.access"}, http.StatusUnprocessableEntity, "Only the operator"},
	} {
		t.Run(c.name, func(t *testing.T) {
			admin.post(base+"/roles", c.in...).is(c.code).shows(c.says)
		})
	}
}

// forms are the forms inside an element.
func forms(of *html.Node) (found []*html.Node) {
	for n := range of.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			found = append(found, n)
		}
	}
	return found
}

// IP6: only what one holds can be ticked, and sending it by hand is refused.
func TestRoleWithinOnesOwnIP6(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	customRole(t, s, s.Workspace, "shaper", "read", "api.role.*", "api.key.view")
	strong := customRole(t, s, s.Workspace, "strong", "write")
	odd := customRole(t, s, s.Workspace, "odd", "read", "api.role.view")
	b, _ := member(t, s, s.Workspace, "Shae", "shaper")

	got := ticks(b.get(base + "/roles/new").is(http.StatusOK))
	for name, want := range map[string]string{"read": "free", "write": "locked", "*": "locked", "api.key.view": "locked", "api.*": "locked"} {
		if got[name] != want { // management takes api.key.grant besides
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	b.post(base+"/roles", "name", "Grown", "permission", "write").is(http.StatusForbidden).shows("permissions that you don't hold: write")
	b.post(base+"/roles", "name", "Grown", "permission", "api.key.view").is(http.StatusForbidden).shows("api.key.grant")
	for _, r := range []keystile.Role{strong, odd} {
		b.post(base+"/roles/"+r.ID+"/edit", "name", "Mine", "permission", "read").is(http.StatusForbidden)
		b.post(base + "/roles/" + r.ID + "/delete").is(http.StatusForbidden)
	}
	b.done(base+"/roles", "name", "Small", "permission", "read").shows("Small").lacks("Grown", "Mine")
	if row := b.get(base+"/roles").one("tr", "strong"); len(forms(row)) != 0 {
		t.Errorf("a role beyond one's own is offered to be changed: %s", text(row))
	}
}

// A form with thousands of ticks costs no more than one with some, and comes
// back as a page that a browser can show.
func TestRoleFormIsBounded(t *testing.T) {
	s := keystiletest.New(t)
	base := "/w/" + s.Workspace
	b, _ := member(t, s, s.Workspace, "Ada", "admin")
	for path, ticks := range map[string]string{base + "/roles": "permission", base + "/keys": "permissions[]"} {
		in := []string{"name", "Wide", "narrow", "1"}
		for i := range 2500 {
			in = append(in, ticks, fmt.Sprintf("p%04d", i))
		}
		b.post(path, in...).is(http.StatusUnprocessableEntity)
	}
}
