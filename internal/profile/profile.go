// Package profile is the configuration of the product that Keystile issues
// keys for: prefix, headers, environments, roles, plans and the words its
// pages use. It reads a profile, checks it whole, and answers questions about
// it.
//
// How the process runs (addresses, database) is not part of a
// profile: the same profile serves one machine or twenty. No SQL, no HTTP and
// nothing that changes while the server runs belongs here.
package profile

import (
	_ "embed"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/keystile/keystile"
)

// standard is the profile of a server that was given none. What another
// profile leaves out is as it stands there, save for product and prefix.
//
//go:embed default.yaml
var standard []byte

// Profile is the configuration of one product. [Parse] makes it, checked and
// complete; it never changes afterwards, so any number of goroutines may read
// it. Nobody may write to its slices and maps.
type Profile struct {
	// Product is the product's name as people read it.
	Product  string   `yaml:"product"`
	Branding Branding `yaml:"branding"`
	// Prefix begins every key, before the first underscore.
	Prefix string `yaml:"prefix"`
	// Preview says which end of a key its preview shows.
	Preview keystile.PreviewStyle `yaml:"preview"`
	// Headers are those in which product keys are taken by me, forward-auth
	// and the middleware: Authorization, X-API-Key or both.
	Headers []string `yaml:"headers"`
	// ShowHeader is the one of Headers that pages and curl lines show.
	ShowHeader string `yaml:"show_header"`
	// Unauthorized is the title of every 401.
	Unauthorized string `yaml:"unauthorized"`
	// Environments are those that a key can be made for, the default first.
	// Without any, keys have no environment.
	Environments []Environment `yaml:"environments"`
	// Permissions are the product's own; none begins with api. or platform.
	Permissions []Permission `yaml:"permissions"`
	// Roles are those of every workspace: admin, developer, viewer, and then
	// the profile's own in its order.
	Roles []Role `yaml:"roles"`
	// DefaultRole is what a new key gets that names none. It carries product
	// permissions alone.
	DefaultRole string `yaml:"default_role"`
	Plans       []Plan `yaml:"plans"`
	// DefaultPlan is what a new workspace gets that names none.
	DefaultPlan string    `yaml:"default_plan"`
	Keys        KeyPolicy `yaml:"keys"`
	Retention   Retention `yaml:"retention"`
	Alerts      Alerts    `yaml:"alerts"`
	SignIn      SignIn    `yaml:"sign_in"`
	// Columns are those of the list of keys, from the left.
	Columns []string `yaml:"columns"`
	// Actions are the buttons beside each key of the list, of those that the
	// policy for keys offers at all. A key's own page has them all.
	Actions []string `yaml:"actions"`
	// WebhookSecrets says whether the pages offer webhook secrets. A product that
	// sends no webhooks needs none.
	WebhookSecrets bool `yaml:"webhook_secrets"`
	// Endpoints says whether the pages offer endpoints that get events.
	Endpoints bool `yaml:"endpoints"`
	// ThirdParties are the integrations that have a page. Only "zapier" is known.
	ThirdParties []string `yaml:"third_parties"`
	// Words is the wording of the pages. It holds every known word.
	Words map[string]string `yaml:"words"`

	format keystile.Format
	source string
	names  map[string]bool // of all permissions
}

// Branding is how the pages look and whom they name.
type Branding struct {
	Colour       string `yaml:"colour"`        // #rrggbb, of buttons and links
	Logo         string `yaml:"logo"`          // https address, or path on the pages' own host; may be empty
	SupportEmail string `yaml:"support_email"` // may be empty
	DocsURL      string `yaml:"docs_url"`      // may be empty
}

// Environment is where a key is used, such as production.
type Environment struct {
	Name  string `yaml:"name"`
	Title string `yaml:"title"`
	// Marker stands in the key between prefix and body; empty for none.
	Marker string `yaml:"marker"`
	// RotateEvery is the age at which a replacement is recommended; 0 for never.
	RotateEvery time.Duration `yaml:"rotate_every"`
}

// unset marks a period that the file leaves out, since 0 says never.
const unset = -1

func (e *Environment) preset() { e.RotateEvery = unset }

// Permission is one of the product's own permissions.
type Permission struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
}

// KeyPolicy says what pages offer and recommend. The API allows revoking and
// deleting whatever stands here.
type KeyPolicy struct {
	Revoke      Revoke        `yaml:"revoke"`
	Delete      bool          `yaml:"delete"`       // pages offer deleting
	Disable     bool          `yaml:"disable"`      // pages offer disabling
	Reasons     []string      `yaml:"reasons"`      // offered for revoking and disabling; free text is taken too
	RotateEvery time.Duration `yaml:"rotate_every"` // where the environment has none; 0 for never
	IdleAfter   time.Duration `yaml:"idle_after"`   // unused for so long is idle; 0 for never
	ReviewEvery time.Duration `yaml:"review_every"` // 0 for never
	MaxOverlap  time.Duration `yaml:"max_overlap"`  // of a rotation, at most 30 days
}

// Revoke says what pages do about revoking.
type Revoke string

// The values of [Revoke].
const (
	RevokeKeep Revoke = "keep" // offered; revoked keys stay in the list
	RevokeHide Revoke = "hide" // offered; revoked keys leave the list
	RevokeOff  Revoke = "off"  // not offered
)

// Retention says how long records are kept; 0 is for ever.
type Retention struct {
	Audit       time.Duration `yaml:"audit"`
	Usage       time.Duration `yaml:"usage"`        // uses by key and hour
	Sources     time.Duration `yaml:"sources"`      // addresses that keys were used from
	Deliveries  time.Duration `yaml:"deliveries"`   // of events to endpoints
	RevokedKeys time.Duration `yaml:"revoked_keys"` // records of revoked keys, counted from the revocation
	Alerts      time.Duration `yaml:"alerts"`       // that are closed
}

// Alerts says when something is told of unasked.
type Alerts struct {
	// Expiring is how long before a key's end it is told of, each once. A key
	// that never lived as long as that is not told of.
	Expiring []time.Duration `yaml:"expiring"`
	// Notice is for how long an exposure that was suspected, or a key that
	// expired, is told of.
	Notice time.Duration `yaml:"notice"`
	// FailureWindow is the length of the windows in which refused keys are
	// counted, 1 minute to 1 hour.
	FailureWindow time.Duration `yaml:"failure_window"`
	// FailureFloor is how many refused keys in one window are no spike in any
	// workspace; 0 for no such alerts.
	FailureFloor int `yaml:"failure_floor"`
	// FailureFactor is how many times as many as usual are a spike, 2 to 1000.
	FailureFactor int `yaml:"failure_factor"`
}

// SignIn says how long people at the pages stay signed in.
type SignIn struct {
	// Session is for how long a session lasts, 5 minutes to 30 days.
	Session time.Duration `yaml:"session"`
	// Fresh is for how long after a sign-in a person may do what hands out or
	// takes away access; afterwards the pages ask again. At least a minute.
	Fresh time.Duration `yaml:"fresh"`
	// Embed lists the origins, such as https://app.example.com, whose pages may
	// hold the pages of a portal session in a frame. Empty for none.
	Embed []string `yaml:"embed"`
}

// maxSession is the longest that a session can last.
const maxSession = 30 * day

// maxSize bounds a profile, in bytes. Those in examples/ have under 4 KiB.
const maxSize = 256 << 10

// maxOverlap is the longest that a rotated key may live beside its replacement.
const maxOverlap = 30 * day

// Default returns the profile of a server that was given none.
func Default() *Profile {
	p, err := Parse("default.yaml", standard)
	if err != nil {
		// The file is part of the binary and parsed in the tests: a broken one
		// is a broken build, and no caller could do anything about it.
		panic(err)
	}
	return p
}

// Load reads the profile in the file at path. An empty path gives [Default].
// Its errors are one line each and say what to do.
func Load(path string) (*Profile, error) {
	if path == "" {
		return Default(), nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the profile: %w; check the path", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the profile: %w; check the path", err)
	}
	return Parse(path, data)
}

// Parse reads a profile. The name is the file's, for errors: each is one line
// with name, line, field, what is wrong and what to do. The first one ends
// the reading. Data is bounded at 256 KiB.
func Parse(name string, data []byte) (*Profile, error) {
	p := new(Profile)
	if _, err := read("default.yaml", standard, p); err != nil {
		return nil, err
	}
	// Keys carry the prefix for ever, so nobody gets one by leaving it out.
	p.Product, p.Prefix = "", ""
	f, err := read(name, data, p)
	if err != nil {
		return nil, err
	}
	if err := f.check(p); err != nil {
		return nil, err
	}
	p.source = string(data)
	return p, nil
}

// Source returns the text that the profile was parsed from.
func (p *Profile) Source() string { return p.source }

// Format returns the format of the product's keys.
func (p *Profile) Format() keystile.Format { return p.format }

// Environment returns the environment of that name.
func (p *Profile) Environment(name string) (Environment, bool) {
	i := slices.IndexFunc(p.Environments, func(e Environment) bool { return e.Name == name })
	if i < 0 {
		return Environment{}, false
	}
	return p.Environments[i], true
}

// DefaultEnvironment returns the name of the first environment, or "" when
// keys have none.
func (p *Profile) DefaultEnvironment() string {
	if len(p.Environments) == 0 {
		return ""
	}
	return p.Environments[0].Name
}

// RotateEvery returns the age at which a replacement is recommended for a key
// of the environment, 0 for never. A key without one, or whose environment
// the profile no longer has, goes by the policy for all keys.
func (p *Profile) RotateEvery(environment string) time.Duration {
	if e, ok := p.Environment(environment); ok {
		return e.RotateEvery
	}
	return p.Keys.RotateEvery
}

// Word returns the wording called name, or "" for a name that is not known.
func (p *Profile) Word(name string) string { return p.Words[name] }

// WordNames returns the names of all words, sorted.
func (p *Profile) WordNames() []string { return slices.Sorted(maps.Keys(p.Words)) }
