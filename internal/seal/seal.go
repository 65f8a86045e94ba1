// Package seal encrypts what Keystile must be able to read back: webhook
// secrets, which must sign. It knows nothing of where the result is kept, and
// nothing that could be a digest instead belongs here.
//
// A sealed text is AES-256-GCM (NIST SP 800-38D) under a [MasterKey], with a
// random nonce. It names its key, and is bound to the record that it was made
// for: copied into another record, it does not open.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KeySize is how many bytes a master key has.
const KeySize = 32

const (
	version   = 1
	idSize    = 8  // bytes: enough to tell the keys of one installation apart
	nonceSize = 12 // bytes, as AES-GCM has it
	header    = 1 + idSize
	// maxKeys bounds how many keys a box holds.
	maxKeys = 32
)

// ErrOpen is the error of a sealed text that was damaged, or was made for
// another record, or is none at all. Which of these it is cannot be told.
var ErrOpen = errors.New("seal: the sealed text is damaged, or belongs to another record")

// UnknownKeyError is the error of a sealed text whose master key is not held.
type UnknownKeyError struct {
	ID string // of the key that it takes
}

func (e *UnknownKeyError) Error() string {
	return "seal: the master key " + e.ID + " is not among those that are held"
}

// MasterKey is what everything is sealed with. Printed in whatever way, it
// shows its ID alone.
type MasterKey struct {
	id     [idSize]byte
	text   string // as it is kept
	cipher cipher.AEAD
}

// NewMasterKey makes a key of random bytes.
func NewMasterKey() (MasterKey, error) {
	raw := make([]byte, KeySize)
	_, _ = rand.Read(raw) // never fails: it ends the program instead
	return masterKey(raw)
}

// ParseMasterKey reads a key as it is kept: the base64 of 32 bytes, standard
// or URL-safe, with or without padding. The error does not repeat the text.
func ParseMasterKey(text string) (MasterKey, error) {
	encoding := base64.RawStdEncoding.Strict()
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding.Strict()
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		return MasterKey{}, errors.New("a master key stands on one line")
	}
	raw, err := encoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return MasterKey{}, errors.New("a master key is the base64 of 32 random bytes, as \"openssl rand -base64 32\" prints it; this is not base64")
	}
	if len(raw) != KeySize {
		return MasterKey{}, fmt.Errorf("a master key is the base64 of 32 random bytes, as \"openssl rand -base64 32\" prints it; this has %d bytes", len(raw))
	}
	if slices.Max(raw) == slices.Min(raw) {
		return MasterKey{}, errors.New("a master key is 32 random bytes; these are all the same")
	}
	return masterKey(raw)
}

// masterKey derives what the key is used for. Each use has a key of its own,
// so that the ID, which is public, says nothing about the cipher's.
func masterKey(raw []byte) (MasterKey, error) {
	k := MasterKey{text: base64.StdEncoding.EncodeToString(raw)}
	id, err := hkdf.Key(sha256.New, raw, nil, "keystile master key id v1", idSize)
	if err != nil {
		return k, err
	}
	copy(k.id[:], id)
	sealing, err := hkdf.Key(sha256.New, raw, nil, "keystile seal v1", KeySize)
	if err != nil {
		return k, err
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return k, err
	}
	k.cipher, err = cipher.NewGCM(block)
	return k, err
}

// ID names the key: 16 hexadecimal digits that are derived from it, the same
// everywhere. It is public.
func (k MasterKey) ID() string { return hex.EncodeToString(k.id[:]) }

// Text is the key itself as it is kept, standard base64.
func (k MasterKey) Text() string { return k.text }

// String hides the key from everything that prints.
func (k MasterKey) String() string { return "master key " + k.ID() }

// GoString does so for %#v.
func (k MasterKey) GoString() string { return k.String() }

// Box seals and opens with the master keys that it holds. It never changes,
// and may be used by any number of goroutines.
type Box struct{ keys []MasterKey }

// NewBox makes a box of one or more keys, the newest first.
func NewBox(keys ...MasterKey) (*Box, error) {
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("there are %d master keys; 1 to %d can be held", len(keys), maxKeys)
	}
	b := &Box{}
	for _, k := range keys {
		if k.cipher == nil {
			return nil, errors.New("a master key is empty")
		}
		if !b.Holds(k.ID()) {
			b.keys = append(b.keys, k)
		}
	}
	return b, nil
}

// ParseBox reads the keys of a box as they are kept: one a line, the newest
// first. Empty lines, and what follows a #, count for nothing, and spaces may
// stand for line breaks, as in a variable.
func ParseBox(text string) (*Box, error) {
	var keys []MasterKey
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for field := range strings.FieldsSeq(line) {
			k, err := ParseMasterKey(field)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
			keys = append(keys, k)
		}
	}
	return NewBox(keys...)
}

// Newest is the ID of the first key.
func (b *Box) Newest() string { return b.keys[0].ID() }

// Keys are all keys, the newest first.
func (b *Box) Keys() []MasterKey { return slices.Clone(b.keys) }

// Holds tells whether the box holds the key of an ID.
func (b *Box) Holds(id string) bool {
	_, ok := b.find(id)
	return ok
}

func (b *Box) find(id string) (MasterKey, bool) {
	for _, k := range b.keys {
		if k.ID() == id {
			return k, true
		}
	}
	return MasterKey{}, false
}

// Seal encrypts a text under the key of an ID for one record, which is named
// by all of context: the IDs of its workspace and its own. It fails with an
// UnknownKeyError when the key is not held.
//
// A random nonce is good for 2³² texts of one key (SP 800-38D, section 8.3).
func (b *Box) Seal(keyID string, plain []byte, context ...string) ([]byte, error) {
	k, ok := b.find(keyID)
	if !ok {
		return nil, &UnknownKeyError{keyID}
	}
	sealed := make([]byte, 0, header+nonceSize+len(plain)+k.cipher.Overhead())
	sealed = append(sealed, version)
	sealed = append(sealed, k.id[:]...)
	sealed = sealed[:header+nonceSize]
	_, _ = rand.Read(sealed[header:])
	return k.cipher.Seal(sealed, sealed[header:], plain, additional(sealed[:header], context)), nil
}

// Open decrypts what was sealed for the record that context names. It fails
// with an UnknownKeyError when the key is not held, and with ErrOpen.
func (b *Box) Open(sealed []byte, context ...string) ([]byte, error) {
	id, err := KeyOf(sealed)
	if err != nil {
		return nil, err
	}
	k, ok := b.find(id)
	if !ok {
		return nil, &UnknownKeyError{id}
	}
	nonce, text := sealed[header:header+nonceSize], sealed[header+nonceSize:]
	plain, err := k.cipher.Open(nil, nonce, text, additional(sealed[:header], context))
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// KeyOf is the ID of the master key that a sealed text takes. It fails with
// ErrOpen when it is no sealed text.
func KeyOf(sealed []byte) (string, error) {
	if len(sealed) < header+nonceSize || sealed[0] != version {
		return "", ErrOpen
	}
	return hex.EncodeToString(sealed[1:header]), nil
}

// additional is the additional data of the encryption: the header, and the
// parts of the context, each behind its length so that no two contexts are
// written alike.
func additional(head []byte, context []string) []byte {
	data := slices.Clone(head)
	for _, part := range context {
		data = binary.BigEndian.AppendUint32(data, uint32(len(part))) //nolint:gosec // IDs are short
		data = append(data, part...)
	}
	return data
}
