package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/keystile/keystile"
)

// clientFlags say which server a verb speaks to, and as whom. The key itself
// is no flag: lists of processes and shells' histories show those.
type clientFlags struct {
	URL     string `help:"The server; ${default} without it." default:"http://127.0.0.1:8080" env:"KEYSTILE_URL" placeholder:"URL"`
	KeyFile string `help:"File that holds the key to authenticate with; without it the variable KEYSTILE_KEY." placeholder:"FILE" type:"path"`
}

// maxKeyFile is far more bytes than any key has: a larger file is another one.
const maxKeyFile = 4096

// client returns a client of the server that the flags name. Nothing is sent yet.
func (f clientFlags) client(a *app) (*keystile.Client, error) {
	key := a.env("KEYSTILE_KEY")
	a.server, a.credential = f.URL, "KEYSTILE_KEY"
	if f.KeyFile != "" {
		text, err := os.ReadFile(f.KeyFile)
		if err != nil {
			return nil, usage(fmt.Errorf("cannot read --key-file: %w", err))
		}
		if len(text) > maxKeyFile {
			return nil, usage(fmt.Errorf("--key-file %s holds more than one key: it must hold nothing else", f.KeyFile))
		}
		key, a.credential = string(text), f.KeyFile
	}
	if strings.TrimSpace(key) == "" && !strings.HasPrefix(f.URL, "unix:") {
		if f.KeyFile != "" {
			return nil, usage(fmt.Errorf("--key-file %s is empty: put a key into it, such as the one that 'keystile admin key' prints", f.KeyFile))
		}
		return nil, usage(errors.New("the variable KEYSTILE_KEY is not set: put a key into it, such as the one that 'keystile admin key' prints, or name a file with --key-file"))
	}
	c, err := keystile.NewClient(f.URL, key, keystile.WithUnreached(a.sayUnreached))
	if err != nil {
		return nil, usage(errors.New(strings.TrimPrefix(err.Error(), "keystile: ")))
	}
	return c, nil
}

// sayUnreached tells a person that a change does not hold everywhere yet.
func (a *app) sayUnreached(list []keystile.Unreached) {
	if len(list) == 0 {
		fmt.Fprintln(a.stderr, "keystile: not everywhere yet: some servers have lost the database and go on from what they knew; 'GET /v1/nodes' lists all")
		return
	}
	for _, u := range list {
		name := printable(u.Name)
		if name == "" {
			name = "a server"
		}
		fmt.Fprintf(a.stderr, "keystile: not everywhere yet: %s (node %s) has lost the database and goes on from what it knew, until %s at the latest\n",
			name, printable(u.Node), u.Until.Format(time.RFC3339))
	}
}

// workspaceFlag names the workspace to work in.
type workspaceFlag struct {
	Workspace workspaceID `help:"Workspace; without it the only one that the key of the caller sees." placeholder:"ID"`
}

// find returns the workspace to work in. The operator's own does not count:
// keys in it manage Keystile, and are made on purpose.
func (f workspaceFlag) find(ctx context.Context, c *keystile.Client) (string, error) {
	if f.Workspace != "" {
		return string(f.Workspace), nil
	}
	const shown = 5
	page, err := c.Workspaces(ctx, keystile.ListWorkspaces{Limit: shown + 2})
	if err != nil {
		if p, ok := errors.AsType[*keystile.Error](err); ok && p.Code == keystile.CodeInsufficientPermission {
			p.Fixes = append([]string{"Name the workspace with --workspace."}, p.Fixes...)
		}
		return "", err
	}
	var tenants []keystile.Workspace
	for _, w := range page.Data {
		if !w.Operator {
			tenants = append(tenants, w)
		}
	}
	switch len(tenants) {
	case 0:
		return "", usage(errors.New("the key sees no workspace: make one with 'keystile workspaces create', or name one with --workspace"))
	case 1:
		return tenants[0].ID, nil
	}
	more := ""
	if len(tenants) > shown {
		tenants, more = tenants[:shown], " and more ('keystile workspaces list')"
	}
	names := make([]string, len(tenants))
	for i, w := range tenants {
		names[i] = w.ID + " (" + printable(w.Name) + ")"
	}
	return "", usage(fmt.Errorf("there are several workspaces; name one with --workspace: %s%s", strings.Join(names, ", "), more))
}

// message is what an error says to a person. A problem that the server told
// comes with what to do.
func (a *app) message(err error) string {
	p, ok := errors.AsType[*keystile.Error](err)
	if !ok {
		return a.noAnswer(err)
	}
	var b strings.Builder
	if p.Status == 401 && a.credential != "" {
		b.WriteString("the key in " + a.credential + " is refused: ")
	}
	b.WriteString(p.Title + ": " + a.reworded(detail(p, a.called)))
	if slices.Equal(p.Fixes, keystile.NewError(keystile.CodeInvalidField, "").Fixes) {
		return b.String() // they speak of a request, which nobody here has seen
	}
	for _, fix := range p.Fixes {
		b.WriteString("\n  - " + a.reworded(fix))
	}
	return b.String()
}

// given maps the fields of requests to what a verb's user gave for them: a
// flag, or an argument. A field has the flag's name, or the one that its tag
// "wire" says.
func given(verb *kong.Node) map[string]string {
	names := map[string]string{}
	add := func(v *kong.Value, name string) {
		field := strings.ReplaceAll(v.Name, "-", "_")
		if wire := v.Tag.Get("wire"); wire != "" {
			names[wire] = name
		} else if names[field] == "" { // --url is the server's; an endpoint's has the tag
			names[field] = name
		}
	}
	if verb == nil {
		return names
	}
	for _, arg := range verb.Positional {
		add(arg, "<"+arg.Name+">")
	}
	for _, flag := range verb.Flags {
		add(flag.Value, "--"+flag.Name)
	}
	return names
}

// called is what the user gave for a field of a request, or the field.
func (a *app) called(field string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(field, "body."), "query.")
	if at := strings.IndexAny(name, "[."); at >= 0 {
		name = name[:at]
	}
	return cmp.Or(a.given[name], field)
}

// reworded is a text of the server's with the names of fields as the user knows
// them. Words that are no names of fields alone stay.
func (a *app) reworded(text string) string {
	return regexp.MustCompile(`[\w./-]+`).ReplaceAllStringFunc(text, func(word string) string {
		bare := strings.TrimRight(word, ".")
		if name := a.given[bare]; name != "" && strings.Contains(bare, "_") {
			return name + word[len(bare):]
		}
		return word
	})
}

// columnFor is the column of a file to import that a field came from.
func columnFor(field string) string { return strings.TrimPrefix(field, "body.") }

// detail is what was wrong, and with what, on one line. Called names what the
// user gave for a field of the request.
func detail(p *keystile.Error, called func(field string) string) string {
	var parts []string
	said := false
	for _, f := range p.Fields {
		parts = append(parts, called(f.Field)+": "+f.Detail)
		said = said || f.Detail == p.Detail || f.Field+": "+f.Detail == p.Detail
	}
	if p.Detail != "" && !said {
		parts = append([]string{p.Detail}, parts...)
	}
	return strings.Join(parts, " ")
}

// noAnswer is what an error says that is none of the server's.
func (a *app) noAnswer(err error) string {
	text := strings.TrimPrefix(oneLine(err), "keystile: ")
	if a.server == "" {
		return text
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted before " + a.server + " answered: what was asked for may have happened or not"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return a.server + " answered without TLS: give the URL with http://, or have the server serve TLS"
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Sprintf("this machine does not trust the certificate of %s: %v; give the name that it is made out to in the URL, or name the file with the certificate of whoever issued it in the variable SSL_CERT_FILE", a.server, bad.Err)
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return fmt.Sprintf("cannot reach the server at %s: %v; start it, or name another with --url or KEYSTILE_URL", a.server, dial.Err)
	}
	return text
}
