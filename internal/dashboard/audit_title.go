package dashboard

import (
	"slices"
	"strings"

	"github.com/keystile/keystile"
)

// actionGroup is a part of the list of actions that the audit log's filter offers.
type actionGroup struct {
	Title string
	All   choice // every action of the group
	Items []choice
}

// nounTitles are what people call what actions are done to, by the first part
// of an action's code.
func nounTitles() []choice {
	return []choice{
		{"key", "Key"}, {"webhook_secret", "Webhook secret"}, {"endpoint", "Endpoint"}, {"delivery", "Delivery"}, {"member", "Member"}, {"role", "Role"}, {"workspace", "Workspace"}, {"session", "Session"},
		{"passkey", "Passkey"}, {"link", "Sign-in link"}, {"portal", "Portal link"}, {"profile", "Profile"}, {"store", "Store"}, {"alert", "Alert"},
		{"master_key", "Master key"},
	}
}

// auditActions are the actions that are recorded, in the order in which the
// filter offers them.
func auditActions() []string {
	return []string{
		"key.created", "key.updated", "key.rotated", "key.rolled_back", "key.disabled", "key.enabled", "key.expired",
		"key.revoked", "key.reviewed", "key.deleted",
		"webhook_secret.created", "webhook_secret.updated", "webhook_secret.rotated", "webhook_secret.rolled_back",
		"webhook_secret.tested", "webhook_secret.expired", "webhook_secret.revoked", "webhook_secret.deleted",
		"endpoint.created", "endpoint.updated", "endpoint.tested", "endpoint.paused", "endpoint.resumed", "endpoint.disabled",
		"endpoint.replayed", "endpoint.deleted", "delivery.retried",
		"member.invited", "member.link_created", "member.joined", "member.updated", "member.recovered", "member.removed",
		"role.created", "role.updated", "role.deleted",
		"workspace.created", "workspace.updated", "workspace.suspended", "workspace.resumed", "workspace.deleted",
		"session.began", "session.ended", "session.refused",
		"passkey.added", "passkey.renamed", "passkey.removed", "passkey.refused",
		"link.created", "portal.created", "profile.changed", "store.restored", "alert.acknowledged",
		"master_key.rotated",
	}
}

// actionTitle is what people call an action. One that is not known here is
// called by the words of its code.
func actionTitle(code string) string {
	switch code {
	case "member.link_created":
		return "Invitation link created"
	case "member.updated":
		return "Member's role changed"
	case "member.recovered":
		return "Member's access recovered"
	case "session.began":
		return "Signed in"
	case "session.ended":
		return "Signed out"
	case "session.refused":
		return "Sign-in refused"
	}
	noun, what, _ := strings.Cut(code, ".")
	title := strings.ReplaceAll(noun, "_", " ")
	if i := slices.IndexFunc(nounTitles(), func(c choice) bool { return c.Value == noun }); i >= 0 {
		title = nounTitles()[i].Name
	}
	return strings.TrimSpace(capital(title) + " " + strings.ReplaceAll(what, "_", " "))
}

// capital makes the first letter a capital one.
func capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// actionGroups is what the filter offers. An action that was asked for and is
// none of these is offered as well, so that the filter does not forget it.
func actionGroups(chosen string) (groups []actionGroup) {
	known := chosen == ""
	for _, code := range auditActions() {
		noun, _, _ := strings.Cut(code, ".")
		if n := len(groups); n == 0 || groups[n-1].All.Value != noun+".*" {
			title := actionTitle(noun)
			groups = append(groups, actionGroup{Title: title, All: choice{noun + ".*", title + ": all"}})
		}
		last := &groups[len(groups)-1]
		last.Items = append(last.Items, choice{code, actionTitle(code)})
		known = known || chosen == code || chosen == last.All.Value
	}
	if !known {
		groups = append(groups, actionGroup{Title: "Others", All: choice{chosen, chosen}})
	}
	return groups
}

// partyName is what people call who did something, wherever it is said.
func partyName(p keystile.Party) string {
	switch {
	case p.Kind == "system":
		return "Keystile"
	case p.Kind == "operator" && p.Name != "":
		return "Operator (" + p.Name + ")"
	case p.Kind == "operator":
		return "Operator"
	case p.Kind == "key" && p.Name != "":
		return "Key “" + p.Name + "”"
	case p.Kind == "key":
		return "Key " + p.ID
	case p.Name != "":
		return p.Name
	}
	return p.ID
}
