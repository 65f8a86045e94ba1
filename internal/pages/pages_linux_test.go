//go:build linux && (amd64 || arm64)

package pages_test

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/keystile/keystile/internal/pages"
)

// resident is how many bytes of memory the process has (proc(5), statm).
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(bytes.Fields(text)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}

// TestFreed: an array that nothing refers to is given back to the system, each
// on its own, and one that is still in use keeps what it holds.
func TestFreed(t *testing.T) {
	const arrays, n, each = 4, 4 << 20, 32 << 20 // bytes
	const slack = each / 2
	before := resident(t)
	falls := func(to int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			runtime.GC()
			now := resident(t) - before
			if now < to+slack {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d MB are kept, want %d", now>>20, to>>20)
			}
		}
	}
	for range 3 {
		all := pages.Make[uint64](arrays, n)
		for i, a := range all {
			if len(a.Of) < n {
				t.Fatalf("%d elements, want %d", len(a.Of), n)
			}
			for at := range a.Of {
				if a.Of[at] != 0 {
					t.Fatalf("element %d of array %d is %d at first", at, i, a.Of[at])
				}
				a.Of[at] = uint64(at + i)
			}
		}
		if now := resident(t) - before; now < arrays*each-slack {
			t.Fatalf("%d MB of %d are there: this can't see what is freed", now>>20, arrays*each>>20)
		}
		kept := all[2]
		all = nil
		falls(each)
		for at, v := range kept.Of {
			if v != uint64(at+2) {
				t.Fatalf("element %d is %d after others were freed", at, v)
			}
		}
		runtime.KeepAlive(kept)
		runtime.KeepAlive(all)
	}
	falls(0)
}
