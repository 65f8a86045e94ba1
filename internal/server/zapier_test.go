package server_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

type zapierCall struct {
	Call  string         `json:"call"` // "test", or the key of a trigger
	Key   string         `json:"api_key"`
	Input map[string]any `json:"input,omitempty"`
}

type zapierResult struct {
	Value   json.RawMessage `json:"value"`
	Message string          `json:"message"`
	Code    string          `json:"code"`
	Status  int             `json:"status"`
}

// zapier runs the app of examples/zapier against a server.
func zapier(t testing.TB, url string, calls []zapierCall) []zapierResult {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: run 'apt-get install -y nodejs'")
	}
	in, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, filepath.Join("testdata", "zapier.js"), filepath.Join("..", "..", "examples", "zapier"))
	cmd.Env = append(os.Environ(), "BASE_URL="+url+"/")
	cmd.Stdin = bytes.NewReader(in)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, errors.String())
	}
	var out struct {
		Version  string
		Platform string
		Fields   [][]any
		Results  []zapierResult
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if out.Version == "" || out.Platform == "" || len(out.Fields) != 1 || out.Fields[0][1] != "password" || out.Fields[0][2] != true {
		t.Fatalf("the app is %s", text)
	}
	if len(out.Results) != len(calls) {
		t.Fatalf("%d results of %d calls", len(out.Results), len(calls))
	}
	return out.Results
}

func vozagentZapier(t *testing.T, n *tenant) {
	soon := time.Now().Add(3 * day)
	plain := n.create(keystile.CreateKey{Name: "Zapier Production", Role: "zapier"})
	short := n.create(keystile.CreateKey{Name: "Zapier Trial", Role: "zapier", ExpiresAt: &soon})
	gone := n.create(keystile.CreateKey{Name: "Zapier Old", Role: "zapier"})
	if r := n.call(n.admin, "DELETE", "/v1/keys/"+gone.Key.ID, nil); r.status != 204 {
		t.Fatalf("delete: %s", r)
	}
	results := zapier(t, n.server.URL, []zapierCall{
		{Call: "test", Key: plain.Secret},
		{Call: "test", Key: " " + plain.Secret + "\n"},
		{Call: "test", Key: plain.Key.Preview},
		{Call: "test", Key: plain.Secret[:20]},
		{Call: "test", Key: gone.Secret},
		{Call: "test", Key: ""},
		{Call: "access_changed", Key: plain.Secret},
		{Call: "key_expiring", Key: plain.Secret},
		{Call: "key_expiring", Key: short.Secret},
		{Call: "key_expiring", Key: short.Secret, Input: map[string]any{"days": 2}},
		{Call: "access_changed", Key: gone.Secret},
	})
	for _, i := range []int{0, 1} {
		var self keystile.Self
		if err := json.Unmarshal(results[i].Value, &self); err != nil || !self.Valid || self.Name != "Zapier Production" || self.WorkspaceName == "" {
			t.Errorf("connection test %d: %s %s", i, results[i].Value, results[i].Message)
		}
	}
	for i, part := range map[int]string{2: "masked preview", 3: "incomplete", 4: "never issued", 5: "no key", 10: "never issued"} {
		r := results[i]
		if r.Status != 401 || !strings.HasPrefix(r.Message, "Authentication failed: ") || !strings.Contains(r.Message, part) || r.Code == "" {
			t.Errorf("call %d: %+v", i, r)
		}
	}
	items := func(i int) (list []map[string]any) {
		t.Helper()
		if err := json.Unmarshal(results[i].Value, &list); err != nil {
			t.Fatalf("call %d: %s %s", i, results[i].Value, results[i].Message)
		}
		return list
	}
	if l := items(6); len(l) != 1 || l[0]["role"] != "zapier" || l[0]["id"] == "" || l[0]["key_id"] != plain.Key.ID {
		t.Errorf("access_changed: %v", l)
	}
	if l := items(7); len(l) != 0 {
		t.Errorf("key_expiring of a key without end: %v", l)
	}
	if l := items(8); len(l) != 1 || l[0]["key_id"] != short.Key.ID {
		t.Errorf("key_expiring: %v", l)
	}
	if l := items(9); len(l) != 0 {
		t.Errorf("key_expiring two days ahead: %v", l)
	}
	// The role changes, and the trigger sees it.
	want[keystile.Key](t, n.call(n.admin, "PATCH", "/v1/keys/"+plain.Key.ID, `{"role": "integration"}`), 200)
	var after []map[string]any
	again := zapier(t, n.server.URL, []zapierCall{{Call: "access_changed", Key: plain.Secret}})
	if err := json.Unmarshal(again[0].Value, &after); err != nil || len(after) != 1 || after[0]["id"] == items(6)[0]["id"] {
		t.Errorf("after the role changed: %s", again[0].Value)
	}
}
