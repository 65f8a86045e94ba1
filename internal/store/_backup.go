package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// Errors of backups.
var (
	ErrNotBackup = errors.New("store: the file is not a backup of Keystile")
	ErrDamaged   = errors.New("store: the file is damaged or incomplete")
	ErrExists    = errors.New("store: the file exists")
)

// backupFormat is the version of the file's form. A file of another one is refused.
const backupFormat = 1

// Backup is what a backup file says of itself.
type Backup struct {
	// CreatedAt is when the backup began, by the clock of the machine that
	// made it. It holds every change answered before, and may hold later ones.
	CreatedAt time.Time `json:"created_at"`
	Source    string    `json:"source"` // database it was made of: sqlite or postgres
	Version   string    `json:"version"`
	Schema    int64     `json:"schema"`
	Seq       int64     `json:"seq"` // position in the change log
	// Rows is how many rows each table holds.
	Rows map[string]int64 `json:"rows"`
	Size int64            `json:"size"` // bytes of the file

	epoch   string
	tallies map[string]string
}

// Backup writes everything that must survive the loss of the store to a file,
// while other processes go on writing to the store. The file is a SQLite
// database, whatever the store is, and can be restored into either. It shows
// one moment of the store, is read back and checked before it gets its name,
// and can be read by its owner alone: it holds digests, though no key and
// never the master key.
//
// It fails with ErrExists when there is a file of that name, unless overwrite
// is set; the old file stays until the new one takes its place.
func (s *Store) Backup(ctx context.Context, path string, overwrite bool) (b Backup, err error) {
	if _, err := os.Lstat(path); err == nil && !overwrite {
		return b, ErrExists
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return b, err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone when all went well
	if err := tmp.Close(); err != nil {
		return b, err
	}
	if err := s.backUp(ctx, tmp.Name()); err != nil {
		return b, err
	}
	if err := syncFile(tmp.Name()); err != nil {
		return b, err
	}
	if b, err = CheckBackup(ctx, tmp.Name()); err != nil {
		return b, fmt.Errorf("reading the backup back: %w", err)
	}
	if err := place(tmp.Name(), path, overwrite); err != nil {
		return b, err
	}
	return b, syncFile(filepath.Dir(path))
}

// place gives a finished file its name.
func place(tmp, path string, overwrite bool) error {
	if !overwrite {
		// A link, unlike a rename, never replaces a file that has come meanwhile.
		err := os.Link(tmp, path)
		if errors.Is(err, fs.ErrExist) {
			return ErrExists
		}
		if err == nil {
			return os.Remove(tmp)
		}
		// Some file systems know no links.
		if _, err := os.Lstat(path); err == nil {
			return ErrExists
		}
	}
	return os.Rename(tmp, path)
}

// backUp fills an empty file.
func (s *Store) backUp(ctx context.Context, path string) error {
	db, err := newFile(ctx, path)
	if err != nil {
		return err
	}
	facts := map[string]string{
		"format": strconv.Itoa(backupFormat), "version": keystile.Version,
		"schema": strconv.FormatInt(SchemaVersion(), 10), "source": s.dialect.name,
		// Before the snapshot: no change after this moment is promised.
		"created_at": strconv.FormatInt(time.Now().UnixMilli(), 10),
	}
	err = transaction(ctx, db, `BEGIN`, func(to *Tx, conn *sql.Conn) error {
		return s.Read(ctx, func(from *Tx) error {
			if err := from.unhurried(s.Postgres()); err != nil {
				return err
			}
			if err := from.describe(facts); err != nil {
				return err
			}
			for _, name := range kept() {
				if err := backUpTable(name, from, to, conn, facts); err != nil {
					return err
				}
			}
			return to.writeFacts(facts)
		})
	})
	return errors.Join(err, db.Close())
}

// unhurried lets a transaction be idle while another one works.
func (tx *Tx) unhurried(postgres bool) error {
	if !postgres {
		return nil
	}
	_, err := tx.exec(`SET LOCAL idle_in_transaction_session_timeout = 0`)
	return err
}

// describe notes which moment of which history a transaction sees.
func (tx *Tx) describe(facts map[string]string) error {
	head, err := tx.Head()
	if err != nil {
		return wrap("read the head of the change log", err)
	}
	h, err := tx.history()
	if err != nil {
		return err
	}
	facts["seq"], facts["epoch"] = strconv.FormatInt(head.Seq, 10), h.now()
	return nil
}

func backUpTable(name string, from, to *Tx, conn *sql.Conn, facts map[string]string) error {
	c, err := to.columnsOf(name)
	if err != nil {
		return err
	}
	in := newInserter(to, conn, c)
	var t tally
	err = from.all(c, func(r record) error {
		if err := t.add(r.values); err != nil {
			return err
		}
		return in.add(r.values)
	})
	if err := errors.Join(err, in.close()); err != nil {
		return wrap("copy "+name, err)
	}
	facts["rows."+name], facts["sha256."+name] = strconv.FormatInt(t.rows, 10), t.String()
	return nil
}

// writeFacts adds the table by which a file can be told to be a backup, and a
// whole one.
func (tx *Tx) writeFacts(facts map[string]string) error {
	if _, err := tx.exec(`CREATE TABLE backup_info (name TEXT PRIMARY KEY, value TEXT NOT NULL)`); err != nil {
		return err
	}
	facts["sha256"] = sumFacts(facts)
	for name, value := range facts {
		if _, err := tx.exec(`INSERT INTO backup_info (name, value) VALUES ($1, $2)`, name, value); err != nil {
			return err
		}
	}
	return nil
}

// sumFacts is the SHA-256 of all facts but itself.
func sumFacts(facts map[string]string) string {
	var lines []string
	for name, value := range facts {
		if name != "sha256" {
			lines = append(lines, name+"="+value+"\n")
		}
	}
	sort.Strings(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}

// CheckBackup reads a backup file to its end and tells what it holds. It
// fails with ErrNotBackup for other files, ErrDamaged when anything in it is
// not as it was written, and ErrNewerSchema when a newer version wrote it. It
// changes nothing.
func CheckBackup(ctx context.Context, path string) (b Backup, err error) {
	if b.Size, err = checkHeader(path); err != nil {
		return b, err
	}
	// Immutable: no other file is made beside it, and it may be read-only.
	db, err := openFile(path, "mode=ro&immutable=1", "query_only(1)")
	if err != nil {
		return b, err
	}
	tx := &Tx{ctx: ctx, q: db}
	if err = b.read(tx); err == nil {
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
	if err := tx.records("backup_info", func(r record) error {
		facts[r.text("name")] = r.text("value")
		return nil
	}, `SELECT name, value FROM backup_info`); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if sumFacts(facts) != facts["sha256"] {
		return fmt.Errorf("%w: its description of itself does not add up", ErrDamaged)
	}
	return b.parse(facts)
}

func (b *Backup) parse(facts map[string]string) error {
	b.Source, b.Version, b.epoch = facts["source"], facts["version"], facts["epoch"]
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
	if err := intact(tx); err != nil {
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
			err = tx.all(c, func(r record) error { return t.add(r.values) })
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
	orphan := errors.New("a row refers to one that is not there")
	if err := tx.records("", func(record) error { return orphan }, `PRAGMA foreign_key_check`); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
