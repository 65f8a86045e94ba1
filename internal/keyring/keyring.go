// Package keyring holds the rules: who may do what, what a key's life looks
// like, what a plan allows. Every method takes an [Actor], and it is the only
// caller of tenants' rows. It knows no HTTP and no SQL.
//
// Every change goes through one transaction that holds the state, its audit
// entry, its event and its row in the change log; when a method returns, the
// barrier has seen to it that no node still acts on what was before.
package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"runtime"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// OperatorWorkspace is the ID of the operator's own workspace. Roles with
// power over all workspaces exist only there.
const OperatorWorkspace = verify.OperatorWorkspace

// Barrier waits until the change at seq is in force on every node. A change
// that narrows access waits for all of them; another one waits a moment at
// most and tells whether some node is still behind. Unreached are nodes that
// are cut off and go on answering from before the change.
type Barrier func(ctx context.Context, seq int64, narrows bool) (pending bool, unreached []keystile.Unreached, err error)

// Keyring applies the rules to a store.
type Keyring struct {
	store   *store.Store
	profile *profile.Profile
	barrier Barrier
	ids     *idSource
	now     func() time.Time
	vault   *vault
	uses    *secretUses
	mails   bool // alerts are mailed
	// diagnoses lets so many webhooks be explained at the same time. Each may
	// take a processor for most of a second, which checking keys needs too.
	diagnoses *queue
}

// New returns the keyring of a store.
func New(s *store.Store, p *profile.Profile, b Barrier) *Keyring {
	return &Keyring{
		store: s, profile: p, barrier: b, ids: &idSource{}, now: time.Now, vault: &vault{}, uses: &secretUses{},
		diagnoses: newQueue(max(1, runtime.GOMAXPROCS(0)/2)),
	}
}

// Profile is the configuration of the product.
func (k *Keyring) Profile() *profile.Profile { return k.profile }

// change is a transaction under way on behalf of an actor.
type change struct {
	*store.Tx
	k       *Keyring
	actor   Actor
	now     time.Time
	narrows bool // some access is taken away: the barrier waits for every node
}

// after is the time of a change of an object, later than that of the change
// before it, whatever the clocks of two servers say: receivers of events go by
// it to tell which state is newer.
func (c *change) after(before time.Time) time.Time {
	if c.now.After(before) {
		return c.now
	}
	return before.Add(time.Millisecond)
}

// write runs fn in a transaction and then the barrier.
func (k *Keyring) write(ctx context.Context, a Actor, fn func(c *change) error) (pending bool, err error) {
	var c *change
	var seq int64
	err = k.withKeys(ctx, func() (err error) {
		seq, err = k.store.Write(ctx, func(tx *store.Tx) error {
			c = &change{Tx: tx, k: k, actor: a, now: k.now().UTC().Truncate(time.Millisecond)}
			if err := c.recheck(); err != nil {
				return err
			}
			return fn(c)
		})
		return err
	})
	if err != nil {
		return false, problemOf(err)
	}
	if seq == 0 {
		return false, nil
	}
	return k.inForce(ctx, a, seq, c.narrows)
}

// inForce is the barrier, and notes for the actor who was not reached.
func (k *Keyring) inForce(ctx context.Context, a Actor, seq int64, narrows bool) (pending bool, err error) {
	pending, unreached, err := k.barrier(ctx, seq, narrows)
	if err != nil {
		return pending, keystile.NewError(keystile.CodeUnknownOutcome,
			"The change is stored, and it is not certain yet that every server knows of it.",
			"Send the same request again until it succeeds.")
	}
	a.origin.Receipt.note(unreached)
	return pending, nil
}

// gone is the answer to who wanted to remove something. That it is not there
// proves to nobody that every server knows: it may have been removed a moment ago,
// by the same caller, who was told of an unknown outcome. Whoever may remove such
// things at all waits like the first one.
func (k *Keyring) gone(ctx context.Context, a Actor, permission string, err error) error {
	if !errors.Is(err, keystile.CodeNotFound) || !a.May(permission) {
		return err
	}
	var head store.Head
	if err := k.read(ctx, func(tx *store.Tx) (err error) {
		head, err = tx.Head()
		return err
	}); err != nil {
		return err
	}
	if _, unsure := k.inForce(ctx, a, head.Seq, true); unsure != nil {
		return unsure
	}
	return err
}

// read runs fn on a snapshot.
func (k *Keyring) read(ctx context.Context, fn func(tx *store.Tx) error) error {
	return problemOf(k.withKeys(ctx, func() error { return k.store.Read(ctx, fn) }))
}

// readWithin runs fn on a snapshot for an actor who may see the workspace, which
// is looked up first, and has the permission there.
func (k *Keyring) readWithin(ctx context.Context, a Actor, workspaceID, permission string, fn func(tx *store.Tx) error) error {
	if err := checkID("ws_", workspaceID); err != nil {
		return err
	}
	return k.read(ctx, func(tx *store.Tx) error {
		if _, err := tx.Workspace(a.scope(), workspaceID); err != nil {
			return err
		}
		if err := a.need(permission); err != nil {
			return err
		}
		return fn(tx)
	})
}

// problemOf turns what the store says into what callers are told. Errors that
// are no one's doing pass through, to become an internal error at the door.
func problemOf(err error) error {
	var problem *keystile.Error
	switch {
	case err == nil, errors.As(err, &problem):
		return err
	case errors.Is(err, store.ErrNotFound):
		return notFound()
	case errors.Is(err, store.ErrFull):
		return errors.Join(keystile.NewError(keystile.CodeStorageFull, "The database has no space left. Nothing was changed."), err)
	case errors.Is(err, store.ErrUnknownOutcome):
		return errors.Join(keystile.NewError(keystile.CodeUnknownOutcome,
			"The database did not confirm the change. It may have happened or not."), err)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed):
		return errors.Join(keystile.NewError(keystile.CodeUnavailable, "The database cannot be reached. Nothing was changed."), err)
	}
	return err
}

// notFound is the one answer for what is absent, foreign or malformed as an ID.
func notFound() error {
	return keystile.NewError(keystile.CodeNotFound, "There is no such object, or it is not in a workspace of yours.")
}

// entry is what a change leaves in the audit log and the outbox.
type entry struct {
	workspaceID string
	action      string // also the type of the event
	kind        store.ChangeKind
	objectID    string
	objectName  string
	reason      string
	before      any // as on the wire; nil when the object is new
	after       any // as on the wire; nil when the object is gone
}

// record writes the audit entry, the event and the change-log row of a change.
func (c *change) record(e entry) error {
	before, after := difference(e.before, e.after)
	if err := c.InsertAudit(keystile.AuditEntry{
		ID: c.k.ids.next("aud_", c.now), WorkspaceID: e.workspaceID, At: c.now, Actor: c.actor.party,
		Action: e.action, ObjectKind: string(e.kind), ObjectID: e.objectID, ObjectName: e.objectName,
		Address: c.actor.origin.address(), UserAgent: c.actor.origin.UserAgent, RequestID: c.actor.origin.RequestID,
		Reason: e.reason, Before: before, After: after,
	}); err != nil {
		return err
	}
	object := e.after
	if object == nil {
		object = e.before
	}
	told, ok := keystile.EventTypeOf(e.action)
	if !ok { // nobody can get it
		return c.LogChange(e.kind, e.objectID)
	}
	data := map[string]any{string(e.kind): object}
	if told.Object == "subject" {
		data = map[string]any{"subject": keystile.EventSubject{ID: e.objectID, Name: e.objectName, Reason: e.reason, By: c.actor.party}}
	}
	if err := c.tell(e.workspaceID, e.action, e.objectID, data); err != nil {
		return err
	}
	return c.LogChange(e.kind, e.objectID)
}

// tell puts an event into the outbox. The data is what receivers read, in the
// form of [keystile.EventData], and carries no secret.
func (c *change) tell(workspaceID, event, objectID string, data map[string]any) error {
	return c.InsertEvent(store.Event{
		ID: c.k.ids.next("evt_", c.now), WorkspaceID: workspaceID, Type: event, ObjectID: objectID, At: c.now, Data: data,
	})
}

// recheck fails unless the actor's key is still what it was when its request
// was let in. The body may have come seconds later, and a key that was taken
// away meanwhile must not act any more: whoever took it away was told so.
func (c *change) recheck() error {
	if c.actor.session.ID != "" {
		return c.recheckSession()
	}
	if c.actor.party.Kind != "key" {
		return nil
	}
	own := store.OneWorkspace(c.actor.workspace)
	key, err := c.Key(own, c.actor.party.ID)
	if errors.Is(err, store.ErrNotFound) {
		return keystile.NewError(keystile.CodeUnknown, "")
	} else if err != nil {
		return err
	}
	ws, err := c.Workspace(own, c.actor.workspace)
	if err != nil {
		return err
	}
	role, err := c.roleByID(ws.ID, key.RoleID)
	if err != nil {
		return err
	}
	c.ended(&key)
	c.actor.party.Name = key.Name
	switch {
	case ws.Suspended:
		return keystile.NewError(keystile.CodeWorkspaceSuspended, "")
	case key.Status == keystile.StatusRevoked:
		return keystile.NewError(keystile.CodeRevoked, "")
	case key.Status == keystile.StatusDisabled:
		return keystile.NewError(keystile.CodeDisabled, "")
	case key.Status != keystile.StatusActive:
		return keystile.NewError(keystile.CodeExpired, "")
	case !admits(ws.IPAllowlist, c.actor.origin.Address), !admits(key.IPAllowlist, c.actor.origin.Address):
		return keystile.NewError(keystile.CodeIPNotAllowed, "")
	case !effective(key, role).Cover(c.actor.permissions), !sameAllowlist(key.IPAllowlist, c.actor.allow):
		return keystile.NewError(keystile.CodeConflict,
			"What your key may do was changed while this request was under way. Nothing was done.",
			"Send the request again.")
	}
	return nil
}

// settle logs a change of nothing, so that a caller who repeats a request
// waits for the barrier like the first one did.
func (c *change) settle() error {
	c.narrows = true
	return c.LogChange(store.ChangeNoop, "")
}

// volatile fields say nothing about a change, only about when it was looked at.
var volatile = []string{"updated_at", "last_use", "safe_to_revoke", "idle", "rotation_due_at", "review_due_at", "active_keys"} //nolint:gochecknoglobals // a constant list

// difference returns the fields of two states that differ, as on the wire.
func difference(before, after any) (b, a map[string]any) {
	b, a = fields(before), fields(after)
	if before == nil || after == nil {
		return b, a
	}
	for name, was := range b {
		if is, ok := a[name]; ok && sameJSON(was, is) {
			delete(b, name)
			delete(a, name)
		}
	}
	return b, a
}

func fields(v any) map[string]any {
	if v == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic("keyring: " + err.Error())
	}
	m := map[string]any{}
	if err := json.Unmarshal(text, &m); err != nil {
		panic("keyring: " + err.Error())
	}
	for _, name := range volatile {
		delete(m, name)
	}
	return m
}

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// Idempotency identifies a request that may be sent twice. A zero value means
// that the caller sent no Idempotency-Key.
type Idempotency struct {
	Key   string // as the caller sent it
	Route string // method and path
}

// idempotencyWindow is for how long an answer is replayed.
const idempotencyWindow = 24 * time.Hour

// once runs create unless the same actor has sent the same request under the
// same key before, in which case it returns the answer of then, as strip left
// it: without its secret.
func once[T any](c *change, idem Idempotency, input any, strip func(T) T, create func() (T, error)) (T, bool, error) {
	var zero T
	if idem.Key == "" {
		v, err := create()
		return v, false, err
	}
	asked, err := json.Marshal(input)
	if err != nil {
		return zero, false, err
	}
	request := sha256.Sum256(asked)
	who, err := json.Marshal([]string{c.actor.party.Kind, c.actor.party.ID, c.actor.workspace, idem.Route, idem.Key})
	if err != nil {
		return zero, false, err
	}
	scope := sha256.Sum256(who)
	if err := c.ForgetIdempotent(scope, c.now.Add(-idempotencyWindow)); err != nil {
		return zero, false, err
	}
	kept, response, err := c.Idempotent(scope)
	switch {
	case err == nil:
		if string(kept) != string(request[:]) {
			return zero, false, keystile.NewError(keystile.CodeIdempotencyMismatch,
				"This Idempotency-Key came with another request before.",
				"Use a new Idempotency-Key for a new request.", "Send exactly the same body to repeat the first one.")
		}
		if err := json.Unmarshal([]byte(response), &zero); err != nil {
			return zero, false, err
		}
		return zero, true, c.settle()
	case !errors.Is(err, store.ErrNotFound):
		return zero, false, err
	}
	v, err := create()
	if err != nil {
		return zero, false, err
	}
	answer, err := json.Marshal(strip(v))
	if err != nil {
		return zero, false, err
	}
	return v, false, c.KeepIdempotent(scope, request, string(answer), c.now)
}

// page cuts a list that was read with one row more than asked for, and names
// the cursor of the next page.
func page[T any](rows []T, limit int, cursor func(T) string) keystile.List[T] {
	l := keystile.List[T]{Data: rows}
	if l.Data == nil {
		l.Data = []T{}
	}
	if len(rows) > limit {
		l.Data = rows[:limit]
		l.NextCursor = cursor(rows[limit-1])
	}
	return l
}
