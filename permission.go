package keystile

import "strings"

// Permissions is a set of permission patterns, the way roles and keys carry
// them. A pattern is a dotted name such as "inventory.write"; a last segment
// "*" matches every name that continues its branch ("inventory.*" matches
// "inventory.write" and "inventory.stock.read", not "inventory"). "*" alone
// matches every permission of the product and never one of Keystile's own,
// which begin with "api." or "platform.".
type Permissions []string

// Prefixes of Keystile's own permissions. Product permissions use neither.
const (
	ManagementPrefix = "api."      // what a key or member may do in its own workspace
	PlatformPrefix   = "platform." // power over all workspaces, for the operator alone
)

// Allow tells whether some pattern of the set matches want, which is itself a
// permission or a pattern: a set allows a pattern if it allows all that the
// pattern matches. Nothing allows the empty string.
func (p Permissions) Allow(want string) bool {
	if want == "" {
		return false
	}
	for _, pattern := range p {
		if pattern == want || strings.HasSuffix(pattern, "*") && covers(pattern, want) { // what covers costs is for patterns
			return true
		}
	}
	return false
}

// Cover tells whether the set allows every member of other, the empty set included.
func (p Permissions) Cover(other Permissions) bool {
	for _, want := range other {
		if !p.Allow(want) {
			return false
		}
	}
	return true
}

// Intersect returns the patterns that match what both sets match: the result
// of narrowing a role by a key's own permissions. Its order follows p.
func (p Permissions) Intersect(other Permissions) Permissions {
	var both Permissions
	add := func(s string) {
		if !both.Allow(s) {
			both = append(both, s)
		}
	}
	for _, a := range p {
		for _, b := range other {
			switch {
			case covers(b, a):
				add(a)
			case covers(a, b):
				add(b)
			}
		}
	}
	return both
}

// Managing returns the patterns of the set that reach beyond the product:
// those of Keystile's own permissions.
func (p Permissions) Managing() Permissions {
	var own Permissions
	for _, pattern := range p {
		if isManaging(pattern) {
			own = append(own, pattern)
		}
	}
	return own
}

func isManaging(s string) bool {
	return strings.HasPrefix(s, ManagementPrefix) || strings.HasPrefix(s, PlatformPrefix)
}

// covers tells whether pattern matches want, where want may be a pattern too.
func covers(pattern, want string) bool {
	if want == "" || pattern == "" {
		return false
	}
	branch := pattern[:len(pattern)-1]
	switch {
	case pattern[len(branch)] != '*':
		return pattern == want
	case branch == "":
		return !isManaging(want)
	case branch[len(branch)-1] == '.': // which it keeps, so that "inventory.*" does not match "inventoryx"
		return len(want) > len(branch) && want[:len(branch)] == branch
	}
	return pattern == want
}
