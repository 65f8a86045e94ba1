package dashboard_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keystile/keystile/keystiletest"
)

// TestWalk follows each product's manual, step by step, in a real browser.
// Every page on the way is valid HTML, has no accessibility violation, and
// loads nothing from elsewhere. The walks are in browser/; scripts/tools.sh
// installs what they need.
//
// With KEYSTILE_SCREENSHOTS naming a directory they leave pictures there.
func TestWalk(t *testing.T) {
	for _, c := range []struct{ product, rows string }{
		{"voqo", "VQ1_VQ2_VQ3_VQ4_VQ5_VQ7_VQ8_VQ9_VQ10"},
		{"voxum", "VX1_VX2_VX3_VX4_VX5_VX7"},
		{"ipaware", "IP2_IP3_IP4_IP5_IP6_IP7_IP8_IP13"},
		{"vozagent", "VZ1_VZ2_VZ3_VZ4_VZ5_VZ6_VZ7"},
		{"tenant", "TN1_TN2_TN3_TN4_TN5"},
	} {
		t.Run(c.product+"/"+c.rows, func(t *testing.T) {
			s := keystiletest.New(t, keystiletest.Profile(filepath.Join("..", "..", "examples", c.product+".yaml")))
			walk(t, s, c.product+".mjs")
		})
	}
}

// walk runs one of the scripts in browser/ against a server.
func walk(t testing.TB, s *keystiletest.Server, script string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: run scripts/tools.sh")
	}
	if _, err := os.Stat(filepath.Join("browser", "node_modules", "playwright-core")); err != nil {
		t.Fatal("the browser tests' packages are not installed: run scripts/tools.sh")
	}
	screenshots := os.Getenv("KEYSTILE_SCREENSHOTS")
	given, err := json.Marshal(map[string]any{
		"url": s.URL, "link": s.SignInLink(""), "workspace": s.Workspace, "operatorKey": s.OperatorKey,
		"screenshots": screenshots, "failures": os.Getenv("KEYSTILE_FAILURES"),
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, script)
	cmd.Dir = "browser"
	cmd.Env = append(os.Environ(), "WALK="+string(given))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s", script, err, out.String())
	}
}
