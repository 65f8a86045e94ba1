package lane

import (
	"net/http"
	"strconv"
	"time"
)

// reply is the answer to a request, until all of it is there.
type reply struct {
	header  http.Header
	status  int
	content []byte
	out     []byte
}

// maxKept bounds what is kept of an answer's memory for the next one, in bytes.
const maxKept = 64 << 10

func (r *reply) begin() {
	clear(r.header)
	r.status, r.content = 0, r.content[:0]
	if cap(r.content) > maxKept {
		r.content, r.out = nil, nil
	}
}

// Header implements http.ResponseWriter.
func (r *reply) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *reply) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter. Nothing is sent before the handler has
// returned.
func (r *reply) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.content = append(r.content, b...)
	return len(b), nil
}

// ArrivedWhole tells handlers that their request was there to its last byte before
// they were called.
func (*reply) ArrivedWhole() {}

// text is the answer as it is sent. date is a line.
func (d *desk) text(date string) []byte {
	r := &d.reply
	r.WriteHeader(http.StatusOK)
	b := append(r.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(r.status)...)
	b = append(b, "\r\n"...)
	delete(r.header, "Content-Length") // which is what it says below
	for name, values := range r.header {
		for _, v := range values {
			b = append(append(b, name...), ": "...)
			from := len(b)
			b = append(b, v...)
			for i := from; i < len(b); i++ {
				if b[i] == '\r' || b[i] == '\n' {
					b[i] = ' ' // as net/http has it
				}
			}
			b = append(b, "\r\n"...)
		}
	}
	if _, typed := r.header["Content-Type"]; !typed && len(r.content) > 0 {
		b = append(append(append(b, "Content-Type: "...), http.DetectContentType(r.content)...), "\r\n"...)
	}
	b = append(b, date...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.content)), 10)
	b = append(b, "\r\n\r\n"...)
	r.out = append(b, r.content...)
	return r.out
}

// date is the header of that name (RFC 9110, section 6.6.1), good for a second.
type date struct {
	second int64
	line   string
}

func (l *Lane) now() string {
	now := time.Now()
	d := l.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &date{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
		l.date.Store(d)
	}
	return d.line
}
