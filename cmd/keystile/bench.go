package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"github.com/keystile/keystile/internal/bench"
	"github.com/keystile/keystile/internal/server"
	"github.com/keystile/keystile/internal/store"
)

type benchCmd struct {
	Keys      []int  `help:"How many keys the index and the store have, ${default} without it; several numbers, with commas between them, are measured one after the other." default:"100000" placeholder:"N"`
	Database  string `help:"PostgreSQL server to measure starts on as well, in a database that is made and dropped; the user must be allowed to." placeholder:"URL"`
	InProcess bool   `help:"Measure only checks within a process, and memory: no store is filled and no server is started."`
	Quick     bool   `help:"Measure everything once, for a look: ten seconds instead of a minute."`
	Baseline  string `help:"Write the samples to a file that benchstat reads." placeholder:"FILE"`
	Plots     string `help:"Draw what was measured with several numbers of keys into pictures (SVG) in a directory, which is made if it is not there." placeholder:"DIR"`
}

// Help is the long help of the verb.
func (c *benchCmd) Help() string {
	return `Measures Keystile on this machine, each cost beside the least that it could be, and
says which goals are reached. It takes about a minute and works in a temporary
directory that it removes. Other programs that run meanwhile make it less exact:
the numbers in brackets are the quarters, between which half of the rounds lie.
The time of single checks is that of the least disturbed twentieth of many batches,
since others on the same machine, seen or not, slow down checks more than the floor.

Of several numbers of keys, writes and HTTP are measured with the last one only.

Ten million keys need 2 GB of memory and a minute or two with --in-process. Without
it they need 6 GB of disk for temporary files as well and ten minutes: four to fill
the store, the rest for starts. --database makes that half an hour.`
}

const mostBenchKeys = 100_000_000

// Run measures.
func (c *benchCmd) Run(ctx context.Context, a *app) error {
	for i, n := range c.Keys {
		if n < 1 || n > mostBenchKeys || i > 0 && n <= c.Keys[i-1] {
			return usage(fmt.Errorf("--keys takes numbers from 1 to %d, the smallest first and each once", mostBenchKeys))
		}
	}
	if len(c.Keys) == 0 {
		return usage(errors.New("--keys is empty: give at least one number"))
	}
	if c.InProcess && c.Database != "" {
		return usage(errors.New("--in-process needs no database: leave out --database or --in-process"))
	}
	program, err := exec.LookPath(os.Args[0])
	if err != nil {
		return fmt.Errorf("cannot find this very program, which is measured as a server: %w", err)
	}
	if err := c.ready(ctx); err != nil {
		return usage(err)
	}
	var reports []*bench.Report
	began := time.Now()
	for i, n := range c.Keys {
		if len(c.Keys) > 1 {
			fmt.Fprintf(a.stderr, "%d keys, number %d of %d in the list, after %s\n", n, i+1, len(c.Keys), time.Since(began).Round(time.Second))
		}
		r, err := bench.Run(ctx, bench.Options{
			Program: program, Keys: n, Database: c.Database, Singles: i < len(c.Keys)-1, InProcess: c.InProcess, Quick: c.Quick,
			Progress: func(text string) { fmt.Fprintln(a.stderr, text) },
		})
		if ctx.Err() != nil {
			return errors.New("stopped before all was measured; nothing is left behind")
		}
		if err != nil {
			return err
		}
		reports = append(reports, r)
		if a.json {
			err = json.NewEncoder(a.stdout).Encode(r)
		} else {
			err = r.Print(a.stdout)
		}
		if err != nil {
			return err
		}
	}
	return c.keep(reports)
}

// ready finds out before anything is measured, which may take half an hour,
// whether what is measured can be written.
func (c *benchCmd) ready(ctx context.Context) error {
	if c.Plots != "" {
		if err := os.MkdirAll(c.Plots, 0o755); err != nil { //nolint:gosec // pictures for everyone
			return fmt.Errorf("cannot draw into --plots: %w", err)
		}
		trial, err := os.CreateTemp(c.Plots, ".bench-")
		if err != nil {
			return fmt.Errorf("cannot draw into --plots: %w", err)
		}
		if err := errors.Join(trial.Close(), os.Remove(trial.Name())); err != nil {
			return fmt.Errorf("cannot draw into --plots: %w", err)
		}
	}
	if c.Baseline != "" {
		_, before := os.Stat(c.Baseline)
		f, err := os.OpenFile(c.Baseline, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // figures for everyone
		if err == nil {
			err = f.Close()
		}
		if err == nil && errors.Is(before, fs.ErrNotExist) {
			err = os.Remove(c.Baseline)
		}
		if err != nil {
			return fmt.Errorf("cannot write --baseline: %w", err)
		}
	}
	if c.Database != "" {
		if err := bench.Reach(ctx, c.Database); err != nil {
			return server.Explain(err, store.Options{URL: c.Database})
		}
	}
	return nil
}

// keep writes what was measured to where it was asked for.
func (c *benchCmd) keep(reports []*bench.Report) error {
	if c.Baseline != "" {
		var samples bytes.Buffer
		for _, r := range reports {
			r.Benchstat(&samples)
		}
		if err := os.WriteFile(c.Baseline, samples.Bytes(), 0o644); err != nil { //nolint:gosec // figures for everyone
			return err
		}
	}
	if c.Plots != "" {
		return bench.Plots(c.Plots, reports)
	}
	return nil
}
