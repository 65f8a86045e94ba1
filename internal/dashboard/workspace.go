package dashboard

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// workspacesPage is where a person can go.
type workspacesPage struct {
	Seats      []keyring.Seat
	Everywhere bool
	MayCreate  bool
	MayServers bool
	All        keystile.List[keystile.Workspace] // for who sees them all
	Query      string
}

func (v *visit) listWorkspaces() error {
	seats, everywhere, err := v.keyring().Seats(v.r.Context(), v.session)
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	page := workspacesPage{Seats: seats, Everywhere: everywhere, Query: q.Get("q")}
	if everywhere {
		a, err := v.keyring().Enter(v.r.Context(), v.session, keyring.OperatorWorkspace)
		if err != nil {
			return err
		}
		page.MayCreate = a.May("platform.workspace.create")
		page.MayServers = a.May("platform.nodes")
		page.All, err = v.keyring().Workspaces(v.r.Context(), a, page.Query, q.Get("cursor"), 0)
		if err != nil {
			return err
		}
	}
	v.show(http.StatusOK, "workspaces", "Workspaces", page)
	return nil
}

// operator is the actor of whoever works in the operator's workspace.
func (v *visit) operator() (keyring.Actor, error) {
	a, err := v.keyring().Enter(v.r.Context(), v.session, keyring.OperatorWorkspace)
	if errors.Is(err, keystile.CodeNotFound) || err == nil && !a.May("platform.workspace.create") {
		return a, keystile.NewError(keystile.CodeInsufficientPermission,
			"Only the operator of this service makes workspaces.", "Ask the operator for a workspace.")
	}
	return a, err
}

// newWorkspacePage is the form of a new workspace.
type newWorkspacePage struct {
	In      keystile.CreateWorkspace
	Plans   []keystile.Plan
	Nonce   string
	Problem *keystile.Error
}

func (v *visit) newWorkspace() error {
	if _, err := v.operator(); err != nil {
		return err
	}
	return v.workspaceForm(keystile.CreateWorkspace{Plan: v.door.Profile.DefaultPlan}, nil)
}

func (v *visit) workspaceForm(in keystile.CreateWorkspace, problem *keystile.Error) error {
	v.show(statusOf(problem), "workspace_new", "Create workspace", newWorkspacePage{
		In: in, Plans: v.door.Profile.WirePlans(), Nonce: newNonce(), Problem: problem,
	})
	return nil
}

func (v *visit) createWorkspace() error {
	a, err := v.operator()
	if err != nil {
		return err
	}
	in := keystile.CreateWorkspace{Name: v.r.PostFormValue("name"), Plan: v.r.PostFormValue("plan")}
	w, _, err := v.keyring().CreateWorkspace(v.r.Context(), a, in, v.once())
	if problem := v.correctable(err); problem != nil {
		return v.workspaceForm(in, problem)
	} else if err != nil {
		return err
	}
	return v.to("/w/" + w.ID + "/settings?done=created")
}

// statusOf is that of a form's page: the problem's, if there is one.
func statusOf(problem *keystile.Error) int {
	if problem != nil {
		return problem.Status
	}
	return http.StatusOK
}

// settingsPage is what can be set of a workspace.
type settingsPage struct {
	Name      string
	Allowlist string // one entry a line, as typed
	Address   string // that the reader comes from; "" when it is not known
	Plan      string

	MayEdit, MayPlan, MaySuspend bool

	Problem *keystile.Error
}

func (v *visit) showSettings() error {
	return v.settings(v.workspace.Name, strings.Join(v.workspace.IPAllowlist, "\n"), nil)
}

func (v *visit) settings(name, list string, problem *keystile.Error) error {
	page := settingsPage{
		Name: name, Allowlist: list, Address: v.address(), Plan: v.planTitle(v.workspace.Plan), Problem: problem,
		MayEdit:    v.actor.May("api.workspace.update") || v.actor.May("platform.workspace.update"),
		MayPlan:    v.actor.May("platform.workspace.update") && !v.workspace.Operator,
		MaySuspend: v.actor.May("platform.workspace.suspend") && !v.workspace.Operator,
	}
	v.show(statusOf(problem), "settings", v.door.Profile.Word("settings_title"), page)
	return nil
}

// planTitle is what people call a plan.
func (d *Dashboard) planTitle(name string) string {
	if p, ok := d.door.Profile.Plan(name); ok {
		return p.Title
	}
	return name
}

// lockoutPage warns of what a list of addresses would refuse: the one who
// makes it, or those who use keys.
type lockoutPage struct {
	Name, Allowlist, Address string

	Out     bool   // the reader would be locked out
	With    string // the list with the reader's own address; "" where that is of no use
	Callers []keyring.Caller
	More    bool // there are more callers than are shown
}

// callersShown is how many addresses the warning lists.
const callersShown = 20

// updateSettings saves the settings. A list of addresses that would lock its
// author out, or those who use keys, takes a second confirmation.
func (v *visit) updateSettings() error {
	name, list := v.r.PostFormValue("name"), v.r.PostFormValue("ip_allowlist")
	if v.r.PostFormValue("back") != "" { // from the warning, to type on
		return v.settings(name, list, nil)
	}
	entries := splitList(list)
	changed := !slices.Equal(entries, v.workspace.IPAllowlist)
	if changed && !v.keyring().Fresh(v.session) {
		return v.signInAgain()
	}
	page, err := lockoutPage{Name: name, Allowlist: list, Address: v.address()}, error(nil)
	if changed {
		err = v.warnings(&page, entries)
	}
	if err == nil && (page.Out || len(page.Callers) > 0) && v.r.PostFormValue("confirm") != "lockout" {
		title := "Some callers would be refused"
		if page.Out {
			title = "You would lock yourself out"
		}
		v.show(http.StatusConflict, "settings_lockout", title, page)
		return nil
	}
	if err == nil {
		_, err = v.keyring().UpdateWorkspace(v.r.Context(), v.actor, v.workspace.ID, keystile.WorkspacePatch{Name: &name, IPAllowlist: &entries})
	}
	if problem := v.correctable(err); problem != nil {
		return v.settings(name, list, problem)
	} else if err != nil {
		return err
	}
	return v.to(v.base() + "/settings?done=saved")
}

// warnings finds whom a list of addresses would refuse.
func (v *visit) warnings(page *lockoutPage, entries []string) (err error) {
	if page.Out, err = v.keyring().LocksOut(v.actor, v.workspace.ID, entries); err != nil {
		return err
	}
	if len(entries) > 0 && v.actor.May("api.usage.view") {
		page.Callers, page.More, err = v.keyring().CallersOutside(v.r.Context(), v.actor, v.workspace.ID, entries, callersShown)
	}
	if page.Out && page.Address != "" {
		page.With = strings.Join(append(slices.Clone(entries), page.Address), "\n")
	}
	return err
}

// splitList reads entries that stand on lines of their own, or between commas
// or spaces.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\r\n;", r) })
}

// planPage is the form of a workspace's plan.
type planPage struct {
	Plans   []keystile.Plan
	Plan    string
	Problem *keystile.Error
}

func (v *visit) editPlan() error { return v.planForm(v.workspace.Plan, nil) }

func (v *visit) planForm(plan string, problem *keystile.Error) error {
	v.show(statusOf(problem), "settings_plan", "Change plan", planPage{Plans: v.door.Profile.WirePlans(), Plan: plan, Problem: problem})
	return nil
}

func (v *visit) updatePlan() error {
	plan := v.r.PostFormValue("plan")
	_, err := v.keyring().UpdateWorkspace(v.r.Context(), v.actor, v.workspace.ID, keystile.WorkspacePatch{Plan: &plan})
	if problem := v.correctable(err); problem != nil {
		return v.planForm(plan, problem)
	} else if err != nil {
		return err
	}
	return v.to(v.base() + "/settings?done=saved")
}

// suspendPage asks why a workspace is suspended.
type suspendPage struct {
	Reason  string
	Problem *keystile.Error
}

func (v *visit) confirmSuspend() error { return v.suspendForm("", nil) }

func (v *visit) suspendForm(reason string, problem *keystile.Error) error {
	v.show(statusOf(problem), "settings_suspend", "Suspend "+v.workspace.Name, suspendPage{reason, problem})
	return nil
}

func (v *visit) suspendWorkspace() error {
	yes, reason := true, v.r.PostFormValue("reason")
	_, err := v.keyring().UpdateWorkspace(v.r.Context(), v.actor, v.workspace.ID, keystile.WorkspacePatch{Suspended: &yes, SuspendedReason: &reason})
	if problem := v.correctable(err); problem != nil {
		return v.suspendForm(reason, problem)
	} else if err != nil {
		return err
	}
	return v.to(v.base() + "/settings?done=suspended")
}

func (v *visit) resumeWorkspace() error {
	no := false
	if _, err := v.keyring().UpdateWorkspace(v.r.Context(), v.actor, v.workspace.ID, keystile.WorkspacePatch{Suspended: &no}); err != nil {
		return err
	}
	return v.to(v.base() + "/settings?done=resumed")
}
