package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/store"
)

// Mails tell members who may manage keys of alerts. They are queued in the
// transaction that opens an alert and sent by package courier.

const (
	// maxRecipients is how many members of a workspace are told of an alert.
	maxRecipients = 200
	// mailGather is how long an alert waits for others to go along with it;
	// mailUrgent is how long one does that is urgent.
	mailGather = time.Minute
	mailUrgent = 2 * time.Second
	// mailLife is for how long a mail is tried.
	mailLife = 72 * time.Hour
	// mailTaken is for how long one sender keeps a mail to itself. After that
	// it must have been killed.
	mailTaken = 2 * time.Minute
	// mailsAnHour is how many mails a member gets in an hour: whoever can revoke
	// a key can have all others mailed. What comes beyond waits, and goes in one.
	mailsAnHour = 10
)

// Mail is what is to be told to one member.
type Mail struct {
	To        string // address
	Workspace keystile.Workspace
	Alerts    []keystile.Alert // newest first, at least one
	ID        string           // names this attempt

	memberID string
}

// MailAlerts has alerts that open from now on mailed. It is called before the
// keyring is used, where mail is configured.
func (k *Keyring) MailAlerts() { k.mails = true }

// queueMails has an alert mailed to the members who may manage keys.
func (c *change) queueMails(a keystile.Alert) error {
	if !c.k.mails {
		return nil
	}
	roles, err := c.k.allRoles(c.Tx, a.WorkspaceID)
	if err != nil {
		return err
	}
	var ids []string
	for _, r := range roles {
		if r.Permissions.Allow(AlertPermission(a)) {
			ids = append(ids, r.ID)
		}
	}
	wait := mailGather
	switch a.Type {
	case keystile.AlertKeyExposed, keystile.AlertSecretExposed, keystile.AlertAuthFailures:
		wait = mailUrgent
	}
	return c.QueueMails(a, ids, c.now, c.now.Add(wait), maxRecipients)
}

// TakeMail takes a mail that is due, with all that waits for the same member.
// It is not ok when none is due. One of [Keyring.MailSent],
// [Keyring.MailRefused] and [Keyring.MailFailed] says what became of it;
// without that it is due again after two minutes.
func (k *Keyring) TakeMail(ctx context.Context) (m Mail, ok bool, err error) {
	for {
		id := ""
		// Looking costs a read; only finding something costs a write.
		err := k.read(ctx, func(tx *store.Tx) error {
			id, err = tx.DueMail(k.now())
			return err
		})
		if errors.Is(err, keystile.CodeNotFound) {
			return Mail{}, false, nil
		} else if err != nil {
			return Mail{}, false, err
		}
		if _, err := k.write(ctx, system(), func(c *change) error {
			m, err = c.takeMail(id)
			return err
		}); err != nil {
			return Mail{}, false, err
		}
		if len(m.Alerts) > 0 {
			return m, true, nil
		}
	}
}

func (c *change) takeMail(memberID string) (Mail, error) {
	m := Mail{memberID: memberID, ID: c.k.ids.next("req_", c.now)}
	member, err := c.Member(store.AllWorkspaces(), memberID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	var may keystile.Permissions
	if err == nil {
		role, err := c.roleByID(member.WorkspaceID, member.RoleID)
		if err != nil {
			return m, err
		}
		may = role.Permissions
	}
	if member.Status != "active" || member.Person.Email == "" {
		return m, c.DropMails(memberID) // who has left is not told any more
	}
	m.To = member.Person.Email
	if m.Workspace, err = c.Workspace(store.AllWorkspaces(), member.WorkspaceID); err != nil {
		return m, err
	}
	full, err := c.MailSentBefore(memberID, c.now.Add(-time.Hour), mailsAnHour)
	if err != nil {
		return m, err
	}
	if again := full.Add(time.Hour); again.After(c.now) {
		return m, c.PostponeMails(memberID, again)
	}
	taken, err := c.TakeMails(memberID, m.ID, c.now, c.now.Add(mailTaken), c.now.Add(-mailLife))
	if err != nil {
		return m, err
	}
	for _, a := range taken {
		if may.Allow(AlertPermission(a)) { // still
			m.Alerts = append(m.Alerts, nameless(a, may.Allow))
		}
	}
	if len(m.Alerts) == 0 {
		return m, c.EndMails(memberID, m.ID, false, c.now)
	}
	return m, nil
}

// MailSent notes that a mail has arrived at the mail server.
func (k *Keyring) MailSent(ctx context.Context, m Mail) error { return k.endMail(ctx, m, true) }

// MailRefused notes that the mail server does not take mail to this member.
func (k *Keyring) MailRefused(ctx context.Context, m Mail) error { return k.endMail(ctx, m, false) }

func (k *Keyring) endMail(ctx context.Context, m Mail, sent bool) error {
	_, err := k.write(ctx, system(), func(c *change) error { return c.EndMails(m.memberID, m.ID, sent, c.now) })
	return err
}

// MailFailed has a mail tried again later: after half a minute at first, then
// after twice as long each time, up to six hours. After three days it is given up.
func (k *Keyring) MailFailed(ctx context.Context, m Mail) error {
	_, err := k.write(ctx, system(), func(c *change) error {
		n, err := c.MailAttempts(m.memberID, m.ID)
		if err != nil {
			return err
		}
		wait := min(30*time.Second<<min(n, 10), 6*time.Hour)
		return c.RetryMails(m.memberID, m.ID, c.now.Add(wait))
	})
	return err
}
