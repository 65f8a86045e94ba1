package keystile

import (
	"encoding/binary"
	"hash/crc32"
)

// checksum returns the CRC-32 (IEEE) of s in base62. It finds every change of
// a single character before any lookup and is no protection against anyone.
func checksum(s string) [sumLen]byte {
	n := crc32.ChecksumIEEE(bytesOf(s))
	var digits [sumLen]byte
	for i := sumLen - 1; i >= 0; i-- {
		digits[i] = alphabet[n%uint32(len(alphabet))]
		n /= uint32(len(alphabet))
	}
	return digits
}

// Every check of a key begins with its checksum, and a flood of wrong keys ends
// there, so what follows does the same as checksum in a quarter of the time.
// CRC-32 is linear: the sum of a text is the XOR of what each of its bytes adds
// on its own, which depends on the byte and on how many come after it. For the
// digits of a key, these are in a table; for what stands before them, they are
// one number.

// sums holds by place and byte what the digits of a random part add to the
// checksum: 33 kB, of which digits touch a third.
type sums [randomLen][256]uint32

func (s *sums) fill() {
	for _, c := range []byte(alphabet) {
		sum := crc32.IEEETable[c]
		for place := randomLen - 1; place >= 0; place-- {
			s[place][c] = sum
			sum = crc32.IEEETable[byte(sum)] ^ sum>>8 // one more byte comes after it
		}
	}
}

// add returns what the digits of a random part add to the checksum. What is no
// digit adds nothing. It is written out, in three parts that do not wait for
// each other, since a loop takes twice the time.
func (s *sums) add(b *[bodyLen]byte) uint64 {
	first := s[0][b[0]] ^ s[1][b[1]] ^ s[2][b[2]] ^ s[3][b[3]] ^ s[4][b[4]] ^ s[5][b[5]] ^
		s[6][b[6]] ^ s[7][b[7]] ^ s[8][b[8]] ^ s[9][b[9]] ^ s[10][b[10]]
	second := s[11][b[11]] ^ s[12][b[12]] ^ s[13][b[13]] ^ s[14][b[14]] ^ s[15][b[15]] ^ s[16][b[16]] ^
		s[17][b[17]] ^ s[18][b[18]] ^ s[19][b[19]] ^ s[20][b[20]] ^ s[21][b[21]]
	third := s[22][b[22]] ^ s[23][b[23]] ^ s[24][b[24]] ^ s[25][b[25]] ^ s[26][b[26]] ^ s[27][b[27]] ^
		s[28][b[28]] ^ s[29][b[29]] ^ s[30][b[30]] ^ s[31][b[31]] ^ s[32][b[32]]
	return uint64(first ^ second ^ third)
}

// A head is what stands before the digits of a key: as two words, since a
// comparison of text would be called.
type head struct {
	len                 int // bytes, at most maxHead
	first, last         uint64
	firstBits, lastBits uint64 // which bits of the words are the head's
	sum                 uint64 // the checksum of the head, and of zero bytes in place of the random part
}

// maxHead is two words, and what MaxTokenLen leaves beside a body.
const maxHead = 16

func newHead(text string) head {
	var b, ones [maxHead]byte
	for i := range copy(b[:], text) {
		ones[i] = 0xff
	}
	word := binary.LittleEndian.Uint64
	return head{
		len: len(text), first: word(b[:]), last: word(b[8:]), firstBits: word(ones[:]), lastBits: word(ones[8:]),
		sum: uint64(crc32.ChecksumIEEE(append([]byte(text), make([]byte, randomLen)...))),
	}
}

// A shape is what a format's keys look like.
type shape struct {
	head    string // the prefix and its underscore
	markers []string
	heads   []head // without a marker, and with each
	sums    sums
}

// of returns the head of a token that has the head and the length of a key, and
// what stands behind it; nil for others.
func (s *shape) of(token string) (*head, *[bodyLen]byte) {
	at := len(token) - bodyLen
	if s == nil || at < 0 {
		return nil, nil
	}
	text := bytesOf(token)
	first, last := binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[8:])
	for i := range s.heads {
		if h := &s.heads[i]; h.len == at && (first^h.first)&h.firstBits|(last^h.last)&h.lastBits == 0 {
			return h, (*[bodyLen]byte)(text[at:])
		}
	}
	return nil, nil
}

// sumUp tells whether the body behind a head has the right checksum. There is no
// need for constant time: the checksum is a function of text that the sender
// has, so how long the comparison takes tells nothing new.
func (s *shape) sumUp(h *head, body *[bodyLen]byte) bool {
	return s.sums.add(body)^sumIn(binary.LittleEndian.Uint64(body[bodyLen-8:])) == h.sum
}

// The functions below look at eight digits at a time: every byte of a word is
// one, the first in the text the lowest.
const (
	each    = 0x0101010101010101 // times a byte: that byte in every place
	highest = 0x80 * each
)

// areDigits tells whether all of a body are digits of base 62.
func areDigits(d *[bodyLen]byte) bool {
	// The function is named each time: through a variable it would be called.
	return strangers(binary.LittleEndian.Uint64(d[0:]))|strangers(binary.LittleEndian.Uint64(d[8:]))|
		strangers(binary.LittleEndian.Uint64(d[16:]))|strangers(binary.LittleEndian.Uint64(d[24:]))|
		strangers(binary.LittleEndian.Uint64(d[bodyLen-8:])) == 0
}

// strangers sets the highest bit of each byte that is no digit of base 62, and
// maybe of others beside it. A sum has this bit when its byte is not below the
// bound that was subtracted from 0x80: of two bounds, one sum has it for what
// lies between them.
func strangers(x uint64) uint64 {
	lower := x | 0x20*each // letters A-Z become a-z, and nothing else does
	digit := (x + (0x80-'0')*each) ^ (x + (0x80-'9'-1)*each) ^ (lower + (0x80-'a')*each) ^ (lower + (0x80-'z'-1)*each)
	return (^digit | x) & highest // from 0x80 on, sums run over
}

// sumIn returns the number that six digits stand for, which are the upper bytes
// of a word. It may be more than a checksum can be.
func sumIn(text uint64) uint64 {
	const base = uint64(len(alphabet))
	// The upper three bits of 0-9, A-Z and a-z are 1, 2 and 3.
	letter := text >> 6 & each
	small := letter & (text >> 5)
	values := text - '0'*each - ('A'-'9'-1)*letter - ('a'-'Z'-1)*small
	const even = 0x00ff00ff00ff00ff
	pairs := values&even*base + values>>8&even
	return (pairs>>16&0xffff*base*base+pairs>>32&0xffff)*base*base + pairs>>48
}
