package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/keystile/keystile/internal/courier"
)

// mailFlags say by which server mails are sent.
type mailFlags struct {
	SMTPServer   string `help:"Mail server that alerts are sent by: smtp://HOST:587 with STARTTLS, or smtps://HOST:465." name:"smtp-server" env:"KEYSTILE_SMTP_SERVER" placeholder:"URL"`
	SMTPUser     string `help:"User at the mail server; the password is read from KEYSTILE_SMTP_PASSWORD, or from a file." name:"smtp-user" env:"KEYSTILE_SMTP_USER" placeholder:"NAME"`
	SMTPPassword string `help:"File with the password at the mail server." name:"smtp-password-file" env:"KEYSTILE_SMTP_PASSWORD_FILE" placeholder:"FILE"`
	SMTPFrom     string `help:"Whom mails come from, such as keys@example.com." name:"smtp-from" env:"KEYSTILE_SMTP_FROM" placeholder:"ADDRESS"`
}

// mail are the settings of the mail server.
func (c *mailFlags) mail(a *app) (courier.MailServer, error) {
	m := courier.MailServer{Address: c.SMTPServer, User: c.SMTPUser, From: c.SMTPFrom, Password: a.env("KEYSTILE_SMTP_PASSWORD")}
	if c.SMTPPassword == "" {
		return m, nil
	}
	if m.Password != "" {
		return m, errors.New("the password at the mail server is given twice; leave out --smtp-password-file or KEYSTILE_SMTP_PASSWORD")
	}
	text, err := os.ReadFile(c.SMTPPassword)
	if err != nil {
		return m, fmt.Errorf("cannot read --smtp-password-file: %w", err)
	}
	if m.Password = strings.TrimRight(string(text), "\r\n"); m.Password == "" {
		return m, errors.New("--smtp-password-file names an empty file")
	}
	return m, nil
}

type adminMailCmd struct {
	mailFlags
	Address string `arg:"" help:"Whom to send it to."`
}

// Help is the long help of the verb.
func (c *adminMailCmd) Help() string {
	return `Give it the flags or variables that serve has. It touches no store and needs no server of Keystile.`
}

// Run sends one mail.
func (c *adminMailCmd) Run(ctx context.Context, a *app) error {
	if c.SMTPServer == "" {
		return usage(errors.New("name the mail server with --smtp-server, as for serve"))
	}
	m, err := c.mail(a)
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		return usage(err)
	}
	if err := courier.TrialMail(ctx, m, c.Address); err != nil {
		return fmt.Errorf("%s did not take the mail: %w", c.SMTPServer, err)
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{"sent": true})
	}
	_, err = fmt.Fprintf(a.stdout, "%s took the mail to %s. Look whether it has arrived, and not among the unwanted.\n", c.SMTPServer, printable(c.Address))
	return err
}
