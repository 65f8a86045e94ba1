package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

type endpointsCmd struct {
	Create endpointsCreateCmd `cmd:"" help:"Make an endpoint, and print its secret, this once."`
	List   endpointsListCmd   `cmd:"" help:"List the endpoints of a workspace."`
	Show   endpointsShowCmd   `cmd:"" help:"Show all about an endpoint, and why it fails."`
	Edit   endpointsEditCmd   `cmd:"" help:"Change where an endpoint leads, or what it gets."`
	Test   endpointsTestCmd   `cmd:"" help:"Send a test delivery and tell what the receiver said."`
	Pause  endpointsPauseCmd  `cmd:"" help:"Have events wait instead of being sent."`
	Resume endpointsResumeCmd `cmd:"" help:"Have events sent again, those first that have waited."`
	Replay endpointsReplayCmd `cmd:"" help:"Send deliveries again that have failed; 'deliveries retry' sends any one."`
	Rotate endpointsRotateCmd `cmd:"" help:"Make a replacement for an endpoint's secret and print it, this once."`
	Delete endpointsDeleteCmd `cmd:"" help:"Remove an endpoint with its secrets and deliveries, for good."`
}

// endpointID is an argument that names an endpoint.
type endpointID string

// UnmarshalText reads the argument.
func (id *endpointID) UnmarshalText(text []byte) error {
	checked, err := checkID(text, "ep_", "endpoint's id", "endpoints")
	*id = endpointID(checked)
	return err
}

type endpointArg struct {
	ID endpointID `arg:"" help:"ID of the endpoint, ep_…" name:"id"`
}

// past is an argument that names a time that has been.
type past time.Time

// UnmarshalText reads a duration until now, or a time (RFC 3339).
func (p *past) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		d, ok := parseDuration(string(text))
		if !ok || d < 0 {
			return errors.New("give how long ago, such as 2h or 3d, or a time such as 2026-01-31T12:00:00Z")
		}
		at = time.Now().Add(-d)
	}
	*p = past(at)
	return nil
}

type endpointsCreateCmd struct {
	clientFlags
	workspaceFlag
	To          string `arg:"" help:"URL that events are sent to; begins with https://" name:"to" wire:"url"`
	Event       list   `help:"Type of event to send, such as key.revoked, key.* for a branch or * for all; may be repeated." required:"" placeholder:"TYPE,..." wire:"event_types"`
	Description string `help:"What the endpoint is for." placeholder:"TEXT"`
	AllowRange  list   `help:"Operators: address or CIDR range of your own network that it may reach, by http:// as well; may be repeated." placeholder:"CIDR,..." wire:"allow_ranges"`
	webhookSecretFlag
}

// Run makes the endpoint.
func (c *endpointsCreateCmd) Run(ctx context.Context, a *app) error {
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
	made, err := client.CreateEndpoint(ctx, workspace, keystile.CreateEndpoint{
		URL: c.To, Description: c.Description, EventTypes: c.Event, AllowRanges: c.AllowRange,
	})
	if err != nil {
		return err
	}
	switch {
	case a.json:
		err = printJSON(a.stdout, made)
	case c.SecretOnly:
		_, err = fmt.Fprintln(a.stdout, made.Secret)
		fmt.Fprintf(a.stderr, "keystile: created %s\n", made.Endpoint.ID)
	default:
		_, err = fmt.Fprintf(a.stdout, "Created %s (%s).\n\n  %s\n\nThis is its secret. It is shown now and never again: give it to the receiver, which verifies with it.\n",
			made.Endpoint.ID, printable(made.Endpoint.URL), made.Secret)
	}
	if err != nil {
		return fmt.Errorf("the endpoint %s was made, but its secret not shown: %w; rotate it: keystile endpoints rotate %s", made.Endpoint.ID, err, made.Endpoint.ID)
	}
	return nil
}

type endpointsListCmd struct {
	clientFlags
	workspaceFlag
}

// Run lists all pages.
func (c *endpointsListCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	workspace, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	return listing[keystile.Endpoint]{
		nouns: "endpoints", headings: []string{"ID", "URL", "EVENTS", "STATUS", "FAILING SINCE", "CREATED"},
		row: func(e keystile.Endpoint) []string {
			return []string{e.ID, e.URL, strings.Join(e.EventTypes, ","), string(e.Status), minutePtr(e.FailingSince), minute(e.CreatedAt)}
		},
	}.write(a, client.AllEndpoints(ctx, workspace, keystile.ListEndpoints{Limit: 200}), 0)
}

type endpointsShowCmd struct {
	clientFlags
	endpointArg
}

// Run shows the endpoint.
func (c *endpointsShowCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	e, err := client.Endpoint(ctx, string(c.ID))
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, e)
	}
	failure := ""
	if e.LastFailure != nil {
		failure = said(*e.LastFailure)
	}
	return printFields(a.stdout, [][2]string{
		{"ID", e.ID},
		{"URL", e.URL},
		{"Description", e.Description},
		{"Workspace", e.WorkspaceID},
		{"Events", strings.Join(e.EventTypes, ", ")},
		{"May reach", strings.Join(e.AllowRanges, ", ")},
		{"Status", string(e.Status)},
		{"Why", e.StatusReason},
		{"Failing since", minutePtr(e.FailingSince)},
		{"Last failure", failure},
		{"Created", done(&e.CreatedAt, &e.CreatedBy, "")},
	})
}

// said is what became of an attempt, in one line.
func said(at keystile.Attempt) string {
	answer := "no answer"
	if at.Status != 0 {
		answer = fmt.Sprintf("status %d", at.Status)
	}
	return strings.TrimSpace(fmt.Sprintf("%s, %s after %d ms. %s", minute(at.At), answer, at.DurationMS, at.Error))
}

// printChangedEndpoint says what became of an endpoint.
func printChangedEndpoint(a *app, e keystile.Endpoint, what string) error {
	return a.tell(e, "%s %s (%s).", what, e.ID, printable(e.URL))
}

type endpointsEditCmd struct {
	clientFlags
	endpointArg
	To          *string `help:"URL that events are sent to." placeholder:"URL" wire:"url"`
	Event       list    `help:"Type of event to send, instead of those before; may be repeated." placeholder:"TYPE,..." wire:"event_types"`
	Description *string `help:"What the endpoint is for; empty for nothing." placeholder:"TEXT"`
	AllowRange  list    `help:"Operators: range of your own network that it may reach, instead of those before; may be repeated." placeholder:"CIDR,..." xor:"ranges" wire:"allow_ranges"`
	Internet    bool    `help:"Operators: let it reach the internet alone." xor:"ranges"`
}

// Run edits the endpoint.
func (c *endpointsEditCmd) Run(ctx context.Context, a *app) error {
	patch := keystile.EndpointPatch{URL: c.To, Description: c.Description}
	if c.Event != nil {
		types := []string(c.Event)
		patch.EventTypes = &types
	}
	if c.AllowRange != nil || c.Internet {
		ranges := append([]string{}, c.AllowRange...)
		patch.AllowRanges = &ranges
	}
	if patch == (keystile.EndpointPatch{}) {
		return usage(errors.New("there is nothing to change: say what, with --to, --event, --description, --allow-range or --internet"))
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	e, err := client.UpdateEndpoint(ctx, string(c.ID), patch)
	if err != nil {
		return err
	}
	return printChangedEndpoint(a, e, "Edited")
}

type endpointsTestCmd struct {
	clientFlags
	endpointArg
	WebhookSecret webhookSecretID `help:"Sign with this secret of the endpoint alone, to see whether the receiver has it." placeholder:"ID"`
}

// Run ends with 1 when the receiver did not accept the test.
func (c *endpointsTestCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	result, err := client.TestEndpoint(ctx, string(c.ID), keystile.TestDelivery{WebhookSecret: string(c.WebhookSecret)})
	if err != nil {
		return err
	}
	if a.json {
		err = printJSON(a.stdout, result)
	} else {
		word := "Not accepted"
		if result.Delivered {
			word = "Accepted"
		}
		_, err = fmt.Fprintf(a.stdout, "%s: %s\n", word, printable(said(result.Attempt)))
	}
	if err == nil && !result.Delivered {
		return exitError{exitFailed, nil}
	}
	return err
}

type endpointsPauseCmd struct {
	clientFlags
	endpointArg
	Reason string `help:"Why." placeholder:"TEXT"`
}

// Run pauses the endpoint.
func (c *endpointsPauseCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	e, err := client.PauseEndpoint(ctx, string(c.ID), keystile.PauseEndpoint{Reason: c.Reason})
	if err != nil {
		return err
	}
	return printChangedEndpoint(a, e, "Paused")
}

type endpointsResumeCmd struct {
	clientFlags
	endpointArg
}

// Run resumes the endpoint, and says how to have sent again what was given up.
func (c *endpointsResumeCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	was, err := client.Endpoint(ctx, string(c.ID))
	if err != nil {
		return err
	}
	e, err := client.ResumeEndpoint(ctx, string(c.ID))
	if err != nil {
		return err
	}
	if err := printChangedEndpoint(a, e, "Resumed"); err != nil || a.json || was.FailingSince == nil {
		return err
	}
	since := was.FailingSince.Add(-time.Hour).UTC().Format(time.RFC3339) // for events that were on their way
	fmt.Fprintf(a.stdout, "It accepted nothing since %s. To send again what was given up: keystile endpoints replay %s --since %s\n", minute(*was.FailingSince), e.ID, since)
	return nil
}

type endpointsReplayCmd struct {
	clientFlags
	endpointArg
	Since past `help:"Those of events that happened since: how long ago, such as 2h or 3d, or a time (RFC 3339)." required:"" placeholder:"WHEN"`
}

// Run has the deliveries sent again.
func (c *endpointsReplayCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	out, err := client.ReplayEvents(ctx, string(c.ID), keystile.ReplayEvents{Since: time.Time(c.Since).UTC()})
	if err != nil {
		return err
	}
	if err := a.tell(out, "Sent again: %d.", out.Deliveries); err != nil || a.json || out.Deliveries > 0 {
		return err
	}
	fmt.Fprintf(a.stdout, "None since then has failed for good. To send one again that was delivered, or waits for its next attempt: keystile deliveries list %s, then keystile deliveries retry\n", c.ID)
	return nil
}

type endpointsRotateCmd struct {
	clientFlags
	endpointArg
	Overlap *span `help:"How long the old secret signs beside the new one: 0s, 24h, 7d; without it until it is revoked. 0s ends it at once." placeholder:"DURATION"`
	webhookSecretFlag
	confirmFlag
}

// Run rotates the one secret of the endpoint that is in use.
func (c *endpointsRotateCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	e, err := client.Endpoint(ctx, string(c.ID))
	if err != nil {
		return err
	}
	secrets, err := client.WebhookSecrets(ctx, e.WorkspaceID, keystile.ListWebhookSecrets{Endpoint: e.ID, Status: "active"})
	if err != nil {
		return err
	}
	switch len(secrets.Data) {
	case 0:
		return fmt.Errorf("the endpoint has no active secret; make one: keystile webhooks create --endpoint %s --workspace %s --label TEXT", e.ID, e.WorkspaceID)
	case 1:
	default:
		return fmt.Errorf("the endpoint has several active secrets; name the one to rotate: keystile webhooks list --endpoint %s --workspace %s, then keystile webhooks rotate", e.ID, e.WorkspaceID)
	}
	rotate := webhooksRotateCmd{clientFlags: c.clientFlags, webhookSecretArg: webhookSecretArg{webhookSecretID(secrets.Data[0].ID)},
		Overlap: c.Overlap, webhookSecretFlag: c.webhookSecretFlag, confirmFlag: c.confirmFlag}
	return rotate.Run(ctx, a)
}

type endpointsDeleteCmd struct {
	clientFlags
	endpointArg
	confirmFlag
}

// Run deletes the endpoint.
func (c *endpointsDeleteCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if !c.Yes {
		e, err := client.Endpoint(ctx, string(c.ID))
		if err != nil {
			return err
		}
		if err := c.ask(ctx, a, fmt.Sprintf("Delete the endpoint %s (%s, %s)? Nothing is sent to it from then on, and its secrets and deliveries go, for good.", e.URL, e.ID, e.Status)); err != nil {
			return err
		}
	}
	if err := client.DeleteEndpoint(ctx, string(c.ID)); err != nil {
		return err
	}
	return printDeleted(a, string(c.ID))
}
