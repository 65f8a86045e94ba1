package keyring

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// Origin is where a request came from. It goes into the audit log.
type Origin struct {
	Address   netip.Addr
	UserAgent string
	RequestID string
	Receipt   *Receipt // nil where nobody reads it
}

// Receipt takes what must be told to whoever made a change, beside the object
// that was changed. It belongs to one request, and is written by its goroutine.
type Receipt struct {
	// Unreached are the servers that go on answering from before the change.
	Unreached []keystile.Unreached
}

// note adds servers; of one that is there already, the later time counts.
func (r *Receipt) note(unreached []keystile.Unreached) {
	if r == nil {
		return
	}
	for _, u := range unreached {
		at := slices.IndexFunc(r.Unreached, func(was keystile.Unreached) bool { return was.Node == u.Node })
		switch {
		case at < 0:
			r.Unreached = append(r.Unreached, u)
		case u.Until.After(r.Unreached[at].Until):
			r.Unreached[at].Until = u.Until
		}
	}
}

func (o Origin) address() string {
	if !o.Address.IsValid() {
		return ""
	}
	return o.Address.String()
}

// Actor is who acts, with what it may do. Its fields can't be set from
// outside this package: an Actor comes from a checked key or from a session,
// or is the operator at the command line. The zero Actor may do nothing.
type Actor struct {
	party       keystile.Party
	workspace   string
	permissions keystile.Permissions
	allow       []netip.Prefix // restriction that the actor can't shake off
	origin      Origin
	session     Session // of a person at the pages; zero for a key
}

// KeyActor is whoever holds a key that was checked and found valid.
func KeyActor(r verify.Result, o Origin) Actor {
	if r.Code != keystile.CodeValid {
		return Actor{}
	}
	return Actor{
		party:     keystile.Party{Kind: "key", ID: r.KeyID()},
		workspace: r.WorkspaceID(), permissions: r.Permissions(), allow: r.Allow(), origin: o,
	}
}

// Operator is whoever may open the store itself: the person at the command
// line of the machine. Name is what the audit log calls them.
func Operator(name string) Actor {
	return Actor{
		party: keystile.Party{Kind: "operator", Name: name}, workspace: OperatorWorkspace,
		permissions: keystile.Permissions{"*", "api.*", "platform.*"},
	}
}

// system is Keystile itself: expiry, retention, the first start.
func system() Actor {
	a := Operator("")
	a.party = keystile.Party{Kind: "system", Name: "keystile"}
	return a
}

// Workspace is the actor's own workspace.
func (a Actor) Workspace() string { return a.workspace }

// Party is how the actor is called in answers and in the audit log.
func (a Actor) Party() keystile.Party { return a.party }

// Everywhere tells whether the actor's permissions hold in every workspace.
func (a Actor) Everywhere() bool { return a.permissions.Allow("platform.access") }

// May tells whether the actor has a permission, in its own workspace unless
// it is one of the platform's.
func (a Actor) May(permission string) bool { return a.permissions.Allow(permission) }

// scope is what the actor can see at all.
func (a Actor) scope() store.Scope {
	if a.Everywhere() {
		return store.AllWorkspaces()
	}
	return store.OneWorkspace(a.workspace)
}

// need fails unless the actor has all of the permissions. That the object is
// in the actor's scope is known by then: it has been read.
func (a Actor) need(permissions ...string) error {
	for _, p := range permissions {
		if !a.permissions.Allow(p) {
			return a.Lacks(p)
		}
	}
	return nil
}

// Lacks refuses what takes a permission that the actor does not have.
func (a Actor) Lacks(permission string) error {
	if a.session.Kind == SessionPortal && managesMembers(permission) {
		e := keystile.NewError(keystile.CodeInsufficientPermission,
			"You came from your product, so who is a member here is not managed on these pages.",
			"Manage the people of the workspace in your product.")
		e.Permission = permission
		return e
	}
	if a.session.ID != "" {
		e := keystile.NewError(keystile.CodeInsufficientPermission,
			"Your role in this workspace lacks the permission "+permission+".",
			"Ask an administrator of the workspace for a role that has it.")
		e.Permission = permission
		return e
	}
	e := keystile.NewError(keystile.CodeInsufficientPermission,
		"The key you sent lacks the permission "+permission+".",
		"Use a key whose role has the permission "+permission+".",
		"Ask an administrator of the workspace to give your key's role this permission.")
	e.Permission = permission
	return e
}

// cover fails unless the actor holds all that it is about to hand out.
func (a Actor) cover(p keystile.Permissions) error {
	var missing []string
	for _, want := range p {
		if !a.permissions.Allow(want) {
			missing = append(missing, want)
		}
	}
	if missing == nil {
		return nil
	}
	return keystile.NewError(keystile.CodeExceedsAuthority,
		"This would hand out permissions that you don't hold: "+strings.Join(missing, ", ")+".",
		"Choose a role, or permissions, within your own.",
		"Ask someone who holds these permissions to do it.")
}

// coverAllowlist fails if the actor is bound to addresses and the target
// would be bound to others, or to none.
func (a Actor) coverAllowlist(list []string) error {
	if len(a.allow) == 0 {
		return nil
	}
	fail := keystile.NewError(keystile.CodeExceedsAuthority,
		"Your key may be used from certain addresses only, and this would reach further than them.",
		"Give it an ip_allowlist within the one of your own key.")
	if len(list) == 0 {
		return fail
	}
	for _, s := range list {
		p, err := parsePrefix(s)
		if err != nil {
			return fmt.Errorf("keyring: stored allowlist: %w", err)
		}
		if !within(p, a.allow) {
			return fail
		}
	}
	return nil
}

// within tells whether some prefix of the list holds all of p.
func within(p netip.Prefix, list []netip.Prefix) bool {
	for _, q := range list {
		if q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// touch fails if the permissions reach into Keystile itself and the actor may
// not touch keys that do.
func (a Actor) touch(p keystile.Permissions) error {
	if len(p.Managing()) > 0 && !a.permissions.Allow("api.key.grant") {
		return a.Lacks("api.key.grant")
	}
	return nil
}

// MayGive tells whether the actor may give someone a role of these
// permissions, as far as its own permissions go.
func (a Actor) MayGive(p keystile.Permissions) bool { return a.touch(p) == nil && a.cover(p) == nil }
