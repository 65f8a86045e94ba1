package store

import (
	"strings"
	"time"
)

// FindingKind is a thing that should be looked at about a key.
type FindingKind string

// The kinds of findings.
const (
	FindingAge      FindingKind = "age"      // old enough for a replacement, and has none
	FindingReplaced FindingKind = "replaced" // its replacement is there
	FindingIdle     FindingKind = "idle"     // active and not used
	FindingExpiring FindingKind = "expiring" // ends soon, and has no replacement
	FindingReview   FindingKind = "review"   // not reviewed for a while
	FindingWide     FindingKind = "wide"     // manages the workspace itself
)

// FindingFilter says which keys of a workspace to find.
type FindingFilter struct {
	Kind        FindingKind
	WorkspaceID string
	Now         time.Time
	Ages        []AgeWindow // for FindingAge; a key in any of them is found
	// Before is, for FindingIdle, the last use, for FindingReview the last
	// review, and for FindingExpiring the end, up to which a key is found.
	Before  time.Time
	RoleIDs []string // for FindingWide
	Cursor  string   // ID of the last key of the page before
	Limit   int
}

// AgeWindow finds keys that were made after After, if it is not zero, and not
// after UpTo, in one environment; or, with Others, in none of those.
type AgeWindow struct {
	Environment string
	Others      []string
	After, UpTo time.Time
}

// Findings lists the live keys in scope about which something of one kind is
// to be done, newest first.
func (tx *Tx) Findings(s Scope, f FindingFilter) ([]Key, error) {
	ws, all := s.args()
	var args []any
	bind := func(v any) string {
		args = append(args, v)
		return "$" + itoa(len(args))
	}
	list := func(values []string) string {
		marks := []string{"''"} // a list in SQL must not be empty
		for _, v := range values {
			marks = append(marks, bind(v))
		}
		return "(" + strings.Join(marks, ", ") + ")"
	}
	where := ` WHERE (k.workspace_id = ` + bind(ws) + ` OR ` + bind(all) + ` = 1) AND k.workspace_id = ` + bind(f.WorkspaceID)
	limit, now := bind(f.Limit), bind(millis(f.Now))
	where += ` AND k.state < 2 AND (k.expires_at = 0 OR k.expires_at > ` + now + `)`
	replaced := `(rk.state IS NOT NULL AND rk.state = 0 AND (rk.expires_at = 0 OR rk.expires_at > ` + now + `))`
	switch f.Kind {
	case FindingAge:
		either := []string{"1 = 0"}
		for _, w := range f.Ages {
			one := `k.created_at <= ` + bind(millis(w.UpTo))
			if !w.After.IsZero() {
				one += ` AND k.created_at > ` + bind(millis(w.After))
			}
			if w.Others != nil {
				one += ` AND (k.environment = '' OR k.environment NOT IN ` + list(w.Others) + `)`
			} else {
				one += ` AND k.environment = ` + bind(w.Environment)
			}
			either = append(either, one)
		}
		where += ` AND NOT ` + replaced + ` AND (` + strings.Join(either, " OR ") + `)`
	case FindingReplaced:
		where += ` AND k.replaced_by <> '' AND ` + replaced
	case FindingIdle:
		where += ` AND k.state = 0 AND COALESCE(u.at, k.created_at) < ` + bind(millis(f.Before))
	case FindingExpiring:
		where += ` AND k.expires_at > 0 AND k.expires_at <= ` + bind(millis(f.Before)) + ` AND NOT ` + replaced
	case FindingReview:
		where += ` AND CASE WHEN k.reviewed_at > 0 THEN k.reviewed_at ELSE k.created_at END <= ` + bind(millis(f.Before))
	case FindingWide:
		where += ` AND k.role_id IN ` + list(f.RoleIDs) +
			` AND (k.permissions = '[]' OR k.permissions LIKE '%"api.%' OR k.permissions LIKE '%"platform.%')`
	default:
		return nil, nil
	}
	if f.Cursor != "" {
		where += ` AND k.id < ` + bind(f.Cursor)
	}
	return queryAll(tx, scanKey, `SELECT `+keyColumns+keyTables+where+` ORDER BY k.id DESC LIMIT `+limit, args...)
}
