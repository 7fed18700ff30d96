package commitlog

import (
	"bytes"
	"testing"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// FuzzCheckpoint: any bytes as a checkpoint are none, or facts that are
// written again as the same bytes.
func FuzzCheckpoint(f *testing.F) {
	m := mark{base: 3, at: segment.Point{Position: 90, Offset: 4, Epoch: 1}}
	f.Add((&facts{start: 1, synced: m, written: m}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := parseFacts(b)
		if ok && !bytes.Equal(got.append(nil), b) {
			t.Errorf("written again as %x", got.append(nil))
		}
	})
}

// FuzzEpochs: any bytes as a history of epochs are an error, or rise.
func FuzzEpochs(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		epochs, err := parseEpochs(b)
		if err != nil {
			return
		}
		for i, e := range epochs {
			if e.Epoch < 0 || e.Offset < 0 || (i > 0 && (e.Epoch <= epochs[i-1].Epoch || e.Offset <= epochs[i-1].Offset)) {
				t.Errorf("not in order: %v", epochs)
			}
		}
	})
}

func TestEpochsOfARange(t *testing.T) {
	all := []segment.EpochStart{{Epoch: 1, Offset: 0}, {Epoch: 4, Offset: 10}, {Epoch: 5, Offset: 20}}
	for _, c := range []struct {
		from, to int64
		want     []segment.EpochStart
	}{
		{0, 0, nil},
		{0, 1, all[:1]},
		{5, 10, []segment.EpochStart{{Epoch: 1, Offset: 5}}},
		{5, 11, []segment.EpochStart{{Epoch: 1, Offset: 5}, {Epoch: 4, Offset: 10}}},
		{10, 30, all[1:]},
		{25, 30, []segment.EpochStart{{Epoch: 5, Offset: 25}}},
	} {
		got := epochsIn(all, record.Offset(c.from), record.Offset(c.to))
		if len(got) != len(c.want) {
			t.Errorf("[%d, %d): %v", c.from, c.to, got)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("[%d, %d): %v", c.from, c.to, got)
			}
		}
	}
}
