package lane

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
)

// desk is what answering a request takes. It goes from request to request.
type desk struct {
	request http.Request
	url     url.URL
	header  http.Header
	values  [maxHeaders]string
	body    body
	reply   reply
}

// maxHeaders is how many headers a request of the lane may have.
const maxHeaders = 32

func (l *Lane) desk() *desk {
	if d, ok := l.desks.Get().(*desk); ok {
		return d
	}
	return &desk{header: make(http.Header, maxHeaders), reply: reply{header: make(http.Header, maxHeaders)}}
}

// cleared forgets the request, and keeps the memory.
func (d *desk) cleared() *desk {
	d.begin()
	d.reply.begin()
	d.reply.to, d.reply.lane = nil, nil
	return d
}

func (d *desk) begin() {
	d.request, d.url = http.Request{}, url.URL{}
	clear(d.header)
	clear(d.values[:])
	d.body.Reset(nil)
}

type body struct{ bytes.Reader }

// Close implements io.Closer.
func (*body) Close() error { return nil }

// verdict is what bytes are to the lane.
type verdict int

const (
	other verdict = iota // net/http's business
	part                 // the beginning of what could be the lane's
	whole
)

// read makes a request of the bytes that p begins with, so many, if they are
// all of a plain one: what net/http would make of them, in every member. It
// writes the names of headers in p in their canonical form, as net/http does.
func (d *desk) read(p []byte) (size int, v verdict) {
	d.begin()
	end, v := scan(p)
	if v != whole {
		return 0, v
	}
	head, ok := d.line(string(p[:end]))
	if !ok {
		return 0, other
	}
	length, ok := d.headers(head)
	switch {
	case !ok || d.request.Method == http.MethodGet && length > 0:
		return 0, other
	case length > len(p)-end:
		return 0, part
	}
	r := &d.request
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.URL, r.Header, r.Body, r.ContentLength = &d.url, d.header, http.NoBody, int64(length)
	if length > 0 {
		d.body.Reset(p[end : end+length])
		r.Body = &d.body
	}
	d.reply.begin()
	return end + length, whole
}

// scan finds the end of a head (RFC 9112, section 2.1): lines that end with CR LF,
// of printable ASCII and spaces alone, the names of headers without anything
// between them and their colon.
func scan(p []byte) (end int, v verdict) {
	if len(p) > 0 && p[0] != 'G' && p[0] != 'P' {
		return 0, other
	}
	i, ok := skip(p, 0)
	if !ok {
		return 0, other
	}
	for {
		switch {
		case i == len(p):
			return 0, part
		case p[i] == '\r' && i+1 == len(p):
			return 0, part
		case p[i] == '\r' && p[i+1] == '\n':
			return i + 2, whole
		}
		if i, ok = name(p, i); !ok {
			return 0, other
		}
		if i, ok = skip(p, i); !ok {
			return 0, other
		}
	}
}

// skip returns where the next line begins, or the end of p.
func skip(p []byte, i int) (next int, ok bool) {
	for i < len(p) && ' ' <= p[i] && p[i] <= '~' {
		i++
	}
	switch {
	case i+1 >= len(p):
		return len(p), i == len(p) || p[i] == '\r'
	default:
		return i + 2, p[i] == '\r' && p[i+1] == '\n'
	}
}

// name puts the name of a header into its canonical form, and returns where its
// value begins, or the end of p.
func name(p []byte, i int) (value int, ok bool) {
	first, upper := i, true
	for ; i < len(p); i++ {
		switch c := p[i]; {
		case c == ':':
			return i + 1, i > first
		case 'a' <= c && c <= 'z':
			if upper {
				p[i] = c - 'a' + 'A'
			}
		case 'A' <= c && c <= 'Z':
			if !upper {
				p[i] = c - 'A' + 'a'
			}
		case c != '-' && (c < '0' || c > '9') && c != '_':
			return 0, false
		}
		upper = p[i] == '-'
	}
	return i, true
}

// line reads the request line, and returns the headers.
func (d *desk) line(head string) (rest string, ok bool) {
	line, rest, _ := strings.Cut(head, "\r\n")
	r := &d.request
	r.Method, line, _ = strings.Cut(line, " ")
	r.RequestURI, ok = strings.CutSuffix(line, " HTTP/1.1")
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodPost {
		return "", false
	}
	path, query, asked := strings.Cut(r.RequestURI, "?")
	if path == "" || path[0] != '/' || !only(path, "/-._~") || asked && (query == "" || !only(query, "/-._~=&%+:,*")) {
		return "", false
	}
	d.url.Path, d.url.RawQuery = path, query
	return rest, true
}

// only tells whether a text has letters, digits and the others that are named.
func only(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// headers reads the headers, and returns the length of the body. It takes none
// that says how the connection goes on, or where the request ends, in any other
// way than by one length in digits.
func (d *desk) headers(text string) (length int, ok bool) {
	measured := false
	for n := 0; len(text) > len("\r\n"); n++ {
		var line string
		line, text, _ = strings.Cut(text, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " ")
		switch name {
		case "Host":
			if d.request.Host != "" || value == "" || !only(value, ".:-[]") {
				return 0, false
			}
			d.request.Host = value
			continue
		case "Content-Length":
			if length, ok = digits(value); !ok || measured {
				return 0, false
			}
			measured = true
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return 0, false
			}
		case "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Http2-Settings", "Pragma":
			return 0, false
		}
		if _, twice := d.header[name]; twice || n == maxHeaders {
			return 0, false
		}
		d.values[n] = value
		d.header[name] = d.values[n : n+1 : n+1]
	}
	return length, d.request.Host != ""
}

// digits reads a length of up to four digits.
func digits(s string) (n int, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n, len(s) >= 1 && len(s) <= 4
}
