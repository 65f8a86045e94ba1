package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/keystile/keystile/internal/bench"
)

type benchCmd struct {
	Keys      []int  `help:"How many keys the index and the store have, ${default} without it; several numbers, with commas between them, are measured one after the other." default:"100000" placeholder:"N"`
	Database  string `help:"PostgreSQL server to measure starts on as well, in a database that is made and dropped; the user must be allowed to." placeholder:"URL"`
	InProcess bool   `help:"Measure only checks within a process, and memory: no store is filled and no server is started."`
	Quick     bool   `help:"Measure everything once, for a look: ten seconds instead of a minute."`
	Baseline  string `help:"Write the samples to a file that benchstat reads." placeholder:"FILE"`
	Plots     string `help:"Draw what was measured with several numbers of keys into pictures (SVG) in a directory." placeholder:"DIR"`
}

// Help is the long help of the verb.
func (c *benchCmd) Help() string {
	return `Measures Keystile on this machine, each cost beside the least that it could be, and
says which goals are reached. It takes about a minute and works in a temporary
directory that it removes. Other programs that run meanwhile make it less exact:
the numbers in brackets are the quarters, between which half of the rounds lie.

Of several numbers of keys, writes and HTTP are measured with the last one only.

Ten million keys need 2 GB of memory and a minute or two with --in-process. Without
it they need 6 GB of disk for temporary files as well and ten minutes: four to fill
the store, the rest for starts. --database makes that half an hour.`
}

const mostBenchKeys = 100_000_000

// Run measures.
func (c *benchCmd) Run(ctx context.Context, a *app) error {
	if !slices.IsSorted(c.Keys) || c.Keys[0] < 1 || c.Keys[len(c.Keys)-1] > mostBenchKeys {
		return usage(fmt.Errorf("--keys takes numbers from 1 to %d, the smallest first", mostBenchKeys))
	}
	program, err := exec.LookPath(os.Args[0])
	if err != nil {
		return fmt.Errorf("cannot find this very program, which is measured as a server: %w", err)
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
