package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/seal"
	"github.com/keystile/keystile/internal/server"
)

// masterKeyFlags say where the master keys are. The keys themselves are no
// flag: lists of processes show those.
type masterKeyFlags struct {
	MasterKeyFile    string `help:"File with the master keys that webhook secrets are sealed with, one a line, the newest first; without it master.key in the data directory. Instead of a file: the variable KEYSTILE_MASTER_KEY." env:"KEYSTILE_MASTER_KEY_FILE" placeholder:"FILE"`
	MasterKeyCommand string `help:"Command line whose output is what that file would hold, such as one that asks a vault." env:"KEYSTILE_MASTER_KEY_COMMAND" placeholder:"COMMAND"`
}

func (f masterKeyFlags) source(a *app) seal.Source {
	return seal.Source{File: f.MasterKeyFile, Text: strings.TrimSpace(a.env("KEYSTILE_MASTER_KEY")), Command: f.MasterKeyCommand}
}

type adminRotateMasterKeyCmd struct {
	storeFlags
	masterKeyFlags
	Lost  bool `help:"The former key is lost: revoke the webhook secrets that nobody can open any more."`
	Force bool `help:"On PostgreSQL: rotate even where servers lack the new key; they refuse everything that takes a webhook secret until they have it."`
	confirmFlag
}

func (c *adminRotateMasterKeyCmd) Help() string {
	return `Seals every webhook secret anew under a new master key, beside running servers.

With an embedded database and a file, the new key is made and put first into the
file; the former ones stay for older backups. Otherwise put a new key before the
one in use, on every node, restart servers that take it from the variable, and
then run this, which refuses while a server lacks the new key. Killed half-way, it goes on where it was when it is run again.`
}

// Run rotates the key.
func (c *adminRotateMasterKeyCmd) Run(ctx context.Context, a *app) (err error) {
	named := c.source(a)
	if err := server.CheckMasterKey(named); err != nil {
		return usage(err)
	}
	o := server.StoreOptions(c.Data, c.Database)
	source, mayMake := server.MasterKeySource(named, o)
	if source.IsZero() {
		return usage(errors.New("no master key is named: set KEYSTILE_MASTER_KEY, --master-key-file or --master-key-command, as for the servers"))
	}
	if c.Lost {
		if err := c.check(a); err != nil {
			return err
		}
		if err := c.ask(ctx, a, "Revoke every webhook secret whose master key is not in "+source.String()+"?"); err != nil {
			return err
		}
	}
	k, end, err := openKeyring(ctx, c.storeFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	r, err := k.RotateMasterKey(ctx, operator(), source, mayMake, c.Lost, c.Force)
	if err != nil {
		if errors.Is(err, keyring.ErrNoNewMasterKey) {
			err = fmt.Errorf("the newest master key in %s is the one in use: put a new one before it, such as the output of 'openssl rand -base64 32', on every node, and run this again", source)
		}
		if lack, ok := errors.AsType[*keyring.NodesLackKeyError](err); ok {
			err = fmt.Errorf("nothing was changed: %w; put the key there (servers notice it in a file or from a command by themselves, in a variable when they are restarted), or rotate all the same with --force", lack)
		}
		return usage(err)
	}
	if a.json {
		return printJSON(a.stdout, r)
	}
	c.say(a, r, source)
	return nil
}

func (c *adminRotateMasterKeyCmd) say(a *app, r keyring.MasterKeyRotation, source seal.Source) {
	if r.Current == r.Former {
		fmt.Fprintf(a.stdout, "A rotation had been broken off. Sealed under the master key %s now: %d more webhook secrets.\n", r.Current, r.Resealed)
	} else {
		fmt.Fprintf(a.stdout, "The master key is %s now. Sealed anew under it: %d webhook secrets.\n", r.Current, r.Resealed)
	}
	if r.Made {
		fmt.Fprintf(a.stderr, "keystile: a new master key was made: back up %s now, apart from the database\n", source)
	}
	if r.Lost > 0 {
		fmt.Fprintf(a.stderr, "keystile: %d webhook secrets can't be opened any more; those that were active are revoked\n", r.Lost)
	}
	if len(r.Damaged) > 0 {
		fmt.Fprintf(a.stderr, "keystile: damaged, and left as they were: %s\n", strings.Join(r.Damaged, ", "))
	}
	if len(r.Unneeded) > 0 {
		fmt.Fprintf(a.stdout, "Needed for older backups alone: %s. Take them out of %s when no such backup is kept.\n", strings.Join(r.Unneeded, ", "), source)
	}
}
