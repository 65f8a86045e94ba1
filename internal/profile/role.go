package profile

import (
	"slices"

	"github.com/keystile/keystile"
)

// Role is a named set of permissions that every workspace has.
type Role struct {
	Name        string               `yaml:"name"`
	Title       string               `yaml:"title"`
	Description string               `yaml:"description"`
	Permissions keystile.Permissions `yaml:"permissions"`
}

// Roles that every profile has. It may give them other permissions and words.
const (
	RoleAdmin     = "admin"
	RoleDeveloper = "developer"
	RoleViewer    = "viewer"
)

// Roles of the operator's own workspace. No profile and no workspace can make
// others of these names.
const (
	RoleOperator = "operator" // everything, in every workspace
	RoleVerifier = "verifier" // verifies any key and does nothing else: what a backend should get
	RoleReplica  = "replica"  // holds a copy of the index, to verify in another process
)

// Role returns the role of that name among those of tenants.
func (p *Profile) Role(name string) (Role, bool) {
	i := slices.IndexFunc(p.Roles, func(r Role) bool { return r.Name == name })
	if i < 0 {
		return Role{}, false
	}
	return p.Roles[i], true
}

// OperatorRoles returns the roles that only the operator's workspace has,
// beside those of tenants. They are the same in every profile.
func (p *Profile) OperatorRoles() []Role {
	return []Role{
		{
			Name:        RoleOperator,
			Title:       "Operator",
			Description: "Everything, in every workspace",
			Permissions: keystile.Permissions{"*", "api.*", "platform.*"},
		},
		{
			Name:        RoleVerifier,
			Title:       "Verifier",
			Description: "Verify the keys of every workspace, and nothing else",
			Permissions: keystile.Permissions{"platform.verify"},
		},
		{
			Name:        RoleReplica,
			Title:       "Replica",
			Description: "Attach a replica, which verifies the keys of every workspace in another process",
			Permissions: keystile.Permissions{"platform.replica"},
		},
	}
}

// WireRoles returns the roles of tenants as the API shows them.
func (p *Profile) WireRoles() []keystile.Role {
	roles := make([]keystile.Role, 0, len(p.Roles))
	for _, r := range p.Roles {
		roles = append(roles, keystile.Role{
			ID:          "role_" + r.Name,
			Name:        r.Name,
			Description: r.Description,
			Permissions: slices.Clone(r.Permissions),
			BuiltIn:     true,
			Default:     r.Name == p.DefaultRole,
		})
	}
	return roles
}

// builtInRoles returns the roles that every profile has, as they are unless
// it says otherwise.
func builtInRoles() []Role {
	return []Role{
		{
			Name:        RoleAdmin,
			Title:       "Admin",
			Description: "Everything in the workspace",
			Permissions: keystile.Permissions{"*", "api.*"},
		},
		{
			Name:        RoleDeveloper,
			Title:       "Developer",
			Description: "Keys, webhook secrets and endpoints",
			Permissions: keystile.Permissions{
				// A key's role must be covered by whoever makes the key, so
				// this one holds every product permission as well.
				"*", "api.key.*", "api.webhook_secret.*", "api.endpoint.*",
				"api.role.view", "api.member.view", "api.workspace.view", "api.audit.view", "api.usage.view",
			},
		},
		{
			Name:        RoleViewer,
			Title:       "Viewer",
			Description: "See everything, change nothing",
			Permissions: keystile.Permissions{
				"api.key.view", "api.webhook_secret.view", "api.endpoint.view", "api.role.view",
				"api.member.view", "api.workspace.view", "api.audit.view", "api.usage.view",
			},
		},
	}
}

// completeRoles puts the built-in roles before those of the file, save what
// the file says about them, which holds.
func completeRoles(listed []Role) []Role {
	roles := builtInRoles()
	for _, r := range listed {
		i := slices.IndexFunc(roles, func(b Role) bool { return b.Name == r.Name })
		if i < 0 {
			r.Title = titleOr(r.Title, r.Name)
			roles = append(roles, r)
			continue
		}
		if r.Title != "" {
			roles[i].Title = r.Title
		}
		if r.Description != "" {
			roles[i].Description = r.Description
		}
		// An empty list is a word of its own: no permission at all.
		if r.Permissions != nil {
			roles[i].Permissions = r.Permissions
		}
	}
	return roles
}

// isBuiltInRole tells the roles that every profile has.
func isBuiltInRole(name string) bool {
	return name == RoleAdmin || name == RoleDeveloper || name == RoleViewer
}
