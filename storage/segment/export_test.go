package segment

import "github.com/millstream-io/millstream/storage/record"

// ParseIndex is parseIndex, for the fuzzer.
func ParseIndex(b []byte, info *record.SegmentInfo) (*Index, error) { return parseIndex(b, info) }

// AppendIndex is appendIndex.
func AppendIndex(dst []byte, info *record.SegmentInfo, x *Index) []byte {
	return appendIndex(dst, info, x)
}

// CommittedAfter is Scanner.committedAfter.
func (s *Scanner) CommittedAfter() (record.Offset, bool) { return s.committedAfter() }
