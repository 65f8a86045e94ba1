package dashboard

import (
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"strings"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/profile"
)

const (
	// maxPasted bounds the body of a webhook that is looked into at the page, in
	// bytes: it is shown again, and a page has a bound too. The API takes more.
	maxPasted = 64 << 10
	// maxFilled bounds what of it is filled in again, in bytes as HTML has them.
	maxFilled = 64 << 10
	// maxDebuggerForm is for a body that is all escapes.
	maxDebuggerForm = 3*maxPasted + maxForm
)

// debuggerPage is the form that a webhook is entered into, and what was found
// out about it. What was entered goes back to who entered it, and is kept
// nowhere; the secret does not even go back.
type debuggerPage struct {
	Tabs         []tab
	Headers      string
	Body         string
	Long         bool // too long to go back
	Environment  string
	Environments []profile.Environment
	Problem      *keystile.Error
	Verdict      *keystile.WebhookVerdict
	Secret       *keystile.WebhookSecretRecord // the one that fits
}

func (v *visit) debuggerPage() debuggerPage {
	return debuggerPage{Tabs: v.tabs("debugger"), Environments: v.door.Profile.Environments}
}

func (v *visit) showDebugger() error {
	v.show(http.StatusOK, "debugger", v.door.Profile.Word("debugger_title"), v.debuggerPage())
	return nil
}

// debug explains the webhook that was entered. It asks a question in the form
// of a POST, so that nothing of it stands in an address.
func (v *visit) debug() error {
	page := v.debuggerPage()
	var tooLarge *http.MaxBytesError
	err := v.r.ParseForm()
	page.Headers, page.Body, page.Environment = v.r.PostFormValue("headers"), v.r.PostFormValue("body"), v.r.PostFormValue("environment")
	switch {
	case errors.As(err, &tooLarge) || len(page.Body) > maxPasted || len(page.Headers) > maxPasted:
		return v.pastedTooMuch(page)
	case err != nil:
		return keystile.NewError(keystile.CodeInvalidRequest, "The form can't be read.", "Open the page here and fill in the form again.")
	}
	headers, rest := readPasted(page.Headers)
	if page.Body == "" {
		page.Body = rest
	}
	if strings.TrimSpace(page.Headers) == "" && page.Body == "" {
		page.Problem = keystile.NewError(keystile.CodeInvalidField, "There is no webhook to look at yet.",
			"Paste the headers and the body that the consumer received, byte for byte.", "A consumer that keeps neither can log them once: the headers webhook-id, webhook-timestamp and webhook-signature, and the body before it is parsed.")
		v.show(formStatus(page.Problem), "debugger", v.door.Profile.Word("debugger_title"), page)
		return nil
	}
	verdict, err := v.diagnose(keystile.VerifyWebhookRequest{
		Headers: headers, Environment: page.Environment, Secret: v.r.PostFormValue("secret"), Payload: page.Body,
	})
	if page.Problem = v.correctable(err); page.Problem == nil && err != nil {
		return err
	} else if page.Problem == nil {
		page.Verdict = &verdict
	}
	if id := verdict.WebhookSecret; id != "" {
		s, err := v.keyring().WebhookSecret(v.r.Context(), v.actor, id)
		if err != nil {
			return err
		}
		page.Secret = &s
	}
	if page.Long = len(html.EscapeString(page.Body))+len(html.EscapeString(page.Headers)) > maxFilled; page.Long {
		page.Headers, page.Body = "", ""
	}
	v.show(formStatus(page.Problem), "debugger", v.door.Profile.Word("debugger_title"), page)
	return nil
}

func (v *visit) pastedTooMuch(page debuggerPage) error {
	page.Headers, page.Body = "", ""
	page.Problem = keystile.NewError(keystile.CodeBodyTooLarge, "This page takes a webhook of up to 64 kB.",
		"Send a larger one to POST /v1/workspaces/"+v.workspace.ID+"/webhooks/verify, which takes 1 MiB.")
	v.show(page.Problem.Status, "debugger", v.door.Profile.Word("debugger_title"), page)
	return nil
}

// diagnose asks for the verdict. Browsers send every line break of a form as
// CRLF, whatever was pasted, so the body is taken with LF first, which nearly
// all senders write, and then as it came.
func (v *visit) diagnose(in keystile.VerifyWebhookRequest) (keystile.WebhookVerdict, error) {
	sent := in.Payload
	in.Payload = strings.ReplaceAll(sent, "\r\n", "\n")
	verdict, err := v.keyring().VerifyWebhook(v.r.Context(), v.actor, v.workspace.ID, in)
	if err != nil || verdict.Valid || in.Payload == sent {
		return verdict, err
	}
	in.Payload = sent
	again, err := v.keyring().VerifyWebhook(v.r.Context(), v.actor, v.workspace.ID, in)
	if err == nil && (again.Valid || len(again.Also) < len(verdict.Also) && again.WebhookSecret != "" || bodyFits(again) && !bodyFits(verdict)) {
		return again, nil
	}
	return verdict, err
}

// bodyFits tells whether a signature of the very body was found, whatever else
// is wrong.
func bodyFits(w keystile.WebhookVerdict) bool {
	all := []keystile.WebhookCode{w.Code}
	for _, f := range w.Also {
		all = append(all, f.Code)
	}
	for _, c := range all {
		if c == keystile.WebhookBodyChanged || c == keystile.WebhookBodyReserialized {
			return false
		}
	}
	return w.WebhookSecret != ""
}

// readPasted reads headers as people have them: lines of a request, with or
// without its first line, as curl -v shows them, or a JSON object. What stands
// behind an empty line is the body.
func readPasted(text string) (headers map[string]string, body string) {
	headers = map[string]string{}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	add := func(name, value string) {
		name = strings.ToLower(strings.Trim(strings.TrimSpace(name), `"'`))
		value = strings.TrimSpace(value)
		if before, ok := headers[name]; ok {
			value = before + ", " + value
		}
		headers[name] = value
	}
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) == nil {
		for name, value := range object {
			switch value := value.(type) {
			case string:
				add(name, value)
			case []any:
				for _, line := range value {
					if s, ok := line.(string); ok {
						add(name, s)
					}
				}
			}
		}
		return headers, ""
	}
	text = strings.TrimLeft(text, "\n")
	head, body, _ := strings.Cut(text, "\n\n")
	for line := range strings.SplitSeq(head, "\n") {
		line = strings.TrimLeft(strings.TrimSpace(line), "<> ")
		name, value, ok := strings.Cut(line, ":")
		if ok && !strings.Contains(name, " ") {
			add(name, value)
		}
	}
	return headers, body
}
