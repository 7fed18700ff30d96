package record

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// plainRecords passes the plain records that b begins with, and returns how
// many bytes they are.
func (v *Validator) plainRecords(b []byte) int {
	var (
		pos       = 0
		most      = v.lim.MaxRecordBytes
		records   = v.sum.Records
		stamped   = v.stamped
		maxMs     = v.sum.MaxTimestampMs
		anyStamps = v.sum.HasTimestamp
	)
	for pos+1 < len(b) && b[pos] == tagRecords {
		n, start := int(b[pos+1]), pos+2
		if n >= 0x80 {
			n, start = longerLength(b, pos+1)
		}
		if n > most || n > len(b)-start {
			break
		}
		ms, has, ok := plainRecord(b[start : start+n])
		if !ok {
			break
		}
		if has {
			stamped++
			if !anyStamps || ms > maxMs {
				maxMs, anyStamps = ms, true
			}
		}
		records++
		pos = start + n
	}
	v.sum.Records, v.stamped = records, stamped
	v.sum.MaxTimestampMs, v.sum.HasTimestamp = maxMs, anyStamps
	return pos
}

// plainRecord reports whether b is a record in the form that generated code
// writes: key, value, headers, timestamp, in this order, each where present,
// and nothing else. ok is false for anything else, good or bad.
//
// The lengths of one byte are read in place: a call for each would double the
// cost of a small record (BenchmarkValidate).
func plainRecord(b []byte) (ms int64, has, ok bool) {
	i := 0
	if i+1 < len(b) && b[i] == tagKey {
		n, start := int(b[i+1]), i+2
		if n >= 0x80 {
			n, start = longerLength(b, i+1)
		}
		if n > len(b)-start {
			return 0, false, false
		}
		i = start + n
	}
	if i+1 < len(b) && b[i] == tagValue {
		n, start := int(b[i+1]), i+2
		if n >= 0x80 {
			n, start = longerLength(b, i+1)
		}
		if n > len(b)-start {
			return 0, false, false
		}
		i = start + n
	}
	if i == len(b) {
		return 0, false, true
	}
	for i+1 < len(b) && b[i] == tagHeaders {
		n, start := shortLength(b, i+1)
		if n > len(b)-start || !plainHeader(b[start:start+n]) {
			return 0, false, false
		}
		i = start + n
	}
	if i < len(b) && b[i] == tagTimestamp {
		ms, i = shortVarint(b, i+1)
		has = i > 0
	}
	return ms, has, i == len(b)
}

// plainHeader is plainRecord for a header.
func plainHeader(b []byte) bool {
	i := 0
	if i < len(b) && b[i] == tagHeaderKey {
		n, start := shortLength(b, i+1)
		if n > len(b)-start || !utf8.Valid(b[start:start+n]) {
			return false
		}
		i = start + n
	}
	if i < len(b) && b[i] == tagHeaderValue {
		n, start := shortLength(b, i+1)
		if n > len(b)-start {
			return false
		}
		i = start + n
	}
	return i == len(b)
}

// shortLength reads a minimal length of up to three bytes at b[i]; next is the
// position after it. If there is none, n is greater than any length.
func shortLength(b []byte, i int) (n, next int) {
	if i < len(b) && b[i] < 0x80 {
		return int(b[i]), i + 1
	}
	return longerLength(b, i)
}

// longerLength is shortLength for lengths of two or three bytes.
func longerLength(b []byte, i int) (n, next int) {
	if i+1 < len(b) && b[i] >= 0x80 && b[i+1] < 0x80 && b[i+1] > 0 {
		return int(b[i]&0x7f) | int(b[i+1])<<7, i + 2
	}
	if i+2 < len(b) && b[i] >= 0x80 && b[i+1] >= 0x80 && b[i+2] < 0x80 && b[i+2] > 0 {
		return int(b[i]&0x7f) | int(b[i+1]&0x7f)<<7 | int(b[i+2])<<14, i + 3
	}
	return math.MaxInt, 0
}

// shortVarint reads a minimal varint of up to eight bytes at b[i], which is
// every time until the year 4253; next is the position after it, 0 if there is
// none. Six bytes, the times from 1971 to 2109, are read at one go.
func shortVarint(b []byte, i int) (x int64, next int) {
	if len(b)-i >= 6 {
		lo, hi := binary.LittleEndian.Uint32(b[i:]), binary.LittleEndian.Uint16(b[i+4:])
		if lo&0x80808080 == 0x80808080 && hi&0x8080 == 0x0080 && hi > 0x00ff {
			return int64(lo&0x7f|lo>>1&(0x7f<<7)|lo>>2&(0x7f<<14)|lo>>3&(0x7f<<21)) |
				int64(hi&0x7f)<<28 | int64(hi>>8)<<35, i + 6
		}
	}
	for s := 0; s < 56 && i < len(b); s += 7 {
		c := b[i]
		i++
		x |= int64(c&0x7f) << s
		if c < 0x80 {
			if c == 0 && s > 0 {
				return 0, 0
			}
			return x, i
		}
	}
	return 0, 0
}
