package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/keystile/keystile"
)

type webhooksVerifyCmd struct {
	clientFlags
	workspaceFlag
	Headers     string `required:"" help:"File with the headers as they were received, one a line; others than those of webhooks do no harm." placeholder:"FILE"`
	Environment string `help:"Environment of the consumer that received it; without it any." placeholder:"NAME"`
	SecretFile  string `help:"File with the secret that the consumer has, to see whether it is the right one." placeholder:"FILE" wire:"secret"`
	File        string `arg:"" optional:"" default:"-" help:"File with the body, byte for byte as it was received; - or nothing is standard input." wire:"payload"`
}

// Help is the long help of the verb.
func (c *webhooksVerifyCmd) Help() string {
	return `The exit status is 0 if the webhook is good, and 1 if it is not or could not be
looked into. Nothing of it is kept.`
}

// maxHeaders is more than the server takes of headers, in bytes.
const maxHeaders = 128 << 10

// Run asks the server about the webhook.
func (c *webhooksVerifyCmd) Run(ctx context.Context, a *app) error {
	lines, err := readSmall(c.Headers, maxHeaders)
	if err != nil {
		return usage(fmt.Errorf("cannot read the headers: %w", err))
	}
	in := keystile.VerifyWebhookRequest{Headers: headerLines(lines), Environment: c.Environment}
	if c.SecretFile != "" {
		if in.Secret, err = readSmall(c.SecretFile, maxInput); err != nil {
			return usage(fmt.Errorf("cannot read the secret: %w", err))
		}
		in.Secret = strings.TrimRight(in.Secret, "\r\n")
	}
	if in.Payload, err = readPayload(a, c.File); err != nil {
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
	verdict, err := client.VerifyWebhook(ctx, workspace, in)
	if err != nil {
		return err
	}
	if err := printVerdict(a, verdict); err != nil {
		return err
	}
	if !verdict.Valid {
		return exitError{code: exitFailed}
	}
	return nil
}

func readSmall(path string, most int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = errors.New("the file is too large for what it should hold")
	}
	return string(text), err
}

// headerLines reads headers from lines; those of one name are joined.
func headerLines(text string) map[string]string {
	headers := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); !ok || strings.Contains(name, " ") {
			continue // such as the first line of a request
		}
		value = strings.TrimSpace(value)
		if before, again := headers[name]; again {
			value = before + ", " + value
		}
		headers[name] = value
	}
	return headers
}

func printVerdict(a *app, v keystile.WebhookVerdict) error {
	if a.json {
		return printJSON(a.stdout, v)
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", v.Code, printable(v.Detail))
	for _, fix := range v.Fixes {
		fmt.Fprintf(a.stdout, "  - %s\n", printable(fix))
	}
	for _, f := range v.Also {
		fmt.Fprintf(a.stdout, "Also %s: %s\n", f.Code, printable(f.Detail))
	}
	return printFields(a.stdout, [][2]string{{"Webhook secret", v.WebhookSecret}, {"Hint", string(v.Hint)}})
}
