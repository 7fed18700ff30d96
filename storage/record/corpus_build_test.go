package record

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// corpusCase is a file of testdata/corpus: a batch, friendly or hostile, and
// whether it is accepted.
type corpusCase struct {
	name  string
	bytes []byte
	kind  Kind // why it is refused; 0: it is accepted
}

// Builders of wire format, good and bad.

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func bytesField(num protowire.Number, content ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), join(content...))
}

func varintField(num protowire.Number, x uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), x)
}

func fixed32Field(num protowire.Number) []byte {
	return append(protowire.AppendTag(nil, num, protowire.Fixed32Type), 1, 2, 3, 4)
}

func fixed64Field(num protowire.Number) []byte {
	return append(protowire.AppendTag(nil, num, protowire.Fixed64Type), 1, 2, 3, 4, 5, 6, 7, 8)
}

func recordOf(fields ...[]byte) []byte { return bytesField(1, fields...) }

func str(s string) []byte { return []byte(s) }

// overlong writes x as a varint of n bytes, more than it needs.
func overlong(x uint64, n int) []byte {
	b := protowire.AppendVarint(nil, x)
	for len(b) < n {
		b[len(b)-1] |= 0x80
		b = append(b, 0)
	}
	return b
}

// buildCorpus makes the cases anew.
func buildCorpus(t testing.TB) []corpusCase {
	key, value := bytesField(1, str("k")), bytesField(2, str("v"))
	header := bytesField(3, bytesField(1, str("name")), bytesField(2, str("x")))
	plain := recordOf(key, value)
	maxVarint := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}

	cs := []corpusCase{
		// What is accepted.
		{"one-record", plain, 0},
		{"every-shape", encodeAll(sampleRecords()), 0},
		{"empty-record", recordOf(), 0},
		{"fields-in-another-order", recordOf(varintField(4, 5), header, value, key), 0},
		{"header-between-key-and-value", recordOf(key, header, value, header), 0},
		{"header-fields-in-another-order", recordOf(bytesField(3, value, key)), 0},
		{"timestamp-negative", recordOf(varintField(4, 1<<64-1)), 0},
		{"timestamp-least", recordOf(varintField(4, 1<<63)), 0},
		{"timestamp-greatest", recordOf(varintField(4, 1<<63-1)), 0},
		{"timestamp-zero", recordOf(varintField(4, 0)), 0},
		{"user-fields", join(bytesField(1000, str("\xff\x0b")), recordOf(key, varintField(1000, 7), fixed32Field(1001),
			fixed64Field(1002), bytesField(1003, str("\x0b\x0a\xff"))), varintField(5000, 1)), 0},
		{"user-field-repeated", recordOf(key, varintField(1000, 7), varintField(1000, 8)), 0},
		{"user-field-greatest-number", recordOf(value, varintField(1<<29-1, 1)), 0},
		{"user-field-of-reserved-number", recordOf(value, varintField(19_000, 1)), 0},
		{"user-field-in-header", recordOf(bytesField(3, key, varintField(1000, 1))), 0},
		{"count-of-uncompressed", join(plain, varintField(4, 1)), 0},
		{"compression-none-said", join(varintField(2, 0), plain), 0},
		{"header-keys-utf8", recordOf(bytesField(3, bytesField(1, str("é€😀\x00\uffff")))), 0},
		{"records-around-other-fields", join(plain, varintField(1000, 1), plain, varintField(4, 3), plain), 0},
		{"length-of-two-bytes", recordOf(bytesField(2, bytes.Repeat(str("v"), 200))), 0},
		{"length-of-three-bytes", recordOf(bytesField(2, bytes.Repeat(str("v"), 20_000))), 0},
		{"tombstone", recordOf(key), 0},
		{"empty-key-and-value", recordOf(bytesField(1), bytesField(2)), 0},

		// Tags.
		{"tag-overlong", join([]byte{0x8a, 0x00}, []byte{0x00}), Malformed},
		{"tag-overlong-5", join(overlong(0x0a, 5), []byte{0x00}), Malformed},
		{"tag-overlong-10", join(overlong(0x0a, 10), []byte{0x00}), Malformed},
		{"tag-above-32-bits", join(plain, protowire.AppendVarint(nil, 1<<32|0x0a), []byte{0}), Malformed},
		{"tag-above-32-bits-in-record", recordOf(protowire.AppendVarint(nil, 1<<32|0x0a), []byte{1, 'k'}), Malformed},
		{"tag-of-64-bits", join(plain, maxVarint), Malformed},
		{"tag-cut", join(plain, []byte{0x80}), Malformed},
		{"tag-overlong-in-record", recordOf([]byte{0x8a, 0x00, 1, 'k'}), Malformed},
		{"tag-overlong-in-header", recordOf(bytesField(3, []byte{0x8a, 0x00, 1, 'k'})), Malformed},
		{"field-number-0", join(plain, []byte{0x02, 0x00}), Malformed},
		{"field-number-0-in-record", recordOf([]byte{0x00, 0x00}), Malformed},
		{"field-number-2^29", join(plain, protowire.AppendVarint(nil, 1<<32), []byte{0}), Malformed},
		{"wire-type-6", join(plain, []byte{0xc6, 0x3e, 0x00}), Malformed},
		{"wire-type-7", join(plain, []byte{0xc7, 0x3e, 0x00}), Malformed},

		// Groups.
		{"group-user", join(plain, []byte{0xc3, 0x3e, 0xc4, 0x3e}), Malformed},
		{"group-known", recordOf([]byte{0x0b, 0x0c}), Malformed},
		{"group-end-alone", join(plain, []byte{0x0c}), Malformed},
		{"group-deep", recordOf(bytes.Repeat([]byte{0xc3, 0x3e}, 200), bytes.Repeat([]byte{0xc4, 0x3e}, 200)), Malformed},
		{"group-in-header", recordOf(bytesField(3, []byte{0x0b, 0x0c})), Malformed},

		// Wire types of known fields.
		{"records-as-varint", varintField(1, 1), Malformed},
		{"compression-as-bytes", join(plain, bytesField(2, str("\x01"))), Malformed},
		{"compressed-as-varint", join(plain, varintField(3, 1)), Malformed},
		{"count-as-fixed32", join(plain, fixed32Field(4)), Malformed},
		{"count-as-packed", join(plain, bytesField(4, []byte{1})), Malformed},
		{"key-as-varint", recordOf(varintField(1, 1)), Malformed},
		{"value-as-fixed64", recordOf(fixed64Field(2)), Malformed},
		{"headers-as-varint", recordOf(varintField(3, 1)), Malformed},
		{"timestamp-as-fixed64", recordOf(fixed64Field(4)), Malformed},
		{"timestamp-as-bytes", recordOf(bytesField(4, []byte{1})), Malformed},
		{"header-key-as-varint", recordOf(bytesField(3, varintField(1, 1))), Malformed},
		{"header-value-as-fixed32", recordOf(bytesField(3, fixed32Field(2))), Malformed},

		// Singular fields twice.
		{"key-twice", recordOf(key, key), Malformed},
		{"value-twice", recordOf(value, key, value), Malformed},
		{"timestamp-twice", recordOf(varintField(4, 1), varintField(4, 2)), Malformed},
		{"compression-twice", join(varintField(2, 0), plain, varintField(2, 0)), Malformed},
		{"count-twice", join(varintField(4, 1), plain, varintField(4, 1)), Malformed},
		{"header-key-twice", recordOf(bytesField(3, key, key)), Malformed},
		{"header-value-twice", recordOf(bytesField(3, key, value, value)), Malformed},

		// Lengths.
		{"length-overlong", []byte{0x0a, 0x80, 0x00}, Malformed},
		{"length-overlong-5", join([]byte{0x0a}, overlong(3, 5), key), Malformed},
		{"length-overlong-6", join([]byte{0x0a}, overlong(3, 6), key), Malformed},
		{"length-overlong-in-record", recordOf([]byte{0x0a}, overlong(1, 2), str("k")), Malformed},
		{"length-overlong-in-header", recordOf(bytesField(3, []byte{0x0a}, overlong(1, 2), str("k"))), Malformed},
		{"length-beyond-batch", []byte{0x0a, 0x05, 0x0a, 0x01, 'k'}, Malformed},
		{"length-beyond-record", join(recordOf([]byte{0x0a, 0x05, 'k'}), plain), Malformed},
		{"length-beyond-header", recordOf(bytesField(3, []byte{0x0a, 0x05, 'k'}), value), Malformed},
		{"length-2^31", join([]byte{0x0a}, protowire.AppendVarint(nil, 1<<31)), Malformed},
		{"length-2^32", join([]byte{0x0a}, protowire.AppendVarint(nil, 1<<32), key), Malformed},
		{"length-2^35-and-3", join([]byte{0x0a}, protowire.AppendVarint(nil, 1<<35|3), key), Malformed},
		{"length-negative", join([]byte{0x0a}, maxVarint, key), Malformed},
		{"length-missing", []byte{0x0a}, Malformed},

		// Varints and what they stand for.
		{"varint-overlong", recordOf([]byte{0x20}, overlong(5, 3)), Malformed},
		{"varint-of-11-bytes", recordOf([]byte{0x20}, bytes.Repeat([]byte{0xff}, 10), []byte{0x01}), Malformed},
		{"varint-of-65-bits", recordOf([]byte{0x20}, bytes.Repeat([]byte{0xff}, 9), []byte{0x02}), Malformed},
		{"varint-cut", recordOf([]byte{0x20, 0x80}), Malformed},
		{"varint-of-user-overlong", recordOf(protowire.AppendTag(nil, 1000, protowire.VarintType), overlong(5, 3)), Malformed},
		{"count-2^32-and-1", join(plain, varintField(4, 1<<32|1)), Malformed},
		{"compression-2^32", join(varintField(2, 1<<32), plain), UnknownCompression},
		{"compression-negative", join(varintField(2, 1<<64-1), plain), UnknownCompression},
		{"compression-4", join(varintField(2, 4), bytesField(3, str("x")), varintField(4, 1)), UnknownCompression},
		{"fixed32-cut", recordOf(fixed32Field(1000)[:4]), Malformed},
		{"fixed64-cut", recordOf(fixed64Field(1000)[:9]), Malformed},

		// Fields of no meaning yet.
		{"unknown-5", join(plain, varintField(5, 1)), UnsupportedField},
		{"unknown-7-in-record", recordOf(key, bytesField(7, str("later"))), UnsupportedField},
		{"unknown-999-in-record", recordOf(key, varintField(999, 1)), UnsupportedField},
		{"unknown-3-in-header", recordOf(bytesField(3, key, varintField(3, 1))), UnsupportedField},
		{"offset-delta", recordOf(key, varintField(5, 1)), UnsupportedField},
		{"offset-delta-zero", recordOf(key, varintField(5, 0)), UnsupportedField},

		// Text.
		{"header-key-latin1", recordOf(bytesField(3, bytesField(1, str("gr\xf6\xdfe")))), NotUTF8},
		{"header-key-surrogate", recordOf(bytesField(3, bytesField(1, str("\xed\xa0\x80")))), NotUTF8},
		{"header-key-overlong", recordOf(bytesField(3, bytesField(1, str("\xc0\xaf")))), NotUTF8},
		{"header-key-above-10ffff", recordOf(bytesField(3, bytesField(1, str("\xf4\x90\x80\x80")))), NotUTF8},
		{"header-key-cut", recordOf(bytesField(3, bytesField(1, str("\xe2\x82")))), NotUTF8},

		// Counts.
		{"nothing", nil, EmptyBatch},
		{"no-records", varintField(2, 0), EmptyBatch},
		{"only-user-fields", varintField(1000, 1), EmptyBatch},
		{"count-too-great", join(plain, varintField(4, 2)), WrongCount},
		{"count-too-small", join(plain, plain, varintField(4, 1)), WrongCount},
		{"count-zero-of-one", join(plain, varintField(4, 0)), WrongCount},
	}
	return append(cs, compressedCorpus(t, plain)...)
}

// compressedCorpus are the cases of compressed batches.
func compressedCorpus(t testing.TB, plain []byte) []corpusCase {
	packed := func(c Compression, b []byte) []byte {
		out, err := Compress(nil, b, c)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	batch := func(c Compression, packed []byte, count uint64) []byte {
		return join(varintField(2, uint64(c)), bytesField(3, packed), varintField(4, count))
	}
	all := encodeAll(sampleRecords())
	n := uint64(len(sampleRecords()))
	var cs []corpusCase
	for _, c := range []Compression{Zstd, LZ4, Snappy} {
		p := packed(c, all)
		good := batch(c, p, n)
		hostile := recordOf(varintField(1, 1))
		name := c.String() + "-"
		cs = append(cs,
			corpusCase{name + "every-shape", good, 0},
			corpusCase{name + "fields-in-another-order", join(varintField(4, n), bytesField(3, p), varintField(1000, 1), varintField(2, uint64(c))), 0},
			corpusCase{name + "count-too-great", batch(c, p, n+1), WrongCount},
			corpusCase{name + "count-too-small", batch(c, p, n-1), WrongCount},
			corpusCase{name + "count-missing", good[:len(good)-2], Malformed},
			corpusCase{name + "with-records", join(good, plain), Malformed},
			corpusCase{name + "records-before", join(plain, good), Malformed},
			corpusCase{name + "without-compressed", join(plain, varintField(2, uint64(c))), Malformed},
			corpusCase{name + "compressed-twice", join(good, bytesField(3, p)), Malformed},
			corpusCase{name + "empty", batch(c, packed(c, nil), 0), EmptyBatch},
			corpusCase{name + "of-hostile", batch(c, packed(c, hostile), 1), Malformed},
			corpusCase{name + "of-compressed", batch(c, packed(c, good), n), UnsupportedField},
			corpusCase{name + "of-user-field", batch(c, packed(c, join(plain, varintField(1000, 1))), 1), UnsupportedField},
			corpusCase{name + "of-count", batch(c, packed(c, join(plain, varintField(4, 1))), 1), UnsupportedField},
			corpusCase{name + "cut", batch(c, p[:len(p)-1], n), BadCompression},
			corpusCase{name + "nothing", batch(c, nil, n), BadCompression},
			corpusCase{name + "and-more", batch(c, join(p, []byte{0}), n), BadCompression},
			corpusCase{name + "twice", batch(c, join(p, p), 2*n), BadCompression},
			corpusCase{name + "garbage", batch(c, str("this is not compressed"), n), BadCompression},
			corpusCase{name + "of-utf8-fault", batch(c, packed(c, recordOf(bytesField(3, bytesField(1, str("\xff"))))), 1), NotUTF8},
		)
	}
	return append(cs,
		corpusCase{"compressed-without-compression", join(bytesField(3, plain), varintField(4, 1)), Malformed},
		corpusCase{"compressed-as-none", join(varintField(2, 0), bytesField(3, plain), varintField(4, 1)), Malformed},
		corpusCase{"compressed-empty-without-compression", join(plain, bytesField(3)), Malformed},
		corpusCase{"zstd-bomb", batch(Zstd, packed(Zstd, bombOf(17<<20)), 17), DecompressedTooLarge},
		corpusCase{"zstd-skippable-frame", batch(Zstd, join([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, packed(Zstd, plain)), 1), BadCompression},
		corpusCase{"zstd-window-too-large", batch(Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 14 << 3, 1, 0, 0}, 1), BadCompression},
		corpusCase{"zstd-dictionary", batch(Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 0, 1, 0, 0}, 1), BadCompression},
		corpusCase{"snappy-length-of-16-mib-and-1", batch(Snappy, join(protowire.AppendVarint(nil, 16<<20+1), str("x")), 1), DecompressedTooLarge},
		corpusCase{"snappy-length-overlong", batch(Snappy, join([]byte{0x83, 0x00, 2 << 2}, plain[:3]), 1), BadCompression},
		corpusCase{"s2-repeat", batch(Snappy, []byte{8, 3 << 2, 0x0a, 0x02, 0x12, 0x00, 0x01, 0x04, 0x11, 0x00}, 1), BadCompression},
		corpusCase{"lz4-match-before-start", batch(LZ4, lz4FrameOf([]byte{0x10, 'a', 9, 0, 0x50, 1, 2, 3, 4, 5}), 1), BadCompression},
		corpusCase{"lz4-match-at-end", batch(LZ4, lz4FrameOf([]byte{0x40, 0x0a, 0x02, 0x12, 0x00, 4, 0}), 2), BadCompression},
	)
}

// bombOf are records that decompress to more than n bytes, and compress to
// next to nothing.
func bombOf(n int) []byte {
	var b []byte
	value := []byte(strings.Repeat("0", 1<<20-16))
	for len(b) <= n {
		b = AppendRecord(b, &Record{Value: value})
	}
	return b
}

// lz4FrameOf is a frame of one compressed block, of independent blocks of 64
// KiB without checksums.
func lz4FrameOf(block []byte) []byte {
	head := []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x40}
	head = append(head, byte(xxh32(head[4:])>>8), byte(len(block)), 0, 0, 0)
	return append(append(head, block...), 0, 0, 0, 0)
}
