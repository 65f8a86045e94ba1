package dashboard

import (
	"net/http"
	"slices"
	"strconv"
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
	if len(v.door.Profile.ThirdParties) == 0 {
		return nil
	}
	tabs := []tab{{v.door.Profile.Word("third_parties_title"), v.base() + "/integrations", current == "integrations"}}
	if v.actor.May("api.key.view") {
		tabs = slices.Insert(tabs, 0, tab{v.door.Profile.Word("keys_title"), v.base() + "/keys", current == "keys"})
	}
	return tabs
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
