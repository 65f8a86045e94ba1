package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/alecthomas/kong"

	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/internal/server"
	"github.com/keystile/keystile/internal/store"
)

// storeLocation names a store for the verbs that need no profile.
type storeLocation struct {
	Data     string `help:"Data directory of the embedded database; ${default} without it." default:"./keystile-data" env:"KEYSTILE_DATA" placeholder:"DIR"`
	Database string `help:"PostgreSQL instead of the embedded database." env:"KEYSTILE_DATABASE" placeholder:"URL"`
}

// oneStore fails when --data is on the command line and there is a database
// too, which would be taken instead. In the environment both may be set: there
// the directory is what an image or a unit sets for whoever names no database.
func oneStore(k *kong.Context) error {
	data, database := "", ""
	for _, p := range k.Path {
		if p.Flag != nil && p.Flag.Name == "data" {
			data = p.Flag.Target.String()
		}
	}
	for _, f := range k.Flags() {
		if f.Name == "database" {
			database = f.Target.String()
		}
	}
	if data == "" || data == server.DefaultDir || database == "" {
		return nil
	}
	return fmt.Errorf("--data %s and a PostgreSQL database (--database or KEYSTILE_DATABASE) are both named; leave one of them out", data)
}

// storeFlags name a profile and a store. Verbs that open the store itself have them.
type storeFlags struct {
	profileFlag
	storeLocation
}

type backupCmd struct {
	storeLocation
	File  string `arg:"" help:"Backup to write."`
	Force bool   `help:"Replace the file if there is one."`
	Check bool   `help:"Write nothing: check a backup from its beginning to its end, and tell what it holds."`
}

// Help is the long help of the verb.
func (c *backupCmd) Help() string {
	return `Works beside a running server and shows one moment of the store. The file is read
back and checked before it gets its name. Of API keys it holds digests, and none
that could be used. Webhook secrets are in it, sealed with the master key, which is
not: whoever has both can sign. With who did what, that is reason enough to keep it
like the database, and apart from the master key.`
}

// Run writes a backup, or checks one.
func (c *backupCmd) Run(ctx context.Context, a *app) error {
	if c.Check {
		b, err := store.CheckBackup(ctx, c.File)
		if err != nil {
			return refuseBackup(c.File, err)
		}
		return printBackup(a, b)
	}
	o := server.StoreOptions(c.Data, c.Database)
	s, err := openStore(ctx, o)
	if err != nil {
		return err
	}
	b, err := s.Backup(ctx, c.File, c.Force)
	if err = errors.Join(err, s.Close()); err != nil {
		return c.explain(err)
	}
	return printBackup(a, b)
}

// explain tells a file that cannot be made from a backup that failed.
func (c *backupCmd) explain(err error) error {
	switch {
	case errors.Is(err, store.ErrExists):
		return usage(fmt.Errorf("%s is there already; name another file, or replace it with --force", c.File))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return usage(fmt.Errorf("cannot write the backup: %w", err))
	}
	return fmt.Errorf("no backup was made: %w", err)
}

func printBackup(a *app, b store.Backup) error {
	if a.json {
		return printJSON(a.stdout, b)
	}
	return writeBackup(a.stdout, b)
}

func writeBackup(w io.Writer, b store.Backup) error {
	return printFields(w, [][2]string{
		{"Made", minute(b.CreatedAt)},
		{"From", b.Source + ", version " + b.Version},
		{"Keys", strconv.FormatInt(b.Rows["keys"], 10)},
		{"Workspaces", strconv.FormatInt(b.Rows["workspaces"], 10)},
		{"Audit entries", strconv.FormatInt(b.Rows["audit"], 10)},
		{"Size", strconv.FormatInt(b.Size, 10) + " bytes, checked"},
	})
}

type restoreCmd struct {
	storeLocation
	File string `arg:"" help:"Backup to restore."`
	confirmFlag
}

// Help is the long help of the verb.
func (c *restoreCmd) Help() string {
	return `Replaces everything in the store by the backup, which may be of either database.
Stop all servers first. What was revoked, disabled, deleted or narrowed since the
backup stays so where the store that is replaced can still tell; the output says
where it cannot.`
}

// Run restores a backup.
func (c *restoreCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	b, err := store.ReadBackup(ctx, c.File)
	if err != nil {
		return refuseBackup(c.File, err)
	}
	o := server.StoreOptions(c.Data, c.Database)
	where := o.Dir
	if where == "" {
		where = "the database"
	}
	if err := c.ask(ctx, a, fmt.Sprintf("Replace everything in %s by the backup of %s with %d keys? Keys made since are lost, for good.",
		where, minute(b.CreatedAt), b.Rows["keys"])); err != nil {
		return err
	}
	r, err := keyring.Restore(ctx, operator(), o, c.File)
	switch {
	case errors.Is(err, store.ErrHeld):
		return usage(fmt.Errorf("a server or another Keystile process uses %s; stop them all, then restore", where))
	case errors.Is(err, store.ErrNotBackup), errors.Is(err, store.ErrDamaged):
		return refuseBackup(c.File, err)
	case errors.Is(err, store.ErrNewerSchema), errors.Is(err, store.ErrUnavailable):
		return usage(server.Explain(err, o))
	case errors.Is(err, store.ErrUnknownOutcome):
		return fmt.Errorf("the database did not confirm the restore, which may have happened or not; restore again: %w", err)
	case err != nil:
		return fmt.Errorf("nothing was restored: %w", err)
	}
	if a.json {
		return printJSON(a.stdout, r)
	}
	return c.print(a, r)
}

// print tells what was restored and, above all, what may be back.
func (c *restoreCmd) print(a *app, r store.Restored) error {
	fmt.Fprintf(a.stdout, "Restored the backup of %s: %d keys, %d of them active.\n", minute(r.Backup.CreatedAt), r.Backup.Rows["keys"], r.ActiveKeys)
	if n := r.Carried; n != nil {
		fmt.Fprintf(a.stdout, "Carried over from what was there: %d keys, %d workspaces and %d webhook secrets ended or narrowed; %d objects deleted; %d audit entries.\n",
			n.Keys, n.Workspaces, n.WebhookSecrets, n.Deleted, n.Audit)
	}
	if r.Former != "" {
		fmt.Fprintf(a.stdout, "The database that was there is now %s.\n", r.Former)
	}
	if r.Unread != "" {
		fmt.Fprintf(a.stderr, "The database that was there could not be read: %s\n", r.Unread)
	}
	if r.Complete {
		return nil
	}
	fmt.Fprintf(a.stderr, "Whatever was revoked, disabled, deleted or narrowed after %s may be valid again. Look at the active keys, those used last first:\n", minute(r.Backup.CreatedAt))
	rows := [][]string{{"ID", "NAME", "WORKSPACE"}}
	for _, k := range r.LookAt {
		rows = append(rows, []string{k.ID, k.Name, k.WorkspaceID})
	}
	if err := printTable(a.stdout, rows); err != nil {
		return err
	}
	if more := r.ActiveKeys - int64(len(r.LookAt)); more > 0 {
		fmt.Fprintf(a.stderr, "and %d more; 'keystile keys list --status active' lists those of a workspace.\n", more)
	}
	return nil
}

// refuseBackup says in one line why a file cannot be restored.
func refuseBackup(file string, err error) error {
	var path *fs.PathError
	switch {
	case errors.Is(err, store.ErrNotBackup):
		return usage(fmt.Errorf("%s is not a backup made by 'keystile backup'%s", file, after(err, store.ErrNotBackup)))
	case errors.Is(err, store.ErrDamaged):
		return usage(fmt.Errorf("%s is damaged or incomplete%s; use another backup", file, after(err, store.ErrDamaged)))
	case errors.Is(err, store.ErrNewerSchema):
		return usage(fmt.Errorf("%s was made by a newer version of Keystile%s; use that version", file, after(err, store.ErrNewerSchema)))
	case errors.As(err, &path):
		return usage(fmt.Errorf("cannot read the backup %s: %w", file, path.Err))
	}
	return err
}

// after is what an error says beyond the one that it wraps first.
func after(err, first error) string {
	text := err.Error()
	if i := len(first.Error()); len(text) > i && text[:i] == first.Error() {
		return text[i:]
	}
	return ""
}
