package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/millstream-io/millstream/storage/record"
)

// ReadHead is what a broker that passes a ReadResponse on has to know of it.
type ReadHead struct {
	Offset      record.Offset
	LeaderEpoch record.LeaderEpoch
}

// Parse reads the head of a message. The error is a *MalformedError.
func (h *ReadHead) Parse(b []byte) error {
	*h = ReadHead{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return &MalformedError{Why: "a record does not decode"}
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return &MalformedError{Why: "a record does not decode"}
		}
		if typ == protowire.VarintType {
			x, _ := protowire.ConsumeVarint(b[n:])
			switch int32(num) {
			case 2:
				h.Offset = record.Offset(x)
			case 4:
				h.LeaderEpoch = record.LeaderEpoch(x)
			}
		}
		b = b[n+size:]
	}
	return nil
}
