package dashboard

import (
	"errors"
	"net/http"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// membersPage is the list of a workspace's members.
type membersPage struct {
	Members    []keystile.Member
	NextCursor string
	Self       string // ID of the person who reads it

	MayInvite, MayUpdate, MayRemove bool
}

func (v *visit) listMembers() error {
	list, err := v.keyring().Members(v.r.Context(), v.actor, v.workspace.ID, v.r.URL.Query().Get("cursor"), 0)
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "members", v.door.Profile.Word("members_title"), membersPage{
		Members: list.Data, NextCursor: list.NextCursor, Self: v.session.Person.ID,
		MayInvite: v.actor.May("api.member.create"), MayUpdate: v.actor.May("api.member.update"), MayRemove: v.actor.May("api.member.delete"),
	})
	return nil
}

// member is the member of this workspace that the path names.
func (v *visit) member() (keystile.Member, error) {
	m, err := v.keyring().Member(v.r.Context(), v.actor, v.r.PathValue("member"))
	if err == nil && m.WorkspaceID != v.workspace.ID { // an operator sees them all
		return keystile.Member{}, unknownPage()
	}
	return m, err
}

// givableRoles are the roles that the actor may give to somebody.
func (v *visit) givableRoles() ([]keystile.Role, error) {
	roles, err := v.keyring().Roles(v.r.Context(), v.actor, v.workspace.ID, "", keyring.MaxLimit)
	if err != nil {
		return nil, err
	}
	var out []keystile.Role
	for _, r := range roles.Data {
		if v.actor.MayGive(r.Permissions) {
			out = append(out, r)
		}
	}
	return out, nil
}

// newMemberPage is the form of an invitation.
type newMemberPage struct {
	In      keystile.CreateMember
	Roles   []keystile.Role
	Nonce   string
	Same    []keystile.Member // who have the e-mail address already
	Problem *keystile.Error
}

// Called is how a member is called.
func (newMemberPage) Called(m keystile.Member) string { return called(m) }

func (v *visit) newMember() error { return v.memberForm(newMemberPage{}) }

func (v *visit) memberForm(page newMemberPage) (err error) {
	if page.Roles, err = v.givableRoles(); err != nil {
		return err
	}
	page.Nonce = newNonce()
	status := statusOf(page.Problem)
	if len(page.Same) > 0 {
		status = http.StatusConflict
	}
	v.show(status, "member_new", v.door.Profile.Word("invite_button"), page)
	return nil
}

// createMember invites somebody and shows the link that lets them in.
func (v *visit) createMember() error {
	form := v.r.PostFormValue
	in := keystile.CreateMember{Person: keystile.Person{Name: form("name"), Email: form("email")}, Role: form("role")}
	if in.Role == "" { // the default role is one for keys
		return v.memberForm(newMemberPage{In: in, Problem: keystile.NewError(keystile.CodeInvalidField, "Choose a role: it says what they may do here.")})
	}
	create := v.keyring().CreateOnlyMember
	if v.r.PostFormValue("confirm") == "namesake" {
		create = v.keyring().CreateMember
	}
	m, replayed, err := create(v.r.Context(), v.actor, v.workspace.ID, in, v.once())
	if errors.Is(err, keyring.ErrNamesake) {
		same, err := v.keyring().Namesakes(v.r.Context(), v.actor, v.workspace.ID, in.Person.Email)
		if err != nil {
			return err
		}
		return v.memberForm(newMemberPage{In: in, Same: same})
	}
	if problem := v.correctable(err); problem != nil {
		return v.memberForm(newMemberPage{In: in, Problem: problem})
	} else if err != nil {
		return err
	}
	if replayed {
		return v.to(v.base() + "/members?done=invited")
	}
	return v.invite(m)
}

// invitationPage shows a link that lets a member in: this once.
type invitationPage struct {
	Member  keystile.Member
	URL     string
	Until   time.Time
	Passkey bool // they can add a passkey
}

// Who is how the member is called.
func (p invitationPage) Who() string { return called(p.Member) }

// invite makes a link for a member and shows it.
func (v *visit) invite(m keystile.Member) error {
	once := v.once()
	once.Route += " link" // the same form has made the member
	token, replayed, err := v.keyring().Invite(v.r.Context(), v.actor, m.ID, once)
	if err != nil {
		return err
	}
	if replayed {
		return v.to(v.base() + "/members?done=invited")
	}
	link, err := v.keyring().Link(v.r.Context(), token)
	if err != nil {
		return err
	}
	v.show(http.StatusCreated, "member_link", "Invitation link",
		invitationPage{Member: m, URL: v.url + "/link/" + token, Until: link.ExpiresAt, Passkey: v.passkeys != nil})
	return nil
}

// memberPage is a form about one member.
type memberPage struct {
	Member  keystile.Member
	Self    bool // the reader is the member
	Roles   []keystile.Role
	Role    string // chosen
	Keys    []keystile.Key
	More    bool // there are more keys than are shown
	MayKeys bool // the reader may revoke them
	Choice  string
	Reason  string
	Reasons []choice
	Nonce   string
	Problem *keystile.Error
}

// Who is how the member is called.
func (p memberPage) Who() string { return called(p.Member) }

// choice is one of several that a form offers.
type choice struct{ Value, Name string }

func (v *visit) newInvitation() error {
	m, err := v.member()
	if err != nil {
		return err
	}
	v.show(http.StatusOK, "member_relink", "New link for "+called(m), memberPage{Member: m, Nonce: newNonce()})
	return nil
}

func (v *visit) createInvitation() error {
	m, err := v.member()
	if err != nil {
		return err
	}
	return v.invite(m)
}

// called is how a member is called.
func called(m keystile.Member) string {
	for _, s := range []string{m.Person.Name, m.Person.Email, m.Person.Subject} {
		if s != "" {
			return s
		}
	}
	return m.ID
}

func (v *visit) editMember() error {
	m, err := v.member()
	if err != nil {
		return err
	}
	return v.memberRoleForm(m, m.Role, nil)
}

func (v *visit) memberRoleForm(m keystile.Member, role string, problem *keystile.Error) error {
	roles, err := v.givableRoles()
	if err != nil {
		return err
	}
	v.show(statusOf(problem), "member_role", "Change role of "+called(m), memberPage{
		Member: m, Self: m.Person.ID == v.session.Person.ID, Roles: roles, Role: role, Problem: problem,
	})
	return nil
}

func (v *visit) updateMember() error {
	m, err := v.member()
	if err != nil {
		return err
	}
	role := v.r.PostFormValue("role")
	_, err = v.keyring().UpdateMember(v.r.Context(), v.actor, m.ID, keystile.MemberPatch{Role: &role})
	if problem := v.correctable(err); problem != nil {
		return v.memberRoleForm(m, role, problem)
	} else if err != nil {
		return err
	}
	return v.to(v.base() + "/members?done=saved")
}

func (v *visit) leavingMember() error {
	m, err := v.member()
	if err != nil {
		return err
	}
	page, err := v.leaving(m)
	if err != nil {
		return err
	}
	return v.showLeaving(page)
}

// leaving finds what a member who is to be removed leaves behind.
func (v *visit) leaving(m keystile.Member) (memberPage, error) {
	page := memberPage{Member: m, Self: m.Person.ID == v.session.Person.ID, MayKeys: v.actor.May("api.key.delete")}
	for _, reason := range v.door.Profile.Keys.Reasons {
		name := v.door.Profile.Word("reason_" + reason)
		if name == "" {
			name = reason
		}
		page.Reasons = append(page.Reasons, choice{reason, name})
	}
	if !v.actor.May("api.key.view") {
		return page, nil
	}
	for _, status := range []string{"active", "disabled"} {
		list, err := v.keyring().Keys(v.r.Context(), v.actor, v.workspace.ID, keyring.KeyQuery{
			Creator: m.Person.ID, Status: status, Limit: keyring.DefaultLimit,
		})
		if err != nil {
			return page, err
		}
		page.Keys = append(page.Keys, list.Data...)
		page.More = page.More || list.NextCursor != ""
	}
	return page, nil
}

func (v *visit) showLeaving(page memberPage) error {
	v.show(statusOf(page.Problem), "member_remove", "Remove "+called(page.Member), page)
	return nil
}

// removeMember takes somebody out of the workspace. What happens to the keys
// that they made is asked, not guessed.
func (v *visit) removeMember() error {
	m, err := v.member()
	if err != nil {
		return err
	}
	page, err := v.leaving(m)
	if err != nil {
		return err
	}
	page.Choice, page.Reason = v.r.PostFormValue("keys"), v.r.PostFormValue("reason")
	switch {
	case page.Choice == "revoke":
		err = v.keyring().DeleteMemberWithKeys(v.r.Context(), v.actor, m.ID, page.Reason)
	case page.Choice == "keep" || len(page.Keys) == 0:
		err = v.keyring().DeleteMember(v.r.Context(), v.actor, m.ID)
	default:
		err = keystile.NewError(keystile.CodeInvalidField, "Nobody was removed: say first what shall happen to the keys that they made.",
			"Choose to keep the keys or to revoke them.")
	}
	if page.Problem = v.correctable(err); page.Problem != nil {
		return v.showLeaving(page)
	} else if err != nil {
		return err
	}
	if page.Self {
		return v.to("/workspaces?done=removed")
	}
	return v.to(v.base() + "/members?done=removed")
}
