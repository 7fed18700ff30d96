package record

// Summary is what validation learned about a producer's RecordBatch: counted,
// never trusted.
type Summary struct {
	// Records is the number of records; at least 1.
	Records     uint32
	Compression Compression
	// MaxTimestampMs is the greatest timestamp of the records that carry one;
	// meaningful if HasTimestamp.
	MaxTimestampMs int64
	// HasTimestamp: at least one record carries a timestamp.
	HasTimestamp bool
	// AllTimestamps: every record does. Else the append time of the batch
	// takes part in its greatest timestamp.
	AllTimestamps bool
	// CRC is the CRC-32C of the bytes of the batch.
	CRC uint32
	// Bytes is the number of bytes of the batch as sent.
	Bytes int
}

// Validator checks batches of producers by the rules of
// docs/format/validation.md. It is reused from batch to batch and then
// allocates nothing; it belongs to one goroutine. The zero value is ready.
type Validator struct {
	lim     Limits
	sum     Summary
	stamped uint32 // records that carry a timestamp
	top     topFields
	cur     Cursor
	packed  Pieces // bytes of `compressed`, BORROWED from the batch
	one     [1][]byte
	bad     InvalidBatchError // what fail was told
}

// topFields is what was found of RecordBatch beside its records.
type topFields struct {
	hasCompression, hasCompressed, hasCount bool

	compression uint64
	count       uint32
}

// Validate checks a producer's RecordBatch. The error is an
// *InvalidBatchError; the summary's Bytes and, but for BatchTooLarge, CRC hold
// then too, so that the caller can tell bytes damaged on their way. BORROWED:
// batch, for the call.
func (v *Validator) Validate(batch Pieces, lim Limits) (Summary, error) {
	v.lim = lim.withDefaults()
	v.sum = Summary{Bytes: batch.Len()}
	v.stamped, v.top = 0, topFields{}
	defer v.release()
	if v.sum.Bytes > v.lim.MaxBatchBytes {
		return v.sum, &InvalidBatchError{
			Kind: BatchTooLarge, Field: "batch",
			Limit: int64(v.lim.MaxBatchBytes), Actual: int64(v.sum.Bytes),
		}
	}
	v.sum.CRC = batch.CRC()
	if !v.walk(batch, false) || !v.unpack() || !v.count() {
		return v.sum, v.error()
	}
	v.sum.AllTimestamps = v.stamped == v.sum.Records
	return v.sum, nil
}

// release drops what the validator borrowed.
func (v *Validator) release() {
	v.cur = Cursor{}
	v.one[0] = nil
	clear(v.packed[:cap(v.packed)])
	v.packed = v.packed[:0]
}

// unpack checks the fields beside the records against each other, and what is
// inside `compressed`.
func (v *Validator) unpack() bool {
	t := &v.top
	switch {
	case t.hasCompression && t.compression > uint64(maxCompression):
		return v.fail(InvalidBatchError{Kind: UnknownCompression, Field: "batch.compression", Actual: int64(t.compression)})
	case t.hasCompressed && v.sum.Records > 0:
		return v.malformed(inCompressed, "records and compressed exclude each other")
	case t.hasCompressed && t.compression == uint64(None):
		return v.malformed(inCompression, "missing beside compressed")
	case !t.hasCompressed && t.compression != uint64(None):
		return v.malformed(inCompressed, "missing beside compression")
	case t.hasCompressed && !t.hasCount:
		return v.malformed(inCount, "missing beside compressed")
	case !t.hasCompressed:
		return true
	}
	v.sum.Compression = Compression(t.compression)
	d := takeDecoder()
	defer d.put()
	out, err := d.decompress(v.packed, v.sum.Compression, v.lim.MaxDecompressedBytes)
	if err != nil {
		return v.fail(*err)
	}
	v.one[0] = out
	return v.walk(v.one[:], true)
}

// count compares the number of records with what the batch says.
func (v *Validator) count() bool {
	if v.top.hasCount && v.top.count != v.sum.Records {
		return v.fail(InvalidBatchError{
			Kind: WrongCount, Field: "batch.record_count",
			Limit: int64(v.top.count), Actual: int64(v.sum.Records),
		})
	}
	if v.sum.Records == 0 {
		return v.fail(InvalidBatchError{Kind: EmptyBatch, Field: "batch"})
	}
	return true
}

// fail keeps the first error: nothing is allocated until it is returned.
func (v *Validator) fail(e InvalidBatchError) bool {
	if v.bad.Kind == 0 {
		v.bad = e
	}
	return false
}

func (v *Validator) error() error {
	e := v.bad
	v.bad = InvalidBatchError{}
	return &e
}
