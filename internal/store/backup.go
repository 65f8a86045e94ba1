package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

	tallies map[string]string
}

// Backup writes everything that must survive the loss of the store to a file,
// while other processes go on writing to the store. The file is a SQLite
// database, whatever the store is, and can be restored into either. It shows
// one moment of the store, is read back and checked before it gets its name,
// and can be read by its owner alone: it holds digests, though no key.
//
// It fails with ErrExists when there is a file of that name, unless overwrite
// is set; the old file stays until the new one takes its place.
func (s *Store) Backup(ctx context.Context, path string, overwrite bool) (b Backup, err error) {
	if _, err := os.Lstat(path); err == nil && !overwrite {
		return b, ErrExists
	}
	if err := s.ownSchema(ctx); err != nil {
		return b, err
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

// backUp writes the file.
func (s *Store) backUp(ctx context.Context, path string) error {
	facts := map[string]string{
		"format": strconv.Itoa(backupFormat), "version": keystile.Version,
		"schema": strconv.FormatInt(SchemaVersion(), 10), "source": s.dialect.name,
		// Before the snapshot: no change after this moment is promised.
		"created_at": strconv.FormatInt(time.Now().UnixMilli(), 10),
	}
	return writeFile(ctx, path, func(to *Tx, conn *sql.Conn) error {
		return s.Read(ctx, func(from *Tx) error {
			if err := from.unhurried(s.Postgres()); err != nil {
				return err
			}
			if err := from.describe(facts); err != nil {
				return err
			}
			for _, name := range kept() {
				c, err := to.columnsOf(name)
				if err != nil {
					return err
				}
				t, err := copyTable(from, to, conn, c)
				if err != nil {
					return err
				}
				facts["rows."+name], facts["sha256."+name] = strconv.FormatInt(t.rows, 10), t.String()
			}
			return to.writeFacts(facts)
		})
	})
}

// unhurried lets a transaction be idle while another one works.
func (tx *Tx) unhurried(postgres bool) error {
	if !postgres {
		return nil
	}
	_, err := tx.exec(`SET LOCAL idle_in_transaction_session_timeout = 0`)
	return err
}

// describe notes which moment of the store's history a transaction sees.
func (tx *Tx) describe(facts map[string]string) error {
	head, err := tx.Head()
	if err != nil {
		return wrap("read the head of the change log", err)
	}
	facts["seq"] = strconv.FormatInt(head.Seq, 10)
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
