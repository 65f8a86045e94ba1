package keystile_test

import (
	"os"
	"strings"
	"testing"

	"github.com/keystile/keystile"
)

// TestWebhookCodes: docs/webhooks.md has a row for each code and names each
// hint in it; every pair of the page has words of its own, and says what to do.
func TestWebhookCodes(t *testing.T) {
	page, err := os.ReadFile("docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	hints := map[string][]string{} // by code
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		quoted := func(cell string) (names []string) {
			for i, part := range strings.Split(cell, "`") {
				if i%2 == 1 {
					names = append(names, part)
				}
			}
			return names
		}
		for _, code := range quoted(cells[1]) {
			hints[code] = quoted(cells[3])
		}
	}
	named := map[string]bool{}
	said := map[string]string{}
	for _, code := range constants(t, "webhook_verdict.go", "WebhookCode") {
		list, ok := hints[code]
		if !ok {
			t.Errorf("docs/webhooks.md has no row for %s", code)
		}
		if len(list) == 0 {
			list = []string{""}
		}
		for _, hint := range list {
			named[hint] = true
			finding := keystile.NewWebhookFinding(keystile.WebhookCode(code), keystile.WebhookHint(hint))
			v := keystile.NewWebhookVerdict("", finding)
			at := code + " " + hint
			if v.Detail == "" || v.Fixes == nil || len(v.Fixes) == 0 && !v.Valid || v.Valid != (code == "valid") {
				t.Errorf("%s: %+v", at, v)
			}
			if other, again := said[v.Detail]; again {
				t.Errorf("%s says the same as %s: %s", at, other, v.Detail)
			}
			said[v.Detail] = at
		}
	}
	for _, hint := range constants(t, "webhook_verdict.go", "WebhookHint") {
		if !named[hint] {
			t.Errorf("docs/webhooks.md does not name the hint %s", hint)
		}
	}
	good := keystile.NewWebhookVerdict("whs_1")
	if !good.Valid || good.WebhookSecret != "whs_1" || good.Also != nil || good.Fixes == nil {
		t.Errorf("without findings: %+v", good)
	}
}
