package api

import (
	"math/bits"

	"github.com/keystile/keystile"
)

// A scanner reads the bodies of verify and its batch as nearly all clients
// write them: objects of known members whose values are [plain] strings. It is not a second opinion: where it meets anything
// else it fails, and encoding/json reads the body instead (RFC 8259 is the rule
// for both).
type scanner struct {
	text   string
	at     int
	failed bool
}

// done tells whether all was read, to the end of the text.
func (s *scanner) done() bool { return !s.failed && s.next() == 0 && s.at == len(s.text) }

// next skips space and returns the byte that follows, 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take takes a byte if it is the next one.
func (s *scanner) take(c byte) bool {
	if s.next() != c || s.failed {
		return false
	}
	s.at++
	return true
}

// want takes a byte that must be the next one.
func (s *scanner) want(c byte) {
	if !s.take(c) {
		s.failed = true
	}
}

// str reads a plain string.
func (s *scanner) str() string {
	s.want('"')
	rest := s.text[s.at:]
	if n := plainTo(rest); n < len(rest) && rest[n] == '"' {
		s.at += n + 1
		return rest[:n]
	}
	s.failed = true
	return ""
}

// plain tells whether a string stands in JSON as it is: ASCII without controls,
// quotes and backslashes.
func plain(s string) bool { return plainTo(s) == len(s) }

// plainTo returns how long the beginning of a string is that is [plain]. It looks
// at eight bytes at once: a subtraction borrows from the highest bit of those
// that are too small (Warren, Hacker's Delight, section 6-1). Behind the first of
// them it may borrow from others, but what counts is the first.
func plainTo(s string) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		e := s[i : i+8]
		w := uint64(e[0]) | uint64(e[1])<<8 | uint64(e[2])<<16 | uint64(e[3])<<24 |
			uint64(e[4])<<32 | uint64(e[5])<<40 | uint64(e[6])<<48 | uint64(e[7])<<56
		quote, back := w^ones*'"', w^ones*'\\'
		if found := (w | (w-ones*' ')&^w | (quote-ones)&^quote | (back-ones)&^back) & tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// more tells whether another element follows in an object or list, of which n
// were read. It takes what stands between them, or the end.
func (s *scanner) more(n int, end byte) bool {
	if s.failed || s.take(end) {
		return false
	}
	if n > 0 {
		s.want(',')
	}
	return !s.failed
}

// request reads a [keystile.VerifyRequest].
func (s *scanner) request(q *keystile.VerifyRequest) {
	s.want('{')
	for n := 0; s.more(n, '}'); n++ {
		name := s.str()
		s.want(':')
		value := s.str()
		switch name {
		case "key":
			q.Key = value
		case "permission":
			q.Permission = value
		case "workspace":
			q.Workspace = value
		case "ip":
			q.IP = value
		case "user_agent":
			q.UserAgent = value
		default:
			s.failed = true
		}
	}
}

// batch reads a [batch].
func (s *scanner) batch(q *batch) {
	s.want('{')
	if s.str() != "requests" {
		s.failed = true
	}
	s.want(':')
	s.want('[')
	for n := 0; s.more(n, ']'); n++ {
		if n == maxBatch {
			s.failed = true
			return
		}
		q.Requests = append(q.Requests, keystile.VerifyRequest{})
		s.request(&q.Requests[n])
	}
	s.want('}')
}
