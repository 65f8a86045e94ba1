package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
	"github.com/keystile/keystile/internal/verify"
)

// restore closes a store, restores a backup into it and opens it again.
func (f *fixture) restore(t testing.TB, path string) store.Restored {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := store.Restore(t.Context(), f.options, path, restored())
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	f.Store = open(t, f.options)
	return r
}

func restored() keystile.AuditEntry {
	return keystile.AuditEntry{
		ID: id("aud_", int(time.Now().UnixNano())), WorkspaceID: acme, At: noon, Actor: keystile.Party{Kind: "operator", Name: "ops"},
		Action: "store.restored", ObjectKind: "store",
	}
}

// contents is every row of the tables that a backup holds, without those that
// a restore writes itself.
func (f *fixture) contents(t testing.TB) []string {
	t.Helper()
	return slices.DeleteFunc(f.dump(t), func(row string) bool {
		table, _, _ := strings.Cut(row, " ")
		return slices.Contains(forgotten(), table) || table == "goose_db_version" ||
			strings.HasPrefix(row, "settings [history") || strings.Contains(row, "store.restored")
	})
}

// TestRestoreAll restores every table of either database into either, and
// ends everything that must not outlive the store it was made in.
func TestRestoreAll(t *testing.T) {
	t.Parallel()
	for _, from := range databases() {
		for _, to := range databases() {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				t.Parallel()
				source, target := from.make(t), to.make(t)
				fill(t, source)
				want := source.contents(t)
				path, b := backup(t, source.Store)
				for table, rows := range b.Rows {
					if rows == 0 {
						t.Errorf("the test has no row in %s", table)
					}
				}
				// What is in the target goes, but its audit log.
				write(t, target.Store, func(tx *store.Tx) error {
					return errors.Join(tx.InsertWorkspace(workspace("ws_former")), tx.InsertLink(store.Link{
						Digest: digest(7), WorkspaceID: "ws_former", Purpose: "operator", CreatedAt: noon, ExpiresAt: noon,
					}), tx.LogChange(store.ChangeWorkspace, "ws_former"))
				})
				before := get(t, target.Store, (*store.Tx).Head)
				r := target.restore(t, path)
				if r.Complete || r.Unread != "" || r.ActiveKeys != 2 || len(r.LookAt) != 2 || (r.Former != "") != !target.Postgres() {
					t.Errorf("restored %+v", r)
				}
				got := target.contents(t)
				// A restore can't tell what replicas were attached, so that the next
				// server waits for them.
				at := slices.Index(got, "settings [replicas_attached 1]")
				if at < 0 {
					t.Error("the restored store does not say that replicas may be there")
				} else {
					got = slices.Delete(got, at, at+1)
				}
				if to.name != from.name { // the two databases' drivers show bytes and numbers alike
					slices.Sort(got)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%d rows, want %d; the first that differ: %v", len(got), len(want), difference(got, want))
				}
				after := get(t, target.Store, (*store.Tx).Head)
				if after.Seq <= before.Seq || after.Seq <= b.Seq || after.Token == before.Token {
					t.Errorf("the change log goes on at %+v after %+v; the backup had come to %d", after, before, b.Seq)
				}
				db := target.raw(t)
				for _, table := range []string{"links", "sessions", "idempotency", "nodes"} {
					if n := number(t, db, `SELECT COUNT(*) FROM `+table); n != 0 {
						t.Errorf("%d rows in %s", n, table)
					}
				}
				if n := number(t, db, `SELECT COUNT(*) FROM audit WHERE action = 'store.restored'`); n != 1 {
					t.Errorf("%d audit entries tell of the restore", n)
				}
				// It is a store like any other.
				addKeysOnly(t, target.Store, 50)
			})
		}
	}
}

func difference(a, b []string) (lines []string) {
	for _, pair := range [][2][]string{{a, b}, {b, a}} {
		for _, line := range pair[0] {
			if !slices.Contains(pair[1], line) && len(lines) < 4 {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// fill puts at least one row into every table.
func fill(t testing.TB, f *fixture) {
	t.Helper()
	addKeys(t, f.Store, 1, 2)
	write(t, f.Store, func(tx *store.Tx) error {
		return errors.Join(
			tx.InsertRole(role(acme, 1)), addMember(tx, member(acme, 1)), tx.InsertAudit(auditEntry(acme, 1)),
			tx.InsertEvent(store.Event{ID: id("evt_", 1), WorkspaceID: acme, Type: "key.created", At: noon, Data: "Grüße\n\"'"}),
			tx.AddUses(append(uses(1), uses(2)...)), tx.NoteUses(uses(1)),
			tx.InsertLink(store.Link{Digest: digest(1), WorkspaceID: acme, Purpose: "operator", CreatedAt: noon, ExpiresAt: noon}),
			tx.InsertSession(store.Session{Digest: digest(1), ID: id("ses_", 1), Kind: "link", CreatedAt: noon, FreshAt: noon, ExpiresAt: noon}),
			tx.InsertPasskey(passkey(1)),
			tx.LogChange(store.ChangeKey, keyID(1)), tx.SetSetting("profile", "product: Test"),
			tx.InsertAlert(alert(acme, 1)), tx.AddFailures([]store.Failure{failure(acme, 1)}),
			tx.QueueMails(alert(acme, 1), []string{member(acme, 1).RoleID}, noon, noon, 9),
		)
	})
	db := f.raw(t)
	for _, s := range secrets() {
		if _, err := db.ExecContext(t.Context(), s, []byte{0, 1, 255}); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		`INSERT INTO webhook_secret_use (webhook_secret_id, signed_at) VALUES ('whs_1', 5)`,
		`INSERT INTO endpoints (id, workspace_id, url, event_types, state, created_at, updated_at) VALUES ('ep_1', 'ws_acme', 'https://example.org', '[]', 0, 1, 1)`,
		`INSERT INTO deliveries (id, workspace_id, event_id, endpoint_id, state, created_at, updated_at) VALUES ('del_1', 'ws_acme', 'evt_1', 'ep_1', 0, 1, 1)`,
		`INSERT INTO attempts (delivery_id, number, at, took, status, address, error, body) VALUES ('del_1', 1, 1, 1, 500, '', '', 'no')`,
		`INSERT INTO idempotency (scope, request, response, created_at) SELECT digest, digest, '{}', 1 FROM links`,
		`INSERT INTO nodes (id, name, version, renewals, applied, applied_token, stale_for, started_at) SELECT 'n', 'n', '1', 1, seq, token, 0, 1 FROM changes WHERE seq = 1`,
	} {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// passkey is one of the person who is the first member.
func passkey(n int) store.Passkey {
	return store.Passkey{
		ID: id("pk_", n), CredentialID: []byte{0, byte(n), 255}, PersonID: member(acme, 1).Person.ID,
		Name: "Laptop", Credential: "{}", CreatedAt: noon,
	}
}

// secrets insert two webhook secrets of acme.
func secrets() (statements []string) {
	for n := 1; n <= 2; n++ {
		statements = append(statements, fmt.Sprintf(`INSERT INTO webhook_secrets (id, workspace_id, label, algorithm, preview, state,
			master_key, sealed, created_at, creator_kind, creator_id, creator_name, updated_at)
			VALUES ('whs_%d', 'ws_acme', 'l', 'a', 'p', 0, 'm', $1, 1, 'k', 'i', 'n', 1)`, n))
	}
	return statements
}

// TestRestoreCarries takes something away after the backup, in every way there
// is, and restores the backup: it stays away. What was done to give more does
// not come back, and neither does what was made.
func TestRestoreCarries(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addKeys(t, f.Store, 1, 2, 3, 4, 5, 6, 7, 8, 9)
			writer, former := role(acme, 1), role(acme, 2)
			write(t, f.Store, func(tx *store.Tx) error {
				return errors.Join(tx.InsertKey(key(other, 20)), tx.InsertRole(writer), tx.InsertRole(former), tx.InsertWorkspace(workspace("ws_gone")),
					tx.InsertKey(key("ws_gone", 21)), addMember(tx, member(acme, 1)), addMember(tx, member(acme, 2)),
					tx.InsertPasskey(passkey(1)), tx.InsertPasskey(passkey(2)),
					tx.AddUses(uses(5)), tx.LogChange(store.ChangeNoop, ""))
			})
			for _, s := range secrets() {
				if _, err := f.raw(t).ExecContext(t.Context(), s, []byte{1}); err != nil {
					t.Fatal(err)
				}
			}
			path, _ := backup(t, f.Store)

			later := noon.Add(time.Hour)
			change(t, f.Store, 1, func(k *store.Key) {
				k.Status, k.RevokedAt, k.RevokedReason, k.RevokedBy = keystile.StatusRevoked, at(later), "exposed", &keystile.Party{Kind: "key"}
			})
			change(t, f.Store, 2, func(k *store.Key) { k.Status, k.DisabledAt = keystile.StatusDisabled, at(later) })
			change(t, f.Store, 3, func(k *store.Key) { k.Status, k.ExpiresAt = keystile.StatusExpired, at(later) })
			change(t, f.Store, 4, func(k *store.Key) { k.ExpiresAt, k.FormerEnd, k.ReplacedBy = at(later), later.UnixMilli()+5, keyID(40) })
			change(t, f.Store, 6, func(k *store.Key) {
				k.RoleID, k.Permissions, k.IPAllowlist = "role_reader", keystile.Permissions{"stock.read"}, []string{"192.0.2.0/24"}
			})
			change(t, f.Store, 7, func(k *store.Key) { k.Name = "another name" })
			write(t, f.Store, func(tx *store.Tx) error {
				writer.Permissions, writer.UpdatedAt = keystile.Permissions{"stock.count"}, at(later)
				suspended := workspace(other)
				suspended.Suspended, suspended.SuspendedReason, suspended.UpdatedAt = true, "unpaid", later
				same := role(acme, 3) // takes the name of one that is deleted
				same.Name = former.Name
				_, gone := tx.DeleteWorkspace(all(), "ws_gone")
				return errors.Join(tx.DeleteKey(all(), keyID(5)), tx.InsertKey(key(acme, 40)), tx.UpdateRole(all(), writer),
					tx.DeleteRole(all(), former.ID), tx.InsertRole(same), tx.UpdateWorkspace(all(), suspended), gone,
					tx.UpdateMemberRole(all(), id("mem_", 1), "role_viewer"), tx.DeleteMember(all(), id("mem_", 2)),
					tx.DeletePasskey(passkey(1).PersonID, passkey(1).ID), tx.InsertPasskey(passkey(3)),
					tx.UpdatePasskey(passkey(2).ID, "used", later),
					tx.InsertAudit(auditEntry(acme, 5)), tx.LogChange(store.ChangeNoop, ""))
			})
			if _, err := f.raw(t).ExecContext(t.Context(), `UPDATE webhook_secrets SET state = 2, revoked_at = 9 WHERE id = 'whs_1'`); err != nil {
				t.Fatal(err)
			}

			for _, round := range []string{"the first time", "the second time"} {
				r := f.restore(t, path)
				if !r.Complete || len(r.LookAt) != 0 || r.Carried == nil || r.Carried.Keys != 5 || r.Carried.Deleted != 6 ||
					r.Carried.Workspaces != 1 || r.Carried.WebhookSecrets != 1 || r.Carried.Audit < 1 {
					t.Errorf("%s: complete %t, look at %v, carried %+v", round, r.Complete, r.LookAt, r.Carried)
				}
				checkCarried(t, f, later)
			}
		})
	}
}

func checkCarried(t *testing.T, f *fixture, later time.Time) {
	t.Helper()
	keys := map[string]store.Key{}
	for _, ws := range []string{acme, other, "ws_gone"} {
		for _, k := range get(t, f.Store, func(tx *store.Tx) ([]store.Key, error) {
			return tx.Keys(all(), store.KeyFilter{WorkspaceID: ws, Limit: 100, Now: noon})
		}) {
			keys[k.ID] = k
		}
	}
	one, two, three, four, six := keys[keyID(1)], keys[keyID(2)], keys[keyID(3)], keys[keyID(4)], keys[keyID(6)]
	for what, ok := range map[string]bool{
		"revoked, with its reason":    one.Status == keystile.StatusRevoked && one.RevokedReason == "exposed" && one.RevokedBy != nil,
		"disabled":                    two.Status == keystile.StatusDisabled && two.DisabledAt != nil,
		"expired":                     three.Status == keystile.StatusExpired,
		"rotated":                     four.Status == keystile.StatusActive && four.ExpiresAt != nil && four.ExpiresAt.Equal(later) && four.FormerEnd == later.UnixMilli()+5 && four.ReplacedBy == "",
		"narrowed":                    six.RoleID == "role_reader" && len(six.Permissions) == 1 && len(six.IPAllowlist) == 1,
		"named as in the backup":      keys[keyID(7)].Name == "key 7",
		"as it was":                   keys[keyID(8)].Status == keystile.StatusActive && keys[keyID(8)].ExpiresAt == nil,
		"of a suspended workspace":    keys[keyID(20)].Status == keystile.StatusActive,
		"all that there are and were": len(keys) == 9,
	} {
		if !ok {
			t.Errorf("the key that is %s: %+v", what, keys)
		}
	}
	db := f.raw(t)
	for query, want := range map[string]int64{
		`SELECT COUNT(*) FROM key_use WHERE key_id = '` + keyID(5) + `'`:                                             0,
		`SELECT COUNT(*) FROM usage WHERE key_id = '` + keyID(5) + `'`:                                               0,
		`SELECT COUNT(*) FROM usage_sums WHERE key_id = '` + keyID(5) + `'`:                                          0,
		`SELECT COALESCE((SELECT SUM(count) FROM workspace_usage), 0) - COALESCE((SELECT SUM(count) FROM usage), 0)`: 0,
		`SELECT COUNT(*) FROM workspaces WHERE id = 'ws_gone'`:                                                       0,
		`SELECT COUNT(*) FROM workspaces WHERE id = 'ws_other' AND suspended = 1 AND suspended_reason = 'unpaid'`:    1,
		`SELECT COUNT(*) FROM roles WHERE id = '` + id("role_", 1) + `' AND permissions = '["stock.count"]'`:         1,
		`SELECT COUNT(*) FROM roles`:                                            2,
		`SELECT COUNT(*) FROM roles WHERE id = '` + id("role_", 3) + `'`:        1,
		`SELECT COUNT(*) FROM members`:                                          1,
		`SELECT COUNT(*) FROM passkeys`:                                         2,
		`SELECT COUNT(*) FROM passkeys WHERE id = '` + passkey(1).ID + `'`:      0,
		`SELECT COUNT(*) FROM passkeys WHERE id = '` + passkey(3).ID + `'`:      1,
		`SELECT COUNT(*) FROM passkeys WHERE credential = 'used'`:               1,
		`SELECT COUNT(*) FROM members WHERE role_id = 'role_viewer'`:            1,
		`SELECT COUNT(*) FROM webhook_secrets WHERE id = 'whs_1' AND state = 2`: 1,
		`SELECT COUNT(*) FROM webhook_secrets WHERE id = 'whs_2' AND state = 0`: 1,
		`SELECT COUNT(*) FROM audit WHERE id = '` + id("aud_", 5) + `'`:         1,
	} {
		if got := number(t, db, query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
}

func uses(n int) []verify.Use { return []verify.Use{use(n, keystile.CodeValid, noon)} }

// change updates a key of acme.
func change(t testing.TB, s *store.Store, n int, fn func(k *store.Key)) {
	t.Helper()
	write(t, s, func(tx *store.Tx) error {
		k, err := tx.Key(all(), keyID(n))
		if err != nil {
			return err
		}
		fn(&k)
		k.UpdatedAt = noon.Add(time.Hour)
		return errors.Join(tx.UpdateKey(all(), k), tx.LogChange(store.ChangeKey, k.ID))
	})
}

// TestRestoreOfOtherLine restores a backup that is newer than what the store
// has come from. A row that is not there was not deleted, then, unless the
// audit log says so; the stricter state counts all the same, and the rights of
// the row that was changed last.
func TestRestoreOfOtherLine(t *testing.T) {
	t.Parallel()
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addKeys(t, f.Store, 1, 2, 3, 4)
			write(t, f.Store, func(tx *store.Tx) error {
				return errors.Join(tx.InsertWorkspace(workspace("ws_gone")), tx.InsertKey(key("ws_gone", 21)), tx.InsertRole(role(acme, 1)), tx.LogChange(store.ChangeNoop, ""))
			})
			early, _ := backup(t, f.Store)
			addKeysOnly(t, f.Store, 5)
			change(t, f.Store, 3, func(k *store.Key) { k.RoleID = "role_reader" })
			write(t, f.Store, func(tx *store.Tx) error {
				narrow := role(acme, 1)
				narrow.Permissions, narrow.UpdatedAt = keystile.Permissions{"stock.count"}, at(noon.Add(time.Hour))
				return errors.Join(tx.UpdateRole(all(), narrow), tx.LogChange(store.ChangeNoop, ""))
			})
			late, _ := backup(t, f.Store)

			fresh := d.make(t) // nothing to carry over
			fresh.restore(t, early)
			change(t, fresh.Store, 1, func(k *store.Key) { k.Status, k.RevokedAt = keystile.StatusRevoked, at(noon) })
			write(t, fresh.Store, func(tx *store.Tx) error {
				deleted, dropped := auditEntry(acme, 6), auditEntry("ws_gone", 7)
				deleted.Action, deleted.ObjectID = "key.deleted", keyID(2)
				dropped.Action, dropped.ObjectID = "workspace.deleted", "ws_gone"
				_, gone := tx.DeleteWorkspace(all(), "ws_gone")
				return errors.Join(tx.InsertAudit(deleted), tx.InsertAudit(dropped), tx.DeleteKey(all(), keyID(2)), gone, tx.LogChange(store.ChangeNoop, ""))
			})
			r := fresh.restore(t, late)
			if r.Complete || r.Carried == nil || r.Carried.Deleted != 2 {
				t.Errorf("restored %+v, carried %+v", r, r.Carried)
			}
			db := fresh.raw(t)
			for n, want := range map[int]string{1: "2 role_writer", 3: "0 role_reader", 4: "0 role_writer", 5: "0 role_writer"} {
				got := texts(t, db, `SELECT CAST(state AS TEXT) || ' ' || role_id FROM keys WHERE id = '`+keyID(n)+`'`)
				if !slices.Equal(got, []string{want}) {
					t.Errorf("key %d is %v, want %s", n, got, want)
				}
			}
			if n := number(t, db, `SELECT COUNT(*) FROM keys`); n != 4 {
				t.Errorf("%d keys, want 4: one was deleted, one went with its workspace", n)
			}
			if got := texts(t, db, `SELECT permissions FROM roles`); !slices.Equal(got, []string{`["stock.count"]`}) {
				t.Errorf("the role permits %v, want what the newer row says", got)
			}
		})
	}
}

// TestRestoreOverRuins restores where the database that is there cannot be
// opened any more, and says what it could not take over.
func TestRestoreOverRuins(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ruin     func(t *testing.T, path string)
		readable bool
	}{
		"newer schema": {func(t *testing.T, path string) {
			edit(t, path, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`, `ALTER TABLE keys ADD COLUMN later TEXT`)
		}, true},
		"no database": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		"another program's": {func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			edit(t, path, `CREATE TABLE notes (text TEXT)`, `CREATE TABLE goose_db_version (version_id INTEGER, is_applied INTEGER, id INTEGER, tstamp TEXT)`,
				`INSERT INTO goose_db_version VALUES (9999, 1, 1, '')`)
		}, false},
		"damaged": {func(t *testing.T, path string) {
			file, err := os.OpenFile(path, os.O_RDWR, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			_, err = file.WriteAt(bytesOf(0xa5, 60_000), 4096)
			if err := errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, store.Options{Dir: t.TempDir()})
			addKeys(t, f.Store, 1, 2)
			path, _ := backup(t, f.Store)
			change(t, f.Store, 1, func(k *store.Key) { k.Status, k.RevokedAt = keystile.StatusRevoked, at(noon) })
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(f.options.Dir, "keystile.db")
			c.ruin(t, file)
			ruin, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r := f.restore(t, path)
			if c.readable != (r.Unread == "") || c.readable != r.Complete || c.readable != (r.Carried != nil) {
				t.Errorf("restored %+v", r)
			}
			active := int64(2)
			if c.readable {
				active = 1
			}
			if r.ActiveKeys != active || (!c.readable && len(r.LookAt) != 2) {
				t.Errorf("%d active keys, want %d; to look at: %v", r.ActiveKeys, active, r.LookAt)
			}
			if n := number(t, f.raw(t), `SELECT COUNT(*) FROM keys WHERE state = 0`); n != active {
				t.Errorf("%d active keys in the store, want %d", n, active)
			}
			if aside, err := os.ReadFile(r.Former); err != nil || len(aside) != len(ruin) {
				t.Errorf("what was there is not kept: %d bytes of %d, %v", len(aside), len(ruin), err)
			}
		})
	}
}

func bytesOf(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

// TestRestoreRefused leaves a store as it is that is in use or of a newer version.
func TestRestoreRefused(t *testing.T) {
	t.Parallel()
	source := newFixture(t, store.Options{Dir: t.TempDir()})
	addKeys(t, source.Store, 1)
	path, _ := backup(t, source.Store)
	for _, d := range databases() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := d.make(t)
			addKeys(t, f.Store, 8, 9)
			before := f.dump(t)
			attempt := func(what string, want error) {
				t.Helper()
				_, err := store.Restore(t.Context(), f.options, path, restored())
				wantErr(t, what, err, want)
			}
			if !f.Postgres() {
				attempt("restore beside another program", store.ErrHeld)
				if after := f.dump(t); !slices.Equal(before, after) {
					t.Errorf("a refused restore changed %v", difference(before, after))
				}
				return
			}
			if _, err := f.raw(t).ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`); err != nil {
				t.Fatal(err)
			}
			before = f.dump(t)
			attempt("restore into a newer schema", store.ErrNewerSchema)
			if after := f.dump(t); !slices.Equal(before, after) {
				t.Errorf("a refused restore changed %v", difference(before, after))
			}
		})
	}
}

// BenchmarkBackup and BenchmarkRestore take a store with 100 000 keys, each with
// an audit entry and a last use. A restore finds such a store in its place.
func BenchmarkBackup(b *testing.B) {
	path := manyKeys(b)
	for _, d := range databases() {
		b.Run(d.name, func(b *testing.B) {
			f := d.make(b)
			f.restore(b, path)
			to := filepath.Join(b.TempDir(), "backup.db")
			for b.Loop() {
				made, err := f.Backup(b.Context(), to, true)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(made.Size)
			}
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	path := manyKeys(b)
	for _, d := range databases() {
		b.Run(d.name, func(b *testing.B) {
			f := d.make(b)
			f.restore(b, path)
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				r, err := store.Restore(b.Context(), f.options, path, restored())
				if err != nil || !r.Complete {
					b.Fatal(r.Complete, err)
				}
				b.SetBytes(r.Backup.Size)
				if err := os.Remove(r.Former); r.Former != "" && err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// manyKeys makes a backup with 100 000 keys.
func manyKeys(b *testing.B) string {
	b.Helper()
	f := newFixture(b, store.Options{Dir: b.TempDir()})
	addWorkspaces(b, f.Store)
	for _, s := range []string{
		`INSERT INTO keys (id, workspace_id, digest, name, preview, state, role_id, search, created_at, creator_kind, creator_id, creator_name, updated_at)
			SELECT printf('key_%026d', i), 'ws_acme', randomblob(32), 'Billing ' || i, 'ks_…', 0, 'role_writer', 'billing ' || i, 1, 'operator', '', 'ops', 1 FROM n`,
		`INSERT INTO audit (id, workspace_id, at, actor_kind, actor_id, actor_name, action, object_kind, object_id, object_name, address, user_agent, request_id, reason, before, after)
			SELECT printf('aud_%026d', i), 'ws_acme', i, 'operator', '', 'ops', 'key.created', 'key', printf('key_%026d', i), 'Billing', '192.0.2.1', 'curl', 'req', '', '{}', '{"name":"Billing"}' FROM n`,
		`INSERT INTO key_use (key_id, at, address, user_agent) SELECT printf('key_%026d', i), i, '192.0.2.1', 'curl' FROM n`,
	} {
		if _, err := f.raw(b).ExecContext(b.Context(), `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) `+s); err != nil {
			b.Fatal(err)
		}
	}
	path, _ := backup(b, f.Store)
	return path
}
