package record

// The greatest limits that a topic can have. They keep a batch, and any one
// record of it, below the 4 MiB that gRPC clients accept by default.
const (
	// MaxBatchBytes bounds `max.batch.bytes`: the bytes of a RecordBatch as
	// sent.
	MaxBatchBytes = 3 << 20
	// MaxRecordBytes bounds `max.record.bytes`: the bytes of a Record message.
	MaxRecordBytes = 1 << 20
	// MaxDecompressedBytes bounds the bytes of a decompressed RecordBatch.
	MaxDecompressedBytes = 16 << 20
	// MaxZstdWindow bounds the window of a Zstandard frame, in bytes.
	MaxZstdWindow = 8 << 20
	// MaxLogBatchBytes bounds the bytes of a LogBatch in a log. A longer
	// length found in a file is damage, so nobody allocates for it.
	MaxLogBatchBytes = 4 << 20
)

// Limits are the limits of one topic, in bytes. Zero or less means the
// greatest value that there is, and so does anything above it.
type Limits struct {
	// MaxBatchBytes bounds the bytes of the batch as sent.
	MaxBatchBytes int
	// MaxRecordBytes bounds the bytes of each Record message.
	MaxRecordBytes int
	// MaxDecompressedBytes bounds the bytes of the batch once decompressed.
	MaxDecompressedBytes int
}

func (l Limits) withDefaults() Limits {
	return Limits{
		MaxBatchBytes:        limit(l.MaxBatchBytes, MaxBatchBytes),
		MaxRecordBytes:       limit(l.MaxRecordBytes, MaxRecordBytes),
		MaxDecompressedBytes: limit(l.MaxDecompressedBytes, MaxDecompressedBytes),
	}
}

func limit(v, greatest int) int {
	if v <= 0 || v > greatest {
		return greatest
	}
	return v
}
