package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a number of bytes, written 4096, 64KiB, 16MiB or 1GiB.
type Bytes int64

var units = []struct {
	suffix string
	size   Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// Kind names what the value is, for help.
func (Bytes) Kind() string { return "size" }

// String writes the number with the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range units {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText is String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what String writes.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, size := string(text), Bytes(1)
	for _, u := range units {
		if digits, ok := strings.CutSuffix(s, u.suffix); ok {
			s, size = digits, u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/int64(size) {
		return fmt.Errorf("must be a size like 4096, 64KiB, 16MiB or 1GiB")
	}
	*b = Bytes(n) * size
	return nil
}
