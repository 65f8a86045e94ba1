package store

import "time"

// Passkey is a WebAuthn credential of a person's.
type Passkey struct {
	ID           string
	CredentialID []byte
	PersonID     string
	Name         string
	Credential   string // public key, counter and flags, as JSON; no secret
	CreatedAt    time.Time
	UsedAt       time.Time
}

const passkeyColumns = `id, credential_id, person_id, name, credential, created_at, used_at FROM passkeys`

func scanPasskey(r scanner) (Passkey, error) {
	var p Passkey
	var created, used int64
	err := r.Scan(&p.ID, &p.CredentialID, &p.PersonID, &p.Name, &p.Credential, &created, &used)
	p.CreatedAt, p.UsedAt = fromMillis(created), fromMillis(used)
	return p, err
}

// InsertPasskey adds a passkey. ErrTaken when the credential is known.
func (tx *Tx) InsertPasskey(p Passkey) error {
	_, err := tx.exec(`INSERT INTO passkeys (id, credential_id, person_id, name, credential, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, p.ID, p.CredentialID, p.PersonID, p.Name, p.Credential, millis(p.CreatedAt))
	return wrap("insert a passkey", err)
}

// Passkeys lists a person's passkeys, oldest first, at most limit.
func (tx *Tx) Passkeys(personID string, limit int) ([]Passkey, error) {
	return queryAll(tx, scanPasskey, `SELECT `+passkeyColumns+` WHERE person_id = $1 ORDER BY id LIMIT $2`, personID, limit)
}

// PasskeyByCredential reads a passkey by the ID that the authenticator gave it.
func (tx *Tx) PasskeyByCredential(id []byte) (Passkey, error) {
	return queryOne(tx, scanPasskey, `SELECT `+passkeyColumns+` WHERE credential_id = $1`, id)
}

// UpdatePasskey keeps a passkey's counter and when it was last used.
func (tx *Tx) UpdatePasskey(id, credential string, usedAt time.Time) error {
	return tx.one(`UPDATE passkeys SET credential = $1, used_at = $2 WHERE id = $3`, credential, millis(usedAt), id)
}

// RenamePasskey gives a person's passkey another name. ErrNotFound when there is none of the ID.
func (tx *Tx) RenamePasskey(personID, id, name string) error {
	return tx.one(`UPDATE passkeys SET name = $1 WHERE id = $2 AND person_id = $3`, name, id, personID)
}

// DeletePasskey removes a person's passkey. ErrNotFound when there is none of the ID.
func (tx *Tx) DeletePasskey(personID, id string) error {
	return tx.one(`DELETE FROM passkeys WHERE id = $1 AND person_id = $2`, id, personID)
}

// DeletePasskeys removes all of a person's passkeys.
func (tx *Tx) DeletePasskeys(personID string) error {
	_, err := tx.exec(`DELETE FROM passkeys WHERE person_id = $1`, personID)
	return wrap("remove passkeys", err)
}
