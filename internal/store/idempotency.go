package store

import "time"

// Idempotent reads the answer kept for a scope: what was asked, as a digest,
// and what was answered. ErrNotFound when there is none.
func (tx *Tx) Idempotent(scope [32]byte) (request []byte, response string, err error) {
	type kept struct {
		request  []byte
		response string
	}
	k, err := queryOne(tx, func(r scanner) (kept, error) {
		var k kept
		err := r.Scan(&k.request, &k.response)
		return k, err
	}, `SELECT request, response FROM idempotency WHERE scope = $1`, scope[:])
	return k.request, k.response, err
}

// KeepIdempotent keeps an answer. Response carries no secret.
func (tx *Tx) KeepIdempotent(scope, request [32]byte, response string, now time.Time) error {
	_, err := tx.exec(`INSERT INTO idempotency (scope, request, response, created_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (scope) DO UPDATE SET request = excluded.request, response = excluded.response,
		created_at = excluded.created_at`, scope[:], request[:], response, millis(now))
	return wrap("keep an answer", err)
}

// ForgetIdempotent removes the answer of one scope that is too old to replay.
func (tx *Tx) ForgetIdempotent(scope [32]byte, before time.Time) error {
	_, err := tx.exec(`DELETE FROM idempotency WHERE scope = $1 AND created_at < $2`, scope[:], millis(before))
	return err
}
