package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/store"
)

// vault holds the master keys of this process.
type vault struct {
	mu     sync.Mutex // held while the source is read
	source seal.Source
	tried  time.Time
	reread time.Time
	held   atomic.Pointer[seal.Box] // nil: none
}

// retryCommand is how often a command is asked for keys that it did not have.
const retryCommand = time.Second

// rereadCommand is how often it is asked for keys that may be new.
const rereadCommand = 15 * time.Second

// box is what is held; a box that holds nothing when there is no key.
func (v *vault) box() *seal.Box {
	if b := v.held.Load(); b != nil {
		return b
	}
	return &seal.Box{}
}

// reload reads the source anew for a key that is not held, and tells whether
// it is held now. A source that does not have the key changes nothing.
func (v *vault) reload(ctx context.Context, id string) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.box().Holds(id) { // another request was faster
		return true, nil
	}
	if !v.source.Rereadable() || v.source.Command != "" && time.Since(v.tried) < retryCommand {
		return false, nil
	}
	v.tried = time.Now()
	b, err := v.source.Read(ctx)
	if err != nil || !b.Holds(id) {
		return false, err
	}
	v.held.Store(b)
	return true, nil
}

// MasterKeys is where a process stands with its master keys.
type MasterKeys struct {
	Held    bool   // there are keys, and they fit the store
	Made    bool   // the file was made just now, with a first key
	Newest  string // ID of the first key that is held
	Current string // ID of the key that seals, as the store has it
}

// HeldMasterKeys lists the IDs of the master keys that this process holds. It
// reads a file or a command anew first, so that a key that was put there since
// is among them; one that holds less than before changes nothing.
func (k *Keyring) HeldMasterKeys(ctx context.Context) ([]string, error) {
	v := k.vault
	v.mu.Lock()
	defer v.mu.Unlock()
	var err error
	if v.source.Rereadable() && (v.source.Command == "" || time.Since(v.reread) >= rereadCommand) {
		v.reread = time.Now()
		var b *seal.Box
		if b, err = v.source.Read(ctx); err == nil && !slices.ContainsFunc(v.box().Keys(), func(key seal.MasterKey) bool { return !b.Holds(key.ID()) }) {
			v.held.Store(b)
		}
	}
	ids := []string{}
	for _, key := range v.box().Keys() {
		ids = append(ids, key.ID())
	}
	return ids, err
}

// NodesWithout lists the servers that do not hold a master key: those that say
// so, and those that have not said what they hold, as versions before this one.
func (k *Keyring) NodesWithout(ctx context.Context, id string) (lacking, silent []keystile.Node, err error) {
	nodes, _, err := k.store.Nodes(ctx)
	if err != nil {
		return nil, nil, problemOf(err)
	}
	for _, n := range nodes {
		of := keystile.Node{ID: n.ID, Name: n.Name, Version: n.Version, MasterKeys: n.MasterKeys}
		switch {
		case n.MasterKeys == nil:
			silent = append(silent, of)
		case !slices.Contains(n.MasterKeys, id):
			lacking = append(lacking, of)
		}
	}
	return lacking, silent, nil
}

// MasterKeyRisk says how many servers lack the master key in use; "" for none.
func (k *Keyring) MasterKeyRisk(ctx context.Context) (string, error) {
	var current string
	if err := k.read(ctx, func(tx *store.Tx) (err error) {
		current, err = tx.Setting(store.SettingMasterKey)
		return ignoreNotFound(err)
	}); err != nil || current == "" {
		return "", err
	}
	lacking, _, err := k.NodesWithout(ctx, current)
	if err != nil || len(lacking) == 0 {
		return "", err
	}
	return fmt.Sprintf("servers without the master key in use: %d; they refuse everything that takes a webhook secret (GET /v1/nodes names what each holds)", len(lacking)), nil
}

// UnlockSecrets reads the master keys and holds them. With makeFile, a file
// that is not there is made, unless the store needs a former one. It fails when
// the keys are others than the store was sealed with. Without any key it does
// not fail: keys are served then, and webhook secrets refused.
func (k *Keyring) UnlockSecrets(ctx context.Context, source seal.Source, makeFile bool) (out MasterKeys, err error) {
	k.vault.source = source
	b, err := source.Read(ctx)
	absent := errors.Is(err, seal.ErrNoKey) || makeFile && errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return out, err
	}
	_, err = k.store.Write(ctx, func(tx *store.Tx) error {
		out = MasterKeys{}
		if out.Current, err = tx.Setting(store.SettingMasterKey); ignoreNotFound(err) != nil {
			return err
		}
		live, all, err := tx.SealedUnder()
		if err != nil {
			return err
		}
		if absent {
			if !makeFile || len(all) > 0 {
				return nil
			}
			// Nothing was ever sealed, so whichever key comes first is right.
			if b == nil { // this may run more than once
				if b, err = makeKeyFile(source.File, nil); err != nil {
					return err
				}
			}
			out.Made, out.Current = true, ""
		}
		if out.Current == "" {
			out.Current = b.Newest()
			if err := tx.SetSetting(store.SettingMasterKey, out.Current); err != nil {
				return err
			}
		}
		out.Newest = b.Newest()
		return fitting(b, source, out.Current, live)
	})
	if err != nil {
		return out, err
	}
	if b != nil {
		k.vault.held.Store(b)
		out.Held = true
	}
	return out, nil
}

// fitting fails unless a box holds the key that seals and those of all secrets
// that live.
func fitting(b *seal.Box, source seal.Source, current string, live map[string]int64) error {
	var missing []string
	if !b.Holds(current) {
		missing = append(missing, current)
	}
	for id := range live {
		if id != current && !b.Holds(id) {
			missing = append(missing, id)
		}
	}
	if missing == nil {
		return nil
	}
	slices.Sort(missing)
	return &WrongMasterKeyError{Source: source.String(), Missing: missing}
}

// WrongMasterKeyError is the error of master keys that are not those of the store.
type WrongMasterKeyError struct {
	Source  string
	Missing []string // IDs of the keys that the store needs
}

func (e *WrongMasterKeyError) Error() string {
	return fmt.Sprintf("wrong master key: this store's webhook secrets take the master key %s, which is not in %s; "+
		"put that key there, beside others or alone, or, if it is lost for good, give its secrets up with 'keystile admin rotate-master-key --lost'",
		strings.Join(e.Missing, " and "), e.Source)
}

// makeKeyFile writes a file with a new key before the former ones.
func makeKeyFile(path string, former []seal.MasterKey) (*seal.Box, error) {
	fresh, err := seal.NewMasterKey()
	if err != nil {
		return nil, err
	}
	b, err := seal.NewBox(append([]seal.MasterKey{fresh}, former...)...)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	text.WriteString("# Master keys of Keystile, the newest first. Back this file up, apart from the database:\n" +
		"# without it no webhook secret can be read again. Older keys are for older backups.\n")
	for _, key := range b.Keys() {
		text.WriteString(key.Text() + " # " + key.ID() + "\n")
	}
	return b, store.WriteKeyFile(path, []byte(text.String()), former != nil)
}

// withKeys runs do, and once more if it lacked a master key that the source has
// had since it was read: another process has made a new one.
func (k *Keyring) withKeys(ctx context.Context, do func() error) error {
	err := do()
	var unknown *seal.UnknownKeyError
	if !errors.As(err, &unknown) {
		return err
	}
	found, failed := k.vault.reload(ctx, unknown.ID)
	if found {
		if err = do(); !errors.As(err, &unknown) {
			return err
		}
	}
	return errors.Join(k.noMasterKey(), err, failed)
}

func (k *Keyring) noMasterKey() error {
	if k.vault.held.Load() == nil {
		return keystile.NewError(keystile.CodeMasterKeyMissing,
			"This server has no master key, which webhook secrets are sealed with. Everything else works.")
	}
	return keystile.NewError(keystile.CodeMasterKeyMissing,
		"This server does not have the master key that this webhook secret is sealed with. Everything else works.")
}

// seal encrypts a text of the record that the IDs name, under the key that
// seals at this moment.
func (c *change) seal(plain string, workspaceID, id string) (masterKey string, sealed []byte, err error) {
	b := c.k.vault.box()
	masterKey, err = c.Setting(store.SettingMasterKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", nil, &seal.UnknownKeyError{}
	case err != nil:
		return "", nil, err
	}
	sealed, err = b.Seal(masterKey, []byte(plain), workspaceID, id)
	return masterKey, sealed, err
}

// open decrypts a webhook secret.
func (k *Keyring) open(s store.WebhookSecret) (keystile.WebhookSecret, error) {
	text, err := k.openText(s)
	if err != nil {
		return keystile.WebhookSecret{}, err
	}
	return keystile.ParseWebhookSecret(text)
}

// openText decrypts a webhook secret to the text that was shown once.
func (k *Keyring) openText(s store.WebhookSecret) (string, error) {
	plain, err := k.vault.box().Open(s.Sealed, s.WorkspaceID, s.ID)
	if err != nil {
		return "", fmt.Errorf("open the webhook secret %s: %w", s.ID, err)
	}
	return string(plain), nil
}
