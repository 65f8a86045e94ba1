package store

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/keystile/keystile"
)

func itoa(n int) string { return strconv.Itoa(n) }

const auditColumns = `a.id, a.workspace_id, a.at, a.actor_kind, a.actor_id, a.actor_name, a.action, a.object_kind,
	a.object_id, a.object_name, a.address, a.user_agent, a.request_id, a.reason, a.before, a.after`

func scanAudit(r scanner) (keystile.AuditEntry, error) {
	var e keystile.AuditEntry
	var at int64
	var before, after string
	if err := r.Scan(&e.ID, &e.WorkspaceID, &at, &e.Actor.Kind, &e.Actor.ID, &e.Actor.Name, &e.Action, &e.ObjectKind,
		&e.ObjectID, &e.ObjectName, &e.Address, &e.UserAgent, &e.RequestID, &e.Reason, &before, &after); err != nil {
		return e, err
	}
	e.At = fromMillis(at)
	if before != "{}" {
		if err := json.Unmarshal([]byte(before), &e.Before); err != nil {
			return e, err
		}
	}
	if after != "{}" {
		if err := json.Unmarshal([]byte(after), &e.After); err != nil {
			return e, err
		}
	}
	return e, nil
}

// InsertAudit adds an entry to the audit log.
func (tx *Tx) InsertAudit(e keystile.AuditEntry) error {
	before, after := "{}", "{}"
	if len(e.Before) > 0 {
		before = mustJSON(e.Before)
	}
	if len(e.After) > 0 {
		after = mustJSON(e.After)
	}
	_, err := tx.exec(`INSERT INTO audit (id, workspace_id, at, actor_kind, actor_id, actor_name, action, object_kind,
		object_id, object_name, address, user_agent, request_id, reason, before, after)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		e.ID, e.WorkspaceID, millis(e.At), e.Actor.Kind, e.Actor.ID, e.Actor.Name, e.Action, e.ObjectKind,
		e.ObjectID, e.ObjectName, e.Address, e.UserAgent, e.RequestID, e.Reason, before, after)
	return wrap("insert an audit entry", err)
}

// AuditFilter says which entries of a workspace's audit log to list.
type AuditFilter struct {
	WorkspaceID  string
	Action       string    // exact, or with a last "*" a beginning; "" for all
	Object       string    // ID, or a part of the name in any case; "" for all
	Actor        string    // ID, or a part of the name in any case, or the kind; "" for all
	Since, Until time.Time // zero for open
	First        string    // ID before which none is looked at; "" for none
	Cursor       string    // ID of the last entry of the page before
	Limit        int
	Look         int // how many entries to hold against an action or a name; 0 for all there are
}

// AuditFound is what Audit has found.
type AuditFound struct {
	Entries []keystile.AuditEntry
	// Stopped is the ID of the entry at which the search has ended, with fewer
	// than were asked for, and StoppedAt its time; "" where it saw all.
	Stopped   string
	StoppedAt time.Time
}

// Audit lists audit entries in scope, newest first.
func (tx *Tx) Audit(s Scope, f AuditFilter) (found AuditFound, err error) {
	ws, all := s.args()
	where := ` WHERE (a.workspace_id = $1 OR $2 = 1) AND a.workspace_id = $3`
	args := []any{ws, all, f.WorkspaceID, f.Limit}
	and := func(condition string, value any) {
		args = append(args, value)
		where += ` AND ` + condition + itoa(len(args))
	}
	if f.First != "" {
		and(`a.id >= $`, f.First)
	}
	// An ID is found by its index. An action and a part of a name are looked for
	// in what is left, from its end.
	who := []struct{ value, column string }{{f.Object, "object"}, {f.Actor, "actor"}}
	for _, who := range who {
		if isID(who.value) {
			and(`a.`+who.column+`_id = $`, who.value)
		}
	}
	if f.Look > 0 && (f.Action != "" || f.Object != "" && !isID(f.Object) || f.Actor != "" && !isID(f.Actor)) {
		if found, err = tx.auditLook(where, args, f); err != nil {
			return found, err
		}
		if found.Stopped != "" {
			and(`a.id >= $`, found.Stopped)
		}
	}
	if n := len(f.Action); n > 0 && f.Action[n-1] == '*' {
		pattern := like(f.Action[:n-1])
		and(`a.action LIKE $`, pattern[1:])
		where += ` ESCAPE '\'`
	} else if n > 0 {
		and(`a.action = $`, f.Action)
	}
	for _, who := range who {
		if who.value != "" && !isID(who.value) {
			args = append(args, who.value, loose(who.value))
			id, name := itoa(len(args)-1), itoa(len(args))
			where += ` AND (a.` + who.column + `_id = $` + id + ` OR LOWER(a.` + who.column + `_name) LIKE $` + name + ` ESCAPE '\'`
			if who.column == "actor" {
				where += ` OR a.actor_kind = LOWER($` + id + `)`
			}
			where += `)`
		}
	}
	if !f.Since.IsZero() {
		and(`a.at >= $`, millis(f.Since))
	}
	if !f.Until.IsZero() {
		and(`a.at < $`, millis(f.Until))
	}
	found.Entries, err = tx.auditPages(where, args, f)
	if len(found.Entries) >= f.Limit {
		found.Stopped, found.StoppedAt = "", time.Time{}
	}
	return found, err
}

// auditLook finds the last of the entries that a search may look at, if there
// are more behind it.
func (tx *Tx) auditLook(where string, args []any, f AuditFilter) (found AuditFound, err error) {
	args = append(slices.Clone(args), f.Look-1)
	args[3] = 2
	where += ` ORDER BY a.id DESC LIMIT $4 OFFSET $` + itoa(len(args))
	if f.Cursor != "" {
		args = append(args, f.Cursor)
		where = strings.Replace(where, ` ORDER BY`, ` AND a.id < $`+itoa(len(args))+` ORDER BY`, 1)
	}
	last, err := queryAll(tx, func(r scanner) (e AuditFound, err error) {
		var at int64
		err = r.Scan(&e.Stopped, &at)
		e.StoppedAt = fromMillis(at)
		return e, err
	}, `SELECT a.id, a.at FROM audit a`+where, args...)
	if err != nil || len(last) < 2 {
		return found, err
	}
	return last[0], nil
}

// auditPages reads the entries that a condition names, and of those the ones
// that fit the filter, until there are as many as were asked for.
func (tx *Tx) auditPages(where string, args []any, f AuditFilter) (out []keystile.AuditEntry, err error) {
	size := f.Limit
	if !ascii(f.Object + f.Actor) {
		size = max(size, 500) // many may not fit
	}
	args[3] = size
	for cursor := f.Cursor; ; {
		page, args := where, args
		if cursor != "" {
			args = append(args[:len(args):len(args)], cursor)
			page += ` AND a.id < $` + itoa(len(args))
		}
		rows, err := queryAll(tx, scanAudit, `SELECT `+auditColumns+` FROM audit a`+page+` ORDER BY a.id DESC LIMIT $4`, args...)
		if err != nil {
			return nil, err
		}
		for _, e := range rows {
			if f.fits(e) && len(out) < f.Limit {
				out = append(out, e)
			}
		}
		if len(rows) < size || len(out) >= f.Limit {
			return out, nil
		}
		cursor = rows[len(rows)-1].ID
	}
}

// fits holds an entry against what the database could only guess: the
// databases disagree on the case of letters beyond ASCII.
func (f AuditFilter) fits(e keystile.AuditEntry) bool {
	has := func(value, id, name string) bool {
		return value == "" || value == id || strings.Contains(fold(name), fold(value))
	}
	return has(f.Object, e.ObjectID, e.ObjectName) && (has(f.Actor, e.Actor.ID, e.Actor.Name) || strings.EqualFold(f.Actor, e.Actor.Kind))
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// loose makes a pattern that fits every text that fold would find a query in,
// and perhaps a few more: any letter may stand for one beyond ASCII.
func loose(query string) string {
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '%'
		}
		return r
	}, like(query))
}

// isID tells whether a text has the form of the IDs that are made here.
func isID(s string) bool {
	kind, rest, ok := strings.Cut(s, "_")
	return ok && kind != "" && len(rest) == 26 && !strings.ContainsAny(rest, " _")
}
