package verify

import "encoding/binary"

// KeyPrefix is what the ID of a key begins with.
const KeyPrefix = "key_"

// idDigits is the alphabet of RFC 4648, section 7 (base32hex), in lower case.
// It is in ASCII order, so that IDs sort as their bytes do.
const idDigits = "0123456789abcdefghijklmnopqrstuv"

// idLen is how many digits of five bits hold 128 bits. The last digit holds
// three, its lower two bits are zero.
const idLen = 26

// EncodeID writes an ID: the prefix, which ends with an underscore, and 26
// digits.
func EncodeID(prefix string, id [16]byte) string {
	digits := digitsOf(binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:]))
	return prefix + string(digits[:])
}

// digitsOf takes twelve digits from either half, the one that lies across both,
// and the last: none has to wait for the one before.
func digitsOf(hi, lo uint64) (digits [idLen]byte) {
	for i := range 12 {
		digits[i] = idDigits[hi>>(59-5*i)&31]
		digits[13+i] = idDigits[lo>>(58-5*i)&31]
	}
	digits[12] = idDigits[hi<<1&31|lo>>63]
	digits[25] = idDigits[lo<<2&31]
	return digits
}

// DecodeID reads what EncodeID has written and nothing else: no other case,
// no other length, no spare bits that are set. So each object has one ID.
func DecodeID(prefix, s string) (id [16]byte, ok bool) {
	if len(s) != len(prefix)+idLen || s[:len(prefix)] != prefix {
		return id, false
	}
	digits := s[len(prefix):]
	var hi, lo uint64
	for i := range idLen {
		var v uint64
		switch c := digits[i]; {
		case '0' <= c && c <= '9':
			v = uint64(c - '0')
		case 'a' <= c && c <= 'v':
			v = uint64(c-'a') + 10
		default:
			return id, false
		}
		if i < idLen-1 {
			hi, lo = hi<<5|lo>>59, lo<<5|v
			continue
		}
		if v&3 != 0 {
			return id, false
		}
		hi, lo = hi<<3|lo>>61, lo<<3|v>>2
	}
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id, true
}
