package dashboard

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"

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

// fault is what is wrong with one field of a form about keys.
type fault struct {
	Field   string // name and ID of its control
	Label   string // what the profile calls it
	Details []string
}

// faults are the fields that a problem names, as the forms about keys have
// them, in the order in which they are named. What no field is at fault for has
// none.
func (d *Dashboard) faults(p *keystile.Error) (list []fault) {
	if p == nil {
		return nil
	}
	for _, f := range p.Fields {
		name, ok := strings.CutPrefix(f.Field, "body.")
		name, _, _ = strings.Cut(name, "[")
		control, label := d.control(name)
		if !ok || control == "" {
			continue
		}
		detail := strings.Replace(f.Detail, "A name is required. Say what it is for.", label+" is missing. Say what uses the key.", 1)
		if n := len(list); n > 0 && list[n-1].Field == control {
			list[n-1].Details = append(list[n-1].Details, detail)
			continue
		}
		list = append(list, fault{control, label, []string{detail}})
	}
	return list
}

// fault is what is wrong with one field; nil when nothing is.
func (d *Dashboard) fault(p *keystile.Error, control string) *fault {
	for _, f := range d.faults(p) {
		if f.Field == control {
			return &f
		}
	}
	return nil
}

// control is the form's control for a field of a key, and its label.
func (d *Dashboard) control(field string) (name, label string) {
	word := d.door.Profile.Word
	switch field {
	case "name", "description", "owner", "role", "environment":
		return field, word(field + "_label")
	case "ip_allowlist":
		return field, word("allowlist_label")
	case "expires_at":
		return "expires", word("expires_label")
	case "permissions":
		return field, "Permissions"
	case "overlap":
		return field, "How long the old key stays valid"
	case "reason":
		return "other_reason", word("reason_label")
	}
	return "", ""
}

// badDay refuses a day that a form sent.
func badDay(detail string, fixes ...string) error {
	e := keystile.NewError(keystile.CodeInvalidField, detail, fixes...)
	e.Fields = []keystile.FieldError{{Field: "body.expires_at", Detail: detail}}
	return e
}
