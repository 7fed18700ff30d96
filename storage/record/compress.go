package record

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// zstdEncoder is shared: EncodeAll may be called from many goroutines, and
// blocks while as many as there are processors are at it.
var zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
})

// Compress appends the compressed src to dst, in the form that
// RecordBatch.compressed wants.
func Compress(dst, src []byte, c Compression) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Zstd:
		e, err := zstdEncoder()
		if err != nil {
			return dst, fmt.Errorf("zstd encoder: %w", err)
		}
		return e.EncodeAll(src, dst), nil
	case LZ4:
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		if _, err := w.Write(src); err != nil {
			return dst, fmt.Errorf("compress lz4: %w", err)
		}
		if err := w.Close(); err != nil {
			return dst, fmt.Errorf("compress lz4: %w", err)
		}
		return append(dst, b.Bytes()...), nil
	case Snappy:
		return append(dst, snappy.Encode(nil, src)...), nil
	}
	return dst, fmt.Errorf("compress: %s is not known", c)
}

// Decompress decompresses src into dst, which it empties, and replaces if it
// is too small. The error is an *InvalidBatchError: the result would have more
// than `limit` bytes, or src breaks the rules of docs/format/validation.md.
func Decompress(dst, src []byte, c Compression, limit int) ([]byte, error) {
	if c == None {
		if len(src) > limit {
			return nil, tooLong(len(src), limit)
		}
		return append(dst[:0], src...), nil
	}
	d := takeDecoder()
	defer d.put()
	out, bad := d.unpack(dst[:0], src, c, limit)
	if bad != nil {
		return nil, bad
	}
	return out, nil
}
