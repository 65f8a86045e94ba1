package store

import (
	"strings"
	"time"

	"github.com/keystile/keystile"
)

const (
	day       = 24 * time.Hour
	dayMillis = int64(day / time.Millisecond)
)

// forgetUses removes what was counted of a key.
func (tx *Tx) forgetUses(keyID string) error {
	for _, q := range []string{
		`DELETE FROM key_use WHERE key_id = $1`,
		`DELETE FROM key_sources WHERE key_id = $1`,
		`DELETE FROM usage WHERE key_id = $1`,
		`UPDATE workspace_usage AS w SET count = w.count - d.count FROM usage_sums d WHERE d.key_id = $1
			AND d.days = 1 AND w.workspace_id = d.workspace_id AND w.day = d.at AND w.code = d.code`,
		`DELETE FROM workspace_usage WHERE count <= 0 AND (workspace_id, day) IN
			(SELECT workspace_id, at FROM usage_sums WHERE key_id = $1 AND days = 1)`,
		`DELETE FROM usage_sums WHERE key_id = $1`,
	} {
		if _, err := tx.exec(q, keyID); err != nil {
			return wrap("forget the uses of a key", err)
		}
	}
	return nil
}

// UsageFilter says which usage of a workspace to list.
type UsageFilter struct {
	WorkspaceID  string
	KeyID        string    // "" for all
	Since, Until time.Time // the hours that begin in [Since, Until)
	// CursorHour and CursorKey are the last bucket of the page before.
	CursorHour time.Time
	CursorKey  string
	Limit      int
}

// whole tells whether the filter's time is one of whole days.
func (f UsageFilter) whole() bool {
	return f.Since.Equal(f.Since.UTC().Truncate(day)) && f.Until.Equal(f.Until.UTC().Truncate(day))
}

// Usage lists buckets of one key and hour, newest hour first.
func (tx *Tx) Usage(s Scope, f UsageFilter) ([]keystile.UsageBucket, error) {
	ws, all := s.args()
	type row struct {
		key  string
		hour int64
		code string
		n    int64
	}
	where := ` WHERE (u.workspace_id = $1 OR $2 = 1) AND u.workspace_id = $3 AND u.hour >= $4 AND u.hour < $5`
	args := []any{ws, all, f.WorkspaceID, millis(f.Since), millis(f.Until), f.Limit}
	if f.KeyID != "" {
		args = append(args, f.KeyID)
		where += ` AND u.key_id = $` + itoa(len(args))
	}
	if f.CursorKey != "" {
		args = append(args, millis(f.CursorHour), f.CursorKey)
		h, k := itoa(len(args)-1), itoa(len(args))
		where += ` AND u.hour <= $` + h + ` AND (u.hour < $` + h + ` OR u.key_id > $` + k + `)`
	}
	// The page is of buckets, each of which has a row for every code.
	rows, err := queryAll(tx, func(r scanner) (row, error) {
		var v row
		err := r.Scan(&v.key, &v.hour, &v.code, &v.n)
		return v, err
	}, `SELECT u.key_id, u.hour, u.code, u.count FROM usage u JOIN (
			SELECT DISTINCT u.hour, u.key_id FROM usage u`+where+` ORDER BY u.hour DESC, u.key_id LIMIT $6
		) page ON page.hour = u.hour AND page.key_id = u.key_id
		ORDER BY u.hour DESC, u.key_id, u.code`, args...)
	if err != nil {
		return nil, err
	}
	var out []keystile.UsageBucket
	for _, r := range rows {
		n := len(out)
		if n == 0 || out[n-1].KeyID != r.key || !out[n-1].Hour.Equal(fromMillis(r.hour)) {
			out = append(out, keystile.UsageBucket{
				KeyID: r.key, Hour: fromMillis(r.hour), Codes: map[keystile.Code]int64{},
			})
			n++
		}
		out[n-1].Codes[keystile.Code(r.code)] += r.n
		out[n-1].Total += r.n
	}
	return out, nil
}

// UsageStep sums the uses that began in one step of time.
type UsageStep struct {
	At    time.Time // beginning of the step, UTC
	Codes map[keystile.Code]int64
	Total int64
}

// UsageOverTime sums the uses that the filter names by steps of time, oldest
// first; its cursor and limit are not looked at. Steps without a use are left
// out. A step is a whole number of hours.
func (tx *Tx) UsageOverTime(s Scope, f UsageFilter, step time.Duration) ([]UsageStep, error) {
	ws, all := s.args()
	type row struct {
		at   int64
		code string
		n    int64
	}
	args := []any{step.Milliseconds(), ws, all, f.WorkspaceID, millis(f.Since), millis(f.Until)}
	from, inside := `(SELECT workspace_id, key_id, hour AS at, code, count FROM usage) u`, ` AND u.workspace_id = $4`
	if days := step%day == 0 && f.whole(); days && f.KeyID == "" {
		from = `(SELECT workspace_id, day AS at, code, count FROM workspace_usage) u`
	} else if days {
		from = `(SELECT workspace_id, key_id, at, code, count FROM usage_sums WHERE days = 1) u`
	}
	if f.KeyID != "" {
		args = append(args, f.KeyID)
		// What is no column is not looked up: the key's own rows are, which are few.
		inside = ` AND u.workspace_id || '' = $4 AND u.key_id = $7`
	}
	rows, err := queryAll(tx, func(r scanner) (row, error) {
		var v row
		err := r.Scan(&v.at, &v.code, &v.n)
		return v, err
	}, `SELECT u.at - u.at % $1, u.code, CAST(SUM(u.count) AS BIGINT) FROM `+from+`
		WHERE (u.workspace_id = $2 OR $3 = 1) AND u.at >= $5 AND u.at < $6`+inside+`
		GROUP BY 1, u.code ORDER BY 1, u.code`, args...)
	if err != nil {
		return nil, err
	}
	var out []UsageStep
	for _, r := range rows {
		if n := len(out); n == 0 || !out[n-1].At.Equal(fromMillis(r.at)) {
			out = append(out, UsageStep{At: fromMillis(r.at), Codes: map[keystile.Code]int64{}})
		}
		last := &out[len(out)-1]
		last.Codes[keystile.Code(r.code)] += r.n
		last.Total += r.n
	}
	return out, nil
}

// KeyUsage sums the uses of one key.
type KeyUsage struct {
	KeyID string
	Name  string
	Codes map[keystile.Code]int64
	Total int64
}

// UsageByKey sums the uses of each key of a workspace over the filter's time,
// the most used first, after the key of the cursor, whose total was below.
//
// What came of the uses is read for the keys of the page alone. Asked for in one
// statement, SQLite looks at the uses of all workspaces.
func (tx *Tx) UsageByKey(s Scope, f UsageFilter, below int64) ([]KeyUsage, error) {
	parts, err := tx.usageParts(f)
	if err != nil {
		return nil, err
	}
	ws, all := s.args()
	args := []any{ws, all, f.WorkspaceID, f.Limit}
	after := ""
	if f.CursorKey != "" {
		args = append(args, below, f.CursorKey)
		after = ` HAVING SUM(parts.count) < $5 OR (SUM(parts.count) = $5 AND parts.key_id > $6)`
	}
	from, args := union(parts, `SELECT key_id, count`, `workspace_id = $3`, args)
	out, err := queryAll(tx, func(r scanner) (KeyUsage, error) {
		v := KeyUsage{Codes: map[keystile.Code]int64{}}
		err := r.Scan(&v.KeyID, &v.Name, &v.Total)
		return v, err
	}, `SELECT page.key_id, k.name, page.total FROM (
			SELECT parts.key_id, CAST(SUM(parts.count) AS BIGINT) AS total FROM (`+from+`) parts WHERE $1 = $3 OR $2 = 1
			GROUP BY parts.key_id`+after+` ORDER BY total DESC, parts.key_id LIMIT $4
		) page JOIN keys k ON k.id = page.key_id ORDER BY page.total DESC, page.key_id`, args...)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	keys, at := make([]any, len(out)), make(map[string]int, len(out))
	for i, u := range out {
		keys[i], at[u.KeyID] = u.KeyID, i
	}
	type row struct {
		key, code string
		n         int64
	}
	from, args = union(parts, `SELECT key_id, code, count`, `key_id IN `+places(1, len(keys)), keys)
	rows, err := queryAll(tx, func(r scanner) (row, error) {
		var v row
		err := r.Scan(&v.key, &v.code, &v.n)
		return v, err
	}, `SELECT parts.key_id, parts.code, CAST(SUM(parts.count) AS BIGINT) FROM (`+from+`) parts GROUP BY parts.key_id, parts.code`, args...)
	for _, r := range rows {
		out[at[r.key]].Codes[keystile.Code(r.code)] = r.n
	}
	return out, err
}

// usagePart is a stretch of time whose uses are read from one kind of row.
type usagePart struct {
	table string
	days  int64 // that a row is of; 0 for an hour
	since int64
	until int64
}

// usageParts divides a filter's time so that few rows are read: ten days at
// once as far as they lie in it, then the days at its ends.
func (tx *Tx) usageParts(f UsageFilter) ([]usagePart, error) {
	since, until := millis(f.Since), millis(f.Until)
	if !f.whole() {
		return []usagePart{{"usage", 0, since, until}}, nil
	}
	const ten = 10 * dayMillis
	begin, end := (since+ten-1)/ten*ten, until/ten*ten
	if end < until {
		// Of the ten days under way all that there is may lie in the time.
		later, err := queryAll(tx, scanInt, `SELECT 1 FROM workspace_usage WHERE workspace_id = $1 AND day >= $2 LIMIT 1`, f.WorkspaceID, until)
		if err != nil {
			return nil, err
		}
		if len(later) == 0 {
			end += ten
		}
	}
	if begin >= end {
		return []usagePart{{"usage_sums", 1, since, until}}, nil
	}
	parts := []usagePart{{"usage_sums", 10, begin, end}}
	for _, days := range []usagePart{{"usage_sums", 1, since, begin}, {"usage_sums", 1, end, until}} {
		if days.since < days.until {
			parts = append(parts, days)
		}
	}
	return parts, nil
}

// union selects from all parts what fulfils a condition, whose arguments are given.
func union(parts []usagePart, columns, condition string, args []any) (string, []any) {
	var selects []string
	for _, p := range parts {
		q := columns + ` FROM ` + p.table + ` WHERE ` + condition
		at := `hour`
		if p.days > 0 {
			at = `at`
			args = append(args, p.days)
			q += ` AND days = $` + itoa(len(args))
		}
		args = append(args, p.since, p.until)
		selects = append(selects, q+` AND `+at+` >= $`+itoa(len(args)-1)+` AND `+at+` < $`+itoa(len(args)))
	}
	return strings.Join(selects, ` UNION ALL `), args
}

// Sources lists where a key was used from, latest first, at most limit. The
// key must be in scope.
func (tx *Tx) Sources(s Scope, keyID string, limit int) ([]keystile.KeySource, error) {
	ws, all := s.args()
	return queryAll(tx, func(r scanner) (keystile.KeySource, error) {
		var v keystile.KeySource
		var code string
		var first, last int64
		err := r.Scan(&v.KeyID, &v.Address, &v.UserAgent, &code, &first, &last, &v.Count)
		v.Code, v.FirstAt, v.LastAt = keystile.Code(code), fromMillis(first), fromMillis(last)
		return v, err
	}, `SELECT s.key_id, s.address, s.user_agent, s.code, s.first_at, s.last_at, s.count
		FROM key_sources s JOIN keys k ON k.id = s.key_id
		WHERE s.key_id = $1 AND (k.workspace_id = $2 OR $3 = 1)
		ORDER BY s.last_at DESC LIMIT $4`, keyID, ws, all, limit)
}

// Caller is an address that keys were used from.
type Caller struct {
	Address string
	Keys    int // how many keys
	Calls   int64
	LastAt  time.Time
}

// Callers lists the addresses from which valid keys of a workspace were used
// since a time, latest first, at most limit. The calls are all that are known
// of such a key from there, those before that time too.
func (tx *Tx) Callers(s Scope, workspaceID string, since time.Time, limit int) ([]Caller, error) {
	ws, all := s.args()
	return queryAll(tx, func(r scanner) (Caller, error) {
		var v Caller
		var keys, last int64
		err := r.Scan(&v.Address, &keys, &v.Calls, &last)
		v.Keys, v.LastAt = int(keys), fromMillis(last)
		return v, err
	}, `SELECT s.address, COUNT(*), CAST(SUM(s.count) AS BIGINT), MAX(s.last_at)
		FROM key_sources s JOIN keys k ON k.id = s.key_id
		WHERE k.workspace_id = $1 AND (k.workspace_id = $2 OR $3 = 1) AND k.state = 0
			AND s.code = 'valid' AND s.last_at >= $4
		GROUP BY s.address ORDER BY MAX(s.last_at) DESC, s.address LIMIT $5`, workspaceID, ws, all, millis(since), limit)
}
