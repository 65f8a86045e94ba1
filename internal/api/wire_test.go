package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// TestBadRequests: whatever is wrong is named, with the status it has, and
// nothing of it is done (the middle of issue 2's bad input).
func TestBadRequests(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		create, key := "/v1/workspaces/"+ws+"/keys", "/v1/keys/"+h.key(ws, "service").Key.ID
		huge := `{"name":"` + strings.Repeat("a", 10<<20) + `"}`
		metadata := fields{}
		for i := range 51 {
			metadata[fmt.Sprint(i)] = "x"
		}
		large, largest := fields{}, fields{}
		for i := range 16 {
			large[fmt.Sprintf("large%02d", i)] = strings.Repeat("ü", 253)
			largest[fmt.Sprintf("enough%02d", i)] = strings.Repeat("ü", 252)
		}
		want[keystile.Key](t, h.do("PATCH", key, fields{"metadata": largest}), 200) // 8192 bytes
		before := len(h.audit(ws, ""))
		for _, c := range []struct {
			name, method, path string
			body               any
			headers            []string
			status             int
			code               keystile.Code
			field              string
		}{
			{name: "cut off", method: "POST", path: create, body: `{"name":"x"`, status: 400, code: keystile.CodeInvalidRequest},
			{name: "no JSON", method: "POST", path: create, body: `name=x`, status: 400, code: keystile.CodeInvalidRequest},
			{name: "two objects", method: "POST", path: create, body: `{"name":"x"}{"name":"y"}`, status: 400, code: keystile.CodeInvalidRequest},
			{name: "no body", method: "POST", path: create, status: 400, code: keystile.CodeInvalidRequest},
			{name: "a list", method: "POST", path: create, body: `[]`, status: 422, code: keystile.CodeInvalidField, field: "body"},
			{name: "null", method: "POST", path: create, body: `null`, status: 422, code: keystile.CodeInvalidField, field: "body"},
			{name: "no name", method: "POST", path: create, body: `{}`, status: 422, code: keystile.CodeInvalidField, field: "body"},
			{name: "empty name", method: "POST", path: create, body: `{"name":""}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "name of spaces", method: "POST", path: create, body: `{"name":"   "}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "name of a number", method: "POST", path: create, body: `{"name":1}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "NUL in a name", method: "POST", path: create, body: `{"name":"a\u0000b"}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "line break in a name", method: "POST", path: create, body: `{"name":"a\nb"}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "escape in a name", method: "POST", path: create, body: `{"name":"a\u001b[31m"}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "reversed text", method: "POST", path: create, body: `{"name":"a\u202eb"}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "half a surrogate", method: "POST", path: create, body: `{"name":"a\ud800b"}`, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "long name", method: "POST", path: create, body: fields{"name": strings.Repeat("ä", 101)}, status: 422, code: keystile.CodeInvalidField, field: "body.name"},
			{name: "10 MB name", method: "POST", path: create, body: huge, status: 413, code: keystile.CodeBodyTooLarge},
			{name: "10 MB name in an edit", method: "PATCH", path: key, body: huge, status: 413, code: keystile.CodeBodyTooLarge},
			{name: "10 MB to verify", method: "POST", path: "/v1/verify", body: huge, status: 413, code: keystile.CodeBodyTooLarge},
			{name: "10 MB to a batch", method: "POST", path: "/v1/verify/batch", body: `{"requests":[{"key":"` + strings.Repeat("a", 10<<20) + `"}]}`, status: 413, code: keystile.CodeBodyTooLarge},
			{name: "unknown field", method: "POST", path: create, body: fields{"name": "x", "colour": "red"}, status: 422, code: keystile.CodeInvalidField, field: "body.colour"},
			{name: "a field in another case", method: "POST", path: create, body: `{"name":"x","Role":"admin"}`, status: 422, code: keystile.CodeInvalidField, field: "body.Role"},
			{name: "unknown field in an edit", method: "PATCH", path: key, body: fields{"secret": "x"}, status: 422, code: keystile.CodeInvalidField, field: "body.secret"},
			{name: "unknown field in a revoke", method: "POST", path: key + "/revoke", body: fields{"force": true}, status: 422, code: keystile.CodeInvalidField, field: "body.force"},
			{name: "unknown field to verify", method: "POST", path: "/v1/verify", body: fields{"key": "x", "token": "x"}, status: 422, code: keystile.CodeInvalidField, field: "body.token"},
			{name: "environment", method: "POST", path: create, body: fields{"name": "x", "environment": "moon"}, status: 422, code: keystile.CodeInvalidField, field: "body.environment"},
			{name: "past end", method: "POST", path: create, body: fields{"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, status: 422, code: keystile.CodeInvalidField, field: "body.expires_at"},
			{name: "far end", method: "POST", path: create, body: fields{"name": "x", "expires_at": "9999-01-01T00:00:00Z"}, status: 422, code: keystile.CodeInvalidField, field: "body.expires_at"},
			{name: "end that is no time", method: "POST", path: create, body: fields{"name": "x", "expires_at": "tomorrow"}, status: 422, code: keystile.CodeInvalidField, field: "body.expires_at"},
			{name: "past end in an edit", method: "PATCH", path: key, body: fields{"expires_at": "2020-01-01T00:00:00Z"}, status: 422, code: keystile.CodeInvalidField, field: "body.expires_at"},
			{name: "no permission", method: "POST", path: create, body: fields{"name": "x", "permissions": []string{}}, status: 422, code: keystile.CodeInvalidField, field: "body.permissions"},
			{name: "empty edit of permissions", method: "PATCH", path: key, body: fields{"permissions": []string{}}, status: 422, code: keystile.CodeInvalidField, field: "body.permissions"},
			{name: "unknown permission", method: "POST", path: create, body: fields{"name": "x", "permissions": []string{"fly"}}, status: 422, code: keystile.CodeInvalidField, field: "body.permissions[0]"},
			{name: "empty role in an edit", method: "PATCH", path: key, body: fields{"role": ""}, status: 422, code: keystile.CodeInvalidField, field: "body.role"},
			{name: "narrowed and whole", method: "PATCH", path: key, body: fields{"permissions": []string{"read"}, "whole_role": true}, status: 422, code: keystile.CodeInvalidField, field: "body.whole_role"},
			{name: "much metadata", method: "POST", path: create, body: fields{"name": "x", "metadata": metadata}, status: 422, code: keystile.CodeInvalidField, field: "body.metadata"},
			{name: "large metadata", method: "POST", path: create, body: fields{"name": "x", "metadata": large}, status: 422, code: keystile.CodeInvalidField, field: "body.metadata"},
			{name: "large metadata in an edit", method: "PATCH", path: key, body: fields{"metadata": large}, status: 422, code: keystile.CodeInvalidField, field: "body.metadata"},
			{name: "long metadata", method: "PATCH", path: key, body: fields{"metadata": fields{"a": strings.Repeat("x", 501)}}, status: 422, code: keystile.CodeInvalidField, field: "body.metadata.a"},
			{name: "metadata without a name", method: "PATCH", path: key, body: fields{"metadata": fields{"": "x"}}, status: 422, code: keystile.CodeInvalidField, field: "body.metadata"},
			{name: "metadata of numbers", method: "PATCH", path: key, body: fields{"metadata": fields{"a": 1}}, status: 422, code: keystile.CodeInvalidField, field: "body.metadata.a"},
			{name: "many addresses", method: "PATCH", path: key, body: fields{"ip_allowlist": strings.Split(strings.Repeat("10.0.0.1 ", 101)[:908], " ")}, status: 422, code: keystile.CodeInvalidField, field: "body.ip_allowlist"},
			{name: "long reason", method: "POST", path: key + "/revoke", body: fields{"reason": strings.Repeat("x", 201)}, status: 422, code: keystile.CodeInvalidField, field: "body.reason"},
			{name: "unknown parameter", method: "GET", path: "/v1/workspaces?filter=x", status: 422, code: keystile.CodeInvalidField, field: "query.filter"},
			{name: "unknown parameter of one object", method: "GET", path: key + "?fields=name", status: 422, code: keystile.CodeInvalidField, field: "query.fields"},
			{name: "form", method: "POST", path: create, body: `{"name":"x"}`, headers: []string{"Content-Type", "", "Content-Type", "application/x-www-form-urlencoded"}, status: 415, code: keystile.CodeUnsupportedMedia},
			{name: "text", method: "PATCH", path: key, body: `{"name":"x"}`, headers: []string{"Content-Type", "", "Content-Type", "text/plain"}, status: 415, code: keystile.CodeUnsupportedMedia},
			{name: "form to verify", method: "POST", path: "/v1/verify", body: `{"key":"x"}`, headers: []string{"Content-Type", "", "Content-Type", "application/x-www-form-urlencoded"}, status: 415, code: keystile.CodeUnsupportedMedia},
			{name: "two credentials", method: "GET", path: key, headers: []string{"X-API-Key", h.OperatorKey}, status: 400, code: keystile.CodeSeveralCredentials},
			{name: "one credential twice", method: "GET", path: key, headers: []string{"Authorization", "Bearer " + h.OperatorKey}, status: 400, code: keystile.CodeSeveralCredentials},
			{name: "key in the query", method: "GET", path: key + "?api_key=" + h.OperatorKey, status: 400, code: keystile.CodeKeyInQuery},
			{name: "key in the query of no route", method: "GET", path: "/v1/me?x=" + h.OperatorKey, status: 400, code: keystile.CodeKeyInQuery},
			{name: "no scheme", method: "GET", path: key, headers: []string{"Authorization", "", "Authorization", h.OperatorKey}, status: 401, code: keystile.CodeMalformed},
			{name: "basic", method: "GET", path: key, headers: []string{"Authorization", "", "Authorization", "Basic eDp5"}, status: 401, code: keystile.CodeMalformed},
			{name: "no path", method: "GET", path: "/v1/nothing", status: 404, code: keystile.CodeUnknownRoute},
			{name: "no path without version", method: "POST", path: "/keys", status: 404, code: keystile.CodeUnknownRoute},
			{name: "path too long", method: "GET", path: key + "/", status: 404, code: keystile.CodeUnknownRoute},
			{name: "method", method: "PUT", path: key, body: fields{}, status: 405, code: keystile.CodeMethodNotAllowed},
			{name: "method of verify", method: "GET", path: "/v1/verify", status: 405, code: keystile.CodeMethodNotAllowed},
			{name: "long Idempotency-Key", method: "POST", path: create, body: fields{"name": "x"}, headers: []string{"Idempotency-Key", strings.Repeat("x", 256)}, status: 422, code: keystile.CodeInvalidField, field: "header.Idempotency-Key"},
			{name: "Idempotency-Key with a space", method: "POST", path: create, body: fields{"name": "x"}, headers: []string{"Idempotency-Key", "a b"}, status: 422, code: keystile.CodeInvalidField, field: "header.Idempotency-Key"},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := call(t, s, h.OperatorKey, c.method, c.path, c.body, c.headers...)
				e := wantProblem(t, a, c.status, c.code)
				if c.field != "" && (len(e.Fields) == 0 || e.Fields[0].Field != c.field || e.Fields[0].Detail == "") {
					t.Errorf("fields %+v, want %s", e.Fields, c.field)
				}
				switch c.status {
				case 405:
					allow := a.header.Get("Allow")
					if want := map[bool]string{true: "POST", false: "DELETE, GET, PATCH"}[c.path == "/v1/verify"]; allow != want {
						t.Errorf("Allow %q, want %q", allow, want)
					}
				case 404:
					if !strings.Contains(strings.Join(e.Fixes, " "), s.URL+"/v1") {
						t.Errorf("fixes %v do not say where the API is", e.Fixes)
					}
				}
				if strings.Contains(string(a.body), h.OperatorKey) || strings.Contains(string(a.body), "goroutine") {
					t.Errorf("the refusal tells too much: %s", a)
				}
			})
		}
		same(t, "entries of the log", len(h.audit(ws, "")), before)
		// Left out is JSON, and JSON has many names.
		for _, contentType := range []string{"", "application/json", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"} {
			want[keystile.Decision](t, call(t, s, h.OperatorKey, "POST", "/v1/verify", `{"key":"x"}`, "Content-Type", "", "Content-Type", contentType), 200)
		}
		for _, contentType := range []string{"", "application/json; charset=utf-8"} {
			want[keystile.CreatedKey](t, call(t, s, h.OperatorKey, "POST", create, `{"name":"x"}`, "Content-Type", "", "Content-Type", contentType), 201)
		}
	})
}

// TestEmptyEdit: an edit that names no field changes nothing, and nothing is
// noted; one that names a bad overlap is told the limit as people write it.
func TestEmptyEdit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		key := h.key(ws, "service").Key
		role := want[keystile.Role](t, h.do("POST", "/v1/workspaces/"+ws+"/roles", fields{"name": "Reader", "permissions": []string{"read"}}), 201)
		entries := len(h.audit(ws, ""))
		time.Sleep(2 * time.Millisecond) // times are kept in milliseconds
		space := want[keystile.Workspace](t, h.do("GET", "/v1/workspaces/"+ws, nil), 200)
		for _, body := range []any{fields{}, fields{"name": nil}} {
			same(t, "key", want[keystile.Key](t, h.do("PATCH", "/v1/keys/"+key.ID, body), 200).UpdatedAt, key.UpdatedAt)
			same(t, "workspace", want[keystile.Workspace](t, h.do("PATCH", "/v1/workspaces/"+ws, body), 200), space)
			same(t, "role", want[keystile.Role](t, h.do("PATCH", "/v1/roles/"+role.ID, body), 200), role)
		}
		same(t, "entries of the log", len(h.audit(ws, "")), entries)

		e := wantProblem(t, h.do("POST", "/v1/keys/"+key.ID+"/rotate", fields{"overlap": "721h"}), 422, keystile.CodeInvalidField)
		if !strings.Contains(e.Detail, "from 0s to 720h, ") {
			t.Errorf("limit of the overlap: %s", e.Detail)
		}
	})
}

// TestUnknownPathNamesTheDocumentation: where the profile says where it is.
func TestUnknownPathNamesTheDocumentation(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.ProfileText("product: D\nprefix: dd\nbranding: {docs_url: 'https://docs.example.com/keys'}\n"))
	e := wantProblem(t, call(t, s, "", "GET", "/v2/keys", nil), 404, keystile.CodeUnknownRoute)
	if fixes := strings.Join(e.Fixes, " "); !strings.Contains(fixes, "https://docs.example.com/keys") || !strings.Contains(fixes, s.URL+"/openapi.json") {
		t.Errorf("fixes %v", e.Fixes)
	}
}

// TestSecretInTheWrongPlace: what is sent as the name of a field, or as a
// value that is refused, is not repeated.
func TestSecretInTheWrongPlace(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	secret := h.key(h.Workspace, "service").Secret
	create := "/v1/workspaces/" + h.Workspace + "/keys"
	for _, body := range []any{
		fields{secret: "x"}, fields{"name": "x", "role": secret}, fields{"name": "x", "environment": secret}, fields{"name": "x", "expires_at": secret},
		fields{"name": "x", "ip_allowlist": []string{secret}}, fields{"name": "x", "permissions": []string{secret}},
		fields{"name": "x", "metadata": fields{secret: strings.Repeat("x", 501)}}, fields{"name": "x", "metadata": fields{secret: 1}},
		fields{"name": "x", "sha256": secret},
	} {
		if a := h.do("POST", create, body); a.status != 422 || strings.Contains(string(a.body), secret) {
			t.Errorf("%v: %s", body, a)
		}
	}
	for _, path := range []string{"/v1/verify", "/v1/verify/batch"} {
		for _, body := range []fields{{secret: "x"}, {"key": fields{secret: 1}}, {"key": "x", "ip": secret}} {
			if a := h.do("POST", path, body); a.status < 400 || strings.Contains(string(a.body), secret) {
				t.Errorf("%v: %s", body, a)
			}
		}
	}
	for _, path := range []string{"/v1/keys/" + secret, "/v1/" + secret, "/v1/workspaces?cursor=" + secret, create + "?" + secret, create + "?" + secret + "=1"} {
		if a := h.do("GET", path, nil); a.status < 400 || strings.Contains(string(a.body), secret) || strings.Contains(fmt.Sprint(a.header), secret) {
			t.Errorf("%s: %s", path, a)
		}
	}
}

// TestIdempotency: a request that is sent twice makes one object.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *keystiletest.Server) {
		h := newHouse(t, s)
		ws := h.workspace()
		keys, admin := "/v1/workspaces/"+ws+"/keys", h.key(ws, "admin").Secret
		again := func(t *testing.T, secret, path string, body any) (first, second fields) {
			t.Helper()
			a := call(t, s, secret, "POST", path, body, "Idempotency-Key", "k-1")
			first = want[fields](t, a, 201)
			if a.header.Get("Idempotency-Replayed") != "" {
				t.Errorf("the first answer says that it is a replay")
			}
			a = call(t, s, secret, "POST", path, body, "Idempotency-Key", "k-1")
			second = want[fields](t, a, 201)
			if a.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("the replay does not say so: %v", a.header)
			}
			return first, second
		}
		first, second := again(t, admin, keys, fields{"name": "Once", "metadata": fields{"b": "1", "a": "2"}})
		if first["secret"] == nil || second["secret"] != nil {
			t.Errorf("secret: first %v, then %v", first["secret"] != nil, second["secret"] != nil)
		}
		same(t, "the replayed key", second["key"], first["key"])
		// The same body in other words is the same, and another one is refused.
		a := call(t, s, admin, "POST", keys, "{ \"metadata\":{\"a\":\"2\",\"b\":\"1\"},\n\"name\":\"Once\"}", "Idempotency-Key", "k-1")
		same(t, "the same in other words", want[fields](t, a, 201)["key"], first["key"])
		wantProblem(t, call(t, s, admin, "POST", keys, fields{"name": "Twice"}, "Idempotency-Key", "k-1"), 422, keystile.CodeIdempotencyMismatch)
		// Another actor, another route and another key are other requests.
		ids := map[any]bool{first["key"].(fields)["id"]: true}
		other, _ := again(t, h.key(ws, "admin").Secret, keys, fields{"name": "Once", "metadata": fields{"b": "1", "a": "2"}})
		ids[other["key"].(fields)["id"]] = true
		rotated, replay := again(t, admin, "/v1/keys/"+first["key"].(fields)["id"].(string)+"/rotate", fields{"overlap": "0s"})
		if rotated["secret"] == nil || replay["secret"] != nil {
			t.Errorf("rotation: %v, %v", rotated, replay)
		}
		same(t, "the replayed rotation", replay["key"], rotated["key"])
		ids[rotated["key"].(fields)["id"]] = true
		ids[want[fields](t, call(t, s, admin, "POST", keys, fields{"name": "Once"}, "Idempotency-Key", "k-2"), 201)["key"].(fields)["id"]] = true
		same(t, "keys", len(ids), 4)
		role, roleAgain := again(t, admin, "/v1/workspaces/"+ws+"/roles", fields{"name": "Once", "permissions": []string{"read"}})
		same(t, "the replayed role", roleAgain, role)
		member, memberAgain := again(t, admin, "/v1/workspaces/"+ws+"/members", fields{"person": fields{"name": "Ada"}, "role": "viewer"})
		same(t, "the replayed member", memberAgain, member)
		workspace, workspaceAgain := again(t, h.OperatorKey, "/v1/workspaces", fields{"name": "Once"})
		same(t, "the replayed workspace", workspaceAgain["id"], workspace["id"])
		// What was refused is not kept.
		wantProblem(t, call(t, s, admin, "POST", keys, fields{"name": "x", "role": "later"}, "Idempotency-Key", "k-3"), 422, keystile.CodeInvalidField)
		want[keystile.Role](t, h.do("POST", "/v1/workspaces/"+ws+"/roles", fields{"name": "later", "permissions": []string{"read"}}), 201)
		want[keystile.CreatedKey](t, call(t, s, admin, "POST", keys, fields{"name": "x", "role": "later"}, "Idempotency-Key", "k-3"), 201)
		// All at once.
		secrets := make([]answer, 16)
		together(len(secrets), func(i int) {
			secrets[i] = call(t, s, admin, "POST", keys, fields{"name": "Race"}, "Idempotency-Key", "race")
		})
		made, id := 0, ""
		for _, a := range secrets {
			k := want[keystile.CreatedKey](t, a, 201)
			if k.Secret != "" {
				made++
			}
			if id != "" && id != k.Key.ID {
				t.Errorf("two keys: %s, %s", id, k.Key.ID)
			}
			id = k.Key.ID
		}
		same(t, "answers with a secret", made, 1)
		// A restart forgets nothing.
		s.Restart()
		a = call(t, s, admin, "POST", keys, fields{"name": "Race"}, "Idempotency-Key", "race")
		if k := want[keystile.CreatedKey](t, a, 201); k.Key.ID != id || k.Secret != "" || a.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("after the restart: %s", a)
		}
	})
}

// TestHealthOfEveryAnswer: no answer, good or bad, may be kept by a cache or
// guessed about, and each names its request.
func TestHealthOfEveryAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	seen := map[string]bool{}
	for _, path := range []string{"/v1/me", "/v1/plans", "/v1/workspaces", "/openapi.json", "/v1/nothing", "/v1/forward-auth"} {
		a := h.do("GET", path, nil)
		id := a.header.Get("X-Request-Id")
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" || id == "" || seen[id] {
			t.Errorf("%s: %v", path, a.header)
		}
		seen[id] = true
	}
	for _, method := range []string{http.MethodHead, http.MethodOptions} {
		if a := h.do(method, "/v1/plans", nil); len(a.body) > 0 && method == http.MethodHead || a.status >= 500 {
			t.Errorf("%s: %s", method, a)
		}
	}
}

// TestTimesAreUTC: whatever zone they came in.
func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	h := newHouse(t, keystiletest.New(t))
	end := time.Now().Add(time.Hour).In(time.FixedZone("x", 5400)).Format(time.RFC3339)
	made := want[map[string]map[string]any](t, h.do("POST", "/v1/workspaces/"+h.Workspace+"/keys", fields{
		"name": "x", "expires_at": end, "sha256": strings.Repeat("ab", 32), // imported, so the answer holds one object alone
	}), 201)
	for _, name := range []string{"expires_at", "created_at", "updated_at"} {
		at := fmt.Sprint(made["key"][name])
		if _, err := time.Parse(time.RFC3339, at); err != nil || !strings.HasSuffix(at, "Z") {
			t.Errorf("%s is %q", name, at)
		}
	}
}
