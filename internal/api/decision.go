package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/keystile/keystile"
)

// chunk is how much of an answer to a batch is written at once, in bytes. All
// of it could be a thousand times the metadata of one key, for a question of a
// few bytes.
const chunk = 64 << 10

// writeDecision answers a verify.
func (a *API) writeDecision(w http.ResponseWriter, d *answered) {
	buffer := a.scratch.take()
	defer a.scratch.put(buffer)
	var h holder
	text := appendAnswer(buffer.AvailableBuffer(), d, &h)
	a.writeText(w, append(text, '\n'))
	buffer.Write(text) // keeps the memory if it grew
}

// writeDecisions writes a [keystile.DecisionBatch].
func (a *API) writeDecisions(w http.ResponseWriter, answers []answered) {
	buffer := a.scratch.take()
	defer a.scratch.put(buffer)
	buffer.Grow(chunk + chunk/8)
	text := append(buffer.AvailableBuffer(), `{"data":[`...)
	h := holder{keep: true}
	for i := range answers {
		if i > 0 {
			text = append(text, ',')
		}
		if text = appendAnswer(text, &answers[i], &h); len(text) >= chunk {
			if !a.writeText(w, text) {
				return // the client has gone
			}
			text = text[:0]
		}
	}
	a.writeText(w, append(text, "]}\n"...))
}

// writeText writes JSON, and tells whether it could.
func (a *API) writeText(w http.ResponseWriter, text []byte) bool {
	w.Header()["Content-Type"] = a.json
	_, err := w.Write(text)
	return err == nil
}

// holder is what was written of the workspace, the role and the permissions of
// the key before. In a batch they are mostly those of the next one too.
type holder struct {
	keep bool
	of   *answered
	text []byte
}

// appendAnswer appends what [answered.decision] is told as. A valid key, which
// most are, is written without making a decision of it first.
func appendAnswer(b []byte, a *answered, h *holder) []byte {
	if a.Code != keystile.CodeValid || a.foreign {
		decision := a.decision()
		return appendDecision(b, &decision)
	}
	b = append(b, `{"valid":true,"code":"valid","status":200,"key_id":"`...)
	b = append(a.AppendKeyID(b), '"')
	if h.of != nil && h.of.SameHolder(&a.Result) {
		b = append(b, h.text...)
	} else {
		begin := len(b)
		b = appendMember(b, `,"workspace_id":`, a.WorkspaceID())
		b = appendMember(b, `,"role":`, a.RoleName())
		b = appendMembers(b, `,"permissions":[`, a.Permissions())
		if h.keep {
			h.of, h.text = a, append(h.text[:0], b[begin:]...)
		}
	}
	end, ends := a.ExpiresAt()
	return appendRest(b, a.Environment(), end, ends, a.Owner(), a.Metadata())
}

// appendDecision appends a decision as encoding/json writes it, without
// escaping HTML.
func appendDecision(b []byte, d *keystile.Decision) []byte {
	b = append(b, `{"valid":`...)
	b = strconv.AppendBool(b, d.Valid)
	b = append(b, `,"code":`...)
	b = appendText(b, string(d.Code))
	b = appendMember(b, `,"hint":`, string(d.Hint))
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(d.Status), 10)
	b = appendMember(b, `,"detail":`, d.Detail)
	b = appendMembers(b, `,"fixes":[`, d.Fixes)
	b = appendMember(b, `,"key_id":`, d.KeyID)
	b = appendMember(b, `,"workspace_id":`, d.WorkspaceID)
	b = appendMember(b, `,"role":`, d.Role)
	b = appendMembers(b, `,"permissions":[`, d.Permissions)
	var end time.Time
	if d.ExpiresAt != nil {
		end = *d.ExpiresAt
	}
	return appendRest(b, d.Environment, end, d.ExpiresAt != nil, d.Owner, d.Metadata)
}

// appendRest appends the members from environment on, and the end.
func appendRest(b []byte, environment string, end time.Time, ends bool, owner string, metadata map[string]string) []byte {
	b = appendMember(b, `,"environment":`, environment)
	if ends {
		b = append(b, `,"expires_at":"`...)
		b = end.AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	}
	b = appendMember(b, `,"owner":`, owner)
	if len(metadata) > 0 {
		b = append(b, `,"metadata":`...)
		b = appendJSON(b, metadata)
	}
	return append(b, '}')
}

// appendMember appends a member that is left out when it is empty.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

// appendMembers appends a list that is left out when it is empty.
func appendMembers(b []byte, begin string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(b, begin...)
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, v)
	}
	return append(b, ']')
}

// appendText appends a string. encoding/json writes those that are not [plain].
func appendText(b []byte, s string) []byte {
	if !plain(s) {
		return appendJSON(b, s)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendJSON appends what encoding/json writes. Strings always encode.
func appendJSON(b []byte, v any) []byte {
	buffer := bytes.NewBuffer(b)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // fails when the client has gone
}
