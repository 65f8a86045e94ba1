package store

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/verify"
)

// AddUses adds what was counted since the last flush: the last use of each
// key, its uses by hour, by day and outcome, and where they came from. It logs no
// change, and touches a key's row only to have it looked at: when one that was
// idle is used, or one that is over is tried. A use that began before an hour's
// end counts for the hour of its last instant. Uses of keys that were deleted meanwhile
// are dropped: nothing would ever remove what was kept of them. Whose a key is
// says its row, and not who has counted: that may be a replica.
//
// A busy server uses most of its keys between two flushes, so that many rows are
// written with one statement, and the statements sent at once: every other change
// waits meanwhile.
func (tx *Tx) AddUses(uses []verify.Use) error {
	owners, err := tx.owners(uses)
	if err != nil {
		return wrap("find the keys that were used", err)
	}
	return wrap("write uses", tx.together(func() error { return tx.addUses(uses, owners) }))
}

func (tx *Tx) addUses(uses []verify.Use, owners map[string]string) error {
	var f flushed
	var valid []any
	for _, u := range uses {
		workspace, ok := owners[u.KeyID]
		if !ok {
			continue
		}
		f.add(u, workspace)
		if u.Code == keystile.CodeValid {
			valid = append(valid, u.KeyID)
		} else if err := tx.lookAtTried(u); err != nil {
			return err
		}
	}
	if err := tx.lookAtUsed(valid); err != nil {
		return err
	}
	for _, t := range []struct {
		rows     [][]any
		into, on string
	}{
		{f.last.rows, `key_use (key_id, at, address, user_agent)`,
			`(key_id) DO UPDATE SET at = excluded.at, address = excluded.address,
			user_agent = excluded.user_agent WHERE excluded.at > key_use.at`},
		{f.hours.rows, `usage (key_id, hour, code, workspace_id, count)`,
			`(key_id, hour, code) DO UPDATE SET ` + summed("usage")},
		{f.sums.rows, `usage_sums (key_id, days, at, code, workspace_id, count)`,
			`(key_id, days, at, code) DO UPDATE SET ` + summed("usage_sums")},
		{f.sources.rows, `key_sources (key_id, address, code, user_agent, first_at, last_at, count)`,
			`(key_id, address, code) DO UPDATE SET ` + widened("key_sources")},
		{f.workspaces.rows, `workspace_usage (workspace_id, day, code, count)`,
			`(workspace_id, day, code) DO UPDATE SET ` + summed("workspace_usage")},
	} {
		if err := tx.upsert(t.into, t.on, t.rows); err != nil {
			return wrap("write "+t.into[:strings.IndexByte(t.into, ' ')], err)
		}
	}
	return tx.trimSources(f.sources.rows)
}

const (
	// mostSources is how many addresses are kept of a key and an outcome, the
	// latest. Whoever has a key can come from another address each time: a /64 of
	// IPv6 has more of them than any disk has room. Each outcome has its own, so
	// that calls which are refused don't push out where the key was accepted from.
	mostSources = 1000
	// trimOneIn is how many sources are written for one look at how many there
	// are. So a key is looked at when its sources grow, and one of few is looked
	// at rarely; nobody can arrange to be left out.
	trimOneIn = 64
)

// trimSources forgets the oldest sources where there are too many, of some keys
// whose sources were just written, chosen by lot. A key that comes from as many
// addresses as are counted between two flushes is chosen about each time.
func (tx *Tx) trimSources(written [][]any) error {
	looked := map[[2]any]bool{}
	for _, row := range written {
		of := [2]any{row[0], row[2]}
		if rand.IntN(trimOneIn) > 0 || looked[of] { //nolint:gosec // it guards no secret
			continue
		}
		looked[of] = true
		// More at once than come in between, and not so much that others wait.
		if _, err := tx.exec(`DELETE FROM key_sources WHERE key_id = $1 AND code = $2 AND address IN
			(SELECT address FROM key_sources WHERE key_id = $1 AND code = $2 ORDER BY last_at DESC LIMIT $3 OFFSET $4)`,
			of[0], of[1], mostSources, mostSources); err != nil {
			return wrap("forget old sources", err)
		}
	}
	return nil
}

// NoteUses takes note of uses of valid keys, for [Tx.SettleUses] to add: one row
// for each instead of the six that AddUses writes. Nothing reads them until then.
func (tx *Tx) NoteUses(uses []verify.Use) error {
	defer tx.repeating()()
	var recent distinct[noted]
	for _, u := range uses {
		u.Count = min(u.Count, mostUses)
		n := noted{u.KeyID, addressOf(u), hourOf(u)}
		first, last := millis(u.First), millis(u.Last)
		if row, was := recent.row(n, n.key, n.address, n.hour, u.UserAgent, first, last, u.Count); was {
			widen(row, 3, u.UserAgent, first, last)
			add(row, 6, u.Count)
		}
	}
	err := tx.upsert(`recent_uses (key_id, address, hour, user_agent, first_at, last_at, count)`,
		`(key_id, address, hour) DO UPDATE SET `+widened("recent_uses"), recent.rows)
	return wrap("note uses", err)
}

// noted is what uses are told apart by until they are settled.
type noted struct {
	key, address string
	hour         int64
}

// SettleUses adds the uses of about so many rows that [Tx.NoteUses] has written,
// whoever wrote them, and returns how many rows it has found.
func (tx *Tx) SettleUses(limit int) (int, error) {
	// All rows of a key come at once, or it would be written again for the next.
	uses, err := queryAll(tx, func(r scanner) (u verify.Use, err error) {
		var address string
		var first, last int64
		err = r.Scan(&u.KeyID, &address, &u.UserAgent, &first, &last, &u.Count)
		if err == nil && address != "" {
			u.Address, err = netip.ParseAddr(address)
		}
		u.Code, u.First, u.Last = keystile.CodeValid, fromMillis(first), fromMillis(last)
		return u, err
	}, `SELECT key_id, address, user_agent, first_at, last_at, count FROM recent_uses
		WHERE key_id <= (SELECT MAX(key_id) FROM (SELECT key_id FROM recent_uses ORDER BY key_id LIMIT $1) first)
		ORDER BY key_id`, limit)
	if err != nil || len(uses) == 0 {
		return 0, wrap("read the uses to settle", err)
	}
	if err := tx.AddUses(uses); err != nil {
		return 0, err
	}
	_, err = tx.exec(`DELETE FROM recent_uses WHERE key_id <= $1`, uses[len(uses)-1].KeyID)
	return len(uses), wrap("forget the uses that were settled", err)
}

// UsesToSettle returns 0 when there is nothing for [Tx.SettleUses].
func (tx *Tx) UsesToSettle() (int, error) {
	n, err := queryOne(tx, scanInt, `SELECT COUNT(*) FROM (SELECT 1 FROM recent_uses LIMIT 1) one`)
	return int(n), err
}

// owners are the workspaces of the keys that were used and are still there.
func (tx *Tx) owners(uses []verify.Use) (map[string]string, error) {
	ids := make([]any, len(uses))
	for i, u := range uses {
		ids[i] = u.KeyID
	}
	owners := make(map[string]string, len(uses))
	return owners, inParts(ids, func(part []any) error {
		rows, err := queryAll(tx, func(r scanner) (row [2]string, err error) {
			err = r.Scan(&row[0], &row[1])
			return row, err
		}, `SELECT id, workspace_id FROM keys WHERE id IN `+tx.places(1, len(part)), part...)
		for _, r := range rows {
			owners[r[0]] = r[1]
		}
		return err
	})
}

// flushed are the rows that uses come to. A row that two uses have in common is
// there once: a statement of PostgreSQL may not touch one twice.
type flushed struct {
	last       distinct[string]
	hours      distinct[usageRow]
	sums       distinct[usageRow]
	sources    distinct[[3]string]
	workspaces distinct[usageRow]
}

// usageRow is what uses are summed by: of a key or workspace, from a time, for
// so many days or an hour.
type usageRow struct {
	of   string
	days int64
	at   int64
	code string
}

func (f *flushed) add(u verify.Use, workspace string) {
	u.Count = min(u.Count, mostUses)
	address := addressOf(u)
	first, last, code := millis(u.First), millis(u.Last), string(u.Code)
	if u.Code == keystile.CodeValid {
		if row, was := f.last.row(u.KeyID, u.KeyID, last, address, u.UserAgent); was && last > row[1].(int64) { //nolint:errcheck,forcetypeassert // so it was written
			row[1], row[2], row[3] = last, address, u.UserAgent
		}
	}
	hour := hourOf(u)
	if row, was := f.hours.row(usageRow{u.KeyID, 0, hour, code}, u.KeyID, hour, code, workspace, u.Count); was {
		add(row, 4, u.Count)
	}
	for _, days := range []int64{1, 10} {
		at := last - last%(days*dayMillis)
		if row, was := f.sums.row(usageRow{u.KeyID, days, at, code}, u.KeyID, days, at, code, workspace, u.Count); was {
			add(row, 5, u.Count)
		}
	}
	if row, was := f.sources.row([3]string{u.KeyID, address, code}, u.KeyID, address, code, u.UserAgent, first, last, u.Count); was {
		widen(row, 3, u.UserAgent, first, last)
		add(row, 6, u.Count)
	}
	today := last - last%dayMillis
	if row, was := f.workspaces.row(usageRow{workspace, 1, today, code}, workspace, today, code, u.Count); was {
		add(row, 3, u.Count)
	}
}

// addressOf is "" where the address is not known.
func addressOf(u verify.Use) string {
	if !u.Address.IsValid() {
		return ""
	}
	return u.Address.String()
}

func hourOf(u verify.Use) int64 { return millis(u.Last.UTC().Truncate(time.Hour)) }

// widen takes other uses into the columns of a row from user_agent on, and
// widened does so in the database.
func widen(row []any, column int, agent string, first, last int64) {
	row[column+1] = min(row[column+1].(int64), first) //nolint:errcheck,forcetypeassert // so it was written
	if last > row[column+2].(int64) {                 //nolint:errcheck,forcetypeassert // so it was written
		row[column], row[column+2] = agent, last
	}
}

func widened(table string) string {
	return strings.ReplaceAll(`first_at = CASE WHEN excluded.first_at < T.first_at THEN excluded.first_at ELSE T.first_at END,
		last_at = CASE WHEN excluded.last_at > T.last_at THEN excluded.last_at ELSE T.last_at END,
		user_agent = CASE WHEN excluded.last_at > T.last_at THEN excluded.user_agent ELSE T.user_agent END,
		`, "T.", table+".") + summed(table)
}

// mostUses is where a count stops: no key is used as often in thirty years, and
// thousands of such can be added up. What replicas report might be more than the
// database's numbers hold, and then nobody's uses would be written.
const mostUses = 1 << 50

func summed(table string) string {
	sum, most := table+".count + excluded.count", strconv.Itoa(mostUses)
	return "count = CASE WHEN " + sum + " < " + most + " THEN " + sum + " ELSE " + most + " END"
}

func add(row []any, column int, n int64) {
	row[column] = min(row[column].(int64)+min(n, mostUses), mostUses) //nolint:errcheck,forcetypeassert // so it was written
}

// distinct are rows of which none is there twice.
type distinct[K comparable] struct {
	at   map[K]int
	rows [][]any
}

// row returns the row of the key that was there already, or puts it there.
func (d *distinct[K]) row(key K, values ...any) (row []any, was bool) {
	if i, ok := d.at[key]; ok {
		return d.rows[i], true
	}
	if d.at == nil {
		d.at = map[K]int{}
	}
	d.at[key] = len(d.rows)
	d.rows = append(d.rows, values)
	return values, false
}

// upsert inserts rows, or changes those that are there.
func (tx *Tx) upsert(into, on string, rows [][]any) error {
	return inParts(rows, func(part [][]any) error {
		_, err := tx.exec(`INSERT INTO `+into+` VALUES `+tx.places(len(part), len(part[0]))+` ON CONFLICT `+on, slices.Concat(part...)...)
		return err
	})
}

// inParts hands over many at a time, and the rest in sizes of which there are
// few, so that there are few statements to prepare.
func inParts[T any](all []T, do func(part []T) error) error {
	for len(all) > 0 {
		n := 1
		for _, size := range []int{128, 16} {
			if len(all) >= size {
				n = size
				break
			}
		}
		if err := do(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// places are the places of arguments: ($1, $2), ($3, $4) for two rows of two.
func places(rows, columns int) string {
	return rowsOf(rows, columns, func(i int) string { return "$" + itoa(i+1) })
}

// places are those of a statement that has no others. SQLite takes a number for a
// name, which it looks for among all that came before, so that there they have
// none.
func (tx *Tx) places(rows, columns int) string {
	if tx.lite {
		return rowsOf(rows, columns, func(int) string { return "?" })
	}
	return places(rows, columns)
}

func rowsOf(rows, columns int, place func(i int) string) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString(place(i))
	}
	return b.String() + ")"
}

// lookAtUsed has keys looked at whose use may close an alert.
func (tx *Tx) lookAtUsed(ids []any) error {
	return inParts(ids, func(part []any) error {
		_, err := tx.exec(`UPDATE keys SET look_at = 0 WHERE id IN (SELECT a.key_id FROM alerts a
			WHERE a.key_id IN `+tx.places(1, len(part))+` AND a.key_id <> '' AND a.closed_at = 0 AND a.type = 'key.idle')`, part...)
		return wrap("look at keys that were used", err)
	})
}

// lookAtTried has a key looked at that was tried after its end, which may open an
// alert. While the attempts go on, it is looked at every ten minutes.
func (tx *Tx) lookAtTried(u verify.Use) error {
	const again = 10 * 60 * 1000 // milliseconds
	var err error
	switch u.Code {
	case keystile.CodeRevoked, keystile.CodeExpired:
		_, err = tx.exec(`UPDATE keys SET look_at = CASE WHEN EXISTS (SELECT 1 FROM alerts a WHERE a.key_id = $1
				AND a.key_id <> '' AND a.closed_at = 0 AND a.type = 'key.still_tried') THEN $2 ELSE 0 END
			WHERE id = $1 AND (look_at < 0 OR look_at > $2)`, u.KeyID, millis(u.Last)+again)
	default:
	}
	return wrap("look at a key that was tried", err)
}
