package verify_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func format(t testing.TB) keystile.Format {
	t.Helper()
	f, err := keystile.NewFormat("gw", "live", "test")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mint(t testing.TB) string {
	t.Helper()
	secret, err := format(t).Mint("live")
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// keyID is the ID of the nth key of a test.
func keyID(n int) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return verify.EncodeID(verify.KeyPrefix, id)
}

const (
	acme  = "ws_acme"
	other = "ws_other"
)

func workspaces() []verify.Workspace { return []verify.Workspace{{ID: acme}, {ID: other}} }

func roles() []verify.Role {
	return []verify.Role{
		{ID: "role_writer", Name: "writer", Permissions: keystile.Permissions{"stock.*"}},
		{ID: "role_reader", Name: "reader", Permissions: keystile.Permissions{"stock.read"}},
	}
}

func newKey(n int, secret string) verify.Key {
	return verify.Key{
		ID: keyID(n), Digest: keystile.Digest(secret), WorkspaceID: acme, RoleID: "role_writer", Environment: "live",
	}
}

// newIndex holds both workspaces, both roles and the keys.
func newIndex(t testing.TB, keys ...verify.Key) *verify.Index {
	t.Helper()
	x := verify.New(format(t), 0)
	x.Apply(verify.Batch{Workspaces: workspaces(), Roles: roles(), Keys: keys})
	return x
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func ask(secret string) verify.Query { return verify.Query{Secret: secret, Now: noon} }

func decide(x *verify.Index, q verify.Query) (r verify.Result) {
	x.Decide(&q, &r)
	return r
}

// answer is decide for those who ask the result one thing.
func answer(x *verify.Index, q verify.Query) *verify.Result {
	r := decide(x, q)
	return &r
}
