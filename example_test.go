package keystile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

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

// A receiver of webhooks. The guard notes which ones have been done; where
// several processes receive, it is a table that they share, written in the
// transaction that does the work.
func ExampleWebhookVerifier() {
	secret, _ := keystile.NewWebhookSecret() // in production: keystile.ParseWebhookSecret(os.Getenv("WEBHOOK_SECRET"))

	var mu sync.Mutex
	done := map[string]time.Time{} // until when to remember
	webhooks := keystile.WebhookVerifier{
		Secrets: []keystile.WebhookSecret{secret}, // during a rotation, the old one and the new one
		Replayed: func(id string, until time.Time) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			maps.DeleteFunc(done, func(_ string, until time.Time) bool { return time.Now().After(until) })
			_, before := done[id]
			done[id] = until
			return before, nil
		},
	}
	work := func(payload []byte) error {
		fmt.Printf("doing %s\n", payload)
		return nil
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The body as it came: parsed and written again, it is another one.
		payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		switch err := webhooks.Verify(r.Header, payload); {
		case errors.Is(err, keystile.ErrWebhookReplayed):
			w.WriteHeader(http.StatusOK) // it has been done: nothing to do, and no need to send it again
			return
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := work(payload); err != nil {
			mu.Lock()
			delete(done, r.Header.Get(keystile.WebhookIDHeader)) // so that the next attempt counts
			mu.Unlock()
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	}))
	defer receiver.Close()

	payload := []byte(`{"type":"order.shipped"}`)
	headers, err := keystile.SignWebhook("msg_1", time.Now(), payload, secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, body := range []string{string(payload), string(payload), `{"type":"order.forged"}`} {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, receiver.URL, strings.NewReader(body))
		if err != nil {
			fmt.Println(err)
			return
		}
		r.Header = headers.Clone()
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		answer.Body.Close()
		fmt.Println(answer.StatusCode)
	}
	// Output:
	// doing {"type":"order.shipped"}
	// 200
	// 200
	// 400
}
