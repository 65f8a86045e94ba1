package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                             "serve agent keys verify webhooks endpoints deliveries alerts workspaces admin backup restore scan bench completion version",
		"ve":                           "verify version",
		"keys re":                      "revoke",
		"keys r":                       "rotate revoke",
		"--json keys r":                "rotate revoke",
		"keys list --st":               "--status",
		"keys list --status ":          "active disabled revoked expired all",
		"keys list --status a":         "active all",
		"keys list --status=a":         "--status=active --status=all",
		"keys list --status = a":       "active all", // bash's words
		"keys list --status =":         "active disabled revoked expired all",
		"keys list --workspace ":       "",
		"keys list --workspace x --js": "--json",
		"keys list --json --st":        "--status",
		"keys list -q r":               "",
		"keys list --status=all --u":   "--url",
		"keys revoke key_1 --y":        "--yes",
		"keys revoke key_1 ":           "",
		"keys revoke --yes ":           "",
		"keys list --nope=":            "",
		"completion ":                  "bash zsh fish",
		"completion z":                 "zsh",
		"completion zsh ":              "",
		"compl":                        "completion", // the hidden verb stays hidden
		"nonsense ":                    "serve agent keys verify webhooks endpoints deliveries alerts workspaces admin backup restore scan bench completion version",
		"verify -":                     "--help --json --url --key-file --permission --workspace --ip",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			args := append([]string{"complete", "--"}, strings.Split(line, " ")...)
			if status := run(context.Background(), args, &app{stdout: &out, stderr: &errs}); status != 0 {
				t.Fatalf("status %d: %s", status, &errs)
			}
			if got := strings.Fields(out.String()); !slices.Equal(got, strings.Fields(want)) {
				t.Errorf("%q could become %q, want %q", line, got, want)
			}
		})
	}
}
