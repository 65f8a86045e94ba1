package keystile_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keystile/keystile"
)

type perms = keystile.Permissions

func TestPermissionsAllow(t *testing.T) {
	tests := []struct {
		name string
		set  perms
		want string
		ok   bool
	}{
		{"an empty set allows nothing", nil, "inventory.write", false},
		{"nothing allows the empty string", perms{"*", "", "api.*"}, "", false},
		{"the empty pattern allows nothing", perms{""}, "inventory.write", false},

		{"a name allows itself", perms{"inventory.write"}, "inventory.write", true},
		{"a name of one segment", perms{"export"}, "export", true},
		{"a name does not allow its neighbour", perms{"inventory.write"}, "inventory.read", false},
		{"a name does not allow its branch", perms{"inventory.write"}, "inventory", false},
		{"a name does not allow what continues it", perms{"inventory"}, "inventory.write", false},
		{"a name does not allow its branch's pattern", perms{"inventory.write"}, "inventory.*", false},
		{"letter case counts", perms{"Inventory.write"}, "inventory.write", false},
		{"any pattern of the set is enough", perms{"a.b", "c.*", "inventory.write"}, "inventory.write", true},

		{"a branch allows its names", perms{"inventory.*"}, "inventory.write", true},
		{"a branch allows deep names", perms{"inventory.*"}, "inventory.stock.read", true},
		{"a branch allows itself", perms{"inventory.*"}, "inventory.*", true},
		{"a branch allows its branches", perms{"inventory.*"}, "inventory.stock.*", true},
		{"a branch does not allow its own name", perms{"inventory.*"}, "inventory", false},
		{"a branch does not allow its name and a dot", perms{"inventory.*"}, "inventory.", false},
		{"a branch does not allow a longer word", perms{"inventory.*"}, "inventoryx.write", false},
		{"a branch does not allow what stands above it", perms{"inventory.stock.*"}, "inventory.*", false},
		{"a branch does not allow everything", perms{"inventory.*"}, "*", false},
		{"names do not add up to a branch", perms{"inventory.read", "inventory.write"}, "inventory.*", false},

		{"a star within a segment is a plain character", perms{"inventory*"}, "inventory.write", false},
		{"a star within a segment allows only its own text", perms{"inventory*"}, "inventory*", true},
		{"a star in the middle is a plain character", perms{"inventory.*.read"}, "inventory.stock.read", false},
		{"a star in front is a plain character", perms{"*.read"}, "inventory.read", false},

		{"the star allows a name", perms{"*"}, "inventory.write", true},
		{"the star allows a branch", perms{"*"}, "inventory.*", true},
		{"the star allows itself", perms{"*"}, "*", true},
		{"the star allows words that only begin like ours", perms{"*"}, "apiary.read", true},
		{"the star allows no management permission", perms{"*"}, "api.key.view", false},
		{"the star allows no management branch", perms{"*"}, "api.*", false},
		{"the star allows no platform permission", perms{"*"}, "platform.verify", false},
		{"the star allows no platform branch", perms{"*"}, "platform.*", false},

		{"the management branch", perms{"api.*"}, "api.key.create", true},
		{"a branch of the management branch", perms{"api.*"}, "api.key.*", true},
		{"one noun of management", perms{"api.key.*"}, "api.key.grant", true},
		{"one noun of management is not another", perms{"api.key.*"}, "api.role.view", false},
		{"management is no power over the platform", perms{"api.*"}, "platform.verify", false},
		{"management is no product permission", perms{"api.*"}, "inventory.write", false},
		{"the platform is no management", perms{"platform.*"}, "api.key.view", false},
		{"all three", perms{"*", "api.*", "platform.*"}, "platform.workspace.suspend", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.set.Allow(tt.want); got != tt.ok {
				t.Errorf("%q.Allow(%q) = %v", tt.set, tt.want, got)
			}
		})
	}
}

func TestPermissionsCover(t *testing.T) {
	tests := []struct {
		name  string
		set   perms
		other perms
		ok    bool
	}{
		{"nothing covers nothing", nil, nil, true},
		{"something covers nothing", perms{"a.b"}, nil, true},
		{"nothing covers something", nil, perms{"a.b"}, false},
		{"itself, in another order", perms{"a.b", "c.d"}, perms{"c.d", "a.b"}, true},
		{"a branch its names", perms{"a.*"}, perms{"a.b", "a.c.d"}, true},
		{"names not their branch", perms{"a.b", "a.c"}, perms{"a.*"}, false},
		{"one missing is one too many", perms{"a.*", "b.c"}, perms{"a.b", "b.d"}, false},
		{"the star not management", perms{"*"}, perms{"a.b", "api.key.view"}, false},
		{"the star and management", perms{"*", "api.key.*"}, perms{"a.b", "api.key.view"}, true},
		{"not a set with the empty string", perms{"*"}, perms{""}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.set.Cover(tt.other); got != tt.ok {
				t.Errorf("%q.Cover(%q) = %v", tt.set, tt.other, got)
			}
		})
	}
}

func TestPermissionsIntersect(t *testing.T) {
	tests := []struct {
		name string
		role perms
		key  perms
		want perms
	}{
		{"nothing with nothing", nil, nil, nil},
		{"something with nothing", perms{"*", "api.*"}, nil, nil},
		{"nothing with something", nil, perms{"a.b"}, nil},
		{"strangers", perms{"a.b", "c.*"}, perms{"a.c", "d.*"}, nil},
		{"equals", perms{"a.b", "c.*"}, perms{"c.*", "a.b"}, perms{"a.b", "c.*"}},
		{"the role is wider", perms{"a.*"}, perms{"a.c", "a.b"}, perms{"a.c", "a.b"}},
		{"the key is wider", perms{"a.b", "a.c"}, perms{"a.*"}, perms{"a.b", "a.c"}},
		{"a key cannot widen its role", perms{"a.b"}, perms{"*", "api.*", "platform.*"}, perms{"a.b"}},
		{"the star keeps management out", perms{"*"}, perms{"api.key.view", "a.b"}, perms{"a.b"}},
		{"management apart from the star", perms{"api.*"}, perms{"*"}, nil},
		{"management with management", perms{"*", "api.*"}, perms{"api.key.view"}, perms{"api.key.view"}},
		{"nothing twice", perms{"a.b", "a.*"}, perms{"a.b", "a.b"}, perms{"a.b"}},
		{"the empty string is dropped", perms{"", "a.b"}, perms{"", "a.b"}, perms{"a.b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.role.Intersect(tt.key); !slices.Equal(got, tt.want) {
				t.Errorf("%q.Intersect(%q) = %q, want %q", tt.role, tt.key, got, tt.want)
			}
		})
	}
}

func TestPermissionsManaging(t *testing.T) {
	tests := []struct {
		name string
		set  perms
		want perms
	}{
		{"nothing", nil, nil},
		{"product permissions", perms{"inventory.write", "inventory.*", "*"}, nil},
		{"words that only begin like ours", perms{"api", "apiary.read", "platforms.read", "my.api.key"}, nil},
		{"management", perms{"inventory.write", "api.key.view", "api.*"}, perms{"api.key.view", "api.*"}},
		{"platform", perms{"platform.verify", "*", "platform.*"}, perms{"platform.verify", "platform.*"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.set.Managing(); !slices.Equal(got, tt.want) {
				t.Errorf("%q.Managing() = %q, want %q", tt.set, got, tt.want)
			}
		})
	}
}

// segment draws from few words, so that patterns meet often. None is "fresh".
func segment() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"api", "platform", "a", "b", "key"})
}

func permissionName() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(segment(), 1, 3), func(s []string) string { return strings.Join(s, ".") })
}

func permissionPattern() *rapid.Generator[string] {
	branch := rapid.Map(permissionName(), func(s string) string { return s + ".*" })
	return rapid.OneOf(permissionName(), branch, rapid.Just("*"))
}

func permissionSet() *rapid.Generator[perms] {
	return rapid.Map(rapid.SliceOfN(permissionPattern(), 0, 4), func(s []string) perms { return s })
}

// matches is what the documentation of Permissions says of one pattern and one
// name, segment by segment.
func matches(pattern, name string) bool {
	p, n := strings.Split(pattern, "."), strings.Split(name, ".")
	if pattern == "*" {
		return len(n) == 1 || n[0] != "api" && n[0] != "platform"
	}
	if last := len(p) - 1; p[last] == "*" {
		return len(n) > last && slices.Equal(p[:last], n[:last])
	}
	return slices.Equal(p, n)
}

func TestPermissionProperties(t *testing.T) {
	t.Run("a name is allowed when some pattern matches it", rapid.MakeCheck(func(t *rapid.T) {
		p, name := permissionSet().Draw(t, "set"), permissionName().Draw(t, "name")
		want := slices.ContainsFunc(p, func(pattern string) bool { return matches(pattern, name) })
		if p.Allow(name) != want {
			t.Fatalf("Allow = %v", !want)
		}
	}))
	t.Run("a pattern is allowed when all that it matches is", rapid.MakeCheck(func(t *rapid.T) {
		p, pattern := permissionSet().Draw(t, "set"), permissionPattern().Draw(t, "pattern")
		name := permissionName().Draw(t, "name")
		if p.Allow(pattern) && matches(pattern, name) && !p.Allow(name) {
			t.Fatalf("allows %q and not %q", pattern, name)
		}
		// A name that stands in no set is allowed by no pattern narrower than this one.
		fresh := strings.Replace(pattern, "*", "fresh", 1)
		if p.Allow(fresh) != p.Allow(pattern) {
			t.Fatalf("%q: %v, %q: %v", pattern, p.Allow(pattern), fresh, p.Allow(fresh))
		}
	}))
	t.Run("a set covers itself", rapid.MakeCheck(func(t *rapid.T) {
		if p := permissionSet().Draw(t, "set"); !p.Cover(p) {
			t.Fatal("it does not")
		}
	}))
	t.Run("covering goes through", rapid.MakeCheck(func(t *rapid.T) {
		a := permissionSet().Draw(t, "a")
		// Narrowing makes sets that are often covered, which chance rarely does.
		b := append(a.Intersect(permissionSet().Draw(t, "of a")), permissionSet().Draw(t, "beside a")...)
		c := append(b.Intersect(permissionSet().Draw(t, "of b")), permissionSet().Draw(t, "beside b")...)
		if a.Cover(b) && b.Cover(c) && !a.Cover(c) {
			t.Fatalf("%q covers %q covers %q", a, b, c)
		}
	}))
	t.Run("what covers a set allows all that the set allows", rapid.MakeCheck(func(t *rapid.T) {
		a, b := permissionSet().Draw(t, "a"), permissionSet().Draw(t, "b")
		name := permissionName().Draw(t, "name")
		if a.Cover(b) && b.Allow(name) && !a.Allow(name) {
			t.Fatal("not so")
		}
	}))
	t.Run("the intersection allows what both allow, and nothing else", rapid.MakeCheck(func(t *rapid.T) {
		a, b := permissionSet().Draw(t, "a"), permissionSet().Draw(t, "b")
		want := permissionPattern().Draw(t, "name or pattern")
		both := a.Intersect(b)
		if !a.Cover(both) || !b.Cover(both) {
			t.Fatalf("%q reaches further than its parts", both)
		}
		if both.Allow(want) != (a.Allow(want) && b.Allow(want)) {
			t.Fatalf("%q", both)
		}
	}))
	t.Run("a set that manages nothing allows nothing of ours", rapid.MakeCheck(func(t *rapid.T) {
		p, name := permissionSet().Draw(t, "set"), permissionName().Draw(t, "name")
		managing := strings.HasPrefix(name, keystile.ManagementPrefix) || strings.HasPrefix(name, keystile.PlatformPrefix)
		if managing && p.Allow(name) != p.Managing().Allow(name) {
			t.Fatalf("managing %q", p.Managing())
		}
	}))
}
