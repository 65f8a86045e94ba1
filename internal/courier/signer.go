package courier

import (
	"context"
	"sync"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// signers reads what signs deliveries. Each is signed with what was read after
// it was asked for, so that a secret signs nothing any more once its revoke was
// answered. Those to one endpoint that ask while a read for it is under way
// share the next one: reading costs as much as sending.
type signers struct {
	keyring *keyring.Keyring
	mu      sync.Mutex
	next    map[string]*reading // by the endpoint's ID: reads that have not begun
	busy    map[string]bool     // endpoints for which one is under way
}

// reading is one read, for all who wait until it is done.
type reading struct {
	done    chan struct{}
	secrets []keystile.WebhookSecret
	err     error
}

func newSigners(k *keyring.Keyring) *signers {
	return &signers{keyring: k, next: map[string]*reading{}, busy: map[string]bool{}}
}

// of opens the active secrets of an endpoint.
func (s *signers) of(ctx context.Context, workspaceID, endpointID string) ([]keystile.WebhookSecret, error) {
	s.mu.Lock()
	r := s.next[endpointID]
	if r == nil {
		r = &reading{done: make(chan struct{})}
		s.next[endpointID] = r
	}
	reads := !s.busy[endpointID]
	if reads {
		s.busy[endpointID] = true
	}
	s.mu.Unlock()
	if reads {
		go s.read(ctx, workspaceID, endpointID)
	}
	<-r.done
	return r.secrets, r.err
}

// read reads as often as somebody has asked.
func (s *signers) read(ctx context.Context, workspaceID, endpointID string) {
	for {
		s.mu.Lock()
		r := s.next[endpointID]
		delete(s.next, endpointID)
		if r == nil {
			delete(s.busy, endpointID)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		r.secrets, r.err = s.keyring.SecretsOfEndpoint(ctx, workspaceID, endpointID, "")
		close(r.done)
	}
}
