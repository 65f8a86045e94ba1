package main

import (
	"os/exec"
	"testing"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":               `''`,
		"keystile":       `keystile`,
		"/srv/a-b_c.d":   `/srv/a-b_c.d`,
		"a b":            `'a b'`,
		"it's":           `'it'\''s'`,
		"''":             `''\'''\'''`,
		"$HOME":          `'$HOME'`,
		"`id`":           "'`id`'",
		`a"b`:            `'a"b'`,
		`a\b`:            `'a\b'`,
		"a;b":            `'a;b'`,
		"a\nb":           "'a\nb'",
		"~":              `'~'`,
		"*":              `'*'`,
		"a=b":            `'a=b'`,
		"schlüssel":      `'schlüssel'`,
		"http://[::1]:1": `'http://[::1]:1'`,
	} {
		t.Run(text, func(t *testing.T) {
			got := quote(text)
			if got != want {
				t.Errorf("quote(%q) = %s, want %s", text, got, want)
			}
			for _, shell := range []string{"bash", "sh"} {
				read, err := exec.Command(shell, "-c", "printf %s "+got).Output()
				if err != nil || string(read) != text {
					t.Errorf("%s reads %s as %q, %v", shell, got, read, err)
				}
			}
		})
	}
}
