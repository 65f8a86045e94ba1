package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keystile/keystile/internal/seal"
)

func newKey(t testing.TB) seal.MasterKey {
	t.Helper()
	k, err := seal.NewMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newBox(t testing.TB, keys ...seal.MasterKey) *seal.Box {
	t.Helper()
	b, err := seal.NewBox(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What was sealed opens again with its key and its context, and with nothing
// else: any other context, any changed byte, any cut.
func TestOpen(t *testing.T) {
	old, current, foreign := newKey(t), newKey(t), newKey(t)
	box, elsewhere := newBox(t, current, old), newBox(t, foreign)
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "plain")
		context := rapid.SliceOfN(rapid.StringN(0, 10, 40), 0, 3).Draw(t, "context")
		key := rapid.SampledFrom([]seal.MasterKey{old, current}).Draw(t, "key")
		sealed, err := box.Seal(key.ID(), plain, context...)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := seal.KeyOf(sealed); err != nil || id != key.ID() {
			t.Fatalf("names the key %q, %v", id, err)
		}
		got, err := box.Open(sealed, context...)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("got %x, %v; want %x", got, err, plain)
		}
		if len(plain) > 7 && bytes.Contains(sealed, plain) {
			t.Fatal("the sealed text holds the plain one")
		}
		again, err := box.Seal(key.ID(), plain, context...)
		if err != nil || bytes.Equal(again, sealed) {
			t.Fatalf("the same text was sealed to the same bytes, %v", err)
		}

		other := rapid.SliceOfN(rapid.StringN(0, 10, 40), 0, 3).Draw(t, "other context")
		if fmt.Sprintf("%q", other) != fmt.Sprintf("%q", context) {
			if _, err := box.Open(sealed, other...); !errors.Is(err, seal.ErrOpen) {
				t.Fatalf("opened with the context %q: %v", other, err)
			}
		}
		at := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		if _, err := box.Open(sealed[:at], context...); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("opened when cut to %d bytes: %v", at, err)
		}
		if _, err := box.Open(append(bytes.Clone(sealed), 0), context...); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("opened with a byte more: %v", err)
		}
		bad := bytes.Clone(sealed)
		bad[at] ^= rapid.ByteRange(1, 255).Draw(t, "flip")
		var unknown *seal.UnknownKeyError
		if _, err := box.Open(bad, context...); !errors.Is(err, seal.ErrOpen) && !errors.As(err, &unknown) {
			t.Fatalf("opened with byte %d changed: %v", at, err)
		}
		if _, err := elsewhere.Open(sealed, context...); !errors.As(err, &unknown) || unknown.ID != key.ID() {
			t.Fatalf("opened with a foreign key: %v", err)
		}
	})
}

// Names that run into one another are still other names.
func TestContextIsNotJoined(t *testing.T) {
	k := newKey(t)
	box := newBox(t, k)
	sealed, err := box.Seal(k.ID(), []byte("x"), "ws_1", "whs_2")
	if err != nil {
		t.Fatal(err)
	}
	for _, context := range [][]string{{"ws_1whs_2"}, {"ws_1w", "hs_2"}, {"whs_2", "ws_1"}, {"ws_1", "whs_2", ""}, {"ws_1"}, nil} {
		if _, err := box.Open(sealed, context...); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("opened with the context %q: %v", context, err)
		}
	}
}

// A text that claims another key that is held does not open with that one.
func TestHeaderIsBound(t *testing.T) {
	a, b := newKey(t), newKey(t)
	box := newBox(t, a, b)
	one, err := box.Seal(a.ID(), []byte("text"), "r")
	if err != nil {
		t.Fatal(err)
	}
	two, err := box.Seal(b.ID(), []byte("text"), "r")
	if err != nil {
		t.Fatal(err)
	}
	copy(one[1:9], two[1:9])
	if _, err := box.Open(one, "r"); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("opened under another key's name: %v", err)
	}
}

func TestSealWithUnknownKey(t *testing.T) {
	var unknown *seal.UnknownKeyError
	if _, err := newBox(t, newKey(t)).Seal(newKey(t).ID(), nil); !errors.As(err, &unknown) {
		t.Errorf("sealed with a key that is not held: %v", err)
	}
}

func TestMasterKeyText(t *testing.T) {
	k := newKey(t)
	raw, err := base64.StdEncoding.DecodeString(k.Text())
	if err != nil || len(raw) != seal.KeySize {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	for _, text := range []string{
		k.Text(), base64.RawStdEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
	} {
		same, err := seal.ParseMasterKey(text)
		if err != nil || same.ID() != k.ID() || same.Text() != k.Text() {
			t.Errorf("another key when read back: %v", err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "short": base64.StdEncoding.EncodeToString(raw[:31]), "long": base64.StdEncoding.EncodeToString(append(raw, 1)),
		"hex": strings.Repeat("ab", 32), "not base64": "!" + k.Text()[1:], "two lines": k.Text()[:10] + "\n" + k.Text()[10:],
		"all zero": base64.StdEncoding.EncodeToString(make([]byte, 32)),
	} {
		if _, err := seal.ParseMasterKey(text); err == nil {
			t.Errorf("%s: read as a key", name)
		} else if len(text) > 0 && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error repeats the text", name)
		}
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, shown := range []string{fmt.Sprintf(format, k), fmt.Sprintf(format, []seal.MasterKey{k}), fmt.Sprintf(format, struct{ K seal.MasterKey }{k})} {
			if strings.Contains(shown, k.Text()) {
				t.Errorf("%s shows the key", format)
			}
		}
	}
}

// The ID and the form of a sealed text are forever: databases hold them.
func TestVector(t *testing.T) {
	raw := make([]byte, seal.KeySize)
	for i := range raw {
		raw[i] = byte(i)
	}
	k, err := seal.ParseMasterKey(base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		t.Fatal(err)
	}
	const id = "3436ebfbdbd39db3"
	if k.ID() != id {
		t.Errorf("the ID is %s, was %s", k.ID(), id)
	}
	sealed, err := base64.StdEncoding.DecodeString("ATQ26/vb052zYz917xAxe3TSu0kAjvmYn532dwA9sgYscWzCp5mhRYNl1ra81gOjOBR2Xgo=")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := newBox(t, k).Open(sealed, "ws_1", "whs_2")
	if err != nil || string(plain) != "a webhook secret" {
		t.Errorf("opened to %q, %v", plain, err)
	}
}

func TestParseBox(t *testing.T) {
	a, b := newKey(t), newKey(t)
	for name, text := range map[string]string{
		"lines":     a.Text() + "\n" + b.Text() + "\n",
		"CRLF":      a.Text() + "\r\n" + b.Text() + "\r\n",
		"a line":    a.Text() + " " + b.Text(),
		"comments":  "# ours\n\n" + a.Text() + " # since May\n#" + newKey(t).Text() + "\n" + b.Text(),
		"one twice": a.Text() + "\n" + b.Text() + "\n" + a.Text(),
	} {
		box, err := seal.ParseBox(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if keys := box.Keys(); box.Newest() != a.ID() || len(keys) != 2 || keys[1].ID() != b.ID() || !box.Holds(b.ID()) {
			t.Errorf("%s: holds %v", name, keys)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "comment": "# nothing", "one is bad": a.Text() + "\n" + b.Text()[:20],
		"too many": strings.Repeat(a.Text()+"\n", 33),
	} {
		if _, err := seal.ParseBox(text); err == nil {
			t.Errorf("%s: read", name)
		} else if strings.Contains(err.Error(), a.Text()) || strings.Contains(err.Error(), b.Text()[:20]) {
			t.Errorf("%s: the error repeats a key", name)
		}
	}
	if _, err := seal.NewBox(seal.MasterKey{}); err == nil {
		t.Error("a box of an empty key was made")
	}
}
