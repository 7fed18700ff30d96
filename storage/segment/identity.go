package segment

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/millstream-io/millstream/storage/record"
)

// Identity says which log a segment belongs to.
type Identity struct {
	ClusterID [16]byte
	TopicID   record.TopicID
	Partition record.PartitionID
}

// FirstPosition is where the batches of a segment begin, in bytes from the
// start of the file: its SegmentInfo stands before them.
const FirstPosition = int64(record.SegmentInfoSize)

// Info returns the SegmentInfo of the segment with the given base offset.
func (id *Identity) Info(base record.Offset) record.SegmentInfo {
	return record.SegmentInfo{
		ClusterID: id.ClusterID, TopicID: id.TopicID, Partition: id.Partition, BaseOffset: base,
	}
}

// check compares the info of a file with what the file should be.
func (id *Identity) check(file string, base record.Offset, got *record.SegmentInfo) error {
	switch want := id.Info(base); {
	case got.ClusterID != want.ClusterID:
		return &MismatchError{
			File: file, Field: "cluster_id",
			Got: hex.EncodeToString(got.ClusterID[:]), Want: hex.EncodeToString(want.ClusterID[:]),
		}
	case got.TopicID != want.TopicID:
		return &MismatchError{File: file, Field: "topic_id", Got: got.TopicID.String(), Want: want.TopicID.String()}
	case got.Partition != want.Partition:
		return &MismatchError{
			File: file, Field: "partition",
			Got: strconv.FormatUint(uint64(got.Partition), 10), Want: strconv.FormatUint(uint64(want.Partition), 10),
		}
	case got.BaseOffset != want.BaseOffset:
		return &MismatchError{
			File: file, Field: "base_offset",
			Got: strconv.FormatInt(int64(got.BaseOffset), 10), Want: strconv.FormatInt(int64(want.BaseOffset), 10),
		}
	}
	return nil
}

// ReadInfo reads the SegmentInfo that a file begins with. The errors are
// *CorruptError, and *record.UnsupportedVersionError, wrapped.
func ReadInfo(f io.ReaderAt, file string, base record.Offset) (record.SegmentInfo, error) {
	var b [record.SegmentInfoSize]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return record.SegmentInfo{}, &CorruptError{File: file, Offset: base, Cause: err}
	}
	info, _, err := record.ParseSegmentInfo(b[:n])
	if err == nil {
		return info, nil
	}
	if version := (*record.UnsupportedVersionError)(nil); errors.As(err, &version) {
		return record.SegmentInfo{}, fmt.Errorf("%s: %w", file, err)
	}
	if errors.Is(err, record.ErrShort) {
		err = ErrTruncated
	}
	return record.SegmentInfo{}, &CorruptError{File: file, Offset: base, Cause: err}
}
