package bench

import (
	"testing"

	"github.com/keystile/keystile"
)

// TestSecretsAreKeys holds the texts against the product's own rules.
func TestSecretsAreKeys(t *testing.T) {
	f, err := keystile.NewFormat(prefix, marker)
	if err != nil {
		t.Fatal(err)
	}
	s, seen := secrets{seed: 7}, map[string]bool{}
	for number := range uint64(20_000) {
		text := string(s.append(nil, number))
		if hint, ok := f.Check(text); !ok || seen[text] {
			t.Fatalf("key %d, %q: %s, seen before: %v", number, text, hint, seen[text])
		}
		seen[text] = true
		if s.digest(number) != keystile.Digest(text) {
			t.Fatalf("key %d has another digest", number)
		}
	}
	var numbers texts
	valid, unknown, malformed := s.make(&numbers)
	for i := range valid {
		if _, ok := f.Check(malformed[i]); ok || valid[i] != unknown[i] {
			t.Fatalf("%q, %q, %q", valid[i], unknown[i], malformed[i])
		}
	}
}

// TestCheckAllocatesNothing is what keeps a check from going to the heap: the
// decision and the counting, of keys that are good, unknown and malformed.
func TestCheckAllocatesNothing(t *testing.T) {
	c, err := newCheck(1000)
	if err == nil {
		err = c.fill(t.Context(), 1000, func(string) {})
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.allocations()
	if err != nil {
		t.Fatal(err)
	}
	// Other goroutines of the runtime may allocate a few.
	if n > 0.005 {
		t.Errorf("%f objects for a check", n)
	}
}

// TestBytesPerKey is what keeps the index small: the figure is the same on every
// machine.
func TestBytesPerKey(t *testing.T) {
	for _, keys := range []int{100_000, 130_000, 160_000} { // the last ones have grown
		c, err := newCheck(100_000)
		if err == nil {
			err = c.fill(t.Context(), keys, func(string) {})
		}
		if err != nil {
			t.Fatal(err)
		}
		if each := float64(c.index.Bytes()) / float64(keys); each > 128 || each < 64 {
			t.Errorf("%d keys take %.1f bytes each", keys, each)
		}
	}
}
