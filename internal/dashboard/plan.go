package dashboard

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/keystile/keystile"
)

// plansPage shows which plan and which role allows what.
type plansPage struct {
	keystile.PlanMatrix

	Limits  []limitRow
	Current string // name of the workspace's plan
	Title   string // and what people call it
	Groups  []matrixGroup
	Width   int // columns of the matrix
	Feature []featureRow
	Support string // whom to ask for another plan; "" for nobody known
}

// limitRow is a limit, by plan.
type limitRow struct {
	Name string
	Use  string // at present; "" where it is not counted
	Most []int  // by plan; -1 for no limit
}

type featureRow struct {
	Name string
	In   []bool // by plan
}

// matrixGroup is a part of the matrix of permissions and roles.
type matrixGroup struct {
	Title string
	Rows  []matrixRow
}

type matrixRow struct {
	keystile.PermissionInfo

	Roles []bool // whether they have it, in the order of the roles
}

// limitNames are the limits of plans as pages show them.
func limitNames() []choice {
	return []choice{
		{"active_keys", "Active keys"}, {"members", "Members"}, {"custom_roles", "Custom roles"},
		{"webhook_secrets", "Webhook secrets"}, {"endpoints", "Endpoints"},
	}
}

func (v *visit) showPlans() error {
	matrix, err := v.keyring().Plans(v.actor)
	if err != nil {
		return err
	}
	use, err := v.keyring().PlanUse(v.r.Context(), v.actor, v.workspace.ID)
	if err != nil {
		return err
	}
	page := plansPage{PlanMatrix: matrix, Current: v.workspace.Plan, Title: v.planTitle(v.workspace.Plan), Support: v.door.Profile.Branding.SupportEmail}
	for _, limit := range limitNames() {
		row := limitRow{Name: limit.Name}
		if n, ok := use[limit.Value]; ok {
			row.Use = strconv.Itoa(n)
		}
		for _, p := range matrix.Plans {
			row.Most = append(row.Most, p.Limits[limit.Value])
		}
		page.Limits = append(page.Limits, row)
	}
	page.Feature = featureRows(matrix.Plans)
	page.Groups, page.Width = v.matrixGroups(matrix), len(matrix.Roles)+1
	v.show(http.StatusOK, "plans", v.door.Profile.Word("plans_title"), page)
	return nil
}

// featureRows lists what plans include, in the order in which they name it.
func featureRows(plans []keystile.Plan) (rows []featureRow) {
	for _, p := range plans {
		for _, f := range p.Features {
			if slices.ContainsFunc(rows, func(r featureRow) bool { return r.Name == f }) {
				continue
			}
			row := featureRow{Name: f}
			for _, other := range plans {
				row.In = append(row.In, slices.Contains(other.Features, f))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func (v *visit) matrixGroups(matrix keystile.PlanMatrix) (groups []matrixGroup) {
	for _, p := range matrix.Permissions {
		title := v.door.Profile.Product
		if rest, ok := strings.CutPrefix(p.Name, keystile.ManagementPrefix); ok {
			noun, _, _ := strings.Cut(rest, ".")
			title = v.managed(noun)
		}
		if n := len(groups); n == 0 || groups[n-1].Title != title {
			groups = append(groups, matrixGroup{Title: title})
		}
		row := matrixRow{PermissionInfo: p}
		for _, r := range matrix.Roles {
			row.Roles = append(row.Roles, r.Permissions.Allow(p.Name))
		}
		last := &groups[len(groups)-1]
		last.Rows = append(last.Rows, row)
	}
	return groups
}
