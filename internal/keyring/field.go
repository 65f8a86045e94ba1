package keyring

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keystile/keystile"
)

// Bounds of what callers may send. Lengths are in characters.
const (
	maxName          = 100
	maxDescription   = 500
	maxOwner         = 200
	maxReason        = 200
	maxAllowlist     = 100
	maxPermissions   = 100
	maxMetadata      = 50
	maxMetadataName  = 64
	maxMetadataValue = 500
	// maxMetadataSize bounds all names and values of a key together, in bytes.
	// They are in every answer about the key, twice in an entry of the audit
	// log, and hundreds of these are on a page.
	maxMetadataSize = 8 << 10
	// maxNames is how many names an error lists.
	maxNames = 50
	maxLife  = 100 * 365 * 24 * time.Hour
	// DefaultLimit and MaxLimit bound the length of a page.
	DefaultLimit = 50
	MaxLimit     = 200
)

func badField(field, detail string) error {
	e := keystile.NewError(keystile.CodeInvalidField, detail)
	e.Fields = []keystile.FieldError{{Field: field, Detail: detail}}
	return e
}

// text checks a text that people read: no control characters, which could
// forge lines in logs and terminals.
func text(field, s string, most int) (string, error) {
	return checkText(field, s, most, holdsKey)
}

// identifier checks a text that another system may have made, such as the
// subject of a person: random ones are not taken for keys.
func identifier(field, s string, most int) (string, error) {
	return checkText(field, s, most, holdsWholeKey)
}

func checkText(field, s string, most int, secret func(string) bool) (string, error) {
	s = strings.TrimSpace(s)
	if !utf8.ValidString(s) {
		return "", badField(field, "It is not valid UTF-8.")
	}
	if n := utf8.RuneCountInString(s); n > most {
		return "", badField(field, "It has "+strconv.Itoa(n)+" characters; "+strconv.Itoa(most)+" are allowed.")
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return "", badField(field, "It holds a control character, which is not allowed.")
		}
	}
	if secret(s) {
		return "", badField(field, "This looks like a secret: there is a key in it, or most of one, which everyone would see who may see this. Leave it out; name a key by its Key ID.")
	}
	return s, nil
}

// requiredName checks a name, which must not be empty.
func requiredName(field, s string) (string, error) {
	s, err := text(field, s, maxName)
	if err == nil && s == "" {
		return "", badField(field, "A name is required. Say what it is for.")
	}
	return s, err
}

func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// allowlist checks and tidies a list of addresses and CIDR ranges.
func allowlist(field string, list []string) ([]string, error) {
	if len(list) > maxAllowlist {
		return nil, badField(field, "It has more than "+strconv.Itoa(maxAllowlist)+" entries.")
	}
	var out []string
	var wrong []keystile.FieldError // all of them, so that a long list is mended in one go
	for i, s := range list {
		p, err := parsePrefix(strings.TrimSpace(s))
		bad := ""
		switch {
		case err != nil:
			bad = " is not an IP address such as 203.0.113.7, or a CIDR range such as 203.0.113.0/24 or 2001:db8::/32."
		case strings.Contains(s, "%"): // a prefix never has a zone: it would be lost, not kept
			bad = " has a zone, which is what stands behind the %. Write IPv6 addresses without one."
		case p.Addr().Is4In6():
			bad = " is an IPv4 address in the form of an IPv6 address. Write it as 203.0.113.7."
		}
		if bad != "" {
			wrong = append(wrong, keystile.FieldError{Field: field + "[" + strconv.Itoa(i) + "]", Detail: entryName(s, i) + bad})
			continue
		}
		tidy := p.String()
		if p.IsSingleIP() {
			tidy = p.Addr().String()
		}
		if !slices.Contains(out, tidy) {
			out = append(out, tidy)
		}
	}
	if len(wrong) > 0 {
		detail := wrong[0].Detail
		if more := len(wrong) - 1; more > 0 {
			detail += " " + strconv.Itoa(more) + " more of its entries can't be taken either."
		}
		e := keystile.NewError(keystile.CodeInvalidField, detail)
		e.Fields = wrong
		return nil, e
	}
	return out, nil
}

// entryName is what an error calls an entry of an allowlist. One that does not
// look like an address may be anything, a secret among it: it is not repeated.
func entryName(s string, i int) string {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128")
	strange := func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF.:/", r) }
	if len(s) > longest || !strings.ContainsAny(s, ".:/") || strings.ContainsFunc(s, strange) {
		return "Entry " + strconv.Itoa(i+1)
	}
	return s
}

// narrower tells whether every address that after admits, before admits too.
// An empty list admits everyone.
func narrower(before, after []string) bool {
	if len(before) == 0 {
		return true
	}
	if len(after) == 0 {
		return false
	}
	var outer []netip.Prefix
	for _, s := range before {
		p, err := parsePrefix(s)
		if err != nil {
			return false
		}
		outer = append(outer, p)
	}
	for _, s := range after {
		p, err := parsePrefix(s)
		if err != nil || !within(p, outer) {
			return false
		}
	}
	return true
}

// admits tells whether a stored list lets an address in. An empty one admits
// everyone, and none admits an address that is not known.
func admits(list []string, address netip.Addr) bool {
	if len(list) == 0 {
		return true
	}
	for _, s := range list {
		if p, err := parsePrefix(s); err == nil && p.Contains(address.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// sameAllowlist tells whether a stored list is the one in force.
func sameAllowlist(list []string, force []netip.Prefix) bool {
	return slices.EqualFunc(list, force, func(s string, q netip.Prefix) bool {
		p, err := parsePrefix(s)
		return err == nil && p == q
	})
}

// permissions checks a list of permissions against what the profile knows.
func (k *Keyring) permissions(field string, list keystile.Permissions) (keystile.Permissions, error) {
	if len(list) > maxPermissions {
		return nil, badField(field, "It has more than "+strconv.Itoa(maxPermissions)+" entries.")
	}
	var out keystile.Permissions
	for i, p := range list {
		if !k.profile.PermissionKnown(p) {
			return nil, badField(field+"["+strconv.Itoa(i)+"]", k.noPermission(p))
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// noPermission says what there is instead of a permission that is not known.
func (k *Keyring) noPermission(pattern string) string {
	if near := k.profile.NearestPermission(pattern); near != "" {
		return "There is no permission of this name; did you mean " + near + "?"
	}
	var known []string
	for _, info := range k.profile.PermissionCatalogue() {
		known = append(known, info.Name)
	}
	return "There is no permission of this name. There is: " + names(known) + "."
}

// names lists what could be named instead, as far as one reads on.
func names(known []string) string {
	if more := len(known) - maxNames; more > 0 {
		return strings.Join(known[:maxNames], ", ") + " and " + strconv.Itoa(more) + " more"
	}
	return strings.Join(known, ", ")
}

func metadata(field string, m map[string]string) (map[string]string, error) {
	if len(m) > maxMetadata {
		return nil, badField(field, "It has more than "+strconv.Itoa(maxMetadata)+" entries.")
	}
	size := 0
	for name, value := range m {
		size += len(name) + len(value)
		if _, err := text(field, name, maxMetadataName); err != nil {
			var p *keystile.Error
			if errors.As(err, &p) { // without the name, which may be a secret
				return nil, badField(field, "One of its names is not allowed. "+p.Detail)
			}
			return nil, err
		}
		if strings.TrimSpace(name) == "" {
			return nil, badField(field, "A name in it is empty.")
		}
		if _, err := text(field+"."+name, value, maxMetadataValue); err != nil {
			return nil, err
		}
	}
	if size > maxMetadataSize {
		return nil, badField(field, "It has "+strconv.Itoa(size)+" bytes of names and values; "+strconv.Itoa(maxMetadataSize)+" are allowed.")
	}
	return m, nil
}

// end checks when a key shall end.
func end(field string, at *time.Time, now time.Time) (*time.Time, error) {
	if at == nil {
		return nil, nil
	}
	t := at.UTC().Truncate(time.Millisecond)
	if !t.After(now) {
		return nil, badField(field, "It is in the past. To end a key now, revoke it.")
	}
	if t.Sub(now) > maxLife || t.Year() > 9999 {
		return nil, badField(field, "It is more than a hundred years away. Leave it out for a key without an end.")
	}
	return &t, nil
}

// limit checks the length asked for a page; 0 means the default.
func limit(n int) (int, error) {
	if n == 0 {
		return DefaultLimit, nil
	}
	if n < 1 || n > MaxLimit {
		return 0, badField("query.limit", "It must be from 1 to "+strconv.Itoa(MaxLimit)+".")
	}
	return n, nil
}
