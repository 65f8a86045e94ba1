package verify_test

import (
	"fmt"
	"hash/crc32"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// Every subset of the conditions that can fail is tried, so every pair is: the
// earliest of them answers.
func TestFirstConditionThatFailsAnswers(t *testing.T) {
	type scene struct {
		key       verify.Key
		workspace verify.Workspace
		query     verify.Query
		absent    bool
	}
	conditions := []struct {
		code  keystile.Code
		spoil func(*scene)
	}{
		{keystile.CodeMalformed, func(s *scene) { s.query.Secret = s.query.Secret[:len(s.query.Secret)-1] }},
		{keystile.CodeUnknown, func(s *scene) { s.absent = true }},
		{keystile.CodeWorkspaceSuspended, func(s *scene) { s.workspace.Suspended = true }},
		{keystile.CodeRevoked, func(s *scene) { s.key.State = verify.StateRevoked }},
		{keystile.CodeDisabled, func(s *scene) { s.key.State = verify.StateDisabled }},
		{keystile.CodeExpired, func(s *scene) { s.key.ExpiresAt = noon.UnixMilli() }},
		{keystile.CodeIPNotAllowed, func(s *scene) { s.query.Address = netip.MustParseAddr("192.0.2.9") }},
		{keystile.CodeWrongWorkspace, func(s *scene) { s.query.Workspace = other }},
		{keystile.CodeInsufficientPermission, func(s *scene) { s.query.Permission = "orders.read" }},
	}
	secret := mint(t)
	for subset := range 1 << len(conditions) {
		s := scene{
			key: newKey(1, secret), workspace: verify.Workspace{ID: acme},
			query: verify.Query{
				Secret: secret, Permission: "stock.read", Workspace: acme,
				Address: netip.MustParseAddr("10.0.0.1"), Now: noon,
			},
		}
		s.key.Allow = prefixes("10.0.0.0/8")
		want := keystile.CodeValid
		var failing []keystile.Code
		// From the last to the first, so that of two states the earlier stays.
		for i := len(conditions) - 1; i >= 0; i-- {
			if subset>>i&1 == 1 {
				conditions[i].spoil(&s)
				want = conditions[i].code
				failing = append(failing, want)
			}
		}
		x := newIndex(t)
		x.Apply(verify.Batch{Workspaces: []verify.Workspace{s.workspace}})
		if !s.absent {
			x.Apply(verify.Batch{Keys: []verify.Key{s.key}})
		}
		r := decide(x, s.query)
		if r.Code != want {
			t.Errorf("with %v failing: %s, want %s", failing, r.Code, want)
		}
		if known := want != keystile.CodeMalformed && want != keystile.CodeUnknown; r.Known() != known {
			t.Errorf("%s: Known() = %t", want, r.Known())
		}
	}
}

func TestStateExpiredIsStoredExpiry(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	k.State = verify.StateExpired
	if got := decide(newIndex(t, k), ask(secret)).Code; got != keystile.CodeExpired {
		t.Errorf("got %s", got)
	}
	k.State = 200 // of a newer version, perhaps
	if got := decide(newIndex(t, k), ask(secret)).Code; got == keystile.CodeValid {
		t.Error("an unknown state is valid")
	}
}

func TestExpiry(t *testing.T) {
	end := noon.UnixMilli()
	for _, c := range []struct {
		name      string
		expiresAt int64
		now       time.Time
		want      keystile.Code
	}{
		{"never", 0, noon, keystile.CodeValid},
		{"never, without a clock", 0, time.Time{}, keystile.CodeValid},
		{"a millisecond before", end, noon.Add(-time.Millisecond), keystile.CodeValid},
		{"a nanosecond before", end, noon.Add(-1), keystile.CodeValid},
		{"at the end", end, noon, keystile.CodeExpired},
		{"after", end, noon.Add(time.Hour), keystile.CodeExpired},
		{"without a clock", end, time.Time{}, keystile.CodeExpired},
		{"before 1970", -1, noon, keystile.CodeExpired},
		{"in the year 9999", time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMilli(), noon, keystile.CodeValid},
		{"beyond what is kept", 1 << 62, noon, keystile.CodeValid},
	} {
		secret := mint(t)
		k := newKey(1, secret)
		k.ExpiresAt = c.expiresAt
		r := decide(newIndex(t, k), verify.Query{Secret: secret, Now: c.now})
		if r.Code != c.want {
			t.Errorf("%s: %s, want %s", c.name, r.Code, c.want)
		}
		at, ok := r.ExpiresAt()
		if ok != (c.expiresAt != 0) {
			t.Errorf("%s: ExpiresAt() = %v, %t", c.name, at, ok)
		}
		if 0 < c.expiresAt && c.expiresAt < 1<<48 && !at.Equal(time.UnixMilli(c.expiresAt)) {
			t.Errorf("%s: ExpiresAt() = %v, want %v", c.name, at, time.UnixMilli(c.expiresAt))
		}
	}
}

// IP12: whatever has not the form of a key is told apart without any lookup.
func TestIP12_HintsOfMalformedKeys(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	for want, text := range map[keystile.Hint]string{
		keystile.HintTruncated:     secret[:20],
		keystile.HintWhitespace:    secret[:20] + " " + secret[20:],
		keystile.HintMaskedPreview: format(t).Preview(secret, keystile.PreviewFirst),
		keystile.HintKeyID:         keyID(1),
		keystile.HintPrefix:        "ghp_" + secret[3:],
		keystile.HintScheme:        "Bearer " + secret,
		keystile.HintChecksum:      secret[:len(secret)-1] + flip(secret[len(secret)-1]),
	} {
		r := decide(x, ask(text))
		if r.Code != keystile.CodeMalformed || r.Hint != want || r.Known() {
			t.Errorf("%s: got %s %s", want, r.Code, r.Hint)
		}
		if d := r.Decision(); d.Hint != want || d.Status != 401 || d.Detail == "" || len(d.Fixes) == 0 {
			t.Errorf("%s: %+v", want, d)
		}
	}
	if r := decide(x, ask("")); r.Code != keystile.CodeMalformed {
		t.Errorf("empty: %s", r.Code)
	}
}

func flip(c byte) string {
	if c == '0' {
		return "1"
	}
	return "0"
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		name           string
		workspace, key []string
		address        string
		ok             bool
	}{
		{"no lists", nil, nil, "192.0.2.1", true},
		{"no lists, no address", nil, nil, "", true},
		{"key list", nil, []string{"192.0.2.0/24"}, "192.0.2.1", true},
		{"key list, outside", nil, []string{"192.0.2.0/24"}, "192.0.3.1", false},
		{"key list, no address", nil, []string{"192.0.2.0/24"}, "", false},
		{"whole IPv4, no address", nil, []string{"0.0.0.0/0"}, "", false},
		{"workspace list", []string{"192.0.2.0/24"}, nil, "192.0.2.1", true},
		{"workspace list, outside", []string{"192.0.2.0/24"}, nil, "192.0.3.1", false},
		{"workspace list, no address", []string{"192.0.2.0/24"}, nil, "", false},
		{"both", []string{"192.0.0.0/16"}, []string{"192.0.2.0/24"}, "192.0.2.1", true},
		{"workspace only", []string{"192.0.0.0/16"}, []string{"192.0.2.0/24"}, "192.0.3.1", false},
		{"key only", []string{"192.0.3.0/24"}, []string{"192.0.2.0/24"}, "192.0.2.1", false},
		{"second entry", nil, []string{"198.51.100.0/24", "192.0.2.1/32"}, "192.0.2.1", true},
		{"mapped address", nil, []string{"192.0.2.0/24"}, "::ffff:192.0.2.1", true},
		{"mapped address, outside", nil, []string{"192.0.2.0/24"}, "::ffff:192.0.3.1", false},
		{"mapped entry", nil, []string{"::ffff:192.0.2.0/120"}, "192.0.2.1", true},
		{"mapped entry, outside", nil, []string{"::ffff:192.0.2.0/120"}, "192.0.3.1", false},
		{"IPv6", nil, []string{"2001:db8::/32"}, "2001:db8::1", true},
		{"IPv6, outside", nil, []string{"2001:db8::/32"}, "2001:db9::1", false},
		{"IPv6 with a zone", nil, []string{"fe80::/10"}, "fe80::1%eth0", true},
		{"IPv4 against IPv6", nil, []string{"::/0"}, "192.0.2.1", false},
		{"IPv6 against IPv4", nil, []string{"0.0.0.0/0"}, "2001:db8::1", false},
		{"one address", nil, []string{"2001:db8::1/128"}, "2001:db8::1", true},
	} {
		secret := mint(t)
		k := newKey(1, secret)
		k.Allow = prefixes(c.key...)
		x := newIndex(t, k)
		x.Apply(verify.Batch{Workspaces: []verify.Workspace{{ID: acme, Allow: prefixes(c.workspace...)}}})
		q := ask(secret)
		if c.address != "" {
			q.Address = netip.MustParseAddr(c.address)
		}
		want := keystile.CodeIPNotAllowed
		if c.ok {
			want = keystile.CodeValid
		}
		if got := decide(x, q).Code; got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
}

func TestListOfInvalidPrefixesAllowsNobody(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	k.Allow = []netip.Prefix{{}}
	q := ask(secret)
	q.Address = netip.MustParseAddr("192.0.2.1")
	if got := decide(newIndex(t, k), q).Code; got != keystile.CodeIPNotAllowed {
		t.Errorf("got %s", got)
	}
}

func TestRefusalForLackOfAnAddressSaysSo(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	k.Allow = prefixes("192.0.2.0/24")
	x := newIndex(t, k)
	untold := answer(x, ask(secret)).Decision()
	q := ask(secret)
	q.Address = netip.MustParseAddr("192.0.3.1")
	wrong := answer(x, q).Decision()
	if untold.Code != keystile.CodeIPNotAllowed || wrong.Code != untold.Code {
		t.Fatalf("codes %s and %s", untold.Code, wrong.Code)
	}
	if untold.Detail == wrong.Detail || slices.Equal(untold.Fixes, wrong.Fixes) {
		t.Errorf("both say %q, %q", untold.Detail, untold.Fixes)
	}
}

func TestPermissions(t *testing.T) {
	p := func(list ...string) keystile.Permissions { return list }
	for _, c := range []struct {
		role, narrow keystile.Permissions
		want         string
		ok           bool
		effective    keystile.Permissions
	}{
		{p("stock.read"), nil, "", true, p("stock.read")},
		{p("stock.read"), nil, "stock.read", true, p("stock.read")},
		{p("stock.read"), nil, "stock.write", false, p("stock.read")},
		{p("stock.*"), nil, "stock.write", true, p("stock.*")},
		{p("*"), nil, "api.key.view", false, p("*")},
		{p("*"), p("stock.read"), "stock.read", true, p("stock.read")},
		{p("*"), p("stock.read"), "stock.write", false, p("stock.read")},
		{p("stock.read"), p("stock.*"), "stock.read", true, p("stock.read")},
		{p("stock.read"), p("stock.*"), "stock.write", false, p("stock.read")},
		{p("stock.read"), p("orders.read"), "orders.read", false, nil},
		{p("stock.read"), p("orders.read"), "", true, nil},
		{p("stock.read"), p(), "stock.read", true, p("stock.read")},
		{nil, nil, "stock.read", false, nil},
		{nil, p("*"), "stock.read", false, nil},
	} {
		secret := mint(t)
		k := newKey(1, secret)
		k.RoleID, k.Permissions = "role_x", c.narrow
		x := newIndex(t, k)
		x.Apply(verify.Batch{Roles: []verify.Role{{ID: "role_x", Name: "x", Permissions: c.role}}})
		q := ask(secret)
		q.Permission = c.want
		r := decide(x, q)
		want := keystile.CodeInsufficientPermission
		if c.ok {
			want = keystile.CodeValid
		}
		if r.Code != want {
			t.Errorf("%v narrowed by %v asked %q: %s, want %s", c.role, c.narrow, c.want, r.Code, want)
		}
		for range 2 { // the second comes from what the first has kept
			if got := r.Permissions(); !slices.Equal(got, c.effective) {
				t.Errorf("%v narrowed by %v: %v, want %v", c.role, c.narrow, got, c.effective)
			}
		}
		if d := r.Decision(); !c.ok && !strings.Contains(d.Detail, c.want) {
			t.Errorf("the refusal does not name %q: %q", c.want, d.Detail)
		}
	}
}

// A role's edit reaches all its keys without touching them, narrowed ones too.
func TestRoleEditIsSeenAtOnce(t *testing.T) {
	whole, narrowed := mint(t), mint(t)
	k := newKey(2, narrowed)
	k.Permissions = keystile.Permissions{"stock.*"}
	x := newIndex(t, newKey(1, whole), k)
	for _, list := range []keystile.Permissions{{"stock.read"}, {"stock.write"}, {"orders.*"}, {"stock.read"}} {
		x.Apply(verify.Batch{Roles: []verify.Role{{ID: "role_writer", Name: "writer", Permissions: list}}})
		if got := answer(x, ask(whole)).Permissions(); !slices.Equal(got, list) {
			t.Errorf("whole role: %v, want %v", got, list)
		}
		if got, want := answer(x, ask(narrowed)).Permissions(), list.Intersect(k.Permissions); !slices.Equal(got, want) {
			t.Errorf("narrowed: %v, want %v", got, want)
		}
	}
}

func TestMissingWorkspaceIsUnknown(t *testing.T) {
	secret := mint(t)
	x := newIndex(t, newKey(1, secret))
	x.Apply(verify.Batch{GoneWorkspaces: []string{acme, "ws_never"}})
	if r := decide(x, ask(secret)); r.Code != keystile.CodeUnknown || r.Known() || r.KeyID() != "" {
		t.Errorf("gone: %s, known %t", r.Code, r.Known())
	}
	x.Apply(verify.Batch{Workspaces: []verify.Workspace{{ID: acme}}})
	if r := decide(x, ask(secret)); r.Code != keystile.CodeValid {
		t.Errorf("back: %s", r.Code)
	}
	late := mint(t)
	k := newKey(2, late)
	k.WorkspaceID = "ws_late"
	x.Apply(verify.Batch{Keys: []verify.Key{k}})
	if r := decide(x, ask(late)); r.Code != keystile.CodeUnknown {
		t.Errorf("before its workspace: %s", r.Code)
	}
	x.Apply(verify.Batch{Workspaces: []verify.Workspace{{ID: "ws_late"}}})
	if r := decide(x, ask(late)); r.Code != keystile.CodeValid || r.WorkspaceID() != "ws_late" {
		t.Errorf("after its workspace: %s in %q", r.Code, r.WorkspaceID())
	}
}

func TestMissingRoleIsGoodForNothing(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	x := newIndex(t, k)
	check := func(name string) {
		t.Helper()
		for _, permission := range []string{"", "stock.read"} {
			q := ask(secret)
			q.Permission = permission
			r := decide(x, q)
			if r.Code != keystile.CodeInsufficientPermission || len(r.Permissions()) != 0 || r.RoleName() != "" {
				t.Errorf("%s, asked %q: %s with %v as %q", name, permission, r.Code, r.Permissions(), r.RoleName())
			}
		}
	}
	x.Apply(verify.Batch{GoneRoles: []string{"role_writer"}})
	check("gone")
	k.RoleID = "role_never"
	x.Apply(verify.Batch{Keys: []verify.Key{k}})
	check("never there")
	x.Apply(verify.Batch{Roles: []verify.Role{{ID: "role_never", WorkspaceID: other, Permissions: keystile.Permissions{"*"}}}})
	check("another workspace's")
	x.Apply(verify.Batch{Roles: []verify.Role{{ID: "role_never", WorkspaceID: acme, Permissions: keystile.Permissions{"*"}}}})
	if r := decide(x, ask(secret)); r.Code != keystile.CodeValid {
		t.Errorf("its own workspace's: %s", r.Code)
	}
}

func TestImportedKeysOfAnotherForm(t *testing.T) {
	foreign := "sk-" + strings.Repeat("a", 40)
	k := newKey(1, foreign)
	x := newIndex(t, k)
	if r := decide(x, ask(foreign)); r.Code != keystile.CodeMalformed || r.Hint != keystile.HintPrefix {
		t.Errorf("without imports: %s %s", r.Code, r.Hint)
	}
	k.Imported = true
	x.Apply(verify.Batch{Keys: []verify.Key{k}})
	if r := decide(x, ask(foreign)); r.Code != keystile.CodeValid {
		t.Errorf("imported: %s", r.Code)
	}
	if r := decide(x, ask(foreign+"a")); r.Code != keystile.CodeMalformed || r.Hint != keystile.HintPrefix {
		t.Errorf("another text: %s %s", r.Code, r.Hint)
	}
	long := strings.Repeat("a", 513)
	longest := strings.Repeat("a", 512)
	for n, s := range []string{long, longest} {
		k := newKey(2+n, s)
		k.Imported = true
		x.Apply(verify.Batch{Keys: []verify.Key{k}})
	}
	if r := decide(x, ask(longest)); r.Code != keystile.CodeValid {
		t.Errorf("512 bytes: %s", r.Code)
	}
	if r := decide(x, ask(long)); r.Code != keystile.CodeMalformed {
		t.Errorf("513 bytes: %s", r.Code)
	}
	x.Apply(verify.Batch{GoneWorkspaces: []string{acme}})
	if r := decide(x, ask(foreign)); r.Code != keystile.CodeMalformed {
		t.Errorf("workspace gone: %s", r.Code)
	}
	x.Apply(verify.Batch{Workspaces: workspaces(), GoneKeys: []string{keyID(1), keyID(2), keyID(3)}})
	if r := decide(x, ask(foreign)); r.Code != keystile.CodeMalformed || r.Hint != keystile.HintPrefix {
		t.Errorf("imports gone: %s %s", r.Code, r.Hint)
	}
	k.Imported = false
	x.Apply(verify.Batch{Keys: []verify.Key{k}})
	if r := decide(x, ask(foreign)); r.Code != keystile.CodeMalformed {
		t.Errorf("looked up after the last import is gone: %s", r.Code)
	}
}

func TestDecisionTellsEverything(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	k.ExpiresAt = noon.Add(time.Hour).UnixMilli()
	k.Owner, k.Metadata = "team-7", map[string]string{"host": "a"}
	k.Allow = prefixes("192.0.2.0/24")
	x := newIndex(t, k)
	q := ask(secret)
	q.Address = netip.MustParseAddr("192.0.2.1")
	r := decide(x, q)
	d := r.Decision()
	end := noon.Add(time.Hour)
	if !d.Valid || d.Code != keystile.CodeValid || d.Status != 200 || d.Detail != "" || d.Fixes != nil || d.Hint != "" ||
		d.KeyID != keyID(1) || d.WorkspaceID != acme || d.Role != "writer" || !slices.Equal(d.Permissions, keystile.Permissions{"stock.*"}) ||
		d.Environment != "live" || d.ExpiresAt == nil || !d.ExpiresAt.Equal(end) || d.Owner != "team-7" ||
		!maps.Equal(d.Metadata, k.Metadata) {
		t.Errorf("got %+v", d)
	}
	if r.RoleID() != "role_writer" || !slices.Equal(r.Allow(), k.Allow) {
		t.Errorf("role %q, allow %v", r.RoleID(), r.Allow())
	}
	if want, _ := verify.DecodeID(verify.KeyPrefix, k.ID); r.ID() != want {
		t.Errorf("ID() = %x, want %x", r.ID(), want)
	}
	d.Metadata["host"] = "changed by the caller"
	if got := answer(x, q).Metadata()["host"]; got != "a" {
		t.Errorf("a caller has changed the index: %q", got)
	}
}

func TestDecisionOfRefusals(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	k.State = verify.StateRevoked
	d := answer(newIndex(t, k), ask(secret)).Decision()
	if d.Valid || d.Status != 401 || d.Code != keystile.CodeRevoked || d.KeyID != keyID(1) || d.WorkspaceID != acme ||
		d.Detail == "" || len(d.Fixes) == 0 || d.Permissions != nil {
		t.Errorf("revoked: %+v", d)
	}
	d = answer(newIndex(t), ask(secret)).Decision()
	if d.Valid || d.Status != 401 || d.Code != keystile.CodeUnknown || d.KeyID != "" || d.WorkspaceID != "" || d.Role != "" ||
		d.Environment != "" || d.Detail == "" || len(d.Fixes) == 0 {
		t.Errorf("unknown: %+v", d)
	}
	var none verify.Result
	if d := none.Decision(); d.Valid || none.Known() {
		t.Errorf("the zero result: %+v", d)
	}
}

func TestMoreEnvironmentsThanNumbers(t *testing.T) {
	x := newIndex(t)
	const n = 200
	secrets := make([]string, n)
	for i := range secrets {
		secrets[i] = mint(t)
		k := newKey(i, secrets[i])
		k.Environment = fmt.Sprintf("env%d", i)
		x.Apply(verify.Batch{Keys: []verify.Key{k}})
	}
	for i, s := range secrets {
		if got, want := answer(x, ask(s)).Environment(), fmt.Sprintf("env%d", i); got != want {
			t.Errorf("key %d: %q, want %q", i, got, want)
		}
	}
}

func TestKeyWithoutAProperIDIsLeftOut(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	k.ID = strings.ToUpper(k.ID)
	x := newIndex(t, k)
	if r := decide(x, ask(secret)); r.Code != keystile.CodeUnknown || x.Len() != 0 {
		t.Errorf("%s, %d keys", r.Code, x.Len())
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	secret, revoked, restricted := mint(t), mint(t), mint(t)
	gone := newKey(2, revoked)
	gone.State = verify.StateRevoked
	narrow := newKey(3, restricted)
	narrow.Allow, narrow.Permissions = prefixes("10.0.0.0/8", "2001:db8::/32"), keystile.Permissions{"stock.read"}
	x := newIndex(t, newKey(1, secret), gone, narrow)
	imports := newIndex(t, func() verify.Key { k := newKey(1, "foreign"); k.Imported = true; return k }())
	for _, c := range []struct {
		name  string
		index *verify.Index
		query verify.Query
		want  keystile.Code
	}{
		{"valid", x, verify.Query{Secret: secret, Permission: "stock.write", Workspace: acme, Now: noon}, keystile.CodeValid},
		{"valid, restricted", x, verify.Query{Secret: restricted, Permission: "stock.read",
			Address: netip.MustParseAddr("2001:db8::1%eth0"), Now: noon}, keystile.CodeValid},
		{"revoked", x, ask(revoked), keystile.CodeRevoked},
		{"unknown", x, ask(mint(t)), keystile.CodeUnknown},
		{"malformed", x, ask(secret[:30]), keystile.CodeMalformed},
		{"malformed, with imports", imports, ask(secret[:30]), keystile.CodeMalformed},
		{"imported", imports, ask("foreign"), keystile.CodeValid},
	} {
		var got keystile.Code
		if n := testing.AllocsPerRun(100, func() { got = decide(c.index, c.query).Code }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		if got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// A text with the checksum of a key and other signs is looked up, since nothing
// else is asked before that, and is malformed all the same.
func TestForgedChecksumIsMalformed(t *testing.T) {
	x := newIndex(t, newKey(1, mint(t)))
	text := "gw_" + strings.Repeat("~", 33)
	sum := crc32.ChecksumIEEE([]byte("gw_" + strings.Repeat("\x00", 33))) // which is what they count for
	var digits []byte
	for range 6 {
		const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		digits = append([]byte{alphabet[sum%62]}, digits...)
		sum /= 62
	}
	text += string(digits)
	if _, ok := format(t).Screen(text); !ok {
		t.Fatalf("%q has another checksum", text)
	}
	if r := decide(x, ask(text)); r.Code != keystile.CodeMalformed || r.Hint == "" || r.Known() {
		t.Errorf("got %s, %q", r.Code, r.Hint)
	}
}

// The operator's keys manage Keystile. They are no customer's, and good where
// they are asked for by name, or presented to Keystile itself.
func TestOperatorKey(t *testing.T) {
	secret := mint(t)
	k := newKey(1, secret)
	k.WorkspaceID = verify.OperatorWorkspace
	x := newIndex(t)
	x.Apply(verify.Batch{Workspaces: []verify.Workspace{{ID: verify.OperatorWorkspace}}, Keys: []verify.Key{k}})
	for _, c := range []struct {
		query verify.Query
		want  keystile.Code
	}{
		{verify.Query{}, keystile.CodeWrongWorkspace},
		{verify.Query{Permission: "stock.read"}, keystile.CodeWrongWorkspace},
		{verify.Query{Workspace: acme}, keystile.CodeWrongWorkspace},
		{verify.Query{Workspace: acme, Own: true}, keystile.CodeWrongWorkspace},
		{verify.Query{Workspace: verify.OperatorWorkspace}, keystile.CodeValid},
		{verify.Query{Own: true}, keystile.CodeValid},
	} {
		c.query.Secret, c.query.Now = secret, noon
		if r := decide(x, c.query); r.Code != c.want {
			t.Errorf("%+v is %s, want %s", c.query, r.Code, c.want)
		}
	}
}
