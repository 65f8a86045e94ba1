package verify

import (
	"maps"
	"net/netip"
	"time"

	"github.com/keystile/keystile"
)

// maxSecret is how many bytes of a text of another form than the product's are
// hashed at most, where imported keys make it worth a look.
const maxSecret = 512

// OperatorWorkspace is the ID of the operator's own workspace, whose keys
// manage Keystile and are none of the product's.
const OperatorWorkspace = "ws_operator"

// Query asks whether a key is good.
type Query struct {
	Secret     string // the key as it was presented
	Permission string // refuse unless the key carries it; empty: not asked
	// Workspace is an ID: the key of another one is refused. Empty: not asked,
	// and the key of any workspace but [OperatorWorkspace] is taken.
	Workspace string
	// Own tells that the key is presented to Keystile itself, where the keys of
	// the operator's workspace are good without being asked for.
	Own     bool
	Address netip.Addr // of whoever presented the key; invalid when it is not known
	Now     time.Time  // what expires_at is compared with; without it every key that has one is over
}

// Result is the answer to a Query. All that its methods return belongs to the
// index and is not to be changed.
type Result struct {
	Code keystile.Code
	Hint keystile.Hint // with CodeMalformed

	permission  string // that was asked for
	table       *table // nil when the key is not known
	slot        uint32
	state       State
	environment uint8
	noAddress   bool
	id          [2]uint64
	expires     int64
	workspace   *Workspace
	role        *Role
	extra       *extra
}

// Decide tells whether a key is good. It may be called from any number of
// goroutines at once. The answer is written where the caller wants it, since a
// copy of what was written a moment before makes a processor wait.
func (x *Index) Decide(q *Query, r *Result) {
	*r = Result{}
	hint, passed := x.format.Screen(q.Secret)
	if !passed && (x.imports.Load() == 0 || len(q.Secret) > maxSecret) {
		r.Code, r.Hint = keystile.CodeMalformed, hint
		return
	}
	sum := keystile.Digest(q.Secret)
	d := x.hash.digest(&sum)
	location := x.hash.location(d)
	t := x.shardOf(location).table.Load()
	life, place, head, found := t.find(d, location, r)
	if found {
		r.workspace = x.workspaces.get(place >> workspaceAt)
	}
	if r.workspace == nil { // the key of a workspace that is gone is gone
		if passed && !x.format.Confirm(q.Secret) {
			hint, passed = x.format.Check(q.Secret)
		}
		*r = notFound(hint, passed)
		return
	}
	r.table = t
	r.expires, r.environment = int64(life>>expiry), uint8(life>>environment&(1<<(expiry-environment)-1))
	r.state = State(head&stateMask>>stateAt) - 1
	r.role = x.roles.get(place >> roleAt & numberMask)
	if r.role != nil && r.role.WorkspaceID != "" && r.role.WorkspaceID != r.workspace.ID {
		r.role = nil // a role of another tenant is none
	}
	r.Code = r.judge(q)
}

// notFound is the answer for a text that is no key of the index.
func notFound(hint keystile.Hint, formed bool) Result {
	if !formed {
		return Result{Code: keystile.CodeMalformed, Hint: hint}
	}
	return Result{Code: keystile.CodeUnknown}
}

// judge returns the code of a key that was found: the first condition that fails.
func (r *Result) judge(q *Query) keystile.Code {
	switch {
	case r.workspace.Suspended:
		return keystile.CodeWorkspaceSuspended
	case r.state == StateRevoked:
		return keystile.CodeRevoked
	case r.state == StateDisabled:
		return keystile.CodeDisabled
	case r.state != StateActive, r.expires != 0 && (q.Now.IsZero() || q.Now.UnixMilli() >= r.expires):
		return keystile.CodeExpired
	case !allows(r.workspace.Allow, q.Address), r.extra != nil && !allows(r.extra.allow, q.Address):
		r.noAddress = !q.Address.IsValid()
		return keystile.CodeIPNotAllowed
	case !q.takes(r.workspace.ID):
		return keystile.CodeWrongWorkspace
	case !r.may(q.Permission):
		r.permission = q.Permission
		return keystile.CodeInsufficientPermission
	}
	return keystile.CodeValid
}

// takes tells whether the asker takes keys of a workspace. An operator's key
// holds "*", and would be good for every customer's data.
func (q *Query) takes(workspace string) bool {
	if q.Workspace == "" {
		return q.Own || workspace != OperatorWorkspace
	}
	return q.Workspace == workspace
}

// may tells whether the key carries the permission. Without a role it is not
// good for anything, even when no permission is asked for.
func (r *Result) may(permission string) bool {
	if r.role == nil {
		return false
	}
	if permission == "" {
		return true
	}
	return r.role.Permissions.Allow(permission) && (!r.narrowed() || r.extra.narrow.Allow(permission))
}

func (r *Result) narrowed() bool { return r.extra != nil && len(r.extra.narrow) > 0 }

// allows tells whether a list lets an address in. An invalid address is in no
// prefix.
func allows(list []netip.Prefix, address netip.Addr) bool {
	return len(list) == 0 || contain(list, address)
}

func contain(list []netip.Prefix, address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, p := range list {
		if p.Contains(address) {
			return true
		}
	}
	return false
}

// plainPrefixes copies a list with prefixes of IPv4-mapped IPv6 addresses as
// prefixes of IPv4, since that is how addresses are compared.
func plainPrefixes(list []netip.Prefix) []netip.Prefix {
	if len(list) == 0 {
		return nil
	}
	plain := make([]netip.Prefix, len(list))
	for i, p := range list {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		plain[i] = p
	}
	return plain
}

// Known tells whether the key is one of the index's, good or not. Of one that
// is not, there is nothing but Code and Hint.
func (r *Result) Known() bool { return r.table != nil }

// ID returns the bytes of the Key ID.
func (r *Result) ID() [16]byte { return idBytes(r.id) }

// KeyID returns the Key ID as it is on the wire.
func (r *Result) KeyID() string {
	if r.table == nil {
		return ""
	}
	return EncodeID(KeyPrefix, r.ID())
}

// AppendKeyID appends the Key ID, which must be known.
func (r *Result) AppendKeyID(b []byte) []byte {
	digits := digitsOf(r.id[0], r.id[1])
	return append(append(b, KeyPrefix...), digits[:]...)
}

// SameHolder tells whether two results have workspace, role and permissions in
// common, by a look that may miss it.
func (r *Result) SameHolder(o *Result) bool {
	return r.workspace == o.workspace && r.role == o.role && !r.narrowed() && !o.narrowed()
}

// WorkspaceID returns the ID of the key's workspace.
func (r *Result) WorkspaceID() string {
	if r.workspace == nil {
		return ""
	}
	return r.workspace.ID
}

// RoleID returns the ID of the key's role, empty when the index lacks it.
func (r *Result) RoleID() string {
	if r.role == nil {
		return ""
	}
	return r.role.ID
}

// RoleName returns the name of the key's role, empty when the index lacks it.
func (r *Result) RoleName() string {
	if r.role == nil {
		return ""
	}
	return r.role.Name
}

// Permissions returns what the key may do: its role, narrowed by its own
// permissions where it has any.
func (r *Result) Permissions() keystile.Permissions {
	if r.role == nil {
		return nil
	}
	if !r.narrowed() {
		return r.role.Permissions
	}
	e := r.extra.effective.Load()
	if e == nil || e.role != r.role {
		both := r.role.Permissions.Intersect(r.extra.narrow)
		e = &effective{role: r.role, permissions: both[:len(both):len(both)]}
		r.extra.effective.Store(e)
	}
	return e.permissions
}

// Environment returns the key's environment, which may be empty.
func (r *Result) Environment() string {
	switch {
	case r.table == nil:
		return ""
	case r.environment == moreEnvironments:
		return r.extra.environment
	}
	return (*r.table.index.environments.Load())[r.environment]
}

// ExpiresAt returns the end of the key's life in UTC, if it has one.
func (r *Result) ExpiresAt() (time.Time, bool) {
	if r.expires == 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(r.expires).UTC(), true
}

// Owner returns who or what the key belongs to in the product, if that is said.
func (r *Result) Owner() string {
	if r.extra == nil {
		return ""
	}
	return r.extra.owner
}

// Metadata returns what the product has noted with the key.
func (r *Result) Metadata() map[string]string {
	if r.extra == nil {
		return nil
	}
	return r.extra.metadata
}

// Allow returns the key's own allowlist, empty for anywhere.
func (r *Result) Allow() []netip.Prefix {
	if r.extra == nil {
		return nil
	}
	return r.extra.allow
}

// Decision returns the whole answer, for an asker who is entitled to all of it.
// Who may see less has to leave out the rest.
func (r *Result) Decision() keystile.Decision {
	d := keystile.Decision{
		Valid: r.Code == keystile.CodeValid, Code: r.Code, Hint: r.Hint, Status: r.Code.Status(),
		KeyID: r.KeyID(), WorkspaceID: r.WorkspaceID(), Role: r.RoleName(),
		Environment: r.Environment(), Owner: r.Owner(), Metadata: maps.Clone(r.Metadata()),
	}
	if end, ok := r.ExpiresAt(); ok {
		d.ExpiresAt = &end
	}
	if d.Valid || r.Code == keystile.CodeInsufficientPermission {
		d.Permissions = r.Permissions()
	}
	if problem := d.Problem(r.permission); problem != nil {
		d.Detail, d.Fixes = problem.Detail, problem.Fixes
	}
	if r.noAddress {
		d.Detail = "This key may be used from certain addresses only, and the check was not told where the request came from."
		d.Fixes = []string{
			"Tell the address of whoever presented the key along with it: ip in the request to verify.",
			"If a proxy stands in front, name it as a trusted proxy, so that the address it forwards is believed.",
		}
	}
	return d
}
