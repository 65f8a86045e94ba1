package main

import (
	"cmp"
	"context"

	"github.com/keystile/keystile"
)

type alertsCmd struct {
	List alertsListCmd `cmd:"" help:"List what somebody in a workspace should see to."`
	Seen alertsSeenCmd `cmd:"" help:"Note that somebody has seen an alert, which stays open until its cause is gone."`
}

// alertID is an argument that names an alert.
type alertID string

// UnmarshalText reads the argument.
func (id *alertID) UnmarshalText(text []byte) error {
	checked, err := checkID(text, "al_", "alert's id", "alerts")
	*id = alertID(checked)
	return err
}

type alertsListCmd struct {
	clientFlags
	workspaceFlag
	State string `help:"Only alerts that are ${enum}." enum:"open,closed,all" default:"open" placeholder:"STATE"`
}

// Run lists all pages.
func (c *alertsListCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	workspace, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	return listing[keystile.Alert]{
		nouns: "alerts", narrowed: c.State != "all",
		headings: []string{"ID", "ALERT", "ABOUT", "NAME", "SINCE", "CLOSED", "SEEN"},
		row: func(al keystile.Alert) []string {
			kind := string(al.Type)
			if al.Stage != "" {
				kind += " (" + al.Stage + ")"
			}
			return []string{al.ID, kind, cmp.Or(al.KeyID, al.WebhookSecretID, al.EndpointID), cmp.Or(al.KeyName, al.WebhookSecretLabel, al.EndpointURL),
				minute(al.OpenedAt), minutePtr(al.ClosedAt), minutePtr(al.AcknowledgedAt)}
		},
	}.write(a, client.AllAlerts(ctx, workspace, keystile.ListAlerts{State: c.State, Limit: 200}), 0)
}

type alertsSeenCmd struct {
	clientFlags
	ID alertID `arg:"" help:"ID of the alert, al_…" name:"id"`
}

// Run marks the alert as seen.
func (c *alertsSeenCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	al, err := client.SeeAlert(ctx, string(c.ID))
	if err != nil {
		return err
	}
	return a.tell(al, "Seen: %s (%s, %s).", al.ID, al.Type, al.State)
}
