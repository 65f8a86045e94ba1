package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

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
	if !strings.HasPrefix(string(text), "al_") {
		return errors.New("this is no alert's id: those begin with al_, and 'keystile alerts list' shows them")
	}
	*id = alertID(text)
	return nil
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
	all := keystile.List[keystile.Alert]{Data: []keystile.Alert{}}
	for o := (keystile.ListAlerts{State: c.State, Limit: 200}); ; {
		page, err := client.Alerts(ctx, workspace, o)
		if err != nil {
			return err
		}
		all.Data = append(all.Data, page.Data...)
		if page.NextCursor == "" || page.NextCursor == o.Cursor {
			break
		}
		o.Cursor = page.NextCursor
	}
	if a.json {
		return printJSON(a.stdout, all)
	}
	if len(all.Data) == 0 {
		return printNone(a.stdout, "alerts", c.State != "all")
	}
	rows := [][]string{{"ID", "ALERT", "ABOUT", "NAME", "SINCE", "CLOSED", "SEEN"}}
	for _, al := range all.Data {
		kind := string(al.Type)
		if al.Stage != "" {
			kind += " (" + al.Stage + ")"
		}
		rows = append(rows, []string{al.ID, kind, cmp.Or(al.KeyID, al.WebhookSecretID, al.EndpointID), cmp.Or(al.KeyName, al.WebhookSecretLabel, al.EndpointURL),
			minute(al.OpenedAt), minutePtr(al.ClosedAt), minutePtr(al.AcknowledgedAt)})
	}
	return printTable(a.stdout, rows)
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
	if a.json {
		return printJSON(a.stdout, al)
	}
	_, err = fmt.Fprintf(a.stdout, "Seen: %s (%s, %s).\n", al.ID, al.Type, al.State)
	return err
}
