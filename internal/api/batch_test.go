package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/keystiletest"
)

// allocated is how many bytes a request makes the process allocate, the
// sending and the reading of it included.
func allocated(t *testing.T, r *http.Request, status int) (used uint64, length int64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	length, err = io.Copy(io.Discard, response.Body)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if response.StatusCode != status {
		t.Fatalf("status %d, want %d", response.StatusCode, status)
	}
	return after.TotalAlloc - before.TotalAlloc, length
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // a sync.Pool keeps what it has for one of them
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBatchTakesLittleMemory holds against a tenant who has the server build
// answers, or read questions, that are many times larger than the request. It
// is not parallel to others, whose memory would be counted.
func TestBatchTakesLittleMemory(t *testing.T) { //nolint:paralleltest // see above
	s := keystiletest.New(t)
	metadata := map[string]string{}
	for i := range 16 {
		metadata[fmt.Sprintf("name%02d", i)] = strings.Repeat(`"`, 500) // which has two bytes in JSON
	}
	key := s.Key(s.Workspace, keystile.CreateKey{Name: "Large", Role: "developer", Metadata: metadata}).Secret

	batch := func(t *testing.T, body string) *http.Request {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/verify/batch", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", "application/json")
		return r
	}

	t.Run("answers", func(t *testing.T) {
		question, err := json.Marshal(keystile.VerifyRequest{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		body := `{"requests":[` + strings.TrimSuffix(strings.Repeat(string(question)+",", 1000), ",") + `]}`
		// While nobody reads the answer, the connection takes 10 MB of it at most,
		// and the server has to keep what it has made of the rest.
		before := heap()
		response, err := http.DefaultTransport.RoundTrip(batch(t, body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		during := heap()
		length, err := io.Copy(io.Discard, response.Body)
		if err != nil || response.StatusCode != http.StatusOK || length < 15<<20 {
			t.Fatalf("status %d, %d bytes, %v; that is no test", response.StatusCode, length, err)
		}
		if held := during - before; held > length/4 {
			t.Errorf("an answer of %d bytes held %d", length, held)
		}
	})
	t.Run("questions", func(t *testing.T) {
		body := `{"requests":[` + strings.TrimSuffix(strings.Repeat("{},", 690_000), ",") + `]}`
		if used, _ := allocated(t, batch(t, body), 422); used > 16*uint64(len(body)) {
			t.Errorf("questions of %d bytes took %d", len(body), used)
		}
	})
}

// TestDescriptionIsMadeOnce holds against a stranger who asks for the
// description of the API again and again: it is written, and not made anew.
func TestDescriptionIsMadeOnce(t *testing.T) { //nolint:paralleltest // memory is counted
	s := keystiletest.New(t)
	for _, first := range []bool{true, false} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/openapi.json", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if used, length := allocated(t, r, 200); !first && used > 2*uint64(length) {
			t.Errorf("a description of %d bytes took %d", length, used)
		}
	}
}

// TestBatchBounds holds the number of questions, and what may stand in their place.
func TestBatchBounds(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	many := func(n int) string {
		return `{"requests":[` + strings.TrimSuffix(strings.Repeat(`{"key":"x"},`, n), ",") + `]}`
	}
	for _, c := range []struct {
		name, body string
		status     int
		field      string
	}{
		{"1000", many(1000), 200, ""},
		{"1001", many(1001), 422, "body.requests"},
		{"none", `{"requests":[]}`, 422, "body.requests"},
		{"null", `{"requests":null}`, 422, "body.requests"},
		{"absent", `{}`, 422, "body.requests"},
		{"the second of two counts", `{"requests":[{"key":"x"}],"requests":[]}`, 422, "body.requests"},
		{"an object", `{"requests":{"key":"x"}}`, 422, "body.requests"},
		{"a number in it", `{"requests":[1]}`, 422, "body.requests"},
		{"a field of another type", `{"requests":[{"key":1}]}`, 422, "body.requests.key"},
		{"an unknown field", `{"requests":[{"key":"x","kee":"y"}]}`, 422, "body.kee"},
		{"a second one without a key", `{"requests":[{"key":"x"},{}]}`, 422, "body.requests[1].key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := call(t, s, s.OperatorKey, "POST", "/v1/verify/batch", c.body)
			if c.status == 200 {
				if got := want[keystile.DecisionBatch](t, a, 200); len(got.Decisions) != 1000 || got.Decisions[999].Code != keystile.CodeMalformed {
					t.Errorf("%d decisions", len(got.Decisions))
				}
				return
			}
			p := wantProblem(t, a, c.status, keystile.CodeInvalidField)
			if len(p.Fields) != 1 || p.Fields[0].Field != c.field {
				t.Errorf("fields %+v, want %s", p.Fields, c.field)
			}
		})
	}
}

// TestAskerRevokedWhileItsQuestionArrives is P1 for whoever asks: a key that is
// taken away before its question is there gets no answer.
func TestAskerRevokedWhileItsQuestionArrives(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	address := strings.TrimPrefix(s.URL, "http://")
	asked := s.Key(s.Workspace, keystile.CreateKey{Name: "Asked about"}).Secret
	for _, c := range []struct {
		name, path, body string
		patch            any
		status           int
		code             keystile.Code
	}{
		{"verify", "/v1/verify", `{"key":"` + asked + `"}`, nil, 401, keystile.CodeRevoked},
		{"batch", "/v1/verify/batch", `{"requests":[{"key":"` + asked + `"}]}`, nil, 401, keystile.CodeRevoked},
		{"given another role", "/v1/verify", `{"key":"` + asked + `"}`, map[string]any{"role": "service"}, 403, keystile.CodeInsufficientPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			asker := s.Key("ws_operator", keystile.CreateKey{Name: "Asker", Role: "verifier"})
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
				"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", c.path, address, asker.Secret, len(c.body), c.body[:5])
			time.Sleep(200 * time.Millisecond) // until the head has been read for certain
			method, verb := http.MethodPost, "/revoke"
			if c.patch != nil {
				method, verb = http.MethodPatch, ""
			}
			want[keystile.Key](t, call(t, s, s.OperatorKey, method, "/v1/keys/"+asker.Key.ID+verb, c.patch), 200)
			if _, err := io.WriteString(conn, c.body[5:]); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			wantProblem(t, answer{response.StatusCode, response.Header, text}, c.status, c.code)
		})
	}
}

// A text made for it takes no longer to look through for secrets than any other
// of its length: a thousand times as long would keep a processor busy for minutes.
func TestUserAgentOfPrefixes(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t)
	for _, part := range []string{"whsec_", "whsec_a-", "whsec_aB3dE5fG7hI9k ", "ks_live_", "aB1"} {
		body, err := json.Marshal(keystile.VerifyBatch{Requests: []keystile.VerifyRequest{{Key: s.OperatorKey, UserAgent: strings.Repeat(part, (2<<20-1024)/len(part))}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/verify/batch", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.OperatorKey)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d, %v", part, response.StatusCode, err)
		}
	}
}
