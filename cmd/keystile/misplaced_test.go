package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/keystile/keystile"
)

// TestMisplacedKey gives a key to whatever takes a text. No message repeats it:
// what is on standard error goes into the logs of whoever runs the program.
func TestMisplacedKey(t *testing.T) {
	t.Parallel()
	f, err := keystile.NewFormat("ks")
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.Mint("")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"keys", "list", "--key-file", key},
		{"keys", "list", "--url", key},
		{"keys", "list", "--url", "http://" + key + ":1"},
		{"keys", "list", "--url", "http://127.0.0.1:1/" + key},
		{"keys", "list", "--workspace", key},
		{"keys", "show", key},
		{"keys", "import", "--file", key},
		{"verify", key},
		{"scan", "--config", key},
		{"serve", "--config", key},
		{"serve", "--data", t.TempDir(), "--listen", key},
		{"serve", "--data", t.TempDir(), "--trusted-proxy", key},
		{"serve", "--data", t.TempDir(), "--log-level", key},
		{"admin", "key", "--data", "/nowhere/" + key},
		{key},
	} {
		t.Run(strings.ReplaceAll(strings.Join(args, " "), key, "KEY"), func(t *testing.T) {
			t.Parallel()
			var out, messages bytes.Buffer
			code := run(t.Context(), args, &app{
				stdin: strings.NewReader(""), stdout: &out, stderr: &messages,
				env: func(name string) string { return map[string]string{"KEYSTILE_KEY": "x"}[name] },
			})
			if code == 0 || messages.Len() == 0 {
				t.Fatalf("ended with %d and said nothing", code)
			}
			if strings.Contains(out.String()+messages.String(), key[len("ks_"):]) {
				t.Error("the message holds the key")
			}
		})
	}
}
