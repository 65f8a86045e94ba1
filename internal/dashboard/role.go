package dashboard

import (
	"net/http"
	"slices"
	"strings"

	"github.com/keystile/keystile"
)

// rolesPage is the list of a workspace's roles.
type rolesPage struct {
	Roles      []roleRow
	NextCursor string
	MayCreate  bool
}

// roleRow is a role with what the reader may do to it.
type roleRow struct {
	keystile.Role

	MayEdit, MayDelete bool
}

func (v *visit) listRoles() error {
	list, err := v.keyring().Roles(v.r.Context(), v.actor, v.workspace.ID, v.r.URL.Query().Get("cursor"), 0)
	if err != nil {
		return err
	}
	page := rolesPage{NextCursor: list.NextCursor, MayCreate: v.actor.May("api.role.create")}
	for _, r := range list.Data {
		own := !r.BuiltIn && v.actor.MayGive(r.Permissions)
		page.Roles = append(page.Roles, roleRow{r, own && v.actor.May("api.role.update"), own && v.actor.May("api.role.delete")})
	}
	v.show(http.StatusOK, "roles", v.door.Profile.Word("roles_title"), page)
	return nil
}

// role is the role of this workspace that the path names.
func (v *visit) role() (keystile.Role, error) {
	r, err := v.keyring().Role(v.r.Context(), v.actor, v.r.PathValue("role"))
	if err != nil {
		return r, err
	}
	if r.BuiltIn {
		return r, keystile.NewError(keystile.CodeConflict, "The role "+v.roleTitle(r.Name)+" is built in, so it can't be changed or deleted here.",
			"Create a role of the workspace's own with the permissions that you want.")
	}
	if r.WorkspaceID != v.workspace.ID { // an operator sees them all
		return keystile.Role{}, unknownPage()
	}
	return r, nil
}

// rolePage is the form of a role.
type rolePage struct {
	Role        keystile.Role // with an ID when there is one already
	Name        string
	Description string
	Groups      []permissionGroup
	Nonce       string
	Problem     *keystile.Error
}

// permissionGroup is a part of the permission picker.
type permissionGroup struct {
	Title string
	Items []permissionItem
}

type permissionItem struct {
	Name, Description string
	Checked, Disabled bool
}

// permissionGroups is the catalogue as a picker: each branch begins with all
// of it. Only what the reader holds can be ticked.
func (v *visit) permissionGroups(chosen keystile.Permissions) []permissionGroup {
	var groups []permissionGroup
	left := slices.Clone(chosen)
	add := func(title, name, description string) {
		i := slices.IndexFunc(groups, func(g permissionGroup) bool { return g.Title == title })
		if i < 0 {
			groups = append(groups, permissionGroup{Title: title})
			i = len(groups) - 1
		}
		if slices.ContainsFunc(groups[i].Items, func(p permissionItem) bool { return p.Name == name }) {
			return
		}
		groups[i].Items = append(groups[i].Items, permissionItem{
			Name: name, Description: description, Checked: slices.Contains(chosen, name), Disabled: !v.actor.MayGive(keystile.Permissions{name}),
		})
		left = slices.DeleteFunc(left, func(p string) bool { return p == name })
	}
	product := v.door.Profile.Product
	add(product, "*", "Everything in "+product+", also what it learns later")
	for _, p := range v.door.Profile.Permissions {
		if branch, _, ok := strings.Cut(p.Name, "."); ok {
			add(product, branch+".*", "All that begins with "+branch)
		}
		add(product, p.Name, p.Description)
	}
	const everything = "All management"
	add(everything, "api.*", "Everything in the management of the workspace")
	for _, p := range v.door.Profile.PermissionCatalogue() {
		rest, ok := strings.CutPrefix(p.Name, keystile.ManagementPrefix)
		if !ok {
			continue
		}
		noun, _, _ := strings.Cut(rest, ".")
		title := v.managed(noun)
		if v.actions(noun) > 1 {
			add(title, keystile.ManagementPrefix+noun+".*", "All of these")
		}
		add(title, p.Name, p.Description)
	}
	for _, p := range slices.Clone(left) {
		add("Others", p, "")
	}
	return groups
}

// permissionMeaning says what a permission with a star lets one do, in words;
// "" for one without.
func (d *Dashboard) permissionMeaning(name string) string {
	switch branch, star := strings.CutSuffix(name, "*"); {
	case !star:
		return ""
	case branch == "":
		return "everything in " + d.door.Profile.Product
	case branch == keystile.ManagementPrefix:
		return "all management of the workspace"
	case strings.HasPrefix(branch, keystile.ManagementPrefix):
		return "all of " + d.managed(strings.TrimSuffix(strings.TrimPrefix(branch, keystile.ManagementPrefix), "."))
	case branch == "platform.":
		return "everything that the operator may"
	default:
		return "all that begins with " + branch
	}
}

// managed is what pages call a noun of the management permissions.
func (d *Dashboard) managed(noun string) string {
	word := d.door.Profile.Word
	names := map[string]string{
		"key": word("keys_title"), "webhook_secret": word("secrets_title"), "endpoint": "Endpoints", "role": word("roles_title"),
		"member": word("members_title"), "workspace": word("settings_title"), "audit": word("audit_title"), "usage": word("usage_title"),
	}
	if name, ok := names[noun]; ok {
		return name
	}
	return noun
}

// actions counts the management permissions of a noun.
func (v *visit) actions(noun string) (n int) {
	for _, p := range v.door.Profile.PermissionCatalogue() {
		if strings.HasPrefix(p.Name, keystile.ManagementPrefix+noun+".") {
			n++
		}
	}
	return n
}

func (v *visit) newRole() error { return v.roleForm(rolePage{Nonce: newNonce()}, nil) }

func (v *visit) editRole() error {
	r, err := v.role()
	if err != nil {
		return err
	}
	return v.roleForm(rolePage{Role: r, Name: r.Name, Description: r.Description}, r.Permissions)
}

func (v *visit) roleForm(page rolePage, chosen keystile.Permissions) error {
	title := "Create role"
	if page.Role.ID != "" {
		title = "Edit role " + page.Role.Name
	}
	page.Groups = v.permissionGroups(chosen)
	v.show(statusOf(page.Problem), "role_form", title, page)
	return nil
}

// maxTicks bounds how many permissions a form may name: each is compared with
// each. It is more than the keyring takes for a role or a key.
const maxTicks = 400

// rolePosted reads the form of a role.
func (v *visit) rolePosted() (name, description string, permissions keystile.Permissions) {
	name, description = v.r.PostFormValue("name"), v.r.PostFormValue("description")
	ticked := v.r.PostForm["permission"] //nolint:forbidigo // the form's fields, not the function of that name
	if len(ticked) > maxTicks {          // no browser with our form; the keyring refuses so many
		return name, description, ticked[:maxTicks]
	}
	for _, p := range ticked { // what another tick has in it says nothing more
		if !slices.ContainsFunc(ticked, func(q string) bool { return q != p && keystile.Permissions{q}.Allow(p) }) {
			permissions = append(permissions, p)
		}
	}
	return name, description, permissions
}

func (v *visit) createRole() error {
	name, description, permissions := v.rolePosted()
	_, _, err := v.keyring().CreateRole(v.r.Context(), v.actor, v.workspace.ID,
		keystile.CreateRole{Name: name, Description: description, Permissions: permissions}, v.once())
	if problem := v.correctable(err); problem != nil {
		return v.roleForm(rolePage{Name: name, Description: description, Nonce: newNonce(), Problem: problem}, permissions)
	} else if err != nil {
		return err
	}
	return v.to(v.base() + "/roles?done=created")
}

func (v *visit) updateRole() error {
	r, err := v.role()
	if err != nil {
		return err
	}
	name, description, permissions := v.rolePosted()
	_, err = v.keyring().UpdateRole(v.r.Context(), v.actor, r.ID,
		keystile.RolePatch{Name: &name, Description: &description, Permissions: &permissions})
	if problem := v.correctable(err); problem != nil {
		return v.roleForm(rolePage{Role: r, Name: name, Description: description, Problem: problem}, permissions)
	} else if err != nil {
		return err
	}
	return v.to(v.base() + "/roles?done=saved")
}

func (v *visit) endingRole() error {
	r, err := v.role()
	if err != nil {
		return err
	}
	return v.endRoleForm(r, nil)
}

func (v *visit) endRoleForm(r keystile.Role, problem *keystile.Error) error {
	v.show(statusOf(problem), "role_delete", "Delete role "+r.Name, rolePage{Role: r, Problem: problem})
	return nil
}

func (v *visit) deleteRole() error {
	r, err := v.role()
	if err != nil {
		return err
	}
	err = v.keyring().DeleteRole(v.r.Context(), v.actor, r.ID)
	if problem := v.correctable(err); problem != nil {
		return v.endRoleForm(r, problem)
	} else if err != nil {
		return err
	}
	return v.to(v.base() + "/roles?done=deleted")
}
