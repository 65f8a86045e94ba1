package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

func voxumRows() []row {
	return []row{
		{"VX2_name", voxumName},
		{"VX3_shown_once", voxumShownOnce},
		{"VX4_columns", voxumColumns},
		{"VX5_revoke", voxumRevoke},
		{"VX6_header", voxumHeader},
		{"VX6_errors", voxumErrors},
		{"VX7_permissions", voxumPermissions},
		{"VX7_activity", voxumActivity},
	}
}

func voxumName(t *testing.T, n *tenant) {
	for _, name := range []string{"", "   ", "\t"} {
		e := wantProblem(t, n.call(n.admin, "POST", n.keys(), keystile.CreateKey{Name: name}), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
		if len(e.Fields) != 1 || e.Fields[0].Field != "body.name" {
			t.Errorf("name %q: %+v", name, e.Fields)
		}
	}
	wantProblem(t, n.call(n.admin, "POST", n.keys(), `{}`), http.StatusUnprocessableEntity, keystile.CodeInvalidField)
	// What says little is advised against on the page, and not refused.
	for _, name := range []string{"Key 1", "Test", "Inventory Integration"} {
		n.create(keystile.CreateKey{Name: name})
	}
}

func voxumShownOnce(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Inventory Integration"})
	if !strings.HasPrefix(made.Secret, "vx_") {
		t.Error("the key does not start with vx_")
	}
	n.works(made.Secret)
	n.nowhere(made)
}

func voxumColumns(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "CRM Sync"})
	k := n.show(made.Key.ID)
	if want := previewFirst(made.Secret, len("vx_")+4); k.Preview != want {
		t.Errorf("preview %q does not show the first characters and a mask", k.Preview)
	}
	if k.Name != "CRM Sync" || time.Since(k.CreatedAt) > time.Minute || k.Status != keystile.StatusActive || k.LastUse != nil {
		t.Errorf("a new key: %+v", k)
	}
	n.me(made.Secret)
	if k = n.used(k.ID); time.Since(k.LastUse.At) > time.Minute || k.LastUse.Address != "127.0.0.1" {
		t.Errorf("last use: %+v", k.LastUse)
	}
	n.revoke(k.ID, nil)
	if k = n.show(k.ID); k.Status != keystile.StatusRevoked || k.Preview == "" {
		t.Errorf("a revoked key: %+v", k)
	}
}

func voxumRevoke(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Old shop"})
	n.works(made.Secret)
	n.revoke(made.Key.ID, nil)
	n.refused(made.Secret, keystile.CodeRevoked)
	for _, query := range []string{"", "?status=revoked"} {
		found := false
		for _, k := range n.list(query) {
			found = found || k.ID == made.Key.ID && k.Status == keystile.StatusRevoked
		}
		if !found {
			t.Errorf("the list %q does not keep the revoked key", query)
		}
	}
	for _, k := range n.list("?status=active") {
		if k.ID == made.Key.ID {
			t.Error("the revoked key is listed as active")
		}
	}
	// It is final, whatever is tried.
	wantProblem(t, n.call(n.admin, "POST", "/v1/keys/"+made.Key.ID+"/enable", nil), http.StatusConflict, keystile.CodeConflict)
}

func voxumHeader(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Shop"})
	me := n.server.URL + "/v1/me"
	want[keystile.Self](t, call(t, "GET", me, headers("X-API-Key", made.Secret), nil), http.StatusOK)
	want[keystile.Self](t, call(t, "GET", me, headers("x-api-key", made.Secret), nil), http.StatusOK)
	// The product narrows it to this header; another one is named, not read.
	e := wantProblem(t, call(t, "GET", me, bearer(made.Secret), nil), http.StatusUnauthorized, keystile.CodeMalformed)
	if e.Title != "Unauthorized" || e.Hint != keystile.HintScheme || !strings.Contains(e.Detail, "Authorization") || !strings.Contains(e.Fixes[0], "X-API-Key") {
		t.Errorf("a key in Authorization: %+v", e)
	}
	// Spaces at the edges are dropped by HTTP itself.
	address := strings.TrimPrefix(n.server.URL, "http://")
	answer := raw(t, address, "GET /v1/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: \t "+made.Secret+" \t \r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("spaces at the edges: %.100s", answer)
	}
	// The API that manages keys takes both.
	for _, h := range []http.Header{bearer(n.admin), headers("X-API-Key", n.admin)} {
		want[keystile.List[keystile.Key]](t, call(t, "GET", n.server.URL+n.keys(), h, nil), http.StatusOK)
	}
}

func voxumErrors(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Shop"})
	gone := n.create(keystile.CreateKey{Name: "Gone"})
	n.revoke(gone.Key.ID, nil)
	me := "/v1/me"
	for _, c := range []struct {
		what   string
		header http.Header
		path   string
		status int
		code   keystile.Code
		hint   keystile.Hint
		detail string // part of it
		fix    string // part of one
	}{
		{"truncated", headers("X-API-Key", made.Secret[:len(made.Secret)-5]), me, 401, keystile.CodeMalformed, keystile.HintTruncated, "incomplete", "whole key"},
		{"inner space", headers("X-API-Key", made.Secret[:12]+" "+made.Secret[12:]), me, 401, keystile.CodeMalformed, keystile.HintWhitespace, "space", ""},
		{"inner tab", headers("X-API-Key", made.Secret[:12]+"\t"+made.Secret[12:]), me, 401, keystile.CodeMalformed, keystile.HintWhitespace, "tab", ""},
		{"wrong header X-Auth-Token", headers("X-Auth-Token", made.Secret), me, 401, keystile.CodeMalformed, keystile.HintScheme, "X-Auth-Token", "X-API-Key"},
		{"wrong header Api-Key", headers("Api-Key", made.Secret), me, 401, keystile.CodeMalformed, keystile.HintScheme, "Api-Key", "X-API-Key"},
		{"scheme in the header", headers("X-API-Key", "Bearer "+made.Secret), me, 401, keystile.CodeMalformed, keystile.HintScheme, "X-API-Key", ""},
		{"no header", http.Header{}, me, 401, keystile.CodeMissingCredential, "", "no key", "X-API-Key"},
		{"revoked", headers("X-API-Key", gone.Secret), me, 401, keystile.CodeRevoked, "", "revoked", "new key"},
		{"typing error", headers("X-API-Key", swapped(made.Secret)), me, 401, keystile.CodeMalformed, keystile.HintChecksum, "wrong", ""},
		{"other product's key", headers("X-API-Key", "sk_live_51H8s8dF7"), me, 401, keystile.CodeMalformed, keystile.HintPrefix, "this service", ""},
		{"wrong path", headers("X-API-Key", made.Secret), "/v1/inventories", 404, keystile.CodeUnknownRoute, "", "path", n.server.URL},
		{"wrong base path", headers("X-API-Key", made.Secret), "/api/v2/me", 404, keystile.CodeUnknownRoute, "", "path", "https://docs.voxum.ai/"},
	} {
		e := wantProblem(t, call(t, "GET", n.server.URL+c.path, c.header, nil), c.status, c.code)
		if e.Hint != c.hint || !strings.Contains(e.Detail, c.detail) || !strings.Contains(strings.Join(e.Fixes, "\n"), c.fix) {
			t.Errorf("%s: %+v", c.what, e)
		}
		if c.status == http.StatusUnauthorized && e.Title != "Unauthorized" {
			t.Errorf("%s: title %q", c.what, e.Title)
		}
	}
}

// swapped is a key with two characters exchanged, as by a typing error.
func swapped(secret string) string {
	b := []byte(secret)
	for i := len(b) - 12; ; i-- {
		if b[i] != b[i-1] {
			b[i], b[i-1] = b[i-1], b[i]
			return string(b)
		}
	}
}

func voxumPermissions(t *testing.T, n *tenant) {
	made := n.create(keystile.CreateKey{Name: "Inventory", Role: "inventory", Permissions: keystile.Permissions{"inventory.read"}})
	for permission, may := range map[string]bool{"inventory.read": true, "inventory.write": false, "leads.read": false, "api.key.view": false} {
		d := n.verify(keystile.VerifyRequest{Key: made.Secret, Permission: permission})
		r := call(t, "GET", n.server.URL+"/v1/forward-auth?permission="+permission, n.present(made.Secret), nil)
		if d.Valid != may || r.status == http.StatusOK != may {
			t.Errorf("%s: verify %+v, forward-auth %s", permission, d, r)
		}
		if !may {
			if e := wantProblem(t, r, http.StatusForbidden, keystile.CodeInsufficientPermission); e.Permission != permission || !strings.Contains(e.Detail, permission) {
				t.Errorf("%s: the refusal names %q", permission, e.Permission)
			}
		}
	}
	// No key that is made without asking for it can manage keys.
	plain := n.create(keystile.CreateKey{Name: "Plain"})
	wantProblem(t, n.call(plain.Secret, "GET", n.keys(), nil), http.StatusForbidden, keystile.CodeInsufficientPermission)
}

func voxumActivity(t *testing.T, n *tenant) {
	unused := n.create(keystile.CreateKey{Name: "Unused"})
	n.created(unused.Key.ID, 61*day)
	busy := n.create(keystile.CreateKey{Name: "Busy"})
	for range 3 {
		n.me(busy.Secret, "203.0.113.7")
	}
	call(t, "GET", n.server.URL+"/v1/forward-auth?permission=conversations.read", headers("X-API-Key", busy.Secret, "X-Forwarded-For", "198.51.100.9", "User-Agent", "odd/1.0"), nil)
	if k := n.show(unused.Key.ID); !k.Idle || k.LastUse != nil {
		t.Errorf("an unused key: %+v", k)
	}
	var u keystile.Usage
	eventually(t, "all four uses are counted", func() bool {
		u = n.usage("?key=" + busy.Key.ID)
		return len(u.Buckets) > 0 && u.Buckets[0].Total == 4
	})
	if c := u.Buckets[0].Codes; c[keystile.CodeValid] != 3 || c[keystile.CodeInsufficientPermission] != 1 {
		t.Errorf("uses by outcome: %v", c)
	}
	odd := false
	for _, s := range u.Sources {
		odd = odd || s.Address == "198.51.100.9" && s.UserAgent == "odd/1.0" && s.Code == keystile.CodeInsufficientPermission && s.Count == 1
	}
	if !odd || len(u.Sources) != 2 {
		t.Errorf("sources: %+v", u.Sources)
	}
}
