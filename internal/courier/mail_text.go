package courier

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/wneessen/go-mail"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// maxMailed is how many alerts one mail tells of; the rest it counts.
const maxMailed = 20

// message makes the mail: plain text in the profile's words.
func (m *Mailer) message(due keyring.Mail) (*mail.Msg, error) {
	out, err := m.envelope(due.To, due.ID)
	if err != nil {
		return nil, err
	}
	out.Subject(m.subject(due))
	out.SetBodyString(mail.TypeTextPlain, m.body(due))
	return out, nil
}

// envelope is a message without its text.
func (m *Mailer) envelope(to, id string) (*mail.Msg, error) {
	out := mail.NewMsg()
	out.FromMailAddress(m.server.from)
	if err := out.To(to); err != nil || strings.ContainsFunc(to, isControl) {
		return nil, errAddress // what the library says holds it
	}
	_, host, _ := strings.Cut(m.server.from.Address, "@")
	out.SetMessageIDWithValue(id + "@" + host)
	out.SetDate()
	// No answer of a machine is wanted (RFC 3834, section 5).
	out.SetGenHeader("Auto-Submitted", "auto-generated")
	return out, nil
}

func (m *Mailer) subject(due keyring.Mail) string {
	p := m.keyring.Profile()
	subject := "[" + p.Product + "] "
	if len(due.Alerts) == 1 {
		return oneLine(subject+m.title(due.Alerts[0]), 120)
	}
	return oneLine(subject+p.Word("alerts_title")+" ("+strconv.Itoa(len(due.Alerts))+"): "+unlinked(due.Workspace.Name), 120)
}

// title names an alert as its page does.
func (m *Mailer) title(a keystile.Alert) string {
	title := m.keyring.Profile().Word(keyring.AlertWord(a))
	switch {
	case a.KeyName != "":
		return title + ": " + unlinked(a.KeyName)
	case a.KeyID != "":
		return title + ": " + a.KeyID
	case a.WebhookSecretLabel != "":
		return title + ": " + unlinked(a.WebhookSecretLabel)
	case a.WebhookSecretID != "":
		return title + ": " + a.WebhookSecretID
	case a.EndpointURL != "":
		return title + ": " + unlinked(a.EndpointURL)
	case a.EndpointID != "":
		return title + ": " + a.EndpointID
	}
	return title
}

func (m *Mailer) body(due keyring.Mail) string {
	p := m.keyring.Profile()
	var b strings.Builder
	b.WriteString(oneLine(unlinked(due.Workspace.Name)+" · "+p.Product, 200) + "\n\n")
	for i, a := range due.Alerts {
		if i == maxMailed {
			b.WriteString("+ " + strconv.Itoa(len(due.Alerts)-maxMailed) + "\n\n")
			break
		}
		b.WriteString(oneLine(m.title(a), 200) + "\n")
		b.WriteString(oneLine(keyring.AlertText(a).String(), 500) + "\n")
		for _, s := range a.Sources {
			b.WriteString("  " + oneLine(s.Address+" "+unlinked(s.UserAgent), 300) + "\n")
		}
		if a.KeyID != "" {
			b.WriteString("  " + m.url + "/w/" + due.Workspace.ID + "/keys/" + a.KeyID + "\n")
		}
		if a.EndpointID != "" && p.Endpoints {
			b.WriteString("  " + m.url + "/w/" + due.Workspace.ID + "/endpoints/" + a.EndpointID + "\n")
		}
		b.WriteString("\n")
	}
	b.WriteString(p.Word("mail_all") + "\n" + m.url + "/w/" + due.Workspace.ID + "/alerts\n\n-- \n" + p.Word("mail_why") + "\n")
	if p.Branding.SupportEmail != "" {
		b.WriteString(p.Branding.SupportEmail + "\n")
	}
	return b.String()
}

// unlinked writes a text that others have chosen so that no program which shows
// the mail makes a link of a part of it: it would stand among ours.
func unlinked(s string) string {
	s = strings.ReplaceAll(s, "://", "[:]//")
	in := []rune(s)
	var b strings.Builder
	for i, r := range in {
		// The last three stand for a dot in names of hosts, too (RFC 3490, section 3.1).
		dot := r == '.' || r == '\u3002' || r == '\uff0e' || r == '\uff61'
		if dot && i > 0 && i+1 < len(in) && !unicode.IsSpace(in[i-1]) && unicode.IsLetter(in[i+1]) {
			b.WriteString("[.]")
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// oneLine keeps a text from making a line, or a header, of its own.
func oneLine(s string, most int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return s
}
