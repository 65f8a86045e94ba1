package keyring

import "time"

// SetNow gives the keyring another clock.
func (k *Keyring) SetNow(now func() time.Time) { k.now = now }

// Diagnosing has the keyring explain as many webhooks as it does at once, and
// returns what ends that.
func (k *Keyring) Diagnosing() (end func()) {
	for range cap(k.diagnoses) {
		k.diagnoses <- struct{}{}
	}
	return func() {
		for range cap(k.diagnoses) {
			<-k.diagnoses
		}
	}
}
