package wire

import (
	"github.com/millstream-io/millstream/storage/record"
)

// Splitter divides an uncompressed batch among the partitions of a topic, by
// the keys of its records. It copies the bytes of records and encodes none. It
// is reused, allocates nothing per record once its buffers have grown, and
// belongs to one goroutine. The zero value is ready.
type Splitter struct {
	ranges record.Ranges
	batch  record.Pieces
	parts  []Part
	slots  []uint32 // by partition: index in parts, plus 1; 0: none
	places []place  // by record
	order  []uint32 // indexes of records, part by part
}

// Part is what goes to one partition.
type Part struct {
	Partition record.PartitionID
	// Records are the indexes in the batch of the records of the part, rising.
	// BORROWED: until the next Split.
	Records []uint32
	// Bytes is the size of the part as a batch.
	Bytes int

	count int // of Records
}

// place is where a record lies in the batch, and the part that it goes to.
type place struct {
	start, end uint32
	part       uint32
}

// keptRecords is the number of records for which a splitter keeps its buffers
// from batch to batch.
const keptRecords = 1 << 16

// Split divides batch among so many partitions: records with a key as
// record.PartitionForKey says, all without one to `keyless`. The first part
// has the first record. It refuses a batch with fields of the user's beside
// its records, for they would belong to no part: an *UnsupportedFieldError.
//
// REQUIRES: batch has passed a Validator and is not compressed;
// keyless < partitions. BORROWED: batch, until the last AppendPart.
func (s *Splitter) Split(batch record.Pieces, partitions uint32, keyless record.PartitionID) error {
	s.Release()
	s.batch = batch
	if cap(s.slots) < int(partitions) {
		s.slots = make([]uint32, partitions)
	}
	s.slots = s.slots[:partitions]
	s.ranges.Reset(batch)
	for s.ranges.Next() {
		p := keyless
		if key := s.ranges.Key(); key != nil {
			p = record.PartitionForKey(key, partitions)
		}
		i := s.slots[p]
		if i == 0 {
			s.parts = append(s.parts, Part{Partition: p})
			i = uint32(len(s.parts))
			s.slots[p] = i
		}
		start, end := s.ranges.Start(), s.ranges.End()
		s.parts[i-1].Bytes += end - start
		s.parts[i-1].count++
		s.places = append(s.places, place{start: uint32(start), end: uint32(end), part: i - 1})
	}
	for i := range s.parts {
		s.slots[s.parts[i].Partition] = 0
	}
	if n := s.ranges.Foreign(); n != 0 {
		return &UnsupportedFieldError{Message: "RecordBatch", Number: int32(n)}
	}
	s.group()
	return nil
}

// Parts returns the parts. If there is one, the batch goes there as it is.
// BORROWED: until the next Split.
func (s *Splitter) Parts() []Part { return s.parts }

// AppendPart appends the bytes of part i, which are a RecordBatch, to dst.
func (s *Splitter) AppendPart(dst []byte, i int) []byte {
	var (
		piece = 0
		at    = 0 // position of that piece in the batch
	)
	for _, k := range s.parts[i].Records {
		start, end := int(s.places[k].start), int(s.places[k].end)
		for start < end {
			for at+len(s.batch[piece]) <= start {
				at += len(s.batch[piece])
				piece++
			}
			b := s.batch[piece][start-at:]
			b = b[:min(len(b), end-start)]
			dst = append(dst, b...)
			start += len(b)
		}
	}
	return dst
}

// Release drops what was borrowed, and buffers that a rare batch made large.
func (s *Splitter) Release() {
	s.ranges.Reset(nil)
	s.batch = nil
	s.parts, s.places, s.order = s.parts[:0], s.places[:0], s.order[:0]
	if cap(s.places) > keptRecords {
		s.places, s.order = nil, nil
	}
}

// group lists the records part by part: a counting sort, which keeps the order
// of records within a part.
func (s *Splitter) group() {
	if cap(s.order) < len(s.places) {
		s.order = make([]uint32, len(s.places))
	}
	s.order = s.order[:len(s.places)]
	from := 0
	for i := range s.parts {
		p := &s.parts[i]
		p.Records = s.order[from : from : from+p.count]
		from += p.count
	}
	for k := range s.places {
		p := &s.parts[s.places[k].part]
		p.Records = append(p.Records, uint32(k))
	}
}
