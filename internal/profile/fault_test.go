package profile_test

import (
	"strings"
	"testing"

	"github.com/keystile/keystile/internal/profile"
)

type fault struct{ name, text, want string }

// faults are profiles that are refused, and the whole line that says so.
func faults() []fault {
	return []fault{
		// What is not YAML, or not one profile.
		{"empty", "", `bad.yaml:1: the file is empty; a profile needs at least product and prefix`},
		{"comments alone", "# product: Voxum\n", `bad.yaml:1: the file is empty; a profile needs at least product and prefix`},
		{"not YAML", least + "words: {menu: 'Keys}\n", `bad.yaml:3: not YAML: could not find end character of single-quoted text; check indentation, colons and quotes here`},
		{"indented too far", "product: Voxum\n  prefix: vx\n", `bad.yaml:1: not YAML: mapping value is not allowed in this context; check indentation, colons and quotes here`},
		{"not UTF-8", least + "words:\n  menu: \xff\n", `bad.yaml:4: not UTF-8 text; save the file as UTF-8`},
		{"two documents", least + "---\nproduct: Voqo\n", `bad.yaml:4: a second document begins here; put one profile in a file`},
		{"a list", "- product\n", `bad.yaml:1: must be a mapping of names to values, not a list`},
		{"too deep", least + "words: [[[[[[[[[x]]]]]]]]]\n", `bad.yaml:3: lists and mappings within each other more than 8 deep; a profile needs four`},
		{"anchor", least + "headers: &h [X-API-Key]\n", `bad.yaml:3: headers: anchors, aliases and tags (&) are not taken; write the value out`},
		{"alias", least + "words:\n  menu: &m Keys\n", `bad.yaml:4: words.menu: anchors, aliases and tags (&) are not taken; write the value out`},
		{"tag", "product: !!str 5\n", `bad.yaml:1: product: anchors, aliases and tags (!!str) are not taken; write the value out`},
		{"merge", least + "keys:\n  <<: {delete: true}\n", `bad.yaml:4: keys: "<<" is no field; a field is a plain name, a colon and a value`},
		{"number for a name", "5: x\n", `bad.yaml:1: "5" is no field; a field is a plain name, a colon and a value`},

		// Fields that are not, or twice, or of another type.
		{"unknown field", "product: Voxum\nprefx: vx\n", `bad.yaml:2: prefx: unknown field; did you mean "prefix"?`},
		{"swapped letters", least + "palns: []\n", `bad.yaml:3: palns: unknown field; did you mean "plans"?`},
		{"unknown field within", least + "roles:\n  - name: a\n    permisions: []\n", `bad.yaml:5: roles[0].permisions: unknown field; did you mean "permissions"?`},
		{"unlike any field", least + "keys:\n  colour: red\n", `bad.yaml:4: keys.colour: unknown field; the fields here are delete, disable, idle_after, max_overlap, reasons, review_every, revoke, rotate_every`},
		{"field with a line break", least + "\"a\\nb\": c\n", `bad.yaml:3: "a\nb": unknown field; the fields here are actions, alerts, branding, columns, default_plan, default_role, endpoints, environments, headers, keys, permissions, plans, prefix, preview, product, retention, roles, show_header, sign_in, third_parties, unauthorized, webhook_secrets, words`},
		{"field twice", least + "preview: first\nproduct: Voqo\n", `bad.yaml:4: product: given twice, first on line 1; keep one`},
		{"field twice, quoted", least + "\"prefix\": vy\n", `bad.yaml:3: prefix: given twice, first on line 2; keep one`},
		{"word twice", least + "words:\n  menu: A\n  menu: B\n", `bad.yaml:5: words.menu: given twice, first on line 4; keep one`},
		{"number for text", "product: 5\nprefix: vx\n", `bad.yaml:1: product: must be text, not the number 5; put it in quotes: "5"`},
		{"true for text", "product: true\nprefix: vx\n", `bad.yaml:1: product: must be text, not true; put it in quotes: "true"`},
		{"list for text", "product: [Voxum]\nprefix: vx\n", `bad.yaml:1: product: must be text, not a list`},
		{"text for a list", least + "headers: X-API-Key\n", `bad.yaml:3: headers: must be a list, not "X-API-Key"; begin each entry with a dash`},
		{"mapping for a list", least + "plans:\n  free: {}\n", `bad.yaml:3: plans: must be a list, not a mapping; begin each entry with a dash`},
		{"text for a mapping", least + "keys: keep\n", `bad.yaml:3: keys: must be a mapping of names to values, not "keep"`},
		{"yes for true", least + "keys:\n  delete: yes\n", `bad.yaml:4: keys.delete: must be true or false, not "yes"`},
		{"nothing", least + "plans:\n", `bad.yaml:3: plans: has no value; give one (in quotes if it begins with #), or take the line out`},
		{"two lines", "product: \"Vo\\nxum\"\nprefix: vx\n", `bad.yaml:1: product: must be one line without control characters, not "Vo\nxum"`},
		{"escape sequence", "product: \"Vo\\e[31mxum\"\nprefix: vx\n", `bad.yaml:1: product: must be one line without control characters, not "Vo\x1b[31mxum"`},
		{"text too long", least + "words:\n  menu: " + strings.Repeat("é", 501) + "\n", `bad.yaml:4: words.menu: has more than 500 characters; shorten it`},
		{"list too long", least + "headers: [" + strings.Repeat("a, ", 501) + "]\n", `bad.yaml:3: headers: has more than 500 entries; remove some`},
		{"entry twice", least + "headers:\n  - X-API-Key\n  - X-API-Key\n", `bad.yaml:5: headers: "X-API-Key" is given twice; keep one`},
		{"empty entry", least + "columns: [name, '']\n", `bad.yaml:3: columns[1]: empty; give it a value, or take the entry out`},

		// Alerts.
		{"stages the wrong way", least + "alerts:\n  expiring:\n    - 1d\n    - 7d\n", `bad.yaml:6: alerts.expiring: not shorter than the one before; begin with the longest: [30d, 7d, 1d]`},
		{"stage twice", least + "alerts: {expiring: [7d, 7d]}\n", `bad.yaml:3: alerts.expiring: not shorter than the one before; begin with the longest: [30d, 7d, 1d]`},
		{"stage of minutes", least + "alerts: {expiring: [30m]}\n", `bad.yaml:3: alerts.expiring: not from 1h to 365d; [30d, 7d, 1d] is usual`},
		{"stage that is none", least + "alerts: {expiring: [soon]}\n", `bad.yaml:3: alerts.expiring[0]: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not "soon"`},
		{"too many stages", least + "alerts: {expiring: [60d, 30d, 14d, 7d, 2d, 1d]}\n", `bad.yaml:3: alerts.expiring: more than 5 entries, which nobody reads any more; remove some`},
		{"notice too short", least + "alerts: {notice: 7m}\n", `bad.yaml:3: alerts.notice: less than 1d, so people would miss it; 7d is usual`},
		{"window too short", least + "alerts: {failure_window: 5s}\n", `bad.yaml:3: alerts.failure_window: not from 1m to 1h; 5m is usual`},
		{"window too long", least + "alerts: {failure_window: 2h}\n", `bad.yaml:3: alerts.failure_window: not from 1m to 1h; 5m is usual`},
		{"factor of one", least + "alerts: {failure_factor: 1}\n", `bad.yaml:3: alerts.failure_factor: not from 2 to 1000; 5 is usual`},
		{"floor below nothing", least + "alerts: {failure_floor: -1}\n", `bad.yaml:3: alerts.failure_floor: must be a whole number from 0 to 1000000000, not the number -1`},
		{"alert that is none", least + "alerts: {expring: [7d]}\n", `bad.yaml:3: alerts.expring: unknown field; did you mean "expiring"?`},
		{"retention of alerts in minutes", least + "retention: {alerts: 90m}\n", `bad.yaml:3: retention.alerts: 1h30m0s is less than a day; write days as "90d" (m is minutes), or 0 for none`},

		// Product and branding.
		{"no product", "prefix: vx\n", `bad.yaml:1: product: missing; say what people call the product, such as product: Voxum`},
		{"product too long", "product: " + strings.Repeat("x", 61) + "\nprefix: vx\n", `bad.yaml:1: product: has 61 characters; shorten it to 60`},
		{"colour by name", least + "branding:\n  colour: red\n", `bad.yaml:4: branding.colour: "red" is no colour; write # and six hexadecimal digits, in quotes: "#4f46e5"`},
		{"colour of three digits", least + "branding: {colour: \"#abc\"}\n", `bad.yaml:3: branding.colour: "#abc" is no colour; write # and six hexadecimal digits, in quotes: "#4f46e5"`},
		{"colour that breaks out", least + "branding: {colour: \"#abcde;\"}\n", `bad.yaml:3: branding.colour: "#abcde;" is no colour; write # and six hexadecimal digits, in quotes: "#4f46e5"`},
		{"colour unquoted", least + "branding:\n  colour: #abcdef\n", `bad.yaml:4: branding.colour: has no value; give one (in quotes if it begins with #), or take the line out`},
		{"logo by http", least + "branding: {logo: \"http://a/b.svg\"}\n", `bad.yaml:3: branding.logo: "http://a/b.svg" is no place for a logo; give an address that begins with https:// or a path that begins with /`},
		{"logo of another host", least + "branding: {logo: //a/b.svg}\n", `bad.yaml:3: branding.logo: "//a/b.svg" is no place for a logo; give an address that begins with https:// or a path that begins with /`},
		{"logo that runs", least + "branding: {logo: \"javascript:x\"}\n", `bad.yaml:3: branding.logo: "javascript:x" is no place for a logo; give an address that begins with https:// or a path that begins with /`},
		{"support address", least + "branding: {support_email: support}\n", `bad.yaml:3: branding.support_email: "support" is no e-mail address; write it like support@example.com`},
		{"documentation address", least + "branding: {docs_url: \"javascript:x\"}\n", `bad.yaml:3: branding.docs_url: "javascript:x" is no address; write it like https://docs.example.com/`},

		// Headers.
		{"no headers", least + "headers: []\n", `bad.yaml:3: headers: empty, so no key could be presented; name Authorization, X-API-Key or both`},
		{"unknown header", least + "headers:\n  - X-Api-Keys\n", `bad.yaml:4: headers: keys cannot come in "X-Api-Keys"; did you mean "X-API-Key"?`},
		{"another header", least + "headers: [Cookie]\n", `bad.yaml:3: headers: keys cannot come in "Cookie"; the headers are Authorization, X-API-Key`},
		{"shown header not taken", least + "headers: [X-API-Key]\nshow_header: Authorization\n", `bad.yaml:4: show_header: "Authorization" is not one of headers; show one that is taken: X-API-Key`},
		{"no title of a 401", least + "unauthorized: ''\n", `bad.yaml:3: unauthorized: empty; give the title of a 401, such as "Unauthorized", or take the line out`},

		// The form of keys.
		{"no prefix", "product: Voxum\n", `bad.yaml:1: prefix: missing; every key begins with it, for ever, such as prefix: vx`},
		{"prefix with underscore", "product: Voxum\nprefix: vx_\n", `bad.yaml:2: prefix: key prefix "vx_": use a letter a-z followed by letters a-z and digits`},
		{"reserved prefix", "product: Voxum\nprefix: whsec\n", `bad.yaml:2: prefix: key prefix "whsec" is reserved, since keys could be taken for something else: choose another`},
		{"prefix too long", "product: Voxum\nprefix: abcdefghijklmnop\n", `bad.yaml:2: prefix: key prefix "abcdefghijklmnop" makes keys longer than 55 bytes: shorten it by 1`},
		{"prefix and marker too long", "product: Voxum\nprefix: abcdefgh\nenvironments:\n  - name: test\n  - name: live\n    marker: abcdefg\n", `bad.yaml:6: environments[1].marker: key prefix "abcdefgh" and environment marker "abcdefg" make keys longer than 55 bytes: shorten them by 1`},
		{"marker of two words", least + "environments: [{name: live, marker: a_b}]\n", `bad.yaml:3: environments[0].marker: environment marker "a_b": use a letter a-z followed by letters a-z and digits`},
		{"marker twice", least + "environments:\n  - {name: a, marker: x}\n  - {name: b, marker: x}\n", `bad.yaml:5: environments[1].marker: environment marker "x" is given twice: a marker must tell one environment`},
		{"preview", least + "preview: both\n", `bad.yaml:3: preview: unknown value "both"; it can be first, last`},
		{"preview mistyped", least + "preview: lats\n", `bad.yaml:3: preview: unknown value "lats"; did you mean "last"?`},

		// Environments.
		{"environment without name", least + "environments:\n  - title: Live\n", `bad.yaml:4: environments[0].name: missing; give it a name of letters a-z, digits, - and _`},
		{"environment by title", least + "environments: [{name: Live}]\n", `bad.yaml:3: environments[0].name: "Live" is no name; use a letter a-z, then letters a-z, digits, - and _ (a title may be anything)`},
		{"environment with a long name", least + "environments: [{name: " + strings.Repeat("a", 33) + "}]\n", `bad.yaml:3: environments[0].name: has more than 32 characters; shorten it`},
		{"environment twice", least + "environments:\n  - name: live\n  - name: live\n", `bad.yaml:5: environments[1].name: "live" is already the name of environments[0] on line 4; choose another`},

		// Permissions.
		{"permission without name", least + "permissions: [{description: Write}]\n", `bad.yaml:3: permissions[0].name: missing; give the permission a name, such as inventory.write`},
		{"permission with a wildcard", least + "permissions: [{name: inventory.*}]\n", `bad.yaml:3: permissions[0].name: "inventory.*" is no permission; write words of a-z, 0-9, - and _ with dots between, such as inventory.write`},
		{"permission of management", least + "permissions:\n  - name: api.key.view\n", `bad.yaml:4: permissions[0].name: "api.key.view" begins with api. or platform., which are Keystile's own; choose another first word`},
		{"permission of the platform", least + "permissions: [{name: platform}]\n", `bad.yaml:3: permissions[0].name: "platform" begins with api. or platform., which are Keystile's own; choose another first word`},
		{"permission twice", least + "permissions:\n  - name: a\n  - name: a\n", `bad.yaml:5: permissions[1].name: "a" is already the name of permissions[0] on line 4; choose another`},

		// Roles.
		{"role twice", least + "roles:\n  - name: a\n    permissions: []\n  - name: a\n    permissions: []\n", `bad.yaml:6: roles[1].name: "a" is already the name of roles[0] on line 4; choose another`},
		{"built-in role twice", least + "roles:\n  - name: admin\n  - name: admin\n", `bad.yaml:5: roles[1].name: "admin" is already the name of roles[0] on line 4; choose another`},
		{"role of the operator", least + "roles: [{name: operator, permissions: []}]\n", `bad.yaml:3: roles[0].name: "operator" is a role of the operator's workspace; choose another name`},
		{"role with a long name", least + "roles: [{name: " + strings.Repeat("a", 25) + "}]\n", `bad.yaml:3: roles[0].name: has more than 24 characters; shorten it`},
		{"role without permissions", least + "roles:\n  - name: a\n", `bad.yaml:4: roles[0].permissions: missing; list what the role may do, or [] for nothing`},
		{"unknown permission", least + "permissions: [{name: inventory.write}]\nroles:\n  - name: a\n    permissions:\n      - '*'\n      - inventry.write\n", `bad.yaml:8: roles[0].permissions: unknown permission "inventry.write"; did you mean "inventory.write"?`},
		{"unknown branch", least + "permissions: [{name: inventory.write}]\nroles: [{name: a, permissions: [inventry.*]}]\n", `bad.yaml:4: roles[0].permissions: unknown permission "inventry.*"; did you mean "inventory.*"?`},
		{"unknown management permission", least + "roles: [{name: a, permissions: [api.key.veiw]}]\n", `bad.yaml:3: roles[0].permissions: unknown permission "api.key.veiw"; did you mean "api.key.view"?`},
		{"permission of another product", least + "roles: [{name: a, permissions: [refund]}]\n", `bad.yaml:3: roles[0].permissions: unknown permission "refund"; list it under permissions, or remove it here`},
		{"power over all workspaces", least + "roles: [{name: a, permissions: [platform.verify]}]\n", `bad.yaml:3: roles[0].permissions: "platform.verify" is for the operator's own roles alone; remove it`},
		{"no default role", least + "roles: [{name: viewer}]\n", `bad.yaml:1: default_role: missing; new keys need a role beside admin, developer and viewer: add one to roles`},
		{"unknown default role", least + "default_role: servise\n", `bad.yaml:3: default_role: no role is named "servise"; did you mean "service"?`},
		{"managing default role", least + "default_role: developer\n", `bad.yaml:3: default_role: role "developer" carries the management permission "api.key.*"; name a role with product permissions alone`},
		{"managing first role", least + "roles: [{name: a, permissions: [api.key.view]}]\n", `bad.yaml:1: default_role: role "a" carries the management permission "api.key.view"; name a role with product permissions alone`},

		// Plans.
		{"no plans", least + "plans: []\n", `bad.yaml:3: plans: empty; every workspace has a plan: list one, or take the line out`},
		{"plan twice", least + "plans: [{name: a}, {name: a}]\n", `bad.yaml:3: plans[1].name: "a" is already the name of plans[0] on line 3; choose another`},
		{"unknown default plan", least + "plans: [{name: free}, {name: pro}]\ndefault_plan: gold\n", `bad.yaml:4: default_plan: no plan is named "gold"; the plans are free, pro`},
		{"unknown limit", least + "plans:\n  - name: a\n    limits:\n      keys: 5\n", `bad.yaml:6: plans[0].limits.keys: unknown field; the fields here are active_keys, custom_roles, endpoints, members, webhook_secrets`},
		{"limit below zero", least + "plans: [{name: a, limits: {members: -1}}]\n", `bad.yaml:3: plans[0].limits.members: must be a whole number from 0 to 1000000000, not the number -1`},
		{"limit too large", least + "plans: [{name: a, limits: {members: 1000000001}}]\n", `bad.yaml:3: plans[0].limits.members: must be a whole number from 0 to 1000000000, not the number 1000000001`},
		{"limit with a fraction", least + "plans: [{name: a, limits: {members: 2.5}}]\n", `bad.yaml:3: plans[0].limits.members: must be a whole number from 0 to 1000000000, not the number 2.5`},
		{"limit in words", least + "plans: [{name: a, limits: {members: unlimited}}]\n", `bad.yaml:3: plans[0].limits.members: must be a whole number from 0 to 1000000000, not "unlimited"`},

		// Periods.
		{"no unit", least + "keys: {idle_after: 90}\n", `bad.yaml:3: keys.idle_after: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not the number 90`},
		{"unknown unit", least + "keys: {rotate_every: 3 months}\n", `bad.yaml:3: keys.rotate_every: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not "3 months"`},
		{"below zero", least + "keys: {rotate_every: -90d}\n", `bad.yaml:3: keys.rotate_every: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not "-90d"`},
		{"hours below zero", least + "keys: {rotate_every: -90h}\n", `bad.yaml:3: keys.rotate_every: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not "-90h"`},
		{"over a hundred years", least + "retention: {audit: 36501d}\n", `bad.yaml:3: retention.audit: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not "36501d"`},
		{"overflow", least + "retention: {audit: 36500d2562047h}\n", `bad.yaml:3: retention.audit: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not "36500d2562047h"`},
		{"empty", least + "retention: {audit: ''}\n", `bad.yaml:3: retention.audit: must be a duration such as "90d", "12h" or "1d12h", at most "36500d", not ""`},
		{"minutes for months", least + "keys:\n  rotate_every: 3m\n", `bad.yaml:4: keys.rotate_every: 3m0s is less than a day; write days as "90d" (m is minutes), or 0 for none`},
		{"minutes of an environment", least + "environments:\n  - name: a\n    rotate_every: 3m\n", `bad.yaml:5: environments[0].rotate_every: 3m0s is less than a day; write days as "90d" (m is minutes), or 0 for none`},
		{"retention of minutes", least + "retention: {usage: 90m}\n", `bad.yaml:3: retention.usage: 1h30m0s is less than a day; write days as "90d" (m is minutes), or 0 for none`},
		{"overlap too long", least + "keys: {max_overlap: 31d}\n", `bad.yaml:3: keys.max_overlap: longer than 30 days; a replaced key lives at most 30d beside the new one`},

		// Pages.
		{"revoke", least + "keys: {revoke: false}\n", `bad.yaml:3: keys.revoke: must be text, not false; put it in quotes: "false"`},
		{"revoke mistyped", least + "keys: {revoke: hid}\n", `bad.yaml:3: keys.revoke: unknown value "hid"; did you mean "hide"?`},
		{"no way to take away", least + "keys: {revoke: off}\n", `bad.yaml:3: keys.revoke: off while keys.delete is false, so nobody could take a key away; offer one of the two`},
		{"reason too long", least + "keys: {reasons: [" + strings.Repeat("x", 201) + "]}\n", `bad.yaml:3: keys.reasons: a reason has 201 characters; shorten it to 200`},
		{"unknown column", least + "columns: [name, key]\n", `bad.yaml:3: columns: unknown column "key"; the columns are actions, created, created_by, environment, expires, key_id, last_used, name, owner, preview, role, status`},
		{"column mistyped", least + "columns: [name, last_use]\n", `bad.yaml:3: columns: unknown column "last_use"; did you mean "last_used"?`},
		{"no name column", least + "columns: [key_id]\n", `bad.yaml:3: columns: without name, keys could not be told apart; add name`},
		{"unknown third party", least + "third_parties: [make]\n", `bad.yaml:3: third_parties: no page is known for "make"; the third parties are zapier`},
		{"word mistyped", least + "words:\n  menu: A\n  creat_button: New\n", `bad.yaml:5: words.creat_button: unknown word; did you mean "create_button"?`},
		{"unknown word", least + "words: {greeting: Hello}\n", `bad.yaml:3: words.greeting: unknown word; remove it, or use one of those in docs/configuration.md`},
		{"word with a line break", least + "words: {\"a\\nb\": Hello}\n", `bad.yaml:3: words."a\nb": unknown word; remove it, or use one of those in docs/configuration.md`},
		{"empty word", least + "words: {menu: ''}\n", `bad.yaml:3: words.menu: empty; give the wording, or take the line out`},
	}
}

func TestParseFaults(t *testing.T) {
	for _, c := range faults() {
		t.Run(c.name, func(t *testing.T) {
			p, err := profile.Parse("bad.yaml", []byte(c.text))
			if p != nil || err == nil {
				t.Fatalf("taken, want %s", c.want)
			}
			if err.Error() != c.want {
				t.Errorf("\ngot  %s\nwant %s", err, c.want)
			}
		})
	}
}
