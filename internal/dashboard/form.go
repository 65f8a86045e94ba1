package dashboard

import (
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// newNonce names a form that makes something, so that sending it twice makes
// one of it.
func newNonce() string { return rand.Text() }

// once is the form's nonce as the keyring takes it.
func (v *visit) once() keyring.Idempotency {
	return keyring.Idempotency{Key: v.r.PostFormValue("nonce"), Route: v.r.Method + " " + v.r.URL.Path}
}

// correctable returns the problem of a form that its sender can correct.
func (v *visit) correctable(err error) *keystile.Error {
	var p *keystile.Error
	if errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusNotFound && p.Status != http.StatusUnauthorized {
		if p.Code == keystile.CodeIdempotencyMismatch { // said in the terms of programs
			err = keystile.NewError(keystile.CodeConflict, "This form was sent before, with other values. What it says now was not done.",
				"Look whether the first one is there already.", "Send the form again if it is not what you want.")
		}
		return v.door.Problem(v.r.Context(), err)
	}
	return nil
}
