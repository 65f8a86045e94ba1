package keyring

import (
	"context"
	"fmt"

	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/store"
)

// settingProfile holds the text of the profile that the servers were last started with.
const settingProfile = "profile"

// ProfileFor is the profile to work on a store with: the given one or, where
// that is nil, the one that the last server on it was started with. So a
// forgotten setting does not turn every key into a foreign one. A store that
// never had a server gets the built-in one. It tells whether the profile was
// remembered and is another than the built-in one.
//
// It fails when the given profile makes keys of another prefix than those the
// store has: it would refuse them all.
func ProfileFor(ctx context.Context, s *store.Store, given *profile.Profile) (p *profile.Profile, remembered bool, err error) {
	var text string
	if err := s.Read(ctx, func(tx *store.Tx) (err error) {
		if text, err = tx.Setting(settingProfile); ignoreNotFound(err) != nil || given == nil {
			return ignoreNotFound(err)
		}
		return samePrefix(tx, text, given)
	}); err != nil {
		return nil, false, err
	}
	builtIn := profile.Default()
	switch {
	case given != nil:
		return given, false, nil
	case text == "", text == builtIn.Source():
		return builtIn, false, nil
	}
	if p, err = profile.Parse("the profile in the store", []byte(text)); err != nil {
		return nil, false, fmt.Errorf("%w; or name the product's profile with --config", err)
	}
	return p, true, nil
}

// samePrefix fails when the profile that a store remembers makes keys of
// another prefix than p, and there are keys.
func samePrefix(tx *store.Tx, remembered string, p *profile.Profile) error {
	before, err := profile.Parse("the profile in the store", []byte(remembered))
	if err != nil || before.Prefix == p.Prefix {
		return nil //nolint:nilerr // one of another version can't be read: naming a profile is the way out
	}
	n, err := tx.CountKeys()
	if err != nil || n == 0 {
		return err
	}
	return fmt.Errorf("the keys in this store begin with %s_, and this profile, with the prefix %s_, would refuse them all; "+
		"leave --config out to go on with the profile that the store was last served with, or name one whose prefix is %s",
		before.Prefix, p.Prefix, before.Prefix)
}

// noteProfile keeps the profile that the servers run with, and logs a change
// when it is another than before: its roles may permit less.
func (c *change) noteProfile() error {
	before, err := c.Setting(settingProfile)
	if ignoreNotFound(err) != nil {
		return err
	}
	text := c.k.profile.Source()
	if before == text {
		return nil
	}
	// Another server may have been the first since ProfileFor looked.
	if err := samePrefix(c.Tx, before, c.k.profile); err != nil {
		return err
	}
	if err := c.SetSetting(settingProfile, text); err != nil {
		return err
	}
	c.narrows = true
	return c.record(entry{workspaceID: OperatorWorkspace, action: "profile.changed", kind: store.ChangeProfile,
		objectName: c.k.profile.Product})
}
