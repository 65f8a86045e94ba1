package dashboard

import (
	"net/http"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// accountPage is what is one's own: passkeys and sessions.
type accountPage struct {
	Passkeys []keyring.Passkey
	Sessions []keyring.Session
	Current  string // ID of this session
	Keeps    bool   // may have passkeys
	Possible bool   // passkeys work at this address
	Near     bool   // the reader is likely to be who runs the server
	Problem  *keystile.Error
}

func (v *visit) account() error { return v.accountPage(nil) }

func (v *visit) accountPage(problem *keystile.Error) error {
	page := accountPage{
		Current: v.session.ID, Keeps: v.session.Kind != keyring.SessionPortal, Possible: v.passkeys != nil, Near: v.near(), Problem: problem,
	}
	var err error
	if page.Keeps {
		if page.Passkeys, err = v.keyring().Passkeys(v.r.Context(), v.session); err != nil {
			return err
		}
	}
	if page.Sessions, err = v.keyring().MySessions(v.r.Context(), v.session); err != nil {
		return err
	}
	status := http.StatusOK
	if problem != nil {
		status = problem.Status
	}
	v.show(status, "account", "Your account", page)
	return nil
}

func (v *visit) renamePasskey() error {
	err := v.keyring().RenamePasskey(v.r.Context(), v.session, v.r.PathValue("id"), v.r.PostFormValue("name"))
	if problem := v.correctable(err); problem != nil {
		return v.accountPage(problem)
	} else if err != nil {
		return err
	}
	return v.to("/account?done=saved")
}

// passkeyRemovalPage asks whether a passkey is to go.
type passkeyRemovalPage struct {
	Passkey keyring.Passkey
	Last    bool // there is no other way to sign in
}

func (v *visit) askRemovePasskey() error {
	own, err := v.keyring().Passkeys(v.r.Context(), v.session)
	if err != nil {
		return err
	}
	for _, p := range own {
		if p.ID == v.r.PathValue("id") {
			v.show(http.StatusOK, "passkey_remove", "Remove a passkey",
				passkeyRemovalPage{p, len(own) == 1 && v.session.Person.Subject == ""})
			return nil
		}
	}
	return unknownPage()
}

func (v *visit) removePasskey() error {
	if err := v.keyring().RemovePasskey(v.r.Context(), v.session, v.r.PathValue("id")); err != nil {
		return err
	}
	return v.to("/account?done=removed")
}

// endSession ends one of one's own sessions.
func (v *visit) endSession() error {
	id := v.r.PathValue("id")
	if id == v.session.ID {
		return v.signOut()
	}
	if err := v.keyring().EndMySession(v.r.Context(), v.session, id); err != nil {
		return err
	}
	return v.to("/account?done=ended")
}

// signOutEverywhere ends all of one's own sessions, this one included.
func (v *visit) signOutEverywhere() error {
	if err := v.keyring().EndMySessions(v.r.Context(), v.session); err != nil {
		return err
	}
	return v.left()
}
