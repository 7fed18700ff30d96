package segment

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/millstream-io/millstream/storage/record"
)

// The endings of the names of files that belong to a segment, and how many
// digits of its base offset stand before them.
const (
	LogSuffix = ".log"
	// IndexSuffix marks the index of a sealed segment. Its presence seals.
	IndexSuffix = ".index"
	// PartialSuffix marks the index of the first part of a segment that is
	// still written. It is a cache: it may be missing, old, or damaged.
	PartialSuffix = ".partial"

	nameDigits = 20
)

// Name returns the name of a file that belongs to the segment with the given
// base offset.
func Name(base record.Offset, suffix string) string {
	return fmt.Sprintf("%0*d%s", nameDigits, base, suffix)
}

// ParseName returns what Name was given; false if name is of another form.
func ParseName(name string) (base record.Offset, suffix string, ok bool) {
	if len(name) <= nameDigits {
		return 0, "", false
	}
	digits, suffix := name[:nameDigits], name[nameDigits:]
	switch suffix {
	case LogSuffix, IndexSuffix, PartialSuffix:
	default:
		return 0, "", false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.ContainsAny(digits, "+-") {
		return 0, "", false
	}
	return record.Offset(n), suffix, true
}
