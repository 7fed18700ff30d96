package compress

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

var kinds = []pb.Compression{
	pb.Compression_COMPRESSION_ZSTD, pb.Compression_COMPRESSION_LZ4, pb.Compression_COMPRESSION_SNAPPY,
}

func TestWhatIsCompressedComesBack(t *testing.T) {
	for _, kind := range kinds {
		e, err := NewEncoder(kind)
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		for _, n := range []int{0, 1, 1 << 10, 300 << 10, 3 << 20, 5} {
			src := []byte(strings.Repeat("millstream ", n/11+1)[:n])
			packed, err := e.Encode(src)
			if err != nil {
				t.Fatalf("%v of %d: %v", kind, n, err)
			}
			back, err := d.Decode(kind, packed, MaxDecompressed)
			if err != nil || !bytes.Equal(back, src) {
				t.Fatalf("%v of %d came back as %d bytes, %v", kind, n, len(back), err)
			}
		}
		d.Close()
	}
}

func TestABombIsRefused(t *testing.T) {
	for _, kind := range kinds {
		e, err := NewEncoder(kind)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := e.Encode(make([]byte, 8<<20))
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		if _, err := d.Decode(kind, packed, 1<<20); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %v, want ErrTooLarge", kind, err)
		}
		d.Close()
	}
}

func TestUnknownCompressionIsAnErrorOfItsOwn(t *testing.T) {
	var d Decoder
	var want *UnsupportedError
	if _, err := d.Decode(7, nil, 1); !errors.As(err, &want) || want.Compression != 7 {
		t.Errorf("Decode: %v", err)
	}
	if _, err := NewEncoder(7); !errors.As(err, &want) {
		t.Errorf("NewEncoder: %v", err)
	}
	if e, err := NewEncoder(0); e != nil || err != nil {
		t.Errorf("NewEncoder(none) = %v, %v", e, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, kind := range kinds {
		e, err := NewEncoder(kind)
		if err != nil {
			f.Fatal(err)
		}
		packed, err := e.Encode([]byte("some bytes, some bytes, some bytes"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int32(kind), bytes.Clone(packed))
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, kind int32, src []byte) {
		const limit = 1 << 16
		if b, err := d.Decode(pb.Compression(kind%5), src, limit); err == nil && len(b) > limit {
			t.Fatalf("%d bytes out of %d", len(b), len(src))
		}
	})
}
