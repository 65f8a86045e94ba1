package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/keystile/keystile/internal/bench"
)

type benchCmd struct {
	Keys     int    `help:"How many keys the index and the store have; ${default} without it." default:"100000" placeholder:"N"`
	Database string `help:"PostgreSQL server to measure starts on as well, in a database that is made and dropped; the user must be allowed to." placeholder:"URL"`
	Singles  bool   `help:"Measure single checks, memory and starts alone: what depends on the number of keys."`
	Baseline string `help:"Append the samples to a file that benchstat reads." placeholder:"FILE"`
}

// Help is the long help of the verb.
func (c *benchCmd) Help() string {
	return `Measures Keystile on this machine, each cost beside the least that it could be, and
says which goals are reached. It takes about a minute and works in a temporary
directory that it removes. Other programs that run meanwhile make it less exact:
the quarters say how much.

Ten million keys take 4 GB of memory, 6 GB of disk and some minutes.`
}

// Run measures.
func (c *benchCmd) Run(ctx context.Context, a *app) error {
	if c.Keys < 1 || c.Keys > 100_000_000 {
		return usage(errors.New("--keys is a number from 1 to 100000000"))
	}
	program, err := exec.LookPath(os.Args[0])
	if err != nil {
		return fmt.Errorf("cannot find this very program, which is measured as a server: %w", err)
	}
	r, err := bench.Run(ctx, bench.Options{
		Program: program, Keys: c.Keys, Database: c.Database, Singles: c.Singles,
		Progress: func(text string) { fmt.Fprintln(a.stderr, text) },
	})
	if err != nil {
		return err
	}
	if c.Baseline != "" {
		f, err := os.OpenFile(c.Baseline, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // figures for everyone
		if err != nil {
			return err
		}
		r.Benchstat(f)
		if err := f.Close(); err != nil {
			return err
		}
	}
	if a.json {
		return json.NewEncoder(a.stdout).Encode(r)
	}
	return r.Print(a.stdout)
}
