package record

import "fmt"

// Compression says how a batch is compressed. Its numbers are those of
// millstream.v1.Compression.
type Compression uint8

// The compressions.
const (
	None   Compression = 0
	Zstd   Compression = 1
	LZ4    Compression = 2
	Snappy Compression = 3

	maxCompression = Snappy
)

// String returns the name as users write it.
func (c Compression) String() string {
	switch c {
	case None:
		return "none"
	case Zstd:
		return "zstd"
	case LZ4:
		return "lz4"
	case Snappy:
		return "snappy"
	}
	return fmt.Sprintf("compression(%d)", uint8(c))
}

// Attributes are the bits of LogBatch.attributes.
type Attributes uint32

// The attributes. Bits that are not named here are zero.
const (
	compressionMask Attributes = 1<<3 - 1

	// PayloadFormatMask covers the payload format; 0 is RecordBatch, the only
	// one there is.
	PayloadFormatMask Attributes = (1<<4 - 1) << 3
	// Encrypted says that the batch's bytes are encrypted.
	Encrypted Attributes = 1 << 7
	// HasTimers says that a record of the batch is to be delivered later.
	HasTimers Attributes = 1 << 8
	// Transactional says that the batch belongs to a transaction.
	Transactional Attributes = 1 << 9
	// Control says that the batch holds markers, not records of a user.
	Control Attributes = 1 << 10
	// Sparse says that each record carries its offset_delta.
	Sparse Attributes = 1 << 11
	// AppendTime says that the time of every record is the append time of the
	// batch, whatever the record says.
	AppendTime Attributes = 1 << 12
)

// Compression returns the compression that a says.
func (a Attributes) Compression() Compression { return Compression(a & compressionMask) }

// WithCompression returns a with c in place of its compression.
func (a Attributes) WithCompression(c Compression) Attributes {
	return a&^compressionMask | Attributes(c)&compressionMask
}

// Has reports whether every bit of bits is set.
func (a Attributes) Has(bits Attributes) bool { return a&bits == bits }
