package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/keystile/keystile"
)

type workspacesCmd struct {
	Create  workspacesCreateCmd  `cmd:"" help:"Make a workspace."`
	List    workspacesListCmd    `cmd:"" help:"List the workspaces."`
	Show    workspacesShowCmd    `cmd:"" help:"Show a workspace."`
	Edit    workspacesEditCmd    `cmd:"" help:"Change the name, plan or allowlist of a workspace."`
	Suspend workspacesSuspendCmd `cmd:"" help:"Refuse all keys of a workspace until it is resumed."`
	Resume  workspacesResumeCmd  `cmd:"" help:"Let the keys of a suspended workspace in again."`
	Delete  workspacesDeleteCmd  `cmd:"" help:"Remove a workspace and all that is in it, for good."`
}

type workspaceArg struct {
	ID workspaceID `arg:"" help:"Id of the workspace, ws_…" name:"workspace-id"`
}

type workspacesCreateCmd struct {
	clientFlags
	Name string `help:"Name of the workspace." required:"" placeholder:"TEXT"`
	Plan string `help:"Plan that limits it; without it the profile's default." placeholder:"NAME"`
}

// Run makes the workspace.
func (c *workspacesCreateCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	w, err := client.CreateWorkspace(ctx, keystile.CreateWorkspace{Name: c.Name, Plan: c.Plan})
	if err != nil {
		return err
	}
	return printChangedWorkspace(a, w, "Created")
}

func printChangedWorkspace(a *app, w keystile.Workspace, what string) error {
	return a.tell(w, "%s %s (%s).", what, w.ID, printable(w.Name))
}

type workspacesListCmd struct {
	clientFlags
	Query string `help:"Only workspaces with this in their name or id." short:"q" placeholder:"TEXT" wire:"q"`
}

// Run lists all pages.
func (c *workspacesListCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	return listing[keystile.Workspace]{
		nouns: "workspaces", narrowed: c.Query != "",
		headings: []string{"WORKSPACE", "NAME", "PLAN", "STATUS", "ACTIVE KEYS", "CREATED"},
		row: func(w keystile.Workspace) []string {
			return []string{w.ID, w.Name, w.Plan, workspaceStatus(w), strconv.Itoa(w.ActiveKeys), minute(w.CreatedAt)}
		},
	}.write(a, client.AllWorkspaces(ctx, keystile.ListWorkspaces{Query: c.Query, Limit: 200}), 0)
}

func workspaceStatus(w keystile.Workspace) string {
	switch {
	case w.Suspended:
		return "suspended"
	case w.Operator:
		return "operator"
	}
	return "active"
}

type workspacesShowCmd struct {
	clientFlags
	workspaceArg
}

// Run shows the workspace.
func (c *workspacesShowCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	w, err := client.Workspace(ctx, string(c.ID))
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, w)
	}
	status := workspaceStatus(w)
	if w.SuspendedReason != "" {
		status += " (" + w.SuspendedReason + ")"
	}
	return printFields(a.stdout, [][2]string{
		{"Workspace", w.ID},
		{"Name", w.Name},
		{"Plan", w.Plan},
		{"Status", status},
		{"Active keys", strconv.Itoa(w.ActiveKeys)},
		{"Allowed from", strings.Join(w.IPAllowlist, " ")},
		{"Created", minute(w.CreatedAt)},
	})
}

type workspacesSuspendCmd struct {
	clientFlags
	workspaceArg
	Reason string `help:"Why, for the workspace's people to read." placeholder:"TEXT" wire:"suspended_reason"`
}

// Run suspends the workspace. When it ends with 0, no server accepts any of
// its keys.
func (c *workspacesSuspendCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	suspended := true
	patch := keystile.WorkspacePatch{Suspended: &suspended}
	if c.Reason != "" {
		patch.SuspendedReason = &c.Reason
	}
	w, err := client.UpdateWorkspace(ctx, string(c.ID), patch)
	if err != nil {
		return err
	}
	return printChangedWorkspace(a, w, "Suspended")
}

type workspacesResumeCmd struct {
	clientFlags
	workspaceArg
}

// Run resumes the workspace.
func (c *workspacesResumeCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	suspended := false
	w, err := client.UpdateWorkspace(ctx, string(c.ID), keystile.WorkspacePatch{Suspended: &suspended})
	if err != nil {
		return err
	}
	return printChangedWorkspace(a, w, "Resumed")
}

type workspacesDeleteCmd struct {
	clientFlags
	workspaceArg
	confirmFlag
}

// Run deletes the workspace.
func (c *workspacesDeleteCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if !c.Yes {
		w, err := client.Workspace(ctx, string(c.ID))
		if err != nil {
			return err
		}
		question := fmt.Sprintf("Delete the workspace %q (%s) with its %d active keys and all else in it? Applications that use them stop working, for good.",
			w.Name, w.ID, w.ActiveKeys)
		if err := c.ask(ctx, a, question); err != nil {
			return err
		}
	}
	if err := client.DeleteWorkspace(ctx, string(c.ID)); err != nil {
		return err
	}
	return printDeleted(a, string(c.ID))
}
