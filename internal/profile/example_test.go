package profile_test

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
)

// load reads one of the five profiles that are shipped.
func load(t *testing.T, name string) *profile.Profile {
	t.Helper()
	p, err := profile.Load("../../examples/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// row is what one row of the requirements asks of a profile.
type row struct {
	id        string
	got, want any
}

func check(t *testing.T, rows []row) {
	for _, r := range rows {
		t.Run(r.id, func(t *testing.T) {
			if !reflect.DeepEqual(r.got, r.want) {
				t.Errorf("got %v, want %v", r.got, r.want)
			}
		})
	}
}

// words returns the wording called each of names.
func words(p *profile.Profile, names ...string) []string {
	var all []string
	for _, n := range names {
		all = append(all, p.Word(n))
	}
	return all
}

// columnHeaders returns the headers of the list's columns, from the left.
func columnHeaders(p *profile.Profile) []string {
	var all []string
	for _, c := range p.Columns {
		all = append(all, p.Word("column_"+c))
	}
	return all
}

// managers returns the roles that carry a management permission.
func managers(p *profile.Profile) []string {
	var names []string
	for _, r := range p.Roles {
		if len(r.Permissions.Managing()) > 0 {
			names = append(names, r.Name)
		}
	}
	return names
}

func rotation(p *profile.Profile) string {
	var all []string
	for _, e := range p.Environments {
		all = append(all, fmt.Sprintf("%s:%s:%d", e.Name, e.Marker, p.RotateEvery(e.Name)/day))
	}
	return strings.Join(all, " ")
}

func TestProfileVoqo(t *testing.T) {
	p := load(t, "voqo")
	check(t, []row{
		{"VQ1_who_reaches_developer_tools", managers(p), []string{"admin", "developer"}},
		{"VQ1_menu", p.Word("menu"), "Developer Tools"},
		{"VQ2_section", words(p, "keys_title", "name_label"), []string{"API keys", "Usage label"}},
		{"VQ3_section", p.Word("secrets_title"), "Webhook secrets"},
		{"VQ3_environments", rotation(p), "production::90 staging::180 development::180"},
		{"VQ5_reasons", p.Keys.Reasons, []string{keystile.ReasonUnneeded, keystile.ReasonOwnershipChanged, keystile.ReasonExposureSuspected}},
		{"VQ5_in_words", words(p, "reason_unneeded", "reason_ownership_changed", "reason_exposure_suspected"), []string{"No longer needed", "Ownership changed", "Exposure suspected"}},
		{"VQ5_kept", p.Keys.Revoke, profile.RevokeKeep},
		{"VQ6_header", p.ShowHeader, "Authorization"},
		{"VQ6_title", p.Unauthorized, "Unauthorized"},
		{"VQ8_support", p.Branding.SupportEmail, "support@voqo.ai"},
		{"VQ9_idle", p.Keys.IdleAfter, 30 * day},
		{"VQ10_plans", planNames(p), []string{"starter", "growth", "enterprise"}},
		{"prefix", p.Prefix, "vq"},
	})
}

func TestProfileVoxum(t *testing.T) {
	p := load(t, "voxum")
	check(t, []row{
		{"VX1_menu_and_buttons", words(p, "menu", "keys_title", "create_button", "create_button_more", "revoke_button"), []string{"API Keys", "API Keys", "Create API Key", "Create API Key", "Revoke"}},
		{"VX2_advice", strings.Contains(p.Word("name_hint"), "descriptive name"), true},
		{"VX3_prefix", p.Prefix, "vx"},
		{"VX4_columns", columnHeaders(p)[:5], []string{"Name", "Key preview", "Created", "Last used", "Status"}},
		{"VX4_preview", p.Preview, keystile.PreviewFirst},
		{"VX4_statuses", words(p, "status_active", "status_revoked"), []string{"Active", "Revoked"}},
		{"VX5_kept", p.Keys.Revoke, profile.RevokeKeep},
		{"VX5_no_deleting", p.Keys.Delete, false},
		{"VX6_header", p.Headers, []string{"X-API-Key"}},
		{"VX6_shown_header", p.ShowHeader, "X-API-Key"},
		{"VX6_title", p.Unauthorized, "Unauthorized"},
		{"VX7_limited_permissions", defaultRole(p).Permissions.Allow("inventory.write") && !defaultRole(p).Permissions.Allow("conversations.read"), true},
		{"VX7_idle", p.Keys.IdleAfter, 60 * day},
		{"no_environments", p.DefaultEnvironment(), ""},
	})
}

func TestProfileIPAware(t *testing.T) {
	p := load(t, "ipaware")
	var limits []int
	for _, l := range p.Plans {
		limits = append(limits, l.Limits.ActiveKeys)
	}
	check(t, []row{
		{"IP2_create", words(p, "keys_title", "create_button", "create_button_more", "name_label", "role_label", "create_submit", "copied_button"),
			[]string{"API Keys", "+ Create New Key", "+ Create New Key", "Key Name", "Role", "Create", "I have copied it"}},
		{"IP3_columns", columnHeaders(p), []string{"Name", "Key ID", "Role", "Created", "Status", "Actions"}},
		{"IP3_actions", words(p, "edit_button", "revoke_button", "status_active"), []string{"Edit", "Revoke", "Active"}},
		{"IP4_edit", p.Word("save_button"), "Save Changes"},
		{"IP5_revoke", words(p, "revoke_warning", "revoke_confirm"), []string{"Applications using this key will stop working", "Revoke Key"}},
		{"IP5_leaves_the_table", p.Keys.Revoke, profile.RevokeHide},
		{"IP5_audit_log_keeps_it", p.Retention.Audit, 400 * day},
		{"IP6_custom_roles", p.Plans[0].Limits.CustomRoles > 0, true},
		{"IP7_permissions", p.PermissionKnown("api.key.create") && p.PermissionKnown("api.key.update") && p.PermissionKnown("api.key.delete") && p.PermissionKnown("api.key.view"), true},
		{"IP9_limits", limits, []int{5, 50, profile.NoLimit}},
		{"IP9_default_plan", p.DefaultPlan, "free"},
		{"IP10_rotation", rotation(p), "production::90 staging::180 development::180"},
		{"IP12_title", p.Unauthorized, "Invalid API Key"},
		{"IP12_header", p.ShowHeader, "Authorization"},
		{"IP14_reason", slices.Contains(p.Keys.Reasons, keystile.ReasonExposureSuspected), true},
		{"IP15_quarterly", p.Keys.ReviewEvery, 90 * day},
	})
}

func TestProfileVozAgent(t *testing.T) {
	p := load(t, "vozagent")
	check(t, []row{
		{"VZ1_menu_and_tab", words(p, "menu", "keys_title", "empty_title"), []string{"Integrations", "API Keys", "No API Keys Yet"}},
		{"VZ2_create", words(p, "create_button", "create_button_more", "create_submit", "name_label", "description_label"), []string{"Create API Key", "Create New API Key", "Create API Key", "Name", "Description"}},
		{"VZ3_prefix", p.Prefix, "gw"},
		{"VZ3_done", p.Word("copied_button"), "Done"},
		{"VZ4_columns", columnHeaders(p), []string{"Name", "Key", "Created", "Actions"}},
		{"VZ4_preview", p.Preview, keystile.PreviewLast},
		{"VZ5_title", p.Unauthorized, "Authentication failed"},
		{"VZ6_deleting_alone", []any{p.Keys.Delete, p.Keys.Revoke}, []any{true, profile.RevokeOff}},
		{"VZ6_confirm", p.Word("delete_confirm"), "Delete"},
		{"VZ7_zapier", p.ThirdParties, []string{"zapier"}},
		{"VZ7_page", p.Word("third_parties_title"), "Third Parties"},
		{"no_environments", p.DefaultEnvironment(), ""},
	})
}

func TestProfileTenant(t *testing.T) {
	p := load(t, "tenant")
	var markers []string
	for _, e := range p.Environments {
		secret, err := p.Format().Mint(e.Marker)
		if err != nil {
			t.Fatal(err)
		}
		markers = append(markers, p.Format().Marker(secret))
	}
	check(t, []row{
		{"TN1_page", p.Word("keys_title"), "API Keys"},
		{"TN2_overlap", p.Keys.MaxOverlap, 30 * day},
		{"TN3_title", p.Unauthorized, "Unauthorized"},
		{"TN4_environments", rotation(p), "development:dev:180 staging:stage:180 production:prod:90"},
		{"TN4_told_by_the_key", markers, []string{"dev", "stage", "prod"}},
		{"TN5_quiet_moment", strings.Contains(p.Word("revoke_warning"), "recent calls"), true},
		{"revoke", []any{p.Keys.Revoke, p.Keys.Delete}, []any{profile.RevokeKeep, false}},
	})
}

func planNames(p *profile.Profile) []string {
	var names []string
	for _, l := range p.Plans {
		names = append(names, l.Name)
	}
	return names
}

func defaultRole(p *profile.Profile) profile.Role {
	r, _ := p.Role(p.DefaultRole)
	return r
}

// In every shipped profile admins and developers can create a key without
// naming a role: they cover the default role, and it manages nothing.
func TestProfileDefaultRole(t *testing.T) {
	profiles := []*profile.Profile{profile.Default()}
	for _, name := range []string{"voqo", "voxum", "ipaware", "vozagent", "tenant"} {
		profiles = append(profiles, load(t, name))
	}
	for _, p := range profiles {
		t.Run(p.Product, func(t *testing.T) {
			handed := defaultRole(p).Permissions
			if len(handed) == 0 || len(handed.Managing()) > 0 {
				t.Errorf("default role %s carries %v", p.DefaultRole, handed)
			}
			for _, name := range []string{"admin", "developer"} {
				r, _ := p.Role(name)
				if !r.Permissions.Allow("api.key.create") || !r.Permissions.Cover(handed) {
					t.Errorf("%s carries %v, and cannot hand out %v", name, r.Permissions, handed)
				}
			}
			admin, _ := p.Role("admin")
			for _, r := range p.Roles {
				if !admin.Permissions.Cover(r.Permissions) {
					t.Errorf("admin cannot hand out %s", r.Name)
				}
			}
		})
	}
}

// The page on configuration names every field, gives every word's default,
// and its examples are profiles.
func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	seen := 0
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := f.Tag.Get("yaml")
			if name == "" {
				if f.IsExported() {
					t.Errorf("%s.%s has no name in the file", typ, f.Name)
				}
				continue
			}
			seen++
			if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "."+name+"`") && !strings.Contains(page, "`"+name+".") {
				t.Errorf("field %s%s is not documented", path, name)
			}
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				walk(path+name+".", inner)
			}
		}
	}
	walk("", reflect.TypeFor[profile.Profile]())
	if seen < 50 {
		t.Errorf("only %d fields found", seen)
	}
	def := profile.Default()
	for _, name := range def.WordNames() {
		if !strings.Contains(page, "| `"+name+"` | "+def.Word(name)+" |") {
			t.Errorf("word %s (%s) is not documented", name, def.Word(name))
		}
	}
	blocks := strings.Split(page, "```yaml\n")[1:]
	if len(blocks) < 8 {
		t.Errorf("only %d examples found", len(blocks))
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		for _, field := range []string{"product", "prefix"} {
			if !strings.HasPrefix(text, field+":") && !strings.Contains(text, "\n"+field+":") {
				text += field + ": example\n"
			}
		}
		if _, err := profile.Parse("docs/configuration.md", []byte(text)); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
