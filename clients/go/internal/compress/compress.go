// Package compress compresses and decompresses the bytes of record batches,
// in the formats that the API's Compression names: Zstandard frames, LZ4
// frames, Snappy blocks.
//
// INVARIANT: decompression never gives more than the bound it is called with,
// whatever the bytes say. Encoder and Decoder belong to one goroutine each
// and start none.
package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// MaxDecompressed is the most that a batch may decompress to, in bytes.
const MaxDecompressed = 16 << 20

// zstdWindow bounds the window of what is written, in bytes: brokers and
// readers accept up to 8 MiB.
const zstdWindow = 1 << 20

// ErrTooLarge says that something decompresses to more than it may.
var ErrTooLarge = errors.New("decompresses to more than the limit")

// UnsupportedError says that a compression is not known to this client.
type UnsupportedError struct{ Compression pb.Compression }

// Error says which.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("compression %d is not supported", int32(e.Compression))
}

// Encoder compresses.
type Encoder struct {
	kind pb.Compression
	zstd *zstd.Encoder
	lz4  *lz4.Writer
	sink bytes.Buffer
}

// NewEncoder returns an encoder, nil for none.
func NewEncoder(kind pb.Compression) (*Encoder, error) {
	e := &Encoder{kind: kind}
	switch kind {
	case pb.Compression_COMPRESSION_UNSPECIFIED:
		return nil, nil //nolint:nilnil // none is no encoder.
	case pb.Compression_COMPRESSION_ZSTD:
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		e.zstd = z
	case pb.Compression_COMPRESSION_LZ4:
		e.lz4 = lz4.NewWriter(nil)
		if err := e.lz4.Apply(lz4.BlockSizeOption(lz4.Block256Kb), lz4.ConcurrencyOption(1)); err != nil {
			return nil, fmt.Errorf("lz4: %w", err)
		}
	case pb.Compression_COMPRESSION_SNAPPY:
	default:
		return nil, &UnsupportedError{kind}
	}
	return e, nil
}

// Kind says how the encoder compresses.
func (e *Encoder) Kind() pb.Compression { return e.kind }

// Encode returns src compressed. BORROWED until the next call.
func (e *Encoder) Encode(src []byte) ([]byte, error) {
	e.sink.Reset()
	switch e.kind {
	case pb.Compression_COMPRESSION_ZSTD:
		return e.keep(e.zstd.EncodeAll(src, e.sink.AvailableBuffer())), nil
	case pb.Compression_COMPRESSION_SNAPPY:
		e.sink.Grow(snappy.MaxEncodedLen(len(src)))
		b := e.sink.AvailableBuffer()
		return e.keep(snappy.Encode(b[:cap(b)], src)), nil
	default:
		e.lz4.Reset(&e.sink)
		if _, err := e.lz4.Write(src); err != nil {
			return nil, fmt.Errorf("lz4: %w", err)
		}
		if err := e.lz4.Close(); err != nil {
			return nil, fmt.Errorf("lz4: %w", err)
		}
		return e.sink.Bytes(), nil
	}
}

// keep makes what was encoded the buffer of the next call.
func (e *Encoder) keep(b []byte) []byte {
	if cap(b) > e.sink.Cap() {
		e.sink = *bytes.NewBuffer(b)
	}
	return b
}

// Decoder decompresses. The zero Decoder is ready for use.
type Decoder struct {
	zstd *zstd.Decoder
	lz4  *lz4.Reader
	out  []byte
}

// Close frees what the decoder holds.
func (d *Decoder) Close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
	*d = Decoder{}
}

// Decode returns src decompressed, at most limit bytes. BORROWED until the
// next call.
func (d *Decoder) Decode(kind pb.Compression, src []byte, limit int) ([]byte, error) {
	switch kind {
	case pb.Compression_COMPRESSION_ZSTD:
		return d.decodeZstd(src, limit)
	case pb.Compression_COMPRESSION_LZ4:
		return d.decodeLZ4(src, limit)
	case pb.Compression_COMPRESSION_SNAPPY:
		n, err := snappy.DecodedLen(src)
		if err != nil {
			return nil, fmt.Errorf("snappy: %w", err)
		}
		if n > limit {
			return nil, ErrTooLarge
		}
		b, err := snappy.Decode(d.out[:cap(d.out)], src)
		if err != nil {
			return nil, fmt.Errorf("snappy: %w", err)
		}
		return d.keep(b), nil
	default:
		return nil, &UnsupportedError{kind}
	}
}

func (d *Decoder) decodeZstd(src []byte, limit int) ([]byte, error) {
	if d.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxDecompressed),
			zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		d.zstd = z
	}
	b, err := d.zstd.DecodeAll(src, d.out[:0])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || err == nil && len(b) > limit:
		return nil, ErrTooLarge
	case err != nil:
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return d.keep(b), nil
}

func (d *Decoder) decodeLZ4(src []byte, limit int) ([]byte, error) {
	if d.lz4 == nil {
		d.lz4 = lz4.NewReader(nil)
		if err := d.lz4.Apply(lz4.ConcurrencyOption(1)); err != nil {
			return nil, fmt.Errorf("lz4: %w", err)
		}
	}
	d.lz4.Reset(bytes.NewReader(src))
	out := bytes.NewBuffer(d.out[:0])
	n, err := io.Copy(out, io.LimitReader(d.lz4, int64(limit)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("lz4: %w", err)
	case n > int64(limit):
		return nil, ErrTooLarge
	}
	return d.keep(out.Bytes()), nil
}

func (d *Decoder) keep(b []byte) []byte {
	if cap(b) > cap(d.out) {
		d.out = b[:0]
	}
	return b
}
