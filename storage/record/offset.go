package record

import (
	"encoding/hex"
	"fmt"
)

// Offset is the place of a record in a partition, counted from 0. It is never
// negative.
type Offset int64

// LeaderEpoch numbers the reigns of the leaders of a partition. It is never
// negative.
type LeaderEpoch int32

// PartitionID is the number of a partition in its topic, counted from 0.
type PartitionID uint32

// TopicID is the identity of a topic: 16 random bytes. A topic that is deleted
// and created again has another.
type TopicID [16]byte

// String returns the id as 32 lower-case hexadecimal digits, which is safe as
// the name of a file.
func (t TopicID) String() string { return hex.EncodeToString(t[:]) }

// ParseTopicID reads what String wrote.
func ParseTopicID(s string) (TopicID, error) {
	var t TopicID
	if len(s) != 2*len(t) {
		return TopicID{}, fmt.Errorf("topic id %q: not %d hexadecimal digits", s, 2*len(t))
	}
	if _, err := hex.Decode(t[:], []byte(s)); err != nil {
		return TopicID{}, fmt.Errorf("topic id %q: %w", s, err)
	}
	if t.String() != s {
		return TopicID{}, fmt.Errorf("topic id %q: not in lower case", s)
	}
	return t, nil
}

// Pieces are the bytes of one message in order, as the transport handed them
// over. Pieces may be empty.
type Pieces [][]byte

// Len returns the number of bytes in all pieces.
func (p Pieces) Len() int {
	n := 0
	for _, b := range p {
		n += len(b)
	}
	return n
}

// AppendTo appends the bytes of all pieces to dst.
func (p Pieces) AppendTo(dst []byte) []byte {
	for _, b := range p {
		dst = append(dst, b...)
	}
	return dst
}
