package dashboard

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// auditPageSize keeps a page of entries with all their changes small.
const auditPageSize = 25

// auditNameDays is how many days back a name is looked for where no first day
// is named. Looking for one reads each entry, and the log of years is long.
const auditNameDays = 90

// isName tells whether who or what is asked for is no ID, which would be found
// at once.
func isName(s string) bool {
	kind, rest, ok := strings.Cut(s, "_")
	return s != "" && (!ok || kind == "" || len(rest) != 26 || strings.ContainsAny(rest, " _"))
}

// auditFilter is what the reader asks for, as typed.
type auditFilter struct {
	Action, Actor, Object string
	Since, Until          string // days (UTC), both included
}

// auditPage is a part of the audit log.
type auditPage struct {
	Filter  auditFilter
	Actions []actionGroup // that are offered
	Entries []auditRow
	Next    string // address of the next page; "" on the last
	Export  string // address of the export, without its format
	Problem *keystile.Error
	Bounded bool // the first day was not asked for
	// Searched is how far back the search has looked, and Looked at how many
	// entries, where it ended before the page was full; zero where it saw all.
	Searched time.Time
	Looked   int
}

// auditRow is an entry as people read it.
type auditRow struct {
	keystile.AuditEntry

	Title    string // of the action
	Who      string // name of who did it
	ByActor  string // addresses of the log of the same actor
	ByObject string // and of the same object
	Changes  []fieldChange
}

// fieldChange is what a change did to one field.
type fieldChange struct {
	Name, Before, After string
}

// auditFilter reads the filter of the address.
func (v *visit) auditFilter() (auditFilter, keyring.AuditQuery, error) {
	q := v.r.URL.Query()
	f := auditFilter{Action: q.Get("action"), Actor: q.Get("actor"), Object: q.Get("object"), Since: q.Get("since"), Until: q.Get("until")}
	query := keyring.AuditQuery{Action: f.Action, Actor: f.Actor, Object: f.Object}
	for _, d := range []struct {
		text string
		days int
		into **time.Time
	}{{f.Since, 0, &query.Since}, {f.Until, 1, &query.Until}} {
		if d.text == "" {
			continue
		}
		day, err := time.Parse(time.DateOnly, d.text)
		if err != nil {
			return f, query, keystile.NewError(keystile.CodeInvalidField, "A day is written like 2026-11-21.", "Correct the day.")
		}
		day = day.AddDate(0, 0, d.days)
		*d.into = &day
	}
	return f, query, nil
}

// address is that of a page with this filter.
func (f auditFilter) address(path, cursor string) string {
	q := url.Values{}
	for _, p := range []struct{ name, value string }{
		{"action", f.Action}, {"actor", f.Actor}, {"object", f.Object}, {"since", f.Since}, {"until", f.Until}, {"cursor", cursor},
	} {
		if p.value != "" {
			q.Set(p.name, p.value)
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

func (v *visit) showAudit() error {
	path := v.base() + "/audit"
	f, query, err := v.auditFilter()
	bounded := false
	if err == nil && query.Since == nil && (isName(f.Actor) || isName(f.Object)) {
		until := time.Now()
		if query.Until != nil {
			until = *query.Until
		}
		day := until.UTC().AddDate(0, 0, -auditNameDays).Truncate(day)
		bounded, f.Since, query.Since = true, day.Format(time.DateOnly), &day
	}
	var list keystile.AuditList
	if err == nil {
		query.Cursor, query.Limit = v.r.URL.Query().Get("cursor"), auditPageSize
		list, err = v.keyring().Audit(v.r.Context(), v.actor, v.workspace.ID, query)
	}
	page := auditPage{Filter: f, Actions: actionGroups(f.Action), Export: f.address(path+"/export", ""), Bounded: bounded}
	if page.Problem = v.correctable(err); page.Problem == nil && err != nil {
		return err
	}
	if list.NextCursor != "" {
		page.Next = f.address(path, list.NextCursor)
	}
	if list.SearchedUntil != nil {
		page.Searched, page.Looked = *list.SearchedUntil, keyring.MaxLooked
	}
	for _, e := range list.Data {
		row := auditRow{AuditEntry: e, Title: actionTitle(e.Action), Who: partyName(e.Actor), Changes: changes(e)}
		row.ByActor = auditFilter{Actor: cmp.Or(e.Actor.ID, e.Actor.Name)}.address(path, "")
		row.ByObject = auditFilter{Object: cmp.Or(e.ObjectID, e.ObjectName)}.address(path, "")
		page.Entries = append(page.Entries, row)
	}
	v.show(statusOf(page.Problem), "audit", v.door.Profile.Word("audit_title"), page)
	return nil
}

// changes lists what an entry says of fields. What both states would say in
// the same words, or neither says, is left out.
func changes(e keystile.AuditEntry) (out []fieldChange) {
	names := maps.Clone(e.Before)
	if names == nil {
		names = map[string]any{}
	}
	maps.Copy(names, e.After)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c := fieldChange{strings.ReplaceAll(name, "_", " "), readable(e.Before[name]), readable(e.After[name])}
		if c.Before != c.After {
			out = append(out, c)
		}
	}
	return out
}

// maxShown bounds how much of one value the page shows, in bytes. The export
// has it all.
const maxShown = 160

// readable is a value as people read it.
func readable(value any) string {
	s := ""
	switch x := value.(type) {
	case nil:
	case string:
		s = x
	case bool:
		s = "no"
		if x {
			s = "yes"
		}
	case []any:
		parts := make([]string, len(x))
		for i, part := range x {
			parts[i] = readable(part)
		}
		s = strings.Join(parts, ", ")
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(x)) {
			parts = append(parts, name+": "+readable(x[name]))
		}
		s = strings.Join(parts, ", ")
	default:
		s = fmt.Sprint(x)
	}
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}

// exportTime bounds how long one page of an export may take to be sent.
const exportTime = time.Minute

// exportAudit sends all entries that the filter names, page by page: the log
// of a year fits in no memory. One who loses access meanwhile gets no more.
func (v *visit) exportAudit() error {
	_, query, err := v.auditFilter()
	if err != nil {
		return err
	}
	format := v.r.URL.Query().Get("format")
	write, kind := writeJSONLines, "application/jsonl"
	switch format {
	case "jsonl":
	case "csv":
		write, kind = writeCSV, "text/csv; charset=utf-8"
	default:
		return keystile.NewError(keystile.CodeInvalidField, "There is no export of this format.", "Choose CSV or JSON Lines.")
	}
	query.Limit = keyring.MaxLimit
	control := http.NewResponseController(v.w)
	for first := true; ; first = false {
		list, err := v.keyring().Audit(v.r.Context(), v.actor, v.workspace.ID, query)
		if err == nil && first {
			v.w.Header().Set("Content-Type", kind)
			v.w.Header().Set("Content-Disposition", `attachment; filename="audit-`+v.workspace.ID+`.`+format+`"`)
		} else if err != nil && first {
			return err
		}
		if err == nil {
			_ = control.SetWriteDeadline(time.Now().Add(exportTime)) // fails where there is none
			err = errors.Join(write(v.w, list.Data, first), control.Flush())
		}
		if err == nil && list.NextCursor != "" {
			query.Cursor = list.NextCursor
			v.actor, err = v.keyring().Enter(v.r.Context(), v.session, v.workspace.ID)
		}
		if err != nil {
			// What has been sent looks whole unless the connection breaks.
			v.door.Log.Warn("an export of the audit log was cut off", "workspace", v.workspace.ID, "error", err)
			panic(http.ErrAbortHandler)
		}
		if list.NextCursor == "" {
			return nil
		}
	}
}

// writeJSONLines writes one entry a line (jsonlines.org).
func writeJSONLines(w io.Writer, entries []keystile.AuditEntry, _ bool) error {
	out := json.NewEncoder(w)
	for _, e := range entries {
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// writeCSV writes entries as RFC 4180 has it, with a line of names first.
func writeCSV(w io.Writer, entries []keystile.AuditEntry, first bool) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	var err error
	if first {
		err = out.Write([]string{"id", "at", "action", "actor_kind", "actor_id", "actor_name", "object_kind", "object_id", "object_name",
			"address", "user_agent", "request_id", "reason", "before", "after"})
	}
	for _, e := range entries {
		row := []string{e.ID, e.At.UTC().Format(time.RFC3339Nano), e.Action, e.Actor.Kind, e.Actor.ID, e.Actor.Name, e.ObjectKind,
			e.ObjectID, e.ObjectName, e.Address, e.UserAgent, e.RequestID, e.Reason, state(e.Before), state(e.After)}
		for i, cell := range row {
			row[i] = harmless(cell)
		}
		err = errors.Join(err, out.Write(row))
	}
	out.Flush()
	return errors.Join(err, out.Error())
}

func state(fields map[string]any) string {
	if len(fields) == 0 {
		return ""
	}
	text, _ := json.Marshal(fields) // was read from JSON
	return string(text)
}

// harmless keeps a cell from being a formula: names are chosen by whoever
// makes a key, and a spreadsheet would run them for whoever opens the file.
// Where lists are parted by semicolons it takes those within a cell for the
// end of it, so that what follows one must not begin a formula either.
func harmless(cell string) string {
	var out strings.Builder
	begins := true
	for _, r := range cell {
		switch {
		case strings.ContainsRune(";\t\r\n", r):
			if out.Len() == 0 && r != ';' {
				out.WriteByte('\'')
			}
			begins = true
		case begins && strings.ContainsRune("=+-@＝＋－＠", r):
			out.WriteByte('\'')
			begins = false
		case r != ' ' && r != '"':
			begins = false
		}
		out.WriteRune(r)
	}
	return out.String()
}
