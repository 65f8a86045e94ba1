package courier

import "github.com/keystile/keystile/internal/keyring"

// box is an endpoint that this node sends to, and what is to be sent.
type box struct {
	round     keyring.Round
	line      *line
	lineError error
	queue     []keyring.Parcel
	// busy are the deliveries that are queued, under way or not written yet,
	// with the object of each, and objects those of the ones under way.
	busy      map[string]string
	objects   map[string]bool
	flying    int
	unwritten int
}

func newBox() *box {
	return &box{busy: map[string]string{}, objects: map[string]bool{}}
}

// room is how many deliveries are to be read, those included that are here
// already, which stand before the others. It is 0 while there are enough.
func (b *box) room() int {
	if len(b.queue) > queued/2 {
		return 0
	}
	return len(b.busy) + queued
}

// take notes how the endpoint is now and queues what is new.
func (b *box) take(r keyring.Round) {
	if b.line == nil || !r.UpdatedAt.Equal(b.round.UpdatedAt) {
		b.close()
		b.line, b.lineError = newLine(r.URL, r.AllowRanges)
	}
	for _, p := range r.Parcels {
		if _, ok := b.busy[p.DeliveryID]; !ok {
			b.busy[p.DeliveryID] = p.ObjectID
			b.queue = append(b.queue, p)
		}
	}
	r.Parcels = nil
	b.round = r
}

// close ends connections that are idle.
func (b *box) close() {
	if b.line != nil {
		b.line.close()
	}
}

// empty forgets what is queued.
func (b *box) empty() {
	for _, p := range b.queue {
		delete(b.busy, p.DeliveryID)
	}
	b.queue = nil
}

// next takes the first delivery whose object no other one under way is about:
// what happened to one object arrives in that order, as long as it arrives.
func (b *box) next() (keyring.Parcel, bool) {
	most := perEndpoint
	if b.round.Failing {
		most = 1
	}
	if b.flying >= most {
		return keyring.Parcel{}, false
	}
	for i, p := range b.queue {
		if !b.objects[p.ObjectID] {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			return p, true
		}
	}
	return keyring.Parcel{}, false
}

// done tells that nothing is left here.
func (b *box) done() bool { return len(b.queue) == 0 && b.flying == 0 && b.unwritten == 0 }
