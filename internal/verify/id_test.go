package verify_test

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keystile/keystile/internal/verify"
)

func drawID(t *rapid.T, label string) (id [16]byte) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
	return id
}

func TestIDsReadBackAndSortAsTheirBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawID(t, "a"), drawID(t, "b")
		s, u := verify.EncodeID("key_", a), verify.EncodeID("key_", b)
		if got, ok := verify.DecodeID("key_", s); !ok || got != a {
			t.Fatalf("DecodeID(%q) = %x, %t; want %x", s, got, ok, a)
		}
		if got, want := strings.Compare(s, u), bytes.Compare(a[:], b[:]); got != want {
			t.Fatalf("%q and %q compare %d, their bytes %d", s, u, got, want)
		}
	})
}

func TestIDOfKnownBytes(t *testing.T) {
	for want, id := range map[string][16]byte{
		"key_00000000000000000000000000": {},
		"key_vvvvvvvvvvvvvvvvvvvvvvvvvs": {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
		"key_00000000000000000000000004": {15: 1},
		"key_g0000000000000000000000000": {0: 0x80},
	} {
		if got := verify.EncodeID("key_", id); got != want {
			t.Errorf("EncodeID(%x) = %q, want %q", id, got, want)
		}
	}
}

func TestIDsThatAreNone(t *testing.T) {
	good := verify.EncodeID("key_", [16]byte{1, 2, 3})
	for name, s := range map[string]string{
		"empty":          "",
		"prefix alone":   "key_",
		"other prefix":   "ws_" + good[4:],
		"too short":      good[:len(good)-1],
		"too long":       good + "0",
		"upper case":     strings.ToUpper(good),
		"digit beyond v": good[:29] + "w",
		"line break":     good[:29] + "\n",
		"spare bits set": good[:29] + "1",
		"spare bit set":  good[:29] + "2",
		"spaces around":  " " + good[:29],
	} {
		if id, ok := verify.DecodeID("key_", s); ok {
			t.Errorf("%s: DecodeID(%q) = %x, want none", name, s, id)
		}
	}
}
