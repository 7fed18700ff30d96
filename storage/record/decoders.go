package record

import (
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// decoder is the working memory for one decompression. There are as many in
// the process as may run at once, so that what hostile batches can make it
// allocate is bounded however many streams send them: each holds at most
// MaxBatchBytes of input, MaxDecompressedBytes of output and a decoder's
// tables. Decompressing is all CPU, so waiting for one costs no throughput.
//
// A decoder belongs to whoever took it, until put.
type decoder struct {
	zstd *zstd.Decoder // nil until needed
	in   []byte        // compressed bytes, when they came in several pieces
	out  []byte        // decompressed bytes
}

// keptBytes is the most memory that a decoder keeps in each of its buffers
// while nobody uses it: rare large batches allocate, all others do not.
const keptBytes = 2 << 20

// decoders holds the decoders that are free. It is filled once; its capacity
// is their number.
var decoders = sync.OnceValue(func() chan *decoder {
	n := runtime.GOMAXPROCS(0)
	free := make(chan *decoder, n)
	for range n {
		free <- new(decoder)
	}
	return free
})

// takeDecoder waits for a free decoder. The caller puts it back, and takes no
// second one before: others wait for it.
func takeDecoder() *decoder { return <-decoders() }

func (d *decoder) put() {
	if cap(d.in) > keptBytes {
		d.in = nil
	}
	if cap(d.out) > keptBytes {
		d.out = nil
	}
	decoders() <- d
}

// decompress returns the decompressed bytes of packed, at most `limit` of
// them. They are BORROWED until the decoder is put.
func (d *decoder) decompress(packed Pieces, c Compression, limit int) ([]byte, *InvalidBatchError) {
	var src []byte
	if len(packed) == 1 {
		src = packed[0]
	} else {
		d.in = packed.AppendTo(d.in[:0])
		src = d.in
	}
	out, bad := d.unpack(d.out[:0], src, c, limit)
	if bad == nil {
		d.out = out
	}
	return out, bad
}

// unpack decompresses src into dst, which it may replace by a larger one, if
// it decompresses to at most `limit` bytes.
func (d *decoder) unpack(dst, src []byte, c Compression, limit int) ([]byte, *InvalidBatchError) {
	switch c {
	case Zstd:
		return d.unzstd(dst, src, limit)
	case LZ4:
		return unlz4(dst, src, limit)
	case Snappy:
		return unsnappy(dst, src, limit)
	case None:
	}
	return nil, &InvalidBatchError{Kind: UnknownCompression, Field: "batch.compression", Actual: int64(c)}
}

func badBytes(why string, cause error) *InvalidBatchError {
	return &InvalidBatchError{Kind: BadCompression, Field: paths[inCompressed], Why: why, Cause: cause}
}

func tooLong(actual, limit int) *InvalidBatchError {
	return &InvalidBatchError{
		Kind: DecompressedTooLarge, Field: paths[inCompressed], Limit: int64(limit), Actual: int64(actual),
	}
}

// room returns dst emptied, with room for n bytes.
func room(dst []byte, n int) []byte {
	if cap(dst) < n {
		return make([]byte, 0, n)
	}
	return dst[:0]
}
