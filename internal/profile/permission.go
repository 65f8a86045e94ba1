package profile

import (
	"maps"
	"slices"
	"strings"

	"github.com/keystile/keystile"
)

// ManagementPermissions returns the permissions by which a key or a member
// manages its own workspace. They are the same in every profile.
func ManagementPermissions() []keystile.PermissionInfo {
	return []keystile.PermissionInfo{
		{Name: "api.key.view", Description: "See keys, never their secrets"},
		{Name: "api.key.create", Description: "Create keys; with api.key.delete also rotate them"},
		{Name: "api.key.update", Description: "Edit, disable and enable keys"},
		{Name: "api.key.delete", Description: "Revoke and delete keys"},
		{Name: "api.key.verify", Description: "Verify keys of the workspace"},
		{Name: "api.key.grant", Description: "Create and change keys that carry management permissions"},
		{Name: "api.webhook_secret.view", Description: "See webhook secrets' labels, never the secrets"},
		{Name: "api.webhook_secret.create", Description: "Create webhook secrets; with api.webhook_secret.delete also rotate them"},
		{Name: "api.webhook_secret.update", Description: "Edit webhook secrets"},
		{Name: "api.webhook_secret.delete", Description: "Revoke and delete webhook secrets"},
		{Name: "api.webhook_secret.sign", Description: "Sign webhooks with the workspace's secrets"},
		{Name: "api.endpoint.view", Description: "See endpoints and deliveries"},
		{Name: "api.endpoint.create", Description: "Create endpoints that get events"},
		{Name: "api.endpoint.update", Description: "Edit, test and pause endpoints, and retry deliveries"},
		{Name: "api.endpoint.delete", Description: "Delete endpoints"},
		{Name: "api.role.view", Description: "See roles"},
		{Name: "api.role.create", Description: "Create custom roles"},
		{Name: "api.role.update", Description: "Edit custom roles"},
		{Name: "api.role.delete", Description: "Delete custom roles"},
		{Name: "api.member.view", Description: "See members"},
		{Name: "api.member.create", Description: "Invite members"},
		{Name: "api.member.update", Description: "Change members' roles"},
		{Name: "api.member.delete", Description: "Remove members"},
		{Name: "api.workspace.view", Description: "See the workspace and its plan"},
		{Name: "api.workspace.update", Description: "Edit the workspace's name and allowlist"},
		{Name: "api.audit.view", Description: "Read the audit log"},
		{Name: "api.usage.view", Description: "See how keys are used"},
	}
}

// PlatformPermissions returns the permissions that reach beyond one workspace.
// Only roles of the operator's workspace carry them.
func PlatformPermissions() []keystile.PermissionInfo {
	return []keystile.PermissionInfo{
		{Name: "platform.access", Description: "Use one's management permissions in every workspace"},
		{Name: "platform.verify", Description: "Verify keys of every workspace"},
		{Name: "platform.workspace.view", Description: "See every workspace"},
		{Name: "platform.workspace.create", Description: "Create workspaces"},
		{Name: "platform.workspace.update", Description: "Edit every workspace and its plan"},
		{Name: "platform.workspace.suspend", Description: "Suspend and resume workspaces"},
		{Name: "platform.workspace.delete", Description: "Delete workspaces"},
		{Name: "platform.plan.view", Description: "See the plans of the product"},
		{Name: "platform.key.import", Description: "Import keys issued elsewhere by their hash"},
		{Name: "platform.endpoint.allow", Description: "Let an endpoint reach addresses of the operator's own network"},
		{Name: "platform.portal", Description: "Open portal sessions for the people of a workspace"},
		{Name: "platform.replica", Description: "Attach a replica that verifies elsewhere"},
		{Name: "platform.nodes", Description: "See the nodes of the cluster"},
		{Name: "platform.metrics", Description: "Read the metrics"},
	}
}

// PermissionCatalogue returns every permission that a role of a workspace can
// carry: the product's, then the management permissions.
func (p *Profile) PermissionCatalogue() []keystile.PermissionInfo {
	var all []keystile.PermissionInfo
	for _, own := range p.Permissions {
		all = append(all, keystile.PermissionInfo{Name: own.Name, Description: own.Description})
	}
	return append(all, ManagementPermissions()...)
}

// PermissionKnown tells whether pattern names a permission of the product, of
// management or of the platform, or is a wildcard that matches at least one.
// "*" is always known: it stands for whatever the product has.
func (p *Profile) PermissionKnown(pattern string) bool {
	if pattern == "*" || p.names[pattern] {
		return true
	}
	if !strings.Contains(pattern, "*") {
		return false
	}
	set := keystile.Permissions{pattern}
	for _, own := range p.Permissions {
		if set.Allow(own.Name) {
			return true
		}
	}
	for _, list := range [][]keystile.PermissionInfo{ManagementPermissions(), PlatformPermissions()} {
		for _, info := range list {
			if set.Allow(info.Name) {
				return true
			}
		}
	}
	return false
}

// permissionNames holds the names that PermissionKnown is asked for with every
// check of a key.
func (p *Profile) permissionNames() map[string]bool {
	names := map[string]bool{}
	for _, own := range p.Permissions {
		names[own.Name] = true
	}
	for _, list := range [][]keystile.PermissionInfo{ManagementPermissions(), PlatformPermissions()} {
		for _, info := range list {
			names[info.Name] = true
		}
	}
	return names
}

// PermissionNames returns the names of all permissions that may be asked for,
// sorted.
func (p *Profile) PermissionNames() []string { return slices.Sorted(maps.Keys(p.names)) }

// NearestPermission returns what someone most likely meant by a pattern that
// is not known, or "".
func (p *Profile) NearestPermission(pattern string) string {
	var known []string
	for _, info := range p.PermissionCatalogue() {
		known = append(known, info.Name)
		// A wildcard is held against the wildcards of every branch.
		if strings.HasSuffix(pattern, "*") {
			for i, c := range info.Name {
				if c == '.' {
					known = append(known, info.Name[:i+1]+"*")
				}
			}
		}
	}
	return nearest(pattern, known)
}
