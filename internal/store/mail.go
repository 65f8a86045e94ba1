package store

import (
	"strings"
	"time"

	"github.com/keystile/keystile"
)

// The states of mails.
const (
	mailWaits int64 = iota
	mailSent
	mailDropped
)

// QueueMails has an alert mailed to those members of its workspace, at most
// limit, who have one of the roles and an address. Whoever was to get this
// stage of it already is left out.
func (tx *Tx) QueueMails(a keystile.Alert, roleIDs []string, now, at time.Time, limit int) error {
	if len(roleIDs) == 0 {
		return nil
	}
	args := []any{a.ID, a.Stage, a.WorkspaceID, millis(at), millis(now), limit}
	marks := make([]string, len(roleIDs))
	for i, id := range roleIDs {
		args = append(args, id)
		marks[i] = "$" + itoa(len(args))
	}
	_, err := tx.exec(`INSERT INTO alert_mails (alert_id, stage, member_id, next_at, created_at)
		SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), m.id, CAST($4 AS BIGINT), CAST($5 AS BIGINT) FROM members m WHERE m.workspace_id = $3
		AND m.status = 'active' AND m.email <> '' AND m.role_id IN (`+strings.Join(marks, ", ")+`)
		ORDER BY m.id LIMIT $6 ON CONFLICT (alert_id, stage, member_id) DO NOTHING`, args...)
	return wrap("queue mails", err)
}

// DueMail finds a member to whom a mail is due that nobody has taken.
func (tx *Tx) DueMail(now time.Time) (memberID string, err error) {
	return queryOne(tx, scanString, `SELECT member_id FROM alert_mails
		WHERE state = 0 AND next_at <= $1 AND taken_till <= $1 ORDER BY next_at LIMIT 1`, millis(now))
}

// TakeMails takes the mails that wait for a member, until an instant, and
// lists their alerts, newest first. Those are left out, and not sent, that
// were queued before an instant, or whose alert has moved on; and those that
// closed, unless the type is one of a thing that has happened.
func (tx *Tx) TakeMails(memberID, by string, now, till, since time.Time) ([]keystile.Alert, error) {
	const waiting = ` WHERE member_id = $1 AND state = 0 AND taken_till <= $2`
	if _, err := tx.exec(`UPDATE alert_mails SET state = 2`+waiting+` AND (created_at < $3
		OR NOT EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_mails.alert_id AND a.stage = alert_mails.stage
			AND (a.closed_at = 0 OR a.type IN ('auth.failures', 'key.exposed'))))`, memberID, millis(now), millis(since)); err != nil {
		return nil, wrap("drop mails", err)
	}
	if _, err := tx.exec(`UPDATE alert_mails SET taken_by = $3, taken_till = $4`+waiting, memberID, millis(now), by, millis(till)); err != nil {
		return nil, wrap("take mails", err)
	}
	return queryAll(tx, scanAlert, `SELECT `+alertColumns+` FROM alert_mails m JOIN alerts a ON a.id = m.alert_id
		WHERE m.member_id = $1 AND m.state = 0 AND m.taken_by = $2 ORDER BY a.id DESC`, memberID, by)
}

// DropMails gives up all mails that wait for a member.
func (tx *Tx) DropMails(memberID string) error {
	_, err := tx.exec(`UPDATE alert_mails SET state = $1 WHERE member_id = $2 AND state = 0`, mailDropped, memberID)
	return wrap("drop mails", err)
}

// EndMails notes that mails which were taken are sent, or given up. Of what was
// sent next_at says when.
func (tx *Tx) EndMails(memberID, by string, sent bool, now time.Time) error {
	state := mailDropped
	if sent {
		state = mailSent
	}
	_, err := tx.exec(`UPDATE alert_mails SET state = $1, taken_by = '', taken_till = 0, next_at = $2
		WHERE member_id = $3 AND state = 0 AND taken_by = $4`, state, millis(now), memberID, by)
	return wrap("note sent mails", err)
}

// MailSentBefore is when the nth of the mails to a member since an instant was
// sent, the last one being the first. It is the zero time when there were fewer.
func (tx *Tx) MailSentBefore(memberID string, since time.Time, n int) (time.Time, error) {
	at, err := queryOne(tx, scanInt, `SELECT COALESCE((SELECT DISTINCT next_at FROM alert_mails WHERE member_id = $1 AND state = 1
		AND next_at > $2 ORDER BY next_at DESC LIMIT 1 OFFSET $3), 0)`, memberID, millis(since), n-1)
	return fromMillis(at), err
}

// PostponeMails has what waits for a member wait until an instant at least.
func (tx *Tx) PostponeMails(memberID string, at time.Time) error {
	_, err := tx.exec(`UPDATE alert_mails SET next_at = $1 WHERE member_id = $2 AND state = 0 AND next_at < $1`, millis(at), memberID)
	return wrap("postpone mails", err)
}

// MailAttempts is how often mails that were taken were tried before.
func (tx *Tx) MailAttempts(memberID, by string) (int, error) {
	n, err := queryOne(tx, scanInt, `SELECT COALESCE(MAX(attempts), 0) FROM alert_mails
		WHERE member_id = $1 AND state = $2 AND taken_by = $3`, memberID, mailWaits, by)
	return int(n), err
}

// RetryMails has mails that were taken tried again at an instant.
func (tx *Tx) RetryMails(memberID, by string, at time.Time) error {
	_, err := tx.exec(`UPDATE alert_mails SET next_at = $1, attempts = attempts + 1, taken_by = '', taken_till = 0
		WHERE member_id = $2 AND state = 0 AND taken_by = $3`, millis(at), memberID, by)
	return wrap("try mails again", err)
}
