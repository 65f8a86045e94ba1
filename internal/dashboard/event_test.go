package dashboard_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// hears has all events of a workspace sent to the test from now on. What it
// returns waits for events of some types, and holds everything that came
// against the schema of its type.
func hears(t testing.TB, s *keystiletest.Server, workspace string) (heard func(types ...string)) {
	t.Helper()
	var mu sync.Mutex
	var bodies [][]byte
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		bodies = append(bodies, body)
		mu.Unlock()
	}))
	t.Cleanup(receiver.Close)
	if _, err := s.Operator.CreateEndpoint(t.Context(), workspace,
		keystile.CreateEndpoint{URL: receiver.URL, EventTypes: []string{"*"}, AllowRanges: []string{"127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	schemas := eventSchemas(t, s)
	return func(types ...string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			mu.Lock()
			all := slices.Clone(bodies)
			mu.Unlock()
			missing := slices.Clone(types)
			for _, body := range all {
				var e keystile.Event
				if err := json.Unmarshal(body, &e); err != nil {
					t.Fatal(err)
				}
				missing = slices.DeleteFunc(missing, func(name string) bool { return name == e.Type })
				v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if schemas[e.Type] == nil {
					t.Fatalf("%s is no type", e.Type)
				}
				if err := schemas[e.Type].Validate(v); err != nil {
					t.Fatalf("%s: %v in %s", e.Type, err, body)
				}
			}
			if len(missing) == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("did not come: %v", missing)
			}
		}
	}
}

// eventSchemas are the schemas of all types, as the server says.
func eventSchemas(t testing.TB, s *keystiletest.Server) map[string]*jsonschema.Schema {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/event-types", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+s.OperatorKey)
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var list keystile.List[struct {
		Type   string          `json:"type"`
		Schema json.RawMessage `json:"schema"`
	}]
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil || len(list.Data) == 0 {
		t.Fatalf("%d types, %v", len(list.Data), err)
	}
	schemas := map[string]*jsonschema.Schema{}
	for _, e := range list.Data {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Schema))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource(e.Type+".json", document); err != nil {
			t.Fatal(err)
		}
		if schemas[e.Type], err = c.Compile(e.Type + ".json"); err != nil {
			t.Fatal(err)
		}
	}
	return schemas
}
