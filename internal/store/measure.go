package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// This file is for package bench: stores with many keys that nobody holds, and
// the least that what Keystile does with a database can cost.

// fillChunk is how many keys are made in one transaction.
const fillChunk = 20_000

// FillKeys makes n active keys without secrets in a workspace, and tells after
// each step how many there are. No index hears of them before it is loaded.
func (s *Store) FillKeys(ctx context.Context, workspaceID, roleID string, n int, tell func(int)) error {
	// An ID is 26 digits, of which the last has its lower bits free. Each row is
	// the last one in every index: ten million digests in no order would take an
	// hour, and the index in memory scatters them anyway.
	row, from := `'key_' || lower(printf('%012x', n) || substr(hex(randomblob(7)), 1, 13)) || '0', CAST(printf('%016d%016d', n, n) AS BLOB)`,
		`WITH RECURSIVE s(n) AS (VALUES ($1) UNION ALL SELECT n + 1 FROM s WHERE n < $2) SELECT %s FROM s`
	if s.Postgres() {
		row = `'key_' || lpad(to_hex(n), 12, '0') || substr(md5(n::text || random()), 1, 13) || '0', decode(repeat(lpad(to_hex(n), 32, '0'), 2), 'hex')`
		from = `SELECT %s FROM generate_series($1::bigint, $2::bigint) n`
	}
	values := fmt.Sprintf(from, row+`, $3, $4, 'Service', 'gw_••••', 0, 'service', 'live', 1, 'system', '', 'bench', 1, -1`)
	for done := 0; done < n; {
		next := min(done+fillChunk, n)
		if _, err := s.Write(ctx, func(tx *Tx) error {
			_, err := tx.exec(`INSERT INTO keys (id, digest, workspace_id, role_id, name, preview, state, search, environment,
				created_at, creator_kind, creator_id, creator_name, updated_at, look_at) `+values, done+1, next, workspaceID, roleID)
			return err
		}); err != nil {
			return err
		}
		done = next
		tell(done)
	}
	return nil
}

// ScanKeys reads what the index needs of every key and throws it away. It
// returns how many there are.
func (s *Store) ScanKeys(ctx context.Context) (n int, err error) {
	err = s.Follow(ctx, func(tx *Tx) error {
		rows, err := tx.q.QueryContext(ctx, `SELECT id, digest, workspace_id, role_id, state, expires_at, environment,
			ip_allowlist, permissions, owner, metadata, imported FROM keys`)
		if err != nil {
			return classify(err)
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			return classify(err)
		}
		into := make([]any, len(names))
		for i := range into {
			into[i] = new(sql.RawBytes)
		}
		for n = 0; rows.Next(); n++ {
			if err := rows.Scan(into...); err != nil {
				return classify(err)
			}
		}
		return classify(rows.Err())
	})
	return n, err
}

// BareTransactions makes a SQLite database in a directory and adds rows of the
// size of a key to it for a while, each in a transaction that is durable before
// the next begins. It returns how many there were a second.
func BareTransactions(ctx context.Context, dir string, during time.Duration) (perSecond float64, err error) {
	db, err := sql.Open("sqlite", sqliteURL(filepath.Join(dir, "bare.db"), false))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `CREATE TABLE bare (id TEXT PRIMARY KEY, text TEXT NOT NULL)`); err != nil {
		return 0, err
	}
	text := strings.Repeat("x", 300)
	n, began := 0, time.Now()
	for ; time.Since(began) < during; n++ {
		if _, err := db.ExecContext(ctx, `INSERT INTO bare (id, text) VALUES ($1, $2)`, fmt.Sprintf("%026d", n), text); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// ScratchDatabase makes a database of its own on the PostgreSQL server that a
// URL names, whose user must be allowed to. Drop removes it, whoever is in it.
func ScratchDatabase(ctx context.Context, server string) (own string, drop func(context.Context) error, err error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", nil, fmt.Errorf("%w: what was given is no URL such as postgres://keystile@db.example.com/keystile", ErrUnavailable)
	}
	name := "keystile_bench_" + strings.ToLower(rand.Text())
	if err := execPostgres(ctx, server, `CREATE DATABASE `+name); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func(ctx context.Context) error {
		return execPostgres(ctx, server, `DROP DATABASE `+name+` WITH (FORCE)`)
	}, nil
}

func execPostgres(ctx context.Context, server, statement string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return unreachable(err)
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
