package profile

import (
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keystile/keystile"
)

// check finds the first thing in p that cannot be meant, and completes what
// follows from the rest: titles, defaults, the key format.
func (f *file) check(p *Profile) error {
	for _, part := range []func(*Profile) error{
		f.checkProduct, f.checkHeaders, f.checkFormat,
		f.checkKeys, f.checkEnvironments, // an environment may go by the policy for all keys
		f.checkPermissions, f.checkRoles, // roles are made of permissions
		f.checkPlans, f.checkRetention, f.checkAlerts, f.checkSignIn, f.checkPages,
	} {
		if err := part(p); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) checkProduct(p *Profile) error {
	if p.Product == "" {
		return f.fault("product", "missing; say what people call the product, such as product: Voxum")
	}
	if err := f.atMost("product", p.Product, 60); err != nil {
		return err
	}
	b := p.Branding
	if !isColour(b.Colour) {
		return f.fault("branding.colour", "%s is no colour; write # and six hexadecimal digits, in quotes: \"#4f46e5\"", quote(b.Colour))
	}
	if b.Logo != "" && !isPath(b.Logo) && !isURL(b.Logo, "https") {
		return f.fault("branding.logo", "%s is no place for a logo; give an address that begins with https:// or a path that begins with /", quote(b.Logo))
	}
	if a, err := mail.ParseAddress(b.SupportEmail); b.SupportEmail != "" && (err != nil || a.Address != b.SupportEmail) {
		return f.fault("branding.support_email", "%s is no e-mail address; write it like support@example.com", quote(b.SupportEmail))
	}
	if b.DocsURL != "" && !isURL(b.DocsURL, "https") && !isURL(b.DocsURL, "http") {
		return f.fault("branding.docs_url", "%s is no address; write it like https://docs.example.com/", quote(b.DocsURL))
	}
	return nil
}

// headers are those that a product key can come in.
func headers() []string { return []string{"Authorization", "X-API-Key"} }

func (f *file) checkHeaders(p *Profile) error {
	if len(p.Headers) == 0 {
		return f.fault("headers", "empty, so no key could be presented; name Authorization, X-API-Key or both")
	}
	for i, h := range p.Headers {
		if !slices.Contains(headers(), h) {
			return f.faultAt(item("headers", i), "headers", "keys cannot come in %s; %s", quote(h), instead(h, headers(), "the headers are"))
		}
	}
	if p.ShowHeader == "" {
		p.ShowHeader = p.Headers[0]
	}
	if !slices.Contains(p.Headers, p.ShowHeader) {
		return f.fault("show_header", "%s is not one of headers; show one that is taken: %s", quote(p.ShowHeader), strings.Join(p.Headers, ", "))
	}
	if p.Unauthorized == "" {
		return f.fault("unauthorized", "empty; give the title of a 401, such as \"Unauthorized\", or take the line out")
	}
	return f.atMost("unauthorized", p.Unauthorized, 60)
}

// checkFormat holds prefix and markers against the rules of the key format,
// which the root package knows.
func (f *file) checkFormat(p *Profile) error {
	if p.Prefix == "" {
		return f.fault("prefix", "missing; every key begins with it, for ever, such as prefix: vx")
	}
	if _, err := keystile.NewFormat(p.Prefix); err != nil {
		return f.fault("prefix", "%v", err)
	}
	var markers []string
	for i, e := range p.Environments {
		if e.Marker == "" {
			continue
		}
		markers = append(markers, e.Marker)
		var err error
		if p.format, err = keystile.NewFormat(p.Prefix, markers...); err != nil {
			return f.fault(item("environments", i)+".marker", "%v", err)
		}
	}
	var err error
	p.format, err = keystile.NewFormat(p.Prefix, markers...)
	if err != nil {
		return f.fault("prefix", "%v", err)
	}
	return f.oneOf("preview", string(p.Preview), []string{string(keystile.PreviewFirst), string(keystile.PreviewLast)})
}

func (f *file) checkEnvironments(p *Profile) error {
	for i := range p.Environments {
		e, path := &p.Environments[i], item("environments", i)
		if err := f.checkName(path, e.Name, 32, i, func(j int) string { return p.Environments[j].Name }); err != nil {
			return err
		}
		e.Title = titleOr(e.Title, e.Name)
		if e.RotateEvery == unset {
			e.RotateEvery = p.Keys.RotateEvery
		}
		if err := f.aDay(path+".rotate_every", e.RotateEvery); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) checkPermissions(p *Profile) error {
	for i, own := range p.Permissions {
		path := item("permissions", i)
		at := path + ".name"
		switch {
		case own.Name == "":
			return f.fault(at, "missing; give the permission a name, such as inventory.write")
		case !isPermission(own.Name):
			return f.fault(at, "%s is no permission; write words of a-z, 0-9, - and _ with dots between, such as inventory.write", quote(own.Name))
		case strings.HasPrefix(own.Name+".", keystile.ManagementPrefix), strings.HasPrefix(own.Name+".", keystile.PlatformPrefix):
			return f.fault(at, "%s begins with api. or platform., which are Keystile's own; choose another first word", quote(own.Name))
		}
		for j := range i {
			if p.Permissions[j].Name == own.Name {
				return f.twice(at, own.Name, item("permissions", j))
			}
		}
	}
	p.names = p.permissionNames()
	return nil
}

func (f *file) checkRoles(p *Profile) error {
	var own string // the first role that is the profile's own
	for i, r := range p.Roles {
		path := item("roles", i)
		if r.Name == RoleOperator || r.Name == RoleVerifier {
			return f.fault(path+".name", "%s is a role of the operator's workspace; choose another name", quote(r.Name))
		}
		if err := f.checkName(path, r.Name, 24, i, func(j int) string { return p.Roles[j].Name }); err != nil {
			return err
		}
		if !isBuiltInRole(r.Name) {
			if own == "" {
				own = r.Name
			}
			if r.Permissions == nil {
				return f.fault(path+".permissions", "missing; list what the role may do, or [] for nothing")
			}
		}
		for j, pattern := range r.Permissions {
			at, path := item(path+".permissions", j), path+".permissions"
			if strings.HasPrefix(pattern, keystile.PlatformPrefix) {
				return f.faultAt(at, path, "%s is for the operator's own roles alone; remove it", quote(pattern))
			}
			if p.PermissionKnown(pattern) {
				continue
			}
			if near := p.NearestPermission(pattern); near != "" {
				return f.faultAt(at, path, "unknown permission %s; did you mean %s?", quote(pattern), quote(near))
			}
			return f.faultAt(at, path, "unknown permission %s; list it under permissions, or remove it here", quote(pattern))
		}
	}
	p.Roles = completeRoles(p.Roles)
	if p.DefaultRole == "" {
		p.DefaultRole = own
	}
	r, ok := p.Role(p.DefaultRole)
	switch managing := r.Permissions.Managing(); {
	case p.DefaultRole == "":
		return f.fault("default_role", "missing; new keys need a role beside admin, developer and viewer: add one to roles")
	case !ok:
		return f.fault("default_role", "no role is named %s; %s", quote(p.DefaultRole), instead(p.DefaultRole, namesOf(p.Roles), "the roles are"))
	case len(managing) > 0:
		return f.fault("default_role", "role %s carries the management permission %s; name a role with product permissions alone",
			quote(p.DefaultRole), quote(managing[0]))
	}
	return nil
}

func (f *file) checkPlans(p *Profile) error {
	if len(p.Plans) == 0 {
		return f.fault("plans", "empty; every workspace has a plan: list one, or take the line out")
	}
	var names []string
	for i := range p.Plans {
		l := &p.Plans[i]
		if err := f.checkName(item("plans", i), l.Name, 32, i, func(j int) string { return p.Plans[j].Name }); err != nil {
			return err
		}
		l.Title = titleOr(l.Title, l.Name)
		names = append(names, l.Name)
	}
	if p.DefaultPlan == "" {
		p.DefaultPlan = names[0]
	}
	if !slices.Contains(names, p.DefaultPlan) {
		return f.fault("default_plan", "no plan is named %s; %s", quote(p.DefaultPlan), instead(p.DefaultPlan, names, "the plans are"))
	}
	return nil
}

func (f *file) checkKeys(p *Profile) error {
	k := p.Keys
	if err := f.oneOf("keys.revoke", string(k.Revoke), []string{string(RevokeKeep), string(RevokeHide), string(RevokeOff)}); err != nil {
		return err
	}
	if k.Revoke == RevokeOff && !k.Delete {
		return f.fault("keys.revoke", "off while keys.delete is false, so nobody could take a key away; offer one of the two")
	}
	for i, r := range k.Reasons {
		if n := utf8.RuneCountInString(r); n > 200 {
			return f.faultAt(item("keys.reasons", i), "keys.reasons", "a reason has %d characters; shorten it to 200", n)
		}
	}
	for _, period := range []struct {
		path   string
		length time.Duration
	}{
		{"keys.rotate_every", k.RotateEvery},
		{"keys.idle_after", k.IdleAfter},
		{"keys.review_every", k.ReviewEvery},
	} {
		if err := f.aDay(period.path, period.length); err != nil {
			return err
		}
	}
	if k.MaxOverlap > maxOverlap {
		return f.fault("keys.max_overlap", "longer than 30 days; a replaced key lives at most 30d beside the new one")
	}
	return nil
}

func (f *file) checkRetention(p *Profile) error {
	for _, kept := range []struct {
		path   string
		length time.Duration
	}{
		{"retention.audit", p.Retention.Audit},
		{"retention.usage", p.Retention.Usage},
		{"retention.sources", p.Retention.Sources},
		{"retention.deliveries", p.Retention.Deliveries},
		{"retention.revoked_keys", p.Retention.RevokedKeys},
		{"retention.alerts", p.Retention.Alerts},
	} {
		if err := f.aDay(kept.path, kept.length); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) checkAlerts(p *Profile) error {
	a := p.Alerts
	for i, stage := range a.Expiring {
		at := item("alerts.expiring", i)
		if stage < time.Hour || stage > 365*day {
			return f.faultAt(at, "alerts.expiring", "not from 1h to 365d; [30d, 7d, 1d] is usual")
		}
		if i > 0 && stage >= a.Expiring[i-1] {
			return f.faultAt(at, "alerts.expiring", "not shorter than the one before; begin with the longest: [30d, 7d, 1d]")
		}
	}
	if len(a.Expiring) > 5 {
		return f.fault("alerts.expiring", "more than 5 entries, which nobody reads any more; remove some")
	}
	if a.Notice < day {
		return f.fault("alerts.notice", "less than 1d, so people would miss it; 7d is usual")
	}
	if a.FailureWindow < time.Minute || a.FailureWindow > time.Hour {
		return f.fault("alerts.failure_window", "not from 1m to 1h; 5m is usual")
	}
	if a.FailureFactor < 2 || a.FailureFactor > 1000 {
		return f.fault("alerts.failure_factor", "not from 2 to 1000; 5 is usual")
	}
	return nil
}

func (f *file) checkSignIn(p *Profile) error {
	s := p.SignIn
	if s.Session < 5*time.Minute || s.Session > maxSession {
		return f.fault("sign_in.session", "not from 5m to 30d; 12h is usual")
	}
	if s.Fresh < time.Minute {
		return f.fault("sign_in.fresh", "less than 1m, which nobody could work with; 1h is usual")
	}
	for i, origin := range s.Embed {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.ContainsAny(origin, "*;,' ") ||
			(u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost")) {
			return f.faultAt(item("sign_in.embed", i), "sign_in.embed", "%s is no origin; write it like https://app.example.com, without a path", quote(origin))
		}
	}
	return nil
}

// columns are those that the list of keys can have.
func columns() []string {
	return []string{
		"name", "preview", "key_id", "role", "environment", "owner",
		"created", "created_by", "last_used", "expires", "status", "actions",
	}
}

// actions are the buttons that can stand beside a key in the list.
func actions() []string { return []string{"copy", "edit", "rotate", "disable", "revoke", "delete"} }

func (f *file) checkPages(p *Profile) error {
	for i, a := range p.Actions {
		if !slices.Contains(actions(), a) {
			return f.faultAt(item("actions", i), "actions", "unknown action %s; %s", quote(a), instead(a, actions(), "the actions are"))
		}
	}
	for i, c := range p.Columns {
		if !slices.Contains(columns(), c) {
			return f.faultAt(item("columns", i), "columns", "unknown column %s; %s", quote(c), instead(c, columns(), "the columns are"))
		}
	}
	if !slices.Contains(p.Columns, "name") {
		return f.fault("columns", "without name, keys could not be told apart; add name")
	}
	for i, t := range p.ThirdParties {
		if t != "zapier" {
			return f.faultAt(item("third_parties", i), "third_parties", "no page is known for %s; the third parties are zapier", quote(t))
		}
	}
	return f.checkWords(p)
}

// checkName checks the name at path.name: its form, and that no entry before the
// i-th has it.
func (f *file) checkName(path, name string, most, i int, other func(int) string) error {
	at := path + ".name"
	switch {
	case name == "":
		return f.fault(at, "missing; give it a name of letters a-z, digits, - and _")
	case !isName(name):
		return f.fault(at, "%s is no name; use a letter a-z, then letters a-z, digits, - and _ (a title may be anything)", quote(name))
	case len(name) > most:
		return f.fault(at, "has more than %d characters; shorten it", most)
	}
	for j := range i {
		if other(j) == name {
			list, _, _ := strings.Cut(path, "[")
			return f.twice(at, name, item(list, j))
		}
	}
	return nil
}

func (f *file) twice(at, name, first string) error {
	return f.fault(at, "%s is already the name of %s on line %d; choose another", quote(name), first, f.lines[first])
}

// aDay refuses periods under a day, which are slips of a unit: 90m is an hour
// and a half, not three months.
func (f *file) aDay(path string, length time.Duration) error {
	if length == 0 || length >= day {
		return nil
	}
	return f.fault(path, `%s is less than a day; write days as "90d" (m is minutes), or 0 for none`, length)
}

func (f *file) atMost(path, text string, most int) error {
	if n := utf8.RuneCountInString(text); n > most {
		return f.fault(path, "has %d characters; shorten it to %d", n, most)
	}
	return nil
}

func item(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

func namesOf(roles []Role) []string {
	var names []string
	for _, r := range roles {
		names = append(names, r.Name)
	}
	return names
}

// titleOr makes a title of the name where the file has none: "read-only"
// becomes "Read only".
func titleOr(title, name string) string {
	if title != "" || name == "" {
		return title
	}
	spaced := strings.NewReplacer("-", " ", "_", " ").Replace(name)
	return strings.ToUpper(spaced[:1]) + spaced[1:]
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isName tells a letter a-z followed by letters a-z, digits, - and _.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLower(c) && (i == 0 || !isDigit(c) && c != '-' && c != '_') {
			return false
		}
	}
	return s != ""
}

// isPermission tells names with dots between, of at most 128 bytes in all.
func isPermission(s string) bool {
	for segment := range strings.SplitSeq(s, ".") {
		if !isName(segment) {
			return false
		}
	}
	return len(s) <= 128
}

func isColour(s string) bool {
	return len(s) == 7 && s[0] == '#' && strings.Trim(s[1:], "0123456789abcdefABCDEF") == ""
}

// isPath tells an absolute path on the pages' own host. Two slashes would
// begin another host.
func isPath(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//")
}

func isURL(s, scheme string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == scheme && u.Host != "" && u.User == nil
}
