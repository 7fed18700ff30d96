package record_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/millstream-io/millstream/storage/record"
)

// TestLogBatchesInPiecesAreReadAsInOne changes and cuts batches anywhere: the
// walk over pieces must answer as the functions do that need one.
func TestLogBatchesInPiecesAreReadAsInOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var w record.LogBatches
	bad := 0
	for range 20_000 {
		var all []byte
		for i := range 1 + rng.IntN(3) {
			batch := make([]byte, rng.IntN(200))
			h := record.Header{BaseOffset: record.Offset(i), Records: 1, LeaderEpoch: 3}
			all = record.AppendLogBatchHeader(all, &h, len(batch), record.Pieces{batch}.CRC())
			all = append(all, batch...)
		}
		switch rng.IntN(3) {
		case 0:
			all[rng.IntN(len(all))] ^= 1 << rng.IntN(8)
		case 1:
			all = all[:rng.IntN(len(all))]
		}
		var pieces record.Pieces
		longest := 1 + rng.IntN(150)
		for rest := all; len(rest) > 0; {
			n := min(len(rest), rng.IntN(longest+1))
			pieces, rest = append(pieces, rest[:n:n]), rest[n:]
		}
		at := 0
		for w.Reset(pieces); w.Next(); at += w.Size() {
			h, _, size, err := record.ParseLogBatch(all[at:])
			if err = errors.Join(err, record.VerifyCRC(all[at:])); err != nil {
				t.Fatalf("a bad batch was taken: %v", err)
			}
			if *w.Header() != h || w.Size() != size || w.Start() != at {
				t.Fatalf("%+v, %d bytes at %d, not %+v, %d bytes at %d", *w.Header(), w.Size(), w.Start(), h, size, at)
			}
		}
		if w.Start() != at {
			t.Fatalf("stopped at %d, not at %d", w.Start(), at)
		}
		if at == len(all) {
			if w.Err() != nil {
				t.Fatalf("a good range was refused: %v", w.Err())
			}
			continue
		}
		bad++
		_, _, _, err := record.ParseLogBatch(all[at:])
		if err == nil {
			err = record.VerifyCRC(all[at:])
		}
		if err == nil || errors.Is(err, record.ErrShort) != errors.Is(w.Err(), record.ErrShort) {
			t.Fatalf("refused: %v; as one: %v", w.Err(), err)
		}
	}
	if bad < 5000 {
		t.Errorf("only %d bad ranges", bad)
	}
}
