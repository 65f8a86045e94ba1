// Package pages gives memory outside the Go heap, on pages as large as the
// system has. A table of hundreds of megabytes that is read at random misses
// the processor's list of pages nearly every time when they are small; and on
// the heap, the collector would let as much garbage pile up as the table is
// large before it cleans up.
//
// What lies here must hold no pointers: the collector does not look at it.
package pages

import (
	"runtime"
	"unsafe"
)

// Huge is the size of a large page in bytes, on the systems that have one.
const Huge = 2 << 20

// small is the size of a page that parts begin on.
const small = 4 << 10

// An Array is memory for elements of a type without pointers, zero at first. It
// is given back once nothing refers to the Array any more, so whoever uses Of
// has to keep the Array itself in reach (see [runtime.KeepAlive]).
type Array[T any] struct{ Of []T }

// Make returns arrays of n elements each that lie one after the other, as far
// as possible on large pages, and are given back on their own. Where the system
// has no such memory or refuses it, they are on the heap. An array may have
// some more elements than n, up to the end of a small page.
func Make[T any](arrays, n int) []*Array[T] {
	all := make([]*Array[T], arrays)
	var one T
	each := int(unsafe.Sizeof(one))
	size := (n*each + small - 1) / small * small
	begin := unsafe.Pointer(nil)
	if arrays*size >= Huge {
		begin = reserve(arrays * size)
	}
	if begin == nil {
		for i := range all {
			all[i] = &Array[T]{make([]T, n)}
		}
		return all
	}
	for i := range all {
		part := unsafe.Add(begin, i*size)
		all[i] = &Array[T]{unsafe.Slice((*T)(part), size/each)}
		runtime.AddCleanup(all[i], func(at uintptr) { release(at, size) }, uintptr(part))
	}
	return all
}
