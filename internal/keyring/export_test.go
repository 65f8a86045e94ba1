package keyring

import "time"

// SetNow gives the keyring another clock.
func (k *Keyring) SetNow(now func() time.Time) { k.now = now }
