package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/keystile/keystile"
)

// CheckBackup reads a backup file to its end and tells what it holds. It
// fails with ErrNotBackup for other files, ErrDamaged when anything in it is
// not as it was written, and ErrNewerSchema when a newer version wrote it. It
// changes nothing.
func CheckBackup(ctx context.Context, path string) (b Backup, err error) {
	return openBackup(ctx, path, true)
}

// ReadBackup reads what a backup file says of itself. It is quick and fails as
// [CheckBackup] does, but finds damage only in the beginning of the file.
func ReadBackup(ctx context.Context, path string) (b Backup, err error) {
	return openBackup(ctx, path, false)
}

func openBackup(ctx context.Context, path string, whole bool) (b Backup, err error) {
	if b.Size, err = checkHeader(path); err != nil {
		return b, err
	}
	// Immutable: no other file is made beside it, and it may be read-only.
	db, err := openFile(path, "mode=ro&immutable=1", "query_only(1)")
	if err != nil {
		return b, err
	}
	tx := &Tx{ctx: ctx, q: db}
	if err = b.read(tx); err == nil && whole {
		err = b.check(tx)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return b, errors.Join(err, db.Close())
}

// checkHeader tells files that are no databases at all from others (sqlite.org/fileformat2.html,
// section 1.3), and a file that was cut off from a whole one.
func checkHeader(path string) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: it is not a file", ErrNotBackup)
	}
	var head [100]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || !bytes.HasPrefix(head[:], []byte("SQLite format 3\x00")) {
		return 0, ErrNotBackup
	}
	page := int64(head[16])<<8 | int64(head[17])
	if page == 1 {
		page = 65536
	}
	pages := int64(head[28])<<24 | int64(head[29])<<16 | int64(head[30])<<8 | int64(head[31])
	if info.Size() != page*pages {
		return 0, fmt.Errorf("%w: it has %d bytes and should have %d", ErrDamaged, info.Size(), page*pages)
	}
	return info.Size(), nil
}

// read reads what the file says of itself.
func (b *Backup) read(tx *Tx) error {
	names, err := queryAll(tx, scanString, `SELECT name FROM sqlite_schema WHERE type = 'table'`)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	tables := map[string]bool{}
	for _, n := range names {
		tables[n] = true
	}
	switch {
	case !tables["backup_info"] && tables["change_head"]:
		return fmt.Errorf("%w: it is a database of Keystile itself; only 'keystile backup' makes backups", ErrNotBackup)
	case !tables["backup_info"]:
		return ErrNotBackup
	}
	facts := map[string]string{}
	if _, err := queryAll(tx, func(r scanner) (struct{}, error) {
		var name, value string
		err := r.Scan(&name, &value)
		facts[name] = value
		return struct{}{}, err
	}, `SELECT name, value FROM backup_info`); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if sumFacts(facts) != facts["sha256"] {
		return fmt.Errorf("%w: its description of itself does not add up", ErrDamaged)
	}
	return b.parse(facts)
}

func (b *Backup) parse(facts map[string]string) error {
	b.Source, b.Version = facts["source"], facts["version"]
	b.Rows, b.tallies = map[string]int64{}, map[string]string{}
	var format, created int64
	into := map[string]*int64{"format": &format, "created_at": &created, "schema": &b.Schema, "seq": &b.Seq}
	for name, value := range facts {
		table, counts := strings.CutPrefix(name, "rows.")
		if sum, ok := strings.CutPrefix(name, "sha256."); ok {
			b.tallies[sum] = value
		}
		number, ok := into[name]
		if !ok && !counts {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
		}
		if counts {
			b.Rows[table] = n
		} else {
			*number = n
		}
	}
	b.CreatedAt = fromMillis(created)
	if format != backupFormat || b.Schema > SchemaVersion() {
		return fmt.Errorf("%w: version %s, schema %d; this is version %s, schema %d",
			ErrNewerSchema, b.Version, b.Schema, keystile.Version, SchemaVersion())
	}
	return nil
}

// check compares what is in the file with what it says is in it.
func (b *Backup) check(tx *Tx) error {
	if err := sound(tx, "integrity_check"); err != nil {
		return err
	}
	version, err := queryOne(tx, scanInt, `SELECT MAX(version_id) FROM goose_db_version`)
	if err != nil || version != b.Schema {
		return fmt.Errorf("%w: its schema is not the one it says", ErrDamaged)
	}
	name := regexp.MustCompile(`^[a-z_]+$`) // goes into a statement
	for table, rows := range b.Rows {
		if !name.MatchString(table) {
			return fmt.Errorf("%w: it names a table %q", ErrDamaged, table)
		}
		var t tally
		c, err := tx.columnsOf(table)
		if err == nil {
			err = tx.all(c, t.add)
		}
		if err != nil {
			return fmt.Errorf("%w: table %s: %w", ErrDamaged, table, err)
		}
		if t.rows != rows || t.String() != b.tallies[table] {
			return fmt.Errorf("%w: table %s is not as it was written", ErrDamaged, table)
		}
	}
	for _, table := range kept() {
		if _, ok := b.Rows[table]; !ok && b.Schema == SchemaVersion() {
			return fmt.Errorf("%w: table %s is missing", ErrDamaged, table)
		}
	}
	return unbroken(tx)
}
