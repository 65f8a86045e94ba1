package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/keystile/keystile"
)

type verifyCmd struct {
	clientFlags
	Permission *string  `help:"Refuse the key unless it carries this permission." placeholder:"NAME"`
	Workspace  *string  `help:"Refuse the key unless it belongs to this workspace." placeholder:"ID"`
	IP         *string  `help:"Address of whoever presented the key; a key with an allowlist is refused without it." name:"ip" placeholder:"ADDRESS"`
	From       []string `arg:"" optional:"" name:"-" help:"Standard input, where the key comes from with or without it."`
}

// Help is the long help of the verb.
func (c *verifyCmd) Help() string {
	return `The key to check comes on standard input. As an argument it would show in the
list of processes and stay in the shell's history.

The exit status is 0 if the key is valid, and 1 if it is not or could not be
checked; in the second case nothing is printed but the reason, on standard error.`
}

// maxInput is more bytes than the server takes for a key, so that a key that
// is too long is told by the server like any other.
const maxInput = 4096

// Run asks the server about the key.
func (c *verifyCmd) Run(ctx context.Context, a *app) error {
	if len(c.From) > 1 || len(c.From) == 1 && c.From[0] != "-" {
		return usage(errors.New("the key to check is no argument, since others could read it there: pass it on standard input, as in 'keystile verify < FILE'"))
	}
	permission, err := asked("--permission", c.Permission)
	if err != nil {
		return err
	}
	workspace, err := asked("--workspace", c.Workspace)
	if err != nil {
		return err
	}
	ip, err := asked("--ip", c.IP)
	if err != nil {
		return err
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	key, err := readKey(ctx, a)
	if err != nil {
		return err
	}
	decision, err := client.Verify(ctx, keystile.VerifyRequest{Key: key, Permission: permission, Workspace: workspace, IP: ip})
	if err != nil {
		return err
	}
	if err := printDecision(a, decision, permission); err != nil {
		return err
	}
	if !decision.Valid {
		return exitError{code: exitFailed}
	}
	return nil
}

// asked is the value of a flag, "" for one that is not there. A flag that is
// there and empty is a variable that was not set: the check that was meant must
// not quietly be left out.
func asked(flag string, value *string) (string, error) {
	switch {
	case value == nil:
		return "", nil
	case *value == "":
		return "", usage(fmt.Errorf("%s is empty: give it a value, or leave it out to check the key without it", flag))
	}
	return *value, nil
}

// readKey reads the one key on standard input. Spaces in it stay, since the
// server tells what is wrong with them; the end of the line is no part of it.
func readKey(ctx context.Context, a *app) (string, error) {
	var text string
	if a.terminal {
		fmt.Fprint(a.stderr, "Key to check: ")
		line, err := readLine(ctx, a)
		if err != nil {
			return "", err
		}
		text = line
	} else {
		all, err := io.ReadAll(io.LimitReader(a.stdin, maxInput+1))
		if err != nil {
			return "", usage(fmt.Errorf("cannot read standard input: %w", err))
		}
		text = string(all)
	}
	text = strings.TrimRight(text, "\r\n")
	switch {
	case text == "":
		return "", usage(errors.New("there is no key on standard input: pass one, as in 'keystile verify < FILE'"))
	case len(text) > maxInput || strings.Contains(text, "\n"):
		return "", usage(errors.New("there is more than a key on standard input: pass one key on one line"))
	}
	return text, nil
}

func printDecision(a *app, d keystile.Decision, permission string) error {
	if a.json {
		return printJSON(a.stdout, d)
	}
	if problem := d.Problem(permission); problem != nil {
		fmt.Fprintf(a.stdout, "%s: %s\n", d.Code, printable(problem.Detail))
		for _, fix := range problem.Fixes {
			fmt.Fprintf(a.stdout, "  - %s\n", printable(fix))
		}
	} else {
		fmt.Fprintln(a.stdout, d.Code)
	}
	return printFields(a.stdout, [][2]string{
		{"Key ID", d.KeyID},
		{"Workspace", d.WorkspaceID},
		{"Role", d.Role},
		{"Permissions", strings.Join(d.Permissions, " ")},
		{"Environment", d.Environment},
		{"Owner", d.Owner},
		{"Expires", minutePtr(d.ExpiresAt)},
	})
}
