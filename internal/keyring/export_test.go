package keyring

import "time"

// SetNow gives the keyring another clock.
func (k *Keyring) SetNow(now func() time.Time) { k.now = now }

// Diagnosing has the keyring explain as many webhooks as it does at once, and
// returns what ends that.
func (k *Keyring) Diagnosing() (end func()) {
	for range cap(k.diagnoses.places) {
		k.diagnoses.places <- struct{}{}
	}
	return func() {
		for range cap(k.diagnoses.places) {
			<-k.diagnoses.places
		}
	}
}

// AskingFor is how many webhooks of a workspace are being explained, or wait.
func (k *Keyring) AskingFor(workspaceID string) int {
	k.diagnoses.mu.Lock()
	defer k.diagnoses.mu.Unlock()
	if l := k.diagnoses.lines[workspaceID]; l != nil {
		return l.n
	}
	return 0
}
