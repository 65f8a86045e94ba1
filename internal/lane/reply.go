package lane

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// reply is the answer to a request, until all of it is there, or as much as is
// held of one.
type reply struct {
	to   io.Writer
	lane *Lane

	header  http.Header
	status  int
	content []byte
	out     []byte
	begun   bool  // its beginning has been sent, and the rest goes in chunks
	err     error // of sending
}

// maxHeld is how much of an answer is held before it is sent, in bytes. What is
// larger is sent piece by piece, so that a client who does not read costs no more
// than this.
const maxHeld = 64 << 10

func (r *reply) begin() {
	clear(r.header)
	r.status, r.content, r.out, r.begun, r.err = 0, r.content[:0], r.out[:0], false, nil
	if cap(r.content) > 2*maxHeld || cap(r.out) > 2*maxHeld {
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
// returned, unless there is more than is held.
func (r *reply) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.err != nil {
		return 0, r.err
	}
	if len(r.content)+len(b) <= maxHeld {
		r.content = append(r.content, b...)
		return len(b), nil
	}
	r.out = r.out[:0]
	if !r.begun {
		r.begun = true
		r.head(chunked, append(r.content, b[:min(len(b), sniffed)]...))
	}
	r.chunk(r.content, b)
	r.content = r.content[:0]
	if r.send(); r.err != nil {
		return 0, r.err
	}
	return len(b), nil
}

// ArrivedWhole tells handlers that their request was there to its last byte before
// they were called.
func (*reply) ArrivedWhole() {}

// end sends what has not been sent.
func (r *reply) end() error {
	r.WriteHeader(http.StatusOK)
	r.out = r.out[:0]
	if r.begun {
		if len(r.content) > 0 {
			r.chunk(r.content)
		}
		r.chunk()
	} else {
		r.head(len(r.content), r.content)
		r.out = append(r.out, r.content...)
	}
	r.send()
	return r.err
}

func (r *reply) send() {
	if r.err == nil {
		_, r.err = r.to.Write(r.out)
	}
}

// chunk makes one chunk of texts (RFC 9112, section 7.1). One of nothing is the
// last.
func (r *reply) chunk(texts ...[]byte) {
	n := 0
	for _, t := range texts {
		n += len(t)
	}
	r.out = append(strconv.AppendInt(r.out, int64(n), 16), "\r\n"...)
	for _, t := range texts {
		r.out = append(r.out, t...)
	}
	r.out = append(r.out, "\r\n"...)
}

const (
	// chunked is the length of what goes in chunks.
	chunked = -1
	// sniffed is how much of a content tells its type, in bytes.
	sniffed = 512
)

// head makes what stands before a content of so many bytes, which begins as given.
func (r *reply) head(length int, content []byte) {
	b := append(r.out, "HTTP/1.1 "...)
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
	if _, typed := r.header["Content-Type"]; !typed && len(content) > 0 {
		b = append(append(append(b, "Content-Type: "...), http.DetectContentType(content)...), "\r\n"...)
	}
	b = append(b, r.lane.now()...)
	if length == chunked {
		r.out = append(b, "Transfer-Encoding: chunked\r\n\r\n"...)
		return
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	r.out = append(b, "\r\n\r\n"...)
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
