package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/keystile/keystile/internal/verify"
)

// This file reads what the in-memory index needs. It serves every workspace
// at once and so takes no Scope; package cluster is its only caller.

// loadChunk is how many keys are handed over at a time while loading.
const loadChunk = 4096

// indexColumns has NULL for what most keys do not have: a text is copied on its
// way here, whatever is in it.
const indexColumns = `id, digest, workspace_id, role_id, state, expires_at, environment, NULLIF(ip_allowlist, '[]'),
	NULLIF(permissions, '[]'), NULLIF(owner, ''), NULLIF(metadata, '{}'), imported`

func scanIndexKey(r scanner) (verify.Key, error) {
	var k verify.Key
	var digest []byte
	var state, imported int64
	var allow, permissions, owner, metadata sql.NullString
	if err := r.Scan(&k.ID, &digest, &k.WorkspaceID, &k.RoleID, &state, &k.ExpiresAt, &k.Environment,
		&allow, &permissions, &owner, &metadata, &imported); err != nil {
		return k, err
	}
	k.Owner = owner.String
	if copy(k.Digest[:], digest) != len(k.Digest) {
		return k, fmt.Errorf("store: key %s has a digest of %d bytes", k.ID, len(digest))
	}
	k.Imported = imported != 0
	switch state {
	case keyActive:
		k.State = verify.StateActive
	case keyDisabled:
		k.State = verify.StateDisabled
	case keyExpired:
		k.State = verify.StateExpired
	default:
		k.State = verify.StateRevoked
	}
	if allow.Valid {
		var err error
		if k.Allow, err = prefixes(allow.String); err != nil {
			return k, fmt.Errorf("store: key %s: %w", k.ID, err)
		}
	}
	if permissions.Valid {
		if err := json.Unmarshal([]byte(permissions.String), &k.Permissions); err != nil {
			return k, fmt.Errorf("store: key %s: %w", k.ID, err)
		}
	}
	if metadata.Valid {
		if err := json.Unmarshal([]byte(metadata.String), &k.Metadata); err != nil {
			return k, fmt.Errorf("store: key %s: %w", k.ID, err)
		}
	}
	return k, nil
}

// prefixes parses a stored allowlist. A list that cannot be read is an error,
// never an empty list: that would allow everyone.
func prefixes(text string) ([]netip.Prefix, error) {
	if text == "[]" {
		return nil, nil
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out, nil
}

func scanIndexWorkspace(r scanner) (verify.Workspace, error) {
	var w verify.Workspace
	var suspended int64
	var allow string
	if err := r.Scan(&w.ID, &suspended, &allow); err != nil {
		return w, err
	}
	w.Suspended = suspended != 0
	var err error
	w.Allow, err = prefixes(allow)
	return w, err
}

func scanIndexRole(r scanner) (verify.Role, error) {
	var v verify.Role
	var permissions string
	if err := r.Scan(&v.ID, &v.Name, &v.WorkspaceID, &permissions); err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(permissions), &v.Permissions)
}

// LoadIndex hands over everything the index needs, in parts, from one
// snapshot, and returns the position in the change log that it shows. The
// head is read in the same snapshot as the rows.
func (s *Store) LoadIndex(ctx context.Context, each func(verify.Batch) error) (Head, error) {
	var head Head
	err := s.Follow(ctx, func(tx *Tx) error {
		var err error
		if head, err = tx.Head(); err != nil {
			return err
		}
		workspaces, err := queryAll(tx, scanIndexWorkspace, `SELECT id, suspended, ip_allowlist FROM workspaces`)
		if err != nil {
			return err
		}
		roles, err := queryAll(tx, scanIndexRole, `SELECT id, name, workspace_id, permissions FROM roles`)
		if err != nil {
			return err
		}
		if err := each(verify.Batch{Workspaces: workspaces, Roles: roles}); err != nil {
			return err
		}
		return tx.loadKeys(each)
	})
	return head, err
}

// loadKeys reads all keys. Each part is handed over while the next one is read.
func (tx *Tx) loadKeys(each func(verify.Batch) error) error {
	parts, ended := make(chan []verify.Key), make(chan error, 1)
	go func() {
		for part := range parts {
			if err := each(verify.Batch{Keys: part}); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	err := tx.readKeys(func(part []verify.Key) error {
		select {
		case parts <- part:
			return nil
		case err := <-ended:
			ended <- err
			return err
		}
	})
	close(parts)
	if failed := <-ended; failed != nil {
		return failed
	}
	return err
}

func (tx *Tx) readKeys(each func([]verify.Key) error) error {
	rows, err := tx.q.QueryContext(tx.ctx, `SELECT `+indexColumns+` FROM keys`)
	if err != nil {
		return classify(err)
	}
	defer rows.Close()
	part := make([]verify.Key, 0, loadChunk)
	for rows.Next() {
		k, err := scanIndexKey(rows)
		if err != nil {
			return classify(err)
		}
		if part = append(part, k); len(part) == loadChunk {
			if err := each(part); err != nil {
				return err
			}
			part = make([]verify.Key, 0, loadChunk)
		}
	}
	if err := rows.Err(); err != nil {
		return classify(err)
	}
	return each(part)
}

// CountKeys says how many keys a load will bring.
func (tx *Tx) CountKeys() (int, error) {
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM keys`)
	return int(n), err
}

// IndexChanges reads anew what the changes name. Objects that are not there
// any more are named as gone. The caller reads in one transaction with the
// changes, or later: what it gets is at least as new as they are.
func (tx *Tx) IndexChanges(changes []Change) (verify.Batch, error) {
	var b verify.Batch
	type object struct {
		kind ChangeKind
		id   string
	}
	seen := map[object]bool{}
	var keys []string
	for _, c := range changes {
		o := object{c.Kind, c.ObjectID}
		if seen[o] {
			continue
		}
		seen[o] = true
		switch c.Kind {
		case ChangeKey:
			keys = append(keys, c.ObjectID)
		case ChangeWorkspace:
			w, err := queryOne(tx, scanIndexWorkspace,
				`SELECT id, suspended, ip_allowlist FROM workspaces WHERE id = $1`, c.ObjectID)
			if errors.Is(err, ErrNotFound) {
				b.GoneWorkspaces = append(b.GoneWorkspaces, c.ObjectID)
			} else if err != nil {
				return b, err
			} else {
				b.Workspaces = append(b.Workspaces, w)
			}
		case ChangeRole:
			r, err := queryOne(tx, scanIndexRole,
				`SELECT id, name, workspace_id, permissions FROM roles WHERE id = $1`, c.ObjectID)
			if errors.Is(err, ErrNotFound) {
				b.GoneRoles = append(b.GoneRoles, c.ObjectID)
			} else if err != nil {
				return b, err
			} else {
				b.Roles = append(b.Roles, r)
			}
		}
	}
	var err error
	b.Keys, b.GoneKeys, err = tx.indexKeys(keys)
	return b, err
}

func (tx *Tx) indexKeys(ids []string) (found []verify.Key, gone []string, err error) {
	const most = 500 // parameters in one statement
	for len(ids) > 0 {
		n := min(len(ids), most)
		args := make([]any, n)
		for i, id := range ids[:n] {
			args[i] = id
		}
		keys, err := queryAll(tx, scanIndexKey,
			`SELECT `+indexColumns+` FROM keys WHERE id IN (`+placeholders(n)+`)`, args...)
		if err != nil {
			return nil, nil, err
		}
		there := make(map[string]bool, len(keys))
		for _, k := range keys {
			there[k.ID] = true
		}
		for _, id := range ids[:n] {
			if !there[id] {
				gone = append(gone, id)
			}
		}
		found = append(found, keys...)
		ids = ids[n:]
	}
	return found, gone, nil
}

// placeholders is "$1, $2, … $n".
func placeholders(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		if i > 1 {
			b.WriteString(", ")
		}
		b.WriteString("$" + itoa(i))
	}
	return b.String()
}

// Setting reads a value kept by name. ErrNotFound when there is none.
func (tx *Tx) Setting(name string) (string, error) {
	return queryOne(tx, scanString, `SELECT value FROM settings WHERE name = $1`, name)
}

// SetSetting keeps a value by name.
func (tx *Tx) SetSetting(name, value string) error {
	_, err := tx.exec(`INSERT INTO settings (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}
