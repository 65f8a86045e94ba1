package verify_test

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// model is the index as plain maps, and the decision in the plainest words.
type model struct {
	keys       map[string]verify.Key // by ID
	workspaces map[string]verify.Workspace
	roles      map[string]verify.Role
}

func (m *model) apply(b verify.Batch) {
	for _, w := range b.Workspaces {
		m.workspaces[w.ID] = w
	}
	for _, r := range b.Roles {
		m.roles[r.ID] = r
	}
	for _, k := range b.Keys {
		maps.DeleteFunc(m.keys, func(_ string, o verify.Key) bool { return o.Digest == k.Digest })
		m.keys[k.ID] = k
	}
	for _, id := range b.GoneKeys {
		delete(m.keys, id)
	}
	for _, id := range b.GoneRoles {
		delete(m.roles, id)
	}
	for _, id := range b.GoneWorkspaces {
		delete(m.workspaces, id)
	}
}

func (m *model) decide(q verify.Query) (keystile.Code, verify.Key) {
	digest := keystile.Digest(q.Secret)
	for _, k := range m.keys {
		if k.Digest != digest {
			continue
		}
		w, ok := m.workspaces[k.WorkspaceID]
		if !ok {
			return keystile.CodeUnknown, verify.Key{}
		}
		within := func(list []netip.Prefix) bool {
			return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(q.Address) })
		}
		role := m.roles[k.RoleID].Permissions
		if len(k.Permissions) > 0 {
			role = role.Intersect(k.Permissions)
		}
		_, hasRole := m.roles[k.RoleID]
		switch {
		case w.Suspended:
			return keystile.CodeWorkspaceSuspended, k
		case k.State == verify.StateRevoked:
			return keystile.CodeRevoked, k
		case k.State == verify.StateDisabled:
			return keystile.CodeDisabled, k
		case k.State == verify.StateExpired, k.ExpiresAt != 0 && k.ExpiresAt <= q.Now.UnixMilli():
			return keystile.CodeExpired, k
		case !within(w.Allow), !within(k.Allow):
			return keystile.CodeIPNotAllowed, k
		case q.Workspace != "" && q.Workspace != k.WorkspaceID:
			return keystile.CodeWrongWorkspace, k
		case !hasRole, q.Permission != "" && !role.Allow(q.Permission):
			return keystile.CodeInsufficientPermission, k
		}
		return keystile.CodeValid, k
	}
	return keystile.CodeUnknown, verify.Key{}
}

var lists = [][]netip.Prefix{nil, prefixes("10.0.0.0/8"), prefixes("2001:db8::/32", "192.0.2.0/24")}

func drawKey(t *rapid.T, ids []string, secrets []string) verify.Key {
	return verify.Key{
		ID:          rapid.SampledFrom(ids).Draw(t, "id"),
		Digest:      keystile.Digest(rapid.SampledFrom(secrets).Draw(t, "secret")),
		WorkspaceID: rapid.SampledFrom([]string{"ws_1", "ws_2", "ws_3"}).Draw(t, "workspace"),
		RoleID:      rapid.SampledFrom([]string{"role_1", "role_2", "role_3"}).Draw(t, "role"),
		State:       rapid.SampledFrom([]verify.State{verify.StateActive, verify.StateActive, verify.StateDisabled, verify.StateRevoked, verify.StateExpired}).Draw(t, "state"),
		ExpiresAt:   rapid.SampledFrom([]int64{0, 0, noon.UnixMilli(), noon.Add(time.Hour).UnixMilli()}).Draw(t, "expires"),
		Environment: rapid.SampledFrom([]string{"", "live", "test"}).Draw(t, "environment"),
		Allow:       rapid.SampledFrom(lists).Draw(t, "allow"),
		Permissions: rapid.SampledFrom([]keystile.Permissions{nil, nil, {"a.*"}, {"b.read"}}).Draw(t, "narrow"),
		Owner:       rapid.SampledFrom([]string{"", "", "someone"}).Draw(t, "owner"),
	}
}

// TestIndexAgreesWithPlainMaps lets keys change their digest and digests their
// key as well, which the store never does.
func TestIndexAgreesWithPlainMaps(t *testing.T) {
	var ids, secrets []string
	for i := range 40 {
		ids, secrets = append(ids, keyID(i)), append(secrets, mint(t))
	}
	f := format(t)
	rapid.Check(t, func(t *rapid.T) {
		x := verify.New(f, rapid.SampledFrom([]int{0, 100}).Draw(t, "capacity"))
		m := &model{keys: map[string]verify.Key{}, workspaces: map[string]verify.Workspace{}, roles: map[string]verify.Role{}}
		t.Repeat(map[string]func(*rapid.T){
			"keys": func(t *rapid.T) {
				b := verify.Batch{GoneKeys: rapid.SliceOfN(rapid.SampledFrom(ids), 0, 5).Draw(t, "gone")}
				for range rapid.IntRange(0, 20).Draw(t, "n") {
					b.Keys = append(b.Keys, drawKey(t, ids, secrets))
				}
				x.Apply(b)
				m.apply(b)
			},
			"workspaces": func(t *rapid.T) {
				w := verify.Workspace{
					ID:        rapid.SampledFrom([]string{"ws_1", "ws_2", "ws_3"}).Draw(t, "id"),
					Suspended: rapid.SampledFrom([]bool{false, false, false, true}).Draw(t, "suspended"),
					Allow:     rapid.SampledFrom(lists).Draw(t, "allow"),
				}
				b := verify.Batch{Workspaces: []verify.Workspace{w}}
				if rapid.IntRange(0, 4).Draw(t, "gone") == 0 {
					b = verify.Batch{GoneWorkspaces: []string{w.ID}}
				}
				x.Apply(b)
				m.apply(b)
			},
			"roles": func(t *rapid.T) {
				r := verify.Role{
					ID:          rapid.SampledFrom([]string{"role_1", "role_2", "role_3"}).Draw(t, "id"),
					Permissions: rapid.SampledFrom([]keystile.Permissions{{"*"}, {"a.*"}, {"a.read", "b.read"}}).Draw(t, "permissions"),
				}
				b := verify.Batch{Roles: []verify.Role{r}}
				if rapid.IntRange(0, 4).Draw(t, "gone") == 0 {
					b = verify.Batch{GoneRoles: []string{r.ID}}
				}
				x.Apply(b)
				m.apply(b)
			},
			"": func(t *rapid.T) {
				if x.Len() != len(m.keys) {
					t.Fatalf("%d keys, want %d", x.Len(), len(m.keys))
				}
				q := verify.Query{
					Now:        noon,
					Permission: rapid.SampledFrom([]string{"", "a.read", "b.read"}).Draw(t, "permission"),
					Workspace:  rapid.SampledFrom([]string{"", "", "ws_1"}).Draw(t, "workspace"),
					Address:    rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("192.0.2.1")}).Draw(t, "address"),
				}
				for _, q.Secret = range secrets {
					r := decide(x, q)
					code, k := m.decide(q)
					if r.Code != code || r.KeyID() != k.ID || r.WorkspaceID() != k.WorkspaceID {
						t.Fatalf("got %s for %q of %q, want %s for %q of %q", r.Code, r.KeyID(), r.WorkspaceID(), code, k.ID, k.WorkspaceID)
					}
					if r.Environment() != k.Environment || r.Owner() != k.Owner || !slices.Equal(r.Allow(), k.Allow) {
						t.Fatalf("got %q %q %v, want %q %q %v", r.Environment(), r.Owner(), r.Allow(), k.Environment, k.Owner, k.Allow)
					}
				}
			},
		})
	})
}

// TestGrowth loads so many keys that every shard grows several times, and then
// takes half of them away again.
func TestGrowth(t *testing.T) {
	const n = 6000
	secrets := make([]string, n)
	for i := range secrets {
		secrets[i] = mint(t)
	}
	for _, capacity := range []int{-1, 0, 1000, n, 3 * n} {
		x := verify.New(format(t), capacity)
		x.Apply(verify.Batch{Workspaces: workspaces(), Roles: roles()})
		var b verify.Batch
		for i := range secrets {
			k := newKey(i, secrets[i])
			if i%3 == 0 {
				k.Owner = fmt.Sprint("owner of ", i)
			}
			b.Keys = append(b.Keys, k)
			if len(b.Keys) == 1000 || i == n-1 {
				x.Apply(b)
				b.Keys = b.Keys[:0] // as the store's loader does
			}
		}
		check := func(i int, want keystile.Code) {
			t.Helper()
			r := decide(x, ask(secrets[i]))
			if r.Code != want || want == keystile.CodeValid && (r.KeyID() != keyID(i) || i%3 == 0 && r.Owner() != fmt.Sprint("owner of ", i)) {
				t.Fatalf("capacity %d, key %d: %s as %s, owner %q", capacity, i, r.Code, r.KeyID(), r.Owner())
			}
		}
		for i := range secrets {
			check(i, keystile.CodeValid)
		}
		for i := range secrets {
			if i%2 == 1 {
				b.GoneKeys = append(b.GoneKeys, keyID(i))
			}
		}
		x.Apply(verify.Batch{GoneKeys: b.GoneKeys})
		for i := range secrets {
			if i%2 == 1 {
				check(i, keystile.CodeUnknown)
			} else {
				check(i, keystile.CodeValid)
			}
		}
		if x.Len() != n/2 {
			t.Errorf("capacity %d: %d keys left", capacity, x.Len())
		}
	}
}

// TestDigestsThatLookAlike are no hashes, but an operator may import them: the
// index must neither confuse them nor pile them up in one place.
func TestDigestsThatLookAlike(t *testing.T) {
	const n = 2500
	for _, at := range []int{0, 14, 18, 30} {
		x := newIndex(t)
		began := time.Now()
		for i := range n {
			k := verify.Key{ID: keyID(i), WorkspaceID: acme, RoleID: "role_writer", Imported: true}
			k.Digest[at], k.Digest[at+1] = byte(i), byte(i>>8)
			x.Apply(verify.Batch{Keys: []verify.Key{k}})
		}
		if x.Len() != n {
			t.Errorf("that differ in byte %d: %d of %d keys", at, x.Len(), n)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("that differ in byte %d: took %v", at, took)
		}
	}
}

// TestEveryByteOfADigestCounts has keys whose digest differs from that of a
// secret in one byte: the secret is none of theirs.
func TestEveryByteOfADigestCounts(t *testing.T) {
	for range 500 {
		secret := mint(t)
		x := newIndex(t)
		var b verify.Batch
		for i := range 32 {
			k := newKey(i, secret)
			k.Digest[i] ^= 0x40
			b.Keys = append(b.Keys, k)
		}
		x.Apply(b)
		if r := decide(x, ask(secret)); r.Code != keystile.CodeUnknown || x.Len() != 32 {
			t.Fatalf("%s as %s, %d keys", r.Code, r.KeyID(), x.Len())
		}
	}
}

// TestDeletedKeysLeaveNothing replaces a few keys by others for as long as
// would fill memory many times over if something stayed behind.
func TestDeletedKeysLeaveNothing(t *testing.T) {
	const rounds, keys = 400, 150
	x, minter := newIndex(t), format(t)
	c := verify.NewRecorder()
	before := heap()
	for round := range rounds {
		b := verify.Batch{}
		var used string
		for i := range keys {
			secret, err := minter.Mint("live")
			if err != nil {
				t.Fatal(err)
			}
			k := newKey(round*keys+i, secret)
			k.Metadata = map[string]string{"some": "thing"}
			b.Keys = append(b.Keys, k)
			if round > 0 {
				b.GoneKeys = append(b.GoneKeys, keyID((round-1)*keys+i))
			}
			used = secret
		}
		x.Apply(b)
		// A key that is counted keeps its slot until the drain, and no longer.
		r := decide(x, ask(used))
		c.Count(&r, r.Code, netip.Addr{}, "", noon)
		if round%10 == 9 {
			if got := len(c.Drain()); got != 10 {
				t.Fatalf("drained %d keys, want 10", got)
			}
		}
	}
	if x.Len() != keys {
		t.Errorf("%d keys left, want %d", x.Len(), keys)
	}
	// What stays is about 90 kB; without reuse of extras' numbers, 480 kB more.
	if grown := heap() - before; grown > 1<<18 {
		t.Errorf("%d keys after %d replacements hold %d bytes", keys, rounds*keys, grown)
	}
	runtime.KeepAlive(x)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An update from having extras to having none, and back, many times over.
func TestExtrasComeAndGo(t *testing.T) {
	var secrets []string
	var keys []verify.Key
	for i := range 1000 {
		secrets = append(secrets, mint(t))
		keys = append(keys, newKey(i, secrets[i]))
	}
	x := newIndex(t, keys...)
	for round := range 20 {
		for i := range keys {
			keys[i].Owner, keys[i].Allow = "", nil
			if (i+round)%3 != 0 {
				keys[i].Owner, keys[i].Allow = fmt.Sprint(round, i), lists[1]
			}
		}
		x.Apply(verify.Batch{Keys: keys})
		for i, s := range secrets {
			if r := decide(x, ask(s)); r.Owner() != keys[i].Owner || !slices.Equal(r.Allow(), keys[i].Allow) {
				t.Fatalf("round %d, key %d: %q %v", round, i, r.Owner(), r.Allow())
			}
		}
	}
}
