package verify

import "sync/atomic"

// cells holds the workspaces or the roles, which records name by number. A
// number is never given to another ID, so a reader that is slow between record
// and cell can't take one tenant for another. The price is about 150 bytes for
// each ID ever seen, until the process ends or the index is loaded anew.
type cells[T any] struct {
	now     atomic.Pointer[[]atomic.Pointer[T]] // nil for what the index does not have; number 0 stays so
	ids     atomic.Pointer[[]string]
	numbers map[string]uint64 // the writer's
}

func (c *cells[T]) init() {
	c.numbers = map[string]uint64{}
	now := make([]atomic.Pointer[T], 1, minSlots)
	c.now.Store(&now)
	c.ids.Store(&[]string{""})
}

// get returns nil for what the index does not have.
func (c *cells[T]) get(number uint64) *T { return (*c.now.Load())[number].Load() }

func (c *cells[T]) id(number uint64) string { return (*c.ids.Load())[number] }

// number returns the number of an ID, a new one if need be. When all 4 million
// are taken it is 0: the index has no such thing, so its keys are refused.
func (c *cells[T]) number(id string) uint64 {
	if n, ok := c.numbers[id]; ok {
		return n
	}
	// Readers of a list so far don't look behind its end, so the new element may
	// lie in the same memory.
	ids := *c.ids.Load()
	n := uint64(len(ids))
	if n > numberMask {
		return 0
	}
	ids = append(ids, id)
	c.ids.Store(&ids)
	c.grow()
	c.numbers[id] = n
	return n
}

// grow makes room for one more. Who still holds the shorter list misses only
// what is set later.
func (c *cells[T]) grow() {
	now := *c.now.Load()
	if len(now) == cap(now) {
		longer := make([]atomic.Pointer[T], len(now), 2*cap(now))
		for i := range now {
			longer[i].Store(now[i].Load())
		}
		now = longer
	}
	now = now[:len(now)+1]
	c.now.Store(&now)
}

func (c *cells[T]) set(id string, now *T) {
	if n := c.number(id); n != 0 {
		(*c.now.Load())[n].Store(now)
	}
}

func (c *cells[T]) remove(id string) {
	if n, ok := c.numbers[id]; ok {
		(*c.now.Load())[n].Store(nil)
	}
}
