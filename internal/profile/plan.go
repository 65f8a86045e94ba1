package profile

import (
	"slices"

	"github.com/keystile/keystile"
)

// NoLimit stands for the absence of a limit.
const NoLimit = -1

// Plan is what a workspace has subscribed to.
type Plan struct {
	Name     string   `yaml:"name"`
	Title    string   `yaml:"title"`
	Limits   Limits   `yaml:"limits"`
	Features []string `yaml:"features"` // what the plan includes beyond numbers
}

// Limits says how many of each a workspace may have: 0 is none at all,
// [NoLimit] any number.
type Limits struct {
	ActiveKeys     int `yaml:"active_keys"`
	Members        int `yaml:"members"`
	CustomRoles    int `yaml:"custom_roles"`
	WebhookSecrets int `yaml:"webhook_secrets"`
	Endpoints      int `yaml:"endpoints"`
}

// preset makes a limit that the file leaves out none, where Go's zero would
// forbid everything.
func (p *Plan) preset() {
	p.Limits = Limits{NoLimit, NoLimit, NoLimit, NoLimit, NoLimit}
}

// Plan returns the plan of that name.
func (p *Profile) Plan(name string) (Plan, bool) {
	i := slices.IndexFunc(p.Plans, func(l Plan) bool { return l.Name == name })
	if i < 0 {
		return Plan{}, false
	}
	return p.Plans[i], true
}

// WirePlans returns the plans as the API shows them.
func (p *Profile) WirePlans() []keystile.Plan {
	plans := make([]keystile.Plan, 0, len(p.Plans))
	for _, l := range p.Plans {
		plans = append(plans, keystile.Plan{
			Name:    l.Name,
			Title:   l.Title,
			Default: l.Name == p.DefaultPlan,
			Limits: map[string]int{
				"active_keys":     l.Limits.ActiveKeys,
				"members":         l.Limits.Members,
				"custom_roles":    l.Limits.CustomRoles,
				"webhook_secrets": l.Limits.WebhookSecrets,
				"endpoints":       l.Limits.Endpoints,
			},
			Features: slices.Clone(l.Features),
		})
	}
	return plans
}
