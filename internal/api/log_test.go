package api_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile/keystiletest"
)

// TestLogTellsSeconds: how long something took has its unit in its name, so
// that nobody takes nanoseconds for milliseconds.
func TestLogTellsSeconds(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	s := keystiletest.New(t, keystiletest.Log(file))
	call(t, s, s.OperatorKey, "GET", "/v1/me", nil)
	missing := map[string]bool{"answered": true, "index loaded": true}
	for deadline := time.Now().Add(time.Minute); len(missing) > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var entry struct {
				Message string   `json:"msg"`
				Seconds *float64 `json:"seconds"`
			}
			if json.Unmarshal([]byte(line), &entry) != nil || !missing[entry.Message] {
				continue // half a line, or another
			}
			if entry.Seconds == nil || *entry.Seconds < 0 || *entry.Seconds > 600 {
				t.Errorf("no seconds in %s", line)
			}
			delete(missing, entry.Message)
		}
	}
	if len(missing) > 0 {
		t.Errorf("never logged: %v", missing)
	}
}
