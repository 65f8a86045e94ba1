package bench

import (
	"hash/crc32"
	"math/bits"
	"math/rand/v2"

	"github.com/keystile/keystile"
)

const (
	digits    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	randomLen = 33 // digits
	sumLen    = 6

	prefix, marker = "gw", "live"
	head           = prefix + "_" + marker + "_"
)

// secrets makes the text of a key from its number, so that ten million of them
// need not be kept: 600 MB that would push what is measured out of the caches.
// The texts follow docs/spec/token.md, but nothing about them is secret.
type secrets struct{ seed uint64 }

// append appends the text of the key with the number to b.
func (s secrets) append(b []byte, number uint64) []byte {
	from := len(b)
	b = append(b, head...)
	b = append(b, '0') // so that the digits stand for less than 2^192
	random := rand.NewPCG(s.seed, number)
	for left := randomLen - 1; left > 0; left -= 8 {
		// The upper bits of one word are eight digits: 62^8 is less than 2^48.
		word := random.Uint64()
		for range min(left, 8) {
			var digit uint64
			digit, word = bits.Mul64(word, uint64(len(digits)))
			b = append(b, digits[digit])
		}
	}
	sum := crc32.ChecksumIEEE(b[from:])
	b = append(b, "000000"...)
	for i := range sumLen {
		b[len(b)-1-i] = digits[sum%uint32(len(digits))]
		sum /= uint32(len(digits))
	}
	return b
}

func (s secrets) digest(number uint64) [32]byte {
	var room [keystile.MaxTokenLen]byte
	return keystile.Digest(string(s.append(room[:0], number)))
}

// texts returns the keys with the numbers. They share one piece of memory.
func (s secrets) texts(numbers []uint64) []string {
	var b []byte
	for _, n := range numbers {
		b = s.append(b, n)
	}
	return cut(string(b), len(numbers))
}

// texts are the numbers of a batch of each kind.
type texts struct{ valid, unknown [batch]uint64 }

// make returns the keys of a batch. The malformed ones are the valid ones with
// another last digit, which is one of the checksum.
func (s secrets) make(t *texts) (valid, unknown, malformed []string) {
	valid, unknown = s.texts(t.valid[:]), s.texts(t.unknown[:])
	var b []byte
	for _, v := range valid {
		last := v[len(v)-1] + 1
		if last == '9'+1 || last == 'Z'+1 || last == 'z'+1 {
			last = '0'
		}
		b = append(append(b, v[:len(v)-1]...), last)
	}
	return valid, unknown, cut(string(b), len(valid))
}

// cut divides a text into n of the same length.
func cut(all string, n int) []string {
	parts := make([]string, n)
	each := len(all) / max(n, 1)
	for i := range parts {
		parts[i] = all[i*each : (i+1)*each]
	}
	return parts
}
