package history

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Digest stands for the content of a record or a batch: xxhash64, written as
// 16 hexadecimal digits. Whoever makes a history sees to it that no two records
// have the same content, by a number in each.
type Digest uint64

// MarshalText writes the digits.
func (d Digest) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(d)), nil }

// UnmarshalText reads the digits.
func (d *Digest) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || len(b) != 16 {
		return fmt.Errorf("digest %.20q: must be 16 hexadecimal digits", b)
	}
	*d = Digest(n)
	return nil
}

// DigestRecord returns the digest of a record's key and value. A key that is
// absent (nil) differs from an empty one.
func DigestRecord(key, value []byte) Digest {
	var d xxhash.Digest
	d.Reset()
	var head [9]byte
	if key != nil {
		head[0] = 1
		binary.LittleEndian.PutUint64(head[1:], uint64(len(key)))
	}
	_, _ = d.Write(head[:]) // a hash never fails
	_, _ = d.Write(key)
	_, _ = d.Write(value)
	return Digest(d.Sum64())
}

// Sum folds the digests of the records of a batch, in order.
type Sum struct{ content Content }

// Add adds the next record.
func (s *Sum) Add(d Digest) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], uint64(s.content.Digest))
	binary.LittleEndian.PutUint64(b[8:], uint64(d))
	s.content.Digest = Digest(xxhash.Sum64(b[:]))
	s.content.N++
}

// Content returns number and digest of what was added.
func (s *Sum) Content() Content { return s.content }
