package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

type keysCmd struct {
	Create  keysCreateCmd  `cmd:"" help:"Make a key and print it, this once."`
	List    keysListCmd    `cmd:"" help:"List the keys of a workspace."`
	Show    keysShowCmd    `cmd:"" help:"Show all about a key but its secret."`
	Edit    keysEditCmd    `cmd:"" help:"Change the name, role, allowlist or other fields of a key."`
	Disable keysDisableCmd `cmd:"" help:"Refuse a key until it is enabled again."`
	Enable  keysEnableCmd  `cmd:"" help:"Let a disabled key in again."`
	Rotate  keysRotateCmd  `cmd:"" help:"Make a replacement for a key and print it, this once."`
	Revoke  keysRevokeCmd  `cmd:"" help:"End a key for good, and keep its record."`
	Delete  keysDeleteCmd  `cmd:"" help:"End a key for good, and remove its record."`
	Import  keysImportCmd  `cmd:"" help:"Take over keys issued elsewhere, by the SHA-256 of each."`
}

// secretFlag is on the verbs whose answer carries a secret.
type secretFlag struct {
	SecretOnly bool `help:"Print the key alone, for a program to take."`
}

func (f secretFlag) check(a *app) error {
	if f.SecretOnly && a.json {
		return usage(errors.New("--secret-only and --json exclude each other: the JSON has the secret in it"))
	}
	return nil
}

// print shows a new key. When that fails, the secret is lost for good, and
// only its owner can tell what to do.
func (f secretFlag) print(a *app, made keystile.CreatedKey) error {
	var err error
	switch {
	case a.json:
		err = printJSON(a.stdout, made)
	case f.SecretOnly:
		_, err = fmt.Fprintln(a.stdout, made.Secret)
		fmt.Fprintf(a.stderr, "keystile: created %s (%s)\n", made.Key.ID, printable(made.Key.Name))
	default:
		_, err = fmt.Fprintf(a.stdout, "Created %s (%s).\n\n  %s\n\nThis is the key. It is shown now and never again: copy it to where it is needed.\n",
			made.Key.ID, printable(made.Key.Name), made.Secret)
	}
	if err != nil {
		return fmt.Errorf("the key %s was made, but not shown: %w; delete it and make another", made.Key.ID, err)
	}
	sayPending(a, made)
	return nil
}

// sayPending tells a person when some server did not know a new key in time.
// Programs find it in the JSON.
func sayPending(a *app, made keystile.CreatedKey) {
	if made.Pending && !a.json {
		fmt.Fprintln(a.stderr, "keystile: some server may need a moment more before it accepts the key")
	}
}

type keysCreateCmd struct {
	clientFlags
	workspaceFlag
	Name        string            `help:"What the key is for." required:"" placeholder:"TEXT"`
	Role        string            `help:"Role of the key; without it the profile's default." placeholder:"ROLE"`
	Permission  list              `help:"Narrow the role to this permission; may be repeated." placeholder:"NAME,..." wire:"permissions"`
	Environment string            `help:"Environment of the key; without it the profile's first." placeholder:"NAME"`
	Expires     *moment           `help:"For how long the key is good, such as 24h or 90d, or until when (RFC 3339); without it for ever." placeholder:"WHEN" wire:"expires_at"`
	Allow       list              `help:"Address or CIDR range that the key may be used from; may be repeated." placeholder:"CIDR,..." wire:"ip_allowlist"`
	Metadata    map[string]string `help:"A word on the key for your own programs; may be repeated." placeholder:"NAME=TEXT" mapsep:"none"`
	Owner       string            `help:"Who or what the key belongs to in your product." placeholder:"TEXT"`
	Description string            `help:"Where the key is used." placeholder:"TEXT"`
	secretFlag
}

// Run makes the key.
func (c *keysCreateCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	workspace, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	made, err := client.CreateKey(ctx, workspace, keystile.CreateKey{
		Name: c.Name, Description: c.Description, Role: c.Role, Permissions: keystile.Permissions(c.Permission), Environment: c.Environment,
		ExpiresAt: c.Expires.time(), IPAllowlist: c.Allow, Metadata: c.Metadata, Owner: c.Owner,
	})
	if err != nil {
		return err
	}
	return c.print(a, made)
}

type keysListCmd struct {
	clientFlags
	workspaceFlag
	Status string `help:"Only keys that are ${enum}." enum:"active,disabled,revoked,expired,all" default:"all" placeholder:"STATUS"`
	Query  string `help:"Only keys with this in their name, description, owner, preview or Key ID." short:"q" placeholder:"TEXT" wire:"q"`
}

// Run lists all pages.
func (c *keysListCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	workspace, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	return listing[keystile.Key]{
		nouns: "keys", narrowed: c.Query != "" || c.Status != "all",
		headings: []string{"KEY ID", "NAME", "PREVIEW", "STATUS", "ROLE", "ENVIRONMENT", "CREATED", "LAST USED", "EXPIRES"},
		row: func(k keystile.Key) []string {
			used := "never"
			if k.LastUse != nil {
				used = minute(k.LastUse.At)
			}
			status := string(k.Status)
			if k.ReplacedBy != "" && k.Status == keystile.StatusActive {
				status += ", replaced"
			}
			return []string{k.ID, k.Name, k.Preview, status, k.Role, k.Environment, minute(k.CreatedAt), used, minutePtr(k.ExpiresAt)}
		},
	}.write(a, client.AllKeys(ctx, workspace, keystile.ListKeys{Status: c.Status, Query: c.Query, Limit: 200}), 0)
}

type keyArg struct {
	ID keyID `arg:"" help:"Key ID, key_…" name:"key-id"`
}

type keysShowCmd struct {
	clientFlags
	keyArg
}

// Run shows the key.
func (c *keysShowCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	k, err := client.Key(ctx, string(c.ID))
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, k)
	}
	return printFields(a.stdout, keyFields(k))
}

func keyFields(k keystile.Key) [][2]string {
	fields := [][2]string{
		{"Key ID", k.ID},
		{"Name", k.Name},
		{"Description", k.Description},
		{"Workspace", k.WorkspaceID},
		{"Preview", k.Preview},
		{"Status", string(k.Status)},
		{"Role", k.Role},
		{"Permissions", strings.Join(k.Permissions, " ")},
		{"Environment", k.Environment},
		{"Owner", k.Owner},
		{"Allowed from", strings.Join(k.IPAllowlist, " ")},
	}
	for _, name := range slices.Sorted(maps.Keys(k.Metadata)) {
		fields = append(fields, [2]string{"Metadata", name + "=" + k.Metadata[name]})
	}
	used := "never"
	if u := k.LastUse; u != nil {
		used = strings.Join(slices.DeleteFunc([]string{minute(u.At), u.Address, u.UserAgent}, func(s string) bool { return s == "" }), ", ")
	}
	fields = append(fields, [][2]string{
		{"Created", done(&k.CreatedAt, &k.CreatedBy, "")},
		{"Last used", used},
		{"Expires", minutePtr(k.ExpiresAt)},
		{"Disabled", done(k.DisabledAt, nil, k.DisabledReason)},
		{"Revoked", done(k.RevokedAt, k.RevokedBy, k.RevokedReason)},
		{"Reviewed", done(k.ReviewedAt, k.ReviewedBy, "")},
		{"Review due", minutePtr(k.ReviewDue)},
		{"Rotation due", minutePtr(k.RotationDue)},
		{"Replaces", k.Replaces},
		{"Replaced by", k.ReplacedBy},
	}...)
	for _, note := range []struct {
		on   bool
		text string
	}{
		{k.SafeToRevoke, "safe to revoke: its replacement is in use, and it has been quiet since"},
		{k.Idle, "idle: not used for as long as the profile allows"},
		{k.Imported, "imported: Keystile never saw the secret"},
	} {
		if note.on {
			fields = append(fields, [2]string{"Note", note.text})
		}
	}
	return fields
}

// done says when something was done, by whom and why; "" if it was not.
func done(at *time.Time, by *keystile.Party, reason string) string {
	if at == nil {
		return ""
	}
	text := minute(*at)
	if by != nil {
		name := by.Name
		if name == "" {
			name = by.ID
		}
		text += " by " + strings.TrimSpace(by.Kind+" "+name)
	}
	if reason != "" {
		text += " (" + reason + ")"
	}
	return text
}

// printChanged says what became of a key.
func printChanged(a *app, k keystile.Key, what string) error {
	return a.tell(k, "%s %s (%s).", what, k.ID, printable(k.Name))
}

type keysDisableCmd struct {
	clientFlags
	keyArg
	Reason string `help:"Why: unneeded, ownership_changed, exposure_suspected, rotated or any text." placeholder:"TEXT"`
}

// Run disables the key.
func (c *keysDisableCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	k, err := client.DisableKey(ctx, string(c.ID), keystile.DisableKey{Reason: c.Reason})
	if err != nil {
		return err
	}
	return printChanged(a, k, "Disabled")
}

type keysEnableCmd struct {
	clientFlags
	keyArg
}

// Run enables the key.
func (c *keysEnableCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	k, err := client.EnableKey(ctx, string(c.ID))
	if err != nil {
		return err
	}
	return printChanged(a, k, "Enabled")
}

type keysRotateCmd struct {
	clientFlags
	keyArg
	Overlap *span   `help:"How long the old key stays valid: 0s, 24h, 7d; without it until it is revoked. 0s ends it at once." placeholder:"DURATION"`
	Name    string  `help:"Name of the replacement; without it the same." placeholder:"TEXT"`
	Expires *moment `help:"For how long the replacement is good, such as 24h or 90d, or until when (RFC 3339); without it as long as the old key." placeholder:"WHEN" wire:"expires_at"`
	secretFlag
	confirmFlag
}

// Run makes the replacement. Without an overlap the old key ends at once,
// which asks for a confirmation like a revocation.
func (c *keysRotateCmd) Run(ctx context.Context, a *app) error {
	if err := c.secretFlag.check(a); err != nil {
		return err
	}
	ends := c.Overlap != nil && *c.Overlap == 0
	if ends {
		if err := c.confirmFlag.check(a); err != nil {
			return err
		}
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if ends {
		if err := c.askAboutKey(ctx, a, client, c.ID, "Replace", "The old key stops working at once."); err != nil {
			return err
		}
	}
	in := keystile.RotateKey{Name: c.Name, ExpiresAt: c.Expires.time()}
	if c.Overlap != nil {
		in.Overlap = time.Duration(*c.Overlap).String()
	}
	made, err := client.RotateKey(ctx, string(c.ID), in)
	if err != nil {
		return err
	}
	if err := c.print(a, made); err != nil {
		return err
	}
	until := made.Key.ExpiresAt // the old key's end before its rotation
	if c.Expires != nil {
		old, err := client.Key(ctx, string(c.ID))
		if err != nil {
			return fmt.Errorf("the key was replaced; when the old one ends could not be read: %w", err)
		}
		until = old.ExpiresAt
	}
	switch text := c.rest(made, until); {
	case a.json:
	case c.SecretOnly:
		fmt.Fprintf(a.stderr, "keystile: the %s\n", text)
	default:
		fmt.Fprintf(a.stdout, "The %s\n", text)
	}
	return nil
}

// rest says what becomes of the old key, whose end is known but for the overlap.
func (c *keysRotateCmd) rest(made keystile.CreatedKey, until *time.Time) string {
	if c.Overlap != nil {
		if *c.Overlap == 0 {
			return fmt.Sprintf("old key, %s, is revoked.", c.ID)
		}
		if at := made.Key.CreatedAt.Add(time.Duration(*c.Overlap)); until == nil || at.Before(*until) {
			until = &at
		}
	}
	if until == nil {
		return fmt.Sprintf("old key, %s, stays valid until you revoke it: keystile keys revoke %s", c.ID, c.ID)
	}
	return fmt.Sprintf("old key, %s, stays valid until %s, unless you revoke it sooner: keystile keys revoke %s", c.ID, minute(*until), c.ID)
}

// askAboutKey asks whether something may be done to a key, and names it.
func (f confirmFlag) askAboutKey(ctx context.Context, a *app, client *keystile.Client, id keyID, verb, effect string) error {
	if f.Yes {
		return nil
	}
	k, err := client.Key(ctx, string(id))
	if err != nil {
		return err
	}
	return f.ask(ctx, a, fmt.Sprintf("%s the key %q (%s, %s, %s)? %s", verb, k.Name, k.ID, k.Preview, k.Status, effect))
}

type keysRevokeCmd struct {
	clientFlags
	keyArg
	Reason   string `help:"Why: unneeded, ownership_changed, exposure_suspected, rotated or any text." placeholder:"TEXT"`
	Rollback bool   `help:"Give the key that this one replaces its former end back."`
	confirmFlag
}

// Run revokes the key. When it ends with 0, no server accepts the key any more.
func (c *keysRevokeCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if err := c.askAboutKey(ctx, a, client, c.ID, "Revoke", "Applications that use it stop working, for good."); err != nil {
		return err
	}
	k, err := client.RevokeKey(ctx, string(c.ID), keystile.RevokeKey{Reason: c.Reason, Rollback: c.Rollback})
	if err != nil {
		return err
	}
	return printChanged(a, k, "Revoked")
}

type keysDeleteCmd struct {
	clientFlags
	keyArg
	confirmFlag
}

// Run deletes the key.
func (c *keysDeleteCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if err := c.askAboutKey(ctx, a, client, c.ID, "Delete", "Applications that use it stop working, and its record goes, for good."); err != nil {
		return err
	}
	if err := client.DeleteKey(ctx, string(c.ID)); err != nil {
		return err
	}
	return printDeleted(a, string(c.ID))
}

// printDeleted says that an object is gone. Nothing of it is left to print.
func printDeleted(a *app, id string) error {
	return a.tell(map[string]any{"id": id, "deleted": true}, "Deleted %s.", id)
}
