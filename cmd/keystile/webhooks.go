package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/keystile/keystile"
)

type webhooksCmd struct {
	Create webhooksCreateCmd `cmd:"" help:"Make a webhook secret and print it, this once."`
	List   webhooksListCmd   `cmd:"" help:"List the webhook secrets of a workspace."`
	Show   webhooksShowCmd   `cmd:"" help:"Show all about a webhook secret but the secret."`
	Edit   webhooksEditCmd   `cmd:"" help:"Change the label of a webhook secret, or end it sooner."`
	Rotate webhooksRotateCmd `cmd:"" help:"Make a replacement for a webhook secret and print it, this once."`
	Revoke webhooksRevokeCmd `cmd:"" help:"End a webhook secret for good, and keep its record."`
	Delete webhooksDeleteCmd `cmd:"" help:"End a webhook secret for good, and remove its record."`
	Sign   webhooksSignCmd   `cmd:"" help:"Sign a payload and print the headers to send with it."`
	Verify webhooksVerifyCmd `cmd:"" help:"Tell whether a webhook verifies, and if not, why."`
}

// webhookSecretID is an argument that names a webhook secret.
type webhookSecretID string

// UnmarshalText reads the argument.
func (id *webhookSecretID) UnmarshalText(text []byte) error {
	checked, err := checkID(text, "whs_", "webhook secret's id", "webhooks")
	*id = webhookSecretID(checked)
	return err
}

type webhookSecretArg struct {
	ID webhookSecretID `arg:"" help:"ID of the webhook secret, whs_…" name:"id"`
}

// webhookSecretFlag is on the verbs whose answer carries a webhook secret.
type webhookSecretFlag struct {
	SecretOnly bool `help:"Print the secret alone, for a program to take."`
}

func (f webhookSecretFlag) check(a *app) error { return secretFlag(f).check(a) }

// print shows a new webhook secret.
func (f webhookSecretFlag) print(a *app, made keystile.CreatedWebhookSecret) error {
	var err error
	s := made.WebhookSecret
	switch {
	case a.json:
		err = printJSON(a.stdout, made)
	case f.SecretOnly:
		_, err = fmt.Fprintln(a.stdout, made.Secret)
		fmt.Fprintf(a.stderr, "keystile: created %s (%s)\n", s.ID, printable(s.Label))
	default:
		_, err = fmt.Fprintf(a.stdout, "Created %s (%s).\n\n  %s\n\nThis is the secret. It is shown now and never again: give it to whoever verifies the webhooks.\n",
			s.ID, printable(s.Label), made.Secret)
	}
	if err != nil {
		return fmt.Errorf("the webhook secret %s was made, but not shown: %w; delete it and make another", s.ID, err)
	}
	return nil
}

type webhooksCreateCmd struct {
	clientFlags
	workspaceFlag
	Label       string  `help:"Who verifies with the secret." required:"" placeholder:"TEXT"`
	Environment string  `help:"Consumer environment whose webhooks it signs; may be left out where the profile has only one." placeholder:"NAME"`
	Endpoint    string  `help:"Endpoint whose deliveries it signs, beside the secrets that it has; it settles the environment." placeholder:"ID"`
	Expires     *moment `help:"For how long it signs, such as 24h or 90d, or until when (RFC 3339); without it for ever." placeholder:"WHEN" wire:"expires_at"`
	webhookSecretFlag
}

// Run makes the secret.
func (c *webhooksCreateCmd) Run(ctx context.Context, a *app) error {
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
	made, err := client.CreateWebhookSecret(ctx, workspace, keystile.CreateWebhookSecret{
		Label: c.Label, Environment: c.Environment, Endpoint: c.Endpoint, ExpiresAt: c.Expires.time(),
	})
	if err != nil {
		return err
	}
	return c.print(a, made)
}

type webhooksListCmd struct {
	clientFlags
	workspaceFlag
	Status      string `help:"Only secrets that are ${enum}." enum:"active,revoked,expired,all" default:"all" placeholder:"STATUS"`
	Environment string `help:"Only secrets of this environment." placeholder:"NAME"`
	Endpoint    string `help:"The secrets of this endpoint, instead of the workspace's own." placeholder:"ID"`
}

// Run lists all pages.
func (c *webhooksListCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	workspace, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	return listing[keystile.WebhookSecretRecord]{
		nouns: "webhook secrets", narrowed: c.Environment != "" || c.Status != "all",
		headings: []string{"ID", "LABEL", "PREVIEW", "STATUS", "ENVIRONMENT", "CREATED", "LAST SIGNED", "LAST VERIFIED", "EXPIRES"},
		row: func(s keystile.WebhookSecretRecord) []string {
			status := string(s.Status)
			if s.ReplacedBy != "" && s.Status == keystile.StatusActive {
				status += ", replaced"
			}
			return []string{s.ID, s.Label, s.Preview, status, s.Environment, minute(s.CreatedAt),
				orNever(s.LastSignedAt), orNever(s.LastVerifiedAt), minutePtr(s.ExpiresAt)}
		},
	}.write(a, client.AllWebhookSecrets(ctx, workspace, keystile.ListWebhookSecrets{
		Status: c.Status, Environment: c.Environment, Endpoint: c.Endpoint, Limit: 200,
	}), 0)
}

func orNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return minute(*t)
}

type webhooksShowCmd struct {
	clientFlags
	webhookSecretArg
}

// Run shows the secret's record.
func (c *webhooksShowCmd) Run(ctx context.Context, a *app) error {
	client, err := c.client(a)
	if err != nil {
		return err
	}
	s, err := client.WebhookSecret(ctx, string(c.ID))
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, s)
	}
	return printFields(a.stdout, [][2]string{
		{"ID", s.ID},
		{"Label", s.Label},
		{"Workspace", s.WorkspaceID},
		{"Endpoint", s.EndpointID},
		{"Preview", s.Preview},
		{"Status", string(s.Status)},
		{"Environment", s.Environment},
		{"Algorithm", s.Algorithm},
		{"Created", done(&s.CreatedAt, &s.CreatedBy, "")},
		{"Last signed", orNever(s.LastSignedAt)},
		{"Last verified", orNever(s.LastVerifiedAt)},
		{"Expires", minutePtr(s.ExpiresAt)},
		{"Revoked", done(s.RevokedAt, s.RevokedBy, s.RevokedReason)},
		{"Rotation due", minutePtr(s.RotationDue)},
		{"Replaces", s.Replaces},
		{"Replaced by", s.ReplacedBy},
	})
}

// printChangedSecret says what became of a webhook secret.
func printChangedSecret(a *app, s keystile.WebhookSecretRecord, what string) error {
	return a.tell(s, "%s %s (%s).", what, s.ID, printable(s.Label))
}

type webhooksEditCmd struct {
	clientFlags
	webhookSecretArg
	Label   *string `help:"Who verifies with the secret." placeholder:"TEXT"`
	Expires *moment `help:"For how long it signs, such as 24h or 90d, or until when (RFC 3339); only sooner than before." placeholder:"WHEN" wire:"expires_at"`
}

// Run edits the secret's record.
func (c *webhooksEditCmd) Run(ctx context.Context, a *app) error {
	patch := keystile.WebhookSecretPatch{Label: c.Label, ExpiresAt: c.Expires.time()}
	if patch == (keystile.WebhookSecretPatch{}) {
		return usage(errors.New("there is nothing to change: say what, with --label or --expires"))
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	s, err := client.UpdateWebhookSecret(ctx, string(c.ID), patch)
	if err != nil {
		return err
	}
	return printChangedSecret(a, s, "Edited")
}

// askAboutSecret asks whether something may be done to a webhook secret, and
// names it.
func (f confirmFlag) askAboutSecret(ctx context.Context, a *app, client *keystile.Client, id webhookSecretID, verb, effect string) error {
	if f.Yes {
		return nil
	}
	s, err := client.WebhookSecret(ctx, string(id))
	if err != nil {
		return err
	}
	return f.ask(ctx, a, fmt.Sprintf("%s the webhook secret %q (%s, %s, %s)? %s", verb, s.Label, s.ID, s.Preview, s.Status, effect))
}

type webhooksRotateCmd struct {
	clientFlags
	webhookSecretArg
	Overlap *span  `help:"How long the old secret signs beside the new one: 0s, 24h, 7d; without it until it is revoked. 0s ends it at once." placeholder:"DURATION"`
	Label   string `help:"Label of the replacement; without it the same." placeholder:"TEXT"`
	webhookSecretFlag
	confirmFlag
}

// Run makes the replacement.
func (c *webhooksRotateCmd) Run(ctx context.Context, a *app) error {
	if err := c.webhookSecretFlag.check(a); err != nil {
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
		if err := c.askAboutSecret(ctx, a, client, c.ID, "Replace", "The old secret signs nothing from then on."); err != nil {
			return err
		}
	}
	in := keystile.RotateWebhookSecret{Label: c.Label}
	if c.Overlap != nil {
		in.Overlap = time.Duration(*c.Overlap).String()
	}
	made, err := client.RotateWebhookSecret(ctx, string(c.ID), in)
	if err != nil {
		return err
	}
	if err := c.print(a, made); err != nil || a.json {
		return err
	}
	w := a.stdout
	if c.SecretOnly {
		w = a.stderr
	}
	if ends {
		fmt.Fprintf(w, "The old secret, %s, is revoked.\n", c.ID)
		return nil
	}
	fmt.Fprintf(w, "Both sign until the old secret, %s, ends. End it when nobody verifies with it any more: keystile webhooks revoke %s\n", c.ID, c.ID)
	return nil
}

type webhooksRevokeCmd struct {
	clientFlags
	webhookSecretArg
	Reason   string `help:"Why: unneeded, ownership_changed, exposure_suspected, rotated or any text." placeholder:"TEXT"`
	Rollback bool   `help:"Give the secret that this one replaces its former end back."`
	confirmFlag
}

// Run revokes the secret. When it ends with 0, no server signs with it any more.
func (c *webhooksRevokeCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if err := c.askAboutSecret(ctx, a, client, c.ID, "Revoke", "It signs nothing from then on, for good."); err != nil {
		return err
	}
	s, err := client.RevokeWebhookSecret(ctx, string(c.ID), keystile.RevokeWebhookSecret{Reason: c.Reason, Rollback: c.Rollback})
	if err != nil {
		return err
	}
	return printChangedSecret(a, s, "Revoked")
}

type webhooksDeleteCmd struct {
	clientFlags
	webhookSecretArg
	confirmFlag
}

// Run deletes the secret.
func (c *webhooksDeleteCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if err := c.askAboutSecret(ctx, a, client, c.ID, "Delete", "It signs nothing from then on, and its record goes, for good."); err != nil {
		return err
	}
	if err := client.DeleteWebhookSecret(ctx, string(c.ID)); err != nil {
		return err
	}
	return printDeleted(a, string(c.ID))
}

type webhooksSignCmd struct {
	clientFlags
	workspaceFlag
	Environment   string          `help:"Sign with all active secrets of this environment; may be left out where the profile has only one." placeholder:"NAME" xor:"with"`
	WebhookSecret webhookSecretID `help:"Sign with this secret alone, to try a new one." placeholder:"ID" xor:"with"`
	ID            string          `help:"ID of the message; without it a new one." placeholder:"ID"`
	File          string          `arg:"" optional:"" default:"-" help:"File with the payload, byte for byte as it will be sent; - or nothing is standard input." wire:"payload"`
}

// Run prints the headers, one a line, as 'curl --header @-' takes them.
func (c *webhooksSignCmd) Run(ctx context.Context, a *app) error {
	payload, err := readPayload(a, c.File)
	if err != nil {
		return usage(err)
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	workspace, err := c.find(ctx, client)
	if err != nil {
		return err
	}
	signed, err := client.SignWebhook(ctx, workspace, keystile.SignRequest{
		Payload: payload, Environment: c.Environment, WebhookSecret: string(c.WebhookSecret), ID: c.ID,
	})
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, signed)
	}
	h := signed.Headers
	_, err = fmt.Fprintf(a.stdout, "webhook-id: %s\nwebhook-timestamp: %s\nwebhook-signature: %s\n", h.ID, h.Timestamp, h.Signature)
	return err
}

// readPayload reads the body of a webhook from a file, or standard input for -.
func readPayload(a *app, file string) (string, error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("cannot read the payload: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, keystile.MaxWebhookPayload+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the payload: %w", err)
	}
	if len(text) > keystile.MaxWebhookPayload {
		return "", errors.New("the payload is larger than 1 MiB, which is the most that is signed or verified")
	}
	return string(text), nil
}
