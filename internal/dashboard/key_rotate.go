package dashboard

import (
	"net/http"
	"time"

	"github.com/keystile/keystile"
)

// rotatePage is the form that replaces a key.
type rotatePage struct {
	keyForm

	Expires  string // the end of the replacement, as typed
	Today    string
	Overlap  string // as chosen
	Overlaps []overlap
}

// overlap is for how long the old key stays valid.
type overlap struct{ Value, Name string }

// overlaps are those offered that the profile allows. The first is the one
// that can break nothing.
func (v *visit) overlaps() []overlap {
	list := []overlap{{"", "Until it is revoked"}}
	for _, o := range []struct {
		d time.Duration
		overlap
	}{
		{time.Hour, overlap{"1h", "One hour"}}, {24 * time.Hour, overlap{"24h", "One day"}},
		{7 * 24 * time.Hour, overlap{"168h", "One week"}}, {30 * 24 * time.Hour, overlap{"720h", "30 days"}},
	} {
		if o.d <= v.door.Profile.Keys.MaxOverlap {
			list = append(list, o.overlap)
		}
	}
	return append(list, overlap{"0s", "Not at all: it is revoked at once"})
}

func (v *visit) rotateKeyPage() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	return v.rotateForm(k, nil)
}

func (v *visit) rotateForm(k keystile.Key, problem *keystile.Error) error {
	v.show(formStatus(problem), "key_rotate", v.door.Profile.Word("rotate_title"), rotatePage{
		keyForm: v.keyForm(k, problem), Overlap: v.r.PostFormValue("overlap"), Overlaps: v.overlaps(),
		Expires: v.r.PostFormValue("expires"), Today: time.Now().UTC().Format(dayForm),
	})
	return nil
}

// rotateKey makes the replacement and shows its secret, once.
func (v *visit) rotateKey() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	in := keystile.RotateKey{Overlap: v.r.PostFormValue("overlap")}
	var out keystile.CreatedKey
	var replayed bool
	if in.ExpiresAt, err = endOfDay(v.r.PostFormValue("expires")); err == nil {
		out, replayed, err = v.keyring().RotateKey(v.r.Context(), v.actor, k.ID, in, v.once())
	}
	if problem := v.correctable(err); problem != nil {
		return v.rotateForm(k, problem)
	} else if err != nil {
		return err
	}
	if replayed {
		return v.shownAlready(out.Key)
	}
	page, err := v.keyPage(out.Key)
	if err != nil {
		return err
	}
	page.Created = v.created(out, v.keyAt(out.Key.ID))
	v.show(http.StatusCreated, "key", v.door.Profile.Word("created_title"), page)
	return nil
}

// rollBackPage asks before a rotation is undone.
func (v *visit) rollBackPage() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "key_rollback", v.door.Profile.Word("rollback_button"), v.keyForm(k, nil))
	return nil
}

// rollBack revokes a replacement and gives the key that it replaces its
// former end back.
func (v *visit) rollBack() error {
	k, err := v.key()
	if err != nil {
		return err
	}
	_, err = v.keyring().RevokeKey(v.r.Context(), v.actor, k.ID, keystile.RevokeKey{Reason: "Rotation rolled back", Rollback: true})
	if problem := v.correctable(err); problem != nil {
		v.show(problem.Status, "key_rollback", v.door.Profile.Word("rollback_button"), v.keyForm(k, problem))
		return nil
	} else if err != nil {
		return err
	}
	return v.to(v.keyAt(k.Replaces) + "?done=rolled_back")
}
