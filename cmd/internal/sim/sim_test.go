package sim

import (
	"bytes"
	"testing"
)

// TestSeeds runs some seeds; make sim runs more.
func TestSeeds(t *testing.T) {
	acked, handedOver, stale := 0, 0, 0
	for seed := range uint64(40) {
		r := Run(seed, NoMistake)
		if r.Violation != nil {
			t.Error(r)
		}
		acked += r.Acked
		handedOver += r.HandedOver
		stale += r.Stale
	}
	if acked < 4000 || handedOver < 100 || stale < 10 {
		t.Fatalf("only %d records were acknowledged, %d times a leader has handed over, %d times an incarnation was stale", acked, handedOver, stale)
	}
}

func TestSameSeedSameHistory(t *testing.T) {
	a, b, other := Run(7, NoMistake), Run(7, NoMistake), Run(8, NoMistake)
	if !bytes.Equal(a.History, b.History) {
		t.Fatal("two histories of one seed")
	}
	if bytes.Equal(a.History, other.History) {
		t.Fatal("two seeds with one history")
	}
}
