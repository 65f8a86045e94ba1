package main

import (
	"context"
	"errors"

	"github.com/keystile/keystile"
)

type keysEditCmd struct {
	clientFlags
	keyArg
	Name        *string           `help:"What the key is for." placeholder:"TEXT"`
	Description *string           `help:"Where the key is used; empty for none." placeholder:"TEXT"`
	Owner       *string           `help:"Who or what the key belongs to in your product; empty for none." placeholder:"TEXT"`
	Role        *string           `help:"Role of the key." placeholder:"ROLE"`
	Permission  list              `help:"Narrow the role to this permission, instead of what it was narrowed to; may be repeated." placeholder:"NAME,..." xor:"permissions" wire:"permissions"`
	WholeRole   bool              `help:"Let the key have all of its role." xor:"permissions"`
	Allow       list              `help:"Address or CIDR range that the key may be used from, instead of those before; may be repeated." placeholder:"CIDR,..." xor:"allowlist" wire:"ip_allowlist"`
	Anywhere    bool              `help:"Let the key be used from everywhere that its workspace permits." xor:"allowlist"`
	Expires     *moment           `help:"For how long the key is good, such as 24h or 90d, or until when (RFC 3339); only sooner than before." placeholder:"WHEN" wire:"expires_at"`
	Metadata    map[string]string `help:"A word on the key for your own programs, instead of all before; may be repeated." placeholder:"NAME=TEXT" mapsep:"none"`
}

// Run edits the key. When it ends with 0, a narrower role or allowlist is in
// force on every server.
func (c *keysEditCmd) Run(ctx context.Context, a *app) error {
	if c.Role != nil && *c.Role == "" {
		return usage(errors.New("--role is empty: name a role, or leave the flag out to keep the one that the key has"))
	}
	patch := keystile.KeyPatch{
		Name: c.Name, Description: c.Description, Owner: c.Owner, Role: c.Role, WholeRole: c.WholeRole,
		ExpiresAt: c.Expires.time(), IPAllowlist: allowlistPatch(c.Allow, c.Anywhere),
	}
	if c.Permission != nil {
		narrowed := keystile.Permissions(c.Permission)
		patch.Permissions = &narrowed
	}
	if c.Metadata != nil {
		patch.Metadata = &c.Metadata
	}
	if patch == (keystile.KeyPatch{}) {
		return usage(errors.New("there is nothing to change: say what, such as --name, --role, --allow or --expires"))
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	k, err := client.UpdateKey(ctx, string(c.ID), patch)
	if err != nil {
		return err
	}
	return printChanged(a, k, "Edited")
}

// allowlistPatch is the allowlist to put in place of another, nil to keep that.
func allowlistPatch(allow list, anywhere bool) *[]string {
	if anywhere {
		return &[]string{}
	}
	if allow == nil {
		return nil
	}
	return (*[]string)(&allow)
}

type workspacesEditCmd struct {
	clientFlags
	workspaceArg
	Name     *string `help:"Name of the workspace." placeholder:"TEXT"`
	Plan     *string `help:"Plan that limits it." placeholder:"NAME"`
	Allow    list    `help:"Address or CIDR range that its keys may be used from, instead of those before; may be repeated." placeholder:"CIDR,..." xor:"allowlist" wire:"ip_allowlist"`
	Anywhere bool    `help:"Let its keys be used from everywhere that their own allowlists permit." xor:"allowlist"`
}

// Run edits the workspace. When it ends with 0, its allowlist is in force on
// every server.
func (c *workspacesEditCmd) Run(ctx context.Context, a *app) error {
	patch := keystile.WorkspacePatch{Name: c.Name, Plan: c.Plan, IPAllowlist: allowlistPatch(c.Allow, c.Anywhere)}
	if patch == (keystile.WorkspacePatch{}) {
		return usage(errors.New("there is nothing to change: say what, such as --name, --plan or --allow"))
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	w, err := client.UpdateWorkspace(ctx, string(c.ID), patch)
	if err != nil {
		return err
	}
	return printChangedWorkspace(a, w, "Edited")
}
