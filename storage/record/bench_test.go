package record

import (
	"bytes"
	"fmt"
	"testing"
)

// benchBatch is a batch of about 256 KiB of records with values of this size.
func benchBatch(value int, keyed, stamped bool) (b []byte, records int) {
	r := Record{Value: bytes.Repeat([]byte{'v'}, value)}
	if keyed {
		r.Key = []byte("key-0123456789")
	}
	if stamped {
		r.TimestampMs, r.HasTimestamp = 1_700_000_000_123, true
	}
	for len(b)+r.Size() < 256<<10 {
		b = AppendRecord(b, &r)
		records++
	}
	return b, records
}

func piecesOf(b []byte, n int) Pieces {
	var p Pieces
	for len(b) > n {
		p, b = append(p, b[:n:n]), b[n:]
	}
	return append(p, b)
}

// BenchmarkValidate measures validation as brokers do it, "walk" what it costs
// besides the checksum. The custom metric is nanoseconds a record.
func BenchmarkValidate(b *testing.B) {
	for _, value := range []int{1024, 100} {
		for _, keyed := range []bool{false, true} {
			batch, records := benchBatch(value, keyed, keyed)
			for _, piece := range []int{len(batch), 16 << 10} {
				p := piecesOf(batch, piece)
				name := fmt.Sprintf("value=%d/keyed=%t/pieces=%d", value, keyed, len(p))
				b.Run("all/"+name, func(b *testing.B) { benchValidate(b, p, records) })
				b.Run("walk/"+name, func(b *testing.B) { benchWalk(b, p, records) })
			}
		}
	}
}

func benchValidate(b *testing.B, p Pieces, records int) {
	var v Validator
	b.SetBytes(int64(p.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if sum, err := v.Validate(p, Limits{}); err != nil || int(sum.Records) != records {
			b.Fatal(err)
		}
	}
	perRecord(b, records)
}

func benchWalk(b *testing.B, p Pieces, records int) {
	var v Validator
	b.ReportAllocs()
	for b.Loop() {
		v.lim = Limits{}.withDefaults()
		v.sum = Summary{}
		if !v.walk(p, false) || int(v.sum.Records) != records {
			b.Fatal("refused")
		}
	}
	perRecord(b, records)
}

func perRecord(b *testing.B, records int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(records), "ns/record")
}

func BenchmarkValidateCompressed(b *testing.B) {
	batch, records := benchBatch(100, true, true)
	for _, c := range []Compression{Zstd, LZ4, Snappy} {
		p := Pieces{mustCompress(b, c, batch, uint32(records))}
		b.Run(c.String(), func(b *testing.B) {
			var v Validator
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Validate(p, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
			perRecord(b, records)
		})
	}
}

func BenchmarkIterate(b *testing.B) {
	for _, value := range []int{1024, 100} {
		batch, records := benchBatch(value, true, true)
		b.Run(fmt.Sprintf("value=%d", value), func(b *testing.B) {
			var it Iterator
			h := sampleHeader()
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for it.ResetLogBatch(&h, batch); it.Next(); {
					n++
				}
				if n != records {
					b.Fatal(it.Err())
				}
			}
			perRecord(b, records)
		})
	}
}

func BenchmarkAppendLogBatchHeader(b *testing.B) {
	h := sampleHeader()
	dst := make([]byte, 0, MaxHeaderSize)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendLogBatchHeader(dst[:0], &h, 256<<10, 0x12345678)
	}
}

func BenchmarkParseLogBatch(b *testing.B) {
	h := sampleHeader()
	batch, _ := benchBatch(100, true, true)
	whole := append(AppendLogBatchHeader(nil, &h, len(batch), UpdateCRC(0, batch)), batch...)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, _, err := ParseLogBatch(whole); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(int64(len(whole)))
		b.ReportAllocs()
		for b.Loop() {
			if err := VerifyCRC(whole); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCRC(b *testing.B) {
	batch, _ := benchBatch(100, true, true)
	for _, piece := range []int{len(batch), 16 << 10} {
		p := piecesOf(batch, piece)
		b.Run(fmt.Sprintf("pieces=%d", len(p)), func(b *testing.B) {
			b.SetBytes(int64(len(batch)))
			for b.Loop() {
				p.CRC()
			}
		})
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	r := Record{Key: []byte("key-0123456789"), Value: bytes.Repeat([]byte{'v'}, 100), TimestampMs: 1_700_000_000_123, HasTimestamp: true}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendRecord(dst[:0], &r)
	}
}

func BenchmarkRanges(b *testing.B) {
	batch, records := benchBatch(100, true, true)
	for _, piece := range []int{len(batch), 16 << 10} {
		p := piecesOf(batch, piece)
		b.Run(fmt.Sprintf("pieces=%d", len(p)), func(b *testing.B) {
			var r Ranges
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for r.Reset(p); r.Next(); {
					n++
				}
				if n != records {
					b.Fatal(n)
				}
			}
			perRecord(b, records)
		})
	}
}
