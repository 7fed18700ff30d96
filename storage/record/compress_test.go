package record

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/pierrec/lz4/v4"
)

func TestCompressRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, c := range []Compression{None, Zstd, LZ4, Snappy} {
		for _, src := range [][]byte{{}, []byte("a"), bytes.Repeat([]byte("0123456789"), 50_000), noise, make([]byte, MaxDecompressedBytes)} {
			packed, err := Compress(nil, src, c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decompress(nil, packed, c, MaxDecompressedBytes)
			if err != nil || !bytes.Equal(got, src) {
				t.Fatalf("%s of %d bytes: %d bytes, %v", c, len(src), len(got), err)
			}
			if len(src) == 0 {
				continue
			}
			var invalid *InvalidBatchError
			if _, err := Decompress(nil, packed, c, len(src)-1); !errors.As(err, &invalid) || invalid.Kind != DecompressedTooLarge {
				t.Fatalf("%s of %d bytes, one less allowed: %v", c, len(src), err)
			}
		}
	}
}

// Every option that a writer of LZ4 frames has: what a frame can look like.
func TestLZ4Frames(t *testing.T) {
	src := bytes.Repeat([]byte("some text that repeats itself, "), 9000)
	options := map[string][]lz4.Option{
		"block checksums":     {lz4.BlockChecksumOption(true)},
		"no content checksum": {lz4.ChecksumOption(false)},
		"content size":        {lz4.SizeOption(uint64(len(src)))},
		"blocks of 64 KiB":    {lz4.BlockSizeOption(lz4.Block64Kb)},
		"blocks of 256 KiB":   {lz4.BlockSizeOption(lz4.Block256Kb), lz4.BlockChecksumOption(true)},
		"blocks of 4 MiB":     {lz4.BlockSizeOption(lz4.Block4Mb)},
		"high compression":    {lz4.CompressionLevelOption(lz4.Level9)},
	}
	for name, opts := range options {
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		if err := w.Apply(opts...); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(src); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := Decompress(nil, b.Bytes(), LZ4, MaxDecompressedBytes)
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		// Any damage is found, the places that hold no meaning aside.
		for i := range b.Bytes() {
			damaged := bytes.Clone(b.Bytes())
			damaged[i] ^= 0x10
			if out, err := Decompress(nil, damaged, LZ4, MaxDecompressedBytes); err == nil && name != "no content checksum" && !bytes.Equal(out, src) {
				t.Errorf("%s: damage at byte %d of %d passes", name, i, b.Len())
				break
			}
		}
	}
}

// Blocks that refer to the blocks before them, as liblz4 writes them unless
// told not to. The frame is built by hand: the second block is one match that
// begins in the first.
func TestLZ4LinkedBlocks(t *testing.T) {
	first := []byte("0123456789abcdef")
	second := append([]byte{0x0c, 16, 0}, 0x50, 'v', 'w', 'x', 'y', 'z') // 16 bytes from 16 back, 5 literals
	frame := []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x40}
	frame = append(frame, byte(xxh32(frame[4:])>>8))
	frame = append(frame, byte(len(first)), 0, 0, 0x80)
	frame = append(frame, first...)
	frame = append(frame, byte(len(second)), 0, 0, 0)
	frame = append(frame, second...)
	frame = append(frame, 0, 0, 0, 0)

	got, err := Decompress(nil, frame, LZ4, 1000)
	if want := "0123456789abcdef0123456789abcdefvwxyz"; err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
	// The same blocks in a frame that says that they are independent.
	frame[4] |= lz4Independent
	frame[6] = byte(xxh32(frame[4:6]) >> 8)
	if got, err := Decompress(nil, frame, LZ4, 1000); err == nil {
		t.Fatalf("a match before the start of its block gives %q", got)
	}
}

// A frame never sees bytes of a frame that was decompressed before it.
func TestLZ4HistoryIsNotShared(t *testing.T) {
	secret := bytes.Repeat([]byte("secret! "), 100)
	packed, err := Compress(nil, secret, LZ4)
	if err != nil {
		t.Fatal(err)
	}
	spy := []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x40}
	spy = append(spy, byte(xxh32(spy[4:])>>8), 8, 0, 0, 0, 0x0c, 16, 0, 0x50, 'v', 'w', 'x', 'y', 0, 0, 0, 0)
	buf := make([]byte, 0, 4096)
	for range 3 {
		if _, err := Decompress(buf, packed, LZ4, 4096); err != nil {
			t.Fatal(err)
		}
		if got, err := Decompress(buf, spy, LZ4, 4096); err == nil {
			t.Fatalf("reads %q of another frame", got)
		}
	}
}

// Bombs sent at once by many clients: each decoder is used by one of them at a
// time, and what it keeps afterwards is bounded.
func TestDecompressionMemoryIsBounded(t *testing.T) {
	bomb, err := Compress(nil, make([]byte, MaxDecompressedBytes), Zstd)
	if err != nil {
		t.Fatal(err)
	}
	batch := join(varintField(2, uint64(Zstd)), bytesField(3, bomb), varintField(4, 1))
	var (
		before, after runtime.MemStats
		wg            sync.WaitGroup
	)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 64 {
		wg.Go(func() {
			var v Validator
			if _, err := v.Validate(Pieces{batch}, Limits{}); err == nil {
				t.Error("a bomb is accepted")
			}
		})
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	most := uint64(runtime.GOMAXPROCS(0)) * (2*keptBytes + 4<<20)
	if after.HeapAlloc > before.HeapAlloc+most {
		t.Errorf("%d KiB are kept, at most %d expected", (after.HeapAlloc-before.HeapAlloc)>>10, most>>10)
	}
}

func TestCompressionNames(t *testing.T) {
	for c, want := range map[Compression]string{None: "none", Zstd: "zstd", LZ4: "lz4", Snappy: "snappy", 9: "compression(9)"} {
		if c.String() != want {
			t.Errorf("%s, want %s", c, want)
		}
	}
	if _, err := Compress(nil, nil, 9); err == nil {
		t.Error("an unknown compression compresses")
	}
	if _, err := Decompress(nil, nil, 9, 10); err == nil {
		t.Error("an unknown compression decompresses")
	}
	a := (AppendTime | Sparse).WithCompression(LZ4).WithCompression(Zstd)
	if a.Compression() != Zstd || !a.Has(AppendTime|Sparse) || a.Has(Control) {
		t.Errorf("attributes %b", a)
	}
}

func TestXXH32(t *testing.T) {
	// Vectors of the reference implementation, seed 0.
	for in, want := range map[string]uint32{
		"": 0x02cc5d05, "a": 0x550d7456, "abc": 0x32d153ff, "Nobody inspects the spammish repetition": 0xe2293b2f,
	} {
		if got := xxh32([]byte(in)); got != want {
			t.Errorf("xxh32(%q) = %08x, want %08x", in, got, want)
		}
	}
}
