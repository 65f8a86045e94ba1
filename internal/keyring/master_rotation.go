package keyring

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/store"
)

// ReasonMasterKeyLost is why webhook secrets are revoked that nobody can open
// any more.
const ReasonMasterKeyLost = "master_key_lost"

// ErrNoNewMasterKey is the error of a rotation that finds no key that is newer
// than the one in use, and may not make one.
var ErrNoNewMasterKey = errors.New("keyring: there is no newer master key than the one in use")

// MasterKeyRotation is what a rotation of the master key did.
type MasterKeyRotation struct {
	Former   string   `json:"former,omitempty"` // ID of the key that sealed before
	Current  string   `json:"current"`          // ID of the key that seals now
	Made     bool     `json:"made"`             // a new key was made
	Resealed int      `json:"resealed"`         // webhook secrets that are under the current key since
	Lost     int      `json:"lost"`             // given up, since nobody has their key
	Damaged  []string `json:"damaged,omitempty"`
	Unneeded []string `json:"unneeded,omitempty"` // IDs of keys that are held and seal nothing any more
}

// NodesLackKeyError is the error of a rotation to a master key that servers
// don't hold, or may not.
type NodesLackKeyError struct {
	Key             string
	Lacking, Silent []keystile.Node
}

func (e *NodesLackKeyError) Error() string {
	names := func(list []keystile.Node) string {
		all := make([]string, len(list))
		for i, n := range list {
			all[i] = n.Name + " (node " + n.ID + ", version " + n.Version + ")"
		}
		return strings.Join(all, ", ")
	}
	text := "servers would refuse everything that takes a webhook secret from the moment the master key " + e.Key + " is in use"
	if len(e.Lacking) > 0 {
		text += "; they do not hold it: " + names(e.Lacking)
	}
	if len(e.Silent) > 0 {
		text += "; they have not said what they hold: " + names(e.Silent)
	}
	return text
}

// resealChunk is how many webhook secrets one step seals anew, so that others
// have their turn in between.
const resealChunk = 100

// RotateMasterKey makes the newest key of a source the one that seals, and
// seals all webhook secrets anew under it. When the newest is in use already it
// finishes a rotation that was broken off; when there is none of those either,
// it makes a key if it may, and puts it first into the source's file. With lost,
// secrets are given up whose key is not there.
//
// It may run beside servers, and be killed at any moment. The file gets the new
// key before anything is sealed under it and keeps the former ones; a server
// that meets a key it does not know reads the file again. From the commit that
// names the new key on, everyone seals under it: the setting is read in each
// transaction that seals, and transactions follow one another. All of this
// happens inside of one, so that two rotations do not overwrite each other's file.
//
// On PostgreSQL it fails with a [NodesLackKeyError] when servers don't hold the
// newest key, unless it is forced.
func (k *Keyring) RotateMasterKey(ctx context.Context, a Actor, source seal.Source, mayMake, lost, force bool) (r MasterKeyRotation, err error) {
	b, err := source.Read(ctx)
	if err != nil && (!mayMake || !errors.Is(err, fs.ErrNotExist)) {
		return r, err
	}
	if k.store.Postgres() && b != nil && !force {
		if err := k.waitHeld(ctx, b.Newest()); err != nil {
			return r, err
		}
	}
	k.vault.source = source
	_, err = k.write(ctx, a, func(c *change) error {
		r = MasterKeyRotation{}
		if source.File != "" { // a rotation before this one may have written it
			if b, err = source.Read(ctx); err != nil && (!mayMake || !errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		}
		b, err = c.chooseMasterKey(b, source, mayMake, lost, &r)
		return err
	})
	if err != nil {
		return r, err
	}
	k.vault.held.Store(b)
	for after, more := "", true; more; {
		if after, more, err = k.reseal(ctx, a, b, after, lost, &r); err != nil {
			return r, err
		}
	}
	err = k.read(ctx, func(tx *store.Tx) error {
		_, all, err := tx.SealedUnder()
		for _, key := range b.Keys() {
			if id := key.ID(); id != r.Current && all[id] == 0 {
				r.Unneeded = append(r.Unneeded, id)
			}
		}
		return err
	})
	return r, err
}

// holdWait is for how long servers may take to notice a key that was put into
// their file, or that their command prints now.
const holdWait = 2 * rereadCommand

// waitHeld waits until all servers hold a master key.
func (k *Keyring) waitHeld(ctx context.Context, id string) error {
	for end := time.Now().Add(holdWait); ; {
		lacking, silent, err := k.NodesWithout(ctx, id)
		switch {
		case err != nil:
			return err
		case len(lacking)+len(silent) == 0:
			return nil
		case time.Now().After(end):
			return &NodesLackKeyError{Key: id, Lacking: lacking, Silent: silent}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// chooseMasterKey decides which key seals from now on, and notes it.
func (c *change) chooseMasterKey(b *seal.Box, source seal.Source, mayMake, lost bool, r *MasterKeyRotation) (*seal.Box, error) {
	var err error
	if r.Former, err = c.Setting(store.SettingMasterKey); ignoreNotFound(err) != nil {
		return nil, err
	}
	live, all, err := c.SealedUnder()
	if err != nil {
		return nil, err
	}
	if b == nil { // no file yet, or no more
		if r.Former != "" && !lost {
			return nil, &WrongMasterKeyError{Source: source.String(), Missing: []string{r.Former}}
		}
		if b, err = makeKeyFile(source.File, nil); err != nil {
			return nil, err
		}
		r.Made = true
	}
	if !lost && r.Former != "" {
		if err := fitting(b, source, r.Former, live); err != nil {
			return nil, err
		}
	}
	delete(all, r.Former)
	unfinished := slices.ContainsFunc(b.Keys(), func(key seal.MasterKey) bool { return all[key.ID()] > 0 })
	if b.Newest() == r.Former && !unfinished && !lost {
		if !mayMake {
			return nil, ErrNoNewMasterKey
		}
		if b, err = makeKeyFile(source.File, b.Keys()); err != nil {
			return nil, err
		}
		r.Made = true
	}
	r.Current = b.Newest()
	if r.Current == r.Former {
		return b, nil
	}
	if err := c.SetSetting(store.SettingMasterKey, r.Current); err != nil {
		return nil, err
	}
	e := entry{
		workspaceID: OperatorWorkspace, action: "master_key.rotated", kind: store.ChangeMasterKey, objectID: r.Current,
		before: map[string]string{"id": r.Former}, after: map[string]string{"id": r.Current},
	}
	if lost {
		e.reason = ReasonMasterKeyLost
	}
	return b, c.record(e)
}

// reseal takes one step of sealing anew. It returns after which ID to go on,
// and whether there is more.
func (k *Keyring) reseal(ctx context.Context, a Actor, b *seal.Box, after string, lost bool, r *MasterKeyRotation) (next string, more bool, err error) {
	var step MasterKeyRotation
	_, err = k.write(ctx, a, func(c *change) error {
		step, next = MasterKeyRotation{}, after
		rows, err := c.NextSealed(store.AllWorkspaces(), r.Current, after, resealChunk)
		if err != nil {
			return err
		}
		more = len(rows) == resealChunk
		for i := range rows {
			next = rows[i].ID
			if err := c.resealOne(b, &rows[i], lost, r.Current, &step); err != nil {
				return err
			}
		}
		return nil
	})
	r.Resealed += step.Resealed
	r.Lost += step.Lost
	r.Damaged = append(r.Damaged, step.Damaged...)
	return next, more, err
}

func (c *change) resealOne(b *seal.Box, s *store.WebhookSecret, lost bool, current string, r *MasterKeyRotation) error {
	plain, err := b.Open(s.Sealed, s.WorkspaceID, s.ID)
	var unknown *seal.UnknownKeyError
	switch {
	case errors.As(err, &unknown) && lost:
		r.Lost++
		return c.giveUp(s)
	case errors.As(err, &unknown): // its life has ended, or the start would have failed
		return nil
	case err != nil:
		r.Damaged = append(r.Damaged, s.ID)
		return nil //nolint:nilerr // the others go on, and the caller is told of this one
	}
	sealed, err := b.Seal(current, plain, s.WorkspaceID, s.ID)
	if err != nil {
		return err
	}
	r.Resealed++
	return c.Reseal(store.AllWorkspaces(), s.ID, current, sealed)
}

// giveUp revokes a webhook secret that nobody can open any more.
func (c *change) giveUp(s *store.WebhookSecret) error {
	if err := c.Reseal(store.AllWorkspaces(), s.ID, "", nil); err != nil {
		return err
	}
	if secretEnded(s, c.now); s.Status != keystile.StatusActive {
		return nil
	}
	before := *s
	c.revokeSecret(s, ReasonMasterKeyLost)
	return c.saveSecret("webhook_secret.revoked", ReasonMasterKeyLost, &before, s)
}
