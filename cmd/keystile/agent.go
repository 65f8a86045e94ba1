package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/keystile/keystile/internal/server"
)

type agentCmd struct {
	URL          []string `help:"Server to attach to; repeat it for others of the same installation." name:"url" env:"KEYSTILE_URL" placeholder:"URL"`
	Listen       string   `help:"Address and port to listen on; ${default} without it." default:"127.0.0.1:8181" env:"KEYSTILE_AGENT_LISTEN" placeholder:"ADDR"`
	Socket       string   `help:"Listen on a unix socket as well, where verify needs no key of the caller's." env:"KEYSTILE_AGENT_SOCKET" placeholder:"PATH"`
	Open         bool     `help:"Let verify be asked without a key on --listen too: whoever reaches the address may check keys." env:"KEYSTILE_AGENT_OPEN"`
	TrustedProxy []string `help:"Address or CIDR range of a proxy whose X-Forwarded-For counts; may be repeated." env:"KEYSTILE_TRUSTED_PROXY" placeholder:"CIDR"`
	LogFormat    string   `help:"Form of the log on standard error: ${enum}; ${default} without it." enum:"text,json" default:"text" env:"KEYSTILE_LOG_FORMAT" placeholder:"FORM"`
	LogLevel     string   `help:"What to log: debug, info, warn or error; ${default} without it." default:"info" env:"KEYSTILE_LOG_LEVEL" placeholder:"LEVEL"`
}

// Help is what stands below the synopsis.
func (*agentCmd) Help() string {
	return "The agent's key is read from KEYSTILE_KEY; it needs the role replica: keystile admin key --role replica."
}

// Run answers until it is told to stop.
func (c *agentCmd) Run(ctx context.Context, a *app) error {
	log, err := logger(a.stderr, c.LogFormat, c.LogLevel)
	if err != nil {
		return usage(err)
	}
	key := a.env("KEYSTILE_KEY")
	switch {
	case len(c.URL) == 0:
		return usage(errors.New("the agent has no server to attach to: give --url or set KEYSTILE_URL"))
	case key == "":
		return usage(errors.New("the agent needs a key: set KEYSTILE_KEY to one with the role replica, such as keystile admin key --role replica prints"))
	}
	agent, err := server.OpenAgent(ctx, server.AgentConfig{
		Servers: c.URL, Key: key, Listen: c.Listen, Socket: c.Socket, Open: c.Open, Trusted: c.TrustedProxy, Log: log,
	})
	if err != nil {
		if ctx.Err() != nil {
			log.Info("stopped")
			return nil //nolint:nilerr // told to stop while it started, which is no mistake of anyone's
		}
		return usage(err)
	}
	for _, u := range agent.URLs() {
		fmt.Fprintf(a.stdout, "Keystile listens on %s\n", u)
	}
	if err := withBallast(func() error { return agent.Run(ctx) }); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}
