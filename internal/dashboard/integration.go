package dashboard

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tab is a page among its neighbours.
type tab struct {
	Name, Path string
	Current    bool
}

// tabs are the pages that share the menu's entry with keys. There are none
// where keys are all there is.
func (v *visit) tabs(current string) []tab {
	p := v.door.Profile
	secrets := p.WebhookSecrets && v.actor.May("api.webhook_secret.view")
	var tabs []tab
	for _, t := range []struct {
		name, word, path string
		shown            bool
	}{
		{"keys", "keys_title", "/keys", v.actor.May("api.key.view")},
		{"secrets", "secrets_title", "/webhook-secrets", secrets},
		{"debugger", "debugger_title", "/webhook-debugger", secrets},
		{"endpoints", "endpoints_title", "/endpoints", p.Endpoints && v.actor.May("api.endpoint.view")},
		{"integrations", "third_parties_title", "/integrations", len(p.ThirdParties) > 0},
	} {
		if t.shown {
			tabs = append(tabs, tab{p.Word(t.word), v.base() + t.path, t.name == current})
		}
	}
	if len(tabs) == 1 && current == "keys" {
		return nil
	}
	return tabs
}

// amongTabs tells whether this page is below one of the tabs.
func (v *visit) amongTabs() bool {
	for _, path := range []string{"/integrations", "/webhook-secrets", "/webhook-debugger", "/endpoints", "/deliveries"} {
		if strings.HasPrefix(v.r.URL.Path, v.base()+path) {
			return true
		}
	}
	return false
}

// listThirdParties shows what keys can be connected with.
func (v *visit) listThirdParties() error {
	if len(v.door.Profile.ThirdParties) == 0 {
		return unknownPage()
	}
	v.show(http.StatusOK, "integrations", v.door.Profile.Word("third_parties_title"), struct {
		Tabs   []tab
		Zapier bool
	}{v.tabs("integrations"), slices.Contains(v.door.Profile.ThirdParties, "zapier")})
	return nil
}

// showZapier says how to connect Zapier.
func (v *visit) showZapier() error {
	if !slices.Contains(v.door.Profile.ThirdParties, "zapier") {
		return unknownPage()
	}
	v.show(http.StatusOK, "zapier", "Connect Zapier", struct {
		Tabs      []tab
		MayCreate bool
		URL       string
		Header    string
	}{v.tabs("integrations"), v.actor.May("api.key.create"), v.url, v.door.Profile.ShowHeader})
	return nil
}

// days says a period in the words of people.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d == day {
		return "day"
	}
	if d >= day {
		return strconv.Itoa(int(d/day)) + " days"
	}
	return d.String()
}
