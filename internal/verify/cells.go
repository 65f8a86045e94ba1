package verify

import "sync/atomic"

// cells holds the workspaces or the roles, which records name by number. A
// number is never given to another ID, so a reader that is slow between record
// and cell can't take one tenant for another. The price is about 150 bytes for
// each ID ever seen, until the process ends or the index is loaded anew.
type cells[T any] struct {
	list    atomic.Pointer[[]*cell[T]] // number 0 stays empty
	numbers map[string]uint64          // the writer's
}

type cell[T any] struct {
	id  string
	now atomic.Pointer[T] // nil while the index does not have it
}

func (c *cells[T]) init() {
	c.numbers = map[string]uint64{}
	c.list.Store(&[]*cell[T]{{}})
}

// get returns nil for what the index does not have.
func (c *cells[T]) get(number uint64) *T { return (*c.list.Load())[number].now.Load() }

func (c *cells[T]) id(number uint64) string { return (*c.list.Load())[number].id }

// number returns the number of an ID, a new one if need be. When all 4 million
// are taken it is 0: the index has no such thing, so its keys are refused.
func (c *cells[T]) number(id string) uint64 {
	if n, ok := c.numbers[id]; ok {
		return n
	}
	list := *c.list.Load()
	n := uint64(len(list))
	if n > numberMask {
		return 0
	}
	// Readers of the list so far don't look behind its end, so the new element
	// may lie in the same memory.
	list = append(list, &cell[T]{id: id})
	c.list.Store(&list)
	c.numbers[id] = n
	return n
}

func (c *cells[T]) set(id string, now *T) {
	if n := c.number(id); n != 0 {
		(*c.list.Load())[n].now.Store(now)
	}
}

func (c *cells[T]) remove(id string) {
	if n, ok := c.numbers[id]; ok {
		(*c.list.Load())[n].now.Store(nil)
	}
}
