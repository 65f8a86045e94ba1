// Command keystile is the whole of Keystile in one binary: the server and the
// tools around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/keystile/keystile/internal/profile"
)

// cli is the command line: one field for each verb, one file for each.
type cli struct {
	JSON bool `help:"Print JSON for programs instead of text for people."`

	Serve      serveCmd      `cmd:"" help:"Run the server."`
	Agent      agentCmd      `cmd:"" help:"Check keys beside a program, from a copy of the server's index."`
	Keys       keysCmd       `cmd:"" help:"Create, list, show, edit, rotate, revoke, delete and import keys."`
	Verify     verifyCmd     `cmd:"" help:"Check a key."`
	Webhooks   webhooksCmd   `cmd:"" help:"Create, list, show, edit, rotate, revoke and delete webhook secrets, and sign with them."`
	Endpoints  endpointsCmd  `cmd:"" help:"Create, list, show, edit, test, pause, resume, rotate and delete endpoints that get events."`
	Deliveries deliveriesCmd `cmd:"" help:"List, show and retry deliveries of events."`
	Alerts     alertsCmd     `cmd:"" help:"List alerts, and note that they were seen."`
	Workspaces workspacesCmd `cmd:"" help:"Create, list, show, edit, suspend, resume and delete workspaces."`
	Admin      adminCmd      `cmd:"" help:"Make a key or a sign-in link, or rotate the master key, on the store itself, beside a running server; or send a trial mail."`
	Backup     backupCmd     `cmd:"" help:"Write a backup of the store, beside a running server, or check one."`
	Restore    restoreCmd    `cmd:"" help:"Replace the store by a backup."`
	Scan       scanCmd       `cmd:"" help:"Find keys of this product, and webhook secrets, in files, offline."`
	Bench      benchCmd      `cmd:"" help:"Measure this machine: checks, memory, starts and writes beside the least they could cost."`
	Completion completionCmd `cmd:"" help:"Print a script that completes commands in bash, zsh or fish."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Complete   completeCmd   `cmd:"" hidden:""`
	BenchFloor benchFloorCmd `cmd:"" hidden:""`
}

// app is what every verb gets.
type app struct {
	stdin    io.Reader
	terminal bool // a person sits at stdin
	stdout   io.Writer
	stderr   io.Writer
	json     bool
	env      func(string) string
	profile  func() (*profile.Profile, error)

	// server and credential say for errors which server a verb speaks to, and
	// where the key came from. Empty for verbs that speak to none.
	server     string
	credential string
	given      map[string]string // what the verb's user gave, by field of a request
}

// Exit statuses: 0 is success, 1 an operation that failed or was refused, 2 a
// mistake in how the program was called or set up.
const (
	exitFailed = 1
	exitUsage  = 2
)

// exitError ends the program with a status and, unless it is nil, a message.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// usage marks an error as one of calling or setting up.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return exitError{exitUsage, err}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], &app{
		stdin: os.Stdin, terminal: isTerminal(os.Stdin), stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv,
	}))
}

type profileFlag struct {
	Config string `help:"Profile of the product. Without it serve and admin take the one that the store was last served with, and a built-in one if there is none." env:"KEYSTILE_CONFIG" placeholder:"FILE"`
}

// run is main with everything handed in, and returns the exit status.
func run(ctx context.Context, args []string, a *app) (code int) {
	var c cli
	exited := -1
	parser, err := newParser(ctx, &c, a, func(code int) { exited = code })
	if err != nil {
		fmt.Fprintln(a.stderr, "keystile:", err)
		return exitUsage
	}
	k, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help has been printed
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "keystile: %s; try %s --help\n", masked(oneLine(err)), called(err))
		return exitUsage
	}
	if err := oneStore(k); err != nil {
		fmt.Fprintln(a.stderr, "keystile:", err)
		return exitUsage
	}
	a.json, a.given = c.JSON, given(k.Selected())
	a.profile = func() (*profile.Profile, error) { return profile.Load(c.Scan.Config) }
	err = k.Run()
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(a.stderr, "keystile:", masked(oneLine(exit.err)))
		}
		return exit.code
	}
	fmt.Fprintln(a.stderr, "keystile:", masked(a.message(err)))
	return exitFailed
}

// newParser reads the command line into c. It calls exit after --help.
func newParser(ctx context.Context, c *cli, a *app, exit func(code int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("keystile"),
		kong.Description("The turnstile for API keys: issue them, check them, take them away."),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(a),
	)
}

// called is the verb that arguments were meant for, as far as they could be read.
func called(err error) string {
	parse, ok := errors.AsType[*kong.ParseError](err)
	if !ok || parse.Context == nil || parse.Context.Selected() == nil {
		return "keystile"
	}
	words := []string{"keystile"}
	for _, p := range parse.Context.Path {
		if p.Command != nil {
			words = append(words, p.Command.Name)
		}
	}
	return strings.Join(words, " ")
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// logger writes the server's log to standard error.
func logger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is not debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}
