package keystile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/keystile/keystile"
)

// exampleServer stands in for a Keystile server with one good key.
func exampleServer() *httptest.Server {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("POST /v1/verify", func(w http.ResponseWriter, r *http.Request) {
		var ask keystile.VerifyRequest
		if json.NewDecoder(r.Body).Decode(&ask) != nil || ask.Key != "gw_good" {
			answer(w, 200, keystile.Decision{Code: keystile.CodeUnknown, Status: 401})
			return
		}
		if ask.Permission == "inventory.delete" {
			answer(w, 200, keystile.Decision{Code: keystile.CodeInsufficientPermission, Status: 403})
			return
		}
		answer(w, 200, keystile.Decision{
			Valid: true, Code: keystile.CodeValid, Status: 200, KeyID: "key_1", WorkspaceID: "ws_1",
			Permissions: keystile.Permissions{"inventory.read", "inventory.write"},
		})
	})
	mux.HandleFunc("POST /v1/workspaces/{id}/keys", func(w http.ResponseWriter, r *http.Request) {
		var k keystile.CreateKey
		if json.NewDecoder(r.Body).Decode(&k) != nil || k.Role == "admin" {
			keystile.WriteError(w, keystile.NewError(keystile.CodeExceedsAuthority, ""), "")
			return
		}
		answer(w, 201, keystile.CreatedKey{Key: keystile.Key{ID: "key_2", Name: k.Name}, Secret: "gw_shown_once"})
	})
	mux.HandleFunc("GET /v1/workspaces/{id}/keys", func(w http.ResponseWriter, r *http.Request) {
		page := keystile.List[keystile.Key]{Data: []keystile.Key{{Name: "Warehouse"}}, NextCursor: "2"}
		if r.FormValue("cursor") == "2" {
			page = keystile.List[keystile.Key]{Data: []keystile.Key{{Name: "Zapier"}}}
		}
		answer(w, 200, page)
	})
	return httptest.NewServer(mux)
}

func ExampleClient_Verify() {
	server := exampleServer()
	defer server.Close()
	client, err := keystile.NewClient(server.URL, "gw_of_this_program")
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, key := range []string{"gw_good", "gw_guessed"} {
		d, err := client.Verify(context.Background(), keystile.VerifyRequest{Key: key, Permission: "inventory.write"})
		if err != nil {
			fmt.Println("no decision:", err) // refuse the request
			return
		}
		fmt.Println(d.Valid, d.Code, d.KeyID)
	}
	// Output:
	// true valid key_1
	// false unknown
}

func ExampleClient_CreateKey() {
	server := exampleServer()
	defer server.Close()
	client, err := keystile.NewClient(server.URL, "gw_of_this_program")
	if err != nil {
		fmt.Println(err)
		return
	}

	created, err := client.CreateKey(context.Background(), "ws_1", keystile.CreateKey{Name: "Warehouse"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(created.Key.ID, created.Secret)

	_, err = client.CreateKey(context.Background(), "ws_1", keystile.CreateKey{Name: "All", Role: "admin"})
	if problem, ok := errors.AsType[*keystile.Error](err); ok {
		fmt.Println(problem.Code, "-", problem.Fixes[0])
	}
	fmt.Println(errors.Is(err, keystile.CodeExceedsAuthority))
	// Output:
	// key_2 gw_shown_once
	// exceeds_authority - Ask someone who holds these permissions to do it.
	// true
}

func ExampleClient_AllKeys() {
	server := exampleServer()
	defer server.Close()
	client, err := keystile.NewClient(server.URL, "gw_of_this_program")
	if err != nil {
		fmt.Println(err)
		return
	}

	for key, err := range client.AllKeys(context.Background(), "ws_1", keystile.ListKeys{Status: "active"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Name)
	}
	// Output:
	// Warehouse
	// Zapier
}

func ExampleMiddleware() {
	server := exampleServer()
	defer server.Close()
	client, err := keystile.NewClient(server.URL, "gw_of_this_program")
	if err != nil {
		fmt.Println(err)
		return
	}

	keys := keystile.NewMiddleware(client, keystile.MiddlewareOptions{Title: "Invalid API Key"})
	add := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := keystile.FromContext(r.Context())
		_, _ = fmt.Fprintln(w, "added for", caller.WorkspaceID)
	})
	mux := http.NewServeMux()
	mux.Handle("POST /inventory", keys.Require("inventory.write", add))
	mux.Handle("DELETE /inventory", keys.Require("inventory.delete", add))

	for _, request := range []struct{ method, key string }{
		{"POST", "gw_good"},
		{"POST", "gw_guessed"},
		{"DELETE", "gw_good"},
	} {
		r := httptest.NewRequest(request.method, "/inventory", nil)
		r.Header.Set("Authorization", "Bearer "+request.key)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		var problem keystile.Error
		if w.Code == http.StatusOK {
			text, _ := io.ReadAll(w.Body)
			fmt.Print(w.Code, " ", string(text))
		} else if json.Unmarshal(w.Body.Bytes(), &problem) == nil {
			fmt.Println(w.Code, problem.Title, "-", problem.Detail)
		}
	}
	// Output:
	// 200 added for ws_1
	// 401 Invalid API Key - There is no such key: it was never issued here, or it was deleted.
	// 403 Permission missing - This key lacks the permission inventory.delete.
}
