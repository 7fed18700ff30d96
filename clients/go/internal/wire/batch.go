package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of RecordBatch.
const (
	batchRecords     = 1
	batchCompression = 2
	batchCompressed  = 3
	batchRecordCount = 4
)

// AppendCompressedHeader appends the bytes of a RecordBatch that precede its
// `compressed` bytes, of which there are n.
func AppendCompressedHeader(dst []byte, compression int32, records uint32, n int) []byte {
	dst = protowire.AppendTag(dst, batchCompression, protowire.VarintType)
	dst = protowire.AppendVarint(dst, uint64(compression))
	dst = protowire.AppendTag(dst, batchRecordCount, protowire.VarintType)
	dst = protowire.AppendVarint(dst, uint64(records))
	dst = protowire.AppendTag(dst, batchCompressed, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(n))
}

// MaxCompressedHeader is the most that AppendCompressedHeader appends.
const MaxCompressedHeader = 2 + 6 + 6

// Compressed finds the `compressed` bytes of a RecordBatch. BORROWED.
func Compressed(batch []byte) ([]byte, error) {
	var found []byte
	for len(batch) > 0 {
		f, ok := next(batch)
		if !ok {
			return nil, &MalformedError{Message: "RecordBatch", What: "does not decode"}
		}
		if f.number == batchCompressed && f.kind == protowire.BytesType {
			found = f.bytes
		}
		batch = batch[f.size:]
	}
	if found == nil {
		return nil, &MalformedError{Message: "RecordBatch", What: "compressed is missing"}
	}
	return found, nil
}
