package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/user"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/profile"
	"github.com/keystile/keystile/internal/server"
	"github.com/keystile/keystile/internal/store"
)

type adminCmd struct {
	Key             adminKeyCmd             `cmd:"" help:"Make a key that manages Keystile and print it."`
	RotateMasterKey adminRotateMasterKeyCmd `cmd:"" help:"Seal all webhook secrets anew under a new master key."`
	Mail            adminMailCmd            `cmd:"" help:"Send a trial mail by the mail server that alerts are sent by, and tell what went wrong."`
	Link            adminLinkCmd            `cmd:"" help:"Make a one-time sign-in link, good for 15 minutes, and print it: for the first sign-in, and for when nobody else can let you in."`
}

// openKeyring opens the rules on a store beside running servers.
func openKeyring(ctx context.Context, f storeFlags) (*keyring.Keyring, func() error, error) {
	var given *profile.Profile
	if f.Config != "" {
		var err error
		if given, err = profile.Load(f.Config); err != nil {
			return nil, nil, usage(err)
		}
	}
	o := server.StoreOptions(f.Data, f.Database)
	s, err := openStore(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	p, _, err := keyring.ProfileFor(ctx, s, given)
	if err != nil {
		if given != nil {
			err = usage(fmt.Errorf("%s: %w", f.Config, err))
		}
		return nil, nil, errors.Join(err, s.Close())
	}
	running := func() bool { return true }
	if o.Dir != "" {
		running = func() bool { return store.ServerRunning(o.Dir) }
	}
	return keyring.New(s, p, cluster.AdminBarrier(s, running)), s.Close, nil
}

// openStore opens a store that is there, beside running servers.
func openStore(ctx context.Context, o store.Options) (*store.Store, error) {
	o.MustExist = true
	s, err := store.Open(ctx, o)
	if err != nil {
		err = server.Explain(err, o)
		if o.Dir != "" {
			err = fmt.Errorf("%w; name the server's directory with --data", err)
		}
		return nil, usage(err)
	}
	return s, nil
}

// operator is the person at the command line, as the audit log calls them.
func operator() keyring.Actor {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return keyring.Operator(name)
}

type adminKeyCmd struct {
	storeFlags
	Workspace string `help:"Workspace of the key; without it the operator's own." placeholder:"ID"`
	Role      string `help:"Role of the key; without it operator, or admin in another workspace." placeholder:"ROLE"`
	Expires   span   `help:"For how long the key is good, such as 1h or 90d; ${default} without it." default:"24h" placeholder:"DURATION"`
}

// Run prints the key and nothing else.
func (c *adminKeyCmd) Run(ctx context.Context, a *app) (err error) {
	if c.Expires == 0 {
		return usage(errors.New("--expires must be more than 0, such as 24h or 90d"))
	}
	k, end, err := openKeyring(ctx, c.storeFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	workspace, role := c.Workspace, c.Role
	if workspace == "" {
		workspace = keyring.OperatorWorkspace
	}
	if role == "" {
		role = profile.RoleAdmin
		if workspace == keyring.OperatorWorkspace {
			role = profile.RoleOperator
		}
	}
	expires := time.Now().Add(time.Duration(c.Expires))
	made, _, err := k.CreateKey(ctx, operator(), workspace, keystile.CreateKey{
		Name: "Made by keystile admin key", Role: role, ExpiresAt: &expires,
	}, keyring.Idempotency{})
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, made)
	}
	fmt.Fprintln(a.stdout, made.Secret)
	sayPending(a, made)
	return nil
}

type adminLinkCmd struct {
	storeFlags
	Workspace string `help:"Workspace to sign in to, as an administrator of that alone; without it as the operator, who reaches all." placeholder:"ID"`
	PublicURL string `help:"How people reach the server; ${default} without it." default:"http://localhost:8080" env:"KEYSTILE_PUBLIC_URL" placeholder:"URL"`
}

// Run prints the link and nothing else.
func (c *adminLinkCmd) Run(ctx context.Context, a *app) (err error) {
	if u, err := url.Parse(c.PublicURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return usage(errors.New("--public-url must be a URL without a path, such as https://keys.example.com"))
	}
	k, end, err := openKeyring(ctx, c.storeFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	token, err := k.CreateLink(ctx, operator(), c.Workspace)
	if err != nil {
		return err
	}
	link := strings.TrimRight(c.PublicURL, "/") + "/link/" + token
	if a.json {
		return printJSON(a.stdout, map[string]any{"url": link})
	}
	fmt.Fprintln(a.stdout, link)
	return nil
}
